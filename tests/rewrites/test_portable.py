"""The rewrites of PORTABLE: before == after, and that they did something where they should and nothing where they must not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from support import F32, Builder, kinds, same

from cnnengine import ops
from cnnengine.errors import LimitError
from cnnengine.graph import Graph, Node
from cnnengine.operator import Activation
from cnnengine.ops.cast import Cast, CastLike
from cnnengine.ops.constant import ConstantOfShape
from cnnengine.ops.control import If, Loop
from cnnengine.ops.extend import Pad
from cnnengine.ops.norm import LayerNormalization
from cnnengine.ops.sequence import SequenceAt, SplitToSequence
from cnnengine.ops.shape import Dropout, Identity, Reshape, Shape
from cnnengine.ops.transpose import Transpose
from cnnengine.rewrites import simplify
from cnnengine.rewrites.bind_constants import bind_constants
from cnnengine.rewrites.cancel_transposes import cancel_transposes
from cnnengine.rewrites.channels_first import channels_first
from cnnengine.rewrites.common_subexpressions import common_subexpressions
from cnnengine.rewrites.dead_code import dead_code
from cnnengine.rewrites.fold_batchnorm import fold_batchnorm
from cnnengine.rewrites.fold_constants import fold_constants
from cnnengine.rewrites.fold_scale import fold_scale
from cnnengine.rewrites.fold_sequences import fold_sequences
from cnnengine.rewrites.fuse_gates import fuse_gates
from cnnengine.rewrites.fuse_matmul import fuse_matmul
from cnnengine.rewrites.fuse_pad import fuse_pad
from cnnengine.rewrites.global_pool import global_pool
from cnnengine.rewrites.inline_if import inline_if
from cnnengine.rewrites.merge_activation import merge_activation
from cnnengine.rewrites.remove_identity import remove_identity
from cnnengine.rewrites.resolve_castlike import resolve_castlike
from cnnengine.rewrites.sum_as_add import sum_as_add
from cnnengine.spec import TensorSpec


@pytest.fixture
def b() -> Builder:
    return Builder()


# remove_identity


def test_identities_go(b: Builder) -> None:
    x = b.input(2, 3)
    y = b.node(Identity(), x)
    y = b.node("Relu", y)
    y = b.node(Cast(F32), b.node(Dropout(), y))
    y = b.node(Transpose((0, 1)), y)
    y = b.node(Reshape((0, 0)), y)
    y = b.node(Pad("constant", (0, 0, 0, 0)), y)
    y = b.node("Tanh", y)
    before = b.graph(y)
    after = remove_identity(before)
    assert kinds(after) == ["Relu", "Tanh"]
    same(b, before, after)


def test_an_output_keeps_its_name(b: Builder) -> None:
    x = b.input(2, 3)
    r = b.node("Relu", x)
    y = b.node(Identity(), r)
    z = b.node(Identity(), r)
    p = b.node(Identity(), x)
    d = b.node(Dropout(), x)
    before = b.graph(y, z, p, d)
    after = remove_identity(before)
    same(b, before, after)
    assert kinds(after).count("Relu") == 1
    assert remove_identity(after) is after


def test_an_output_that_is_another_output_keeps_both_names(b: Builder) -> None:
    r = b.node("Relu", b.input(2, 3))
    before = b.graph(r, b.node(Dropout(), r), b.node(Cast(F32), r))
    after = remove_identity(before)
    assert kinds(after) == ["Relu", "Identity", "Identity"]
    same(b, before, after)


def test_what_does_something_stays(b: Builder) -> None:
    x = b.input(2, 3)
    y = b.node(Cast(np.dtype(np.int64)), x)
    z = b.node(Reshape((0, -1)), x)
    t = b.node(Transpose((1, 0)), x)
    w = b.node(Reshape((0, 0), allowzero=1), b.input(0, 0, name="e"))
    before = b.graph(y, z, t, w)
    assert remove_identity(before) is before


def test_dropout_mask_stays(b: Builder) -> None:
    x = b.input(2, 3)
    b.node(Dropout("bool"), x, outputs=("y", "mask"))
    before = b.graph("y", "mask")
    assert remove_identity(before) is before


# resolve_castlike


def test_castlike_of_a_known_dtype_is_a_cast(b: Builder) -> None:
    x = b.input(2, 3)
    c = b.node(CastLike(), b.constant(2, np.int64), x)
    before = b.graph(b.node("Mul", x, c))
    assert kinds(resolve_castlike(before)) == ["Cast", "Mul"]
    after = simplify(before)
    assert kinds(after) == ["Mul"]
    same(b, before, after)


def test_castlike_of_an_unknown_dtype_stays(b: Builder) -> None:
    b.inputs["n"] = TensorSpec(np.dtype("V"), None)
    before = b.graph(b.node(CastLike(), b.input(2, 3), "n"))
    assert resolve_castlike(before) is before


# sum_as_add


def test_sums_are_additions(b: Builder) -> None:
    x, y = b.input(2, 3), b.input(2, 3)
    before = b.graph(b.node("Relu", b.node("Sum", x, y, b.constant([1.5, 2.5, -3.0]), x)), b.node("Sum", x, y))
    after = sum_as_add(before)
    assert kinds(after) == ["Add", "Add", "Add", "Relu", "Add"]
    same(b, before, after)
    assert kinds(simplify(before)) == ["Add", "Add", "Add", "Add"]


def test_other_sums_stay(b: Builder) -> None:
    x = b.input(2, 3)
    b.inputs["d"] = TensorSpec(np.dtype(np.float64), (2, 3))
    before = b.graph(b.node("Sum", x), b.node("Sum", "d", "d"))
    assert sum_as_add(before) is before


# fold_constants


def test_constants_fold(b: Builder) -> None:
    x = b.input(2, 3)
    c = b.node("Mul", b.constant([2.0]), b.constant([3.0, 4.0, 5.0]))
    before = b.graph(b.node("Add", x, b.node("Relu", c)))
    after = fold_constants(before)
    assert kinds(after) == ["Add"]
    same(b, before, after)


def test_huge_results_are_not_stored(b: Builder) -> None:
    shape = b.constant([1 << 14, 1 << 13], np.int64)
    before = b.graph(b.node(ConstantOfShape(), shape))
    assert fold_constants(before) is before


def test_what_no_limit_allows_is_said(b: Builder) -> None:
    before = b.graph(b.node(ConstantOfShape(), b.constant([1 << 30, 1 << 30], np.int64)))
    with pytest.raises(LimitError, match="tensor_bytes"):
        fold_constants(before)


def test_failing_nodes_stay(b: Builder) -> None:
    before = b.graph(b.node(Reshape(), b.constant([1.0, 2.0]), b.constant([3], np.int64)))
    assert fold_constants(before) is before


# dead_code


def test_dead_code_goes(b: Builder) -> None:
    x = b.input(2, 3)
    b.node("Tanh", b.node("Relu", x))
    b.random(3)
    y = b.node("Sigmoid", x)
    before = b.graph(y)
    after = dead_code(before)
    assert kinds(after) == ["Sigmoid"]
    assert not after.constants
    same(b, before, after)
    assert dead_code(after) is after


# common_subexpressions


def test_equal_nodes_merge(b: Builder) -> None:
    x = b.input(2, 3)
    p = b.node("Add", b.node("Relu", x), b.constant([1.0]))
    q = b.node("Add", b.node("Relu", x), b.constant([1.0]))
    before = b.graph(b.node("Mul", p, q))
    after = common_subexpressions(before)
    assert kinds(after) == ["Relu", "Add", "Mul"]
    same(b, before, after)


def test_different_nodes_do_not_merge(b: Builder) -> None:
    x = b.input(2, 3)
    p, q = b.node("LeakyRelu", x, alpha=0.1), b.node("LeakyRelu", x, alpha=0.2)
    r, s = b.node("Add", x, b.constant([1.0])), b.node("Add", x, b.constant(1.0))
    before = b.graph(b.node("Mul", b.node("Mul", p, q), b.node("Mul", r, s)))
    assert common_subexpressions(before) is before


def test_equal_outputs_both_stay(b: Builder) -> None:
    x = b.input(2, 3)
    before = b.graph(b.node("Relu", x), b.node("Relu", x))
    same(b, before, common_subexpressions(before))


# channels_first


LAST, FIRST = Transpose((0, 2, 3, 1)), Transpose((0, 3, 1, 2))


def test_a_block_between_transposes_is_convolutions(b: Builder) -> None:
    """ConvNeXt's block: no transpose, no matmul and no addition of its own is left."""
    x = b.input(2, 6, 3, 4)
    y = b.node(LayerNormalization(-1, 1e-6), b.node(LAST, x), b.random(6), b.random(6))
    y = b.node("Add", b.node("MatMul", y, b.random(6, 8)), b.random(8))
    y = b.node("Relu", y)
    y = b.node("Add", b.random(5), b.node("MatMul", y, b.random(8, 5)))
    y = b.node("Mul", b.node(FIRST, y), b.random(5, 1, 1))
    before = b.graph(y)
    after = simplify(before)
    assert kinds(after) == ["ChannelLayerNorm", "Conv", "Conv"]
    same(b, before, after)


