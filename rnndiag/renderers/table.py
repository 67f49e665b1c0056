"""The report for a terminal of 80 columns or more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from rnndiag.kinds import KINDS
from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.stack import StackMeasures
from rnndiag.measures.statistics import FEWEST
from rnndiag.printable import escaped_strings
from rnndiag.renderers.caveats import add_caveats
from rnndiag.renderers.curve import GainCurve
from rnndiag.renderers.findings import findings_section
from rnndiag.renderers.numbers import percent, short, signed
from rnndiag.renderers.steps import step_table
from rnndiag.renderers.styles import VERDICT_STYLES
from rnndiag.renderers.tables import cell_and_size, titled_table
from rnndiag.renderers.theory import theory_section
from rnndiag.renderers.weights import untrained_lines, weight_table
from rnndiag.report import Report


def render(reports: Sequence[Report], *, verbose: bool = False) -> RenderableType:
    """All sections of each report; with ``verbose`` every step, every gate block and everything that was skipped."""
    parts: list[RenderableType] = []
    for report in map(escaped_strings, reports):
        parts += [Rule(), *_sections(report, verbose=verbose)] if parts else _sections(report, verbose=verbose)
    return Group(*parts)


def _sections(report: Report, *, verbose: bool) -> Iterator[RenderableType]:
    yield _header(report, verbose=verbose)
    yield _layers(report)
    gated = [layer for layer in report.layers if layer.gates]
    if gated:
        yield _gates(gated)
    if verbose and any(layer.recurrent_weight for layer in report.layers):
        yield weight_table(report.layers)
    untrained = untrained_lines(report.layers, report.source.framework, verbose=verbose)
    if untrained is not None and report.theory is None:  # a random net is what it was drawn as
        yield untrained
    judged = [stack for stack in report.stacks if stack.gradient is not None]
    if any(len(stack.layers) > 1 for stack in report.stacks):
        yield _stacks(report.stacks)
    if judged and report.probe.length > 1:
        yield Text("\nGradient through time, from the last step back", style="bold")
        yield GainCurve(judged, (report.thresholds.vanishing, report.thresholds.exploding))
        yield _credit(report)
    if any(layer.states for layer in report.layers):
        yield _state_sizes(report.layers)
    if judged:
        yield _bounds(report.layers)
        yield step_table(report.layers, verbose=verbose)
    if report.theory is not None:
        yield theory_section(report.theory)
    yield Text.assemble(
        "\nVerdict: ", (report.verdict, VERDICT_STYLES[report.verdict]), f". {report.summary}", style="bold"
    )
    yield findings_section(report)


def _header(report: Report, *, verbose: bool) -> RenderableType:
    source, probe = report.source, report.probe
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    described = source.format + (f", sha256 {source.sha256[:12]}" if source.sha256 else "")
    grid.add_row("model", Text.assemble(source.path, (f"  ({described})", "dim")))
    dtypes = "/".join(dict.fromkeys(layer.numerics.stored_dtype for layer in report.layers))
    stored = "states given" if all(layer.cell == "custom" for layer in report.layers) else "stored"
    autonomous = any(layer.lyapunov is not None and not layer.lyapunov.driven for layer in report.layers)
    grid.add_row(
        "probe",
        f"{probe.kind}, T={probe.length}, B={probe.batch}, scale {probe.scale:g}, seed {probe.seed}"
        + (" (runs autonomously)" if autonomous else "")
        + f"; {stored} in {dtypes}, measured in {report.measured_in} on {report.device}",
    )
    for stack in report.stacks:
        grid.add_row("measured", f"{stack.name}: {', '.join(stack.layers)}")
    add_caveats(grid, report, verbose=verbose)
    return grid


def _layers(report: Report) -> RenderableType:
    table = titled_table(f"Layers, each by itself, at lag {report.stacks[0].lag}")
    table.add_column("layer\ncell, size", overflow="fold")
    table.add_column("‖W_hh‖\nradius", justify="right")
    table.add_column("‖J_t‖\nmax", justify="right")
    interval = "95 %" if report.probe.batch >= FEWEST else "range"
    table.add_column(f"log10 gain\n{interval}", justify="right", no_wrap=True)
    table.add_column("horizon", justify="right")
    table.add_column("exponent\n± s.e.", justify="right")
    table.add_column("satu-\nrated", justify="right")
    table.add_column("verdict", no_wrap=True)
    for layer in report.layers:
        table.add_row(*_layer_row(layer, report.probe.length))
    return table


def _layer_row(layer: LayerMeasures, length: int) -> Iterator[RenderableType]:
    yield Text.assemble(layer.name, (f"\n{cell_and_size(layer, '>')}", "dim"))
    weight, jacobian, gradient = layer.recurrent_weight, layer.jacobian, layer.gradient
    yield f"{short(weight.spectral_norm)}\n{short(weight.spectral_radius)}" if weight else "-"
    yield f"{short(jacobian.norm_median)}\n{short(jacobian.norm_max)}" if jacobian else "-"
    if gradient:
        low, high = gradient.log10_gain_interval
        yield Text.assemble(signed(gradient.log10_gain), (f"\n{signed(low)}..{signed(high)}", "dim"))
        yield str(gradient.horizon) if gradient.horizon else f">{length}"
    else:
        yield from ("-", "-")
    if layer.lyapunov:
        error = layer.lyapunov.standard_errors[0]
        yield Text.assemble(f"{layer.lyapunov.exponents[0]:.4f}", (f"\n±{short(error, 1)}", "dim"))
    else:
        yield "-"
    yield percent(layer.saturation.rate) if layer.saturation else "-"
    yield Text(layer.verdict, style=VERDICT_STYLES[layer.verdict])


def _gates(layers: list[LayerMeasures]) -> RenderableType:
    table = titled_table("Gates")
    for heading in ("layer", "gate"):
        table.add_column(heading, overflow="fold")
    for heading in ("mean", "open >0.95", "closed <0.05", "gate alone keeps"):
        table.add_column(heading, justify="right")
    for layer in layers:
        for name, gate in (layer.gates or {}).items():
            keeps = "" if gate.time_constant is None else f"{short(gate.time_constant)} steps"
            if gate.time_constant_max is not None:
                keeps += f", at most {short(gate.time_constant_max)}"
            table.add_row(layer.name, name, f"{gate.mean:.3f}", percent(gate.open), percent(gate.closed), keeps)
    return table


def _stacks(stacks: tuple[StackMeasures, ...]) -> RenderableType:
    table = titled_table("Stacks, judged by the gradient through all their layers")
    table.add_column("stack", overflow="fold")
    for heading in ("layers", "log10 gain", "interval", "at the input", "horizon"):
        table.add_column(heading, justify="right")
    table.add_column("verdict", no_wrap=True)
    for stack in stacks:
        verdict = Text(stack.verdict, style=VERDICT_STYLES[stack.verdict])
        gradient = stack.gradient
        if gradient is None:
            table.add_row(stack.name, str(len(stack.layers)), "-", "-", "-", "-", verdict)
            continue
        low, high = gradient.log10_gain_interval
        horizon = (
            str(gradient.horizon)
            if gradient.horizon
            else f">{gradient.lags[-1] if gradient.lags else len(gradient.log10_by_lag)}"
        )
        numbers = (
            signed(gradient.log10_gain),
            f"{signed(low)}..{signed(high)}",
            signed(gradient.input_log10_gain),
        )
        table.add_row(stack.name, str(len(stack.layers)), *numbers, horizon, verdict)
    return table


def _credit(report: Report) -> RenderableType:
    lines = [
        f"{layer.name}: the last {layer.gradient.credit_99_steps} of {report.probe.length} steps make up 99 % of the "
        "contributions to dL/dW_hh"
        for layer in report.layers
        if layer.gradient is not None and layer.gradient.credit_99_steps is not None
    ]
    return Text("\n".join(lines))


def _state_sizes(layers: tuple[LayerMeasures, ...]) -> RenderableType:
    """One line per layer: the size of the state at the first, the middle and the last step."""
    lines = []
    for layer in layers:
        if layer.states is None:
            continue
        norms, steps = layer.states.norm_per_step, layer.states.steps
        shown = sorted({0, max(0, len(norms) // 2 - 1), len(norms) - 1})
        sizes = ", ".join(f"{short(norms[i])} at step {steps[i] if steps else i + 1}" for i in shown)
        lines.append(f"{layer.name}: the norm of the state is {sizes}; its largest number is {short(layer.states.max)}")
    return Text("\n".join(lines))


def _bounds(layers: tuple[LayerMeasures, ...]) -> RenderableType:
    table = titled_table("Bound against truth: log10 gain over the lag")
    table.add_column("layer", overflow="fold")
    for heading in ("‖W_hh‖^lag", "product of ‖J_t‖", "measured"):
        table.add_column(heading, justify="right")
    table.add_column("what ‖W_hh‖ proves", overflow="fold")
    for layer in layers:
        gradient = layer.gradient
        if gradient is None:
            continue
        rough = gradient.rough_bound_log10_gain
        table.add_row(
            layer.name,
            "-" if rough is None else signed(rough),
            signed(gradient.bound_log10_gain),
            signed(gradient.log10_gain),
            _proves(layer.cell, gradient.contraction_guaranteed),
        )
    return table


def _proves(cell: str, contraction_guaranteed: bool | None) -> str:
    """What the spectral norm of ``W_hh`` alone says about the gradient."""
    if cell == "custom":
        return "nothing: it is not known"
    if contraction_guaranteed is None:
        return "nothing: the leak counts" if KINDS[cell].leaky else "nothing: gates decide"
    return "< 1: must vanish in the end" if contraction_guaranteed else "≥ 1: may explode, need not"
