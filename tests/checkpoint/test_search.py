"""Folders are searched by the first bytes of files, within limits, and without opening what is no regular file."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rnndiag.checkpoint import search as searching
from rnndiag.checkpoint.search import Search, SearchLimitError
from tests.builders.irregular_files import not_regular

GRU = nn.GRU(2, 3).state_dict()
TEXTS = {
    "source.py": "import torch\nnet = torch.nn.LSTM(3, 4)\n",
    "page.html": "<!DOCTYPE html><html><body>model</body></html>",
    "data.json": '{"weights": [1, 2, 3], "name": "lstm"}',
    "table.csv": "a,b\n1,2\n",
    "утф8.md": "# Сеть\n" * 20,
    "count.txt": "count\n12\n" * 5,
    "settings.pkl": "(dp0\nVsize\np1\nI12\ns.",
    "README": "This folder holds no model at all.",
}
BINARIES = {
    "image.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100),
    "photo.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)),
    "sound.wav": b"RIFF\x24\x08\0\0WAVEfmt " + bytes(100),
    "lib.so": b"\x7fELF\x02\x01\x01" + bytes(100),
    "mod.cpython-311.pyc": b"\xa7\r\r\n\0\0\0\0{\x0b\x9ae" + bytes(100),  # has a brace where safetensors has one
    "words.mo": b"\xde\x12\x04\x95\0\0\0\0{\0\0\0" + bytes(100),
    "empty": b"",
    "short": b"\x80\x02}q",
    "settings2.pkl": b"\x80\x04\x95" + bytes(8) + b"}\x94\x8c\x04size\x94K\x0cs.",
    "table.msgpack": b"\x82\xa4size\x0c\xa4name\xa3abc" + bytes(100),
}


def found(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in Search("here").models_in(folder)]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A source tree: text, images, sounds, programs, data, and an archive of such files."""
    folder = tmp_path / "noise"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, data in BINARIES.items():
        (folder / name).write_bytes(data)
    np.save(folder / "probe.npy", np.ones((5, 2)))
    with zipfile.ZipFile(folder / "sources.zip", "w") as archive:
        for name in (*TEXTS, *BINARIES):
            archive.write(folder / name, f"src/{name}")
    with tarfile.open(folder / "sources.tgz", "w:gz") as tar:
        tar.add(folder / "source.py", "src/source.py")
    return folder


def test_what_is_no_model_is_not_found(noise: Path) -> None:
    search = Search("here")
    assert list(search.models_in(noise)) == []
    assert search.left_out == []


@pytest.mark.parametrize("name", ["weights", "net.th", "x.txt", "model.dat", "a.mdl", "-"])
@pytest.mark.parametrize("legacy", [False, True])
def test_any_name_is_found(noise: Path, name: str, legacy: bool) -> None:
    torch.save(GRU, noise / name, _use_new_zipfile_serialization=not legacy)
    assert found(noise) == [name]


def test_other_formats_under_any_name(noise: Path) -> None:
    save_file(GRU, noise / "a.weights")
    np.savez(noise / "b", **{name: tensor.numpy() for name, tensor in GRU.items()})
    (noise / "b.npz").rename(noise / "b")
    assert found(noise) == ["a.weights", "b"]


def test_a_file_with_the_name_of_a_model_is_found_whatever_it_holds(noise: Path) -> None:
    (noise / "broken.pt").write_bytes(b"")
    (noise / "page.safetensors").write_text("<html>", encoding="utf-8")
    assert found(noise) == ["broken.pt", "page.safetensors"]


def test_a_torch_file_that_was_cut_short_is_found(noise: Path) -> None:
    torch.save(GRU, noise / "whole.th")
    (noise / "cut").write_bytes((noise / "whole.th").read_bytes()[:600])
    assert found(noise) == ["cut", "whole.th"]


