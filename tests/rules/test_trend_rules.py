"""Each rule of trends on a run where it must fire, and on shuffled runs where it must not."""

from __future__ import annotations

import cProfile
import math
import random

import pytest

from rnndiag.errors import SettingsError
from rnndiag.measures.series import Course, Series
from rnndiag.rules.policy import Override, Policy
from rnndiag.rules.registry import CATALOG, TREND_RULES
from rnndiag.trend.alarms import assess_along, assess_run

N = 12
STEPS = tuple(100.0 * i for i in range(1, N + 1))


def line(first: float, last: float) -> list[float]:
    return [first + (last - first) * i / (N - 1) for i in range(N)]


def judged(gain: float) -> str:
    return "vanishing" if gain < -3 else ("exploding" if gain > 3 else "healthy")


def courses(
    gain: list[float] | None = None,
    saturation: list[float] | None = None,
    memory: list[float] | None = None,
    verdicts: list[str] | None = None,
    kind: str = "layer",
    dead: list[float] | None = None,
) -> list[Course]:
    """A stack of one layer; what is not told stays where it is."""
    gain, saturation, memory = gain or [0.0] * N, saturation or [0.1] * N, memory or [100.0] * N
    stack = {"log10_gain": Series(STEPS, tuple(gain)), "memory": Series(STEPS, tuple(memory))}
    layer = {"saturation": Series(STEPS, tuple(saturation)), "dead_share": Series(STEPS, tuple(dead or [0.0] * N))}
    seen = tuple(verdicts or map(judged, gain))
    return [
        Course("rnn", "stack", STEPS, seen, stack, -3.0, 3.0, ("rnn.l0",)),
        Course("rnn.l0", kind, STEPS, seen, layer, -3.0, 3.0, ("rnn.l0",)),
    ]


FIRES = {
    "TRD001": lambda: courses(gain=line(-0.5, 2.0)),
    "TRD002": lambda: courses(gain=line(0.5, -2.0)),
    "TRD003": lambda: courses(saturation=line(0.0, 0.4)),
    "TRD004": lambda: courses(verdicts=["healthy"] * 7 + ["exploding"] * 5),
    "TRD005": lambda: courses(memory=line(100, 50)),
    "TRD006": lambda: courses(verdicts=["vanishing"] * 11 + ["invalid"]),
    "TRD007": lambda: courses(dead=[0.1] * 7 + [1.0] * 5),
}
SILENT = {
    "flat": courses,
    "too slow": lambda: courses(gain=line(0.0, 0.9), saturation=line(0.0, 0.2), memory=line(100, 80)),
    "recovering": lambda: courses(gain=line(-8, -0.1)),
    "settled": lambda: courses(gain=[*line(-2, 1)[:6], *([1.0, 1.01, 0.99, 1.0, 1.01, 1.0])]),
    "ReLU": lambda: courses(saturation=line(0.0, 0.4), kind="relu layer"),
    "over the threshold all along": lambda: courses(saturation=line(0.6, 0.9), gain=line(4, 9)),
    "ill at the last one alone": lambda: courses(verdicts=["healthy"] * 11 + ["exploding"]),
    "ill from the start": lambda: courses(verdicts=["vanishing"] * 12),
    "recovered": lambda: courses(verdicts=["healthy"] * 2 + ["vanishing"] * 8 + ["healthy"] * 2),
}


def codes(of: list[Course], policy: Policy | None = None) -> set[str]:
    return {finding.rule for finding in assess_run(of, policy or Policy()).findings}


@pytest.mark.parametrize("code", FIRES)
def test_a_rule_fires_where_it_must(code: str) -> None:
    (finding,) = assess_run(FIRES[code](), Policy()).findings
    assert finding.rule == code
    assert finding.message
    assert finding.cause
    assert finding.evidence.get("p_value", 0.0) <= finding.evidence.get("level", 0.0)


def test_every_rule_has_a_run_that_sets_it_off() -> None:
    assert set(FIRES) == {rule.code for rule in TREND_RULES}


@pytest.mark.parametrize("name", SILENT)
def test_sound_runs_are_left_alone(name: str) -> None:
    assert codes(SILENT[name]()) == set()


