"""How far training was when a file was written, as far as the file says it in plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from rnndiag.checkpoint.contents import StoredTensor

if TYPE_CHECKING:
    from rnndiag.checkpoint.contents import KeyPath

KEYS: Final = ("global_step", "step", "iteration", "iter", "num_updates", "epoch")
"""Under which training loops keep their counters, the finest first."""

MAX_COUNT: Final = 1 << 53
"""Larger numbers are no count of anything, and no float64 holds them all."""

SETTINGS: Final = frozenset({"hyper_parameters", "hparams", "config", "cfg", "args", "options", "settings"})
"""Parts that say what training was asked to do, not how far it came."""


def counter(path: KeyPath, value: object) -> int | None:
    """The count that one of the ``KEYS`` holds at the top of a file or in a part right under it; None: it is none.

    A plain whole number, or a tensor that is one.
    """
    if not (path.parent is None or path.parent.parent is None) or path.key in SETTINGS:
        return None
    if isinstance(value, StoredTensor) and value.shape == () and value.dtype in (torch.int32, torch.int64):
        number = value.read()
        value = int(number) if isinstance(number, Tensor) else None
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None
