"""NUM: numbers that are broken, or that the stored precision cannot hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rnndiag.rules.base import WHY_UNSEEN, Finding, LayerRule, Subject, Suggestion, Thresholds
from rnndiag.rules.words import steps

if TYPE_CHECKING:
    from rnndiag.measures.layer import LayerMeasures


class NonfiniteWeights(LayerRule):
    """Weights are NaN or infinite.

    What it does:
        Counts entries of the layer's parameters that are not finite.

    Why is this bad:
        Every output of the net is NaN. Training had diverged before this checkpoint was written.

    Formula:
        None.

    Example:
        A checkpoint written after the loss had turned NaN.

    What to do:
        Go back to the last finite checkpoint; clip gradients; lower the learning rate.

    Thresholds:
        one entry.

    References:
        Pascanu, Mikolov & Bengio 2013.
    """

    code, name, severity = "NUM001", "nonfinite-weights", "error"
    cause = "training had diverged before this checkpoint was written"
    grows_worse = "entries"

    def lacks(self, layer: LayerMeasures) -> str | None:
        return f"parameters not known: {WHY_UNSEEN}" if layer.numerics.nonfinite_parameters is None else None

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        counts = layer.numerics.nonfinite_parameters
        if not counts:
            return
        listed = ", ".join(f"{count} in {name}" for name, count in counts.items())
        suggestion = Suggestion(
            "clipping",
            "go back to the last finite checkpoint and clip the gradient's norm from there",
            "an entry that is not finite stays so under every further update",
        )
        yield self.finding(
            layer.name, f"NaN or infinite entries: {listed}", {"entries": sum(counts.values())}, (suggestion,)
        )


class NonfiniteStates(LayerRule):
    """The states overflow.

    What it does:
        Fires when finite weights lead to a state that is NaN or infinite, or to a step Jacobian that is, along
        finite states.

    Why is this bad:
        The forward pass itself diverges, as an unbounded (ReLU) net with growing dynamics does; or the backward pass
        does, as at a square root or a norm of zero.

    Formula:
        None.

    Example:
        A ReLU net whose recurrent weight doubles the state, run for over a thousand steps.

    What to do:
        A smaller recurrent scale, or a bounded nonlinearity.

    Thresholds:
        one entry.

    References:
        Le, Jaitly & Hinton 2015.
    """

    code, name, severity = "NUM002", "nonfinite-states", "error"
    cause = "unbounded units with growing dynamics"

    def lacks(self, layer: LayerMeasures) -> str | None:
        if layer.numerics.nonfinite_parameters:
            return f"{', '.join(layer.numerics.nonfinite_parameters)} not finite, so no state is"
        return None if layer.numerics.inputs_finite else "its inputs are not finite"

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        step, undefined = layer.numerics.first_nonfinite_step, layer.numerics.first_nonfinite_jacobian
        if undefined is not None:
            yield self._without_derivative(layer.name, undefined)
        if step is None:
            return
        suggestion = Suggestion(
            "init",
            "lower the scale of the recurrent weights, or use tanh or a gated cell, whose states are bounded",
            f"the states are not finite from step {step} on",
            treatment="rescale",
        )
        weights = "weights" if layer.numerics.nonfinite_parameters is not None else "initial states"
        message = f"finite {weights}, but a state is NaN or infinite at step {step}"
        yield self.finding(layer.name, message, {"step": step}, (suggestion,))

    def _without_derivative(self, layer: str, step: int) -> Finding:
        suggestion = Suggestion(
            "init",
            "keep the step away from where it has no derivative: add a small constant under roots and norms",
            f"the states are finite, their derivative is not at step {step}",
        )
        message = f"finite states, but the step Jacobian is NaN or infinite at step {step}"
        cause = "a function without a derivative there, such as a square root or a norm at zero"
        return self.finding(layer, message, {"step": step}, (suggestion,), cause=cause)


class GradientUnderflows(LayerRule):
    """The gradient underflows in the stored precision.

    What it does:
        Fires when a gradient of size 1 is rounded to zero within the lag in the dtype the weights are
        stored in (float16, bfloat16 or float32), in a stack that does not remember otherwise.

    Why is this bad:
        Beyond that lag backpropagation returns exact zeros: no optimiser setting can bring them back.

    Formula:
        first lag with ``||d_{T-l}|| / ||d_T||`` under half the smallest subnormal.

    Example:
        A float16 checkpoint of a net that halves its gradient at each step: zero after 25.

    What to do:
        As VAN001; loss scaling moves the lag, it does not remove it.

    Thresholds:
        2^-25 (float16), 2^-134 (bfloat16), 2^-150 (float32).

    References:
        Micikevicius et al. 2018.
    """

    code, name, severity = "NUM003", "gradient-underflows", "warning"
    cause = "the gradient vanishes, and the stored precision cannot hold what is left"
    needs = ("gradient",)

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        dtype = layer.numerics.stored_dtype
        return f"a gradient of size 1 does not underflow in {dtype}" if dtype == "float64" else None

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        dtype, gradient = layer.numerics.stored_dtype, layer.gradient
        reached = subject.stack.gradient
        if gradient is None or reached is None:
            return
        lag, everywhere = gradient.underflow_lag.get(dtype), reached.underflow_lag.get(dtype)
        if lag is None or everywhere is None or max(lag, everywhere) > subject.stack.lag:
            return
        message = f"in {dtype} the gradient is exactly zero after {steps(lag)}; the lag is {subject.stack.lag}"
        yield self.finding(layer.name, message, {"lag": lag, "dtype": dtype})
