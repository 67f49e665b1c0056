"""Where in an ONNX model the operators and their weights may lie."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto, helper

from rnndiag.checkpoint import load
from tests.builders.onnx_files import (
    D,
    H,
    by_onnxruntime,
    constant,
    graph,
    model,
    names,
    only_stack,
    operator,
    sequence,
    states,
    weights,
    write,
)

pytest.importorskip("onnxruntime")


def agrees(path, inputs=None, stack=None, **more):
    """The model's first output is the first level's hidden states."""
    inputs = sequence() if inputs is None else inputs
    (expected, *_) = by_onnxruntime(path, {"X": inputs} | more)
    assert_allclose(states(stack or only_stack(path), inputs)[0], expected, atol=1e-6)


def test_weights_in_constant_nodes(tmp_path):
    nodes = [constant(name, array) for name, array in weights("LSTM").items()]
    agrees(write(tmp_path / "model.onnx", graph([*nodes, operator()])))


def test_weights_in_lists_of_floats(tmp_path):
    arrays = weights("RNN")
    nodes = [helper.make_node("Constant", [], [f"{n}0"], value_floats=a.ravel().tolist()) for n, a in arrays.items()]
    nodes += [constant(f"{n}1", np.array(a.shape)) for n, a in arrays.items()]
    nodes += [helper.make_node("Reshape", [f"{n}0", f"{n}1"], [n]) for n in arrays]
    agrees(write(tmp_path / "model.onnx", graph([*nodes, operator("RNN")])))


def from_pytorch(opset):
    """Nodes that make W, R and B of a GRU out of a GRUCell's own parameters, as its exporter writes them."""
    arrays, nodes, old = weights("GRU"), [], opset < 13
    cell = {
        "cell.weight_ih": arrays["W"][0],
        "cell.weight_hh": arrays["R"][0],
        "cell.bias_ih": arrays["B"][0, : 3 * H],
        "cell.bias_hh": arrays["B"][0, 3 * H :],
    }
    stored = {name: array.reshape(3, H, -1)[[1, 0, 2]].reshape(array.shape) for name, array in cell.items()}

    def add(kind, inputs, output, **settings):
        nodes.append(helper.make_node(kind, inputs, [output], f"/cell/{output}", **settings))
        return output

    def integers(name, *values):
        nodes.append(constant(name, np.array(values, np.int64)))
        return name

    def block(name, i):
        place = {"starts": [i * H], "ends": [i * H + H], "axes": [0]}
        if opset < 10:
            return add("Slice", [name], f"{name}_{i}", **place)
        given = [integers(f"{name}_{i}_{key}", *values) for key, values in place.items()]
        return add("Slice", [name, *given], f"{name}_{i}")

    whole = {n: add("Concat", [block(n, i) for i in (1, 0, 2)], f"{n}_zrn", axis=0) for n in stored}
    bias = add("Concat", [whole["cell.bias_ih"], whole["cell.bias_hh"]], "both", axis=0)
    for source, name in ((whole["cell.weight_ih"], "W"), (whole["cell.weight_hh"], "R"), (bias, "B")):
        inputs = [source] if old else [source, integers(f"{name}_axes", 0)]
        add("Unsqueeze", inputs, name, **({"axes": [0]} if old else {}))
    return nodes, stored


@pytest.mark.parametrize("opset", [7, 10, 11, 13, 17])
def test_a_cell_put_together_from_its_own_parameters(tmp_path, opset):
    """The operator's node has a name of its own; the parameters' are the module's path."""
    nodes, stored = from_pytorch(opset)
    body = graph([*nodes, operator("GRU", "GRU_7", linear_before_reset=1)], stored)
    path = write(tmp_path / "model.onnx", body, opset=opset)
    assert names(path) == ["cell.l0"]
    assert load(path).source.skipped == ()
    assert np.array_equal(only_stack(path).layers[0].weight_hh.numpy(), stored["cell.weight_hh"])
    agrees(path)


def test_quantised_weights_are_restored(tmp_path):
    stored, nodes = {}, []
    for name, array in weights("LSTM").items():
        scale = np.abs(array).max(axis=tuple(range(1, array.ndim))) / 127
        stored |= {f"{name}q": np.round(array / scale[0]).astype(np.int8), f"{name}s": scale.astype(np.float32)}
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}q", f"{name}s"], [name], axis=0))
    path = write(tmp_path / "model.onnx", graph([*nodes, operator()], stored))
    assert "quantised weights were taken as the model's DequantizeLinear restores them" in load(path).notes
    agrees(path)


def either(then, otherwise):
    return helper.make_node("If", ["cond"], ["Y"], "choice", then_branch=then, else_branch=otherwise)


def branch(*nodes, stored=()):
    return graph(nodes, stored, inputs=[])


