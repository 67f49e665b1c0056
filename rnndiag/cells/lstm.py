"""The LSTM with its full state ``(h, c)``: ``c = f*c- + i*g``, ``h = W_hr (o * tanh c)``, and its relatives.

Most of an LSTM's gradient travels through ``c``; a Jacobian of ``h`` alone forgets in half a step what
the cell remembers for hundreds. The gates may be ``hard_sigmoid``, and ``tanh`` may be ReLU. Peepholes add ``p * c-``
to the preactivations of ``i`` and ``f``, and ``p_o * c`` to that of ``o``. Preactivations and ``c`` may be normalized,
and the output may read ``c`` with a scale and a shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rnndiag.cells.cell import Linearization, fused_states, log_norms, preactivation
from rnndiag.cells.gate_functions import ACTIVATIONS, GATES, Gate, Squashing
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.cells.normalization import Normalized, norm_of, normalized, normed_parts, normed_value, preactivations
from rnndiag.cells.wide_range import beyond_plain_numbers
from rnndiag.operators import row_scaled
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.normed import NormedReadout, centered
from rnndiag.operators.structured import CarryReadout
from rnndiag.operators.wide import Wide, concatenated


@dataclass(frozen=True, slots=True)
class LSTM:
    """``nn.LSTM`` and ``nn.LSTMCell``, with or without output projection, and the variants with other functions."""

    def kernel(self, layer: RecurrentLayer) -> nn.RNNBase:
        """PyTorch's module of this kind and shape, with uninitialised parameters."""
        return nn.LSTM(
            layer.input_size,
            layer.hidden_size,
            bias=layer.bias_ih is not None,
            proj_size=layer.proj_size,
        )

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        if layer.kind.of_pytorch:
            return fused_states(self.kernel, layer, inputs)
        gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
        h = inputs.new_zeros(inputs.shape[1], layer.output_size)
        c = inputs.new_zeros(inputs.shape[1], layer.hidden_size)
        states = []
        for x in inputs:
            total = _total(layer, x, h)
            c = _new_cell(layer, total, c)
            read = _scaled(layer, c if _feeds_back(layer) else normed_value(layer, "cell", c))
            h = gate.value(_looked(layer, "output", total.chunk(4, dim=-1)[3], c)) * activation.value(read)
            h = h if layer.weight_hr is None else h @ layer.weight_hr.T
            states.append(h)
        return torch.stack(states)

    def cell_states(self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, before: Tensor) -> Tensor:
        """``c`` at each step ``[T, B, H]``, from ``previous`` (``h`` one step earlier) and ``before`` (``c_0``)."""
        return _cell_states(layer, _total(layer, inputs, previous), before)

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
        """Differentiates ``(h, c)`` by ``(h-, c-)`` and by ``x`` (Hochreiter & Schmidhuber 1997)."""
        by_state: Normalized | None = None
        by_input: Normalized | None = None
        if layer.form.norms:
            found = preactivations(layer, inputs, previous)
            total, by_state, by_input = found.from_input + found.from_state, found.by_state, found.by_input
        else:
            total = preactivation(layer, inputs, previous)
        along = _along(layer, total, beside)
        gains = [norm.gain for norm in (by_state, by_input, along.of_cell) if norm is not None]
        weights = [layer.weight_hh, layer.weight_ih, *(() if layer.weight_hr is None else (layer.weight_hr,))]
        if beyond_plain_numbers(weights, gates=along.saturating, factors=(*along.factors, *gains)):
            wide = along.wide_diagonals()
            state_jacobian = along.wide_jacobian(wide, layer.weight_hh, by_state, wide[1])
            input_jacobian = along.wide_jacobian(wide, layer.weight_ih, by_input, None)
        else:
            plain = along.diagonals()
            state_jacobian = along.jacobian(plain, layer.weight_hh, by_state, plain[1])
            input_jacobian = along.jacobian(plain, layer.weight_ih, by_input, None)
        return Linearization(
            state_jacobian=state_jacobian,
            input_jacobian=input_jacobian,
            slopes={
                "candidate": along.activation.slope(along.a_g),
                "cell output": along.activation.slope(along.seen),
            },
            gates={"input": along.i, "forget": along.f, "output": along.o},
            keeping_log=along.gate.log(along.a_f),
            operand_log_norms=log_norms(previous),
            cell_state=along.cell_state,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Along:
    """One layer along a trajectory: preactivations, gates and states, each ``[T, B, H]``."""

    layer: RecurrentLayer
    gate: Gate
    activation: Squashing
    a_i: Tensor
    a_f: Tensor
    a_g: Tensor
    a_o: Tensor
    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    before: Tensor
    """``c-``"""
    cell_state: Tensor
    seen: Tensor
    """what the output reads: ``c``, or its norm"""
    of_cell: Normalized | None

    @property
    def saturating(self) -> tuple[Tensor, ...]:
        """Preactivations whose slopes may be very small."""
        return (
            *self.gate.saturating(self.a_i, self.a_f, self.a_o),
            *self.activation.saturating(self.a_g, self.seen),
        )

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """Numbers that multiply the slopes."""
        return (self.g, self.cell_state, self.seen, *self.layer.extra.values())

    def diagonals(self) -> tuple[Tensor, Tensor, Tensor]:
        """``b``, ``dc/dc-`` and ``k`` without norms."""
        gate, activation = self.gate, self.activation
        blocks = (
            self.g * gate.slope(self.a_i),
            self.before * gate.slope(self.a_f),
            self.i * activation.slope(self.a_g),
            activation.value(self.seen) * gate.slope(self.a_o),
        )
        kept, readout = self.f, self.o * activation.slope(self.seen)
        look = self.layer.extra
        if "peephole_input" in look:
            kept = kept + look["peephole_input"] * blocks[0]
        if "peephole_forget" in look:
            kept = kept + look["peephole_forget"] * blocks[1]
        if "read_scale" in look:
            readout = readout * look["read_scale"]
        if "peephole_output" in look:
            readout = readout + look["peephole_output"] * blocks[3]
        return torch.cat(blocks, dim=-1), kept, readout

    def wide_diagonals(self) -> tuple[Wide, Wide, Wide]:
        """The same, however small or large."""
        gate, activation = self.gate, self.activation
        blocks = [
            gate.wide_slope(self.a_i) * self.g,
            gate.wide_slope(self.a_f) * self.before,
            gate.wide_value(self.a_i) * activation.wide_slope(self.a_g),
            gate.wide_slope(self.a_o) * activation.value(self.seen),
        ]
        kept, readout = gate.wide_value(self.a_f), gate.wide_value(self.a_o) * activation.wide_slope(self.seen)
        look = self.layer.extra
        if "peephole_input" in look:
            kept = kept + blocks[0] * look["peephole_input"]
        if "peephole_forget" in look:
            kept = kept + blocks[1] * look["peephole_forget"]
        if "read_scale" in look:
            readout = readout * look["read_scale"]
        if "peephole_output" in look:
            readout = readout + blocks[3] * look["peephole_output"]
        return concatenated(blocks), kept, readout

    def jacobian(
        self, diagonals: tuple[Tensor, Tensor, Tensor], weight: Tensor, norm: Normalized | None, forget: Tensor | None
    ) -> BatchedOperator:
        """The map through one shared matrix, from ``(h-, c-)``, or from ``x`` without ``forget``."""
        gain, _, readout = diagonals
        if norm is None and self.of_cell is None:
            return CarryReadout(gain, readout, weight, forget, self.layer.weight_hr)
        return NormedReadout(
            gain=gain if norm is None else gain * norm.gain,
            readout=readout if self.of_cell is None else readout * self.of_cell.gain,
            forget=forget,
            cell_scale=None if self.of_cell is None or not _feeds_back(self.layer) else self.of_cell.gain,
            **self._norms(weight, norm),
        )

    def wide_jacobian(
        self, diagonals: tuple[Wide, Wide, Wide], weight: Tensor, norm: Normalized | None, forget: Wide | None
    ) -> BatchedOperator:
        """The same for diagonals and weights of any size."""
        gain, _, readout = diagonals
        if norm is None and self.of_cell is None:
            return row_scaled.carry_readout(gain, readout, weight, forget, self.layer.weight_hr)
        return row_scaled.normed_readout(
            gain=gain if norm is None else gain * norm.gain,
            readout=readout if self.of_cell is None else readout * self.of_cell.gain,
            forget=forget,
            cell_scale=None if self.of_cell is None or not _feeds_back(self.layer) else self.of_cell.gain,
            **self._norms(weight, norm),
        )

    def _norms(self, weight: Tensor, norm: Normalized | None) -> dict[str, Any]:
        groups = 1 if norm is None else norm.groups
        return {
            "weight": weight if norm is None else centered(weight, groups),
            "projection": self.layer.weight_hr,
            "direction": None if norm is None else norm.direction,
            "groups": groups,
            "cell_direction": None if self.of_cell is None else self.of_cell.direction,
            "feeds_back": _feeds_back(self.layer),
        }


def _along(layer: RecurrentLayer, total: Tensor, beside: Tensor | None) -> _Along:
    """Everything along a trajectory, from its preactivations without peepholes ``[T, B, 4*H]`` and ``c_0``."""
    gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
    start = torch.zeros_like(total[0, :, : layer.hidden_size]) if beside is None else beside
    cell_state = _cell_states(layer, total, start)
    before = torch.cat((start[None], cell_state[:-1]))
    a_i, a_f, a_g, a_o = total.chunk(4, dim=-1)
    a_i, a_f = _looked(layer, "input", a_i, before), _looked(layer, "forget", a_f, before)
    a_o = _looked(layer, "output", a_o, cell_state)
    i, f, o, g = gate.value(a_i), gate.value(a_f), gate.value(a_o), activation.value(a_g)
    of_cell = normalized(layer, "cell", f * before + i * g if _feeds_back(layer) else cell_state)
    seen = _scaled(layer, cell_state if of_cell is None or _feeds_back(layer) else of_cell.value)
    return _Along(layer, gate, activation, a_i, a_f, a_g, a_o, i, f, g, o, before, cell_state, seen, of_cell)


def _total(layer: RecurrentLayer, inputs: Tensor, previous: Tensor) -> Tensor:
    """The preactivations without peepholes."""
    if not layer.form.norms:
        return preactivation(layer, inputs, previous)
    from_input, from_state = normed_parts(layer, inputs, previous)
    return from_input + from_state


def _looked(layer: RecurrentLayer, gate: str, a: Tensor, c: Tensor) -> Tensor:
    """A gate's preactivation with its peephole."""
    weight = layer.extra.get(f"peephole_{gate}")
    return a if weight is None else a + weight * c


def _scaled(layer: RecurrentLayer, c: Tensor) -> Tensor:
    """What the output reads of a cell state, with the scale and the shift of a batch normalization at inference."""
    scale, shift = layer.extra.get("read_scale"), layer.extra.get("read_shift")
    c = c if scale is None else c * scale
    return c if shift is None else c + shift


def _feeds_back(layer: RecurrentLayer) -> bool:
    """Whether the next step reads a normalized ``c``."""
    norm = norm_of(layer, "cell")
    return norm is not None and norm.feeds_back


def _new_cell(layer: RecurrentLayer, total: Tensor, c: Tensor) -> Tensor:
    """``c`` after one step, from the preactivations without peepholes and ``c-``."""
    gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
    a_i, a_f, a_g, _ = total.chunk(4, dim=-1)
    i, f = gate.value(_looked(layer, "input", a_i, c)), gate.value(_looked(layer, "forget", a_f, c))
    c = f * c + i * activation.value(a_g)
    return normed_value(layer, "cell", c) if _feeds_back(layer) else c


def _cell_states(layer: RecurrentLayer, total: Tensor, before: Tensor) -> Tensor:
    """``c`` at each step ``[T, B, H]``, from the preactivations without peepholes and ``c_0``."""
    if _feeds_back(layer) or "peephole_input" in layer.extra or "peephole_forget" in layer.extra:
        states = []
        for each in total:
            before = _new_cell(layer, each, before)
            states.append(before)
        return torch.stack(states)
    gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
    a_i, a_f, a_g, _ = total.chunk(4, dim=-1)
    return _scan(before, gate.value(a_f), gate.value(a_i) * activation.value(a_g))


def _scan(state: Tensor, decay: Tensor, drive: Tensor) -> Tensor:
    """``c_t = decay_t c_{t-1} + drive_t`` from ``c_0``: ``[T, B, H]``."""
    states = torch.empty_like(drive)
    for new, kept, added in zip(states.unbind(), decay.unbind(), drive.unbind(), strict=True):
        state = torch.addcmul(added, kept, state, out=new)
    return states
