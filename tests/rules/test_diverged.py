"""TRD006 and TRD007 on runs that break at known checkpoints."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.errors import SettingsError
from rnndiag.probes import Probe
from rnndiag.report import Report
from rnndiag.rules.base import Finding
from rnndiag.trend import Trend, trend
from tests.oracles.nets import layer

PROBE = Probe(length=20, batch=6)
QUICK = Settings(exponents=1, treat=False)


def checkpoint(step: int, *layers: RecurrentLayer, probe: Probe = PROBE) -> Report:
    stack = Stack("rnn", tuple((each,) for each in layers))
    return diagnose(Model(Source(f"run/{step}.pt", "random", progress={"step": step}), (stack,)), probe, QUICK)


def gru(value: float | None = None) -> RecurrentLayer:
    """PyTorch's default size of weights; one entry is replaced, if a value is given."""
    net = layer("gru", 3, 8, scale=0.5)
    if value is not None:
        net.weight_hh[1, 2] = value
    return net


def run(kinds: str, broken: float = math.nan) -> list[Report]:
    """A checkpoint for each letter: F finite, X with a weight that is not."""
    return [checkpoint(i, gru(broken if kind == "X" else None)) for i, kind in enumerate(kinds, 1)]


def of(rule: str, result: Trend) -> list[Finding]:
    return [finding for finding in result.findings if finding.rule == rule]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("kinds", "first", "last", "count"),
    [
        ("FFFX", 4, 3, 1),
        ("FFXX", 3, 2, 2),
        ("FX", 2, 1, 1),
        ("FFXFXX", 5, 4, 3),  # it came and went: what counts is how the run ends
        ("FXFF", 2, 1, 1),
        ("XFF", 1, None, 1),
        ("XXX", 1, None, 3),
    ],
)
def test_the_first_broken_and_the_last_finite_checkpoint_are_named(
    kinds: str, first: int, last: int | None, count: int, broken: float
) -> None:
    (finding,) = of("TRD006", trend(run(kinds, broken)))
    assert finding.severity == "error"
    assert (finding.evidence["first_broken_step"], finding.evidence["last_finite_step"]) == (first, last)
    assert finding.evidence["first_broken_path"] == f"run/{first}.pt"
    assert finding.evidence["last_finite_path"] == (None if last is None else f"run/{last}.pt")
    assert (finding.evidence["broken_checkpoints"], finding.evidence["checkpoints"]) == (count, len(kinds))
    verb = "is" if count == 1 else "are"
    assert f"{count} of {len(kinds)} checkpoints {verb} not finite" in finding.message
    assert f"weights of rnn.l0 are NaN or infinite (1 entry in weight_hh) in run/{first}.pt" in finding.message
    assert ("finite again" in finding.message) == kinds.endswith("F")
    assert ("no checkpoint before it is finite" in finding.message) == (last is None)
    resume = finding.suggestions[0].action
    assert (f"run/{last}.pt" in resume) if last is not None else ("from the start" in resume)


def test_finite_runs_and_single_checkpoints() -> None:
    assert of("TRD006", trend(run("FFFFFF"))) == []
    with pytest.raises(SettingsError, match="needs at least 2"):
        trend(run("X"))


def test_what_the_last_finite_checkpoint_shows_and_where_to_resume() -> None:
    large = layer("tanh", 3, 8, scale=0.5)
    for parameter in large.parameters.values():
        parameter *= 100
    broken = layer("tanh", 3, 8)
    broken.weight_ih[0, 0] = math.nan
    sound = layer("tanh", 3, 8, scale=0.5)
    (finding,) = of("TRD006", trend([checkpoint(i, each) for i, each in enumerate((sound, large, broken), 1)]))
    assert finding.evidence["last_finite_path"] == "run/2.pt"
    assert re.search(r"\d\d% of the slopes of rnn.l0 are saturated", finding.message)
    scale = float(large.weight_hh.std(correction=0)) * 8**0.5
    assert finding.evidence["entry_scale"] == pytest.approx(scale, rel=0.1)
    assert "times as large as a usual initialization" in finding.message
    assert finding.evidence["spectral_norm"] == pytest.approx(float(torch.linalg.matrix_norm(large.weight_hh, 2)))
    assert "resume from run/1.pt (step 1)" in finding.suggestions[0].action
    (quiet,) = of("TRD006", trend(run("FFX")))
    assert "which shows: nothing unusual" in quiet.message


def test_states_that_overflow_with_finite_weights() -> None:
    def relu(scale: float) -> RecurrentLayer:
        return RecurrentLayer("rnn.l0", "relu", torch.ones(4, 3).double(), torch.eye(4).double() * scale)

    reports = [checkpoint(1, relu(0.9)), checkpoint(2, relu(1e80))]
    (finding,) = of("TRD006", trend(reports))
    at = reports[1].layers[0].numerics.first_nonfinite_step
    assert f"the states of rnn.l0 overflow at step {at} of the probe in run/2.pt" in finding.message


