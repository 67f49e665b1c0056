"""Each rule on a net where it must fire and on one where it must not."""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import replace

import pytest
import torch

from rnndiag.__main__ import run
from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.errors import SettingsError
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.report import Report
from rnndiag.rules.base import SEVERITIES
from rnndiag.rules.policy import Override, Policy, check_codes
from rnndiag.rules.registry import CATALOG, RULES
from rnndiag.rules.words import power, steps
from tests.oracles.leaky import layer as leaky_layer
from tests.oracles.nets import layer

QUIET = Settings(treat=False)
"""Without trials of treatments, which take ten times as long."""


def model(*stacks: Stack) -> Model:
    return Model(Source("made here", "random"), stacks)


def report(of: Model | Report, *, length: int = 100, probe: str = "noise", **settings: object) -> Report:
    """The report without trials of treatments, which take ten times as long, unless they are asked for."""
    chosen = Settings(**{"treat": False, **settings})
    return of if isinstance(of, Report) else diagnose(of, Probe(probe, length, 8), chosen)


def codes(of: Report) -> set[str]:
    return {finding.rule for finding in of.findings}


def random(**options: object) -> Model:
    return RandomNet(**({"hidden": 48, "input_size": 3} | options)).build()


def one(net: RecurrentLayer) -> Model:
    return model(Stack("rnn", ((net,),)))


def edited(kind: str, **parameters: float) -> RecurrentLayer:
    net = layer(kind, 3, 24, scale=0.9)
    for name, value in parameters.items():
        net.parameters[name].fill_(value)
    return net


def saturated() -> RecurrentLayer:
    net = layer("tanh", 3, 24)
    net.weight_ih.mul_(20)
    return net


def shut() -> RecurrentLayer:
    net = layer("lstm", 3, 24, scale=0.3)
    assert net.bias_ih is not None
    net.bias_ih[24:48] = -9
    return net


def dead() -> RecurrentLayer:
    net = layer("relu", 3, 24, scale=0.3)
    assert net.bias_ih is not None
    net.bias_ih[:12] = -50
    return net


def adding(increment: float, dtype: torch.dtype) -> RecurrentLayer:
    """A ReLU net whose units add the same number to their state at each step, if the inputs are 1."""
    return RecurrentLayer("rnn.l0", "relu", torch.full((4, 1), increment).to(dtype), torch.eye(4).to(dtype))


def singular() -> RecurrentLayer:
    net = layer("tanh", 3, 24)
    net.weight_hh[0] = net.weight_hh[1]
    return net


def not_a_number() -> RecurrentLayer:
    net = layer("gru", 3, 24)
    net.weight_hh[3, 4] = math.nan
    return net


def overflowing() -> RecurrentLayer:
    return RecurrentLayer("rnn.l0", "relu", torch.ones(4, 3).double(), torch.eye(4).double() * 1e150)


def remembering_below_forgetting() -> Stack:
    """The lower level keeps its state, the upper one contracts: the stack as a whole remembers."""
    q = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).double()).Q
    lower = RecurrentLayer("rnn.l0", "tanh", torch.full((8, 3), 0.01).double(), q)
    upper = RecurrentLayer("rnn.l1", "tanh", torch.eye(8).double() * 0.5, torch.eye(8).double() * 0.01)
    return Stack("rnn", ((lower,), (upper,)))


def square(weight: torch.Tensor, kind: str = "tanh") -> Model:
    return one(RecurrentLayer("rnn.l0", kind, torch.full((len(weight), 3), 0.1).double(), weight.double()))


def rebounding() -> Report:
    """At rest each step multiplies the gradient by 1.2; the last six steps are driven and shrink it."""
    net = RecurrentLayer("rnn.l0", "tanh", torch.ones(2, 1).double(), torch.eye(2).double() * 1.2)
    inputs = torch.zeros(3, 70, 1)
    inputs[:, 64:] = 0.9
    return diagnose(one(net), Probe.from_array(inputs))


def spiking() -> Model:
    """A unit that is off at most steps, and multiplies by 20 when it is not."""
    return one(RecurrentLayer("rnn.l0", "relu", torch.ones(1, 3).double(), torch.tensor([[-20.0]]).double()))


