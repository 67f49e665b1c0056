"""EXP004: whether a leaky net forgets its initial state, as reservoirs must."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from rnndiag.kinds import KINDS
from rnndiag.rules.base import Finding, LayerRule, Subject, Suggestion, Thresholds

if TYPE_CHECKING:
    from rnndiag.measures.layer import LayerMeasures

STANDARD_ERRORS = 3.0
"""The exponent differs from zero by at least this many of its standard errors, or the question is open."""


class EchoStateFails(LayerRule):
    """The echo-state property does not hold under this probe.

    What it does:
        Fires for a leaky RNN (which includes echo-state networks) whose largest finite-time Lyapunov exponent under
        the inputs of the probe exceeds zero by three of its standard errors. Where the exponent is as clearly below
        zero, a note says that the property holds under this probe.

    Why is this bad:
        Two initial states do not come together under the same input, so the state does not depend on the input alone.
        A readout that was trained on one run does not fit another run.

    Formula:
        largest exponent of the products of ``J_t``, driven by the probe. The spectral radius of ``W`` does not decide:
        inputs move it either way.

    Example:
        A reservoir whose ``W`` has a spectral radius of 5, under inputs that are too weak to hold it.

    What to do:
        Scale ``W`` down, scale the inputs up, or lower the leak.

    Thresholds:
        three standard errors above zero.

    References:
        Jaeger 2001; Manjunath & Jaeger 2013.
    """

    code, name, severity = "EXP004", "echo-state-property-fails", "warning"
    cause = "the recurrent scale lies beyond the edge of chaos for these inputs"
    grows_worse = "exponent"
    needs = ("lyapunov",)
    thresholds: ClassVar = {"standard_errors": STANDARD_ERRORS}

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        if KINDS[layer.cell].leaky:
            return None
        return f"the rule is about leaky RNNs and reservoirs, not {layer.cell} layers"

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        spectrum = layer.lyapunov
        if spectrum is None:
            return
        top, error = spectrum.exponents[0], spectrum.standard_errors[0]
        if not top > at["standard_errors"] * error:
            return
        message = (
            f"the echo-state property does not hold under this probe: nearby states part at {top:.3g} nats a step "
            f"(standard error {error:.1g}){_radius(layer)}"
        )
        why = f"the largest Lyapunov exponent is {top:.3g} > 0"
        suggestions = (
            Suggestion("init", "scale W_hh down until the exponent is below zero", why, treatment="rescale"),
            Suggestion("init", "lower the leak alpha", why, treatment="lower-leak"),
        )
        yield self.finding(layer.name, message, {"exponent": top, "standard_error": error}, suggestions)


def echo_state_notes(layers: Sequence[LayerMeasures]) -> Iterator[str]:
    """For each leaky layer that ``EchoStateFails`` does not find: whether the echo-state property holds."""
    for layer in layers:
        if not KINDS[layer.cell].leaky or layer.lyapunov is None:
            continue
        top, error = layer.lyapunov.exponents[0], layer.lyapunov.standard_errors[0]
        measured = f"largest driven exponent {top:.3g} nats a step, standard error {error:.1g}{_radius(layer)}"
        if top < -STANDARD_ERRORS * error:
            yield f"the echo-state property of {layer.name} holds under this probe: {measured}"
        elif not top > STANDARD_ERRORS * error:
            yield f"whether the echo-state property of {layer.name} holds under this probe is open: {measured}"


def _radius(layer: LayerMeasures) -> str:
    weight = layer.recurrent_weight
    return "" if weight is None else f"; the spectral radius of W_hh is {weight.spectral_radius:.3g}"
