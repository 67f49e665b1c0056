"""What a parser hands over: the arrays of recurrent modules as the file stores them, and how it stores them.

A parser converts nothing. ``rnndiag.checkpoint.layers.convention`` brings every module into PyTorch's form.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from rnndiag.kinds import PYTORCH_FORM, Form

BFLOAT16: Final = np.dtype("V2")
"""NumPy has no bfloat16: its bytes are carried as they are."""

OP_TYPE: Final = "op_type"
"""The key of an operator's type among its attributes."""

ROLES: Final[tuple[str, ...]] = ("hh", "ih", "bias_hh", "bias_ih", "bias")
"""What a tensor of a recurrent module is: recurrent weight, input weight, the biases next to each, or one tensor that
stands for both biases."""

Layout: TypeAlias = Literal["rows", "columns", "cudnn"]
"""``rows``: a weight's rows are the units that it feeds (``W x``, PyTorch and ONNX). ``columns``: its columns are
(``x W``, Keras). ``cudnn``: the shape is that of ``columns``, and each gate's block holds the numbers of ``rows``."""


class RefusedError(Exception):
    """A file that is not read; the message, one line without the path, says why and what to do."""


class DataError(RefusedError):
    """A file that holds data and, as far as can be seen, no model."""


@dataclass(frozen=True, slots=True)
class Convention:
    """How a recurrent module is stored, and what its tensors do not show; None: not known."""

    cell: Literal["rnn", "gru", "lstm"] | None = None
    nonlinearity: Literal["tanh", "relu"] | None = None
    layout: Layout | None = None
    order: str | None = None
    """The gate blocks in the file's order, by letter, for example ``zrh``; None: PyTorch's order."""
    reset_after: bool | None = None
    """False: a GRU whose reset gate multiplies the state, not its product with ``W_hn``."""
    kind: str = ""
    """The kind of cell by its name in ``rnndiag.kinds``, where it is not PyTorch's cell of that family."""
    form: Form = PYTORCH_FORM
    class_path: str = ""
    """The class of the module, if it is not one of the framework's own."""
    backwards: bool = False
    """True: one direction, from the end of the sequence to its start; ``_reverse`` stays out of its tensors' names."""
    likely: Literal["tanh", "relu"] | None = None
    """The nonlinearity to assume where nothing says it: the default of the library that wrote the module."""


def kind_of(family: str, form: Form) -> str:
    """The name of the kind of a GRU or LSTM that differs from PyTorch's by its functions alone; empty for PyTorch's."""
    if form.activation == "relu":
        return f"relu_{family}"
    return "" if form.gate == "sigmoid" else f"hard_sigmoid_{family}"


@dataclass(slots=True)
class Parsed:
    """All of a file that matters, filled while it is parsed."""

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    """float16, ``BFLOAT16``, float32 or float64 as stored, in the order in which the modules are to be shown. The name
    is that of the module, a role, the level and the direction: ``encoder.rnn.hh_l0_reverse``. An embedding that a
    module reads is ``<its name>.weight``."""
    conventions: dict[str, Convention] = field(default_factory=dict)
    """By the name of the module."""
    settings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The attributes of the operator of each level, and its type under ``OP_TYPE``, by the name of the module; for
    running them, not handed over."""
    chains: list[list[str]] = field(default_factory=list)
    """names of modules that are levels of one stack, the lowest first; all other modules are stacks of their own"""
    skipped: list[tuple[str, str, bool]] = field(default_factory=list)
    """what was skipped: its name, the reason, and whether it is a recurrent layer that was not measured"""
    framework: str = ""
    """the framework that the model was built with, in its usual spelling; empty if not known"""
    notes: list[str] = field(default_factory=list)
    """conversions and assumptions, such as an order of gates; one sentence each"""

    def encode(self) -> tuple[bytes, bytes]:
        """A line of JSON, and the tensors as safetensors."""
        # Not at the top: what describes a convention needs no library.
        from safetensors.numpy import save

        header: dict[str, Any] = {
            "conventions": {name: asdict(convention) for name, convention in self.conventions.items()},
            "chains": self.chains,
            "skipped": self.skipped,
            "notes": self.notes,
            "framework": self.framework,
            # safetensors has an order of its own.
            "dtypes": {name: "bfloat16" if a.dtype == BFLOAT16 else a.dtype.name for name, a in self.tensors.items()},
        }
        raw = {name: a.view(np.int16) if a.dtype == BFLOAT16 else a for name, a in self.tensors.items()}
        arrays = {name: np.ascontiguousarray(array) for name, array in raw.items()}
        return json.dumps(header).encode() + b"\n", save(arrays)