@pytest.mark.parametrize(
    "node",
    [
        lambda b, t: b.node("Tanh", t),
        lambda b, t: b.node("Clip", t, b.constant(-0.5), b.constant(0.25)),
        lambda b, t: b.node("Sub", b.random(6), t),
        lambda b, t: b.node("Div", t, b.constant([[[[2.0]]]])),
        lambda b, t: b.node("Mul", t, b.random(1, 1, 6)),
        lambda b, t: b.node("Add", t, b.node(LAST, b.input(2, 6, 3, 4, name="y"))),
        lambda b, t: b.node(LayerNormalization(3), t, b.random(6)),
    ],
)
def test_one_node_between_transposes(b: Builder, node: Any) -> None:
    before = b.graph(b.node(FIRST, node(b, b.node(LAST, b.input(2, 6, 3, 4)))))
    after = simplify(before)
    assert "Transpose" not in kinds(after)
    same(b, before, after)


@pytest.mark.parametrize(
    "node",
    [
        lambda b, t: b.node("Add", t, b.random(3, 4, 6)),
        lambda b, t: b.node("Add", t, b.random(4, 1)),
        lambda b, t: b.node("Add", t, b.random(1, 1, 1, 1, 6)),
        lambda b, t: b.node("Add", t, b.input(2, 3, 4, 6, name="y")),
        lambda b, t: b.node("Add", t, t),
        lambda b, t: b.node("Add", t, b.node("Relu", t)),
        lambda b, t: b.node("MatMul", t, b.input(6, 5, name="y")),
        lambda b, t: b.node("MatMul", t, b.random(2, 3, 6, 5)),
        lambda b, t: b.node("MatMul", b.random(5, 4), t),
        lambda b, t: b.node(LayerNormalization(2), t, b.random(4, 6)),
        lambda b, t: b.node(LayerNormalization(-1), t, b.input(6, name="y")),
        lambda b, t: b.node(LayerNormalization(-1), t, b.constant([2.0])),
        lambda b, t: b.node("Softmax", t),
    ],
)
def test_what_needs_its_channels_last(b: Builder, node: Any) -> None:
    before = b.graph(node(b, b.node(LAST, b.input(2, 6, 3, 4))))
    after = channels_first(before)
    assert after is before


