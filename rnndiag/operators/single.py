r"""Start vectors near the leading eigenvectors, from Lanczos in single precision, whose products cost half.

Of the steps that a residual of 1e-8 takes, most serve to find the direction, and to find it seven digits are enough.
What comes of it is no more than a start: the bound on the result is had in double precision as from any other vector.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnndiag.operators.squared import Squared
from rnndiag.operators.tridiagonal import largest_ritz, looked_at, ritz_residual, ritz_vector

CLOSE = 1e-6
"""Relative residual of the faster columns at which to change; single precision reaches about 1e-7."""

MOST_STEPS = 50
"""All vectors are kept, and orthogonality is lost."""

CHECK_EVERY = 5


def near_leading(maps: Squared, v: Tensor) -> Tensor:
    """Unit vectors near the leading eigenvectors.

    Args:
        maps: in single precision, of a size near 1.
        v: unit start vectors in double precision, ``[batch, n]``.

    Returns:
        ``[batch, n]`` in double precision; ``v`` itself where nothing came of it.
    """
    w = v.float()
    basis = [w]
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    unseen: list[Tensor] = []
    v_old, beta = torch.zeros_like(w), w.new_zeros(len(w))
    scratch = torch.empty_like(w)
    last = min(MOST_STEPS, v.shape[1])
    for step in range(1, last + 1):
        image = maps(basis[-1], torch.empty_like(w), scratch)
        alpha = torch.mul(basis[-1], image, out=scratch).sum(-1)
        image.addcmul_(alpha[:, None], basis[-1], value=-1).addcmul_(beta[:, None], v_old, value=-1)
        beta = torch.linalg.vector_norm(image, dim=-1)
        unseen += alpha, beta
        v_old = basis[-1]
        if step % CHECK_EVERY == 0 or step == last:
            seen = looked_at(unseen)
            alphas, betas, unseen = [*alphas, *seen[::2]], [*betas, *seen[1::2]], []
            theta = largest_ritz(alphas, betas)
            residual = ritz_residual(theta, alphas, betas) / theta
            if float(residual.kthvalue(1 + len(residual) // 4).values) < CLOSE:
                break
        basis.append(image.div_(beta.clamp_min(torch.finfo(w.dtype).tiny)[:, None]))
    shares = ritz_vector(largest_ritz(alphas, betas), alphas, betas)
    near = torch.zeros_like(w)
    for share, each in zip(shares, basis, strict=False):
        near.addcmul_(share.to(w)[:, None], each)
    found = near.double()
    size = torch.linalg.vector_norm(found, dim=-1, keepdim=True)
    return torch.where(size > 0.5, found / size, v)
