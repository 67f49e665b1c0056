"""What PyTorch's writer leaves open: the order of bytes, and where a member begins."""

from __future__ import annotations

import sys
import zipfile

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load


def rewritten(path, change):
    """The same archive with its members changed, written by another zip library, which aligns nothing."""
    other = path.with_name("other.pt")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w") as copy:
        for member in archive.infolist():
            copy.writestr(member.filename, change(member.filename, archive.read(member)))
    return other


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_members_that_are_not_aligned(save, dtype):
    gru = nn.GRU(3, 5).to(dtype)
    path = rewritten(save(gru.state_dict()), lambda name, data: data)
    layer = load(path).stacks[0].layers[0]
    assert torch.equal(layer.weight_hh, gru.weight_hh_l0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_the_other_order_of_bytes(save, dtype):
    gru = nn.GRU(3, 5).to(dtype)
    other = b"big" if sys.byteorder == "little" else b"little"

    def swap(name, data):
        if name.endswith("/byteorder"):
            return other
        if "/data/" not in name:
            return data
        storage = torch.frombuffer(bytearray(data), dtype=dtype).untyped_storage()
        storage.byteswap(dtype)
        return bytes(storage)

    path = rewritten(save(gru.state_dict()), swap)
    expected = torch.load(path)["weight_hh_l0"]
    assert torch.equal(expected, gru.weight_hh_l0)
    assert torch.equal(load(path).stacks[0].layers[0].weight_hh, expected)


def test_members_outside_the_folder_are_not_read(save):
    gru = nn.GRU(3, 5)
    path = save(gru.state_dict())
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in held.items():
            archive.writestr(name, data)
        archive.writestr("data/0", b"\0" * len(held["model/data/0"]))
    assert torch.equal(load(path).stacks[0].layers[0].weight_ih, gru.weight_ih_l0)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint64, torch.float8_e4m3fn])
def test_a_tensor_of_a_type_that_no_layer_has_costs_nothing_else(save, dtype, legacy):
    gru = nn.GRU(3, 5)
    path = save({"other": torch.ones(3, 5).to(dtype), **gru.state_dict()}, legacy=legacy)
    layer = load(path).stacks[0].layers[0]
    assert torch.equal(layer.weight_hh, gru.weight_hh_l0)
    assert torch.equal(layer.bias_hh, gru.bias_hh_l0)