def test_other_transposes_stay(b: Builder) -> None:
    for perm in ((0, 3, 1, 2), (0, 1, 3, 2), (3, 0, 1, 2)):
        before = b.graph(b.node("Relu", b.node(Transpose(perm), b.input(2, 6, 3, 4))))
        assert channels_first(before) is before
    before = b.graph(b.node("Relu", b.node(Transpose((0, 2, 1)), b.input(2, 6, 3))))
    assert channels_first(before) is before


# cancel_transposes


def test_transposes_cancel(b: Builder) -> None:
    x = b.input(2, 3, 4, 5)
    y = b.node(Transpose((0, 3, 1, 2)), b.node("Relu", b.node(Transpose((0, 2, 3, 1)), b.node(Transpose((0, 2, 3, 1)), x))))
    z = b.node(Transpose(), b.node(Transpose(), x))
    w = b.node(Transpose((1, 2, 3, 0)), b.node(Transpose((3, 0, 1, 2)), x))
    before = b.graph(y, b.node("Relu", z), b.node("Relu", w))
    after = simplify(before)
    assert kinds(after).count("Transpose") == 2  # around the first Relu, the first two made one
    same(b, before, after)


def test_two_transposes_become_one(b: Builder) -> None:
    x = b.input(2, 3, 4)
    before = b.graph(b.node(Transpose((1, 2, 0)), b.node(Transpose((0, 2, 1)), x)))
    after = dead_code(cancel_transposes(before))
    assert kinds(after) == ["Transpose"]
    same(b, before, after)


# fold_batchnorm and fold_scale


def batchnorm(b: Builder, y: str, c: int) -> str:
    values = [b.random(c), b.random(c), b.random(c), b.constant(b.rng.uniform(0.5, 2, c))]
    return b.node("BatchNormalization", y, *values, epsilon=1e-3)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2])
