"""Where models are measured, and where results go as they finish."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rnndiag.cli.streams import print_now

if TYPE_CHECKING:
    from rnndiag.cli.output import Target


@dataclass(frozen=True, slots=True)
class Fleet:
    """The checked ``FleetOptions``, and the targets of the results."""

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
        """Yield a function that writes a line of the stream; None where there is no stream.

        Raises:
            SettingsError: for a file to continue that is not of rnndiag, or that was measured under other conditions.
            OutputError: where the system refuses.
        """
        if self.stream is None:
            yield None
        elif self.stream.file is None:
            yield print_now
        else:
            from rnndiag.fleet.lines import appending, prepare_to_continue

            if self.resume:
                prepare_to_continue(self.stream.file, conditions)
            with appending(self.stream.file, fresh=not self.resume) as append:
                yield append
