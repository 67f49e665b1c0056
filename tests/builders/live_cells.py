"""Recurrent cells of users' own code, one of each kind that is often taken for PyTorch's."""

from __future__ import annotations

import math
from collections import namedtuple

import torch
from torch import Tensor, nn

LSTMState = namedtuple("LSTMState", ["hx", "cx"])


def filled(module: nn.Module, hidden: int) -> None:
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))


class _Cell(nn.Module):
    gates = 4

    def __init__(self, inputs: int = 3, hidden: int = 5) -> None:
        super().__init__()
        self.input_size, self.hidden_size = inputs, hidden
        self.weight_ih = nn.Parameter(torch.empty(self.gates * hidden, inputs))
        self.weight_hh = nn.Parameter(torch.empty(self.gates * hidden, hidden))
        self.bias_ih = nn.Parameter(torch.empty(self.gates * hidden))
        self.bias_hh = nn.Parameter(torch.empty(self.gates * hidden))
        self.build(hidden)
        filled(self, hidden)

    def build(self, hidden: int) -> None:
        """Add what PyTorch's cell does not have."""

    def both(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return x @ self.weight_ih.T + self.bias_ih, h @ self.weight_hh.T + self.bias_hh


class OwnLSTM(_Cell):
    """Exactly PyTorch's LSTM, written out."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h, c = state if state is not None else (x.new_zeros(len(x), self.hidden_size),) * 2
        i, f, g, o = sum(self.both(x, h)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class ClippedLSTM(_Cell):
    """An LSTM whose cell state is limited: the same as PyTorch's for small inputs."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        i, f, g, o = sum(self.both(x, h)).chunk(4, -1)
        c = (f.sigmoid() * c + i.sigmoid() * g.tanh()).clamp(-1.5, 1.5)
        return o.sigmoid() * c.tanh(), c


class Peephole(_Cell):
    def build(self, hidden: int) -> None:
        self.weight_ph = nn.Parameter(torch.empty(3 * hidden))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        i, f, g, o = sum(self.both(x, h)).chunk(4, -1)
        p_i, p_f, p_o = self.weight_ph.chunk(3)
        c = (f + p_f * c).sigmoid() * c + (i + p_i * c).sigmoid() * g.tanh()
        return (o + p_o * c).sigmoid() * c.tanh(), c


class LayerNormLSTM(_Cell):
    """As in PyTorch's fastrnns benchmark: (x, state) -> (output, state)."""

    def build(self, hidden: int) -> None:
        self.layernorm_i, self.layernorm_h, self.layernorm_c = map(nn.LayerNorm, (4 * hidden, 4 * hidden, hidden))

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        hx, cx = state
        gates = self.layernorm_i(x @ self.weight_ih.T) + self.layernorm_h(hx @ self.weight_hh.T)
        i, f, g, o = gates.chunk(4, -1)
        cy = self.layernorm_c(f.sigmoid() * cx + i.sigmoid() * g.tanh())
        hy = o.sigmoid() * cy.tanh()
        return hy, LSTMState(hy, cy)


class TauGate(_Cell):
    """A GRU with a fourth gate: its shapes are those of an LSTM."""

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        (r, z, n, a), (hr, hz, hn, ha) = (each.chunk(4, -1) for each in self.both(x, state))
        z, r, a = (z + hz).sigmoid(), (r + hr).sigmoid(), (a + ha).sigmoid()
        return (1 - z) * state + z * ((n + r * hn).tanh() + a * state).tanh()


class Mut(_Cell):
    """A mutated GRU (Jozefowicz et al. 2015): its shapes are those of a GRU."""

    gates = 3

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        (z, r, n), (hz, hr, hn) = (each.chunk(3, -1) for each in self.both(x, hidden))
        z, r = (z + hz.tanh()).sigmoid(), (r + hr).sigmoid()
        return (n + r * hn).tanh() * z + hidden * (1 - z)


class Oscillators(_Cell):
    """Two states, positions and velocities, with the shapes of an Elman net (coRNN, Rusch and Mishra 2021)."""

    gates = 1

    def forward(self, x: Tensor, hy: Tensor, hz: Tensor) -> tuple[Tensor, Tensor]:
        hz = hz + 0.1 * (sum(self.both(x, hy)).tanh() - hy - 0.5 * hz)
        return hy + 0.1 * hz, hz


class StateFirst(_Cell):
    gates = 1

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        return 0.5 * hidden + 0.5 * sum(self.both(x, hidden)).tanh()


class OutputAndState(nn.Module):
    """The tutorial's net: two linear maps of its own, and an output that is not the state."""

    def __init__(self, inputs: int = 3, hidden: int = 5, nonlinearity: str = "relu") -> None:
        super().__init__()
        self.i2h, self.h2h, self.h2o = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 2)
        self.phi = getattr(torch, nonlinearity)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.phi(self.i2h(x) + self.h2h(hidden))
        return self.h2o(hidden).log_softmax(-1), hidden


