"""The orthogonal matrix nearest to ``W_hh``."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.treatments.base import Applied, Treatment
from rnndiag.treatments.layerwise import every_layer
from rnndiag.treatments.patient import Patient


class NearestOrthogonal(Treatment):
    """Replace ``W_hh = U S V^T`` by its orthogonal polar factor ``U V^T``.

    It is the nearest orthogonal matrix in the Frobenius norm (Fan & Hoffman 1955; Higham 1986): all singular values
    become 1, the singular vectors stay, and with them the directions that training found. Only the slopes then shrink
    a gradient. Orthogonal recurrence: Saxe, McClelland & Ganguli 2014; Arjovsky, Shah & Bengio 2016.
    """

    name, checklist = "nearest-orthogonal", "init"

    def unsuited(self, patient: Patient) -> str | None:
        if not patient.finite:
            return "its weights are not finite"
        if patient.gated:
            return "the gates decide what a gated cell keeps, not the norm of W_hh"
        return None if patient.elman else "with a leak, an orthogonal W_hh does not keep the size of a gradient"

    def apply(self, patient: Patient) -> Applied:
        names = [layer.name for layer in patient.treatable]
        stack = every_layer(patient, _orthogonal)
        return Applied(stack, f"replace W_hh of {', '.join(names)} by the nearest orthogonal matrix")


def polar_factor(weight: Tensor) -> Tensor:
    """``U V^T`` of ``U S V^T``: ``[H, H] -> [H, H]``."""
    left, _, right = torch.linalg.svd(weight)
    factor: Tensor = left @ right
    return factor


def _orthogonal(layer: RecurrentLayer) -> RecurrentLayer:
    return replace(layer, weight_hh=polar_factor(layer.weight_hh))
