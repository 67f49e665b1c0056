"""VAN: the gradient does not reach back as far as the task needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rnndiag.kinds import KINDS
from rnndiag.rules.base import Finding, LayerRule, StackRule, Subject, Suggestion, Thresholds, not_elman
from rnndiag.rules.words import power, steps

if TYPE_CHECKING:
    from rnndiag.measures.layer import LayerMeasures
    from rnndiag.measures.saturation import Gate


class GradientVanishes(StackRule):
    """The gradient vanishes before it has travelled the lag.

    What it does:
        Carries random unit gradients on the last ``h_T`` back through every layer and step, and looks at
        their size ``lag`` steps earlier. Fires when the whole 95 % interval of the median lies under the
        threshold.

    Why is this bad:
        What happened ``lag`` steps ago changes the loss by almost nothing that training could see. The
        norm of the parameters' gradient hides it: the last few steps fill it.

    Formula:
        ``d_{t-1} = J_t^T d_t``; ``log10(||d_{T-lag}|| / ||d_T||)`` (Pascanu, Mikolov & Bengio 2013, eq. 5).

    Example:
        rnndiag simulate --sigma 0.5

    What to do:
        A gated cell or attention for long dependencies; for an Elman net an initialisation near the edge
        of chaos; less saturation.

    Thresholds:
        log10 gain under -3.

    References:
        Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013.
    """

    code, name, severity = "VAN001", "gradient-vanishes", "error"
    follows_verdict = True
    cause = "the step Jacobians shrink a vector more than they stretch it, step after step"

    def assess_stack(self, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        gradient = subject.stack.gradient
        if gradient is None or subject.stack.verdict != "vanishing":
            return
        lag, horizon = gradient.lag, gradient.settled_from or gradient.lag
        layer = subject.layers[-1]
        message = (
            f"the gradient shrinks to {power(gradient.log10_gain)} of its size over {steps(lag)}: a factor of "
            f"{gradient.multiplier:.3g} a step, gone after {steps(horizon)}"
        )
        evidence = {
            "log10_gain": gradient.log10_gain,
            "multiplier": gradient.multiplier,
            "horizon": gradient.horizon,
            "credit_99_steps": layer.gradient.credit_99_steps if layer.gradient else None,
        }
        yield self.finding(
            subject.stack.name, message, evidence, tuple(self._suggestions(subject)), cause=_cause(subject)
        )

    @staticmethod
    def _suggestions(subject: Subject) -> Iterator[Suggestion]:
        gradient = subject.stack.gradient
        assert gradient is not None  # assess_stack has looked
        lag, horizon = gradient.lag, gradient.settled_from or gradient.lag
        saturated = max(subject.layers, key=lambda layer: layer.saturation.rate if layer.saturation else 0.0)
        if saturated.saturation and saturated.saturation.rate > 0.2 and KINDS[saturated.cell].nonlinearity != "relu":
            yield Suggestion(
                "saturation",
                "lower the input scale, the biases or the learning rate that drove the units into saturation",
                f"{saturated.saturation.rate:.0%} of the slopes of {saturated.name} are under "
                f"{saturated.saturation.threshold:g}; each multiplies the gradient",
                treatment="scale-inputs",
            )
        if subject.without_gates:
            radius = max(la.recurrent_weight.spectral_radius for la in subject.layers if la.recurrent_weight)
            growth = f"a step multiplies the gradient by {gradient.multiplier:.3g}"
            spectrum = f"{growth}; the spectral radius of W_hh is {radius:.3g}"
            yield Suggestion("init", "raise the scale of W_hh towards the edge of chaos", spectrum, treatment="rescale")
            if subject.leaky:
                yield Suggestion(
                    "init",
                    "lower the leak alpha, which lengthens the time constants of the units",
                    f"{growth}; a unit without input keeps the share 1 - alpha of its state at each step",
                    treatment="lower-leak",
                )
            if subject.elman:
                yield Suggestion(
                    "init",
                    "make W_hh orthogonal, and let inputs and biases saturate fewer units",
                    f"{growth}; an orthogonal W_hh leaves it to the slopes",
                    treatment="nearest-orthogonal" if subject.relu else "nearest-orthogonal+scale-inputs",
                )
            yield Suggestion(
                "gated",
                "use an LSTM or GRU, whose gates can carry a state unchanged",
                f"it sees {steps(horizon)} back, the lag is {lag}",
                treatment="lstm+chrono",
            )
        else:
            yield from _open_gates(subject, lag)
        yield Suggestion(
            "attention",
            f"attend to earlier steps, if dependencies longer than {steps(horizon)} matter",
            f"attention's path has length 1 at any lag; from lag {horizon} on this net passes "
            f"{power(max(gradient.log10_by_lag[horizon - 1 : lag]))} or less",
            treatment="attention",
        )


def _cause(subject: Subject) -> str:
    """The part of the step Jacobian that shrinks, if one stands out."""
    for layer in subject.layers:
        if layer.saturation and layer.saturation.rate > 0.5 and KINDS[layer.cell].nonlinearity != "relu":
            share = f"{layer.saturation.rate:.0%} of the slopes of {layer.name} are saturated"
            if KINDS[layer.cell].leaky:
                return f"{share}, so the leak alone passes most of the gradient, and it shrinks it at each step"
            return f"{share}, and each multiplies the gradient"
        if layer.gradient and layer.gradient.contraction_guaranteed:
            return f"the largest singular value of {layer.name}'s W_hh is under 1"
        forget = (layer.gates or {}).get("forget")
        if forget is not None and forget.mean < 0.6:
            return f"the forget gate of {layer.name} lets {forget.mean:.0%} of the cell state through at each step"
    return ""


class LayerForgets(LayerRule):
    """One layer forgets inside a stack that remembers.

    What it does:
        Fires when a layer's own gradient vanishes at the lag while that of its whole stack does not.

    Why is this bad:
        It is not, by itself: memory may live in one layer while another computes from recent inputs. Know
        it before pruning or truncating.

    Formula:
        As VAN001, for the layer alone beside the stack.

    Example:
        rnndiag inspect sample_models/pickled_module.pt --T 200

    What to do:
        Nothing, unless this layer was meant to remember.

    Thresholds:
        those of VAN001.

    References:
        Pascanu, Mikolov & Bengio 2013.
    """

    code, name, severity = "VAN002", "layer-forgets", "info"
    cause = "it works on recent inputs while another layer carries the memory"
    needs = ("gradient",)

    def excludes(self, name: str, subject: Subject) -> str | None:
        return "the stack has one layer" if len(subject.layers) == 1 else None

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        gradient = layer.gradient
        if gradient is None or layer.verdict != "vanishing" or subject.stack.verdict in ("vanishing", "invalid"):
            return
        reach = steps(gradient.settled_from or gradient.lag)
        message = f"this layer alone forgets within {reach}; the stack as a whole does not"
        yield self.finding(layer.name, message, {"log10_gain": gradient.log10_gain, "horizon": gradient.horizon})


class ContractionGuaranteed(LayerRule):
    """The recurrent weight contracts: no input can keep a memory alive.

    What it does:
        Fires for an Elman net with ``||W_hh||_2 max phi' < 1`` whose bound at the lag lies under the
        threshold of vanishing.

    Why is this bad:
        The gradient then vanishes for every input and every parameter of the other layers; it is a
        property of the weight, not of the probe. The converse does not hold: a norm above 1 does not
        make a gradient explode.

    Formula:
        ``||J_t|| <= max phi' ||W_hh||_2`` (Pascanu, Mikolov & Bengio 2013, section 2.2).

    Example:
        rnndiag simulate --sigma 0.3

    What to do:
        An orthogonal initialisation (norm exactly 1), or a larger scale.

    Thresholds:
        ``lag * log10 ||W_hh||_2`` under -3.

    References:
        Pascanu, Mikolov & Bengio 2013.
    """

    code, name, severity = "VAN003", "contraction-guaranteed", "warning"
    cause = "W_hh was initialised small, or weight decay has shrunk it"
    thresholds: ClassVar = {"log10_bound": -3.0}
    needs = ("gradient", "recurrent_weight")

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        return not_elman(layer)

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        gradient, weight = layer.gradient, layer.recurrent_weight
        if gradient is None or weight is None or not gradient.contraction_guaranteed:
            return
        bound = gradient.rough_bound_log10_gain
        if bound is None or bound > at["log10_bound"]:
            return
        if {layer.verdict, subject.stack.verdict} != {"vanishing"}:
            return  # the rest of the stack may remember for it
        message = (
            f"||W_hh|| is {weight.spectral_norm:.3g} < 1, so whatever the input no gradient keeps more than "
            f"{power(bound)} of its size over {gradient.lag} steps"
        )
        scale = Suggestion(
            "init",
            f"scale W_hh up by at least {1 / weight.spectral_norm:.3g}, or initialise it orthogonal"
            if weight.spectral_norm
            else "initialise W_hh orthogonal",
            f"its largest singular value is {weight.spectral_norm:.3g}; memory needs at least 1",
            treatment="rescale" if weight.spectral_norm else "init-orthogonal",
        )
        evidence = {"spectral_norm": weight.spectral_norm, "bound_log10_gain": bound}
        yield self.finding(layer.name, message, evidence, (scale,))


def _open_gates(subject: Subject, lag: int) -> Iterator[Suggestion]:
    """For gated cells: the gate that keeps the state, in the layer where it keeps longest."""
    keeping = [(layer, gate) for layer in subject.layers if (gate := _keeping_gate(layer)) is not None]
    if not keeping:
        return
    layer, gate = max(keeping, key=lambda pair: pair[1].time_constant or 0.0)
    constant = gate.time_constant or 0.0
    if constant >= lag / 7:
        return  # exp(-7) is a thousandth: the gate is not what forgets
    name = "forget" if KINDS[layer.cell].has_cell_state else "update"
    yield Suggestion(
        "init",
        f"initialise the {name} bias for the lag: the log of U(1, {max(lag - 1, 1)}) for each unit (chrono)",
        f"the {name} gate of {layer.name} keeps a state for {constant:.3g} steps (median over units; "
        f"{gate.time_constant_max:.3g} at most), the lag is {lag}",
        treatment="chrono",
    )


def _keeping_gate(layer: LayerMeasures) -> Gate | None:
    gates = layer.gates or {}
    return gates.get("forget") or gates.get("update")
