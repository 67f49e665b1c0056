"""Health of the numbers: entries that are not finite, subnormals, and what the stored dtype can hold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.cells.custom import StepLayer
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.measures.stored_range import first_stored_overflow
from rnndiag.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Numerics:
    """The parameters as stored, and the states they lead to."""

    stored_dtype: str
    """of the weights; of a step function's initial states, as they were given"""
    nonfinite_parameters: dict[str, int] | None
    """NaN or infinite entries, by parameter; only those that have some. None: a step function shows no parameters"""
    subnormal_parameters: int | None
    """non-zero entries under the stored dtype's smallest normal number"""
    largest_parameter: float | None
    """largest finite modulus"""
    inputs_finite: bool
    """False where the layer below, or the probe, already sends NaN or infinity"""
    first_nonfinite_step: int | None
    """first step at which a state is NaN or infinite, from 1"""
    first_nonfinite_jacobian: int | None = None
    """first step at which the states are finite and the Jacobian is not, from 1"""
    first_stored_overflow: int | None = None
    """first step, from 1, at which a state is NaN or infinite when the layer runs in ``stored_dtype``; None: all states
    are finite there, or the measurement's dtype is not wider"""


def state_health(layer: StepLayer, run: Trajectory) -> Numerics:
    """Look at the states alone, for a step function."""
    return Numerics(
        stored_dtype=str(layer.given_dtype).removeprefix("torch."),
        nonfinite_parameters=None,
        subnormal_parameters=None,
        largest_parameter=None,
        inputs_finite=bool(run.inputs.isfinite().all()),
        first_nonfinite_step=run.first_nonfinite_step(),
    )


def parameter_health(layer: RecurrentLayer, run: Trajectory, embedding: Tensor | None = None) -> Numerics:
    """Look at each parameter in the dtype in which it was stored, and at what it leads to.

    Args:
        layer: as stored.
        run: its trajectory.
        embedding: the table that feeds the layer, where there is one.
    """
    parameters = layer.parameters | ({} if embedding is None else {"embedding": embedding})
    nonfinite = {name: int((~p.isfinite()).sum()) for name, p in parameters.items()}
    tiny = torch.finfo(layer.weight_hh.dtype).tiny
    finite = [p.nan_to_num(0.0, 0.0, 0.0).abs() for p in layer.parameters.values()]
    inputs_finite = bool(run.inputs.isfinite().all())
    sound = inputs_finite and not any(nonfinite.values())
    return Numerics(
        stored_dtype=str(layer.weight_hh.dtype).removeprefix("torch."),
        nonfinite_parameters={name: count for name, count in nonfinite.items() if count},
        subnormal_parameters=sum(int(((p > 0) & (p < tiny)).sum()) for p in finite),
        largest_parameter=max((float(p.max()) for p in finite if p.numel()), default=0.0),
        inputs_finite=inputs_finite,
        first_nonfinite_step=run.first_nonfinite_step(),
        first_stored_overflow=first_stored_overflow(layer, run) if sound else None,
    )