FIRES = {
    "VAN001": lambda: random(sigma=0.5),
    "VAN002": lambda: model(remembering_below_forgetting()),
    "VAN003": lambda: random(sigma=0.3),
    "EXP001": lambda: random(sigma=4.0, input_scale=0.1, hidden=96),
    "EXP002": lambda: random(sigma=4.0, input_scale=0.1, hidden=96),
    "SAT001": lambda: one(saturated()),
    "SAT002": lambda: one(shut()),
    "SAT003": lambda: one(dead()),
    "INI001": lambda: random(cell="lstm", init="pytorch"),
    "SPC001": lambda: one(singular()),
    "VAN004": rebounding,
    "VAN005": lambda: random(sigma=0.5),
    "EXP003": spiking,
    "EXP004": lambda: one(leaky_layer("leaky_tanh", 3, 60, scale=5.0, bias=False)),
    "SAT004": lambda: random(cell="lstm", bias_scale=300.0),
    "INI002": lambda: random(sigma=0.5),
    "SPC002": lambda: square(torch.rand(24, 24, generator=torch.Generator().manual_seed(0)) / 24),
    "SPC003": lambda: square(torch.diag(torch.ones(23), 1)),
    "NUM001": lambda: one(not_a_number()),
    "NUM002": lambda: one(overflowing()),
    "NUM003": lambda: one(layer("tanh", 3, 24, scale=0.1, dtype=torch.float32)),
    "ASM001": lambda: one(replace(layer("tanh", 3, 24, scale=2.0), nonlinearity_assumed=True)),
    "ASM002": lambda: model(replace(remembering_below_forgetting(), assumed_class="mymodels.MyCell")),
    "NUM004": lambda: diagnose(one(adding(512.0, torch.float16)), Probe.from_array(torch.ones(3, 130, 1))),
    "NUM005": lambda: random(cell="lstm", forget_bias=12.0, bias_scale=3.0),
}
"""A net for each rule that must set it off."""

VANISHES = {"VAN"}
CONSEQUENCES = {
    **dict.fromkeys(
        ("SAT001", "SAT002", "SAT003", "INI001", "INI002", "SPC001", "SPC002", "SPC003", "NUM003", "NUM005"),
        VANISHES,
    ),
    "SAT004": {"VAN", "EXP"},
    "EXP003": VANISHES,
    "EXP002": {"EXP"},
    "EXP004": {"EXP"},
}
"""Families whose errors a defect brings about by its nature."""

SILENT = {
    "orthogonal": lambda: random(init="orthogonal", input_scale=0.05),
    "LSTM that remembers": lambda: random(cell="lstm", init="pytorch", forget_bias=4.0),
    "one unit": lambda: random(hidden=1, init="orthogonal", input_scale=0.01),
}
"""Nets that must set off nothing above info."""


@pytest.mark.parametrize("code", FIRES)
def test_a_rule_fires_where_it_must(code: str) -> None:
    measured = report(FIRES[code]())
    assert code in codes(measured)
    families = {finding.rule[:3] for finding in measured.findings if finding.severity == "error"}
    assert families <= {code[:3]} | CONSEQUENCES.get(code, set())
    for finding in measured.findings:
        assert finding.message
        assert finding.cause
        names = {layer.name for layer in measured.layers} | {stack.name for stack in measured.stacks}
        assert finding.layer in names
        for suggestion in finding.suggestions:
            assert suggestion.evidence


def test_every_rule_has_a_net_that_sets_it_off() -> None:
    assert set(FIRES) == {rule.code for rule in RULES}


@pytest.mark.parametrize("name", SILENT)
def test_sound_nets_are_left_alone(name: str) -> None:
    measured = report(SILENT[name]())
    assert measured.verdict == "healthy"
    assert [f for f in measured.findings if f.severity != "info"] == []


def test_a_layer_that_forgets_in_a_stack_that_remembers_is_no_alarm() -> None:
    measured = report(model(remembering_below_forgetting()))
    assert measured.verdict == "healthy"
    assert [layer.verdict for layer in measured.layers] == ["healthy", "vanishing"]
    assert {f.severity for f in measured.findings} == {"info"}


def test_one_step_is_never_an_alarm() -> None:
    measured = report(random(sigma=0.9), length=1)
    assert [f for f in measured.findings if f.severity == "error"] == []


