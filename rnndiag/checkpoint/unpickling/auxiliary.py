"""Files that training writes next to a model and that hold no weights: optimizer and scheduler state, settings.

The kind of a file is decided by its content, never by its name. A doubtful file counts as a model, because a model that
cannot be read has to fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.contents import Unusable
from rnndiag.checkpoint.unpickling.blob import Blob
from rnndiag.checkpoint.unpickling.ndarray import PickledArray, PickledScalar
from rnndiag.checkpoint.unpickling.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from rnndiag.checkpoint.contents import Container, StoredTensor

MAX_PARTS: Final = 1_000_000
"""The largest number of parts that are checked; a file with more parts is doubtful."""
MAX_BLOB_BYTES: Final = 1024
"""A byte string that is longer than this could contain a whole model."""

OPTIMIZER: Final = "optimizer state only"
SCHEDULER: Final = "scheduler state only"
RANDOM: Final = "random-number state only"
SETTINGS: Final = "no tensors, only settings or a vocabulary"

_SCHEDULER: Final = frozenset({"last_epoch", "_step_count", "base_lrs", "_last_lr"})


def auxiliary(root: object, containers: Iterable[Container], *, has_optimizer: bool) -> str:
    """What a file without weights holds instead; empty if the file holds weights or could hold weights.

    Args:
        root: the object in the file.
        containers: the tensors outside optimizer state.
        has_optimizer: whether there is optimizer state.
    """
    leaves = [leaf for container in containers for leaf in container.tensors.values()]
    if any(isinstance(leaf, Unusable) or _may_be_weights(leaf) for leaf in leaves):
        return ""
    if has_optimizer:
        return OPTIMIZER
    if not _is_plain(root):
        return ""
    if leaves:
        return RANDOM
    is_scheduler = isinstance(root, dict) and "last_epoch" in root and len(_SCHEDULER & root.keys()) > 1
    return SCHEDULER if is_scheduler else SETTINGS


def _may_be_weights(leaf: StoredTensor) -> bool:
    # A random-number generator keeps its state in one row of integers; counters and scales are single numbers.
    rank = len(leaf.shape)
    return rank > 1 or (rank == 1 and leaf.dtype.is_floating_point)


def _is_plain(root: object) -> bool:
    """Whether no part of the object could hold weights in a form other than a tensor."""
    todo: list[object] = [root]
    seen, looked_at = {id(root)}, 0
    while todo:
        part = todo.pop()
        if isinstance(part, bytes | bytearray):
            if len(part) > MAX_BLOB_BYTES:
                return False
            continue
        within: Collection[object] = ()
        if isinstance(part, Blob):
            if part.coding not in ("utf-8", "unicode line"):
                return False
            continue
        if isinstance(part, StandIn):
            if isinstance(part, PickledArray):
                if isinstance(part, PickledScalar):
                    continue
                return False
            # A pickle of protocol 2, which torch.save writes, stores bytes like this.
            if part.module == "_codecs" and any(_is_long(each) for each in part.args[:2]):
                return False
            # The containers, not their members: many objects may share them.
            within = (part.state, part.args, part.items, part.elements)
        elif isinstance(part, dict):
            within = part.values()
        elif isinstance(part, list | tuple) and not _is_numpy_generator(part):
            within = part
        looked_at += 1 + len(within)
        if looked_at > MAX_PARTS:
            return False
        for each in within:
            if isinstance(each, StandIn | Blob | dict | list | tuple | bytes | bytearray) and id(each) not in seen:
                seen.add(id(each))
                todo.append(each)
    return True


def _is_long(text: object) -> bool:
    return isinstance(text, Blob) or (isinstance(text, str) and len(text) > MAX_BLOB_BYTES)


def _is_numpy_generator(part: list[object] | tuple[object, ...]) -> bool:
    """Whether it is what ``numpy.random.get_state`` gives."""
    return bool(part) and isinstance(part[0], str) and part[0] == "MT19937"
