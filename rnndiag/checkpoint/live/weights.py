"""The tensors that a module computes with, where parametrizations or hooks compute them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OF_A_CELL: Final = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def effective(module: nn.Module) -> Mapping[str, Tensor]:
    """The tensors that a module computes with, by the names under which it has them."""
    if isinstance(module, nn.RNNBase):
        # Weight-drop wrappers take a weight away and leave it under another name.
        names = [name for name in module._flat_weights_names if _has(module, name)]
        names += [key for key, _ in module.named_parameters(recurse=False) if key.endswith("_raw")]
    elif isinstance(module, nn.RNNCellBase):
        names = list(_OF_A_CELL)
    else:
        names = [key for key, _ in module.named_parameters(recurse=False)]
        names += [key for key, _ in module.named_buffers(recurse=False)]
        names += cast("nn.ModuleDict", module.parametrizations) if parametrize.is_parametrized(module) else ()
    computed = {name: tensor for _, name, tensor in computed_by_hooks(module)}
    with torch.no_grad(), _settled(module):
        held = {key: computed[key] if key in computed else getattr(module, key) for key in names}
    return {key: tensor for key, tensor in held.items() if isinstance(tensor, Tensor)}  # a bias may be None


def _has(module: nn.Module, name: str) -> bool:
    """Whether a module has an attribute, without computing it."""
    return name in module._parameters or name in vars(module) or bool(parametrize.is_parametrized(module, name))


def computed_by_hooks(module: nn.Module) -> list[tuple[int, str, Tensor]]:
    """What the older weight_norm, spectral_norm and pruning compute in a hook before each call: an attribute is stale.

    None of the three functions called here changes the module.

    Returns:
        The key of each such hook, the name of its tensor, and the tensor.
    """
    computed: list[tuple[int, str, Tensor]] = []
    with torch.no_grad():
        for key, hook in module._forward_pre_hooks.items():
            if isinstance(hook, WeightNorm):
                computed.append((key, hook.name, hook.compute_weight(module)))
            elif isinstance(hook, SpectralNorm):
                computed.append((key, hook.name, hook.compute_weight(module, do_power_iteration=False)))
            elif isinstance(hook, BasePruningMethod):
                computed.append((key, hook._tensor_name, hook.apply_mask(module)))
    return computed


def parametrizations_of(module: nn.Module) -> list[nn.Module]:
    """The modules that compute a module's parametrized tensors."""
    return list(cast("nn.Module", module.parametrizations).modules()) if parametrize.is_parametrized(module) else []


@contextmanager
def _settled(module: nn.Module) -> Iterator[None]:
    """Parametrizations as in evaluation: in training some change their buffers when they are read."""
    modes = [(part, part.training) for part in parametrizations_of(module)]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, mode in modes:
            part.training = mode
