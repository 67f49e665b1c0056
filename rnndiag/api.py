"""The two calls that most users need: diagnose a file, diagnose a random net."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rnndiag import checkpoint
from rnndiag.checkpoint.arrays import read_array
from rnndiag.checkpoint.mapping import RoleMap, parse_map
from rnndiag.config import Settings
from rnndiag.diagnose import Progress, diagnose
from rnndiag.errors import ProbeError
from rnndiag.probes import GENERATED, Probe, ProbeKind
from rnndiag.random_nets import RandomNet
from rnndiag.report import Report
from rnndiag.rules.policy import Policy

DEFAULT_LENGTH = 100
DEFAULT_BATCH = 16

ProbeSpec = str | Path | Tensor | np.ndarray | Probe


def inspect(
    path: str | Path,
    *,
    probe: ProbeSpec = "noise",
    length: int | None = None,
    batch: int | None = None,
    scale: float = 1.0,
    nonlinearity: Literal["tanh", "relu"] | None = None,
    mapping: str | Sequence[str | RoleMap] = (),
    settings: Settings | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> Report:
    """Diagnose the recurrent stacks of a saved model.

    Args:
        path: a file written by ``torch.save``.
        probe: the kind of a generated probe, an array ``[T, D]`` or ``[B, T, D]``, or its file.
        length: steps ``T``; default 100, or the lag, or all that an array holds.
        batch: sequences ``B``; default 16, or all that an array holds.
        scale: multiplies the probe.
        nonlinearity: of Elman layers, where the file does not say.
        mapping: which tensors are what, where their names do not tell: ``"hh=*.U,ih=*.W,cell=gru"``, or several.
        settings: lag, precision, thresholds.
        policy: which rules apply, and their thresholds.
        progress: told before each piece of work.

    Raises:
        RnndiagError: with one line that says what to do.
    """
    settings = settings or Settings()
    given = [mapping] if isinstance(mapping, str) else mapping
    maps = [parse_map(each, "mapping") if isinstance(each, str) else each for each in given]
    model = checkpoint.load(path, nonlinearity=nonlinearity, maps=maps)
    built = make_probe(probe, length=length, batch=batch, scale=scale, settings=settings)
    return diagnose(model, built, settings, policy=policy, progress=progress)


def simulate(
    net: RandomNet | None = None,
    *,
    probe: ProbeSpec = "noise",
    length: int | None = None,
    batch: int | None = None,
    scale: float = 1.0,
    settings: Settings | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> Report:
    """Diagnose a random net; the arguments are those of ``inspect``."""
    settings = settings or Settings()
    built = make_probe(probe, length=length, batch=batch, scale=scale, settings=settings)
    return diagnose((net or RandomNet()).build(), built, settings, policy=policy, progress=progress)


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
        raise ProbeError(f"--probe {spec}: expected one of {kinds}, or a .npy, .npz or .pt file; no such file")
    if isinstance(spec, str | Path):
        array, name = read_array(spec), str(spec)
    else:
        array, name = torch.as_tensor(spec), "probe"
    return Probe.from_array(array, length=length, batch=batch, scale=scale, name=name)
