"""The one place that converts a recurrent module from any layout and gate order into PyTorch's."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from rnndiag.checkpoint.contents import Leaf, ModuleFacts, Unusable
from rnndiag.checkpoint.layers.leaves import concatenated, constant, converted, part, shape
from rnndiag.checkpoint.layers.shapes import GATES_OF
from rnndiag.errors import UnfitError
from rnndiag.files.text import shape_of
from rnndiag.kinds import FAMILIES, extra_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rnndiag.parsers.parsed import Convention, Layout

CANONICAL: Final[dict[str, str]] = {family.name: family.letters for family in FAMILIES.values()}
"""PyTorch's gate orders, by letters."""
_LETTERS: Final = {
    "lstm": {"c": "g", "j": "g", "a": "g", "z": "g"},
    "gru": {"h": "n", "g": "n", "c": "n", "u": "z"},
    "rnn": {},
}
"""Other letters that papers and frameworks use for the same gates."""


@dataclass(frozen=True, slots=True)
class ConvertedModule:
    """One module under PyTorch's names."""

    parameters: dict[str, Leaf]
    """By ``weight_hh``, ``weight_ih``, ``bias_ih``, ``bias_hh``."""
    extra: dict[str, Leaf]
    """Parameters beyond PyTorch's, by their names in the file of the cell."""
    facts: ModuleFacts
    kind: str
    """``rnn``, ``gru`` or ``lstm``"""


class AmbiguousError(UnfitError):
    """The shapes admit more than one reading."""


def canonical_letter(kind: str, letter: str) -> str:
    """PyTorch's letter for a gate that is called ``letter``; the letter itself where it is no other name for one."""
    return _LETTERS[kind].get(letter, letter)


def canonical_order(kind: str, order: str) -> str | None:
    """A gate order in PyTorch's letters (``zrh`` becomes ``zrn``); None where it is none of that cell."""
    translated = "".join(canonical_letter(kind, letter) for letter in order)
    return translated if sorted(translated) == sorted(CANONICAL[kind]) else None


def to_pytorch_layout(
    held: Mapping[str, Leaf], known: Convention, extra: Mapping[str, Leaf] | None = None
) -> ConvertedModule:
    """Bring one module's tensors, given by role, into PyTorch's names, layout and gate order.

    Nothing is read from the file for that, and nothing before a layer needs it.

    Raises:
        UnfitError: the shapes are those of no recurrent module of that kind.
        AmbiguousError: they are those of two.
    """
    for role, leaf in held.items():
        if isinstance(leaf, Unusable):
            raise UnfitError(f"{role}: {leaf.reason}")
    shapes = {role: tuple(leaf.shape) for role, leaf in held.items() if not isinstance(leaf, Unusable)}
    kind, layout, hidden = _reading(shapes, known)
    rows = hidden * len(CANONICAL[kind])
    order = CANONICAL[kind] if known.order is None else canonical_order(kind, known.order)
    if order is None:
        raise UnfitError(
            f"order {known.order!r} is none of the gates of a {kind}: expected {CANONICAL[kind]} in its order"
        )
    blocks = [order.index(letter) for letter in CANONICAL[kind]]

    def matrix(role: str) -> Leaf:
        new = shapes[role] if layout == "rows" else shapes[role][::-1]
        return converted(held[role], new, lambda value: _permuted(_as_rows(value, layout, len(blocks)), blocks))

    parameters = {"weight_ih": matrix("ih"), "weight_hh": matrix("hh")}
    if "hr" in held:
        parameters["weight_hr"] = held["hr"]
    reset_after = True if known.reset_after is None else known.reset_after
    biases = _biases(held, shapes, rows, blocks)
    facts = ModuleFacts(
        nonlinearity=known.nonlinearity,
        likely=known.likely or "tanh",
        reset_after=reset_after,
        kind=known.kind,
        form=known.form,
        backwards=known.backwards,
        class_path=known.class_path,
    )
    return ConvertedModule(parameters | biases, _extra(extra or {}, hidden, blocks), facts, kind)


