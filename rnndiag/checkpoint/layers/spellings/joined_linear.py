"""One linear layer on input and state together, ``h = phi(Linear(cat(x, h)))``, as in PyTorch's char-rnn tutorials."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.leaves import part, shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf


class JoinedLinear(Spelling):
    """``i2h.weight [H, D+H]`` next to a readout: ``i2o [O, D+H]`` (the tutorials) or ``h2o [O, H]``.

    The tutorials with ``i2o`` apply no nonlinearity to the state.
    """

    anchor = re.compile(r"i2h\.weight")
    names = re.compile(r"(?:i2h|i2o|h2o|o2o)\.(?:weight|bias)")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        joined = shape(tensors["i2h.weight"])
        if len(joined) != 2 or not 0 < joined[0] < joined[1] or "h2h.weight" in tensors:
            return None
        units, both = joined
        readouts = {name: shape(tensors[f"{name}.weight"]) for name in ("i2o", "h2o") if f"{name}.weight" in tensors}
        if readouts.get("i2o", (0, 0))[1:] != (both,) and readouts.get("h2o", (0, 0))[1:] != (units,):
            return None
        weight = tensors["i2h.weight"]
        held = {"ih": part(weight, 1, 0, both - units), "hh": part(weight, 1, both - units, both)}
        if "i2h.bias" in tensors:
            held["bias"] = tensors["i2h.bias"]
        used = tuple(name for name in tensors if self.names.fullmatch(name))
        notes = ["the columns of i2h in {name} were taken as input, then state, cat(x, h); the file does not say"]
        linear = "i2o" in readouts
        if linear:
            notes.append(
                "no nonlinearity was assumed for {name}, as in PyTorch's tutorial; --nonlinearity tanh states one"
            )
        known = Convention(cell="rnn", layout="rows", kind="linear" if linear else "")
        return Reading(held, known, used, notes=tuple(notes))
