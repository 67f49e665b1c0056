"""Files of cells with norms and peepholes, in the names of the libraries that have them, against the cells' own runs.

pytest -m index tests/checkpoint/layers/test_norm_spellings.py   # against the libraries themselves
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import rnndiag
from rnndiag.checkpoint import load
from rnndiag.checkpoint.contents import Container, Contents, KeyPath, Leaf, in_memory
from rnndiag.checkpoint.layers.find import find
from rnndiag.errors import CheckpointError
from rnndiag.trajectory import run_stack
from tests.builders.layernorm_cells import ForJit, PerGate
from tests.builders.live_cells import ListState
from tests.builders.outcomes import own_run

D, H = 3, 5
State = dict[str, Tensor]
Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def inputs(width: int = D) -> Tensor:
    return torch.randn(7, 2, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def numbers(*shape: int, seed: int = 0, around: float = 0.0) -> Tensor:
    stream = torch.Generator().manual_seed(100 * seed + sum(shape))
    return around + 0.6 * torch.randn(*shape, dtype=torch.float64, generator=stream)


def normed(state: State, name: str, size: int, seed: int) -> None:
    state[f"{name}.weight"] = numbers(size, seed=seed, around=1.0)
    state[f"{name}.bias"] = numbers(size, seed=seed + 1)


def ln(u: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    return functional.layer_norm(u, u.shape[-1:], gamma, beta, eps)


def states(step: Step, width: int = D, units: int = H, parts: int = 2) -> Tensor:
    state: tuple[Tensor, ...] = (torch.zeros(2, units, dtype=torch.float64),) * parts
    out = []
    for x in inputs(width):
        state = step(x, state)
        out.append(state[0])
    return torch.stack(out)


def of_file(state: State, folder: Path, prefix: str = "net.") -> Tensor:
    torch.save({prefix + name: value for name, value in state.items()}, folder / "net.pt")
    model = load(folder / "net.pt")
    (stack,) = model.stacks
    assert not [each for each in model.source.skipped if each.recurrent]
    return run_stack(stack.to(torch.float64), inputs(stack.input_size))[-1][0].hidden


def lstm(i: Tensor, f: Tensor, g: Tensor, o: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """``c`` and the output gate."""
    return f.sigmoid() * c + i.sigmoid() * g.tanh(), o.sigmoid()


def subclass() -> tuple[State, Tensor]:
    """PyTorch's issue 11335."""
    w = {"weight_ih": numbers(4 * H, D), "weight_hh": numbers(4 * H, H, seed=1)}
    w |= {"bias_ih": numbers(4 * H, seed=2), "bias_hh": numbers(4 * H, seed=3)}
    for k, (name, size) in enumerate((("ln_ih", 4 * H), ("ln_hh", 4 * H), ("ln_ho", H))):
        normed(w, name, size, 10 + 2 * k)

    def step(x: Tensor, s: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        gates = ln(functional.linear(x, w["weight_ih"], w["bias_ih"]), w["ln_ih.weight"], w["ln_ih.bias"])
        gates = gates + ln(functional.linear(s[0], w["weight_hh"], w["bias_hh"]), w["ln_hh.weight"], w["ln_hh.bias"])
        i, f, o, g = gates.chunk(4, -1)
        c, out = lstm(i, f, g, o, s[1])
        return out * ln(c, w["ln_ho.weight"], w["ln_ho.bias"]).tanh(), c

    return w, states(step)


def haste_lstm() -> tuple[State, Tensor]:
    w = {"kernel": numbers(D, 4 * H), "recurrent_kernel": numbers(H, 4 * H, seed=1), "bias": numbers(4 * H, seed=2)}
    w |= {"gamma": numbers(2, 4 * H, around=1.0), "gamma_h": numbers(H, around=1.0), "beta_h": numbers(H, seed=4)}

    def step(x: Tensor, s: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        v = ln(x @ w["kernel"], w["gamma"][0]) + ln(s[0] @ w["recurrent_kernel"], w["gamma"][1]) + w["bias"]
        i, g, f, o = v.chunk(4, -1)
        c, out = lstm(i, f, g, o, s[1])
        return out * ln(c, w["gamma_h"], w["beta_h"]).tanh(), c

    return w, states(step)


def haste_gru() -> tuple[State, Tensor]:
    w = {"kernel": numbers(D, 3 * H), "recurrent_kernel": numbers(H, 3 * H, seed=1), "bias": numbers(3 * H, seed=2)}
    w |= {"recurrent_bias": numbers(3 * H, seed=3), "gamma": numbers(2, 3 * H, around=1.0)}

    def step(x: Tensor, s: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        a = ln(x @ w["kernel"], w["gamma"][0]) + w["bias"]
        b = ln(s[0] @ w["recurrent_kernel"], w["gamma"][1]) + w["recurrent_bias"]
        (xz, xr, xg), (hz, hr, hg) = a.chunk(3, -1), b.chunk(3, -1)
        z, r = (xz + hz).sigmoid(), (xr + hr).sigmoid()
        return (z * s[0] + (1 - z) * (xg + r * hg).tanh(),)

    return w, states(step, parts=1)


def dreamer(*, state_first: bool = False, bias: bool = False) -> tuple[State, Tensor]:
    names = ("rnn.linear", "rnn.layer_norm") if state_first else ("_cell.layers.GRU_linear", "_cell.layers.GRU_norm")
    w = {f"{names[0]}.weight": numbers(3 * H, D + H)}
    if bias:
        w[f"{names[0]}.bias"] = numbers(3 * H)
    normed(w, names[1], 3 * H, 5)

    def step(x: Tensor, s: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        joined = torch.cat((s[0], x) if state_first else (x, s[0]), -1)
        parts = functional.linear(joined, w[f"{names[0]}.weight"], w.get(f"{names[0]}.bias"))
        reset, cand, update = ln(parts, w[f"{names[1]}.weight"], w[f"{names[1]}.bias"], 1e-3).chunk(3, -1)
        cand, update = (reset.sigmoid() * cand).tanh(), (update - 1).sigmoid()
        return (update * cand + (1 - update) * s[0],)

    return w, states(step, parts=1)


def torchrecurrent_peephole() -> tuple[State, Tensor]:
    w = {"weight_ih": numbers(4 * H, D), "weight_hh": numbers(4 * H, H, seed=1), "weight_ph": numbers(3 * H)}
    w |= {"bias_ih": numbers(4 * H, seed=2), "bias_hh": numbers(4 * H, seed=3)}

    def step(x: Tensor, s: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        a = functional.linear(x, w["weight_ih"], w["bias_ih"]) + functional.linear(s[0], w["weight_hh"], w["bias_hh"])
        (i, f, g, o), (p_i, p_f, p_o) = a.chunk(4, -1), w["weight_ph"].chunk(3)
        c = (f + p_f * s[1]).sigmoid() * s[1] + (i + p_i * s[1]).sigmoid() * g.tanh()
        return (o + p_o * c).sigmoid() * c.tanh(), c

    return w, states(step)


def tensorflow_peephole() -> tuple[State, Tensor]:
    """The formula of ``tf.nn.rnn_cell.LSTMCell(use_peepholes=True)``."""
    w = {"kernel": numbers(D + H, 4 * H), "bias": numbers(4 * H)}
    w |= {f"w_{gate}_diag": numbers(H, seed=k) for k, gate in enumerate("ifo")}

    def step(x: Tensor, s: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        i, j, f, o = (torch.cat((x, s[0]), -1) @ w["kernel"] + w["bias"]).chunk(4, -1)
        kept = (f + 1 + w["w_f_diag"] * s[1]).sigmoid() * s[1]
        c = kept + (i + w["w_i_diag"] * s[1]).sigmoid() * j.tanh()
        return (o + w["w_o_diag"] * c).sigmoid() * c.tanh(), c

    return {f"rnn.lstm_cell.{name}": value for name, value in w.items()}, states(step)


def gate_tensors(*, columns: bool) -> tuple[State, Tensor]:
    w: State = {}
    for k, gate in enumerate("ifco"):
        w[f"W_x{gate}"], w[f"W_h{gate}"] = numbers(D, H, seed=k), numbers(H, H, seed=k + 5)
        w[f"b_{gate}"] = numbers(H, seed=k + 10)
        if gate != "c":
            w[f"W_c{gate}"] = numbers(H, seed=k + 15)

    def step(x: Tensor, s: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        a = {gate: x @ w[f"W_x{gate}"] + s[0] @ w[f"W_h{gate}"] + w[f"b_{gate}"] for gate in "ifco"}
        i, f = (a["i"] + w["W_ci"] * s[1]).sigmoid(), (a["f"] + w["W_cf"] * s[1]).sigmoid()
        c = f * s[1] + i * a["c"].tanh()
        return (a["o"] + w["W_co"] * c).sigmoid() * c.tanh(), c

    expected = states(step)
    if not columns:
        w |= {name: value.T.contiguous() for name, value in w.items() if name[:3] in ("W_x", "W_h")}
    return w, expected


def batch_norm() -> tuple[State, Tensor]:
    w = {"weight_ih": numbers(4 * H, D), "weight_hh": numbers(4 * H, H, seed=1), "bias": numbers(4 * H, seed=2)}
    norms = {}
    for k, (name, size) in enumerate((("ih", 4 * H), ("hh", 4 * H), ("c", H))):
        norms[name] = nn.BatchNorm1d(size).double().eval()
        for j, value in enumerate((norms[name].running_mean, norms[name].weight, norms[name].bias)):
            value.data.copy_(numbers(size, seed=10 * k + j))
        norms[name].running_var.data.copy_(numbers(size, seed=10 * k + 5).square() + 0.1)
        w |= {f"bn_{name}.{key}": value for key, value in norms[name].state_dict().items()}

    def step(x: Tensor, s: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        a = norms["ih"](x @ w["weight_ih"].T) + norms["hh"](s[0] @ w["weight_hh"].T) + w["bias"]
        i, f, g, o = a.chunk(4, -1)
        c, out = lstm(i, f, g, o, s[1])
        return out * norms["c"](c).tanh(), c

    with torch.no_grad():
        return w, states(step)


def icefall_with_projection() -> tuple[State, Tensor]:
    width = 2
    w = {"weight_ih": numbers(4 * H, D), "weight_hh": numbers(4 * H, width, seed=1), "weight_hr": numbers(width, H)}
    w |= {"bias_ih": numbers(4 * H, seed=2), "bias_hh": numbers(4 * H, seed=3)}
    norms = [f"layernorm_{gate}" for gate in ("i", "f", "cx", "o", "cy")]
    for k, name in enumerate(norms):
        normed(w, name, H, 20 + 2 * k)

    def step(x: Tensor, s: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        a = functional.linear(x, w["weight_ih"], w["bias_ih"]) + functional.linear(s[0], w["weight_hh"], w["bias_hh"])
        named = zip(norms, a.chunk(4, -1), strict=False)
        i, f, g, o = (ln(u, w[f"{name}.weight"], w[f"{name}.bias"]) for name, u in named)
        c, out = lstm(i, f, g, o, s[1])
        c = ln(c, w["layernorm_cy.weight"], w["layernorm_cy.bias"])
        return (out * c.tanh()) @ w["weight_hr"].T, c

    zero = torch.zeros(2, width, dtype=torch.float64), torch.zeros(2, H, dtype=torch.float64)
    state, out = zero, []
    for x in inputs():
        state = step(x, state)
        out.append(state[0])
    return w, torch.stack(out)


FILES = {
    "issue 11335": subclass,
    "haste lstm": haste_lstm,
    "haste gru": haste_gru,
    "dreamer": dreamer,
    "dreamer with a bias": lambda: dreamer(bias=True),
    "sheeprl": lambda: dreamer(state_first=True),
    "tensorflow peephole": tensorflow_peephole,
    "torchrecurrent peephole": torchrecurrent_peephole,
    "a tensor per gate, x W": lambda: gate_tensors(columns=True),
    "a tensor per gate, W x": lambda: gate_tensors(columns=False),
    "batch norm": batch_norm,
    "icefall with a projection": icefall_with_projection,
}


@pytest.mark.parametrize("name", FILES)
def test_states_of_a_file_are_the_formulas(name: str, tmp_path: Path) -> None:
    state, expected = FILES[name]()
    torch.testing.assert_close(of_file(state, tmp_path), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("cls", "called"), [(ForJit, "output pair"), (PerGate, "pair"), (ListState, "list")], ids=lambda each: str(each)
)
@pytest.mark.parametrize("form", ["state_dict", "module"])
def test_states_of_a_file_are_the_cells_own(cls: type[nn.Module], called: str, form: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    cell, x = cls().double(), inputs()
    net = nn.ModuleDict({"decoder": cell})
    torch.save(net if form == "module" else net.state_dict(), tmp_path / "net.pt")
    (stack,) = load(tmp_path / "net.pt").stacks
    assert stack.layers[0].cell.startswith("layernorm_")
    found = run_stack(stack.to(torch.float64), x)[-1][0].hidden
    torch.testing.assert_close(found, own_run(cell, called, x), rtol=1e-10, atol=1e-10)


def test_the_reported_layernorm_lstm(tmp_path: Path) -> None:
    """The case of the issue: it was measured as an LSTM, vanishing with a log10 gain of -14.3."""
    hidden, width, length, batch = 32, 8, 64, 8
    stream = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return ((torch.rand(*shape, generator=stream) * 2 - 1) / hidden**0.5).double()

    of_input, of_state = drawn(4 * hidden, width), drawn(4 * hidden, hidden)
    state = {"layers.0.cell.weight_ih": of_input, "layers.0.cell.weight_hh": of_state}
    for name, size in (("i", 4 * hidden), ("h", 4 * hidden), ("c", hidden)):
        state[f"layers.0.cell.layernorm_{name}.weight"] = torch.ones(size).double()
        state[f"layers.0.cell.layernorm_{name}.bias"] = torch.zeros(size).double()
    torch.save(state, tmp_path / "ln.pt")
    x = torch.randn(batch, length, width, generator=stream).double()
    report = rnndiag.inspect(tmp_path / "ln.pt", probe=x.numpy())
    (layer,) = report.layers
    assert (layer.name, layer.cell) == ("layers.0.cell", "layernorm_lstm")
    assert layer.gradient is not None
    assert layer.gradient.log10_gain == pytest.approx(2.51, abs=0.01)
    assert report.verdict == "inconclusive"
    assert any("LayerNorm LSTM" in note for note in report.notes)


MISFITS = {
    "a norm over one gate": (ForJit, "layernorm_h.weight", H, "layernorm_h.weight: expected 20 numbers for its norm"),
    "a norm of the cell state over all gates": (ForJit, "layernorm_c.bias", 20, "layernorm_c.bias: expected 5 numbers"),
    "a gate's norm over all gates": (PerGate, "layernorm_f.weight", 20, "layernorm_f.weight: expected 5 numbers"),
    "Dreamer's norm over one gate": (ListState, "layers.GRU_norm.weight", H, "GRU_norm.weight: expected 15 numbers"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_norm_that_fits_nothing_is_one_line(name: str, tmp_path: Path) -> None:
    cls, tensor, size, words = MISFITS[name]
    torch.save({f"net.{k}": v for k, v in (cls().state_dict() | {tensor: torch.ones(size)}).items()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "a.pt")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "changed", "words"),
    [
        (
            torchrecurrent_peephole,
            {"weight_ph": torch.ones(4 * H)},
            "weight_ph: expected [15], peepholes of i, f and o",
        ),
        (torchrecurrent_peephole, {"weight_ph": torch.ones(H, H)}, "weight_ph: expected [15]"),
        (lambda: gate_tensors(columns=True), {"W_ci": torch.ones(H, H)}, "W_ci: expected a peephole of 5 numbers"),
        (lambda: gate_tensors(columns=True), {"W_co": None}, "wco is missing next to W_ci"),
        (tensorflow_peephole, {"rnn.lstm_cell.w_i_diag": torch.ones(H, H)}, "w_i_diag: expected [5], one peephole per"),
        (
            batch_norm,
            {"bn_hh.running_mean_0": torch.ones(4 * H)},
            "statistics of its own for each step (running_mean_0",
        ),
        (batch_norm, {"weight_hh": torch.ones(H, 4 * H)}, "differ in the order of their gates"),
        (batch_norm, {"bn_c.running_var": None}, "bn_c.running_var is missing"),
        (batch_norm, {"bn_ih.running_var": torch.ones(3)}, "bn_ih.running_var: expected 20 numbers, got shape [3]"),
        (batch_norm, {"bias": torch.ones(3)}, "bias: expected 20 numbers, got shape [3]"),
        (haste_lstm, {"gamma": torch.ones(4 * H)}, "gamma: expected [2, 20], got shape [20]"),
        (haste_gru, {"recurrent_kernel": torch.ones(H, H)}, "recurrent_kernel: expected [H, 3*H], got shape [5, 5]"),
        (dreamer, {"_cell.layers.GRU_norm.weight": None}, "has no layers.GRU_norm next to it"),
        (dreamer, {"_cell.layers.GRU_linear.weight": torch.ones(16, 8)}, "expected [3*H, D+H], got shape [16, 8]"),
        (icefall_with_projection, {"weight_hr": torch.ones(3, H)}, "of an LSTM with a projection: expected [4*H, P]"),
        (icefall_with_projection, {"layernorm_cx.bias": None}, "layernorm_cx.bias is missing next to layernorm_i.bias"),
    ],
)
def test_other_tensors_that_do_not_fit_are_one_line(
    make: Callable[[], tuple[State, Tensor]], changed: dict[str, Tensor | None], words: str, tmp_path: Path
) -> None:
    state: dict[str, Tensor | None] = make()[0] | changed  # type: ignore[assignment]
    torch.save({f"net.{name}": value for name, value in state.items() if value is not None}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "a.pt")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gru_whose_candidate_is_normalized_after_the_reset_gate_is_refused(tmp_path: Path) -> None:
    state = nn.GRUCell(D, H).state_dict()
    for gate in "rin":
        normed(state, f"layernorm_{gate}", H, 3)
    torch.save({f"net.{name}": value for name, value in state.items()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"normalized after the reset gate \(layernorm_n\).*--import"):
        load(tmp_path / "a.pt")


NAMES = sorted({name for make in FILES.values() for name in make()[0]} | {
    *ForJit().state_dict(), *PerGate().state_dict(), *ListState().state_dict(), "layernorm_n.weight",
    "layernorm_r.weight", "bn_hh.running_mean_0", "ln_h2h.weight", "recurrent_bias", "weight_ci",
})  # fmt: skip
VECTORS = [(), (0,), (1,), (H,), (3 * H,), (4 * H,), (2, 3 * H), (2, 4 * H)]
MATRICES = [
    (4 * H, H),
    (4 * H, D),
    (H, 4 * H),
    (3 * H, H),
    (H, H),
    (3 * H, D + H),
    (D, 4 * H),
    (0, 0),
    (4, 0),
    (2, 2, 2),
]
SHAPES = st.sampled_from([*VECTORS, *MATRICES])


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from(NAMES), SHAPES, min_size=1, max_size=12), st.booleans())
def test_any_names_with_any_shapes_are_layers_or_one_line(named: dict[str, tuple[int, ...]], whole: bool) -> None:
    tensors: dict[str, Leaf] = {f"net.{name}": in_memory(torch.zeros(shape)) for name, shape in named.items()}
    if whole:  # a spelling that fits but for some tensors
        tensors = {f"net.{name}": in_memory(value) for name, value in FILES["haste gru"]()[0].items()} | tensors
    found = find(Contents(10**6, (Container(KeyPath(), tensors, {}),)))
    for stack in found.stacks:
        for layer in stack.layers:
            assert layer.weight_hh.shape == (len(layer.gates) * layer.hidden_size, layer.output_size)
    assert all("\n" not in each.reason for each in found.skipped)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Fetch a package's wheel without its dependencies, and give the folder that it is unpacked to."""

    def fetch(name: str, version: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), f"{name}=={version}"]
        subprocess.run(command, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(folder)
        return folder

    return fetch


def taken_out(path: Path, names: list[str]) -> dict[str, object]:
    """Some classes of a source file, without the imports of its package."""
    import ast

    tree = ast.parse(path.read_text())
    body = [each for each in tree.body if getattr(each, "name", None) in names]
    scope: dict[str, object] = {"torch": torch, "nn": nn, "Tensor": Tensor, "math": importlib.import_module("math")}
    scope |= {name: getattr(importlib.import_module("typing"), name) for name in ("Any", "Dict", "List", "Optional")}
    scope |= {name: getattr(importlib.import_module("typing"), name) for name in ("Tuple", "Union", "Callable")}
    exec(compile(ast.Module(body, []), str(path), "exec"), scope)
    return scope


@pytest.mark.index
def test_sheeprls_own_cell(package: Callable[[str, str], Path], tmp_path: Path) -> None:
    source = package("sheeprl", "0.8.4") / "sheeprl/models/models.py"
    cell = taken_out(source, ["LayerNormGRUCell"])["LayerNormGRUCell"]
    torch.manual_seed(0)
    net = cell(D, H, bias=False, layer_norm_cls=nn.LayerNorm, layer_norm_kw={"eps": 1e-3}).double()  # type: ignore[operator]
    nn.init.normal_(net.layer_norm.weight, 1.0)
    nn.init.normal_(net.layer_norm.bias)
    with torch.no_grad():
        expected = states(lambda x, s: (net(x, s[0]),), parts=1)
    found = of_file({f"rnn.{name}": value for name, value in net.state_dict().items()}, tmp_path)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.index
def test_torchrecurrents_own_peephole_lstm(
    package: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package("torchrecurrent", "0.2.5"))
    cell = importlib.import_module("torchrecurrent").PeepholeLSTMCell(D, H).double()
    for parameter in cell.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        expected = states(cell)
    torch.testing.assert_close(of_file(cell.state_dict(), tmp_path), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.index
def test_nemos_own_lstm(package: Callable[[str, str], Path], tmp_path: Path) -> None:
    source = package("nemo_toolkit", "2.4.0") / "nemo/collections/common/parts/rnn.py"
    names = ["LSTMLayer", "LayerNormLSTMCell", "init_stacked_lstm", "StackedLSTM"]
    scope = taken_out(source, names)
    net = scope["StackedLSTM"](  # type: ignore[operator]
        1, scope["LSTMLayer"], [scope["LayerNormLSTMCell"], D, H, 1.0], [scope["LayerNormLSTMCell"], H, H, 1.0]
    ).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        expected = net(inputs(), None)[0]
    torch.testing.assert_close(of_file(net.state_dict(), tmp_path), expected, rtol=1e-10, atol=1e-10)
