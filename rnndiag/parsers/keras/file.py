"""Keras's files: ``.keras`` archives, whole models and weights alone in HDF5, of Keras 2 and 3.

Read as data: no layer is built, and the code that a Lambda layer or a custom class brings is never looked at.
"""

from __future__ import annotations

import json
import zipfile
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from rnndiag.parsers import hdf5
from rnndiag.parsers.keras import side
from rnndiag.parsers.keras.config import layers
from rnndiag.parsers.keras.feeds import feeds_of
from rnndiag.parsers.keras.layers import Other, Recurrent, Table
from rnndiag.parsers.keras.modules import Modules
from rnndiag.parsers.keras.versions import Version
from rnndiag.parsers.keras.weights import Variables
from rnndiag.parsers.keras.weights_h5 import LegacyWeights
from rnndiag.parsers.parsed import DataError, Parsed, RefusedError
from rnndiag.parsers.zip_member import open_member

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rnndiag.parsers.keras.layers import Part


def parse(path: Path) -> Parsed:
    """The recurrent layers of a model, and the embeddings that they may read.

    Args:
        path: the file.

    Raises:
        RefusedError: no such file, or one that cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    if not is_archive:
        return _parse(hdf5.Hdf5(path, size), None, "", side.side_files(path))
    with zipfile.ZipFile(path) as archive:
        held = archive.namelist()
        if "model.weights.h5" not in held:
            raise RefusedError("a Keras archive without model.weights.h5: save the model again as .keras")
        config = json.loads(open_member(archive, "config.json", size).read())
        metadata = json.loads(open_member(archive, "metadata.json", size).read()) if "metadata.json" in held else None
        weights = open_member(archive, "model.weights.h5", size)
        return _parse(hdf5.Hdf5(weights, size), config, side.version_in(metadata), ())


def _parse(file: hdf5.Hdf5, config: Any, version: str, side_files: Sequence[Path]) -> Parsed:
    """The layers of a file.

    Args:
        file: the weights.
        config: of the model, from the archive around the weights; None: the file may have it.
        version: of Keras, from there.
        side_files: files next to it that may hold the configuration.
    """
    parsed = Parsed(framework="Keras")
    legacy = _legacy_root(file.root)
    if config is None:
        (text, *_) = hdf5.texts(file.root, "model_config") or ["null"]
        config = json.loads(text)
    weights = LegacyWeights(legacy) if legacy is not None else Variables(file.root)
    version = version or _version_of(file.root, legacy)
    configured = layers(config)
    if configured is None:
        for beside in map(side.read, side_files):
            stated = layers(beside.config)
            fault = beside.fault
            if stated is not None:
                fault = side.misfit(list(_parts(weights, stated)), weights, [name for name, _ in stated])
                if not fault:
                    config, configured = beside.config, stated
                    version = side.version_in(config) or version
                    parsed.notes.append(
                        f"activations and directions are those that {beside.name} next to the file states (SHA-256"
                        f" {beside.digest}...); its layers fit the weights by name and shape"
                    )
                    break
            if fault:
                parsed.notes.append(f"{beside.name} next to the file was not used: {fault}")
    modules = Modules(parsed, file, weights, Version(version[:40]), feeds_of(config) if configured else None)
    parts = list(_parts(weights, configured))
    if not parts:
        raise _without_weights(hdf5.names(file.root), is_configured=configured is not None)
    for part in parts:
        if not isinstance(part, Table):
            modules.add(part)
    for part in parts:
        if isinstance(part, Table):
            modules.add(part)
    modules.finish()
    return parsed


def _without_weights(names: Sequence[str], *, is_configured: bool) -> RefusedError:
    """Why a file without weights of Keras is refused."""
    held = ", ".join(names[:4]) or "nothing"
    if is_configured:
        return RefusedError(f"a Keras model without any weights (it holds {held}): save the model as .keras")
    if "RNN_0" in names and "CNN" in names:
        return RefusedError(
            "weights of an ELMo language model, which rnndiag does not read: its LSTMs (RNN_0) project and clip their"
            " states; your own code can give rnndiag their step function with --import"
        )
    return DataError(
        f"an HDF5 file in which Keras wrote no weights: it holds {held}; if these are the weights of a recurrent layer,"
        " read them with h5py and save them with numpy.savez"
    )


def _version_of(root: hdf5.Group, legacy: hdf5.Group | None) -> str:
    """The version of Keras that wrote the file; empty if the file does not state it."""
    stated = [text for group in (root, legacy) if group is not None for text in hdf5.texts(group, "keras_version")]
    return stated[0] if stated else ""


def _legacy_root(root: hdf5.Group) -> hdf5.Group | None:
    """The group with the weights by layer, of a whole model or of weights alone."""
    for group in (hdf5.subgroup(root, "model_weights"), root):
        if group is not None and ("layer_names" in group.attrs or "layer_names0" in group.attrs):
            return group
    return None


def _parts(weights: LegacyWeights | Variables, configured: list[tuple[str, list[Part]]] | None) -> Iterator[Part]:
    """The layers in the configuration's order, each with where its weights are; or what the weights alone tell."""
    if configured is None:
        yield from weights.parts()
    elif isinstance(weights, LegacyWeights):
        for name, parts in configured:
            yield from weights.bound(name, parts)
        # A custom layer's configuration may lack even the name.
        yield from weights.parts({name for name, _ in configured})
    else:
        parts = [part for _, of_layer in configured for part in of_layer]
        for part in parts:
            if not isinstance(part, Other):
                yield part
            elif weights.holds(part.path):
                found = weights.parts(part.path, part.name)
                known = [each for each in found if not isinstance(each, Other)]
                yield from known or (part,)
        yield from _beyond_config(weights, parts)


def _beyond_config(weights: Variables, parts: Sequence[Part]) -> Iterator[Part]:
    """What a class that a configuration does tell of keeps beside its layers, as attributes of its own."""
    read = {weights.place(path) for part in parts for path in _paths(part)}
    for part in weights.parts():
        above = {above for path in _paths(part) for above in accumulate(path.split("/"), "{}/{}".format)}
        if not isinstance(part, Other) and not above & read:
            yield part


def _paths(part: Part) -> list[str]:
    return [cell.path for cell in part.cells] if isinstance(part, Recurrent) else [part.path]
