"""rnndiag: why a recurrent net will not learn, blows up, or is about to ship broken.

>>> import rnndiag
>>> report = rnndiag.simulate(rnndiag.RandomNet(sigma=0.5, hidden=32), length=50)
>>> report.verdict
'vanishing'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rnndiag.version import __version__ as __version__

if TYPE_CHECKING:
    from rnndiag.api import inspect as inspect
    from rnndiag.api import prescribe as prescribe
    from rnndiag.api import simulate as simulate
    from rnndiag.config.settings import Settings as Settings
    from rnndiag.config.settings import Thresholds as Thresholds
    from rnndiag.errors import RnndiagError as RnndiagError
    from rnndiag.probes import Probe as Probe
    from rnndiag.random_nets import RandomNet as RandomNet
    from rnndiag.report import Report as Report

_HOMES = {
    "inspect": "rnndiag.api",
    "simulate": "rnndiag.api",
    "prescribe": "rnndiag.api",
    "Settings": "rnndiag.config.settings",
    "Thresholds": "rnndiag.config.settings",
    "RnndiagError": "rnndiag.errors",
    "Probe": "rnndiag.probes",
    "RandomNet": "rnndiag.random_nets",
    "Report": "rnndiag.report",
}
"""Public names, imported when first used: ``rnndiag --help`` must not wait for torch."""

__all__ = [  # noqa: RUF022  # the order in which a reader meets them
    "inspect",
    "simulate",
    "prescribe",
    "Report",
    "Probe",
    "RandomNet",
    "Settings",
    "Thresholds",
    "RnndiagError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rnndiag' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
