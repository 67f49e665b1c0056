"""Where results go: formats, files and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rnndiag.cli.destinations import Destination, acknowledge, is_stdout, same_file, write
from rnndiag.cli.streams import plain_table, print_table, print_text
from rnndiag.errors import OutputError, SettingsError
from rnndiag.renderers.registry import REPORTS, SEVERAL_REPORTS, TextFormat

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rnndiag.report import Report

STREAMED = "jsonl"
"""The format whose lines are written as models finish."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Target:
    """A format, and the file it goes to (None: stdout)."""

    format: str
    file: Path | None
    option: str = "--format"
    """the option that names the file"""

    @property
    def destination(self) -> Destination:
        """The file of a target that has one."""
        assert self.file is not None  # the caller has looked
        return Destination(self.file, self.option)


@dataclass(frozen=True, slots=True)
class Outputs:
    """The checked ``OutputOptions``: each format that is wanted, and the file it goes to."""

    targets: tuple[Target, ...]
    force: bool
    quiet: bool

    @property
    def without_stdout(self) -> bool:
        """Whether no format goes to stdout."""
        return _without_stdout(self.targets)

    def deliver_reports(
        self,
        reports: Sequence[Report],
        table: Callable[[Sequence[Report]], RenderableType],
        *,
        several: bool = False,
        brief: Callable[[], None] | None = None,
        also: Sequence[Path] = (),
    ) -> None:
        """Write reports to each target.

        Args:
            reports: nothing is written if there is none.
            table: makes what rich prints for people.
            several: whether several models were asked for, however many could be read.
            brief: as for ``deliver``.
            also: as for ``deliver``.

        Raises:
            OutputError: as ``deliver``.
        """
        outputs = self if reports else replace(self, targets=())
        outputs.deliver(reports, SEVERAL_REPORTS if several else REPORTS, table, brief=brief, also=also)

    def deliver(
        self,
        result: Result,
        formats: Mapping[str, TextFormat[Result]],
        table: Callable[[Result], RenderableType],
        *,
        brief: Callable[[], None] | None = None,
        also: Sequence[Path] = (),
    ) -> None:
        """Write a result to each target, files first, so that a closed pipe or a full disk affects no other target.

        Args:
            result: the result of the command.
            formats: the formats of the result besides the table.
            table: makes what rich prints for people.
            brief: prints a short text where no format goes to stdout; None: nothing.
            also: other files that were written.

        Raises:
            OutputError: for the first file that could not be written, after all others were.
        """
        failed: list[OutputError] = []
        written: list[Path] = []
        for target in self.targets:
            if target.file is not None:
                is_table = target.format == "table"
                content = plain_table(table(result)) if is_table else formats[target.format].render(result)
                try:
                    write(target.destination, content.encode(), force=self.force)
                except OutputError as error:
                    failed.append(error)
                else:
                    written.append(target.file)
        for target in self.targets:
            if target.file is None and target.format == "table":
                print_table(table(result), quiet=self.quiet)
            elif target.file is None:
                text_format = formats[target.format]
                print_text(text_format.render(result), text_format.syntax)
        if brief is not None:
            brief()
        acknowledge([*written, *also], quiet=self.quiet)
        if failed:
            raise failed[0]


def parse_targets(formats: Sequence[str], output: Path | None, known: Sequence[str]) -> tuple[Target, ...]:
    """What ``--format`` and ``--output`` ask for.

    If every format has its own file, the text report is a target too: it stays on stdout, or goes to the file of
    ``--output``. There are three exceptions: ``table=FILE``, which says where the text goes; a format whose file is
    stdout; and JSON lines alone, because nobody reads a text about that many models.

    Args:
        formats: each a name, or ``NAME=FILE``.
        output: where a format without a file goes; None: stdout.
        known: the command's formats.

    Raises:
        SettingsError: for an unknown format, an empty file name, or two formats for one stream.
    """
    targets = []
    for text in formats or ("table",):
        name, equals, file = text.partition("=")
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"--format {name!r}: expected one of {', '.join(known)}{hint}")
        if equals and not file:
            raise SettingsError(f"--format {text}: expected a file name after =, or {name} alone for stdout")
        targets.append(Target(name, Path(file), f"--format {name}") if file else Target(name, output, "--output"))
    if formats and all(target.option != "--output" for target in targets):
        named = {target.format for target in targets}
        if output is not None or (named != {STREAMED} and "table" not in named and _without_stdout(targets)):
            targets.append(Target("table", output, "--output"))
    for index, target in enumerate(targets):
        if any(_same(target.file, other.file) for other in targets[:index]):
            where = "stdout" if target.file is None else str(target.file)
            raise SettingsError(f"--format: two formats for {where}; name a file as --format json=FILE")
    return tuple(targets)


def destinations(targets: Sequence[Target], *, resume: bool = False) -> list[Destination]:
    """The files of the targets; with ``resume`` the file of JSON lines is continued."""
    return [
        replace(target.destination, kind="continued") if resume and target.format == STREAMED else target.destination
        for target in targets
        if target.file is not None
    ]


def full_table(reports: Sequence[Report], *, verbose: bool) -> RenderableType:
    """The tables and curves of reports; the code that draws them is imported only when it is used."""
    from rnndiag.renderers import table

    return table.render(reports, verbose=verbose)


def _without_stdout(targets: Sequence[Target]) -> bool:
    return not any(target.file is None or is_stdout(target.file) for target in targets)


def _same(one: Path | None, other: Path | None) -> bool:
    return one == other if one is None or other is None else same_file(one, other)
