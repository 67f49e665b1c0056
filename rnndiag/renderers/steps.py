"""Single steps: the first, the last and the extreme steps, or all steps."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from rnndiag.measures.layer import LayerMeasures
from rnndiag.renderers.numbers import percent, short, signed
from rnndiag.renderers.tables import titled_table


def step_table(layers: Sequence[LayerMeasures], *, verbose: bool) -> RenderableType:
    """For each layer the first step, the last and the extreme ones, or every step."""
    table = titled_table("Single steps" + ("" if verbose else " (--verbose shows all)"))
    table.add_column("layer", overflow="fold")
    for heading in ("step", "‖J_t‖", "saturated", "log10 gain to here"):
        table.add_column(heading, justify="right")
    table.add_column("", style="dim")
    for layer in layers:
        jacobian, saturation, gradient = layer.jacobian, layer.saturation, layer.gradient
        if jacobian is None or gradient is None:
            continue
        norms, gains = jacobian.norm_per_step, gradient.log10_by_lag
        saturated = saturation.per_step if saturation else ()
        why = notable_steps(norms, saturated)
        for t in range(len(norms)) if verbose else sorted(why):
            table.add_row(
                layer.name,
                str(jacobian.steps[t] if jacobian.steps else t + 1),
                short(norms[t]),
                percent(saturated[t]) if saturated else "-",
                signed(gains[len(norms) - 1 - t]),
                why.get(t, ""),
            )
    return table


def notable_steps(norms: Sequence[float], saturated: Sequence[float]) -> dict[int, str]:
    """The indices of the notable steps, each with the reason; ``saturated`` is empty if it is not known."""
    steps = range(len(norms))
    candidates = [(0, "first"), (len(norms) - 1, "last")]
    if max(norms) > min(norms) * (1 + 1e-6):  # the accuracy of the norms
        candidates.append((max(steps, key=norms.__getitem__), "largest ‖J_t‖"))
        candidates.append((min(steps, key=norms.__getitem__), "smallest ‖J_t‖"))
    if saturated and max(saturated) > min(saturated):
        candidates.append((max(steps, key=saturated.__getitem__), "most saturated"))
    notable: dict[int, str] = {}
    for t, reason in candidates:
        notable[t] = f"{notable[t]}, {reason}" if t in notable else reason
    return notable
