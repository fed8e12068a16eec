"""The reason that a rewrite gives where it leaves nodes that its pattern nearly fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import Builder

import cnnengine
from cnnengine.ops.cast import CastLike
from cnnengine.ops.extend import Pad
from cnnengine.ops.transpose import Transpose
from cnnengine.rewrites import explaining, simplify
from cnnengine.spec import TensorSpec

Make = Callable[[Builder], tuple[str, ...]]


def _shared(b: Builder) -> tuple[str, ...]:
    y = b.node("Conv", b.input(2, 4, 5, 5), b.random(4, 4, 1, 1))
    return b.node("Mul", y, b.random(4, 1, 1)), b.node("Relu", y)


def _not_per_channel(b: Builder) -> tuple[str, ...]:
    return (b.node("Mul", b.node("Conv", b.input(2, 4, 5, 5), b.random(4, 4, 1, 1)), b.random(1, 1, 5, 5)),)


def _widened(b: Builder) -> tuple[str, ...]:
    return (b.node("Mul", b.node("Conv", b.input(2, 4, 5, 5), b.random(1, 4, 1, 1)), b.random(6, 1, 1)),)


def _no_zeros(b: Builder) -> tuple[str, ...]:
    pad = b.node(Pad("constant", (0, 0, 1, 1, 0, 0, 1, 1), 2.0), b.input(2, 4, 5, 5))
    return (b.node("Conv", pad, b.random(4, 4, 3, 3)),)


def _transposes_that_do_not_cancel(b: Builder) -> tuple[str, ...]:
    pad = b.node(Pad("constant", (0, 1, 1, 0, 0, 1, 1, 0)), b.node("Relu", b.input(2, 5, 5, 4)))
    return (b.node("Conv", b.node(Transpose((0, 3, 1, 2)), pad), b.random(4, 4, 3, 3)),)


def _pool_with_pads(b: Builder) -> tuple[str, ...]:
    pad = b.node(Pad("constant", (0, 0, 1, 1, 0, 0, 1, 1)), b.input(2, 4, 5, 5))
    return (b.node("AveragePool", pad, kernel_shape=(3, 3), pads=(1, 1, 1, 1)),)


def _wide_bias(b: Builder) -> tuple[str, ...]:
    return (b.node("Add", b.node("MatMul", b.input(2, 3, 4), b.random(4, 6)), b.random(3, 6)),)


def _gate_twice(b: Builder) -> tuple[str, ...]:
    x = b.node("Tanh", b.input(2, 3))
    return (b.node("Mul", b.node("Mul", x, b.constant(2.0)), b.node("Sigmoid", x)),)


def _wide_slope(b: Builder) -> tuple[str, ...]:
    x = b.node("Tanh", b.input(2, 3))
    negative = b.node("Mul", b.random(1, 2, 3), b.node("Relu", b.node("Neg", x)))
    return (b.node("Sub", b.node("Relu", x), negative),)


def _axes_in_between(b: Builder) -> tuple[str, ...]:
    x = b.input(2, 3, 4, 5)
    mean = b.node("ReduceMean", x, axes=(1, 2))
    centred = b.node("Sub", x, mean)
    variance = b.node("ReduceMean", b.node("Mul", centred, centred), axes=(1, 2))
    return (b.node("Div", centred, b.node("Sqrt", b.node("Add", variance, b.constant(1e-5)))),)


def _other_taps(b: Builder) -> tuple[str, ...]:
    x = b.node("Relu", b.input(2, 4, 6, 6))
    one = b.node("Conv", x, b.random(4, 4, 3, 3), pads=(1, 1, 1, 1), strides=(2, 2))
    two = b.node("Conv", x, b.random(4, 4, 2, 2), strides=(2, 2), dilations=(1, 1))
    return (b.node("Add", one, two),)


def _infinite(b: Builder) -> tuple[str, ...]:
    w = np.ones((4, 4, 1, 1), np.float32)
    w[0] = np.inf
    return (b.node("Mul", b.node("Conv", b.input(2, 4, 5, 5), b.constant(w)), b.random(4, 1, 1)),)


def _nothing_known(b: Builder) -> str:
    b.inputs["n"] = TensorSpec(np.dtype("V"), None)
    return "n"


def _transposes_of_any_rank(b: Builder) -> tuple[str, ...]:
    return (b.node(Transpose(), b.node(Transpose(), _nothing_known(b))),)


def _like_any_type(b: Builder) -> tuple[str, ...]:
    return (b.node(CastLike(), b.input(2, 3), _nothing_known(b)),)


AT_LOAD: list[tuple[str, Make, str]] = [
    ("fold_scale", _shared, "is read by others too"),
    ("fold_scale", _not_per_channel, "is not one float32 number per channel"),
    ("fold_scale", _widened, "is not one float32 number per channel"),
    ("fold_scale", _infinite, "are not finite"),
    ("fuse_pad", _no_zeros, "the Pad is not of zeros"),
    ("fuse_pad", _transposes_that_do_not_cancel, "the Transposes around the Pad do not cancel"),
    ("fuse_pad", _pool_with_pads, "its own pads stay out of the mean"),
    ("fuse_matmul", _wide_bias, "a constant of shape (3, 6) is not one number for each of 6 columns"),
    ("fuse_gates", _gate_twice, "Swish times 2"),
    ("fuse_prelu", _wide_slope, "a slope of shape (1, 2, 3) widens values of 2 axes"),
    ("fuse_layernorm", _axes_in_between, "no operator normalises over axes (1, 2)"),
    ("cancel_transposes", _transposes_of_any_rank, "the rank is not known"),
    ("resolve_castlike", _like_any_type, "the dtype of the other value is not known"),
    ("merge_branches", _other_taps, "do not lie on those of"),
]


@pytest.mark.parametrize(("rewrite", "make", "reason"), AT_LOAD, ids=[f"{r}{m.__name__}" for r, m, _ in AT_LOAD])
def test_what_is_left_at_load(rewrite: str, make: Make, reason: str) -> None:
    b = Builder()
    graph = b.graph(*make(b))
    with explaining() as found:
        simplify(graph)
    said = [d.reason for d in found.values() if d.rewrite == rewrite]
    assert len(said) == 1
    assert reason in said[0]


def test_what_is_fused_later_has_no_reason() -> None:
    """A scale is behind a bias that is behind a convolution: it is left once, and folded then."""
    b = Builder()
    y = b.node("Conv", b.input(2, 4, 5, 5), b.random(4, 4, 1, 1))
    graph = b.graph(b.node("Mul", b.node("Add", y, b.random(4, 1, 1)), b.random(4, 1, 1)))
    with explaining() as found:
        simplify(graph)
    assert not found


def model(nodes: list[onnx.NodeProto], shapes: dict[str, tuple[int, ...]], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


node = helper.make_node
AT_SHAPES = {
    "fuse_residuals, another shape": (
        [node("Relu", ["z"], ["b"]), node("Conv", ["x", "w"], ["a"]), node("Add", ["a", "b"], ["y"])],
        {"x": (2, 4, 5, 5), "z": (2, 4, 1, 1)},
        {"w": weights(4, 4, 1, 1)},
        "the operands have different shapes",
    ),
    "fuse_residuals, made later": (
        [node("Conv", ["x", "w"], ["a"]), node("Neg", ["a"], ["b"]), node("Add", ["a", "b"], ["y"])],
        {"x": (2, 4, 5, 5)},
        {"w": weights(4, 4, 1, 1)},
        "the other operand is made after a",
    ),
    "fuse_residuals, read twice": (
        [node("Conv", ["x", "w"], ["a"]), node("Add", ["a", "x"], ["b"]), node("Mul", ["a", "b"], ["y"])],
        {"x": (2, 4, 5, 5)},
        {"w": weights(4, 4, 1, 1)},
        "a is read elsewhere too",
    ),
    "fuse_affine, widened": (
        [node("Relu", ["x"], ["a"]), node("Mul", ["a", "s"], ["b"]), node("Add", ["b", "t"], ["y"])],
        {"x": (2, 1, 5, 5)},
        {"s": weights(4, 1, 1), "t": weights(4, 1, 1)},
        "a constant widens the tensor",
    ),
    "fuse_channels, computed": (
        [
            node("Cast", ["i"], ["j"], to=TensorProto.INT64),
            node("Relu", ["x"], ["a"]),
            node("Gather", ["a", "j"], ["y"], axis=1),
        ],
        {"x": (1, 8, 6, 6), "i": (3,)},
        {},
        "the positions are known only while it runs",
    ),
    "fuse_chains, small": (
        [
            node("Conv", ["x", "w"], ["a"]),
            node("Conv", ["a", "d"], ["b"], group=16, pads=[1, 1, 1, 1]),
            node("Neg", ["b"], ["y"]),
        ],
        {"x": (1, 8, 6, 6)},
        {"w": weights(16, 8, 1, 1), "d": weights(16, 1, 3, 3)},
        "the tensor between them has 2304 bytes an image",
    ),
    "fuse_gates_into_weights, few pixels": (
        [node("Sigmoid", ["g"], ["s"]), node("Mul", ["x", "s"], ["a"]), node("Conv", ["a", "w"], ["y"])],
        {"x": (1, 8, 3, 3), "g": (1, 8, 1, 1)},
        {"w": weights(8, 8, 1, 1)},
        "the weights for 8 channels are more than 9 pixels",
    ),
    "fuse_attention, read twice": (
        [
            node("Mul", ["q", "s"], ["a"]),
            node("MatMul", ["a", "k"], ["p"]),
            node("Add", ["p", "a"], ["y"]),
        ],
        {"q": (4, 3), "k": (3, 3)},
        {"s": np.float32(0.25)},
        "a is read elsewhere too",
    ),
    "fuse_softmax_products, another axis": (
        [node("MatMul", ["q", "k"], ["a"]), node("Softmax", ["a"], ["s"], axis=0), node("MatMul", ["s", "v"], ["y"])],
        {"q": (4, 3), "k": (3, 4), "v": (4, 5)},
        {},
        "the Softmax is not over the last axis",
    ),
    "fuse_channels_last, dilated": (
        [node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]), node("Conv", ["a", "w"], ["y"], dilations=[2, 2])],
        {"x": (1, 8, 8, 3)},
        {"w": weights(4, 3, 3, 3)},
        "the convolution has groups or dilations",
    ),
}


@pytest.mark.parametrize("case", AT_SHAPES)
def test_what_is_left_when_shapes_are_known(case: str) -> None:
    nodes, shapes, constants, reason = AT_SHAPES[case]
    with explaining() as found:
        cnnengine.load(model(nodes, shapes, constants)).run(None, {n: weights(*s) for n, s in shapes.items()})
    said = [d.reason for d in found.values() if d.rewrite == case.split(",")[0]]
    assert any(reason in r for r in said), said


@pytest.mark.parametrize("own", [(6,), (1, 6), (1,), (), (3, 6), (2, 1, 6), (2, 3, 1), (1, 1, 1, 6), (4, 2, 3, 6)])
@pytest.mark.parametrize("known", [True, False], ids=["rank known", "rank unknown"])
@pytest.mark.parametrize("front", [False, True])
def test_a_bias_of_any_size_behind_a_product(own: tuple[int, ...], known: bool, front: bool) -> None:
    """Whether the sum goes into the product or not, at load or when shapes are known, kernels give what NumPy gives."""
    x, w, c = weights(2, 3, 4), weights(4, 6), weights(*own)
    nodes = [node("MatMul", ["a", "w"], ["p"]), node("Add", ["c", "p"] if front else ["p", "c"], ["y"])]
    shapes = {"x": (2, 3, 4)}
    if known:
        nodes.insert(0, node("Neg", ["x"], ["a"]))
    else:
        nodes[:0] = [node("Shape", ["z"], ["s"]), node("Neg", ["x"], ["b"]), node("Reshape", ["b", "s"], ["a"])]
        shapes["z"] = (2, 3, 4)
    (y,) = cnnengine.load(model(nodes, shapes, {"w": w, "c": c})).run(None, dict.fromkeys(shapes, x))
    np.testing.assert_allclose(y, -x @ w + c, rtol=1e-5, atol=1e-5)
