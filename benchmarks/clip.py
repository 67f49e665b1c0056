"""Clipping with the advised threshold: exploding tanh nets trained by SGD, with PyTorch's modules and its clipping.

    python benchmarks/clip.py [--seeds 4] [--output benchmarks/clip.md]

Each net is trained three times on the same batches: without clipping, with the threshold that rnndiag advises, and with
a threshold of 1000, which shows what a threshold that is far too large does. The task is to recall the first feature
of the input two steps before the last step. Its variance is 1, so a constant answer reaches a loss of 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from rnndiag.bench import Bench
from rnndiag.config.settings import Settings
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.treatments.clip import Clip
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.sound import sound_net

HIDDEN, INPUTS, LENGTH, BATCH = 32, 2, 60, 32
SIGMAS = (2.2, 2.6, 3.2)
RATE, LAST = 0.1, 20


def trained(net: RandomNet, clip: float, updates: int) -> float:
    """The mean loss of the last updates of SGD; infinite if a loss is not finite."""
    (layer,) = net.build().stacks[0].layers
    torch.manual_seed(net.seed)
    rnn, readout = nn.RNN(INPUTS, HIDDEN), nn.Linear(HIDDEN, 1)
    with torch.no_grad():
        for name, value in layer.parameters.items():
            getattr(rnn, f"{name}_l0").copy_(value)
    parameters = [*rnn.parameters(), *readout.parameters()]
    optimizer, stream = torch.optim.SGD(parameters, lr=RATE), torch.Generator().manual_seed(100 + net.seed)
    losses: list[float] = []
    for _ in range(updates):
        inputs = torch.randn(LENGTH, BATCH, INPUTS, generator=stream)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(readout(rnn(inputs)[0][-1])[:, 0], inputs[-3, :, 0])
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            return math.inf
    return sum(losses[-LAST:]) / LAST


def main(
    seeds: Annotated[int, typer.Option(help="Number of nets for each sigma.")] = 4,
    updates: Annotated[int, typer.Option(help="Number of updates of each training.")] = 300,
    output: Annotated[Path | None, typer.Option(help="Also write the table to this file, as Markdown.")] = None,
) -> None:
    """Train exploding nets with and without clipping, and print the losses."""
    torch.set_num_threads(1)
    lines = [
        "| sigma | log10 gain | advised c | updates cut | loss without clipping | loss with c = 1000 "
        "| loss with advised c |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for sigma in SIGMAS:
        for seed in range(seeds):
            net = RandomNet(hidden=HIDDEN, input_size=INPUTS, sigma=sigma, seed=seed)
            (stack,) = net.build().stacks
            patient = Patient.of(Bench.of(stack, Probe(length=LENGTH, batch=BATCH), Settings()))
            figures = Clip().advise(patient, lambda patient=patient: sound_net(patient)).figures  # type: ignore[misc]
            without, large = (trained(net, clip, updates) for clip in (math.inf, 1000.0))
            c = figures.get("threshold")  # None if no clipping is needed
            threshold, cut, loss = (
                ("none", "-", "-")
                if c is None
                else (f"{c:.2g}", f"{figures['share_over']:.0%}", f"{trained(net, c, updates):.3g}")
            )
            lines.append(
                f"| {sigma} | {patient.gain.log10:.1f} | {threshold} | {cut} | {without:.3g} | {large:.3g} | {loss} |"
            )
    command = f"python benchmarks/clip.py --seeds {seeds} --updates {updates}"
    title = f"# Clipping: exploding nets trained by SGD at {RATE:g}"
    text = "\n".join((title, "", f"Printed by `{command}`.", "", *lines, ""))
    typer.echo(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
