"""Which initialisation a recurrent weight still looks like, by a test whose p-value is calibrated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.measures.weights.goodness_of_fit import Family, Sample, distance_from, known_law, unknown_gaussian
from rnndiag.operators.wide import ldexp, scaled_to_one
from rnndiag.seeds import generator

REJECTED = 1e-3
"""p-value under which no law is taken to fit."""

ENOUGH = 20_000
"""Entries by which laws that are all rejected are ranked."""

STRUCTURE = 2e-6
"""Distance from orthogonality that single precision leaves; more where the file's own precision is less."""


@dataclass(frozen=True, slots=True)
class ClosestInit:
    """The initialisation that a weight matches best, and how well.

    ``p_value`` is the probability that a fresh draw from that law lies at least as far from it: uniform between 0
    and 1 for a fresh draw, near 0 once training has moved the weights. Under 0.001 no known law fits and the name
    is merely the closest. What is tested: the distribution of the entries, their scale, unless it is that of
    ``gaussian``, which may have any, and by the spectrum their independence; of ``orthogonal`` matrices the
    trace, once they are orthogonal to the precision of the file, at any gain; of ``identity`` (times a number)
    and ``zeros`` nothing, as they hold exactly (``p = 1``) or not at all. Laws named ``..._stacked`` take the fans
    of all gates' rows together, as does an initialiser that is given the whole of ``weight_hh``.
    """

    name: str
    p_value: float


@dataclass(frozen=True, slots=True)
class Shape:
    """What the bounds of the known laws follow from."""

    hidden: int
    """``H``"""
    fan_in: int
    """columns of ``weight_hh``: ``H``, or ``P`` beside a projection"""
    gates: int
    """blocks stacked in ``weight_hh``; frameworks count fans over one block or over all"""


