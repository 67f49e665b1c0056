"""What a treatment is given: a stack, the probe that it was measured on, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnndiag.bench import Bench
from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.config.settings import Settings, Thresholds
from rnndiag.files.globs import matches
from rnndiag.measures.gain import Gain, layer_gain, stack_gain
from rnndiag.probes import Probe
from rnndiag.trajectory import Trajectory, run_layer, run_stack
from rnndiag.treatments.storage_dtypes import rounded

SAMPLE_SEQUENCES = 4
"""The number of sequences on which a scale is searched before it is settled on all sequences."""

ByScale = Callable[[float], float]


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """A stack on its bench, before or after treatments."""

    bench: Bench
    """the untreated stack on its probe"""
    stack: Stack
    """in float64 on the CPU, whatever the dtype of the measurement: layers that no treatment changes keep all digits"""
    working: Stack
    """the same stack in the dtype and on the device of the measurement"""
    inputs: Tensor
    """the probe's inputs ``[T, B, D]``, likewise"""
    hidden: tuple[Tensor, ...]
    """``h_1 .. h_T`` of each layer: ``[T, B, R]``"""
    gain: Gain

    @classmethod
    def of(cls, bench: Bench, gain: Gain | None = None) -> Patient:
        """A stack before any treatment.

        Args:
            bench: the stack on its probe.
            gain: its gain, if it was measured on the bench before; None: the gain is measured now.
        """
        working, inputs = bench.working(), bench.inputs()
        levels = run_stack(working, inputs)
        gain = stack_gain(levels, bench.lag, bench.settings) if gain is None else gain
        return cls(bench, bench.stack.to(torch.float64), working, inputs, _hidden(levels), gain)

    @property
    def probe(self) -> Probe:
        """The probe that drives the stack."""
        return self.bench.probe

    @property
    def lag(self) -> int:
        """The lag of the verdict."""
        return self.bench.lag

    @property
    def settings(self) -> Settings:
        """The settings of the measurement."""
        return self.bench.settings

    @property
    def as_stored(self) -> Stack:
        """The stack in the dtypes of its file, which represent its numbers exactly."""
        return rounded(self.stack, self.bench.stack)

    @property
    def thresholds(self) -> Thresholds:
        """The healthy band."""
        return self.settings.thresholds

    @property
    def treatable(self) -> tuple[RecurrentLayer, ...]:
        """The layers that a treatment may change: those that were asked for, though a stack is measured whole."""
        return tuple(layer for layer in self.stack.layers if matches(layer.name, self.settings.layers))

    @property
    def elman(self) -> bool:
        """Whether all layers are Elman nets."""
        return all(layer.kind.elman for layer in self.stack.layers)

    @property
    def gated(self) -> bool:
        """Whether some layer has gates."""
        return any(layer.kind.gated for layer in self.stack.layers)

    @property
    def finite(self) -> bool:
        """Whether all parameters are finite numbers."""
        return all(bool(p.isfinite().all()) for la in self.stack.layers for p in la.parameters.values())

    def gains(self, scaled: Callable[[float], RecurrentLayer], inputs: Tensor) -> tuple[ByScale, ByScale]:
        """The log10 gain of a layer by itself as a function of a scale: on all sequences, and on a sample of them."""
        few, quick = inputs[:, :SAMPLE_SEQUENCES], replace(self.settings, draws=1)
        return (
            lambda scale: layer_gain(self._as_working(scaled(scale)), inputs, self.lag, self.settings),
            lambda scale: layer_gain(self._as_working(scaled(scale)), few, self.lag, quick),
        )

    def with_stack(self, stack: Stack) -> Patient:
        """The patient with other layers, which are rounded as the file would store them and measured again."""
        exact = rounded(stack, self.bench.stack).to(torch.float64)
        working = exact.to(self.bench.dtype, self.bench.device)
        levels = run_stack(working, self.inputs)
        gain = stack_gain(levels, self.lag, self.settings)
        return replace(self, stack=exact, working=working, hidden=_hidden(levels), gain=gain)

    def outputs(self, level: tuple[RecurrentLayer, ...], inputs: Tensor) -> Tensor:
        """What a level sends up, given ``[T, B, D]``."""
        runs = [run_layer(self._as_working(layer), inputs) for layer in level]
        return torch.cat([r.hidden.flip(0) if r.layer.direction == "reverse" else r.hidden for r in runs], dim=-1)

    def _as_working(self, layer: RecurrentLayer) -> RecurrentLayer:
        return layer.to(self.bench.dtype, self.bench.device)

    def change(self, before: Patient) -> float:
        """``||s' - s|| / ||s||`` over the hidden states of all layers, steps and sequences; NaN where not finite."""
        pairs = list(zip(self.hidden, before.hidden, strict=True))
        largest = max(float(state.abs().max()) for pair in pairs for state in pair)
        unit = 2.0 ** min(math.frexp(largest)[1], 1023) if math.isfinite(largest) else 1.0  # keeps squares in range
        moved = sum(float((new / unit - old / unit).square().sum()) for new, old in pairs)
        size = sum(float((old / unit).square().sum()) for _, old in pairs)
        return (moved / size) ** 0.5 if size else (0.0 if moved == 0 else float("inf"))


def _hidden(levels: Sequence[Sequence[Trajectory]]) -> tuple[Tensor, ...]:
    return tuple(run.hidden for level in levels for run in level)
