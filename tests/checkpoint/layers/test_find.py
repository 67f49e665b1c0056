"""What makes tensors a recurrent module, which table it reads, and where tanh or relu comes from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rnndiag.checkpoint.contents import Container, Contents, KeyPath, StoredTensor, in_memory
from rnndiag.checkpoint.layers.embedding import MAX_CANDIDATES
from rnndiag.checkpoint.layers.find import find

GOOD = {"ok.weight_ih": torch.zeros(3, 2), "ok.weight_hh": torch.zeros(3, 3)}
"""Something to measure beside what is passed over."""


def rnn(module=None, **changes):
    """The state_dict of a module under ``rnn.``, with parameters replaced, or left out where None."""
    state = dict((module or nn.RNN(2, 3)).state_dict()) | changes
    return {f"rnn.{name}": value for name, value in state.items() if value is not None}


def reasons(model):
    return {skipped.name: skipped.reason for skipped in model.source.skipped}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (rnn(weight_hh_l0=torch.zeros(6, 3)), "weight_hh_l0: expected 1, 3 or 4 times 3 rows, got [6, 3]"),
        (rnn(weight_hh_l0=torch.zeros(4, 3)), "weight_hh_l0: expected 1, 3 or 4 times 3 rows, got [4, 3]"),
        (rnn(weight_hh_l0=torch.zeros(3)), "weight_hh_l0: expected a matrix, got shape [3]"),
        (rnn(weight_hh_l0=torch.zeros(0, 0)), "weight_hh_l0 [0, 0]: it has no hidden units"),
        (rnn(weight_ih_l0=torch.zeros(9, 2)), "weight_ih_l0: expected [3, 2], got [9, 2]"),
        (rnn(bias_ih_l0=torch.zeros(4)), "bias_ih_l0: expected [3], got [4]"),
        (rnn(bias_hh_l0=None), "bias_hh_l0 is missing beside bias_ih, weight_hh, weight_ih"),
        (rnn(bias_ih_l0=None), "bias_ih_l0 is missing beside bias_hh, weight_hh, weight_ih"),
        (rnn(weight_hh_l0=None), "weight_hh_l0 is missing beside bias_hh, bias_ih, weight_ih; if it is parametrised"),
        (rnn(weight_ih_l0=None), "weight_ih_l0 is missing beside bias_hh, bias_ih, weight_hh"),
        (rnn(nn.RNN(2, 3, 2), weight_ih_l1=torch.zeros(3, 2)), "weight_ih_l1: expected [3, 3], got [3, 2]"),
        (rnn(nn.RNN(2, 3, 2), weight_hh_l1=torch.zeros(3, 4)), "weight_hh_l1: expected [3, 3], got [3, 4]"),
        (rnn(nn.GRU(2, 3, bidirectional=True), weight_ih_l0_reverse=torch.zeros(9, 5)), "expected [9, 2], got [9, 5]"),
        (rnn(weight_hr_l0=torch.zeros(3, 3)), "weight_hh_l0: expected 4 times 3 rows, got [3, 3]"),
        (rnn(nn.LSTM(2, 3, 2, proj_size=1), weight_hr_l1=None), "weight_hr_l1 is missing"),
        (rnn(nn.LSTM(2, 3, proj_size=1), weight_hh_l0=torch.zeros(12, 2)), "weight_hh_l0: expected [12, 1], got"),
        (rnn(weight_hh=torch.zeros(3, 3)), "parameters of a cell (weight_hh) and of a layered module"),
        (rnn(weight_hh_l0=torch.zeros(3, 3, dtype=torch.int8)), "weight_hh_l0: expected float16, bfloat16"),
        (rnn(weight_hh_l0=torch.zeros(3, 3, dtype=torch.complex64)), "got torch.complex64"),
        (rnn(weight_hh_l0=torch.zeros(3, 3).to_sparse()), "weight_hh_l0: it takes torch._utils._rebuild_sparse_tensor"),
        (rnn(weight_hh_l0=torch.zeros(3, 3, device="meta")), "weight_hh_l0: it takes torch._utils._rebuild_meta"),
        (rnn(weight_hh_l0=torch.zeros(3, 3).to(torch.float8_e5m2)), "weight_hh_l0: it takes torch._utils._rebuild_ten"),
        (rnn(weight_hh_l0=torch.zeros(1).expand(3, 3)), "weight_hh_l0: shape [3, 3] needs 9 numbers, the file holds 1"),
        (
            {k.replace("l1", "l2"): v for k, v in rnn(nn.RNN(2, 3, 2)).items()},
            "expected levels from l0 without gaps, got l0, l2",
        ),
        (
            {k: v for k, v in rnn(nn.RNN(2, 3, 2, bidirectional=True)).items() if "l1_reverse" not in k},
            "weight_ih_l1_reverse is missing",
        ),
        (
            {k: v for k, v in rnn(nn.RNN(2, 3, bidirectional=True)).items() if "reverse" in k},
            "weight_hh_l0 is missing",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_passed_over_with_the_reason(reload, state, reason):
    model = reload(state | GOOD)
    assert [stack.name for stack in model.stacks] == ["ok"]
    assert reasons(model)["rnn"].startswith("recurrent, but ")
    assert reason in reasons(model)["rnn"]


def test_overlapping_weights_are_not_copied_without_end(reload):
    """A megabyte read through many views must not become a gigabyte."""
    pool = torch.zeros(110_000)
    state = {}
    for i in range(50):
        state |= {f"m{i}.weight_ih": torch.zeros(300, 1), f"m{i}.weight_hh": pool[i : i + 90_000].view(300, 300)}
    model = reload(state)
    assert len(model.stacks) == 2
    assert reasons(model)["m2"] == "recurrent, but its tensors overlap those of other modules"


def test_tables_and_weights_shared_by_many_nets_are_paid_for_once(reload):
    """Tied weights may add up to more than the file without overlapping."""
    table, recurrent = torch.randn(5000, 4), torch.randn(300, 300)
    nets = {
        f"net{i}": {"emb.weight": table, "rnn.weight_ih": torch.randn(300, 4), "rnn.weight_hh": recurrent}
        for i in range(5)
    }
    model = reload(nets)
    assert len(model.stacks) == 5
    for stack in model.stacks:
        assert torch.equal(stack.embedding, table)
        assert torch.equal(stack.layers[0].weight_hh, recurrent)
    assert len({stack.layers[0].weight_hh.data_ptr() for stack in model.stacks}) == 1


def test_a_file_without_layers_says_what_it_saw(save, refusal):
    net = nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10))
    message = refusal(save(net.state_dict()))
    assert "no recurrent layer: expected weight_ih and weight_hh" in message
    assert "0 (weight [10, 64], bias [10]), 1 (weight [10]," in message
    many = refusal(save({f"fc{i}.weight": torch.zeros(2, 2) for i in range(100)}))
    assert "fc5 (weight [2, 2]) and 94 more" in many
    assert "no tensors, only settings or a vocabulary" in refusal(save({"epoch": 1}))
    assert "saw (top level) (tensor [2, 2])" in refusal(save(torch.zeros(2, 2)))


def test_a_near_miss_comes_first_in_the_refusal(save, refusal):
    state = {f"fc{i}.weight": torch.zeros(2, 2) for i in range(100)} | rnn(bias_hh_l0=None)
    assert "saw rnn (recurrent, but bias_hh_l0 is missing" in refusal(save(state))


class TestEmbedding:
    @staticmethod
    def found(reload, tables, *, width=4, prefix=""):
        state = {f"{prefix}rnn.{k}": v for k, v in nn.GRU(width, 3).state_dict().items()}
        return reload(state | {f"{name}.weight": table for name, table in tables.items()}).stacks[0].embedding

    @pytest.mark.parametrize("name", ["embedding", "emb.0", "tok_table", "wte", "wordVectors", "lookup"])
    def test_by_name_and_width(self, reload, name):
        table = torch.randn(7, 4)
        assert torch.equal(self.found(reload, {name: table}), table)

    @pytest.mark.parametrize(("name", "shape"), [("emb", (7, 5)), ("fc", (7, 4)), ("emb.fc", (7, 4)), ("emb", (4,))])
    def test_not_by_half(self, reload, name, shape):
        assert self.found(reload, {name: torch.randn(shape)}) is None

    def test_the_nearest_of_several(self, reload):
        tables = {"decoder.emb": torch.randn(7, 4), "encoder.emb": torch.randn(7, 4)}
        assert torch.equal(self.found(reload, tables, prefix="encoder."), tables["encoder.emb"])

    def test_none_between_equals(self, reload):
        assert self.found(reload, {"emb_a": torch.randn(7, 4), "emb_b": torch.randn(7, 4)}) is None

    def test_none_among_too_many(self, reload):
        tables = {f"x{i}.emb": torch.randn(7, 4) for i in range(MAX_CANDIDATES)}
        near = {"encoder.emb": torch.randn(7, 4)}
        assert self.found(reload, near | dict(list(tables.items())[1:]), prefix="encoder.") is not None
        assert self.found(reload, near | tables, prefix="encoder.") is None

    def test_by_class_in_a_pickled_module(self, reload):
        net = nn.ModuleDict(
            {"vectors": nn.Embedding(7, 4), "token_head": nn.Linear(4, 7, bias=False), "rnn": nn.GRU(4, 3)}
        )
        model = reload(net)
        assert torch.equal(model.stacks[0].embedding, net["vectors"].weight.detach())
        assert reasons(model)["vectors"] == "embedding; --probe tokens draws its rows"

    def test_one_table_read_by_two_modules(self, reload):
        net = nn.ModuleDict({"emb": nn.Embedding(7, 4), "a": nn.GRU(4, 3), "b": nn.LSTM(4, 3)})
        first, second = reload(net.state_dict()).stacks
        assert first.embedding is second.embedding is not None


class TestNonlinearity:
    @staticmethod
    def cell(model):
        layer = model.stacks[0].layers[0]
        return layer.cell, layer.nonlinearity_assumed

    def test_assumed(self, reload):
        model = reload(rnn())
        assert self.cell(model) == ("tanh", True)
        assert model.notes == ("tanh was assumed for rnn: the file does not say; --nonlinearity relu changes it",)

    @pytest.mark.parametrize("asked", ["tanh", "relu"])
    def test_asked(self, reload, asked):
        model = reload(rnn() | {"hyper": {"nonlinearity": "tanh"}}, nonlinearity=asked)
        assert self.cell(model) == (asked, False)
        assert model.notes == ()

    @pytest.mark.parametrize("stated", ["tanh", "relu"])
    def test_stated_in_the_file(self, reload, stated):
        model = reload({"net": rnn(), "hyper_parameters": {"nonlinearity": stated}})
        assert self.cell(model) == (stated, False)
        assert model.notes == (f"{stated} was taken for rnn: the file says so in hyper_parameters.nonlinearity",)

    def test_contradictory_statements_are_none(self, reload):
        model = reload({"net": rnn(), "a": {"nonlinearity": "tanh"}, "b": {"nonlinearity": "relu"}})
        assert self.cell(model) == ("tanh", True)
        assert "names both tanh and relu (a.nonlinearity, b.nonlinearity)" in model.notes[0]

    def test_other_values_are_no_statement(self, reload):
        model = reload({"net": rnn(), "a": {"nonlinearity": "selu"}, "b": {"nonlinearity": None}})
        assert "does not say" in model.notes[0]

    @pytest.mark.parametrize("own", ["tanh", "relu"])
    @pytest.mark.parametrize("module", [nn.RNN, nn.RNNCell])
    def test_a_pickled_module_knows_best(self, reload, module, own):
        net = nn.ModuleDict({"rnn": module(2, 3, nonlinearity=own)})
        other = "relu" if own == "tanh" else "tanh"
        content = {"net": net, "hyper_parameters": {"nonlinearity": other}}
        assert self.cell(reload(content)) == (own, False)
        assert reload(content, nonlinearity=own).notes == ()
        contradicted = reload(content, nonlinearity=other)
        assert self.cell(contradicted) == (own, False)
        assert contradicted.notes == (f"{other} was asked for, but the pickled modules say otherwise: rnn",)

    def test_gated_cells_have_none_to_assume(self, reload):
        model = reload(rnn(nn.LSTM(2, 3)))
        assert self.cell(model) == ("lstm", False)
        assert model.notes == ()


def test_embeddings_that_are_no_modules(reload):
    """As NumPy ports keep them: each layer reads the table whose name shares most with its own."""
    state = {"enc_emb": torch.zeros(7, 2), "dec_emb": torch.zeros(9, 2)}
    for prefix in ("enc", "dec"):
        state |= {f"{prefix}_w_ih": torch.zeros(9, 2), f"{prefix}_w_hh": torch.zeros(9, 3)}
    model = reload(state | {"fc_w": torch.zeros(4, 3)})
    assert [(stack.name, len(stack.embedding)) for stack in model.stacks] == [("enc", 7), ("dec", 9)]
    assert reasons(model)["enc_emb"] == "embedding; --probe tokens draws its rows"


def test_a_deferred_tensor_larger_than_the_file_is_not_read():
    """Found by fuzzing: putting gates in order copies."""

    def never() -> torch.Tensor:
        raise AssertionError

    kernel = StoredTensor((10**9, 6), torch.float32, never)
    tensors = {"gru.kernel": kernel, "gru.recurrent_kernel": in_memory(torch.zeros(2, 6))}
    findings = find(Contents(1000, (Container(KeyPath(), tensors),)))
    assert not findings.stacks
    assert findings.skipped[0].reason.endswith("24000000000 bytes, the file holds 1000")
