"""Go through the layers of a patient: to treat them, or to drive each of them with its own inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.config.settings import Thresholds
from rnndiag.measures.gain import layer_gain
from rnndiag.treatments.patient import Patient

LayerTreatment = Callable[[RecurrentLayer, Tensor], RecurrentLayer]


def each_layer(patient: Patient, treat: LayerTreatment, *, ill_only: bool = True) -> Stack:
    """Treat layers bottom up, each on what the treated layers below it send up.

    Args:
        patient: whose stack is treated.
        treat: given a layer and its inputs ``[T, B, D]``, returns another layer.
        ill_only: leave out layers whose own gain lies within the healthy band, if there are others.
    """
    treatable = [layer in patient.treatable for layer in patient.stack.layers]
    own_gains = zip(treatable, _own_gains(patient), strict=True)
    ill = [may and not (ill_only and _inside(own, patient.thresholds)) for may, own in own_gains]
    chosen = iter(ill if any(ill) else treatable)
    inputs, levels = patient.inputs, []
    for level in patient.stack.levels:
        done = tuple(treat(layer, inputs) if next(chosen) else layer for layer in level)
        levels.append(done)
        inputs = patient.outputs(done, inputs)
    return replace(patient.stack, levels=tuple(levels))


def _own_gains(patient: Patient) -> list[float]:
    """The log10 gain of each layer by itself."""
    if len(patient.stack.layers) == 1:
        return [patient.gain.log10]
    if patient.gain.by_layer is not None:
        return list(patient.gain.by_layer)
    return [layer_gain(layer, inputs, patient.lag, patient.settings) for layer, inputs in driven(patient)]


def _inside(gain: float, band: Thresholds) -> bool:
    return band.vanishing <= gain <= band.exploding


def every_layer(patient: Patient, treat: Callable[[RecurrentLayer], RecurrentLayer]) -> Stack:
    """Treat every layer that may be treated, whatever feeds it."""
    own = patient.treatable
    levels = (tuple(treat(layer) if layer in own else layer for layer in level) for level in patient.stack.levels)
    return replace(patient.stack, levels=tuple(levels))


def driven(patient: Patient) -> Iterator[tuple[RecurrentLayer, Tensor]]:
    """Each layer, in the precision of the measurement, with its inputs ``[T, B, D]``, bottom up."""
    inputs = patient.inputs
    for level in patient.working.levels:
        for layer in level:
            yield layer, inputs
        inputs = patient.outputs(level, inputs)
