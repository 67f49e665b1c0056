"""Each recurrent module of a model in memory, checked against its own forward or measured through it."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize

from rnndiag.cells.module_step import ModuleStep
from rnndiag.checkpoint.layers.display_names import shown, unwrapped
from rnndiag.checkpoint.live.agreement import agrees
from rnndiag.checkpoint.live.arguments import STATE_NAMES, parameter_names
from rnndiag.checkpoint.live.forward import STATE_SIZES, Widths, find_form, starts_at_zero
from rnndiag.checkpoint.live.private_copy import isolated, private_copy
from rnndiag.checkpoint.model import Skipped
from rnndiag.errors import UnfitError
from rnndiag.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rnndiag.cells.layer import Layout, Stack
    from rnndiag.cells.module_step import CallForm
    from rnndiag.checkpoint.contents import Nonlinearity
    from rnndiag.checkpoint.layers.find import Findings

PYTORCHS: Final = (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell)
"""The classes whose states rnndiag computes with PyTorch's own kernels."""
_SCRIPTED: Final = re.compile(
    r"__torch__\.torch\.nn\.modules\.rnn\.(?:___torch_mangle_[0-9]+\.)?(?:RNN|LSTM|GRU)(?:Cell)?"
)
"""The name that TorchScript gives to these classes."""
_RECURRENT: Final = re.compile(r"(?i)cell|rnn|gru|lstm|recurr|reservoir|esn|liquid|ltc|leaky")
"""Parts of the names of recurrent classes."""
MAX_TRIED: Final = 200
"""The largest number of modules that are tried for the sake of their forward's argument names."""
_OTHER: Final = {"tanh": "relu", "relu": "tanh", "leaky_tanh": "leaky_relu", "leaky_relu": "leaky_tanh"}
"""The kind of cell with the other nonlinearity."""
TOP_LEVEL: Final = "(top level)"
"""The name under which the search lists a module that has no path."""
WAY_OUT: Final = "measure its step with rnndiag.inspect(step, state0, inputs)"


@dataclass(slots=True)
class Checked:
    """What the forwards of a model's modules say about the layers that were found in it."""

    nonlinearities: dict[str, Nonlinearity] = field(default_factory=dict)
    """the nonlinearity that agrees with the forward, by the path of the module, where tanh was assumed"""
    steps: dict[str, ModuleStep] = field(default_factory=dict)
    """the modules that are measured through their own forward, by path"""
    refused: dict[str, Skipped] = field(default_factory=dict)
    """the modules that cannot be measured, by path"""
    layouts: dict[str, Layout] = field(default_factory=dict)
    """``BTD`` or ``TBD``, by the name of the stack or step, where the module takes sequences"""
    notes: list[str] = field(default_factory=list)
    verified: set[str] = field(default_factory=set)
    """the paths of the layers whose states are those of their module"""
    owners: set[str] = field(default_factory=set)
    """the paths of all modules in which a recurrent layer was found or suspected"""

    @property
    def taken(self) -> set[str]:
        """The paths of the modules whose tensors are no layers of a kind that rnndiag models."""
        return self.steps.keys() | self.refused.keys()


def check(root: nn.Module, findings: Findings) -> Checked:
    """Check what was found in a module against the forwards of its modules."""
    modules = dict(root.named_modules())
    checked = Checked()
    by_owner: defaultdict[str, list[_Found]] = defaultdict(list)
    for (path, *_), stack in zip(findings.modules, findings.stacks, strict=True):
        by_owner[nearest(path, modules)].append(_Found(path, stack))
    checked.owners |= by_owner.keys()
    for path, found in by_owner.items():
        _check_found(checked, path, modules[path], found)
    by_name = {_shown(path) or TOP_LEVEL: path for path in modules}  # the module itself comes after what wraps it
    for skipped in findings.skipped:
        place = by_name.get(skipped.name)
        known = place is None or place in checked.owners or runs_pytorchs_code(modules[place])
        if skipped.recurrent and place is not None and not known:
            checked.owners.add(place)
            _check_refused(checked, place, modules[place], skipped)
    candidates = {path: module for path, module in modules.items() if _names_a_state(module)}
    _take_around(checked, candidates)
    _check_others(checked, {path: module for path, module in candidates.items() if _looks_recurrent(module)})
    if not findings.stacks and not checked.steps:  # the user expects a recurrence somewhere
        _check_others(checked, candidates)
    return checked


