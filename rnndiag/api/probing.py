"""A probe from whatever a user names it by."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rnndiag.checkpoint.probe_file import read_array
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
) -> Probe:
    """A probe from its kind, its file or its array.

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
    array, name = array_of(spec, "probe", length, batch)
    return Probe.from_array(array, length=length, batch=batch, scale=scale, name=name)


def array_of(given: object, name: str, length: int | None = None, batch: int | None = None) -> tuple[Tensor, str]:
    """A tensor from an array or a file, and its name for error messages.

    Args:
        given: a tensor, an array, or the path of a file.
        name: the name for an array without a path.
        length: the number of steps that are used; the others need not be read. None: all.
        batch: the number of sequences that are used; the others need not be read. None: all.
    """
    if isinstance(given, str | Path):
        return read_array(given, length, batch), str(given)
    try:
        return torch.as_tensor(given), name
    except (TypeError, ValueError, RuntimeError) as error:
        raise ProbeError(
            f"{name}: expected an array [T, D] or [B, T, D], got a {type(given).__name__} ({error})"
        ) from None
