"""What a rule is and what it returns. A rule reads measurements; it never measures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from rnndiag.kinds import ELMAN, KINDS

if TYPE_CHECKING:  # the catalogue is printed without torch; only annotations need these
    from rnndiag.checkpoint.model import Source
    from rnndiag.measures.layer import LayerMeasures
    from rnndiag.measures.series import Course
    from rnndiag.measures.stack import StackMeasures

Severity = Literal["error", "warning", "info"]

SEVERITIES = ("error", "warning", "info")
"""The most severe first."""

Checklist = Literal["clipping", "gated", "attention", "init", "learning-rate", "saturation", "truncation", "assumption"]
"""The items of the checklist that suggestions come from."""

Thresholds = Mapping[str, float]

Evidence = Mapping[str, float | int | str | None]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Something to try, and what in the measurements speaks for it."""

    checklist: Checklist
    action: str
    evidence: str
    before: float | None = None
    """the quantity in question as measured; None where no treatment was tried"""
    after: float | None = None
    """the same after the treatment was applied to a copy"""
    treatment: str | None = None
    """the name of the treatment that does this; None: there is none, and it cannot be tried"""
    cost: str = ""
    """what the treatment costs a trained net; empty if no treatment was tried, or if no weight changes"""
    evidence_before: float | None = None
    """the number in the finding's evidence that grows with the defect, before the treatment; None without such a
    number, or if the suggestion changes no layer"""
    evidence_after: float | None = None
    """the same after the treatment was applied to a copy"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A defect of one layer or stack."""

    rule: str
    name: str
    severity: Severity
    layer: str
    """name of the layer or stack; empty for a finding on the file"""
    message: str
    """what was measured"""
    evidence: Evidence = field(default_factory=dict)
    suggestions: tuple[Suggestion, ...] = ()
    cause: str = ""
    """what is likely behind it"""

    @property
    def where(self) -> str:
        """`` in LAYER``, for prose; empty for a finding on the file."""
        return f" in {self.layer}" if self.layer else ""


@dataclass(frozen=True, slots=True)
class NotAssessed:
    """A rule that was not applied to a layer or stack, and why."""

    rule: str
    layer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rule looks at: a stack with its layers, or one of these layers beside its stack."""

    stack: StackMeasures
    layers: tuple[LayerMeasures, ...]
    framework: str = ""
    """the framework that the model was built with, such as ``PyTorch``; empty if not known"""

    @property
    def cells(self) -> str:
        """The kinds of cell in the stack, for prose."""
        return "/".join(dict.fromkeys(layer.cell for layer in self.layers))

    @property
    def elman(self) -> bool:
        """True where all layers are Elman nets."""
        return all(KINDS[layer.cell].elman for layer in self.layers)

    @property
    def without_gates(self) -> bool:
        """True where all layers are RNNs without gates, with or without a leak."""
        return all(KINDS[layer.cell].family is ELMAN for layer in self.layers)

    @property
    def leaky(self) -> bool:
        """True where some layer has a leak."""
        return any(KINDS[layer.cell].leaky for layer in self.layers)

    @property
    def relu(self) -> bool:
        """True where some layer is a ReLU net."""
        return any(KINDS[layer.cell].nonlinearity == "relu" for layer in self.layers)

    @property
    def shows_weights(self) -> bool:
        """False for a step function, of which neither weights nor gates are known."""
        return all(layer.cell != "custom" for layer in self.layers)


def not_elman(layer: LayerMeasures) -> str | None:
    """Why a rule about Elman nets does not apply to a layer; None where it applies."""
    # A custom step function may be an Elman net, so the rule is not excluded but cannot be assessed.
    if KINDS[layer.cell].elman or layer.cell == "custom":
        return None
    return f"{layer.cell} layers have {'gates' if KINDS[layer.cell].gated else 'a leak'}"


def not_lstm(layer: LayerMeasures) -> str | None:
    """Why a rule about the forget gate does not apply to a layer; None where it applies."""
    if KINDS[layer.cell].has_cell_state or layer.cell == "custom":
        return None
    return f"{layer.cell} layers have no forget gate"


UNSEEN = frozenset({"recurrent_weight", "saturation"})
"""Measures that a step function leaves out even where all its numbers are finite."""

WHY_UNSEEN = "a step function does not show its weights, gates and nonlinearity"


class Rule(ABC):
    """A defect that can be named. The docstring of a subclass is its page."""

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity]
    cause: ClassVar[str]
    """the likely cause, where a finding does not know better"""
    thresholds: ClassVar[Mapping[str, float]] = {}
    grows_worse: ClassVar[str] = ""
    """the number in a finding's evidence that grows as the defect does; none: it is there or not"""

    def finding(
        self,
        where: str,
        message: str,
        evidence: Evidence,
        suggestions: tuple[Suggestion, ...] = (),
        *,
        cause: str = "",
    ) -> Finding:
        """A finding of this rule."""
        return Finding(self.code, self.name, self.severity, where, message, evidence, suggestions, cause or self.cause)


