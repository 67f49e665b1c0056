"""``--workers``, ``--scheduler``, ``--cache``, ``--resume``: what is asked for, and whether it goes together."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rnndiag.cli.output import STREAMED
from rnndiag.cli.streams import print_now
from rnndiag.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from rnndiag.cli.output import Target

MOST_ON_WINDOWS = 61
"""Processes that a pool can wait for there."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many models are measured."""

    workers: int = 1
    scheduler: str | None = None
    cache: Path | None = None
    resume: bool = False
    stream: Target | None = None
    """where results go as they finish"""
    rest: tuple[Target, ...] = ()
    """the other formats, which want all results"""

    @property
    def keeps(self) -> bool:
        """Whether reports are wanted when all are measured; else memory need not grow with them."""
        return self.stream is None or bool(self.rest)

    @property
    def at_terminal(self) -> bool:
        """Whether lines run over the terminal, where a bar would be in their way."""
        return self.stream is not None and self.stream.file is None and sys.stdout.isatty()

    @property
    def only_stream(self) -> bool:
        """Whether results go to a file as they finish, and nowhere else."""
        return self.stream is not None and self.stream.file is not None and not self.rest

    @property
    def streamed_files(self) -> tuple[Path, ...]:
        """The file that results go to as they finish, if there is one."""
        return () if self.stream is None or self.stream.file is None else (self.stream.file,)

    @contextmanager
    def lines(self, conditions: str) -> Iterator[Callable[[str], None] | None]:
        """Yield what takes a line of the stream; None where there is no stream.

        Raises:
            SettingsError: for a file to go on with that is of something else, or of other conditions.
            OutputError: where the system refuses.
        """
        if self.stream is None:
            yield None
        elif self.stream.file is None:
            yield print_now
        else:
            from rnndiag.fleet.lines import appending, take_up

            if self.resume:
                take_up(self.stream.file, conditions)
            with appending(self.stream.file, fresh=not self.resume) as append:
                yield append


def settle(
    workers: int | None,
    scheduler: str | None,
    cache: Path | None,
    *,
    resume: bool,
    imported: str | None,
    targets: Sequence[Target],
) -> Fleet:
    """Check the options against one another; makes the folder of ``--cache``.

    Raises:
        SettingsError: for options that do not go together.
        OutputError: for a cache that cannot be written.
    """
    if workers is not None and workers < 1:
        raise SettingsError(f"--workers: expected at least 1 process, got {workers}")
    if sys.platform == "win32" and workers is not None and workers > MOST_ON_WINDOWS:
        raise SettingsError(f"--workers: expected at most {MOST_ON_WINDOWS} processes on Windows, got {workers}")
    if workers is not None and scheduler is not None:
        raise SettingsError("--workers and --scheduler: the scheduler has workers of its own; leave out one of them")
    streams = [target for target in targets if target.format == STREAMED]
    if len(streams) > 1:
        raise SettingsError("--format jsonl: expected once")
    stream = streams[0] if streams else None
    if resume and (stream is None or stream.file is None):
        raise SettingsError("--resume: expected --format jsonl=FILE beside it, the file of results to go on with")
    if imported is not None:
        given = {"--workers": workers, "--scheduler": scheduler, "--cache": cache, "--resume": resume or None}
        beside = [name for name, value in given.items() if value is not None]
        if beside:
            raise SettingsError(f"{beside[0]} with --import: your own code runs here alone; leave out {beside[0]}")
    if cache is not None:
        _make(cache)
    rest = tuple(target for target in targets if target is not stream)
    return Fleet(workers or 1, scheduler, cache, resume, stream, rest)


def _make(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--cache {cache}: expected a folder, or a place for one ({error.strerror})") from error
    if not os.access(cache, os.W_OK):
        raise OutputError(f"--cache {cache}: the folder is not writable")
