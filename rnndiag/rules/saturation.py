"""SAT: units and gates that no longer respond."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rnndiag.kinds import ELMAN, KINDS
from rnndiag.rules.base import Finding, LayerRule, Subject, Suggestion, Thresholds, not_lstm
from rnndiag.rules.words import counted

if TYPE_CHECKING:
    from rnndiag.measures.layer import LayerMeasures


class UnitsSaturated(LayerRule):
    """Most tanh units are saturated.

    What it does:
        Counts the (step, sequence, unit) triples whose slope ``phi' = 1 - tanh^2`` lies under 0.1, which is
        ``|h| > 0.949``, and fires when they are the majority.

    Why is this bad:
        The slope multiplies every gradient that passes the unit; a saturated unit passes next to none, so
        neither its weights nor anything before it learns. In a leaky net, only the leak then passes a gradient.

    Formula:
        ``J_t = diag(1 - h_t^2) W_hh``.

    Example:
        rnndiag inspect sample_models/saturated_tanh.pt

    What to do:
        Smaller inputs (normalise them), smaller biases and weights, a lower learning rate.

    Thresholds:
        share of saturated slopes over 0.5.

    References:
        Glorot & Bengio 2010.
    """

    code, name, severity = "SAT001", "units-saturated", "warning"
    cause = "inputs, biases or weights too large for tanh, often by a learning rate too high"
    grows_worse = "rate"
    thresholds: ClassVar = {"rate": 0.5}
    needs = ("saturation",)

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        if layer.cell == "linear":
            return "a linear layer does not saturate"
        return "ReLU does not saturate" if KINDS[layer.cell].nonlinearity == "relu" else None

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        measured = layer.saturation
        if measured is None or measured.rate <= at["rate"]:
            return
        message = (
            f"{measured.rate:.0%} of the tanh slopes are under {measured.threshold:g}; {measured.saturated_units} of "
            f"{layer.hidden_size} units are saturated at every step"
        )
        suggestion = Suggestion(
            "saturation",
            "normalise the inputs, shrink input weights and biases, or lower the learning rate",
            f"{measured.rate:.0%} saturated; the biases have a root mean square of {layer.bias_scale:.2g}",
            treatment="scale-inputs",
        )
        suggestions = [suggestion]
        if KINDS[layer.cell].nonlinearity == "tanh":
            weight = layer.recurrent_weight
            norm = "" if weight is None else f": ||W_hh|| is {weight.spectral_norm:.3g}"
            why = f"saturated units drive one another through W_hh{norm}"
            suggestions.append(Suggestion("saturation", "scale W_hh down", why, treatment="rescale"))
        evidence = {"rate": measured.rate, "saturated_units": measured.saturated_units}
        yield self.finding(layer.name, message, evidence, tuple(suggestions))


class ForgetGateShut(LayerRule):
    """The forget gate is shut.

    What it does:
        Fires when more than half of the forget gate's values (LSTM) lie under 0.05, over all steps,
        sequences and units.

    Why is this bad:
        The cell state is wiped at every step: the LSTM remembers no longer than an Elman net.

    Formula:
        ``dc_t/dc_{t-1} = f`` along the cell state.

    Example:
        rnndiag simulate --cell lstm --forget-bias -9

    What to do:
        A positive forget bias.

    Thresholds:
        closed share over 0.5.

    References:
        Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever 2015.
    """

    code, name, severity = "SAT002", "forget-gate-shut", "warning"
    cause = "a negative forget bias, or forget weights that large inputs drive"
    grows_worse = "closed"
    thresholds: ClassVar = {"closed": 0.5}
    needs = ("saturation",)

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        return not_lstm(layer)

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        gate = (layer.gates or {}).get("forget")
        if gate is None or gate.closed <= at["closed"]:
            return
        suggestion = Suggestion(
            "init",
            "set the forget bias to 1 or more before training",
            f"its mean is {layer.forget_bias:.2g} and the gate's mean {gate.mean:.2g}",
            treatment="chrono",
        )
        message = f"{gate.closed:.0%} of the forget gate's values are under 0.05: the cell state is wiped"
        yield self.finding(layer.name, message, {"closed": gate.closed, "mean": gate.mean}, (suggestion,))


class DeadUnits(LayerRule):
    """Units that never respond.

    What it does:
        The rule counts units that are constant over all steps and sequences although the inputs vary, and it fires when
        they are more than a quarter of the layer. A ReLU unit whose preactivation is never above zero is constant. Each
        unit is compared with its own values, never with other units, so a small unit that responds is not dead.

    Why is this bad:
        Dead units cost as much as live units and carry no information. A dead ReLU unit gets no gradient that could
        revive it.

    Formula:
        ``max h - min h <= 2^-23 max |h|`` over all steps and sequences of one unit (``c`` of an LSTM): one rounding in
        float32.

    Example:
        rnndiag simulate --cell relu --sigma 0.3 --bias-scale 20

    What to do:
        Lower the learning rate, or start from smaller negative biases. For an identity-initialized ReLU net, use
        smaller input weights.

    Thresholds:
        share of the units over 0.25.

    References:
        Le, Jaitly & Hinton 2015.
    """

    code, name, severity = "SAT003", "dead-units", "warning"
    cause = "saturated units, or weights of zero"
    grows_worse = "dead_units"
    thresholds: ClassVar = {"share": 0.25}
    needs = ("saturation",)

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        measured = layer.saturation
        if measured is None or measured.dead_units <= at["share"] * layer.hidden_size:
            return
        biases = "" if not layer.bias_scale else ", or start from smaller biases"
        suggestion = Suggestion(
            "learning-rate",
            f"lower the learning rate{biases}",
            f"the value of {counted(measured.dead_units, 'unit')} is the same at every step of every sequence",
        )
        respond = "never responds" if measured.dead_units == 1 else "never respond"
        message = f"{measured.dead_units} of {counted(layer.hidden_size, 'unit')} {respond} to this probe"
        cause = ""
        if KINDS[layer.cell].nonlinearity == "relu":
            pushed = "biases" if layer.bias_scale else "weights"
            cause = f"large updates have made the {pushed} so negative that the preactivations are never above zero"
        yield self.finding(layer.name, message, {"dead_units": measured.dead_units}, (suggestion,), cause=cause)


class GatesStuck(LayerRule):
    """All gates are stuck.

    What it does:
        Fires when every gate of a layer is almost always open (> 0.95) or closed (< 0.05).

    Why is this bad:
        The gates no longer respond to input or state, and their slopes pass no gradient: the cell computes
        what a fixed linear filter could.

    Formula:
        slope of a gate: ``g (1 - g)``, under 0.0475 when open or closed.

    Example:
        rnndiag simulate --cell lstm --bias-scale 300

    What to do:
        Smaller biases and input weights, normalised inputs, a lower learning rate.

    Thresholds:
        open and closed together over 0.95 for every gate.

    References:
        Jozefowicz, Zaremba & Sutskever 2015.
    """

    code, name, severity = "SAT004", "gates-stuck", "warning"
    cause = "gate biases, weights or inputs too large"
    grows_worse = "stuck"
    thresholds: ClassVar = {"stuck": 0.95}
    needs = ("saturation",)

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        return f"{layer.cell} layers have no gates" if KINDS[layer.cell].family is ELMAN else None

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        shares = {name: gate.open + gate.closed for name, gate in (layer.gates or {}).items()}
        if not shares or min(shares.values()) <= at["stuck"]:
            return
        listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        suggestion = Suggestion(
            "saturation",
            "normalise the inputs, shrink biases and input weights, or lower the learning rate",
            f"the biases have a root mean square of {layer.bias_scale:.2g}",
            treatment="scale-inputs",
        )
        message = f"all gates are almost always open or closed: {listed}"
        yield self.finding(layer.name, message, {**shares, "stuck": min(shares.values())}, (suggestion,))
