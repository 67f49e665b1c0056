"""Equinox, and other cells that have PyTorch's weights and one bias: ``weight_ih, weight_hh, bias, bias_n``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.leaves import concatenated, constant, dtype_of, shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf


class Equinox(Spelling):
    """``eqx.nn.LSTMCell`` (bias ``[4H]``) and ``eqx.nn.GRUCell`` (bias ``[3H]``, and ``bias_n [H]`` behind ``r``)."""

    anchor = re.compile(r"bias")
    names = re.compile(r"weight_[ih]h|bias|bias_n")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        own = {name: leaf for name, leaf in tensors.items() if "." not in name}
        if not {"weight_ih", "weight_hh", "bias"} <= own.keys() or own.keys() - {"bias_n"} != {
            "weight_ih",
            "weight_hh",
            "bias",
        }:
            return None
        recurrent = shape(own["weight_hh"])
        if len(recurrent) != 2 or not recurrent[1]:
            return None
        rows, units = recurrent
        held = {"ih": own["weight_ih"], "hh": own["weight_hh"], "bias_ih": own["bias"]}
        if rows == 4 * units and "bias_n" not in own:
            known = Convention(cell="lstm", layout="rows", order="ifgo")
        elif rows == 3 * units and "bias_n" in own:
            known = Convention(cell="gru", layout="rows", order="rzn")
            zeros = constant(units, 0.0, dtype_of(own["bias_n"]))
            held["bias_hh"] = concatenated([zeros, zeros, own["bias_n"]])
        else:
            return None
        note = "{name} was read as Equinox's " + ("LSTMCell" if known.cell == "lstm" else "GRUCell")
        return Reading(held, known, tuple(own), notes=(note,))
