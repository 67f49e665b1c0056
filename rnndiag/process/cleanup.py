"""Cleanups for a process that ends early: they remove temporary files and folders and end child processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".rnndiag."
"""The names of temporary files next to their target begin with it."""

_pending: dict[object, Callable[[], None]] = {}


def run_cleanups() -> None:
    """Run the pending cleanups, the newest first: the process is about to end without unwinding its stack."""
    for token, action in reversed(list(_pending.items())):
        with suppress(OSError):  # the process ends either way, and the other cleanups must run
            action()
        _pending.pop(token, None)


@contextmanager
def cleanup(action: Callable[[], None]) -> Iterator[None]:
    """Run ``action`` when the block ends, or when a signal ends the process within the block.

    It stays pending until it has run completely.
    """
    token = object()
    _pending[token] = action
    try:
        yield
    finally:
        action()
        _pending.pop(token, None)


@contextmanager
def cleanup_if_ended(action: Callable[[], None]) -> Iterator[None]:
    """Run ``action`` only when a signal ends the process within the block."""
    token = object()
    _pending[token] = action
    try:
        yield
    finally:
        _pending.pop(token, None)


@contextmanager
def temporary_folder(parent: Path | None = None, prefix: str = "rnndiag-") -> Iterator[Path]:
    """A new folder that only this user can read. It is removed with its content when the block ends.

    Args:
        parent: the folder to make it in; None: the system's folder for temporary files.
        prefix: the beginning of its name.

    Raises:
        OSError: the system refuses.
    """
    folder = (parent or _system_folder()) / f"{prefix}{os.urandom(8).hex()}"
    with cleanup(lambda: _remove(folder)):
        folder.mkdir(mode=0o700)
        yield folder


@contextmanager
def temporary_file(target: Path) -> Iterator[Path]:
    """A free name next to ``target``, to write to and to rename. It is removed when the block ends."""
    file = target.with_name(f"{PREFIX}{os.urandom(8).hex()}")
    with cleanup(lambda: file.unlink(missing_ok=True)):
        yield file


def _system_folder() -> Path:
    import tempfile  # not at the top: this module is imported before anything slow, to handle signals

    return Path(tempfile.gettempdir())


def _remove(folder: Path) -> None:
    import shutil

    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