def test_the_lag_decides() -> None:
    net = random(sigma=0.9)
    assert report(net, lag=3).verdict == "healthy"
    assert report(net, lag=100).verdict == "vanishing"


def test_what_could_not_be_assessed_is_said() -> None:
    measured = report(one(not_a_number()))
    assert measured.verdict == "invalid"
    assert codes(measured) == {"NUM001"}
    assert {item.rule for item in measured.not_assessed} >= {"VAN001", "EXP001", "SAT001", "NUM002"}
    assert all("not finite" in item.reason for item in measured.not_assessed)


def test_findings_come_in_order_of_severity() -> None:
    ranks = [SEVERITIES.index(f.severity) for f in report(random(sigma=0.3)).findings]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) > 1


@pytest.mark.parametrize("rule", CATALOG, ids=lambda rule: rule.code)
def test_a_rules_docstring_is_its_page(rule) -> None:
    page = type(rule).__doc__
    for section in ("What it does", "Why is this bad", "Formula", "Example", "What to do", "Thresholds", "References"):
        assert f"{section}:" in page
    assert re.fullmatch("(VAN|EXP|SAT|INI|SPC|NUM|TRD|ASM|SEC)[0-9]{3}", rule.code)
    assert re.fullmatch("[a-z]+(-[a-z]+)+", rule.name)


EXAMPLES = {
    rule.code: found[0] for rule in RULES if (found := re.findall(r"^ +(rnndiag .*)$", type(rule).__doc__ or "", re.M))
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_on_a_rules_page_sets_it_off(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*shlex.split(EXAMPLES[code])[1:], "--no-treat", "--format", "json"]) == 0
    assert code in {finding["rule"] for finding in json.loads(capsys.readouterr().out)["findings"]}


def test_a_policy_chooses_and_weighs_the_rules() -> None:
    net, probe = random(sigma=0.3), Probe(length=100, batch=8)

    def found(**policy: object) -> dict[str, str]:
        return {f.rule: f.severity for f in diagnose(net, probe, QUIET, policy=Policy(**policy)).findings}

    everything = found()
    assert {"VAN001", "VAN003", "INI002"} <= set(everything)
    assert set(found(select=("VAN",))) == {code for code in everything if code.startswith("VAN")}
    assert set(found(ignore=("VAN", "INI002"))) == {c for c in everything if not c.startswith(("VAN", "INI002"))}
    assert found(overrides=(Override(code="VAN001", severity="info"),))["VAN001"] == "info"
    assert found(overrides=(Override("other*", "VAN001", "info"),))["VAN001"] == "error"
    assert "INI002" not in found(overrides=(Override("rnn.l0", "INI002", thresholds={"low": 0.0}),))
    assert "INI002" in found(overrides=(Override("rnn.l1", "INI002", thresholds={"low": 0.0}),))
    assert set(found(overrides=(Override("rnn*", "VAN", off=True),))) & {"VAN001", "VAN003"} == set()


def test_unknown_codes_name_the_nearest() -> None:
    assert check_codes(["van", " EXP001"], RULES, "--select") == ("VAN", "EXP001")
    with pytest.raises(SettingsError, match=r"--select: no rule begins with 'VAN01'; did you mean VAN001\?"):
        check_codes(["VAN01"], RULES, "--select")
    with pytest.raises(SettingsError, match="rnndiag rules lists them"):
        check_codes([""], RULES, "--select")


def test_codes_and_names_are_unique() -> None:
    assert len({rule.code for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)


def test_words_for_numbers() -> None:
    assert power(-12.2) == "10^-12"
    assert power(-1.0) == "0.1"
    assert power(-math.inf) == "0"
    assert (steps(1), steps(2)) == ("1 step", "2 steps")


def test_growth_of_a_relu_net_is_not_called_chaos() -> None:
    measured = diagnose(RandomNet("relu", sigma=2.0).build(), Probe(length=64))
    assert measured.verdict == "exploding"
    assert "EXP002" not in {finding.rule for finding in measured.findings}


def test_a_constant_weight_has_no_bulk_to_divide_by() -> None:
    net = RecurrentLayer("r", "tanh", torch.ones(4, 2).double(), torch.full((4, 4), 0.5).double())
    assert "SPC002" in {finding.rule for finding in report(model(Stack("rnn", ((net,),)))).findings}
