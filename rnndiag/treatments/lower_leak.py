"""One factor on the leak of a leaky RNN, with which its units keep their states for the lag."""

from __future__ import annotations

from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.treatments.base import Applied, Treatment
from rnndiag.treatments.layerwise import each_layer
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.search import SAMPLE_TOLERANCE, find_scale, grid

DOWN = grid(1 / 256)


class LowerLeak(Treatment):
    """Multiply the leak ``alpha`` by the mildest scale below 1 whose gain lies half-way into the healthy band.

    A unit without input keeps the share ``1 - alpha`` of its state at each step, which is a time constant of about
    ``1 / alpha`` steps (Jaeger et al. 2007; Tallec & Ollivier 2018, section 1.2). As alpha approaches 0, the step
    Jacobian approaches the identity. Where no scale meets the target, the nearest is taken. Each leaky layer that is
    unhealthy on its own gets its own scale.
    """

    name, checklist = "lower-leak", "init"

    def unsuited(self, patient: Patient) -> str | None:
        if not patient.finite:
            return "its weights are not finite"
        return None if any(layer.kind.leaky for layer in patient.treatable) else "it has no leak"

    def apply(self, patient: Patient) -> Applied:
        actions: list[str] = []
        figures: dict[str, float] = {}
        band = patient.thresholds

        def treat(layer: RecurrentLayer, inputs: Tensor) -> RecurrentLayer:
            if not layer.kind.leaky:
                return layer

            def scaled(scale: float) -> RecurrentLayer:
                return layer.with_parameters({"alpha": layer.extra["alpha"] * scale})

            gain, sample = patient.gains(scaled, inputs)
            target = (band.vanishing if sample(1.0) < 0 else band.exploding) / 2
            found = find_scale(gain, sample, target, (DOWN,), tolerance=SAMPLE_TOLERANCE)
            scale = min(found.scale, 1.0)
            actions.append(
                f"multiply the leak alpha of {layer.name} by {scale:.4g}"
                + ("" if found.met else f" (its gain comes no nearer than {found.gain:.3g})")
            )
            figures[f"{layer.name}.scale"] = scale
            return scaled(scale)

        stack = each_layer(patient, treat)
        return Applied(stack, ", ".join(actions), figures)
