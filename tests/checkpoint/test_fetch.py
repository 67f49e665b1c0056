"""Archives, URLs and stdin: the same model whatever way it comes, and nothing left behind."""

from __future__ import annotations

import http.server
import io
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from functools import partial
from pathlib import Path

import fsspec
import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.errors import CheckpointError


@pytest.fixture
def model(save) -> Path:
    torch.manual_seed(0)
    return save(nn.GRU(2, 3).state_dict(), "gru.pt")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A temporary folder of the test's own, found empty afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def zipped(target: Path, **files: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return target


def assert_same(one, other) -> None:
    pairs = zip(one.stacks, other.stacks, strict=True)
    for a, b in pairs:
        for name, value in a.layers[0].parameters.items():
            assert torch.equal(value, b.layers[0].parameters[name])


class TestArchives:
    @pytest.mark.parametrize("mode", ["w:", "w:gz", "w:bz2", "w:xz"])
    def test_tar(self, model, tmp_path, mode):
        path = tmp_path / "models.tar"
        with tarfile.open(path, mode) as archive:
            archive.add(model, "run/gru.pt")
        read = load(path)
        assert_same(read, load(model))
        assert read.source.format == "tar/torch"
        assert read.source.path == str(path)

    def test_zip(self, model, tmp_path):
        read = load(zipped(tmp_path / "models.zip", **{"run/gru.pt": model}))
        assert_same(read, load(model))
        assert read.source.format == "zip/torch"

    def test_several_models(self, model, save, tmp_path):
        other = save({"enc.rnn": nn.LSTM(2, 4).state_dict()}, "lstm.pt")
        notes = tmp_path / "notes.txt"
        notes.write_text("hello", encoding="utf-8")
        path = zipped(tmp_path / "models.zip", **{"a/gru.pt": model, "b.pt": other, "c.pt": notes, "notes.txt": notes})
        read = load(path)
        assert [stack.name for stack in read.stacks] == ["b.pt.enc.rnn", "a/gru.pt"]
        assert [(each.name, each.reason.partition(";")[0]) for each in read.source.skipped] == [("c.pt", "a text file")]

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (["../evil.pt"], "'../evil.pt' leads out of the archive"),
            (["/evil.pt"], "'/evil.pt' leads out of the archive"),
            (["//tmp/evil.pt"], "'//tmp/evil.pt' leads out of the archive"),
            (["a/../../evil.pt"], "leads out of the archive"),
            (["C:/evil.pt"], "leads out of the archive"),
            (["a.pt", "A.pt"], "two members have the same name"),
            (["a", "a/b.pt"], "need the same name"),
        ],
    )
    def test_names_that_harm(self, refusal, model, tmp_path, names, words):
        path = zipped(tmp_path / "models.zip", **dict.fromkeys(names, model))
        assert words in refusal(path)
        assert not list(tmp_path.rglob("evil.pt"))

    def test_links_and_devices_in_a_tar_are_left_out(self, refusal, tmp_path):
        path = tmp_path / "models.tar"
        with tarfile.open(path, "w") as archive:
            for name, kind in (("a.pt", tarfile.SYMTYPE), ("b.pt", tarfile.LNKTYPE), ("c.pt", tarfile.CHRTYPE)):
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = kind, "/etc/passwd"
                archive.addfile(entry)
        assert "a tar archive without a model: it holds no file" in refusal(path)

    def test_bombs(self, sandbox, tmp_path):
        path = tmp_path / "bomb.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.pt", "w") as file:
            for _ in range(300):
                file.write(bytes(1 << 20))
        outcome = sandbox(path)
        assert "it unpacks to more than" in outcome["refused"]
        assert outcome["mib"] < 100
        path = tmp_path / "bomb.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            entry = tarfile.TarInfo("a.pt")
            entry.size = 300 << 20
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
        outcome = sandbox(path)
        assert "it unpacks to more than" in outcome["refused"]
        assert outcome["mib"] < 100

    def test_a_tar_header_that_declares_gigabytes(self, sandbox, tmp_path):
        entry = tarfile.TarInfo("././@PaxHeader")
        entry.type, entry.size = tarfile.XHDTYPE, 5 << 30
        path = tmp_path / "bomb.tar"
        path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
        assert "at once" in sandbox(path)["refused"]

    def test_encrypted_members(self, refusal, model, tmp_path):
        path = zipped(tmp_path / "models.zip", **{"gru.pt": model})
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(data)
        assert "is encrypted" in refusal(path)

    def test_a_damaged_member(self, refusal, model, tmp_path):
        path = zipped(tmp_path / "models.zip", **{"gru.pt": model})
        data = bytearray(path.read_bytes())
        data[60:80] = bytes(20)
        path.write_bytes(data)
        assert refusal(path)

    def test_a_name_that_is_damaged_in_one_of_its_two_places(self, refusal, model, tmp_path):
        path = zipped(tmp_path / "models.zip", **{"grü.pt": model})
        path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xff\xff", 1))
        assert "a zip archive that cannot be unpacked: 'utf-8' codec can't decode" in refusal(path)

    def test_names_that_are_not_fit_to_print(self, refusal, tmp_path):
        path = tmp_path / "models.tar"
        with tarfile.open(path, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
            entry = tarfile.TarInfo("grü\x1b[2J\n/a.pt")
            archive.addfile(entry)
        assert r"gr\udcfc\x1b[2J\n/a.pt: an empty file" in refusal(path)

    @pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
    def test_cut_short(self, refusal, model, tmp_path, keep):
        path = tmp_path / "models.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(model, "gru.pt")
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        assert refusal(path)

    def test_a_list_of_members_that_declares_gigabytes(self, refusal, tmp_path):
        path = tmp_path / "models.zip"
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 2**31, 0, 0)
        path.write_bytes(b"PK\x03\x04" + bytes(100) + end)
        assert "a zip archive that cannot be read" in refusal(path)


