"""A module's copy on which its forward can be tried: nothing of the module itself changes."""

from __future__ import annotations

import copy
import random
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from rnndiag.cells.step import differentiable
from rnndiag.checkpoint.live.weights import computed_by_hooks
from rnndiag.errors import UnfitError, describe_error
from rnndiag.machine.device import available_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

BYTES_PER_NUMBER = 16
"""A number of the copy, as copied and as float64."""


def private_copy(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode, float64 on the CPU, whose parametrized weights are plain parameters.

    The weights in effect are computed in the module's own dtype, as the module itself computes them.

    Raises:
        UnfitError: the module cannot be copied.
    """
    tensors = [*module.parameters(), *module.buffers()]
    if any(map(is_lazy, tensors)):
        raise UnfitError("it is not initialized yet: call it once")
    if any(tensor.is_complex() for tensor in tensors):
        raise UnfitError("it computes with complex numbers, which rnndiag does not measure")
    if any(tensor.is_meta for tensor in tensors):
        raise UnfitError("it is on the meta device, which holds no numbers")
    if sum(tensor.numel() for tensor in tensors) * BYTES_PER_NUMBER > available_memory():
        raise UnfitError("there is no memory for a copy of it")
    try:
        with isolated():
            with torch.no_grad():  # the copy of a scripted module keeps a graph otherwise
                copied = copy.deepcopy(module, _leaves(module))
            copied.eval()
            if not isinstance(copied, torch.jit.ScriptModule):
                for part in copied.modules():
                    _settle(part)
                copied.requires_grad_(False)
            copied.to("cpu", torch.float64)
    except UnfitError:
        raise
    except Exception as error:  # the module may hold anything, and copying runs its code
        raise UnfitError(f"it cannot be copied: {describe_error(error)}") from error
    if not isinstance(copied, torch.jit.ScriptModule):
        for part in copied.modules():
            for name, value in vars(part).items():
                if isinstance(value, Tensor) and value.is_floating_point():  # neither a parameter nor a buffer
                    part.__dict__[name] = value.detach().to("cpu", torch.float64)
    return copied


@contextmanager
def isolated() -> Iterator[None]:
    """Run the module's code without effect on the random numbers of torch, NumPy and Python."""
    numbers, state = np.random.get_state(), random.getstate()  # whatever the module may draw from
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(mode=False), differentiable():
            yield
    finally:
        np.random.set_state(numbers)
        random.setstate(state)


def _leaves(module: nn.Module) -> dict[int, Any]:
    """The tensors that have a graph, which cannot be copied as they are, without it."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in chain(vars(part).values(), part._parameters.values(), part._buffers.values()):
            for tensor in value if isinstance(value, list | tuple) else (value,):
                if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
                    memo[id(tensor)] = tensor.detach().clone()
    return memo


def _settle(part: nn.Module) -> None:
    """Put the weights in effect in the place of what computes them."""
    computed = {}
    if parametrize.is_parametrized(part):
        computed = {name: getattr(part, name) for name in cast("nn.ModuleDict", part.parametrizations)}
        # torch's remove_parametrizations changes the class, which the copy shares with the module.
        part.__class__ = parametrize.type_before_parametrizations(part)
        del part._modules["parametrizations"]
    for key, name, tensor in computed_by_hooks(part):
        del part._forward_pre_hooks[key]
        part.__dict__.pop(name, None)
        computed[name] = tensor
    for name, tensor in computed.items():
        part.register_parameter(name, nn.Parameter(tensor.detach().clone(), requires_grad=False))