def nearest(path: str, known: Mapping[str, object] | Iterable[str]) -> str:
    """The longest of the known dotted paths that a path starts with; the empty path is the last resort."""
    while path and path not in known:
        path = path.rpartition(".")[0]
    return path


def runs_pytorchs_code(module: nn.Module) -> bool:
    """Whether a module is of PyTorch's own class, and nothing changes what a call of it computes."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        torch_module._global_forward_hooks,
        torch_module._global_forward_pre_hooks,
    )
    if isinstance(module, torch.jit.ScriptModule):
        own = bool(_SCRIPTED.fullmatch(str(module._c._type().qualified_name())))
    else:
        own = type(module) in PYTORCHS and "forward" not in vars(module)
    return own and not any(hooks)


def stated_layout(module: nn.Module) -> Layout | None:
    """The order of the axes of sequences as a module's ``batch_first`` states it."""
    stated = getattr(module, "batch_first", None)
    return ("BTD" if stated else "TBD") if isinstance(stated, bool) else None


def _check_found(checked: Checked, path: str, module: nn.Module, found: list[_Found]) -> None:
    stacks = [each.stack for each in found]
    if runs_pytorchs_code(module):
        if (layout := stated_layout(module)) is not None:
            checked.layouts[stacks[0].name] = layout
        return
    first = stacks[0]
    trial = _Trial(path, module, first.input_size, first.layers[0].hidden_size)
    agreed = [trial.agreement(stack) for stack in stacks]
    if all(agreed):
        checked.verified |= {each.path for each in found}
        for each, cell in zip(found, agreed, strict=True):
            layer = each.stack.layers[0]
            if layer.nonlinearity_assumed or cell != layer.cell:
                checked.nonlinearities[each.path] = KINDS[cell].nonlinearity or "tanh"
        if (layout := trial.layout) is not None:
            checked.layouts.update({stack.name: layout for stack in stacks})
        return
    titles = sorted({KINDS[layer.cell].title for stack in stacks for layer in stack.layers})
    step = trial.step(first.embedding)
    if step is not None:
        _take(checked, path, step, trial)
        return
    states = f"its states are not those of {' or '.join(titles)}, and " if trial.runs else ""
    reason = f"recurrent, but {states}{trial.reason}"
    checked.refused[path] = Skipped(trial.name, f"{reason}; {WAY_OUT}", recurrent=True)


def _check_refused(checked: Checked, path: str, module: nn.Module, skipped: Skipped) -> None:
    trial = _Trial(path, module)
    step = trial.step()
    if step is not None:
        _take(checked, path, step, trial)
    else:
        checked.refused[path] = replace(skipped, reason=f"{skipped.reason}; {trial.reason}; {WAY_OUT}")


def _take_around(checked: Checked, candidates: Mapping[str, nn.Module]) -> None:
    """Take the nearest module around one that cannot be measured, where that is a step."""
    for path in list(checked.refused):
        around = path
        while around:
            around = around.rpartition(".")[0]
            if around in checked.steps:
                del checked.refused[path]
                checked.owners.discard(path)
                break
            if around not in candidates or around in checked.owners:
                continue
            trial = _Trial(around, candidates[around])
            step = trial.step()
            if step is not None:
                _take(checked, around, step, trial)
                checked.owners.add(around)
                del checked.refused[path]
                checked.owners.discard(path)
                break


def _check_others(checked: Checked, candidates: Mapping[str, nn.Module]) -> None:
    """Take modules whose forward has an argument for the state, the outermost first, where it is a step indeed."""
    for path, module in list(candidates.items())[:MAX_TRIED]:
        if any(_contains(path, each) or _contains(each, path) for each in checked.owners):
            continue
        trial = _Trial(path, module)
        step = trial.step()
        if step is not None:
            _take(checked, path, step, trial)
            checked.owners.add(path)


