"""The verdict in a sentence that a student understands."""

from __future__ import annotations

from collections.abc import Sequence

from rnndiag.measures.layer import LayerMeasures, StackMeasures
from rnndiag.measures.verdict import WORST_FIRST
from rnndiag.rules.words import power, steps


def summarise(stacks: Sequence[StackMeasures], layers: Sequence[LayerMeasures]) -> str:
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
        broken = next(layer for layer in layers if layer.gradient is None)
        if broken.numerics.nonfinite_parameters:
            return f"is broken: {broken.name} holds weights that are NaN or infinite, so its outputs are too"
        step = broken.numerics.first_nonfinite_step
        return f"overflows: a state of {broken.name} is no longer a finite number at step {step}"
    lag, gain = steps(gradient.lag), power(gradient.log10_gain)
    low, high = (power(end) for end in gradient.log10_gain_interval)
    match stack.verdict:
        case "vanishing":
            return (
                f"forgets: of a gradient at the last step, {gain} is left {lag} earlier, so what happened more "
                f"than {steps(gradient.horizon or gradient.lag)} ago hardly teaches it anything"
            )
        case "exploding":
            return (
                f"explodes: a gradient at the last step has grown {gain} times {lag} earlier, so a tiny change "
                "then upsets everything after it, and updates without clipping will jump"
            )
        case "mixed":
            return f"depends on the input: over {lag} some sequences keep their gradient and others do not"
        case "inconclusive":
            more = gradient.sequences_to_settle
            advice = f"; about {more} sequences would settle it (--batch {more})" if more else ""
            return f"is at the edge: over {lag} the gradient keeps between {low} and {high} of its size{advice}"
        case _:
            return (
                f"is healthy: over {lag} the gradient keeps {gain} of its size, neither vanishing nor "
                "exploding, so training can see that far back"
            )