def test_batchnorm_folds_into_conv(b: Builder, bias: bool, group: int) -> None:
    x = b.input(2, 4, 5, 5)
    y = b.node("Conv", x, b.random(6, 4 // group, 3, 3), *([b.random(6)] if bias else []), kernel_shape=(3, 3), group=group)
    before = b.graph(batchnorm(b, y, 6))
    after = fold_batchnorm(before)
    assert kinds(after) == ["Conv"]
    same(b, before, after)


@pytest.mark.parametrize("group", [1, 2])
def test_batchnorm_folds_into_conv_transpose(b: Builder, group: int) -> None:
    x = b.input(2, 4, 5, 5)
    y = b.node("ConvTranspose", x, b.random(4, 6 // group, 3, 3), b.random(6), kernel_shape=(3, 3), group=group)
    before = b.graph(batchnorm(b, y, 6))
    after = fold_batchnorm(before)
    assert kinds(after) == ["ConvTranspose"]
    same(b, before, after)


@pytest.mark.parametrize("transposed", [0, 1])
def test_batchnorm_folds_into_gemm(b: Builder, transposed: int) -> None:
    x = b.input(2, 4)
    w = b.random(6, 4) if transposed else b.random(4, 6)
    y = b.node("Gemm", x, w, b.random(1, 6), transB=transposed, alpha=0.5, beta=2.0)
    before = b.graph(batchnorm(b, y, 6))
    after = fold_batchnorm(before)
    assert kinds(after) == ["Gemm"]
    same(b, before, after)


def test_batchnorm_stays_when_the_plain_result_is_needed(b: Builder) -> None:
    x = b.input(2, 4, 5, 5)
    y = b.node("Conv", x, b.random(6, 4, 3, 3), kernel_shape=(3, 3))
    n = batchnorm(b, y, 6)
    for outputs in ((n, y), (n, b.node("Relu", y))):
        before = b.graph(*outputs)
        assert fold_batchnorm(before) is before


def test_a_hopeless_variance_is_left_alone(b: Builder) -> None:
    x = b.input(2, 4, 5, 5)
    y = b.node("Conv", x, b.random(2, 4, 3, 3), kernel_shape=(3, 3))
    before = b.graph(b.node("BatchNormalization", y, b.random(2), b.random(2), b.random(2), b.constant([-1.0, 1.0])))
    assert fold_batchnorm(before) is before


@pytest.mark.parametrize("kind", ["Mul", "Div", "Add", "Sub"])
@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (1,), ()])
def test_scales_fold(b: Builder, kind: str, shape: tuple[int, ...]) -> None:
    x = b.input(2, 4, 5, 5)
    y = b.node("Conv", x, b.random(6, 4, 3, 3), b.random(6), kernel_shape=(3, 3))
    before = b.graph(b.node(kind, y, b.random(*shape)))
    after = fold_scale(before)
    assert kinds(after) == ["Conv"]
    same(b, before, after, 1e-4)


def test_scales_from_the_left_fold(b: Builder) -> None:
    x = b.input(2, 4)
    y = b.node("Gemm", x, b.random(4, 6))
    before = b.graph(b.node("Add", b.random(6), b.node("Mul", b.random(1, 6), y)))
    after = simplify(before)
    assert kinds(after) == ["Gemm"]
    same(b, before, after)


@pytest.mark.parametrize("shape", [(3,), (1, 1, 3, 3), (2, 1, 1, 1), (1, 1, 1, 1, 1)])
def test_other_constants_do_not_fold(b: Builder, shape: tuple[int, ...]) -> None:
    x = b.input(2, 4, 5, 5)
    y = b.node("Conv", x, b.random(3, 4, 3, 3), kernel_shape=(3, 3))
    before = b.graph(b.node("Mul", y, b.random(*shape)))
    assert fold_scale(before) is before


def test_constant_minus_and_over_do_not_fold(b: Builder) -> None:
    x = b.input(2, 4)
    y, z = b.node("Gemm", x, b.random(4, 6)), b.node("Gemm", x, b.random(4, 6))
    before = b.graph(b.node("Sub", b.random(6), y), b.node("Div", b.random(6), z))
    assert fold_scale(before) is before


# merge_activation

ACTIVATIONS = [
    ("Relu", {}, (), Activation("clip", 0.0, math.inf)),
    ("Clip", {}, (0.0, 6.0), Activation("clip", 0.0, 6.0)),
    ("LeakyRelu", {"alpha": 0.25}, (), Activation("leaky_relu", 0.25)),
    ("PRelu", {}, (0.125,), Activation("leaky_relu", 0.125)),
    ("Sigmoid", {}, (), Activation("sigmoid")),
    ("Tanh", {}, (), Activation("tanh")),
    ("Swish", {}, (), Activation("silu")),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, (), None),
    ("HardSwish", {}, (), Activation("hard_swish")),
    ("Elu", {"alpha": 0.5}, (), Activation("elu", 0.5)),
    ("Selu", {}, (), None),
    ("Celu", {"alpha": 0.5}, (), Activation("celu", 0.5)),
    ("Gelu", {}, (), Activation("gelu")),
    ("Gelu", {"approximate": "tanh"}, (), Activation("gelu_tanh")),
    ("Mish", {}, (), Activation("mish")),
    ("Softplus", {}, (), Activation("softplus")),
    ("Softsign", {}, (), Activation("softsign")),
]


@pytest.mark.parametrize(("kind", "fields", "operands", "expected"), ACTIVATIONS)
@pytest.mark.parametrize("host", ["Conv", "Gemm", "Add", "BatchNormalization"])
def test_activations_merge(b: Builder, host: str, kind: str, fields: dict, operands: tuple, expected: Activation | None) -> None:
    if host == "Conv":
        y = b.node("Conv", b.input(2, 4, 5, 5), b.random(6, 4, 3, 3), b.random(6), kernel_shape=(3, 3))
    elif host == "Gemm":
        y = b.node("Gemm", b.input(2, 4), b.random(4, 6))
    elif host == "Add":
        y = b.node("Add", b.input(2, 4), b.input(2, 4, name="z"))
    else:
        y = batchnorm(b, b.input(2, 4, 5, 5), 4)
    before = b.graph(b.node(kind, y, *[b.constant(v) for v in operands], **fields))
    after = merge_activation(before)
    assert kinds(after) == [host]
    assert expected is None or after.nodes[0].op.activation == expected
    same(b, before, after, 1e-4)


def test_one_activation_only(b: Builder) -> None:
    x = b.input(2, 4)
    before = b.graph(b.node("Tanh", b.node("Relu", b.node("Add", x, x))))
    after = simplify(before)
    assert kinds(after) == ["Add", "Tanh"]
    same(b, before, after)


def test_activation_stays_when_the_plain_result_is_needed(b: Builder) -> None:
    x = b.input(2, 4)
    y = b.node("Add", x, x)
    r = b.node("Relu", y)
    before = b.graph(r, y)
    assert merge_activation(before) is before
    before = b.graph(b.node("Mul", r, y))
    assert merge_activation(before) is before


def test_only_float32_merges(b: Builder) -> None:
    b.inputs["n"] = TensorSpec(np.dtype(np.int64), (None,))
    b.feeds["n"] = np.array([-3, 4])
    before = b.graph(b.node("Relu", b.node("Add", "n", "n")))
    assert merge_activation(before) is before


def test_clip_with_unknown_or_crossed_bounds_stays(b: Builder) -> None:
    x, low = b.input(2, 4), b.input(name="low")
    before = b.graph(
        b.node("Clip", b.node("Add", x, x), low), b.node("Clip", b.node("Add", x, x), b.constant(2.0), b.constant(1.0))
    )
    assert merge_activation(before) is before


# fuse_gates


def hard_swish_clip(b: Builder, x: str, how: int) -> str:
    clipped = b.node("Clip", b.node("Add", b.constant(3.0), x), b.constant(0.0), b.constant(6.0))
    if how == 0:
        return b.node("Div", b.node("Mul", x, clipped), b.constant(6.0))
    if how == 1:
        return b.node("Mul", b.node("Div", clipped, b.constant(6.0)), x)
    return b.node("Mul", b.node("Mul", clipped, b.constant(1 / 6)), x)


def gelu(b: Builder, x: str, how: int, root: float = math.sqrt(0.5), half: float = 0.5) -> str:
    if how % 2:
        argument = b.node("Mul", x, b.constant(root))
    else:
        argument = b.node("Div", x, b.constant(1 / root))
    term = b.node("Add", b.node("Erf", argument), b.constant([1.0] if how % 3 else 1.0))
    if how < 2:
        return b.node("Mul", b.node("Mul", x, b.constant(half)), term)
    if how < 4:
        return b.node("Mul", b.node("Mul", x, term), b.constant(half))
    return b.node("Div", b.node("Mul", term, x), b.constant(1 / half))


def gelu_tanh(b: Builder, x: str, how: int, cubic: float = 0.044715, root: float = math.sqrt(2 / math.pi)) -> str:
    if how == 0:
        cube = b.node("Mul", b.node("Pow", x, b.constant(3.0)), b.constant(cubic))
    else:
        cube = b.node("Mul", b.constant(cubic), b.node("Mul", x, b.node("Mul", x, x)))
    if how < 2:
        argument = b.node("Mul", b.node("Add", x, cube), b.constant(root))
    else:
        inner = b.node("Add", b.constant(1.0), b.node("Mul", b.node("Mul", x, x), b.constant(cubic)))
        argument = b.node("Mul", b.node("Mul", b.constant(root), x), inner)
    return b.node("Mul", b.node("Mul", b.constant(0.5), x), b.node("Add", b.constant(1.0), b.node("Tanh", argument)))


GATES = [
    ("Swish", lambda b, x: b.node("Mul", x, b.node("Sigmoid", x))),
    ("Swish", lambda b, x: b.node("Mul", b.node("Sigmoid", x), x)),
    ("HardSwish", lambda b, x: b.node("Mul", x, b.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))),
    *[("HardSwish", lambda b, x, i=i: hard_swish_clip(b, x, i)) for i in range(3)],
    *[("Gelu", lambda b, x, i=i: gelu(b, x, i)) for i in range(6)],
    *[("Gelu", lambda b, x, i=i: gelu_tanh(b, x, i)) for i in range(3)],
    ("Mish", lambda b, x: b.node("Mul", x, b.node("Tanh", b.node("Softplus", x)))),
]


