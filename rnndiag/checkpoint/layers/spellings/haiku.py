"""Haiku: ``hk.LSTM``, ``hk.GRU`` and ``hk.VanillaRNN``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.leaves import constant, converted, dtype_of, forget_bias, part, shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.errors import UnfitError
from rnndiag.files.text import shape_of
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from rnndiag.checkpoint.contents import Leaf


class HaikuLSTM(Spelling):
    """``lstm/linear/{w [D+H, 4H], b}`` in the order i, g, f, o, with 1 added to the forget gate in the graph."""

    anchor = re.compile(r"[^.]*lstm[^.]*\.linear\.w")
    names = re.compile(r"[^.]*lstm[^.]*\.linear\.[wb]")

    def read(self, tensors: Mapping[str, Leaf]) -> list[Reading]:
        return [_lstm(name.removesuffix(".linear.w"), tensors) for name in tensors if self.anchor.fullmatch(name)]


def _lstm(inner: str, tensors: Mapping[str, Leaf]) -> Reading:
    weight_name, bias_name = f"{inner}.linear.w", f"{inner}.linear.b"
    weight = tensors[weight_name]
    joined = shape(weight)
    units = joined[1] // 4 if len(joined) == 2 else 0
    if not 0 < units < joined[0] or joined[1] % 4 or bias_name not in tensors:
        raise UnfitError(f"{weight_name}: expected Haiku's [D+H, 4H] with a bias b, got {shape_of(joined)}")
    held = {
        "ih": part(weight, 0, 0, joined[0] - units),
        "hh": part(weight, 0, joined[0] - units, joined[0]),
        "bias_ih": tensors[bias_name],
        "bias_hh": forget_bias(units, "igfo", 1.0, dtype_of(weight)),
    }
    note = "the forget bias of {name} includes the 1 that Haiku's LSTM adds in its graph"
    known = Convention(cell="lstm", layout="columns", order="igfo")
    return Reading(held, known, (weight_name, bias_name), inner=inner, notes=(note,))


class HaikuGRU(Spelling):
    """``gru/{w_i [D, 3H], w_h [H, 3H], b [3H]}`` in the order z, r, a.

    ``h = (1-z) h- + z a``, where PyTorch has ``z h- + (1-z) n``: the block of z is negated, as ``sigmoid(-x)`` is
    ``1 - sigmoid(x)``. The reset gate multiplies the state before ``W_ha`` does.
    """

    anchor = re.compile(r"w_h")
    names = re.compile(r"w_[ih]|b")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        own = {name: leaf for name, leaf in tensors.items() if "." not in name}
        if own.keys() != {"w_i", "w_h", "b"}:
            return None
        recurrent = shape(own["w_h"])
        if len(recurrent) != 2 or recurrent[1] != 3 * recurrent[0]:
            return None
        units = recurrent[0]
        if shape(own["b"]) != (3 * units,):
            raise UnfitError(f"b: expected [{3 * units}], got {shape_of(shape(own['b']))}")
        held = {
            "ih": _negated(own["w_i"], units, 1),
            "hh": _negated(own["w_h"], units, 1),
            "bias_ih": _negated(own["b"], units, 0),
            "bias_hh": constant(3 * units, 0.0, dtype_of(own["b"])),
        }
        known = Convention(cell="gru", layout="columns", order="zrn", reset_after=False)
        note = "{name} was read as Haiku's GRU: its update gate counts the other way round, so its block is negated"
        return Reading(held, known, ("w_i", "w_h", "b"), notes=(note,))


def _negated(leaf: Leaf, units: int, axis: int) -> Leaf:
    """The tensor with its first block negated."""

    def negate(value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value  # which no layer may have
        new = value.clone()
        new.narrow(axis, 0, units).neg_()
        return new

    return converted(leaf, shape(leaf), negate)


class HaikuRNN(Spelling):
    """``vanilla_rnn/linear`` (inputs) and ``vanilla_rnn/linear_1`` (states), with ReLU."""

    anchor = re.compile(r"[^.]*vanilla_rnn[^.]*\.linear_1\.w")
    names = re.compile(r"[^.]*vanilla_rnn[^.]*\.linear(?:_1)?\.[wb]")

    def read(self, tensors: Mapping[str, Leaf]) -> list[Reading]:
        inners = [name.removesuffix(".linear_1.w") for name in tensors if self.anchor.fullmatch(name)]
        return [_rnn(inner, tensors) for inner in inners if f"{inner}.linear.w" in tensors]


def _rnn(inner: str, tensors: Mapping[str, Leaf]) -> Reading:
    roles = {"ih": "linear.w", "hh": "linear_1.w", "bias_ih": "linear.b", "bias_hh": "linear_1.b"}
    names = {role: f"{inner}.{own}" for role, own in roles.items() if f"{inner}.{own}" in tensors}
    held = {role: tensors[name] for role, name in names.items()}
    known = Convention(cell="rnn", layout="columns", nonlinearity="relu")
    return Reading(held, known, tuple(names.values()), inner=inner)
