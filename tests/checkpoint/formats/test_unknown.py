"""Files that are no model: one line that says what they seem to be and what to do."""

from __future__ import annotations

import gzip
import os
import pickle

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.errors import CheckpointError


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"hello, world\n", "a text file"),
        ("жёлтый\n".encode() * 100, "a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "HDF5"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (gzip.compress(b"x", mtime=0), "gzip: decompress it first"),
        (pickle.dumps({"rnn": 1}), "no tensors, only settings or a vocabulary"),
        (b"\xfe\xed\xfa\xce" * 10, "of no known format"),
        (b"PK\x05\x06" + b"\0" * 18, "an empty zip archive"),
        (b"PK\x03\x04" + b"\0" * 18, "cut short"),
        (b"PK\x03\x04" + b"\0" * 200, "cut short"),
    ],
)
def test_foreign_files(refusal, tmp_path, content, words):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert words in refusal(path)


@pytest.mark.parametrize("name", ["model", "model.ckpt", "model.bin", "model.npz", "model.pt.tar", "model.safetensors"])
def test_other_names_do_not_matter(save, name):
    assert load(save(nn.RNN(1, 2).state_dict(), name)).stacks


def test_a_missing_file_and_its_neighbour(refusal, save):
    path = save(nn.RNN(1, 2).state_dict(), "encoder_final.pt")
    message = refusal(path.with_name("encoder_fnal.pt"))
    assert message.endswith(f"no such file; did you mean {path}?")
    assert refusal(path.with_name("zzz")).endswith("no such file")
    missing = path.parent / "nowhere" / "model.pt"
    assert refusal(missing).endswith(f"no such file, nor a directory {missing.parent}")


def test_a_directory(refusal, tmp_path):
    assert "a folder in which no model was recognised (it holds nothing)" in refusal(tmp_path)


def test_a_pipe_is_not_waited_for(refusal, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "neither a regular file nor a folder" in refusal(tmp_path / "pipe")


def test_a_file_in_the_way_of_a_directory(refusal, save):
    assert "cannot be read: Not a directory" in refusal(save({}) / "model.pt")


def test_permission_denied(refusal, save):
    path = save(nn.RNN(1, 2).state_dict())
    path.chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may read everything
    try:
        message = refusal(path)
    finally:
        os.seteuid(user)
    assert "cannot be read: Permission denied" in message


def test_a_name_too_long(refusal, tmp_path):
    assert "cannot be read: File name too long" in refusal(tmp_path / ("x" * 1000))


def test_wrapped_errors_keep_their_cause(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="copy it again or save it again") as caught:
        load(path)
    assert isinstance(caught.value.__cause__, pickle.UnpicklingError)
