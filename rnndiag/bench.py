"""One stack with its probe, the lag, the settings and the device, for measuring, treating and prescribing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.cells.layer import Stack
from rnndiag.config.settings import Settings
from rnndiag.errors import SettingsError
from rnndiag.machine.device import device_of, measuring
from rnndiag.probes import Probe


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """A stack on its probe, with the settings of the measurement.

    A bench stores no copy of weights or inputs: its methods make a new copy at each call. Measuring makes copies, and
    treating makes them again and runs the stack again for its states. Keeping them in between would need memory for
    the copies of all stacks of the model. Only the gain of the stack, which is small, is measured once and passed on.
    """

    stack: Stack
    """the stack in the dtypes of its file"""
    probe: Probe
    settings: Settings
    lag: int
    """the lag of the verdict, at most the length of the probe"""
    device: torch.device
    """the device that measures"""

    @classmethod
    def of(cls, stack: Stack, probe: Probe, settings: Settings) -> Bench:
        """Prepare a stack.

        Raises:
            SettingsError: the lag is longer than the probe, or the device is not available.
        """
        return cls(stack, probe, settings, lag_of(settings, probe), device_of(settings))

    @property
    def name(self) -> str:
        """The name of the stack."""
        return self.stack.name

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the measurement."""
        dtype: torch.dtype = getattr(torch, self.settings.dtype)
        return dtype

    def working(self) -> Stack:
        """The stack in the dtype and on the device of the measurement."""
        return self.stack.to(self.dtype, self.device)

    def inputs(self) -> Tensor:
        """The probe's inputs ``[T, B, D]`` in the dtype and on the device of the measurement."""
        return self.probe.inputs(self.stack).to(self.device, self.dtype)

    def conditions(self) -> AbstractContextManager[None]:
        """The conditions under which the stack is measured: the number of threads, and errors of the device."""
        return measuring(max(layer.hidden_size * layer.output_size for layer in self.stack.layers), self.device)


def lag_of(settings: Settings, probe: Probe) -> int:
    """The lag of the verdict: the lag of the settings, or the length of the probe.

    Raises:
        SettingsError: the lag is longer than the probe.
    """
    lag = settings.lag or probe.length
    if lag > probe.length:
        raise SettingsError(
            f"--lag {lag} is longer than the probe; expected at most --T {probe.length}; raise --T or lower --lag"
        )
    return lag
