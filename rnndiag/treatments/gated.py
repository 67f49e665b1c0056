"""A gated cell in the place of an Elman layer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.kinds import KINDS
from rnndiag.rules.base import Checklist
from rnndiag.seeds import generator
from rnndiag.treatments.base import Applied, Treatment
from rnndiag.treatments.layerwise import every_layer
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.reinitialize import torch_default


class Gated(Treatment):
    """Put a fresh GRU or LSTM of the same widths in the place of each layer.

    Its parameters are PyTorch's own, ``U(+-1/sqrt H)``, so that the measurement is of what a user would get: forget
    gates of one half, which is why it seldom helps before its biases are set for the lag (``chrono``). LSTM:
    Hochreiter & Schmidhuber 1997; GRU: Cho et al. 2014.
    """

    same_architecture = False
    redraws = True
    checklist: Checklist = "gated"  # type: ignore[misc]

    def __init__(self, cell: Literal["gru", "lstm"]) -> None:
        self.name = cell  # type: ignore[misc]  # one class, an instance a cell
        self._cell: Literal["gru", "lstm"] = cell

    def unsuited(self, patient: Patient) -> str | None:
        if patient.gated:
            return "it has gates already"
        return None

    def apply(self, patient: Patient) -> Applied:
        seed = patient.settings.seed
        stack = every_layer(patient, lambda la: self._fresh(la, generator(seed, f"{self._cell} {la.name}")))
        names = ", ".join(layer.name for layer in patient.treatable)
        kind = self._cell.upper()
        return Applied(stack, f"put {'an' if kind == 'LSTM' else 'a'} {kind} of the same width in the place of {names}")

    def _fresh(self, layer: RecurrentLayer, stream: torch.Generator) -> RecurrentLayer:
        size, rows = layer.hidden_size, len(KINDS[self._cell].family.gates) * layer.hidden_size

        def drawn(*shape: int) -> Tensor:
            return torch_default(torch.empty(shape, dtype=torch.float64), size, stream).to(layer.weight_hh)

        weight_ih, weight_hh = drawn(rows, layer.input_size), drawn(rows, size)
        return RecurrentLayer(
            layer.name, self._cell, weight_ih, weight_hh, drawn(rows), drawn(rows), direction=layer.direction
        )
