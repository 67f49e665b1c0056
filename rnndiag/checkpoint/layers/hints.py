"""The ``--map`` option to try for tensors whose names do not show their roles.

A hint proposes only options that fit the shapes: matrices of one direction and one level, a cell whose number of gates
divides the rows, biases of the right size. The hint says in words what names and shapes do not show.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import permutations
from math import prod
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.contents import Unusable
from rnndiag.checkpoint.layers.convention import CANONICAL, readings
from rnndiag.checkpoint.layers.display_names import unwrapped
from rnndiag.checkpoint.layers.shapes import PARAMETER
from rnndiag.checkpoint.layers.unmodelled import unmodelled
from rnndiag.files.text import listing, shape_of
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rnndiag.checkpoint.contents import Leaf
    from rnndiag.parsers.parsed import Layout

Shapes = dict[str, tuple[int, ...]]

MAX_TENSORS: Final = 20_000
"""In a container with more tensors than this, only PyTorch's own names are recognized, and there is no hint."""
MAX_SIBLINGS: Final = 40
"""The largest number of matrices of one module that are compared."""
MAX_OPTIONS: Final = 2
"""The largest number of options that a hint writes out; a hint with more options only lists the tensors."""

_TOKENS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_BACKWARD: Final = frozenset({"reverse", "reversed", "rev", "backward", "backwards", "bw", "bwd"})
_RECURRENT: Final = frozenset({"hh", "whh", "bhh", "wh", "bh", "h", "rec", "wrec", "recurrent", "u", "r", "state"})
_FEEDING: Final = frozenset({"ih", "xh", "wih", "wxh", "bih", "bxh", "wx", "bx", "x", "win", "in", "input"})
_OUTPUT: Final = frozenset({"hq", "whq", "hy", "why", "ho", "who", "out", "wout", "output", "head", "proj", "y", "q"})
_WORDLESS: Final = frozenset({"w", "weight", "weights", "kernel", "raw", "b", "bias", "biases", "to", "2"})
_BIAS: Final = re.compile(r"(?i)bias(es)?|b|b_?[ihx]{1,2}|b_?(h2h|i2h|x2h)")
_PLAIN: Final = re.compile(r"[\w./:+-]{1,200}")
"""Names that can be written into an option unchanged: no comma, quote, star or brace."""


@dataclass(frozen=True, slots=True)
class _Option:
    """One interpretation of some tensors as a recurrent layer."""

    roles: dict[str, str]
    kind: str
    layouts: tuple[Layout, ...]
    """the layouts that fit the shapes"""
    open_biases: tuple[str, ...] = ()
    """vectors that have the size of a bias but whose role is not known"""


def hint(tensors: Mapping[str, Leaf]) -> str:
    """The hint to append to an error about a container; empty if no two tensors could belong to a layer."""
    if len(tensors) > MAX_TENSORS:
        return ""
    named = {name for module in unmodelled(tensors, {}) for name in module.tensors}
    usable = {name: leaf for name, leaf in tensors.items() if not isinstance(leaf, Unusable) and name not in named}
    shapes = {name: tuple(leaf.shape) for name, leaf in usable.items()}
    # A weight can be a module of its own (h2h.weight). In that case the names must show the roles.
    places = [(home, names, 0) for home, names in _modules(shapes, 1).items()]
    places += [(home, names, 1) for home, names in _modules(shapes, 2).items()]
    for home, names, least in places:
        options = _options({name: shapes[name] for name in names}, least)
        if not options:
            continue
        if len(options) > MAX_OPTIONS or not all(map(_can_be_written, options)):
            return _undecided(options, shapes)
        proposals = [_spelled(option, _left_out(option, home, shapes), _starred(option, shapes)) for option in options]
        return "; if the file holds a recurrent layer under other names, try " + ", or ".join(proposals)
    return ""


def option_for(names: Mapping[str, str], tensors: Mapping[str, Leaf]) -> str:
    """The option that settles the roles of these tensors, given by role; empty if no cell fits the shapes."""
    shapes = {role: tuple(getattr(tensors[name], "shape", ())) for role, name in names.items()}
    fits = readings(shapes["hh"], shapes["ih"])
    kinds = {kind for kind, _, _ in fits}
    option = _Option(dict(names), next(iter(kinds), ""), tuple(layout for _, layout, _ in fits))
    return _spelled(option, [], option.roles) if len(kinds) == 1 and _can_be_written(option) else ""


