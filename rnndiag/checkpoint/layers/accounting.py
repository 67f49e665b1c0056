"""The tensors next to a recurrent weight that the measured cell does not use, and could change what the layer computes.

A cell with peepholes, norms or time constants has the weights of a plain cell and more. Measured as the plain cell, it
would give the numbers of another net. So a module is measured only if each tensor in it is a parameter of the measured
cell or plainly something else: a readout, an initial state, an embedding, a counter, or a tensor that fits no unit.
"""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.contents import Unusable
from rnndiag.checkpoint.layers.shapes import DTYPES, PARAMETER, RecurrentModule
from rnndiag.errors import UnfitError
from rnndiag.files.text import listing
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rnndiag.checkpoint.contents import Leaf

MAX_UNITS_MULTIPLE: Final = 8
"""A vector of so many times H numbers can belong to the units: one number per gate of an LSTM, twice."""

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_COMPANION: Final = re.compile(
    r"(?i).*(norm|peep|gate|alpha|beta|gamma|tau|decay|leak|^ln|^bn|_ln|_bn|ln_|bn_|scale|diag|skip|highway|attn|attention).*"
)
"""Names of modules inside a module that may take part in its recurrence."""
_OUTPUT: Final = frozenset(
    re.split(
        r"\s+",
        "hq whq bq hy why by ho who bo out wout bout output outputs readout head heads fc classifier logit logits y q"
        " h2o i2o h2y embed embedding emb wte token tokens",
    )
)
"""Words in the names of tensors that read the states out, or that are looked up."""
_HISTORY: Final = frozenset(
    re.split(r"\s+", "loss losses acc accuracy history epoch epochs step steps seed best metric metrics mean std vocab")
)
"""Words in the names of numbers about the training or the data."""
_INITIAL: Final = re.compile(r"(?i)(init(ial)?_?)?(h|c|hx|cx|state|hidden|cell)_?(0|init(ial)?|prev|start)?")


@dataclass(frozen=True, slots=True)
class Scope:
    """Which tensors are next to a recurrent weight: those of its module whose names begin with the same stem."""

    module: str
    stem: str = ""

    @classmethod
    def of(cls, start: str) -> Scope:
        """The scope of names that begin with a text such as ``encoder.rnn_``."""
        module, _, stem = start.rpartition(".")
        return cls(module, stem)


class Surroundings:
    """The tensors of one container, by the module in which they are.

    Args:
        tensors: all tensors of the container, under the names that they have after renaming.
    """

    def __init__(self, tensors: Mapping[str, Leaf]) -> None:
        self._tensors = tensors
        self._sorted = sorted(tensors)

    def names(self, scope: Scope) -> list[str]:
        """The names in a scope, relative to its module."""
        prefix = f"{scope.module}." if scope.module else ""
        start = prefix + scope.stem
        first = bisect_left(self._sorted, start)
        last = bisect_left(self._sorted, start + chr(sys.maxunicode)) if start else len(self._sorted)
        return [name[len(prefix) :] for name in self._sorted[first:last]]

    def tensor(self, scope: Scope, name: str) -> Leaf:
        """A tensor by its name relative to the module of the scope."""
        return self._tensors[f"{scope.module}.{name}" if scope.module else name]


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A recurrent module among the tensors next to it."""

    surroundings: Surroundings
    scope: Scope

    def check(self, module: RecurrentModule) -> None:
        """Refuse a module that holds more than the measured cell uses.

        Raises:
            UnfitError: with the names of the other tensors and the way out.
        """
        names = [name for name in self._own() if _may_matter(name, self._leaf(name), module)]
        if not names:
            return
        plain = {"rnn": "a plain RNN", "gru": "a GRU", "lstm": "an LSTM"}[module.kind]
        shown = listing([printable(name, 60) for name in names], 4)
        are, them = ("is not a parameter", "it") if len(names) == 1 else ("are not parameters", "them")
        raise UnfitError(
            f"{shown} next to it {are} of {plain}, so it is another cell: --import can measure its own code, --map"
            f" measures it as {plain} without {them}"
        )

    def initial_states(self) -> list[str]:
        """The learned initial states of the module."""
        return [name for name in self._own() if _INITIAL.fullmatch(name) and _is_number(self._leaf(name))]

    def _own(self) -> Iterator[str]:
        """Names that PyTorch's cells do not have, in the module and in modules in it that may belong to its cell."""
        for name in self.surroundings.names(self.scope):
            path, _, last = name.rpartition(".")
            if not PARAMETER.fullmatch(last) and (not path or _COMPANION.fullmatch(path.split(".")[0])):
                yield name

    def _leaf(self, name: str) -> Leaf:
        return self.surroundings.tensor(self.scope, name)


def _is_number(leaf: Leaf) -> bool:
    return not isinstance(leaf, Unusable) and leaf.dtype in DTYPES


def _may_matter(name: str, leaf: Leaf, module: RecurrentModule) -> bool:
    """Whether a tensor could take part in the recurrence."""
    if isinstance(leaf, Unusable) or not _is_number(leaf):
        return False
    *above, own = name.split(".")
    words = [word.lower() for word in _WORD.findall(own if own not in ("weight", "bias") or not above else above[-1])]
    if (_OUTPUT | _HISTORY).intersection(words) or _INITIAL.fullmatch(own):
        return False
    return _fits_units(tuple(leaf.shape), module)


def _fits_units(shape: Sequence[int], module: RecurrentModule) -> bool:
    """Whether a shape is that of numbers per unit or gate, of weights into or between units, or of a single number."""
    hidden, rows = module.hidden_size, module.levels[0][0]["weight_hh"].shape[0]
    sizes = [size for size in shape if size != 1]
    if len(sizes) <= 1:
        count = math.prod(shape)
        return count == 1 or (count % hidden == 0 and 0 < count <= MAX_UNITS_MULTIPLE * hidden)
    # A readout [out, H] multiplies the state; weights into the units have H or G*H rows.
    return len(sizes) == 2 and (sizes[0] in (hidden, rows) or (sizes[1] == rows and rows != hidden))
