"""Where in a file the layers lie, and what they are called."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.display_names import Place, name_modules, prefixes


class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.encoder = nn.LSTM(4, 6, 2, bidirectional=True)
        self.decoder = nn.GRUCell(5, 12)
        self.head = nn.Linear(12, 11)


def names(model):
    return [layer.name for stack in model.stacks for layer in stack.layers]


def reasons(model):
    return {skipped.name: skipped.reason for skipped in model.source.skipped}


def test_encoder_and_decoder_and_what_was_passed_over(reload):
    model = reload(Seq2Seq().state_dict())
    assert [stack.name for stack in model.stacks] == ["encoder", "decoder"]
    assert names(model) == ["encoder.l0", "encoder.l0.reverse", "encoder.l1", "encoder.l1.reverse", "decoder"]
    assert reasons(model) == {
        "embedding": "embedding; --probe tokens draws its rows",
        "head": "not recurrent: weight [11, 12], bias [11]",
    }


def test_source_identifies_the_file(save):
    path = save(nn.RNN(1, 2).state_dict())
    source = load(path).source
    assert source.path == str(path)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("prefix", "shown"),
    [
        ("", "rnn.l0"),
        ("module.", "rnn.l0"),
        ("_orig_mod.", "rnn.l0"),
        ("module._orig_mod.", "rnn.l0"),
        ("model.", "model.rnn.l0"),
        ("model.module.net.", "model.net.rnn.l0"),
    ],
)
def test_prefixes_of_wrappers(reload, prefix, shown):
    state = {f"{prefix}rnn.{name}": value for name, value in nn.GRU(2, 3).state_dict().items()}
    assert names(reload(state)) == [shown]


def test_wrappers_stay_where_names_would_collide(reload):
    state = {
        f"{prefix}rnn.{name}": value for prefix in ("module.", "") for name, value in nn.GRU(2, 3).state_dict().items()
    }
    assert names(reload(state)) == ["module.rnn.l0", "rnn.l0"]


@pytest.mark.parametrize(
    ("module", "stack", "layer"),
    [(nn.RNN(1, 2), "rnn", "l0"), (nn.GRU(1, 2), "gru", "l0"), (nn.LSTMCell(1, 2), "lstm", "lstm")],
)
def test_a_bare_module_is_named_by_its_kind(reload, module, stack, layer):
    model = reload(module.state_dict())
    assert (model.stacks[0].name, names(model)) == (stack, [layer])


def test_a_bare_module_under_a_key_is_named_by_the_key(reload):
    model = reload({"encoder": nn.RNN(1, 2).state_dict(), "decoder": nn.GRU(1, 2).state_dict(), "epoch": 3})
    assert [stack.name for stack in model.stacks] == ["encoder", "decoder"]
    assert names(reload({"ckpt": {"net": nn.RNN(1, 2).state_dict()}})) == ["ckpt.net.l0"]


def test_several_nets_in_one_file_are_told_apart(reload):
    def net():
        return nn.ModuleDict({"rnn": nn.GRU(2, 3), "head": nn.Linear(3, 1)}).state_dict()

    model = reload({"nets": {"generator": {"weights": net()}, "critic": {"weights": net()}}})
    assert names(model) == ["generator.rnn.l0", "critic.rnn.l0"]
    assert set(reasons(model)) == {"generator.head", "critic.head"}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop])
def test_training_checkpoint(reload, optimizer, legacy):
    net = Seq2Seq()
    loss = sum(p.square().sum() for p in net.parameters())
    optim = (
        optimizer(net.parameters(), momentum=0.9) if optimizer is torch.optim.RMSprop else optimizer(net.parameters())
    )
    loss.backward()
    optim.step()
    model = reload(
        {"epoch": 3, "model_state": net.state_dict(), "optim_state": optim.state_dict(), "losses": [0.5, 0.25]},
        legacy=legacy,
    )
    assert [stack.name for stack in model.stacks] == ["encoder", "decoder"]
    assert reasons(model)["optim_state"] == "optimizer state"
    assert len(model.source.skipped) == 3


def test_optimizer_state_by_parameter_name_is_no_layer(reload):
    state = {f"rnn.{name}": value for name, value in nn.GRU(2, 3).state_dict().items()}
    model = reload(
        {
            "first": {"state": {"exp_avg": state, "exp_avg_sq": state}, "param_groups": [{"lr": 0.1}]},
            "exp_avg": {name: value.clone() for name, value in state.items()},
            "generatorOpt": {"lr": 1.0},
            "net": {name: value + 1 for name, value in state.items()},
        }
    )
    assert names(model) == ["rnn.l0"]
    assert reasons(model) == {"first": "optimizer state", "exp_avg": "optimizer state"}


def test_a_module_named_optimizer_among_the_weights_is_measured(reload):
    """A learned optimizer is a net like any other; only containers are told by their names."""
    assert names(reload({f"optimizer.{k}": v for k, v in nn.LSTM(2, 3).state_dict().items()})) == ["optimizer.l0"]


def test_only_an_optimizer_in_the_file(save, refusal):
    rnn = nn.RNN(2, 3)
    optim = torch.optim.Adam(rnn.parameters())
    rnn(torch.zeros(1, 1, 2))[0].sum().backward()
    optim.step()
    message = refusal(save(optim.state_dict()))
    assert "no recurrent layer" in message
    assert "optimizer state" in message


def test_lightning(reload):
    net = Seq2Seq()
    model = reload(
        {
            "epoch": 1,
            "pytorch-lightning_version": "2.0",
            "state_dict": {f"model.{name}": value for name, value in net.state_dict().items()},
            "optimizer_states": [torch.optim.Adam(net.parameters()).state_dict()],
            "callbacks": {("ckpt", 1): {"best": torch.zeros(())}},
            "hyper_parameters": {"hidden": 6},
        }
    )
    assert [stack.name for stack in model.stacks] == ["model.encoder", "model.decoder"]


def test_tied_modules_are_measured_once(reload):
    rnn = nn.GRU(2, 3)
    model = reload(nn.ModuleDict({"a": rnn, "b": nn.ModuleDict({"c": rnn})}).state_dict())
    assert names(model) == ["a.l0"]
    assert reasons(model) == {"b.c": "recurrent, but its weights are those of a"}


def test_cells_in_a_module_list_are_stacks_of_their_own(reload):
    model = reload(nn.ModuleDict({"cells": nn.ModuleList([nn.LSTMCell(2, 3), nn.LSTMCell(3, 3)])}).state_dict())
    assert [stack.name for stack in model.stacks] == ["cells.0", "cells.1"]


def test_names_fit_to_print(reload):
    model = reload({f"\x1b[31m\n{'x' * 999}": 0, "a\x1b[2J\nb": nn.RNN(1, 2).state_dict()})
    assert model.stacks[0].name == r"a\x1b[2J\nb"


KEYS = st.text(max_size=8).filter(lambda key: key != "nonlinearity")
FILLERS = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3)


@st.composite
def nestings(draw):
    """A function that buries a state_dict somewhere in dicts, lists and tuples, among other values."""
    steps = draw(
        st.lists(
            st.tuples(st.sampled_from(["dict", "list", "tuple"]), KEYS, st.lists(FILLERS, max_size=3)), max_size=12
        )
    )

    def bury(content):
        for kind, key, fillers in steps:
            if kind == "dict":
                content = {**{f"other {i}": filler for i, filler in enumerate(fillers)}, key: content}
            else:
                content = (list if kind == "list" else tuple)([*fillers, content])
        return content

    return bury


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bury=nestings(), legacy=st.booleans())
def test_a_state_dict_is_found_at_any_depth(tmp_path, bury, legacy):
    module = nn.LSTM(2, 3, 2)
    path = tmp_path / "nested.pt"
    state = {f"rnn.{name}": value for name, value in module.state_dict().items()}
    torch.save(bury(state), path, _use_new_zipfile_serialization=not legacy)
    (stack,) = load(path).stacks
    assert [layer.name for layer in stack.layers] == ["rnn.l0", "rnn.l1"]
    assert torch.equal(stack.layers[1].weight_hh, module.weight_hh_l1)


PATHS = st.lists(st.tuples(*[st.sampled_from("abc")] * 2) | st.just(()) | st.tuples(st.sampled_from("ab")), min_size=1)


@given(PATHS)
def test_prefixes_tell_paths_apart(paths):
    short = prefixes(paths)
    assert set(short) == set(paths)
    assert len(set(short.values())) == len(set(paths))


@given(
    st.lists(
        st.builds(Place, st.tuples(st.sampled_from("ab")), st.sampled_from(["", "module", "x", "module.x", "x.module"]))
    )
)
def test_names_are_distinct(places):
    assert len(set(name_modules(places))) == len(places)
