"""The few things a pickle may build: tensors, arrays, ordered dicts, and inert stand-ins for all else."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch

from rnndiag.checkpoint.contents import DequantizedTensor, StoredTensor, Unusable, value_of
from rnndiag.checkpoint.unpickling import ndarray
from rnndiag.checkpoint.unpickling.counts import are_counts, is_count, is_short
from rnndiag.checkpoint.unpickling.imported import current_names
from rnndiag.checkpoint.unpickling.stand_in import StandIn
from rnndiag.files.text import shape_of
from rnndiag.files.work_budget import current_budget
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, UntypedStorage

    from rnndiag.checkpoint.contents import Leaf
    from rnndiag.checkpoint.location import Location

MAX_ARGUMENTS: Final = 10
"""More than any of the rebuild functions takes."""

INTEGERS: Final = {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.qint32: torch.int32}
"""What the numbers of a quantised tensor are before they are scaled."""


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """The numbers that tensors of a pickle are views of."""

    dtype: torch.dtype
    nbytes: int
    read: Callable[[], UntypedStorage]
    """Gives the same memory at each call: modules that share weights are recognized by that."""
    locate: Callable[[], Location | str]
    """Gives the location of all its numbers, in one dimension; or why there is no location."""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A function that a pickle may call. It is wrapped so that a pickle cannot reach into it."""

    function: Callable[..., object]


def call(callee: object, args: object) -> object:
    """What a pickle gets for calling ``callee``: a rebuilt value or a stand-in.

    Raises:
        pickle.UnpicklingError: neither a rebuild function nor a stand-in.
    """
    # Arguments are kept or passed on, never copied: the same ones may be given a million times over.
    if not isinstance(args, tuple):
        raise pickle.UnpicklingError(f"expected a tuple of arguments, got {type(args).__name__}")
    if isinstance(callee, StandIn):
        current_names().add(callee.path, is_called=True)
        return StandIn(callee.module, callee.name, args)
    if isinstance(callee, Rebuild) and len(args) <= MAX_ARGUMENTS:
        return callee.function(*args)
    raise pickle.UnpicklingError(f"it calls {type(callee).__name__} with {len(args)} arguments")


def store(target: dict[str, object], pairs: Iterable[tuple[object, object]]) -> None:
    """Fill ``target``, under short strings only.

    The hash of a nested tuple can take for ever, integers can be chosen to collide, and equal strings of
    megabytes take long to compare; the hashes of strings are salted.
    """
    for key, value in pairs:
        name = key if isinstance(key, str) and is_short(key) else _name_of(key)
        if name is not key and name in target:
            name = f"{name}#{len(target)}"
        target[name] = value


def _name_of(key: object) -> str:
    plain = isinstance(key, float | None) or (isinstance(key, int) and key.bit_length() <= 64)
    return repr(key) if plain else f"<{type(key).__name__}>"


def _ordered_dict(pairs: object = None) -> dict[str, object]:
    result: dict[str, object] = {}
    if pairs is None:
        return result
    # Python 2 gives its items as a list of lists.
    if type(pairs) is not list or any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise pickle.UnpicklingError("an OrderedDict is malformed")
    store(result, ((pair[0], pair[1]) for pair in pairs))
    pairs.clear()  # it is used once; a pickle that gives it again and again gains no memory by it
    return result


def _first(value: object, *_: object) -> object:
    return value


def _instance(kind: object, *_: object) -> object:
    """What protocols 0 and 1 call to make an object of a class."""
    return call(kind, ())


def _from_type(function: object, _type: object, args: object, *_: object) -> object:
    return call(function, args)


