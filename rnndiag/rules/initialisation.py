"""INI: weights that started in the wrong place for the task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rnndiag.rules.base import Finding, LayerRule, Subject, Suggestion

if TYPE_CHECKING:
    from rnndiag.measures.layer import LayerMeasures


class ForgetBiasNearZero(LayerRule):
    """The forget bias is near zero while the lag is long.

    What it does:
        Fires for an LSTM in a vanishing stack whose forget biases (both added, mean over units) lie
        under 1 in modulus.

    Why is this bad:
        A forget gate of ``sigmoid(0) = 1/2`` halves the cell state at every step: a thousandth is left
        after ten.

    Formula:
        ``dc_t/dc_{t-1} = sigmoid(.. + b_f)``; time constant ``-1 / log f``.

    What to do:
        Initialise ``b_f = log u`` with ``u ~ U(1, lag - 1)`` for each unit, or to 1 or more throughout.

    Thresholds:
        mean forget bias under 1 in modulus.

    References:
        Jozefowicz, Zaremba & Sutskever 2015; Tallec & Ollivier 2018.
    """

    code, name, severity = "INI001", "forget-bias-near-zero", "warning"
    thresholds: ClassVar = {"bias": 1.0}

    def assess_layer(self, layer: LayerMeasures, subject: Subject) -> Iterator[Finding]:
        bias, gate = layer.forget_bias, layer.gates.get("forget")
        if bias is None or gate is None or abs(bias) >= self.thresholds["bias"]:
            return
        lag = subject.stack.lag
        if subject.stack.verdict != "vanishing" or layer.verdict != "vanishing":
            return
        message = (
            f"the forget bias is {bias:.2g} on average, so the gate keeps a state for {gate.time_constant:.3g} steps; "
            f"the lag is {lag}"
        )
        suggestion = Suggestion(
            "init",
            f"initialise each unit's forget bias to the log of U(1, {max(lag - 1, 1)})",
            f"mean bias {bias:.2g}, mean gate {gate.mean:.2g}",
        )
        evidence = {"forget_bias": bias, "time_constant": gate.time_constant}
        yield self.finding(layer.name, message, evidence, (suggestion,))
