"""``python -m rnndiag.parsers.worker PARENT FORMAT PATH``: parse one file under limits, write the result to stdout.

It ends with its parent process, whose id is ``PARENT``, or when its stdin is closed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rnndiag.process.parent import end_with_parent

PARSERS: Final = {"onnx": "rnndiag.parsers.onnx.model", "keras": "rnndiag.parsers.keras.file"}
"""The module of each format, with a function ``parse(path) -> Parsed``."""

MEMORY: Final = 256 << 20
"""Bytes beyond what the libraries take, and beyond three times the file."""
SECONDS: Final = 20.0
"""The computing time in seconds that a file may take, plus one second for each ``RATE`` bytes.

This is over ten times as long as valid files take. On a machine with five processes for each core, a Keras file of 700
recurrent layers took 1.7 s, ONNX with 50,000 nodes 0.2 s, and files of 1.5 GiB in either format 11.5 s (130 MiB a
second)."""
RATE: Final = 10 << 20


def main(parent: str, format_: str, name: str) -> int:
    """Parse; the outcome, good or bad, is the output, and the exit code tells only of crashes."""
    end_with_parent(int(parent))
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    path = Path(name)
    try:
        parse: Callable[..., object] = importlib.import_module(PARSERS[format_]).parse
    except ImportError as error:
        return _put({"missing": error.name or str(error)})
    from rnndiag.parsers.limits import allow, restrict
    from rnndiag.parsers.parsed import DataError, Parsed, RefusedError

    size = path.stat().st_size
    restrict(MEMORY + 3 * size, seconds(size))
    try:
        parsed = parse(path)
        assert isinstance(parsed, Parsed)
        gc.collect()  # what the parser held of the file
        allow(3 * sum(array.nbytes for array in parsed.tensors.values()))
        encoded = parsed.encode()
    except DataError as error:
        return _put({"data": str(error)})
    except RefusedError as error:
        return _put({"refused": str(error)})
    except MemoryError:
        return _put({"refused": "it takes more memory than any sound file of its size"})
    # Damage shows up as almost any exception of the libraries.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return _put({"refused": f"damaged or made by other means ({reason[:200]}): copy it again or save it again"})
    sys.stdout.buffer.writelines(encoded)
    return 0


def _end_with_stdin() -> None:
    """End this process when the other end of stdin is closed, on systems where ``end_with_parent`` does nothing."""
    os.read(0, 1)
    os._exit(1)


def seconds(size: int) -> float:
    """How long a file of ``size`` bytes may take to parse."""
    return SECONDS + size / RATE


def _put(outcome: dict[str, str]) -> int:
    sys.stdout.buffer.write(json.dumps(outcome).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
