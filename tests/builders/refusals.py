"""What every refusal of a file must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnndiag.printable import message_line

if TYPE_CHECKING:
    from pathlib import Path

    from rnndiag.errors import CheckpointError


def clean_line(error: CheckpointError, path: Path) -> str:
    """The message of a refusal, which is one printable line of limited length that names the file."""
    text = str(error)
    assert text.startswith(message_line(f"{path}:") + " ")
    assert text.isprintable()
    assert len(text) < 2000
    return text
