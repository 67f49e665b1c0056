"""The list of all rules: a new rule is a class in the file of its family and one line here."""

from __future__ import annotations

from rnndiag.rules.assumptions import CellAssumed, NonlinearityUndecided
from rnndiag.rules.base import FileRule, ModelRule, Rule, TrendRule
from rnndiag.rules.credit import CreditIsRecent, HorizonShortOfLag
from rnndiag.rules.diverged import LayerDead, RunDiverged
from rnndiag.rules.echo_state import EchoStateFails
from rnndiag.rules.exploding import ChaoticDynamics, GradientExplodes, SingleStepSpikes
from rnndiag.rules.initialization import ForgetBiasNearZero, ScaleOffCritical
from rnndiag.rules.numerics import GradientUnderflows, NonfiniteStates, NonfiniteWeights
from rnndiag.rules.saturation import DeadUnits, ForgetGateShut, GatesStuck, UnitsSaturated
from rnndiag.rules.security import ForeignPickle, HarmfulPickle
from rnndiag.rules.spectrum import IllConditioned, OutsideTheBulk, StronglyNonnormal
from rnndiag.rules.states import StatesGrow, StoredDtypeOverflows
from rnndiag.rules.trend import (
    DriftsTowardChaos,
    DriftsTowardSaturation,
    DriftsTowardVanishing,
    MemoryShrinks,
    VerdictChanged,
)
from rnndiag.rules.vanishing import ContractionGuaranteed, GradientVanishes, LayerForgets

RULES: tuple[ModelRule, ...] = (
    GradientVanishes(),
    LayerForgets(),
    ContractionGuaranteed(),
    HorizonShortOfLag(),
    CreditIsRecent(),
    GradientExplodes(),
    ChaoticDynamics(),
    SingleStepSpikes(),
    EchoStateFails(),
    UnitsSaturated(),
    ForgetGateShut(),
    DeadUnits(),
    GatesStuck(),
    ForgetBiasNearZero(),
    ScaleOffCritical(),
    IllConditioned(),
    OutsideTheBulk(),
    StronglyNonnormal(),
    NonfiniteWeights(),
    NonfiniteStates(),
    GradientUnderflows(),
    NonlinearityUndecided(),
    CellAssumed(),
    StoredDtypeOverflows(),
    StatesGrow(),
)

FILE_RULES: tuple[FileRule, ...] = (HarmfulPickle(), ForeignPickle())
"""What is looked for in the file of a model, beside its layers."""

REPORT_RULES: tuple[Rule, ...] = (*RULES, *FILE_RULES)
"""All that a report of one model can find."""

TREND_RULES: tuple[TrendRule, ...] = (
    DriftsTowardChaos(),
    DriftsTowardVanishing(),
    DriftsTowardSaturation(),
    VerdictChanged(),
    MemoryShrinks(),
    RunDiverged(),
    LayerDead(),
)
"""What ``rnndiag trend`` looks for along a run."""

CATALOG: tuple[Rule, ...] = (*REPORT_RULES, *TREND_RULES)
"""All that ``rnndiag rules`` lists, and that a policy may choose from."""
