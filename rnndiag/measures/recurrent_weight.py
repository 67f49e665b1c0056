"""The recurrent weight as a matrix: singular values, eigenvalues, and how far from normal it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer


@dataclass(frozen=True, slots=True)
class ClosestInit:
    """The initialisation whose distribution the entries match best."""

    name: str
    p_value: float


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
    """eigenvalues outside the disc of an iid matrix of that scale, beyond its finite-size margin"""


@dataclass(frozen=True, slots=True)
class RecurrentWeight:
    """``weight_hh`` as stored, all gate blocks stacked, and each block by itself.

    For an Elman net the two are the same matrix. For gated cells the singular values are those of
    the stacked matrix; radius, nonnormality and outliers are the largest of any block.
    """

    singular_values: tuple[float, ...]
    spectral_norm: float
    spectral_radius: float
    condition_number: float
    nonnormality: float
    outliers: int
    effective_rank: float
    closest_init: ClosestInit | None
    """None: not determined"""
    blocks: dict[str, Spectrum]


def recurrent_weight(layer: RecurrentLayer) -> RecurrentWeight:
    """Dense decompositions of ``weight_hh`` (finite entries), once per gate block: ``O(H^3)``."""
    singular = torch.linalg.svdvals(layer.weight_hh)
    blocks = {name: spectrum(w, layer.weight_hr) for name, w in layer.blocks(layer.weight_hh).items()}
    values = blocks.values()
    return RecurrentWeight(
        singular_values=tuple(singular.tolist()),
        spectral_norm=float(singular[0]),
        spectral_radius=max(b.spectral_radius for b in values),
        condition_number=_condition(singular),
        nonnormality=max(b.nonnormality for b in values),
        outliers=max(b.outliers for b in values),
        effective_rank=_effective_rank(singular),
        closest_init=None,
        blocks=blocks,
    )


def spectrum(weight: Tensor, projection: Tensor | None = None) -> Spectrum:
    """Decompose one block ``[H, R]``; with a projection ``[R, H]`` eigenvalues are of ``projection @ weight``."""
    rows, columns = weight.shape
    singular = torch.linalg.svdvals(weight)
    square = weight if projection is None else projection @ weight
    moduli = torch.linalg.eigvals(square).abs()
    largest = float(square.abs().max()) or 1.0  # squares of the entries themselves might overflow
    total = float((square / largest).square().sum())
    departure = max(0.0, total - float((moduli / largest).square().sum()))
    gram = weight.T @ weight
    scale = float((weight / largest).std(correction=0)) * largest * math.sqrt(columns)
    return Spectrum(
        spectral_norm=float(singular[0]),
        spectral_radius=float(moduli.max()),
        condition_number=_condition(singular),
        nonnormality=math.sqrt(departure / total) if total else 0.0,
        orthogonality_distance=float((gram - torch.eye(columns).to(gram)).norm()) / math.sqrt(columns),
        effective_rank=_effective_rank(singular),
        entry_scale=scale,
        outliers=_outliers(moduli, scale) if rows == columns and projection is None else 0,
    )


def _outliers(moduli: Tensor, scale: float) -> int:
    """Eigenvalues outside the circular law's disc.

    The radius of an iid matrix exceeds ``scale`` by ``sqrt(log H / (4 H))`` times it, up to lower
    order (Rider & Sinclair 2014); twice that, with the lower orders, is taken as clearly outside.
    """
    size = len(moduli)
    if size == 1:
        return 0  # one entry has no bulk
    margin = 2 * math.sqrt(math.log(size + 1) / (4 * size)) + 1 / math.sqrt(size)
    return int((moduli > scale * (1 + margin)).sum())


def _condition(singular: Tensor) -> float:
    smallest, largest = float(singular[-1]), float(singular[0])
    return largest / smallest if smallest > 0 else math.inf


def _effective_rank(singular: Tensor) -> float:
    total = float(singular.sum())
    return math.exp(float(torch.special.entr(singular / total).sum())) if total else 0.0
