"""A sweep as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rnndiag.printable import json_text
from rnndiag.report import SCHEMA_VERSION, finite
from rnndiag.sweep.axes import varying
from rnndiag.sweep.result import Sweep, SweepPoint
from rnndiag.version import __version__


def render(sweep: Sweep) -> str:
    """One document; numbers that are not finite are strings, as in a report.

    ``critical_sigma`` is a number where sigma alone varies, and a list by value of the other axis where two do;
    ``critical`` has each of them with its interval, theory's and every net's.
    """
    names = varying(sweep.axes)
    sigmas = [critical.sigma for critical in sweep.critical]
    document = {
        "schema_version": SCHEMA_VERSION,
        "rnndiag_version": __version__,
        "complete": sweep.complete,
        "axes": {name: sweep.axes[name] for name in names},
        "fixed": {name: values[0] for name, values in sweep.axes.items() if name not in names}
        | {name: value for name, value in sweep.fixed.items() if name != "axes"},
        "points": [_point(point) for point in sweep.points],
        "critical_sigma": None if not sigmas else sigmas if len(names) > 1 else sigmas[0],
        "critical": [
            {**dict(c.at), "sigma": c.sigma, "interval": c.interval, "theory": c.theory, "roots": c.roots}
            for c in sweep.critical
        ],
        "notes": sweep.notes,
    }
    return json_text(finite(document)) + "\n"


def _point(point: SweepPoint) -> dict[str, Any]:
    numbers = asdict(point)
    return {**dict(numbers.pop("condition")), **numbers}