class TestUrls:
    @pytest.fixture
    def served(self, model):
        handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(model.parent))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()

    def test_http(self, served, model, capfd):
        url = f"{served}/gru.pt"
        read = load(url)
        assert_same(read, load(model))
        assert read.source.path == url
        assert read.source.sha256 == load(model).source.sha256

    def test_not_there(self, served, refusal, capfd):
        assert refusal(f"{served}/nothing.pt").endswith("not found there")

    def test_a_refusal_names_the_url(self, served, refusal, model, capfd):
        (model.parent / "text.pt").write_text("hello", encoding="utf-8")
        assert refusal(f"{served}/text.pt").startswith(f"{served}/text.pt: a text file")

    def test_files_and_folders_of_a_store(self, model):
        memory = fsspec.filesystem("memory")
        memory.pipe("/run/gru.pt", model.read_bytes())
        assert_same(load("memory://run/gru.pt"), load(model))
        assert_same(load(f"file://{model}"), load(model))

    def test_an_unknown_protocol(self, refusal):
        assert "nonsense" in refusal("nonsense://a/b.pt")

    def test_a_protocol_whose_package_is_missing(self):
        code = "import sys; sys.modules['s3fs'] = None; from rnndiag.__main__ import run; sys.exit(run(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, "inspect", "s3://a/b.pt"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "Install s3fs" in line


@pytest.mark.parametrize("archive", [False, True])
def test_stdin(model, tmp_path, archive):
    path = zipped(tmp_path / "models.zip", **{"gru.pt": model}) if archive else model
    done = subprocess.run(
        [sys.executable, "-m", "rnndiag", "inspect", "-", "--T", "10", "--format", "json"],
        input=path.read_bytes(),
        capture_output=True,
        check=False,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert b'"path":"-"' in done.stdout.replace(b" ", b"")
    assert not list(tmp_path.glob("rnndiag-*"))


def test_empty_stdin(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "rnndiag", "inspect", "-"], input="", capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("rnndiag: error: -: an empty file")


def test_a_name_that_is_also_a_word_of_the_message(tmp_path, monkeypatch):
    """Only the name at the start of a refusal is the path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").write_text("hello", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    for path in ("./model", "model", "folder/"):
        with pytest.raises(CheckpointError) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "expected a saved model: docs/formats.md lists what is read" in str(caught.value)
