"""Mean field beside measurement: how well it holds, at which width, and how often its interval does.

python benchmarks/theory.py --output benchmarks/theory.md

Each net is driven, and its top exponent measured, by the code that ``rnndiag simulate`` runs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

import torch

from rnndiag.measures.lyapunov import lyapunov
from rnndiag.probes import Probe, ProbeKind
from rnndiag.random_nets import RandomNet
from rnndiag.seeds import generator
from rnndiag.theory.comparison import LayerTheory, beside, predict
from rnndiag.theory.mean_field import mean_field
from rnndiag.trajectory import run_stack

Case = tuple[RandomNet, Probe]


@dataclass(frozen=True, slots=True)
class Group:
    """Nets of one law and width that differ by their seed."""

    net: RandomNet
    kind: ProbeKind
    length: int
    batch: int
    seeds: int

    def cases(self) -> Iterator[Case]:
        for seed in range(self.seeds):
            yield replace(self.net, seed=seed), Probe(self.kind, self.length, self.batch, seed=seed)


def measured(case: Case) -> LayerTheory:
    """The top layer of one net."""
    torch.set_num_threads(1)
    net, probe = case
    stack = net.build().stacks[0]
    inputs = probe.inputs(stack)
    run = run_stack(stack, inputs)[-1][0]
    stream = generator(net.seed, "exponents")
    spectrum = lyapunov(run.along.state_jacobian, run.inputs, 1, probe.length, -3.0, generator=stream)
    return beside(predict(net, inputs).layers[-1], spectrum)


AUTONOMOUS = [
    Group(RandomNet(sigma=sigma, hidden=600), "impulse", 2500, 4, seeds)
    for sigma, seeds in ((0.9, 8), (1.2, 16), (2.0, 8), (5.0, 8), (10.0, 8))
]
DRIVEN = [
    Group(RandomNet(sigma=sigma, hidden=600), "noise", 800, 8, 6) for sigma in (0.5, 1.0, 1.2, 2.0, 3.0, 5.0, 10.0)
]
NEAR_EDGE = [
    Group(RandomNet(sigma=1.2, hidden=hidden), "impulse", 2500, 4, seeds)
    for hidden, seeds in ((150, 32), (300, 24), (600, 16), (1200, 8), (2400, 4))
]
LAWS = [
    Group(RandomNet(init=init, hidden=300), kind, 400, 8, 8)
    for init in ("xavier", "he", "pytorch", "orthogonal")
    for kind in ("noise", "constant")
] + [
    Group(RandomNet(cell="relu", init=init, sigma=sigma, hidden=300), kind, 400, 8, 8)
    for init, sigma, kind in (("gaussian", 1.0, "noise"), ("gaussian", 1.0, "constant"), ("he", None, "noise"),
                              ("gaussian", 2.0, "noise"))
]  # fmt: skip
COVERAGE = [
    Group(RandomNet(sigma=sigma, hidden=hidden), kind, 200, 8, 25)
    for hidden in (32, 128, 400)
    for kind in ("noise", "sine", "constant", "impulse")
    for sigma in (0.5, 1.0, 1.5, 2.0, 5.0)
]
STACKED = [Group(RandomNet(sigma=sigma, hidden=200, layers=3), "noise", 200, 8, 10) for sigma in (1.0, 2.0, 5.0)]


def table(groups: Iterable[Group], pool: ProcessPoolExecutor) -> Iterator[str]:
    """A line a group: mean field, what the width should give, what was measured."""
    yield (
        "| net | H | probe | T, B | seeds | mean field | expected at H | measured ± s.e. | to mean field | to expected "
        "| inside |"
    )
    yield "|---|--:|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for group in groups:
        nets = list(pool.map(measured, group.cases()))
        yield f"| {_name(group.net)} | {group.net.hidden} | {group.kind} | {group.length}, {group.batch} | " + _row(
            nets
        )


def _row(nets: list[LayerTheory]) -> str:
    theory, expected = fmean(n.rate for n in nets), fmean(n.finite_size_rate for n in nets)
    rates = [n.measured_rate for n in nets if n.measured_rate is not None]
    rate, error = fmean(rates), stdev(rates) / math.sqrt(len(rates))
    inside = sum(bool(n.agrees) for n in nets)
    return (
        f"{len(nets)} | {theory:.4f} | {expected:.4f} | {rate:.4f} ± {error:.4f} | {_off(rate, theory)} | "
        f"{_off(rate, expected)} | {inside}/{len(nets)} |"
    )


def _off(rate: float, theory: float) -> str:
    return f"{rate / theory - 1:+.1%}" if abs(theory) > 1e-3 else f"{rate - theory:+.4f} nats"


def _name(net: RandomNet) -> str:
    law = f"sigma={net.sigma:g}" if net.sigma is not None else net.init
    return f"{net.cell} {law}" + (f", {net.layers} layers" if net.layers > 1 else "")


def coverage(pool: ProcessPoolExecutor) -> Iterator[str]:
    """How many measured intervals meet the expected one, by probe and width."""
    yield "| probe | H | nets | agree |"
    yield "|---|--:|--:|--:|"
    for kind in ("noise", "sine", "constant", "impulse"):
        for hidden in (32, 128, 400):
            groups = [g for g in COVERAGE if g.kind == kind and g.net.hidden == hidden]
            nets = list(pool.map(measured, (case for group in groups for case in group.cases())))
            yield f"| {kind} | {hidden} | {len(nets)} | {sum(bool(n.agrees) for n in nets) / len(nets):.0%} |"


def exact() -> Iterator[str]:
    """Mean field without input, to all its digits."""
    yield "| sigma | q | chi | rate |"
    yield "|--:|--:|--:|--:|"
    for sigma in (0.9, 1.2, 2.0, 5.0, 10.0):
        field = mean_field(sigma, 0.0, "tanh")
        yield f"| {sigma:g} | {field.q:.10f} | {field.chi:.10f} | {field.rate:.10f} |"


WIDE, WIDE_STEPS, WIDE_TRANSIENT, WIDE_TANGENTS = 5000, 1600, 400, 8


def wide() -> Iterator[str]:
    """One net too wide for the tool's double precision, sigma = 1.2, without input: states and tangents together."""
    stream = generator(0, "wide net")
    weight = torch.randn(WIDE, WIDE, generator=stream) * (1.2 / math.sqrt(WIDE))
    states = torch.randn(2 * WIDE_TANGENTS, WIDE, generator=stream) / 2
    states[WIDE_TANGENTS:] /= states[WIDE_TANGENTS:].norm(dim=1, keepdim=True)
    growth = torch.zeros(WIDE_TANGENTS, dtype=torch.float64)
    for step in range(WIDE_STEPS):
        hidden, tangent = (states @ weight.T).split(WIDE_TANGENTS)
        hidden = hidden.tanh()
        tangent = (1 - hidden * hidden) * tangent
        norms = tangent.norm(dim=1, keepdim=True)
        states = torch.cat((hidden, tangent / norms))
        if step >= WIDE_TRANSIENT:
            growth += norms[:, 0].double().log()
    rates = growth / (WIDE_STEPS - WIDE_TRANSIENT)
    theory, rate = mean_field(1.2, 0.0, "tanh").rate, float(rates.mean())
    yield (
        f"H={WIDE}, sigma=1.2, {WIDE_TANGENTS} sequences of {WIDE_STEPS} steps in float32: mean field {theory:.4f}, "
        f"measured {rate:.4f} ± {float(rates.std()) / math.sqrt(WIDE_TANGENTS):.4f} ({_off(rate, theory)})."
    )


