"""Every recurrent module of PyTorch, in every form in which it is saved, comes back with its own numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


def assert_same(stack, module, *, is_cell=False):
    """Every parameter of the module is in the stack, bit for bit, and nothing else is."""
    expected = dict(module.named_parameters())
    for i, level in enumerate(stack.levels):
        for layer in level:
            reverse = layer.direction == "reverse"
            suffix = "" if is_cell else f"_l{i}" + "_reverse" * reverse
            for name, value in layer.parameters.items():
                original = expected.pop(name + suffix).detach()
                assert value.dtype == original.dtype
                assert torch.equal(value, original)
    assert not expected


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("whole", [False, True], ids=["state_dict", "module"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "bare"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_layered_modules(reload, kind, layers, bidirectional, bias, whole, legacy):
    module = KINDS[kind](3, 5, layers, bias=bias, bidirectional=bidirectional)
    net = nn.ModuleDict({"rnn": module})
    model = reload(net if whole else net.state_dict(), legacy=legacy)
    (stack,) = model.stacks
    assert stack.name == "rnn"
    assert_same(stack, module)
    ends = ["", ".reverse"] if bidirectional else [""]
    assert [layer.name for layer in stack.layers] == [f"rnn.l{i}{end}" for i in range(layers) for end in ends]
    assert {layer.cell for layer in stack.layers} == {"tanh" if kind == "rnn" else kind}
    assert model.source.format == ("torch-legacy" if legacy else "torch")
    assert not model.source.skipped


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_projection(reload, layers, bidirectional, bias, legacy):
    module = nn.LSTM(3, 6, layers, bias=bias, bidirectional=bidirectional, proj_size=2)
    (stack,) = reload(module.state_dict(), legacy=legacy).stacks
    assert_same(stack, module)
    assert {(layer.hidden_size, layer.proj_size, layer.output_size) for layer in stack.layers} == {(6, 2, 2)}


@pytest.mark.parametrize("whole", [False, True], ids=["state_dict", "module"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", CELLS)
def test_cells(reload, kind, bias, whole):
    module = CELLS[kind](4, 3, bias=bias)
    net = nn.ModuleDict({"step": module})
    (stack,) = reload(net if whole else net.state_dict()).stacks
    assert_same(stack, module, is_cell=True)
    assert (stack.name, stack.layers[0].name) == ("step", "step")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_s_precision_is_kept(reload, kind, dtype, legacy):
    module = KINDS[kind](2, 4).to(dtype)
    (stack,) = reload(module.state_dict(), legacy=legacy).stacks
    assert_same(stack, module)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_pickle_protocols(reload, protocol, legacy):
    module = nn.GRU(2, 3)
    (stack,) = reload({"net": module.state_dict()}, legacy=legacy, pickle_protocol=protocol).stacks
    assert_same(stack, module)


def test_broken_numbers_are_read(reload):
    module = nn.LSTM(2, 3)
    with torch.no_grad():
        module.weight_hh_l0.fill_(torch.nan)
    (stack,) = reload(module.state_dict()).stacks
    assert stack.layers[0].weight_hh.isnan().all()


def test_views_of_one_storage_and_transposes(reload):
    """Flattened and transposed weights are saved as views with offsets and strides."""
    module = nn.RNN(3, 3)
    flat = torch.randn(30)
    state = module.state_dict() | {"weight_hh_l0": flat[3:12].view(3, 3), "weight_ih_l0": flat[12:21].view(3, 3).T}
    (stack,) = reload(state).stacks
    assert torch.equal(stack.layers[0].weight_hh, flat[3:12].view(3, 3))
    assert torch.equal(stack.layers[0].weight_ih, flat[12:21].view(3, 3).T)


def test_the_tensors_outlive_the_file(save):
    """A training run may overwrite its checkpoint while the layers are measured."""
    from rnndiag.checkpoint import load

    module = nn.RNN(3, 4)
    path = save(module.state_dict())
    (stack,) = load(path).stacks
    path.write_bytes(b"\0" * path.stat().st_size)
    assert_same(stack, module)