def _modules(shapes: Shapes, up: int) -> dict[tuple[str, ...], list[str]]:
    """The names grouped by the module ``up`` levels above; a wrapper and the module in it count as one module."""
    modules: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in shapes:
        path = re.split(r"[./]", name)
        if len(path) >= up:
            modules[unwrapped(path[:-up])].append(name)
    return modules


def _options(shapes: Shapes, least: int) -> list[_Option]:
    """The options of one module that match the most names, if they match at least ``least`` names."""
    matrices = [name for name, shape in shapes.items() if len(shape) == 2][:MAX_SIBLINGS]
    roles, sides = {name: _role(name) for name in matrices}, {name: _side(name) for name in matrices}
    found: list[tuple[int, _Option]] = []
    for recurrent, feeding in permutations(matrices, 2):
        of_recurrent, of_feeding = roles[recurrent], roles[feeding]
        if sides[recurrent] != sides[feeding] or of_recurrent in ("ih", "out") or of_feeding in ("hh", "out"):
            continue
        fits = readings(shapes[recurrent], shapes[feeding])
        for kind in dict.fromkeys(kind for kind, _, _ in fits):
            layouts = tuple(layout for each, layout, _ in fits if each == kind)
            score = (of_recurrent == "hh") + (of_feeding == "ih")
            found.append((score, _Option({"hh": recurrent, "ih": feeding}, kind, layouts)))
    best = max((score for score, _ in found), default=0)
    options = [option for score, option in found if score == best >= least]
    # Each level and direction of a module is a layer. The first layer is an example of the other layers.
    options = [option for option in options if sides[option.roles["hh"]] == sides[options[0].roles["hh"]]]
    return options if len(options) > MAX_OPTIONS else [_with_biases(option, shapes) for option in options]


def _with_biases(option: _Option, shapes: Shapes) -> _Option:
    recurrent = option.roles["hh"]
    biases, unclear = _biases(shapes, recurrent, max(shapes[recurrent]))
    return replace(option, roles=option.roles | biases, open_biases=unclear)


def _biases(shapes: Shapes, recurrent: str, rows: int) -> tuple[dict[str, str], tuple[str, ...]]:
    """The biases by role, and vectors that could be biases too."""
    side = _side(recurrent)
    vectors = [name for name, shape in shapes.items() if prod(shape) in (rows, 2 * rows) and 1 in (len(shape), *shape)]
    vectors += [name for name, shape in shapes.items() if shape == (2, rows)]
    alike = [name for name in vectors if _side(name) == side and _is_bias(name)]
    whole = [name for name in alike if prod(shapes[name]) == rows]
    by_role: defaultdict[str, list[str]] = defaultdict(list)
    for name in whole:
        by_role[{"hh": "bias_hh", "ih": "bias_ih"}.get(_role(name), "bias")].append(name)
    if len(alike) == 1:
        role = next(iter(by_role), "bias")
        return {role: alike[0]}, ()
    if len(whole) == len(alike) and set(by_role) == {"bias_hh", "bias_ih"} and len(whole) == 2:
        return {role: names[0] for role, names in by_role.items()}, ()
    return {}, tuple(alike)


def _own(name: str) -> str:
    """The part of a name that can show the role, with the module's name if the weight is a module of its own."""
    *above, own = re.split(r"[./]", name)
    return f"{above[-1]}.{own}" if above and own in ("weight", "kernel", "bias") else own


def _tokens(name: str) -> list[str]:
    own = re.sub(r"(?i)([a-z]+)2([a-z]+)", lambda m: m[1][0] + m[2][0], _own(name))  # h2h, hidden2hidden
    own = re.sub(r"(?i)(hidden|input|in|hid)_?to_?(hidden|hid|output|out)", lambda m: m[1][0] + m[2][0], own)
    return [token.lower() for token in _TOKENS.findall(own)]


def _role(name: str) -> str:
    """``hh``, ``ih`` or ``out`` if the name shows the role; empty if it does not."""
    if _own(name) == "W":
        return "ih"
    for token in _tokens(name):
        if token not in _WORDLESS:
            for role, words in (("hh", _RECURRENT), ("ih", _FEEDING), ("out", _OUTPUT)):
                if token in words:
                    return role
    return ""


def _side(name: str) -> tuple[bool, tuple[str, ...]]:
    """The direction and the level that a name shows."""
    own = re.split(r"[./]", name)[-1]
    numbers = () if own.isdigit() else tuple(re.findall(r"\d+", re.sub(r"(?<=[a-zA-Z])2(?=[a-zA-Z])", "", own)))
    return not _BACKWARD.isdisjoint(_tokens(name)), numbers


