"""Hostile files through the command line as a user starts it: exit 2, one line, nothing run, nothing written."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.builders.pickles import DATA, beside_layer, calls, number, storage, tensor, whole
from tests.builders.torch_files import legacy_of, zip_of


def a_call(folder: Path, sentinel: Path) -> Path:
    attack = calls(f"touch {sentinel}")["a chain"]
    return legacy_of(folder / "model.pt", whole(attack))


def a_memo_bomb(folder: Path, sentinel: Path) -> Path:
    bomb = pickle.EMPTY_DICT + pickle.LONG_BINPUT + b"\xff\xff\xff\xff"
    return zip_of(folder / "model.pt", beside_layer(bomb), DATA)


def deep_nesting(folder: Path, sentinel: Path) -> Path:
    deep = pickle.EMPTY_LIST * 100_000 + pickle.APPEND * 99_999
    return legacy_of(folder / "model.pt", whole(deep))


def a_storage_past_the_end(folder: Path, sentinel: Path) -> Path:
    return zip_of(folder / "model.pt", beside_layer(storage("0", 2**40)), DATA)


def negative_strides(folder: Path, sentinel: Path) -> Path:
    weight = tensor(storage("0", 2), (1, 1), (-1, 1))
    return zip_of(folder / "model.pt", beside_layer(weight), DATA)


def a_zip_bomb(folder: Path, sentinel: Path) -> Path:
    path = folder / "models.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.pt", "w") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    return path


def a_way_out_of_an_archive(folder: Path, sentinel: Path) -> Path:
    path = folder / "models.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo(f"../{sentinel.name}")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    return path


def encrypted(folder: Path, sentinel: Path) -> Path:
    path = zip_of(folder / "model.pt", beside_layer(number(1)), DATA)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


def a_lying_header(folder: Path, sentinel: Path) -> Path:
    header = json.dumps({"weight_hh": {"dtype": "F32", "shape": [2**31, 2**31], "data_offsets": [0, 4]}}).encode()
    path = folder / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return path


def objects_in_npz(folder: Path, sentinel: Path) -> Path:
    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return open, (str(sentinel), "w")

    path = folder / "model.npz"
    np.savez(path, weight_hh=np.array([[Attack()]], dtype=object))
    return path


def data_outside_the_folder(folder: Path, sentinel: Path) -> Path:
    onnx = pytest.importorskip("onnx")
    from tests.builders.onnx_files import with_external_weights

    assert onnx
    return with_external_weights(folder / "model.onnx", location="../../../etc/passwd")


def a_pipe_without_end(folder: Path, sentinel: Path) -> Path:
    path = folder / "model.pt"
    path.symlink_to("/dev/zero")
    return path


def a_bomb_in_an_archive(folder: Path, sentinel: Path) -> Path:
    path = folder / "models.zip"
    bomb = io.BytesIO()
    with tarfile.open(fileobj=bomb, mode="w:gz") as archive:
        entry = tarfile.TarInfo("\x1b[2Jmodel.pt")
        entry.size = 200 << 20
        archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("\n::error::.pt", bomb.getvalue())
    return path


CASES = (
    a_bomb_in_an_archive,
    a_call,
    a_memo_bomb,
    deep_nesting,
    a_storage_past_the_end,
    negative_strides,
    a_zip_bomb,
    a_way_out_of_an_archive,
    encrypted,
    a_lying_header,
    objects_in_npz,
    data_outside_the_folder,
    a_pipe_without_end,
)


def present(folder: Path) -> dict[Path, int]:
    """Everything in a folder, and when each file was written; temporary copies may come and go."""
    return {path: path.lstat().st_mtime_ns if path.is_file() else 0 for path in folder.rglob("*")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_one_line_and_exit_2(tmp_path, case):
    folder, temporary = tmp_path / "folder", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    sentinel = tmp_path / "sentinel"
    path = case(folder, sentinel)
    before = present(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "rnndiag", "check", path],
        capture_output=True,
        text=True,
        timeout=300,  # ten times what the slowest takes on an idle machine: its parser computes for 20 s
        check=False,
        env={"TMPDIR": str(temporary), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert path.name in line
    assert present(tmp_path) == before
    assert not sentinel.exists()


def test_a_sound_file_beside_a_hostile_one_is_measured(tmp_path):
    torch.manual_seed(0)
    torch.save(nn.GRU(3, 8).state_dict(), tmp_path / "sound.pt")
    hostile = a_call(tmp_path, tmp_path / "sentinel")
    done = subprocess.run(
        [sys.executable, "-m", "rnndiag", "check", hostile, tmp_path / "sound.pt", "--T", "5", "--batch", "2"],
        capture_output=True,
        text=True,
        timeout=300,  # ten times what the slowest takes on an idle machine: its parser computes for 20 s
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "sound.pt" in done.stdout
    assert len(done.stderr.splitlines()) == 1
