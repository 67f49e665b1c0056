"""What a reader returns: the recurrent stacks of one file, and what it skipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rnndiag.cells.layer import Layout, Stack
from rnndiag.cells.module_step import ModuleStep


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in the file that was not measured, and why."""

    name: str
    reason: str
    recurrent: bool = False
    """Whether this looks like a recurrent layer, so that the report must say that it was not judged."""


@dataclass(frozen=True, slots=True)
class PickledName:
    """A class or function that a pickle names, and that rnndiag neither imported nor called."""

    name: str
    """Module and qualified name."""
    called: bool
    """Whether the pickle calls it; else the pickle only imports it."""
    harmful: bool
    """Whether it can run programs or code, or change files. Of other names, the code is not known."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model came from.

    ``format`` is that of a ``Reader``, such as ``torch`` (zip) or ``torch-legacy``, or ``random``, or ``module``
    or ``function`` for what is in memory; ``sha256`` is the hex digest of the file, empty where there is none;
    ``skipped`` lists modules that were passed over; ``progress`` holds the counters of training that the file keeps,
    such as ``global_step`` and ``epoch``.
    """

    path: str
    format: str
    sha256: str = ""
    skipped: tuple[Skipped, ...] = ()
    progress: dict[str, int] = field(default_factory=dict)
    framework: str = ""
    """The framework that the model was built with, in its usual spelling, such as ``PyTorch``; empty if not known."""
    pickled_names: tuple[PickledName, ...] = ()
    """What its pickles would have imported and called, without plain data and packages with which nets are built."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """The recurrent stacks found in one source, in the order in which the file holds them."""

    source: Source
    stacks: tuple[Stack, ...]
    notes: tuple[str, ...] = ()
    """Assumptions that were made in reading, one sentence each."""
    steps: tuple[ModuleStep, ...] = ()
    """Modules in memory that are measured through their own forward."""
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    """How modules in memory lay out the sequences that they take, by the name of the stack or step."""
