"""What the nets of cure.py learn: the adding problem, and handwritten digits read pixel by pixel.

Both ask for memory: half of the marked entries of the adding problem lie in the first half of the sequence, and a
digit is read off the state after its last pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

ADDING_BASELINE = 1 / 6
"""Variance of a sum of two U(0, 1): the mean squared error of always answering 1."""

PIXEL_MEAN, PIXEL_STD = 4.88, 6.02
"""Of all pixels, as in sample_models/train.py."""

DIGITS_TEST = 360


@dataclass(frozen=True)
class Task:
    """A task at a length, when a net counts as having learnt it, and for how many updates it may try.

    ``learnt`` is a bound on the score on held-out sequences: the mean squared error of the adding problem, the share
    of digits named wrongly.
    """

    name: str
    length: int
    learnt: float
    updates: int

    def __str__(self) -> str:
        return f"{self.name}, T={self.length}"

    @property
    def inputs(self) -> int:
        return 2 if self.name == "adding" else 1

    @property
    def outputs(self) -> int:
        return 1 if self.name == "adding" else 10

    def batches(self, seed: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Training batches without end: ``[T, B, D]`` and targets ``[B]``."""
        stream = torch.Generator().manual_seed(seed)
        while True:
            if self.name == "adding":
                yield adding(self.length, size, stream)
            else:
                x, y = _digits()[0]
                for chosen in torch.randperm(len(y), generator=stream).split(size):
                    if len(chosen) == size:
                        yield x[:, chosen], y[chosen]

    def held_out(self, seed: int) -> tuple[Tensor, Tensor]:
        """Sequences that no batch holds."""
        if self.name == "adding":
            return adding(self.length, 1000, torch.Generator().manual_seed(-1 - seed))
        return _digits()[1]

    def probe(self, seed: int, size: int) -> Tensor:
        """Inputs to measure a net on before it trains, ``[B, T, D]``: of the training kind, no targets."""
        return next(self.batches(seed, size))[0].transpose(0, 1)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each net: ``[N, B, outputs]`` and ``[B]`` to ``[N]``."""
        if self.name == "adding":
            return (outputs[..., 0] - targets).square().mean(1)
        logs = outputs.log_softmax(-1)
        return -logs.gather(-1, targets.expand(len(outputs), -1)[..., None]).mean((1, 2))

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What ``learnt`` bounds, of each net."""
        if self.name == "adding":
            return self.losses(outputs, targets)
        return (outputs.argmax(-1) != targets).double().mean(1)


def adding(length: int, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """The adding problem of Hochreiter & Schmidhuber (1997), in the form of Arjovsky et al. (2016), ``T >= 3``.

    Each step holds a number of U(0, 1) and a mark; one step in each half of the sequence is marked, and the target
    is the sum of the two marked numbers: ``[T, B, 2]`` and ``[B]``. Inputs are shown with mean 0 and variance 1, like
    the pixels of the digits; the target is not.
    """
    numbers = torch.rand(length, count, generator=stream)
    first = torch.randint(length // 2, (count,), generator=stream)
    second = torch.randint(length // 2, length, (count,), generator=stream)
    marks = torch.zeros(length, count)
    every = torch.arange(count)
    marks[first, every] = marks[second, every] = 1
    shared = 2 / length
    shown = ((numbers - 0.5) * 12**0.5, (marks - shared) / (shared * (1 - shared)) ** 0.5)
    return torch.stack(shown, -1), (numbers * marks).sum(0)


@cache
def _digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and test digits of scikit-learn as ``[64, count, 1]``; a fixed split."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

    digits = load_digits()
    pixels = ((digits.data - PIXEL_MEAN) / PIXEL_STD).astype(np.float32)
    parts = train_test_split(pixels, digits.target, test_size=DIGITS_TEST, random_state=0, stratify=digits.target)
    x, x_test, y, y_test = map(torch.from_numpy, parts)
    return (x.T[..., None], y), (x_test.T[..., None], y_test)
