"""The configuration of a model whose weights alone are in a file: ``model.to_json()`` saved next to it.

The file is believed only if the layers that it states are those of the weights, by name and by shape.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rnndiag.errors import RnndiagError, UnfitError
from rnndiag.files.side_files import is_regular, read_text
from rnndiag.parsers.keras.cells import resolve
from rnndiag.parsers.keras.layers import Recurrent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from rnndiag.parsers.keras.layers import Part
    from rnndiag.parsers.keras.modules import Weights

MAX_BYTES: Final = 4 << 20
"""Bytes of a configuration in JSON; a layer takes one or two kilobytes."""
MAX_YAML_BYTES: Final = 1 << 20

_WEIGHTS: Final = re.compile(r"[._-]?weights?$", re.IGNORECASE)
"""What the names of files with weights alone end in."""
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_KERAS_3: Final = '"DTypePolicy"'
"""The class of a dtype in configurations of Keras 3; Keras 2 has none of this name."""
_COMMON: Final = ("model", "architecture", "model_architecture")
_SUFFIXES: Final = (".json", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Side:
    """A file that may state the configuration."""

    name: str
    digest: str = ""
    """The first digits of its SHA-256."""
    config: Any = None
    """As ``model.to_json()`` writes it; None if it could not be read."""
    fault: str = ""
    """Why it could not be read."""


def side_files(path: Path) -> list[Path]:
    """The files next to a file of weights that may hold the model's configuration, the likeliest first."""
    own = path.stem
    stems = dict.fromkeys((own, _WEIGHTS.sub("", own)))
    named = [f"{stem}{end}" for stem in stems if stem for end in ("", "_architecture", "_model")]
    names = dict.fromkeys(f"{name}{suffix}" for name in (*named, *_COMMON) for suffix in _SUFFIXES)
    return [path.with_name(name) for name in names if name != path.name and is_regular(path.with_name(name))]


def has_neighbor(path: Path) -> bool:
    """Whether what is made of a file may depend on a configuration next to it.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(_HDF5)) == _HDF5 and bool(side_files(path))


def read(path: Path) -> Side:
    """One of these files, within bounds; what cannot be read is data with a reason."""
    name = path.name.encode(errors="replace").decode()
    is_json = path.suffix == ".json"
    try:
        text = read_text(path, MAX_BYTES if is_json else MAX_YAML_BYTES, RnndiagError)
        digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]
        # PyYAML's safe loader takes no tag of Python's; a tuple is read as the list that it is written as.
        config = json.loads(text) if is_json else _tree_of_yaml(path, text)
        if isinstance(config, dict) and "keras_version" not in config and _KERAS_3 in text:
            config["keras_version"] = "3"  # its to_json() leaves the version out
    except RnndiagError as error:
        return Side(name, fault=str(error).removeprefix(f"{path}: "))
    except (ValueError, RecursionError, MemoryError) as error:
        return Side(name, fault=f"it cannot be parsed ({' '.join(str(error).split())[:100] or 'too large'})")
    return Side(name, digest, config)


def _tree_of_yaml(path: Path, text: str) -> Any:
    from rnndiag.config.yaml_file import yaml_tree  # not for the many models without a YAML file next to them

    return yaml_tree(path, text.replace("!!python/tuple", ""))


def version_in(config: Any) -> str:
    """The version of Keras that a configuration states."""
    version = config.get("keras_version") if isinstance(config, dict) else None
    return version if isinstance(version, str) else ""


def misfit(parts: Sequence[Part], weights: Weights, names: Collection[str]) -> str:
    """Why a configuration is not that of the weights; empty if it is.

    Args:
        parts: the layers as the configuration states them, and those that only the weights show.
        weights: where the variables lie.
        names: of the layers that the configuration states.
    """
    recurrent = [part for part in parts if isinstance(part, Recurrent)]
    if not recurrent:
        return "it states no recurrent layer"
    return next((f"{part.name}: {fault}" for part in recurrent for fault in _faults(part, weights, names)), "")


def _faults(part: Recurrent, weights: Weights, names: Collection[str]) -> Iterator[str]:
    if not part.configured:
        if not any(part.name == name or part.name.startswith(f"{name}.") for name in names):
            yield "the configuration does not have this layer"
        return  # otherwise it is within a class that is not Keras's own
    for cell in part.cells:
        if cell.kind is None and not part.class_path:  # of a class that is not Keras's own
            continue
        try:
            resolve(replace(cell, fault=""), [tuple(dataset.shape) for dataset in weights.variables(cell.path)])
        except UnfitError as error:
            yield str(error)
