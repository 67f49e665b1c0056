"""A device of its own, of which the processor does the arithmetic: what a GPU forbids is forbidden here too.

Its tensors hold real numbers in the processor's memory and say that they lie elsewhere. As on a GPU, an operation on
them and on the processor's tensors is an error, numbers come back by being asked for alone, and every such question is
a synchronisation, at which the processor waits until all work before it is done. They are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend()

DEVICE = "privateuseone"
"""The device type that torch leaves to others."""

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense,  # .item(), float(), bool()
    aten.nonzero,
    aten.masked_select,
    aten._linalg_eigvals,
    aten.linalg_eig,
    aten.equal,
    aten.is_nonzero,
    aten.unique_dim,
    aten._unique2,
}
"""Operations whose result, or its shape, the processor must know before it goes on."""


def _gru(input_gates: Tensor, hidden_gates: Tensor, hidden: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor]:
    of_input, of_hidden = (
        gates + bias for gates, bias in zip((input_gates, hidden_gates), biases or (0.0, 0.0), strict=True)
    )
    (ir, iz, inew), (hr, hz, hnew) = of_input.chunk(3, -1), of_hidden.chunk(3, -1)
    update = (iz + hz).sigmoid()
    candidate = (inew + (ir + hr).sigmoid() * hnew).tanh()
    return candidate + update * (hidden - candidate), torch.empty(0)


def _lstm(input_gates: Tensor, hidden_gates: Tensor, cell: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    i, f, g, o = (input_gates + hidden_gates + sum(biases)).chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell, torch.empty(0)


FUSED = {aten._thnn_fused_gru_cell: _gru, aten._thnn_fused_lstm_cell: _lstm}
"""Of the operations a GPU has and the processor has not."""


class There(Tensor):
    """A tensor of the device."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        made: There = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), dtype=here.dtype, device=torch.device(DEVICE),
            storage_offset=here.storage_offset(),
        )  # fmt: skip
        made.here = here
        return made

    def tolist(self) -> Any:
        """By torch's own, which knows no subclasses; the mode counts it."""
        return self.cpu().tolist()

    def new_tensor(self, data: Any, **options: Any) -> Tensor:
        """Numbers of the processor's, brought over."""
        return torch.tensor(data, dtype=options.get("dtype", self.dtype)).to(self.device)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: outside the accelerator's mode")


class Accelerator(TorchDispatchMode):
    """While it is entered, the device is there."""

    def __init__(self, refused: Callable[[Any, dict[str, Any]], Exception | None] | None = None) -> None:
        """``refused`` tells what the device raises for an operation and its options, if it cannot do it."""
        super().__init__()
        self._refused = refused
        self.waits: Counter[str] = Counter()
        """synchronisations by the operation that asked"""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
        there = any(isinstance(each, There) for each in tensors)
        asked = kwargs.get("device")
        moves = func.overloadpacket in (aten._to_copy, aten.copy_)
        if there and not moves and any(each.ndim and not isinstance(each, There) for each in tensors):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
        if asked is not None and torch.device(asked).type == DEVICE:
            kwargs["device"], there = torch.device("cpu"), True
        elif asked is not None:
            there = False
        error = self._refused(func.overloadpacket, kwargs) if there and self._refused is not None else None
        if error is not None:
            raise error
        if any(isinstance(each, There) for each in tensors) and self._waits(func, args, there=there):
            self.waits[str(func)] += 1
        compute = FUSED.get(func.overloadpacket, func)
        result = compute(*tree_map_only(There, _here, args), **tree_map_only(There, _here, kwargs))
        if not there:
            return result
        written = [
            argument
            for declared, argument in zip(func._schema.arguments, args, strict=False)
            if declared.alias_info is not None and declared.alias_info.is_write
        ] + [kwargs[d.name] for d in func._schema.arguments if d.kwarg_only and d.is_out and d.name in kwargs]
        if written and isinstance(result, Tensor):
            return written[0]
        if written:
            return type(result)(written[: len(result)])
        return tree_map_only(Tensor, There, result)

    @staticmethod
    def _waits(func: Any, args: Any, *, there: bool) -> bool:
        packet = func.overloadpacket
        if packet is aten._to_copy:
            return not there
        if packet is aten.copy_:
            return isinstance(args[0], There) != isinstance(args[1], There)
        if packet in (aten.index, aten.index_put_, aten.index_put):  # a mask is first turned into places
            return any(isinstance(each, Tensor) and each.dtype == torch.bool for each in args[1])
        return packet in WAITING


def _here(tensor: There) -> Tensor:
    return tensor.here
