"""The number behind a finding, measured again on a treated copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rnndiag.measures.lyapunov import lyapunov
from rnndiag.measures.saturation import gates, saturation_rate
from rnndiag.measures.weights.recurrent_weight import recurrent_weight
from rnndiag.rules.base import Finding
from rnndiag.rules.registry import RULES
from rnndiag.seeds import generator
from rnndiag.trajectory import Trajectory, run_layer
from rnndiag.treatments.layerwise import driven
from rnndiag.treatments.patient import Patient

_NAMES = {rule.code: rule.grows_worse for rule in RULES if rule.grows_worse}


@dataclass(frozen=True, slots=True)
class OwnEvidence:
    """The number in a finding's evidence that grows as the defect does, before and after a treatment."""

    name: str
    before: float
    after: float

    @property
    def improves(self) -> bool:
        """Whether the defect is smaller after the treatment."""
        return self.after < self.before


def own_evidence(finding: Finding, treated: Patient) -> OwnEvidence | None:
    """A finding's own number on a treated copy; None for a finding without a number that a treatment can change."""
    name = _NAMES.get(finding.rule, "")
    measure, before = _MEASURES.get(name), finding.evidence.get(name)
    if measure is None or not isinstance(before, int | float):
        return None
    for layer, inputs in driven(treated):
        if layer.name == finding.layer:
            after = measure(run_layer(layer, inputs), treated)
            return None if after is None else OwnEvidence(name, float(before), after)
    return None


def _rate(run: Trajectory, patient: Patient) -> float:
    return saturation_rate(run, patient.thresholds)


def _closed(run: Trajectory, patient: Patient) -> float | None:
    gate = gates(run, patient.thresholds).get("forget")
    return None if gate is None else gate.closed


def _stuck(run: Trajectory, patient: Patient) -> float | None:
    return min((gate.open + gate.closed for gate in gates(run, patient.thresholds).values()), default=None)


def _exponent(run: Trajectory, patient: Patient) -> float:
    settings = patient.settings
    spectrum = lyapunov(
        run.state_jacobians,
        run.inputs,
        settings.exponents,
        patient.lag,
        settings.thresholds.vanishing,
        generator=generator(settings.seed, "exponents"),
    )
    return spectrum.exponents[0]


def _of_weight(name: str) -> Callable[[Trajectory, Patient], float]:
    def measure(run: Trajectory, patient: Patient) -> float:
        layer = next(la for la in patient.stack.layers if la.name == run.layer.name)
        return float(getattr(recurrent_weight(layer), name))

    return measure


_MEASURES: dict[str, Callable[[Trajectory, Patient], float | None]] = {
    "rate": _rate,
    "closed": _closed,
    "stuck": _stuck,
    "exponent": _exponent,
    "condition_number": _of_weight("condition_number"),
    "spectral_radius": _of_weight("spectral_radius"),
    "nonnormality": _of_weight("nonnormality"),
}
"""The numbers that ``Rule.grows_worse`` names and that a treatment of layers can change, by name in the evidence."""
