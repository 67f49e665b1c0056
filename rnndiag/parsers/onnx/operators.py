"""From the weights and settings of an ONNX recurrent operator to PyTorch's names, layout and gate order.

Source: the operators RNN, GRU and LSTM in https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import numpy as np

from rnndiag.parsers.parsed import Facts, UnfitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.parsers.onnx.types import Types

GATES: Final = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
"""For each of PyTorch's row blocks, which of ONNX's it is: h; r, z, n from z, r, h; i, f, g, o from i, o, f, c."""

NOTES: Final = {
    "GRU": "ONNX holds the gates of a GRU as update, reset, new: they were put in PyTorch's order, reset, update, new",
    "LSTM": "ONNX holds the gates of an LSTM as input, output, forget, candidate: they were put in PyTorch's order,"
    " input, forget, candidate, output",
}
"""What is to be said of a file with such an operator."""

_ACTIVATIONS: Final = {"GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh")}
_DIRECTIONS: Final = {b"forward": 1, b"reverse": 1, b"bidirectional": 2}
_NO_CLIP: Final = 1e30
_DTYPES: Final = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One operator: a level of a module, in one or both directions."""

    kind: str
    """``RNN``, ``GRU`` or ``LSTM``"""
    parameters: tuple[dict[str, np.ndarray], ...]
    """By direction, forward first, the arrays by PyTorch's names: ``weight_ih``, ``bias_hh``"""
    facts: Facts
    types: Mapping[str, Types] = field(default_factory=dict)
    """In which the model holds each, by the same names."""

    @property
    def input_size(self) -> int:
        """``D``."""
        return int(self.parameters[0]["weight_ih"].shape[1])

    @property
    def hidden_size(self) -> int:
        """``H``."""
        return int(self.parameters[0]["weight_hh"].shape[1])

    @property
    def output_size(self) -> int:
        """The width of what a level above reads."""
        return self.hidden_size * len(self.parameters)


def convert(
    kind: str,
    settings: Mapping[str, Any],
    weights: tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None],
) -> Layer:
    """The operator as PyTorch would hold it.

    Args:
        kind: one of ``GATES``.
        settings: the node's attributes.
        weights: ``W [directions, G*H, D]``, ``R [directions, G*H, H]``, ``B [directions, 2*G*H]`` or None for zero,
            and the LSTM's peepholes ``P [directions, 3*H]`` or None for zero.

    Raises:
        UnfitError: shapes that do not fit together, or a variant that PyTorch has not.
    """
    W, R, B, P = weights
    direction = settings.get("direction", b"forward")
    count = _DIRECTIONS.get(direction)
    if count is None:
        raise UnfitError(f"its direction is {direction!r}: expected forward, reverse or bidirectional")
    _refuse_variants(settings)
    hidden = _hidden_size(kind, count, settings, W, R, B)
    if P is not None and (P.shape != (count, 3 * hidden) or P.any()):
        raise UnfitError("it has peephole weights, which PyTorch's LSTM has not")
    dtypes = {str(array.dtype) for array in (W, R, B) if array is not None}
    if len(dtypes) > 1 or not dtypes <= set(_DTYPES):
        raise UnfitError(f"its weights are {', '.join(sorted(dtypes))}: expected one of float16, float32, float64")
    facts = Facts(
        nonlinearity=_nonlinearity(kind, count, settings),
        reset_after=kind != "GRU" or bool(settings.get("linear_before_reset", 0)),
        backwards=direction == b"reverse",
    )
    parameters = [_reordered(kind, hidden, W[i], R[i], None if B is None else B[i]) for i in range(count)]
    return Layer(kind, tuple(parameters), facts)


def _refuse_variants(settings: Mapping[str, Any]) -> None:
    clip = settings.get("clip")
    if clip is not None and not clip >= _NO_CLIP:
        raise UnfitError(f"it clips its preactivations at {clip:g}, which PyTorch's cells do not")
    if settings.get("input_forget", 0):
        raise UnfitError("it couples the forget gate to the input gate (input_forget=1), which PyTorch's LSTM does not")


def _hidden_size(
    kind: str, count: int, settings: Mapping[str, Any], W: np.ndarray, R: np.ndarray, B: np.ndarray | None
) -> int:
    """``H``, on which all shapes agree."""
    hidden = int(R.shape[-1]) if R.ndim else 0
    rows = len(GATES[kind]) * hidden
    shapes = f"W {list(W.shape)}, R {list(R.shape)}" + ("" if B is None else f", B {list(B.shape)}")
    if W.ndim != 3 or W.shape[:2] != (count, rows) or R.shape != (count, rows, hidden) or 0 in (hidden, W.shape[2]):
        raise UnfitError(
            f"its weights do not fit together: expected W [{count}, {len(GATES[kind])}*H, D] and"
            f" R [{count}, {len(GATES[kind])}*H, H], got {shapes}"
        )
    if B is not None and B.shape != (count, 2 * rows):
        raise UnfitError(f"its bias does not fit: expected B [{count}, {2 * rows}], got {shapes}")
    stated = settings.get("hidden_size", hidden)
    if stated != hidden:
        raise UnfitError(f"it says hidden_size={stated}, but its weights have {hidden} hidden units: {shapes}")
    return hidden


def _nonlinearity(kind: str, count: int, settings: Mapping[str, Any]) -> Literal["tanh", "relu"] | None:
    """The RNN's; None for gated cells, once theirs are known to be PyTorch's."""
    stated = settings.get("activations")
    if stated is None:
        return "tanh" if kind == "RNN" else None
    names = [name.decode(errors="replace").lower() for name in stated]
    shown = ", ".join(names)[:200]
    if kind != "RNN":
        if names != [*_ACTIVATIONS[kind]] * count:
            raise UnfitError(f"its activations are {shown}: expected {', '.join(_ACTIVATIONS[kind])}, as PyTorch's are")
        return None
    if len(names) != count or len(set(names)) > 1 or names[0] not in ("tanh", "relu"):
        raise UnfitError(f"its activations are {shown or 'none'}: expected tanh, or relu, in every direction")
    return cast("Literal['tanh', 'relu']", names[0])


def _reordered(kind: str, hidden: int, W: np.ndarray, R: np.ndarray, B: np.ndarray | None) -> dict[str, np.ndarray]:
    order = list(GATES[kind])
    named = {"weight_ih": W, "weight_hh": R}
    if B is not None:
        named["bias_ih"], named["bias_hh"] = np.split(B, 2)
    return {
        name: array.reshape(len(order), hidden, *array.shape[1:])[order].reshape(array.shape)
        for name, array in named.items()
    }
