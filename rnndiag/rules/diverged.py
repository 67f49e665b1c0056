"""TRD: runs that broke: numbers that are not finite, or a layer that no longer responds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, ClassVar

from rnndiag.rules.base import Evidence, Finding, Suggestion, Thresholds, TrendRule
from rnndiag.rules.drift import step
from rnndiag.rules.words import counted, power

if TYPE_CHECKING:
    from rnndiag.measures.series import Course


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One step of a run, with all files of that step."""

    step: float
    path: str
    """the first file that is not finite, else the last file; empty where paths are not known"""
    broken: str | None
    """what is not finite there; None: nothing"""

    def __str__(self) -> str:
        return f"{self.path} (step {step(self.step)})" if self.path else f"step {step(self.step)}"


class RunDiverged(TrendRule):
    """The run diverged: numbers became NaN or infinite.

    What it does:
        The rule fires when weights, states or gradients of a stack are NaN or infinite at any checkpoint, whatever the
        verdict was before. It names the first broken checkpoint and the last finite one, and what was already unusual
        there.

    Why is this bad:
        A weight that is NaN stays NaN after every further update, so all later checkpoints are useless.

    Formula:
        The rule has no formula for NaN. It compares the weights at the last finite checkpoint with a usual
        initialization: ``std(W_hh) sqrt(fan in)`` is about 1 for a usual initialization.

    Example:
        A run saved twenty checkpoints, and its loss became NaN after the fourteenth.

    What to do:
        Resume from the last finite checkpoint that shows nothing unusual, with a lower learning rate and a clipped
        gradient.

    Thresholds:
        one checkpoint. What counts as unusual: a share of saturated or dead units over 0.5, weights over 5 times a
        usual initialization, a spectral norm over 10 times its first value, a gain over the exploding threshold, a
        largest state over 10000.

    References:
        Pascanu, Mikolov & Bengio 2013.
    """

    code, name, severity = "TRD006", "run-diverged", "error"
    cause = "an update was too large, because the learning rate was too high or the gradient exploded"
    grows_worse = "broken_checkpoints"
    thresholds: ClassVar = {"share": 0.5, "weights": 5.0, "growth": 10.0, "state": 1e4}
    kinds = ("stack",)

    def lacks(self, course: Course, at: Thresholds) -> str | None:
        return None

    def assess_course(self, course: Course, at: Thresholds) -> Iterator[Finding]:
        along = _checkpoints(course)
        broken = [each for each in along if each.broken is not None]
        if not broken:
            return
        ends_broken = along[-1].broken is not None
        start = len(along) - len(list(takewhile(lambda each: each.broken is not None, reversed(along))))
        first = along[start] if ends_broken else broken[0]
        before = along[: along.index(first)]
        last_finite = next((each for each in reversed(before) if each.broken is None), None)
        signs = list(_signs(course, last_finite.step, at)) if last_finite else []
        span = f"{len(broken)} of {counted(len(along), 'checkpoint')} " + ("is" if len(broken) == 1 else "are")
        message = f"{first.broken} in {first}; {span} not finite"
        if not ends_broken:
            again = next(each for each in along[along.index(broken[-1]) :] if each.broken is None)
            message += f", finite again from step {step(again.step)} on"
        if last_finite is None:
            message += "; no checkpoint before it is finite"
        else:
            seen = "; ".join(signs) or "nothing unusual"
            message += f"; the last finite checkpoint before it is {last_finite}, which shows: {seen}"
        evidence: Evidence = {
            "first_broken_step": first.step,
            "first_broken_path": first.path,
            "last_finite_step": None if last_finite is None else last_finite.step,
            "last_finite_path": None if last_finite is None else last_finite.path,
            "broken_checkpoints": len(broken),
            "checkpoints": len(along),
            **({} if last_finite is None else _measured(course, last_finite.step)),
        }
        sound = (each for each in reversed(before) if each.broken is None and not any(_signs(course, each.step, at)))
        yield self.finding(course.name, message, evidence, _resume(last_finite, next(sound, None), signs))


class LayerDead(TrendRule):
    """A layer died: no unit responds any more, or every gate is stuck.

    What it does:
        The rule fires when at all of the last checkpoints every unit of a layer is constant (SAT003's definition), or
        every gate is almost always open or closed.

    Why is this bad:
        A layer whose units are constant passes neither the input nor a gradient, so nothing in it or below it learns,
        and it does not recover. With stuck gates only the candidate responds to the input.

    Formula:
        dead units / units = 1; open + closed of every gate.

    Example:
        A ReLU net is trained with a learning rate of 20, and its upper layer is zero from update 50 on.

    What to do:
        Resume from the last checkpoint at which the layer was alive, with a lower learning rate and a clipped gradient;
        or use another nonlinearity.

    Thresholds:
        share of dead units 1; share of stuck values over 0.99 for every gate.

    References:
        Le, Jaitly & Hinton 2015; Jozefowicz, Zaremba & Sutskever 2015.
    """

    code, name, severity = "TRD007", "layer-dead", "error"
    cause = "an update that was too large pushed every preactivation out of the range in which it responds"
    thresholds: ClassVar = {"dead": 1.0, "stuck": 0.99}
    kinds = ("layer", "relu layer")

    def lacks(self, course: Course, at: Thresholds) -> str | None:
        known = any(quantity in course.series for quantity in ("dead_share", "stuck_gates"))
        return None if known else "dead units and gates are not measured at any checkpoint"

    def assess_course(self, course: Course, at: Thresholds) -> Iterator[Finding]:
        defects = (
            ("dead_share", at["dead"], "every unit is constant, whatever the input"),
            ("stuck_gates", at["stuck"], "every gate is stuck open or closed"),
        )
        for quantity, least, what in defects:
            shares = _lowest(course, quantity)
            responded = [i for i, (_, share) in enumerate(shares) if share < least]
            start = responded[-1] + 1 if responded else 0
            if start == len(shares):
                continue
            first = _at(course, shares[start][0])
            alive = _at(course, shares[start - 1][0]) if start else None
            dead = len(shares) - start
            when = f"at all {counted(dead, 'checkpoint')}"
            if alive is not None:
                when = f"from {first} on; the layer responded at {alive}"
            evidence: Evidence = {
                "quantity": quantity,
                "first_dead_step": first.step,
                "first_dead_path": first.path,
                "last_alive_step": None if alive is None else alive.step,
                "last_alive_path": None if alive is None else alive.path,
                "checkpoints": dead,
            }
            yield self.finding(course.name, f"{what}, {when}", evidence, _revive(alive))
            return


