"""Cells that PyTorch has no module for, written gate by gate from their formulas, and layers of these cells."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.kinds import Form, Norm, extra_sizes

GATES = {
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": lambda a: torch.clamp(a / 6 + 0.5, 0, 1),  # torch's own has a slope of single precision
    "hard_sigmoid_fifth": lambda a: torch.clamp(0.2 * a + 0.5, 0, 1),
}
ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class Variant(nn.Module):
    """One layer, called as ``nn.RNN``, ``nn.GRU`` and ``nn.LSTM`` are."""

    def __init__(self, of: RecurrentLayer) -> None:
        super().__init__()
        self.of = of
        self.weight_hh_l0 = nn.Parameter(of.weight_hh.clone())

    def _norm(self, of: str, u: Tensor) -> Tensor:
        norm = next((each for each in self.of.form.norms if each.of == of), None)
        if norm is None:
            return u
        rows = u if not norm.per_gate else u.unflatten(-1, (len(self.of.gates), -1))
        normed = functional.layer_norm(rows, rows.shape[-1:], eps=norm.eps).reshape(u.shape)
        gamma, beta = (self.of.extra.get(f"norm_{of}_{what}") for what in ("weight", "bias"))
        normed = normed if gamma is None else normed * gamma
        return normed if beta is None else normed + beta

    def _parts(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        of = self.of
        return (
            self._norm("input", functional.linear(x, of.weight_ih, of.bias_ih)),
            self._norm("recurrent", functional.linear(h, self.weight_hh_l0, of.bias_hh)),
        )

    def _lstm(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        of, gate, phi = self.of, GATES[self.of.form.gate], ACTIVATIONS[self.of.form.activation]
        look = {key: of.extra.get(f"peephole_{key}", torch.zeros(())) for key in ("input", "forget", "output")}
        from_input, from_state = self._parts(x, h)
        a_i, a_f, a_g, a_o = self._norm("sum", from_input + from_state).chunk(4, -1)
        i, f = gate(a_i + look["input"] * c), gate(a_f + look["forget"] * c)
        c = f * c + i * phi(a_g)
        normed = self._norm("cell", c)
        if any(norm.of == "cell" and norm.feeds_back for norm in of.form.norms):
            c = normed
        normed = normed * of.extra.get("read_scale", 1) + of.extra.get("read_shift", 0)
        h = gate(a_o + look["output"] * c) * phi(normed)
        return (h if of.weight_hr is None else h @ of.weight_hr.T), c

    def _gru(self, x: Tensor, h: Tensor) -> Tensor:
        of, gate, phi = self.of, GATES[self.of.form.gate], ACTIVATIONS[self.of.form.activation]
        w, n = self.weight_hh_l0, of.hidden_size
        if not of.reset_after:
            bias = torch.zeros(3 * n).to(x) if of.bias_ih is None else of.bias_ih + of.bias_hh
            from_input = functional.linear(x, of.weight_ih, bias)
            from_state = h @ w[: 2 * n].T
            r, z = (gate(a) for a in (from_input[..., : 2 * n] + from_state).chunk(2, -1))
            new = phi(from_input[..., 2 * n :] + (r * h) @ w[2 * n :].T)
            return (1 - z) * new + z * h
        from_input, from_state = self._parts(x, h)
        if any(norm.of == "sum" for norm in of.form.norms):
            r, z, q = self._norm("sum", from_input + from_state).chunk(3, -1)
            r, i_n = gate(r), torch.zeros_like(q)
        else:
            (i_r, i_z, i_n), (h_r, h_z, q) = from_input.chunk(3, -1), from_state.chunk(3, -1)
            r, z = gate(i_r + h_r), i_z + h_z
        new = phi(i_n + r * q)
        if of.form.update_replaces:
            update = gate(z + of.form.update_bias)
            return update * new + (1 - update) * h
        z = gate(z)
        return (1 - z) * new + z * h

    def forward(self, x: Tensor, state: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, object]:
        if self.of.kind.has_cell_state:
            h, c = (part[0] for part in state)
            outputs = []
            for one in x:
                h, c = self._lstm(one, h, c)
                outputs.append(h)
            return torch.stack(outputs), (h[None], c[None])
        h, outputs = state[0], []
        for one in x:
            h = self._gru(one, h)
            outputs.append(h)
        return torch.stack(outputs), h[None]


def with_form(net: RecurrentLayer, cell: str, form: Form, *, affine: bool = True, seed: int = 0) -> RecurrentLayer:
    """The same weights in a cell of another kind, with random extra parameters."""
    stream = torch.Generator().manual_seed(seed + 1)
    gates, hidden = len(net.gates), net.hidden_size
    extra = {}
    for norm in form.norms if affine else ():
        size = max(extra_sizes(f"norm_{norm.of}_weight", gates, hidden))
        extra[f"norm_{norm.of}_weight"] = 1 + torch.randn(size, generator=stream, dtype=torch.float64) / 4
        extra[f"norm_{norm.of}_bias"] = torch.randn(size, generator=stream, dtype=torch.float64) / 4
    if cell == "peephole_lstm":
        for key in ("input", "forget", "output"):
            extra[f"peephole_{key}"] = torch.randn(hidden, generator=stream, dtype=torch.float64) / 2
    if cell == "batchnorm_lstm":
        for key in ("read_scale", "read_shift"):
            extra[key] = torch.randn(hidden, generator=stream, dtype=torch.float64)
    extra = {name: value.to(net.weight_hh.dtype) for name, value in extra.items()}
    return replace(net, cell=cell, form=form, extra=extra)


PARTS = (Norm("input"), Norm("recurrent"))
VARIANTS: dict[str, tuple[str, str, Form]] = {
    "hard_sigmoid lstm": ("lstm", "hard_sigmoid_lstm", Form("hard_sigmoid")),
    "hard_sigmoid_fifth lstm": ("lstm", "hard_sigmoid_lstm", Form("hard_sigmoid_fifth")),
    "hard_sigmoid gru": ("gru", "hard_sigmoid_gru", Form("hard_sigmoid")),
    "hard_sigmoid_fifth reset-first": ("reset-first", "hard_sigmoid_gru", Form("hard_sigmoid_fifth")),
    "relu lstm": ("lstm", "relu_lstm", Form(activation="relu")),
    "relu gru": ("gru", "relu_gru", Form(activation="relu")),
    "fastrnns lstm": ("lstm", "layernorm_lstm", Form(norms=(*PARTS, Norm("cell")))),
    "output norm lstm": ("lstm", "layernorm_lstm", Form(norms=(*PARTS, Norm("cell", feeds_back=False)))),
    "icefall lstm": ("lstm", "layernorm_lstm", Form(norms=(Norm("sum", per_gate=True), Norm("cell")))),
    "joint norm lstm": ("lstm", "layernorm_lstm", Form(norms=(Norm("sum", eps=1e-3),))),
    "recurrent norm lstm": ("lstm", "layernorm_lstm", Form(norms=(Norm("recurrent", per_gate=True),))),
    "input norm lstm": ("lstm", "layernorm_lstm", Form(norms=(Norm("input"),))),
    "cell norm lstm": ("lstm", "layernorm_lstm", Form(norms=(Norm("cell"),))),
    "hard fastrnns lstm": ("lstm", "layernorm_lstm", Form("hard_sigmoid", norms=(*PARTS, Norm("cell")))),
    "haste gru": ("gru", "layernorm_gru", Form(norms=PARTS)),
    "per-gate norm gru": ("gru", "layernorm_gru", Form(norms=(Norm("input", True), Norm("recurrent", True)))),
    "dreamer gru": (
        "gru",
        "layernorm_gru",
        Form(norms=(Norm("sum", eps=1e-3),), update_replaces=True, update_bias=-1.0),
    ),
    "recurrent norm gru": ("gru", "layernorm_gru", Form(norms=(Norm("recurrent"),))),
    "peephole lstm": ("lstm", "peephole_lstm", Form()),
    "hard peephole lstm": ("lstm", "peephole_lstm", Form("hard_sigmoid")),
    "batch norm lstm": ("lstm", "batchnorm_lstm", Form()),
    "hard relu lstm": ("lstm", "relu_lstm", Form("hard_sigmoid_fifth", "relu")),
}
"""The plain cell, the kind and the form, by a name for the tests."""
