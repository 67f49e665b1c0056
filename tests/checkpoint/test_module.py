"""Modules in memory: found and measured like the files they would be saved to, and left as they were."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import rnndiag
from rnndiag import checkpoint
from rnndiag.checkpoint import module as live
from rnndiag.checkpoint.model import Model
from rnndiag.errors import ModelError
from rnndiag.report import Report, to_builtins


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.encoder = nn.LSTM(4, 6, 2, bidirectional=True, proj_size=3)
        self.middle = nn.RNN(6, 5, nonlinearity="relu", bias=False)
        self.cells = nn.ModuleList([nn.GRUCell(5, 4), nn.RNNCell(4, 3, nonlinearity="relu"), nn.LSTMCell(3, 2)])
        self.norm = nn.BatchNorm1d(2)


def by_name(model: Model) -> dict[str, dict[str, Tensor]]:
    return {layer.name: layer.parameters for stack in model.stacks for layer in stack.layers}


def assert_same(one: Model, other: Model) -> None:
    assert by_name(one).keys() == by_name(other).keys()
    for name, parameters in by_name(one).items():
        for key, parameter in parameters.items():
            torch.testing.assert_close(parameter, by_name(other)[name][key], rtol=0, atol=0)


def layers(report: Report) -> object:
    return to_builtins(report)["layers"]  # in which nan equals nan


def snapshot(module: nn.Module) -> list[object]:
    hooks = [(len(each._forward_pre_hooks), len(each._forward_hooks)) for each in module.modules()]
    modes = [each.training for each in module.modules()]
    kept = [
        (key, value.clone(), value.requires_grad, value.grad)
        for key, value in module.state_dict(keep_vars=True).items()
    ]
    return [hooks, modes, [type(each) for each in module.modules()], [(k, v.tolist(), r, g) for k, v, r, g in kept]]


def test_what_is_found_is_what_a_pickled_file_of_it_holds(tmp_path) -> None:
    module = Tagger()
    torch.save(module, tmp_path / "module.pt")
    loaded = checkpoint.load(tmp_path / "module.pt")
    found = live.load(module)
    assert_same(found, loaded)
    cells = {layer.name: layer.cell for stack in found.stacks for layer in stack.layers}
    assert cells == {layer.name: layer.cell for stack in loaded.stacks for layer in stack.layers}
    assert cells["middle.l0"] == cells["cells.1"] == "relu"
    assert not any(layer.nonlinearity_assumed for stack in found.stacks for layer in stack.layers)
    assert found.stacks[0].embedding is not None
    assert (found.source.path, found.source.format, found.source.sha256) == ("Tagger", "module", "")
    assert [each.name for each in found.source.skipped] == [each.name for each in loaded.source.skipped]
    assert found.notes == ()


def test_a_report_of_it_is_the_reports_of_its_file(tmp_path) -> None:
    module = Tagger().double()
    torch.save(module, tmp_path / "module.pt")
    one, two = (rnndiag.inspect(each, length=20, batch=3) for each in (module, tmp_path / "module.pt"))
    assert layers(one) == layers(two)
    assert one.findings == tuple(each for each in two.findings if not each.rule.startswith("SEC"))  # about the file
    tokens = rnndiag.inspect(module, probe="tokens", length=20, batch=3)
    assert tokens.stacks[0].name == "encoder"
    inputs = torch.randn(3, 20, 4)
    assert layers(rnndiag.inspect(module, inputs=inputs)) == layers(rnndiag.inspect(module, probe=inputs))


@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_left_as_it_is(training: bool) -> None:
    module = Tagger().train(training)
    parametrizations.spectral_norm(module.encoder, "weight_hh_l0")
    module.norm.weight.grad = torch.ones(2)
    before, state = snapshot(module), torch.get_rng_state()
    rnndiag.inspect(module, length=10, batch=2)
    assert snapshot(module) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def weight_norm(rnn: nn.LSTM) -> None:
    parametrizations.weight_norm(rnn, "weight_hh_l0")
    rnn.parametrizations.weight_hh_l0.original0.data *= 3


def old_weight_norm(rnn: nn.LSTM) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own word on the older one
        nn.utils.weight_norm(rnn, "weight_hh_l0")
    rnn.weight_hh_l0_g.data *= 3  # the attribute weight_hh_l0 is stale until the next call


def old_spectral_norm(rnn: nn.LSTM) -> None:
    nn.utils.spectral_norm(rnn, "weight_hh_l0")
    rnn.weight_hh_l0_orig.data += 1


def pruned(rnn: nn.LSTM) -> None:
    prune.l1_unstructured(rnn, "weight_hh_l0", amount=0.5)
    rnn.weight_hh_l0_orig.data *= 3


def orthogonal(rnn: nn.LSTM) -> None:
    parametrizations.orthogonal(rnn, "weight_hh_l0")


def two_parametrizations(rnn: nn.LSTM) -> None:
    parametrize.register_parametrization(rnn, "weight_hh_l0", Doubled())
    parametrize.register_parametrization(rnn, "bias_ih_l0", Doubled())


REWRITTEN = (weight_norm, old_weight_norm, old_spectral_norm, pruned, orthogonal, two_parametrizations)


@pytest.mark.parametrize("rewrite", REWRITTEN)
def test_weights_in_effect_are_those_that_a_call_uses(rewrite) -> None:
    torch.manual_seed(0)
    rnn = nn.LSTM(3, 4).eval()
    rewrite(rnn)
    model = live.load(nn.ModuleDict({"rnn": rnn}))
    (layer,) = model.stacks[0].layers
    inputs = torch.randn(5, 2, 3)
    plain = nn.LSTM(3, 4)
    plain.load_state_dict({f"{name}_l0": parameter for name, parameter in layer.parameters.items()})
    torch.testing.assert_close(plain(inputs)[0], rnn(inputs)[0])
    assert not any("parametrizations" in skipped.name for skipped in model.source.skipped)


def wrapped() -> dict[str, nn.Module]:
    net = nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 4))
    half = nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 4)).bfloat16()
    return {
        "compiled": torch.compile(net, backend="eager"),
        "compiled inside": nn.Sequential(nn.Linear(3, 3), torch.compile(nn.GRU(3, 4), backend="eager")),
        "data parallel": nn.DataParallel(net),
        "bfloat16": half,
        "twice": nn.DataParallel(torch.compile(net, backend="eager")),
    }


@pytest.mark.parametrize("name", wrapped())
def test_wrappers_are_no_part_of_names(name: str) -> None:
    model = live.load(wrapped()[name])
    assert model.source.path == "Sequential"
    assert [layer.name for stack in model.stacks for layer in stack.layers] == ["1.l0"]
    report = rnndiag.inspect(wrapped()[name], length=5, batch=2)
    assert report.layers[0].numerics.stored_dtype == ("bfloat16" if name == "bfloat16" else "float32")


class Named(nn.LSTM):
    """A user's own subclass."""


