"""Initialize the layers again: every parameter is drawn by a named scheme."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.rules.base import Checklist
from rnndiag.seeds import generator
from rnndiag.treatments.base import Applied, Treatment
from rnndiag.treatments.layerwise import every_layer
from rnndiag.treatments.patient import Patient

Fill = Callable[[Tensor, torch.Generator], Tensor]
"""Fills one block ``[H, n]`` in place."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How each block of ``W_hh`` and of ``W_ih`` is drawn; biases are zero."""

    described: str
    recurrent: Fill
    input: Fill
    gated: bool = True
    """whether it is used for gate blocks too"""


XAVIER: Fill = lambda w, g: nn.init.xavier_uniform_(w, generator=g)  # noqa: E731
HE: Fill = lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g)  # noqa: E731

SCHEMES: dict[str, Scheme] = {
    "xavier": Scheme("Xavier uniform", XAVIER, XAVIER),
    "he": Scheme("He normal", HE, HE, gated=False),
    "orthogonal": Scheme("orthogonal", lambda w, g: nn.init.orthogonal_(w, generator=g), XAVIER),
    "identity": Scheme(
        "the identity", lambda w, g: nn.init.eye_(w), lambda w, g: w.normal_(0, 1e-3, generator=g), gated=False
    ),
}
"""Xavier: Glorot & Bengio 2010. He: He et al. 2015. Orthogonal: Saxe, McClelland & Ganguli 2014. Identity, with inputs
of standard deviation 0.001: Le, Jaitly & Hinton 2015."""


class Reinitialize(Treatment):
    """Draw ``W_hh`` (each gate block by itself) and ``W_ih`` anew by one law, and set the biases to zero.

    For a net that has not been trained yet, or that is to be trained again: whatever it learnt is gone.
    """

    checklist: ClassVar[Checklist] = "init"
    redraws = True

    def __init__(self, scheme: str) -> None:
        self.name = f"init-{scheme}"  # type: ignore[misc]  # one class, one instance per scheme
        self._scheme = SCHEMES[scheme]

    def unsuited(self, patient: Patient) -> str | None:
        if not patient.gated or self._scheme.gated:
            return None
        return "a law for nets without gates: gate blocks are drawn by Xavier's or orthogonal"

    def apply(self, patient: Patient) -> Applied:
        seed = patient.settings.seed
        stack = every_layer(patient, lambda la: redrawn(la, self._scheme, generator(seed, f"{self.name} {la.name}")))
        names = ", ".join(layer.name for layer in patient.treatable)
        return Applied(stack, f"initialise {names} anew, W_hh {self._scheme.described}, biases 0")


def redrawn(layer: RecurrentLayer, scheme: Scheme, stream: torch.Generator) -> RecurrentLayer:
    """A layer of the same shape with independent weights."""
    filled: dict[str, Tensor] = {}
    for name, parameter in layer.parameters.items():
        if name in layer.extra:
            continue  # norms, peepholes and leaks are not weights between units
        fresh = torch.zeros(parameter.shape, dtype=torch.float64)
        if name.startswith("weight"):
            fill = scheme.recurrent if name == "weight_hh" else scheme.input
            blocks = 1 if name == "weight_hr" else len(layer.gates)
            fresh = torch.cat([fill(block.clone(), stream) for block in fresh.chunk(blocks)])
        filled[name] = fresh.to(parameter)
    return layer.with_parameters(filled)


def torch_default(parameter: Tensor, hidden: int, stream: torch.Generator) -> Tensor:
    """PyTorch's own law of all recurrent parameters: ``U(+-1/sqrt H)``."""
    bound = 1 / math.sqrt(hidden)
    return parameter.uniform_(-bound, bound, generator=stream)
