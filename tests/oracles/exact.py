"""Step Jacobians of small nets in arithmetic of any range (mpmath), along the states that torch computed."""

from __future__ import annotations

from mpmath import mp, mpf
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer

mp.dps = 1000

Matrix = list[list[mpf]]


def numbers(tensor: Tensor) -> list:
    """A tensor's entries as exact numbers, in nested lists."""
    if tensor.ndim == 0:
        return mpf(float(tensor))
    return [numbers(each) for each in tensor]


def product(a: Matrix, b: Matrix) -> Matrix:
    columns = list(zip(*b, strict=True))
    return [[mp.fdot(row, column) for column in columns] for row in a]


def applied(a: Matrix, v: list[mpf]) -> list[mpf]:
    return [mp.fdot(row, v) for row in a]


def transposed(a: Matrix) -> Matrix:
    return [list(row) for row in zip(*a, strict=True)]


def sigmoid(a: mpf) -> mpf:
    return 1 / (1 + mp.exp(-a))


def slope(a: mpf) -> mpf:
    """``sigmoid'(a)``."""
    return sigmoid(a) * sigmoid(-a)


def sech_squared(a: mpf) -> mpf:
    return 1 / mp.cosh(a) ** 2


def rows_times(diagonal: list[mpf], matrix: Matrix) -> Matrix:
    return [[d * entry for entry in row] for d, row in zip(diagonal, matrix, strict=True)]


