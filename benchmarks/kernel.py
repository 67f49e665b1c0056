"""The hot functions against their floor and against what one would write without them, in one run on one thread.

    python benchmarks/kernel.py [--output benchmarks/kernel.md]

The floor is the time of the products of matrices alone: as many of the same shapes, timed in the same run. Times are
medians of CPU seconds of calls taken in turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from clock import cpu_seconds, machine, table
from rich.console import Console
from torch import Tensor, nn

from rnndiag.cells import CELLS
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.measures.adjoint import layer_adjoint
from rnndiag.operators.lanczos import spectral_norms
from rnndiag.operators.qr_exponents import frame_growth
from rnndiag.operators.squared import Sandwich, ThereAndBack
from rnndiag.operators.structured import StepJacobian
from rnndiag.probes import Probe
from rnndiag.random_nets import CellName, RandomNet
from rnndiag.trajectory import Trajectory, run_layer, shifted

Row = tuple[str, str, str, str, str, str, str]
HEADER = ("what", "time", "products alone", "share of their rate", "against", "ratio", "goal")


def built(net: RandomNet, length: int, batch: int) -> Trajectory:
    stack = net.build().stacks[0]
    (layer,) = stack.layers
    return run_layer(layer, Probe(length=length, batch=batch).inputs(stack))


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def step_norms() -> Iterator[Row]:
    goals = {("tanh", 64): 3, ("tanh", 128): 10, ("tanh", 256): 40, ("tanh", 512): 80}
    sizes: list[tuple[CellName, int]] = [(cell, h) for cell, h in goals]  # type: ignore[misc]
    for cell, hidden in [*sizes, ("tanh", 1024), ("lstm", 512), ("gru", 512)]:
        run = built(RandomNet(cell, hidden, 8, sigma=1.2), 200, 4)
        jacobian = run.along.state_jacobian
        assert isinstance(jacobian, StepJacobian)
        found: list[Tensor] = []
        ours = partial(_norms, run, found)
        columns = _columns(lambda jacobian=jacobian: spectral_norms(jacobian, generator=stream()))  # type: ignore[misc]
        products = partial(_products, jacobian, columns)
        goal = goals.get((cell, hidden)) if cell == "tanh" else None
        repeats = 7 if hidden < 512 else 3
        if goal is None:
            taken, floor = cpu_seconds((ours, products), repeats)
            against, ratio, wanted = "-", "-", "60 %" if hidden >= 512 else "-"
        else:
            dense: list[Tensor] = []
            alone = cpu_seconds((ours, products), repeats)
            slow, _ = cpu_seconds((partial(_textbook, run, dense), ours), 1)
            taken, floor = alone
            error = float(((found[-1] - dense[-1]) / dense[-1]).abs().max())
            against = f"torch.func + batched SVD: {slow:.3g} s"
            ratio = f"{slow / taken:.1f}x, values within {error:.0e}"
            wanted = f"{goal}x, 1e-6" + (", 60 %" if hidden >= 512 else "")
        double, single = (sum(n for n, dtype in columns if dtype == d) / 800 for d in (torch.float64, torch.float32))
        products_a_map = f"{double:.1f} products a map" + (f" and {single:.1f} in float32" if single else "")
        what = f"step norms, {cell}, H={hidden}, T=200, B=4 ({products_a_map})"
        yield what, f"{taken:.3g} s", f"{floor:.3g} s", f"{floor / taken:.0%}", against, ratio, wanted


def _norms(run: Trajectory, found: list[Tensor]) -> None:
    """From scratch: linearisation, then Lanczos."""
    layer = run.layer
    assert isinstance(layer, RecurrentLayer)
    jacobian = CELLS[layer.cell].linearize(layer, run.inputs, shifted(run.hidden)).state_jacobian
    found.append(spectral_norms(jacobian, generator=stream()).flatten())


def _textbook(run: Trajectory, found: list[Tensor]) -> None:
    layer = run.layer
    assert isinstance(layer, RecurrentLayer)

    def step(h: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(layer.weight_hh @ h + layer.weight_ih @ x + layer.bias_ih + layer.bias_hh)

    previous = shifted(run.hidden)
    dense = torch.func.vmap(torch.func.jacrev(step))(previous.flatten(0, 1), run.inputs.flatten(0, 1))
    found.append(torch.linalg.svdvals(dense)[:, 0])


def _columns(call: Callable[[], object]) -> list[tuple[int, torch.dtype]]:
    """How many columns each product of Lanczos' has, and in which precision."""
    counted: list[tuple[int, torch.dtype]] = []
    plain = {kind: kind.__call__ for kind in (Sandwich, ThereAndBack)}

    def counting(self: Sandwich | ThereAndBack, v: Tensor, *spare: Tensor) -> Tensor:
        counted.append((len(v), v.dtype))
        return plain[type(self)](self, v, *spare)

    for kind in plain:
        kind.__call__ = counting  # type: ignore[method-assign]
    try:
        call()
    finally:
        for kind, own in plain.items():
            kind.__call__ = own  # type: ignore[method-assign]
    return counted


