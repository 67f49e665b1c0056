"""What a file's own library computes: the states of each layer on a small probe, to compare rnndiag's states with.

Only a layer that is built from the arrays and settings that the parser recognized is run, never the file's own graph or
code.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rnndiag.parsers.parsed import BFLOAT16

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.parsers.parsed import Parsed

STEPS: Final = 6
SCALES: Final = (1.0, 1.0, 10.0)
"""The scale of each sequence of the probe. The larger scale also reaches limits on preactivations and states."""
_NAME: Final = re.compile(r"(?P<role>[a-z]+(?:_[a-z]+)*)_l(?P<level>[0-9]+)(?P<reverse>_reverse)?")


@dataclass(frozen=True, slots=True)
class Place:
    """One layer of a module in one direction."""

    module: str
    level: int
    reverse: bool


@dataclass(slots=True)
class OriginRuns:
    """The runs of all layers of a file."""

    library: str
    """The library and its version, as in ``onnxruntime 1.20``."""
    inputs: dict[Place, np.ndarray] = field(default_factory=dict)
    """``[T, B, D]``, float32"""
    outputs: dict[Place, np.ndarray] = field(default_factory=dict)
    """``[T, B, H]``, float32, in the order of the sequence"""
    failures: dict[Place, str] = field(default_factory=dict)
    """Why a layer could not be run."""

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """All arrays, by names for ``encode``."""
        arrays = {}
        for i, (place, given) in enumerate(self.inputs.items()):
            arrays[f"{i}.inputs"], arrays[f"{i}.outputs"] = given, self.outputs[place]
        return arrays

    def encode(self) -> tuple[bytes, bytes]:
        """A line of JSON, and the arrays as safetensors."""
        from safetensors.numpy import save

        header: dict[str, Any] = {
            "library": self.library,
            "places": [[place.module, place.level, place.reverse] for place in self.inputs],
            "failures": [[place.module, place.level, place.reverse, why] for place, why in self.failures.items()],
        }
        arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in self.tensors.items()}
        return json.dumps(header).encode() + b"\n", save(arrays)

    @classmethod
    def decode(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> OriginRuns:
        """What ``encode`` wrote."""
        runs = cls(header["library"])
        for i, (module, level, reverse) in enumerate(header["places"]):
            place = Place(module, level, reverse)
            runs.inputs[place], runs.outputs[place] = arrays[f"{i}.inputs"], arrays[f"{i}.outputs"]
        runs.failures = {Place(module, level, reverse): why for module, level, reverse, why in header["failures"]}
        return runs


def probe(width: int) -> np.ndarray:
    """``[T, B, D]``: noise, the same for every layer of that width."""
    noise = np.random.default_rng(0).standard_normal((STEPS, len(SCALES), width))
    scaled: np.ndarray = (noise * np.array(SCALES)[:, None]).astype(np.float32)
    return scaled


def layers_of(parsed: Parsed) -> dict[Place, dict[str, np.ndarray]]:
    """The arrays of each layer by role, in float32 and otherwise as they are stored."""
    found: defaultdict[Place, dict[str, np.ndarray]] = defaultdict(dict)
    for name, array in parsed.tensors.items():
        module, _, own = name.rpartition(".")
        match = _NAME.fullmatch(own)
        if match and module in parsed.conventions:
            place = Place(module, int(match["level"]), bool(match["reverse"]))
            found[place][match["role"]] = _widened(array)
    return dict(found)


def _widened(array: np.ndarray) -> np.ndarray:
    wide: np.ndarray = array.astype(np.float32) if array.dtype != BFLOAT16 else _from_bfloat16(array)
    return wide


def _from_bfloat16(array: np.ndarray) -> np.ndarray:
    bits = array.view(np.uint16).astype(np.uint32) << 16
    wide: np.ndarray = bits.view(np.float32)
    return wide
