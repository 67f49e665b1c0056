"""The recurrent weight as a matrix: singular values, eigenvalues, and how far from normal it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.measures.weights.initialization import ClosestInit, Shape, closest_init
from rnndiag.measures.weights.random_matrix import random_bulk
from rnndiag.operators.wide import ldexp, scaled_to_one, times_power_of_two


@dataclass(frozen=True, slots=True)
class Spectrum:
    """One square (or, beside a projection, ``H x P``) block of the recurrent weight."""

    spectral_norm: float
    """largest singular value"""
    spectral_radius: float
    """largest modulus of an eigenvalue; of ``W W_hr`` where the output is projected"""
    condition_number: float
    """largest over smallest singular value; infinite for a singular matrix"""
    nonnormality: float
    """Henrici's departure ``sqrt(||W||_F^2 - sum |eigenvalue|^2) / ||W||_F``: 0 normal, 1 nilpotent"""
    orthogonality_distance: float
    """``||W^T W - I||_F / sqrt(H)``"""
    effective_rank: float
    """``exp`` of the entropy of the normalised singular values (Roy & Vetterli 2007)"""
    entry_scale: float
    """``std(W) * sqrt(fan in)``: the gain sigma, were the entries independent"""
    outliers: int
    """eigenvalues outside the disc that independent entries of the bulk's scale would fill, beyond its margin"""
    bulk_scale: float
    """gain sigma by the median singular value, which a few large directions do not move"""
    bulk_edge: float
    """largest singular value of independent entries of that scale: ``2 sigma`` where square"""
    bulk_distance: float
    """Kolmogorov's, of the singular values from those of independent entries: of order ``1/H`` for these"""
    singular_outliers: int
    """singular values beyond that edge and its Tracy-Widom margin"""
    closest_init: ClosestInit | None = None
    """by this block's entries; None: a single entry"""


@dataclass(frozen=True, slots=True)
class RecurrentWeight:
    """``weight_hh`` as stored, all gate blocks stacked, and each block by itself.

    For an Elman net the two are the same matrix. For gated cells the singular values are those of
    the stacked matrix; radius, nonnormality and both counts of outliers are the largest of any block.
    """

    singular_values: tuple[float, ...]
    spectral_norm: float
    spectral_radius: float
    condition_number: float
    nonnormality: float
    outliers: int
    effective_rank: float
    closest_init: ClosestInit | None
    """by the entries of all blocks together; None: a single entry"""
    blocks: dict[str, Spectrum]
    singular_outliers: int


def recurrent_weight(layer: RecurrentLayer, stored: torch.dtype | None = None) -> RecurrentWeight:
    """Dense decompositions of ``weight_hh`` (finite entries), once per gate block: ``O(H^3)``.

    ``stored`` is the file's own dtype, whose rounding a comparison with laws must know; None: the layer's.
    """
    weight = layer.weight_hh
    stored = stored or weight.dtype
    shape = Shape(layer.hidden_size, layer.output_size, len(layer.gates))
    whole = closest_init(weight, shape, stored)
    unit, power = scaled_to_one(weight)
    scaled = torch.linalg.svdvals(unit).cpu().double()
    singular = times_power_of_two(scaled, scaled.new_tensor(power))
    lone = shape.gates == 1  # then the one block is the whole
    blocks = {
        name: replace(
            spectrum(w, layer.weight_hr, singular=scaled if lone else None),
            closest_init=whole if lone else closest_init(w, shape, stored),
        )
        for name, w in layer.blocks(weight).items()
    }
    values = blocks.values()
    return RecurrentWeight(
        singular_values=tuple(singular.tolist()),
        spectral_norm=float(singular[0]),
        spectral_radius=max(b.spectral_radius for b in values),
        condition_number=_condition(scaled),
        nonnormality=max(b.nonnormality for b in values),
        outliers=max(b.outliers for b in values),
        effective_rank=_effective_rank(scaled),
        closest_init=whole,
        blocks=blocks,
        singular_outliers=max(b.singular_outliers for b in values),
    )


def spectrum(weight: Tensor, projection: Tensor | None = None, *, singular: Tensor | None = None) -> Spectrum:
    """Decompose one block ``[H, R]``; with a projection ``[R, H]`` eigenvalues are of ``projection @ weight``.

    Everything is computed on matrices that are scaled by a power of two to entries of at most 1, and the results are
    scaled back at the end. Squares and products of the original entries can leave the range even if the result does
    not.

    Args:
        weight: a finite matrix.
        projection: a finite matrix, or None.
        singular: the singular values of the scaled block, where they are known.
    """
    rows, columns = weight.shape
    unit, power = scaled_to_one(weight)
    if singular is None:
        singular = torch.linalg.svdvals(unit).cpu().double()
    square, square_power = unit, power
    if projection is not None:
        scaled, projected = scaled_to_one(projection)
        square, product = scaled_to_one(scaled @ unit)
        square_power = power + projected + product
    moduli = torch.linalg.eigvals(square).abs().cpu().double()
    total = float(square.cpu().double().square().sum())
    departure = max(0.0, total - float(moduli.square().sum()))
    scale = float(unit.std(correction=0)) * math.sqrt(columns)
    bulk = random_bulk(singular, moduli if rows == columns and projection is None else None, rows, columns)
    return Spectrum(
        spectral_norm=ldexp(float(singular[0]), power),
        spectral_radius=ldexp(float(moduli.max()), square_power),
        condition_number=_condition(singular),
        nonnormality=math.sqrt(departure / total) if total else 0.0,
        orthogonality_distance=_orthogonality_distance(unit, power),
        effective_rank=_effective_rank(singular),
        entry_scale=ldexp(scale, power),
        outliers=bulk.eigenvalue_outliers,
        bulk_scale=ldexp(bulk.scale, power),
        bulk_edge=ldexp(bulk.edge, power),
        bulk_distance=bulk.distance,
        singular_outliers=bulk.singular_outliers,
    )


def _orthogonality_distance(unit: Tensor, power: int) -> float:
    """``||W^T W - I||_F / sqrt(H)`` for ``W = 2^power U``, from ``||U^T U - 4^-power I||`` where ``W`` is large."""
    shift = max(power, 0)
    gram = unit.T @ unit
    if power < 0:
        gram = times_power_of_two(gram, gram.new_full((), 2 * power))
    eye = torch.eye(len(gram)).to(gram)
    return ldexp(float((gram - 4.0**-shift * eye).cpu().double().norm()) / math.sqrt(len(gram)), 2 * shift)


def _condition(singular: Tensor) -> float:
    smallest, largest = float(singular[-1]), float(singular[0])
    return largest / smallest if smallest > 0 else math.inf


def _effective_rank(singular: Tensor) -> float:
    total = float(singular.sum())
    return math.exp(float(torch.special.entr(singular / total).sum())) if total else 0.0
