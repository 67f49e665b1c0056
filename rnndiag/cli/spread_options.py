"""Groups of options as classes: a command takes whole groups, and Typer reads one parameter per option.

A field of a group is an option: its type is ``Annotated[..., typer.Option(...)]``. ``spread_options`` replaces each
parameter of a command that is such a group by the fields of the group, and builds the groups again for the call.

Every start of rnndiag reads all groups. Files with groups or commands therefore do not postpone annotations
(``from __future__ import annotations``): to evaluate their text would cost as much as all else here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import lru_cache, wraps
from inspect import Parameter, signature
from typing import Any, TypeVar, dataclass_transform

Group = TypeVar("Group")
Result = TypeVar("Result")


@dataclass_transform(frozen_default=True)
def option_group(group: type[Group]) -> type[Group]:
    """Make a class a group of options: a frozen dataclass, without methods that no command needs."""
    return dataclass(frozen=True, eq=False, repr=False, match_args=False)(group)


def spread_options(*, leave_out: Collection[str] = ()) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """A decorator that gives a command the signature that Typer reads: its groups spread into their options.

    Args:
        leave_out: names of options that the command does not offer; in its groups, they have their defaults.

    Raises:
        TypeError: ``leave_out`` names an option that no group of the command has.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        parameters: list[Parameter] = []
        groups: dict[str, type] = {}
        plain: set[str] = set()
        unknown = set(leave_out)
        own = signature(function)
        for parameter in own.parameters.values():
            kind = parameter.annotation
            if isinstance(kind, type) and is_dataclass(kind):
                groups[parameter.name] = kind
                unknown -= _options(kind).keys()
                parameters += [each for each in _options(kind).values() if each.name not in leave_out]
            else:
                plain.add(parameter.name)
                parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))

        if unknown:
            raise TypeError(f"leave_out of {function.__name__}: no group has the options {', '.join(sorted(unknown))}")

        @wraps(function)
        def command(**values: Any) -> Result:
            built = {name: _built(group, values) for name, group in groups.items()}
            return function(**built, **{name: values[name] for name in plain})

        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # inspect reads it
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


@lru_cache
def _options(group: type) -> Mapping[str, Parameter]:
    """The fields of a group as keyword parameters."""
    return {
        each.name: Parameter(
            each.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if each.default is MISSING else each.default,
            annotation=each.type,
        )
        for each in fields(group)
    }


def _built(group: type, values: Mapping[str, Any]) -> object:
    return group(**{name: values[name] for name in _options(group).keys() & values.keys()})