def _products(jacobian: StepJacobian, columns: list[tuple[int, torch.dtype]]) -> None:
    """The products alone: with ``W W^T`` where there is one block, and its own; else with ``W`` and its transpose."""
    weight: Tensor = jacobian.weight  # type: ignore[attr-defined]
    if len(weight) == weight.shape[1]:
        gram = weight @ weight.mT
        grams = {torch.float64: gram, torch.float32: gram.float()}
        for count, dtype in columns:
            _ = torch.ones(count, len(gram), dtype=dtype) @ grams[dtype]
        return
    for count, dtype in columns:
        _ = torch.ones(count, weight.shape[1], dtype=dtype) @ weight.mT
        _ = torch.ones(count, weight.shape[0], dtype=dtype) @ weight


def exponents() -> Iterator[Row]:
    gaussian = {sigma: RandomNet(hidden=512, input_size=8, sigma=sigma) for sigma in (1.2, 3.0)}
    orthogonal = RandomNet(hidden=512, input_size=8, init="orthogonal", input_scale=0.1)
    cases = (
        ("sigma 1.2", gaussian[1.2], 8, 100, 4, "1.5x"),
        ("sigma 3", gaussian[3.0], 8, 100, 4, "1.5x"),
        ("orthogonal", orthogonal, 512, 40, 2, "2.5x"),
        ("sigma 1.2", gaussian[1.2], 512, 20, 2, "2.5x if the spectrum allows"),
        ("sigma 3", gaussian[3.0], 512, 20, 2, "2.5x if the spectrum allows"),
    )
    for name, net, count, length, batch, goal in cases:
        run = built(net, length, batch)
        jacobian, found = run.along.state_jacobian, {}
        assert isinstance(jacobian, StepJacobian)

        def ours(jacobian=jacobian, count=count, length=length, found=found) -> None:  # type: ignore[no-untyped-def]
            found["ours"] = frame_growth(jacobian, count, [0, length], generator=stream())[0]

        def loop(jacobian=jacobian, count=count, found=found) -> None:  # type: ignore[no-untyped-def]
            found["loop"] = _every_step(jacobian, count)

        products = partial(_frames, run.layer.weight_hh, count * batch, length)  # type: ignore[union-attr]
        taken, floor, slow = cpu_seconds((ours, products, loop), 3)
        error = float((found["ours"] - found["loop"]).abs().max()) / length
        if count == 512:  # the sum of all is known: log |det J|
            determinant = _log_determinants(run)
            ours_off, loop_off = (
                float((found[which].sum(-1) - determinant).abs().max()) / length for which in ("ours", "loop")
            )
            apart = f"within {error:.0e} a step (from log det J: ours {ours_off:.0e}, the loop {loop_off:.0e})"
        else:
            apart = f"within {error:.0e} a step"
        what = f"exponents, k={count}, H=512, T={length}, B={batch}, {name}"
        yield (
            what,
            f"{taken:.3g} s",
            f"{floor:.3g} s",
            f"{floor / taken:.0%} ({taken / floor:.2f}x)",
            f"J Q and torch.linalg.qr at each step: {slow:.3g} s",
            f"{slow / taken:.2f}x, {apart}",
            f"{goal}, 1e-8",
        )


