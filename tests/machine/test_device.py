"""Other devices: the same report there, no waiting for the device at each step, one line where it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.errors import SettingsError
from rnndiag.machine.device import at_once, device_of, measuring, single_is_single, wrap_device_errors
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from tests.oracles.same_report import assert_same

REAL = ("cuda", "xpu", "mps")


def missing(name: str) -> bool:
    module = getattr(torch.backends, name, None) if name == "mps" else getattr(torch, name, None)
    return module is None or not module.is_available()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.skipif(missing(n), reason=f"torch finds no {n} device")) for n in REAL]
)
@pytest.mark.parametrize("cell", ["tanh", "relu", "gru", "lstm"])
def test_a_real_device_gives_the_same_report(name: str, cell: Any) -> None:
    dtype = "float32" if name == "mps" else "float64"
    model = RandomNet(cell, sigma=0.9, hidden=48, layers=2).build()
    ours, theirs = (diagnose(model, Probe(length=40, batch=3), Settings(device=d, dtype=dtype)) for d in ("cpu", name))
    assert_same(theirs, ours, rel=1e-6 if dtype == "float64" else 1e-2)


def test_a_bug_stays_a_bug() -> None:
    with pytest.raises(RuntimeError, match="illegal memory access"), measuring(4, torch.device("cpu")):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_an_error_without_a_word_is_told_by_its_name() -> None:
    told = "^--device cuda: NotImplementedError; use cpu$"
    with pytest.raises(SettingsError, match=told), wrap_device_errors(torch.device("cuda")):
        raise NotImplementedError


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with measuring(4, torch.device("cpu")):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("own", ["tf32", "ieee"])
def test_single_precision_is_single_and_the_callers_choice_is_put_back(own: str) -> None:
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.rnn)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = own
        with single_is_single():
            assert [place.fp32_precision for place in places] == ["ieee", "ieee"]
        assert [place.fp32_precision for place in places] == [own, own]
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


@pytest.mark.parametrize("name", ["hpu", "cuda:99", "mps", "nonsense", "privateuseone"])
def test_a_device_that_is_not_there_is_one_short_line(name: str) -> None:
    if name == "mps" and not missing("mps"):
        pytest.skip("it is there")
    with pytest.raises(SettingsError, match=f"^--device {name}: not available here .*; use cpu$") as caught:
        device_of(Settings(device=name))
    assert len(str(caught.value)) < 350


@pytest.mark.parametrize(("gigabytes", "mebibytes"), [(1, 8), (8, 32), (16, 64), (80, 320), (1000, 512)])
def test_more_at_once_where_launches_are_dear(gigabytes: int, mebibytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert at_once(8 << 20, torch.device("cpu")) == 8 << 20
    monkeypatch.setattr("rnndiag.machine.device.memory_of", lambda device: gigabytes << 30)
    assert at_once(8 << 20, torch.device("cuda")) == mebibytes << 20


def test_what_a_device_forbids() -> None:
    """In a process of its own: torch keeps a device that was registered."""
    if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch knows no devices written in Python")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        Path(__file__).with_name("devices_alone.py"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "100%" in done.stdout
