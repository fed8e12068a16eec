"""What stands in front of a network changes nothing of what is fused behind it; every activation is fused behind its layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine._kernels import ACTIVATIONS
from cnnengine.model import Model
from cnnengine.ops.elements import reference_activation

OPSET = 20
CHANNELS = 8
SHAPE = (1, CHANNELS, 6, 6)
LAYERS = 4

Front = Callable[["Graph", str], str]


class Graph:
    """A model that is written node by node."""

    def __init__(self, opset: int = OPSET) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(0)

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def weights(self, *extents: int) -> str:
        return self.constant(self.rng.standard_normal(extents) / 4)

    def add(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, names, f"{op_type}{len(self.nodes)}", **attributes))
        return names[0]

    def layers(self, x: str, count: int = LAYERS) -> str:
        for _ in range(count):
            x = self.add("Conv", x, self.weights(CHANNELS, CHANNELS, 3, 3), pads=[1] * 4)
            x = self.add("Relu", self.norm(x))
        return x

    def norm(self, x: str) -> str:
        statistics = [self.constant(np.abs(self.rng.standard_normal(CHANNELS)) + 0.5) for _ in range(4)]
        return self.add("BatchNormalization", x, *statistics)

    def model(self, y: str, shape: Sequence[int] = SHAPE) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(v, n) for n, v in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        return bytes(model.SerializeToString())


def described(model: Model) -> list[tuple[str, str | None]]:
    """Operators of the graph after the rewrites, with what is fused into them."""
    return [(n.op.op_type, None if (a := getattr(n.op, "activation", None)) is None else a.kind) for n in model._graph.nodes]


PLAIN = [("Conv", "clip")] * LAYERS


def unary(op_type: str, **attributes: Any) -> Front:
    return lambda g, x: g.add(op_type, x, **attributes)


def binary(op_type: str, number: float = 2.0) -> Front:
    return lambda g, x: g.add(op_type, x, g.constant(number))


def dropout(g: Graph, x: str) -> str:
    return g.add("Dropout", x, outputs=2)


def quantised(g: Graph, x: str) -> str:
    scale, zero = g.constant(0.05), g.constant(128, np.uint8)
    return g.add("DequantizeLinear", g.add("QuantizeLinear", x, scale, zero), scale, zero)


def branched(g: Graph, x: str) -> str:
    """An If whose condition is computed."""
    positive = g.add("Greater", g.add("ReduceSum", x, keepdims=0), g.constant(0.0))
    bodies = []
    for op_type in ("Sin", "Cos"):
        node, made = helper.make_node(op_type, [x], [op_type]), helper.make_tensor_value_info(op_type, TensorProto.FLOAT, None)
        bodies.append(helper.make_graph([node], op_type, [], [made]))
    return g.add("If", positive, then_branch=bodies[0], else_branch=bodies[1])


def looped(g: Graph, x: str) -> str:
    """Rounds of a Loop that carries the tensor on."""
    nodes = [helper.make_node("Sin", ["state"], ["next"]), helper.make_node("Identity", ["go"], ["goes"])]
    forms: dict[str, tuple[int, list[int] | None]] = {
        "i": (TensorProto.INT64, []),
        "go": (TensorProto.BOOL, []),
        "state": (TensorProto.FLOAT, None),
        "goes": (TensorProto.BOOL, []),
        "next": (TensorProto.FLOAT, None),
    }
    values = [helper.make_tensor_value_info(name, *form) for name, form in forms.items()]
    body = helper.make_graph(nodes, "body", values[:3], values[3:])
    return g.add("Loop", g.constant(2, np.int64), "", x, body=body)


def sequenced(g: Graph, x: str) -> str:
    """Through a sequence that no rewrite takes apart."""
    items = g.add("SplitToSequence", x, g.constant([3, 5], np.int64), axis=1)
    first = g.add("Sin", g.add("SequenceAt", items, g.constant(0, np.int64)))
    return g.add(
        "ConcatFromSequence", g.add("SequenceErase", g.add("SequenceInsert", items, first), g.constant(0, np.int64)), axis=1
    )


UNARY = [
    *(
        "Abs",
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Cosh",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
    ),
    *("Gelu", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization"),
    *("MeanVarianceNormalization", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin"),
    *("Sinh", "Softmax", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu"),
]
FRONTS: dict[str, Front] = {
    **{name: unary(name) for name in UNARY},
    **{name: binary(name) for name in ("Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum")},
    "Mod": lambda g, x: g.add("Mod", x, g.constant(2.0), fmod=1),
    "Dropout": unary("Dropout"),
    "Dropout with its mask": dropout,
    "LRN": unary("LRN", size=3),
    "Cast": unary("Cast", to=TensorProto.FLOAT),
    "Cast there and back": lambda g, x: g.add("Cast", g.add("Cast", x, to=TensorProto.DOUBLE), to=TensorProto.FLOAT),
    "CastLike": lambda g, x: g.add("CastLike", x, g.constant(1.0)),
    "Transpose": unary("Transpose", perm=[0, 1, 3, 2]),
    "Pad": lambda g, x: g.add("Pad", x, g.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), mode="reflect"),
    "Slice": lambda g, x: g.add("Slice", x, *(g.constant([v], np.int64) for v in (5, -99, 2, -1))),
    "Resize": lambda g, x: g.add("Resize", x, "", g.constant([1, 1, 1.5, 2]), mode="linear"),
    "CumSum": lambda g, x: g.add("CumSum", x, g.constant(2, np.int64)),
    "Trilu": unary("Trilu"),
    "Tile": lambda g, x: g.add("Tile", x, g.constant([1, 1, 2, 1], np.int64)),
    "Expand": lambda g, x: g.add("Expand", x, g.constant(SHAPE, np.int64)),
    "Concat": lambda g, x: g.add("Concat", x, g.add("Sin", x), axis=2),
    "Split": lambda g, x: g.add("Split", x, outputs=2, axis=2, num_outputs=2),
    "Where": lambda g, x: g.add("Where", g.add("IsNaN", x), g.constant(0.0), x),
    "Einsum": lambda g, x: g.add("Einsum", x, equation="nchw->nchw"),
    "Gather": lambda g, x: g.add("Gather", x, g.constant([3, 1, 4, 1], np.int64), axis=2),
    "GatherElements": lambda g, x: g.add("GatherElements", x, g.constant(np.zeros(SHAPE), np.int64), axis=2),
    "ScatterElements": lambda g, x: g.add("ScatterElements", x, g.constant(np.zeros(SHAPE), np.int64), g.add("Sin", x), axis=2),
    "ScatterND": lambda g, x: g.add("ScatterND", x, g.constant([[0]], np.int64), x),
    "GatherND": lambda g, x: g.add("GatherND", x, g.constant([[0]], np.int64)),
    "ReverseSequence": lambda g, x: g.add("ReverseSequence", x, g.constant([3], np.int64), batch_axis=0, time_axis=1),
    "MaxPool": unary("MaxPool", kernel_shape=[3, 3], pads=[1] * 4),
    "AveragePool": unary("AveragePool", kernel_shape=[3, 3], pads=[1] * 4),
    "LpPool": unary("LpPool", kernel_shape=[3, 3], pads=[1] * 4),
    "InstanceNormalization": lambda g, x: g.add("InstanceNormalization", x, g.weights(CHANNELS), g.weights(CHANNELS)),
    "LayerNormalization": lambda g, x: g.add("LayerNormalization", x, g.weights(6)),
    "MatMul": lambda g, x: g.add("MatMul", x, g.weights(6, 6)),
    "GridSample": lambda g, x: g.add("GridSample", x, g.constant(np.zeros((1, 5, 5, 2)))),
    "a softmax along channels, squared": lambda g, x: g.add("Mul", g.add("Softmax", x, axis=1), x),
    "QuantizeLinear, DequantizeLinear": quantised,
    "If": branched,
    "Loop": looped,
    "sequences": sequenced,
    "Reshape": lambda g, x: g.add("Reshape", x, g.constant([1, CHANNELS, 4, 9], np.int64)),
    "DepthToSpace": lambda g, x: g.add("SpaceToDepth", g.add("DepthToSpace", x, blocksize=2), blocksize=2),
}
"""What gives a float tensor of four axes and CHANNELS channels for one: by an operator of each kind."""


@pytest.mark.parametrize("name", FRONTS)
def test_nothing_in_front_hides_what_is_fused(name: str) -> None:
    g = Graph()
    y = g.layers(FRONTS[name](g, "x"))
    steps = described(cnnengine.load(g.model(y)))
    assert steps[-LAYERS:] == PLAIN
    assert not {"BatchNormalization", "Relu"} & {op for op, _ in steps[1:]}


def test_nothing_at_all_in_front() -> None:
    g = Graph()
    assert described(cnnengine.load(g.model(g.layers("x")))) == PLAIN


# ---------------------------------------------------------------- what is fused behind a layer


def gelu(g: Graph, x: str) -> str:
    inner = g.add("Add", g.add("Erf", g.add("Div", x, g.constant(np.sqrt(2)))), g.constant(1.0))
    return g.add("Mul", g.add("Mul", x, inner), g.constant(0.5))


def silu(g: Graph, x: str) -> str:
    return g.add("Mul", x, g.add("Sigmoid", x))


def hard_swish(g: Graph, x: str) -> str:
    six = g.add("Clip", g.add("Add", x, g.constant(3.0)), g.constant(0.0), g.constant(6.0))
    return g.add("Mul", x, g.add("Div", six, g.constant(6.0)))


def mish(g: Graph, x: str) -> str:
    return g.add("Mul", x, g.add("Tanh", g.add("Softplus", x)))


BEHIND: dict[str, tuple[str, Front]] = {
    "Relu": ("clip", unary("Relu")),
    "Clip": ("clip", lambda g, x: g.add("Clip", x, g.constant(0.0), g.constant(6.0))),
    "Clip without a lower bound": ("clip", lambda g, x: g.add("Clip", x, "", g.constant(6.0))),
    "LeakyRelu": ("leaky_relu", unary("LeakyRelu", alpha=0.1)),
    "PRelu": ("leaky_relu", lambda g, x: g.add("PRelu", x, g.constant([0.1]))),
    "Sigmoid": ("sigmoid", unary("Sigmoid")),
    "Tanh": ("tanh", unary("Tanh")),
    "Swish, as exporters write it": ("silu", silu),
    "HardSigmoid": ("hard_sigmoid", unary("HardSigmoid")),
    "HardSwish": ("hard_swish", unary("HardSwish")),
    "HardSwish, as exporters write it": ("hard_swish", hard_swish),
    "Elu": ("elu", unary("Elu")),
    "Selu": ("selu", unary("Selu")),
    "Celu": ("celu", unary("Celu", alpha=0.5)),
    "Gelu": ("gelu", unary("Gelu")),
    "Gelu by tanh": ("gelu_tanh", unary("Gelu", approximate="tanh")),
    "Gelu, as exporters write it": ("gelu", gelu),
    "Mish": ("mish", unary("Mish")),
    "Mish, as exporters write it": ("mish", mish),
    "Softplus": ("softplus", unary("Softplus")),
    "Softsign": ("softsign", unary("Softsign")),
    "Exp": ("exp", unary("Exp")),
    "Log": ("log", unary("Log")),
    "Erf": ("erf", unary("Erf")),
    "Abs": ("abs", unary("Abs")),
    "Neg": ("neg", unary("Neg")),
    "Sqrt": ("sqrt", unary("Sqrt")),
    "Reciprocal": ("reciprocal", unary("Reciprocal")),
    "Sign": ("sign", unary("Sign")),
    "Floor": ("floor", unary("Floor")),
    "Ceil": ("ceil", unary("Ceil")),
    "Round": ("round", unary("Round")),
    "ThresholdedRelu": ("thresholded_relu", unary("ThresholdedRelu")),
    "Pow 2": ("square", binary("Pow")),
    "Pow 3": ("pow", binary("Pow", 3.0)),
    "Shrink": ("shrink", unary("Shrink", bias=0.5)),
    **{name: (name.lower(), unary(name)) for name in ("Sin", "Cos", "Tan", "Asin", "Acos", "Atan")},
    **{name: (name.lower(), unary(name)) for name in ("Sinh", "Cosh", "Asinh", "Acosh", "Atanh")},
}
NO_OPERATOR = {"affine", "swish", "whole"}
"""Activations that are no operator of opset 20 by themselves: a layer's own scale and shift, Swish 24, a part of quantising."""


