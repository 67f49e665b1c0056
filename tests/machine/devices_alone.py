"""The whole diagnosis on a device that the processor plays, for ``test_device.py`` to run in a process of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rnndiag.checkpoint import load
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.errors import SettingsError
from rnndiag.measures.adjoint import layer_adjoint
from rnndiag.prescription import prescribe
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.sweep.ensemble import measure_nets
from rnndiag.trajectory import run_layer
from tests.oracles.accelerator import DEVICE, Accelerator, aten
from tests.oracles.same_report import assert_same
from tests.paths import SAMPLES

DRAWN = (
    RandomNet("tanh", sigma=0.9, hidden=24, layers=2),
    RandomNet("relu", sigma=1.2, hidden=24),
    RandomNet("gru", hidden=12, layers=2),
    RandomNet("lstm", hidden=12),
)
STORED = ("bilstm_2layer.pt", "encoder_decoder.pt", "vanishing_tanh.pt", "saturated_tanh.pt")


@pytest.mark.parametrize(
    ("model", "exponents"),
    [*((model, 4) for model in (*DRAWN, *STORED)), *((model, "all") for model in DRAWN)],
    ids=lambda value: value.cell if isinstance(value, RandomNet) else str(value),
)
def test_what_runs_here_runs_there(model: RandomNet | str, exponents: Any) -> None:
    given = load(SAMPLES / model) if isinstance(model, str) else model.build()
    probe = Probe("tokens" if model == "encoder_decoder.pt" else "noise", length=20, batch=3)
    treat = exponents != "all"  # once is enough: treatments do not depend on the number of exponents
    here = diagnose(given, probe, Settings(exponents=exponents, treat=treat))
    with Accelerator():
        there = diagnose(given, probe, Settings(exponents=exponents, treat=treat, device=DEVICE))
    assert there.device == DEVICE
    assert_same(there, here, rel=1e-6)


def test_a_prescription_there() -> None:
    model = load(SAMPLES / "vanishing_tanh.pt")
    # Clipping is advised from parameters' gradients, whose backward pass is torch's and knows real devices alone.
    here = prescribe(model, Probe(length=20, batch=3), treatments="[!c]*")
    with Accelerator():
        there = prescribe(model, Probe(length=20, batch=3), Settings(device=DEVICE), treatments="[!c]*")
    assert here.prescription.chosen is not None
    assert there.prescription.chosen == here.prescription.chosen
    assert [each.name for each in there.prescription.treatments] == [each.name for each in here.prescription.treatments]


def test_a_sweep_there() -> None:
    nets = [RandomNet(sigma=sigma, hidden=16, seed=seed) for sigma in (0.5, 1.5) for seed in (0, 1)]
    here = measure_nets(nets, Probe(length=20, batch=3), 20, Settings())
    with Accelerator():
        there = measure_nets(nets, Probe(length=20, batch=3), 20, Settings(device=DEVICE))
    assert [net.log10_gain for net in there] == pytest.approx([net.log10_gain for net in here], rel=1e-9)


def waits(length: int, exponents: int | str, cell: Any = "tanh") -> int:
    model = RandomNet(cell, sigma=1.2, hidden=16).build()
    with Accelerator() as device:
        diagnose(model, Probe(length=length, batch=2), Settings(device=DEVICE, exponents=exponents, treat=False))  # type: ignore[arg-type]
    return sum(device.waits.values())


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize("exponents", [4, "all"])
def test_no_step_waits_for_the_device(cell: Any, exponents: int | str) -> None:
    """150 more steps of each loop bring a few more looks, not 150."""
    assert waits(200, exponents, cell) - waits(50, exponents, cell) < 50


def test_the_way_back_waits_for_nothing() -> None:
    ((layer,),) = (stack.layers for stack in RandomNet("lstm", hidden=16).build().stacks)
    with Accelerator() as device:
        run = run_layer(layer.to(torch.float64, DEVICE), torch.randn(50, 2, 16, dtype=torch.float64).to(DEVICE))
        device.waits.clear()
        adjoint = layer_adjoint(run, draws=2, generator=torch.Generator().manual_seed(0))
        assert set(device.waits) <= {"aten._to_copy.default"}, device.waits  # the seed's way there
        assert sum(device.waits.values()) <= 1
        assert adjoint.states.device.type == DEVICE


def test_tensors_of_two_devices_do_not_meet() -> None:
    with Accelerator(), pytest.raises(RuntimeError, match="same device"):
        torch.ones(3, device=DEVICE) + torch.ones(3)


def test_a_device_without_double_precision() -> None:
    def without(operation: Any, options: dict[str, Any]) -> Exception | None:
        return TypeError("no float64 here") if options.get("dtype") is torch.float64 else None

    model, probe = RandomNet(hidden=8).build(), Probe(length=10, batch=2)
    with Accelerator(without):
        with pytest.raises(SettingsError, match="has no float64; measure with --dtype float32, or on cpu"):
            diagnose(model, probe, Settings(device=DEVICE))
        single = diagnose(model, probe, Settings(device=DEVICE, dtype="float32"))
    assert_same(single, diagnose(model, probe, Settings(dtype="float32")), rel=1e-3)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            NotImplementedError("The operator 'aten::linalg_qr' is not implemented for this device. More words."),
            "^--device privateuseone: The operator 'aten::linalg_qr' is not implemented for this device; use cpu$",
        ),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), ": out of memory; lower --T, --batch or --exponents$"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), ": out of memory; lower --T"),
    ],
    ids=["an operation it lacks", "full", "full, by another name"],
)
def test_what_a_device_cannot_do_is_one_line(error: Exception, line: str) -> None:
    def refused(operation: Any, options: dict[str, Any]) -> Exception | None:
        return error if operation is aten.linalg_qr else None

    with Accelerator(refused), pytest.raises(SettingsError, match=line):
        diagnose(RandomNet(hidden=8).build(), Probe(length=10, batch=2), Settings(device=DEVICE))