def closest_init(weight: Tensor, shape: Shape, stored: torch.dtype) -> ClosestInit | None:
    """The law that fits a weight ``[n, R]`` best.

    Args:
        weight: one gate block, or all stacked; finite, in the precision of the measurement.
        shape: of the whole layer.
        stored: the file's dtype, whose rounding is undone by chance within half a unit in the last place.

    Returns:
        The most probable of the laws that are not rejected, known scales before an unknown one; where all are
        rejected the closest in distribution. None for a single entry, which any law would fit.
    """
    if weight.numel() < 2:
        return None
    # Scaling comes first because squares and fourth powers of the entries can leave the range.
    weight, power = scaled_to_one(weight.detach().cpu().double())
    exact = _structured(weight, shape, stored)
    if exact is not None:
        return exact
    weight = _dithered(weight, stored)
    sample = Sample.of(weight)
    rounding = torch.finfo(stored).eps if stored.is_floating_point else 0.0
    laws = {name: (family, ldexp(scale, -power)) for name, (family, scale) in _known(shape).items()}
    p_values = {name: known_law(sample, family, scale, rounding) for name, (family, scale) in laws.items()}
    p_values["gaussian"] = unknown_gaussian(sample)
    known = max(laws, key=lambda name: p_values[name])
    if max(p_values.values()) >= REJECTED:
        name = known if p_values[known] >= REJECTED else "gaussian"
    else:
        thinned = sample.ordered[:: 1 + weight.numel() // ENOUGH]
        everything = {**laws, "gaussian": ("normal", math.sqrt(sample.mean_square))}
        name = min(everything, key=lambda name: distance_from(thinned, *everything[name]))
    return ClosestInit(name, p_values[name])


def _known(shape: Shape) -> dict[str, tuple[Family, float]]:
    """Family and scale of each law; the bound of a uniform one, the deviation of the others.

    Laws that coincide for a recurrent matrix stand once: PyTorch's ``kaiming_uniform_(a=sqrt 5)`` is its default,
    Xavier's and LeCun's are the same for a square block.
    """
    hidden, fan_in, gates = shape.hidden, shape.fan_in, shape.gates
    laws: dict[str, tuple[Family, float]] = {
        "pytorch_uniform": ("uniform", 1 / math.sqrt(hidden)),
        "xavier_uniform": ("uniform", math.sqrt(6 / (hidden + fan_in))),
        "xavier_normal": ("normal", math.sqrt(2 / (hidden + fan_in))),
        "he_uniform": ("uniform", math.sqrt(6 / fan_in)),
        "he_normal": ("normal", math.sqrt(2 / fan_in)),
        "xavier_normal_truncated": ("truncated", math.sqrt(2 / (hidden + fan_in))),
        "he_normal_truncated": ("truncated", math.sqrt(2 / fan_in)),
    }
    if fan_in != hidden:
        laws["lecun_uniform"] = ("uniform", math.sqrt(3 / fan_in))
        laws["lecun_normal"] = ("normal", math.sqrt(1 / fan_in))
    if gates > 1:
        both = gates * hidden + fan_in
        laws["xavier_uniform_stacked"] = ("uniform", math.sqrt(6 / both))
        laws["xavier_normal_stacked"] = ("normal", math.sqrt(2 / both))
        laws["xavier_normal_truncated_stacked"] = ("truncated", math.sqrt(2 / both))
    return laws


def _dithered(weight: Tensor, stored: torch.dtype) -> Tensor:
    """What short formats rounded away, drawn anew, so that no two entries tie; wider ones need none."""
    if not stored.is_floating_point or torch.finfo(stored).bits > 16:
        return weight
    unit = torch.finfo(stored).eps * 2.0 ** torch.frexp(weight).exponent.double() / 2
    noise = torch.rand(weight.shape, dtype=torch.float64, generator=generator(0, "rounding")) - 0.5
    largest = weight.abs().max()  # a bounded law stays within its bound
    return (weight + unit * noise).clamp(-largest, largest)


def _structured(weight: Tensor, shape: Shape, stored: torch.dtype) -> ClosestInit | None:
    """Zeros, a multiple of the identity or of an orthogonal matrix in every block; or orthogonal columns in all."""
    if not bool(weight.any()):
        return ClosestInit("zeros", 1.0)
    slack = STRUCTURE + (4 * torch.finfo(stored).eps if stored.is_floating_point else 0.0)
    blocks = weight.split(shape.hidden) if shape.fan_in == shape.hidden else ()
    eye = torch.eye(shape.fan_in).to(weight)
    gains = [block.diagonal().mean() for block in blocks]
    if blocks and all(
        bool(gain != 0) and float((block - gain * eye).abs().max()) <= slack * abs(float(gain))
        for block, gain in zip(blocks, gains, strict=True)
    ):
        return ClosestInit("identity", 1.0)
    for parts in (blocks, (weight,)) if shape.gates > 1 or not blocks else (blocks,):
        if parts and _even(parts[0]) and all(_orthogonality(part) <= slack for part in parts):
            return ClosestInit("orthogonal", _haar_p_value(parts))
    return None


def _even(weight: Tensor) -> bool:
    """Whether the first two columns (rows of a wide matrix) are near orthogonal and of one length: a cheap look."""
    narrow = weight if weight.shape[0] >= weight.shape[1] else weight.T
    gram = narrow[:, :2].T @ narrow[:, :2]
    return float((gram - gram[0, 0] * torch.eye(len(gram)).to(gram)).abs().max()) <= 0.5 * float(gram[0, 0])


def _orthogonality(weight: Tensor) -> float:
    """Distance of ``W^T W / g^2`` (of ``W W^T`` for a wide one) from the identity; ``g`` the gain; per column."""
    narrow = weight if weight.shape[0] >= weight.shape[1] else weight.T
    gain = float(narrow.square().sum()) / narrow.shape[1]
    if gain == 0:
        return math.inf
    gram = narrow.T @ narrow / gain
    return float((gram - torch.eye(len(gram)).to(gram)).norm()) / math.sqrt(len(gram))


def _haar_p_value(parts: tuple[Tensor, ...]) -> float:
    """Of matrices drawn evenly from all orthogonal ones: their traces are standard normal (Diaconis & Mallows).

    The trace of the leading square of a taller one has the variance columns over rows.
    """
    total, degrees = 0.0, len(parts)
    for part in parts:
        rows, columns = max(part.shape), min(part.shape)
        gain = float(part.square().sum()) / columns
        total += float(part.diagonal().sum()) ** 2 / gain * rows / columns
    survival: Tensor = torch.special.gammaincc(torch.tensor(degrees / 2), torch.tensor(total / 2))
    return float(survival)
