"""How often the gate cries wolf, and how often it sleeps: 200 seeded nets of each kind.

    python benchmarks/alarms.py [--nets 200] [--output benchmarks/alarms.md]

A *false alarm* is any error or warning on a net that is sound for its lag; a *miss* is a net with a known
defect on which the rule for it stays silent, or on which an error of another family fires. Kinds with
random weights take a new seed for each net; the trained sample models take a new probe seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

from rnndiag import checkpoint
from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet

SAMPLES = Path(__file__).parent.parent / "sample_models"
PLAIN = RandomNet(hidden=32, input_size=4)


@dataclass(frozen=True)
class Kind:
    """Nets by seed, at a length, and the rule that must fire on them (None: they are sound)."""

    name: str
    net: Callable[[int], Model]
    rule: str | None = None
    length: int = 64


def random(**options: object) -> Callable[[int], Model]:
    return lambda seed: replace(PLAIN, seed=seed, **options).build()  # type: ignore[arg-type]


def edited(edit: Callable[[RecurrentLayer], None], **options: object) -> Callable[[int], Model]:
    def build(seed: int) -> Model:
        model = random(**options)(seed)
        edit(model.stacks[0].layers[0])
        return model

    return build


def sample(name: str) -> Callable[[int], Model]:
    # A bare state_dict does not say that its net uses tanh.
    model = checkpoint.load(SAMPLES / f"{name}.pt", Answers(nonlinearity="tanh" if name.endswith("_tanh") else None))
    return lambda seed: model


def chrono(layer: RecurrentLayer) -> None:
    """Tallec & Ollivier 2018 for a lag of 64: log U(1, 63) for the gate that keeps, its negative for the input's."""
    bias, hidden = layer.bias_ih, layer.hidden_size
    assert bias is not None
    draws = torch.empty(hidden, dtype=torch.float64).uniform_(1, 63).log()
    bias[hidden : 2 * hidden] = draws  # forget (LSTM) and update (GRU) are both the second block
    if layer.cell == "lstm":
        bias[:hidden] = -draws


def forgetful_first_level(seed: int) -> Model:
    """A contracting level under one that keeps its state: the stack remembers."""
    lower = replace(PLAIN, seed=seed, sigma=0.3).build().stacks[0].layers[0]
    upper = (
        replace(PLAIN, seed=seed + 1, input_size=32, init="orthogonal", input_scale=0.05).build().stacks[0].layers[0]
    )
    upper = replace(upper, name="rnn.l1")
    return Model(Source("two levels", "random"), (Stack("rnn", ((lower,), (upper,))),))


def shut(layer: RecurrentLayer) -> None:
    assert layer.bias_ih is not None
    layer.bias_ih[layer.hidden_size : 2 * layer.hidden_size] = -6


def dead(layer: RecurrentLayer) -> None:
    assert layer.bias_ih is not None
    layer.bias_ih[: layer.hidden_size // 2] = -30


def broken(layer: RecurrentLayer) -> None:
    layer.weight_hh[1, 1] = math.nan


KINDS = (
    Kind("orthogonal tanh, weak input", random(init="orthogonal", input_scale=0.03)),
    Kind("LSTM, chrono biases", edited(chrono, cell="lstm", init="pytorch")),
    Kind("GRU, chrono biases", edited(chrono, cell="gru", init="pytorch")),
    Kind("IRNN, normal sparsity", random(cell="relu", init="identity", input_scale=0.1)),
    Kind("first level forgets, second remembers", forgetful_first_level),
    Kind("tiny tanh, 2 units", random(hidden=2, init="orthogonal", input_scale=0.03)),
    Kind("one unit", random(hidden=1, init="orthogonal", input_scale=0.03)),
    Kind("one step", random(init="pytorch"), length=1),
    Kind("PyTorch's LSTM over 5 steps", random(cell="lstm", init="pytorch"), length=5),
    Kind("trained healthy_tanh", sample("healthy_tanh")),
    Kind("trained irnn_relu", sample("irnn_relu")),
    Kind("trained gru", sample("gru")),
    Kind("trained lstm", sample("lstm")),
    Kind("trained bilstm_2layer", sample("bilstm_2layer")),
    Kind("trained encoder_decoder", sample("encoder_decoder")),
    Kind("trained pickled_module", sample("pickled_module")),
    Kind("tanh, sigma 0.5", random(sigma=0.5), "VAN001"),
    Kind("tanh, PyTorch's init", random(init="pytorch"), "VAN001"),
    Kind("LSTM, PyTorch's init", random(cell="lstm", init="pytorch"), "INI001"),
    Kind("GRU, PyTorch's init", random(cell="gru", init="pytorch"), "VAN001"),
    Kind("tanh, sigma 4, weak input, 96 units", random(sigma=4.0, input_scale=0.1, hidden=96), "EXP001"),
    Kind("ReLU, sigma 2", random(cell="relu", sigma=2.0), "EXP001"),
    Kind("tanh, inputs times 20", random(init="orthogonal", input_scale=20.0), "SAT001"),
    Kind("LSTM, forget gate shut", edited(shut, cell="lstm", init="pytorch"), "SAT002"),
    Kind("ReLU, half the units dead", edited(dead, cell="relu", init="orthogonal"), "SAT003"),
    Kind("NaN in a weight", edited(broken), "NUM001"),
    Kind("trained vanishing_tanh", sample("vanishing_tanh"), "VAN001"),
    Kind("trained exploding_tanh", sample("exploding_tanh"), "EXP001"),
    Kind("trained saturated_tanh", sample("saturated_tanh"), "SAT001"),
)

CONSEQUENCES = {"SAT001": {"VAN"}, "SAT002": {"VAN"}, "SAT003": {"VAN"}, "INI001": {"VAN"}}
"""Families whose errors a defect brings about by its nature."""


def wrong(kind: Kind, model: Model, seed: int) -> bool:
    """Whether the gate errs on a net."""
    torch.manual_seed(seed)
    report = diagnose(
        model, Probe(length=kind.length, batch=8, seed=seed), Settings(seed=seed, exponents=4, treat=False)
    )
    loud = {f.rule for f in report.findings if f.severity != "info"}
    if kind.rule is None:
        return bool(loud)
    errors = {f.rule[:3] for f in report.findings if f.severity == "error"}
    return kind.rule not in loud or bool(errors - {kind.rule[:3]} - CONSEQUENCES.get(kind.rule, set()))


def main(
    nets: Annotated[int, typer.Option(help="Nets of each kind.")] = 200,
    output: Annotated[Path | None, typer.Option(help="Also write the table there, as Markdown.")] = None,
) -> None:
    """Count false alarms and misses, and print one table."""
    lines = ["| nets | must | wrong | of |", "| --- | --- | --- | --- |"]
    for kind in track(KINDS, "alarms", console=Console(stderr=True)):
        count = 0
        for seed in range(nets):
            torch.manual_seed(seed)
            count += wrong(kind, kind.net(seed), seed)
        lines.append(f"| {kind.name}, T={kind.length} | {kind.rule or 'be silent'} | {count} | {nets} |")
    table = "\n".join([*lines, "", f"{date.today().isoformat()}, torch {torch.__version__}.", ""])
    typer.echo(table)
    if output is not None:
        note = f"# False alarms and misses\n\nPrinted by `python benchmarks/alarms.py --nets {nets}`.\n\n"
        output.write_text(note + table, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
