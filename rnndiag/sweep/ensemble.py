"""Many random nets of one shape, measured together by what ``simulate`` measures one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rnndiag.config.settings import Settings
from rnndiag.machine.device import device_of
from rnndiag.measures.adjoint import nets_gain
from rnndiag.measures.gradient import gain_at, rate_of
from rnndiag.measures.saturation import saturation_rate
from rnndiag.measures.statistics import median
from rnndiag.measures.step_norms import rms_gains
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
        if run.first_nonfinite_step() is None:
            finite.append(index)
            runs.append(run)
    if not runs:
        return measures
    streams = [generator(nets[index].seed, "gradient") for index in finite]
    logs = nets_gain(runs, lag, draws=settings.draws, generators=streams) / math.log(10)
    for index, run, samples in zip(finite, runs, logs, strict=True):
        rms = float(median(rms_gains(run.along.state_jacobian).flatten()))
        if math.isnan(rms):
            continue
        gain, interval, verdict = gain_at(samples, settings.thresholds)
        measures[index] = NetMeasure(
            seed=nets[index].seed,
            verdict=verdict,
            rate=rate_of(gain, lag),
            log10_gain=gain,
            log10_gain_interval=interval,
            rms_gain=rms,
            saturation=saturation_rate(run, settings.thresholds),
        )
    return measures
