"""Modules in memory: their effective weights as named tensors. The modules themselves are left as they are."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from rnndiag.checkpoint.contents import Container, Contents, KeyPath, ModuleFacts, Unusable, in_memory
from rnndiag.checkpoint.layers.answers import NO_ANSWERS, Answers
from rnndiag.checkpoint.layers.display_names import WRAPPERS
from rnndiag.checkpoint.layers.find import find
from rnndiag.checkpoint.model import Model, Source
from rnndiag.errors import ModelError, describe_error
from rnndiag.files.text import listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rnndiag.checkpoint.contents import Leaf

_OF_A_CELL: Final = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def load(module: nn.Module, answers: Answers = NO_ANSWERS) -> Model:
    """Find the recurrent modules in a module, by name and shape as in a file, with the weights that are in effect.

    Args:
        module: of any device, dtype and mode, compiled or wrapped for data parallelism; nothing of it is changed.
        answers: what the user says about layers of a class that is not PyTorch's; maps do not matter.

    Raises:
        ModelError: there is none in it.
    """
    name = _class_name(_unwrapped(module))
    contents = _contents(module, name)
    findings = find(contents, answers)
    if not findings.stacks:
        near = [f"{each.name} ({each.reason})" for each in findings.skipped if each.recurrent]
        raise ModelError(
            f"{name}: no nn.RNN, nn.LSTM, nn.GRU or one of their cells in it{', but ' if near else ''}"
            f"{listing(near, 3)}; measure a recurrence of your own by its step: rnndiag.inspect(step, state0, inputs)"
        )
    return Model(
        Source(name, "module", skipped=findings.skipped, framework=contents.framework), findings.stacks, findings.notes
    )


def _contents(root: nn.Module, name: str) -> Contents:
    tensors: dict[str, Leaf] = {}
    facts: dict[str, ModuleFacts] = {}
    on_cpu: dict[int, tuple[Tensor, Leaf]] = {}
    parametrizations = {id(part) for each in root.modules() for part in _parametrizations(each)}
    for path, module in root.named_modules():
        if id(module) in parametrizations:
            continue
        facts[path] = _facts(module)
        try:
            own = _effective(module)
        except Exception as error:  # a parametrisation is anybody's code
            raise ModelError(
                f"{name}: the weights of {path or 'the module'} cannot be computed: {describe_error(error)}"
            ) from error
        for key, tensor in own.items():
            # One copy of a tensor that several modules share: by that they are known to share it.
            kept = on_cpu.setdefault(id(tensor), (tensor, _leaf(tensor)))
            tensors[f"{path}.{key}" if path else key] = kept[1]
    size = sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in tensors.values() if not isinstance(leaf, Unusable)
    )
    return Contents(size, (Container(KeyPath(), tensors, facts),), framework="PyTorch")


def _effective(module: nn.Module) -> Mapping[str, Tensor]:
    """The tensors that a module computes with, by the names under which it has them."""
    if isinstance(module, nn.RNNBase):
        names = list(module._flat_weights_names)
    elif isinstance(module, nn.RNNCellBase):
        names = list(_OF_A_CELL)
    else:
        names = [key for key, _ in module.named_parameters(recurse=False)]
        names += [key for key, _ in module.named_buffers(recurse=False)]
        names += cast("nn.ModuleDict", module.parametrizations) if parametrize.is_parametrized(module) else ()
    computed = _by_hooks(module)
    with torch.no_grad(), _settled(module):
        held = {key: computed[key] if key in computed else getattr(module, key) for key in names}
    return {key: tensor for key, tensor in held.items() if isinstance(tensor, Tensor)}  # a bias may be None


def _by_hooks(module: nn.Module) -> dict[str, Tensor]:
    """What the older weight_norm, spectral_norm and pruning compute in a hook before each call: an attribute is stale.

    None of the three functions called here changes the module.
    """
    computed: dict[str, Tensor] = {}
    with torch.no_grad():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                computed[hook.name] = hook.compute_weight(module)
            elif isinstance(hook, SpectralNorm):
                computed[hook.name] = hook.compute_weight(module, do_power_iteration=False)
            elif isinstance(hook, BasePruningMethod):
                computed[hook._tensor_name] = hook.apply_mask(module)
    return computed


@contextmanager
def _settled(module: nn.Module) -> Iterator[None]:
    """Parametrisations as in evaluation: in training some change their buffers when they are read."""
    modes = [(part, part.training) for part in _parametrizations(module)]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _parametrizations(module: nn.Module) -> list[nn.Module]:
    """The modules that compute a module's parametrised tensors."""
    return list(cast("nn.Module", module.parametrizations).modules()) if parametrize.is_parametrized(module) else []


def _leaf(tensor: Tensor) -> Leaf:
    """The tensor on the CPU, without its graph; or why it cannot be had."""
    if is_lazy(tensor):
        return Unusable("not initialised yet: call the module once")
    if type(tensor) not in (Tensor, nn.Parameter):
        return Unusable(f"a {type(tensor).__name__}, which is not a plain tensor")
    if tensor.is_meta:
        return Unusable("on the meta device, which holds no numbers")
    return in_memory(tensor.detach().cpu())


def _facts(module: nn.Module) -> ModuleFacts:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return ModuleFacts("torch.nn.modules.sparse.Embedding")  # a subclass is a table as well
    kind = parametrize.type_before_parametrizations(module)
    path = "" if isinstance(module, torch.jit.ScriptModule) else f"{kind.__module__}.{kind.__qualname__}"
    stated = getattr(module, "mode", None)  # of nn.RNN; nn.RNNCell has nonlinearity
    stated = stated.removeprefix("RNN_").lower() if isinstance(stated, str) else getattr(module, "nonlinearity", None)
    if stated == "tanh":
        return ModuleFacts(path, "tanh")
    return ModuleFacts(path, "relu" if stated == "relu" else None)


def _unwrapped(module: nn.Module) -> nn.Module:
    """What torch.compile, DataParallel and their like hold as their only module."""
    while True:
        children = dict(module.named_children())
        if len(children) != 1 or not children.keys() <= WRAPPERS:
            return module
        (module,) = children.values()


def _class_name(module: nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return str(module.original_name)
    return str(parametrize.type_before_parametrizations(module).__qualname__).rpartition("<locals>.")[2]
