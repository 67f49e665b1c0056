"""Patterns of paths: ``*``, ``?``, ``[abc]`` within a name, and ``**`` for any number of folders.

The rules are those of Python's ``glob``: a star does not match a leading dot, ``**`` skips hidden folders. The search
differs: each folder is read once, even if many links lead to it or ``**`` is repeated. Links are followed last, so a
folder that can be reached under its own name gets this name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rnndiag.files.globs import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rnndiag.checkpoint.search import Search

ANY_DEPTH = "**"

_MAGIC = re.compile(r"[*?[]")


def has_magic(path: str) -> bool:
    """Whether a path is a pattern."""
    return _MAGIC.search(path) is not None


def matching(pattern: str, search: Search) -> list[str]:
    """The paths of files and folders that match a pattern, sorted.

    Raises:
        CheckpointError: beyond the limit of the search.
    """
    root, parts = _parts(pattern)
    return sorted(set(_found(root, parts, search, folders_only=pattern.endswith(os.sep))))


def _parts(pattern: str) -> tuple[str, list[str]]:
    """The root of a pattern, such as ``/``, and its parts; several ``**`` in a row count as one."""
    path = Path(pattern)
    parts = [part for part in path.parts if part != path.anchor]
    return path.anchor, [part for i, part in enumerate(parts) if part != ANY_DEPTH or parts[i - 1 : i] != [ANY_DEPTH]]


def _found(root: str, parts: list[str], search: Search, *, folders_only: bool) -> Iterator[str]:
    """Walk the folders with sets of positions in the pattern: the parts that can match the next name."""
    seen: dict[tuple[int, int], set[int]] = {}
    todo: list[tuple[str, frozenset[int]]] = [(root, _opened({0}, parts) - {len(parts)})]
    links: list[tuple[str, frozenset[int]]] = []
    while todo or links:
        folder, positions = todo.pop() if todo else links.pop(0)
        positions = _unseen(folder or os.curdir, positions, seen)
        if not positions:
            continue
        fixed = {parts[i] for i in positions if not has_magic(parts[i])}
        if len(fixed) == len(positions):  # all parts are plain names, so the folder need not be listed
            names = [(name, os.path.isdir(os.path.join(folder, name)), False) for name in sorted(fixed)]  # noqa: PTH112, PTH118
            names = [each for each in names if os.path.lexists(os.path.join(folder, each[0]))]  # noqa: PTH118
        else:
            names = [
                (each.name, search.is_folder(each), each.is_symlink()) for each in search.entries(folder or os.curdir)
            ]
            names += [(name, True, False) for name in sorted(fixed & {os.curdir, os.pardir})]
        below: list[tuple[str, frozenset[int]]] = []
        for name, is_folder, is_link in names:
            after = _after(name, positions, parts, is_folder=is_folder)
            path = os.path.join(folder, name)  # noqa: PTH118  # millions of paths: objects would cost a second each
            if len(parts) in after and (is_folder or not folders_only):
                yield path
            after -= {len(parts)}
            if after and is_folder:
                (links if is_link else below).append((path, frozenset(after)))
        todo += reversed(below)


def _opened(positions: set[int], parts: list[str]) -> frozenset[int]:
    """The positions, and the positions after each ``**``, because ``**`` also matches no folder at all."""
    opened = set(positions)
    for i in sorted(positions):
        if i < len(parts) and parts[i] == ANY_DEPTH:
            opened.add(i + 1)
    return frozenset(opened)


def _after(name: str, positions: frozenset[int], parts: list[str], *, is_folder: bool) -> set[int]:
    """The positions in the pattern after a name."""
    after: set[int] = set()
    for i in positions:
        if i == len(parts):
            continue
        if parts[i] == ANY_DEPTH:
            if not name.startswith("."):
                after |= {i} if is_folder else set()
                after |= {len(parts)} if i == len(parts) - 1 else set()
        elif _fits(name, parts[i]):
            after.add(i + 1)
    return set(_opened(after, parts))


def _fits(name: str, part: str) -> bool:
    if not has_magic(part):
        return os.path.normcase(name) == os.path.normcase(part)
    if name.startswith(".") and not part.startswith("."):
        return False
    return matches(os.path.normcase(name), os.path.normcase(part))


def _unseen(folder: str, positions: frozenset[int], seen: dict[tuple[int, int], set[int]]) -> frozenset[int]:
    """The positions with which a folder was not searched before, under any name."""
    try:
        status = os.stat(folder)  # noqa: PTH116
    except OSError:
        return frozenset()
    before = seen.setdefault((status.st_dev, status.st_ino), set())
    fresh = positions - before
    before |= fresh
    return fresh
