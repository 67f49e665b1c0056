"""What a path leads to, as a file or folder on this machine: itself, a download, stdin, or an archive's content."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rnndiag.checkpoint.formats.base import Candidate
from rnndiag.checkpoint.formats.registry import identify
from rnndiag.checkpoint.unpack import Room, kind_of, unpack
from rnndiag.errors import CheckpointError, NotAModelError
from rnndiag.printable import printable
from rnndiag.process.cleanup import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rnndiag.checkpoint.formats.base import Format

STDIN: Final = "-"
_LOCAL: Final = ("file://", "local://")


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """What a path led to."""

    file: Path
    """The file or folder."""
    content: Path
    """The folder that it was unpacked to; for what is no archive, ``file`` itself."""
    format: Format | None
    """None: no format recognizes the file; it may be an archive of models."""
    archive: str = ""
    """``zip`` or ``tar``; empty for what is no archive."""
    room: Room | None = None
    """How much the archives in an archive may still unpack to."""


@contextmanager
def fetched(path: str) -> Iterator[LocalCopy]:
    """The file or folder that a path, a URL or ``-`` leads to, unpacked if it is an archive of others.

    Copies are made only of what is not a file or folder already, under a temporary folder that is gone
    afterwards. Refusals that name a copy come out naming ``path``.

    Raises:
        CheckpointError: it cannot be fetched or unpacked.
        OSError: it is not there, or may not be read.
    """
    here = Path(path)
    with ExitStack() as stack:
        try:
            file = here = _plainly_named(_copied(path, stack), stack)
            candidate = Candidate(file)
            known = identify(candidate)
            kind = kind_of(candidate) if known is None and not candidate.is_folder else ""
            room = Room.of(file) if kind else None
            if room is not None:
                here = _temporary(stack)
                unpack(file, kind, here, room)
            yield LocalCopy(file, here, known, kind, room)
        except NotAModelError as error:
            raise error.of(path) from error.__cause__
        except CheckpointError as error:
            message = _naming(path, here, str(error))
            if message == str(error):
                raise
            raise CheckpointError(message) from (error.__cause__ or error)


def _naming(path: str, here: Path, message: str) -> str:
    """A refusal that names ``path`` as the user wrote it, and not the file or folder ``here`` that was read for it."""
    if here == Path(path):  # no copy: its name can be a common word, which the message has elsewhere
        return path + message.removeprefix(str(here)) if message.startswith(str(here)) else message
    return message.replace(f"{here}{os.sep}", f"{path}: ").replace(str(here), path)


def is_url(path: str) -> bool:
    """Whether a path is one that fsspec opens."""
    return "://" in path


def on_this_machine(path: str) -> Path | None:
    """The file or folder itself, also by a ``file://`` URL; None for stdin and what must be fetched."""
    if path == STDIN:
        return None
    if not is_url(path):
        return Path(path)
    if not path.startswith(_LOCAL):
        return None
    import fsspec  # not for those who read files

    return Path(fsspec.core.url_to_fs(path)[1])


def _plainly_named(file: Path, stack: ExitStack) -> Path:
    """The file or folder under a name that is UTF-8: several libraries open no other."""
    if _is_utf8(os.fspath(file)) or not file.exists():
        return file
    whole = file.absolute()
    place = _temporary(stack)
    if _is_utf8(whole.name):  # what lies beside it is found there too
        (place / "folder").symlink_to(whole.parent)
        return place / "folder" / whole.name
    link = place / f"model{whole.suffix if _is_utf8(whole.suffix) else ''}"
    link.symlink_to(whole)
    return link


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _copied(path: str, stack: ExitStack) -> Path:
    if path == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise CheckpointError(f"{path}: expected a model on stdin, got a terminal; pipe one in, or name a file")
        copy = _temporary(stack) / "stdin"
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return copy
    return _downloaded(path, stack) if is_url(path) else Path(path)


def _downloaded(url: str, stack: ExitStack) -> Path:
    import fsspec  # not for those who read files

    try:
        store, name = fsspec.core.url_to_fs(url)
        if "file" in _protocols(store):
            return Path(name)
        copy = _temporary(stack) / (Path(name).name or "model")
        if store.isdir(name):
            store.get(name, str(copy), recursive=True)
        else:
            store.get_file(name, str(copy))
    except ImportError as error:
        raise CheckpointError(f"{url}: {printable(str(error))}") from error
    except FileNotFoundError:
        raise CheckpointError(f"{url}: not found there") from None
    # Each store has errors of its own: of the network, of credentials, of its client library.
    except Exception as error:
        reason = printable(" ".join(str(error).split()), 200)
        raise CheckpointError(f"{url}: cannot be fetched: {type(error).__name__}{reason and f': {reason}'}") from error
    return copy


def _protocols(store: Any) -> tuple[str, ...]:
    protocol: str | tuple[str, ...] = store.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _temporary(stack: ExitStack) -> Path:
    return stack.enter_context(temporary_folder())
