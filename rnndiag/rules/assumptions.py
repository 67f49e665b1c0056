"""ASM: assumptions about what the file does not say."""

from __future__ import annotations

from collections.abc import Iterator

from rnndiag.kinds import KINDS
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


class CellAssumed(StackRule):
    """The file names a class of its own for the module, and which cell that class is was assumed from its parameters.

    What it does:
        A pickled module names its class, but does not contain the code of the class. If the class is not one of
        PyTorch's, rnndiag measures the module as the cell that has these parameters, and only if every tensor of the
        module belongs to that cell. The rule fires until the user confirms the cell.

    Why is this bad:
        Two cells can have the same parameters. A coupled-gate LSTM has those of an LSTM, and every number in the report
        would be that of another net.

    Formula:
        none: nothing is measured for this rule.

    Example:
        ``torch.save(mymodels.MyCell(8, 16), "cell.pt")``, then ``rnndiag check cell.pt``.

    What to do:
        If the class is that cell, give ``--assume gru`` (or another kind of cell), or ``assume: gru`` in the config
        file. If it is not, or if you do not know, measure the module through its own code: give
        ``--import package.module:factory``, or call ``rnndiag.inspect(module)`` in Python.

    Thresholds:
        none.

    References:
        Greff et al. 2017 (eight variants of the LSTM, most of them with the same parameters).
    """

    code, name, severity = "ASM002", "cell-assumed", "warning"
    cause = "a saved module holds the name of its class and its parameters, but not its code"

    def excludes(self, name: str, subject: Subject) -> str | None:
        return None if subject.stack.assumed_class else "the cell is known"

    def assess_stack(self, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        class_path = subject.stack.assumed_class
        cells = list(dict.fromkeys(layer.cell for layer in subject.layers))
        if not class_path:
            return
        titles = " and ".join(KINDS[cell].title for cell in cells)
        suggestion = Suggestion(
            "assumption",
            f"confirm it with --assume {cells[0]} (assume: in the config file), or measure its own code with --import",
            f"its parameters are those of {titles}",
        )
        message = f"{class_path} was measured as {titles}: its parameters fit, and its code was not run"
        evidence = {"class": class_path, "cell": cells[0]}
        yield self.finding(subject.stack.name, message, evidence, (suggestion,))
