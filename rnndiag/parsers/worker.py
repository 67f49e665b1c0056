"""``python -m rnndiag.parsers.worker PARENT TASK PATH``: parse or run one file under limits, write the result out.

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
from typing import TYPE_CHECKING, Final

from rnndiag.process.parent import end_with_parent

if TYPE_CHECKING:
    from rnndiag.parsers.origin import OriginRuns
    from rnndiag.parsers.parsed import Parsed

TASKS: Final = {
    "onnx": ("rnndiag.parsers.onnx.model", "parse"),
    "keras": ("rnndiag.parsers.keras.file", "parse"),
    "onnx-run": ("rnndiag.parsers.onnx.runtime", "run"),
    "keras-run": ("rnndiag.parsers.keras.runtime", "run"),
}
"""The module of each task and its function: ``parse(path) -> Parsed``, or ``run(path) -> OriginRuns``."""
RUN_MEMORY: Final = 1 << 30
"""Bytes beyond what the libraries take, for running layers in them."""

MEMORY: Final = 256 << 20
"""Bytes beyond what the libraries take, and beyond three times the file."""
SECONDS: Final = 20.0
"""The computing time in seconds that a file may take, plus one second for each ``RATE`` bytes.

This is over ten times as long as valid files take. On a machine with five processes for each core, a Keras file of 700
recurrent layers took 1.7 s, ONNX with 50,000 nodes 0.2 s, and files of 1.5 GiB in either format 11.5 s (130 MiB a
second)."""
RATE: Final = 10 << 20


def main(parent: str, task: str, name: str) -> int:
    """Parse; the outcome, good or bad, is the output, and the exit code tells only of crashes."""
    end_with_parent(int(parent))
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    path = Path(name)
    try:
        module, function = TASKS[task]
        work: Callable[[Path], Parsed | OriginRuns] = getattr(importlib.import_module(module), function)
    except ImportError as error:
        return _put({"missing": error.name or str(error)})
    from rnndiag.parsers.limits import allow, restrict
    from rnndiag.parsers.parsed import DataError, RefusedError

    size = path.stat().st_size
    restrict((RUN_MEMORY if task.endswith("-run") else MEMORY) + 3 * size, seconds(size))
    try:
        parsed = work(path)
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