class ListState(nn.Module):
    """Dreamer's GRU: one matrix for input and state, a norm of all gates, and the state in a list."""

    def __init__(self, inputs: int = 3, hidden: int = 5) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        self.layers.add_module("GRU_linear", nn.Linear(inputs + hidden, 3 * hidden, bias=False))
        self.layers.add_module("GRU_norm", nn.LayerNorm(3 * hidden, eps=1e-3))

    def forward(self, inputs: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        state = state[0]
        reset, cand, update = self.layers(torch.cat([inputs, state], -1)).chunk(3, -1)
        update = (update - 1).sigmoid()
        output = update * (reset.sigmoid() * cand).tanh() + (1 - update) * state
        return output, [output]


class Sequence(nn.Module):
    """Runs a cell over a sequence in either order of the axes."""

    def __init__(self, cell: nn.Module, *, by_batch: bool, pair: bool) -> None:
        super().__init__()
        self.lin_a, self.core = nn.Linear(3, 3), cell
        self.by_batch, self.pair = by_batch, pair

    def forward(self, x: Tensor, state: Tensor | tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, object]:
        steps = self.lin_a(x).unbind(1 if self.by_batch else 0)
        if state is None:
            zero = x.new_zeros(1, len(steps[0]), 5)
            state = (zero, zero) if self.pair else zero
        state = tuple(part[0] for part in state) if self.pair else state[0]
        outputs = []
        for each in steps:
            state = self.core(each, state)
            outputs.append(state[0] if self.pair else state)
        last = tuple(part[None] for part in state) if self.pair else state[None]
        return torch.stack(outputs, 1 if self.by_batch else 0), last


class Doubled(nn.LSTM):
    """A subclass whose own forward scales the inputs."""

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return super().forward(2 * x, hx)


class Residual(nn.LSTM):
    """A subclass that changes only what it returns beside the state."""

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, state = super().forward(x, hx)
        return output + 1, state


class Timed(_Cell):
    """Takes the time that has passed, one number per unit, and returns its state twice (as CfC cells do)."""

    gates = 1

    def forward(self, x: Tensor, hx: Tensor, ts: Tensor) -> tuple[Tensor, Tensor]:
        new = hx + ts * (sum(self.both(x, hx)).tanh() - hx)
        return new, new


class TimedLayer(nn.Module):
    """Knows how much time passes, so it is a step where its cell is none."""

    def __init__(self, inputs: int = 3, hidden: int = 5) -> None:
        super().__init__()
        self.rnn_cell = Timed(inputs, hidden)

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, out = x.new_zeros(x.shape[1], 5) if hx is None else hx, []
        for each in x:
            h, _ = self.rnn_cell(each, h, 0.5)
            out.append(h)
        return torch.stack(out), h


class Unnamed(Oscillators):
    """Two states whose names say nothing."""

    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x, y, z)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh = (nn.Parameter(torch.randn(5, n, dtype=torch.complex64)) for n in (3, 5))

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return (x.to(state) @ self.weight_ih.T + state @ self.weight_hh.T).tanh()


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.i2h, self.h2h = nn.LazyLinear(5), nn.Linear(5, 5)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return (self.i2h(x) + self.h2h(state)).tanh()


class Stateful(_Cell):
    """Keeps its state in itself."""

    gates = 1

    def forward(self, x: Tensor) -> Tensor:
        self.h = sum(self.both(x, getattr(self, "h", x.new_zeros(len(x), 5)))).sin()
        return self.h


class AlwaysDropping(_Cell):
    gates = 1

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return nn.functional.dropout(sum(self.both(x, h)).tanh(), 0.5)


class Needing(_Cell):
    gates = 1

    def forward(self, x: Tensor, h: Tensor, graph: object) -> Tensor:
        return graph.apply(sum(self.both(x, h)))
