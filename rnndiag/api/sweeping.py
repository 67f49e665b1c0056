"""Phase diagrams of random nets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rnndiag.api.probing import ProbeSpec, make_probe
from rnndiag.cells.layer import Layout
from rnndiag.config.settings import Settings
from rnndiag.diagnose import Progress
from rnndiag.sweep.axes import Value, longest, parse_axes, with_length
from rnndiag.sweep.plan import DEFAULT_NETS, Plan
from rnndiag.sweep.result import Sweep
from rnndiag.sweep.run import run as run_sweep


def sweep(
    axes: Mapping[str, str | Value | Sequence[Value]] | None = None,
    *,
    nets: int = DEFAULT_NETS,
    input_size: int = 16,
    forget_bias: float = 0.0,
    probe: ProbeSpec = "noise",
    batch: int | None = None,
    scale: float = 1.0,
    layout: Layout | None = None,
    settings: Settings | None = None,
    workers: int | None = None,
    resume: Path | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """A phase diagram of random nets, with the critical sigma where sigma varies.

    An interrupt ends it early with what is done; ``complete`` says so.

    Args:
        axes: by name (``sigma``, ``input_scale``, ``bias_scale``, ``hidden``, ``length``, ``cell``, ``init``), each a
            value, several, or text: ``"0.5:3:26"``, ``"0.01:10:9log"``, ``"0,0.1,1"``. At most two may vary; sigma does
            if nothing is said.
        nets: per point, with seeds that follow that of the settings; net ``s`` is that of ``simulate`` with seed ``s``.
        input_size: inputs ``D``.
        forget_bias: added to an LSTM's forget biases.
        probe: as for ``inspect``.
        batch: likewise.
        scale: likewise.
        layout: likewise.
        settings: lag, precision, thresholds, the first seed.
        workers: threads; None: all cores that this process may use.
        resume: a file that keeps every net as it is measured, and from which the work goes on.
        progress: called when points are done.

    Raises:
        RnndiagError: with one line that says what to do.

    >>> found = sweep({"sigma": "0.5:2:4", "hidden": 32, "length": 50}, nets=1)
    >>> [point.verdict for point in found.points]
    ['vanishing', 'vanishing', 'inconclusive', 'exploding']
    """
    settings, axes = settings or Settings(), axes or {}
    parsed = parse_axes(axes)
    driven = make_probe(probe, length=longest(parsed), batch=batch, scale=scale, settings=settings, layout=layout)
    plan = Plan(with_length(parsed, driven.length), driven, settings, nets, input_size, forget_bias)
    return run_sweep(plan, workers=workers, resume=resume, progress=progress)
