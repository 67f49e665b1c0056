"""The calls that most users need, a file each; each is imported when it is first used.

Diagnosing one model need not wait for what only a sweep takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnndiag.api.inspecting import inspect as inspect
    from rnndiag.api.prescribing import prescribe as prescribe
    from rnndiag.api.probing import make_probe as make_probe
    from rnndiag.api.simulating import simulate as simulate
    from rnndiag.api.sweeping import sweep as sweep

_HOMES = {
    "inspect": "inspecting",
    "make_probe": "probing",
    "prescribe": "prescribing",
    "simulate": "simulating",
    "sweep": "sweeping",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rnndiag.api' has no attribute {name!r}")
    return getattr(import_module(f"rnndiag.api.{_HOMES[name]}"), name)
