"""Layers with other parameters, and what is asked of a file in which they were written back."""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from rnndiag.checkpoint import load
from rnndiag.checkpoint.write.write_back import rewrite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from rnndiag.cells.layer import RecurrentLayer
    from rnndiag.checkpoint.model import Model


def layers_of(model: Model) -> dict[str, RecurrentLayer]:
    return {layer.name: layer for stack in model.stacks for layer in stack.layers}


def treated(layer: RecurrentLayer) -> RecurrentLayer:
    """The layer in float64 with other numbers, none of which its file's dtype need hold exactly."""
    wide = layer.to(torch.float64)
    new = {name: p * 0.937 + 0.0123 for name, p in wide.parameters.items() if name != "weight_ih"}
    return replace(wide, **new)


def written(path: Path, target: Path, names: set[str] | None = None, **options: object) -> dict[str, RecurrentLayer]:
    """Treat all layers of a file, or those named, and write them; the original is held to stay as it is."""
    before = digest(path)
    model = load(path, **options)
    changed = {name: treated(layer) for name, layer in layers_of(model).items() if names is None or name in names}
    rewrite(path, target, changed, **options)
    assert digest(path) == before
    assert not [entry for entry in target.parent.iterdir() if entry.name.startswith(".rnndiag")]
    return changed


def digest(path: Path) -> str:
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def own_names(changed: Mapping[str, RecurrentLayer]) -> dict[str, Tensor]:
    """The changed parameters by the names of a state_dict: ``rnn.l0.reverse`` is ``rnn.weight_hh_l0_reverse``."""
    named = {}
    for name, layer in changed.items():
        path, _, level = name.removesuffix(".reverse").rpartition(".")
        suffix = f"_{level}" + "_reverse" * name.endswith(".reverse")
        if not re.fullmatch("l[0-9]+", level):  # a cell
            path, suffix = name, ""
        named |= {f"{path}.{own}{suffix}".lstrip("."): value for own, value in layer.parameters.items()}
    return named


def members_that_differ(one: Path, other: Path) -> set[str]:
    """Of two zip archives with the same members in the same places, whose checksums are held to be right."""
    with zipfile.ZipFile(one) as before, zipfile.ZipFile(other) as after:
        assert after.testzip() is None
        assert [(m.filename, m.header_offset) for m in before.infolist()] == [
            (m.filename, m.header_offset) for m in after.infolist()
        ]
        return {m.filename for m in before.infolist() if before.read(m.filename) != after.read(m.filename)}