def total(*matrices: Matrix) -> Matrix:
    return [[mp.fsum(entries) for entries in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def diagonal(entries: list[mpf]) -> Matrix:
    return [[entry if i == j else mpf(0) for j in range(len(entries))] for i, entry in enumerate(entries)]


def jacobians(layer: RecurrentLayer, inputs: Tensor, hidden: Tensor, cell_state: Tensor | None) -> list[list[Matrix]]:
    """``ds_t/ds_{t-1}``, ``[T][B]`` matrices ``S x S``, along states ``h_1 .. h_T`` (and ``c_1 .. c_T``)."""
    found = []
    for t, drive in enumerate(inputs):
        by_sequence = []
        for b, x in enumerate(drive):
            h = numbers(hidden[t - 1, b] if t else hidden[0, b] * 0)
            c = None if cell_state is None else numbers(cell_state[t - 1, b] if t else cell_state[0, b] * 0)
            by_sequence.append(_jacobian(layer, numbers(x), h, c))
        found.append(by_sequence)
    return found


def _jacobian(layer: RecurrentLayer, x: list[mpf], h: list[mpf], c: list[mpf] | None) -> Matrix:
    n = layer.hidden_size
    w_ih, w_hh = numbers(layer.weight_ih), numbers(layer.weight_hh)
    zero = [mpf(0)] * len(w_hh)
    b_ih = zero if layer.bias_ih is None else numbers(layer.bias_ih)
    b_hh = zero if layer.bias_hh is None else numbers(layer.bias_hh)
    from_input = [a + b for a, b in zip(applied(w_ih, x), b_ih, strict=True)]
    from_state = [a + b for a, b in zip(applied(w_hh, h), b_hh, strict=True)]
    a = [i + s for i, s in zip(from_input, from_state, strict=True)]
    blocks = [w_hh[i : i + n] for i in range(0, len(w_hh), n)]
    if layer.cell == "tanh":
        return rows_times([sech_squared(each) for each in a], w_hh)
    if layer.cell == "relu":
        return rows_times([mpf(each > 0) for each in a], w_hh)
    if layer.cell == "gru":
        return _gru(layer, from_input, from_state, b_hh, h, blocks)
    assert c is not None
    return _lstm(layer, a, c, blocks)


def _gru(
    layer: RecurrentLayer,
    from_input: list[mpf],
    from_state: list[mpf],
    b_hh: list[mpf],
    h: list[mpf],
    blocks: list[Matrix],
) -> Matrix:
    n = layer.hidden_size
    w_r, w_z, w_n = blocks
    a_r = [i + s for i, s in zip(from_input[:n], from_state[:n], strict=True)]
    a_z = [i + s for i, s in zip(from_input[n : 2 * n], from_state[n : 2 * n], strict=True)]
    r, z = [sigmoid(a) for a in a_r], [sigmoid(a) for a in a_z]
    if layer.reset_after:
        q = from_state[2 * n :]
        a_n = [i + gate * each for i, gate, each in zip(from_input[2 * n :], r, q, strict=True)]
        inner = total(rows_times([e * slope(a) for e, a in zip(q, a_r, strict=True)], w_r), rows_times(r, w_n))
    else:
        seen = [gate * each for gate, each in zip(r, h, strict=True)]
        a_n = [i + b + e for i, b, e in zip(from_input[2 * n :], b_hh[2 * n :], applied(w_n, seen), strict=True)]
        by_reset = rows_times([e * slope(a) for e, a in zip(h, a_r, strict=True)], w_r)
        inner = product(w_n, total(diagonal(r), by_reset))
    new = [sigmoid(-a) * sech_squared(each) for a, each in zip(a_z, a_n, strict=True)]
    update = [(e - mp.tanh(each)) * slope(a) for e, each, a in zip(h, a_n, a_z, strict=True)]
    return total(diagonal(z), rows_times(new, inner), rows_times(update, w_z))


def _lstm(layer: RecurrentLayer, a: list[mpf], c: list[mpf], blocks: list[Matrix]) -> Matrix:
    n = layer.hidden_size
    a_i, a_f, a_g, a_o = (a[i : i + n] for i in range(0, 4 * n, n))
    w_i, w_f, w_g, w_o = blocks
    new_c = [sigmoid(f) * kept + sigmoid(i) * mp.tanh(g) for f, kept, i, g in zip(a_f, c, a_i, a_g, strict=True)]
    by_h = total(
        rows_times([mp.tanh(g) * slope(i) for g, i in zip(a_g, a_i, strict=True)], w_i),
        rows_times([kept * slope(f) for kept, f in zip(c, a_f, strict=True)], w_f),
        rows_times([sigmoid(i) * sech_squared(g) for i, g in zip(a_i, a_g, strict=True)], w_g),
    )
    by_c = diagonal([sigmoid(f) for f in a_f])
    read = [sigmoid(o) * sech_squared(each) for o, each in zip(a_o, new_c, strict=True)]
    at_o = rows_times([mp.tanh(each) * slope(o) for each, o in zip(new_c, a_o, strict=True)], w_o)
    dh_by_h, dh_by_c = total(at_o, rows_times(read, by_h)), rows_times(read, by_c)
    if layer.weight_hr is not None:
        projection = numbers(layer.weight_hr)
        dh_by_h, dh_by_c = product(projection, dh_by_h), product(projection, dh_by_c)
    upper = [one + two for one, two in zip(dh_by_h, dh_by_c, strict=True)]
    return upper + [one + two for one, two in zip(by_h, by_c, strict=True)]


def log_spectral_norm(matrix: Matrix) -> mpf:
    """``log ||J||_2``; ``-inf`` for zero."""
    largest = max(abs(entry) for row in matrix for entry in row)
    if largest == 0:
        return mpf("-inf")
    with mp.workdps(30):  # entries that are lost next to the largest do not matter here
        singular = mp.svd_r(mp.matrix([[entry / largest for entry in row] for row in matrix]), compute_uv=False)
        return mp.log(largest) + mp.log(max(singular))


def log_frobenius(matrix: Matrix) -> mpf:
    squares = mp.fsum(entry**2 for row in matrix for entry in row)
    return mp.log(squares) / 2 if squares else mpf("-inf")


def log_determinant(matrix: Matrix) -> mpf:
    """``log |det J|``; ``-inf`` for a singular matrix."""
    determinant = mp.det(mp.matrix(matrix))
    return mp.log(abs(determinant)) if determinant else mpf("-inf")


def log_growth(steps: list[Matrix], frame: list[list[mpf]]) -> list[mpf]:
    """``log r_jj`` of the product of all steps with a frame of column vectors, given as rows."""
    columns = frame
    for step in steps:
        columns = [applied(step, column) for column in columns]
    logs, basis = [], []
    for column in columns:
        rest = column
        for direction in basis * 2:  # twice is enough (Kahan)
            share = mp.fdot(rest, direction)
            rest = [e - share * d for e, d in zip(rest, direction, strict=True)]
        length = mp.sqrt(mp.fsum(e**2 for e in rest))
        logs.append(mp.log(length) if length else mpf("-inf"))
        basis.append([e / length for e in rest] if length else [mpf(0)] * len(rest))
    return logs


def log_adjoint(steps: list[Matrix], seed: list[mpf]) -> list[mpf]:
    """``log ||J_1^T .. J_t^T d||`` for ``t = T .. 1``."""
    logs, vector = [], seed
    for step in reversed(steps):
        vector = applied(transposed(step), vector)
        squares = mp.fsum(e**2 for e in vector)
        logs.append(mp.log(squares) / 2 if squares else mpf("-inf"))
    return logs
