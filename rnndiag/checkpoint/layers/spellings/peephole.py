"""Peephole LSTMs: torchrecurrent's, and cells with one tensor for each gate."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.leaves import concatenated, part, shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.checkpoint.layers.spellings.norms import pytorch_roles, units_of
from rnndiag.errors import UnfitError
from rnndiag.files.text import shape_of
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf

_GATES = ("input", "forget", "output")


class Torchrecurrent(Spelling):
    """``weight_ph [3*H]`` for i, f, o, next to the parameters of ``nn.LSTMCell``."""

    anchor = re.compile(r"weight_ph")
    names = re.compile(r"weight_[ihp]h|bias_[ih]h")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        own = {name for name in tensors if "." not in name}
        if not {"weight_ih", "weight_hh"} <= own or own - {"weight_ih", "weight_hh", "weight_ph", "bias_ih", "bias_hh"}:
            return None
        units = units_of(tensors, "weight_hh", 4)
        found = shape(tensors["weight_ph"])
        if found != (3 * units,):
            raise UnfitError(f"weight_ph: expected [{3 * units}], peepholes of i, f and o, got {shape_of(found)}")
        roles = pytorch_roles(tensors)
        extra = {
            f"peephole_{gate}": part(tensors["weight_ph"], 0, k * units, (k + 1) * units)
            for k, gate in enumerate(_GATES)
        }
        return Reading(
            {role: tensors[name] for role, name in roles.items()},
            Convention(cell="lstm", layout="rows", kind="peephole_lstm"),
            (*roles.values(), "weight_ph"),
            extra,
            notes=("{name} was read as a peephole LSTM with sigmoid gates and tanh, torchrecurrent's defaults",),
        )


class GateTensors(Spelling):
    """``W_xi``, ``W_hi``, ``b_i`` and so on for i, f, c, o, with peepholes ``w_ci``, ``w_cf`` and ``w_co`` of ``H``."""

    anchor = re.compile(r"[Ww]_?ci")
    names = re.compile(r"[Ww]_?[xhc][ifco]|b_?[ifco]")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        by_key: dict[str, str] = {}
        for name in tensors:
            if self.names.fullmatch(name):
                by_key[name.replace("_", "").lower()] = name
        needed = [f"w{source}{gate}" for source in "xh" for gate in "ifco"]
        looks = [f"wc{gate}" for gate in "ifo"]
        if not set(needed) <= by_key.keys():
            return None
        recurrent = shape(tensors[by_key["whi"]])
        if len(recurrent) != 2 or recurrent[0] != recurrent[1]:
            raise UnfitError(f"{by_key['whi']}: expected [H, H], got shape {shape_of(recurrent)}")
        units = recurrent[0]
        for key in looks:
            if key not in by_key:
                raise UnfitError(f"{key} is missing next to {by_key['wci']}")
            found = shape(tensors[by_key[key]])
            if math.prod(found) != units:
                raise UnfitError(f"{by_key[key]}: expected a peephole of {units} numbers, got shape {shape_of(found)}")
        block = shape(tensors[by_key["wxi"]])
        if len(block) != 2 or block[0] == block[1] or units not in block:
            raise UnfitError(
                f"{by_key['wxi']} {shape_of(block)} may be used as W x or as x W: put the gates together as in"
                " nn.LSTMCell, i, f, g, o, with their peepholes i, f, o as weight_ph"
            )
        columns = block[1] == units
        held = {
            role: concatenated([tensors[by_key[f"w{source}{gate}"]] for gate in "ifco"], axis=int(columns))
            for role, source in (("ih", "x"), ("hh", "h"))
        }
        biases = [by_key[f"b{gate}"] for gate in "ifco" if f"b{gate}" in by_key]
        if len(biases) == 4:
            held["bias_ih"] = concatenated([tensors[name] for name in biases])
        extra = {f"peephole_{gate}": tensors[by_key[key]] for gate, key in zip(_GATES, looks, strict=True)}
        return Reading(
            held,
            Convention(cell="lstm", layout="columns" if columns else "rows", kind="peephole_lstm"),
            tuple(by_key.values()),
            extra,
            notes=("{name} was read as a peephole LSTM with sigmoid gates and tanh; the file does not say so",),
        )
