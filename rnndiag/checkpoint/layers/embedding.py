"""The table whose rows a recurrent module reads: by the module's class, or by its name and width."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from torch import Tensor

from rnndiag.checkpoint.contents import StoredTensor, Unusable, value_of
from rnndiag.checkpoint.layers.shapes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rnndiag.checkpoint.contents import Leaf, ModuleFacts

_NAME: Final = re.compile("emb|tok|wte|word|lookup", re.IGNORECASE)
_WORDS: Final = re.compile("[._/]")
MAX_CANDIDATES: Final = 16
"""Among more tables of one width no choice by name is sound."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """An embedding: the path of its module and its ``weight``, ``[V, D]``."""

    path: str
    weight: StoredTensor

    def read(self) -> Tensor | Unusable:
        """The weight itself."""
        return value_of(self.weight)


class Tables:
    """The embeddings of one container, by width."""

    def __init__(self) -> None:
        self._by_width: defaultdict[int, list[Table]] = defaultdict(list)

    def offer(self, path: str, parameters: Mapping[str, Leaf], facts: ModuleFacts | None) -> None:
        """Keep the module at ``path`` if it is an embedding."""
        weight = parameters.get("weight")
        if len(parameters) > 1 or not isinstance(weight, StoredTensor) or len(weight.shape) != 2:
            return
        if 0 not in weight.shape and weight.dtype in DTYPES and _is_embedding(path, facts):
            self._by_width[weight.shape[1]].append(Table(path, weight))

    def nearest(self, path: str, width: int) -> Table | None:
        """The table of that width that shares most of ``path``; None without one, or between equals."""
        candidates = self._by_width.get(width, [])
        if not candidates or len(candidates) > MAX_CANDIDATES:
            return None
        shared = [_shared(_WORDS.split(path), _WORDS.split(table.path)) for table in candidates]
        best = max(shared)
        return candidates[shared.index(best)] if shared.count(best) == 1 else None


def is_table(own: str, leaf: Leaf) -> bool:
    """Whether a tensor of this name, without its module's, says itself that it is an embedding: ``enc_emb``."""
    return not isinstance(leaf, Unusable) and len(leaf.shape) == 2 and _NAME.search(own) is not None


def _is_embedding(path: str, facts: ModuleFacts | None) -> bool:
    if facts is not None and facts.class_path.startswith("torch.nn."):
        return facts.class_path.endswith((".Embedding", ".EmbeddingBag"))
    own = next((part for part in reversed(path.split(".")) if not part.isdecimal()), "")
    return _NAME.search(own) is not None


def _shared(one: Iterable[str], other: Iterable[str]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
