"""HDF5 files and archives in Keras's layout, and what can be done to a layer in one."""

from __future__ import annotations

import contextlib
import zipfile

import numpy as np
import pytest

from rnndiag.cells.layer import Stack

h5py = pytest.importorskip("h5py")

SHAPES = ((2, 12), (3, 12), (12,))
"""Of an LSTM with 3 units."""


def alone(model):
    """Each layer of a file as a stack of its own, by name, in the direction of time that it has in its stack."""
    found = {}
    for stack in model.stacks:
        for level in stack.levels:
            name = level[0].name.rpartition(".l")[0]
            levels = found[name].levels if name in found else ()
            found[name] = Stack(name, (*levels, level), stack.embedding)
    return found


def cell(group, arrays=None):
    """An LSTM's variables, in the newer layout."""
    held = group.create_group("cell/vars")
    for i, array in enumerate(arrays or [np.ones(shape, "f4") for shape in SHAPES]):
        held[str(i)] = array
    return held


@contextlib.contextmanager
def model(path, *, sound=True, **options):
    """An HDF5 file with a sound layer, and a group for another."""
    with h5py.File(path, "w", **options) as file:
        if sound:
            cell(file.create_group("layers/lstm"))
        yield file.create_group("layers/lstm_1")


def archive_of(path, config, weights, **options):
    """A ``.keras`` archive around an HDF5 file."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights)
    return path


def replaced(group, i=1):
    held = cell(group)
    del held[str(i)]
    return held


def external_link(group, folder):
    with model(folder / "other.h5") as other:
        cell(other)
    group["cell"] = h5py.ExternalLink(str(folder / "other.h5"), "/layers/lstm_1/cell")


def external_storage(group, folder):
    (folder / "other").write_bytes(b"\x01" * 1000)
    replaced(group).create_dataset("1", (3, 12), "f4", external=[(str(folder / "other"), 0, 144)])


def virtual_dataset(group, folder):
    with model(folder / "other.h5") as other:
        cell(other)
    layout = h5py.VirtualLayout((3, 12), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "layers/lstm/cell/vars/1", (3, 12))
    replaced(group).create_virtual_dataset("1", layout)


def soft_cycle(group, _folder):
    group["cell"] = h5py.SoftLink("/layers/lstm_1/cell")
    group["more"] = h5py.SoftLink("/")


def hard_cycle(group, _folder):
    cell(group)
    group["again"] = group
    group["cell"]["vars"]["up"] = group.parent
    del group["cell"]["vars"]["1"]


def references(group, _folder):
    held = np.array([[group.ref] * 12] * 3, dtype=h5py.ref_dtype)
    replaced(group).create_dataset("1", data=held, dtype=h5py.ref_dtype)


def never_written(group, _folder):
    replaced(group).create_dataset("1", (3, 12), "f4", chunks=(1, 12))


def partly_written(group, _folder):
    replaced(group).create_dataset("1", (3, 12), "f4", chunks=(1, 12))[0] = 1


def enormous(group, _folder):
    held = group.create_group("cell/vars")
    held.create_dataset("0", (2, 4 * 10**6), "f4", chunks=(2, 1000))
    held.create_dataset("1", (10**6, 4 * 10**6), "f4", chunks=(1000, 1000), compression="gzip")[:1000, :1000] = 1


def zeros(group, _folder):
    held = group.create_group("cell/vars")
    held["0"] = np.zeros((1, 4 * 4000), "f4")
    held.create_dataset("1", data=np.zeros((4000, 4 * 4000), "f4"), chunks=(1000, 4000), compression="gzip")


def unknown_filter(group, _folder):
    held = replaced(group)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((3, 12))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple((3, 12))
    dataset = h5py.h5d.create(held.id, b"1", h5py.h5t.IEEE_F32LE, space, properties)
    dataset.write_direct_chunk((0, 0), b"\x28\xb5\x2f\xfd" * 36)


def other_numbers(group, _folder):
    replaced(group)["1"] = np.zeros((3, 12), np.int8)


def compounds(group, _folder):
    replaced(group)["1"] = np.zeros((3, 12), [("a", "f4"), ("b", "f4")])


def wide_numbers(group, _folder):
    replaced(group)["1"] = np.zeros((3, 12), "V2000")


def texts(group, _folder):
    replaced(group).create_dataset("1", (3, 12), h5py.string_dtype())


def nothing_at_all(group, _folder):
    replaced(group).create_dataset("1", data=h5py.Empty("f4"))


def many_axes(group, _folder):
    replaced(group)["1"] = np.zeros((1,) * 30, "f4")


def a_group_for_a_dataset(group, _folder):
    replaced(group).create_group("1")


def depth(group, _folder):
    for _ in range(10_000):
        group = group.create_group("a")


def breadth(group, _folder):
    for i in range(30_000):
        group[f"g{i}"] = group


def bulk(group, _folder):
    for i in range(101):
        for j in range(101):
            group.create_group(f"{i}/{j}")
