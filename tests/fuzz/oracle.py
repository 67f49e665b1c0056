"""What must hold of every file, however it was made; anything else is a finding.

A finding is kept once for each place that it comes from, so that a run goes on past it.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import rnndiag
from rnndiag.errors import RnndiagError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rnndiag.checkpoint import Model

SECONDS: Final = 5.0
MIB: Final = 500
"""Beyond what the process had."""

RUNS: Final = (
    "exec", "compile", "import", "marshal.", "pickle.find_class", "code.__new__", "function.__new__", "ctypes.",
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.spawn", "os.posix_spawn", "os.startfile", "os.kill",
    "subprocess.", "pty.", "socket.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.", "sys._get",
)  # fmt: skip
"""Events of Python's audit that nothing in a file may cause."""
WRITES: Final = (
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
    "os.utime", "os.putenv", "os.unsetenv", "os.chdir", "shutil.",
)  # fmt: skip


LIBRARIES: Final = frozenset({"rnndiag", "torch", "numpy", "safetensors", "encodings"})


class BrokenError(AssertionError):
    """An invariant does not hold."""


class Watch:
    """Records what Python's audit says of forbidden acts while a file is read."""

    def __init__(self, allowed: Path) -> None:
        self.seen: list[str] = []
        self.armed = False
        self._allowed = str(allowed)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            )
            if writes and not self._inside(path):
                self.seen.append(f"open for writing: {path!r}")
        elif event.startswith(RUNS) and not _harmless(event, arguments):
            self.seen.append(f"{event}: {str(arguments)[:200]}")
        elif event.startswith(WRITES) and not self._inside(arguments[0]):
            self.seen.append(f"{event}: {arguments[0]!r}")

    def _inside(self, path: object) -> bool:
        if isinstance(path, os.PathLike):
            path = os.fspath(path)
        # rmtree names what it removes relative to a folder that it opened.
        if isinstance(path, int) or path == os.devnull:
            return True
        return isinstance(path, str) and ("/" not in path or path.startswith(self._allowed))


def _harmless(event: str, arguments: tuple[Any, ...]) -> bool:
    """The parsers' own process or its end, a literal parsed and not run, a library's module on its first use."""
    match event:
        case "subprocess.Popen":
            return arguments[1][1:4] == ["-P", "-m", "rnndiag.parsers.worker"]
        case "os.kill":
            return arguments[1] == signal.SIGKILL
        case "compile":
            return arguments[1] == "<unknown>" or _is_installed(arguments[1])
        case "exec":
            return _is_installed(arguments[0].co_filename)
        case "import":
            return arguments[0].partition(".")[0] in LIBRARIES
    return False


def _is_installed(file: object) -> bool:
    return isinstance(file, str) and file.startswith((sys.prefix, sys.base_prefix, rnndiag.__path__[0]))


class Oracle:
    """Judges a target's run on one input.

    Args:
        target: gets the input and an empty folder for its files.
        folder: for these files; temporary ones go to its sibling ``temporary``.
        watch: None: acts are not watched.
    """

    def __init__(self, target: Callable[[bytes, Path], None], folder: Path, watch: Watch | None) -> None:
        self._target = target
        self._folder = folder
        self._watch = watch
        self.slowest = 0.0
        self.findings: dict[str, bytes] = {}
        """By what went wrong and where, the first input that did it."""

    def judge(self, data: bytes) -> str:
        """What is wrong with how the target took the input; empty if nothing."""
        started = time.process_time()
        if self._watch:
            self._watch.seen.clear()
            self._watch.armed = True
        try:
            self._target(data, self._folder)
            problem = ""
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            problem = _signature(error)
        finally:
            if self._watch:
                self._watch.armed = False
        seconds = time.process_time() - started
        self.slowest = max(self.slowest, seconds)
        if self._watch and self._watch.seen:
            problem = f"act {self._watch.seen[0]}"
        elif seconds > SECONDS:
            problem = problem or f"{seconds:.1f} s"
        left = os.listdir(self._folder.with_name("temporary"))  # noqa: PTH208  # in a hot loop
        if left:
            problem = f"left behind: {left[0]}"
        if problem:
            self.findings.setdefault(problem.partition(": ")[0], data)
        return problem


def _signature(error: BaseException) -> str:
    """The exception, and the innermost line of the package that it passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "rnndiag" in frame.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, BrokenError):
        return str(error)
    return f"{type(error).__name__} in {where}: {' '.join(str(error).split())[:80]}"


def hold(condition: object, problem: str) -> None:
    """Raise ``BrokenError`` unless the condition is true."""
    if not condition:
        raise BrokenError(problem)


def examine(read: Callable[[], Any], begins: str) -> None:
    """A model comes of it, every word of it fit to print, or a refusal in one line that begins as it should."""
    try:
        model = read()
    except RnndiagError as error:
        text = str(error)
        hold(text.startswith(begins), f"message begins otherwise: {text[:80]!r}")
        hold(text.isprintable(), f"message is not one printable line: {text[:200]!r}")
        hold(len(text) < 2000, f"message of {len(text)} characters")
        return
    if model is not None:
        check_words(model)


def check_words(model: Model) -> None:
    """All that is shown of a model is fit to print."""
    words = [*model.notes]
    for skipped in model.source.skipped:
        words += [skipped.name, skipped.reason]
    for stack in model.stacks:
        words += [stack.name, *(layer.name for layer in stack.layers)]
    for word in words:
        hold(word.isprintable(), f"text is not printable: {word[:100]!r}")
        hold(len(word) < 4000, f"text of {len(word)} characters: {word[:60]}")


def memory() -> float:
    """The peak of what the process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
