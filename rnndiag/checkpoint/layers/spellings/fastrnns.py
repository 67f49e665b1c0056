"""The LayerNorm LSTM of PyTorch's fastrnns benchmark and of its TorchScript article, as in NeMo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.checkpoint.layers.spellings.norms import NormTensors, pytorch_roles, units_of
from rnndiag.kinds import Form, Norm
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf


class FastRNNs(Spelling):
    """``weight_ih``, ``weight_hh``, ``layernorm_i`` and ``layernorm_h`` over ``4*H``, ``layernorm_c`` over ``H``.

    ``gates = LN(W_ih x) + LN(W_hh h-)``, ``c = LN(f c- + i g)``, ``h = o tanh c``: the next step reads the normalized
    ``c``.
    """

    anchor = re.compile(r"layernorm_h\.weight")
    names = re.compile(r"weight_ih|weight_hh|layernorm_[ihc]\.(?:weight|bias)")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if not {"weight_ih", "weight_hh", "layernorm_i.weight", "layernorm_c.weight"} <= tensors.keys():
            return None
        if {"bias_ih", "bias_hh", "layernorm_f.weight"} & tensors.keys():
            return None  # another cell: this one has no biases of its own
        units = units_of(tensors, "weight_hh", 4)
        norms = NormTensors(tensors)
        norms.take("input", ["layernorm_i"], 4 * units)
        norms.take("recurrent", ["layernorm_h"], 4 * units)
        norms.take("cell", ["layernorm_c"], units)
        roles = pytorch_roles(tensors)
        form = Form(norms=(Norm("input"), Norm("recurrent"), Norm("cell")))
        return Reading(
            {role: tensors[name] for role, name in roles.items()},
            Convention(cell="lstm", layout="rows", kind="layernorm_lstm", form=form),
            (*roles.values(), *norms.used),
            norms.extra,
            notes=(
                "{name} was read as the LayerNorm LSTM of PyTorch's fastrnns benchmark and of NeMo: norms of W_ih x, "
                "of W_hh h and of the cell state that the next step reads, eps 1e-5",
            ),
        )
