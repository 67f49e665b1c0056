"""Files of torch.save's two forms around any pickle, and pickles written by opcode."""

from __future__ import annotations

import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path


def zip_of(path: Path, data: bytes, storages: dict[str, bytes] | None = None, **options: Any) -> Path:
    """A torch.save archive around any pickle."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def legacy_of(path: Path, data: bytes, keys: object = (), tail: bytes = b"") -> Path:
    """A file of the form before PyTorch 1.6 around any pickle."""
    header = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {"little_endian": True})
    parts = [pickle.dumps(value, 2) for value in header]
    path.write_bytes(b"".join([*parts, data, pickle.dumps(list(keys), 2), tail]))
    return path
