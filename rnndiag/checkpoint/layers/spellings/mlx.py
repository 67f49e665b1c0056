"""MLX: ``nn.LSTM`` and ``nn.GRU``; the names of ``nn.RNN`` show their roles by themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.leaves import concatenated, constant, dtype_of, shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf


class MLX(Spelling):
    """``Wx, Wh, bias`` (LSTM, i, f, g, o) and ``Wx, Wh, b, bhn`` (GRU, r, z, n, with ``bhn`` behind ``r``)."""

    anchor = re.compile(r"Wh")
    names = re.compile(r"W[xh]|bias|b|bhn")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        own = {name: leaf for name, leaf in tensors.items() if "." not in name}
        recurrent = shape(own["Wh"])
        if "Wx" not in own or len(recurrent) != 2 or not recurrent[1]:
            return None
        rows, units = recurrent
        held, biases = {"ih": own["Wx"], "hh": own["Wh"]}, own.keys() - {"Wx", "Wh"}
        if rows == 4 * units and biases <= {"bias"}:
            known = Convention(cell="lstm", layout="rows", order="ifgo")
            held |= {"bias_ih": own["bias"]} if biases else {}
        elif rows == 3 * units and biases in (set(), {"b", "bhn"}):
            known = Convention(cell="gru", layout="rows", order="rzn")
            if biases:
                zeros = constant(units, 0.0, dtype_of(own["bhn"]))
                held |= {"bias_ih": own["b"], "bias_hh": concatenated([zeros, zeros, own["bhn"]])}
        else:
            return None
        note = "{name} was read as MLX's " + ("LSTM" if known.cell == "lstm" else "GRU")
        return Reading(held, known, tuple(own), notes=(note,))
