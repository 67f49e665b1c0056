"""Plain pickles: what joblib writes, and objects of classes that are gone when the file is read."""

from __future__ import annotations

import io
import pickle
import sys
import types
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALIGNMENT = 16


@contextmanager
def module_of(name: str, *classes: str) -> Iterator[types.SimpleNamespace]:
    """A module with classes that take any attributes; gone from ``sys.modules`` afterwards."""

    def build(self: Any, **attributes: Any) -> None:
        vars(self).update(attributes)

    module = types.ModuleType(name)
    made = {own: type(own, (), {"__init__": build, "__module__": name}) for own in classes}
    vars(module).update(made)
    parts = name.split(".")
    new = {whole: types.ModuleType(whole) for i in range(len(parts)) if (whole := ".".join(parts[: i + 1]))}
    with mock.patch.dict(sys.modules, new | {name: module}):
        yield types.SimpleNamespace(**made)


def joblib_bytes(content: object, *, protocol: int = 4, aligned: bool = True) -> bytes:
    """What ``joblib.dump`` writes: each array's numbers after a description of the array, in the midst of the pickle.

    Args:
        content: what is saved.
        protocol: of pickle.
        aligned: whether numbers begin at multiples of 16, as since joblib 1.2.
    """
    with module_of("joblib.numpy_pickle", "NumpyArrayWrapper") as joblib:
        file = io.BytesIO()

        class Pickler(pickle._Pickler):  # type: ignore[misc, name-defined]  # as joblib's own
            def save(self, obj: Any, save_persistent_id: bool = True) -> None:
                if not isinstance(obj, np.ndarray):
                    super().save(obj, save_persistent_id)
                    return
                order = "F" if obj.flags.f_contiguous and not obj.flags.c_contiguous else "C"
                described = {"subclass": type(obj), "shape": obj.shape, "order": order, "dtype": obj.dtype}
                if aligned:
                    described["numpy_array_alignment_bytes"] = ALIGNMENT
                super().save(joblib.NumpyArrayWrapper(**described, allow_mmap=not obj.dtype.hasobject))
                if self.proto >= 4:
                    self.framer.commit_frame(force=True)
                if obj.dtype.hasobject:
                    pickle.dump(obj, file, protocol=5)
                    return
                if aligned:
                    padding = ALIGNMENT - (file.tell() + 1) % ALIGNMENT
                    file.write(bytes([padding]) + b"\xff" * padding)
                file.write(obj.tobytes(order))

        Pickler(file, protocol).dump(content)
    return file.getvalue()


def plain_of(path: Path, data: bytes) -> Path:
    """A file that is one pickle."""
    path.write_bytes(data)
    return path


def joblib_file(path: Path, content: object, **options: Any) -> Path:
    path.write_bytes(joblib_bytes(content, **options))
    return path