SECTIONS = {
    "Without input (an impulse, then nothing)": AUTONOMOUS,
    "Driven by noise of unit variance": DRIVEN,
    "Near the edge of chaos: the width decides": NEAR_EDGE,
    "Other laws of the weights": LAWS,
    "The third of three layers": STACKED,
}

PREFACE = """# Mean field beside measurement

Printed by `python benchmarks/theory.py`. Rates are in nats per step; the measured one is the top
exponent after the transient, averaged over seeds, with the standard error of that average. *Expected at
H* is mean field with its correction for the width. *Inside*: nets whose measured interval meets the
interval expected at that width.
"""


def document(pool: ProcessPoolExecutor, only: str) -> Iterator[str]:
    """All sections, or those whose title contains ``only``."""
    if not only:
        yield PREFACE
        yield "## Mean field, tanh without input\n"
        yield from exact()
    for title, groups in SECTIONS.items():
        if only in title:
            yield f"\n## {title}\n"
            yield from table(groups, pool)
    if only in "A wide net":
        yield "\n## A wide net\n"
        yield from wide()
    if only in "How often the expected interval holds":
        yield "\n## How often the expected interval holds\n"
        yield "sigma 0.5, 1, 1.5, 2 and 5, 25 seeds each, T=200, B=8.\n"
        yield from coverage(pool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="print the sections whose title contains this")
    arguments = parser.parse_args()
    lines = []
    with ProcessPoolExecutor(arguments.workers) as pool:
        for line in document(pool, arguments.only):
            print(line, flush=True)
            lines.append(line)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
