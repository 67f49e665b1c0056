"""The activations of a recurrent operator: what its cell computes.

``activation_alpha`` and ``activation_beta`` list values for those activations that have parameters, in the order of
``activations``; where the list ends, an activation has the defaults of the operator of its name. onnxruntime reads them
so, and takes names in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, cast

from rnndiag.errors import UnfitError
from rnndiag.kinds import KINDS, PYTORCH_FORM, Form
from rnndiag.parsers.parsed import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rnndiag.kinds import GateFunction

_COUNTS: Final = {"RNN": 1, "GRU": 2, "LSTM": 3}
"""How many activations an operator has in each direction."""
_WITH_ALPHA: Final = frozenset(("affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "elu"))
_WITH_BETA: Final = frozenset(("affine", "scaledtanh"))
_HARD: Final[dict[float, GateFunction]] = {1 / 5: "hard_sigmoid_fifth", 1 / 6: "hard_sigmoid"}
"""The functions of gates by alpha, with beta 1/2."""
_CLOSE: Final = 1e-6


def form_of(kind: str, directions: int, settings: Mapping[str, Any]) -> tuple[Literal["tanh", "relu"] | None, Form]:
    """An RNN's nonlinearity, or the form of a cell with gates.

    Raises:
        UnfitError: no cell that is measured computes these, or the directions differ.
    """
    stated = settings.get("activations")
    if stated is None:
        return ("tanh", PYTORCH_FORM) if kind == "RNN" else (None, PYTORCH_FORM)
    count = _COUNTS[kind]
    functions = list(_functions(stated, settings))
    shown = ", ".join(functions)[:200] or "none"
    own = functions[:count]
    if len(functions) != count * directions or functions != own * directions:
        raise UnfitError(f"its activations are {shown}: expected {count} in each direction, the same in both")
    if kind == "RNN":
        if own[0] not in ("tanh", "relu"):
            raise UnfitError(f"its activations are {shown}: expected tanh, or relu, in every direction")
        return cast("Literal['tanh', 'relu']", own[0]), PYTORCH_FORM
    gate, *others = own
    if gate not in ("sigmoid", *_HARD.values()) or set(others) not in ({"tanh"}, {"relu"}):
        raise UnfitError(
            f"its activations are {shown}: expected sigmoid, or hardsigmoid with beta 1/2 and alpha 1/5 or 1/6, and"
            f" tanh or relu {'for both others' if kind == 'LSTM' else 'for the other'}"
        )
    form = Form(gate, cast("Literal['tanh', 'relu']", others[0]))
    if (name := kind_of(kind.lower(), form)) and name not in KINDS:
        raise UnfitError(f"its activations are {shown}, and no such cell is measured")
    return None, form


def _functions(stated: Sequence[bytes], settings: Mapping[str, Any]) -> Iterator[str]:
    """The activations by name, those with parameters by the name of what they compute."""
    alphas, betas = (iter(settings.get(f"activation_{name}") or ()) for name in ("alpha", "beta"))
    for each in stated:
        name = each.decode(errors="replace").lower()[:60]
        if name == "hardsigmoid":
            alpha, beta = next(alphas, 0.2), next(betas, 0.5)
            known = [function for value, function in _HARD.items() if abs(alpha - value) < _CLOSE]
            yield known[0] if known and abs(beta - 0.5) < _CLOSE else f"hardsigmoid({alpha:g}, {beta:g})"
            continue
        if name in _WITH_ALPHA:
            next(alphas, None)
        if name in _WITH_BETA:
            next(betas, None)
        yield name
