"""A cache of reports by file content: a file that has not changed is not measured again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from rnndiag.errors import OutputError
from rnndiag.files.atomic import replace_whole
from rnndiag.files.digest import sha256_of
from rnndiag.files.side_files import MAX_REPORTS_BYTES, read_bytes
from rnndiag.parsers.keras.side import has_neighbor
from rnndiag.report import Report, from_json, to_json

SINGLE_FILE_FORMATS = frozenset(
    {
        "torch",
        "torch-legacy",
        "torchscript",
        "torch-export",
        "safetensors",
        "npz",
        "npy",
        "keras",
        "keras-h5",
        "pickle",
        "msgpack",
    }
)
"""Formats whose one file is the whole model. ONNX may store its weights in another file, and an index names shards."""

ARCHIVES = ("zip", "tar")


def cached_report(folder: Path, path: str, measure: Callable[[], Report]) -> Report:
    """The report that is cached for the content of a file; if there is no entry, the file is measured and cached.

    Reports of regular files in ``SINGLE_FILE_FORMATS`` and of archives are cached. If an entry is not a regular file,
    is larger than ``MAX_REPORTS_BYTES``, or is not a report of rnndiag, the file is measured and cached again. Weights
    of Keras next to a configuration are not cached, because their report depends on both files.

    Args:
        folder: the folder of the reports that were measured under the same conditions.
        path: the path of the model.
        measure: measures the model and returns its report.

    Raises:
        OutputError: the report cannot be written to the cache.
        RnndiagError: any error of ``measure``.
    """
    content = _content(path)
    cached = _read(folder, content)
    if cached is not None:
        return replace(cached, source=replace(cached.source, path=path))
    report = measure()
    source = report.source
    if (
        content
        and source.sha256
        and (source.format in SINGLE_FILE_FORMATS or source.format.partition("/")[0] in ARCHIVES)
    ):
        # The digest of what was measured, because the file may have changed since the cache was read.
        _write(_entry(folder, source.sha256), to_json(report))
    return report


def _content(path: str) -> str:
    """The digest of a regular file that is the whole model; empty for anything else, and for a missing file."""
    try:
        return sha256_of(Path(path)) if Path(path).is_file() and not has_neighbor(Path(path)) else ""
    except OSError:
        return ""


def _entry(folder: Path, content: str) -> Path:
    # In folders of two digits: a folder of a million files is slow to list.
    return folder / content[:2] / f"{content}.json"


def _read(folder: Path, content: str) -> Report | None:
    if not content:
        return None
    try:
        report = from_json(read_bytes(_entry(folder, content), MAX_REPORTS_BYTES, OutputError))
    except (OutputError, msgspec.MsgspecError):
        return None
    return report if report.source.sha256 == content else None


def _write(entry: Path, text: bytes) -> None:
    if len(text) > MAX_REPORTS_BYTES:  # such an entry would not be read
        return
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        if entry.is_dir() and not entry.is_symlink():  # a file cannot replace a folder
            shutil.rmtree(entry)
        replace_whole(entry, text)  # whole, even if several processes write it
    except OSError as error:
        raise OutputError(f"--cache: {entry.parent} could not be written ({error.strerror}); name another") from error
