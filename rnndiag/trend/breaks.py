"""What is not finite in a checkpoint, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rnndiag.measures.layer import LayerMeasures
from rnndiag.rules.words import counted


def broken_part(layer: LayerMeasures) -> str | None:
    """The part of a layer, or of its run along the probe, that is NaN or infinite; None if everything is finite."""
    numerics = layer.numerics
    if numerics.nonfinite_parameters:
        entries = counted(sum(numerics.nonfinite_parameters.values()), "entry")
        where = ", ".join(numerics.nonfinite_parameters)
        return f"weights of {layer.name} are NaN or infinite ({entries} in {where})"
    if numerics.first_nonfinite_step is not None and numerics.inputs_finite:
        return f"the states of {layer.name} overflow at step {numerics.first_nonfinite_step} of the probe"
    if numerics.first_nonfinite_jacobian is not None:
        at = numerics.first_nonfinite_jacobian
        return f"the derivative of the states of {layer.name} is NaN or infinite at step {at} of the probe"
    if not numerics.inputs_finite:
        return f"the inputs of {layer.name} are NaN or infinite"
    return f"the gradient through {layer.name} is NaN" if layer.verdict == "invalid" else None


def broken_parts(names: Sequence[str], layers: Iterable[LayerMeasures]) -> str:
    """What is not finite in the layers of a stack that is invalid, the lowest layer first.

    A layer above a broken one only receives what the lower one sends, so it is named only if its own weights are
    broken.
    """
    parts = [part for layer in layers if layer.name in names and (part := broken_part(layer)) is not None]
    own = [part for part in parts if not part.startswith("the inputs")] or parts
    if not own:
        return "numbers are NaN or infinite"
    more = len(own) - 1
    return own[0] + (f"; {counted(more, 'more layer')} {'is' if more == 1 else 'are'} not finite" if more else "")
