"""What a parser hands over: recurrent modules as named arrays, in PyTorch's own names, layout and gate order."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import numpy as np
from safetensors.numpy import save

BFLOAT16: Final = np.dtype("V2")
"""NumPy has no bfloat16: its bytes are carried as they are."""


class RefusedError(Exception):
    """A file that is not read; the message, one line without the path, says why and what to do."""


class UnfitError(Exception):
    """Something recurrent that cannot be measured; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the file says of a recurrent module that its arrays do not."""

    nonlinearity: Literal["tanh", "relu"] | None = None
    reset_after: bool = True
    """False: a GRU whose reset gate multiplies the state, not its product with ``W_hn``."""
    backwards: bool = False
    """True: one direction, from the end of the sequence to its start; ``_reverse`` stays out of its arrays' names."""


@dataclass(slots=True)
class Parsed:
    """All of a file that matters, filled while it is parsed."""

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    """float16, ``BFLOAT16``, float32 or float64 by dotted name, as in a state_dict, in the order in which the
    modules are to be shown: ``encoder.rnn.weight_hh_l0_reverse``; an embedding that a module reads as
    ``<its name>.weight``"""
    facts: dict[str, Facts] = field(default_factory=dict)
    """by module: the dotted name without its last component"""
    skipped: list[tuple[str, str, bool]] = field(default_factory=list)
    """what was skipped: its name, the reason, and whether it is a recurrent layer that was not measured"""
    framework: str = ""
    """the framework that the model was built with, in its usual spelling; empty if not known"""
    notes: list[str] = field(default_factory=list)
    """conversions and assumptions, such as an order of gates; one sentence each"""

    def encode(self) -> tuple[bytes, bytes]:
        """A line of JSON, and the tensors as safetensors."""
        header: dict[str, Any] = {
            "facts": {name: asdict(facts) for name, facts in self.facts.items()},
            "skipped": self.skipped,
            "notes": self.notes,
            "framework": self.framework,
            # safetensors has an order of its own.
            "dtypes": {name: "bfloat16" if a.dtype == BFLOAT16 else a.dtype.name for name, a in self.tensors.items()},
        }
        raw = {name: a.view(np.int16) if a.dtype == BFLOAT16 else a for name, a in self.tensors.items()}
        arrays = {name: np.ascontiguousarray(array) for name, array in raw.items()}
        return json.dumps(header).encode() + b"\n", save(arrays)
