"""Where results go: formats, files written whole or not at all, and the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rnndiag.cli.streams import plain_table, print_table, print_text
from rnndiag.errors import OutputError, SettingsError
from rnndiag.renderers import TEXT_FORMATS
from rnndiag.whole_file import replace_whole

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rnndiag.report import Report

FORMATS = ("table", *TEXT_FORMATS)

Table = Callable[[Sequence["Report"]], "RenderableType"]


@dataclass(frozen=True, slots=True)
class Target:
    """A format, and the file it goes to (None: stdout)."""

    format: str
    file: Path | None


def parse_targets(
    formats: Sequence[str],
    output: Path | None,
    inputs: Sequence[str | Path] = (),
    known: Sequence[str] = FORMATS,
) -> tuple[Target, ...]:
    """What ``--format`` and ``--output`` ask for, checked before anything is measured.

    Args:
        formats: each a name, or ``NAME=FILE``.
        output: where a format without a file goes; None: stdout.
        inputs: files that no output may overwrite.
        known: the command's formats.

    Raises:
        SettingsError: for an unknown format, or two formats for one stream.
        OutputError: for a file that cannot be written.
    """
    targets = []
    for text in formats or ("table",):
        name, _, file = text.partition("=")
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"--format {name!r}: expected one of {', '.join(known)}{hint}")
        targets.append(Target(name, Path(file) if file else output))
    files = [target.file for target in targets]
    for destination in files:
        if files.count(destination) > 1:
            where = "stdout" if destination is None else str(destination)
            raise SettingsError(f"--format: two formats for {where}; name a file as --format json=FILE")
        if destination is not None:
            check_writable(destination, inputs)
    return tuple(targets)


def full_table(reports: Sequence[Report], *, verbose: bool) -> RenderableType:
    """The tables and curves of reports; what draws them is imported when it draws."""
    from rnndiag.renderers import table

    return table.render(reports, verbose=verbose)


def check_writable(file: Path, inputs: Iterable[str | Path] = ()) -> None:
    """Find out now what would else be found out after the work.

    Raises:
        OutputError: where the folder is missing or closed, the file is a directory, or it is one of the
            inputs.
    """
    try:
        if file.is_dir():
            raise OutputError(f"{file}: expected a file to write, got a directory")
        if file.exists() and _is_part(file, inputs):
            raise OutputError(f"{file}: is one of the inputs, and would be overwritten; name another file")
        if file.exists() and not file.is_file():
            return  # a pipe or a device is written to as it is
        folder = file.resolve().parent
        if not folder.is_dir():
            raise OutputError(f"{file}: the folder {folder} does not exist; make it first")
        if not os.access(folder, os.W_OK):
            raise OutputError(f"{file}: the folder {folder} is not writable")
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror})") from error


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file whole or not at all.

    A link is followed; a pipe or a device is written to as it is.

    Raises:
        OutputError: where the system refuses; an older file of that name is then untouched.
    """
    data = content if isinstance(content, bytes) else content.encode()
    try:
        if file.exists() and not file.is_file():
            file.write_bytes(data)
            return
        replace_whole(file.resolve(), data)
    except OSError as error:
        raise OutputError(f"{file}: could not be written ({error.strerror})") from error


def print_or_write(format_: str, result: RenderableType, output: Path | None, *, quiet: bool) -> None:
    """Write what a command made, the text of a format or a table, to stdout or into a file."""
    if output is not None:
        write_whole(output, result if isinstance(result, str) else plain_table(result))
    elif isinstance(result, str):
        print_text(result, format_)
    else:
        print_table(result, quiet=quiet)


def emit(
    targets: Sequence[Target],
    reports: Sequence[Report],
    *,
    table: Table,
    several: bool = False,
    quiet: bool = False,
) -> None:
    """Write the reports to each target.

    Args:
        targets: formats and files.
        reports: nothing is written where there is none.
        table: makes what rich prints for people.
        several: whether several models were asked for, however many could be read.
        quiet: no colour.
    """
    if reports:
        text = partial(_text, reports=reports, several=several)
        deliver(targets, text, partial(table, reports), quiet=quiet)


def deliver(
    targets: Sequence[Target], text: Callable[[str], str], table: Callable[[], RenderableType], *, quiet: bool
) -> None:
    """Write a result to each target.

    Args:
        targets: formats and files.
        text: writes a format other than the table.
        table: makes what rich prints for people.
        quiet: no colour.
    """
    for target in targets:
        result = table() if target.format == "table" else text(target.format)
        print_or_write(target.format, result, target.file, quiet=quiet)


def _text(format_: str, *, reports: Sequence[Report], several: bool) -> str:
    if format_ == "json":
        from rnndiag.renderers import json

        return json.render(reports, array=several)
    text: str = import_module(f"rnndiag.renderers.{format_}").render(reports)
    return text


def _is_part(file: Path, inputs: Iterable[str | Path]) -> bool:
    """Whether a file is one of the inputs, or one of the files of a model that is a folder."""
    from stat import S_ISDIR

    # By device and inode, each input looked at once: there may be a million.
    own, *above = (file.stat(), *(folder.stat() for folder in file.resolve().parents))
    folders = {(each.st_dev, each.st_ino) for each in above}
    for each in inputs:
        try:
            told = os.stat(each)  # noqa: PTH116  # a Path of each takes longer than its stat
        except (OSError, ValueError):  # not there, or a URL
            continue
        if os.path.samestat(told, own):
            return True
        if S_ISDIR(told.st_mode) and (told.st_dev, told.st_ino) in folders:
            from rnndiag.checkpoint.formats import is_model

            if is_model(Path(each)):
                return True
    return False
