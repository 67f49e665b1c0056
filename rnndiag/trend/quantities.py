"""What is followed along a run: a new quantity is a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rnndiag.config.settings import Thresholds
from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.stack import StackMeasures


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of a layer or stack, by what people call it."""

    label: str
    style: str = "short"
    """how it is written: ``short``, ``signed``, ``percent`` or ``count``"""
    shown: bool = True
    """in the table; JSON and CSV hold all"""


def of_stack(stack: StackMeasures, thresholds: Thresholds) -> dict[str, float | None]:
    """All quantities of a stack; all None where its numbers are not finite."""
    gradient = stack.gradient
    if gradient is None:
        return dict.fromkeys(STACK)
    low, high = gradient.log10_gain_interval
    lags = gradient.lags or range(1, len(gradient.log10_by_lag) + 1)  # of a long curve a report has some
    lost = (lag for lag, gain in zip(lags, gradient.log10_by_lag, strict=True) if gain < thresholds.vanishing)
    return {
        "log10_gain": gradient.log10_gain,
        "log10_gain_low": low,
        "log10_gain_high": high,
        "rate": gradient.rate,
        "horizon": None if gradient.horizon is None else float(gradient.horizon),
        "memory": float(next(lost, lags[-1])),
    }


def of_layer(layer: LayerMeasures) -> dict[str, float | None]:
    """All quantities of a layer, and the means of its gates."""
    gates = {f"gate_{name}": gate.mean for name, gate in (layer.gates or {}).items()}
    return {**{name: read(layer) for name, (_, read) in _LAYER.items()}, **gates}


def quantity(name: str) -> Quantity:
    """How a quantity is called and written."""
    if name in STACK:
        return STACK[name]
    if name in _LAYER:
        return _LAYER[name][0]
    return Quantity(f"{name.removeprefix('gate_')} gate, mean")


STACK = {
    "log10_gain": Quantity("log10 gain", "signed"),
    "log10_gain_low": Quantity("log10 gain, low", "signed", shown=False),
    "log10_gain_high": Quantity("log10 gain, high", "signed", shown=False),
    "rate": Quantity("rate, nats/step"),
    "horizon": Quantity("horizon", "count"),
    "memory": Quantity("memory", "count", shown=False),
}

_Read = Callable[[LayerMeasures], float | None]


def _gradient(read: Callable[..., float]) -> _Read:
    return lambda layer: None if layer.gradient is None else read(layer.gradient)


def _weight(read: Callable[..., float]) -> _Read:
    return lambda layer: None if layer.recurrent_weight is None else read(layer.recurrent_weight)


def _exponents(read: Callable[..., float]) -> _Read:
    return lambda layer: None if layer.lyapunov is None else read(layer.lyapunov)


def _saturation(read: Callable[..., float]) -> _Read:
    return lambda layer: None if layer.saturation is None else read(layer.saturation)


def _dead_share(layer: LayerMeasures) -> float | None:
    return None if layer.saturation is None else layer.saturation.dead_units / layer.hidden_size


def _stuck_gates(layer: LayerMeasures) -> float | None:
    """The share of open or closed values of the gate with the smallest share; None without gates."""
    return min((gate.open + gate.closed for gate in (layer.gates or {}).values()), default=None)


_LAYER: dict[str, tuple[Quantity, _Read]] = {
    "log10_gain": (Quantity("log10 gain", "signed"), _gradient(lambda g: g.log10_gain)),
    "log10_gain_low": (
        Quantity("log10 gain, low", "signed", shown=False),
        _gradient(lambda g: g.log10_gain_interval[0]),
    ),
    "log10_gain_high": (
        Quantity("log10 gain, high", "signed", shown=False),
        _gradient(lambda g: g.log10_gain_interval[1]),
    ),
    "rate": (Quantity("rate, nats/step"), _gradient(lambda g: g.rate)),
    "exponent": (Quantity("top exponent"), _exponents(lambda e: e.exponents[0])),
    "exponent_standard_error": (
        Quantity("its standard error", shown=False),
        _exponents(lambda e: e.standard_errors[0]),
    ),
    "saturation": (Quantity("saturated", "percent"), _saturation(lambda s: s.rate)),
    "dead_units": (Quantity("dead units", "count"), _saturation(lambda s: float(s.dead_units))),
    "dead_share": (Quantity("share of dead units", "percent", shown=False), _dead_share),
    "stuck_gates": (Quantity("stuck gates", "percent", shown=False), _stuck_gates),
    "largest_state": (
        Quantity("largest state"),
        lambda layer: None if layer.states is None else layer.states.max,
    ),
    "spectral_norm": (Quantity("‖W_hh‖"), _weight(lambda w: w.spectral_norm)),
    "spectral_radius": (Quantity("spectral radius"), _weight(lambda w: w.spectral_radius)),
    "entry_scale": (Quantity("entry scale"), _weight(lambda w: max(b.entry_scale for b in w.blocks.values()))),
    "effective_rank": (Quantity("effective rank"), _weight(lambda w: w.effective_rank)),
    "bias_scale": (Quantity("bias scale"), lambda layer: layer.bias_scale),
}
