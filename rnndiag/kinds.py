"""The kinds of cells by name: the rows of their weights, their extra parameters, and what bounds their states.

A kind has one line here, and its implementation has one line in ``rnndiag.cells``. Nothing here imports torch, because
the catalog of the rules must not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

FamilyName: TypeAlias = Literal["rnn", "gru", "lstm", "custom"]


@dataclass(frozen=True, slots=True)
class Family:
    """Cells whose weights have the same blocks of rows."""

    name: FamilyName
    letters: str
    """The blocks in PyTorch's order, by letters."""
    gates: tuple[str, ...]
    """The same blocks by the names that reports use."""
    keeping: str | None = None
    """The gate that multiplies the previous state."""


ELMAN: Final = Family("rnn", "h", ("h",))
GATED: Final = Family("gru", "rzn", ("reset", "update", "new"), keeping="update")
LONG_SHORT: Final = Family("lstm", "ifgo", ("input", "forget", "candidate", "output"), keeping="forget")
UNKNOWN: Final = Family("custom", "", ())

FAMILIES: Final[dict[str, Family]] = {family.name: family for family in (ELMAN, GATED, LONG_SHORT)}


GateFunction: TypeAlias = Literal["sigmoid", "hard_sigmoid", "hard_sigmoid_fifth"]
"""``hard_sigmoid`` is ``clip(x/6 + 1/2, 0, 1)`` (Keras 3, PyTorch), and ``hard_sigmoid_fifth`` is
``clip(x/5 + 1/2, 0, 1)`` (Keras 1 and 2)."""


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer normalization inside a cell, ``gamma (u - mean u) / sqrt(var u + eps) + beta``.

    ``gamma`` and ``beta`` are the layer's ``extra`` parameters ``norm_<of>_weight`` and ``norm_<of>_bias``; a missing
    ``gamma`` is 1, a missing ``beta`` is 0.
    """

    of: Literal["input", "recurrent", "sum", "cell"]
    """What is normalized: ``W_ih x + b_ih``, ``W_hh h + b_hh``, the sum of the two, or the cell state."""
    per_gate: bool = False
    """Whether mean and variance are those of each gate's ``H`` entries, not of all ``G*H``."""
    eps: float = 1e-5
    feeds_back: bool = True
    """Whether the next step reads the normalized ``c`` too, and not only the output; for a norm of the cell state."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a cell computes, where that is more than its kind. The defaults are PyTorch's."""

    gate: GateFunction = "sigmoid"
    activation: Literal["tanh", "relu"] = "tanh"
    """The function of the candidate, and of the cell state on its way to the output."""
    norms: tuple[Norm, ...] = ()
    update_replaces: bool = False
    """Whether a GRU's update gate ``u`` multiplies the candidate, ``h = u n + (1 - u) h-``, and not the old state."""
    update_bias: float = 0.0
    """A constant that is added to the preactivation of such an update gate."""

    def normalizes(self, of: str) -> bool:
        """Whether the cell has a norm of that quantity (``Norm.of``)."""
        return any(norm.of == of for norm in self.norms)


PYTORCH_FORM: Final = Form()
"""What PyTorch's cells compute."""


LEAK: Final = ("alpha",)
"""The extra parameter of leaky cells: the share of the state that one step replaces."""
CONSTANT: Final = frozenset(LEAK)
"""The parameters that training does not change."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of cell."""

    family: Family
    title: str
    """The kind in a sentence: ``an LSTM``."""
    bounded: bool = False
    """Whether no entry of the state can leave [-1, 1]."""
    nonlinearity: Literal["tanh", "relu"] | None = None
    """The nonlinearity of a cell without gates, or ReLU where it is the candidate's in a cell with gates."""
    elman: bool = False
    """Whether ``J = diag(phi') W_hh``."""
    of_pytorch: bool = False
    """Whether PyTorch's own module computes it."""
    extra: tuple[str, ...] = ()
    """The parameters that a layer may have beyond PyTorch's, by name."""

    @property
    def leaky(self) -> bool:
        """Whether a step keeps the share ``1 - alpha`` of the state."""
        return self.extra == LEAK

    @property
    def gated(self) -> bool:
        """Whether the cell has gates."""
        return self.family in (GATED, LONG_SHORT)

    @property
    def has_cell_state(self) -> bool:
        """Whether the state is ``(h, c)``."""
        return self.family is LONG_SHORT


_NORMS: Final = tuple(f"norm_{of}_{what}" for of in ("input", "recurrent", "sum") for what in ("weight", "bias"))
_CELL_NORM: Final = ("norm_cell_weight", "norm_cell_bias")
_PEEPHOLES: Final = ("peephole_input", "peephole_forget", "peephole_output")

KINDS: Final[dict[str, Kind]] = {
    "tanh": Kind(ELMAN, "a tanh RNN", bounded=True, nonlinearity="tanh", elman=True, of_pytorch=True),
    "relu": Kind(ELMAN, "a ReLU RNN", nonlinearity="relu", elman=True, of_pytorch=True),
    "linear": Kind(ELMAN, "a linear RNN", elman=True),
    "gru": Kind(GATED, "a GRU", bounded=True, of_pytorch=True),
    "lstm": Kind(LONG_SHORT, "an LSTM", of_pytorch=True),
    "hard_sigmoid_lstm": Kind(LONG_SHORT, "an LSTM with hard_sigmoid gates"),
    "hard_sigmoid_gru": Kind(GATED, "a GRU with hard_sigmoid gates", bounded=True),
    "relu_lstm": Kind(LONG_SHORT, "an LSTM with ReLU in place of tanh", nonlinearity="relu"),
    "relu_gru": Kind(GATED, "a GRU with ReLU in place of tanh", nonlinearity="relu"),
    "leaky_tanh": Kind(ELMAN, "a leaky tanh RNN", bounded=True, nonlinearity="tanh", extra=LEAK),
    "leaky_relu": Kind(ELMAN, "a leaky ReLU RNN", nonlinearity="relu", extra=LEAK),
    "leaky_current_tanh": Kind(ELMAN, "a leaky RNN of currents with tanh", nonlinearity="tanh", extra=LEAK),
    "leaky_current_relu": Kind(ELMAN, "a leaky RNN of currents with ReLU", nonlinearity="relu", extra=LEAK),
    "layernorm_lstm": Kind(LONG_SHORT, "an LSTM with layer normalization", extra=(*_NORMS, *_CELL_NORM)),
    "layernorm_gru": Kind(GATED, "a GRU with layer normalization", bounded=True, extra=_NORMS),
    "peephole_lstm": Kind(LONG_SHORT, "an LSTM with peepholes", extra=_PEEPHOLES),
    "batchnorm_lstm": Kind(LONG_SHORT, "an LSTM with batch normalization", extra=("read_scale", "read_shift")),
    "custom": Kind(UNKNOWN, "a step function"),
}
"""By the names that reports use."""


def extra_sizes(name: str, gates: int, hidden: int) -> tuple[int, ...]:
    """How many numbers an extra parameter may have.

    Norms of preactivations have one number per row of the weights, ``alpha`` is one number or one per unit, and all
    other parameters have one number per unit.
    """
    if name.startswith("norm_") and not name.startswith("norm_cell_"):
        return (gates * hidden,)
    return (1, hidden) if name == "alpha" else (hidden,)
