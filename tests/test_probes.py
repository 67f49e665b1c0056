"""Probe sequences: shapes, determinism, what each kind is, and clear refusals."""

from __future__ import annotations

import math

import pytest
import torch

from rnndiag.cells.layer import Stack
from rnndiag.errors import ProbeError
from rnndiag.probes import GENERATED, Probe
from rnndiag.random_nets import RandomNet
from tests.oracles.nets import layer

STACK = Stack("rnn", ((layer("tanh", 3, 5),),))
EMBEDDED = Stack("rnn", ((layer("tanh", 3, 5),),), torch.arange(12.0).reshape(4, 3).half())


@pytest.mark.parametrize("kind", GENERATED)
def test_every_kind_has_the_shape_and_the_seed_decides(kind: str) -> None:
    one, again, other = (Probe(kind, 7, 2, seed=s).inputs(EMBEDDED) for s in (1, 1, 2))
    assert one.shape == (7, 2, 3)
    assert one.dtype == torch.float64
    assert torch.equal(one, again)
    assert kind == "zeros" or not torch.equal(one, other)


@pytest.mark.parametrize("kind", GENERATED)
def test_scale_multiplies(kind: str) -> None:
    base = Probe(kind, 5, 2).inputs(EMBEDDED)
    torch.testing.assert_close(Probe(kind, 5, 2, scale=-2.5).inputs(EMBEDDED), -2.5 * base)


def test_what_the_kinds_are() -> None:
    noise = Probe("noise", 2000, 10).inputs(STACK)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    constant = Probe("constant", 6, 3).inputs(STACK)
    assert torch.equal(constant, constant[:1].expand_as(constant))
    assert constant[0].unique().numel() == 9
    impulse = Probe("impulse", 6, 3).inputs(STACK)
    assert bool((impulse[0] != 0).all())
    assert not bool(impulse[1:].any())
    sine = Probe("sine", 300, 2).inputs(STACK)
    assert float(sine.abs().max()) == pytest.approx(1, abs=1e-2)
    torch.testing.assert_close(  # x'' = -w^2 x: the ratio of the second difference to x is constant
        (sine[2:] + sine[:-2])[5] / sine[6], (sine[2:] + sine[:-2])[50] / sine[51]
    )


def test_tokens_are_rows_of_the_embedding() -> None:
    rows = Probe("tokens", 50, 4).inputs(EMBEDDED).reshape(-1, 3)
    assert EMBEDDED.embedding is not None
    assert {tuple(row) for row in rows.tolist()} == {tuple(row) for row in EMBEDDED.embedding.double().tolist()}


def test_tokens_need_an_embedding() -> None:
    with pytest.raises(ProbeError, match=r"expects an embedding \[V, 3\] in the same model, got none"):
        Probe("tokens").inputs(STACK)


def test_own_array_of_one_and_of_many_sequences() -> None:
    many = torch.randn(2, 6, 3)
    torch.testing.assert_close(Probe.from_array(many).inputs(STACK), many.double().transpose(0, 1))
    torch.testing.assert_close(Probe.from_array(many[0]).inputs(STACK), many[0].double()[:, None])
    some = Probe.from_array(many, length=4, batch=1)
    torch.testing.assert_close(some.inputs(STACK), many[:1, :4].double().transpose(0, 1))
    assert (some.length, some.batch) == (4, 1)


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (torch.zeros(3), {}, r"expected an array \[T, D\] or \[B, T, D\], got shape \[3\]"),
        (torch.zeros(0, 3), {}, r"got shape \[0, 3\]"),
        (torch.zeros(2, 2, dtype=torch.complex64), {}, "expected real numbers"),
        (torch.tensor([[math.nan]]), {}, "expected finite numbers"),
        (torch.zeros(5, 3), {"length": 6}, "--T 6 is more than the 5 that the array has"),
        (torch.zeros(5, 3), {"batch": 2}, "--batch 2 is more than the 1 that the array has"),
    ],
)
def test_arrays_that_do_not_fit(array: torch.Tensor, options: dict[str, int], message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        Probe.from_array(array, **options)


def test_width_says_expected_and_got() -> None:
    with pytest.raises(ProbeError, match=r"expects a probe of shape \[T, 3\] or \[B, T, 3\], got width 4"):
        Probe.from_array(torch.zeros(5, 4)).inputs(STACK)
    with pytest.raises(ProbeError, match=r"got width 4; if these are token ids, give their embeddings, or .* tokens$"):
        Probe.from_array(torch.arange(20).reshape(5, 4)).inputs(STACK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "--T: expected at least 1 step, got 0"),
        ({"batch": -1}, "--batch: expected at least 1 sequence, got -1"),
        ({"scale": math.inf}, "--scale: expected a finite number"),
    ],
)
def test_bad_sizes(options: dict[str, float], message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        Probe(**options)


def test_weights_and_probe_share_no_numbers() -> None:
    net = RandomNet(hidden=64, input_size=64, seed=0).build().stacks[0]
    drawn = net.layers[0].weight_hh.flatten() * 8
    inputs = Probe(seed=0).inputs(net).flatten()
    rounded = {round(value, 9) for value in inputs.tolist()}
    assert not rounded & {round(value, 9) for value in drawn.tolist()}
