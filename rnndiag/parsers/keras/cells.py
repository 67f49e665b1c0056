"""A Keras cell's variables: the kind and the layout, verified by their shapes.

Keras keeps a kernel ``[D, G*H]``, a recurrent kernel ``[H, G*H]`` and a bias. Cells of cuDNN have the same shapes, but
each gate's block holds a matrix ``[H, D]`` row by row (keras 2, legacy/saving/hdf5_format.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rnndiag.errors import UnfitError
from rnndiag.kinds import KINDS, Form
from rnndiag.parsers.parsed import Convention, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnndiag.parsers.keras.layers import Cell, Kind
    from rnndiag.parsers.keras.versions import Version
    from rnndiag.parsers.parsed import Layout

_ORDERS: Final[dict[Kind, str]] = {"rnn": "h", "gru": "zrh", "lstm": "ifco"}
"""The gate blocks of each cell, by Keras's letters."""


def resolve(cell: Cell, shapes: Sequence[tuple[int, ...]]) -> Cell:
    """The cell with its kind, its layout and ``reset_after``; what the config leaves open follows from the shapes.

    Raises:
        UnfitError: they are not those of the cell.
    """
    if cell.fault:
        raise UnfitError(cell.fault)
    if not shapes:
        raise UnfitError("its weights are not where Keras keeps them: it was never built, or shares another's")
    shown = ", ".join(str(list(shape)) for shape in shapes[:6])
    if len(shapes) not in (2, 3) or any(len(shape) != 2 or 0 in shape for shape in shapes[:2]):
        raise UnfitError(f"expected a kernel, a recurrent kernel and perhaps a bias, got {shown}")
    (_, width), (hidden, rows) = shapes[:2]
    kinds = [cell.kind] if cell.kind else list(_ORDERS)
    kind = next((kind for kind in kinds if len(_ORDERS[kind]) * hidden == rows == width), None)
    if kind is None:
        raise UnfitError(f"kernel and recurrent kernel are not those of one {cell.kind or 'cell'}: got {shown}")
    if cell.units not in (None, hidden):
        raise UnfitError(f"the configuration states {cell.units} units, the weights have {hidden}: got {shown}")
    bias = shapes[2] if len(shapes) == 3 else None
    reset_after, is_cudnn = cell.reset_after, cell.is_cudnn
    if bias == (2 * rows,) and kind != "rnn":
        is_cudnn = True
    if kind == "gru" and bias is not None:
        two_biases = bias != (rows,)
        if reset_after not in (None, two_biases):
            raise UnfitError(f"reset_after is {reset_after} and its bias is that of {two_biases}: got {shown}")
        reset_after = two_biases
    expected = (2 * rows,) if is_cudnn else (2, rows) if kind == "gru" and reset_after else (rows,)
    if bias not in (None, expected):
        raise UnfitError(f"expected a bias {list(expected)}, got {shown}")
    return replace(cell, kind=kind, reset_after=reset_after, is_cudnn=is_cudnn)


def with_defaults(cell: Cell, version: Version) -> Cell:
    """A cell that ``resolve`` returned, with the defaults of Keras for what no configuration states."""
    assert cell.kind
    if cell.kind == "rnn":  # tanh or relu: the user may say
        return cell
    reset_after = cell.reset_after
    if cell.kind == "gru" and reset_after is None:
        reset_after = cell.is_cudnn or version.reset_after
    gate = cell.gate or ("sigmoid" if cell.is_cudnn or version.gate == "sigmoid" else "hard_sigmoid")
    if cell.gate is None and version.is_undecided and cell.reset_after is False:
        gate = "hard_sigmoid"  # TensorFlow 2 builds a GRU with reset_after
    return replace(cell, activation=cell.activation or "tanh", gate=gate, reset_after=reset_after)


def convention_of(cell: Cell, version: Version, *, backwards: bool) -> Convention:
    """How a cell that ``with_defaults`` returned is stored, and what it computes.

    Raises:
        UnfitError: no such kind of cell is measured.
    """
    assert cell.kind
    layout: Layout = "cudnn" if cell.is_cudnn else "columns"
    known = Convention(cell.kind, None, layout, _ORDERS[cell.kind], cell.reset_after, backwards=backwards)
    if cell.kind == "rnn":
        return replace(known, nonlinearity=cell.activation)
    form = Form(version.hard_sigmoid if cell.gate == "hard_sigmoid" else "sigmoid", cell.activation or "tanh")
    kind = kind_of(cell.kind, form)
    if kind and kind not in KINDS:
        raise UnfitError(
            f"no {cell.kind.upper()} with activation {form.activation} and recurrent_activation {cell.gate} is"
            " measured; --import measures a step function of your own"
        )
    return replace(known, kind=kind, form=form)