def _is_bias(name: str) -> bool:
    own = _own(name)
    stem = re.sub(r"(_l?\d+)?(_reverse)?(_raw)?$", "", own)
    return own.isdigit() or bool(_BIAS.fullmatch(stem)) or "bias" in own.lower()


def _can_be_written(option: _Option) -> bool:
    return all(map(_PLAIN.fullmatch, option.roles.values()))


def _left_out(option: _Option, home: tuple[str, ...], shapes: Shapes) -> list[str]:
    """Tensors of the same module, or of modules in it, that the option does not name."""
    taken = set(option.roles.values())
    found = []
    for name in shapes:
        above = unwrapped(re.split(r"[./]", name)[:-1])
        inside = above[: len(home)] == home if home else not above
        if inside and name not in taken:
            found.append(name)
    return found


def _starred(option: _Option, shapes: Shapes) -> dict[str, str]:
    """The roles with a star for the module where several modules have tensors of the same names."""
    start = _stem(option.roles.values())
    if not start:
        return option.roles
    ends = {role: name[len(start) :] for role, name in option.roles.items()}
    own = [len(shapes[name]) for name in option.roles.values()]
    others = [name.removesuffix(ends["hh"]) for name in shapes if name.endswith(ends["hh"])]
    whole = [
        other
        for other in others
        if "." not in other[len(start.rpartition(".")[0]) + 1 :]
        and [len(shapes.get(other + end, ())) for end in ends.values()] == own
    ]
    return {role: f"*{end}" for role, end in ends.items()} if len(whole) > 1 else option.roles


def _stem(names: Iterable[str]) -> str:
    """The common prefix of all names up to its last dot, without the dot."""
    first, *rest = names
    length = 0
    while length < len(first) and all(name.startswith(first[: length + 1]) for name in rest):
        length += 1
    return first[:length].rpartition(".")[0]


def _spelled(option: _Option, left_out: Sequence[str], roles: Mapping[str, str]) -> str:
    """The option, and in brackets what is still open."""
    cell = {"rnn": "tanh"}.get(option.kind, option.kind)
    assignments = ",".join(f"{role}={name}" for role, name in roles.items())
    return f'--map "{assignments},layout={option.layouts[0]},cell={cell}" ({"; ".join(_caveats(option, left_out))})'


def _caveats(option: _Option, left_out: Sequence[str]) -> Iterator[str]:
    if len(option.layouts) > 1:
        yield "or layout=columns: the weights are square, so their shapes do not show the layout"
    if option.kind == "rnn":
        yield "or cell=relu: the weights do not show the nonlinearity"
    elif _is_pytorchs(option):
        yield f"PyTorch's gate order {', '.join(CANONICAL[option.kind])} is assumed, because the names are PyTorch's"
    else:
        example = {"lstm": "order=ifog", "gru": "order=zrn"}[option.kind]
        yield (
            f"the file does not show the order of the gates: {', '.join(CANONICAL[option.kind])} is assumed; "
            f"add {example} or similar if the order is different"
        )
        if option.kind == "gru":
            yield "add reset=before if the reset gate multiplies the state before the recurrent weight does"
    if option.open_biases:
        names = listing([printable(name, 60) for name in option.open_biases], 3)
        yield f"rnndiag cannot tell which of {names} are biases: add bias_ih=, bias_hh= or bias="
    rest = [name for name in left_out if name not in option.open_biases]
    if rest:
        names = listing([printable(name, 60) for name in rest], 4)
        yield f"the option leaves out {names} of the same module: if the cell uses them, it is another cell"


def _is_pytorchs(option: _Option) -> bool:
    named = all(PARAMETER.fullmatch(_own(name).removesuffix("_raw")) for name in option.roles.values())
    return named and option.layouts[0] == "rows"


def _undecided(options: Sequence[_Option], shapes: Shapes) -> str:
    names = dict.fromkeys(name for option in options for name in (option.roles["hh"], option.roles["ih"]))
    listed = listing([f"{printable(name, 60)} {shape_of(shapes[name])}" for name in names], 4)
    return (
        "; if the file holds a recurrent layer under other names, give its recurrent and its input weight with --map "
        f"hh=...,ih=...,cell=...; names and shapes do not show which tensors these are ({listed})"
    )