def conditional(tmp_path, then, otherwise, stored):
    body = graph([either(then, otherwise)], stored)
    body.input.append(helper.make_tensor_value_info("cond", TensorProto.BOOL, []))
    return write(tmp_path / "model.onnx", body)


@pytest.mark.parametrize("copied", [False, True])
def test_one_layer_in_both_branches_is_one_layer(tmp_path, copied):
    """With its weights outside, or with a copy of them in each."""
    sides = [branch(operator(name=f"{side}/LSTM"), stored=weights("LSTM") if copied else ()) for side in ("a", "b")]
    path = conditional(tmp_path, *sides, {} if copied else weights("LSTM"))
    assert names(path) == ["a.l0"]
    assert load(path).source.skipped == ()
    for side in (True, False):
        agrees(path, cond=np.array(side))


def test_two_layers_in_two_branches_are_two(tmp_path):
    other = {name: array + 0.5 for name, array in weights("LSTM").items()}
    sides = [branch(operator(name=f"{side}/LSTM"), stored=w) for side, w in (("a", weights("LSTM")), ("b", other))]
    path = conditional(tmp_path, *sides, {})
    first, second = load(path).stacks
    assert (first.name, second.name) == ("a", "b")
    agrees(path, stack=first, cond=np.array(True))
    agrees(path, stack=second, cond=np.array(False))


def test_weights_put_together_inside_a_branch_from_outside(tmp_path):
    inside = [helper.make_node("Unsqueeze", [f"{name}2", "axes"], [name]) for name in "WRB"]
    stored = {f"{name}2": array[0] for name, array in weights("LSTM").items()} | {"axes": np.array([0])}
    path = conditional(
        tmp_path, branch(*inside, operator()), branch(helper.make_node("Identity", ["X"], ["Y"])), stored
    )
    agrees(path, cond=np.array(True))


