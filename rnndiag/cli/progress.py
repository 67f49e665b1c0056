"""A progress bar on stderr, for work that takes over a second."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING

from rnndiag.cli.streams import progress_console, say
from rnndiag.printable import printable
from rnndiag.process.cleanup import cleanup_if_ended

if TYPE_CHECKING:
    from rnndiag.diagnose import Progress

PATIENCE = 1.0
"""seconds of work before the bar appears"""

MAX_TITLE = 100
"""characters of a path, and of a layer's name, before the bar"""


@contextmanager
def progress_bar(title: str, *, quiet: bool) -> Iterator[Progress | None]:
    """Yield what a diagnosis reports its progress to; None where nobody would see a bar.

    What the package logs meanwhile (how long it will take, where that is long) goes to stderr too, a line each.
    """
    if quiet:
        yield None
        return
    with _logged():
        if sys.stderr.isatty():
            with _bar(title) as progress:
                yield progress
        else:
            yield None


class _Lines(logging.Handler):
    """A handler that prints one line on stderr per record."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


@contextmanager
def _logged() -> Iterator[None]:
    log, handler = logging.getLogger("rnndiag"), _Lines()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=progress_console(),
        transient=True,
    )
    title = printable(title, MAX_TITLE)
    task = bar.add_task(title, total=None)
    timer = Timer(PATIENCE, bar.start)
    timer.daemon = True
    timer.start()
    try:
        with cleanup_if_ended(_restore_terminal):
            yield lambda name, done, total: bar.update(
                task, description=f"{title}: {printable(name, MAX_TITLE)}", completed=done, total=total
            )
    finally:
        timer.cancel()
        bar.stop()


def _restore_terminal() -> None:
    """Erase the line of the bar and show the cursor, which the bar hides."""
    os.write(sys.stderr.fileno(), b"\r\x1b[2K\x1b[?25h")


@contextmanager
def count_bar(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Yield what counts one more of many models; the bar shows how many a second, and the time left."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Throughput(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.3g} models/s")

    bar = Bar(
        BarColumn(),
        MofNCompleteColumn(),
        Throughput(),
        TimeRemainingColumn(),
        console=progress_console(),
        transient=True,
        redirect_stdout=False,  # results may run through it
    )
    task = bar.add_task("models", total=total)
    with cleanup_if_ended(_restore_terminal), bar:
        yield lambda: bar.advance(task)


@contextmanager
def search_progress(path: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows the number of visited files and folders, on a terminal and after a second."""
    if not sys.stderr.isatty():
        yield lambda visited: None
        return
    with _bar(path) as progress:
        yield lambda visited: progress(f"searching, {visited:,} files and folders", visited, visited)
