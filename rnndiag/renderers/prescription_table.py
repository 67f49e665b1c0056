"""A prescription for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rnndiag.measures.alternative import as_assumed
from rnndiag.prescription import Prescription, TreatmentResult
from rnndiag.printable import escaped_strings
from rnndiag.renderers.caveats import add_caveats
from rnndiag.renderers.numbers import percent, signed
from rnndiag.renderers.styles import VERDICT_STYLES
from rnndiag.renderers.tables import titled_table
from rnndiag.report import Report
from rnndiag.rules.assumptions import NonlinearityUndecided


def render(prescription: Prescription, *, verbose: bool = False) -> RenderableType:
    """Before, each treatment by its effect, what would change in training, and the choice with its numbers.

    Args:
        prescription: any.
        verbose: show every entry of the model file that was skipped, not only the first entries.
    """
    return Group(*_sections(escaped_strings(prescription), verbose))


def _sections(prescription: Prescription, verbose: bool) -> Iterator[RenderableType]:
    yield _header(prescription.before, verbose)
    weights = [each for each in prescription.treatments if each.kind != "training"]
    training = [each for each in prescription.treatments if each.kind == "training"]
    if weights:
        yield _layers(weights, prescription.chosen)
    if training:
        yield _training(training)
    yield from _choice(prescription)
    if prescription.not_tried:
        reasons: dict[str, list[str]] = {}
        for item in prescription.not_tried:
            reasons.setdefault(item.reason, []).append(item.name)
        listed = "; ".join(f"{', '.join(dict.fromkeys(names))} ({reason})" for reason, names in reasons.items())
        yield Text(f"\nNot tried: {listed}", style="dim")


def _header(before: Report, verbose: bool) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    probe = before.probe
    grid.add_row("model", before.source.path)
    grid.add_row("probe", f"{probe.kind}, T={probe.length}, B={probe.batch}, scale {probe.scale:g}, seed {probe.seed}")
    for stack in before.stacks:
        gain = "numbers are not finite" if stack.gradient is None else f"log10 gain {signed(stack.gradient.log10_gain)}"
        summary = Text.assemble(f"{stack.name}: ", (stack.verdict, VERDICT_STYLES[stack.verdict]))
        grid.add_row("before", summary.append(f" at lag {stack.lag}, {gain}"))
    add_caveats(grid, before, verbose=verbose)
    for finding in before.findings:
        if finding.rule == NonlinearityUndecided.code:
            grid.add_row(finding.severity, Text(f"{finding.layer}: {finding.message}", style="yellow"))
    return grid


def _layers(treatments: list[TreatmentResult], chosen: str | None) -> RenderableType:
    made = titled_table("Treatments, each tried on a copy and measured on the same probe")
    made.add_column("treatment", overflow="fold")
    made.add_column("log10\ngain", justify="right")
    made.add_column("verdict", no_wrap=True)
    made.add_column("satu-\nrated", justify="right")
    made.add_column("states\nchange", justify="right")
    made.add_column("note", overflow="fold")
    for each in treatments:
        name = Text("\n+ ".join(each.members))
        if each.name == chosen:
            name.stylize("bold green")
        note = "; ".join(filter(None, ("" if each.helps else "does not help", each.note, _short_cost(each))))
        made.add_row(
            name,
            signed(each.log10_gain),
            Text(each.verdict, style=VERDICT_STYLES[each.verdict] if each.helps else ""),
            "-" if each.saturated is None else percent(each.saturated),
            _change(each.change),
            note,
            style="" if each.helps else "dim",
        )
    return made


def _short_cost(treatment: TreatmentResult) -> str:
    """The cost in a few words, for a narrow column."""
    if not treatment.same_architecture:
        return "new architecture: train from scratch"
    return "resets the trained weights" if treatment.redraws else "readout no longer fits: keep training"


def _change(change: float | None) -> str:
    if change is None or not math.isfinite(change):
        return "-"
    return f"{change:.0%}" if change < 10 else f"{change:.0f}x"


def _training(treatments: list[TreatmentResult]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for each in treatments:
        style = "green" if each.helps else "dim"
        advice = Text(each.action, style="" if each.helps else "dim")
        remarks = "; ".join(filter(None, ("" if each.helps else "does not help", each.note, each.cost)))
        if remarks:
            advice.append(f"\n{remarks}", style="dim")
        grid.add_row(Text(each.name, style=style), advice)
    return Group(Text("\nIn training, whatever the weights", style="bold"), Padding(grid, (0, 0, 0, 2)))


def _choice(prescription: Prescription) -> Iterator[RenderableType]:
    before, after = prescription.before, prescription.after
    if after is None:
        healthy = all(as_assumed(stack).verdict == "healthy" for stack in before.stacks)
        text = "Healthy: nothing to treat." if healthy else "Nothing is chosen: no treatment of the layers helps."
        if healthy and before.verdict != "healthy":
            text = "The model is healthy under the assumption that is noted above, so there is nothing to treat."
        yield Text(f"\n{text}", style="bold green" if healthy else "bold yellow")
        return
    (chosen,) = (each for each in prescription.treatments if each.name == prescription.chosen)
    yield Text.assemble("\nChosen: ", (chosen.name, "green"), style="bold")
    lines = [Text(chosen.action), Text(f"cost: {chosen.cost}", style="yellow")]
    for old, new in zip(before.stacks, after.stacks, strict=True):
        if old.gradient is None and new.gradient is None:
            continue
        was, now = ("not finite" if g is None else signed(g.log10_gain) for g in (old.gradient, new.gradient))
        lines.append(
            Text.assemble(
                f"{new.name}: ",
                (old.verdict, VERDICT_STYLES[old.verdict]),
                " -> ",
                (new.verdict, VERDICT_STYLES[new.verdict]),
                f", log10 gain {was} -> {now}",
            )
        )
    left = ", ".join(dict.fromkeys(f"{finding.rule} {finding.name}" for finding in after.findings))
    lines.append(Text(f"findings left: {left}" if left else "no findings left"))
    yield Padding(Group(*lines), (0, 0, 0, 2))
