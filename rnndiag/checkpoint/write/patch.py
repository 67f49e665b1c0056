"""Numbers put into a file at the places where the old ones lie, and the checksums over them; nothing else changes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from rnndiag.files.zip import CHUNK_BYTES, crc_positions, update_crcs

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from rnndiag.checkpoint.location import Location
    from rnndiag.files.zip import ZipMember


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """New values for some numbers of one tensor of the file."""

    owner: str
    """Whose they are, for messages."""
    location: Location
    numbers: np.ndarray
    """``[n]``: their indices in the flattened tensor."""
    values: Tensor
    """``[n]``, in the tensor's own dtype."""


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What changes in one file, in numbers of one width."""

    file: pathlib.Path
    offsets: np.ndarray
    """``[n]``, ascending, where each number begins."""
    content: np.ndarray
    """``[n, width]``: its bytes."""
    members: tuple[ZipMember, ...]
    """The members of zip archives whose checksums change."""


class ConflictError(Exception):
    """Two values for the same bytes; the message is whose they are."""


def numbers_at(location: Location, numbers: np.ndarray) -> Tensor:
    """Some numbers of a tensor as they lie in its file, given by their indices in the flattened tensor."""
    data = np.memmap(location.file, np.uint8, "r")
    if location.extent[1] > len(data):
        raise ValueError("its numbers lie beyond the end of the file")
    offsets = location.offsets(numbers)
    held = np.stack([data[offsets + i] for i in range(location.dtype.itemsize)], axis=1)
    return torch.from_numpy(_ordered(held, location)).view(location.dtype).reshape(-1)


def patches(edits: Iterable[Edit]) -> list[Patch]:
    """The edits by file, each number once.

    Raises:
        ConflictError: two that ask for different values in one place.
    """
    together: defaultdict[tuple[pathlib.Path, int], list[Edit]] = defaultdict(list)
    for edit in edits:
        together[edit.location.file, edit.location.dtype.itemsize].append(edit)
    return [_patch(file, group) for (file, _), group in together.items()]


def _patch(file: pathlib.Path, edits: Sequence[Edit]) -> Patch:
    width = edits[0].location.dtype.itemsize
    offsets = np.concatenate([edit.location.offsets(edit.numbers) for edit in edits])
    held = [edit.values.view(torch.uint8).numpy().reshape(-1, width) for edit in edits]
    content = np.concatenate([_ordered(each, edit.location) for each, edit in zip(held, edits, strict=True)])
    owners = np.repeat(np.arange(len(edits)), [len(edit.numbers) for edit in edits])
    order = np.argsort(offsets, kind="stable")
    offsets, content, owners = offsets[order], content[order], owners[order]
    gaps = np.diff(offsets)
    clash = (gaps < width) & ((gaps > 0) | (content[1:] != content[:-1]).any(axis=1))
    if clash.any():
        at = int(np.argmax(clash))
        raise ConflictError(" and ".join(dict.fromkeys(edits[owner].owner for owner in owners[at : at + 2])))
    once = np.concatenate(([True], gaps > 0))
    members = tuple(dict.fromkeys(member for edit in edits for member in edit.location.members))
    return Patch(file, offsets[once], content[once], members)


def _ordered(content: np.ndarray, location: Location) -> np.ndarray:
    return np.ascontiguousarray(content[:, ::-1]) if location.is_swapped else content


def apply(parts: Sequence[Patch], copy: pathlib.Path) -> None:
    """Put the patches of one file into a copy of it, in location."""
    data = np.memmap(copy, np.uint8, "r+")
    for part in parts:
        for i in range(part.content.shape[1]):
            data[part.offsets + i] = part.content[:, i]
    data.flush()
    del data
    update_crcs(copy, dict.fromkeys(member for part in parts for member in part.members))


def differs_elsewhere(parts: Sequence[Patch], original: pathlib.Path, copy: pathlib.Path) -> bool:
    """Whether two files differ in more than the patched numbers and the checksums over them."""
    allowed = [(part.offsets, part.content.shape[1]) for part in parts]
    members = dict.fromkeys(member for part in parts for member in part.members)
    crcs = sorted(at for member in members for at in crc_positions(original, member))
    allowed.append((np.array(crcs, np.int64), 4))
    start = 0
    with original.open("rb") as one, copy.open("rb") as other:
        while True:
            before, after = (np.frombuffer(file.read(CHUNK_BYTES), np.uint8) for file in (one, other))
            if len(before) != len(after):
                return True
            if not len(before):
                return False
            differing = before != after
            for offsets, width in allowed:
                first, last = np.searchsorted(offsets, (start - width + 1, start + len(before)))
                for i in range(width):
                    at = offsets[first:last] + i - start
                    differing[at[(at >= 0) & (at < len(before))]] = False
            if differing.any():
                return True
            start += len(before)
