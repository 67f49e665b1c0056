"""The size of the states over the steps of the probe, and whether it grows without bound."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from rnndiag.measures.statistics import median, median_interval
from rnndiag.trajectory import Trajectory

BLOCKS = 12
"""Equal blocks of steps into which the second half of the probe is cut; the size is averaged over each block."""

FEWEST_STEPS = 2 * BLOCKS
"""The smallest number of steps with which each block contains at least one step."""

FEWEST_SEQUENCES = 2
"""The size of a random walk in a single sequence can look like steady growth; in two sequences it hardly ever does."""


@dataclass(frozen=True, slots=True)
class StateGrowth:
    """How the largest state number grows over the second half of the probe."""

    exponent: float
    """Slope of log size against log step, median over sequences. It is 0 for states that stay bounded, 0.5 for a random
    walk, 1 for linear growth and larger for exponential growth."""
    exponent_interval: tuple[float, float]
    """95 % confidence interval of that median; with fewer than six sequences, the range"""
    rising: float
    """share of the blocks whose mean size is larger than the mean size of the block before"""
    input_exponent: float
    """the same slope for the layer's inputs: states that follow growing inputs grow as fast"""
    first: float
    """largest state number at the first step at which it is not zero, mean over sequences"""
    halfway: float
    """largest state number at the middle step, median over sequences"""
    end: float
    """largest state number at the last step, median over sequences"""


@dataclass(frozen=True, slots=True)
class StateSize:
    """Size of the state ``s_t`` (``h_t``, or ``(h_t, c_t)`` for an LSTM), in the layer's own order of time."""

    norm_per_step: tuple[float, ...]
    """Euclidean norm of the state, median over sequences"""
    largest_per_step: tuple[float, ...]
    """largest absolute value in the state, median over sequences"""
    max: float
    """largest absolute value over all steps, sequences and units"""
    growth: StateGrowth | None
    """None where it cannot be measured: fewer than 24 steps, fewer than 2 sequences, or states that are not finite"""
    steps: tuple[int, ...] | None = None
    """the steps at which the arrays are given, from 1; None: every step"""


def state_size(run: Trajectory) -> StateSize:
    """Measure the states of a trajectory; the memory is that of a few numbers for each step and sequence."""
    parts = [run.hidden] if run.cell_state is None else [run.hidden, run.cell_state]
    norms = torch.stack([torch.linalg.vector_norm(part, dim=-1) for part in parts])
    largest = torch.stack([torch.linalg.vector_norm(part, float("inf"), dim=-1) for part in parts]).amax(0).cpu()
    return StateSize(
        norm_per_step=tuple(median(torch.linalg.vector_norm(norms, dim=0).cpu()).tolist()),
        largest_per_step=tuple(median(largest).tolist()),
        max=float(largest.max()),
        growth=growth(largest, torch.linalg.vector_norm(run.inputs, float("inf"), dim=-1).cpu()),
    )


def growth(sizes: Tensor, inputs: Tensor) -> StateGrowth | None:
    """The growth of sizes ``[T, B]`` over the second half of the steps.

    The first half is left out because every state starts from zero and grows at first. Means over blocks of steps
    leave out the fluctuations from step to step. The exponent is the least-squares slope through the blocks for each
    sequence; sequences are independent, so the interval is that of their median.

    Args:
        sizes: the sizes of the states, at least zero.
        inputs: the sizes of the inputs, at least zero.
    """
    length, batch = sizes.shape
    if length < FEWEST_STEPS or batch < FEWEST_SEQUENCES or not bool(sizes.isfinite().all()):
        return None
    means = _block_means(sizes)
    slopes = _slopes(means, length)
    medians = median(sizes)
    return StateGrowth(
        exponent=float(median(slopes)),
        exponent_interval=median_interval(slopes, slopes),
        rising=float((means[1:] > means[:-1]).double().mean()),
        input_exponent=float(median(_slopes(_block_means(inputs), length))),
        first=next((size for size in sizes.double().mean(1).tolist() if size > 0), 0.0),
        halfway=float(medians[length // 2 - 1]),
        end=float(medians[-1]),
    )


def _blocks(length: int) -> list[tuple[int, int]]:
    """Start and end of each block of the second half."""
    half = length // 2
    edges = [half + (length - half) * i // BLOCKS for i in range(BLOCKS + 1)]
    return list(pairwise(edges))


def _block_means(sizes: Tensor) -> Tensor:
    """``[T, B] -> [BLOCKS, B]``; divided before the sum, so that sizes near the largest number do not overflow."""
    return torch.stack([(sizes[a:b].double() / (b - a)).sum(0) for a, b in _blocks(len(sizes))])


def _slopes(means: Tensor, length: int) -> Tensor:
    """Least-squares slope of log mean against log step for each sequence; zero means count as the smallest number."""
    centers = torch.tensor([(start + 1 + stop) / 2 for start, stop in _blocks(length)], dtype=torch.float64).log()
    centers -= centers.mean()
    logs = means.clamp_min(torch.finfo(torch.float64).tiny).log()
    return (centers[:, None] * logs).sum(0) / centers.square().sum()
