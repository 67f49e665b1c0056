"""``--import package.module:factory``: models made by the user's own code, which is run because they asked for it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from rnndiag.cli.streams import own_code
from rnndiag.errors import ModelError, RnndiagError, SettingsError, describe_error

if TYPE_CHECKING:
    from rnndiag.cli.choices import Choices
    from rnndiag.diagnose import Progress
    from rnndiag.report import Report

EXPECTED = "expected package.module:factory, such as train:make_model"


@dataclass(frozen=True, slots=True)
class Factory:
    """A function of the user's that makes a module, or a step function with its state and inputs."""

    spec: str
    call: Callable[..., Any]

    def measure(self, path: str | None, *, chosen: Choices, progress: Progress | None) -> Report:
        """Call it, with a path if there is one, and diagnose what it makes.

        Raises:
            ModelError: if the user's code fails or makes something else; names the place in that code.
            SettingsError: for a probe together with a step function, which has its own inputs.
        """
        with _running(self.spec):
            made = self._call(() if path is None else (path,))
        with own_code():  # a step is the user's code as well
            report = self._report(made, chosen, progress)
        return replace(report, source=replace(report.source, path=path or self.spec))

    def _call(self, arguments: tuple[str, ...]) -> object:
        try:
            inspect.signature(self.call).bind(*arguments)
        except TypeError as error:
            wanted = "one argument, the PATH" if arguments else "no argument, as no PATH was given"
            raise ModelError(f"--import {self.spec}: expected it to take {wanted}: {error}") from None
        except ValueError:
            pass  # a built-in without a signature
        return self.call(*arguments)

    def _report(self, made: object, chosen: Choices, progress: Progress | None) -> Report:
        from torch import nn

        from rnndiag import api

        if isinstance(made, nn.Module):
            return chosen.inspect(made, progress=progress)
        if not isinstance(made, tuple) or len(made) != 3:
            raise ModelError(
                f"--import {self.spec}: expected it to return an nn.Module or a tuple (step, state0, inputs), got "
                f"{_described(made)}"
            )
        if chosen.origins["probe"] != "default":
            where = chosen.origins["probe"]
            raise SettingsError(f"{where}: a probe, but {self.spec} gives its own inputs; leave out one of the two")
        step, state0, inputs = made
        values = chosen.values
        return api.inspect(
            step,
            state0,
            inputs,
            length=values.length,
            batch=values.batch,
            scale=values.scale,
            layout=values.layout,
            settings=chosen.settings,
            policy=chosen.policy,
            progress=progress,
        )


def load_factory(spec: str) -> Factory:
    """Import what ``--import`` names; the working directory is importable.

    Raises:
        SettingsError: for another spelling.
        ModelError: where the module or the factory is not there, cannot be called, or the import fails.
    """
    module_name, colon, name = spec.partition(":")
    parts = [*module_name.split("."), *name.split(".")]
    file = Path(module_name)
    if not colon or file.suffix == ".py" or not all(part.isidentifier() for part in parts):
        near = ".".join(file.with_suffix("").parts) if file.suffix == ".py" and not file.is_absolute() else ""
        hint = f"; did you mean {near}:{name or 'factory'}?" if near else ""
        raise SettingsError(f"--import {spec}: {EXPECTED}{hint}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with _running(spec):
        try:
            found: Any = import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # it is there, and what it imports is not
            raise ModelError(f"--import {spec}: no module {error.name!r}{_near_module(module_name)}") from None
        for part in name.split("."):
            if not hasattr(found, part):
                names = [each for each in dir(found) if not each.startswith("_") and _may_be_one(getattr(found, each))]
                raise ModelError(f"--import {spec}: {module_name} has no {part!r}{_near(part, names)}")
            found = getattr(found, part)
    if not _may_be_one(found):
        raise ModelError(f"--import {spec}: expected a function that returns a model, got {_described(found)}")
    return Factory(spec, found)


def _may_be_one(found: object) -> bool:
    """Whether something can be called and is not itself the model that a factory should return."""
    from torch import nn

    return callable(found) and not isinstance(found, nn.Module)


@contextmanager
def _running(spec: str) -> Iterator[None]:
    """Run the user's code: what it prints goes to stderr, and what it raises becomes one line."""
    try:
        with own_code():
            yield
    except RnndiagError:
        raise
    except (Exception, SystemExit) as error:  # anything may be in it, sys.exit() too
        raise ModelError(f"--import {spec}: {describe_error(error)}") from error


def _near_module(name: str) -> str:
    package, _, own = name.rpartition(".")
    folder = Path.cwd().joinpath(*package.split(".")) if package else Path.cwd()
    close = get_close_matches(own, [each.name for each in iter_modules([str(folder)])], 1)
    if not close:
        return f", importable from {Path.cwd()}"
    return f"; did you mean {package}{'.' if package else ''}{close[0]}?"


def _near(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; it has {', '.join(known[:8]) or 'nothing to call'}"


def _described(value: object) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)} ({', '.join(type(each).__name__ for each in value)})"
    return "None" if value is None else f"a {type(value).__name__}"
