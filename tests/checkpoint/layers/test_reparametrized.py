"""Weights kept in parts: what is read is what the network computes with."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

NETS = {
    "rnn": lambda: nn.RNN(3, 5),
    "square": lambda: nn.RNN(5, 5),
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "cell": lambda: nn.GRUCell(2, 3),
}


def trained(module: nn.Module) -> nn.Module:
    """Away from the initial state, in which many parametrisations are the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.3
    return module.eval()


def recurrent_names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters() if "weight_hh" in name or "weight_ih" in name]


SCHEMES = {
    "weight norm": parametrizations.weight_norm,
    "weight norm of the whole": lambda module, name: parametrizations.weight_norm(module, name, dim=None),
    "weight norm of columns": lambda module, name: parametrizations.weight_norm(module, name, dim=1),
    "weight norm by hooks": nn.utils.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm by hooks": nn.utils.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "pruned": lambda module, name: prune.l1_unstructured(module, name, amount=0.3),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.(weight|spectral)_norm")
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("net", NETS)
def test_the_effective_weight_is_read(reload, net, scheme):
    torch.manual_seed(1)
    module = NETS[net]()
    names = recurrent_names(module)
    for name in names:
        SCHEMES[scheme](module, name)
    trained(module)
    x = torch.zeros(2, 1, 5 if net == "square" else module.input_size)
    with torch.no_grad():
        module(x[0] if net == "cell" else x)  # forward hooks compute the weight
    (stack,) = reload({"model": module.state_dict()}).stacks
    for name in names:
        kind, _, rest = name.partition("_l")
        level, reverse = int(rest[:1] or 0), int("reverse" in rest)
        got = stack.levels[level][reverse].parameters[kind]
        torch.testing.assert_close(got, getattr(module, name).detach(), rtol=2e-6, atol=2e-6)


def test_the_map_that_was_assumed_is_told(reload):
    module = parametrizations.orthogonal(nn.RNN(2, 3), "weight_hh_l0")
    assert any("the matrix exponential" in note for note in reload(module.state_dict()).notes)


def test_half_precision(reload):
    module = trained(parametrizations.weight_norm(nn.LSTM(2, 3), "weight_hh_l0")).half()
    (stack,) = reload(module.state_dict()).stacks
    assert stack.layers[0].weight_hh.dtype == torch.float16


class Twice(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def test_an_unknown_parametrisation_is_not_taken_for_the_weight(reload):
    rnn = nn.utils.parametrize.register_parametrization(nn.RNN(2, 3), "weight_hh_l0", Twice())
    model = reload({"rnn": rnn.state_dict(), "ok": nn.RNN(1, 2).state_dict()})
    assert [stack.name for stack in model.stacks] == ["ok"]
    (reason,) = (each.reason for each in model.source.skipped if each.name == "rnn")
    assert "parametrisation (original) is none that is known" in reason


def test_parts_that_do_not_fit(reload):
    state = parametrizations.weight_norm(nn.RNN(2, 3), "weight_hh_l0").state_dict()
    state["parametrizations.weight_hh_l0.original0"] = torch.ones(7, 1)
    model = reload({"rnn": state, "ok": nn.RNN(1, 2).state_dict()})
    (reason,) = (each.reason for each in model.source.skipped if each.name == "rnn")
    assert "do not fit each other: original1 [3, 3], original0 [7, 1]" in reason


def test_a_vector_is_not_orthogonal(reload):
    """Found by fuzzing."""
    parts = {"original": torch.ones(3), "0.base": torch.eye(3)}
    state = {f"rnn.parametrizations.weight_hh_l0.{part}": value for part, value in parts.items()}
    model = reload(state | {"rnn.weight_ih_l0": torch.ones(3, 2), "ok": nn.RNN(1, 2).state_dict()})
    (reason,) = (each.reason for each in model.source.skipped if each.name == "rnn")
    assert "do not fit each other: original [3], 0.base [3, 3]" in reason