def test_an_operator_in_a_loop(tmp_path):
    inside = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), operator(outputs=["Z"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go", 9, [])],
        [helper.make_tensor_value_info("on", 9, []), helper.make_tensor_value_info("Z", 1, None)],
    )
    nodes = [
        helper.make_node("Loop", ["once", "yes"], ["Ys"], "loop", body=inside),
        helper.make_node("Squeeze", ["Ys", "axes"], ["Y"]),
    ]
    stored = weights("LSTM") | {"once": np.array(1), "yes": np.array(True), "axes": np.array([0])}
    path = write(tmp_path / "model.onnx", graph(nodes, stored))
    assert names(path) == ["layer.l0"]
    agrees(path)


def functional(tmp_path, calls, stored):
    """A model whose function ``Layer`` takes its weights as inputs and its number of units as an attribute."""
    node = operator("GRU", hidden_size=None, linear_before_reset=1)
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("linear_before_reset", 1))
    size = onnx.AttributeProto(name="hidden_size", ref_attr_name="units", type=onnx.AttributeProto.INT)
    node.attribute.append(size)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Layer", ["X", "W", "R", "B"], ["Y"], [node], opsets[:1], ["units"])
    proto = model(graph(calls, stored, outputs=["Y"]), opset_imports=opsets, functions=[function])
    onnx.save(proto, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("units", [H, H + 1])
def test_an_operator_in_a_function_of_the_model(tmp_path, units, refusal):
    call = helper.make_node("Layer", ["X", "W", "R", "B"], ["Y"], domain="own", units=units)
    path = functional(tmp_path, [call], weights("GRU"))
    if units == H:
        agrees(path)
    else:
        assert f"it says hidden_size={units}, but its weights have {H}" in refusal(path)


def test_functions_that_differ_only_in_their_overload(tmp_path):
    """The weights come from the function that is called, not from another function of the same name."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = []
    for overload, width in (("wide", 7), ("narrow", 4)):
        held = {"W": np.ones((1, width, D), np.float32), "R": np.ones((1, width, width), np.float32)}
        nodes = [*(constant(n, a) for n, a in held.items()), operator("RNN", hidden_size=width, inputs=["X", "W", "R"])]
        functions.append(helper.make_function("own", "Layer", ["X"], ["Y"], nodes, opsets[:1]))
        functions[-1].overload = overload
    call = helper.make_node("Layer", ["X"], ["Y"], domain="own")
    call.overload = "wide"
    onnx.save(model(graph([call]), opset_imports=opsets, functions=functions), tmp_path / "model.onnx")
    assert only_stack(tmp_path / "model.onnx").layers[0].hidden_size == 7


def test_a_function_called_twice_is_two_levels(tmp_path):
    upper = {f"{name}1": array + 0.2 for name, array in weights("GRU", inputs=H).items()}
    calls = [
        helper.make_node("Layer", ["X", "W", "R", "B"], ["Y0"], domain="own", units=H),
        helper.make_node("Squeeze", ["Y0", "one"], ["X1"]),
        helper.make_node("Layer", ["X1", "W1", "R1", "B1"], ["Y"], domain="own", units=H),
    ]
    path = functional(tmp_path, calls, weights("GRU") | upper | {"one": np.array([1])})
    stack = only_stack(path)
    assert len(stack.levels) == 2
    assert_allclose(states(stack, sequence())[1], by_onnxruntime(path, {"X": sequence()})[0], atol=1e-6)


def test_one_layer_at_every_step_of_an_unrolled_loop(tmp_path):
    nodes = [operator(name=f"LSTM_{i}", outputs=[f"Y{i}"]) for i in range(50)]
    path = write(tmp_path / "model.onnx", graph(nodes, weights("LSTM"), outputs=["Y0"]))
    assert names(path) == ["LSTM_0.l0"]
    assert load(path).source.skipped == ()


def test_equal_weights_under_two_names_are_said_to_be(tmp_path):
    copies = {f"{name}1": array for name, array in weights("LSTM").items()}
    nodes = [operator(name="a"), operator(name="b", inputs=["X", "W1", "R1", "B1"], outputs=["Y1"])]
    path = write(tmp_path / "model.onnx", graph(nodes, weights("LSTM") | copies))
    (skipped,) = load(path).source.skipped
    assert (skipped.name, skipped.reason) == ("b", "recurrent, but its weights are those of a")


@pytest.mark.parametrize(
    ("domain", "kind"), [("mine", "DynamicQuantizeLSTM"), ("com.microsoft", "AttnLSTM"), ("mine", "GRU")]
)
def test_recurrent_operators_of_others_are_named(tmp_path, refusal, domain, kind):
    node = helper.make_node(kind, ["X", "W"], ["Y"], "/enc/rnn/LSTM_quant", domain=domain)
    path = tmp_path / "model.onnx"
    onnx.save(model(graph([node, node], weights("LSTM"))), path)
    message = refusal(path)
    assert f"saw enc.rnn (recurrent, but {domain}.{kind} is none of the operators RNN, GRU, LSTM and Dynamic" in message


def unrolled(steps, *gates):
    """An Elman net, or something like an LSTM, written out for some steps."""
    nodes, state = [], "h0"
    for i in range(steps):
        nodes.append(helper.make_node("MatMul", ["X", "U"], [f"u{i}"]))
        nodes.append(helper.make_node("Identity", ["V"], [f"V{i}"]))
        nodes.append(helper.make_node("MatMul", [state, f"V{i}"], [f"v{i}"], f"/net/cell_{i}/MatMul"))
        nodes.append(helper.make_node("Add", [f"u{i}", f"v{i}"], [f"a{i}"], f"/net/cell_{i}/Add"))
        parts = [f"{gate}{i}" for gate in gates]
        nodes.append(helper.make_node("Split", [f"a{i}"], parts, f"/net/cell_{i}/Split", axis=1))
        for gate, part in zip(gates, parts, strict=True):
            nodes.append(helper.make_node(gate.rstrip("0123"), [part], [f"{part}!"]))
        state = nodes[-1].output[0]
    return graph(nodes, {"U": np.ones((D, H * len(gates)), np.float32), "V": np.ones((H, H * len(gates)), np.float32)})


@pytest.mark.parametrize(
    ("steps", "gates", "sign"),
    [
        (2, ["Tanh"], "a matrix is applied again to what came of its own product"),
        (3, ["Relu"], "a matrix is applied again to what came of its own product"),
        (1, ["Sigmoid1", "Sigmoid2", "Tanh", "Sigmoid3"], "a sum is cut in three or more and goes through Sigmoid"),
        (4, ["Sigmoid1", "Sigmoid2", "Sigmoid3", "Tanh"], "a matrix is applied again to what came of its own product"),
    ],
)
def test_cells_written_out_are_known_by_their_form(tmp_path, refusal, steps, gates, sign):
    message = refusal(write(tmp_path / "model.onnx", unrolled(steps, *gates)))
    assert "saw net.cell (recurrent, but it seems to be written out as elementary operators" in message
    assert sign in message


@pytest.mark.parametrize(("steps", "gates"), [(1, ["Tanh"]), (3, ["Abs"]), (1, ["Sigmoid1", "Tanh"])])
def test_other_products_are_not_taken_for_cells(tmp_path, refusal, steps, gates):
    """Of which the last is a gated activation, as in a WaveNet."""
    assert "written out" not in refusal(write(tmp_path / "model.onnx", unrolled(steps, *gates)))


def test_a_model_without_anything_recurrent(tmp_path, refusal):
    path = write(tmp_path / "model.onnx", graph([helper.make_node("Relu", ["X"], ["Y"])]))
    assert refusal(path).endswith("expected an operator RNN, GRU or LSTM, saw Relu")
    path = write(tmp_path / "model.onnx", graph([]))
    assert refusal(path).endswith("saw no operators at all")
