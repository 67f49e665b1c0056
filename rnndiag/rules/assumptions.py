"""ASM: assumptions about what the file does not say."""

from __future__ import annotations

from collections.abc import Iterator

from rnndiag.rules.base import Finding, StackRule, Subject, Suggestion, Thresholds
from rnndiag.rules.words import log10_gain


class NonlinearityUndecided(StackRule):
    """The verdict depends on whether the net uses tanh or ReLU, and the file does not say which.

    What it does:
        A state_dict stores the weights of an Elman net but not its nonlinearity. Where the file does not say which one
        the net uses, tanh is assumed, and the gain is measured under ReLU too. The rule fires when the two verdicts
        differ. The verdict of the stack is then ``inconclusive``. All other numbers in the report are measured under
        the assumption.

    Why is this bad:
        Under the wrong nonlinearity every number is wrong. A net that is healthy with tanh can explode with ReLU,
        because nothing bounds the states of a ReLU net.

    Formula:
        ``J_t = diag(phi') W_hh`` with ``phi' = 1 - h_t^2`` for tanh, and 0 or 1 for ReLU.

    Example:
        rnndiag check sample_models/healthy_tanh.pt --T 64

    What to do:
        Give ``--nonlinearity tanh`` or ``--nonlinearity relu``, or ``nonlinearity: relu`` in the config file. It is
        better to store the nonlinearity: save the whole module, or a checkpoint with ``nonlinearity`` among its
        settings.

    Thresholds:
        the verdicts differ.

    References:
        Le, Jaitly & Hinton 2015.
    """

    code, name, severity = "ASM001", "nonlinearity-undecided", "warning"
    cause = "the file stores only weights, which do not show whether the net uses tanh or ReLU"

    def excludes(self, name: str, subject: Subject) -> str | None:
        return "no nonlinearity was assumed" if subject.stack.alternative is None else None

    def assess_stack(self, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        gradient, other = subject.stack.gradient, subject.stack.alternative
        if gradient is None or other is None or not other.undecided:
            return
        assumed = f"{other.assumed_verdict} with {other.assumed} ({log10_gain(gradient.log10_gain)})"
        if other.log10_gain is None:
            alternative = f"with {other.nonlinearity} its states overflow"
        else:
            alternative = f"{other.verdict} with {other.nonlinearity} ({log10_gain(other.log10_gain)})"
        message = f"the file does not say tanh or relu, and the verdict depends on the choice: {assumed}, {alternative}"
        choice = f"--nonlinearity {other.assumed} or --nonlinearity {other.nonlinearity}"
        suggestion = Suggestion(
            "assumption",
            f"say which one the net uses: {choice} (nonlinearity: in the config file)",
            f"{other.assumed} was assumed; the verdict would be {other.verdict} with {other.nonlinearity}",
        )
        evidence = {
            "assumed": other.assumed,
            "assumed_verdict": other.assumed_verdict,
            "assumed_log10_gain": gradient.log10_gain,
            "other": other.nonlinearity,
            "other_verdict": other.verdict,
            "other_log10_gain": other.log10_gain,
        }
        yield self.finding(subject.stack.name, message, evidence, (suggestion,))
