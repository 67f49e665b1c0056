"""Files that a parser of ``rnndiag.parsers`` reads in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec
import torch

from rnndiag.checkpoint.contents import Container, Contents, KeyPath, in_memory
from rnndiag.checkpoint.model import Skipped
from rnndiag.errors import CheckpointError, NotAModelError
from rnndiag.parsers import worker
from rnndiag.parsers.origin import OriginRuns
from rnndiag.parsers.parsed import Convention
from rnndiag.printable import printable
from rnndiag.process.cleanup import cleanup

if TYPE_CHECKING:
    import pathlib

MAX_WAIT: Final = 20
"""The wall-clock limit of a parser, as a multiple of its computing time. Other processes may use its core most of the
time, even while it imports its libraries. Only a parser that hangs without computing reaches this limit."""


def parse(format_: str, path: pathlib.Path, *, extra: str) -> Contents:
    """Parse a file in a process of its own; a crash, a hang or a lack of memory there is a refusal here.

    Args:
        format_: one of ``rnndiag.parsers.worker.TASKS``.
        path: the file.
        extra: what brings the parser's libraries: ``pip install 'rnndiag[extra]'``.

    Raises:
        NotAModelError: the file holds data.
        CheckpointError: with one line.
    """
    size = path.stat().st_size
    output = _run(format_, path, worker.seconds(size))
    line, _, data = output.partition(b"\n")
    header: dict[str, Any] = json.loads(line)
    if "missing" in header:
        raise CheckpointError(
            f"{path}: reading this format takes {header['missing']}, which is not installed:"
            f" pip install 'rnndiag[{extra}]'"
        )
    if "data" in header:
        reason = printable(header["data"], 500)
        raise NotAModelError(str(path), reason.partition(":")[0], message=reason, is_doubtful=True)
    if "refused" in header:
        raise CheckpointError(f"{path}: {printable(header['refused'], 500)}")
    # Not at the top: files of other formats do without it.
    from safetensors.torch import load

    held = load(data)
    tensors = {
        name: held[name].view(torch.bfloat16) if dtype == "bfloat16" else held[name]
        for name, dtype in header["dtypes"].items()
    }
    conventions = {name: msgspec.convert(stored, Convention) for name, stored in header["conventions"].items()}
    chains = tuple(tuple(names) for names in header["chains"])
    leaves = {name: in_memory(tensor) for name, tensor in tensors.items()}
    return Contents(
        sum(tensor.nbytes for tensor in tensors.values()),
        (Container(KeyPath(), leaves, conventions=conventions, chains=chains),),
        tuple(Skipped(printable(name), printable(reason), lost) for name, reason, lost in header["skipped"]),
        notes=tuple(printable(note) for note in header["notes"]),
        framework=header["framework"],
    )


def origin_runs(format_: str, path: pathlib.Path, *, package: str) -> OriginRuns:
    """Run the recurrent layers of a file in its own library, in a process of its own.

    Args:
        format_: ``onnx`` or ``keras``.
        path: the file.
        package: the library, as ``pip install`` takes it.

    Raises:
        CheckpointError: with one line.
    """
    # Not at the top: other files do without it.
    from safetensors.numpy import load

    output = _run(f"{format_}-run", path, worker.seconds(path.stat().st_size))
    line, _, data = output.partition(b"\n")
    header: dict[str, Any] = json.loads(line)
    if "missing" in header:
        raise CheckpointError(
            f"{path}: --verify takes {header['missing']}, which is not installed: pip install {package}, or leave out "
            "--verify"
        )
    if refused := header.get("refused", header.get("data")):
        raise CheckpointError(f"{path}: {printable(refused, 500)}")
    return OriginRuns.decode(header, load(data))


def _run(format_: str, path: pathlib.Path, seconds: float) -> bytes:
    # One thread: a pool's stacks count against the limit of memory. "::": an HDF5 file may name filters, which
    # are code; libhdf5 is to look for none.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = os.environ | threads | {"HDF5_PLUGIN_PRELOAD": "::"}
    arguments = [str(os.getpid()), format_, str(path.absolute())]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "rnndiag.parsers.worker", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C in a terminal reaches only this process, which then ends the parser
    )
    # The parser ends when its stdin is closed; communicate() would close it at once.
    stdin, process.stdin = process.stdin, None
    assert stdin is not None
    with process, stdin, cleanup(process.kill):
        try:
            output, _ = process.communicate(timeout=MAX_WAIT * seconds)
            ran_out = -process.returncode == getattr(signal, "SIGXCPU", None)  # Windows has no such signal
        except subprocess.TimeoutExpired:
            ran_out = True
    if ran_out:
        raise CheckpointError(f"{path}: it took longer than {seconds:.0f} s to parse, more than any sound file")
    if process.returncode or not output:
        raise CheckpointError(
            f"{path}: the parser crashed on this file (exit status {process.returncode}); copy it again"
        )
    return output
