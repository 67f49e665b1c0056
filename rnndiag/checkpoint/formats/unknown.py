"""What a file seems to be that no reader accepts, for a message that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.formats.unread import unread_format
from rnndiag.files.text import listing
from rnndiag.printable import printable

if TYPE_CHECKING:
    from rnndiag.checkpoint.formats.base import Candidate

_MAGIC: Final = (
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "compressed by gzip: decompress it first"),
    (b"BZh", "compressed by bzip2: decompress it first"),
    (b"\xfd7zXZ\x00", "compressed by xz: decompress it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: decompress it first"),
    (b"\x04\x22\x4d\x18", "compressed by lz4: decompress it first"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with git lfs pull"),
    (b"<", "an HTML or XML page, perhaps of a download that failed"),
)


def describe(candidate: Candidate) -> str:
    """Say what a file or folder that no reader accepts seems to be, and what to do if that helps."""
    head, size = candidate.head, candidate.size
    unread = unread_format(candidate)
    if unread is not None:
        return unread.refusal
    if candidate.is_folder or candidate.members:
        kind = "a folder" if candidate.is_folder else "a zip archive"
        held = listing([printable(name, 60) for name in sorted(candidate.names)], 4)
        return f"{kind} in which no model was recognised (it holds {held or 'nothing'})"
    if not size:
        return "an empty file"
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what
    if head[257:262] == b"ustar":
        return "a tar archive, which is not read here: unpack it first"
    if _is_text(head):
        return "a text file"
    return "of no known format"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        text = head[: error.start].decode()
        if len(head) - error.start > 3:  # more than one character cut in two
            return False
    return all(character.isprintable() or character.isspace() for character in text)
