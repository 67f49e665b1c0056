"""LayerNormLSTM and LayerNormGRU of Haste, whose kernels are those of ``x W``."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.leaves import part, shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.errors import UnfitError
from rnndiag.files.text import shape_of
from rnndiag.kinds import Form, Norm
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf

_KERNELS = {"kernel", "recurrent_kernel", "bias"}


class HasteLSTM(Spelling):
    """``gamma [2, 4*H]`` of both parts, ``gamma_h`` and ``beta_h`` of the cell state; gates i, g, f, o.

    ``gates = gamma_0 LN(x W) + gamma_1 LN(h- R) + bias``, ``h = o tanh(gamma_h LN(c) + beta_h)``: the next step reads
    ``c`` itself.
    """

    anchor = re.compile(r"gamma_h")
    names = re.compile(r"kernel|recurrent_kernel|bias|gamma|gamma_h|beta_h")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if not {*_KERNELS, "gamma", "beta_h"} <= tensors.keys():
            return None
        units = _units(tensors, 4)
        extra = _of_parts(tensors, 4 * units) | {
            "norm_input_bias": _vector(tensors, "bias", 4 * units),
            "norm_cell_weight": _vector(tensors, "gamma_h", units),
            "norm_cell_bias": _vector(tensors, "beta_h", units),
        }
        form = Form(norms=(Norm("input"), Norm("recurrent"), Norm("cell", feeds_back=False)))
        known = Convention(cell="lstm", layout="columns", order="igfo", kind="layernorm_lstm", form=form)
        used = ("kernel", "recurrent_kernel", "bias", "gamma", "gamma_h", "beta_h")
        return Reading(_weights(tensors), known, used, extra, notes=(_NOTE.replace("CELL", "LayerNormLSTM"),))


class HasteGRU(Spelling):
    """``gamma [2, 3*H]`` of both parts, ``bias`` and ``recurrent_bias`` after the norms; gates z, r, h."""

    anchor = re.compile(r"gamma")
    names = re.compile(r"kernel|recurrent_kernel|bias|recurrent_bias|gamma")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if not {*_KERNELS, "recurrent_bias"} <= tensors.keys() or "gamma_h" in tensors:
            return None
        units = _units(tensors, 3)
        extra = _of_parts(tensors, 3 * units) | {
            "norm_input_bias": _vector(tensors, "bias", 3 * units),
            "norm_recurrent_bias": _vector(tensors, "recurrent_bias", 3 * units),
        }
        form = Form(norms=(Norm("input"), Norm("recurrent")))
        known = Convention(cell="gru", layout="columns", order="zrh", kind="layernorm_gru", form=form)
        used = ("kernel", "recurrent_kernel", "bias", "recurrent_bias", "gamma")
        return Reading(_weights(tensors), known, used, extra, notes=(_NOTE.replace("CELL", "LayerNormGRU"),))


_NOTE = "{name} was read as Haste's CELL, eps 1e-5, without zoneout; the file does not hold either"


def _weights(tensors: Mapping[str, Leaf]) -> dict[str, Leaf]:
    return {"ih": tensors["kernel"], "hh": tensors["recurrent_kernel"]}


def _units(tensors: Mapping[str, Leaf], gates: int) -> int:
    found = shape(tensors["recurrent_kernel"])
    if len(found) != 2 or found[1] != gates * found[0]:
        raise UnfitError(f"recurrent_kernel: expected [H, {gates}*H], got shape {shape_of(found)}")
    return found[0]


def _of_parts(tensors: Mapping[str, Leaf], size: int) -> dict[str, Leaf]:
    found = shape(tensors["gamma"])
    if found != (2, size):
        raise UnfitError(f"gamma: expected [2, {size}], got shape {shape_of(found)}")
    gamma = tensors["gamma"]
    return {"norm_input_weight": part(gamma, 0, 0, 1), "norm_recurrent_weight": part(gamma, 0, 1, 2)}


def _vector(tensors: Mapping[str, Leaf], name: str, size: int) -> Leaf:
    found = shape(tensors[name])
    if math.prod(found) != size:
        raise UnfitError(f"{name}: expected {size} numbers, got shape {shape_of(found)}")
    return tensors[name]
