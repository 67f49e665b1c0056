"""Measure one stack on its bench: each layer on its own, then the stack as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from torch import Tensor

from rnndiag.bench import Bench
from rnndiag.cells.custom import StepLayer
from rnndiag.cells.layer import Stack
from rnndiag.config.settings import Settings
from rnndiag.errors import SettingsError
from rnndiag.machine.device import measuring
from rnndiag.measures.alternative import as_assumed, with_alternative
from rnndiag.measures.gain import Gain, measured_gain
from rnndiag.measures.layer import STAGES, LayerMeasures, measure_layer
from rnndiag.measures.stack import StackMeasures, measure_stack
from rnndiag.measures.step_norms import estimates_rms
from rnndiag.measuring_cost import check_cost
from rnndiag.trajectory import run_stack, run_step


@dataclass(frozen=True, slots=True)
class MeasuredStack:
    """A stack that was measured on its bench."""

    bench: Bench
    stack: StackMeasures
    """the measures of the whole stack"""
    layers: tuple[LayerMeasures, ...]
    """the measures of each layer on its own"""
    gain: Gain | None
    """what treatments start from, under the nonlinearity that was assumed; None where the stack has no gradient"""

    @property
    def healthy(self) -> bool:
        """Whether the verdict is healthy, under the nonlinearity that was assumed."""
        return as_assumed(self.stack).verdict == "healthy"


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """A step function that was measured."""

    stack: StackMeasures
    layer: LayerMeasures
    rms_is_estimated: bool
    """whether ``rms_gain_median`` comes from random vectors"""


STEP_STAGES: Final = 2 + len(STAGES)
"""How many stages ``measure_step`` reports."""


def stage_count(stack: Stack) -> int:
    """How many stages ``measure`` reports."""
    return 2 + len(STAGES) * len(stack.layers)


def measure(bench: Bench, report_stage: Callable[[str], None]) -> MeasuredStack:
    """Measure a stack.

    Args:
        bench: the stack on its probe.
        report_stage: called with the name of each stage before it begins.

    Raises:
        SettingsError: the measurement does not fit into memory, or the weights do not fit into its dtype.
    """
    check_cost(bench)
    working = bench.working()
    _check_range(bench, working)
    report_stage(f"{bench.name}: states")
    inputs = bench.inputs()
    # The trajectories take most of the memory. They are released when the function returns.
    measured = _as_assumed(bench, working, inputs, report_stage)
    stack, layers = with_alternative(measured.stack, measured.layers, working, inputs, bench.lag, bench.settings)
    return MeasuredStack(bench, stack, tuple(layers), measured.gain)


def measure_step(
    layer: StepLayer, inputs: Tensor, lag: int, settings: Settings, report_stage: Callable[[str], None]
) -> MeasuredStep:
    """Measure a step function from its own initial states, as a stack of one layer.

    Args:
        layer: the step, with an initial state for each sequence.
        inputs: ``[T, B, D]``, in the dtype and on the device of the initial states.
        lag: of the verdict, at most ``T``.
        settings: precision, exponents, seeds, thresholds.
        report_stage: called with the name of each stage before it begins.

    Raises:
        ModelError: the step raises.
    """
    with measuring(layer.state_size**2, layer.initial.device):
        report_stage(f"{layer.name}: states")
        run = run_step(layer, inputs)
        measures, adjoint = measure_layer(
            run, layer, lag, settings, stage=lambda name: report_stage(f"{layer.name}: {name}")
        )
        report_stage(f"{layer.name}: gradient")
        judged, _ = measure_stack(layer.name, [[run]], [measures], adjoint, lag, settings)
    return MeasuredStep(judged, measures, estimates_rms(run.state_jacobians.first))


def _as_assumed(bench: Bench, working: Stack, inputs: Tensor, report_stage: Callable[[str], None]) -> MeasuredStack:
    """Measure a stack with the nonlinearity that is stored or assumed."""
    levels = run_stack(working, inputs)
    runs = [run for level in levels for run in level]
    layers: list[LayerMeasures] = []
    adjoint = None
    for run, stored in zip(runs, bench.stack.layers, strict=True):
        layer, adjoint = measure_layer(
            run,
            stored,
            bench.lag,
            bench.settings,
            embedding=bench.stack.embedding if stored in bench.stack.levels[0] else None,
            stage=lambda name, of=stored.name: report_stage(f"{of}: {name}"),  # type: ignore[misc]
        )
        layers.append(layer)
    report_stage(f"{bench.name}: gradient through all layers")
    lone = adjoint if len(runs) == 1 else None
    judged, through_stack = measure_stack(bench.name, levels, layers, lone, bench.lag, bench.settings)
    gain = None if through_stack is None else measured_gain(judged, layers, through_stack)
    judged = replace(judged, assumed_class=bench.stack.assumed_class)
    return MeasuredStack(bench, judged, tuple(layers), gain)


def _check_range(bench: Bench, working: Stack) -> None:
    """Refuse weights that overflow in the dtype of the measurement.

    Raises:
        SettingsError: with the name of the layer.
    """
    for stored, layer in zip(bench.stack.layers, working.layers, strict=True):
        pairs = zip(stored.parameters.values(), layer.parameters.values(), strict=True)
        if any(bool((one.isfinite().to(two.device) & two.isinf()).any()) for one, two in pairs):
            raise SettingsError(f"{layer.name}: weights overflow {bench.settings.dtype}; measure with --dtype float64")
