"""Modules in memory: their effective weights as named tensors. The modules themselves are left as they are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from rnndiag.checkpoint.contents import Container, Contents, KeyPath, ModuleFacts, Unusable, in_memory
from rnndiag.checkpoint.layers.answers import NO_ANSWERS, Answers
from rnndiag.checkpoint.layers.display_names import WRAPPERS
from rnndiag.checkpoint.layers.find import find
from rnndiag.checkpoint.live.check import WAY_OUT, Checked, check, nearest
from rnndiag.checkpoint.live.weights import effective, parametrizations_of
from rnndiag.checkpoint.model import Model, Source
from rnndiag.errors import ModelError, describe_error
from rnndiag.files.text import listing

if TYPE_CHECKING:
    from rnndiag.checkpoint.contents import Leaf

TABLE: Final = "torch.nn.modules.sparse.Embedding"


def load(module: nn.Module, answers: Answers = NO_ANSWERS) -> Model:
    """Find the recurrent modules in a module, by name and shape as in a file, and check them by their own forward.

    A module whose states are not those of the layers found in it is measured through its own forward.

    Args:
        module: of any device, dtype and mode, compiled or wrapped for data parallelism; nothing of it is changed.
        answers: what the user says about layers of a class that is not PyTorch's; maps do not matter.

    Raises:
        ModelError: there is none in it.
    """
    name = _class_name(_unwrapped(module))
    contents = _contents(module, name)
    findings = find(contents, answers)
    checked = check(module, findings)
    # What the search says of a file without classes does not hold for a layer that agrees with its module.
    if checked.taken or checked.nonlinearities or checked.verified - contents.containers[0].facts.keys():
        contents = _without(contents, checked)
        findings = find(contents, answers)
    skipped = (*findings.skipped, *checked.refused.values())
    if not findings.stacks and not checked.steps:
        near = [f"{each.name} ({each.reason.removesuffix(f'; {WAY_OUT}')})" for each in skipped if each.recurrent]
        raise ModelError(
            f"{name}: no nn.RNN, nn.LSTM, nn.GRU or one of their cells in it{', but ' if near else ''}"
            f"{listing(near, 3)}; measure a recurrence of your own by its step: rnndiag.inspect(step, state0, inputs)"
        )
    return Model(
        Source(name, "module", skipped=skipped, framework=contents.framework),
        findings.stacks,
        (*findings.notes, *checked.notes),
        tuple(checked.steps.values()),
        checked.layouts,
    )


def _without(contents: Contents, checked: Checked) -> Contents:
    """The contents without the tensors of the modules that are no layers, and with the nonlinearities that agree."""
    (container,) = contents.containers
    tables = {path for path, each in container.facts.items() if each.class_path == TABLE}
    taken = {
        name
        for name in container.tensors
        if nearest(name, checked.owners) in checked.taken and name.rpartition(".")[0] not in tables
    }
    tensors = {name: leaf for name, leaf in container.tensors.items() if name not in taken}
    facts = {path: each for path, each in container.facts.items() if path not in checked.taken}
    facts |= {path: ModuleFacts() for path in checked.verified - facts.keys()}
    for path, nonlinearity in checked.nonlinearities.items():
        facts[path] = replace(facts[path], nonlinearity=nonlinearity)
    return replace(contents, containers=(replace(container, tensors=tensors, facts=facts),))


def _contents(root: nn.Module, name: str) -> Contents:
    tensors: dict[str, Leaf] = {}
    facts: dict[str, ModuleFacts] = {}
    on_cpu: dict[int, tuple[Tensor, Leaf]] = {}
    parametrizations = {id(part) for each in root.modules() for part in parametrizations_of(each)}
    for path, module in root.named_modules():
        if id(module) in parametrizations:
            continue
        facts[path] = _facts(module)
        try:
            own = effective(module)
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
        return ModuleFacts(TABLE)  # a subclass is a table as well
    kind = parametrize.type_before_parametrizations(module)
    # The name of a class outside PyTorch says nothing here: its own forward is run.
    path = f"{kind.__module__}.{kind.__qualname__}" if kind.__module__.startswith("torch.nn.") else ""
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
