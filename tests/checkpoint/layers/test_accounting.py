"""A module is measured only if every tensor in it belongs to the measured cell, or is plainly something else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import rnndiag
from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.layers.mapping import parse_map
from rnndiag.errors import CheckpointError

H, D = 6, 4


def cell(gates: int, prefix: str = "cell.") -> dict[str, torch.Tensor]:
    names = {"weight_ih": (gates * H, D), "weight_hh": (gates * H, H), "bias_ih": (gates * H,), "bias_hh": (gates * H,)}
    return {prefix + name: torch.randn(shape) / 2 for name, shape in names.items()}


STRANGE = {
    "a vector per gate": (4, {"cell.weight_xh": torch.ones(3, H)[:, :1].reshape(-1).repeat(H)}),
    "a third weight from units": (4, {"cell.weight_mm": torch.ones(H, H)}),
    "a second input weight": (4, {"cell.weight_zh": torch.ones(4 * H, 3)}),
    "a time constant": (1, {"cell.tau": torch.ones(1)}),
    "a vector per unit": (1, {"cell.decay": torch.ones(H)}),
    "a second bias of a GRU": (3, {"cell.extra_n": torch.ones(H)}),
    "a norm inside": (3, {"cell.my_norm.weight": torch.ones(3 * H), "cell.my_norm.bias": torch.ones(3 * H)}),
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_tensor_that_no_plain_cell_has_is_a_reason_to_refuse(case: str, save) -> None:
    gates, extra = STRANGE[case]
    other = {"head.weight": torch.ones(2, H)} | {f"fine.{k}_l0": v for k, v in cell(3, "").items()}
    model = load(save(cell(gates) | extra | other))
    assert [stack.name for stack in model.stacks] == ["fine"]
    (reason,) = (skipped.reason for skipped in model.source.skipped if skipped.name == "cell")
    for name in extra:
        assert name.removeprefix("cell.") in reason
    assert "--import" in reason
    assert "--map" in reason
    assert next(skipped.recurrent for skipped in model.source.skipped if skipped.name == "cell")


@pytest.mark.parametrize("case", STRANGE)
def test_a_map_measures_the_plain_cell_all_the_same(case: str, save) -> None:
    gates, extra = STRANGE[case]
    name = {1: "tanh", 3: "gru", 4: "lstm"}[gates]
    answers = Answers(maps=(parse_map(f"hh=cell.weight_hh,ih=cell.weight_ih,cell={name}"),))
    assert [stack.layers[0].cell for stack in load(save(cell(gates) | extra), answers).stacks] == [name]


FAMILIAR = {
    "a readout": {"cell.W_hq": torch.ones(H, 9), "cell.b_q": torch.ones(9)},
    "a readout of as many outputs": {"cell.W_hy": torch.ones(H, H), "cell.b_y": torch.ones(H)},
    "an initial state": {"cell.h0": torch.ones(1, 1, H), "cell.c_0": torch.ones(H)},
    "a counter": {"cell.calls": torch.ones(1, dtype=torch.int64), "cell.steps": torch.ones(1)},
    "a readout without a name": {"cell.last": torch.ones(9, H)},
    "a table of the data": {"cell.std": torch.ones(D), "cell.frequencies": torch.ones(101)},
    "a module inside": {"cell.lin.weight": torch.ones(H, H)},
}


@pytest.mark.parametrize("case", FAMILIAR)
def test_what_is_plainly_something_else_stays_out_of_the_way(case: str, save) -> None:
    model = load(save(cell(4) | FAMILIAR[case]))
    assert [stack.layers[0].cell for stack in model.stacks] == ["lstm"]


def test_other_names_count_the_tensors_with_the_same_stem(save) -> None:
    plain = {"enc_W_hh": torch.ones(H, H), "enc_W_xh": torch.ones(H, D), "dec_tau": torch.ones(H)}
    assert [stack.name for stack in load(save(plain)).stacks] == ["enc"]
    with pytest.raises(CheckpointError, match="enc_tau next to it is not a parameter of a plain RNN"):
        load(save(plain | {"enc_tau": torch.ones(H)}))


def test_a_learned_initial_state_is_not_used_and_that_is_said(save) -> None:
    notes = load(save(cell(1) | {"cell.h0": torch.ones(1, H)})).notes
    assert any("cell has an initial state of its own (h0), which is not used" in note for note in notes)


def test_pytorch_s_own_class_uses_only_its_own_parameters(tmp_path) -> None:
    rnn = nn.GRU(D, H)
    rnn.tau = nn.Parameter(torch.ones(H))
    torch.save(nn.Sequential(rnn), tmp_path / "net.pt")
    assert [stack.layers[0].cell for stack in load(tmp_path / "net.pt").stacks] == ["gru"]


def test_norms_with_the_names_of_the_weights_are_accounted_for(save) -> None:
    weights = {"cell.i2h.weight": torch.ones(4 * H, D), "cell.h2h.weight": torch.ones(4 * H, H)}
    assert [stack.layers[0].cell for stack in load(save(weights)).stacks] == ["lstm"]
    norms = {f"cell.ln_{name}.{what}": torch.ones(4 * H) for name in ("i2h", "h2h") for what in ("weight", "bias")}
    with pytest.raises(CheckpointError, match=r"ln_h2h\.weight, .* are not parameters of an LSTM"):
        load(save(weights | norms))


class Own(nn.GRUCell):
    """A class that is not PyTorch's."""


def test_a_class_of_one_s_own_is_an_assumption_until_it_is_confirmed(tmp_path) -> None:
    torch.save(nn.Sequential(Own(D, H)), tmp_path / "own.pt")
    report = rnndiag.inspect(tmp_path / "own.pt", length=20, batch=2)
    assert report.stacks[0].assumed_class.endswith("test_accounting.Own")
    (finding,) = (each for each in report.findings if each.rule == "ASM002")
    assert finding.severity == "warning"
    assert "was measured as a GRU" in finding.message
    for kind, rules in (("gru", set()), ("lstm", {"ASM002"})):
        confirmed = rnndiag.inspect(tmp_path / "own.pt", length=20, batch=2, assume=kind)
        assert {each.rule for each in confirmed.findings if each.rule == "ASM002"} == rules


@pytest.mark.parametrize(("gates", "cell_name"), [(3, "gru"), (4, "lstm")])
def test_a_cell_in_a_state_dict_is_an_assumption_too(gates: int, cell_name: str, save) -> None:
    path = save(cell(gates))
    (note,) = load(path).notes
    assert note.startswith(f"nn.{cell_name.upper()}Cell was assumed for cell")
    assert load(path, Answers(assume=cell_name)).notes == ()


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(rnndiag.RnndiagError, match="assume: expected a kind of cell"):
        rnndiag.inspect("any.pt", assume="ltsm")