@pytest.mark.parametrize("case", range(len(GATES)))
def test_gates_fuse(b: Builder, case: int) -> None:
    kind, make = GATES[case]
    before = b.graph(make(b, b.node("Tanh", b.input(3, 40))))
    after = dead_code(fuse_gates(before))
    assert kinds(after) == ["Tanh", kind]
    same(b, before, after, 1e-5)


NOT_GATES = [
    lambda b, x: b.node("Mul", b.node("Relu", x), b.node("Sigmoid", x)),
    lambda b, x: b.node("Mul", b.node("Mul", x, b.constant(2.0)), b.node("Sigmoid", x)),
    lambda b, x: b.node("Mul", x, b.node("HardSigmoid", x)),
    lambda b, x: b.node(
        "Div",
        b.node("Mul", x, b.node("Clip", b.node("Add", x, b.constant(3.0)), b.constant(0.0), b.constant(5.0))),
        b.constant(6.0),
    ),
    lambda b, x: b.node("Mul", b.node("Mul", x, b.constant(0.5)), b.node("Add", b.node("Erf", x), b.constant(1.0))),
    lambda b, x: b.node("Div", b.node("Sigmoid", x), x),
    lambda b, x: b.node("Mul", x, b.node("Div", b.constant(6.0), b.node("Sigmoid", x))),
]


@pytest.mark.parametrize("case", range(len(NOT_GATES)))
def test_near_misses_do_not_fuse(b: Builder, case: int) -> None:
    before = b.graph(NOT_GATES[case](b, b.input(3, 4)))
    assert fuse_gates(before) is before


NEAR = 1 + 5e-5
"""Between what float32 makes of a constant (1e-7) and a constant of another formula: results show it."""
NEAR_GATES = [
    *[lambda b, x, n, i=i: gelu_tanh(b, x, i, cubic=0.044715 * n) for i in range(3)],
    *[lambda b, x, n, i=i: gelu_tanh(b, x, i, root=math.sqrt(2 / math.pi) * n) for i in range(3)],
    *[lambda b, x, n, i=i: gelu(b, x, i, root=math.sqrt(0.5) * n) for i in range(2)],
    *[lambda b, x, n, i=i: gelu(b, x, i, half=0.5 * n) for i in (0, 2, 4)],
    lambda b, x, n: b.node("Mul", x, b.node("HardSigmoid", x, alpha=n / 6, beta=0.5)),
]


@pytest.mark.parametrize("case", range(len(NEAR_GATES)))
def test_numbers_that_are_near_are_others(b: Builder, case: int) -> None:
    x = b.node("Tanh", b.input(3, 4))
    for factor in (NEAR, 1 / NEAR):
        before = b.graph(NEAR_GATES[case](b, x, factor))
        assert fuse_gates(before) is before
    after = fuse_gates(b.graph(NEAR_GATES[case](b, x, 1 + 1e-7)))
    assert kinds(after)[-1] in ("Gelu", "HardSwish")