def _checkpoints(course: Course) -> list[Checkpoint]:
    """Each step once; a step is broken if any of its files is."""
    paths = course.paths or ("",) * len(course.steps)
    breaks = course.breaks or (None,) * len(course.steps)
    at: dict[float, Checkpoint] = {}
    for each, path, broken, verdict in zip(course.steps, paths, breaks, course.verdicts, strict=True):
        if verdict == "invalid" and broken is None:
            broken = "numbers are NaN or infinite"
        if each not in at or at[each].broken is None:
            at[each] = Checkpoint(each, path, broken)
    return list(at.values())


def _at(course: Course, where: float) -> Checkpoint:
    return next(each for each in _checkpoints(course) if each.step == where)


def _lowest(course: Course, quantity: str) -> list[tuple[float, float]]:
    """The smallest value at each step at which a quantity is known."""
    series = course.series.get(quantity)
    at: dict[float, float] = {}
    for each, value in zip(series.steps, series.values, strict=True) if series else ():
        at[each] = min(value, at.get(each, value))
    return list(at.items())


def _value(course: Course, quantity: str, where: float) -> float | None:
    """The largest value of a quantity at a step; None where it is not known."""
    series = course.series.get(quantity)
    found = [v for s, v in zip(series.steps, series.values, strict=True) if s == where] if series else []
    return max(found, default=None)


def _measured(course: Course, where: float) -> dict[str, float | None]:
    """What was measured at a step: the stack's gain, and the largest value of each other quantity in any layer."""
    found = {"log10_gain": _value(course, "log10_gain", where)}
    for quantity in ("saturation", "dead_share", "entry_scale", "spectral_norm", "bias_scale", "largest_state"):
        values = [value for layer in course.members if (value := _value(layer, quantity, where)) is not None]
        found[quantity] = max(values, default=None)
    return found


def _signs(course: Course, where: float, at: Thresholds) -> Iterator[str]:
    """What was already unusual at a step, in words."""
    gain = _value(course, "log10_gain", where)
    if gain is not None and gain > course.exploding:
        yield f"the gradient grows to {power(gain)} times its size over the lag"
    for layer in course.members:
        saturated, dead, scale, norm, state = (
            _value(layer, quantity, where)
            for quantity in ("saturation", "dead_share", "entry_scale", "spectral_norm", "largest_state")
        )
        if layer.kind != "relu layer" and saturated is not None and saturated > at["share"]:
            yield f"{saturated:.0%} of the slopes of {layer.name} are saturated"
        if dead is not None and dead > at["share"]:
            yield f"{dead:.0%} of the units of {layer.name} are dead"
        if scale is not None and scale > at["weights"]:
            yield f"W_hh of {layer.name} is {scale:.3g} times as large as a usual initialization"
        first = layer.series["spectral_norm"].values[0] if norm is not None else 0.0
        if norm is not None and norm > at["growth"] * first > 0:
            yield f"‖W_hh‖ of {layer.name} has grown from {first:.3g} to {norm:.3g} since the first checkpoint"
        if state is not None and state > at["state"]:
            yield f"the states of {layer.name} reach {state:.3g}"


def _resume(last_finite: Checkpoint | None, sound: Checkpoint | None, signs: list[str]) -> tuple[Suggestion, ...]:
    """What to do: resume from the last checkpoint without any sign, if there is such a checkpoint."""
    if last_finite is None:
        again = "train again from the start with a lower learning rate, and check the inputs and the loss for NaN"
        return (Suggestion("learning-rate", again, "no finite checkpoint is left to resume from"),)
    if not signs:
        evidence = "nothing unusual was measured there, so few updates broke the run"
    elif sound is not None:
        evidence = f"it is the last checkpoint without the signs that {last_finite} shows"
    else:
        evidence = f"every finite checkpoint shows signs like those of {last_finite}"
    return (
        Suggestion("learning-rate", f"lower the learning rate and resume from {sound or last_finite}", evidence),
        Suggestion("clipping", "clip the norm of the gradient from there on", "one large update is enough for NaN"),
    )


def _revive(alive: Checkpoint | None) -> tuple[Suggestion, ...]:
    if alive is None:
        again = "initialize the layer again, with smaller biases and inputs of unit variance"
        return (Suggestion("init", again, "the layer does not respond at any checkpoint"),)
    return (
        Suggestion(
            "learning-rate",
            f"lower the learning rate and resume from {alive}",
            "the layer responded there, and a dead layer gets no gradient that could revive it",
        ),
        Suggestion(
            "clipping", "clip the norm of the gradient from there on", "one large update is enough to kill units"
        ),
    )
