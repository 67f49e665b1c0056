"""The GRU's two forms against ONNX's reference implementation, which knows both, and through a whole diagnosis."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rnndiag.checkpoint.model import Model, Source
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.trajectory import run_layer
from tests.oracles.nets import layer, stack

BY_ONNX = ("update", "reset", "new")


def onnx_states(net, inputs: torch.Tensor) -> torch.Tensor:
    onnx = pytest.importorskip("onnx")
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
    helper = onnx.helper
    node = helper.make_node(
        "GRU",
        ["X", "W", "R", "B"],
        ["Y"],
        hidden_size=net.hidden_size,
        linear_before_reset=int(net.reset_after),
    )
    double = onnx.TensorProto.DOUBLE
    given = [helper.make_tensor_value_info(name, double, None) for name in "XWRB"]
    graph = helper.make_graph([node], "gru", given, [helper.make_tensor_value_info("Y", double, None)])

    def ordered(parameter: torch.Tensor) -> torch.Tensor:
        blocks = net.blocks(parameter)
        return torch.cat([blocks[gate] for gate in BY_ONNX])

    feeds = {
        "X": inputs,
        "W": ordered(net.weight_ih)[None],
        "R": ordered(net.weight_hh)[None],
        "B": torch.cat((ordered(net.bias_ih), ordered(net.bias_hh)))[None],
    }
    model = helper.make_model(graph)
    (states,) = evaluator(model).run(None, {name: value.numpy() for name, value in feeds.items()})
    return torch.from_numpy(states)[:, 0]


@pytest.mark.parametrize("form", ["gru", "reset-first"])
def test_states_are_onnxs(form: str) -> None:
    net = layer(form, 3, 5)
    inputs = torch.randn(7, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(run_layer(net, inputs).hidden, onnx_states(net, inputs), rtol=1e-12, atol=1e-13)


def test_the_two_forms_differ_in_every_measure_of_the_trajectory() -> None:
    first = stack("reset-first", 2)
    after = replace(first, levels=tuple(tuple(replace(each, reset_after=True) for each in lv) for lv in first.levels))
    source = Source("gru", "random")
    one, two = (diagnose(Model(source, (each,)), Probe(length=20, batch=3)) for each in (first, after))
    for a, b in zip(one.layers, two.layers, strict=True):
        assert a.cell == b.cell == "gru"
        assert (a.reset_after, b.reset_after) == (False, True)
        assert a.recurrent_weight == b.recurrent_weight
        assert set(a.gates) == set(b.gates) == {"reset", "update"}
        assert a.jacobian != b.jacobian
        assert a.lyapunov != b.lyapunov
        assert a.gradient.log10_gain != b.gradient.log10_gain
        assert a.gradient.credit != b.gradient.credit
    assert one.stacks[0].gradient.log10_gain != two.stacks[0].gradient.log10_gain
