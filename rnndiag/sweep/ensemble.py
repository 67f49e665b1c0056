"""Many random nets of one shape, measured together by what ``simulate`` measures one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rnndiag.config import Settings
from rnndiag.diagnose import device_of
from rnndiag.measures.adjoint import nets_adjoint
from rnndiag.measures.gradient import through_time
from rnndiag.measures.saturation import saturation
from rnndiag.measures.statistics import median
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.seeds import generator
from rnndiag.sweep.result import NetMeasure
from rnndiag.trajectory import Trajectory, run_layer


def measure_nets(nets: Sequence[RandomNet], probe: Probe, lag: int, settings: Settings) -> list[NetMeasure]:
    """Gain, verdict, mean gain of a step and saturation of each net.

    A net's own seed draws its weights, its probe and its last-step gradients, as in ``simulate --seed``: nets of
    one seed differ only by what their conditions scale, so that differences between them are no accident of the
    draw. States come from PyTorch's fused kernel net by net, bit for bit those of ``simulate`` (in chaos anything
    less would be another trajectory); the way back, where two thirds of the time goes, is one product a step for
    all of them.

    Args:
        nets: of one layer each, and of the same cell, ``H`` and ``D``.
        probe: the kind, length, batch and scale; its seed is not used.
        lag: of the verdict, at most the probe's length.
        settings: precision, device, draws, thresholds; its seed is not used.

    Returns:
        One for each net, ``invalid`` where its states are not finite.
    """
    dtype, device = getattr(torch, settings.dtype), device_of(settings)
    inputs: dict[int, Tensor] = {}
    finite: list[int] = []
    runs: list[Trajectory] = []
    measures = [NetMeasure(net.seed, "invalid") for net in nets]
    for index, net in enumerate(nets):
        (stack,) = net.build().stacks
        (layer,) = stack.layers
        if net.seed not in inputs:
            inputs[net.seed] = replace(probe, seed=net.seed).inputs(stack).to(device, dtype)
        run = run_layer(layer.to(dtype, device), inputs[net.seed])
        if bool(run.hidden.isfinite().all()) and run.first_nonfinite_step() is None:
            finite.append(index)
            runs.append(run)
    if not runs:
        return measures
    streams = [generator(nets[index].seed, "gradient") for index in finite]
    adjoints = nets_adjoint(runs, lag, draws=settings.draws, generators=streams)
    for index, run, adjoint in zip(finite, runs, adjoints, strict=True):
        jacobian = run.along.state_jacobian
        rms = float(median((jacobian.frobenius_squared() / jacobian.shape[0]).sqrt().flatten()))
        if math.isnan(rms):
            continue
        gradient, verdict = through_time(adjoint, lag, settings.thresholds)
        measures[index] = NetMeasure(
            seed=nets[index].seed,
            verdict=verdict,
            rate=gradient.rate,
            log10_gain=gradient.log10_gain,
            log10_gain_interval=gradient.log10_gain_interval,
            rms_gain=rms,
            saturation=saturation(run, settings.thresholds).rate,
        )
    return measures
