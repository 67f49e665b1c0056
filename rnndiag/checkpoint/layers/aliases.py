"""Recurrent parameters under names other than PyTorch's: ``enc_w_hh``, ``recurrent_kernel``, ``rnn.0.U``."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.contents import Unusable
from rnndiag.checkpoint.layers.accounting import Scope
from rnndiag.checkpoint.layers.convention import CANONICAL, AmbiguousError
from rnndiag.checkpoint.layers.gate_tensors import gate_sets
from rnndiag.checkpoint.layers.hints import MAX_TENSORS, option_for
from rnndiag.errors import UnfitError
from rnndiag.files.text import listing
from rnndiag.parsers.parsed import Convention
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Container as Container_
    from collections.abc import Iterator, Mapping

    from rnndiag.checkpoint.contents import Leaf
    from rnndiag.checkpoint.layers.renamed import Renamed

_HIDDEN: Final = r"(?:h2h|hh|hid(?:den)?_?(?:to|2)_?hid(?:den)?|recurrent|rec|lin(?:ear)?_hh|fc_hh)"
_INPUT: Final = r"(?:i2h|x2h|ih|xh|in(?:put)?_?(?:to|2)_?hid(?:den)?|input|lin(?:ear)?_(?:ih|xh)|fc_(?:ih|xh))"
_ROLES: Final = {
    "hh": rf"(?i:weight_?hh|w_?hh|hh_weight|w_?rec|weight_rec|(?:recurrent|rec)_(?:weights?|kernel)|w_?recurrent"
    rf"|weight_recurrent|w_?h2h|{_HIDDEN}\.(?:weight|kernel))|U|R",
    "ih": rf"(?i:weight_?[ix]h|w_?[ix]h|[ix]h_weight|w_?in|weight_in|(?:input|in)_(?:weights?|kernel)|w_?input"
    rf"|weight_input|w_?[ix]2h|kernel|{_INPUT}\.(?:weight|kernel))|W",
    "bias_hh": rf"(?i:bias_?hh|b_?hh|hh_bias|recurrent_bias|b_?h2h|{_HIDDEN}\.bias)",
    "bias_ih": rf"(?i:bias_?[ix]h|b_?[ix]h|[ix]h_bias|input_bias|b_?[ix]2h|{_INPUT}\.bias)",
    "bias": r"(?i:bias|b_?h|b)",
}
_NAME: Final = {
    role: re.compile(
        rf"(?P<stem>(?:.*[._/])?)(?P<own>{own})(?P<tail>(?:_?l?[0-9]{{1,3}}|_[A-Za-z0-9]{{1,40}})?(?:_reverse)?)",
        re.DOTALL,
    )
    for role, own in _ROLES.items()
}
_CUSTOM: Final = {
    "gru": "; taken as PyTorch's, z = 1 keeps the state and r comes after the product (reset=before: before it)",
    "lstm": "",
}
"""What a GRU's names leave open."""
MAX_SEARCHED_CHARACTERS: Final = 100
"""Characters at the end of a name that are looked at, so that a long one takes no long search."""
_LEVEL: Final = re.compile(r"_l(?:0|[1-9][0-9]{0,2})(?:_reverse)?")
_KERAS: Final = re.compile(r"(?i:recurrent_kernel)")


@dataclass(slots=True)
class _Module:
    """Tensors that share all but the role in their names."""

    names: dict[str, str] = field(default_factory=dict)
    """By role."""
    own: dict[str, str] = field(default_factory=dict)
    """The part of the name that tells the role, by role."""
    rivals: list[str] = field(default_factory=list)
    """Names with a role that another has already."""


def respell(container: Renamed, taken: Container_[str]) -> None:
    """Give recurrent parameters PyTorch's names, where their own tell their roles.

    Args:
        container: is changed in place; what looks recurrent and does not fit goes to its ``misfits``.
        taken: names that are known to be something else, such as PyTorch's own.
    """
    if len(container.tensors) > MAX_TENSORS:
        return
    taken_as: defaultdict[tuple[str, bool, bool], list[str]] = defaultdict(list)
    modules = _modules(container.tensors, taken)
    _join_gates(container, modules)
    for (stem, tail), module in modules.items():
        path, suffix = _path(stem, tail)
        shown = printable(path) or "(top level)"
        keras = bool(_KERAS.fullmatch(module.own["hh"]))
        try:
            if module.rivals:
                rivals = listing([printable(name, 80) for name in module.rivals], 3)
                raise AmbiguousError(f"more tensors may be parts of it: {rivals}")
            known = _convention(module, keras, container.tensors)
            converted = container.take(module.names, known, path, suffix)
            container.scopes[path] = Scope.of(stem)
        except UnfitError as error:
            option = option_for(module.names, container.tensors) if isinstance(error, AmbiguousError) else ""
            hint = f"; say how with {option}" if option else ""
            container.misfits.append((path, f"recurrent, but {error}{hint}"))
            container.drop(module.names.values())
        else:
            taken_as[converted.kind, keras, known.layout == "rows"].append(shown)
    container.notes += _notes(taken_as)


