"""One factor on ``W_hh`` that takes the gradient's growth over the lag to zero."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.treatments.base import Applied, Treatment
from rnndiag.treatments.layerwise import each_layer
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.search import find_scale, grid

UP, DOWN = grid(16.0), grid(1 / 64)


class Rescale(Treatment):
    """Multiply ``W_hh`` by the scale at which the measured log10 gain at the lag is zero.

    The root is that of the measurement, not of the norm or the spectral radius: the edge of chaos under the inputs
    of the probe (Pascanu, Mikolov & Bengio 2013 bound it by the norm; Chen, Pennington & Schoenholz 2018 derive it for
    random nets). Where no scale has a root, the one whose gain comes nearest to zero is taken, and the action says so.
    Each layer that is ill by itself gets its own root, on what the treated layers below it send up.
    """

    name, checklist = "rescale", "init"

    def unsuited(self, patient: Patient) -> str | None:
        if not patient.finite:
            return "its weights are not finite"
        if patient.gated and patient.gain.verdict != "exploding":
            return "the gates decide what a gated cell keeps, not the scale of W_hh"
        if any(layer.form.normalizes("recurrent") and layer.bias_hh is None for layer in patient.treatable):
            return "a norm of W_hh h makes the scale of W_hh irrelevant"
        return None

    def apply(self, patient: Patient) -> Applied:
        told: list[str] = []
        figures: dict[str, float] = {}

        def treat(layer: RecurrentLayer, inputs: Tensor) -> RecurrentLayer:
            def scaled(scale: float) -> RecurrentLayer:
                return replace(layer, weight_hh=layer.weight_hh * scale)

            gain, sample = patient.gains(scaled, inputs)
            found = find_scale(gain, sample, 0.0, (UP, DOWN) if sample(1.0) < 0 else (DOWN,))
            told.append(
                f"scale W_hh of {layer.name} by {found.scale:.4g}"
                + ("" if found.met else f" (no scale brings its gain to 0; there it is nearest, {found.gain:.3g})")
            )
            figures[f"{layer.name}.scale"] = found.scale
            return scaled(found.scale)

        stack = each_layer(patient, treat)
        return Applied(stack, ", ".join(told), figures)
