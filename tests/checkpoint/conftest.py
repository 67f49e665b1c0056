from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from rnndiag import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rnndiag.checkpoint import Model

    Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save an object as torch would, and return the file's path."""

    def write(content: object, name: str = "model.pt", *, legacy: bool = False, **options: Any) -> Path:
        path = tmp_path / name
        torch.save(content, path, _use_new_zipfile_serialization=not legacy, **options)
        return path

    return write


@pytest.fixture
def reload(save: Save) -> Callable[..., Model]:
    """Save an object, then load it with rnndiag."""

    def both(content: object, *, nonlinearity: Any = None, **options: Any) -> Model:
        return checkpoint.load(save(content, **options), nonlinearity=nonlinearity)

    return both
