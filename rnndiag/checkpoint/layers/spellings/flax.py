"""Flax: the cells of ``flax.linen`` (a module for each gate) and of ``flax.nnx`` (one module for all gates)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.leaves import concatenated, constant, dtype_of, shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.errors import UnfitError
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from rnndiag.checkpoint.contents import Leaf

_KERNELS = {
    "lstm": ("ii", "if", "ig", "io", "hi", "hf", "hg", "ho"),
    "gru": ("ir", "iz", "in", "hr", "hz", "hn"),
    "rnn": ("i", "h"),
}
"""The modules of the cells of linen."""
_BIASED = {"lstm": ("hi", "hf", "hg", "ho"), "gru": ("ir", "iz", "in", "hn"), "rnn": ("i",)}
"""Those of them that have a bias."""
_GATES_OF_ROWS: dict[int, Literal["rnn", "gru", "lstm"]] = {1: "rnn", 3: "gru", 4: "lstm"}
_CLASSES = {"lstm": "LSTMCell", "gru": "GRUCell", "rnn": "SimpleCell"}


class Flax(Spelling):
    """``LSTMCell``, ``OptimizedLSTMCell``, ``GRUCell`` and ``SimpleCell``.

    Kernels are ``[inputs, units]``. The GRU is PyTorch's, ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``; the one of
    NNX has no ``b_hn``.
    """

    anchor = re.compile(r"(?:hf|hz|h|dense_h)\.kernel")
    names = re.compile(r"(?:[ih][ifgorzn]|if_|in_|[ih]|dense_[ih])\.(?:kernel|bias)")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if "dense_h.kernel" in tensors:
            return self._joined(tensors)
        held = {name.replace("_.", "."): (name, leaf) for name, leaf in tensors.items() if self.names.fullmatch(name)}
        for cell, modules in _KERNELS.items():
            wanted = [f"{module}.kernel" for module in modules] + [f"{module}.bias" for module in _BIASED[cell]]
            if held.keys() == set(wanted):
                return _by_gate(cell, {name: leaf for name, (_, leaf) in held.items()}, [n for n, _ in held.values()])
        if {"hf.kernel", "hn.kernel"} <= held.keys() and "hr.kernel" not in held:
            raise UnfitError("it is Flax's MGUCell, a cell that rnndiag does not model; --import can measure its step")
        return None

    def _joined(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if "dense_i.kernel" not in tensors:
            return None
        recurrent = shape(tensors["dense_h.kernel"])
        cell = _GATES_OF_ROWS.get(recurrent[1] // max(recurrent[0], 1)) if len(recurrent) == 2 else None
        if cell is None:
            return None
        biased = "dense_h.bias" if cell == "lstm" else "dense_i.bias"
        used = [name for name in ("dense_i.kernel", "dense_h.kernel", biased) if name in tensors]
        held = {"ih": tensors["dense_i.kernel"], "hh": tensors["dense_h.kernel"]}
        if biased in tensors:
            held["bias"] = tensors[biased]
        return Reading(held, _convention(cell), tuple(used), notes=_notes(cell))


def _by_gate(cell: str, held: Mapping[str, Leaf], used: list[str]) -> Reading:
    modules = _KERNELS[cell]
    fed, fed_back = modules[: len(modules) // 2], modules[len(modules) // 2 :]

    def joined(of: tuple[str, ...]) -> Leaf:
        return concatenated([held[f"{module}.kernel"] for module in of], axis=1)

    units = shape(held[f"{fed_back[0]}.kernel"])[-1:]
    if not units:
        raise UnfitError(f"{fed_back[0]}.kernel: expected a matrix, got one number")
    zeros = constant(units[0], 0.0, dtype_of(held[f"{fed_back[0]}.kernel"]))
    tensors = {"ih": joined(fed), "hh": joined(fed_back)}
    for role, of in (("bias_ih", fed), ("bias_hh", fed_back)):
        if any(f"{module}.bias" in held for module in of):
            tensors[role] = concatenated([held.get(f"{module}.bias", zeros) for module in of])
    return Reading(tensors, _convention(cell), tuple(used), notes=_notes(cell))


def _convention(cell: str) -> Convention:
    order = {"lstm": "ifgo", "gru": "rzn"}.get(cell)
    return Convention(cell=cell, layout="columns", order=order)  # type: ignore[arg-type]  # a key of _KERNELS


def _notes(cell: str) -> tuple[str, ...]:
    defaults = "residual=False" if cell == "rnn" else "sigmoid gates and tanh"
    return (f"{{name}} was read as Flax's {_CLASSES[cell]} with its defaults ({defaults})",)
