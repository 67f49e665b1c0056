"""Everything that is measured on one layer, and on one stack of layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from rnndiag.cells.custom import Layer
from rnndiag.cells.layer import CellKind, Direction, RecurrentLayer
from rnndiag.config.settings import Settings
from rnndiag.measures.adjoint import Adjoint, layer_adjoint, stack_adjoint
from rnndiag.measures.gradient import GradientThroughTime, LayerGradient, layer_through_time, through_time
from rnndiag.measures.lyapunov import Lyapunov, lyapunov
from rnndiag.measures.numerics import Numerics, parameter_health, state_health
from rnndiag.measures.saturation import Gate, Saturation, gates, saturation
from rnndiag.measures.state_size import StateSize, state_size
from rnndiag.measures.step_norms import StepNorms, step_norms
from rnndiag.measures.verdict import Alternative, Verdict
from rnndiag.measures.weights.recurrent_weight import RecurrentWeight, recurrent_weight
from rnndiag.operators.wide import safe_norm, times_power_of_two
from rnndiag.seeds import generator
from rnndiag.trajectory import Trajectory

STAGES = ("spectrum", "step norms", "gradient", "exponents")


@dataclass(frozen=True, slots=True)
class LayerMeasures:
    """One layer in one direction.

    A measure is None where numbers were not finite (see ``numerics``), and for a step function where it would take
    the weights, the gates or the nonlinearity, which a function does not show.
    """

    name: str
    cell: CellKind | Literal["custom"]
    """``custom``: a user's own step function"""
    input_size: int
    hidden_size: int
    state_size: int
    """``S``: hidden or projected units, and an LSTM's cells; all parts of a step function's state"""
    proj_size: int
    direction: Direction
    nonlinearity_assumed: bool
    verdict: Verdict
    recurrent_weight: RecurrentWeight | None
    jacobian: StepNorms | None
    gradient: LayerGradient | None
    lyapunov: Lyapunov | None
    saturation: Saturation | None
    gates: dict[str, Gate] | None
    """empty where there are none; None: not known"""
    bias_scale: float | None
    """root mean square of ``bias_ih + bias_hh``"""
    forget_bias: float | None
    """mean of the forget gate's two biases together; LSTM only"""
    numerics: Numerics
    reset_after: bool | None = None
    """whether a GRU's reset gate multiplies ``W_hn h- + b_hn``, as in PyTorch, or ``h-`` itself; None: no GRU"""
    alternative: Alternative | None = None
    """the verdict under the other nonlinearity, where one was assumed in the stack; ``verdict`` is ``inconclusive``
    where the two differ"""
    states: StateSize | None = None
    """the size of the states over the steps; None where weights or inputs are not finite"""


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
    alternative: Alternative | None = None
    """the verdict under the other nonlinearity, where one was assumed; ``verdict`` is ``inconclusive`` where the two
    differ"""


