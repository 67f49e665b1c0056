"""Does the drift show before the loss does? Real training, sound and unstable, one checkpoint an epoch.

    python benchmarks/drift.py [NAME...] [--output benchmarks/drift.md]

Every net names a handwritten digit from its pixels, read one by one (T=64; the data and the nets of
sample_models/train.py). After each epoch it is saved with its step, and its loss on the validation images noted. Then
``rnndiag.trend`` looks at the run as it was after each checkpoint: the *first warning* is the first checkpoint at which
a rule of warning or above fires, given that checkpoint and those before it alone.

The loss *deteriorates* at the first epoch at which the median of the last three validation losses is half as large
again as the lowest such median before it. This was fixed before any run was looked at for it. The nets themselves are
never told anything: no run is stopped, none is picked by its outcome.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "sample_models"))
from train import FORGET_BIAS, SEED, Classifier, Start, pixel_sequences

import rnndiag
from rnndiag.config.settings import Settings
from rnndiag.trend import Trend, trend

WORSE = 1.5
SMOOTHED = 3


@dataclass(frozen=True)
class Run:
    """A training recipe and whether it is sound."""

    name: str
    cell: str
    start: Start
    optimizer: str
    lr: float
    epochs: int
    sound: bool
    clip: float = 1.0
    batch: int = 64
    hidden: int = 64


ORTHOGONAL = Start(ih_std=0.1)
RUNS = (
    Run("tanh, SGD 2e-3", "tanh", ORTHOGONAL, "SGD", 2e-3, 30, True),
    Run("tanh, SGD 2e-2", "tanh", ORTHOGONAL, "SGD", 2e-2, 30, True),
    Run("tanh, Adam 1e-3", "tanh", ORTHOGONAL, "Adam", 1e-3, 30, True),
    Run("ReLU from the identity, SGD 1e-3", "relu", Start(hh="identity", ih_std=0.3), "SGD", 1e-3, 20, True, batch=32),
    Run("GRU, Adam 1e-2", "gru", Start(), "Adam", 1e-2, 20, True, batch=32, hidden=48),
    Run("LSTM, Adam 5e-3", "lstm", FORGET_BIAS, "Adam", 5e-3, 20, True, batch=32, hidden=48),
    Run("tanh, Adam 1e-2", "tanh", ORTHOGONAL, "Adam", 1e-2, 40, False),
    Run("tanh, Adam 5e-3, no clipping", "tanh", ORTHOGONAL, "Adam", 5e-3, 70, False, clip=1e9),
    Run("tanh, SGD 5e-2", "tanh", ORTHOGONAL, "SGD", 5e-2, 30, False),
)


def train(run: Run, folder: Path) -> list[float]:
    """Train one net, save each epoch's checkpoint, and return the validation losses."""
    torch.manual_seed(SEED)
    data = pixel_sequences()
    model = Classifier(run.cell, run.hidden)
    run.start.apply(model)
    optimizer: torch.optim.Optimizer
    if run.optimizer == "SGD":
        optimizer = torch.optim.SGD(model.parameters(), lr=run.lr, momentum=0.9)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=run.lr)
    losses, step = [], 0
    for epoch in range(run.epochs + 1):
        for batch in torch.split(torch.randperm(len(data.x_train)), run.batch) if epoch else ():
            loss = model.loss(data.x_train[batch], data.y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), run.clip)
            optimizer.step()
            step += 1
        with torch.no_grad():
            losses.append(float(model.loss(data.x_test, data.y_test)))
        saved: dict[str, Any] = {"epoch": epoch, "global_step": step, "state_dict": model.state_dict()}
        if run.cell == "relu":
            saved["hyper_parameters"] = {"nonlinearity": "relu"}
        torch.save(saved, folder / f"epoch={epoch}.ckpt")
    return losses


def deteriorates(losses: Sequence[float]) -> int | None:
    """The first epoch at which the smoothed loss is half as large again as the lowest before; None: never."""
    smooth = [median(losses[max(0, i - SMOOTHED + 1) : i + 1]) for i in range(len(losses))]
    return next((i for i in range(1, len(smooth)) if smooth[i] > WORSE * min(smooth[:i])), None)


def row(run: Run, seen: Trend, losses: Sequence[float]) -> str:
    epochs = {point.step: epoch for epoch, point in enumerate(seen.points)}
    loud = [alarm for alarm in seen.alarms if alarm.rule != "TRD005"]
    first = min(loud, key=lambda alarm: alarm.first_step, default=None)
    warned = None if first is None else epochs[first.first_step]
    worse = deteriorates(losses)
    best = min(range(len(losses)), key=losses.__getitem__)
    lead = "-" if warned is None or worse is None else str(worse - warned)
    at_end = ", ".join(finding.rule for finding in seen.findings if finding.severity != "info") or "none"
    cells = (
        run.name,
        "sound" if run.sound else "unstable",
        str(run.epochs),
        f"{losses[best]:.2f} ({best})",
        f"{losses[-1]:.2f}",
        "-" if first is None or warned is None else f"{first.rule} {warned}, loss {losses[warned]:.2f}",
        "-" if worse is None else str(worse),
        lead,
        at_end,
    )
    return f"| {' | '.join(cells)} |"


HEADINGS = (
    "net, optimiser", "meant to be", "epochs", "lowest loss (epoch)", "last loss", "first warning, epoch",
    "loss deteriorates, epoch", "epochs ahead", "alarms at the end",
)  # fmt: skip


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Runs; all without any.")] = None,
    output: Annotated[Path | None, typer.Option(help="Also write the table there, as Markdown.")] = None,
) -> None:
    """Train, look at every checkpoint, and print one table."""
    torch.set_num_threads(1)
    started = time.process_time()
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{' --- |' * len(HEADINGS)}"]
    typer.echo("\n".join(lines))
    chosen = [run for run in RUNS if not names or run.name in names]
    for run in chosen:
        with TemporaryDirectory() as folder:
            losses = train(run, Path(folder))
            seen = trend(
                [rnndiag.inspect(path, length=64, settings=Settings(exponents=1)) for path in Path(folder).iterdir()]
            )
        lines.append(row(run, seen, losses))
        typer.echo(lines[-1])
    took = f"{time.process_time() - started:.0f} s of one core, {date.today().isoformat()}, torch {torch.__version__}."
    table = "\n".join([*lines, "", took, ""])
    typer.echo(f"\n{took}")
    if output is not None:
        output.write_text(f"# Drift before the loss\n\nPrinted by `python benchmarks/drift.py`.\n\n{table}", "utf-8")


if __name__ == "__main__":
    typer.run(main)
