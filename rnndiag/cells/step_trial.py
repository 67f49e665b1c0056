"""What a user's step can do, found out by trying it on a few rows before anything is measured."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from rnndiag.cells.step import StepFunction
from rnndiag.errors import ModelError, describe_error
from rnndiag.operators.derivative import Derivative

NUDGE = 0.01
"""By which the rows' states are told apart, relative to the largest entry."""


def probe_step(function: StepFunction, states: Tensor, inputs: Tensor) -> tuple[StepFunction, bool]:
    """Try a step function: the step in the form that it accepts, and whether forward-mode differentiation works on it.

    Args:
        function: taken to work on a batch; where it does not, one row at a time is tried.
        states: ``[B, S]``, the initial ones.
        inputs: ``[T, B, D]``.

    Raises:
        ModelError: where neither works, a step depends on more than its own row, or is not differentiable.
    """
    u, w = _rows(function, states, inputs)
    function = _batched(function, u, w)
    new = function(u, w).detach()
    if not _alike(new, function(u, w)):
        raise ModelError(
            f"{function.name}: two calls on the same rows give different states; expected a function of state and "
            "input alone: call .eval() on its module if it has dropout, and keep no state in it"
        )
    if not _alike(new[:2], function(u[:2], w[:2])):
        raise ModelError(
            f"{function.name}: the rows of a batch change each other's states; expected each row [S] to depend on "
            "its own alone: call .eval() on its module if it has batch normalisation"
        )
    _check_gradient(function, u, w, new)
    return function, _forward_mode_works(function, u, w)


def _rows(function: StepFunction, states: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that differ, in a number that cannot be taken for a size."""
    given = inputs.flatten(0, 1)
    sizes = {*function.sizes, states.shape[-1], inputs.shape[-1]}
    number = next(n for n in count(3) if n not in sizes)
    index = torch.arange(number, device=states.device)
    stream = torch.Generator().manual_seed(0)
    nudge = torch.rand(number, states.shape[-1], dtype=torch.float64, generator=stream).to(states)
    largest = float(states.abs().max()) or 1.0
    return states[index % len(states)] + NUDGE * largest * nudge, given[index % len(given)]


def _batched(function: StepFunction, u: Tensor, w: Tensor) -> StepFunction:
    """The step as it is, or one row at a time."""
    error = _error(function, u, w)
    if error is None:
        return function
    single = replace(function, single=True)
    alone = _error(function, u[0], w[0])
    failure = _error(single, u, w) if alone is None else None
    other = torch.float32 if u.dtype == torch.float64 else torch.float64
    elsewhere = alone is not None and _works(function, u.to(other), w.to(other))
    if elsewhere:
        wanted, given = (str(dtype).removeprefix("torch.") for dtype in (other, u.dtype))
        convert = "double" if given == "float64" else "float"
        raise ModelError(
            f"{function.name}: works in {wanted}, but is to be measured in {given}: call .{convert}() on its module, "
            f'or pass settings=Settings(dtype="{wanted}")'
        ) from error
    if failure is not None:
        raise ModelError(
            f"{failure}; it works on a single state [S], but torch.func.vmap cannot batch it: write it for states "
            "[B, S] and inputs [B, D]"
        ) from failure
    if alone is None:
        return single
    # What ran and gave another shape is nearer to what is wanted than what raised.
    nearest = alone if error.__cause__ is not None and alone.__cause__ is None else error
    called = f"states [{len(u)}, S] and inputs {list(w.shape)}, then with single ones [S] and {list(w.shape[1:])}"
    raise ModelError(f"{nearest}; it was called with {called}") from nearest


def _error(function: StepFunction, u: Tensor, w: Tensor) -> ModelError | None:
    try:
        function(u, w)
    except ModelError as error:
        return error
    return None


def _works(function: StepFunction, u: Tensor, w: Tensor) -> bool:
    return _error(function, u, w) is None or _error(function, u[0], w[0]) is None


def _check_gradient(function: StepFunction, u: Tensor, w: Tensor, new: Tensor) -> None:
    leaves = [part.clone().requires_grad_() for part in u.split(function.sizes, dim=-1)]
    parts = [part for part in function.on_parts(leaves, w.clone().requires_grad_()) if part.requires_grad]
    if not parts:
        raise ModelError(
            f"{function.name}: its result carries no gradient; expected torch operations from state to new state, "
            "without torch.no_grad(), .detach(), .item() or NumPy in between"
        )
    with torch.enable_grad():
        sums = [part.sum() for part in parts]
    try:
        reached = torch.autograd.grad(sums, leaves, allow_unused=True)
    except RuntimeError as error:
        raise ModelError(f"{function.name}: cannot be differentiated: {describe_error(error)}") from error
    for i, gradient in enumerate(reached):
        moved = [leaf.detach() + NUDGE * (i == j) * (1 + leaf.detach().abs()) for j, leaf in enumerate(leaves)]
        matters = not _alike(new, function(torch.cat(moved, dim=-1), w))
        if gradient is None and matters:
            part = f"part {i + 1} of the state" if len(leaves) > 1 else "the state"
            raise ModelError(
                f"{function.name}: {part} changes the new state, but no gradient passes: it is detached, or goes "
                "through .item() or NumPy"
            )


def _forward_mode_works(function: StepFunction, u: Tensor, w: Tensor) -> bool:
    """Whether forward mode is there for all that the step does, and agrees with the reverse mode.

    Raises:
        ModelError: where the reverse mode cannot be differentiated once more either.
    """
    stream = torch.Generator().manual_seed(1)
    v, r = (torch.randn(u.shape, dtype=torch.float64, generator=stream).to(u) for _ in range(2))
    said = "it gives another J v than J^T u promises"
    cause: Exception | None = None
    for forward in (True, False):
        by_state = Derivative(u, w, torch.ones_like(u[:, :1]), function, u.shape[-1], "u", forward)
        try:
            if _alike((r * by_state.mv(v)).sum(-1), (by_state.rmv(r) * v).sum(-1)):
                return forward
        except ModelError as error:
            said, cause = str(error).removeprefix(f"{function.name}: "), error
        except RuntimeError as error:  # as torch raises for a derivative that is missing
            said, cause = describe_error(error), error
    raise ModelError(
        f"{function.name}: neither forward-mode differentiation nor a second backward works on it: {said}; give its "
        "torch.autograd.Function a jvp, or leave out torch.compile"
    ) from cause


def _alike(one: Tensor, other: Tensor) -> bool:
    """Equal but for rounding, NaN to NaN."""
    one, other = one.detach(), other.detach()
    tolerance = torch.finfo(one.dtype).eps ** 0.5
    largest = float(one.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * largest, equal_nan=True)
