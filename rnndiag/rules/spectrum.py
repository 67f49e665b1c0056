"""SPC: the recurrent weight as a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rnndiag.rules.base import Finding, LayerRule, Subject, Suggestion

if TYPE_CHECKING:
    from rnndiag.measures.layer import LayerMeasures


class IllConditioned(LayerRule):
    """The recurrent weight is ill-conditioned.

    What it does:
        Fires for an Elman net whose ``W_hh`` has a condition number over 1e6.

    Why is this bad:
        Some directions of the state pass a step a million times weaker than others: they are forgotten
        at once, whatever the growth rate of the strongest.

    Formula:
        largest over smallest singular value.

    What to do:
        An orthogonal initialisation, whose condition number is 1.

    Thresholds:
        condition number over 1e6; iid Gaussian matrices have about the size H.

    References:
        Edelman 1988; Saxe, McClelland & Ganguli 2014.
    """

    code, name, severity = "SPC001", "recurrent-weight-ill-conditioned", "info"
    thresholds: ClassVar = {"condition_number": 1e6}
    needs = ("recurrent_weight",)

    def assess_layer(self, layer: LayerMeasures, subject: Subject) -> Iterator[Finding]:
        weight = layer.recurrent_weight
        elman = layer.cell in ("tanh", "relu")
        if weight is None or not elman or weight.condition_number <= self.thresholds["condition_number"]:
            return
        rank = f"the effective rank is {weight.effective_rank:.3g} of {layer.hidden_size}"
        message = f"the condition number of W_hh is {weight.condition_number:.2g}; {rank}"
        suggestion = Suggestion("init", "initialise W_hh orthogonal: its condition number is 1", rank)
        evidence = {"condition_number": weight.condition_number, "effective_rank": weight.effective_rank}
        yield self.finding(layer.name, message, evidence, (suggestion,))
