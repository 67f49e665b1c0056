"""How much one file may hold: bombs of sheer number end within the sandbox's time and memory, real files pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.files.work_budget import Allowance, ExhaustedError, current
from tests.checkpoint.files import legacy_of, zip_of
from tests.checkpoint.opcodes import DATA, beside_layer, name, storage, tensor, text, whole

CALL = name("a b") + b"q\1)q\2"
"""A name as memo 1 and no arguments as memo 2; h recalls them and R calls the one with the other."""
REBUILD = name("torch._utils _rebuild_tensor_v2")
ARGUMENTS = b"K\0K\1K\1\x86K\1K\1\x86\x89}t"
SCALES = b"(" + name("torch per_tensor_affine") + b"G?\xf0\0\0\0\0\0\0K\0t"

HEAPS = {
    "numbers": b"(" + b"G?\xf0\0\0\0\0\0\0" * 5_000_000 + b"t",
    "short strings": b"(" + b"\x8c\3abc" * 5_000_000 + b"t",
    "longer strings": b"(" + (b"\x8c\xff" + b"x" * 255) * 500_000 + b"t",
    "strings of a page": b"(" + (b"X\0\x10\0\0" + b"x" * 4096) * 20_000 + b"t",
    "large integers": b"(" + (b"\x8a\xff" + b"\1" * 255) * 500_000 + b"t",
    "integers as text": b"(" + (b"I" + b"9" * 4000 + b"\n") * 20_000 + b"t",
    "things remembered": b"}\x94" * 2_500_000,
    "names": b"(" + b"ca\nb\n" * 2_000_000 + b"t",
    "calls": CALL + b"(" + b"h\1h\2R" * 1_000_000 + b"t",
    "keys": b"}(" + b"".join(b"\x8c\6%06xN" % i for i in range(2_000_000)) + b"u",
    "dicts of one": b"(" + b"}\x8c\1kNs" * 1_500_000 + b"t",
    "lists of one": b"(" + b"]Na" * 2_000_000 + b"t",
    "tuples of one": b"(" + b"N\x85" * 2_500_000 + b"t",
    "a tuple again and again": b"N\x85q\1(" + b"h\1" * 4_000_000 + b"t",
    "nothing": b"(" + b"N" * 5_000_000 + b"t",
    "modules": CALL + b"(" + b"h\1h\2R}(X\x0b\0\0\0_parameters}X\x08\0\0\0_modules}ub" * 200_000 + b"t",
    "one child by many names": CALL
    + b"h\1h\2R}(X\x0b\0\0\0_parameters}X\x08\0\0\0_modules}ubq\3"
    + b"0h\1h\2R}(X\x0b\0\0\0_parameters}X\x08\0\0\0_modules}("
    + b"".join(b"\x8c\6%06xh\3" % i for i in range(500_000))
    + b"uub",
}
TENSORS = {
    "tensors": REBUILD + b"q\1(" + storage("0", 2) + ARGUMENTS + b"q\2(" + b"h\1h\2R" * 500_000 + b"t",
    "storages": b"(" + text("storage") + name("torch FloatStorage") + text("0") + text("cpu") + b"K\2tq\1("
    + b"h\1Q" * 1_500_000 + b"t",
    "one tensor by many names": tensor(storage("0", 2), (1, 1), (1, 1)) + b"q\1" + b"0}("
    + b"".join(b"\x8c\6%06xh\1" % i for i in range(300_000)) + b"u",
    "quantised tensors": name("torch._utils _rebuild_qtensor") + b"q\1(" + storage("1", 2, "QInt8Storage")
    + ARGUMENTS[:-3] + SCALES + b"\x89}tq\2(" + b"h\1h\2R" * 300_000 + b"t",
}  # fmt: skip


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
    with Allowance(10) as allowance:
        assert current() is allowance
        current().spend(6)
        with allowance, pytest.raises(ExhaustedError):
            current().spend(5)
        assert current() is allowance
    assert current() is not allowance
    assert current() is not current()
