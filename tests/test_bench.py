"""A stack on its bench."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from rnndiag.bench import Bench
from rnndiag.cells.layer import Stack
from rnndiag.config.settings import Settings
from rnndiag.errors import SettingsError
from rnndiag.probes import Probe
from tests.oracles.nets import layer


def half() -> Stack:
    """A stack in float16, with a projected LSTM layer."""
    return Stack("s", ((layer("lstm", 3, 6, proj=2).to(torch.float16),),))


def test_it_stores_the_stack_of_the_file_and_no_other_tensor() -> None:
    bench = Bench.of(half(), Probe(length=5, batch=2), Settings(dtype="float32"))
    assert bench.stack.layers[0].weight_hh.dtype == torch.float16
    assert not any(isinstance(getattr(bench, field.name), torch.Tensor) for field in fields(bench))


def test_working_weights_and_inputs_have_the_dtype_of_the_measurement() -> None:
    bench = Bench.of(half(), Probe(length=5, batch=2), Settings(dtype="float32"))
    stored, working = bench.stack.layers[0], bench.working().layers[0]
    for name, parameter in working.parameters.items():
        assert parameter.dtype == torch.float32
        assert parameter.equal(stored.parameters[name].float())
    assert (bench.inputs().shape, bench.inputs().dtype) == ((5, 2, 3), torch.float32)


def test_the_lag_is_that_of_the_settings_or_the_length_of_the_probe() -> None:
    assert Bench.of(half(), Probe(length=5), Settings()).lag == 5
    assert Bench.of(half(), Probe(length=5), Settings(lag=3)).lag == 3
    with pytest.raises(SettingsError, match="--lag 6 is longer than the probe; expected at most --T 5"):
        Bench.of(half(), Probe(length=5), Settings(lag=6))
