"""Parsers in processes of their own, on systems that lack what POSIX has."""

from __future__ import annotations

import signal

import pytest

from rnndiag.checkpoint import load
from rnndiag.errors import CheckpointError
from tests.builders.onnx_files import graph, operator, weights, write


def test_without_the_signal_of_a_limit(tmp_path, monkeypatch):
    """Windows has no SIGXCPU."""
    monkeypatch.delattr(signal, "SIGXCPU", raising=False)
    path = write(tmp_path / "model.onnx", graph([operator()], weights("LSTM")))
    assert [layer.name for stack in load(path).stacks for layer in stack.layers] == ["layer.l0"]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="copy it again"):
        load(path)
