"""Recurrent layers: LSTM, GRU and RNN, with all that ONNX lets them have."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .._kernels.recurrent import chunks_of, pack_input_bias, pack_input_weights, pack_state_weights, padded_size
from ..errors import InputError, ModelError, ShapeError
from ..operator import Activation, Gives, Giving, Lowering, NodeRecord, Operator
from ..packing import Empty
from ..records import dataclass
from ..spec import TensorSpec
from .common import kind_of

FLOAT32 = np.dtype(np.float32)
INT32 = np.dtype(np.int32)

_DEFAULTS: dict[str, tuple[float | None, float | None]] = {
    "Affine": (1.0, 0.0),
    "Elu": (1.0, None),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01, None),
    "Relu": (None, None),
    "ScaledTanh": (1.0, 1.0),
    "Sigmoid": (None, None),
    "Softplus": (None, None),
    "Softsign": (None, None),
    "Tanh": (None, None),
    "ThresholdedRelu": (1.0, None),
}
"""Function -> its alpha and beta where none are given; None where it has no such parameter."""
_BY_LOWER = {name.lower(): name for name in _DEFAULTS}

_COMPUTE: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "Elu": lambda x, alpha, _: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
    "HardSigmoid": lambda x, alpha, beta: np.minimum(np.maximum(alpha * x + beta, 0), 1),
    "LeakyRelu": lambda x, alpha, _: np.where(x < 0, alpha * x, x),
    "Relu": lambda x, *_: np.maximum(x, 0),
    "ScaledTanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "Sigmoid": lambda x, *_: np.exp(-np.logaddexp(0, -x)),
    "Softplus": lambda x, *_: np.logaddexp(0, x),
    "Softsign": lambda x, *_: x / (1 + np.abs(x)),
    "Tanh": lambda x, *_: np.tanh(x),
    "ThresholdedRelu": lambda x, alpha, _: np.where((x >= alpha) | (x != x), x, 0),
}


def _kernel_of(function: Activation) -> tuple[Activation, ...]:
    """The function as activations of the kernels, one after another."""
    kind, alpha, beta = function.kind, function.alpha, function.beta
    if kind == "Relu":
        return (Activation("clip", 0.0, math.inf),)
    if kind == "ScaledTanh":
        return (Activation("affine", beta), Activation("tanh"), Activation("affine", alpha))
    if kind == "ThresholdedRelu":
        # here alpha itself passes; the operator of this name keeps what lies above it
        return (Activation("thresholded_relu", float(np.nextafter(np.float32(alpha), np.float32(-math.inf)))),)
    names = {"HardSigmoid": "hard_sigmoid", "LeakyRelu": "leaky_relu"}
    return (Activation(names.get(kind, kind.lower()), alpha, beta),)


def _functions(node: NodeRecord, defaults: tuple[str, ...], directions: int) -> tuple[Activation, ...]:
    """The functions of all directions, by `activations`, `activation_alpha` and `activation_beta`.

    Values are consumed in order by the functions that have such a parameter; a list as long as that of the functions has one for
    each.
    """

    def wrong(text: str, expected: object, received: object) -> ModelError:
        return ModelError(text, node=node.name, operator=node.op_type, expected=expected, received=received)

    given = node.attribute("activations")
    names = list(defaults) * directions if given is None else [str(n) for n in given]
    if given is not None and node.op_type == "RNN" and directions == 1 and len(names) == 2 and names[0] == names[1]:
        names = names[:1]  # the schema's default, written out
    if len(names) != len(defaults) * directions:
        raise wrong("has too few or too many activations", len(defaults) * directions, names)
    kinds = []
    for name in names:
        if name.lower() not in _BY_LOWER:
            raise wrong("an activation is not known", ", ".join(sorted(_DEFAULTS)), name)
        kinds.append(_BY_LOWER[name.lower()])
    values: list[list[float]] = []
    for place, attribute in enumerate(("activation_alpha", "activation_beta")):
        listed = [float(v) for v in node.attribute(attribute) or ()]
        takers = [i for i, kind in enumerate(kinds) if _DEFAULTS[kind][place] is not None]
        filled = [_DEFAULTS[kind][place] or 0.0 for kind in kinds]
        if len(listed) > len(takers) and len(listed) != len(kinds):
            raise wrong(f"has too many values in {attribute}", f"at most {len(takers)}, or {len(kinds)}", listed)
        own = zip(range(len(kinds)), listed, strict=True) if len(listed) > len(takers) else zip(takers, listed, strict=False)
        for i, value in own:
            if i in takers:
                filled[i] = value
        values.append(filled)
    return tuple(Activation(kind, alpha, beta) for kind, alpha, beta in zip(kinds, *values, strict=True))


class _Step(NamedTuple):
    """What one step of one direction has, in float64.

    Attributes
    ----------
    xw : (N, gates * hidden)
        The products of the inputs with W, and its bias.
    r, rb : (gates * hidden, hidden) and (gates * hidden,)
    h, c : (N, hidden)
        The states before it.
    p : (3, hidden)
        Peepholes.
    """

    xw: np.ndarray
    r: np.ndarray
    rb: np.ndarray
    h: np.ndarray
    c: np.ndarray
    p: np.ndarray

    def state(self) -> np.ndarray:
        """The products of the state with R, and its bias."""
        return np.asarray(self.h @ self.r.T + self.rb)


@dataclass(frozen=True)
class _Recurrent(Operator):
    """What the three layers share; inputs X, W, R, B, sequence_lens, initial_h (LSTM: initial_c, P), outputs Y, Y_h (LSTM: Y_c).

    Attributes
    ----------
    functions : tuple of Activation
        Those of each direction, one direction after the other; kind is ONNX's name.
    direction : {"forward", "reverse", "bidirectional"}
    hidden_size : int, optional
        As R has it when left out.
    clip : float
        Bound of what goes into the gates' functions; infinite for none.
    layout : int
        1 with the batch before the steps.
    """

    functions: tuple[Activation, ...] = ()
    direction: str = "forward"
    hidden_size: int | None = None
    clip: float = math.inf
    layout: int = 0

    gives: ClassVar[Giving] = (Gives(rank=4), Gives(rank=3), Gives(rank=3))
    gates: ClassVar[int] = 1
    defaults: ClassVar[tuple[str, ...]] = ()
    states: ClassVar[int] = 1
    flags: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        def wrong(text: str, expected: object, received: object) -> ModelError:
            return ModelError(text, node=node.name, operator=cls.op_type, expected=expected, received=received)

        if len(node.inputs) < 3 or not all(node.inputs[:3]):
            raise wrong("needs X, W and R", 3, node.inputs)
        most = 8 if cls.states == 2 else 6
        if any(node.inputs[most:]):
            raise wrong("has too many inputs", most, node.inputs)
        if any(node.outputs[1 + cls.states :]):
            raise wrong("has too many outputs", 1 + cls.states, node.outputs)
        direction = str(node.attribute("direction", "forward")).lower()
        if direction not in ("forward", "reverse", "bidirectional"):
            raise wrong("the direction is not known", "forward, reverse or bidirectional", direction)
        hidden = node.attribute("hidden_size")
        if hidden is not None and hidden < 1:
            raise wrong("hidden_size must be positive", ">= 1", hidden)
        clip = float(node.attribute("clip", math.inf))
        if not clip > 0:
            raise wrong("clip must be positive", "> 0", clip)
        layout = node.attribute("layout", 0)
        if layout not in (0, 1):
            raise wrong("the layout is not known", "0 or 1", layout)
        kwargs: dict[str, Any] = {flag: int(bool(node.attribute(flag, 0))) for flag in cls.flags}
        functions = _functions(node, cls.defaults, 2 if direction == "bidirectional" else 1)
        return cls(functions=functions, direction=direction, hidden_size=hidden, clip=clip, layout=layout, **kwargs)

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    def _of(self, direction: int) -> tuple[Activation, ...]:
        n = len(self.defaults)
        return self.functions[direction * n : (direction + 1) * n] or tuple(
            Activation(k, *(v or 0.0 for v in _DEFAULTS[k])) for k in self.defaults
        )

    def _sizes(self, x: tuple[int, ...], r: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Steps, sequences, inputs, hidden units."""
        for name, shape in (("X", x), ("R", r)):
            if len(shape) != 3:
                raise ShapeError("has the wrong number of axes", operator=self.op_type, tensor=name, expected=3, received=shape)
        steps, batch = (x[1], x[0]) if self.layout else (x[0], x[1])
        return steps, batch, x[2], r[2] if self.hidden_size is None else self.hidden_size

    def _state(self, batch: int, hidden: int) -> tuple[int, ...]:
        return (batch, self.directions, hidden) if self.layout else (self.directions, batch, hidden)

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        given: list[TensorSpec | None] = [*inputs[:8], *[None] * (8 - len(inputs))]
        x, w, r = given[:3]
        assert x is not None and w is not None and r is not None
        steps, batch, size, hidden = self._sizes(x.concrete, r.concrete)
        d = self.directions
        if kind_of(x.dtype) != "f":
            raise InputError("must be floating-point", operator=self.op_type, tensor="X", received=x.dtype)
        state = self._state(batch, hidden)
        expected: list[tuple[str, tuple[int, ...]]] = [
            ("W", (d, self.gates * hidden, size)),
            ("R", (d, self.gates * hidden, hidden)),
            ("B", (d, 2 * self.gates * hidden)),
            ("sequence_lens", (batch,)),
            ("initial_h", state),
            ("initial_c", state),
            ("P", (d, 3 * hidden)),
        ]
        for spec, (name, shape) in zip(given[1:], expected, strict=True):
            if spec is None:
                continue
            if spec.concrete != shape:
                raise ShapeError(
                    "has the wrong shape", operator=self.op_type, tensor=name, expected=shape, received=spec.concrete
                )
            dtype = INT32 if name == "sequence_lens" else x.dtype
            if spec.dtype != dtype:
                raise InputError("has the wrong dtype", operator=self.op_type, tensor=name, expected=dtype, received=spec.dtype)
        lengths = given[4]
        if lengths is not None and lengths.value is not None:
            self._check(lengths.value, steps)
        y = (batch, steps, d, hidden) if self.layout else (steps, d, batch, hidden)
        return [TensorSpec(x.dtype, y), *[TensorSpec(x.dtype, state)] * self.states]

    def _check(self, lengths: np.ndarray, steps: int) -> None:
        bad = lengths[(lengths < 0) | (lengths > steps)]
        if bad.size:
            raise InputError(
                "a length lies outside the steps",
                operator=self.op_type,
                tensor="sequence_lens",
                expected=f"0 to {steps}",
                received=int(bad[0]),
            )

    def reference(self, *inputs: Any) -> list[Any]:
        given: list[Any] = [*inputs[:8], *[None] * (8 - len(inputs))]
        x, w, r, b, lengths, h0, c0, p = given
        dtype = x.dtype
        steps, batch, _, hidden = self._sizes(x.shape, r.shape)
        if lengths is None:
            lengths = np.full(batch, steps)
        self._check(lengths, steps)

        def first(state: np.ndarray | None) -> np.ndarray:
            """(directions, N, hidden) in float64."""
            if state is None:
                return np.zeros((self.directions, batch, hidden))
            return (state.swapaxes(0, 1) if self.layout else state).astype(np.float64)

        x = (x.swapaxes(0, 1) if self.layout else x).astype(np.float64)
        states = [first(h0), first(c0)]
        y = np.zeros((steps, self.directions, batch, hidden))
        every = np.arange(batch)
        for d in range(self.directions):
            wide = w[d].astype(np.float64), r[d].astype(np.float64)
            wb, rb = np.zeros((2, self.gates * hidden)) if b is None else np.split(b[d].astype(np.float64), 2)
            peepholes = np.zeros((3, hidden)) if p is None else p[d].astype(np.float64).reshape(3, hidden)
            back = d == 1 or self.direction == "reverse"
            h, c = states[0][d], states[1][d]
            for s in range(int(lengths.max(initial=0))):
                on = every[s < lengths]
                t = lengths[on] - 1 - s if back else np.full(on.size, s)
                step = _Step(x[t, on] @ wide[0].T + wb, wide[1], rb, h[on], c[on], peepholes)
                h[on], c[on] = self._step(step, self._of(d))
                y[t, d, on] = h[on]
        if self.layout:
            y = y.transpose(2, 0, 1, 3)
            states = [state.swapaxes(0, 1) for state in states]
        return [np.ascontiguousarray(a).astype(dtype) for a in (y, *states[: self.states])]

    def _cut(self, x: np.ndarray) -> np.ndarray:
        return x if self.clip == math.inf else np.clip(x, -self.clip, self.clip)

    def _step(self, at: _Step, functions: tuple[Activation, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The states after one step."""
        raise NotImplementedError

    def _weights(self, ctx: Lowering) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
        """W, R and B where they are constants; else None."""
        w, r, b = ctx.const(1), ctx.const(2), ctx.const(3)
        if w is None or r is None or (b is None and len(ctx.inputs) > 3 and ctx.inputs[3] is not None):
            return None
        return w, r, b

    def _linear(self) -> bool:
        """Whether the last gate's product with the state is not simply added to that with x."""
        return False

    def lower(self, ctx: Lowering) -> bool:
        x, found = ctx.inputs[0], self._weights(ctx)
        assert x is not None
        if x.dtype != FLOAT32 or found is None:
            return False
        w, r, b = found
        steps, batch, size, hidden = self._sizes(x.concrete, r.shape)
        if 0 in (steps, batch, size):
            return False
        names = (ctx.name(1), ctx.name(2), "" if b is None else ctx.name(3))
        gates, d, width = self.gates, self.directions, self.gates * hidden
        linear = self._linear()

        def bias(empty: Empty) -> np.ndarray:
            total = np.zeros((d, width), np.float32)
            if b is not None:
                kept = width - hidden if linear else width
                total[:] = b[:, :width]
                total[:, :kept] += b[:, width : width + kept]
            packed: np.ndarray = pack_input_bias(total, gates, empty)
            return packed

        def again(empty: Empty) -> np.ndarray:
            assert b is not None
            packed: np.ndarray = pack_input_bias(b[:, 2 * width - hidden :], 1, empty)
            return packed

        lead = x.concrete[:2]
        sums = ctx.temp((*lead, d * gates * padded_size(hidden)))
        ctx.call(
            "dense",
            [
                ctx.plain(0),
                ctx.pack(("recurrent input", gates, *names), lambda empty: pack_input_weights(w, gates, empty)),
                ctx.pack(("recurrent bias", gates, linear, *names), bias),
                None,
            ],
            [sums],
        )

        def operand(index: int) -> Any:
            return ctx.plain(index) if index < len(ctx.inputs) and ctx.inputs[index] is not None else None

        known = ctx.const(4) if len(ctx.inputs) > 4 else None
        lengths = operand(4)
        if known is not None and bool((known == steps).all()):
            lengths = None
        outputs = [ctx.out_plain(i) if i <= self.states and ctx.wants(i) else ctx.temp((0,)) for i in range(3)]
        if lengths is not None and known is None:
            outputs.append(ctx.faults(d * chunks_of(batch), "a length lies outside the steps", "sequence_lens"))
        ctx.call(
            "recurrent",
            [
                sums,
                ctx.pack(("recurrent state", self.op_type, *names), lambda empty: pack_state_weights(r, self.op_type, empty)),
                ctx.pack(("recurrent again", *names), again) if linear and b is not None else None,
                lengths,
                *(operand(i) for i in (5, 6, 7)),
            ],
            outputs,
            cell=self.op_type,
            hidden=hidden,
            functions=tuple(tuple(_kernel_of(f) for f in self._of(i)) for i in range(d)),
            reverse=self.direction == "reverse",
            batch_first=bool(self.layout),
            clip=self.clip,
            **self._options(),
        )
        return True

    def _options(self) -> dict[str, Any]:
        return {}


def _call(function: Activation, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return _COMPUTE[function.kind](x, function.alpha, function.beta)


@dataclass(frozen=True)
class RNN(_Recurrent):
    """ONNX RNN (1, 7, 14, 22): ``H = f(X W^T + H R^T + Wb + Rb)``."""

    op_type: ClassVar[str] = "RNN"
    elements: ClassVar[Sequence[int]] = (0, 1, 2, 3, 5)
    defaults: ClassVar[tuple[str, ...]] = ("Tanh",)

    def _step(self, at: _Step, functions: tuple[Activation, ...]) -> tuple[np.ndarray, np.ndarray]:
        return _call(functions[0], self._cut(at.xw + at.state())), at.c


@dataclass(frozen=True)
class GRU(_Recurrent):
    """ONNX GRU (1, 3, 7, 14, 22): gates z, r and h; ``H = (1 - z) h + z H``.

    Attributes
    ----------
    linear_before_reset : int
        The reset gate multiplies the product of the state, with its bias, not the state.
    """

    linear_before_reset: int = 0

    op_type: ClassVar[str] = "GRU"
    elements: ClassVar[Sequence[int]] = (0, 1, 2, 3, 5)
    gates: ClassVar[int] = 3
    defaults: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh")
    flags: ClassVar[tuple[str, ...]] = ("linear_before_reset",)

    def _linear(self) -> bool:
        return bool(self.linear_before_reset)

    def _options(self) -> dict[str, Any]:
        return {"linear": self._linear()}

    def _step(self, at: _Step, functions: tuple[Activation, ...]) -> tuple[np.ndarray, np.ndarray]:
        xw, r, rb, h = at.xw, at.r, at.rb, at.h
        n = h.shape[1]
        z, reset = np.split(_call(functions[0], self._cut(xw[:, : 2 * n] + h @ r[: 2 * n].T + rb[: 2 * n])), 2, axis=1)
        if self.linear_before_reset:
            again = reset * (h @ r[2 * n :].T + rb[2 * n :])
        else:
            again = (reset * h) @ r[2 * n :].T + rb[2 * n :]
        hidden = _call(functions[1], self._cut(xw[:, 2 * n :] + again))
        return (1 - z) * hidden + z * h, at.c


@dataclass(frozen=True)
class LSTM(_Recurrent):
    """ONNX LSTM (1, 7, 14, 22): gates i, o, f and c, with peepholes where P is given.

    `clip` bounds what goes into the functions of the gates; the last function gets the cell's state as it is.

    Attributes
    ----------
    input_forget : int
        The forget gate is one minus the input gate.
    """

    input_forget: int = 0

    op_type: ClassVar[str] = "LSTM"
    elements: ClassVar[Sequence[int]] = (0, 1, 2, 3, 5, 6, 7)
    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2
    defaults: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh", "Tanh")
    flags: ClassVar[tuple[str, ...]] = ("input_forget",)

    def _options(self) -> dict[str, Any]:
        return {"coupled": bool(self.input_forget)}

    def _step(self, at: _Step, functions: tuple[Activation, ...]) -> tuple[np.ndarray, np.ndarray]:
        f, g, last = functions
        c, p = at.c, at.p
        i, o, forget, cell = np.split(at.xw + at.state(), 4, axis=1)
        i = _call(f, self._cut(i + p[0] * c))
        forget = 1 - i if self.input_forget else _call(f, self._cut(forget + p[2] * c))
        c = forget * c + i * _call(g, self._cut(cell))
        return _call(f, self._cut(o + p[1] * c)) * _call(last, c), c
