"""NUM: states that the stored dtype cannot hold, and states that grow for as long as the net runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rnndiag.kinds import KINDS
from rnndiag.rules.base import WHY_UNSEEN, Evidence, Finding, LayerRule, Subject, Suggestion, Thresholds
from rnndiag.rules.words import steps

if TYPE_CHECKING:
    from rnndiag.measures.layer import LayerMeasures
    from rnndiag.measures.state_size import StateGrowth, StateSize

LIMITS = {"float16": "65504", "bfloat16": "3.39e+38", "float32": "3.4e+38"}
"""Largest number of each dtype, for people."""

"""Cells whose states never leave [-1, 1], however long they run."""


class StoredDtypeOverflows(LayerRule):
    """The states overflow in the dtype in which the weights are stored.

    What it does:
        The rule runs the layer in the arithmetic of the stored dtype (float16, bfloat16 or float32), and it fires when
        a state is NaN or infinite at some step of the probe. The rest of the report is measured in a wider dtype, in
        which the same states can be finite.

    Why is this bad:
        After ``model.half()``, under autocast or in an exported half-precision engine the states are NaN or infinite
        from that step on, while the same weights work in float32.

    Formula:
        The rule has no formula: PyTorch's own kernels run the layer in that dtype. The largest number is 65504 in
        float16, 3.39e38 in bfloat16 and 3.40e38 in float32.

    Example:
        A ReLU net that is stored in float16 and adds 512 to its state at each step is infinite at step 128.

    What to do:
        Run the layer in float32 or bfloat16; reset, bound or scale the state. A net that is only stored in float16 and
        always runs in float32 is not affected: switch the rule off for it.

    Thresholds:
        one state that is NaN or infinite.

    References:
        Micikevicius et al. 2018.
    """

    code, name, severity = "NUM004", "stored-dtype-overflows", "error"
    cause = "unbounded states in a dtype with a small range"

    def lacks(self, layer: LayerMeasures) -> str | None:
        numerics = layer.numerics
        if numerics.nonfinite_parameters is None:
            return f"the dtype of the weights is not known: {WHY_UNSEEN}"
        if numerics.nonfinite_parameters:
            return f"{', '.join(numerics.nonfinite_parameters)} not finite, so no state is finite"
        return None if numerics.inputs_finite else "its inputs are not finite"

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        step, dtype, states = layer.numerics.first_stored_overflow, layer.numerics.stored_dtype, layer.states
        if step is None or states is None:
            return
        measured = f"in a wider dtype the states reach {states.max:.3g}"
        if layer.numerics.first_nonfinite_step is not None:
            measured = f"in a wider dtype the states overflow at step {layer.numerics.first_nonfinite_step}"
        message = (
            f"in {dtype}, the dtype of the stored weights, a state is NaN or infinite from step {step} on; {measured}, "
            f"and the largest {dtype} number is {LIMITS[dtype]}"
        )
        wider = "float32 or bfloat16" if dtype == "float16" else "float64"
        suggestions = (
            Suggestion("saturation", f"run this layer in {wider}", measured),
            *_remedies(layer, f"the state no longer fits into {dtype} at step {step}", step - 1),
        )
        evidence: Evidence = {"step": step, "dtype": dtype, "largest_state": states.max}
        yield self.finding(layer.name, message, evidence, suggestions)


class StatesGrow(LayerRule):
    """The states grow for as long as the net runs.

    What it does:
        The rule looks at the largest number in the state (``h``, and ``c`` of an LSTM) over the second half of the
        probe. It fires when this number grows nearly in proportion to the step or faster, clearly faster than the
        inputs, and has become large. The growth exponent is 0 for bounded states, 0.5 for a random walk, 1 for linear
        growth and more for exponential growth.

    Why is this bad:
        The longer the sequence, the larger the state. Beyond ``|c| = 10`` the output ``tanh(c)`` of an LSTM no longer
        changes and passes no gradient. Layers that read an unbounded state see numbers that they were not trained on.
        In the end the state overflows. Results get worse as the input gets longer.

    Formula:
        slope of ``log max |s_t|`` against ``log t`` through 12 block means of the second half of the steps, with the 95
        % interval of its median over sequences.

    Example:
        rnndiag simulate --cell lstm --forget-bias 12 --bias-scale 3 --T 200

    What to do:
        Reset the state every k steps, clip or otherwise bound it, scale or center the inputs, or lower the forget bias.

    Thresholds:
        growth exponent over 0.6 (the whole interval, less the exponent of the inputs), rising in 0.9 of the blocks; a
        largest number of at least 10 in an LSTM's state, and of 1000 times its first value in other states.

    References:
        Gers, Schmidhuber & Cummins 2000; Le, Jaitly & Hinton 2015.
    """

    code, name, severity = "NUM005", "states-grow", "warning"
    cause = "the state adds up its inputs, or is multiplied by more than 1 at each step, and nothing bounds it"
    grows_worse = "end"
    thresholds: ClassVar = {"exponent": 0.6, "rising": 0.9, "size": 10.0, "factor": 1000.0}
    needs = ("states",)

    def lacks(self, layer: LayerMeasures) -> str | None:
        reason = super().lacks(layer)
        if reason is not None or KINDS[layer.cell].bounded or layer.numerics.first_nonfinite_step is not None:
            return reason  # states that overflow are the finding of NUM002
        if layer.states is None or layer.states.growth is not None:
            return None
        return "the growth of the states is not known: it takes at least 24 steps and 2 sequences to measure"

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        states = layer.states
        if states is None or states.growth is None:
            return
        growth = states.growth
        # An LSTM reads c through tanh, which gives the size a scale; other states have only their own.
        large = at["size"] if KINDS[layer.cell].has_cell_state else at["factor"] * growth.first
        if not _grows(growth, at, large):
            return
        low, high = growth.exponent_interval
        length = len(states.largest_per_step)
        message = (
            f"the largest number in the state grows from {growth.halfway:.3g} at step {length // 2} to "
            f"{growth.end:.3g} at step {length} (growth exponent {growth.exponent:.2g}, 95 % interval {low:.2g} to "
            f"{high:.2g}; 0 is bounded, 1 is linear growth)"
        )
        evidence: Evidence = {
            "exponent": growth.exponent,
            "exponent_low": low,
            "exponent_high": high,
            "rising": growth.rising,
            "input_exponent": growth.input_exponent,
            "first": growth.first,
            "halfway": growth.halfway,
            "end": growth.end,
        }
        small = _steps_below(states, large)
        suggestions = _remedies(layer, f"the state is larger than {large:.3g} after {steps(small)}", small)
        yield self.finding(layer.name, message, evidence, suggestions, cause=_cause(layer))


def _grows(growth: StateGrowth, at: Thresholds, large: float) -> bool:
    own = growth.exponent_interval[0] - max(0.0, growth.input_exponent)
    return own > at["exponent"] and growth.rising >= at["rising"] and growth.end >= large


def _steps_below(states: StateSize, size: float) -> int:
    """Steps before the first one at which the largest state number reaches a size."""
    sizes = states.largest_per_step
    return next((i for i, each in enumerate(sizes) if each >= size), len(sizes))


def _cause(layer: LayerMeasures) -> str:
    gate = (layer.gates or {}).get("forget")
    if gate is None:
        return ""
    return f"the forget gate is near 1 (mean {gate.mean:.4f}), and on average the added numbers have the same sign"


def _remedies(layer: LayerMeasures, evidence: str, small: int) -> tuple[Suggestion, ...]:
    """What keeps a state small; ``small`` is the number of steps during which the state is still small."""
    reset = f"reset the state every {steps(small)}" if small > 1 else "reset the state more often"
    state = "cell state" if KINDS[layer.cell].has_cell_state else "state"
    bound = f"bound the {state}: clip it to a fixed range after each step"
    found = [
        Suggestion("truncation", f"{reset}, or at least at the start of each sequence", evidence),
        Suggestion("saturation", bound, evidence),
        Suggestion("saturation", "scale the inputs or the input weights down, and center the inputs", evidence),
    ]
    if KINDS[layer.cell].has_cell_state and layer.forget_bias is not None:
        why = f"the mean forget bias is {layer.forget_bias:.3g}"
        found.append(Suggestion("init", "lower the forget bias, so that the cell state decays", why))
    elif KINDS[layer.cell].nonlinearity == "relu":
        found.append(Suggestion("init", "lower the scale of W_hh, or use tanh or a gated cell", evidence))
    return tuple(found)
