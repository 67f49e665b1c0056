"""Leaky RNNs of neuroscience: neurogym's ``input2h, h2h``, PsychRNN's ``W_rec, W_in``, nn4n's layers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.layers.leaves import shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.errors import UnfitError
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rnndiag.checkpoint.contents import Leaf

LEAKS: Final = ("alpha", "lr", "leak", "leak_rate", "leaking_rate", "leakage")
"""Names of the leak where a module holds it as a tensor."""


def leak_of(tensors: Mapping[str, Leaf], names: Sequence[str] = LEAKS) -> dict[str, str]:
    """``alpha`` by the name of the tensor that holds it; empty if no tensor does.

    Raises:
        UnfitError: several tensors may be the leak.
    """
    held = [name for name in names if name in tensors]
    if len(held) > 1:
        raise UnfitError(f"{' and '.join(held)} may both be its leak: rename or remove one of them")
    return {"alpha": held[0]} if held else {}


class Neurogym(Spelling):
    """``input2h`` and ``h2h``, two linear layers: ``h = (1-a) h- + a phi(h2h h- + input2h x)``, ReLU by default."""

    anchor = re.compile(r"h2h\.weight")
    names = re.compile(rf"(?:input2h|h2h|h2out|h2o)\.(?:weight|bias)|{'|'.join(LEAKS)}")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if "input2h.weight" not in tensors:
            return None
        recurrent = shape(tensors["h2h.weight"])
        if len(recurrent) != 2 or recurrent[0] != recurrent[1]:
            return None  # gates, in an order that the names do not show
        roles = {"hh": "h2h.weight", "ih": "input2h.weight", "bias_hh": "h2h.bias", "bias_ih": "input2h.bias"}
        held = {role: tensors[name] for role, name in roles.items() if name in tensors}
        leak = leak_of(tensors)
        used = tuple(name for name in tensors if self.names.fullmatch(name))
        note = (
            "{name} was read as a leaky RNN with its nonlinearity inside, h = (1-a) h- + a phi(W h- + ...); --map "
            "hh=*.h2h.weight,ih=*.input2h.weight,cell=leaky_current_relu states the nonlinearity outside"
        )
        known = Convention(cell="rnn", layout="rows", kind="leaky", likely="relu")
        return Reading(held, known, used, {kind: tensors[name] for kind, name in leak.items()}, notes=(note,))


class PsychRNN(Spelling):
    """``v = (1-a) v- + a (W_rec phi(v-) + W_in x + b_rec)``, ReLU by default.

    Connectivity and Dale's law are applied to the weights before they are saved.
    """

    anchor = re.compile(r"rec_connectivity")
    names = re.compile(
        r"[Wb]_(?:rec|in|out)|Dale_(?:rec|out)|(?:input|rec|output)_connectivity|dale_ratio|init_state|alpha"
    )

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if not {"W_rec", "W_in"} <= tensors.keys():
            return None
        roles = {"hh": "W_rec", "ih": "W_in", "bias": "b_rec"}
        held = {role: tensors[name] for role, name in roles.items() if name in tensors}
        used = tuple(name for name in tensors if self.names.fullmatch(name))
        leak = {kind: tensors[name] for kind, name in leak_of(tensors, ("alpha",)).items()}
        note = "{name} was read as PsychRNN's Basic model: the weights are those after connectivity and Dale's law"
        known = Convention(cell="rnn", layout="rows", kind="leaky_current", likely="relu")
        return Reading(held, known, used, leak, notes=(note,))


class NN4N(Spelling):
    """nn4n's ``CTRNN``: ``v = (1-a) v- + a (hidden_layer(phi(v-)) + input_layer(x))``, ReLU by default."""

    anchor = re.compile(r"hidden_layer\.weight")
    names = re.compile(r"(?:hidden_layer|input_layer)\.(?:weight|bias)|hidden_state")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if "input_layer.weight" not in tensors or "hidden_state" not in tensors:
            return None
        roles = {"hh": "hidden_layer", "ih": "input_layer"}
        held = {role: tensors[f"{name}.weight"] for role, name in roles.items()}
        biases = {f"bias_{role}": f"{name}.bias" for role, name in roles.items()}
        held |= {role: tensors[name] for role, name in biases.items() if name in tensors}
        used = tuple(name for name in tensors if self.names.fullmatch(name))
        known = Convention(cell="rnn", layout="rows", kind="leaky_current", likely="relu")
        return Reading(held, known, used, notes=("{name} was read as the recurrent layer of nn4n's CTRNN",))
