"""Spellings whose libraries are not installed here, against the published formulas, written out in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rnndiag
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.layers.mapping import parse_map
from rnndiag.checkpoint.load import load
from rnndiag.checkpoint.model import Model
from rnndiag.errors import CheckpointError, SettingsError
from rnndiag.trajectory import run_layer, run_stack

D, H, T, B = 3, 5, 6, 2


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + seed), dtype=torch.float64)


X = drawn(T, B, D)


def as_npz(path: Path, tensors: dict[str, Tensor], answers: Answers | None = None) -> Model:
    np.savez(path / "model.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    return load(path / "model.npz", answers or Answers())


def as_torch(path: Path, tensors: dict[str, Tensor], answers: Answers | None = None) -> Model:
    torch.save(tensors, path / "model.pt")
    return load(path / "model.pt", answers or Answers())


def only(model: Model) -> RecurrentLayer:
    (stack,) = model.stacks
    (layer,) = stack.layers
    return layer


def check(layer: RecurrentLayer, cell: str, step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], size: int) -> None:
    """Compare a layer's states with those of ``step``, which returns the next state and the part that is shown."""
    assert layer.cell == cell
    state, shown = torch.zeros(B, size, dtype=torch.float64), []
    for x in X:
        state, out = step(state, x)
        shown.append(out)
    torch.testing.assert_close(run_layer(layer, X).hidden, torch.stack(shown), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
    ("scope", "own"),
    [
        ("rnn/basic_lstm_cell", ("kernel", "bias")),
        ("rnn/multi_rnn_cell/cell_0/lstm_cell", ("kernel", "bias")),
        ("model/rnn/basic_lstm_cell_1", ("kernel:0", "bias:0")),
        ("decoder/lstm_fused_cell", ("kernel", "bias")),
        ("rnn/basic_lstm_cell", ("weights", "biases")),
    ],
)
def test_tensorflow_1_lstm(tmp_path: Path, scope: str, own: tuple[str, str]) -> None:
    kernel, bias = drawn(D + H, 4 * H), drawn(4 * H)
    model = as_npz(tmp_path, {f"{scope}/{own[0]}": kernel, f"{scope}/{own[1]}": bias, f"{scope}/{own[0]}/Adam": kernel})

    def step(state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        c, h = state.chunk(2, -1)
        i, j, f, o = (torch.cat((x, h), -1) @ kernel + bias).chunk(4, -1)
        c = c * (f + 1.0).sigmoid() + i.sigmoid() * j.tanh()
        h = c.tanh() * o.sigmoid()
        return torch.cat((c, h), -1), h

    check(only(model), "lstm", step, 2 * H)
    assert any("forget_bias=1.0, TensorFlow's default, was added" in note for note in model.notes)


@pytest.mark.parametrize("scope", ["rnn/gru_cell", "encoder/bidirectional_rnn/fw/gru_cell_2"])
def test_tensorflow_1_gru(tmp_path: Path, scope: str) -> None:
    gates, both, candidate, last = drawn(D + H, 2 * H), drawn(2 * H), drawn(D + H, H), drawn(H)
    held = {"gates/kernel": gates, "gates/bias": both, "candidate/kernel": candidate, "candidate/bias": last}
    model = as_npz(tmp_path, {f"{scope}/{name}": value for name, value in held.items()})

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        r, u = (torch.cat((x, h), -1) @ gates + both).sigmoid().chunk(2, -1)
        c = (torch.cat((x, r * h), -1) @ candidate + last).tanh()
        h = u * h + (1 - u) * c
        return h, h

    check(only(model), "gru", step, H)


def test_tensorflow_1_rnn(tmp_path: Path) -> None:
    kernel, bias = drawn(D + H, H), drawn(H)
    model = as_npz(tmp_path, {"rnn/basic_rnn_cell/kernel": kernel, "rnn/basic_rnn_cell/bias": bias})

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = (torch.cat((x, h), -1) @ kernel + bias).tanh()
        return h, h

    check(only(model), "tanh", step, H)


@pytest.mark.parametrize("extra", ["projection/kernel", "forget/gamma", "w_f_diagonal"])
def test_tensorflow_1_lstms_that_are_other_cells_are_refused(tmp_path: Path, extra: str) -> None:
    held = {"lstm_cell/kernel": drawn(D + H, 4 * H), "lstm_cell/bias": drawn(4 * H), f"lstm_cell/{extra}": drawn(H, H)}
    with pytest.raises(CheckpointError, match=rf"lstm_cell\.{extra.replace('/', '.')} may take part in lstm_cell"):
        as_npz(tmp_path, held)


@pytest.mark.parametrize("forget", [None, 1.0, -0.5])
@pytest.mark.parametrize("layout", ["columns", "rows"])
def test_a_joined_kernel_of_any_name_can_be_mapped(tmp_path: Path, forget: float | None, layout: str) -> None:
    kernel, bias = drawn(D + H, 4 * H), drawn(4 * H)
    held = {"core/big": kernel if layout == "columns" else kernel.T.contiguous(), "core/small": bias}
    text = "xh=core.big,bias=core.small,cell=lstm,order=igfo" + ("" if forget is None else f",forget={forget}")
    model = as_npz(tmp_path, held, Answers(maps=(parse_map(text),)))

    def step(state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        c, h = state.chunk(2, -1)
        i, g, f, o = (torch.cat((x, h), -1) @ kernel + bias).chunk(4, -1)
        c = (f + (forget or 0.0)).sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return torch.cat((c, h), -1), h

    check(only(model), "lstm", step, 2 * H)


def test_a_joined_matrix_of_a_plain_net_can_be_mapped(tmp_path: Path) -> None:
    joined = drawn(H, D + H) / 2
    text = "xh=net.*.big,cell=leaky_relu,alpha=0.3"
    model = as_npz(tmp_path, {"net.a.big": joined, "net.b.big": joined * 2}, Answers(maps=(parse_map(text),)))
    assert [stack.name for stack in model.stacks] == ["a", "b"]

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = 0.7 * h + 0.3 * (torch.cat((x, h), -1) @ joined.T).relu()
        return h, h

    state, shown = torch.zeros(B, H, dtype=torch.float64), []
    for x in X:
        state, out = step(state, x)
        shown.append(out)
    torch.testing.assert_close(run_layer(model.stacks[0].layers[0], X).hidden, torch.stack(shown))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("xh=a,ih=b,cell=lstm", "xh= stands for hh= and ih=: leave these out"),
        ("xh=a,cell=gru", "the candidate of a GRU sees another state than its gates"),
        ("xh=a", "xh: expected cell= next to it"),
        ("xh=a,cell=lstm,forget=much", "forget: expected a number, got 'much'"),
        ("xh=a,cell=lstm,forget=nan", "forget: expected a number, got 'nan'"),
        ("xh=a,cell=tanh,forget=1", "forget is added to the forget gate of an LSTM: expected cell=lstm"),
        ("hh=a,ih=b,bias_hh=c,cell=lstm,forget=1", "forget: add it to bias_hh, or leave bias_hh out"),
    ],
)
def test_a_mapping_of_a_joined_kernel_that_is_not_understood(text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_map(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("shape", [(4, 4), (8,), (4 * H, 4 * H), (7, 9)])
def test_a_joined_kernel_whose_shape_does_not_fit_is_one_clear_line(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match="expected "):
        as_npz(tmp_path, {"a": drawn(*shape)}, Answers(maps=(parse_map("xh=a,cell=lstm"),)))


@pytest.mark.parametrize("shape", [(D + H, 4 * H + 1), (H, 4 * H), (4 * H,), (2, 4 * H)])
def test_a_joined_kernel_that_does_not_fit_is_one_clear_line(tmp_path: Path, shape: tuple[int, ...]) -> None:
    held = {"rnn/lstm_cell/kernel": drawn(*shape), "rnn/lstm_cell/bias": drawn(4 * H)}
    with pytest.raises(CheckpointError, match=r"lstm_cell\.kernel: expected \[D\+H, 4H\], got"):
        as_npz(tmp_path, held)


@pytest.mark.parametrize("answer", [None, "tanh", "relu"])
def test_neurogyms_net(tmp_path: Path, answer: str | None) -> None:
    feed, back = nn.Linear(D, H).double(), nn.Linear(H, H).double()
    held = {f"rnn.input2h.{n}": p.data for n, p in feed.named_parameters()}
    held |= {f"rnn.h2h.{n}": p.data for n, p in back.named_parameters()} | {
        "fc.weight": drawn(2, H),
        "fc.bias": drawn(2),
    }
    model = as_torch(tmp_path, held, Answers(answer, alpha=0.2))
    phi = torch.tanh if answer == "tanh" else torch.relu

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            h = h * 0.8 + 0.2 * phi(feed(x) + back(h))
        return h, h

    check(only(model), f"leaky_{answer or 'relu'}", step, H)
    assert only(model).nonlinearity_assumed == (answer is None)
    assert any("its nonlinearity inside" in note for note in model.notes)
    assert any(note.startswith("relu was assumed for rnn") for note in model.notes) == (answer is None)
    with pytest.raises(CheckpointError, match="--alpha"):
        as_torch(tmp_path, held)


@pytest.mark.parametrize("name", ["alpha", "leak_rate", "lr"])
def test_a_leak_next_to_the_weights_is_used(tmp_path: Path, name: str) -> None:
    held = {
        "rnn.input2h.weight": drawn(H, D),
        "rnn.h2h.weight": drawn(H, H),
        f"rnn.{name}": torch.tensor(0.25).double(),
    }
    assert float(only(as_torch(tmp_path, held)).extra["alpha"]) == 0.25
    held["rnn.leakage"] = torch.tensor(0.4).double()
    with pytest.raises(CheckpointError, match="may both be its leak"):
        as_torch(tmp_path, held)


def test_the_nonlinearity_outside_can_be_stated(tmp_path: Path) -> None:
    held = {"rnn.input2h.weight": drawn(H, D), "rnn.h2h.weight": drawn(H, H) / 3}
    text = "hh=*.h2h.weight,ih=*.input2h.weight,cell=leaky_current_relu,alpha=0.2"
    layer = only(as_torch(tmp_path, held, Answers(maps=(parse_map(text),))))

    def step(v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        v = 0.8 * v + 0.2 * (v.relu() @ held["rnn.h2h.weight"].T + x @ held["rnn.input2h.weight"].T)
        return v, v

    check(layer, "leaky_current_relu", step, H)


def test_psychrnn(tmp_path: Path) -> None:
    dale = torch.diag(torch.tensor([1.0, 1, 1, -1, -1]).double())
    mask = (drawn(H, H, seed=1) > 0).double()
    effective, feed, bias = (drawn(H, H) * mask).abs() @ dale, drawn(H, D).abs(), drawn(H)
    held = {"W_rec": effective, "W_in": feed, "b_rec": bias, "W_out": drawn(2, H), "b_out": drawn(2), "Dale_rec": dale}
    held |= {"Dale_out": dale, "rec_connectivity": mask, "input_connectivity": torch.ones(H, D).double()}
    held |= {
        "output_connectivity": torch.ones(2, H).double(),
        "init_state": drawn(1, H),
        "dale_ratio": torch.tensor(0.6),
    }
    model = as_npz(tmp_path, held, Answers(alpha=0.1))

    def step(v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        v = 0.9 * v + 0.1 * (v.relu() @ effective.T + x @ feed.T + bias)
        return v, v

    check(only(model), "leaky_current_relu", step, H)
    assert model.source.skipped == ()


@pytest.mark.parametrize("readout", ["i2o", "h2o"])
@pytest.mark.parametrize("answer", [None, "tanh", "relu"])
def test_one_linear_layer_on_input_and_state(tmp_path: Path, readout: str, answer: str | None) -> None:
    joined = nn.Linear(D + H, H).double()
    out = nn.Linear(D + H if readout == "i2o" else H, 4).double()
    held = {f"i2h.{name}": p.data for name, p in joined.named_parameters()}
    held |= {f"{readout}.{name}": p.data for name, p in out.named_parameters()}
    model = as_torch(tmp_path, held, Answers(answer))
    cell = answer or ("linear" if readout == "i2o" else "tanh")
    phi = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda value: value}[cell]

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            h = phi(joined(torch.cat((x, h), -1)))
        return h, h

    check(only(model), cell, step, H)
    assert any("input, then state" in note for note in model.notes)
    assert model.source.skipped == ()


def test_two_linear_layers_are_not_taken_for_one(tmp_path: Path) -> None:
    held = {"i2h.weight": drawn(H, D), "h2h.weight": drawn(H, H), "h2o.weight": drawn(2, H)}
    assert only(as_torch(tmp_path, held)).input_size == D
    with pytest.raises(CheckpointError, match="no recurrent layer"):
        as_torch(tmp_path, {"i2h.weight": drawn(H, D + H), "i2h.bias": drawn(H)})


def test_a_linear_net_can_be_stated(tmp_path: Path) -> None:
    held = {"a": drawn(H, H), "b": drawn(H, D)}
    layer = only(as_torch(tmp_path, held, Answers(maps=(parse_map("hh=a,ih=b,cell=linear"),))))

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = h @ held["a"].T + x @ held["b"].T
        return h, h

    check(layer, "linear", step, H)


def test_the_linear_net_of_the_tutorial_gets_a_whole_report(tmp_path: Path) -> None:
    torch.save({"i2h.weight": drawn(H, D + H) / 4, "i2o.weight": drawn(4, D + H)}, tmp_path / "model.pt")
    report = rnndiag.inspect(tmp_path / "model.pt", length=30)
    (layer,) = report.layers
    assert layer.cell == "linear"
    assert layer.saturation.rate == 0
    weight = (drawn(H, D + H) / 4)[:, D:]
    expected = torch.linalg.eigvals(weight).abs().log().sort(descending=True).values
    assert layer.lyapunov.exponents == pytest.approx(expected.tolist(), abs=0.05)
    assert layer.jacobian.norm_max == pytest.approx(float(torch.linalg.matrix_norm(weight, 2)))


@pytest.mark.parametrize("place", ["wrapper", "module"])
@pytest.mark.parametrize("stale", [True, False])
def test_the_raw_weight_of_a_weight_dropped_lstm_counts(tmp_path: Path, place: str, stale: bool) -> None:
    lstm = nn.LSTM(D, H).double()
    held = {f"rnns.0.module.{name}": p.data.clone() for name, p in lstm.named_parameters()}
    raw = held.pop("rnns.0.module.weight_hh_l0")
    held[f"rnns.0.{'module.' * (place == 'module')}weight_hh_l0_raw"] = raw
    if stale:
        held["rnns.0.module.weight_hh_l0"] = nn.functional.dropout(raw, 0.5)
    model = as_torch(tmp_path, held)
    torch.testing.assert_close(run_layer(only(model), X).hidden, lstm(X)[0].detach(), rtol=1e-10, atol=1e-11)
    assert any("with _raw" in note for note in model.notes) == stale
    assert model.source.skipped == ()


def test_a_weight_dropped_lstm_is_written_into_its_raw_weight(tmp_path: Path) -> None:
    lstm = nn.LSTM(D, H)
    held = {f"module.{name}": p.data.clone() for name, p in lstm.named_parameters()}
    held["weight_hh_l0_raw"] = held["module.weight_hh_l0"].clone()
    held["module.weight_hh_l0"] = nn.functional.dropout(held["weight_hh_l0_raw"], 0.5)
    torch.save(held, tmp_path / "model.pt")
    rnndiag.prescribe(tmp_path / "model.pt", take="init-orthogonal", save=tmp_path / "new.pt", length=20)
    new = torch.load(tmp_path / "new.pt", weights_only=True)
    assert torch.equal(new["module.weight_hh_l0"], held["module.weight_hh_l0"])
    assert not torch.equal(new["weight_hh_l0_raw"], held["weight_hh_l0_raw"])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_scaled_lstm_is_multiplied_by_exp_of_its_scales(tmp_path: Path, bidirectional: bool) -> None:
    lstm = nn.LSTM(D, H, 2, bidirectional=bidirectional).double()
    held = {f"decoder.rnn.{name}": p.data.clone() for name, p in lstm.named_parameters()}
    scales = {f"{name}_scale": drawn(1, seed=len(name)).reshape(()) / 2 for name in held}
    with torch.no_grad():
        for name, parameter in lstm.named_parameters():
            parameter *= scales[f"decoder.rnn.{name}_scale"].exp()
    model = as_torch(tmp_path, held | scales)
    (stack,) = model.stacks
    runs = run_stack(stack, X)[-1]
    hidden = torch.cat([run.hidden.flip(0) if run.layer.direction == "reverse" else run.hidden for run in runs], -1)
    torch.testing.assert_close(hidden, lstm(X)[0].detach(), rtol=1e-10, atol=1e-11)
    assert any("exp of their scales" in note for note in model.notes)


def test_a_scale_of_many_numbers_is_not_understood(tmp_path: Path) -> None:
    held = {f"rnn.{name}": p.data for name, p in nn.LSTM(D, H).named_parameters()}
    held["rnn.weight_hh_l0_scale"] = drawn(H)
    with pytest.raises(CheckpointError, match="weight_hh_l0: its scale is not one number"):
        as_torch(tmp_path, held)


def test_pyrcn(tmp_path: Path) -> None:
    weight = drawn(D, D)
    held = {"cell.weight_ih": torch.eye(D).double(), "cell.weight_hh": weight}
    with pytest.raises(CheckpointError, match="--alpha"):
        as_torch(tmp_path, held)
    model = as_torch(tmp_path, held, Answers(alpha=0.3))

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = 0.7 * h + 0.3 * (x + h @ weight.T).tanh()
        return h, h

    check(only(model), "leaky_tanh", step, D)
    assert only(as_torch(tmp_path, held | {"cell.weight_ih": drawn(D, D, seed=1)})).cell == "tanh"


def test_a_reservoir_with_feedback_is_refused(tmp_path: Path) -> None:
    held = {"W": drawn(H, H), "Win": drawn(H, D), "Wfb": drawn(H, 1), "lr": torch.tensor(0.3).double()}
    with pytest.raises(CheckpointError, match="Wfb feeds the readout back into the reservoir"):
        as_npz(tmp_path, held)


def test_a_reservoir_of_sparse_matrices_is_refused_with_the_way_out(tmp_path: Path) -> None:
    held = {f"W.{part}": torch.zeros(6, dtype=torch.int32) for part in ("indices", "indptr")} | {"W.data": drawn(6)}
    with pytest.raises(CheckpointError, match=r"its W is stored as a sparse matrix: save W\.toarray\(\)"):
        as_torch(tmp_path, held | {name.replace("W", "Win"): value for name, value in held.items()})


def test_flaxs_mgu_is_refused_by_name(tmp_path: Path) -> None:
    held = {f"MGUCell_0/{name}/kernel": drawn(D if name[0] == "i" else H, H) for name in ("if", "in", "hf", "hn")}
    with pytest.raises(CheckpointError, match="it is Flax's MGUCell, a cell that rnndiag does not model"):
        as_npz(tmp_path, held)
