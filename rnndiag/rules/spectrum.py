"""SPC: the recurrent weight as a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rnndiag.rules.base import Finding, LayerRule, Subject, Suggestion, Thresholds, not_elman

if TYPE_CHECKING:
    from rnndiag.measures.layer import LayerMeasures


class IllConditioned(LayerRule):
    """The recurrent weight is ill-conditioned.

    What it does:
        Fires for an Elman net whose ``W_hh`` has a condition number over 1e6.

    Why is this bad:
        Some directions of the state pass a step a million times weaker than others: they are forgotten
        at once, whatever the growth rate of the strongest.

    Formula:
        largest over smallest singular value.

    Example:
        A recurrent weight with two equal rows: one direction of the state is lost at every step.

    What to do:
        An orthogonal initialisation, whose condition number is 1.

    Thresholds:
        condition number over 1e6; iid Gaussian matrices have about the size H.

    References:
        Edelman 1988; Saxe, McClelland & Ganguli 2014.
    """

    code, name, severity = "SPC001", "recurrent-weight-ill-conditioned", "info"
    cause = "rows or columns of W_hh that nearly depend on one another: low rank, or pruned units"
    grows_worse = "condition_number"
    thresholds: ClassVar = {"condition_number": 1e6}
    needs = ("recurrent_weight",)

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        return not_elman(layer)

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        weight = layer.recurrent_weight
        if weight is None or weight.condition_number <= at["condition_number"]:
            return
        rank = f"the effective rank is {weight.effective_rank:.3g} of {layer.hidden_size}"
        message = f"the condition number of W_hh is {weight.condition_number:.2g}; {rank}"
        suggestion = Suggestion(
            "init", "initialise W_hh orthogonal: its condition number is 1", rank, treatment="nearest-orthogonal"
        )
        evidence = {"condition_number": weight.condition_number, "effective_rank": weight.effective_rank}
        yield self.finding(layer.name, message, evidence, (suggestion,))


class OutsideTheBulk(LayerRule):
    """Eigenvalues lie far outside the random bulk.

    What it does:
        Fires for an Elman net whose largest eigenvalue is three times the radius of the disc that independent
        entries of the same scale would fill.

    Why is this bad:
        One direction grows far faster than the rest and takes over the state. After training it may be what
        was learned; at initialisation it is a mistake, such as entries with a mean.

    Formula:
        circular law: radius ``s`` for entries of variance ``s^2/H`` (Rider & Sinclair 2014 for the margin).

    Example:
        A matrix of uniform entries in [0, 1): its mean makes one eigenvalue of size H/2.

    What to do:
        Draw the entries with mean zero; after training, look at what that direction does.

    Thresholds:
        spectral radius over 3 times the bulk's.

    References:
        Girko 1985; Rider & Sinclair 2014.
    """

    code, name, severity = "SPC002", "eigenvalues-outside-the-bulk", "info"
    cause = "entries with a mean, or a direction that training has singled out"
    grows_worse = "spectral_radius"
    thresholds: ClassVar = {"factor": 3.0}
    needs = ("recurrent_weight",)

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        return not_elman(layer)

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        weight = layer.recurrent_weight
        if weight is None or weight.outliers == 0:
            return
        bulk = weight.blocks["h"].entry_scale
        if weight.spectral_radius <= at["factor"] * bulk:
            return
        message = (
            f"{weight.outliers} of {layer.hidden_size} eigenvalues lie outside the random bulk; the largest has "
            f"modulus {weight.spectral_radius:.3g}, the bulk's radius is {bulk:.3g}"
        )
        evidence = {"outliers": weight.outliers, "spectral_radius": weight.spectral_radius, "bulk": bulk}
        suggestion = Suggestion(
            "init",
            "draw W_hh with mean zero, or initialise it orthogonal",
            f"entries of the same scale and mean zero would keep all eigenvalues within {bulk:.3g}",
            treatment="init-orthogonal",
        )
        yield self.finding(layer.name, message, evidence, (suggestion,))


class StronglyNonnormal(LayerRule):
    """The recurrent weight is strongly non-normal.

    What it does:
        Fires for an Elman net whose ``W_hh`` has a Henrici departure over 0.95.

    Why is this bad:
        Its eigenvalues say little: the gradient may grow a thousandfold before it decays as they promise.

    Formula:
        ``sqrt(||W||_F^2 - sum |eigenvalue|^2) / ||W||_F``: 0 for normal matrices, about 0.71 for independent
        Gaussian entries, 1 for nilpotent ones.

    Example:
        A shift register: ones on the first off-diagonal.

    What to do:
        Read the measured gain, not the spectral radius; an orthogonal initialisation is normal.

    Thresholds:
        departure over 0.95.

    References:
        Henrici 1962; Trefethen & Embree 2005.
    """

    code, name, severity = "SPC003", "recurrent-weight-nonnormal", "info"
    cause = "a feed-forward chain within W_hh"
    grows_worse = "nonnormality"
    thresholds: ClassVar = {"nonnormality": 0.95}
    needs = ("recurrent_weight",)

    def excludes_layer(self, layer: LayerMeasures) -> str | None:
        return not_elman(layer)

    def assess_layer(self, layer: LayerMeasures, subject: Subject, at: Thresholds) -> Iterator[Finding]:
        weight = layer.recurrent_weight
        if weight is None or weight.nonnormality <= at["nonnormality"]:
            return
        message = (
            f"Henrici's departure from normality is {weight.nonnormality:.3g}: with a spectral radius of "
            f"{weight.spectral_radius:.3g} the norm is {weight.spectral_norm:.3g}"
        )
        yield self.finding(layer.name, message, {"nonnormality": weight.nonnormality})
