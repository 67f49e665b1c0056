"""The critical gain, net by net: the sigma at which its own gradient neither shrinks nor grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch

from rnndiag.measures.statistics import median, median_interval
from rnndiag.sweep.axes import Condition, conditions
from rnndiag.sweep.log import Key
from rnndiag.sweep.plan import Plan
from rnndiag.sweep.result import CriticalSigma, NetMeasure
from rnndiag.sweep.roots import Search, root

TOLERANCE = 1e-4
"""of a root, relative: far under what nets differ by"""


def critical_gains(
    plan: Plan, known: Mapping[Key, NetMeasure], measure: Callable[[Sequence[Key]], None]
) -> tuple[CriticalSigma, ...]:
    """For each value of the other axis.

    A seed draws one matrix of standard normal numbers that sigma scales (common random numbers), so that a net's
    rate is a smooth function of sigma while it is not chaotic, and its root is sought by interpolation from the two
    points of the grid between which the rate first rises through zero. All searches advance together, one net each at a
    time. The median over nets is the estimate, their spread its uncertainty.

    Args:
        plan: in which sigma varies.
        known: the nets of the grid; more are added.
        measure: sees to it that nets are known.
    """
    sigmas = sorted(float(value) for value in plan.axes["sigma"])
    others = list(conditions({name: values for name, values in plan.axes.items() if name != "sigma"}))

    def key(other: Condition, sigma: float, seed: int) -> Key:
        at = dict(other) | {"sigma": sigma}
        return tuple((name, at[name]) for name in plan.axes), seed

    searches: dict[tuple[Condition, int], Search] = {}
    for other in others:
        for seed in plan.seeds:
            rates = [(sigma, known[key(other, sigma, seed)].rate) for sigma in sigmas]
            search = _search(rates)
            if search is not None:
                searches[other, seed] = search
    roots = _in_step(searches, key, known, measure)
    return tuple(_summary(plan, other, sigmas, [roots.get((other, seed)) for seed in plan.seeds]) for other in others)


def _search(rates: Sequence[tuple[float, float | None]]) -> Search | None:
    for (low, at_low), (high, at_high) in pairwise(rates):
        # A state that overflows, above a point where it does not, grows.
        above = torch.inf if at_high is None else at_high
        if at_low is not None and at_low < 0 <= above:
            return root(low, at_low, high, above, TOLERANCE * high)
    return None


def _in_step(
    searches: Mapping[tuple[Condition, int], Search],
    key: Callable[[Condition, float, int], Key],
    known: Mapping[Key, NetMeasure],
    measure: Callable[[Sequence[Key]], None],
) -> dict[tuple[Condition, int], float]:
    roots: dict[tuple[Condition, int], float] = {}
    asked: dict[tuple[Condition, int], Key] = {}

    def advance(which: tuple[Condition, int], value: float | None) -> None:
        search = searches[which]
        try:
            sigma = next(search) if value is None else search.send(value)
        except StopIteration as found:
            roots[which] = found.value
            asked.pop(which, None)
        else:
            asked[which] = key(which[0], sigma, which[1])

    for which in searches:
        advance(which, None)
    while asked:
        measure(list(asked.values()))
        for which, net in list(asked.items()):
            rate = known[net].rate
            # Where a state overflows, between two points where it does not, it grows.
            advance(which, torch.inf if rate is None else rate)
    return roots


def _summary(plan: Plan, other: Condition, sigmas: Sequence[float], roots: Sequence[float | None]) -> CriticalSigma:
    condition: Condition = (*other, ("sigma", sigmas[0]))
    theory = plan.theory(condition)[1]
    found = torch.tensor([value for value in roots if value is not None], dtype=torch.float64)
    if 2 * len(found) < len(roots) or not len(found):
        return CriticalSigma(other, None, None, theory, tuple(roots))
    return CriticalSigma(other, float(median(found)), median_interval(found, found), theory, tuple(roots))
