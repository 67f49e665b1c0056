"""Diagnose what is there: a saved model, a module, a step function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rnndiag import checkpoint
from rnndiag.api.probing import ProbeSpec, array_of, common_layout, is_array, make_probe
from rnndiag.cells.custom import StepLayer, step_layer
from rnndiag.cells.layer import Layout
from rnndiag.cells.step import State, name_of
from rnndiag.checkpoint import module
from rnndiag.checkpoint.layers.answers import Answers, known_kind
from rnndiag.checkpoint.layers.leak import checked_alpha
from rnndiag.checkpoint.layers.mapping import RoleMap, parse_map
from rnndiag.checkpoint.model import Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import Progress, diagnose, diagnose_step
from rnndiag.errors import ModelError, ProbeError
from rnndiag.machine.device import device_of
from rnndiag.probes import Probe
from rnndiag.report import Report
from rnndiag.rules.policy import Policy

Step = Callable[[Any, Tensor], Any]

Inputs = str | Path | Tensor | np.ndarray


def inspect(
    model: str | Path | nn.Module | Step,
    state0: Any = None,
    inputs: Inputs | None = None,
    *,
    probe: ProbeSpec = "noise",
    length: int | None = None,
    batch: int | None = None,
    scale: float = 1.0,
    layout: Layout | None = None,
    nonlinearity: Literal["tanh", "relu"] | None = None,
    alpha: float | None = None,
    mapping: str | Sequence[str | RoleMap] = (),
    assume: str | None = None,
    verify: bool = False,
    settings: Settings | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> Report:
    """Diagnose the recurrent stacks of a saved model or a module, or a step function of your own.

    Args:
        model: a saved model's path; a module, which is left as it is; or, with ``state0``, any differentiable
            function ``step(state, x) -> new state`` (a module too) of states ``[B, S]`` and inputs ``[B, D]``, or of
            one state ``[S]`` and one input ``[D]``.
        state0: the step's initial state ``[S]`` or ``[B, S]``, or a tuple, list or dict of them. Its first tensor is
            taken for the output, on which the gradient starts.
        inputs: what drives a step, an array ``[T, D]`` or ``[B, T, D]`` or its file; otherwise another word for an
            array as ``probe``.
        probe: the kind of a generated probe, an array ``[T, D]`` or ``[B, T, D]``, or its file.
        length: steps ``T``; default 100, or the lag, or all that an array holds.
        batch: sequences ``B``; default 16, or all that an array holds.
        scale: multiplies the probe.
        layout: the order of the axes of an array of several sequences, ``"BTD"`` or ``"TBD"``. None: as the module
            itself takes sequences (``batch_first``); for anything else ``"BTD"``, and a note in the report says so.
        nonlinearity: of Elman layers, where the file does not say.
        alpha: the leak of leaky layers, in (0, 1], where the file does not hold it.
        mapping: which tensors are what, where their names do not tell: ``"hh=*.U,ih=*.W,cell=gru"``, or several.
        verify: whether the layers of an ONNX or Keras file are also run in onnxruntime or Keras, which must be
            installed. A layer with other states is skipped, and a note says what was compared.
        assume: the kind of cell, such as ``gru``, that you know the layers of a class of your own to be.
        settings: lag, precision, thresholds.
        policy: which rules apply, and their thresholds.
        progress: called before each piece of work.

    Raises:
        RnndiagError: with one line that says what to do.

    >>> import torch
    >>> W, U = torch.eye(3) * 0.9, torch.ones(2, 3)
    >>> report = inspect(lambda h, x: torch.tanh(h @ W + x @ U), torch.zeros(3), torch.randn(50, 2),
    ...                  settings=Settings(dtype="float32"))
    >>> report.layers[0].cell
    'custom'
    """
    settings = settings or Settings()
    if inputs is not None and not (isinstance(probe, str) and probe == "noise"):
        raise ProbeError("inputs and probe: both say what to measure on; leave out one of them")
    if state0 is not None or not isinstance(model, str | Path | nn.Module):
        with torch.inference_mode(False):  # in which nothing could be differentiated
            layer, driven = _step(model, state0, inputs, length, batch, scale, layout, settings)
            source = Source(layer.name, "function")
            return diagnose_step(layer, source, driven, settings, policy=policy, progress=progress)
    answers = Answers(nonlinearity, tuple(role_maps(mapping)), known_kind(assume), checked_alpha(alpha), verify)
    found = module.load(model, answers) if isinstance(model, nn.Module) else checkpoint.load(model, answers)
    spec = probe if inputs is None else inputs
    if layout is None and is_array(spec):
        layout = common_layout(found)
    built = make_probe(spec, length=length, batch=batch, scale=scale, settings=settings, layout=layout)
    return diagnose(found, built, settings, policy=policy, progress=progress)


def _step(
    model: object,
    state0: object,
    inputs: Inputs | None,
    length: int | None,
    batch: int | None,
    scale: float,
    layout: Layout | None,
    settings: Settings,
) -> tuple[StepLayer, Probe]:
    """A layer made of a step function, and the probe that drives it.

    Raises:
        ModelError: for what is no step function, or cannot be measured.
        ProbeError: for inputs that are no array ``[T, D]`` or ``[B, T, D]``.
    """
    if isinstance(model, str | Path):
        raise ModelError(f"{model}: a saved model takes no state0: its initial states are zero; leave it out")
    if not callable(model) or isinstance(model, type):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise ModelError(
            f"expected a saved model's path, an nn.Module or a step function with state0 and inputs, got {what}"
        )
    name = name_of(model)
    if state0 is None or inputs is None:
        missing = " and ".join(each for each, given in (("state0", state0), ("inputs", inputs)) if given is None)
        raise ModelError(
            f"{name}: a step function needs {missing} too: inspect(step, state0, inputs), state0 a tensor [S] or "
            "[B, S] or a tuple or dict of them, inputs an array [T, D] or [B, T, D]"
        )
    if isinstance(model, nn.RNNBase | nn.RNNCellBase):
        raise ModelError(
            f"{name}: takes (input, state), a step function (state, input): pass the module alone, or "
            "lambda state, x: module(x, state)"
        )
    state = State.of(state0, name)
    array, place = array_of(inputs, f"{name}: inputs")
    if array.ndim == 2:
        array, layout = array.expand(state.batch, -1, -1), "BTD"
    driven = Probe.from_array(array, length=length, batch=batch, scale=scale, name=place, layout=layout)
    sequences = array.shape[1 if layout == "TBD" else 0]
    if state.batch not in (1, sequences):
        other = '; if they are [T, B, D], pass layout="TBD"' if layout is None and state.batch in array.shape else ""
        raise ModelError(f"{name}: state0 is for {state.batch} sequences, inputs hold {sequences}{other}")
    like = torch.empty(0, dtype=getattr(torch, settings.dtype), device=device_of(settings))
    initial = state.rows(sequences, like)[: driven.batch]
    assert driven.array is not None  # it was made from one
    return step_layer(model, state, initial, (driven.array * scale).to(like)), driven


def role_maps(mapping: str | Sequence[str | RoleMap]) -> list[RoleMap]:
    """Mappings as ``checkpoint.load`` takes them, parsed where they are text."""
    given = [mapping] if isinstance(mapping, str) else mapping
    return [parse_map(each, "mapping") if isinstance(each, str) else each for each in given]
