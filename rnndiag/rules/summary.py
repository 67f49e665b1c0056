"""The verdict in a sentence that a student understands."""

from __future__ import annotations

from collections.abc import Sequence

from rnndiag.measures.gradient import GradientThroughTime
from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.stack import StackMeasures
from rnndiag.measures.verdict import WORST_FIRST, Alternative
from rnndiag.rules.words import power, steps


def summarize_verdict(stacks: Sequence[StackMeasures], layers: Sequence[LayerMeasures]) -> str:
    """One sentence on the worst stack, and how many more there are."""
    subject = min(stacks, key=lambda stack: WORST_FIRST.index(stack.verdict))
    members = [layer for layer in layers if layer.name in subject.layers]
    others = [stack for stack in stacks if stack is not subject]
    sentence = f"{subject.name} {_clause(subject, members)}."
    if others:
        verdicts = ", ".join(f"{stack.name} is {stack.verdict}" for stack in others)
        sentence += f" Of the other stacks, {verdicts}."
    return sentence


def _clause(stack: StackMeasures, layers: Sequence[LayerMeasures]) -> str:
    gradient = stack.gradient
    if gradient is None:
        return _broken(next(layer for layer in layers if layer.gradient is None))
    lag, gain = steps(gradient.lag), power(gradient.log10_gain)
    other = stack.alternative
    if other is not None and other.undecided:
        return (
            f"is undecided: it is {other.assumed_verdict} with {other.assumed} and {_with_other(other)}, and the file "
            f"does not say which nonlinearity it uses; --nonlinearity {other.assumed} or {other.nonlinearity} decides"
        )
    match stack.verdict:
        case "vanishing":
            return (
                f"forgets: of a gradient at the last step, {gain} is left {lag} earlier, so what happened more "
                f"than {steps(gradient.settled_from or gradient.lag)} ago hardly teaches it anything"
            )
        case "exploding":
            return (
                f"explodes: a gradient at the last step has grown {gain} times {lag} earlier, so a tiny change "
                "then upsets everything after it, and updates without clipping will jump"
            )
        case "mixed":
            return f"depends on the input: over {lag} the gradient fares very differently in different sequences"
        case "inconclusive":
            low, high = (power(end) for end in gradient.log10_gain_interval)
            more = gradient.sequences_to_settle
            advice = f"; about {more} sequences would settle it" if more else ""
            return f"is at the edge: over {lag} the gradient comes to between {low} and {high} times its size{advice}"
        case _:
            return f"is healthy: {_healthy(gradient)}"


def _with_other(other: Alternative) -> str:
    if other.log10_gain is None:
        return f"overflows with {other.nonlinearity}"
    return f"{other.verdict} with {other.nonlinearity}"


def _healthy(gradient: GradientThroughTime) -> str:
    gain, lag = power(gradient.log10_gain), steps(gradient.lag)
    kept = f"keeps {gain} of its size" if gradient.log10_gain < 0 else f"comes to {gain} times its size"
    said = f"over {lag} the gradient {kept}, neither vanishing nor exploding, so training can see that far back"
    horizon = gradient.horizon
    if horizon is None or horizon >= gradient.lag:
        return said
    return f"{said}, though at lag {horizon} it is {power(gradient.log10_by_lag[horizon - 1])} times its size"


def _broken(layer: LayerMeasures) -> str:
    numerics = layer.numerics
    if numerics.nonfinite_parameters:
        holds = ", ".join(numerics.nonfinite_parameters)
        return f"is broken: {layer.name} holds weights that are NaN or infinite ({holds}), so its outputs are too"
    if not numerics.inputs_finite:
        return f"cannot be judged: the inputs of {layer.name} are NaN or infinite"
    if numerics.first_nonfinite_jacobian is not None:
        return (
            f"has no gradient: the states of {layer.name} are finite, but their derivative is NaN or infinite at step "
            f"{numerics.first_nonfinite_jacobian}"
        )
    return f"overflows: a state of {layer.name} is no longer a finite number at step {numerics.first_nonfinite_step}"
