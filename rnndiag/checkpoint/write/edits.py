"""Which numbers of which file change to what, for some layers to have other parameters."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rnndiag.checkpoint.contents import COMPUTED
from rnndiag.checkpoint.write import folder_copy, patch
from rnndiag.checkpoint.write.patch import ConflictError, Edit, Patch
from rnndiag.checkpoint.write.same_file import same_bits
from rnndiag.errors import CheckpointError
from rnndiag.files.text import listing, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from rnndiag.cells.layer import RecurrentLayer, Stack
    from rnndiag.checkpoint.location import Location
    from rnndiag.checkpoint.model import Model
    from rnndiag.checkpoint.write.addresses import AddressMap


class Edits:
    """What is to be written. Call ``locate`` first, then ``apply`` and ``verify`` with the copy.

    Args:
        path: the model's file or folder.
        model: what ``load`` made of it.
        changed: the changed layers by name.
        exactly: whether nothing may be rounded: the numbers were measured as they are to be written.

    Raises:
        CheckpointError: a layer that is not in the model, or is of another cell or shape there.
    """

    def __init__(
        self, path: Path, model: Model, changed: Mapping[str, RecurrentLayer], *, exactly: bool = False
    ) -> None:
        self._path = path
        self._exactly = exactly
        self._layers = _by_name(path, model.stacks)
        self._changed = changed
        self._expected = {name: dict(layer.parameters) for name, layer in self._layers.items()}
        self._patches: list[Patch] = []
        for name, layer in changed.items():
            if name not in self._layers:
                raise CheckpointError(f"{path}: no layer {name!r}: expected {listing(list(self._layers))}")
            if problem := _misfit(self._layers[name], layer):
                raise CheckpointError(f"{path}: {name}: {problem}")

    def locate(self, address_map: AddressMap, traced: Iterable[Stack]) -> None:
        """Find the location of each number that changes.

        Args:
            address_map: the addresses.
            traced: the same stacks with addresses in place of numbers.

        Raises:
            CheckpointError: a number without a place of its own, or that does not fit its dtype.
        """
        addresses = _by_name(self._path, traced)
        alike = {n: {k: p.shape for k, p in each.parameters.items()} for n, each in addresses.items()}
        if alike != {n: {k: p.shape for k, p in each.parameters.items()} for n, each in self._layers.items()}:
            raise CheckpointError(f"{self._path}: the locations of its layers were not found: save it again")
        edits: list[Edit] = []
        for name, layer in self._changed.items():
            for kind, new in layer.parameters.items():
                if kind in self._expected[name]:
                    edits += self._edits(address_map, name, kind, new, addresses[name].parameters[kind])
        touched = {edit.location for edit in edits}
        edits += self._others(address_map, addresses, touched) if edits else []
        try:
            self._patches = patch.patches(edits)
        except ConflictError as error:
            raise CheckpointError(f"{self._path}: {error} share numbers in the file: change them alike") from error
        self._check_overlaps(address_map, touched)

    def _edits(self, address_map: AddressMap, name: str, kind: str, new: Tensor, addresses: Tensor) -> list[Edit]:
        old = self._expected[name][kind]
        wanted = new.detach().to("cpu", torch.float64).reshape(-1)
        before = old.to(torch.float64).reshape(-1)
        (where,) = torch.nonzero((wanted != before) & ~(wanted.isnan() & before.isnan()), as_tuple=True)
        expected = old.clone().reshape(-1)
        edits = []
        for found, answered, numbers in address_map.look_up(addresses.reshape(-1)[where].numpy()):
            at = where[torch.from_numpy(answered)]
            edit = self._edit(f"{name} {kind}", found, numbers, wanted[at], before[at])
            if self._exactly and not torch.equal(edit.values.to(torch.float64), wanted[at]):
                narrow, wide = (str(dtype).removeprefix("torch.") for dtype in (edit.location.dtype, old.dtype))
                raise CheckpointError(
                    f"{self._path}: {edit.owner}: a part of it is {narrow} in the file, and {wide} with what it is put"
                    " together with: save the model in one type"
                )
            edits.append(edit)
            expected[at] = edit.values.to(expected.dtype)
        self._expected[name][kind] = expected.reshape(old.shape)
        return edits

    def _edit(self, owner: str, location: Location | str, numbers: np.ndarray, wanted: Tensor, before: Tensor) -> Edit:
        where = f"{self._path}: {owner}"
        if isinstance(location, str):
            raise CheckpointError(f"{where}: the change has no place in the file: {location}")
        held = patch.numbers_at(location, numbers)
        if not torch.equal(held.to(torch.float64).nan_to_num(), before.nan_to_num()):
            raise CheckpointError(f"{where}: {COMPUTED}")
        values = wanted.to(location.dtype)
        if not values.isfinite().all():
            kind = str(location.dtype).removeprefix("torch.")
            worst = float(wanted[~values.isfinite()][0])
            raise CheckpointError(f"{where}: {worst:g} does not fit {kind}, in which the file holds it")
        return Edit(owner, location, numbers, values)

    def _others(
        self, address_map: AddressMap, addresses: Mapping[str, RecurrentLayer], touched: set[Location]
    ) -> list[Edit]:
        """What layers keep that lie, in part, where others change: nothing changes where they agree."""
        edits = []
        for name, layer in addresses.items():
            for kind, parameter in layer.parameters.items():
                wanted = self._expected[name][kind].reshape(-1)
                for location, answered, numbers in address_map.look_up(parameter.reshape(-1).numpy()):
                    if not isinstance(location, str) and location in touched:
                        values = wanted[torch.from_numpy(answered)].to(location.dtype)
                        edits.append(Edit(f"{name} {kind}", location, numbers, values))
        return edits

    def _check_overlaps(self, address_map: AddressMap, touched: set[Location]) -> None:
        """Refuse to change what is also a part of a tensor of another shape."""
        for part in self._patches:
            first, last = int(part.offsets[0]), int(part.offsets[-1])
            for location in address_map.locations:
                if location in touched or location.file != part.file or 0 in location.shape:
                    continue
                low, high = location.extent
                if high <= first or low > last:
                    continue
                offsets = location.offsets(np.arange(np.prod(location.shape)))
                if np.isin(offsets, part.offsets).any():
                    raise CheckpointError(
                        f"{self._path}: numbers to be changed are also those of another tensor"
                        f" {shape_of(location.shape)} of the file: save the model without shared tensors"
                    )

    def apply(self, copy: Path) -> None:
        """Change a copy of the model."""
        for file, parts in self._by_file().items():
            patch.apply(parts, copy / file.relative_to(self._path))

    def verify(self, copy: Path, model: Model) -> None:
        """Hold a changed copy against what was asked for.

        Args:
            copy: the copy's file or folder.
            model: what ``load`` makes of it.

        Raises:
            CheckpointError: another parameter, or another byte, than expected.
        """
        layers = _by_name(copy, model.stacks)
        if layers.keys() != self._layers.keys():
            raise CheckpointError(f"its layers are {listing(list(layers))}, expected {listing(list(self._layers))}")
        for name, expected in self._expected.items():
            found = layers[name].parameters
            wrong = [k for k in expected if k not in found or not same_bits(found[k], expected[k])]
            if wrong or found.keys() != expected.keys():
                raise CheckpointError(f"{name}: {listing(wrong or list(found))} came out otherwise")
        held, patched = folder_copy.entries(self._path), self._by_file()
        if held != folder_copy.entries(copy):
            raise CheckpointError("it does not hold the same files")
        for within in (path for path, kind in held.items() if kind == "file"):
            file = self._path / within
            if patch.differs_elsewhere(patched.get(file, ()), file, copy / within):
                raise CheckpointError("bytes that were to stay changed")

    def _by_file(self) -> Mapping[Path, list[Patch]]:
        files: defaultdict[Path, list[Patch]] = defaultdict(list)
        for each in self._patches:
            files[each.file].append(each)
        return files


def _by_name(path: Path, stacks: Iterable[Stack]) -> dict[str, RecurrentLayer]:
    layers = [layer for stack in stacks for layer in stack.layers]
    twice = [name for name, count in Counter(layer.name for layer in layers).items() if count > 1]
    if twice:
        raise CheckpointError(f"{path}: two layers are called {twice[0]}: a changed one has no place that can be told")
    return {layer.name: layer for layer in layers}


def _misfit(old: RecurrentLayer, new: RecurrentLayer) -> str:
    """Why a layer cannot take the place of another; empty if it can."""
    if (new.cell, new.reset_after) != (old.cell, old.reset_after):
        words = [each.kind.title for each in (new, old)]
        if words[0] == words[1]:
            words[0] += f" with its reset gate {'after' if new.reset_after else 'before'} the product"
        return (
            f"{words[0]} in place of {words[1]} cannot be written into this file: --take NAME takes one that keeps the"
            " cell"
        )
    held = old.parameters
    for kind, parameter in new.parameters.items():
        if kind not in held and parameter.any():
            return f"{kind} has no place in the file, which holds none (bias=False): take a change that needs no bias"
        if kind in held and parameter.shape != held[kind].shape:
            return f"{kind}: expected {shape_of(held[kind].shape)} as in the file, got {shape_of(parameter.shape)}"
    missing = held.keys() - new.parameters.keys()
    return f"{min(missing)} is missing from the changed layer" if missing else ""
