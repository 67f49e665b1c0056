"""The weights and settings of an ONNX recurrent operator: verified, and described as they are stored.

Source: the operators RNN, GRU and LSTM in https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from rnndiag.errors import UnfitError
from rnndiag.kinds import PYTORCH_FORM
from rnndiag.parsers.onnx.activations import form_of
from rnndiag.parsers.parsed import Convention, kind_of

if TYPE_CHECKING:
    from rnndiag.parsers.onnx.types import Types

ORDERS: Final = {"RNN": "h", "GRU": "zrh", "LSTM": "iofc"}
"""The gate blocks of each operator, by the letters of ONNX's documentation."""
_CELLS: Final[Mapping[str, Literal["rnn", "gru", "lstm"]]] = {"RNN": "rnn", "GRU": "gru", "LSTM": "lstm"}

NOTES: Final = {
    "GRU": "ONNX holds the gates of a GRU as update, reset, new: they were put in PyTorch's order, reset, update, new",
    "LSTM": "ONNX holds the gates of an LSTM as input, output, forget, candidate: they were put in PyTorch's order,"
    " input, forget, candidate, output",
}
"""What is to be said of a file with such an operator."""

PEEPHOLES: Final = ("peephole_input", "peephole_output", "peephole_forget")
"""The blocks of P in ONNX's order, by the names of the parameters."""
_DIRECTIONS: Final = {b"forward": 1, b"reverse": 1, b"bidirectional": 2}
_NO_CLIP: Final = 1e30
_DTYPES: Final = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One operator: a level of a module, in one or both directions."""

    kind: str
    """``RNN``, ``GRU`` or ``LSTM``"""
    directions: tuple[dict[str, np.ndarray], ...]
    """By direction, forward first, the arrays by role: ``ih``, ``hh`` and, if there are any, ``bias`` and peepholes"""
    convention: Convention
    types: Mapping[str, Types] = field(default_factory=dict)
    """In which the model stores each, by role."""

    @property
    def input_size(self) -> int:
        """``D``."""
        return int(self.directions[0]["ih"].shape[1])

    @property
    def hidden_size(self) -> int:
        """``H``."""
        return int(self.directions[0]["hh"].shape[1])

    @property
    def output_size(self) -> int:
        """The width of what a level above reads."""
        return self.hidden_size * len(self.directions)


def layer_of(
    kind: str,
    settings: Mapping[str, Any],
    weights: tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None],
) -> Layer:
    """The operator as it is stored.

    Args:
        kind: one of ``ORDERS``.
        settings: the node's attributes.
        weights: ``W [directions, G*H, D]``, ``R [directions, G*H, H]``, ``B [directions, 2*G*H]`` or None for zero,
            and the LSTM's peepholes ``P [directions, 3*H]`` or None for zero.

    Raises:
        UnfitError: shapes that do not fit together, or a variant that PyTorch does not have.
    """
    W, R, B, P = weights
    direction = settings.get("direction", b"forward")
    count = _DIRECTIONS.get(direction)
    if count is None:
        raise UnfitError(f"its direction is {direction!r}: expected forward, reverse or bidirectional")
    _refuse_variants(settings)
    hidden = _hidden_size(kind, count, settings, W, R, B)
    if P is not None and P.shape != (count, 3 * hidden):
        raise UnfitError(f"its peephole weights do not fit: expected P [{count}, {3 * hidden}], got {list(P.shape)}")
    dtypes = {str(array.dtype) for array in (W, R, B, P) if array is not None}
    if len(dtypes) > 1 or not dtypes <= set(_DTYPES):
        raise UnfitError(f"its weights are {', '.join(sorted(dtypes))}: expected one of float16, float32, float64")
    nonlinearity, form = form_of(kind, count, settings)
    own_kind = kind_of(_CELLS[kind], form)
    peepholes = {}
    if P is not None and P.any():
        if form != PYTORCH_FORM:
            raise UnfitError("it has peephole weights, and activations that are not sigmoid and tanh")
        own_kind = "peephole_lstm"
        peepholes = dict(zip(PEEPHOLES, np.split(P, 3, 1), strict=True))
    convention = Convention(
        _CELLS[kind],
        nonlinearity,
        "rows",
        ORDERS[kind],
        reset_after=bool(settings.get("linear_before_reset", 0)) if kind == "GRU" else None,
        kind=own_kind,
        form=form,
        backwards=direction == b"reverse",
    )
    stored = {"ih": W, "hh": R} | ({} if B is None else {"bias": B}) | peepholes
    return Layer(kind, tuple({role: array[i] for role, array in stored.items()} for i in range(count)), convention)


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
    rows = len(ORDERS[kind]) * hidden
    shapes = f"W {list(W.shape)}, R {list(R.shape)}" + ("" if B is None else f", B {list(B.shape)}")
    if W.ndim != 3 or W.shape[:2] != (count, rows) or R.shape != (count, rows, hidden) or 0 in (hidden, W.shape[2]):
        raise UnfitError(
            f"its weights do not fit together: expected W [{count}, {len(ORDERS[kind])}*H, D] and"
            f" R [{count}, {len(ORDERS[kind])}*H, H], got {shapes}"
        )
    if B is not None and B.shape != (count, 2 * rows):
        raise UnfitError(f"its bias does not fit: expected B [{count}, {2 * rows}], got {shapes}")
    stated = settings.get("hidden_size", hidden)
    if stated != hidden:
        raise UnfitError(f"it says hidden_size={stated}, but its weights have {hidden} hidden units: {shapes}")
    return hidden
