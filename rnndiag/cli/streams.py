"""The output streams of the process: the one place that writes to stdout and stderr.

No text that is written here contains control characters, text-direction marks or commands for CI systems
(``rnndiag.printable``). The exit code depends on the work, not on the state of the streams: if the reader of a stream
has gone, or if the stream is full or closed, further text is dropped without an error.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from rnndiag.files.atomic import write_all
from rnndiag.printable import escaped, json_escaped, log_text, message_line, without_commands

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    from rnndiag.renderers.registry import Syntax

FILE_WIDTH = 100
"""Columns of a table in a file, which has no width of its own."""

SIZE_LIMITS = {"COLUMNS": (20, 1000), "LINES": (5, 1000), "TERMINAL_WIDTH": (20, 1000)}
"""Environment variables from which rich and typer read the terminal's size, each with the smallest and largest size."""


class LastingStream(io.RawIOBase):
    """A stream that can always be written to: text for an unusable stream is dropped.

    Otherwise the interpreter ends with code 120 and a traceback when it flushes such a stream at exit.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream  # keeps the stream alive: without a reference it would close the descriptor
        self._raw: Any = getattr(stream.buffer, "raw", stream.buffer)
        self.name = self._raw.name
        self.failure: OSError | None = None
        """why nothing is written any more"""

    @property
    def reader_gone(self) -> bool:
        """Whether the process that read from this pipe, such as ``head``, has closed it."""
        return isinstance(self.failure, BrokenPipeError)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def write(self, data: Any, /) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest and self.failure is None:
            try:
                written = self._raw.write(rest)
            except OSError as error:
                self.failure = error
                break
            if written is None:  # a pipe that does not block, and is full
                select.select([], [self.fileno()], [])
            else:
                rest = rest[written:]
        return size


class LogStream(io.TextIOWrapper):
    """Stderr: text for a log, whoever writes it (this package, a library's warning, a traceback)."""

    unfiltered: TextIO
    """the same stream, for text that is already safe to print and for control codes of a progress bar"""

    def write(self, text: str, /) -> int:
        super().write(log_text(text))
        return len(text)


def protect() -> None:
    """Make stdout and stderr of this process outlast their readers, and let only text for a log through to stderr."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name) or open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        if not isinstance(stream, io.TextIOWrapper):
            continue
        raw = LastingStream(stream)
        # A terminal without UTF-8 gets "?", not a traceback.
        how: dict[str, Any] = {"encoding": stream.encoding, "errors": "replace"}
        how |= {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
        lasting: io.TextIOWrapper = io.TextIOWrapper(io.BufferedWriter(raw), **how)
        if name == "stderr":
            log = LogStream(lasting.buffer, **how | {"line_buffering": True})
            log.unfiltered = lasting
            lasting = log
        setattr(sys, name, lasting)


def limit_terminal_size() -> None:
    """Limit the terminal size that the environment states to a range that programs expect."""
    for name, (smallest, largest) in SIZE_LIMITS.items():
        stated = os.environ.get(name)
        if stated is None:
            continue
        if stated.isascii() and stated.isdigit() and int(stated[-20:]) > 0:
            size = largest if len(stated) > 20 else int(stated)
            os.environ[name] = str(min(largest, max(smallest, size)))
        else:
            del os.environ[name]  # rich and typer then ask the terminal itself


def output_failure() -> OSError | None:
    """Why results could not be written to stdout; None if all were, or if their reader closed the pipe."""
    sys.stdout.flush()
    raw = _lasting(sys.stdout)
    return None if raw is None or raw.reader_gone else raw.failure


def is_read() -> bool:
    """Whether somebody still reads stdout."""
    raw = _lasting(sys.stdout)
    return raw is None or raw.failure is None


def say(message: str, kind: str = "") -> None:
    """Write one line to stderr, whatever the message holds."""
    print("rnndiag:", f"{kind + ': ' if kind else ''}{without_commands(message_line(message))}", file=sys.stderr)


def say_lines(text: str) -> None:
    """Write lines to stderr: a traceback."""
    sys.stderr.write(log_text(text))


def print_text(text: str, syntax: Syntax = "text") -> None:
    """Write a text to stdout; characters that the encoding of stdout lacks are escaped as the syntax allows."""
    if syntax == "text":
        text = log_text(text)
    sys.stdout.write(_encodable(text, syntax))


def print_now(line: str) -> None:
    """Write a line of a stream of results to stdout at once."""
    sys.stdout.flush()
    raw = _lasting(sys.stdout)
    if raw is None:  # stdout was replaced by an object in memory
        sys.stdout.write(line)
    else:
        # Python's own buffer drops the rest of a line during which a signal came.
        raw.write(line.encode())


def write_descriptor(descriptor: int, content: bytes) -> None:
    """Write all of some bytes to an open descriptor, after what was printed before.

    Raises:
        OSError: where the system refuses; never for stdout and stderr, which outlast their readers.
    """
    sys.stdout.flush()
    stream = {1: sys.stdout, 2: sys.stderr}.get(descriptor)
    raw = None if stream is None else _lasting(stream)
    if raw is None:
        write_all(descriptor, content)
    else:
        raw.write(content)


def print_table(table: RenderableType, *, quiet: bool = False) -> None:
    """Write a rich table to stdout, at the terminal's width; without color if ``quiet``."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, no_color=True if quiet else None)
    console.width = min(console.width, SIZE_LIMITS["COLUMNS"][1])
    with console.capture() as captured:  # if rich wrote to a broken pipe, rich would end the process
        console.print(SafeToPrint(table), crop=False)  # text that does not wrap is shown completely
    sys.stdout.write(captured.get())


def plain_table(table: RenderableType, width: int = FILE_WIDTH) -> str:
    """The layout of rich as plain text, for a file."""
    from rich.console import Console

    how: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    # The environment describes the terminal, not the file.
    how |= {"force_terminal": False, "color_system": None, "no_color": True, "height": width}
    console = Console(file=io.StringIO(), width=width, **how)
    with console.capture() as captured:
        console.print(SafeToPrint(table), crop=False)
    return captured.get()


def progress_console() -> Console:
    """Where progress bars are drawn: stderr, control codes included. Their texts must be made ``printable`` before."""
    from rich.console import Console, ConsoleRenderable, RenderHook
    from rich.control import Control

    class Filter(RenderHook):
        """Escape the text that other code prints through the bar's console."""

        def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
            return [each if isinstance(each, Control) else SafeToPrint(each) for each in renderables]

    console = Console(file=getattr(sys.stderr, "unfiltered", sys.stderr))
    console.push_render_hook(Filter())
    return console


@contextmanager
def own_code() -> Iterator[None]:
    """Let the user's own code print anything to stderr within the block: its progress bars need control codes."""
    stream = getattr(sys.stderr, "unfiltered", sys.stderr)
    with redirect_stdout(stream), redirect_stderr(stream):
        yield


class SafeToPrint:
    """A renderable whose lines contain no invisible characters and no commands for CI systems.

    When a name wraps, a line can begin anywhere in the name, so lines are checked after the layout.
    """

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """The segments of the renderable, line by line."""
        from rich.segment import Segment

        for line in Segment.split_lines(console.render(self._renderable, options)):
            yield from _safe_line(line)
            yield Segment.line()


def _safe_line(segments: Iterable[Segment]) -> Iterator[Segment]:
    from rich.segment import Segment

    shown = [Segment(escaped(text), style) for text, style, control in segments if not control]
    line = "".join(segment.text for segment in shown)
    if without_commands(line) == line:
        yield from shown
    else:  # its colors are lost with it
        yield Segment(without_commands(line))


def _lasting(stream: TextIO) -> LastingStream | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, LastingStream) else None


def _encodable(text: str, syntax: Syntax) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if codecs.lookup(encoding).name == "utf-8":
        return text
    if syntax == "json":
        return json_escaped(text, ascii_only=True)
    if syntax == "xml":
        return text.encode("ascii", "xmlcharrefreplace").decode("ascii")
    return text
