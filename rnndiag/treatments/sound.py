"""A sound net of the same shape, with which treated nets and clipping thresholds are compared."""

from __future__ import annotations

from dataclasses import replace

from rnndiag.treatments.chrono import Chrono
from rnndiag.treatments.patient import SAMPLE_SEQUENCES, Patient
from rnndiag.treatments.reinitialize import Reinitialize
from rnndiag.treatments.rescale import Rescale
from rnndiag.treatments.scale_inputs import ScaleInputs

_THEN = (Chrono(), ScaleInputs(), Rescale())
"""Treatments for a new net that its initialization alone does not make healthy. The first suitable one is applied."""


def sound_net(patient: Patient) -> Patient:
    """The stack of a patient with every layer initialized from scratch, healthy at the lag, on the same kind of probe.

    ``W_hh`` is orthogonal (each gate block on its own), ``W_ih`` Xavier uniform, biases zero (``init-orthogonal``). If
    the gain at the lag is not healthy then, gated cells get chrono biases, tanh nets get scaled inputs, and ReLU nets
    get a scaled ``W_hh``. The net is measured on four sequences with one draw, which determines the size of a
    quantity to within a fraction of a decade.
    """
    few = min(SAMPLE_SEQUENCES, patient.probe.batch)
    array = patient.probe.array
    probe = replace(patient.probe, batch=few, array=None if array is None else array[:, :few])
    settings = replace(patient.settings, layers="*", draws=1)
    bench = replace(patient.bench, probe=probe, settings=settings)
    fresh = replace(patient, bench=bench, inputs=bench.inputs())
    fresh = fresh.with_stack(Reinitialize("orthogonal").apply(fresh).stack)
    if fresh.gain.verdict == "healthy":
        return fresh
    suited = next((treatment for treatment in _THEN if treatment.unsuited(fresh) is None), None)
    return fresh if suited is None else fresh.with_stack(suited.apply(fresh).stack)
