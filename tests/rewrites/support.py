"""Small graphs for the passes' tests, and stand-ins for operators that have no class yet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnengine import ops
from cnnengine.graph import Graph, Node
from cnnengine.operator import Activation, Operator
from cnnengine.spec import TensorSpec

F32 = np.dtype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf)(x.astype(np.float64)).astype(x.dtype)


def activate(x: np.ndarray, activation: Activation | None) -> np.ndarray:
    if activation is None:
        return x
    a, b = activation.alpha, activation.beta
    functions = {
        "clip": lambda: np.clip(x, a, b),
        "leaky_relu": lambda: np.where(x < 0, a * x, x),
        "sigmoid": lambda: sigmoid(x),
        "tanh": lambda: np.tanh(x),
        "silu": lambda: x * sigmoid(x),
        "hard_sigmoid": lambda: np.clip(a * x + b, 0, 1),
        "hard_swish": lambda: x * np.clip(x / 6 + 0.5, 0, 1),
        "elu": lambda: np.where(x < 0, a * (np.exp(x) - 1), x),
        "selu": lambda: b * np.where(x < 0, a * (np.exp(x) - 1), x),
        "celu": lambda: np.where(x < 0, a * (np.exp(x / a) - 1), x),
        "gelu": lambda: 0.5 * x * (1 + erf(x / np.sqrt(2))),
        "gelu_tanh": lambda: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "mish": lambda: x * np.tanh(np.log1p(np.exp(x))),
        "softplus": lambda: np.log1p(np.exp(x)),
        "softsign": lambda: x / (1 + np.abs(x)),
    }
    return functions[activation.kind]().astype(x.dtype)


def slow_conv(x: np.ndarray, w: np.ndarray, pads: Sequence[int], group: int) -> np.ndarray:
    """Stride 1, 2-D, in float64."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])])
    o, i, kh, kw = w.shape
    out = np.zeros((x.shape[0], o, x.shape[2] - kh + 1, x.shape[3] - kw + 1))
    for c in range(o):
        part = x[:, (c // (o // group)) * i :][:, :i]
        for p in range(kh):
            for q in range(kw):
                out[:, c] += np.einsum("nihw,i->nhw", part[:, :, p : p + out.shape[2], q : q + out.shape[3]], w[c, :, p, q])
    return out


def _stand_in(op_type: str, fields: dict[str, Any], reference: Any) -> type[Operator]:
    cls = dataclasses.make_dataclass(
        op_type, [(n, object, dataclasses.field(default=d)) for n, d in fields.items()], bases=(Operator,), frozen=True
    )
    cls.op_type = op_type
    cls.reference = lambda self, *x: [reference(self, *x)]
    cls.infer = lambda self, specs: [TensorSpec.of(np.asarray(reference(self, *[s.value for s in specs])))]  # of constants
    return cls


def _conv(op: Any, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    y = slow_conv(x, w, op.pads or (0, 0, 0, 0), op.group)
    return activate((y if b is None else y + b.reshape(1, -1, 1, 1)).astype(x.dtype), op.activation)


def _conv_transpose(op: Any, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Stride 1 without pads: a convolution with the kernel turned round."""
    g, k = op.group, w.shape[2]
    parts = w.reshape(g, w.shape[0] // g, *w.shape[1:]).swapaxes(1, 2)
    y = slow_conv(x, parts.reshape(-1, *parts.shape[2:])[:, :, ::-1, ::-1], (k - 1,) * 4, g)
    return activate((y if b is None else y + b.reshape(1, -1, 1, 1)).astype(x.dtype), op.activation)


def _gemm(op: Any, a: np.ndarray, b: np.ndarray, c: np.ndarray | None = None) -> np.ndarray:
    y = op.alpha * (a.T if op.transA else a).astype(np.float64) @ (b.T if op.transB else b)
    return activate((y if c is None else y + op.beta * c).astype(a.dtype), op.activation)


def _batchnorm(op: Any, x: np.ndarray, *values: np.ndarray) -> np.ndarray:
    scale, bias, mean, var = (v.astype(np.float64).reshape(1, -1, *(1,) * (x.ndim - 2)) for v in values)
    return activate(((x - mean) / np.sqrt(var + op.epsilon) * scale + bias).astype(x.dtype), op.activation)


def _average_pool(op: Any, x: np.ndarray) -> np.ndarray:
    k, pads = op.kernel_shape, op.pads or (0, 0, 0, 0)
    ones = np.ones((1, 1, *k))
    total = np.concatenate([slow_conv(x[:, c : c + 1], ones, pads, 1) for c in range(x.shape[1])], axis=1)
    counted = np.ones_like(x[:1, :1])
    share = np.full(1, k[0] * k[1]) if op.count_include_pad else slow_conv(counted, ones, pads, 1)
    return (total / share).astype(x.dtype)


def _axes(x: np.ndarray, op: Any, given: np.ndarray | None) -> tuple[int, ...]:
    axes = op.axes if op.axes is not None else given
    return tuple(range(x.ndim)) if axes is None else tuple(int(a) for a in axes)


_WINDOW = {"strides": None, "dilations": None, "pads": None, "auto_pad": "NOTSET"}
STAND_INS: dict[str, type[Operator]] = {
    "Conv": _stand_in("Conv", {"kernel_shape": None, **_WINDOW, "group": 1, "activation": None}, _conv),
    "ConvTranspose": _stand_in(
        "ConvTranspose", {"kernel_shape": None, **_WINDOW, "group": 1, "activation": None}, _conv_transpose
    ),
    "Gemm": _stand_in("Gemm", {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, "activation": None}, _gemm),
    "MatMul": _stand_in("MatMul", {}, lambda op, a, b: a @ b),
    "BatchNormalization": _stand_in("BatchNormalization", {"epsilon": 1e-5, "training_mode": 0, "activation": None}, _batchnorm),
    "AveragePool": _stand_in(
        "AveragePool", {"kernel_shape": None, **_WINDOW, "ceil_mode": 0, "count_include_pad": 0}, _average_pool
    ),
    "GlobalAveragePool": _stand_in("GlobalAveragePool", {}, lambda op, x: x.mean(tuple(range(2, x.ndim)), keepdims=True)),
    "GlobalMaxPool": _stand_in("GlobalMaxPool", {}, lambda op, x: x.max(tuple(range(2, x.ndim)), keepdims=True)),
    "ReduceMean": _stand_in(
        "ReduceMean", {"axes": None, "keepdims": 1}, lambda op, x, a=None: x.mean(_axes(x, op, a), keepdims=bool(op.keepdims))
    ),
    "ReduceMax": _stand_in(
        "ReduceMax", {"axes": None, "keepdims": 1}, lambda op, x, a=None: x.max(_axes(x, op, a), keepdims=bool(op.keepdims))
    ),
    "Add": _stand_in("Add", {"activation": None}, lambda op, a, b: activate(a + b, op.activation)),
    "Sub": _stand_in("Sub", {}, lambda op, a, b: a - b),
    "Mul": _stand_in("Mul", {}, lambda op, a, b: a * b),
    "Div": _stand_in("Div", {}, lambda op, a, b: a / b),
    "Pow": _stand_in("Pow", {}, lambda op, a, b: a**b),
    "Clip": _stand_in(
        "Clip",
        {"min": None, "max": None},
        lambda op, x, a=None, b=None: np.clip(x, op.min if a is None else a, op.max if b is None else b),
    ),
    "PRelu": _stand_in("PRelu", {}, lambda op, x, s: np.where(x < 0, s * x, x)),
    "Relu": _stand_in("Relu", {}, lambda op, x: np.maximum(x, 0)),
    "LeakyRelu": _stand_in("LeakyRelu", {"alpha": 0.01}, lambda op, x: activate(x, Activation("leaky_relu", op.alpha))),
    "Elu": _stand_in("Elu", {"alpha": 1.0}, lambda op, x: activate(x, Activation("elu", op.alpha))),
    "Celu": _stand_in("Celu", {"alpha": 1.0}, lambda op, x: activate(x, Activation("celu", op.alpha))),
    "Selu": _stand_in(
        "Selu", {"alpha": 1.67326, "gamma": 1.0507}, lambda op, x: activate(x, Activation("selu", op.alpha, op.gamma))
    ),
    "Sigmoid": _stand_in("Sigmoid", {}, lambda op, x: sigmoid(x)),
    "HardSigmoid": _stand_in(
        "HardSigmoid", {"alpha": 0.2, "beta": 0.5}, lambda op, x: activate(x, Activation("hard_sigmoid", op.alpha, op.beta))
    ),
    "HardSwish": _stand_in("HardSwish", {}, lambda op, x: activate(x, Activation("hard_swish"))),
    "Swish": _stand_in("Swish", {"alpha": 1.0}, lambda op, x: x * sigmoid(op.alpha * x)),
    "Gelu": _stand_in(
        "Gelu",
        {"approximate": "none"},
        lambda op, x: activate(x, Activation("gelu_tanh" if op.approximate == "tanh" else "gelu")),
    ),
    "Mish": _stand_in("Mish", {}, lambda op, x: activate(x, Activation("mish"))),
    "Softplus": _stand_in("Softplus", {}, lambda op, x: activate(x, Activation("softplus"))),
    "Softsign": _stand_in("Softsign", {}, lambda op, x: activate(x, Activation("softsign"))),
    "Tanh": _stand_in("Tanh", {}, lambda op, x: np.tanh(x)),
    "Erf": _stand_in("Erf", {}, lambda op, x: erf(x)),
}


def find(op_type: str, domain: str = "") -> type[Operator] | None:
    """The operator's class, or its stand-in."""
    return ops.lookup(op_type, domain) or STAND_INS.get(op_type)


class Builder:
    """Makes a graph step by step; every step returns the name of its (first) value."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.inputs: dict[str, TensorSpec] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []
        self.feeds: dict[str, np.ndarray] = {}

    def input(self, *shape: int, name: str = "x", symbolic: bool = True) -> str:
        self.feeds[name] = self.rng.standard_normal(shape).astype(np.float32)
        self.inputs[name] = TensorSpec(F32, (None,) * len(shape) if symbolic else shape)
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(value, dtype)
        return name

    def random(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape))

    def node(self, op: str | Operator, *inputs: str, outputs: Sequence[str] = (), **fields: Any) -> str:
        if isinstance(op, str):
            cls = find(op)
            assert cls is not None, op
            op = cls(**fields)
        outputs = tuple(outputs) or (f"v{len(self.nodes)}",)
        self.nodes.append(Node(op, inputs, outputs, f"{op.op_type}_{len(self.nodes)}"))
        return outputs[0]

    def graph(self, *outputs: str) -> Graph:
        graph = Graph(self.inputs, {o: TensorSpec(F32, None) for o in outputs}, self.nodes, self.constants)
        graph.check()
        return graph


def same(builder: Builder, before: Graph, after: Graph, rtol: float = 2e-5) -> None:
    """Both graphs give the same outputs, up to rounding."""
    after.check()
    assert list(after.outputs) == list(before.outputs)
    for name, a, b in zip(before.outputs, before.evaluate(builder.feeds), after.evaluate(builder.feeds), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        np.testing.assert_allclose(
            b, a, rtol=rtol, atol=rtol * max(float(np.abs(a).max(initial=0)), 1e-30) if a.dtype.kind == "f" else 0
        )


def kinds(graph: Graph) -> list[str]:
    return [n.op.op_type for n in graph.nodes]