def test_the_forecast_is_where_the_line_crosses() -> None:
    (finding,) = assess_run(FIRES["TRD001"](), Policy()).findings
    # -0.5 at step 100 and 2.0 at step 1200 reach 3 at step 1640.
    assert finding.evidence["crosses_at"] == pytest.approx(1640)
    assert finding.evidence["crosses_earliest"] <= 1640.001
    assert "crossed at step 1640" in finding.message


def test_a_threshold_that_was_crossed_is_no_forecast() -> None:
    (finding,) = (f for f in assess_run(courses(gain=line(-4, 6)), Policy()).findings if f.rule == "TRD001")
    assert finding.evidence["crosses_at"] is None
    assert "has crossed" in finding.message


def test_numbers_that_are_not_finite_need_no_proof() -> None:
    assert codes(courses(verdicts=["healthy"] * 11 + ["invalid"])) == {"TRD004", "TRD006"}


def test_too_few_checkpoints_are_told() -> None:
    few = [course.until(500) for course in FIRES["TRD001"]()]
    assessment = assess_run(few, Policy())
    assert assessment.findings == ()
    reasons = {item.rule: item.reason for item in assessment.not_assessed}
    assert set(reasons) == {"TRD001", "TRD002", "TRD003", "TRD005"}
    assert reasons["TRD001"] == "5 checkpoints with a finite value; a drift differs from chance only with at least 6"
    reasons = {item.rule: item.reason for item in assess_run([c.until(100) for c in few], Policy()).not_assessed}
    assert reasons["TRD001"].startswith("1 checkpoint with a finite value;")
    reasons = {item.rule: item.reason for item in assess_run([c.until(0) for c in few], Policy()).not_assessed}
    assert reasons["TRD001"].startswith("no checkpoint with a finite value;")


def test_more_that_is_tested_needs_more_checkpoints() -> None:
    many = FIRES["TRD001"]() * 40
    (level,) = {finding.evidence["level"] for finding in assess_run(many, Policy()).findings}
    assert level == pytest.approx(0.01 / 200)
    short = [course.until(600) for course in many]
    assert all("at least 8" in item.reason for item in assess_run(short, Policy()).not_assessed)


def test_a_policy_chooses_and_weighs() -> None:
    run = FIRES["TRD003"]()
    assert codes(run, Policy(ignore=("TRD003",))) == set()
    assert codes(run, Policy(overrides=(Override("rnn.l0", "TRD003", thresholds={"rate": 0.95}),))) == set()
    (finding,) = assess_run(run, Policy(overrides=(Override(code="TRD003", severity="error"),))).findings
    assert finding.severity == "error"
    assert {item.rule for item in assess_run(run, Policy(select=("TRD003",))).switched_off} == set(FIRES) - {"TRD003"}


def test_thresholds_that_no_rule_could_go_by_are_refused() -> None:
    for told in ({"p_value": -1.0}, {"p_value": 0.0}, {"checkpoints": math.inf}, {"checkpoints": math.nan}):
        with pytest.raises(SettingsError, match=f"the threshold {next(iter(told))} of TRD001: expected a"):
            Override(code="TRD001", thresholds=told)


@pytest.mark.parametrize("drifting", [False, True])
def test_the_work_for_a_long_run_grows_with_the_square_of_its_length(drifting: bool) -> None:
    """The work is counted in function calls. Comparing all pairs at each checkpoint would grow 64-fold, as a cube."""
    stream = random.Random(0)

    def calls(n: int) -> int:
        steps = tuple(map(float, range(n)))
        gain = tuple(3 * i * drifting / n + stream.gauss(0, 0.1) for i in range(n))
        series = {"log10_gain": Series(steps, gain), "memory": Series(steps, tuple(stream.gauss(9, 1) for _ in steps))}
        course = Course("rnn", "stack", steps, ("healthy",) * n, series, -3.0, 3.0, ("rnn.l0",))
        with cProfile.Profile() as profile:
            alarms = assess_along([course], Policy())
        assert any(alarm.rule == "TRD001" for alarm in alarms) == drifting
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(1200) < 18 * calls(300)


