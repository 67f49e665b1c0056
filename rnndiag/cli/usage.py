"""One line for a command line that cannot be parsed."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

_UNKNOWN = re.compile(r"No such command '(.*)'\.$")


def usage_message(error: typer.TyperException) -> str:
    """What is wrong, and which ``--help`` lists what is possible."""
    text = " ".join(error.format_message().split()).replace(": Value error, ", ": ").removesuffix(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "rnndiag"
    unknown = _UNKNOWN.match(f"{text}.")
    if unknown and os.path.exists(unknown[1]):  # noqa: PTH110  # Path.exists raises an error for a name that is too long
        text += f"; to measure this file, run rnndiag inspect {shlex.quote(unknown[1])}"
    listed = "the commands and options" if command == "rnndiag" else "its options"
    return f"{text} ({command} --help lists {listed})"