def _log_determinants(run: Trajectory) -> Tensor:
    """Sums over steps of ``log |det D W|``, with the determinant of each factor by itself."""
    layer = run.layer
    assert isinstance(layer, RecurrentLayer)
    by_slopes = run.along.slopes["tanh"].log().sum(-1)
    return (by_slopes + torch.linalg.slogdet(layer.weight_hh).logabsdet).sum(0)


def _every_step(jacobian: StepJacobian, count: int) -> Tensor:
    """The plain loop, from the same frame: its products are structured too."""
    length, batch = jacobian.batch
    q = torch.linalg.qr(torch.randn(batch, jacobian.shape[1], count, dtype=torch.float64, generator=stream())).Q
    total = q.new_zeros(batch, count)
    for t in range(length):
        image = jacobian[t].mv(q.permute(2, 0, 1)).permute(1, 2, 0)
        q, r = torch.linalg.qr(image)
        total += r.diagonal(dim1=-2, dim2=-1).abs().log()
    return total


def _frames(weight: Tensor, rows: int, length: int) -> None:
    frame = torch.ones(rows, weight.shape[1], dtype=weight.dtype)
    for _ in range(length):
        _ = frame @ weight.mT


def way_back() -> Iterator[Row]:
    draws, length, batch = 4, 100, 16
    cells: tuple[CellName, ...] = ("tanh", "lstm")
    for cell in cells:
        for hidden in (64, 128, 512):
            run = built(RandomNet(cell, hidden, 16, sigma=1.2), length, batch)
            layer = run.layer
            assert isinstance(layer, RecurrentLayer)
            ours = partial(layer_adjoint, run, draws=draws, generator=stream())
            module = CELLS[cell].kernel(layer).double()  # type: ignore[attr-defined]
            products = partial(_ways, layer, draws * batch, length)
            back, wide = (_Backward(module, length, count, 16) for count in (batch, draws * batch))
            taken, floor = cpu_seconds((ours, products), 7)
            same, all_ = back.seconds(7), wide.seconds(7)
            yield (
                f"gradient through time, {cell}, H={hidden}, T={length}, B={batch}, {draws} draws each",
                f"{taken:.3g} s",
                f"{floor:.3g} s",
                f"{floor / taken:.0%}",
                f"backward of nn.{type(module).__name__}, {batch} sequences: {same:.3g} s; "
                f"{draws * batch}: {all_:.3g} s",
                f"takes {taken / same:.2f} of it; {taken / all_:.2f}",
                "2",
            )


def _ways(layer: RecurrentLayer, rows: int, length: int) -> None:
    at = torch.ones(rows, len(layer.weight_hh), dtype=torch.float64)
    for _ in range(length):
        _ = at @ layer.weight_hh
        _ = at @ layer.weight_ih


class _Backward:
    """One backward pass of a module, from its last output to inputs and weights; the pass forward is not timed."""

    def __init__(self, module: nn.Module, length: int, batch: int, width: int) -> None:
        self.module = module
        self.inputs = torch.randn(length, batch, width, dtype=torch.float64, requires_grad=True)

    def seconds(self, repeats: int) -> float:
        times = []
        for _ in range(repeats):
            loss = self.module(self.inputs)[0][-1].sum()
            start = time.process_time()
            loss.backward()
            times.append(time.process_time() - start)
        return statistics.median(times)


def main(
    output: Annotated[Path | None, typer.Option(help="Also write the table there, as Markdown.")] = None,
) -> None:
    """Measure every hot function and print one table."""
    torch.set_num_threads(1)
    rows = []
    for part in (step_norms, exponents, way_back):
        for row in part():
            Console(stderr=True).print(row[0], row[1], row[3], row[5], markup=False)
            rows.append(row)
    text = f"{table(HEADER, rows)}\n{machine()}\n"
    typer.echo(text)
    if output is not None:
        title = (
            "# The hot functions, their floors and the alternatives\n\nPrinted by `python benchmarks/kernel.py`.\n\n"
        )
        output.write_text(title + text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
