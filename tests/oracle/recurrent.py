"""LSTM-22, GRU-22 and RNN-22: one sequence after the other, one step after the other.

Beside every result stands its magnitude: what a unit of rounding error in every sum, product and function may grow to on its
way through the steps, to first order. A sum's is the sum of the absolute values of its terms and of their own errors, times the
steepest slope of the function behind it.
"""

from __future__ import annotations

import numpy as np

# name -> (function, its steepest slope); a and b are alpha and beta
FUNCTIONS = {
    "Affine": (lambda v, a, b: a * v + b, lambda a, b: abs(a)),
    "Elu": (lambda v, a, b: np.where(v < 0, a * (np.exp(np.minimum(v, 0)) - 1), v), lambda a, b: max(1, abs(a))),
    "HardSigmoid": (lambda v, a, b: np.minimum(np.maximum(a * v + b, 0), 1), lambda a, b: abs(a)),
    "LeakyRelu": (lambda v, a, b: np.where(v >= 0, v, a * v), lambda a, b: max(1, abs(a))),
    "Relu": (lambda v, a, b: np.maximum(v, 0), lambda a, b: 1),
    "ScaledTanh": (lambda v, a, b: a * np.tanh(b * v), lambda a, b: abs(a * b)),
    "Sigmoid": (lambda v, a, b: 1 / (1 + np.exp(-v)), lambda a, b: 0.25),
    "Softplus": (lambda v, a, b: np.log1p(np.exp(v)), lambda a, b: 1),
    "Softsign": (lambda v, a, b: v / (1 + abs(v)), lambda a, b: 1),
    "Tanh": (lambda v, a, b: np.tanh(v), lambda a, b: 1),
    "ThresholdedRelu": (lambda v, a, b: np.where(v >= a, v, 0), lambda a, b: 1),
}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


class _Measured:
    """A value and its magnitude."""

    def __init__(self, value, magnitude=None):
        self.value = np.asarray(value, np.float64)
        self.magnitude = np.abs(self.value) if magnitude is None else magnitude

    def __add__(self, other):
        y = self.value + other.value
        return _Measured(y, self.magnitude + other.magnitude)

    def __mul__(self, other):
        y = self.value * other.value
        return _Measured(y, np.abs(self.value) * other.magnitude + np.abs(other.value) * self.magnitude + np.abs(y))

    def rest(self):
        """1 - x."""
        return _Measured(1 - self.value, self.magnitude + 1)

    def product(self, matrix):
        return _Measured(matrix @ self.value, np.abs(matrix) @ self.magnitude)

    def part(self, i, of):
        return _Measured(np.split(self.value, of)[i], np.split(self.magnitude, of)[i])

    def through(self, function, clip):
        name, a, b = function
        compute, slope = FUNCTIONS[name]
        y = compute(self.value if clip is None else np.clip(self.value, -clip, clip), a, b)
        return _Measured(y, slope(a, b) * self.magnitude + np.abs(y) + abs(b))


def _step(kind, sums, r, rb, h, c, p, functions, clip, linear, coupled):
    n = GATES[kind]
    again = h.product(r)
    again = _Measured(again.value, again.magnitude) + _Measured(rb)
    if kind == "RNN":
        return (sums + again).through(functions[0], clip), c
    if kind == "GRU":
        f, g = functions
        z = (sums.part(0, n) + again.part(0, n)).through(f, clip)
        reset = (sums.part(1, n) + again.part(1, n)).through(f, clip)
        size = len(h.value)
        late = reset * again.part(2, n) if linear else (reset * h).product(r[2 * size :]) + _Measured(rb[2 * size :])
        hidden = (sums.part(2, n) + late).through(g, clip)
        return z.rest() * hidden + z * h, c
    f, g, last = functions
    total = sums + again
    i = (total.part(0, n) + _Measured(p[0]) * c).through(f, clip)
    forget = i.rest() if coupled else (total.part(2, n) + _Measured(p[2]) * c).through(f, clip)
    c = forget * c + i * total.part(3, n).through(g, clip)
    o = (total.part(1, n) + _Measured(p[1]) * c).through(f, clip)
    return o * c.through(last, None), c


def recurrent(
    kind,
    x,
    w,
    r,
    bias=None,
    *,
    sequence_lens=None,
    initial_h=None,
    initial_c=None,
    peepholes=None,
    direction="forward",
    functions=None,
    clip=None,
    linear_before_reset=False,
    input_forget=False,
    layout=0,
):
    """x (S, N, I), w (D, G * H, I), r (D, G * H, H), bias (D, 2 * G * H) -> results and their magnitudes.

    `functions` are (name, alpha, beta), as many as all directions have. Results are y (S, D, N, H), last_h (D, N, H) and, of an
    LSTM, last_c; with layout 1 x is (N, S, I), y (N, S, D, H) and a state (N, D, H).
    """
    if layout:
        x = np.swapaxes(x, 0, 1)
        initial_h, initial_c = (None if s is None else np.swapaxes(s, 0, 1) for s in (initial_h, initial_c))
    w, r = np.asarray(w, np.float64), np.asarray(r, np.float64)
    steps, batch, hidden, directions = x.shape[0], x.shape[1], r.shape[2], len(w)
    functions = functions or [(name, 0.0, 0.0) for name in DEFAULTS[kind]] * directions
    each = len(functions) // directions
    y = np.zeros((2, steps, directions, batch, hidden))
    states = np.zeros((2, 2, directions, batch, hidden))
    for d in range(directions):
        wb, rb = np.zeros((2, w.shape[1])) if bias is None else np.split(np.asarray(bias[d], np.float64), 2)
        p = np.zeros((3, hidden)) if peepholes is None else np.asarray(peepholes[d], np.float64).reshape(3, hidden)
        for n in range(batch):
            h = _Measured(np.zeros(hidden) if initial_h is None else initial_h[d, n])
            c = _Measured(np.zeros(hidden) if initial_c is None else initial_c[d, n])
            times = range(steps if sequence_lens is None else sequence_lens[n])
            for t in reversed(times) if direction == "reverse" or d == 1 else times:
                sums = _Measured(x[t, n]).product(w[d]) + _Measured(wb)
                h, c = _step(
                    kind, sums, r[d], rb, h, c, p, functions[d * each : (d + 1) * each], clip, linear_before_reset, input_forget
                )
                y[:, t, d, n] = h.value, h.magnitude
            states[:, 0, d, n] = h.value, h.magnitude
            states[:, 1, d, n] = c.value, c.magnitude
    results = []
    for i in range(2):
        whole = [y[i], states[i, 0], states[i, 1]][: 3 if kind == "LSTM" else 2]
        if layout:
            whole = [whole[0].transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in whole[1:])]
        results.append(whole)
    return results[0], results[1]
