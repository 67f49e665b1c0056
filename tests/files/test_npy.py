"""Large probes and false headers: only the used part is read, and a probe that does not fit is refused unread."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy

from rnndiag.api import make_probe
from rnndiag.errors import ProbeError, SettingsError
from rnndiag.files.npy import read_header, read_leading
from rnndiag.machine.device import available_memory
from rnndiag.measuring_cost import check_memory
from rnndiag.probes import Probe


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def readinto(self, buffer: object) -> int:
        count = super().readinto(buffer)  # type: ignore[arg-type]
        self.taken += count
        return count


@given(st.data())
def test_the_first_entries_are_those_of_the_whole_array(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=0, max_size=4)))
    used = tuple(data.draw(st.integers(0, size)) for size in shape)
    array = np.arange(np.prod(shape, dtype=int), dtype=data.draw(st.sampled_from(["<f8", ">i2", "<f2"]))).reshape(shape)
    file = Counting()
    np.save(file, np.asarray(array, order=data.draw(st.sampled_from(["C", "F"]))))
    file.seek(0)
    header = read_header(file)
    file.seek(header.start)
    expected = array[tuple(slice(size) for size in used)]
    before, found = file.taken, read_leading(file, header, used)
    assert found.shape == expected.shape
    assert (found == expected).all()
    assert file.taken - before == expected.nbytes or shape == ()


@pytest.mark.parametrize("form", ["npy", "npz"])
def test_a_large_file_of_which_little_is_used_takes_little_memory(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"p.{form}"
    array = np.zeros((75_000_000, 4), dtype=bool)
    np.save(path, array) if form == "npy" else np.savez(path, p=array)
    script = (
        "import resource, sys\n"
        "from rnndiag.api import make_probe\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "probe = make_probe(sys.argv[1], length=4)\n"
        "assert probe.array.shape == (4, 1, 4), probe.array.shape\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    del array
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout) < 100 * 1024, "KiB"


def test_what_does_not_fit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A file of zeros that takes no space on the disk, and more memory than there is."""
    path = tmp_path / "p.npy"
    steps = int(available_memory() // 8)
    with path.open("wb") as file:
        npy.write_array_header_2_0(file, {"descr": "<f8", "fortran_order": False, "shape": (steps, 1)})
        start = file.tell()
    os.truncate(path, start + 8 * steps)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        ProbeError, match=r"p.npy: .* take about .* GiB .* GiB of memory are free; lower --T or --batch"
    ):
        make_probe(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    assert make_probe(path, length=5).length == 5


def test_a_view_that_stands_for_more_than_there_is_is_refused() -> None:
    with pytest.raises(ProbeError, match="of memory are free"):
        Probe.from_array(torch.zeros(1, 1).expand(10**9, 10**4))


def test_the_estimate_goes_by_what_is_free() -> None:
    probe, free = Probe(length=7, batch=3), available_memory()
    with pytest.raises(SettingsError, match=r"T=7 and B=3 would take about .* GiB on rnn, .*; lower --T or --batch"):
        check_memory("rnn", int(free * 1.5), probe, torch.device("cpu"))
    check_memory("rnn", int(free / 4), probe, torch.device("cpu"))


def lying(path: Path) -> None:
    with path.open("wb") as file:
        npy.write_array_header_2_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 4)})
        file.write(bytes(64))


def bomb(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("p.npy", "w", force_zip64=True) as file,
    ):
        npy.write_array_header_2_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**28, 1)})  # type: ignore[arg-type]
        for _ in range(2**11 + 1):
            file.write(bytes(2**20))


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a header that lies": (lying, "bytes, the file has 64"),
    "objects": (lambda p: np.save(p, np.array([[{}]], dtype=object), allow_pickle=True), "an object array is a pickle"),
    "complex numbers": (lambda p: np.save(p, np.ones((3, 1), dtype=complex)), "expected real numbers"),
    "text": (lambda p: np.save(p, np.array([["a"], ["b"]])), "expected an array of numbers, got an array of <U1"),
    "a structured array": (lambda p: np.save(p, np.zeros((2, 2), dtype=[("a", "f8")])), "got a structured array"),
    "dates": (lambda p: np.save(p, np.zeros((2, 2), dtype="M8[s]")), "expected an array of numbers"),
    "no dimension": (lambda p: np.save(p, np.float64(3)), "expected an array [T, D] or [B, T, D], got shape []"),
    "nothing in it": (lambda p: np.save(p, np.zeros((0, 3))), "expected an array [T, D] or [B, T, D], got shape [0,"),
    "NaN": (lambda p: np.save(p, np.full((3, 1), np.nan)), "expected finite numbers"),
    "a header without end": (lambda p: p.write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{" + b" " * 100), "header"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_one_line(tmp_path: Path, name: str) -> None:
    write, words = ODD[name]
    path = tmp_path / "p.npy"
    write(path)
    with pytest.raises(ProbeError, match=r"p\.npy: ") as caught:
        make_probe(path)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    bomb(path)
    with pytest.raises(ProbeError, match=r"unpacks to .* bytes, expected at most"):
        make_probe(path, length=3)


def test_fortran_order_is_read_as_it_is_meant(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(3, 5, 2))
    np.save(tmp_path / "c.npy", array)
    np.save(tmp_path / "f.npy", np.asfortranarray(array))
    one, two = (make_probe(tmp_path / name, length=4, batch=2) for name in ("c.npy", "f.npy"))
    assert one.array is not None
    assert two.array is not None
    assert torch.equal(one.array, two.array)
    assert torch.equal(one.array, torch.from_numpy(array)[:2, :4].transpose(0, 1))
