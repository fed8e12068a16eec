"""merge_branches: added convolutions of one input become one, where their taps allow it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import Builder, kinds, same

import cnnengine
from cnnengine.operator import Activation
from cnnengine.ops.conv import Conv
from cnnengine.ops.norm import BatchNormalization
from cnnengine.report import summarize
from cnnengine.rewrites import simplify
from cnnengine.rewrites.merge_branches import merge_branches
from cnnengine.weights import Computed, Scaled, Summed


@pytest.fixture
def b() -> Builder:
    return Builder()


def conv(b: Builder, x: str, w: tuple[int, ...], bias: bool = True, **fields: Any) -> str:
    return b.node(Conv(**fields), x, b.random(*w), *([b.random(w[0])] if bias else []))


def batchnorm(b: Builder, x: str, c: int) -> str:
    return b.node(BatchNormalization(), x, b.random(c), b.random(c), b.random(c), b.constant(b.rng.uniform(0.5, 2, c)))


TWO = (2, 2)
PAIRS = [
    # the input, and weights and fields of two convolutions
    ((2, 4, 7, 8), ((6, 4, 3, 3), {"pads": (1, 1, 1, 1)}), ((6, 4, 1, 1), {})),
    ((2, 4, 7, 8), ((6, 4, 1, 1), {}), ((6, 4, 3, 3), {"pads": (1, 1, 1, 1)})),
    ((2, 4, 7, 8), ((6, 4, 3, 3), {"pads": (1, 1, 1, 1)}), ((6, 4, 3, 3), {"pads": (1, 1, 1, 1)})),
    ((2, 4, 9, 9), ((6, 4, 5, 5), {"pads": (2, 2, 2, 2)}), ((6, 4, 3, 3), {"pads": (1, 1, 1, 1)})),
    ((2, 4, 9, 9), ((6, 4, 3, 3), {"pads": (1, 1, 1, 1)}), ((6, 4, 1, 3), {"pads": (0, 1, 0, 1)})),
    ((2, 4, 9, 9), ((6, 4, 3, 3), {"pads": (2, 1, 0, 1)}), ((6, 4, 1, 1), {})),  # the 1x1 meets the last row of the kernel
    ((2, 4, 9, 8), ((6, 4, 3, 3), {"pads": (1, 1, 1, 1), "strides": (2, 2)}), ((6, 4, 1, 1), {"strides": (2, 2)})),
    ((2, 4, 9, 8), ((6, 2, 3, 3), {"pads": (1, 1, 1, 1), "group": 2}), ((6, 2, 1, 1), {"group": 2})),
    ((2, 6, 9, 8), ((6, 1, 3, 3), {"pads": (1, 1, 1, 1), "group": 6}), ((6, 1, 1, 1), {"group": 6})),
    ((2, 4, 9, 9), ((6, 4, 3, 3), {"pads": (2, 2, 2, 2), "dilations": (2, 2)}), ((6, 4, 1, 1), {})),
    ((1, 2, 9, 9), ((6, 2, 5, 5), {"pads": (4,) * 4, "dilations": TWO}), ((6, 2, 3, 3), {"pads": (2,) * 4, "dilations": TWO})),
    ((2, 4, 9), ((6, 4, 3), {"pads": (1, 1)}), ((6, 4, 1), {})),
    ((1, 4, 5, 6, 7), ((6, 4, 3, 3, 3), {"pads": (1,) * 6}), ((6, 4, 1, 1, 1), {"pads": (0,) * 6})),
    ((2, 4, 7, 8), ((6, 4, 3, 3), {"auto_pad": "VALID"}), ((6, 4, 3, 3), {"kernel_shape": (3, 3)})),
]


@pytest.mark.parametrize("bias", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize(("x", "first", "second"), PAIRS)
def test_two_convolutions_are_one(b: Builder, x: Any, first: Any, second: Any, bias: tuple[bool, bool]) -> None:
    source = b.input(*x)
    branches = [conv(b, source, w, with_bias, **fields) for (w, fields), with_bias in zip((first, second), bias, strict=True)]
    before = b.graph(b.node("Add", *branches))
    after = merge_branches(before)
    assert kinds(after) == ["Conv"]
    same(b, before, after)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("x", "w", "fields"),
    [
        ((2, 6, 7, 8), (6, 6, 3, 3), {"pads": (1, 1, 1, 1)}),
        ((2, 6, 7, 8), (6, 6, 1, 1), {}),
        ((2, 6, 7, 8), (6, 2, 3, 3), {"pads": (1, 1, 1, 1), "group": 3}),
        ((2, 6, 7, 8), (6, 1, 5, 5), {"pads": (2, 2, 2, 2), "group": 6}),
        ((2, 6, 7, 8), (6, 6, 3, 3), {"pads": (2, 2, 2, 2), "dilations": (2, 2)}),
        ((2, 6, 7), (6, 6, 3), {"pads": (1, 1)}),
    ],
)
def test_a_batchnorm_of_the_input_joins(b: Builder, x: Any, w: Any, fields: Any, swapped: bool) -> None:
    source = b.input(*x)
    branches = [conv(b, source, w, **fields), batchnorm(b, source, 6)]
    before = b.graph(b.node("Add", *(branches[::-1] if swapped else branches)))
    after = merge_branches(before)
    assert kinds(after) == ["Conv"]
    same(b, before, after, 1e-5)


def near_misses() -> list[Any]:
    same_pad = {"pads": (1, 1, 1, 1)}
    large, small = ((6, 4, 3, 3), same_pad), ((6, 4, 1, 1), {})
    return [
        (large, ((6, 4, 1, 1), {"pads": (1, 1, 1, 1)})),  # larger
        (large, ((1, 4, 1, 1), {})),  # broadcast over the channels
        (((6, 4, 3, 3), same_pad | {"strides": (2, 2)}), ((6, 4, 2, 2), {"strides": (2, 2)})),  # other extents for odd inputs
        (large, ((6, 2, 1, 1), {"group": 2})),
        (((6, 4, 3, 3), {"auto_pad": "SAME_UPPER"}), small),
        (((6, 4, 3, 3), {"pads": (2, 2, 2, 2), "dilations": (2, 2)}), ((6, 4, 3, 3), same_pad)),  # between the taps
        (((6, 4, 2, 2), {"pads": (1, 1, 0, 0)}), ((6, 4, 2, 2), {"pads": (0, 0, 1, 1)})),  # outside of the taps
        (((6, 4, 3, 3), same_pad | {"activation": Activation("clip", 0.0, 6.0)}), small),
    ]


@pytest.mark.parametrize("case", range(len(near_misses())))
def test_near_misses_stay(b: Builder, case: int) -> None:
    source = b.input(2, 4, 8, 8)
    before = b.graph(b.node("Add", *(conv(b, source, w, **fields) for w, fields in near_misses()[case])))
    assert merge_branches(before) is before


@pytest.mark.parametrize(
    "outputs",
    [
        lambda b, y, p: (b.node("Add", y, p), p),  # an output of the graph
        lambda b, y, p: (b.node("Add", y, p), b.node("Relu", y)),  # another reader
        lambda b, y, p: (b.node("Mul", y, p),),
        lambda b, y, p: (b.node("Add", y, y),),
        lambda b, y, p: (b.node("Add", y, b.node("Relu", p)),),
        lambda b, y, p: (b.node("Add", y, conv(b, b.input(2, 4, 8, 8, name="z"), (6, 4, 1, 1))),),  # of another input
    ],
)
def test_what_others_need_stays(b: Builder, outputs: Any) -> None:
    x = b.input(2, 4, 8, 8)
    before = b.graph(*outputs(b, conv(b, x, (6, 4, 3, 3), pads=(1, 1, 1, 1)), conv(b, x, (6, 4, 1, 1))))
    assert merge_branches(before) is before


@pytest.mark.parametrize(
    ("w", "fields"),
    [
        ((6, 6, 3, 3), {"pads": (1, 1, 1, 1), "strides": (2, 2)}),
        ((6, 6, 3, 3), {}),
        ((1, 6, 3, 3), {"pads": (1, 1, 1, 1)}),
    ],
)
def test_a_batchnorm_beside_other_channels_or_extents_stays(b: Builder, w: Any, fields: Any) -> None:
    x = b.input(2, 6, 8, 8)
    before = b.graph(b.node("Add", conv(b, x, w, **fields), batchnorm(b, x, 6)))
    assert merge_branches(before) is before


@pytest.mark.parametrize("large", [1e38, np.inf, np.nan])
def test_sums_beyond_float32_stay_two(b: Builder, large: float) -> None:
    x = b.input(1, 2, 5, 5)
    w, v = np.ones((2, 2, 3, 3), np.float32), np.full((2, 2, 1, 1), 3.0, np.float32)
    w[0, 0], v[0, 0] = 3e38, large
    y = b.node(Conv(pads=(1, 1, 1, 1)), x, b.constant(w))
    before = b.graph(b.node("Add", y, b.node(Conv(), x, b.constant(v))))
    assert merge_branches(before) is before


def repvgg_block(b: Builder, x: str, c: int) -> str:
    """Three branches as RepVGG trains them, each with its own normalization."""
    wide = batchnorm(b, conv(b, x, (c, c, 3, 3), False, pads=(1, 1, 1, 1)), c)
    pointwise = batchnorm(b, conv(b, x, (c, c, 1, 1), False), c)
    return b.node("Relu", b.node("Add", b.node("Add", pointwise, wide), batchnorm(b, x, c)))


@pytest.mark.parametrize("c", [8, 96])
def test_a_repvgg_block_is_one_convolution(b: Builder, c: int) -> None:
    x = b.input(1, c, 12, 12)
    before = b.graph(repvgg_block(b, repvgg_block(b, x, c), c))
    after = simplify(before)
    assert kinds(after) == ["Conv", "Conv"]
    assert all(node.op.activation == Activation("clip", 0.0, np.inf) for node in after.nodes)
    weights = [after.constants[node.inputs[1]] for node in after.nodes]
    assert all(isinstance(w, Computed) == (c == 96) for w in weights), "large sums are not kept, small ones are"
    same(b, before, after, 1e-4)


def test_summed_weights_are_arrays_for_numpy() -> None:
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((6, 4, 3, 3)).astype(np.float32), rng.standard_normal((6, 4, 1, 1)).astype(np.float32)
    part = (slice(None), slice(None), slice(1, 2), slice(1, 2))
    want = w.copy()
    want[:, :, 1:2, 1:2] += v
    for source, added in ((w, v), (Scaled(w, np.ones((6, 1, 1, 1))), v), (w, Scaled(v, np.float64(1)))):
        lazy = Summed(source, part, added)
        assert (lazy.shape, lazy.dtype, lazy.ndim, lazy.size, lazy.nbytes) == (w.shape, w.dtype, 4, w.size, w.nbytes)
        np.testing.assert_array_equal(np.asarray(lazy), want)
        np.testing.assert_array_equal(lazy[1], want[1])
        np.testing.assert_array_equal(lazy.reshape(-1), want.reshape(-1))
        assert np.asarray(lazy, np.float64).dtype == np.float64
    assert not np.shares_memory(np.asarray(Summed(w, part, v)), w)


def test_a_model_of_branches(isa: str, threads: int) -> None:
    """An inner tensor that is asked for keeps its branch; else there is one convolution, of the same numbers."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((96, 64, 3, 3)) / 24, "v": rng.standard_normal((96, 64, 1, 1)) / 8}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], name="wide"),
            helper.make_node("Conv", ["x", "v"], ["p"], name="point"),
            helper.make_node("Add", ["a", "p"], ["y"]),
        ],
        "branches",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 18, 18])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    x = rng.standard_normal((1, 64, 18, 18)).astype(np.float32)
    with cnnengine.load(model, threads=threads) as merged, cnnengine.load(model, threads=threads, outputs=["y", "a"]) as apart:
        assert [layer.operator for layer in summarize(merged).layers] == ["Conv"]
        y, a = apart.run(["y", "a"], {"x": x})
        point = np.einsum("oc,nchw->nohw", weights["v"][:, :, 0, 0], x)
        np.testing.assert_allclose(y - a, point, atol=1e-4)
        np.testing.assert_allclose(merged(x), y, atol=1e-5 * np.abs(y).max())