class ModelRule(Rule):
    """A rule that looks at one model."""

    needs: ClassVar[tuple[str, ...]] = ()
    """measures without which it cannot be assessed"""

    @abstractmethod
    def targets(self, subject: Subject) -> Iterator[tuple[str, str | None]]:
        """What the rule looks at, by name, each with the reason why it cannot be assessed, if there is one."""

    def excludes(self, name: str, subject: Subject) -> str | None:
        """Why the rule does not apply to a target, whatever its numbers are; None where it applies."""
        return None

    @abstractmethod
    def assess(self, name: str, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        """The findings on a target that can be assessed; none where all is well.

        Args:
            name: of a layer, or of the stack.
            subject: the stack and its layers.
            at: the thresholds in force for this target, by name.
        """

    def lacks(self, layer: LayerMeasures) -> str | None:
        """Why a layer cannot be assessed: a measure that the rule needs is missing."""
        missing = [need for need in self.needs if getattr(layer, need) is None]
        if not missing:
            return None
        if layer.cell == "custom" and UNSEEN.issuperset(missing):
            return f"{', '.join(missing)} not known: {WHY_UNSEEN}"
        return f"{', '.join(missing)} not measured: the layer's numbers are not finite"


class LayerRule(ModelRule):
    """A rule that looks at one layer at a time."""

    @abstractmethod
    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        """The findings on one layer that has all the measures the rule needs."""

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        """Why the rule does not apply to a layer of this kind; None where it applies."""
        return None

    def excludes(self, name: str, subject: Subject) -> str | None:
        (layer,) = (layer for layer in subject.layers if layer.name == name)
        return self.excludes_layer(layer)

    def targets(self, subject: Subject) -> Iterator[tuple[str, str | None]]:
        return ((layer.name, self.lacks(layer)) for layer in subject.layers)

    def assess(self, name: str, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        (layer,) = (layer for layer in subject.layers if layer.name == name)
        return self.assess_layer(layer, subject, at)


class StackRule(ModelRule):
    """A rule that looks at a stack as a whole, which it can do only if every layer was measured."""

    needs = ("gradient",)
    follows_verdict: ClassVar[bool] = False
    """True: the rule fires on a verdict, so it cannot be assessed where the verdict is undecided (ASM001)"""

    @abstractmethod
    def assess_stack(self, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        """The findings on a stack all of whose layers were measured."""

    def targets(self, subject: Subject) -> Iterator[tuple[str, str | None]]:
        reasons = [f"{layer.name}: {reason}" for layer in subject.layers if (reason := self.lacks(layer))]
        other = subject.stack.alternative
        if self.follows_verdict and other is not None and other.undecided:
            reasons.append("the verdict depends on tanh or ReLU, which the file does not say (ASM001)")
        yield subject.stack.name, next(iter(reasons), None)

    def assess(self, name: str, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        return self.assess_stack(subject, at)


class FileRule(Rule):
    """A rule that looks at the file of a model, whatever was measured in it."""

    @abstractmethod
    def assess_file(self, source: Source) -> Iterator[Finding]:
        """The findings on the file; none where all is well."""


class TrendRule(Rule):
    """A rule that looks at a layer or a stack along a run of checkpoints.

    Of all runs without any drift, at most a share ``thresholds["p_value"]`` may raise an alarm at their end; that share
    is divided among everything that the rules with a ``p_value`` look at.
    """

    kinds: ClassVar[tuple[str, ...]]
    """of courses that it looks at"""

    @abstractmethod
    def lacks(self, course: Course, at: Thresholds) -> str | None:
        """Why a course cannot be assessed, if there is a reason."""

    @abstractmethod
    def assess_course(self, course: Course, at: Thresholds) -> Iterator[Finding]:
        """The findings on a course that can be assessed; none where all is well.

        Args:
            course: the layer or stack along the run.
            at: the thresholds in force for it and, for a rule with a ``p_value``, ``level``: the
                largest p-value that raises an alarm.
        """