def _take(checked: Checked, path: str, step: ModuleStep, trial: _Trial) -> None:
    checked.steps[path] = step
    start = "" if trial.starts_at_zero else "; its own initial state is not zero, and it was measured from zero"
    checked.notes.append(f"{step.name}: {step.class_path}, measured through its own {trial.shown_call}{start}")
    if step.form.layout is not None:
        checked.layouts[step.name] = step.form.layout


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    path: str
    """the path at which the tensors of the stack are; the path of a module, or longer"""
    stack: Stack


class _Trial:
    """One module and its private copy, called in the form that its forward accepts."""

    def __init__(
        self, path: str, module: nn.Module, input_size: int | None = None, hidden_size: int | None = None
    ) -> None:
        self.name = _name(path, module)
        self.reason = ""
        self._module = module
        self._copy: nn.Module | None = None
        self._form: CallForm | None = None
        self._input_size = 0
        try:
            self._copy = private_copy(module)
            with isolated():
                widths = Widths.of(self._copy, input_size, hidden_size)
                self._form, self._input_size = find_form(self._copy, widths)
        except UnfitError as unfit:
            self.reason = str(unfit)

    @property
    def runs(self) -> bool:
        """Whether there is a copy whose forward can be called."""
        return self._copy is not None

    @property
    def layout(self) -> Layout | None:
        """The order of the axes of the sequences that the module takes; None: it takes none, or it is not known."""
        return stated_layout(self._module) or (None if self._form is None else self._form.layout)

    @property
    def starts_at_zero(self) -> bool:
        """Whether the module's own initial state is zero."""
        assert self._copy is not None  # it is a step
        assert self._form is not None
        with isolated():
            return starts_at_zero(self._copy, self._form, self._input_size)

    @property
    def shown_call(self) -> str:
        """The forward with the arguments that it was given."""
        names = parameter_names(self._module)
        form = self._form
        if names is None or form is None:
            return "forward"
        used = 1 + (len(form.parts) if form.spread else 1)
        left_out = f", without {', '.join(names[used:])}" if names[used:] else ""
        return f"forward({', '.join(names[:used])}){left_out}"

    def agreement(self, stack: Stack) -> str:
        """The cell of the stack that agrees with the module; empty if its states are others."""
        if self._copy is None:
            return ""
        own: str = stack.layers[0].cell
        with isolated():
            if agrees(stack, self._copy, self._form):
                return own
            if other := _OTHER.get(own, ""):
                levels = tuple(tuple(replace(layer, cell=other) for layer in level) for level in stack.levels)
                if agrees(replace(stack, levels=levels), self._copy, self._form):
                    return other
        return ""

    def step(self, embedding: torch.Tensor | None = None) -> ModuleStep | None:
        """The module as a step; None where its forward is none."""
        if self._copy is None or self._form is None:
            return None
        kind = parametrize.type_before_parametrizations(self._module)
        tensors = [*self._module.parameters(), *self._module.buffers()]
        dtypes = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
        return ModuleStep(
            self.name,
            f"{kind.__module__}.{kind.__qualname__}",
            self._copy,
            self._form,
            self._input_size,
            dtypes[0] if dtypes else torch.float32,
            embedding,
        )


def _name(path: str, module: nn.Module) -> str:
    kind = parametrize.type_before_parametrizations(module)
    return _shown(path) or str(kind.__qualname__).rpartition("<locals>.")[2]


def _shown(path: str) -> str:
    return shown(unwrapped(path.split("."))) if path else ""


def _names_a_state(module: nn.Module) -> bool:
    if type(module).__module__.startswith(("torch.nn.", "torch.ao.")) or not hasattr(module, "forward"):
        return False
    names = parameter_names(module) or []
    return len(names) > 1 and not STATE_NAMES.isdisjoint(names)


def _looks_recurrent(module: nn.Module) -> bool:
    """Whether the class or an attribute is named like those of a recurrent net: attention takes a state as well."""
    sizes = any(type(getattr(module, name, None)) is int for name in STATE_SIZES)
    return sizes or _RECURRENT.search(type(module).__name__) is not None


def _contains(outer: str, inner: str) -> bool:
    return not outer or inner == outer or inner.startswith(f"{outer}.")
