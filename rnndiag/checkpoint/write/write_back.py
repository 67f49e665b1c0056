"""A changed model in the input's own format: the input's bytes, but for the numbers that changed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rnndiag.checkpoint.fetch import on_this_machine
from rnndiag.checkpoint.formats import registry
from rnndiag.checkpoint.formats.base import Candidate
from rnndiag.checkpoint.layers.answers import NO_ANSWERS, Answers
from rnndiag.checkpoint.layers.find import find
from rnndiag.checkpoint.layers.reparametrized import effective
from rnndiag.checkpoint.load import load
from rnndiag.checkpoint.unpack import kind_of
from rnndiag.checkpoint.write.addresses import AddressMap
from rnndiag.checkpoint.write.edits import Edits
from rnndiag.checkpoint.write.same_file import changed_since, check_unchanged
from rnndiag.checkpoint.write.target import check_target, copied, try_folder
from rnndiag.errors import CheckpointError, OutputError
from rnndiag.files.digest import sha256_of
from rnndiag.files.work_budget import WorkBudget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.cells.layer import RecurrentLayer
    from rnndiag.checkpoint.contents import Container, Contents
    from rnndiag.checkpoint.formats.base import Format
    from rnndiag.checkpoint.model import Model


def rewrite(
    path: str | Path,
    target: str | Path,
    changed: Mapping[str, RecurrentLayer],
    *,
    measured: Model | None = None,
    force: bool = False,
    answers: Answers = NO_ANSWERS,
) -> None:
    """Write a saved model anew with other parameters in some of its layers, in the input's own format.

    The target is a copy of the input in which nothing but the numbers that changed are others, in the dtype that they
    have there, and the checksums over them. It is read again before it gets its name: the layers must be the changed
    ones, rounded to that dtype, and all other bytes the input's. Tensors that several modules share stay shared.

    Args:
        path: a file or folder that ``load`` reads.
        target: where the changed model is to be; a folder for a folder.
        changed: by the names of layers as ``load`` gives them, the layers with their new parameters.
        measured: what ``load`` made of the file before, for a change that follows from it and is in the types of its
            layers, so that it is written without rounding; None: whatever is there now.
        force: whether the target may be there already, or be the input itself.
        answers: as for ``load``.

    Raises:
        CheckpointError: the input cannot be read, or is not what was measured; a layer is not in it, or is of another
            cell or shape there; a number that changed has no place of its own in it, or does not fit its dtype; its
            format is not written.
        OutputError: the target is the input, is there already, or cannot be written.
    """
    source, target = _local(path), Path(target)
    model = load(source, answers)
    if measured is not None:
        check_unchanged(source, measured, model)
    check_target(source, target, force=force)
    edits = Edits(source, model, changed, exactly=measured is not None)
    _check_format(source, registry.format_of(source))
    _locate(edits, source, model.source.format, answers)
    with copied(source, target, force=force) as copy:
        if sha256_of(copy) != model.source.sha256:
            raise changed_since(source)
        try:
            edits.apply(copy)
            edits.verify(copy, load(copy, answers))
        except CheckpointError as error:
            reason = str(error).removeprefix(f"{copy}: ")
            raise OutputError(f"{target}: not written, since it would not read as it should: {reason}") from error


def check_written(path: str | Path, target: str | Path, *, force: bool) -> None:
    """Find out before a model is measured whether a changed one can be written at all, as far as that can be told.

    Raises:
        CheckpointError: the input is none that a change is written back into.
        OutputError: the target cannot be written.
    """
    source = _local(path)
    check_target(source, Path(target), force=force)
    if not source.exists():
        return  # for the reader to say
    with suppress(OSError):  # likewise
        _check_format(source, registry.format_of(source))
    try_folder(Path(target))


def _check_format(path: Path, known: Format) -> None:
    instead = known.save_instead(path)
    if instead:
        raise CheckpointError(f"{path}: a changed model is not written back in the format {known.name}: {instead}")


def _locate(edits: Edits, source: Path, format_: str, answers: Answers) -> None:
    """Find the locations. Afterwards nothing is mapped from the file, because it may be about to be replaced."""
    _, contents = registry.read(source)
    with registry.one_line(source, format_), WorkBudget():
        address_map = AddressMap()
        addresses = _computed_nowhere(address_map.contents(contents), address_map)
        edits.locate(address_map, find(addresses, answers, traced=True).stacks)


def _local(path: str | Path) -> Path:
    local = on_this_machine(str(path))
    if local is None:
        raise CheckpointError(f"{path}: expected a file or folder on this machine, to write a changed model from")
    try:
        kind = "" if not local.is_file() or registry.is_model(local) else kind_of(Candidate(local))
    except OSError as error:
        raise CheckpointError(f"{local}: cannot be read: {error.strerror or error}") from error
    if kind:
        raise CheckpointError(f"{local}: a changed model is not written back into a {kind} archive: unpack it first")
    return local


def _computed_nowhere(contents: Contents, address_map: AddressMap) -> Contents:
    """The contents with no address for what is computed from several tensors of the file."""

    def container(held: Container) -> Container:
        tensors, _ = effective(held.tensors)
        stored = {id(leaf) for leaf in held.tensors.values()}
        for name, leaf in tensors.items():
            if id(leaf) not in stored:
                tensors[name] = address_map.nowhere(
                    leaf, "it is parametrised (weight_norm and the like): remove that, and save the model again"
                )
        return replace(held, tensors=tensors)

    # Views that overlap were found when the numbers themselves were read.
    return replace(contents, size=1 << 62, containers=tuple(map(container, contents.containers)))
