"""What a treatment is, and what it returns. A treatment changes a copy; training is the user's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from rnndiag.cells.layer import Stack
from rnndiag.rules.base import Checklist
from rnndiag.treatments.patient import Patient

Figures = Mapping[str, float]

SoundNet = Callable[[], Patient]
"""A function that returns a sound net of the same shape; the net is built and measured at the first call."""


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """A treated stack."""

    stack: Stack
    action: str
    """what was done, with its numbers, in the imperative"""
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Advised:
    """What a change of training would do, as far as it can be measured without training."""

    action: str
    helps: bool
    note: str
    figures: Figures
    log10_gain: float
    """at the lag that training would then see"""


class Treatment(ABC):
    """A change of layers. The docstring of a subclass says what it does, why, and whose idea it is."""

    name: ClassVar[str]
    checklist: ClassVar[Checklist]
    same_architecture: ClassVar[bool] = True
    redraws: ClassVar[bool] = False
    """whether weights are drawn from scratch, which resets what a trained net has learned"""

    @abstractmethod
    def unsuited(self, patient: Patient) -> str | None:
        """Why it does not apply to a stack; None: it does."""

    @abstractmethod
    def apply(self, patient: Patient) -> Applied:
        """The treated copy of a stack that it suits."""


class Training(ABC):
    """A change of how the net is trained, which no layer shows."""

    name: ClassVar[str]
    checklist: ClassVar[Checklist]
    cost: ClassVar[str] = ""
    """what it costs a trained net; empty: no weight changes"""

    @abstractmethod
    def unsuited(self, patient: Patient) -> str | None:
        """Why it has nothing to say of a stack; None: it has."""

    @abstractmethod
    def advise(self, patient: Patient, sound: SoundNet) -> Advised:
        """What the treatment would do to a stack for which it is meant; ``sound`` returns a net for comparison."""
