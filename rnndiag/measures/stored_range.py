"""Whether the states overflow in the dtype of the stored weights, which is narrower than the measurement's."""

from __future__ import annotations

import torch
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.trajectory import Trajectory, run_states

COMPUTED_IN = (torch.float16, torch.bfloat16, torch.float32)
"""Dtypes in which PyTorch runs recurrent modules. Narrower dtypes (float8) are only for storage."""

MARGIN = 16.0
"""The states in the stored dtype differ from the measured states by rounding. A layer whose bound is this far below
the largest number of the dtype is not run again."""


def first_stored_overflow(stored: RecurrentLayer, run: Trajectory) -> int | None:
    """The first step at which a state is NaN or infinite in the stored dtype, from 1; None if all states are finite.

    The layer is run in the arithmetic of the stored dtype, by the same kernels of PyTorch that run the module after
    ``module.to(dtype)``: ``h`` by the fused kernel, and an LSTM's ``c`` by the same formulas in the same dtype. The
    inputs are those of the measurement, rounded to the dtype, so each layer is judged on its own.

    What this misses: kernels of other devices sum products in another order or in another precision (a GPU may
    accumulate in float32 or in float16), so the step can differ there; a runtime that fuses operations may keep
    intermediate numbers in a wider type. A gate whose preactivation is infinite is finite itself and is not reported.

    Args:
        stored: the layer in the file's own dtype.
        run: the layer's trajectory in the dtype of the measurement.
    """
    dtype = stored.weight_hh.dtype
    if dtype not in COMPUTED_IN:
        return None
    limit = torch.finfo(dtype).max
    if limit >= torch.finfo(run.hidden.dtype).max or not _near(run, limit):
        return None
    inputs = run.inputs.to(dtype)
    if run.layer.direction == "reverse":
        inputs = inputs.flip(0)  # run_states expects the order of the sequence
    device = run.hidden.device
    step = run_states(stored.to(dtype, device), inputs).first_nonfinite_step()
    before = _first_nonfinite(run.inputs.to(dtype))
    # Inputs that do not fit into the dtype are the defect of the layer below, or of the probe.
    return None if step is None or (before is not None and before <= step) else step


def _near(run: Trajectory, limit: float) -> bool:
    """Whether a state or a preactivation can come near the largest number of the dtype.

    No preactivation exceeds the sum of the moduli in a row of weights, times the largest modulus of what the row
    multiplies.
    """
    layer = run.layer
    assert isinstance(layer, RecurrentLayer)
    states = [run.hidden] if run.cell_state is None else [run.hidden, run.cell_state]
    largest = [_largest(state) for state in states]
    bound = torch.zeros(len(layer.weight_hh), dtype=torch.float64)
    for weight, factor in ((layer.weight_ih, _largest(run.inputs)), (layer.weight_hh, largest[0])):
        bound += torch.linalg.vector_norm(weight, 1, dim=1).cpu().double() * factor
    for bias in (layer.bias_ih, layer.bias_hh):
        if bias is not None:
            bound += bias.abs().cpu().double()
    reached = max(*largest, float(bound.max()))
    return not reached * MARGIN < limit  # NaN is near


def _largest(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.flatten(), float("inf")))


def _first_nonfinite(values: Tensor) -> int | None:
    finite = values.isfinite().flatten(1).all(1)
    return None if bool(finite.all()) else int((~finite).nonzero()[0]) + 1
