"""Gate biases for the lag: chrono initialization."""

from __future__ import annotations

import torch
from torch import Tensor

from rnndiag.cells.gate_functions import GATES
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.seeds import generator
from rnndiag.treatments.base import Applied, Treatment
from rnndiag.treatments.layerwise import every_layer
from rnndiag.treatments.patient import Patient


class Chrono(Treatment):
    """Draw the bias of the gate that keeps the state so that its time constants fill the lag.

    LSTM: ``b_f = log u``, ``b_i = -b_f``, with ``u ~ U(1, lag - 1)`` for each unit (Tallec & Ollivier 2018): a gate
    ``sigmoid(log u)`` keeps for about ``u`` steps. GRU, ``h = (1-z) n + z h-`` as PyTorch has it: ``b_z = log u``, as
    its ``z`` keeps. The whole bias is put in ``bias_ih`` and that of ``bias_hh`` set to 0; other blocks stay. Where the
    preactivations are normalized, the biases of the norms take their place. A ``hard_sigmoid`` gate gets the bias that
    gives the same value.
    """

    name, checklist = "chrono", "init"

    def unsuited(self, patient: Patient) -> str | None:
        if not patient.finite:
            return "its weights are not finite"
        if not any(layer.kind.gated for layer in patient.treatable):
            return "it has no gates"
        if any(not layer.gate_biases for layer in patient.treatable):
            return "it has no biases"
        return "a lag of one or two steps needs no such bias" if patient.lag < 3 else None

    def apply(self, patient: Patient) -> Applied:
        seed, lag = patient.settings.seed, patient.lag
        stack = every_layer(patient, lambda la: with_chrono_bias(la, lag, generator(seed, f"chrono {la.name}")))
        gates = (layer.kind.family.keeping for layer in patient.treatable)
        what = "/".join(dict.fromkeys(gate for gate in gates if gate))
        return Applied(stack, f"set the {what} bias of each unit to the log of U(1, {lag - 1})")


def with_chrono_bias(layer: RecurrentLayer, lag: int, stream: torch.Generator) -> RecurrentLayer:
    """A layer with keeping times from 1 to ``lag - 1`` steps; one without gates or biases as it is."""
    if not layer.kind.gated or not layer.gate_biases:
        return layer
    times = torch.empty(layer.hidden_size, dtype=torch.float64).uniform_(1, lag - 1, generator=stream)
    keeping = GATES[layer.form.gate].preactivation(times.log())
    biases: dict[str, Tensor] = (
        {"forget": keeping, "input": -keeping} if layer.kind.has_cell_state else {"update": keeping}
    )
    if layer.form.update_replaces:
        biases = {"update": -keeping - layer.form.update_bias}
    changed = {}
    for k, name in enumerate(layer.gate_biases):
        bias = layer.parameters[name].clone()
        for gate, values in biases.items():
            layer.blocks(bias)[gate].copy_(torch.zeros_like(values) if k else values)
        changed[name] = bias
    return layer.with_parameters(changed)
