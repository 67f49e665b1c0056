"""A probe from whatever a user names it by."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rnndiag.cells.layer import Layout
from rnndiag.checkpoint.model import Model
from rnndiag.checkpoint.probe_file import ALL, Used, read_array
from rnndiag.config.settings import Settings
from rnndiag.errors import ProbeError
from rnndiag.probes import GENERATED, Probe, ProbeKind

DEFAULT_LENGTH = 100
DEFAULT_BATCH = 16

ProbeSpec = str | Path | Tensor | np.ndarray | Probe


def make_probe(
    spec: ProbeSpec,
    *,
    length: int | None = None,
    batch: int | None = None,
    scale: float = 1.0,
    settings: Settings | None = None,
    layout: Layout | None = None,
) -> Probe:
    """A probe from its kind, its file or its array, whose axes are in the order of ``layout``.

    Raises:
        ProbeError: for an unknown kind, a file that cannot be read, or a shape that does not fit.
    """
    settings = settings or Settings()
    if isinstance(spec, Probe):
        return spec
    if isinstance(spec, str) and spec in GENERATED:
        if spec == "zeros":
            batch = 1  # without inputs all sequences are the same one
        kind: ProbeKind = spec  # type: ignore[assignment]  # GENERATED are its values
        steps = length or settings.lag or DEFAULT_LENGTH
        return Probe(
            kind,
            steps if length is None else length,
            DEFAULT_BATCH if batch is None else batch,
            scale,
            settings.seed,
        )
    if isinstance(spec, str) and not Path(spec).exists():
        kinds = ", ".join(GENERATED)
        near = get_close_matches(spec, GENERATED, 1)
        hint = f"did you mean {near[0]}?" if near else "no such file"
        raise ProbeError(f"--probe {spec}: expected one of {kinds}, or a .npy, .npz or .pt file; {hint}")
    array, name = array_of(spec, "probe", Used(length, batch, layout))
    return Probe.from_array(array, length=length, batch=batch, scale=scale, name=name, layout=layout)


def is_array(spec: ProbeSpec) -> bool:
    """Whether a probe is an array or its file, rather than a kind of generated probe."""
    return not isinstance(spec, Probe) and not (isinstance(spec, str) and spec in GENERATED)


def common_layout(model: Model) -> Layout | None:
    """The order of the axes in which a module in memory takes sequences; None: it does not say.

    Raises:
        ProbeError: its recurrent modules take them in different orders.
    """
    found = set(model.layouts.values())
    if len(found) > 1:
        each = ", ".join(f"{name} takes {layout}" for name, layout in model.layouts.items())
        raise ProbeError(
            f"{model.source.path}: the modules take sequences in different orders of the axes ({each}); say which "
            'order the array has: layout="BTD" or layout="TBD" (--layout on the command line)'
        )
    return found.pop() if found else None


def array_of(given: object, name: str, used: Used = ALL) -> tuple[Tensor, str]:
    """A tensor from an array or a file, and its name for error messages.

    Args:
        given: a tensor, an array, or the path of a file.
        name: the name for an array without a path.
        used: the part that is used; the rest need not be read.
    """
    if isinstance(given, str | Path):
        return read_array(given, used), str(given)
    try:
        return torch.as_tensor(given), name
    except (TypeError, ValueError, RuntimeError) as error:
        raise ProbeError(
            f"{name}: expected an array [T, D] or [B, T, D], got a {type(given).__name__} ({error})"
        ) from None
