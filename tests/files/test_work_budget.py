"""How much one file may hold: bombs of sheer number end within the sandbox's time and memory, real files pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.files.work_budget import ExhaustedError, WorkBudget, current_budget
from tests.builders.hostile_pickles import HEAPS, TENSORS
from tests.builders.pickles import DATA, beside_layer, whole
from tests.builders.torch_files import legacy_of, zip_of

WHOLE = ("numbers", "keys", "modules")
"""The heaps that get all units. Their memory is compared with its limit at full size."""


@pytest.mark.parametrize("form", [zip_of, legacy_of], ids=["zip", "legacy"])
@pytest.mark.parametrize("heap", HEAPS)
def test_heaps(sandbox, tmp_path, heap, form):
    share = 1 if heap in WHOLE else 20
    if form is zip_of:
        outcome = sandbox(zip_of(tmp_path / "model.pt", beside_layer(HEAPS[heap]), DATA), share=share)
    else:
        outcome = sandbox(legacy_of(tmp_path / "model.pt", whole(b"(", HEAPS[heap], b"t")), share=share)
    assert "more objects than any model needs: if it is one, save its state_dict alone" in outcome["refused"]


@pytest.mark.parametrize("heap", TENSORS)
def test_heaps_of_tensors(sandbox, tmp_path, heap):
    outcome = sandbox(zip_of(tmp_path / "model.pt", beside_layer(TENSORS[heap]), DATA | {"1": b"12"}), share=20)
    assert "more objects than any model needs" in outcome["refused"]


@pytest.mark.parametrize("kind", [b"X", b"B", b"T"], ids=["text", "bytes", "old text"])
def test_long_strings_are_passed_over(sandbox, tmp_path, kind):
    """Arrays that Python pickles by value, of which no part is needed."""
    array = kind + (30_000_000).to_bytes(4, "little") + b"x" * 30_000_000
    outcome = sandbox(zip_of(tmp_path / "model.pt", beside_layer(b"(" + array * 10 + b"t"), DATA))
    assert outcome["layers"] == ["rnn"]
    assert outcome["mib"] < 100


def test_archives_of_many_members(sandbox, tmp_path):
    members = {f"{i}": b"" for i in range(2, 60_000)}
    outcome = sandbox(zip_of(tmp_path / "model.pt", beside_layer(b"N"), DATA | members))
    assert outcome["layers"] == ["rnn"]
    outcome = sandbox(
        zip_of(tmp_path / "more.pt", beside_layer(b"N"), DATA | members | {f"{i:200}": b"" for i in range(50_000)})
    )
    assert "list of members" in outcome["refused"]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_large_training_checkpoint_passes(save, legacy):
    net = nn.Sequential(nn.GRU(2, 3), *[nn.Linear(2, 2) for _ in range(1000)])
    optimizer = torch.optim.Adam(net.parameters())
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    words = {f"word {i}": i for i in range(100_000)}
    content = {"net": net, "optimizer": optimizer, "words": words, "list": list(words), "losses": [0.5] * 100_000}
    assert load(save(content, legacy=legacy)).stacks[0].layers[0].cell == "gru"


def test_one_allowance_for_all_that_is_read_within_it():
    with WorkBudget(10) as budget:
        assert current_budget() is budget
        current_budget().spend(6)
        with budget, pytest.raises(ExhaustedError):
            current_budget().spend(5)
        assert current_budget() is budget
    assert current_budget() is not budget
    assert current_budget() is not current_budget()