def _reading(shapes: Mapping[str, tuple[int, ...]], known: Convention) -> tuple[str, Layout, int]:
    """The cell, the layout and the number of units, the only ones that fit."""
    recurrent, feeding = shapes["hh"], shapes["ih"]
    if "hr" in shapes:
        return _projected(shapes)
    if len(recurrent) != 2 or len(feeding) != 2 or 0 in recurrent + feeding:
        raise UnfitError(f"expected two matrices, got hh {shape_of(recurrent)} and ih {shape_of(feeding)}")
    wanted_layout = "columns" if known.layout == "cudnn" else known.layout  # the shapes are the same
    fits = readings(recurrent, feeding)
    fits = [fit for fit in fits if known.cell in (None, fit[0]) and wanted_layout in (None, fit[1])]
    if not fits:
        wanted = f"a {known.cell}" if known.cell else "1, 3 or 4 gates"
        raise UnfitError(
            f"hh {shape_of(recurrent)} and ih {shape_of(feeding)} do not fit each other as those of {wanted}:"
            " expected [G*H, H] and [G*H, D], or both transposed"
        )
    if len(fits) > 1:
        raise AmbiguousError(f"hh {shape_of(recurrent)} and ih {shape_of(feeding)} may be used as W h or as h W")
    kind, layout, hidden = fits[0]
    return kind, known.layout or layout, hidden


def _projected(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, Layout, int]:
    """The same for an LSTM with an output projection ``hr [P, H]``, whose weights have PyTorch's layout."""
    recurrent, feeding, projection = shapes["hh"], shapes["ih"], shapes["hr"]
    if len(projection) == 2 and 0 not in projection:
        output, hidden = projection
        if recurrent == (4 * hidden, output) and len(feeding) == 2 and feeding[0] == 4 * hidden:
            return "lstm", "rows", hidden
    raise UnfitError(
        f"hh {shape_of(recurrent)}, ih {shape_of(feeding)} and hr {shape_of(projection)} do not fit each other as "
        "those of an LSTM with a projection: expected [4*H, P], [4*H, D] and [P, H]"
    )


def split_joined(joined: Leaf, known: Convention, bias: Leaf | None = None) -> tuple[dict[str, Leaf], Convention]:
    """The input weight and the recurrent weight in one weight of input and state, ``W [x, h]``, with their layout.

    The size of a bias shows the layout where the shape of the weight alone does not.

    Raises:
        UnfitError: the shape is none of that cell, or it fits as ``W [x, h]`` and as ``[x, h] W``.
    """
    found = shape(joined)
    gates = len(CANONICAL[known.cell or "rnn"])
    if len(found) != 2:
        raise UnfitError(f"xh {shape_of(found)}: expected a matrix")
    tall = {"rows": found, "columns": found[::-1]}
    wanted = None if bias is None else math.prod(shape(bias))
    fits = [
        layout
        for layout, (rows, width) in tall.items()
        if known.layout in (None, layout)
        and wanted in (None, rows)
        and rows
        and not rows % gates
        and width > rows // gates
    ]
    if len(fits) != 1:
        expected = f"[{gates if gates > 1 else ''}H, D+H] or the transposed"
        hint = "; add layout=rows or layout=columns" if fits else ""
        raise UnfitError(f"xh {shape_of(found)}: expected {expected}{hint}")
    (layout,) = fits
    rows, width = tall[layout]
    inputs, axis = width - rows // gates, 1 if layout == "rows" else 0
    split = {"ih": part(joined, axis, 0, inputs), "hh": part(joined, axis, inputs, width)}
    return split, replace(known, layout=layout)  # type: ignore[arg-type]  # a key of ``tall``


def readings(recurrent: tuple[int, ...], feeding: tuple[int, ...]) -> list[tuple[str, Layout, int]]:
    """The cell, layout and number of units of each reading that the shapes of ``hh`` and ``ih`` admit."""
    if len(recurrent) != 2 or len(feeding) != 2 or 0 in recurrent + feeding:
        return []
    layouts: tuple[Layout, ...] = ("rows", "columns")
    fits: list[tuple[str, Layout, int]] = []
    for layout in layouts:
        tall = recurrent if layout == "rows" else recurrent[::-1]
        fed = feeding[0] if layout == "rows" else feeding[1]
        gates, rest = divmod(tall[0], tall[1])
        if not rest and gates in GATES_OF and fed == tall[0]:
            fits.append((GATES_OF[gates], layout, tall[1]))
    return fits


