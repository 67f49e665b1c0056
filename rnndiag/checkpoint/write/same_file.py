"""Whether a file is still the one that was read: training may have saved another in its place meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from rnndiag.cells.layer import RecurrentLayer
    from rnndiag.checkpoint.model import Model


def check_unchanged(path: Path, before: Model, now: Model) -> None:
    """Hold what a file holds now against what was read from it before.

    The digest is of all its bytes; of folders and of very large files, which have none, the layers must do.

    Raises:
        CheckpointError: it is another.
    """
    ones, others = ([layer for stack in model.stacks for layer in stack.layers] for model in (before, now))
    if before.source.sha256 != now.source.sha256 or len(ones) != len(others) or not all(map(_alike, ones, others)):
        raise changed_since(path)


def changed_since(path: Path) -> CheckpointError:
    """What to say of a file that is another now."""
    return CheckpointError(f"{path}: was written anew while it was measured: take a copy that stays, and run it again")


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Bit for bit."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other)))


def _alike(one: RecurrentLayer, other: RecurrentLayer) -> bool:
    kinds = [(la.name, la.cell, la.direction, la.reset_after, la.form, la.parameters.keys()) for la in (one, other)]
    return kinds[0] == kinds[1] and all(map(same_bits, one.parameters.values(), other.parameters.values()))
