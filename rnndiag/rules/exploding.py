"""EXP: the gradient grows without bound, or the dynamics are chaotic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rnndiag.kinds import KINDS
from rnndiag.rules.base import Finding, LayerRule, StackRule, Subject, Suggestion, Thresholds
from rnndiag.rules.words import power, steps

if TYPE_CHECKING:
    from rnndiag.measures.layer import LayerMeasures


class GradientExplodes(StackRule):
    """The gradient explodes over the lag.

    What it does:
        As VAN001, in the other direction: fires when the whole 95 % interval of the median gain lies over
        the threshold.

    Why is this bad:
        Updates are dominated by far-away steps and jump; the loss spikes or turns NaN. ``||W_hh||_2 > 1`` is
        necessary for this and not sufficient: only the product of the Jacobians tells.

    Formula:
        ``log10(||d_{T-lag}|| / ||d_T||)`` with ``d_{t-1} = J_t^T d_t``.

    Example:
        rnndiag simulate --sigma 3 --input-scale 0.1

    What to do:
        Clip the gradient's norm; scale ``W_hh`` down; truncate backpropagation at the horizon.

    Thresholds:
        log10 gain over 3.

    References:
        Pascanu, Mikolov & Bengio 2013.
    """

    code, name, severity = "EXP001", "gradient-explodes", "error"
    follows_verdict = True
    cause = "W_hh stretches the state more than the slopes contract it"

    def assess_stack(self, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        gradient = subject.stack.gradient
        if gradient is None or subject.stack.verdict != "exploding":
            return
        lag, horizon = gradient.lag, gradient.settled_from or gradient.lag
        least = power(min(gradient.log10_by_lag[horizon - 1 : lag]))
        message = (
            f"the gradient grows to {power(gradient.log10_gain)} times its size over {steps(lag)}: a factor of "
            f"{gradient.multiplier:.3g} a step, {least} times after {steps(horizon)}"
        )
        growth = f"a step multiplies the gradient by {gradient.multiplier:.3g}"
        suggestions = [
            Suggestion(
                "clipping",
                "clip the gradient's norm before each update: g <- g * c/||g|| where ||g|| > c",
                f"{growth}: what {steps(lag)} back contributes is {power(gradient.log10_gain)} times the last one's",
                treatment="clip",
            )
        ]
        if subject.without_gates:
            radius = max(la.recurrent_weight.spectral_radius for la in subject.layers if la.recurrent_weight)
            suggestions.append(
                Suggestion(
                    "init",
                    "lower the scale of W_hh towards the edge of chaos, or initialise it orthogonal",
                    f"{growth}; the spectral radius of W_hh is {radius:.3g}",
                    treatment="rescale",
                )
            )
        suggestions.append(
            Suggestion(
                "truncation",
                f"truncate backpropagation through time at {steps(horizon)}",
                f"from lag {horizon} on the gradient is {least} times its size or more",
                treatment="truncate",
            )
        )
        evidence = {"log10_gain": gradient.log10_gain, "multiplier": gradient.multiplier, "horizon": gradient.horizon}
        cause = "" if subject.shows_weights else "a step stretches the state more than it contracts it"
        yield self.finding(subject.stack.name, message, evidence, tuple(suggestions), cause=cause)


class ChaoticDynamics(LayerRule):
    """The driven dynamics are chaotic.

    What it does:
        Fires when the largest finite-time Lyapunov exponent exceeds zero by three of its standard errors and
        nearby states part more than a thousandfold over the lag. A smaller growth is what a healthy net at
        the edge of chaos has for a while.

    Why is this bad:
        Two nearly equal states part exponentially under the same input, so the output depends on rounding
        and noise, and most directions of the gradient explode.

    Formula:
        Growth of an orthonormal frame under the step Jacobians, by QR (Benettin et al. 1980).

    Example:
        rnndiag simulate --sigma 3 --input-scale 0.1

    What to do:
        A smaller scale of ``W_hh``, a stronger input, gradient clipping.

    Thresholds:
        three standard errors; ``exponent * lag > log 1000``.

    References:
        Benettin et al. 1980; Engelken, Wolf & Abbott 2023.
    """

    code, name, severity = "EXP002", "chaotic-dynamics", "warning"
    cause = "the recurrent scale lies beyond the edge of chaos for these inputs"
    grows_worse = "exponent"
    needs = ("lyapunov", "gradient")
    thresholds: ClassVar = {"standard_errors": 3.0, "log_separation": 6.907755}

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        return (
            "the states of a diverging ReLU or linear net only grow, which is not chaos"
            if KINDS[layer.cell].nonlinearity == "relu" or layer.cell == "linear"
            else None
        )

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        spectrum = layer.lyapunov
        if spectrum is None:
            return
        top, error = spectrum.exponents[0], spectrum.standard_errors[0]
        # A NaN error (one block of one sequence) cannot show that the exponent is above zero.
        certain = top > at["standard_errors"] * error
        if not certain or top * subject.stack.lag < at["log_separation"]:
            return
        positive = sum(exponent > 0 for exponent in spectrum.exponents)
        message = (
            f"chaotic under this probe: nearby states part at {top:.3g} nats a step (standard error {error:.1g}), "
            f"in {positive} of the {len(spectrum.exponents)} directions computed"
        )
        why = f"the largest Lyapunov exponent is {top:.3g} > 0"
        suggestions = (
            Suggestion("clipping", "clip the gradient's norm", why, treatment="clip"),
            Suggestion("init", "lower the scale of the recurrent weights", why, treatment="rescale"),
        )
        yield self.finding(layer.name, message, {"exponent": top, "standard_error": error}, suggestions)


class SingleStepSpikes(LayerRule):
    """Single steps multiply the gradient far more than the others.

    What it does:
        Fires when the largest step norm is ten times the median or more, and at least 10.

    Why is this bad:
        One such step in a sequence decides the size of the whole gradient, so updates jump with the input.

    Formula:
        ``max ||J_t||_2`` against its median, over steps and sequences.

    Example:
        A GRU with very large candidate weights, most of whose steps are closed by the update gate.

    What to do:
        Clip the gradient's norm; look at the inputs of those steps (``--verbose`` lists them).

    Thresholds:
        ratio 10, norm 10.

    References:
        Pascanu, Mikolov & Bengio 2013.
    """

    code, name, severity = "EXP003", "single-step-spikes", "warning"
    cause = "unusual inputs, or a gate that opens at few steps only"
    grows_worse = "norm_max"
    thresholds: ClassVar = {"ratio": 10.0, "norm": 10.0}
    needs = ("jacobian",)

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        measured = layer.jacobian
        if measured is None or measured.norm_max < at["norm"]:
            return
        if measured.norm_max < at["ratio"] * measured.norm_median:
            return
        spikes = f"a step norm reaches {measured.norm_max:.3g}, the median is {measured.norm_median:.3g}"
        suggestion = Suggestion("clipping", "clip the gradient's norm before each update", spikes, treatment="clip")
        evidence = {"norm_max": measured.norm_max, "norm_median": measured.norm_median}
        yield self.finding(layer.name, spikes, evidence, (suggestion,))
