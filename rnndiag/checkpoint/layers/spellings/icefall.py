"""The LayerNorm LSTM and GRU of icefall (k2), in which each gate has a norm of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.checkpoint.layers.spellings.norms import NormTensors, pytorch_roles, units_of
from rnndiag.errors import UnfitError
from rnndiag.kinds import Form, Norm
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf


class Icefall(Spelling):
    """``layernorm_i``, ``layernorm_f``, ``layernorm_cx``, ``layernorm_o`` and ``layernorm_cy``, all over ``H``.

    Each gate's ``W_ih x + b_ih + W_hh h- + b_hh`` is normalized. The next step reads ``c = LN(f c- + i g)``.
    """

    anchor = re.compile(r"layernorm_cx\.weight")
    names = re.compile(r"(?:weight|bias)_[ih]h|weight_hr|layernorm_(?:i|f|cx|cy|o)\.(?:weight|bias)")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if not {"weight_ih", "weight_hh", "layernorm_cy.weight"} <= tensors.keys():
            return None
        units = units_of(tensors, "weight_hh", 4)
        norms = NormTensors(tensors)
        norms.take("sum", [f"layernorm_{gate}" for gate in ("i", "f", "cx", "o")], units)
        norms.take("cell", ["layernorm_cy"], units)
        roles = pytorch_roles(tensors)
        form = Form(norms=(Norm("sum", per_gate=True), Norm("cell")))
        return Reading(
            {role: tensors[name] for role, name in roles.items()},
            Convention(cell="lstm", layout="rows", kind="layernorm_lstm", form=form),
            (*roles.values(), *norms.used),
            norms.extra,
            notes=(
                "{name} was read as icefall's LayerNorm LSTM: a norm per gate, and of the cell state that the next "
                "step reads, eps 1e-5",
            ),
        )


class IcefallGRU(Spelling):
    """``layernorm_r``, ``layernorm_i`` and ``layernorm_n`` over ``H``: refused, as ``n`` is normalized after ``r``."""

    anchor = re.compile(r"layernorm_n\.weight")
    names = re.compile(r"(?:weight|bias)_[ih]h|layernorm_[rin]\.(?:weight|bias)")

    def read(self, tensors: Mapping[str, Leaf]) -> None:
        if not {"weight_ih", "weight_hh", "layernorm_r.weight", "layernorm_i.weight"} <= tensors.keys():
            return
        raise UnfitError(
            "its candidate is normalized after the reset gate (layernorm_n), which rnndiag does not model; --import "
            "can measure its step function"
        )
