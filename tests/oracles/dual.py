"""Steps of every cell in arithmetic of any range (mpmath), with their derivatives by dual numbers.

A dual number carries its gradient along. The formulas are those of the cells, entry by entry; no Jacobian is written
down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpmath import mp, mpf
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from tests.oracles.exact import Matrix, numbers


@dataclass(frozen=True)
class Dual:
    """A number and its gradient."""

    value: mpf
    gradient: tuple[mpf, ...]

    def __add__(self, other: Dual | mpf | int) -> Dual:
        if not isinstance(other, Dual):
            return Dual(self.value + other, self.gradient)
        both = zip(self.gradient, other.gradient, strict=True)
        return Dual(self.value + other.value, tuple(a + b for a, b in both))

    def __mul__(self, other: Dual | mpf | int) -> Dual:
        if not isinstance(other, Dual):
            return Dual(self.value * other, tuple(a * other for a in self.gradient))
        both = zip(self.gradient, other.gradient, strict=True)
        return Dual(self.value * other.value, tuple(a * other.value + b * self.value for a, b in both))

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: Dual | mpf | int) -> Dual:
        return self + other * -1

    def through(self, function: Callable[[mpf], mpf], slope: Callable[[mpf], mpf]) -> Dual:
        """``function`` of the number, whose derivative is ``slope``."""
        factor = slope(self.value)
        return Dual(function(self.value), tuple(a * factor for a in self.gradient))


def sigmoid(a: Dual) -> Dual:
    value = 1 / (1 + mp.exp(-a.value))
    return a.through(lambda _: value, lambda x: value / (1 + mp.exp(x)))


def hard(width: int) -> Callable[[Dual], Dual]:
    return lambda a: a.through(
        lambda x: min(max(x / width + mpf(1) / 2, mpf(0)), mpf(1)),
        lambda x: mpf(1) / width if abs(x) < mpf(width) / 2 else mpf(0),
    )


def tanh(a: Dual) -> Dual:
    return a.through(mp.tanh, lambda x: 1 / mp.cosh(x) ** 2)


def relu(a: Dual) -> Dual:
    return a.through(lambda x: max(x, mpf(0)), lambda x: mpf(x > 0))


GATES = {"sigmoid": sigmoid, "hard_sigmoid": hard(6), "hard_sigmoid_fifth": hard(5)}
ACTIVATIONS = {"tanh": tanh, "relu": relu}


def total(terms: Sequence[Dual]) -> Dual:
    parts = zip(*(term.gradient for term in terms), strict=True)
    return Dual(mp.fsum(term.value for term in terms), tuple(map(mp.fsum, parts)))


def layer_norm(u: Sequence[Dual], eps: float) -> list[Dual]:
    n = len(u)
    mean = total(u) * (mpf(1) / n)
    apart = [each - mean for each in u]
    variance = total([each * each for each in apart]) * (mpf(1) / n) + mpf(eps)
    scale = variance.through(lambda x: 1 / mp.sqrt(x), lambda x: -1 / (2 * x * mp.sqrt(x)))
    return [each * scale for each in apart]


def jacobians(layer: RecurrentLayer, inputs: Tensor, hidden: Tensor, cell_state: Tensor | None) -> list[list[Matrix]]:
    """``ds_t/ds_{t-1}``, ``[T][B]`` matrices ``S x S``, along states ``h_1 .. h_T`` (and ``c_1 .. c_T``)."""
    found = []
    for t, drive in enumerate(inputs):
        by_sequence = []
        for b, x in enumerate(drive):
            states = [part for part in (hidden, cell_state) if part is not None]
            s = [each for part in states for each in numbers(part[t - 1, b] if t else part[0, b] * 0)]
            duals = [Dual(each, tuple(mpf(i == j) for j in range(len(s)))) for i, each in enumerate(s)]
            by_sequence.append([list(new.gradient) for new in _Step(layer)(numbers(x), duals)])
        found.append(by_sequence)
    return found


class _Step:
    def __init__(self, layer: RecurrentLayer) -> None:
        self.layer = layer
        self.extra = {name: numbers(value) for name, value in layer.extra.items()}

    def __call__(self, x: list[mpf], s: list[Dual]) -> list[Dual]:
        layer, width = self.layer, self.layer.output_size
        gate, phi = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
        h, c = s[:width], s[width:]
        rows = len(layer.weight_ih)
        zero = [mpf(0)] * rows
        b_ih, b_hh = (zero if b is None else numbers(b) for b in (layer.bias_ih, layer.bias_hh))
        none = Dual(mpf(0), (mpf(0),) * len(s))
        of_input = [none + mp.fdot(row, x) + b for row, b in zip(numbers(layer.weight_ih), b_ih, strict=True)]
        of_state = [
            total([each * w for each, w in zip(h, row, strict=True)]) + b
            for row, b in zip(numbers(layer.weight_hh), b_hh, strict=True)
        ]
        of_input, of_state = self._norm("input", of_input), self._norm("recurrent", of_state)
        both = self._norm("sum", [i + r for i, r in zip(of_input, of_state, strict=True)])
        if layer.kind.has_cell_state:
            return self._lstm(both, c, gate, phi)
        n = layer.hidden_size
        joint = any(norm.of == "sum" for norm in layer.form.norms)
        r = [gate(a) for a in both[:n]]
        q, i_n = (both[2 * n :], [none] * n) if joint else (of_state[2 * n :], of_input[2 * n :])
        new = [phi(i + gate_r * each) for i, gate_r, each in zip(i_n, r, q, strict=True)]
        z = [
            gate((a + layer.form.update_bias) * -1) if layer.form.update_replaces else gate(a) for a in both[n : 2 * n]
        ]
        return [(keep * -1 + 1) * fresh + keep * old for keep, fresh, old in zip(z, new, h, strict=True)]

    def _lstm(
        self, a: list[Dual], c: list[Dual], gate: Callable[[Dual], Dual], phi: Callable[[Dual], Dual]
    ) -> list[Dual]:
        layer, n = self.layer, self.layer.hidden_size
        a_i, a_f, a_g, a_o = (a[k : k + n] for k in range(0, 4 * n, n))
        i = [gate(each) for each in self._looked("input", a_i, c)]
        f = [gate(each) for each in self._looked("forget", a_f, c)]
        c = [kept * old + new * phi(g) for kept, old, new, g in zip(f, c, i, a_g, strict=True)]
        seen = self._norm("cell", c)
        if any(norm.of == "cell" and norm.feeds_back for norm in layer.form.norms):
            c = seen
        one, none = [mpf(1)] * n, [mpf(0)] * n
        scaled = zip(seen, self.extra.get("read_scale", one), self.extra.get("read_shift", none), strict=True)
        seen = [each * scale + shift for each, scale, shift in scaled]
        o = [gate(each) for each in self._looked("output", a_o, c)]
        h = [out * phi(each) for out, each in zip(o, seen, strict=True)]
        if layer.weight_hr is not None:
            rows = numbers(layer.weight_hr)
            h = [total([each * w for each, w in zip(h, row, strict=True)]) for row in rows]
        return [*h, *c]

    def _looked(self, gate: str, a: list[Dual], c: list[Dual]) -> list[Dual]:
        weight = self.extra.get(f"peephole_{gate}")
        return a if weight is None else [each + p * s for each, p, s in zip(a, weight, c, strict=True)]

    def _norm(self, of: str, u: list[Dual]) -> list[Dual]:
        norm = next((each for each in self.layer.form.norms if each.of == of), None)
        if norm is None:
            return u
        size = self.layer.hidden_size if norm.per_gate else len(u)
        normed = [each for k in range(0, len(u), size) for each in layer_norm(u[k : k + size], norm.eps)]
        gamma = self.extra.get(f"norm_{of}_weight", [mpf(1)] * len(u))
        beta = self.extra.get(f"norm_{of}_bias", [mpf(0)] * len(u))
        return [each * g + b for each, g, b in zip(normed, gamma, beta, strict=True)]