def _biases(
    held: Mapping[str, Leaf], shapes: Mapping[str, tuple[int, ...]], rows: int, blocks: list[int]
) -> dict[str, Leaf]:
    """``bias_ih`` and ``bias_hh``: both or neither, a missing one being zero."""
    found: dict[str, Leaf] = {}
    for role in ("bias", "bias_ih", "bias_hh"):
        if role not in held:
            continue
        size = 1
        for length in shapes[role]:
            size *= length
        leaf = held[role]
        if role == "bias" and size == 2 * rows:  # Keras and cuDNN keep both in one
            found["bias_ih"] = converted(leaf, (rows,), lambda b: _permuted(b.reshape(2, -1)[0], blocks))
            found["bias_hh"] = converted(leaf, (rows,), lambda b: _permuted(b.reshape(2, -1)[1], blocks))
        elif size == rows:
            own = "bias_ih" if role == "bias" else role
            found[own] = converted(leaf, (rows,), lambda b: _permuted(b.reshape(-1), blocks))
        else:
            raise UnfitError(f"{role} {shape_of(shapes[role])}: expected {rows} numbers")
    for own, other in (("bias_ih", "bias_hh"), ("bias_hh", "bias_ih")):
        if own in found and other not in found:
            leaf = found[own]
            assert not isinstance(leaf, Unusable)  # to_pytorch_layout() has looked
            found[other] = constant(rows, 0.0, leaf.dtype)
    return found


def _extra(extra: Mapping[str, Leaf], hidden: int, blocks: list[int]) -> dict[str, Leaf]:
    """The parameters beyond PyTorch's; those with a number per row of the weights in PyTorch's gate order."""
    found: dict[str, Leaf] = {}
    for name, leaf in extra.items():
        sizes, size = extra_sizes(name, len(blocks), hidden), math.prod(shape(leaf))
        if size not in sizes:
            expected = " or ".join(map(str, sizes))
            raise UnfitError(f"{name}: expected {expected} numbers, got shape {shape_of(shape(leaf))}")
        found[name] = converted(leaf, (size,), partial(_flat, blocks if size == hidden * len(blocks) else [0]))
    return found


def _flat(blocks: list[int], value: Tensor) -> Tensor:
    return _permuted(value.reshape(-1), blocks)


def _as_rows(value: Tensor, layout: Layout, gates: int) -> Tensor:
    """A weight whose rows are the units that it feeds."""
    if layout == "rows":
        return value
    if layout == "columns":
        return value.T
    return torch.cat([block.reshape(block.shape[::-1]) for block in value.chunk(gates, dim=1)])


def _permuted(value: Tensor, blocks: list[int]) -> Tensor:
    """The row blocks in the order ``blocks``; the value itself where that is theirs already."""
    if blocks == sorted(blocks):
        return value
    pieces = value.chunk(len(blocks), dim=0)
    return torch.cat([pieces[block] for block in blocks])


def join_gates(blocks: Mapping[str, Sequence[Leaf]], known: Convention) -> tuple[dict[str, Leaf], Convention]:
    """Put the blocks of each role together: the whole tensors by role, and the convention with their layout.

    Args:
        blocks: by role, the blocks of the gates in the order of ``known``.
        known: of the module; where it has no layout, the shape of the input weight's blocks shows it.

    Raises:
        UnfitError: a block is missing, or blocks of one role have different shapes.
        AmbiguousError: the shapes do not show the layout.
    """
    gates = len(known.order or "")
    if missing := [role for role, each in blocks.items() if len(each) != gates]:
        raise UnfitError(f"{missing[0]}: expected a tensor for each of the gates {known.order}")
    shapes = {role: _shape_of_blocks(role, each) for role, each in blocks.items()}
    layout = known.layout or _layout_of_blocks(shapes["hh"], shapes["ih"])
    axes = {role: 1 if layout == "columns" and len(shape) == 2 else 0 for role, shape in shapes.items()}
    whole = {role: _whole(each, shapes[role], axes[role]) for role, each in blocks.items()}
    return whole, replace(known, layout=layout)


def _shape_of_blocks(role: str, blocks: Sequence[Leaf]) -> tuple[int, ...]:
    for leaf in blocks:
        if isinstance(leaf, Unusable):
            raise UnfitError(f"{role}: {leaf.reason}")
    shapes = {tuple(leaf.shape) for leaf in blocks if not isinstance(leaf, Unusable)}
    if len(shapes) > 1:
        raise UnfitError(f"{role}: its gates have different shapes")
    (shape,) = shapes
    if role not in ("hh", "ih"):
        return (torch.Size(shape).numel(),)
    if len(shape) != 2:
        raise UnfitError(f"{role}: expected a matrix for each gate")
    return shape


def _layout_of_blocks(recurrent: tuple[int, ...], feeding: tuple[int, ...]) -> Layout:
    units = recurrent[0]
    if feeding[0] == feeding[1] == units:
        raise AmbiguousError("its square gate blocks may be used as W h or as h W")
    return "columns" if feeding[1] == units else "rows"


def _whole(blocks: Sequence[Leaf], shape: tuple[int, ...], axis: int) -> Leaf:
    return concatenated([converted(leaf, shape, lambda value: value.reshape(shape)) for leaf in blocks], axis)
