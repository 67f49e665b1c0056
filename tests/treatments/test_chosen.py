"""Which stacks and layers a treatment changes: those that are ill, and of them those that were asked for."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from rnndiag import Settings, diagnose
from rnndiag.bench import Bench
from rnndiag.cells.layer import Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.measures.measure_stack import MeasuredStack, measure
from rnndiag.prescription import TreatmentResult, prescribe
from rnndiag.probes import Probe
from rnndiag.treatments.patient import Patient
from tests.builders.patients import patient
from tests.oracles.nets import layer

PROBE = Probe(length=8, batch=12)


def stack(name: str, scale: float) -> Stack:
    return Stack(name, ((layer("tanh", hidden=24, scale=scale, name=f"{name}.l0"),),))


def model(**scales: float) -> Model:
    return Model(Source("several", "random"), tuple(stack(name, scale) for name, scale in scales.items()))


def test_of_layers_only_those_asked_for_change_and_all_are_measured() -> None:
    (deep,) = (patient(sigma=0.5, layers=3).stack,)
    asked = Settings(layers="*.l1")
    for take in ("rescale", "nearest-orthogonal", "init-xavier", "scale-inputs"):
        done = prescribe(Model(Source("deep", "random"), (deep,)), PROBE, asked, treatments=take, take=take)
        ((treatment,), (name,)) = done.prescription.treatments, done.changed
        assert name.endswith("l1")
        assert treatment.layers == (name,)
        assert not any(other in treatment.action for other in (name[:-1] + "0", name[:-1] + "2"))


@pytest.mark.parametrize("take", ["gru", "gru+chrono"])
def test_of_cells_only_those_asked_for_are_replaced(take: str) -> None:
    (deep,) = (patient(sigma=0.3, layers=2).stack,)
    done = prescribe(Model(Source("deep", "random"), (deep,)), Probe(length=40, batch=4), Settings(layers="*.l0"),
                     treatments=take, take=take)  # fmt: skip
    assert [changed.cell for changed in done.changed.values()] == ["gru"]
    assert set(done.changed) == {deep.layers[0].name}


def told(done: TreatmentResult) -> dict[str, Any]:
    return {name: getattr(done, name) for name in ("log10_gain", "verdict", "saturated", "change", "layers", "helps")}


@pytest.mark.parametrize("take", ["rescale", "init-xavier", "nearest-orthogonal"])
def test_to_take_a_treatment_changes_nothing_of_what_it_does(take: str) -> None:
    """Beside an ill stack a healthy one stays, whether or not the treatment helps, and is no part of its figures."""
    both = model(ill=0.1, well=1.6)
    chosen, ranked = (prescribe(both, PROBE, treatments=take, **more) for more in ({"take": take}, {}))  # type: ignore[arg-type]
    assert [s.verdict for s in chosen.prescription.before.stacks] == ["vanishing", "healthy"]
    assert set(chosen.changed) == {"ill.l0"}
    assert told(chosen.prescription.treatments[0]) == told(ranked.prescription.treatments[0])
    assert chosen.prescription.after is not None
    alone = prescribe(model(ill=0.1), PROBE, treatments=take)
    assert told(alone.prescription.treatments[0]) == told(chosen.prescription.treatments[0])


def test_what_helps_nowhere_is_taken_for_the_ill_alone() -> None:
    both = model(ill=1.6, well=1.6)
    (saturated,) = both.stacks[0].layers
    saturated.weight_ih.mul_(50)  # of which no W_hh can cure it
    done = prescribe(both, PROBE, treatments="nearest-orthogonal", take="nearest-orthogonal")
    assert [s.verdict for s in done.prescription.before.stacks] == ["vanishing", "healthy"]
    assert not done.prescription.treatments[0].helps
    assert set(done.changed) == {"ill.l0"}


def test_healthy_stacks_are_treated_where_all_are_and_one_asks_for_it() -> None:
    done = prescribe(model(one=1.6, two=1.6), PROBE, treatments="init-xavier", take="init-xavier")
    assert set(done.changed) == {"one.l0", "two.l0"}


def test_only_the_stacks_that_changed_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def counted(bench: Bench, report_stage: Callable[[str], None]) -> MeasuredStack:
        measured.append(bench.name)
        return measure(bench, report_stage)

    monkeypatch.setattr(diagnose, "measure", counted)
    done = prescribe(model(ill=0.1, well=1.6), PROBE, treatments="rescale").prescription
    assert measured == ["ill", "well", "ill"]
    assert done.after is not None
    assert done.after.stacks[1] == done.before.stacks[1]


def test_the_patients_of_a_stack_are_released_before_the_next_stack() -> None:
    """The inputs, weights and states of a stack, once per treatment, are not kept until the last stack is treated."""
    live: dict[str, set[str]] = {}

    def progress(piece: str, done: int, total: int) -> None:
        if ": rescale" in piece or ": scale-inputs" in piece:
            gc.collect()
            live[piece] = {each.bench.name for each in gc.get_objects() if type(each) is Patient}

    prescribe(model(patient_1=0.1, patient_2=0.1), PROBE, treatments="[rs]*s*", progress=progress)
    assert live["patient_1: scale-inputs"] >= {"patient_1"}
    second = {piece: names for piece, names in live.items() if piece.startswith("patient_2")}
    assert len(second) >= 2
    assert not [piece for piece, names in second.items() if "patient_1" in names]


def test_the_gradient_of_an_untreated_stack_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench.of(stack("ill", 0.1), PROBE, Settings())
    gain = measure(bench, lambda stage: None).gain
    monkeypatch.delattr("rnndiag.treatments.patient.stack_gain")
    assert Patient.of(bench, gain).gain is gain