def _join_gates(container: Renamed, modules: dict[tuple[str, str], _Module]) -> None:
    """Take modules whose gates are in tensors of their own, each of which looks like an Elman net by itself."""
    for stem, (kind, tails) in gate_sets(modules).items():
        order = CANONICAL[kind]
        parts = [modules.pop((stem, tails[gate])) for gate in order]
        path = stem.rstrip("._/")
        roles = dict.fromkeys(role for part in parts for role in part.names)
        names = {role: [part.names[role] for part in parts if role in part.names] for role in roles}
        try:
            if any(part.rivals for part in parts):
                raise UnfitError("several tensors may be the same part of a gate")
            container.take_gates(names, Convention(cell=kind, order=order), path)
            container.scopes[path] = Scope.of(stem)
        except UnfitError as error:
            told = ",".join(f"{role}={_with_gate(each[0], tails[order[0]])}" for role, each in names.items())
            spelt = "".join(tails[gate].strip("_") for gate in order)
            hint = f'; say how with --map "{printable(told, 200)},cell={kind},order={spelt},layout=rows" (or columns)'
            container.misfits.append((path, f"recurrent, but {error}{hint if len(spelt) == len(order) else ''}"))
            container.drop([name for each in names.values() for name in each])
        else:
            each = ", ".join(f"{gate} from {printable(parts[i].names['hh'], 80)}" for i, gate in enumerate(order))
            container.notes.append(
                f"{printable(path) or '(top level)'} was put together from the tensors of its gates, {each}"
                f"{_CUSTOM[kind]}; --map hh=...{{gate}},ih=...{{gate}},cell=...,order=... states otherwise"
            )


def _with_gate(name: str, tail: str) -> str:
    return name.removesuffix(tail) + tail.replace(tail.strip("_"), "{gate}")


def _modules(tensors: Mapping[str, Leaf], taken: Container_[str]) -> dict[tuple[str, str], _Module]:
    """Modules with a recurrent and an input weight, by what their names have before and after the role."""
    found: defaultdict[tuple[str, str], _Module] = defaultdict(_Module)
    for name in tensors:
        if name in taken:
            continue
        start = max(0, len(name) - MAX_SEARCHED_CHARACTERS)
        for role, pattern in _NAME.items():
            match = pattern.fullmatch(name, start)
            if match:
                module = found[name[:start] + (match["stem"] or ""), match["tail"]]
                if role in module.names:
                    module.rivals.append(name)
                else:
                    module.names[role], module.own[role] = name, match["own"]
                break
    whole = {place: module for place, module in found.items() if {"hh", "ih"} <= module.names.keys()}
    # Two vectors are no weights, but perhaps the norms of a cell (ln_h2h, ln_i2h), which its module must account for.
    return {place: each for place, each in whole.items() if not _holds_vectors(each, tensors)}


def _holds_vectors(module: _Module, tensors: Mapping[str, Leaf]) -> bool:
    return all(len(_shape(tensors[module.names[role]])) == 1 for role in ("hh", "ih"))


def _path(stem: str, tail: str) -> tuple[str, str]:
    """The module's path, and the suffix by which PyTorch would number its level."""
    if _LEVEL.fullmatch(tail):
        return stem.rstrip("._/"), tail
    parts = [part for part in (stem.rstrip("._/"), tail.strip("_")) if part]
    return ".".join(parts), ""


def _convention(module: _Module, keras: bool, tensors: Mapping[str, Leaf]) -> Convention:
    hh, ih = (_shape(tensors[module.names[role]]) for role in ("hh", "ih"))
    if not keras:
        # Where the shapes leave W h and h W open, names that say whence and whither follow PyTorch's;
        # single letters leave it open still.
        is_open = hh[:1] == hh[1:] == ih[:1] == ih[1:]
        return Convention(layout="rows" if is_open and module.own["hh"] not in ("U", "R") else None)
    if len(hh) != 2 or hh[1] != 3 * hh[0]:
        return Convention(layout="columns")
    bias = module.names.get("bias")
    return Convention(
        layout="columns", order="zrh", reset_after=None if bias is None else len(_shape(tensors[bias])) == 2
    )


def _shape(leaf: Leaf) -> tuple[int, ...]:
    return () if isinstance(leaf, Unusable) else tuple(leaf.shape)


def _notes(taken: Mapping[tuple[str, bool, bool], list[str]]) -> Iterator[str]:
    """What was assumed, one sentence for all modules of a kind."""
    for (kind, keras, is_open), names in taken.items():
        if kind != "rnn":
            framework = "Keras" if keras else "PyTorch"
            order = "z, r, h" if keras and kind == "gru" else ", ".join(CANONICAL[kind])
            why = "recurrent_kernel is Keras's name" if keras else "the names do not tell of another"
            yield (
                f"{framework}'s gate order {order} was taken for {listing(names)}: {why};"
                " --map hh=...,ih=...,cell=...,order=... states another"
            )
        elif is_open:
            yield (
                f"the square weights of {listing(names)} were taken to multiply from the left, W h, as in PyTorch;"
                " --map hh=...,ih=...,layout=columns states the other way"
            )
