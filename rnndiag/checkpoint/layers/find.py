"""The recurrent modules among named tensors: found by their parameters' names, verified by their shapes."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.contents import ModuleFacts, Unusable
from rnndiag.checkpoint.layers.accounting import Scope, Setting, Surroundings
from rnndiag.checkpoint.layers.aliases import respell
from rnndiag.checkpoint.layers.answers import NO_ANSWERS, Answers
from rnndiag.checkpoint.layers.display_names import Place, name_modules, prefixes, shown, unwrapped
from rnndiag.checkpoint.layers.embedding import Tables, is_table
from rnndiag.checkpoint.layers.hints import MAX_TENSORS
from rnndiag.checkpoint.layers.joined import joined
from rnndiag.checkpoint.layers.leak import Leaks
from rnndiag.checkpoint.layers.nonlinearity import Choice
from rnndiag.checkpoint.layers.renamed import Renamed
from rnndiag.checkpoint.layers.reparametrized import effective
from rnndiag.checkpoint.layers.respelled import take_spellings
from rnndiag.checkpoint.layers.shapes import PARAMETER, RecurrentModule, SharedError, read_module
from rnndiag.checkpoint.layers.unmodelled import reasons, unmodelled
from rnndiag.checkpoint.layers.weight_dropout import take_raw_weights
from rnndiag.checkpoint.model import Skipped
from rnndiag.errors import UnfitError
from rnndiag.files.text import listing, shape_of
from rnndiag.kinds import KINDS
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from rnndiag.cells.layer import Direction
    from rnndiag.checkpoint.contents import Container, Contents, Leaf
    from rnndiag.checkpoint.layers.mapping import RoleMap

MAX_STACKS: Final = 1000
"""Recurrent modules measured in one file."""
MAX_SKIPPED: Final = 1000
"""The largest number of modules that are listed as skipped; the last entry counts the rest."""


_TORCH: Final = ("torch.nn.", "torch.ao.nn.")
"""The packages whose recurrent classes compute what rnndiag measures."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The fields of ``Model`` that come from a file's contents."""

    stacks: tuple[Stack, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    unmatched: tuple[str, ...] = ()
    """The user's mappings that no tensors answered to, and why."""
    modules: tuple[tuple[str, ...], ...] = ()
    """For each level of each stack, the dotted path, in its container, of the module that the level was found in."""


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    place: Place
    module: RecurrentModule
    facts: ModuleFacts | None
    table: str | None = None
    """The path of the embedding that it reads."""
    embedding: Tensor | None = None
    """That embedding's weight, ``[V, D]``."""


def find(
    contents: Contents,
    answers: Answers = NO_ANSWERS,
    *,
    traced: bool = False,
) -> Findings:
    """Find every recurrent module, and a reason for everything else.

    Args:
        contents: what a reader made of a file.
        answers: what the user says about the layers; the roles of tensors come before their names.
        traced: whether the tensors hold addresses in place of numbers. No number is checked then, and the stacks do
            not get the embeddings that they read.

    Returns:
        One stack per recurrent module, or per chain of modules that feed one another. The tensors are copies in the
        precision of the file.
    """
    leaks = Leaks(answers.alpha, traced)
    search = _Search(contents.size, answers.maps, leaks)
    for container in contents.containers:
        search.enter(container)
    names = name_modules([found.place for found in search.found])
    choice = Choice(answers.nonlinearity, contents.statements, contents.statements_by_part)
    copies: dict[Hashable, Tensor] = {}
    stacks = [_stack(f, name, choice, answers.assume, copies) for f, name in zip(search.found, names, strict=True)]
    skipped = [*_named(search), *contents.skipped]
    if len(skipped) > MAX_SKIPPED:
        rest = skipped[MAX_SKIPPED - 1 :]
        skipped[MAX_SKIPPED - 1 :] = [Skipped(f"{len(rest)} more", "not listed", any(s.recurrent for s in rest))]
    unconfirmed = _unconfirmed_cells(search.found, stacks, answers.assume)
    notes = (*unconfirmed, *search.notes, *search.initial_states, *leaks.notes, *choice.notes)
    whole, modules = joined(stacks, [found.place for found in search.found], contents.containers)
    return Findings(whole, tuple(skipped), notes, search.unmatched, modules)


class _Search:
    """Keeps the modules that can be measured, and of all others the place and the reason.

    Args:
        size: how many bytes of tensors the file holds.
        maps: the user's mappings.
        leaks: of leaky modules.
    """

    def __init__(self, size: int, maps: Sequence[RoleMap], leaks: Leaks) -> None:
        self._leaks = leaks
        self.found: list[_Found] = []
        self.passed_over: list[tuple[Place, str, bool]] = []
        """the place, the reason, and whether it is a recurrent layer that was not measured"""
        self.notes: list[str] = []
        self._initial: dict[str, list[str]] = {}
        """By module, its learned initial states."""
        self._problems = {each.text: "no two tensors answer to hh and ih with the same *" for each in maps}
        self._maps = maps
        self._size = size
        self._budget = 2 * size  # a bias that is left out is made up beside the other; more are views that overlap
        self._places: dict[Hashable, Place] = {}
        self._spent: set[Hashable] = set()

    def enter(self, container: Container) -> None:
        """Sort one container's modules into ``found`` and ``passed_over``."""
        path = container.path.parts
        others: list[tuple[Place, Mapping[str, Leaf]]] = []
        tables = Tables()
        start = len(self.found)
        renamed = self._renamed(container)
        surroundings = Surroundings(renamed.tensors)
        self.passed_over += [(Place(path, name), reason, True) for name, reason in renamed.misfits]
        for name, parameters in _modules(renamed.tensors).items():
            place, facts = Place(path, name), renamed.facts.get(name)
            if any(map(PARAMETER.fullmatch, parameters)):
                scope = None if _is_of_pytorch(facts) else renamed.scopes.get(name, Scope(name))
                self._recurrent(place, parameters, facts, Setting(surroundings, scope) if scope else None)
            else:
                tables.offer(name, parameters, facts)
                others.append((place, parameters))
        if not self._leaks.traced:
            self._furnish(start, tables)
        read = {found.table for found in self.found[start:]}
        self.passed_over += [(p, _other(parameters, p.module in read), False) for p, parameters in others]

    @property
    def initial_states(self) -> Iterator[str]:
        """The notes on modules that have learned initial states."""
        for name, states in self._initial.items():
            held = listing([printable(state, 60) for state in states], 3)
            yield f"{name} has an initial state of its own ({held}), which is not used: it was measured from zeros"

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The mappings that came to nothing, and why."""
        return tuple(
            f"--map {printable(text, 200)!r}: {printable(problem, 500)}" for text, problem in self._problems.items()
        )

    def _renamed(self, container: Container) -> Renamed:
        """The container with its parametrised weights evaluated, and PyTorch's names where others tell the roles."""
        tensors, notes = effective(container.tensors)
        renamed = Renamed(tensors, dict(container.facts), notes=list(notes))
        renamed.take_described(container.conventions)
        for each in self._maps:
            try:
                if each.apply(renamed):
                    self._problems.pop(each.text, None)
            except UnfitError as unfit:
                self._problems[each.text] = str(unfit)
        take_raw_weights(renamed)
        take_spellings(renamed)
        _name_unmodelled(renamed)
        own = {name for name in renamed.tensors if PARAMETER.fullmatch(name.rpartition(".")[2])}
        respell(renamed, own)
        self.notes += renamed.notes
        return renamed

    def _recurrent(
        self,
        place: Place,
        parameters: Mapping[str, Leaf],
        facts: ModuleFacts | None,
        setting: Setting | None,
    ) -> None:
        try:
            self._check_size(parameters)
            known = facts or ModuleFacts()
            extra = known.extra
            if known.kind.startswith("leaky"):
                extra = self._leaks.completed(shown((*place.container, place.module)), known, parameters)
            module = read_module(parameters, extra)
            self._leaks.check(module)
            if setting is not None:
                setting.check(module)
            self._admit(place, module)
            if setting is not None and (states := setting.initial_states()):
                self._initial[shown((*place.container, place.module)) or "(top level)"] = states
        except UnfitError as unfit:
            of_class = "" if not facts or _is_of_pytorch(facts) else printable(facts.class_path, 80)
            why = f"{unfit}; --import measures {of_class} through its own code" if of_class else str(unfit)
            self.passed_over.append((place, f"recurrent, but {why}", not isinstance(unfit, SharedError)))
        else:
            self.found.append(_Found(place, module, facts))

    def _check_size(self, parameters: Mapping[str, Leaf]) -> None:
        """Refuse what would not fit into the file, before it is read out of it."""
        for name, leaf in parameters.items():
            if not isinstance(leaf, Unusable) and PARAMETER.fullmatch(name):
                nbytes = math.prod(leaf.shape) * leaf.dtype.itemsize
                if nbytes > self._size:
                    raise UnfitError(f"{name} {shape_of(leaf.shape)}: {nbytes} bytes, the file holds {self._size}")

    def _admit(self, place: Place, module: RecurrentModule) -> None:
        views = tuple(map(_view, module.tensors))
        first = self._places.get(views)
        if first is not None:
            raise SharedError(f"its weights are those of {shown((*first.container, first.module)) or 'the top level'}")
        if len(self.found) >= MAX_STACKS:
            raise UnfitError(f"the file has more than {MAX_STACKS} recurrent modules")
        if not self._spend(module.tensors):
            raise UnfitError("its tensors overlap those of other modules")
        self._places[views] = place  # of kept tensors only: what is let go may make room for another

    def _furnish(self, start: int, tables: Tables) -> None:
        """Give the modules from ``start`` on the tables they read."""
        for i, found in enumerate(self.found[start:], start):
            table = tables.nearest(found.place.module, found.module.input_size)
            weight = table.read() if table else None
            if table and isinstance(weight, torch.Tensor) and self._spend([weight]):
                self.found[i] = replace(found, table=table.path, embedding=weight)

    def _spend(self, tensors: Iterable[Tensor]) -> bool:
        """Whether the budget allows these tensors; one that is shared is paid for once."""
        costs = {_view(t): _cost(t) for t in tensors if _view(t) not in self._spent}
        if sum(costs.values()) > self._budget:
            return False
        self._budget -= sum(costs.values())
        self._spent |= costs.keys()
        return True


def _name_unmodelled(renamed: Renamed) -> None:
    """Leave out the layers that rnndiag does not model, with the name of each kind."""
    if len(renamed.tensors) <= MAX_TENSORS:
        modules = unmodelled(renamed.tensors, renamed.facts)
        renamed.misfits += reasons(modules)
        renamed.drop([name for module in modules for name in module.tensors])


def _modules(tensors: Mapping[str, Leaf]) -> Mapping[str, Mapping[str, Leaf]]:
    """The tensors by module path, each module's by their own names."""
    modules: defaultdict[str, dict[str, Leaf]] = defaultdict(dict)
    for name, leaf in tensors.items():
        module, _, own = name.rpartition(".")
        if is_table(own, leaf):  # a parameter that is an embedding without being a module
            module, own = name, "weight"
        modules[module][own] = leaf
    return modules


def _view(tensor: Tensor) -> Hashable:
    """Equal for tensors that are the same part of the file, read in the same way."""
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _cost(tensor: Tensor) -> int:
    # Of a bias of zeros that the file does not hold, one number; its length is that of weights paid for.
    return 0 if tensor.stride() == (0,) else tensor.numel() * tensor.element_size()


def _stack(found: _Found, name: str, choice: Choice, confirmed: str | None, copies: dict[Hashable, Tensor]) -> Stack:
    module, own = found.module, name or found.module.kind
    prefix = f"{name}." if name else ""
    facts = found.facts or ModuleFacts()
    cell, assumed = facts.kind or module.kind, False
    if cell == "linear" and choice.asked is not None:  # linear is an assumption
        cell = choice.asked
    if cell not in KINDS:  # only the nonlinearity is missing: rnn, leaky, leaky_current
        file = next(iter(found.place.container), "")
        nonlinearity, assumed = choice.of(own, facts.nonlinearity, facts.likely, file)
        cell = nonlinearity if cell == "rnn" else f"{cell}_{nonlinearity}"

    def layer(level: int, reverse: bool, slot: Mapping[str, Tensor]) -> RecurrentLayer:
        reverse = reverse or facts.backwards
        path = own if module.is_cell else f"{prefix}l{level}" + ".reverse" * reverse
        held = {kind: _copy(tensor, copies) for kind, tensor in slot.items()}
        parameters: dict[str, Any] = {kind: tensor for kind, tensor in held.items() if PARAMETER.fullmatch(kind)}
        direction: Direction = "reverse" if reverse else "forward"
        return RecurrentLayer(
            path,
            cell,
            **parameters,
            direction=direction,
            nonlinearity_assumed=assumed,
            reset_after=facts.reset_after,
            form=facts.form,
            extra={kind: tensor for kind, tensor in held.items() if kind not in parameters},
        )

    levels = tuple(
        tuple(layer(i, bool(reverse), slot) for reverse, slot in enumerate(level))
        for i, level in enumerate(module.levels)
    )
    own_class = "" if _is_of_pytorch(facts) or cell == confirmed else printable(facts.class_path)
    return Stack(own, levels, None if found.embedding is None else _copy(found.embedding, copies), own_class)


def _copy(tensor: Tensor, copies: dict[Hashable, Tensor]) -> Tensor:
    # A training run may rewrite the file, and its storages are mapped from there.
    view = _view(tensor)
    if view not in copies:
        copies[view] = tensor.detach().clone(memory_format=torch.contiguous_format)
    return copies[view]


def _other(parameters: Mapping[str, Leaf], is_read: bool) -> str:
    if is_read:
        return "embedding; --probe tokens draws its rows"
    held = [
        f"{printable(name, 60)} {f'({leaf.reason})' if isinstance(leaf, Unusable) else shape_of(leaf.shape)}"
        for name, leaf in parameters.items()
    ]
    return f"not recurrent: {listing(held, 4)}"


def _named(search: _Search) -> list[Skipped]:
    """The passed-over modules under the names that they would have beside the stacks."""
    heads = prefixes(found.place.container for found in search.found)
    return [
        Skipped(shown((*heads.get(p.container, p.container), *unwrapped(p.parts))) or "(top level)", reason, recurrent)
        for p, reason, recurrent in search.passed_over
    ]


def _is_of_pytorch(facts: ModuleFacts | None) -> bool:
    """Whether the file names a class of PyTorch for the module."""
    return facts is not None and facts.class_path.startswith(_TORCH)


def _unconfirmed_cells(found: Sequence[_Found], stacks: Sequence[Stack], confirmed: str | None) -> Iterator[str]:
    """The note on cells with the names of PyTorch's cells in a file that names no class."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for each, stack in zip(found, stacks, strict=True):
        cell = stack.layers[0].cell
        if each.module.is_cell and each.facts is None and stack.layers[0].kind.gated and cell != confirmed:
            names[cell].append(stack.name)
    for cell, modules in names.items():
        yield (
            f"nn.{cell.upper()}Cell was assumed for {listing(modules)}: the file does not say which cell has these"
            f" parameters; --assume {cell} confirms it"
        )