def test_files_of_one_step_are_one_look_at_it() -> None:
    """Five files of the one ill step at the end are no more evidence than one."""
    verdicts = ["healthy"] * 7 + ["exploding"]
    once, often = ((*verdicts[:7], *["exploding"] * k) for k in (1, 5))
    for seen in (once, often):
        steps = tuple(min(100.0 * (i + 1), 800.0) for i in range(len(seen)))
        stack = Course("rnn", "stack", steps, seen, {}, -3.0, 3.0, ("rnn.l0",))
        assert codes([stack], Policy(select=("TRD004",))) == set()
    apart = Course("rnn", "stack", STEPS, often, {}, -3.0, 3.0, ("rnn.l0",))
    assert codes([apart], Policy(select=("TRD004",))) == {"TRD004"}
    # Most of a step's files tell; numbers that are not finite are told of by any.
    for last, fires in ((["healthy", "healthy", "exploding"], set()), (["healthy", "invalid"], {"TRD004"})):
        seen = (*once[:7], *last)
        steps = (*STEPS[:7], *[800.0] * len(last))
        assert codes([Course("rnn", "stack", steps, seen, {}, -3.0, 3.0, ())], Policy(select=("TRD004",))) == fires


def test_along_the_run_nothing_is_known_beforehand() -> None:
    run = courses(gain=[0.0] * 4 + [0.3 * i for i in range(1, 9)])
    (alarm,) = (each for each in assess_along(run, Policy()) if each.rule == "TRD001")
    for end in STEPS:
        fires = "TRD001" in codes([course.until(end) for course in run])
        assert fires == (alarm.first_step <= end <= alarm.last_step)
    assert alarm.last_step == STEPS[-1]
    assert "exploding" in alarm.warns_of


@pytest.mark.parametrize("n", [6, 9, 12])
@pytest.mark.parametrize("drifting", [True, False])
def test_shuffled_checkpoints_raise_no_more_alarms_than_promised(n: int, drifting: bool) -> None:
    """Values that drift or scatter across all thresholds, in orders that are equally likely."""
    stream = random.Random(n)
    runs, alarms = 2000, 0
    for _ in range(runs):
        spread = [3.2 * (2 * i / (n - 1) - 1) if drifting else stream.gauss(0, 2) for i in range(n)]
        places = stream.sample(range(n), n)
        gain = [spread[i] for i in places]
        shares = [min(1.0, max(0.0, 0.3 + g / 10)) for g in gain]
        steps = STEPS[:n]
        stack = {
            "log10_gain": Series(steps, tuple(gain)),
            "memory": Series(steps, tuple(60 + 10 * g for g in gain)),
        }
        seen = tuple(map(judged, gain))
        run = [
            Course("rnn", "stack", steps, seen, stack, -3.0, 3.0, ("rnn.l0",)),
            Course(
                "rnn.l0", "layer", steps, seen, {"saturation": Series(steps, tuple(shares))}, -3.0, 3.0, ("rnn.l0",)
            ),
        ]
        alarms += bool(assess_run(run, Policy()).findings)
    # Three standard deviations of a count whose mean is 1 %.
    assert alarms <= 0.01 * runs + 3 * math.sqrt(0.01 * runs)


def test_codes_and_names_are_unique_in_the_whole_catalogue() -> None:
    assert len({rule.code for rule in CATALOG}) == len({rule.name for rule in CATALOG}) == len(CATALOG)


def test_a_selection_that_leaves_no_rule_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from rnndiag.cli.choices import choose
    from rnndiag.cli.options import RuleOptions

    with pytest.raises(
        SettingsError, match=r"--select: the rules TRD001 are of trends alone; rnndiag trend applies them"
    ):
        _ = choose(RuleOptions(select=["TRD001"])).policy
    with pytest.raises(SettingsError, match=r"--select: the rules VAN are not of trends; rnndiag check applies them"):
        _ = choose(RuleOptions(select=["VAN"]), of_runs=True).policy
    assert choose(RuleOptions(select=["TRD,VAN"])).policy.select == ("TRD", "VAN")