def test_only_the_broken_stack_and_its_lowest_broken_layer_are_named() -> None:
    def two(step: int, value: float | None) -> Report:
        lower, upper, other = layer("gru", 3, 5), layer("gru", 5, 5, name="rnn.l1"), layer("tanh", 3, 5, name="dec.l0")
        if value is not None:
            lower.weight_ih[0, 0] = value
        stacks = Stack("rnn", ((lower,), (upper,))), Stack("dec", ((other,),))
        return diagnose(Model(Source(f"{step}.pt", "random", progress={"step": step}), stacks), PROBE, QUICK)

    result = trend([two(1, None), two(2, math.nan)])
    (finding,) = of("TRD006", result)
    assert finding.layer == "rnn"
    assert "rnn.l1" not in finding.message
    by_name = {place.name: place.not_finite for place in (*result.points[1].stacks, *result.points[1].layers)}
    assert by_name["dec"] is by_name["dec.l0"] is None
    assert by_name["rnn"] == by_name["rnn.l0"] == "weights of rnn.l0 are NaN or infinite (1 entry in weight_ih)"
    assert by_name["rnn.l1"] == "the inputs of rnn.l1 are NaN or infinite"


def test_a_step_with_several_files_is_broken_if_any_is() -> None:
    reports = [*run("FF"), checkpoint(3, gru()), checkpoint(3, gru(math.nan))]
    (finding,) = of("TRD006", trend(reports))
    assert (finding.evidence["first_broken_step"], finding.evidence["last_finite_step"]) == (3, 2)


# --- TRD007


def train_relu(seed: int, updates: Sequence[int], rate: float) -> list[tuple[RecurrentLayer, RecurrentLayer]]:
    """Two ReLU layers trained on random targets by plain SGD; their weights after each of the updates."""
    torch.manual_seed(seed)
    net, head = nn.RNN(3, 16, 2, nonlinearity="relu"), nn.Linear(16, 1)
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], rate)
    kept = []
    for update in range(max(updates) + 1):
        if update in updates:
            state = {name: p.detach().clone() for name, p in net.state_dict().items()}
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            lower, upper = (RecurrentLayer(f"rnn.l{i}", "relu", *(state[f"{n}_l{i}"] for n in names)) for i in (0, 1))
            kept.append((lower, upper))
        x, y = torch.randn(10, 8, 3), torch.randn(8, 1)
        loss = (head(net(x)[0][-1]) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*net.parameters(), *head.parameters()], 1.0)
        optimizer.step()
    return kept


def zero_units(lower: RecurrentLayer, upper: RecurrentLayer) -> int:
    """How many units of the upper layer PyTorch's own module leaves at zero at every step of the probe."""
    module = nn.RNN(3, 16, 2, nonlinearity="relu").double()
    module.load_state_dict(
        {f"{name}_l{i}": p.double() for i, net in enumerate((lower, upper)) for name, p in net.parameters.items()}
    )
    inputs = PROBE.inputs(Stack("rnn", ((lower,), (upper,)))).double()
    with torch.no_grad():
        return int((module(inputs)[0] == 0).flatten(0, 1).all(0).sum())


def test_an_upper_layer_that_dies_in_training_is_found_where_it_dies() -> None:
    updates = range(0, 61, 10)
    runs = (train_relu(seed, updates, rate=5.0) for seed in range(20))
    weights = next(each for each in runs if zero_units(*each[-1]) == 16 > zero_units(*each[0]))
    reports = [checkpoint(update, *each) for update, each in zip(updates, weights, strict=True)]
    zero = [zero_units(*each) for each in weights]
    assert [each.layers[1].saturation.dead_units for each in reports] == zero
    first = next(i for i in range(len(zero)) if set(zero[i:]) == {16})
    found = of("TRD007", trend(reports))
    assert [finding.layer for finding in found] == ["rnn.l1"]
    assert found[0].severity == "error"
    assert found[0].evidence["first_dead_step"] == updates[first]
    assert found[0].evidence["last_alive_path"] == f"run/{updates[first - 1]}.pt"
    assert f"resume from run/{updates[first - 1]}.pt" in found[0].suggestions[0].action


def test_gates_that_get_stuck() -> None:
    stuck = layer("lstm", 3, 8)
    assert stuck.bias_ih is not None
    stuck.bias_ih[:16], stuck.bias_ih[24:] = 40.0, -40.0
    sound = layer("lstm", 3, 8, scale=0.5)
    (finding,) = of("TRD007", trend([checkpoint(1, sound), checkpoint(2, stuck), checkpoint(3, stuck)]))
    assert (finding.evidence["quantity"], finding.evidence["first_dead_step"]) == ("stuck_gates", 2)
    assert of("TRD007", trend([checkpoint(1, stuck), checkpoint(2, sound)])) == []  # it responds again
    (finding,) = of("TRD007", trend([checkpoint(1, stuck), checkpoint(2, stuck)]))
    assert "at all 2 checkpoints" in finding.message


def test_a_layer_at_rest_on_constant_inputs_is_not_called_dead() -> None:
    relu = layer("relu", 3, 8, bias=False)
    result = trend([checkpoint(i, relu, probe=Probe("zeros", length=20, batch=2)) for i in (1, 2)])
    assert of("TRD007", result) == []