def test_subclasses_and_lone_modules() -> None:
    model = live.load(Named(3, 4))
    assert model.source.path == "Named"
    assert [(layer.name, layer.cell) for layer in model.stacks[0].layers] == [("l0", "lstm")]
    parametrizations.orthogonal(subclass := Named(3, 4), "weight_hh_l0")
    assert live.load(subclass).notes == model.notes == ()  # their own forward has the same states
    assert model.stacks[0].assumed_class == ""


def test_shared_modules_and_weights_are_measured_once() -> None:
    rnn, other = nn.GRU(3, 3), nn.GRU(3, 3)
    other.weight_ih_l0, other.weight_hh_l0 = rnn.weight_ih_l0, rnn.weight_hh_l0
    other.bias_ih_l0, other.bias_hh_l0 = rnn.bias_ih_l0, rnn.bias_hh_l0
    model = live.load(nn.ModuleDict({"a": rnn, "b": rnn, "c": other}))
    assert [stack.name for stack in model.stacks] == ["a"]
    assert [(each.name, each.reason) for each in model.source.skipped] == [
        ("c", "recurrent, but its weights are those of a")
    ]


def test_a_scripted_module() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is on its way out
        scripted = torch.jit.script(nn.Sequential(nn.RNN(3, 4, nonlinearity="relu")))
        model = live.load(scripted)
    (layer,) = model.stacks[0].layers
    assert (layer.name, layer.cell, model.notes) == ("0.l0", "relu", ())


def test_weights_are_copied() -> None:
    rnn = nn.GRU(3, 4)
    model = live.load(rnn)
    kept = copy.deepcopy(by_name(model))
    with torch.no_grad():
        rnn.weight_hh_l0.zero_()
    assert torch.equal(by_name(model)["l0"]["weight_hh"], kept["l0"]["weight_hh"])


def fail(weight: Tensor) -> Tensor:
    raise ValueError("not today")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (
            nn.Linear(2, 3),
            r"^Linear: no nn.RNN, nn.LSTM, nn.GRU or one of their cells in it; .*rnndiag.inspect\(step, state0",
        ),
        (nn.Identity(), "^Identity: no nn.RNN"),
        (nn.Sequential(nn.LazyLinear(3)), "^Sequential: no nn.RNN"),
        (nn.GRU(3, 4, device="meta"), r"but .*recurrent, but .*: on the meta device, which holds no numbers\)"),
        (nn.GRU(3, 4, dtype=torch.complex64), r"expected float16, bfloat16, float32 or float64, got torch.complex64"),
    ],
)
def test_refused_with_one_line(module: nn.Module, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        rnndiag.inspect(module)
    assert "\n" not in str(caught.value)


def test_a_parametrization_that_raises_is_named() -> None:
    rnn, broken = nn.GRU(3, 4), Doubled()
    parametrize.register_parametrization(rnn, "weight_hh_l0", broken)
    broken.forward = fail
    with pytest.raises(ModelError, match=r"Sequential: the weights of 0 cannot .*: ValueError: not today \(.*py"):
        live.load(nn.Sequential(rnn))
