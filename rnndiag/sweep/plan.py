"""What is to be measured: the net and probe of each condition, and whether they fit."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from rnndiag.config.settings import Settings
from rnndiag.errors import SettingsError
from rnndiag.kinds import KINDS
from rnndiag.machine.device import device_of, memory_of
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.sweep.axes import Axes, Condition, conditions, varying
from rnndiag.theory.mean_field import critical_sigma, mean_field

BATCH_BYTES = 1 << 27
"""The memory of one batch of nets: large enough to be fast, small enough for points to arrive one after another."""

MAX_BATCH_NETS = 32
"""The largest number of nets in a batch."""

DEFAULT_NETS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep before it is run.

    Args of ``RandomNet`` that are no axes, the probe and the settings are common to all points; net ``i`` of a point
    has seed ``settings.seed + i``.
    """

    axes: Axes
    probe: Probe
    """its length is overridden by the axis ``length``"""
    settings: Settings
    nets: int = DEFAULT_NETS
    """per point"""
    input_size: int = 16
    forget_bias: float = 0.0

    def __post_init__(self) -> None:
        varying(self.axes)
        cells = self.axes.get("cell", ())
        if self.forget_bias and "lstm" not in cells:
            raise SettingsError(f"--forget-bias is for --cell lstm, got --cell {','.join(map(str, cells))}")
        if self.nets < 1:
            raise SettingsError(f"--nets: expected at least 1, got {self.nets}")
        for condition in conditions(self.axes):
            self.check(condition)

    @property
    def seeds(self) -> range:
        """Of the nets at each point."""
        return range(self.settings.seed, self.settings.seed + self.nets)

    def net(self, condition: Condition, seed: int) -> RandomNet:
        """The net of a seed under a condition.

        Raises:
            SettingsError: for a condition that no net can have.
        """
        given: dict[str, Any] = {name: value for name, value in condition if name != "length"}
        bias = self.forget_bias if given.get("cell") == "lstm" else 0.0
        return RandomNet(**given, input_size=self.input_size, forget_bias=bias, seed=seed)

    def driven_by(self, condition: Condition) -> Probe:
        """The probe under a condition."""
        length: Any = dict(condition)["length"]
        if self.probe.array is None:
            return replace(self.probe, length=length)
        if length > self.probe.length:
            raise SettingsError(
                f"--T {length}: is more than the {self.probe.length} steps that the probe's array holds"
            )
        return replace(self.probe, length=length, array=self.probe.array[:length])

    def lag(self, condition: Condition) -> int:
        """The lag of the verdict: as told, or all steps of the probe."""
        length: Any = dict(condition)["length"]
        return self.settings.lag or int(length)

    def check(self, condition: Condition) -> None:
        """Refuse beforehand what could not be measured.

        Raises:
            SettingsError: with the figure, where it would not fit into memory; for a lag longer than the probe.
            ProbeError: for a length under one step.
        """
        probe = self.driven_by(condition)
        self.net(condition, 0)
        if self.lag(condition) > probe.length:
            raise SettingsError(
                f"--lag {self.lag(condition)} is longer than the probe; expected at most {probe.length}"
            )
        device = device_of(self.settings)
        needed, held = self.bytes_of(condition), memory_of(device)
        if needed > held:
            shown, where = dict(condition), "this machine" if device.type == "cpu" else f"--device {device}"
            raise SettingsError(
                f"a net of H={shown['hidden']} on T={shown['length']} and B={probe.batch} would take about "
                f"{needed / 2**30:.0f} GiB, {where} has {held / 2**30:.0f} GiB; lower --hidden, --T or --batch"
            )

    def at_once(self) -> int:
        """How many nets fit into memory together."""
        largest = max(self.bytes_of(condition) for condition in conditions(self.axes))
        return max(1, int(min(memory_of(device_of(self.settings)) // largest, sys.maxsize)))

    def bytes_of(self, condition: Condition) -> int:
        """About what measuring one net takes at its peak."""
        net, probe = self.net(condition, 0), self.driven_by(condition)
        gates = len(KINDS[net.cell].family.gates)
        weights = 3 * gates * net.hidden * (net.hidden + net.input_size)
        along = probe.length * probe.batch * (net.input_size + net.hidden * (4 + 6 * gates))
        back = self.lag(condition) * probe.batch * (gates * net.hidden + self.settings.draws * net.input_size * 2)
        return (weights + along + back) * (8 if self.settings.dtype == "float64" else 4)

    def theory(self, condition: Condition) -> tuple[float | None, float | None]:
        """Mean field's rate and critical gain; None where it does not apply.

        For the gaussian init of an Elman net, with the variance ``input_scale^2 E[x^2] + bias_scale^2`` into each
        preactivation. A net that rests at exactly zero has the rate ``log sigma`` there (tanh; relu has no slope).
        """
        net = self.net(condition, 0)
        if net.init != "gaussian" or net.cell not in ("tanh", "relu"):
            return None, None
        variance = net.input_scale**2 * self._second_moment(condition) + (net.bias_scale or 0.0) ** 2
        sigma = 1.0 if net.sigma is None else net.sigma
        if not self.at_rest(condition):
            return mean_field(sigma, variance, net.cell).rate, critical_sigma(variance, net.cell)
        return (math.log(sigma), 1.0) if net.cell == "tanh" else (None, None)

    def at_rest(self, condition: Condition) -> bool:
        """Whether nothing ever moves the net from its initial state zero."""
        net = self.net(condition, 0)
        still = self.probe.kind == "zeros" or self.probe.scale == 0 or net.input_scale == 0
        return still and not (net.init == "pytorch" and net.bias_scale is None) and not net.bias_scale

    def _second_moment(self, condition: Condition) -> float:
        """``E[x^2]`` of the probe's entries in the long run: none is left of an impulse."""
        probe = self.driven_by(condition)
        if probe.array is not None:
            return float(probe.array.square().mean()) * probe.scale**2
        return {"noise": 1.0, "constant": 1.0, "sine": 0.5}.get(probe.kind, 0.0) * probe.scale**2

    def batches(self, wanted: list[tuple[Condition, int]]) -> Iterator[list[tuple[Condition, int]]]:
        """Nets that can go together, in the order given, as many at a time as memory allows."""
        batch: list[tuple[Condition, int]] = []
        shape: object = None
        for condition, seed in wanted:
            given = dict(condition)
            here = (given["cell"], given["hidden"], given["length"])
            if batch and (here != shape or len(batch) >= self._together(batch[0][0])):
                yield batch
                batch = []
            batch.append((condition, seed))
            shape = here
        if batch:
            yield batch

    def _together(self, condition: Condition) -> int:
        return max(1, min(MAX_BATCH_NETS, BATCH_BYTES // self.bytes_of(condition)))