@pytest.mark.parametrize("mode", ["zip", "w:", "w:gz", "w:bz2", "w:xz"])
def test_archives_with_a_model_are_found(noise: Path, mode: str) -> None:
    torch.save(GRU, noise.parent / "net.th")
    if mode == "zip":
        with zipfile.ZipFile(noise / "run.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(noise / "source.py", "a.py")
            archive.write(noise.parent / "net.th", "data/net")
    else:
        with tarfile.open(noise / "run.whl", mode) as tar:  # type: ignore[call-overload]
            tar.add(noise / "source.py", "a.py")
            tar.add(noise.parent / "net.th", "data/net")
    assert found(noise) == ["run.whl"]


def test_what_is_no_regular_file_is_never_opened(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a pipe would wait forever, and reading from a device would never end."""
    not_regular(noise, suffix="")
    (noise / "loop").symlink_to(noise / "loop")
    (noise / "up").symlink_to(noise)
    (noise / "gone").symlink_to(noise / "nowhere")
    opened = []
    monkeypatch.setattr(searching, "read_head", lambda path: opened.append(Path(path).name) or b"")
    assert found(noise) == []
    assert not {"pipe", "endless", "socket", "loop", "gone"} & set(opened)
    assert "source.py" in opened


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert searching.read_head(tmp_path / "pipe") == b""


def test_files_that_may_not_be_read_are_left_out(noise: Path) -> None:
    torch.save(GRU, noise / "secret")
    (noise / "secret").chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may read everything
    try:
        assert found(noise) == []
    finally:
        os.seteuid(user)


def test_only_the_first_bytes_of_many_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3000):
        folder = tmp_path / str(number % 30)
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_bytes(f"file {number}\n".encode() * 500)
    read: list[int] = []
    head = searching.read_head
    monkeypatch.setattr(searching, "read_head", lambda path: read.append(len(head(path))) or head(path))
    monkeypatch.setattr(searching.Candidate, "__init__", pytest.fail)
    assert found(tmp_path) == []
    assert (len(read), max(read)) == (3000, 512)


def test_the_cache_of_the_hub_yields_each_file_once(tmp_path: Path) -> None:
    home = tmp_path / "models--someone--net"
    for name in ("blobs", "refs", "snapshots/0123"):
        (home / name).mkdir(parents=True)
    torch.save(GRU, home / "blobs" / "abcdef")
    (home / "snapshots" / "0123" / "best.ckpt").symlink_to("../../blobs/abcdef")
    assert found(tmp_path) == ["models--someone--net/snapshots/0123/best.ckpt"]


class TestLimits:
    def test_a_tar_archive_without_a_model_at_its_beginning(self, noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(searching, "MAX_LOOKED_PER_ARCHIVE", 1 << 20)
        (noise.parent / "big").write_bytes(bytes(3 << 20))
        with tarfile.open(noise / "data.tar.gz", "w:gz") as tar:
            for name in ("big", "big"):
                tar.add(noise.parent / "big", name)
        search = Search("here")
        assert list(search.models_in(noise)) == []
        (left_out,) = search.left_out
        assert left_out.path.name == "data.tar.gz"
        assert "no model among the first 10,000 files or 1 MiB of this tar archive" in left_out.reason

    def test_a_damaged_archive_is_named(self, noise: Path) -> None:
        data = (noise / "sources.tgz").read_bytes()
        (noise / "sources.tgz").write_bytes(data[:-30])
        search = Search("here")
        assert list(search.models_in(noise)) == []
        assert ["cannot be unpacked" in each.reason for each in search.left_out] == [True]

    def test_many_bombs_end_the_search(self, tmp_path: Path) -> None:
        """Each unpacks to a thousand times its size."""
        (tmp_path / "zeros").write_bytes(bytes(1 << 20))
        for number in range(8):
            with tarfile.open(tmp_path / f"{number}.tgz", "w:gz") as tar:
                tar.add(tmp_path / "zeros", "zeros")
        with pytest.raises(SearchLimitError, match="here: the search stopped after 4 MiB of archives and data"):
            list(Search("here", max_looked_bytes=4 << 20).models_in(tmp_path))

    def test_a_zip_archive_of_too_many_members(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
            for number in range(10_001):
                archive.writestr(zipfile.ZipInfo(str(number)), b"")
        search = Search("here")
        assert list(search.models_in(tmp_path)) == []
        assert [each.path.name for each in search.left_out] == ["many.zip"]
