"""Everything that is measured on one layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnndiag.cells.custom import Layer
from rnndiag.cells.layer import Direction, RecurrentLayer
from rnndiag.config.settings import Settings
from rnndiag.kinds import GATED
from rnndiag.measures.adjoint import Adjoint, layer_adjoint
from rnndiag.measures.gradient import LayerGradient, layer_through_time
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
    cell: str
    """the kind of cell, such as ``lstm`` or ``layernorm_lstm``; ``custom``: a step function"""
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
    """root mean square of ``bias_ih + bias_hh``, or of the biases of the norms in their place"""
    forget_bias: float | None
    """mean of the forget gate's biases together, those of norms included; LSTM only"""
    numerics: Numerics
    reset_after: bool | None = None
    """whether a GRU's reset gate multiplies ``W_hn h- + b_hn``, as in PyTorch, or ``h-`` itself; None: no GRU"""
    alternative: Alternative | None = None
    """the verdict under the other nonlinearity, where one was assumed in the stack; ``verdict`` is ``inconclusive``
    where the two differ"""
    states: StateSize | None = None
    """the size of the states over the steps; None where weights or inputs are not finite"""


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
        stage: called with the name of each of the ``STAGES`` before it begins.

    Returns:
        The measures, and the adjoint behind the gradient's, which a stack of one layer shares.
    """
    layer = run.layer
    if isinstance(stored, RecurrentLayer):
        numerics = parameter_health(stored, run, embedding)
    else:
        numerics = state_health(stored, run)
    measures = _unmeasured(run, numerics)
    broken = set(numerics.nonfinite_parameters or ())
    stage("spectrum")
    if isinstance(layer, RecurrentLayer):
        dtype = stored.weight_hh.dtype if isinstance(stored, RecurrentLayer) else None
        measures = _with_weights(measures, layer, dtype, finite=not broken - {"embedding"})
    if broken or not numerics.inputs_finite:
        return measures, None
    measures = replace(measures, states=state_size(run))
    if numerics.first_nonfinite_step is not None:
        return measures, None
    return _with_dynamics(measures, run, lag, settings, stage)


def _with_dynamics(
    measures: LayerMeasures, run: Trajectory, lag: int, settings: Settings, stage: Callable[[str], None]
) -> tuple[LayerMeasures, Adjoint | None]:
    """Add what follows from the Jacobians along a trajectory of finite states; also return the adjoint."""
    thresholds, jacobian = settings.thresholds, run.state_jacobians
    stage("step norms")
    norms_summary, log10_norms = step_norms(jacobian, generator=generator(settings.seed, "step norms"))
    undefined = log10_norms.isnan().any(-1)
    if bool(undefined.any()):
        numerics = replace(measures.numerics, first_nonfinite_jacobian=int(undefined.nonzero()[0]) + 1)
        return replace(measures, numerics=numerics), None
    stage("gradient")
    adjoint = layer_adjoint(run, draws=settings.draws, generator=generator(settings.seed, "gradient"))
    gradient, verdict = layer_through_time(run.layer, adjoint, log10_norms, lag, thresholds)
    stage("exponents")
    spectrum = lyapunov(
        jacobian,
        run.inputs,
        settings.exponents,
        lag,
        thresholds.vanishing,
        generator=generator(settings.seed, "exponents"),
    )
    measures = replace(measures, jacobian=norms_summary, gradient=gradient, verdict=verdict, lyapunov=spectrum)
    if isinstance(run.layer, RecurrentLayer):
        measures = replace(measures, saturation=saturation(run, thresholds), gates=gates(run, thresholds))
    return measures, adjoint


def _unmeasured(run: Trajectory, numerics: Numerics) -> LayerMeasures:
    """A layer of which only the shape and the health of its numbers are known."""
    layer = run.layer
    return LayerMeasures(
        name=layer.name,
        cell=layer.cell,
        input_size=layer.input_size,
        hidden_size=layer.hidden_size,
        state_size=run.state_jacobians.shape[0],
        proj_size=layer.proj_size,
        direction=layer.direction,
        nonlinearity_assumed=layer.nonlinearity_assumed,
        verdict="invalid",
        recurrent_weight=None,
        jacobian=None,
        gradient=None,
        lyapunov=None,
        saturation=None,
        gates=None,
        bias_scale=None,
        forget_bias=None,
        numerics=numerics,
    )


def _with_weights(
    measures: LayerMeasures, layer: RecurrentLayer, stored: torch.dtype | None, *, finite: bool
) -> LayerMeasures:
    """Add what follows from the weights alone."""
    return replace(
        measures,
        recurrent_weight=recurrent_weight(layer, stored) if finite else None,
        gates={},
        bias_scale=_bias_scale(layer),
        forget_bias=_forget_bias(layer),
        reset_after=layer.reset_after if layer.kind.family is GATED else None,
    )


def _bias_scale(layer: RecurrentLayer) -> float:
    biases = [layer.parameters[name] for name in layer.gate_biases]
    if not biases:
        return 0.0
    total = torch.stack(biases).cpu().double().sum(0)
    length, power = safe_norm(total)
    return float(times_power_of_two(length / math.sqrt(len(total)), power))


def _forget_bias(layer: RecurrentLayer) -> float | None:
    if not layer.kind.has_cell_state:
        return None
    biases = [layer.parameters[name] for name in layer.gate_biases]
    return float(torch.stack([layer.blocks(b)["forget"] for b in biases]).sum(0).mean()) if biases else 0.0
