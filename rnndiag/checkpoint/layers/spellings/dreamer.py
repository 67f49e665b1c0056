"""The GRU of Dreamer: one linear layer on input and state, one norm over all gates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.leaves import part, shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.checkpoint.layers.spellings.norms import NormTensors
from rnndiag.errors import UnfitError
from rnndiag.files.text import shape_of
from rnndiag.kinds import Form, Norm
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf

_FORM = Form(norms=(Norm("sum", eps=1e-3),), update_replaces=True, update_bias=-1.0)
_NOTE = (
    "{name} was read as Dreamer's GRU: the columns are ORDER, the rows are reset, candidate, update, one norm over all"
    " rows with eps 1e-3, and -1 is added to the update gate"
)


class Dreamer(Spelling):
    """``layers.GRU_linear.weight [3*H, D+H]`` on ``cat(x, h)`` and ``layers.GRU_norm`` over ``3*H``.

    ``r, n, u = LN(W cat(x, h-))``, ``n = tanh(sigmoid(r) n)``, ``u = sigmoid(u - 1)``, ``h = u n + (1 - u) h-``.
    """

    anchor = re.compile(r"layers\.GRU_linear\.weight")
    names = re.compile(r"layers\.GRU_(?:linear|norm)\.(?:weight|bias)")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        return _reading(tensors, "layers.GRU_linear", "layers.GRU_norm", state_first=False)


class SheepRL(Spelling):
    """``rnn.linear.weight [3*H, H+D]`` on ``cat(h, x)`` and ``rnn.layer_norm``: Dreamer's GRU in SheepRL."""

    anchor = re.compile(r"rnn\.layer_norm\.weight")
    names = re.compile(r"rnn\.(?:linear|layer_norm)\.(?:weight|bias)")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if "rnn.linear.weight" not in tensors:
            return None
        return _reading(tensors, "rnn.linear", "rnn.layer_norm", state_first=True, inner="rnn")


def _reading(tensors: Mapping[str, Leaf], linear: str, norm: str, *, state_first: bool, inner: str = "") -> Reading:
    weight = tensors[f"{linear}.weight"]
    found = shape(weight)
    units = found[0] // 3 if len(found) == 2 else 0
    if len(found) != 2 or found[0] % 3 or not 0 < units < found[1]:
        raise UnfitError(f"{linear}.weight: expected [3*H, D+H], got shape {shape_of(found)}")
    norms = NormTensors(tensors)
    if not norms.take("sum", [norm], 3 * units):
        raise UnfitError(f"{linear} has no {norm} next to it: rnndiag models Dreamer's GRU with its norm only")
    inputs = found[1] - units
    state, rest = ((0, units), (units, found[1])) if state_first else ((inputs, found[1]), (0, inputs))
    held = {"hh": part(weight, 1, *state), "ih": part(weight, 1, *rest)}
    used = [f"{linear}.weight", *norms.used]
    if f"{linear}.bias" in tensors:
        held["bias_ih"] = tensors[f"{linear}.bias"]
        used.append(f"{linear}.bias")
    note = _NOTE.replace("ORDER", "state, then input" if state_first else "input, then state")
    known = Convention(cell="gru", layout="rows", order="rnz", kind="layernorm_gru", form=_FORM)
    return Reading(held, known, tuple(used), norms.extra, inner=inner, notes=(note,))