@pytest.mark.parametrize("how", range(3))
def test_powers_that_are_no_cubes(b: Builder, how: int) -> None:
    x = b.node("Tanh", b.input(3, 4))
    power = b.node("Pow", x, b.constant(3.5 if how == 0 else 2.0))
    if how == 1:
        power = b.node("Mul", x, b.node("Mul", x, power))
    argument = b.node("Add", x, b.node("Mul", power, b.constant(0.044715)))
    argument = b.node("Mul", argument, b.constant(math.sqrt(2 / math.pi)))
    before = b.graph(b.node("Mul", b.node("Mul", b.constant(0.5), x), b.node("Add", b.constant(1.0), b.node("Tanh", argument))))
    assert fuse_gates(before) is before


# fuse_pad


def pad(b: Builder, x: str, how: str) -> str:
    if how == "attribute":
        return b.node(Pad("constant", (0, 0, 1, 2, 0, 0, 0, 1)), x)
    if how == "inputs":
        return b.node(Pad(), x, b.constant([0, 0, 1, 2, 0, 0, 0, 1], np.int64))
    return b.node(Pad(), x, b.constant([1, 2, 0, 1], np.int64), b.constant(0.0), b.constant([-2, 3], np.int64))


@pytest.mark.parametrize("how", ["attribute", "inputs", "axes"])
def test_pads_go_into_conv(b: Builder, how: str) -> None:
    y = b.node("Conv", pad(b, b.input(2, 4, 5, 5), how), b.random(6, 4, 3, 3), kernel_shape=(3, 3), pads=(1, 0, 0, 1))
    before = b.graph(y)
    after = dead_code(fuse_pad(before))
    assert kinds(after) == ["Conv"]
    assert after.nodes[0].op.pads == (2, 2, 0, 2)
    same(b, before, after)


def test_pads_go_into_average_pool(b: Builder) -> None:
    y = b.node("AveragePool", pad(b, b.input(2, 4, 5, 5), "axes"), kernel_shape=(3, 3))
    before = b.graph(y)
    after = dead_code(fuse_pad(before))
    assert kinds(after) == ["AveragePool"]
    assert after.nodes[0].op.count_include_pad == 1
    same(b, before, after)


