"""Folders in the layout of the Hugging Face hub: weights under one of four names, and settings in config.json."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from rnndiag.checkpoint.formats import sharded
from rnndiag.checkpoint.formats.base import Candidate, Format, written_back
from rnndiag.checkpoint.model import Skipped
from rnndiag.checkpoint.unpickling.training_step import MAX_COUNT
from rnndiag.errors import CheckpointError
from rnndiag.files.parts import files_beneath
from rnndiag.files.text import listing
from rnndiag.printable import printable

if TYPE_CHECKING:
    import pathlib

    from rnndiag.checkpoint.contents import Contents

WEIGHTS: Final = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""In the order of preference, which is that of transformers."""

CONFIG: Final = "config.json"
MAX_CONFIG_BYTES: Final = 1 << 20


STATE: Final = "trainer_state.json"
MAX_STATE_BYTES: Final = 16 << 20
"""Bytes: it holds a log of the whole run."""


class _State(msgspec.Struct):
    global_step: int


class _Config(msgspec.Struct):
    nonlinearity: Literal["tanh", "relu"]


def read(path: pathlib.Path) -> Contents:
    """Read the weights of a folder, and what its config.json says of tanh and relu.

    Raises:
        CheckpointError: weights that are missing, damaged, or links that lead out of the folder.
    """
    names = [entry.name for entry in path.iterdir()]
    held = _names(names)
    if len(held) > 1 and held[0] not in WEIGHTS:
        raise CheckpointError(
            f"{path}: a folder with several indices ({listing([printable(name, 60) for name in held], 4)}):"
            " name the one to read"
        )
    contents = _weights(path, held[0])
    if len(held) > 1:
        note = f"{held[0]} was read; {listing(held[1:])} beside it was not"
        contents = replace(contents, notes=(*contents.notes, note))
    if STATE in names:
        contents = _with_state(path, contents)
    return _with_config(path, contents) if CONFIG in names else contents


def _names(names: list[str]) -> list[str]:
    """The known names among those in a folder, most preferred first; without any, those of all indices."""
    return [name for name in WEIGHTS if name in names] or sorted(n for n in names if n.endswith(sharded.SUFFIX))


def _weights(path: pathlib.Path, name: str) -> Contents:
    file = sharded.locate(path, path, name)
    is_index = name.endswith(sharded.SUFFIX)
    return sharded.read_part(path, file, (sharded.FORMAT,)) if is_index else sharded.read_part(path, file)


def _with_state(path: pathlib.Path, contents: Contents) -> Contents:
    """The steps that a trainer had made, by its own state beside the weights."""
    try:
        file = Candidate(sharded.locate(path, path, STATE))
        with file.path.open("rb") as state:
            step = msgspec.json.decode(state.read(MAX_STATE_BYTES), type=_State).global_step
    except msgspec.ValidationError:  # no such key
        return contents
    except (CheckpointError, ValueError, RecursionError, OSError):
        return replace(contents, skipped=(*contents.skipped, Skipped(STATE, "it cannot be read as JSON")))
    return (
        replace(contents, progress={**contents.progress, "global_step": step}) if 0 <= step <= MAX_COUNT else contents
    )


def _with_config(path: pathlib.Path, contents: Contents) -> Contents:
    try:
        file = Candidate(sharded.locate(path, path, CONFIG))
        with file.path.open("rb") as config:
            stated = msgspec.json.decode(config.read(MAX_CONFIG_BYTES), type=_Config).nonlinearity
    except msgspec.ValidationError:  # no such key, or another nonlinearity
        return contents
    except (CheckpointError, ValueError, RecursionError, OSError):
        return replace(contents, skipped=(*contents.skipped, Skipped(CONFIG, "it cannot be read as JSON")))
    return replace(contents, statements=(*contents.statements, (f"{CONFIG}: nonlinearity", stated)))


def _recognizes(candidate: Candidate) -> bool:
    return candidate.is_folder and bool(_names(list(candidate.names)))


FORMAT: Final = Format("huggingface", _recognizes, read, written_back, parts=files_beneath)
