"""Random streams that do not touch: one for each purpose, all from the one seed that a user gives."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """A stream of its own for ``purpose``, on the CPU, so that every device sees the same numbers.

    With the bare seed for all, weights and probe would be the same normal numbers twice over.
    """
    text = f"{purpose}:{seed}".encode("utf-8", "surrogatepass")  # a layer's name may hold what is no text
    digest = hashlib.sha256(text).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
