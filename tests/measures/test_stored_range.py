"""The first overflow in the stored dtype, compared with a step-by-step run in that dtype."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.measures.stored_range import first_stored_overflow
from rnndiag.probes import Probe
from rnndiag.report import Report
from rnndiag.trajectory import run_layer
from tests.oracles.nets import FORMS, layer


def report(*layers: RecurrentLayer, inputs: Tensor) -> Report:
    levels = tuple((each,) for each in layers)
    model = Model(Source("here", "random"), (Stack("rnn", levels),))
    return diagnose(model, Probe.from_array(inputs), Settings(treat=False))


def overflow(stored: RecurrentLayer, inputs: Tensor) -> int | None:
    """The first overflow for inputs ``[T, B, D]`` that are measured in float64."""
    return first_stored_overflow(stored, run_layer(stored.to(torch.float64), inputs.double()))


def growing(dtype: torch.dtype, factor: float = 1.05, drive: float = 20.0) -> RecurrentLayer:
    """A ReLU net with a symmetric positive weight, whose states grow by ``factor`` at each step."""
    weight = torch.full((6, 6), factor / 6)
    biases = torch.zeros(6, dtype=dtype), torch.zeros(6, dtype=dtype)
    return RecurrentLayer("rnn.l0", "relu", torch.full((6, 2), drive).to(dtype), weight.to(dtype), *biases)


def by_hand(net: RecurrentLayer, inputs: Tensor) -> int | None:
    """The first step at which ``relu(W_ih x + W_hh h)`` is not finite, one step at a time in the weights' dtype."""
    h = torch.zeros(inputs.shape[1], net.hidden_size, dtype=net.weight_hh.dtype)
    for step, x in enumerate(inputs.to(net.weight_hh.dtype), 1):
        h = (x @ net.weight_ih.T + h @ net.weight_hh.T).relu()
        if not bool(h.isfinite().all()):
            return step
    return None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_step_is_that_of_a_run_in_the_stored_dtype(dtype: torch.dtype) -> None:
    net, inputs = growing(dtype), torch.rand(2200, 3, 2, generator=torch.Generator().manual_seed(0))
    expected = by_hand(net, inputs)
    assert expected is not None
    found = overflow(net, inputs)
    assert found is not None
    assert abs(found - expected) <= 1  # kernels round in another order
    module = nn.RNN(2, 6, nonlinearity="relu").to(dtype)
    module.load_state_dict({f"{name}_l0": value for name, value in net.parameters.items()})
    with torch.no_grad():
        finite = module(inputs.to(dtype))[0].isfinite().flatten(1).all(1)
    assert found == int((~finite).nonzero()[0]) + 1


def test_512_a_step_are_infinite_at_step_128_in_float16() -> None:
    def net(dtype: torch.dtype) -> RecurrentLayer:
        return RecurrentLayer("rnn.l0", "relu", torch.full((4, 1), 512.0).to(dtype), torch.eye(4).to(dtype))

    inputs = torch.ones(140, 2, 1)
    assert overflow(net(torch.float16), inputs) == 128  # 128 * 512 = 65536 > 65504
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        assert overflow(net(dtype), inputs) is None


@pytest.mark.parametrize("kind", FORMS)
def test_layers_of_usual_weights_do_not_overflow(kind: str) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        net = layer(kind, dtype=dtype, scale=0.8)
        assert overflow(net, torch.randn(50, 3, 4, generator=torch.Generator().manual_seed(1))) is None


def test_an_lstm_whose_cell_state_cannot_overflow_is_left_alone() -> None:
    """In float16 its ``c`` stops growing where one step adds less than half a rounding; float64 states go on."""
    net = layer("lstm", hidden=3, scale=0.0, dtype=torch.float16)
    assert net.bias_ih is not None
    net.bias_ih[:] = 40.0
    run = run_layer(net.to(torch.float64), torch.zeros(70_000, 1, 4, dtype=torch.float64))
    assert run.cell_state is not None
    assert float(run.cell_state.max()) > 65504
    assert first_stored_overflow(net, run) is None


def test_an_infinite_gate_preactivation_is_no_overflow() -> None:
    """The sigmoid of infinity is 1: the states are finite."""
    net = layer("gru", hidden=4, scale=0.5, dtype=torch.float16)
    assert net.bias_ih is not None
    net.weight_ih[4:8] = 6e4
    inputs = torch.full((20, 2, 4), 3.0)
    assert overflow(net, inputs) is None
    module = nn.GRU(4, 4).half()
    module.load_state_dict({f"{name}_l0": value for name, value in net.parameters.items()})
    with torch.no_grad():
        assert bool(module(inputs.half())[0].isfinite().all())


def test_a_reverse_layer_is_run_in_its_own_order() -> None:
    forward = growing(torch.float16)
    inputs = torch.rand(300, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    backward = RecurrentLayer(
        "rnn.l0.reverse", "relu", forward.weight_ih, forward.weight_hh, forward.bias_ih, forward.bias_hh,
        direction="reverse",
    )  # fmt: skip
    assert overflow(backward, inputs) == overflow(forward, inputs.flip(0)) is not None


def test_the_layer_where_it_starts_is_named_and_the_measurement_says_what_float64_has() -> None:
    lower = growing(torch.float16)
    upper = RecurrentLayer("rnn.l1", "relu", torch.eye(6).half() * 0.1, torch.eye(6).half() * 0.5)
    found = report(lower, upper, inputs=torch.rand(3, 200, 2, generator=torch.Generator().manual_seed(0)))
    (finding,) = (each for each in found.findings if each.rule == "NUM004")
    assert (finding.layer, finding.severity, finding.evidence["dtype"]) == ("rnn.l0", "error", "float16")
    assert finding.evidence["step"] == found.layers[0].numerics.first_stored_overflow
    assert finding.evidence["largest_state"] > 65504
    assert all(each.numerics.first_nonfinite_step is None for each in found.layers)


def test_inputs_that_do_not_fit_into_the_dtype_are_no_fault_of_the_layer() -> None:
    net = RecurrentLayer("rnn.l0", "tanh", torch.ones(3, 2).half(), torch.eye(3).half())
    assert overflow(net, torch.full((30, 2, 2), 7e4)) is None


def test_float32_weights_whose_states_fit_only_into_float64() -> None:
    found = report(growing(torch.float32, 1.5), inputs=torch.ones(2, 250, 2))
    assert found.layers[0].numerics.first_nonfinite_step is None
    (finding,) = (each for each in found.findings if each.rule == "NUM004")
    assert finding.evidence["dtype"] == "float32"
