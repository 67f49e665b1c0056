"""Try what would help a model, and write it with what helps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import nn

from rnndiag import checkpoint, prescription
from rnndiag.api.inspecting import role_maps
from rnndiag.api.probing import ProbeSpec, common_layout, is_array, make_probe
from rnndiag.cells.layer import Layout
from rnndiag.checkpoint import module
from rnndiag.checkpoint.layers.answers import Answers, known_kind
from rnndiag.checkpoint.layers.leak import checked_alpha
from rnndiag.checkpoint.layers.mapping import RoleMap
from rnndiag.config.settings import Settings
from rnndiag.diagnose import Progress
from rnndiag.errors import OutputError
from rnndiag.prescription import Prescription
from rnndiag.random_nets import RandomNet
from rnndiag.rules.policy import Policy
from rnndiag.treatments.registry import TREATMENTS


def prescribe(
    model: str | Path | nn.Module | RandomNet,
    *,
    probe: ProbeSpec = "noise",
    length: int | None = None,
    batch: int | None = None,
    scale: float = 1.0,
    layout: Layout | None = None,
    nonlinearity: Literal["tanh", "relu"] | None = None,
    alpha: float | None = None,
    assume: str | None = None,
    verify: bool = False,
    mapping: str | Sequence[str | RoleMap] = (),
    settings: Settings | None = None,
    policy: Policy | None = None,
    treatments: str = "*",
    take: str | None = None,
    save: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    measured: Callable[[Prescription], None] | None = None,
) -> Prescription:
    """Try treatments on copies of a model's ill stacks, and rank them by how near they bring it to healthy.

    Args:
        model: a saved model's path, a module (left as it is) or a random net.
        probe: this and the next eleven are those of ``inspect``.
        length: steps.
        batch: sequences.
        scale: multiplies the probe.
        layout: the order of the axes of an array.
        nonlinearity: of Elman layers, where the file does not say.
        alpha: the leak of leaky layers, in (0, 1], where the file does not hold it.
        assume: as for ``inspect``.
        verify: likewise.
        mapping: which tensors are what, where their names do not tell.
        settings: lag, precision, thresholds.
        policy: of the reports before and after.
        treatments: a glob over the names of treatments.
        take: the treatment to choose in place of the best, even for a healthy model; beside an ill stack, healthy ones
            stay as they are.
        save: where to write the model under the chosen treatment, in its own format; for a saved model only.
        force: whether ``save`` may overwrite a file.
        progress: called before each piece of work.
        measured: given the prescription before anything is written: it stands although writing may fail.

    Raises:
        RnndiagError: with one line that says what to do; ``OutputError`` where there is nothing to save.

    >>> prescription = prescribe(RandomNet(sigma=0.5, hidden=32), length=50, treatments="rescale")
    >>> prescription.before.verdict, prescription.chosen, prescription.after.verdict
    ('vanishing', 'rescale', 'healthy')
    """
    settings = settings or Settings()
    if save is not None:
        _check_save(model, take, save, force=force)
    answers = Answers(nonlinearity, tuple(role_maps(mapping)), known_kind(assume), checked_alpha(alpha), verify)
    if isinstance(model, RandomNet):
        found = model.build()
    elif isinstance(model, nn.Module):
        found = module.load(model, answers)
    else:
        found = checkpoint.load(model, answers)
    if layout is None and is_array(probe):
        layout = common_layout(found)
    built = make_probe(probe, length=length, batch=batch, scale=scale, settings=settings, layout=layout)
    prescribed = prescription.prescribe(
        found, built, settings, policy=policy, treatments=treatments, take=take, progress=progress
    )
    given = prescribed.prescription
    if measured is not None:
        measured(given)
    if save is not None and isinstance(model, str | Path):
        if not prescribed.changed:
            why = "the model is healthy" if given.before.verdict == "healthy" else "no treatment helps"
            raise OutputError(f"{save}: not written: {why}; --take NAME chooses a treatment all the same")
        from rnndiag.checkpoint.write.write_back import rewrite

        rewrite(model, save, prescribed.changed, measured=found, force=force, answers=replace(answers, verify=False))
    return given


def _check_save(model: str | Path | nn.Module | RandomNet, take: str | None, save: str | Path, *, force: bool) -> None:
    """Refuse what can be refused before anything is measured."""
    if not isinstance(model, str | Path):
        raise OutputError(f"{save}: only a saved model is written back in its own format, got a {type(model).__name__}")
    members = [] if take is None else take.split("+")
    if not all(TREATMENTS[name].same_architecture for name in members if name in TREATMENTS):
        raise OutputError(
            f"{save}: --take {take} changes the architecture, which cannot be written into the file; take a "
            "treatment that keeps the cell, or leave out --save"
        )
    from rnndiag.checkpoint.write.write_back import check_written

    check_written(model, save, force=force)
