"""A user's step: the forms of state it may have, how it may be called, and what is refused with which words."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rnndiag.cells.custom import StepLayer, step_layer
from rnndiag.cells.step import State
from rnndiag.errors import ModelError

W = torch.linspace(-1, 1, 25, dtype=torch.float64).reshape(5, 5)
U = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3)
X = torch.randn(6, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
DOUBLE = torch.empty(0, dtype=torch.float64)
SINGLE = torch.empty(0, dtype=torch.float32)


def build(step: Callable, state0: object, inputs: Tensor = X, like: Tensor = DOUBLE) -> StepLayer:
    state = State.of(state0, "step")
    return step_layer(step, state, state.rows(inputs.shape[1], like), inputs.to(like))


def batched(h: Tensor, x: Tensor) -> Tensor:
    return torch.tanh(h @ W.T + x @ U.T)


def single(h: Tensor, x: Tensor) -> Tensor:
    return torch.tanh(W @ h + U @ x)


class Batched(nn.Module):
    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        return batched(h, x)


def by_parts(state: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    new = batched(torch.cat(state, -1), x)
    return new[:, :2], new[:, 2:]


def by_names(state: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    a, b = by_parts((state["a"], state["b"]), x)
    return {"b": b, "a": a}


def one_by_names(state: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    new = single(torch.cat((state["a"], state["b"])), x)
    return {"a": new[:2], "b": new[2:]}


def in_place(h: Tensor, x: Tensor) -> Tensor:
    drive = h @ W.T
    h.zero_()
    h += drive
    h.add_(x @ U.T).tanh_()
    x.zero_()
    return h


class Tanh(torch.autograd.Function):
    """As autograd functions were first written: torch.func refuses them, and there is no forward mode."""

    @staticmethod
    def forward(ctx, a: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        return a.tanh()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient / ctx.saved_tensors[0].cosh().square()


def by_function(h: Tensor, x: Tensor) -> Tensor:
    return Tanh.apply(h @ W.T + x @ U.T)


def by_gradient(h: Tensor, x: Tensor) -> Tensor:
    """As nets that are given by an energy step: they take a gradient themselves."""
    a = (h @ W.T + x @ U.T).requires_grad_()
    (slope,) = torch.autograd.grad(a.cosh().log().sum(), a, create_graph=True)
    return slope


def by_attention(h: Tensor, x: Tensor) -> Tensor:
    """Fused attention to a single memory gives it back; its kernel has no forward mode and no second derivative."""
    query = (h @ W.T + x @ U.T)[:, None, None]
    return torch.nn.functional.scaled_dot_product_attention(query, query, query)[:, 0, 0].tanh()


PARTS = (torch.full((2,), 0.1), torch.full((2, 3), 0.1))
NAMED = dict(zip("ab", PARTS, strict=True))
FORMS = {
    "batched": (batched, torch.full((5,), 0.1)),
    "given for a batch": (batched, np.full((2, 5), 0.1)),
    "single": (single, torch.full((5,), 0.1)),
    "tuple": (by_parts, PARTS),
    "list": (lambda s, x: list(by_parts(s, x)), list(PARTS)),
    "dict": (by_names, NAMED),
    "single dict": (one_by_names, NAMED),
    "in place": (in_place, torch.full((5,), 0.1)),
    "autograd function": (by_function, torch.full((5,), 0.1)),
    "gradient inside": (by_gradient, torch.full((5,), 0.1)),
    "attention": (by_attention, torch.full((5,), 0.1)),
    "compiled": (torch.compile(batched, backend="aot_eager"), torch.full((5,), 0.1)),
    "compiled module": (torch.compile(Batched(), backend="aot_eager"), torch.full((5,), 0.1)),
    "partial": (functools.partial(lambda w, h, x: torch.tanh(h @ w.T + x @ U.T), W), torch.full((5,), 0.1)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_states_and_jacobians(form: str) -> None:
    step, state0 = FORMS[form]
    layer = build(step, state0)
    states = layer.states(X)
    h, expected = torch.full((2, 5), 0.1).double(), []
    for x in X:
        expected.append(h)
        h = batched(h, x)
    torch.testing.assert_close(states[:-1], torch.stack(expected), rtol=1e-7, atol=1e-7)  # 0.1 in float32
    along = layer.linearize(X, states[:-1])
    slopes = 1 - states[1:].square()
    torch.testing.assert_close(along.state_jacobian.to_dense(), slopes[..., None] * W)
    torch.testing.assert_close(along.input_jacobian.to_dense(), slopes[..., None] * U)
    assert layer.function.single == form.startswith("single")
    assert layer.forward_mode == (form != "autograd function")
    assert X.any()


def test_sizes_and_names() -> None:
    layer = build(by_parts, PARTS)
    assert (layer.name, layer.hidden_size, layer.state_size, layer.input_size) == ("by_parts", 2, 5, 3)
    assert build(lambda h, x: batched(h, x), torch.zeros(5)).name == "step"
    assert build(functools.partial(batched), torch.zeros(5)).name == "batched"


def test_parameters_and_modes_are_left_alone() -> None:
    cell = nn.GRUCell(3, 5, dtype=torch.float64)
    layer = build(lambda h, x: cell(x, h), torch.zeros(5))
    layer.linearize(X, layer.states(X)[:-1]).state_jacobian.rmv(torch.ones(6, 2, 5, dtype=torch.float64))
    assert all(parameter.grad is None for parameter in cell.parameters())
    assert cell.training


def counting() -> Callable:
    calls = []

    def step(h: Tensor, x: Tensor) -> Tensor:
        calls.append(1)
        return batched(h, x) * len(calls)

    return step


def no_batch(h: Tensor, x: Tensor) -> Tensor:
    return single(h, x) if h[0].item() > -2 else h  # decides by a number


def once_only(h: Tensor, x: Tensor) -> Tensor:
    class Once(Tanh):
        backward = staticmethod(torch.autograd.function.once_differentiable(Tanh.backward))

    return Once.apply(h @ W.T)


def detached_part(state: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    return by_parts((state[0], state[1].detach()), x)


def raises(h: Tensor, x: Tensor) -> Tensor:
    raise KeyError("weights\nof the cell")


ZEROS = torch.zeros(5)
REFUSED = [
    (lambda h, x: h[..., :4], ZEROS, r"expected a new state of shape \[4, 5\] .* got shape \[4, 4\]"),
    (
        lambda h, x: (x, batched(h, x)),
        ZEROS,
        r"expected the new state alone, a tensor \[4, 5\] like .*, got a tuple",
    ),
    (lambda h, x: None, ZEROS, "got None"),
    (lambda s, x: s[0], (ZEROS, ZEROS), r"a tuple of \(a tensor \[4, 5\], .*, got a tensor"),
    (lambda h, x: batched(h, x).numpy(), ZEROS, "got ndarray"),
    (lambda h, x: torch.from_numpy(batched(h, x).detach().numpy()), ZEROS, "its result carries no gradient"),
    (torch.no_grad()(batched), ZEROS, "its result carries no gradient"),
    (lambda h, x: batched(h.detach(), x), ZEROS, "the state changes the new state, but no gradient passes"),
    (detached_part, (torch.zeros(2), torch.zeros(3)), "part 2 of the state changes the new state, but no gradient"),
    (lambda h, x: torch.dropout(batched(h, x), 0.5, True), ZEROS, "two calls on the same rows give different states"),
    (counting(), ZEROS, "two calls on the same rows give different states"),
    (lambda h, x: batched(h, x) - h.mean(0), ZEROS, "the rows of a batch change each other's states"),
    (no_batch, ZEROS, r"torch.func.vmap cannot batch it: write it for states \[B, S\]"),
    (once_only, ZEROS, "neither forward-mode differentiation nor a second backward"),
    (raises, ZEROS, r"raises: KeyError: 'weights\\nof the cell' \(tests/cells/test_step.py:\d+\); it was called with"),
    (lambda h: h, ZEROS, r"TypeError: .* takes 1 positional argument but 2 were given"),
    (lambda h, x: batched(h, x).float(), ZEROS, "and torch.float64 like the old one, got .*float32"),
    (
        nn.Bilinear(5, 3, 5),
        ZEROS,
        r"works in float32, but is to be measured in float64: call .double\(\)",
    ),
]


@pytest.mark.parametrize(("step", "state0", "words"), REFUSED)
def test_refused_with_one_line_that_says_why(
    step: Callable, state0: object, words: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(request.config.rootpath)
    with pytest.raises(ModelError, match=words) as caught:
        build(step, state0)
    assert "\n" not in str(caught.value)


def test_a_double_module_is_asked_for_single_precision() -> None:
    with pytest.raises(ModelError, match=r"works in float64, .* call .float\(\) on its module, or pass settings="):
        build(nn.Bilinear(5, 3, 5, dtype=torch.float64), ZEROS, like=SINGLE)
    assert build(nn.Bilinear(5, 3, 5), ZEROS, like=SINGLE).initial.dtype == torch.float32


@pytest.mark.parametrize(
    ("state0", "words"),
    [
        ((), "state0 holds no tensor"),
        ((torch.zeros(3), None), r"state0\[1\]: expected a tensor \[S\] or \[B, S\], got NoneType"),
        ({"h": torch.zeros(1, 2, 3)}, r"state0\['h'\]: expected .*, got shape \[1, 2, 3\]"),
        (torch.zeros(0), r"got shape \[0\]"),
        (torch.zeros(3, dtype=torch.int64), r"expected floating-point numbers, got torch.int64"),
        (torch.zeros(3, dtype=torch.complex64), r"expected floating-point numbers, got torch.complex64"),
        (torch.tensor([1.0, torch.nan]), "expected finite numbers"),
        ((torch.zeros(2, 3), torch.zeros(4, 3)), r"one number of sequences, got \[2, 4\]"),
    ],
)
def test_states_refused(state0: object, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        State.of(state0, "step")


def test_the_dtype_that_was_given_is_remembered() -> None:
    assert State.of((torch.zeros(3), torch.zeros(2).half()), "step").dtype == torch.float32
    assert re.match("torch.float16", str(build(batched, torch.zeros(5).half()).given_dtype))
