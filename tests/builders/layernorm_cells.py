"""LSTMs and GRUs with layer normalization, in the spellings that public code uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.builders.live_cells import LayerNormLSTM, ListState, filled

Pair = tuple[Tensor, Tensor]


class Subclass(nn.LSTMCell):
    """A subclass of PyTorch's cell: norms of the input part, of the recurrent part, and of what the output reads."""

    def __init__(self, inputs: int = 3, hidden: int = 5) -> None:
        super().__init__(inputs, hidden)
        self.ln_ih, self.ln_hh, self.ln_cell = map(nn.LayerNorm, (4 * hidden, 4 * hidden, hidden))
        filled(self, hidden)

    def forward(self, x: Tensor, hx: Pair) -> Pair:
        h, c = hx
        gates = self.ln_ih(x @ self.weight_ih.T + self.bias_ih) + self.ln_hh(h @ self.weight_hh.T + self.bias_hh)
        i, f, g, o = gates.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * self.ln_cell(c).tanh(), c


class ForJit(nn.Module):
    """As in the TorchScript blog post, before it is scripted."""

    def __init__(self, inputs: int = 3, hidden: int = 5) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh = (nn.Parameter(torch.empty(4 * hidden, n)) for n in (inputs, hidden))
        self.layernorm_i, self.layernorm_h, self.layernorm_c = map(nn.LayerNorm, (4 * hidden, 4 * hidden, hidden))
        filled(self, hidden)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        gates = self.layernorm_i(x @ self.weight_ih.t()) + self.layernorm_h(h @ self.weight_hh.t())
        i, f, g, o = gates.chunk(4, 1)
        c = self.layernorm_c(f.sigmoid() * c + i.sigmoid() * g.tanh())
        h = o.sigmoid() * c.tanh()
        return h, (h, c)


class PerGate(nn.Module):
    """As transducers have it: each gate's preactivation has a norm of its own, and so has the cell state."""

    def __init__(self, inputs: int = 3, hidden: int = 5) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh = (nn.Parameter(torch.empty(4 * hidden, n)) for n in (inputs, hidden))
        self.bias_ih, self.bias_hh = (nn.Parameter(torch.empty(4 * hidden)) for _ in range(2))
        for name in ("i", "f", "cx", "cy", "o"):
            self.add_module(f"layernorm_{name}", nn.LayerNorm(hidden))
        filled(self, hidden)

    def forward(self, x: Tensor, state: Pair | None = None) -> Pair:
        h, c = state if state is not None else (x.new_zeros(len(x), self.layernorm_i.weight.shape[0]),) * 2
        i, f, g, o = (x @ self.weight_ih.T + self.bias_ih + h @ self.weight_hh.T + self.bias_hh).chunk(4, 1)
        i, f, o = self.layernorm_i(i).sigmoid(), self.layernorm_f(f).sigmoid(), self.layernorm_o(o).sigmoid()
        c = self.layernorm_cy(f * c + i * self.layernorm_cx(g).tanh())
        return o * c.tanh(), c


SPELLINGS = {
    "layernorm_i, layernorm_h, layernorm_c": (LayerNormLSTM, "output pair"),
    "ln_ih, ln_hh, ln_cell": (Subclass, "pair"),
    "for jit": (ForJit, "output pair"),
    "per gate": (PerGate, "pair"),
    "GRU_linear, GRU_norm": (ListState, "list"),
}
"""The class, and the way in which it is called (see ``own_run``)."""
