"""Step functions through the whole diagnosis: the same numbers as the built-in cells, and what is left out."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rnndiag
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.errors import ModelError, ProbeError, SettingsError
from rnndiag.probes import Probe
from rnndiag.renderers import github, junit, markdown, sarif
from rnndiag.renderers import json as as_json
from rnndiag.report import Report, json_schema
from rnndiag.rules.registry import RULES
from tests.oracles.nets import FORMS, layer, module, stack

FULL = Settings(exponents="all", lag=12)
INPUTS = torch.randn(7, 30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

UNKNOWN = {
    "name", "cell", "recurrent_weight", "saturation", "gates", "bias_scale", "forget_bias", "reset_after",
    "rough_bound_log10_gain", "contraction_guaranteed", "credit", "credit_99_steps",
    "stored_dtype", "nonfinite_parameters", "subnormal_parameters", "largest_parameter", "hidden_size", "proj_size",
}  # fmt: skip
"""What a step function does not show, or names otherwise."""


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            if field.name not in UNKNOWN:
                yield from differences(getattr(one, field.name), getattr(other, field.name), f"{path}.{field.name}")
    elif isinstance(one, tuple):
        assert len(one) == len(other), path
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{path}[{i}]")
    elif isinstance(one, float):
        both_nan = math.isnan(one) and math.isnan(other)
        if not (both_nan or math.isclose(one, other, rel_tol=1e-8, abs_tol=1e-10)):
            yield f"{path}: {one} {other}"
    elif one != other:
        yield f"{path}: {one} {other}"


def step_of(form: str, proj: int) -> tuple[Callable, Any, Model]:
    """PyTorch's own module as a step, its zero state, and the same as a model of one layer."""
    net = layer(form, 3, 6, proj=proj, scale=1.2)
    rnn, width = module(net), net.output_size
    model = Model(Source("net", "random"), (dataclasses.replace(stack("tanh", 1), levels=((net,),)),))
    if net.cell != "lstm":
        return lambda h, x: rnn(x[None], h[None])[1][0], torch.zeros(6), model

    def step(state: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        _, (h, c) = rnn(x[None], tuple(part[None].contiguous() for part in state))
        return h[0], c[0]

    return step, (torch.zeros(width), torch.zeros(6)), model


@pytest.mark.parametrize(("form", "proj"), [*((form, 0) for form in FORMS), ("lstm", 4)])
def test_a_built_in_cell_as_a_step_gives_the_layers_numbers(form: str, proj: int) -> None:
    step, state0, model = step_of(form, proj)
    built_in = diagnose(model, Probe.from_array(INPUTS), FULL)
    report = rnndiag.inspect(step, state0, INPUTS, settings=FULL)
    assert list(differences(built_in.layers[0], report.layers[0])) == []
    names = {"name", "layers"}
    for field in dataclasses.fields(report.stacks[0]):
        if field.name not in names:
            both = (getattr(each.stacks[0], field.name) for each in (built_in, report))
            assert list(differences(*both, field.name)) == []
    (measured,) = report.layers
    assert (measured.cell, measured.hidden_size, measured.proj_size) == ("custom", proj or 6, 0)
    assert (report.source.path, report.source.format) == ("step", "function")


def test_what_a_function_does_not_show_is_null_and_said() -> None:
    report = rnndiag.inspect(lambda h, x: torch.tanh(0.3 * h + x), torch.zeros(3), INPUTS, settings=FULL)
    document = json.loads(as_json.render([report]))
    jsonschema.Draft202012Validator(json_schema()).validate(document)
    (measured,) = document["layers"]
    for name in ("recurrent_weight", "saturation", "gates", "bias_scale", "forget_bias", "reset_after"):
        assert measured[name] is None
    assert measured["gradient"]["credit"] is None
    assert measured["gradient"]["rough_bound_log10_gain"] is None
    assert measured["numerics"]["nonfinite_parameters"] is None
    assert measured["state_size"] == 3
    missed = {item.rule for item in report.not_assessed}
    assert missed == {rule.code for rule in RULES if rule.code[:3] in ("SAT", "INI", "SPC")} | {
        "VAN003", "VAN005", "NUM001", "NUM004",
    }  # fmt: skip
    assert all("does not show its weights" in item.reason for item in report.not_assessed)
    assert [finding.rule for finding in report.findings] == ["VAN001"]


def vanishing() -> Report:
    return rnndiag.inspect(lambda h, x: 0.5 * h + x, torch.zeros(3), INPUTS)


def exploding() -> Report:
    return rnndiag.inspect(lambda h, x: 2 * h + x, torch.zeros(3), INPUTS)


def overflowing() -> Report:
    return rnndiag.inspect(lambda h, x: h.square() * 1e40 + 1, torch.zeros(3), INPUTS)


def without_derivative() -> Report:
    return rnndiag.inspect(lambda h, x: h * 0.9 + (h - h).square().sum(-1, keepdim=True).sqrt(), torch.ones(3), INPUTS)


@pytest.mark.parametrize(
    ("make", "verdict", "rule", "words"),
    [
        (vanishing, "vanishing", "VAN001", "a factor of 0.5 a step"),
        (exploding, "exploding", "EXP001", "a factor of 2 a step"),
        (overflowing, "invalid", "NUM002", "finite initial states, but a state is NaN or infinite at step 5"),
        (without_derivative, "invalid", "NUM002", "the step Jacobian is NaN or infinite at step 1"),
    ],
)
def test_verdicts_of_steps_in_every_format(make: Callable[[], Report], verdict: str, rule: str, words: str) -> None:
    report = make()
    assert report.verdict == verdict
    (finding,) = (found for found in report.findings if found.rule == rule)
    assert words in finding.message
    assert "W_hh" not in finding.message + finding.cause + report.summary
    from rich.console import Console

    from rnndiag.renderers import lines, table

    console = Console(width=100, record=True, file=io.StringIO())
    for verbose in (False, True):
        console.print(table.render([report], verbose=verbose))
    console.print(lines.render([report]))
    assert rule in console.export_text()
    for renderer in (markdown, github, junit, sarif):
        assert rule in renderer.render([report])


def test_a_linear_step_has_exact_gains_and_exponents() -> None:
    weight = torch.diag(torch.tensor([1.1, 0.9, -0.5], dtype=torch.float64))
    report = rnndiag.inspect(lambda h, x: h @ weight + x, torch.zeros(3), INPUTS, settings=FULL)
    (measured,) = report.layers
    exact = [math.log(1.1), math.log(0.9), math.log(0.5)]
    assert measured.lyapunov.exponents == pytest.approx(exact, abs=0.01)  # the frame turns for a while
    assert sum(measured.lyapunov.exponents) == pytest.approx(sum(exact), rel=1e-12)  # its volume does not
    assert measured.jacobian.norm_max == pytest.approx(1.1, rel=1e-6)
    assert measured.jacobian.rms_gain_median == pytest.approx(math.sqrt((1.21 + 0.81 + 0.25) / 3), rel=1e-12)


def test_the_initial_state_is_where_it_starts() -> None:
    weight, start = 1.3, torch.tensor([[0.2], [-1.5], [0.9]], dtype=torch.float64)
    inputs = torch.linspace(-1, 1, 3 * 20, dtype=torch.float64).reshape(3, 20, 1)
    report = rnndiag.inspect(lambda h, x: torch.tanh(weight * h + x), start, inputs)
    logs, h = torch.zeros(3, dtype=torch.float64), start[:, 0]
    for x in inputs[:, :, 0].T:
        h = torch.tanh(weight * h + x)
        logs += (weight * (1 - h.square())).log10()
    assert report.layers[0].gradient.log10_gain == pytest.approx(float(logs.median()), rel=1e-9)
    first = weight * (1 - torch.tanh(weight * start[:, 0] + inputs[:, 0, 0]).square())
    assert report.layers[0].jacobian.norm_per_step[0] == pytest.approx(float(first.median()), rel=1e-6)


def test_one_sequence_serves_several_states_and_one_state_several_sequences() -> None:
    step = lambda h, x: torch.tanh(1.2 * h + x)  # noqa: E731
    states = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    for state0, inputs, batch in ((states, INPUTS[0], 5), (states[0], INPUTS, 7), (states[:1], INPUTS, 7)):
        assert rnndiag.inspect(step, state0, inputs).probe.batch == batch
    few = rnndiag.inspect(step, torch.randn(7, 3), INPUTS.numpy(), length=20, batch=2)
    assert (few.probe.batch, few.probe.length) == (2, 20)


def test_settings_apply(tmp_path: Any) -> None:
    np.save(tmp_path / "inputs.npy", INPUTS.float().numpy())
    cell = nn.GRUCell(3, 4)
    settings = Settings(dtype="float32", lag=5, exponents=2)
    report = rnndiag.inspect(lambda h, x: cell(x, h), torch.zeros(4), tmp_path / "inputs.npy", settings=settings)
    assert (report.measured_in, report.stacks[0].lag, len(report.layers[0].lyapunov.exponents)) == ("float32", 5, 2)
    double = rnndiag.inspect(lambda h, x: cell.double()(x, h), torch.zeros(4), INPUTS)
    assert double.layers[0].gradient.log10_by_lag == pytest.approx(report.layers[0].gradient.log10_by_lag, abs=1e-3)


def test_a_large_state_says_that_its_mean_gain_is_estimated() -> None:
    small, large = (
        rnndiag.inspect(lambda h, x: 0.7 * h + x.sum(-1, keepdim=True), torch.zeros(size), INPUTS[:2, :5], layout="BTD")
        for size in (128, 129)
    )
    assert small.notes == ()
    assert "estimated from 64 random vectors" in large.notes[0]
    assert large.layers[0].jacobian.rms_gain_median == pytest.approx(0.7, rel=1e-9)  # exact for a multiple of I


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_can_be_asked_for_where_nothing_is_differentiated(context: Any) -> None:
    with context():
        report = rnndiag.inspect(lambda h, x: torch.tanh(h * 0.9 + x), torch.zeros(3), INPUTS)
    assert report == rnndiag.inspect(lambda h, x: torch.tanh(h * 0.9 + x), torch.zeros(3), INPUTS)


STEP = lambda h, x: torch.tanh(h + x)  # noqa: E731


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((3,), {}, ModelError, "expected a saved model's path, an nn.Module or a step function .*, got a int"),
        ((nn.LSTM,), {}, ModelError, "got the class LSTM"),
        (({"weight": 1},), {}, ModelError, "got a dict"),
        (("x.pt", torch.zeros(3)), {}, ModelError, "x.pt: a saved model takes no state0"),
        ((STEP, torch.zeros(3), {"a": 1}), {}, ProbeError, r"step: inputs: expected an array .*, got a dict"),
        ((nn.GRU(3, 4), None, [[1.0], [2.0, 3.0]]), {}, ProbeError, r"probe: expected an array .*, got a list"),
        ((STEP,), {}, ModelError, "step: a step function needs state0 and inputs too"),
        ((STEP, torch.zeros(3)), {}, ModelError, "needs inputs too"),
        ((STEP, None, INPUTS), {}, ModelError, "needs state0 too"),
        ((STEP, torch.zeros(2, 3), INPUTS), {}, ModelError, "state0 is for 2 sequences, inputs hold 7"),
        ((STEP, torch.zeros(3), INPUTS[0, 0]), {}, ProbeError, r"step: inputs: expected an array \[T, D\] or"),
        ((STEP, torch.zeros(3), INPUTS), {"length": 31}, ProbeError, "more than the 30"),
        ((STEP, torch.zeros(3), INPUTS), {"probe": "sine"}, ProbeError, "inputs and probe: both say"),
        ((STEP, torch.zeros(3), INPUTS), {"settings": Settings(lag=31)}, SettingsError, "longer than the probe"),
        ((STEP, torch.zeros(3), INPUTS), {"settings": Settings(layers="x")}, SettingsError, "it has step"),
        ((nn.GRUCell(3, 3), torch.zeros(3), INPUTS), {}, ModelError, r"GRUCell: takes \(input, state\)"),
    ],
)
def test_refused_with_one_line(arguments: tuple, options: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        rnndiag.inspect(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_a_step_that_fails_on_the_way_says_where() -> None:
    def step(h: Tensor, x: Tensor) -> Tensor:
        if bool((h > 3).any()):
            raise ValueError("too large")
        return h + 0.5

    with pytest.raises(ModelError, match=r"step: ValueError: too large \(.*test_custom.py:\d+\)"):
        rnndiag.inspect(step, torch.zeros(3), INPUTS)
