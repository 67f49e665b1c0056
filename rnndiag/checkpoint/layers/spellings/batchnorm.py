"""LSTMs with batch normalization inside, as they are at inference."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.contents import StoredTensor, Unusable, value_of
from rnndiag.checkpoint.layers.leaves import dtype_of, shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.checkpoint.layers.spellings.norms import units_of
from rnndiag.errors import UnfitError
from rnndiag.files.text import shape_of
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from rnndiag.checkpoint.contents import Leaf

EPS: Final = 1e-5
"""PyTorch's default; the file does not hold it."""


class BatchNormLSTM(Spelling):
    """``bn_ih`` and ``bn_hh`` over ``4*H``, and ``bn_c`` over ``H``, next to ``weight_ih``, ``weight_hh`` and ``bias``.

    At inference ``BN(u) = gamma (u - mean) / sqrt(var + eps) + beta`` with constants. The norms of both parts are
    folded into weights and biases; ``h = o tanh(BN(c))`` keeps a scale and a shift per unit.
    """

    anchor = re.compile(r"bn_hh\.running_mean(?:_0)?")
    names = re.compile(r"(?:weight|bias)_[ih]h|bias|bn_(?:ih|hh|c)\.\w+")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if not {"weight_ih", "weight_hh"} <= tensors.keys():
            return None
        if "bn_hh.running_mean_0" in tensors:
            raise UnfitError(
                "its batch normalization has statistics of its own for each step (running_mean_0, ...), so its weights "
                "differ between steps; --import can measure its step function"
            )
        rows = shape(tensors["weight_hh"])
        if len(rows) == 2 and rows[1] == 4 * rows[0]:
            raise UnfitError(
                f"weight_hh {shape_of(rows)} multiplies from the right, and implementations of batch-normalized LSTMs "
                "with such weights differ in the order of their gates; --import can measure its step function"
            )
        units = units_of(tensors, "weight_hh", 4)
        held, used = {}, ["weight_ih", "weight_hh"]
        for part in ("ih", "hh"):
            norm = _BatchNorm(tensors, f"bn_{part}", 4 * units)
            before = [f"bias_{part}"] if f"bias_{part}" in tensors else []
            after = ["bias"] if part == "ih" and "bias" in tensors else []
            held[part], held[f"bias_{part}"] = norm.folded(f"weight_{part}", before, after)
            used += [*norm.names.values(), *before, *after]
        extra: dict[str, Leaf] = {}
        if "bn_c.running_mean" in tensors:
            norm = _BatchNorm(tensors, "bn_c", units)
            extra = {"read_scale": norm.scale(), "read_shift": norm.shift([], [])}
            used += norm.names.values()
        used += [name for name in tensors if re.fullmatch(r"bn_(?:ih|hh|c)\.num_batches_tracked", name)]
        return Reading(
            held,
            Convention(cell="lstm", layout="rows", kind="batchnorm_lstm"),
            tuple(used),
            extra,
            notes=(
                "the batch normalization of {name} was folded into its weights and biases with the running statistics, "
                "as at inference, with eps 1e-5 and gates in PyTorch's order i, f, g, o",
            ),
        )


class _BatchNorm:
    """One batch normalization with running statistics.

    Raises:
        UnfitError: a part is missing or does not have ``size`` numbers.
    """

    def __init__(self, tensors: Mapping[str, Leaf], module: str, size: int) -> None:
        parts = ("running_mean", "running_var", "weight", "bias")
        self._tensors, self._size = tensors, size
        self.names = {part: f"{module}.{part}" for part in parts if f"{module}.{part}" in tensors}
        if missing := [part for part in parts[:2] if part not in self.names]:
            raise UnfitError(f"{module}.{missing[0]} is missing")
        for name in self.names.values():
            if math.prod(shape(tensors[name])) != size:
                raise UnfitError(f"{name}: expected {size} numbers, got shape {shape_of(shape(tensors[name]))}")

    def folded(self, weight: str, before: Sequence[str], after: Sequence[str]) -> tuple[Leaf, Leaf]:
        """The weight times the scale, and the bias that biases before and after the norm make with it."""
        found = shape(self._tensors[weight])
        scaled = self._made(found, [weight], lambda own, scale, _: own[0] * scale[:, None])
        return scaled, self.shift(before, after)

    def scale(self) -> Leaf:
        """``gamma / sqrt(var + eps)``."""
        return self._made((self._size,), [], lambda _, scale, __: scale)

    def shift(self, before: Sequence[str], after: Sequence[str]) -> Leaf:
        """``beta - gamma mean / sqrt(var + eps)``, with biases before the norm and after it."""
        for name in (*before, *after):
            if math.prod(shape(self._tensors[name])) != self._size:
                found = shape_of(shape(self._tensors[name]))
                raise UnfitError(f"{name}: expected {self._size} numbers, got shape {found}")

        def make(own: Sequence[Tensor], scale: Tensor, shift: Tensor) -> Tensor:
            for value in own[: len(before)]:
                shift = shift + value.reshape(-1) * scale
            for value in own[len(before) :]:
                shift = shift + value.reshape(-1)
            return shift

        return self._made((self._size,), [*before, *after], make)

    def _made(
        self, new: tuple[int, ...], own: Sequence[str], make: Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]
    ) -> Leaf:
        """A tensor made of others and of the scale and shift, in double precision, stored in the statistics' dtype."""
        sources = [self._tensors[name] for name in (*own, *self.names.values())]
        dtype = dtype_of(sources[len(own)])

        def read() -> Tensor | Unusable:
            values = []
            for leaf in sources:
                value = value_of(leaf)
                if isinstance(value, Unusable):
                    return value
                values.append(value.double())
            held = dict(zip(self.names, (value.reshape(-1) for value in values[len(own) :]), strict=True))
            scale = (held["running_var"] + EPS).rsqrt()
            scale = scale * held["weight"] if "weight" in held else scale
            shift = -held["running_mean"] * scale
            shift = shift + held["bias"] if "bias" in held else shift
            return make(values[: len(own)], scale, shift).to(dtype)

        return StoredTensor(new, dtype, read)
