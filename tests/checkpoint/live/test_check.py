"""Live modules against their own forward: the same states, or measured through it, or refused by name."""

from __future__ import annotations

import copy
import random
import re
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import rnndiag
from rnndiag.checkpoint import module as live
from tests.builders import live_cells as cells
from tests.builders.outcomes import own_run, states_of

X = torch.randn(6, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


KINDS = {
    "own LSTM": (cells.OwnLSTM, "pair", "lstm"),
    "clipped": (cells.ClippedLSTM, "pair", "custom"),
    "peephole": (cells.Peephole, "pair", None),
    "layer norm": (cells.LayerNormLSTM, "output pair", None),
    "tau gate": (cells.TauGate, "single", "custom"),
    "mut": (cells.Mut, "single", "custom"),
    "two states": (cells.Oscillators, "spread", "custom"),
    "state first": (cells.StateFirst, "state first", None),
    "tutorial": (cells.OutputAndState, "output state", "relu"),
    "dreamer": (cells.ListState, "list", None),
}
"""The class, how it is called, and the cell in the report; None: as long as its states are right."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", ["lone", "inside"])
def test_each_kind_has_the_states_of_its_own_forward(kind: str, depth: str) -> None:
    torch.manual_seed(1)
    cls, form, expected = KINDS[kind]
    cell = cls()
    model = live.load(cell if depth == "lone" else nn.ModuleDict({"head": nn.Linear(7, 3), "cell": cell}))
    torch.testing.assert_close(states_of(model, X), own_run(cell, form, X), rtol=0, atol=1e-9)
    found = "custom" if model.steps else model.stacks[0].layers[0].cell
    assert found == expected or expected is None
    for step in model.steps:
        assert step.name == ("cell" if depth == "inside" else cls.__name__)
        note = next(note for note in model.notes if step.name in note)
        assert f"tests.builders.live_cells.{cls.__name__}, measured through its own forward(" in note
    assert not [each for each in model.source.skipped if each.recurrent]
    assert not any("assumed" in note for note in model.notes)


def test_a_report_of_mixed_modules() -> None:
    torch.manual_seed(0)
    net = nn.ModuleDict({"own": cells.Peephole(3, 4), "theirs": nn.GRU(3, 5, 2)})
    report = rnndiag.inspect(net, length=20, batch=3)
    assert {layer.name: layer.cell for layer in report.layers}["theirs.l1"] == "gru"
    assert {stack.name for stack in report.stacks} == {"own", "theirs"}
    only = rnndiag.inspect(net, length=20, batch=3, settings=rnndiag.Settings(layers="own"))
    assert [layer.name for layer in only.layers] == ["own"]
    single = rnndiag.inspect(net, length=20, batch=3, settings=rnndiag.Settings(layers="own", dtype="float32"))
    assert single.layers[0].gradient.log10_gain == pytest.approx(only.layers[0].gradient.log10_gain, abs=1e-3)
    assert single.layers[0].numerics.stored_dtype == "float32"


def test_the_measures_of_a_forward_are_those_of_the_step_function() -> None:
    torch.manual_seed(0)
    cell = cells.TauGate()
    inputs = X.transpose(0, 1)
    one = rnndiag.inspect(cell, inputs=inputs, layout="BTD")
    double = copy.deepcopy(cell).double()
    two = rnndiag.inspect(lambda h, x: double(x, h), torch.zeros(5), inputs, layout="BTD")
    assert one.layers[0].gradient == two.layers[0].gradient
    assert one.layers[0].lyapunov == two.layers[0].lyapunov


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("by_batch", [True, False])
def test_the_cell_within_a_layer_is_measured(by_batch: bool, pair: bool) -> None:
    torch.manual_seed(0)
    cell = cells.OwnLSTM() if pair else cells.Mut()
    layer = cells.Sequence(cell, by_batch=by_batch, pair=pair)
    model = live.load(nn.ModuleDict({"layer": layer}))
    assert [each.name for each in (*model.stacks, *model.steps)] == ["layer.core"]
    torch.testing.assert_close(states_of(model, X), own_run(cell, "pair" if pair else "single", X), rtol=0, atol=1e-9)


class OpaqueRNN(nn.Module):
    """A layer whose tensors have names that say nothing."""

    def __init__(self, *, by_batch: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 5)
        self.by_batch = by_batch

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        axis = 1 if self.by_batch else 0
        steps, out = x.unbind(axis), []
        h = x.new_zeros(len(steps[0]), 5) if state is None else state[0]
        for each in steps:
            h = 0.5 * h + (self.a(each) + self.b(h)).tanh()
            out.append(h)
        return torch.stack(out, axis), h[None]


@pytest.mark.parametrize("by_batch", [True, False])
def test_the_axes_of_a_sequence_are_found_by_trial(by_batch: bool) -> None:
    torch.manual_seed(0)
    layer = OpaqueRNN(by_batch=by_batch)
    model = live.load(nn.Sequential(layer))
    assert dict(model.layouts) == {"0": "BTD" if by_batch else "TBD"}
    double = copy.deepcopy(layer).double()
    expected = double(X.transpose(0, 1))[0].transpose(0, 1) if by_batch else double(X)[0]
    torch.testing.assert_close(states_of(model, X), expected.detach(), rtol=0, atol=1e-9)


def test_subclasses_with_a_forward_of_their_own() -> None:
    torch.manual_seed(0)
    for cls, custom in ((cells.Doubled, True), (cells.Residual, False)):
        for batch_first in (False, True):
            net = cls(3, 5, batch_first=batch_first)
            model = live.load(net)
            assert bool(model.steps) == custom
            expected = nn.LSTM.forward(
                copy.deepcopy(net).double(), (2 * X if custom else X).transpose(0, int(batch_first))
            )
            torch.testing.assert_close(
                states_of(model, X), expected[0].transpose(0, int(batch_first)).detach(), rtol=0, atol=1e-9
            )


def halved(module: nn.Module, arguments: tuple, result: tuple) -> tuple:
    return result[0] / 2, tuple(part / 2 for part in result[1])


def test_a_hook_that_changes_the_state_of_a_cell_is_part_of_the_step() -> None:
    torch.manual_seed(0)
    cell = nn.GRUCell(3, 5)
    cell.register_forward_hook(lambda module, arguments, result: result / 2)
    model = live.load(cell)
    assert [step.class_path for step in model.steps] == ["torch.nn.modules.rnn.GRUCell"]
    torch.testing.assert_close(states_of(model, X), own_run(cell, "single", X), rtol=0, atol=1e-9)
    untouched = nn.GRUCell(3, 5)
    untouched.register_forward_hook(lambda module, arguments, result: None)
    assert live.load(untouched).stacks[0].layers[0].cell == "gru"


REFUSED = {
    "stateful": (cells.Stateful, "its own forward\\(x\\) could not be used as a step"),
    "dropping": (cells.AlwaysDropping, "two calls on the same rows give different states"),
    "timed": (cells.Timed, "the names of its arguments do not say which|missing 1 required"),
    "unnamed": (cells.Unnamed, "the names of its arguments do not say which of them are the state"),
    "complex": (cells.Complex, "complex"),
    "lazy": (cells.Lazy, "not initiali[sz]ed yet: call"),
    "needing": (cells.Needing, "its own forward\\(x, h, graph\\) could not be used as a step: .*missing 1 required"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_run_is_skipped_by_name(kind: str) -> None:
    cls, words = REFUSED[kind]
    model = live.load(nn.ModuleDict({"odd": cls(), "rnn": nn.GRU(3, 4)}))
    assert [stack.name for stack in model.stacks] == ["rnn"]
    (skipped,) = [each for each in model.source.skipped if each.recurrent]
    assert skipped.name == "odd"
    assert skipped.reason.endswith("measure its step with rnndiag.inspect(step, state0, inputs)")
    assert re.search(words, skipped.reason), skipped.reason
    with pytest.raises(rnndiag.RnndiagError, match=words):
        rnndiag.inspect(cls())


class Drawing(cells.TauGate):
    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        torch.rand(3), np.random.rand(3), random.random()
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(x, state)


def test_nothing_of_the_module_changes() -> None:
    cell = Drawing().train()
    cell.register_buffer("seen", torch.zeros(2))
    cell.weight_hh.grad = torch.ones_like(cell.weight_hh)
    parametrizations.spectral_norm(cell, "weight_ih")
    hooks = [dict(each._forward_hooks) for each in cell.modules()]
    before = {key: value.clone() for key, value in cell.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with torch.no_grad():
        rnndiag.inspect(cell, length=8, batch=2)
    assert all(torch.equal(before[key], value) for key, value in cell.state_dict().items())
    assert cell.training
    assert not hasattr(cell, "calls")
    assert torch.equal(cell.weight_hh.grad, torch.ones_like(cell.weight_hh))
    assert [dict(each._forward_hooks) for each in cell.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


def test_parametrized_cells_of_own_classes() -> None:
    torch.manual_seed(0)
    cell = cells.Peephole()
    parametrizations.weight_norm(cell, "weight_hh")
    model = live.load(cell)
    torch.testing.assert_close(states_of(model, X), own_run(cell, "pair", X), rtol=0, atol=1e-7)  # norms in float32
    old = cells.Mut()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own word on the older one
        nn.utils.weight_norm(old, "weight_hh")
    old.weight_hh_g.data *= 2
    old(X[0].float(), torch.zeros(2, 5))  # its attribute now has a graph
    torch.testing.assert_close(states_of(live.load(old), X), own_run(old, "single", X), rtol=0, atol=1e-7)


def test_wrapped_cells_of_own_classes() -> None:
    cell = cells.TauGate()
    for net in (nn.DataParallel(cell), torch.compile(cell, backend="eager")):
        model = live.load(net)
        assert [step.name for step in model.steps] == ["TauGate"]
        torch.testing.assert_close(states_of(model, X), own_run(cell, "single", X), rtol=0, atol=1e-9)


def test_the_module_around_a_cell_that_is_no_step() -> None:
    torch.manual_seed(0)
    layer = cells.TimedLayer()
    model = live.load(nn.ModuleDict({"layer": layer}))
    assert [step.name for step in model.steps] == ["layer"]
    assert not [each for each in model.source.skipped if each.recurrent]
    expected = copy.deepcopy(layer).double()(X)[0].detach()
    torch.testing.assert_close(states_of(model, X), expected, rtol=0, atol=1e-9)


class Attention(nn.Module):
    """Not recurrent: one of its arguments is a state, and what it returns has the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(5, 3)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return (self.query(state) * x).sum(-1, keepdim=True).tanh() * state


def test_a_module_that_only_reads_a_state_is_not_taken_for_a_recurrent_one() -> None:
    model = live.load(nn.ModuleDict({"attention": Attention(), "rnn": nn.GRU(3, 5)}))
    assert [stack.name for stack in model.stacks] == ["rnn"]
    assert not model.steps


class Learned(cells.TauGate):
    def build(self, hidden: int) -> None:
        self.start = nn.Parameter(torch.ones(hidden))

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        return super().forward(x, self.start.expand(len(x), -1) if state is None else state)


def test_an_initial_state_of_its_own_is_reported() -> None:
    (note,) = live.load(Learned()).notes
    assert note.endswith("; its own initial state is not zero, and it was measured from zero")


class Stems(nn.Module):
    """The names of its tensors begin with a stem, which is the path of no module."""

    def __init__(self) -> None:
        super().__init__()
        for name, shape in {"dec_w_ih": (15, 3), "dec_w_hh": (15, 5), "dec_b_ih": (15,), "dec_b_hh": (15,)}.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape) / 3))

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return torch.gru_cell(x, state, self.dec_w_ih, self.dec_w_hh, self.dec_b_ih, self.dec_b_hh)


