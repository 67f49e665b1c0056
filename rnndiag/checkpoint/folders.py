"""The models in a folder: files by their usual names, and folders that are a model themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.formats import is_model

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES: Final = (
    ".bin", ".ckpt", ".h5", ".hdf5", ".jit", ".keras", ".npz", ".onnx", ".pt", ".pt2", ".pth", ".safetensors", ".ts"
)  # fmt: skip
"""In a folder, by name: looking into every file there could take long."""
_INDEX: Final = ".index.json"


def models_in(folder: Path) -> Iterator[Path]:
    """The models under a folder, at any depth, in the order of their names; a sharded one once, by its index."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        here = Path(place)
        if is_model(here):
            folders.clear()
            yield here
            continue
        indices = [name for name in files if name.endswith(_INDEX)]
        sharded = tuple(f"{Path(name.removesuffix(_INDEX)).stem}-" for name in indices)
        for name in sorted(files):
            if name in indices or (name.endswith(SUFFIXES) and not (sharded and name.startswith(sharded))):
                yield here / name