def view(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Leaf:
    """A view of ``storage``, after the checks that ``Tensor.set_`` answers by growing the storage.

    Raises:
        pickle.UnpicklingError: numbers that are no counts, or tuples of them that do not match.
    """
    if not isinstance(storage, Storage):
        return Unusable("its storage has no element type")
    if not is_count(offset) or not are_counts(size) or not are_counts(stride) or len(size) != len(stride):
        raise pickle.UnpicklingError("the shape of a tensor is malformed")
    if rest[2:] and rest[2]:
        return Unusable("it is a conjugate or negative view")
    held = storage.nbytes // storage.dtype.itemsize
    numel = math.prod(size)
    reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1 if numel else 0
    if max(numel, reach) > held:
        return Unusable(f"shape {shape_of(size)} needs {max(numel, reach)} numbers, the file holds {held}")
    arguments = storage, offset, size, stride
    return StoredTensor(size, storage.dtype, partial(_view, *arguments), partial(_location_of_view, *arguments))


def _view(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    return torch.empty(0, dtype=storage.dtype).set_(storage.read(), offset, size, stride)


def _location_of_view(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Location | str:
    location = storage.locate()
    return location if isinstance(location, str) else location.view(offset, size, stride)


def _quantized(storage: Any, offset: Any, size: Any, stride: Any, scheme: Any, *_: Any) -> Leaf:
    """Integers with scales: ``(q - zero) * scale``, with one of each or one for each index of an axis."""
    kind = INTEGERS.get(storage.dtype) if isinstance(storage, Storage) else None
    if kind is None or type(scheme) is not tuple or len(scheme) not in (3, 4) or not isinstance(scheme[0], StandIn):
        return Unusable("a form of quantisation that is not read")
    integers = view(replace(storage, dtype=kind), offset, size, stride)
    if isinstance(integers, Unusable):
        return integers
    current_budget().spend(20)  # in addition to the cost of a plain tensor
    name, scale, zero = scheme[0].name, scheme[1], scheme[2]
    if name == "per_tensor_affine" and type(scale) is float and type(zero) is int and abs(zero) < 2**31:
        return DequantizedTensor(size, torch.float32, partial(_scaled, integers, scale, zero), _quantized_in_file)
    if name != "per_channel_affine" or len(scheme) != 4 or type(scheme[3]) is not int:
        return Unusable(f"quantised by {printable(name, 60)}, which is not read")
    axis = scheme[3]
    if any(not isinstance(each, StoredTensor) or each.shape != size[axis : axis + 1] for each in (scale, zero)):
        return Unusable("its scales are not one for each channel")
    return DequantizedTensor(
        size, torch.float32, partial(_scaled_by_channel, integers, scale, zero, axis), _quantized_in_file
    )


def _quantized_in_file() -> str:
    return "its numbers are quantised in the file: change the model from before"


def _scaled(integers: StoredTensor, scale: float, zero: int) -> Tensor | Unusable:
    value = integers.read()
    return value if isinstance(value, Unusable) else (value.float() - zero) * scale


def _scaled_by_channel(integers: StoredTensor, scale: StoredTensor, zero: StoredTensor, axis: int) -> Tensor | Unusable:
    values = [value_of(each) for each in (integers, scale, zero)]
    tensors = [each for each in values if not isinstance(each, Unusable)]
    if len(tensors) < len(values):
        return next(each for each in values if isinstance(each, Unusable))
    shape = [-1 if i == axis else 1 for i in range(len(integers.shape))]
    numbers, scales, zeros = tensors
    return (numbers.float() - zeros.reshape(shape)).mul(scales.reshape(shape)).float()


REBUILDS: Final = {
    ("collections", "OrderedDict"): Rebuild(_ordered_dict),
    ("copyreg", "_reconstructor"): Rebuild(_instance),
    ("copy_reg", "_reconstructor"): Rebuild(_instance),
    ("copyreg", "__newobj__"): Rebuild(_instance),
    ("copy_reg", "__newobj__"): Rebuild(_instance),
    ("torch._utils", "_rebuild_tensor"): Rebuild(view),
    ("torch._utils", "_rebuild_tensor_v2"): Rebuild(view),
    ("torch._utils", "_rebuild_qtensor"): Rebuild(_quantized),
    ("torch._utils", "_rebuild_parameter"): Rebuild(_first),
    ("torch._utils", "_rebuild_parameter_with_state"): Rebuild(_first),
    ("torch.jit._pickle", "restore_type_tag"): Rebuild(_first),
    ("torch.jit._pickle", "build_tensorlist"): Rebuild(_first),
    ("torch._tensor", "_rebuild_from_type"): Rebuild(_from_type),
    ("torch._tensor", "_rebuild_from_type_v2"): Rebuild(_from_type),
    **{name: Rebuild(function) for name, function in ndarray.REBUILDS.items()},
}
"""All that a pickle can call. Every other name becomes a ``StandIn``."""
