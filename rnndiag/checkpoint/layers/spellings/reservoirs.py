"""Reservoirs: reservoirpy's ``W, Win, bias, lr``, ResDAG's cell and PyRCN's cell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from rnndiag.checkpoint.contents import Unusable, value_of
from rnndiag.checkpoint.layers.leaves import concatenated, converted, shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.checkpoint.layers.spellings.leaky import LEAKS, leak_of
from rnndiag.errors import UnfitError
from rnndiag.files.text import shape_of
from rnndiag.parsers.parsed import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from rnndiag.checkpoint.contents import Leaf


class Reservoirpy(Spelling):
    """``x = (1-lr) x- + lr f(W x- + Win u + bias)``, tanh by default; ``Wout`` is the readout."""

    anchor = re.compile(r"Win(?:\.indptr)?")
    names = re.compile(rf"W(?:in)?(?:\.(?:data|indices|indptr))?|Wfb|Wout|bias(?:_out)?|{'|'.join(LEAKS)}")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if "W.indptr" in tensors:
            raise UnfitError("its W is stored as a sparse matrix: save W.toarray() and Win.toarray() under these names")
        if not {"W", "Win"} <= tensors.keys():
            return None
        recurrent = shape(tensors["W"])
        if len(recurrent) != 2 or recurrent[0] != recurrent[1]:
            raise UnfitError(f"W: expected a square matrix [N, N] next to Win, got {shape_of(recurrent)}")
        if "Wfb" in tensors:
            raise UnfitError("Wfb feeds the readout back into the reservoir, which rnndiag does not model")
        held = {"hh": tensors["W"], "ih": tensors["Win"]}
        if "bias" in tensors:
            held["bias"] = _one_per_unit(tensors["bias"], recurrent[0])
        used = tuple(name for name in tensors if self.names.fullmatch(name))
        leak = {kind: tensors[name] for kind, name in leak_of(tensors).items()}
        known = Convention(cell="rnn", layout="rows", kind="leaky")
        note = "{name} was read as a reservoir, x = (1-a) x- + a f(W x- + Win u + bias)"
        return Reading(held, known, used, leak, notes=(note,))


def _one_per_unit(bias: Leaf, units: int) -> Leaf:
    """A bias that may be one number for all units."""
    size = 1
    for length in shape(bias):
        size *= length
    return converted(bias, (units,), lambda value: _expanded(value, units)) if size == 1 else bias


def _expanded(value: Tensor, units: int) -> Tensor:
    return value.reshape(1).expand(units)


class ResDAG(Spelling):
    """``weight_hh``, ``weight_feedback`` and ``weight_input``: the reservoir is driven by feedback and inputs together.

    The leak is in the file where it differs between units, as ``_leak_rate_vec``.
    """

    anchor = re.compile(r"weight_feedback")
    names = re.compile(
        r"weight_(?:hh|feedback|input)|bias_h|_leak_rate_vec|_hh_\w+|_(?:intrinsic|recurrent|initial)_\w+"
    )

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        if "_hh_crow_indices" in tensors:
            raise UnfitError(
                "its recurrent weight is stored as a sparse matrix (CSR): save the reservoir with sparse=False"
            )
        if "weight_hh" not in tensors:
            return None
        calibrated = [name for name in ("_intrinsic_gain", "_intrinsic_bias", "_recurrent_gain") if name in tensors]
        if calibrated:
            raise UnfitError(f"{calibrated[0]} changes what the reservoir computes, and rnndiag does not model it")
        feeding = [tensors[name] for name in ("weight_feedback", "weight_input") if name in tensors]
        held = {"hh": tensors["weight_hh"], "ih": concatenated(feeding, axis=1)}
        if "bias_h" in tensors:
            held["bias"] = tensors["bias_h"]
        used = tuple(name for name in tensors if self.names.fullmatch(name))
        leak = {"alpha": tensors["_leak_rate_vec"]} if "_leak_rate_vec" in tensors else {}
        known = Convention(cell="rnn", layout="rows", kind="leaky")
        note = "{name} was read as ResDAG's reservoir; its inputs are the feedback, then the driving inputs"
        return Reading(held, known, used, leak, notes=(note,))


class PyRCN(Spelling):
    """An ``nn.RNNCell`` without biases whose ``weight_ih`` is the identity: PyRCN adds the inputs directly.

    The leak is an attribute of the module, which the file does not hold.
    """

    anchor = re.compile(r"weight_ih")
    names = re.compile(r"weight_[ih]h")

    def read(self, tensors: Mapping[str, Leaf]) -> Reading | None:
        own = {name: leaf for name, leaf in tensors.items() if "." not in name}
        if own.keys() != {"weight_ih", "weight_hh"} or any(isinstance(leaf, Unusable) for leaf in own.values()):
            return None
        sizes = {*shape(own["weight_ih"]), *shape(own["weight_hh"])}
        if len(sizes) != 1 or len(shape(own["weight_ih"])) != 2 or sizes == {1}:
            return None
        feeding = value_of(own["weight_ih"])
        if isinstance(feeding, Unusable) or not torch.equal(feeding, torch.eye(len(feeding), dtype=feeding.dtype)):
            return None
        known = Convention(cell="rnn", layout="rows", kind="leaky")
        note = "{name} was read as a reservoir of PyRCN, because its input weight is the identity"
        return Reading({"ih": own["weight_ih"], "hh": own["weight_hh"]}, known, tuple(own), notes=(note,))