def measure_layer(
    run: Trajectory,
    stored: Layer,
    lag: int,
    settings: Settings,
    *,
    embedding: Tensor | None = None,
    stage: Callable[[str], None] = lambda name: None,
) -> tuple[LayerMeasures, Adjoint | None]:
    """Measure one layer alone along its trajectory.

    Args:
        run: the layer in the precision of the measurement.
        stored: the layer in the file's own dtype; a step function as it is.
        lag: of the verdict, at most the trajectory's length.
        settings: precision, exponents, seeds, thresholds.
        embedding: the table that feeds the layer, where there is one.
        stage: told the name of each of the ``STAGES`` before it begins.

    Returns:
        The measures, and the adjoint behind the gradient's, which a stack of one layer shares.
    """
    layer = run.layer
    if isinstance(stored, RecurrentLayer):
        numerics = parameter_health(stored, run, embedding)
    else:
        numerics = state_health(stored, run)
    measured: dict[str, object] = {
        "name": layer.name,
        "cell": layer.cell,
        "input_size": layer.input_size,
        "hidden_size": layer.hidden_size,
        "state_size": run.state_jacobians.shape[0],
        "proj_size": layer.proj_size,
        "direction": layer.direction,
        "nonlinearity_assumed": layer.nonlinearity_assumed,
        "numerics": numerics,
    }
    adjoint = None
    broken = set(numerics.nonfinite_parameters or ())
    stage("spectrum")
    if isinstance(layer, RecurrentLayer):
        dtype = stored.weight_hh.dtype if isinstance(stored, RecurrentLayer) else None
        measured |= _of_weights(layer, dtype, finite=not broken - {"embedding"})
    if not broken and numerics.inputs_finite:
        measured["states"] = state_size(run)
    if not broken and numerics.inputs_finite and numerics.first_nonfinite_step is None:
        thresholds, jacobian = settings.thresholds, run.state_jacobians
        stage("step norms")
        norms_summary, log10_norms = step_norms(jacobian, generator=generator(settings.seed, "step norms"))
        undefined = log10_norms.isnan().any(-1)
        if bool(undefined.any()):
            measured["numerics"] = replace(numerics, first_nonfinite_jacobian=int(undefined.nonzero()[0]) + 1)
            return LayerMeasures(**(_NOT_MEASURED | measured)), None  # type: ignore[arg-type]  # keys are fields
        stage("gradient")
        adjoint = layer_adjoint(run, draws=settings.draws, generator=generator(settings.seed, "gradient"))
        gradient, verdict = layer_through_time(layer, adjoint, log10_norms, lag, thresholds)
        stage("exponents")
        spectrum = lyapunov(
            jacobian,
            run.inputs,
            settings.exponents,
            lag,
            thresholds.vanishing,
            generator=generator(settings.seed, "exponents"),
        )
        measured |= {"jacobian": norms_summary, "gradient": gradient, "verdict": verdict, "lyapunov": spectrum}
        if isinstance(layer, RecurrentLayer):
            measured |= {"saturation": saturation(run, thresholds), "gates": gates(run, thresholds)}
    return LayerMeasures(**(_NOT_MEASURED | measured)), adjoint  # type: ignore[arg-type]  # keys are fields


def _of_weights(layer: RecurrentLayer, stored: torch.dtype | None, *, finite: bool) -> dict[str, object]:
    """What follows from the weights alone, by field."""
    return {
        "recurrent_weight": recurrent_weight(layer, stored) if finite else None,
        "gates": {},
        "bias_scale": _bias_scale(layer),
        "forget_bias": _forget_bias(layer),
        "reset_after": layer.reset_after if layer.cell == "gru" else None,
    }


_NOT_MEASURED: dict[str, object] = {
    "verdict": "invalid",
    "recurrent_weight": None,
    "jacobian": None,
    "gradient": None,
    "lyapunov": None,
    "saturation": None,
    "gates": None,
    "bias_scale": None,
    "forget_bias": None,
}


def measure_stack(
    name: str,
    levels: Sequence[Sequence[Trajectory]],
    layers: Sequence[LayerMeasures],
    lone: Adjoint | None,
    lag: int,
    settings: Settings,
) -> StackMeasures:
    """Judge the stack of that name; ``lone`` is the adjoint of its only layer, where it has but one."""
    names = tuple(layer.name for layer in layers)
    if any(layer.gradient is None for layer in layers):
        return StackMeasures(name, names, "invalid", lag, None)
    adjoint = lone or stack_adjoint(levels, draws=settings.draws, generator=generator(settings.seed, "gradient"))
    gradient, verdict = through_time(adjoint, lag, settings.thresholds)
    return StackMeasures(name, names, verdict, lag, gradient)


def _bias_scale(layer: RecurrentLayer) -> float:
    biases = [bias for bias in (layer.bias_ih, layer.bias_hh) if bias is not None]
    if not biases:
        return 0.0
    total = torch.stack(biases).cpu().double().sum(0)
    length, power = safe_norm(total)
    return float(times_power_of_two(length / math.sqrt(len(total)), power))


def _forget_bias(layer: RecurrentLayer) -> float | None:
    if layer.cell != "lstm":
        return None
    biases = [bias for bias in (layer.bias_ih, layer.bias_hh) if bias is not None]
    return float(torch.stack([layer.blocks(b)["forget"] for b in biases]).sum(0).mean()) if biases else 0.0
