"""``--verify``: the states of a file's layers, compared with those that the file's own library computes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from rnndiag.checkpoint.formats.parser_process import origin_runs
from rnndiag.checkpoint.model import Skipped
from rnndiag.files.text import listing
from rnndiag.parsers.origin import OriginRuns, Place
from rnndiag.printable import printable
from rnndiag.trajectory import run_states

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rnndiag.cells.layer import RecurrentLayer, Stack
    from rnndiag.checkpoint.layers.find import Findings

TOLERANCE: Final = 1e-4
"""The largest difference of two states, relative to the largest number: the libraries compute in float32."""
LIBRARIES: Final = {"onnx": ("onnx", "onnxruntime"), "keras": ("keras", "keras"), "keras-h5": ("keras", "keras")}
"""By format: the parser, and the package to install."""


def verified(findings: Findings, format_: str, path: Path) -> Findings:
    """Leave out the layers whose states differ from those of the file's own library, and note what was compared.

    Args:
        findings: the layers of the file.
        format_: the format of the file.
        path: the file.

    Raises:
        CheckpointError: the library is not installed, or the file cannot be run.
    """
    if format_ not in LIBRARIES:
        note = f"--verify compares ONNX and Keras files with their own library; nothing was compared for {format_}"
        return replace(findings, notes=(*findings.notes, note))
    parser, package = LIBRARIES[format_]
    runs = origin_runs(parser, path, package=package)
    kept: list[tuple[Stack, tuple[str, ...]]] = []
    skipped = list(findings.skipped)
    agreed: list[str] = []
    notes: list[str] = []
    for stack, modules in zip(findings.stacks, findings.modules, strict=True):
        differences = [_difference(layer, runs, place) for place, layer in _layers(stack, modules)]
        known = [difference for difference in differences if difference is not None]
        if known and max(known) > TOLERANCE:
            reason = (
                f"recurrent, but its states are not those that {runs.library} computes from the same weights (they "
                f"differ by up to {max(known):.2g}); please report this file to rnndiag"
            )
            skipped.append(Skipped(stack.name, reason, recurrent=True))
            continue
        kept.append((stack, modules))
        missing = [place for place, _ in _layers(stack, modules) if place not in runs.outputs]
        if missing:
            why = printable(runs.failures.get(missing[0], "its library has no such layer"), 300)
            notes.append(f"{stack.name} could not be compared with {runs.library}: {why}")
        else:
            agreed.append(stack.name)
    if agreed:
        notes.append(f"the states of {listing(agreed)} are those that {runs.library} computes, up to float32 rounding")
    return replace(
        findings,
        stacks=tuple(stack for stack, _ in kept),
        modules=tuple(modules for _, modules in kept),
        skipped=tuple(skipped),
        notes=(*findings.notes, *notes),
    )


def _layers(stack: Stack, modules: Sequence[str]) -> Iterator[tuple[Place, RecurrentLayer]]:
    for i, (module, layers) in enumerate(zip(modules, stack.levels, strict=True)):
        for reverse, layer in enumerate(layers):
            yield Place(module, modules[:i].count(module), bool(reverse)), layer


def _difference(layer: RecurrentLayer, runs: OriginRuns, place: Place) -> float | None:
    """The largest difference of the states, relative to the largest number; None where there is no run."""
    if place not in runs.outputs:
        return None
    inputs, expected = (torch.from_numpy(runs[place]).double() for runs in (runs.inputs, runs.outputs))
    run = run_states(layer.to(torch.float64), inputs)
    found: Tensor = run.hidden.flip(0) if layer.direction == "reverse" else run.hidden
    if found.shape != expected.shape:
        return torch.inf
    largest = max(1.0, float(expected.abs().max()))
    return float((found - expected).abs().max()) / largest
