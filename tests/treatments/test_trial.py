"""Judging and ranking, and the sample models, of which the ill ones get a healthy prescription."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rnndiag
from rnndiag import RandomNet, Settings
from rnndiag.cells.layer import Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Thresholds
from rnndiag.errors import OutputError, SettingsError
from rnndiag.measures.gain import Gain
from rnndiag.prescription import Prescription
from rnndiag.prescription import prescribe as prescribe_model
from rnndiag.probes import Probe
from rnndiag.renderers.result_json import render
from rnndiag.rules.registry import RULES
from rnndiag.treatments.judging import helps, rank
from rnndiag.treatments.registry import NAMES, PAIRS, TREATMENTS
from rnndiag.treatments.trial import NotTried, Trials, Tried
from tests.builders.patients import patient
from tests.oracles.nets import layer
from tests.paths import SAMPLES

BAND = Thresholds()


def judged(verdict: str, low: float, high: float) -> Gain:
    """A gain of that verdict whose interval is given."""
    measured = patient(length=6).gain
    assert measured.gradient is not None
    gradient = replace(measured.gradient, log10_gain=(low + high) / 2, log10_gain_interval=(low, high))
    return replace(measured, verdict=verdict, gradient=gradient)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (("vanishing", -9, -8), ("healthy", -2, -1), True),
        (("inconclusive", -4, -2), ("healthy", -2, -1), True),
        (("healthy", -2, -1), ("healthy", -1, 0), False),
        (("vanishing", -43, -41), ("vanishing", -12, -11), True),
        (("vanishing", -43, -41), ("vanishing", -38, -37), False),  # shorter, but as gone as before
        (("vanishing", -9, -8), ("exploding", 4, 5), False),  # over the band and beyond
        (("exploding", 8, 9), ("inconclusive", 2.5, 3.5), True),
    ],
)
def test_what_counts_as_help(before: Any, after: Any, expected: bool) -> None:
    assert helps(judged(*before), judged(*after), BAND) is expected


def test_states_that_overflow_are_no_help() -> None:
    lost = replace(judged("healthy", 0, 0), verdict="invalid", gradient=None)
    assert not helps(judged("exploding", 8, 9), lost, BAND)
    assert helps(lost, judged("healthy", 0, 0), BAND)


def test_a_pair_is_tried_only_on_what_the_first_leaves_ill() -> None:
    ill = Trials(patient(sigma=0.5, input_scale=0.1))
    first, both = ill.of("scale-inputs"), ill.of("scale-inputs+rescale")
    assert isinstance(first, Tried)
    assert isinstance(both, Tried)
    assert first.trial.verdict != "healthy"
    assert both.trial.members == ("scale-inputs", "rescale")
    assert both.trial.action.startswith(f"{first.trial.action}; then scale W_hh")
    healed = Trials(patient(init="orthogonal", input_scale=3.0))
    untried = healed.of("scale-inputs+rescale")
    assert untried == NotTried("scale-inputs+rescale", "rnn", "scale-inputs alone heals it")


@pytest.fixture(scope="module")
def prescribed() -> dict[str, Prescription]:
    return {
        path.stem: rnndiag.prescribe(path, length=64, nonlinearity="tanh") for path in sorted(SAMPLES.glob("*_tanh.pt"))
    }


@pytest.mark.parametrize("name", ["vanishing_tanh", "exploding_tanh", "saturated_tanh"])
def test_an_ill_sample_gets_a_healthy_prescription_of_its_own_architecture(
    prescribed: dict[str, Prescription], name: str
) -> None:
    given = prescribed[name]
    assert given.before.verdict != "healthy"
    assert given.after is not None
    assert given.after.verdict == "healthy"
    chosen = given.treatments[0]
    assert (chosen.name, chosen.helps, chosen.same_architecture) == (given.chosen, True, True)
    (stack,) = given.after.stacks
    assert stack.gradient is not None
    assert stack.gradient.log10_gain == pytest.approx(chosen.log10_gain, abs=1e-9)
    of_layers = [each for each in given.treatments if each.kind != "training"]
    assert of_layers == sorted(of_layers, key=lambda each: rank(each, BAND))
    assert [each.helps for each in of_layers] == sorted((each.helps for each in of_layers), reverse=True)


def test_only_less_input_cures_a_net_that_its_inputs_saturate(prescribed: dict[str, Prescription]) -> None:
    given = prescribed["saturated_tanh"]
    tried = {each.name: each for each in given.treatments}
    assert not tried["nearest-orthogonal"].helps  # its W_hh is orthogonal already
    assert "saturated" in tried["rescale"].note
    assert given.chosen == "scale-inputs"


def test_clipping_is_not_said_to_cure_vanishing(prescribed: dict[str, Prescription]) -> None:
    tried = {name: {each.name: each for each in given.treatments} for name, given in prescribed.items()}
    assert not tried["vanishing_tanh"]["clip"].helps
    assert "cannot cure vanishing" in tried["vanishing_tanh"]["clip"].note
    assert tried["exploding_tanh"]["clip"].helps


def test_a_healthy_model_is_left_alone() -> None:
    given = rnndiag.prescribe(SAMPLES / "healthy_tanh.pt", length=64)  # the file does not say tanh
    assert (given.treatments, given.chosen, given.after) == ((), None, None)
    # It is healthy with tanh, which the file does not say.
    assert "ASM001" in {finding.rule for finding in given.before.findings}


def test_what_draws_weights_anew_says_so(prescribed: dict[str, Prescription]) -> None:
    for each in prescribed["vanishing_tanh"].treatments:
        if each.name.startswith("init-"):
            assert each.redraws
            assert "the trained weights are reset" in each.cost


def test_the_json_has_the_contracts_fields(prescribed: dict[str, Prescription]) -> None:
    document = json.loads(render(prescribed["exploding_tanh"]))
    assert {"before", "treatments", "chosen", "after"} <= set(document)
    assert all({"name", "log10_gain", "verdict", "helps"} <= set(each) for each in document["treatments"])
    assert document["after"]["verdict"] == "healthy"


def test_every_treatment_that_a_rule_names_exists() -> None:
    named = {
        suggestion.treatment
        for net in (RandomNet(sigma=0.5), RandomNet(sigma=3, input_scale=0.1), RandomNet("lstm", init="pytorch"))
        for finding in rnndiag.simulate(net, length=60, settings=Settings(treat=False)).findings
        for suggestion in finding.suggestions
        if suggestion.treatment is not None
    }
    assert named
    assert named <= set(NAMES)
    assert {member for pair in PAIRS for member in pair} <= set(TREATMENTS)
    assert RULES


def test_only_an_ill_stack_is_treated() -> None:
    ill, well = (layer("tanh", hidden=24, scale=scale, name=f"{name}.l0") for name, scale in (("a", 0.2), ("b", 1.6)))
    model = Model(Source("two", "random"), (Stack("a", ((ill,),)), Stack("b", ((well,),))))
    done = prescribe_model(model, Probe(length=8, batch=12), treatments="rescale")
    assert set(done.changed) == {"a.l0"}
    assert done.changed["a.l0"].weight_hh.dtype == torch.float64
    after = done.prescription.after
    assert after is not None
    assert [stack.verdict for stack in after.stacks] == ["healthy", "healthy"]


def test_weights_that_are_no_numbers_can_only_be_drawn_anew() -> None:
    broken = layer("tanh")
    broken.weight_hh[0, 0] = torch.nan
    model = Model(Source("broken", "random"), (Stack("rnn", ((broken,),)),))
    given = prescribe_model(model, Probe(length=20, batch=6)).prescription
    assert given.before.verdict == "invalid"
    assert {each.redraws for each in given.treatments} == {True}
    assert ("rescale", "its weights are not finite") in {(n.name, n.reason) for n in given.not_tried}
    json.loads(render(given))


def test_two_runs_say_the_same() -> None:
    one, two = (render(rnndiag.prescribe(RandomNet(sigma=0.5, hidden=16), length=30)) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"treatments": "nonsense*"}, "matches none; expected one of rescale"),
        ({"take": "rescal"}, "did you mean rescale"),
        ({"take": "clip"}, "changes training, not the model"),
        ({"take": "chrono"}, "does not suit this model .*it has no gates"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        rnndiag.prescribe(RandomNet(sigma=0.5, hidden=8), length=20, **asked)


def test_a_healthy_model_is_not_written_again(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the model is healthy; --take NAME"):
        rnndiag.prescribe(SAMPLES / "gru.pt", length=20, save=tmp_path / "new.pt")
    with pytest.raises(OutputError, match="only a saved model"):
        rnndiag.prescribe(RandomNet(), save=tmp_path / "new.pt")


def test_what_is_written_is_what_was_measured(tmp_path: Path) -> None:
    given = rnndiag.prescribe(SAMPLES / "exploding_tanh.pt", length=64, treatments="rescale", save=tmp_path / "new.pt")
    assert given.after is not None
    again = rnndiag.inspect(tmp_path / "new.pt", length=64)
    assert again.layers == given.after.layers
    assert again.verdict == "healthy"


def test_suggestions_carry_what_was_measured_and_those_that_do_not_help_are_gone() -> None:
    measured, untried = (
        rnndiag.inspect(SAMPLES / "vanishing_tanh.pt", length=64, settings=Settings(treat=treat))
        for treat in (True, False)
    )
    assert [f.rule for f in measured.findings] == [f.rule for f in untried.findings]
    assert measured.layers == untried.layers
    by_name = {each.name: each for each in rnndiag.prescribe(SAMPLES / "vanishing_tanh.pt", length=64).treatments}
    (first,) = (finding for finding in measured.findings if finding.rule == "VAN001")
    assert [s.treatment for s in first.suggestions] == ["nearest-orthogonal+scale-inputs", "lstm+chrono", "attention"]
    for suggestion in first.suggestions[:2]:
        assert suggestion.treatment is not None
        assert suggestion.after == by_name[suggestion.treatment].log10_gain
        assert suggestion.before == measured.stacks[0].gradient.log10_gain  # type: ignore[union-attr]
    assert not by_name["rescale"].helps
