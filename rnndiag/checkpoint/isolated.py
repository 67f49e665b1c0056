"""Files that a parser of ``rnndiag.parsers`` reads in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from rnndiag.checkpoint.contents import Container, Contents, ModuleFacts, Path
from rnndiag.checkpoint.model import Skipped
from rnndiag.checkpoint.text import printable
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    import pathlib

SECONDS: Final = 4.0
"""For a parser to finish, and a second more for each ``RATE`` bytes."""
RATE: Final = 50 << 20


def parse(format_: str, path: pathlib.Path, *, extra: str) -> Contents:
    """Parse a file in a process of its own; a crash, a hang or a lack of memory there is a refusal here.

    Args:
        format_: one of ``rnndiag.parsers.worker.PARSERS``.
        path: the file.
        extra: what brings the parser's libraries: ``pip install 'rnndiag[extra]'``.

    Raises:
        CheckpointError: with one line.
    """
    size = path.stat().st_size
    output = _run(format_, path, SECONDS + size / RATE)
    line, _, data = output.partition(b"\n")
    header: dict[str, Any] = json.loads(line)
    if "missing" in header:
        raise CheckpointError(
            f"{path}: reading this format takes {header['missing']}, which is not installed:"
            f" pip install 'rnndiag[{extra}]'"
        )
    if "refused" in header:
        raise CheckpointError(f"{path}: {printable(header['refused'], 500)}")
    # Not at the top: files of other formats do without it.
    from safetensors.torch import load

    loaded = load(data)
    tensors = {name: loaded[name] for name in header["order"]}
    facts = {name: ModuleFacts(**told) for name, told in header["facts"].items()}
    return Contents(
        sum(tensor.nbytes for tensor in tensors.values()),
        (Container(Path(), tensors, facts),),
        tuple(Skipped(printable(name), printable(reason)) for name, reason in header["skipped"]),
        notes=tuple(printable(note) for note in header["notes"]),
    )


def _run(format_: str, path: pathlib.Path, seconds: float) -> bytes:
    # One thread: a pool's stacks count against the limit of memory.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "rnndiag.parsers.worker", format_, str(path.absolute())]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise CheckpointError(
            f"{path}: it took longer than {seconds:.0f} s to parse, more than any sound file"
        ) from None
    if done.returncode or not done.stdout:
        raise CheckpointError(f"{path}: its parser crashed on it (exit status {done.returncode}): copy it again")
    return done.stdout
