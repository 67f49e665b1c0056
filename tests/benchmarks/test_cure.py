"""benchmarks/cure.py: its tasks are what they say, and its batched training is PyTorch's own."""

from __future__ import annotations

import sys
from itertools import islice

import pytest
import torch
from torch import nn

from rnndiag.random_nets import RandomNet
from tests.paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))  # the script's own modules stand beside it

import cure_tasks as tasks
import cure_training as training

STEPS = 3


@pytest.mark.parametrize("length", [3, 7, 100])
def test_the_target_is_the_sum_of_the_two_marked_numbers(length: int) -> None:
    shown, target = tasks.adding(length, 2000, torch.Generator().manual_seed(0))
    numbers, marks = shown[..., 0] / 12**0.5 + 0.5, shown[..., 1] > 0
    assert (marks.sum(0) == 2).all()
    assert (marks[: length // 2].sum(0) == 1).all()
    assert 0 <= numbers.min() < numbers.max() <= 1 + 1e-6
    torch.testing.assert_close((numbers * marks).sum(0), target)


def test_inputs_are_standardised_and_the_baseline_is_the_variance_of_the_target() -> None:
    shown, target = tasks.adding(50, 20_000, torch.Generator().manual_seed(0))
    assert shown.mean((0, 1)).abs().max() < 0.01
    assert (shown.std((0, 1)) - 1).abs().max() < 0.01
    constant = torch.ones(1, len(target), 1)
    score = tasks.Task("adding", 50, 0.05, 1).scores(constant, target)
    assert score.item() == pytest.approx(tasks.ADDING_BASELINE, rel=0.03)


def test_no_batch_holds_a_held_out_sequence() -> None:
    task = tasks.Task("adding", 10, 0.05, 1)
    held = task.held_out(1)[1]
    assert all(not torch.isin(y, held).any() for _, y in islice(task.batches(1, 32), 20))


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("cell", ["tanh", "lstm", "gru"])
def test_nets_that_train_together_train_as_pytorch_trains_each(cell: str, depth: int) -> None:
    """Two nets at once against a loop over PyTorch's modules, its clipping and its Adam."""
    task, recipe = tasks.Task("adding", 12, 0.0, STEPS), training.Recipe(rate=1e-2, batch=8, clip=0.05, check=STEPS)
    drawn = [
        RandomNet(cell=cell, hidden=5, input_size=2, layers=depth, init="pytorch", seed=seed)  # type: ignore[arg-type]
        for seed in (3, 4)
    ]
    nets = [net.build().stacks[0].layers for net in drawn]
    outcomes = training.train(nets, task, recipe, [0, 1], 5)
    for net, seed, outcome in zip(nets, (0, 1), outcomes, strict=True):
        assert outcome.learnt is None
        assert outcome.score == pytest.approx(alone(net, seed, task, recipe), rel=1e-4)


def alone(net, seed: int, task, recipe) -> float:
    start = {name: value[0] for name, value in training.stacked([net], 1, [seed]).items()}
    cell, width = net[0].cell, net[0].hidden_size
    module = {"tanh": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](2, width, num_layers=len(net))
    head = nn.Linear(width, 1)
    with torch.no_grad():
        for level in range(len(net)):
            getattr(module, f"bias_hh_l{level}").zero_()
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                if f"{level}.{name}" in start:
                    getattr(module, f"{name}_l{level}").copy_(start[f"{level}.{name}"])
            if cell != "gru":
                getattr(module, f"bias_hh_l{level}").requires_grad_(False)
        head.weight.copy_(start["head"])
        head.bias.copy_(start["head_bias"])
    parameters = [p for p in (*module.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=recipe.rate)
    for x, y in islice(task.batches(5, recipe.batch), STEPS):
        optimizer.zero_grad()
        (head(module(x)[0][-1])[:, 0] - y).square().mean().backward()
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
        optimizer.step()
    x, y = task.held_out(5)
    with torch.no_grad():
        return float((head(module(x)[0][-1])[:, 0] - y).square().mean())


def test_a_net_that_has_learnt_leaves_and_the_others_train_on() -> None:
    task = tasks.Task("adding", 10, 0.17, 60)  # what any net reaches, but not at once
    recipe = training.Recipe(rate=1e-2, batch=32, check=5)
    nets = [RandomNet(hidden=8, input_size=2, sigma=s, seed=1).build().stacks[0].layers for s in (1.0, 8.0)]
    together = training.train(nets, task, recipe, [0, 1], 5)
    apart = [training.train([net], task, recipe, [seed], 5)[0] for seed, net in enumerate(nets)]
    assert [o.learnt for o in together] == [o.learnt for o in apart]
    assert len({o.learnt for o in together}) == 2
