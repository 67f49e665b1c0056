"""Where results go: formats, files and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rnndiag.cli.destinations import Destination, acknowledge, is_stdout, same_file, write
from rnndiag.cli.streams import plain_table, print_table, print_text
from rnndiag.errors import OutputError, SettingsError
from rnndiag.renderers import TEXT_FORMATS

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rnndiag.report import Report

FORMATS = ("table", *TEXT_FORMATS)
STREAMED = "jsonl"

Table = Callable[[Sequence["Report"]], "RenderableType"]


@dataclass(frozen=True, slots=True)
class Target:
    """A format, and the file it goes to (None: stdout)."""

    format: str
    file: Path | None
    option: str = "--format"
    """that names the file"""


def parse_targets(formats: Sequence[str], output: Path | None, known: Sequence[str] = FORMATS) -> tuple[Target, ...]:
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
        if output is not None or (named != {STREAMED} and "table" not in named and without_stdout(targets)):
            targets.append(Target("table", output, "--output"))
    for index, target in enumerate(targets):
        if any(_same(target.file, other.file) for other in targets[:index]):
            where = "stdout" if target.file is None else str(target.file)
            raise SettingsError(f"--format: two formats for {where}; name a file as --format json=FILE")
    return tuple(targets)


def without_stdout(targets: Sequence[Target]) -> bool:
    """Whether no format goes to stdout."""
    return not any(target.file is None or is_stdout(target.file) for target in targets)


def destinations(targets: Sequence[Target], *, resume: bool = False) -> list[Destination]:
    """The files of the targets; with ``resume`` the file of JSON lines is continued."""
    return [_destination(target, resume=resume) for target in targets if target.file is not None]


def _destination(target: Target, *, resume: bool = False) -> Destination:
    assert target.file is not None  # the caller has looked
    return Destination(target.file, target.option, "continued" if resume and target.format == STREAMED else "report")


def _same(one: Path | None, other: Path | None) -> bool:
    return one == other if one is None or other is None else same_file(one, other)


def full_table(reports: Sequence[Report], *, verbose: bool) -> RenderableType:
    """The tables and curves of reports; the code that draws them is imported only when it is used."""
    from rnndiag.renderers import table

    return table.render(reports, verbose=verbose)


def emit(
    targets: Sequence[Target],
    reports: Sequence[Report],
    *,
    table: Table,
    several: bool = False,
    brief: Callable[[], None] | None = None,
    also: Sequence[Path] = (),
    force: bool = False,
    quiet: bool = False,
) -> None:
    """Write the reports to each target.

    Args:
        targets: formats and files.
        reports: nothing is written where there is none.
        table: makes what rich prints for people.
        several: whether several models were asked for, however many could be read.
        brief: as for ``deliver``.
        also: as for ``deliver``.
        force: ``--force``.
        quiet: no color, and no lines about written files.
    """
    text = partial(_text, reports=reports, several=several)
    shown = targets if reports else ()
    deliver(shown, text, partial(table, reports), brief=brief, also=also, force=force, quiet=quiet)


def deliver(
    targets: Sequence[Target],
    text: Callable[[str], str],
    table: Callable[[], RenderableType],
    *,
    brief: Callable[[], None] | None = None,
    also: Sequence[Path] = (),
    force: bool,
    quiet: bool,
) -> None:
    """Write a result to each target, files first, so that a closed pipe or a full disk affects no other target.

    Args:
        targets: formats and files.
        text: writes a format other than the table.
        table: makes what rich prints for people.
        brief: prints a short text where no format goes to stdout; None: nothing.
        also: other files that were written.
        force: ``--force``.
        quiet: no color, and no lines about written files.

    Raises:
        OutputError: for the first file that could not be written, after all others were.
    """
    failed: list[OutputError] = []
    written: list[Path] = []
    for target in targets:
        if target.file is not None:
            content = plain_table(table()) if target.format == "table" else text(target.format)
            try:
                write(_destination(target), content.encode(), force=force)
            except OutputError as error:
                failed.append(error)
            else:
                written.append(target.file)
    for target in targets:
        if target.file is None and target.format == "table":
            print_table(table(), quiet=quiet)
        elif target.file is None:
            print_text(text(target.format), target.format)
    if brief is not None:
        brief()
    acknowledge([*written, *also], quiet=quiet)
    if failed:
        raise failed[0]


def _text(format_: str, *, reports: Sequence[Report], several: bool) -> str:
    if format_ == "json":
        from rnndiag.renderers import json

        return json.render(reports, array=several)
    text: str = import_module(f"rnndiag.renderers.{format_}").render(reports)
    return text
