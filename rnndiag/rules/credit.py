"""VAN, continued: how far back the gradient of the weights really looks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rnndiag.rules.base import WHY_UNSEEN, Finding, LayerRule, StackRule, Subject, Suggestion, Thresholds
from rnndiag.rules.words import power, steps

if TYPE_CHECKING:
    from rnndiag.measures.layer import LayerMeasures


class HorizonShortOfLag(StackRule):
    """The gradient dips out of sight before the lag, though it is not clearly gone at the lag itself.

    What it does:
        Fires when the median gain first falls under the threshold of vanishing at a lag shorter than the one
        the task needs, in a stack whose verdict at that lag is not vanishing.

    Why is this bad:
        The verdict hangs on few sequences or on a late revival; dependencies of middling length get next
        to no gradient.

    Formula:
        first lag ``l`` with ``median log10(||d_{T-l}|| / ||d_T||)`` under the threshold.

    Example:
        A net whose gain falls to 10^-4 at lag 40 and is back at 10^-2 at lag 100.

    What to do:
        More sequences (``--batch``) to settle the verdict; then as for VAN001.

    Thresholds:
        those of the verdict: log10 gain under -3.

    References:
        Pascanu, Mikolov & Bengio 2013.
    """

    code, name, severity = "VAN004", "horizon-short-of-lag", "info"
    cause = "strongly driven or saturated steps cut the gradient for a while"

    def assess_stack(self, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        gradient = subject.stack.gradient
        if gradient is None or subject.stack.verdict in ("vanishing", "exploding", "invalid"):
            return
        if gradient.horizon is None or gradient.horizon > gradient.lag:
            return
        there = gradient.log10_by_lag[gradient.horizon - 1]
        if there > 0:
            return  # it left the healthy band upwards
        message = f"{power(there)} of the gradient is left after {steps(gradient.horizon)}; the lag is {gradient.lag}"
        yield self.finding(subject.stack.name, message, {"horizon": gradient.horizon, "log10_gain": there})


class CreditIsRecent(LayerRule):
    """Nearly all of the weights' gradient comes from the last few steps.

    What it does:
        Adds up the norms of the steps' contributions to ``dL/dW_hh`` for a random loss on the last step, and
        fires when 99 % of the sum lies within a quarter of the lag.

    Why is this bad:
        The norm of ``dL/dW_hh`` looks healthy, and tools that watch it stay silent, but the weights learn
        from the recent past alone.

    Formula:
        ``dL/dW_hh = sum_t (b_t * d_t) h_{t-1}^T``: the norm of a term is a product of two norms.

    Example:
        rnndiag simulate --sigma 0.5

    What to do:
        As for VAN001.

    Thresholds:
        99 % within 0.25 of the lag.

    References:
        Pascanu, Mikolov & Bengio 2013.
    """

    code, name, severity = "VAN005", "gradient-credit-is-recent", "info"
    cause = "the gradient through time vanishes (VAN001)"
    thresholds: ClassVar = {"share_of_lag": 0.25}
    needs = ("gradient",)

    def lacks(self, layer: LayerMeasures) -> str | None:
        if layer.gradient is not None and layer.gradient.credit is None:
            return f"credit not known: {WHY_UNSEEN}"
        return super().lacks(layer)

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        lag, gradient = subject.stack.lag, layer.gradient
        if gradient is None or gradient.credit_99_steps is None or subject.stack.verdict != "vanishing":
            return  # beside a memory elsewhere in the stack, a layer may well look at the recent past
        if gradient.credit_99_steps > at["share_of_lag"] * lag:
            return
        recent = steps(gradient.credit_99_steps)
        message = f"the last {recent} make up 99 % of the contributions to dL/dW_hh; the lag is {lag}"
        suggestion = Suggestion(
            "truncation",
            f"truncate backpropagation at {steps(gradient.credit_99_steps)}: more is wasted on this net as it is",
            "the steps before contribute 1 % in all",
        )
        yield self.finding(layer.name, message, {"credit_99_steps": gradient.credit_99_steps}, (suggestion,))