def test_every_activation_of_the_kernels_is_tried() -> None:
    assert {kind for kind, _ in BEHIND.values()} == set(ACTIVATIONS) - NO_OPERATOR


def conv(g: Graph) -> str:
    return g.add("Conv", "x", g.weights(CHANNELS, CHANNELS, 3, 3), g.weights(CHANNELS), pads=[1] * 4)


def depthwise(g: Graph) -> str:
    return g.add("Conv", "x", g.weights(CHANNELS, 1, 3, 3), group=CHANNELS)


def transposed(g: Graph) -> str:
    return g.add("ConvTranspose", "x", g.weights(CHANNELS, CHANNELS, 2, 2), strides=[2, 2])


def matmul(g: Graph) -> str:
    return g.add("MatMul", "x", g.weights(6, 6))


def gemm(g: Graph) -> str:
    return g.add("Gemm", g.add("Flatten", "x"), g.weights(CHANNELS * 36, 5), g.weights(5))


def norm(g: Graph) -> str:
    return g.norm("x")


def residual(g: Graph) -> str:
    return g.add("Add", conv(g), g.add("MaxPool", "x", kernel_shape=[3, 3], pads=[1] * 4))


HOSTS: dict[str, Callable[[Graph], str]] = {
    "Conv": conv,
    "depthwise Conv": depthwise,
    "ConvTranspose": transposed,
    "MatMul": matmul,
    "Gemm": gemm,
    "BatchNormalization": norm,
    "Add": residual,
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", BEHIND)
def test_activations_are_fused_behind_every_layer(name: str, host: str) -> None:
    """In the step of the layer, and with the numbers of the two apart."""
    kind, behind = BEHIND[name]
    g = Graph()
    before = HOSTS[host](g)
    layer = cnnengine.load(g.model(before), winograd=False)
    together = cnnengine.load(g.model(behind(g, before)), winograd=False)
    assert len(together._graph.nodes) == len(layer._graph.nodes)
    assert together._graph.nodes[-1].op.activation.kind == kind
    x = np.random.default_rng(3).standard_normal(SHAPE, np.float32)
    (plain,), (fused,) = layer.run(None, {"x": x}), together.run(None, {"x": x})
    expected = reference_activation(plain, together._graph.nodes[-1].op.activation)
    np.testing.assert_allclose(fused, expected, rtol=2e-5, atol=2e-5 if kind != "tan" else 1e-2)
    (segment,) = together._program.segments()
    (alone,) = layer._program.segments()
    assert len(segment.plan.reports) == len(alone.plan.reports)


def test_a_residual_sum_and_its_activation_are_one_step_with_the_convolution() -> None:
    g = Graph()
    y = g.add("Relu", g.add("Add", conv(g), "x"))
    model = cnnengine.load(g.model(y), winograd=False)
    model.run(None, {"x": np.ones(SHAPE, np.float32)})
    (segment,) = model._program.segments()
    kernels = [r.kernel.split()[0] for r in segment.plan.reports if not r.kernel.startswith("reorder")]
    assert kernels == ["conv"]


DECLINED: dict[str, Front] = {
    "Clip whose bounds cross": lambda g, x: g.add("Clip", x, g.constant(2.0), g.constant(1.0)),
    "Clip by NaN": lambda g, x: g.add("Clip", x, g.constant(np.nan)),
    "Clip by a bound that is computed": lambda g, x: g.add("Clip", x, g.add("ReduceMin", "x", keepdims=0)),
    "Celu with a negative alpha": unary("Celu", alpha=-0.5),
    "PRelu by channel": lambda g, x: g.add("PRelu", x, g.weights(CHANNELS, 1, 1)),
    "PRelu of two slopes": lambda g, x: g.add("PRelu", x, g.weights(6)),
    "Pow by several numbers": lambda g, x: g.add("Pow", x, g.weights(6)),
}


@pytest.mark.parametrize("name", DECLINED)
def test_what_kernels_cannot_do_stays_apart(name: str) -> None:
    g = Graph()
    before = conv(g)
    y = DECLINED[name](g, before)
    model = cnnengine.load(g.model(y))
    assert all(getattr(n.op, "activation", None) is None for n in model._graph.nodes if n.op.op_type == "Conv")