def test_nothing_is_assumed_of_a_layer_that_agrees() -> None:
    torch.manual_seed(0)
    cell = Stems()
    model = live.load(nn.ModuleDict({"net": cell}))
    assert model.stacks[0].layers[0].cell == "gru"
    assert not any("assumed" in note and "nn." in note for note in model.notes)
    torch.testing.assert_close(states_of(model, X), own_run(cell, "single", X), rtol=0, atol=1e-9)


def test_what_is_measured_through_its_forward_is_not_treated() -> None:
    torch.manual_seed(0)
    net = nn.ModuleDict({"own": cells.TauGate(3, 6), "theirs": nn.RNN(3, 16)})
    given = rnndiag.prescribe(net, length=40, batch=3)
    assert {stack.name for stack in given.before.stacks} == {"own", "theirs"}
    assert "own: measured through its own forward, to which no treatment is applied" in given.before.notes
    assert {layer for each in given.treatments for layer in each.layers} == {"theirs.l0"}
    assert given.after is None or {stack.name for stack in given.after.stacks} == {"own", "theirs"}


def test_swapped_arguments_are_never_guessed() -> None:
    class Unnamed(cells.StateFirst):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return 0.5 * a + 0.5 * sum(self.both(b, a)).tanh()

    assert live.load(Unnamed(3, 5)).steps  # the sizes say which is which
    with pytest.raises(rnndiag.RnndiagError, match="do not say which of them is the state"):
        live.load(Unnamed(5, 5))
