"""Everything that is measured on one layer, and on one stack of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.cells.layer import CellKind, Direction, RecurrentLayer, Stack
from rnndiag.config import Settings
from rnndiag.measures.adjoint import Adjoint, layer_adjoint, stack_adjoint
from rnndiag.measures.gradient import GradientThroughTime, LayerGradient, layer_through_time, through_time
from rnndiag.measures.lyapunov import Lyapunov, lyapunov
from rnndiag.measures.numerics import Numerics, parameter_health
from rnndiag.measures.recurrent_weight import RecurrentWeight, recurrent_weight
from rnndiag.measures.saturation import Gate, Saturation, gates, saturation
from rnndiag.measures.step_norms import StepNorms, step_norms
from rnndiag.measures.verdict import Verdict
from rnndiag.seeds import generator
from rnndiag.trajectory import Trajectory

STAGES = ("spectrum", "step norms", "gradient", "exponents")


@dataclass(frozen=True, slots=True)
class LayerMeasures:
    """One layer in one direction. A measure is None where numbers were not finite: see ``numerics``."""

    name: str
    cell: CellKind
    input_size: int
    hidden_size: int
    proj_size: int
    direction: Direction
    nonlinearity_assumed: bool
    verdict: Verdict
    recurrent_weight: RecurrentWeight | None
    jacobian: StepNorms | None
    gradient: LayerGradient | None
    lyapunov: Lyapunov | None
    saturation: Saturation | None
    gates: dict[str, Gate]
    bias_scale: float
    """root mean square of ``bias_ih + bias_hh``"""
    forget_bias: float | None
    """mean of the forget gate's two biases together; LSTM only"""
    numerics: Numerics
    reset_after: bool | None = None
    """whether a GRU's reset gate multiplies ``W_hn h- + b_hn``, as in PyTorch, or ``h-`` itself; None: no GRU"""


@dataclass(frozen=True, slots=True)
class Trainability:
    """How likely a net like this one learns a dependency at the lag."""

    probability: float


@dataclass(frozen=True, slots=True)
class StackMeasures:
    """Layers that feed one another, judged by the adjoint through all of them."""

    name: str
    layers: tuple[str, ...]
    verdict: Verdict
    lag: int
    gradient: GradientThroughTime | None
    trainability: Trainability | None = None
    """None: not determined"""


def measure_layer(
    run: Trajectory,
    stored: RecurrentLayer,
    lag: int,
    settings: Settings,
    *,
    embedding: Tensor | None = None,
    stage: Callable[[str], None] = lambda name: None,
) -> tuple[LayerMeasures, Adjoint | None]:
    """Measure one layer alone along its trajectory.

    Args:
        run: the layer in the precision of the measurement.
        stored: the layer in the file's own dtype.
        lag: of the verdict, at most the trajectory's length.
        settings: precision, exponents, seeds, thresholds.
        embedding: the table that feeds the layer, where there is one.
        stage: told the name of each of the ``STAGES`` before it begins.

    Returns:
        The measures, and the adjoint behind the gradient's, which a stack of one layer shares.
    """
    numerics = parameter_health(stored, run, embedding)
    measured: dict[str, object] = {
        "name": run.layer.name,
        "cell": run.layer.cell,
        "input_size": run.layer.input_size,
        "hidden_size": run.layer.hidden_size,
        "proj_size": run.layer.proj_size,
        "direction": run.layer.direction,
        "nonlinearity_assumed": run.layer.nonlinearity_assumed,
        "reset_after": run.layer.reset_after if run.layer.cell == "gru" else None,
        "bias_scale": _bias_scale(run.layer),
        "forget_bias": _forget_bias(run.layer),
        "numerics": numerics,
    }
    adjoint = None
    broken = set(numerics.nonfinite_parameters)
    stage("spectrum")
    if not broken - {"embedding"}:
        measured["recurrent_weight"] = recurrent_weight(run.layer)
    if not broken and numerics.inputs_finite and numerics.first_nonfinite_step is None:
        thresholds, jacobian = settings.thresholds, run.along.state_jacobian
        stage("step norms")
        measured["jacobian"], norms = step_norms(jacobian, generator=generator(settings.seed, "step norms"))
        stage("gradient")
        adjoint = layer_adjoint(run, draws=settings.draws, generator=generator(settings.seed, "gradient"))
        gradient, verdict = layer_through_time(run.layer, adjoint, norms, lag, thresholds)
        measured |= {"gradient": gradient, "verdict": verdict}
        stage("exponents")
        measured["lyapunov"] = lyapunov(
            jacobian,
            run.inputs,
            settings.exponents,
            lag,
            thresholds.vanishing,
            generator=generator(settings.seed, "exponents"),
        )
        measured["saturation"] = saturation(run, thresholds)
        measured["gates"] = gates(run, thresholds)
    return LayerMeasures(**(_NOT_MEASURED | measured)), adjoint  # type: ignore[arg-type]  # keys are fields


_NOT_MEASURED: dict[str, object] = {
    "verdict": "invalid",
    "recurrent_weight": None,
    "jacobian": None,
    "gradient": None,
    "lyapunov": None,
    "saturation": None,
    "gates": {},
}


def measure_stack(
    stack: Stack,
    levels: Sequence[Sequence[Trajectory]],
    layers: Sequence[LayerMeasures],
    lone: Adjoint | None,
    lag: int,
    settings: Settings,
) -> StackMeasures:
    """Judge a stack; ``lone`` is the adjoint of its only layer, where it has but one."""
    names = tuple(layer.name for layer in layers)
    if any(layer.gradient is None for layer in layers):
        return StackMeasures(stack.name, names, "invalid", lag, None)
    adjoint = lone or stack_adjoint(levels, draws=settings.draws, generator=generator(settings.seed, "gradient"))
    gradient, verdict = through_time(adjoint, lag, settings.thresholds)
    return StackMeasures(stack.name, names, verdict, lag, gradient)


def _bias_scale(layer: RecurrentLayer) -> float:
    biases = [bias for bias in (layer.bias_ih, layer.bias_hh) if bias is not None]
    return float(torch.stack(biases).sum(0).square().mean().sqrt()) if biases else 0.0


def _forget_bias(layer: RecurrentLayer) -> float | None:
    if layer.cell != "lstm":
        return None
    biases = [bias for bias in (layer.bias_ih, layer.bias_hh) if bias is not None]
    return float(torch.stack([layer.blocks(b)["forget"] for b in biases]).sum(0).mean()) if biases else 0.0
