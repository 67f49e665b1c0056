"""One factor on input weights and biases that takes the slopes out of saturation."""

from __future__ import annotations

from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.kinds import ELMAN
from rnndiag.treatments.base import Applied, Treatment
from rnndiag.treatments.judging import MAX_SATURATED_SHARE
from rnndiag.treatments.layerwise import each_layer
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.search import SAMPLE_TOLERANCE, find_scale, grid

DOWN, UP = grid(1 / 256), grid(16.0)


class ScaleInputs(Treatment):
    """Multiply ``W_ih`` and the biases by the mildest scale whose gain lies half-way into the healthy band.

    What drives a unit far from zero flattens its slope, and every slope on the way multiplies the gradient
    (Glorot & Bengio 2010); a stronger input, the other way round, quenches chaos (Molgedey, Schuchhardt & Schuster
    1992). The target is half of the threshold in log10, ``-1.5`` by default for a gradient that vanishes: a tanh net
    whose ``W_hh`` is orthogonal only reaches 0 with no input at all. Where no scale meets it, the nearest is taken.
    Each layer that is ill by itself gets its own scale.
    """

    name, checklist = "scale-inputs", "saturation"

    def unsuited(self, patient: Patient) -> str | None:
        if not patient.finite:
            return "its weights are not finite"
        if any(layer.kind.family is ELMAN and layer.kind.nonlinearity != "tanh" for layer in patient.stack.layers):
            return "one factor on all that drives a ReLU or linear net changes none of its slopes"
        if patient.gated and patient.gain.verdict != "exploding" and not patient.gain.saturated > MAX_SATURATED_SHARE:
            return "few of its slopes are saturated, and its gates decide what it keeps"
        if any(layer.form.normalizes("input") for layer in patient.treatable):
            return "a norm of W_ih x makes the scale of the inputs irrelevant"
        return None

    def apply(self, patient: Patient) -> Applied:
        told: list[str] = []
        figures: dict[str, float] = {}
        band = patient.thresholds

        def treat(layer: RecurrentLayer, inputs: Tensor) -> RecurrentLayer:
            def scaled(scale: float) -> RecurrentLayer:
                scale_of = {
                    n: p * scale for n, p in layer.parameters.items() if n in ("weight_ih", "bias_ih", "bias_hh")
                }
                return layer.with_parameters(scale_of)

            gain, sample = patient.gains(scaled, inputs)
            own = sample(1.0)
            found = find_scale(
                gain,
                sample,
                (band.vanishing if own < 0 else band.exploding) / 2,
                (DOWN,) if own < 0 else (UP,),
                tolerance=SAMPLE_TOLERANCE,  # anywhere about half-way will do
            )
            told.append(
                f"scale W_ih and biases of {layer.name} by {found.scale:.4g}"
                + ("" if found.met else f" (its gain comes no nearer than {found.gain:.3g})")
            )
            figures[f"{layer.name}.scale"] = found.scale
            return scaled(found.scale)

        stack = each_layer(patient, treat)
        return Applied(stack, ", ".join(told), figures)
