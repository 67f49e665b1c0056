"""INI: weights that started in the wrong place for the task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rnndiag.rules.base import Finding, LayerRule, Subject, Suggestion, Thresholds, not_lstm

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

    Example:
        rnndiag simulate --cell lstm --init pytorch

    What to do:
        Initialise ``b_f = log u`` with ``u ~ U(1, lag - 1)`` for each unit, or to 1 or more throughout.

    Thresholds:
        mean forget bias under 1 in modulus.

    References:
        Jozefowicz, Zaremba & Sutskever 2015; Tallec & Ollivier 2018.
    """

    code, name, severity = "INI001", "forget-bias-near-zero", "warning"
    cause = "the forget bias was initialized near zero, or training moved it there"
    causes: ClassVar = {
        "PyTorch": "PyTorch draws both forget biases around zero",
        "Keras": "the layer was built with unit_forget_bias=False, or training moved the bias away from Keras's 1",
    }
    """the likely cause by the framework that the model was built with"""
    thresholds: ClassVar = {"bias": 1.0}
    needs = ("saturation",)

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        return not_lstm(layer)

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        bias, gate = layer.forget_bias, (layer.gates or {}).get("forget")
        if bias is None or gate is None or abs(bias) >= at["bias"]:
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
            treatment="chrono",
        )
        evidence = {"forget_bias": bias, "time_constant": gate.time_constant}
        cause = self.causes.get(subject.framework, "")
        yield self.finding(layer.name, message, evidence, (suggestion,), cause=cause)


class ScaleOffCritical(LayerRule):
    """The recurrent scale is far from critical.

    What it does:
        Fires for an Elman net that vanishes or explodes by a multiplier outside [0.8, 1.25] a step while
        little of it is saturated, so that the scale of ``W_hh`` is what decides.

    Why is this bad:
        Gradients survive near the edge of chaos only; from far off it, training must first find the way
        there through gradients that vanish or explode.

    Formula:
        multiplier ``exp(rate)`` of the gradient; the gain sigma of ``W_hh`` is ``std * sqrt(H)``.

    Example:
        rnndiag simulate --sigma 0.5

    What to do:
        Scale ``W_hh`` towards the edge of chaos, or initialise it orthogonal.

    Thresholds:
        multiplier under 0.8 or over 1.25; saturation under 0.2.

    References:
        Schoenholz et al. 2017; Chen, Pennington & Schoenholz 2018.
    """

    code, name, severity = "INI002", "recurrent-scale-off-critical", "info"
    cause = "an initialisation that does not fit the width or the input"
    thresholds: ClassVar = {"low": 0.8, "high": 1.25, "saturation": 0.2}
    needs = ("gradient", "saturation", "recurrent_weight")

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        return None if layer.cell in ("tanh", "custom") else f"the rule is about tanh layers, not {layer.cell} layers"

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        gradient, saturation, weight = layer.gradient, layer.saturation, layer.recurrent_weight
        if gradient is None or saturation is None or weight is None:
            return
        unlike = at["low"] <= gradient.multiplier <= at["high"] or saturation.rate >= at["saturation"]
        if unlike or not {layer.verdict, subject.stack.verdict} <= {"vanishing", "exploding"}:
            return
        scale = weight.blocks["h"].entry_scale
        direction = "up" if gradient.multiplier < 1 else "down"
        multiplier = f"a step multiplies the gradient by {gradient.multiplier:.3g}"
        action = f"scale W_hh {direction}, or initialise it orthogonal"
        suggestion = Suggestion("init", action, multiplier, treatment="rescale")
        message = f"{multiplier} at a gain of sigma = {scale:.3g}, with {saturation.rate:.0%} of the slopes saturated"
        evidence = {"multiplier": gradient.multiplier, "sigma": scale}
        yield self.finding(layer.name, message, evidence, (suggestion,))