def test_pads_that_must_stay(b: Builder) -> None:
    x, w = b.input(2, 4, 5, 5), b.random(6, 4, 3, 3)
    padded = [
        b.node(Pad("reflect", (0, 0, 1, 1, 0, 0, 1, 1)), x),
        b.node(Pad("constant", (0, 0, 1, 1, 0, 0, 1, 1), 2.0), x),
        b.node(Pad("constant", (0, 0, -1, 1, 0, 0, 1, 1)), x),
        b.node(Pad("constant", (1, 0, 1, 1, 0, 0, 1, 1)), x),
    ]
    outputs = [b.node("Conv", p, w, kernel_shape=(3, 3)) for p in padded]
    pooled = b.node("AveragePool", b.node(Pad("constant", (0, 0, 1, 1, 0, 0, 1, 1)), x), kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    before = b.graph(*outputs, pooled)
    assert fuse_pad(before) is before


AROUND = (0, 0, 1, 1, 0, 0, 1, 1)


@pytest.mark.parametrize(
    ("widths", "pool"),
    [
        (AROUND, {"kernel_shape": (3, 3), "strides": (3, 3), "ceil_mode": 1}),  # the last windows are cut
        (AROUND, {"kernel_shape": (1, 1)}),  # zeros alone, which no pool counts
        ((0, 0, 3, 0, 0, 0, 0, 0), {"kernel_shape": (3, 3)}),
        ((0, 0, 0, 0, 0, 0, 0, 3), {"kernel_shape": (3, 3)}),
        ((0, 1, 1, 1, 0, 0, 1, 1), {"kernel_shape": (3, 3)}),
        ((0, 0, 1, 1, 0, 2, 1, 1), {"kernel_shape": (3, 3)}),
        ((0, 0, 1, 1, 1, 0, 1, 1), {"kernel_shape": (3, 3)}),
        ((0, 0, 1, 1, 0, 0, -1, 1), {"kernel_shape": (3, 3)}),
        (AROUND, {"kernel_shape": (3, 3), "auto_pad": "SAME_UPPER", "strides": (2, 2)}),
    ],
)
@pytest.mark.parametrize("computed", [False, True])
def test_pads_that_must_stay_before_a_pool(b: Builder, widths: tuple[int, ...], pool: dict[str, Any], computed: bool) -> None:
    x = b.input(2, 4, 5, 5)
    padded = b.node(Pad(), x, b.constant(widths, np.int64)) if computed else b.node(Pad("constant", widths), x)
    before = b.graph(b.node("AveragePool", padded, **pool))
    assert fuse_pad(before) is before


def test_a_ceiling_cuts_where_the_pad_ends(b: Builder) -> None:
    """What the pads of the pool would be: a window of six elements, where the Pad's zeros make it nine."""
    padded = b.node(Pad("constant", (0, 0, 0, 0, 0, 0, 2, 2)), b.input(1, 1, 5, 5))
    before = b.graph(b.node("AveragePool", padded, kernel_shape=(3, 3), strides=(2, 2), ceil_mode=1))
    same(b, before, simplify(before))


def test_a_pad_that_others_read_stays_beside_the_pads_of_the_convolution(b: Builder) -> None:
    padded = b.node(Pad("constant", (0, 0, 1, 1, 0, 0, 1, 1)), b.input(2, 4, 5, 5))
    before = b.graph(b.node("Conv", padded, b.random(6, 4, 3, 3), kernel_shape=(3, 3)), b.node("Relu", padded))
    after = fuse_pad(before)
    assert kinds(after) == ["Pad", "Conv", "Relu"]
    assert after.nodes[1].inputs[0] == "x"
    same(b, before, after)


# global_pool


@pytest.mark.parametrize(("reduce", "pool"), [("ReduceMean", "GlobalAveragePool"), ("ReduceMax", "GlobalMaxPool")])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_spatial_reductions_are_global_pools(b: Builder, reduce: str, pool: str, keepdims: int, axes: tuple[int, ...]) -> None:
    x = b.node("Relu", b.input(2, 3, 4, 5))
    before = b.graph(b.node(reduce, x, b.constant(axes, np.int64), keepdims=keepdims))
    after = global_pool(before)
    assert kinds(after) == ["Relu", pool] + ["Flatten"] * (1 - keepdims)
    same(b, before, after)


def test_other_reductions_stay(b: Builder) -> None:
    x, y = b.input(2, 3, 4, 5), b.input(2, 3, name="y")
    before = b.graph(
        b.node("ReduceMean", x, b.constant([1, 2], np.int64)),
        b.node("ReduceMean", x),
        b.node("ReduceMean", y, b.constant([1], np.int64)),
    )
    assert global_pool(before) is before


# fuse_matmul


def test_matmul_and_bias_are_a_gemm(b: Builder) -> None:
    x = b.input(2, 4)
    before = b.graph(b.node("Add", b.random(6), b.node("MatMul", x, b.random(4, 6))))
    after = fuse_matmul(before)
    assert kinds(after) == ["Gemm"]
    same(b, before, after)


def test_a_batched_matmul_takes_its_bias(b: Builder) -> None:
    x = b.input(2, 3, 4)
    before = b.graph(
        b.node("Add", b.node("MatMul", x, b.random(4, 6)), b.random(6)),
        b.node("Add", b.random(1, 1, 6), b.node("MatMul", x, b.random(4, 6))),
    )
    after = fuse_matmul(before)
    assert kinds(after) == ["MatMul", "MatMul"]
    assert all(len(n.inputs) == 3 for n in after.nodes)
    same(b, before, after)


def test_other_sums_behind_a_matmul_stay(b: Builder) -> None:
    x, y = b.input(2, 3, 4), b.input(2, 4, name="y")
    before = b.graph(
        b.node("Add", b.node("MatMul", y, b.random(4, 6)), b.random(2, 6)),
        b.node("Add", b.node("MatMul", x, b.random(4, 6)), b.random(3, 6)),
        b.node("Add", b.node("MatMul", x, b.random(4, 6)), b.random(1, 1, 1, 6)),
        b.node("Add", b.node("MatMul", x, b.random(4, 6)), b.random(1)),
        b.node("Add", b.node("MatMul", x, b.random(2, 4, 6)), b.random(6)),
    )
    assert fuse_matmul(before) is before


def test_a_product_with_bias_is_turned_around_with_it(b: Builder) -> None:
    x = b.input(2, 4, 3, 5)
    y = b.node("MatMul", b.node(Transpose((0, 2, 3, 1)), x), b.random(4, 6))
    before = b.graph(b.node(Transpose((0, 3, 1, 2)), b.node("Add", b.random(6), y)))
    same(b, before, channels_first(fuse_matmul(before)))
    after = simplify(before)
    assert kinds(after) == ["Conv"]
    assert len(after.nodes[0].inputs) == 3
    same(b, before, after)


# fold_sequences and inline_if


def test_split_sequences_are_splits(b: Builder) -> None:
    x = b.input(2, 6)
    s = b.node(SplitToSequence(1), x, b.constant([2, 3, 1], np.int64))
    first, last = b.node(SequenceAt(), s, b.constant(0, np.int64)), b.node(SequenceAt(), s, b.constant(-1, np.int64))
    before = b.graph(b.node("Add", first, last))
    after = fold_sequences(before)
    assert kinds(after) == ["Split", "Add"]
    same(b, before, after)


def test_chunks_of_one_size_are_slices(b: Builder) -> None:
    x = b.input(2, 7)
    s = b.node(SplitToSequence(1), x, b.constant(3, np.int64))
    before = b.graph(*[b.node(SequenceAt(), s, b.constant(i, np.int64)) for i in range(3)])
    after = fold_sequences(before)
    assert kinds(after) == ["Slice"] * 3
    same(b, before, after)


def test_sequences_with_open_positions_stay(b: Builder) -> None:
    x, i = b.input(2, 6), b.input(name="i")
    s = b.node(SplitToSequence(1), x, b.constant([3, 3], np.int64))
    before = b.graph(b.node(SequenceAt(), s, i))
    assert fold_sequences(before) is before


def branch(op: str, value: float) -> Graph:
    inner = Builder()
    inner.inputs["x"] = TensorSpec(F32, None)
    y = inner.node(op, "x", inner.constant(value))
    return inner.graph(inner.node("Relu", y), "x")


@pytest.mark.parametrize("condition", [True, False])
def test_if_with_a_constant_condition_is_its_branch(b: Builder, condition: bool) -> None:
    x = b.input(2, 3)
    c = b.constant(condition, np.bool_)
    b.node(If(branch("Add", 2.0), branch("Mul", 3.0)), c, x, outputs=("p", "q"))
    b.node(If(branch("Add", 4.0), branch("Mul", 5.0)), c, "p", outputs=("r", ""))
    before = b.graph("p", "q", b.node("Tanh", "r"))
    after = inline_if(before)
    assert "If" not in kinds(after)
    assert kinds(after).count("Add") == 2 * condition
    same(b, before, after)


def test_if_with_an_open_condition_stays(b: Builder) -> None:
    x = b.input(2, 3)
    b.inputs["c"] = TensorSpec(np.dtype(np.bool_), ())
    b.node(If(branch("Add", 2.0), branch("Mul", 3.0)), "c", x, outputs=("p", "q"))
    before = b.graph("p")
    assert inline_if(before) is before


# simplify


def test_simplify_settles(b: Builder) -> None:
    x = b.input(2, 4, 7, 7)
    y = b.node(Identity(), x)
    y = b.node("Conv", pad(b, y, "axes"), b.random(6, 4, 3, 3), kernel_shape=(3, 3))
    y = b.node("Mul", batchnorm(b, y, 6), b.random(6, 1, 1))
    y = b.node("Mul", y, b.node("Sigmoid", y))
    z = b.node("Relu", b.node("Add", y, b.node("Conv", y, b.random(6, 6, 1, 1), kernel_shape=(1, 1))))
    before = b.graph(b.node("ReduceMean", z, b.constant([-1, -2], np.int64), keepdims=0), y)
    after = simplify(before)
    assert kinds(after) == ["Conv", "Conv", "Add", "GlobalAveragePool", "Flatten"]
    assert after.nodes[0].op.activation == Activation("silu")
    assert after.nodes[2].op.activation.kind == "clip"
    same(b, before, after)
    assert simplify(after) is after


def test_requested_values_survive(b: Builder) -> None:
    x = b.input(2, 4, 5, 5)
    y = b.node("Conv", x, b.random(6, 4, 3, 3), kernel_shape=(3, 3))
    n = batchnorm(b, y, 6)
    r = b.node("Relu", n)
    i = b.node(Identity(), r)
    before = b.graph(y, n, r, i, b.node(Shape(), r))
    same(b, before, simplify(before))


def test_rewrites_leave_their_input_alone(b: Builder) -> None:
    x = b.input(2, 4, 5, 5)
    before = b.graph(b.node("Relu", batchnorm(b, b.node("Conv", x, b.random(6, 4, 3, 3), kernel_shape=(3, 3)), 6)))
    nodes, constants = list(before.nodes), dict(before.constants)
    simplify(before)
    assert before.nodes == nodes
    assert before.constants == constants
    assert all(isinstance(n, Node) for n in before.nodes)


# bind_constants


def test_captured_constants_become_the_subgraphs_own(b: Builder) -> None:
    def branch(scale: float) -> Graph:
        nodes = [Node(ops.lookup("Mul")(), ("v", "k"), ("m",)), Node(ops.lookup("Add")(), ("m", "c"), ("r",))]
        known = TensorSpec(F32, (3,))
        return Graph({"v": known, "k": known}, {"r": known}, nodes, {"c": np.full(3, scale, np.float32)})

    x, flag = b.input(3), b.node("Greater", b.input(), b.constant(np.float32(0)))
    y = b.node(If(branch(2.0), branch(3.0)), flag, x, b.constant(np.float32([1, 2, 3])))
    before = b.graph(y)
    after = bind_constants(before)
    (node,) = [n for n in after.nodes if n.op.op_type == "If"]
    assert node.inputs == (flag, x)
    assert isinstance(node.op, If)
    assert list(node.op.then_branch.inputs) == ["v"]
    assert node.op.then_branch.constants["k"].tolist() == [1, 2, 3]
    assert bind_constants(after) is after
    same(b, before, after)


def test_a_loops_own_inputs_stay(b: Builder) -> None:
    spec = TensorSpec(F32, (2,))
    scalar = TensorSpec(np.dtype(np.int64), ())
    flag = TensorSpec(np.dtype(np.bool_), ())
    body = Graph(
        {"i": scalar, "go": flag, "s": spec, "k": spec},
        {"go": flag, "t": spec},
        [Node(ops.lookup("Add")(), ("s", "k"), ("t",))],
        {},
    )
    rounds, start, step = b.constant(np.array(3)), b.constant(np.float32([1, 2])), b.constant(np.float32([10, 20]))
    x = b.input(2)
    y = b.node("Add", b.node(Loop(body, 1), rounds, "", start, step), x)
    before = b.graph(y)
    after = bind_constants(before)
    (node,) = [n for n in after.nodes if n.op.op_type == "Loop"]
    assert node.inputs == (rounds, "", start)
    assert isinstance(node.op, Loop)
    assert list(node.op.body.inputs) == ["i", "go", "s"]
    same(b, before, after)


# simplify


def test_sorted_and_unsorted_nodes_are_the_same_graph(b: Builder) -> None:
    from cnnengine.importer.graphs import _sorted

    y = b.node("Relu", b.input(2, 3))
    z = b.node("Tanh", b.node("Sigmoid", y))
    nodes = b.graph(z).nodes
    assert _sorted(list(nodes), {"x"}) == nodes
    assert _sorted(nodes[::-1], {"x"}) == nodes
