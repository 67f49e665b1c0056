"""A LayerNorm LSTM written as a subclass of ``nn.LSTMCell``, which was posted in PyTorch's issue 11335 and copied."""

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


class LSTMCellSubclass(Spelling):
    """``ln_ih`` and ``ln_hh`` over ``4*H``, ``ln_ho`` over ``H``, next to the parameters of ``nn.LSTMCell``.

    ``gates = LN(W_ih x + b_ih) + LN(W_hh h- + b_hh)`` in the order i, f, o, g; ``h = o tanh(LN(c))``: the next step
    reads ``c`` itself.
    """

    anchor = re.compile(r"ln_ho\.weight")
    names = re.compile(r"(?:weight|bias)_[ih]h|ln_(?:ih|hh|ho)\.(?:weight|bias)")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if not {"weight_ih", "weight_hh", "ln_ih.weight", "ln_hh.weight"} <= tensors.keys():
            return None
        units = units_of(tensors, "weight_hh", 4)
        norms = NormTensors(tensors)
        norms.take("input", ["ln_ih"], 4 * units)
        norms.take("recurrent", ["ln_hh"], 4 * units)
        norms.take("cell", ["ln_ho"], units)
        roles = pytorch_roles(tensors)
        form = Form(norms=(Norm("input"), Norm("recurrent"), Norm("cell", feeds_back=False)))
        return Reading(
            {role: tensors[name] for role, name in roles.items()},
            Convention(cell="lstm", layout="rows", order="ifog", kind="layernorm_lstm", form=form),
            (*roles.values(), *norms.used),
            norms.extra,
            notes=(
                "{name} was read as the LayerNorm LSTM of PyTorch's issue 11335: gates in the order i, f, o, g, norms "
                "of both parts, and of the cell state on its way to the output only, eps 1e-5",
            ),
        )
