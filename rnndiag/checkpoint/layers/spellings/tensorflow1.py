"""TensorFlow 1: ``BasicLSTMCell``, ``LSTMCell``, ``GRUCell`` and ``BasicRNNCell``, whose kernels are joined."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.leaves import concatenated, dtype_of, forget_bias, part, shape
from rnndiag.checkpoint.layers.spellings.base import Reading, Spelling
from rnndiag.errors import UnfitError
from rnndiag.files.text import listing, shape_of
from rnndiag.parsers.parsed import Convention
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf

_CELL = r"(?P<inner>[^.]*?(?:(?P<lstm>lstm(?:_fused|_block)?)|(?P<rnn>basic_rnn))_cell(?:_\d+)?)"
_GRU = r"(?P<inner>[^.]*?gru(?:_block)?_cell(?:_\d+)?)"
_WEIGHT = r"(?P<own>kernel|weights)(?P<end>(?::0)?)"


class TensorFlow1(Spelling):
    """``kernel [D+H, G*H]`` and ``bias``: x comes before h, and the gates of an LSTM are i, j, f, o.

    The LSTMs add ``forget_bias`` (1 by default) in the graph, which the file does not hold.
    """

    anchor = re.compile(rf"{_CELL}\.{_WEIGHT}")
    names = re.compile(r"[^.]*(?:lstm|basic_rnn)\w*_cell(?:_\d+)?\.(?:kernel|bias|weights|biases|w_[fio]_diag)(?::0)?")

    def read(self, tensors: Mapping[str, Leaf]) -> list[Reading]:
        found = []
        for name in tensors:
            match = self.anchor.fullmatch(name)
            if match and f"{match['inner']}.recurrent_kernel{match['end']}" not in tensors:
                found.append(_plain(match, tensors))
        return found


def _plain(match: re.Match[str], tensors: Mapping[str, Leaf]) -> Reading:
    name, inner, gates = match.string, match["inner"], 4 if match["lstm"] else 1
    weight = tensors[name]
    inputs, units = _split(name, shape(weight), gates)
    bias = f"{inner}.{'bias' if match['own'] == 'kernel' else 'biases'}{match['end']}"
    held = {"ih": part(weight, 0, 0, inputs), "hh": part(weight, 0, inputs, inputs + units)}
    if bias in tensors:
        held["bias_ih"] = tensors[bias]
    used = tuple(each for each in (name, bias) if each in tensors)
    looks = {f"peephole_{gate}": f"{inner}.w_{gate[0]}_diag{match['end']}" for gate in ("input", "forget", "output")}
    _check_rest(inner, tensors, (*used, *looks.values()))
    if not match["lstm"]:
        return Reading(held, Convention(cell="rnn", layout="columns"), used, inner=inner)
    held["bias_hh"] = forget_bias(units, "ijfo", 1.0, dtype_of(weight))
    notes = (
        "forget_bias=1.0, TensorFlow's default, was added to the forget gate of {name}; the file does not hold it",
    )
    present = {key: look for key, look in looks.items() if look in tensors}
    for look in present.values():
        if shape(tensors[look]) != (units,):
            raise UnfitError(f"{look}: expected [{units}], one peephole per unit, got {shape_of(shape(tensors[look]))}")
    known = Convention(cell="lstm", layout="columns", order="ijfo", kind="peephole_lstm" if present else "")
    extra = {key: tensors[look] for key, look in present.items()}
    return Reading(held, known, (*used, *present.values()), extra, inner=inner, notes=notes)


def _check_rest(inner: str, tensors: Mapping[str, Leaf], used: tuple[str, ...]) -> None:
    """Refuse a cell with more tensors, such as a projection or norms; what an optimizer keeps of a tensor is none.

    Raises:
        UnfitError: with the names of some of them.
    """
    rest = [
        name
        for name in tensors
        if name.startswith(f"{inner}.") and not any(name == own or name.startswith(f"{own}.") for own in used)
    ]
    if rest:
        shown = listing([printable(name, 60) for name in rest], 3)
        raise UnfitError(
            f"{shown} may take part in {inner}, which rnndiag then does not model: --import can measure it"
        )


class TensorFlow1GRU(Spelling):
    """``gates/kernel [D+H, 2H]`` (r, u) and ``candidate/kernel [D+H, H]``.

    ``h = u h- + (1-u) c``, as in PyTorch; the reset gate multiplies the state before the candidate's kernel does.
    """

    anchor = re.compile(rf"{_GRU}\.gates\.{_WEIGHT}")
    names = re.compile(r"[^.]*gru\w*_cell(?:_\d+)?\.(?:gates|candidate)\.(?:kernel|bias|weights|biases)(?::0)?")

    def read(self, tensors: Mapping[str, Leaf]) -> list[Reading]:
        matches = filter(None, map(self.anchor.fullmatch, tensors))
        return [_gru(match, tensors) for match in matches]


def _gru(match: re.Match[str], tensors: Mapping[str, Leaf]) -> Reading:
    inner, own, end = match["inner"], match["own"], match["end"]
    gates, candidate = f"{inner}.gates.{own}{end}", f"{inner}.candidate.{own}{end}"
    if candidate not in tensors:
        raise UnfitError(f"{inner}: {gates} without {candidate}")
    inputs, units = _split(gates, shape(tensors[gates]), 2)
    if shape(tensors[candidate]) != (inputs + units, units):
        raise UnfitError(
            f"{candidate}: expected [{inputs + units}, {units}], got {shape_of(shape(tensors[candidate]))}"
        )
    held = {}
    for role, start, stop in (("ih", 0, inputs), ("hh", inputs, inputs + units)):
        rows = part(tensors[gates], 0, start, stop)
        blocks = [part(rows, 1, 0, units), part(rows, 1, units, 2 * units), part(tensors[candidate], 0, start, stop)]
        held[role] = concatenated(blocks, axis=1)
    suffix = ("bias" if own == "kernel" else "biases") + end
    biases = [f"{inner}.gates.{suffix}", f"{inner}.candidate.{suffix}"]
    used = [gates, candidate]
    if all(bias in tensors for bias in biases):
        both, last = (tensors[bias] for bias in biases)
        held["bias_ih"] = concatenated([part(both, 0, 0, units), part(both, 0, units, 2 * units), last])
        used += biases
    note = "{name} was read as TensorFlow's GRUCell: r, u in gates, x before h, the reset gate before the product"
    known = Convention(cell="gru", layout="columns", order="rzn", reset_after=False)
    return Reading(held, known, tuple(used), inner=inner, notes=(note,))


def _split(name: str, joined: tuple[int, ...], gates: int) -> tuple[int, int]:
    """The number of inputs and of units of a joined kernel."""
    units = joined[1] // gates if len(joined) == 2 else 0
    if not 0 < units < joined[0] or joined[1] % gates:
        raise UnfitError(f"{name}: expected [D+H, {gates if gates > 1 else ''}H], got {shape_of(joined)}")
    return joined[0] - units, units
