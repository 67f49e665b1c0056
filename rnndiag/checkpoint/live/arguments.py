"""The arguments of a module's forward, and what their names say."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import nn

STATE_NAMES: Final = frozenset({
    "carry", "h0", "h_0", "h_prev", "h_tm1", "hc", "hidden", "hidden_state", "hx", "last_state", "prev_h",
    "prev_hidden", "prev_state", "previous_state", "state", "state0", "state_prev", "states",
})  # fmt: skip
"""Names that hardly any argument has that is not the state of a recurrent net."""
_STATE: Final = re.compile(
    r"(?i)(?:prev_|last_|old_|init_)?[hcs](?:_?[a-z0-9])?(?:_prev|_tm1|_t|_0)?"
    r"|(?:.*_)?(?:states?|hiddens?|carry|cell|memory)(?:_?0|_prev|_t|_tm1)?"
    r"|(?:prev|previous|last|old)_.*"
)


def parameter_names(module: nn.Module) -> list[str] | None:
    """The names of the arguments that a forward takes by position; None where they are not known."""
    if isinstance(module, torch.jit.ScriptModule):
        schema = getattr(getattr(module, "forward", None), "schema", None)
        return None if schema is None else [argument.name for argument in schema.arguments[1:]]
    try:
        signature = inspect.signature(module.forward)
    except (AttributeError, TypeError, ValueError):
        return None
    kinds = [each.kind for each in signature.parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, each in signature.parameters.items() if each.kind in positional]


def is_state_name(name: str) -> bool:
    """Whether an argument of a recurrent module is named like its state or a part of its state."""
    return _STATE.fullmatch(name) is not None


def orders(names: list[str] | None, parts: int) -> tuple[bool, ...]:
    """Whether the state may come before the input; empty: the names do not say which arguments are the state.

    Args:
        names: of all arguments, as ``parameter_names`` gives them.
        parts: the number of arguments that the state takes.
    """
    if names is None or (len(names) == 2 and parts == 1):
        named = [is_state_name(name) for name in names or ("", "")]
        return (named[0],) if named[0] != named[1] else (False, True)
    if len(names) < 1 + parts:
        return ()
    if all(map(is_state_name, names[1 : 1 + parts])):
        return (False,)
    return (True,) if all(map(is_state_name, names[:parts])) else ()
