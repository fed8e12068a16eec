"""What moves numbers, and functions of single elements, between quantised tensors: what becomes of matches and near misses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from support import Builder

from cnnengine.graph import Graph, Node
from cnnengine.ops.flip_sign import FlipSign
from cnnengine.ops.quantized import DequantizeLinear, QuantizeLinear
from cnnengine.ops.quantized_table import QuantizedTable
from cnnengine.rewrites import explaining, simplify
from cnnengine.rewrites.nodes import Rewrite
from cnnengine.rewrites.quantized_moves import quantized_moves
from cnnengine.rewrites.quantized_tables import quantized_tables
from cnnengine.spec import TensorSpec

U8, S8 = np.dtype(np.uint8), np.dtype(np.int8)
Steps = tuple[str, str]


class Bytes(Builder):
    """Graphs of 8-bit integers."""

    def bytes(self, *shape: int, signed: bool = False, name: str = "x") -> str:
        info = np.iinfo(S8 if signed else U8)
        self.feeds[name] = self.rng.integers(info.min, info.max + 1, shape).astype(info.dtype)
        self.inputs[name] = TensorSpec(info.dtype, shape)
        return name

    def steps(self, scale: Any = 0.05, zero: Any = 7, signed: bool = False) -> Steps:
        return self.constant(scale), self.constant(zero, S8 if signed else U8)

    def dq(self, x: str, by: Steps, **fields: Any) -> str:
        return self.node(DequantizeLinear(**fields), x, *by)

    def q(self, x: str, by: Steps, **fields: Any) -> str:
        return self.node(QuantizeLinear(**fields), x, *by)


@pytest.fixture
def b() -> Bytes:
    return Bytes()


def same_bits(b: Bytes, before: Graph, after: Graph) -> None:
    after.check()
    for name, one, two in zip(before.outputs, before.evaluate(b.feeds), after.evaluate(b.feeds), strict=True):
        assert (one.dtype, one.shape) == (two.dtype, two.shape), name
        np.testing.assert_array_equal(one, two, name)


def kinds(nodes: Sequence[Node]) -> list[str]:
    return [n.op.op_type for n in nodes]


def reasons(rewrite: Rewrite, graph: Graph) -> set[str]:
    with explaining() as found:
        rewrite(graph)
    return {d.reason for d in found.values()}


# ---------------------------------------------------------------- moves

ONE_INPUT: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("Transpose", {"perm": (0, 2, 3, 1)}, []),
    ("Reshape", {}, [[2, -1]]),
    ("Flatten", {"axis": 2}, []),
    ("Unsqueeze", {}, [[1]]),
    ("Slice", {}, [[0, 1], [2, 3], [0, 1]]),
    ("Gather", {"axis": 1}, [[1, 0, -1]]),
    ("Tile", {}, [[1, 2, 1, 1]]),
    ("Expand", {}, [[3, 2, 4, 4, 6]]),
    ("DepthToSpace", {"blocksize": 2}, []),
    ("SpaceToDepth", {"blocksize": 2}, []),
    ("Pad", {}, [[0, 0, 1, 2, 0, 0, 0, 1]]),
    ("Pad", {"mode": "edge"}, [[0, 0, 1, 2, 0, 0, 0, 1]]),
    ("MaxPool", {"kernel_shape": (2, 2), "pads": (1, 1, 1, 1)}, []),
]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("op", "fields", "constants"), ONE_INPUT, ids=lambda v: v if isinstance(v, str) else "")
def test_moves(b: Bytes, op: str, fields: dict[str, Any], constants: list[Any], signed: bool) -> None:
    """DequantizeLinear and QuantizeLinear with the same parameters are gone, and what is left are the integers' own bits."""
    by = b.steps(zero=-3 if signed else 9, signed=signed)
    x = b.dq(b.bytes(2, 4, 4, 6, signed=signed), by)
    before = b.graph(b.q(b.node(op, x, *(b.constant(c, np.int64) for c in constants), **fields), by))
    after = simplify(before)
    assert kinds(after.nodes) == (["FlipSign", op, "FlipSign"] if signed else [op])
    same_bits(b, before, after)


def test_moves_of_several(b: Bytes) -> None:
    by = b.steps()
    names = [b.dq(b.bytes(2, 3, name=n), by) for n in ("x", "y")]
    before = b.graph(b.q(b.node("Concat", *names, axis=1), by))
    after = simplify(before)
    assert kinds(after.nodes) == ["Concat"]
    same_bits(b, before, after)


def test_moves_into_several(b: Bytes) -> None:
    by = b.steps()
    x = b.dq(b.bytes(2, 6), by)
    b.node("Split", x, b.constant([2, 4], np.int64), outputs=("p", "r"), axis=1, parts=2)
    before = b.graph(b.q("p", by), b.q("r", by))
    after = simplify(before)
    assert kinds(after.nodes) == ["Split"]
    same_bits(b, before, after)


@pytest.mark.parametrize("fields", [{}, {"mode": "edge"}, {"pads": (0, 0, 1, 1, 0, 0, 1, 1), "value": -7.0}])
@pytest.mark.parametrize("value", [None, -128, 5])
def test_int8_that_was_uint8_is_moved_as_such(b: Bytes, fields: dict[str, Any], value: int | None) -> None:
    """As between integer convolutions of a file of int8; what a Pad writes is 128 more."""
    x = b.node(FlipSign(), b.bytes(2, 4, 6, 6))
    y = b.node("MaxPool", b.node("Transpose", x, perm=(0, 2, 3, 1)), kernel_shape=(2, 2))
    more = [b.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)] if "pads" not in fields else []
    more += [b.constant(value, np.int8)] if value is not None and more else []
    y = b.node("Concat", b.node("Pad", y, *more, **fields), b.node(FlipSign(), b.bytes(2, 3, 7, 5, name="z")), axis=1)
    q = b.q(b.dq(b.bytes(2, name="w"), b.steps()), b.steps(0.5))  # a network with QuantizeLinear
    before = b.graph(b.node(FlipSign(), y), q)
    after = simplify(before)
    assert "FlipSign" not in kinds(after.nodes)
    same_bits(b, before, after)


def test_int8_that_is_quantised_to_be_moved(b: Bytes) -> None:
    """As tf2onnx has it, images are quantised before they are transposed."""
    by = b.steps(zero=-5, signed=True)
    q = b.node("Transpose", b.q(b.input(2, 4, 5, 3), by), perm=(0, 3, 1, 2))
    before = b.graph(b.node(FlipSign(), q))
    after = simplify(before)
    assert kinds(after.nodes) == ["QuantizeLinear", "Transpose"]
    same_bits(b, before, after)


@pytest.mark.parametrize("nested", [1, 3])
def test_moves_in_a_row(b: Bytes, nested: int) -> None:
    by = b.steps()
    y = b.dq(b.bytes(2, 3, 4, 5), by)
    for _ in range(nested):
        y = b.node("Reshape", b.node("Transpose", y, perm=(0, 2, 3, 1)), b.constant([2, 4, 5, 3], np.int64))
    before = b.graph(b.q(y, by))
    after = simplify(before)
    assert kinds(after.nodes) == ["Transpose", "Reshape"] * nested
    same_bits(b, before, after)


def test_a_dequantised_tensor_that_others_read_stays_for_them(b: Bytes) -> None:
    by = b.steps()
    x = b.dq(b.bytes(2, 4, 6, 6), by)
    pooled = b.q(b.node("MaxPool", x, kernel_shape=(2, 2)), by)
    before = b.graph(pooled, b.node("Softmax", x, axis=1))
    after = simplify(before)
    assert kinds(after.nodes) == ["DequantizeLinear", "MaxPool", "Softmax"]
    same_bits(b, before, after)


def test_with_other_parameters_a_table_follows(b: Bytes) -> None:
    x = b.dq(b.bytes(2, 4, 6, 6), b.steps())
    before = b.graph(b.q(b.node("Transpose", x, perm=(0, 2, 3, 1)), b.steps(0.07, 100)))
    after = simplify(before)
    assert kinds(after.nodes) == ["Transpose", "QuantizedTable"]
    same_bits(b, before, after)


def test_what_is_viewed_is_quantised_before(b: Bytes) -> None:
    x = b.dq(b.bytes(2, 4, 5, 5), b.steps())
    y = b.node("Softmax", x, axis=1)
    before = b.graph(
        b.q(b.node("Reshape", b.node("Transpose", y, perm=(0, 2, 3, 1)), b.constant([2, 25, 4], np.int64)), b.steps())
    )
    after = simplify(before)
    assert kinds(after.nodes) == ["DequantizeLinear", "Softmax", "QuantizeLinear", "Transpose", "Reshape"]
    same_bits(b, before, after)


@pytest.mark.parametrize("change", [
    "per axis", "two scales", "two zero points", "graph output", "float reader", "computed scale", "cubic", "padding", "window",
    "sums", "16 bits", "computed padding",
])  # fmt: skip
def test_near_misses_of_moves(b: Bytes, change: str) -> None:
    by = b.steps(zero=9)
    x = b.dq(b.bytes(2, 4, 6, 6), by)
    op, more, fields = "Transpose", [], {"perm": (0, 2, 3, 1)}
    outputs: list[str] = []
    if change in ("per axis", "computed scale", "16 bits"):
        b.nodes.clear()
    if change == "per axis":
        x = b.dq("x", (b.constant([0.1, 0.2, 0.3, 0.4]), b.constant([0, 1, 2, 3], U8)), axis=1)
    elif change in ("two scales", "two zero points"):
        other = b.steps(0.06 if change == "two scales" else 0.05, 9 if change == "two scales" else 8)
        op, more, fields = "Concat", [b.dq(b.bytes(2, 4, 6, 6, name="z"), other)], {"axis": 1}
    elif change == "computed scale":
        scale = b.node("Abs", b.input(name="s"))
        by = scale, by[1]
        x = b.dq("x", by)
    elif change == "cubic":
        op, more, fields = "Resize", ["", b.constant([1, 1, 2, 2])], {"mode": "cubic", "coordinates": "asymmetric"}
    elif change == "padding":
        op, more, fields = "Pad", [b.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), b.constant(0.01)], {}
    elif change == "computed padding":
        op, more, fields = "Pad", [b.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), b.node("Abs", b.input(name="s"))], {}
    elif change == "window":
        op, fields = "MaxPool", {"kernel_shape": (2, 2), "pads": (2, 2, 0, 0)}
    elif change == "sums":
        indices = np.broadcast_to(np.arange(4).reshape(1, 4, 1, 1) % 2, (2, 4, 6, 6))
        op, more, fields = "ScatterElements", [b.constant(indices, np.int64), x], {"axis": 1, "reduction": "add"}
    elif change == "16 bits":
        by = b.constant(0.05), b.constant(9, np.uint16)
        b.inputs["x"], b.feeds["x"] = TensorSpec(np.dtype(np.uint16), (2, 4, 6, 6)), b.feeds["x"].astype(np.uint16)
        x = b.dq("x", by)
    y = b.node(op, x, *more, **fields)
    if change == "graph output":
        outputs.append(y)
    elif change == "float reader":
        b.nodes.pop()
        y = b.node("MaxPool", x, kernel_shape=(2, 2))
        outputs.append(b.node("Softmax", y, axis=1))
    before = b.graph(b.q(y, by if change != "sums" else b.steps()), *outputs)
    assert quantized_moves(before) is before
    same_bits(b, before, simplify(before))
    told = reasons(quantized_moves, before)
    expected = {
        "two scales": "not quantised in one way", "two zero points": "not quantised in one way", "graph output": "an output",
        "float reader": "as floats too", "cubic": "computes what it gives", "padding": "no integer stands for",
        "computed padding": "no integer stands for", "window": "padding altogether", "sums": "computes what it moves",
    }  # fmt: skip
    assert change not in expected or any(expected[change] in reason for reason in told), told


@pytest.mark.parametrize("value", [0.0, 0.05 * 3, -0.05 * 9, float(np.float32(0.05) * np.float32(246))])
def test_padding_by_a_number_that_an_integer_stands_for(b: Bytes, value: float) -> None:
    by = b.steps(zero=9)
    x = b.dq(b.bytes(2, 3, 4, 4), by)
    value32 = float(np.float32(0.05) * np.float32(round(value / 0.05)))
    pads = b.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    before = b.graph(b.q(b.node("Pad", x, pads, b.constant(value32)), by))
    after = simplify(before)
    assert kinds(after.nodes) == ["Pad"]
    same_bits(b, before, after)


@pytest.mark.parametrize("value", [-0.05 * 10, 0.05 * 247])
def test_padding_beyond_the_integers(b: Bytes, value: float) -> None:
    by = b.steps(zero=9)
    x = b.dq(b.bytes(2, 3, 4, 4), by)
    before = b.graph(b.q(b.node("Pad", x, b.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), b.constant(value)), by))
    assert quantized_moves(before) is before


# ---------------------------------------------------------------- nothing between


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("scale", [np.finfo(np.float32).tiny, 1e-30, 0.0123, 0.1, 1 / 3, 3.7, 1e30, 3.4e38 / 256])
@pytest.mark.parametrize("zero", ["low", "middle", "high"])
def test_quantised_as_before_is_nothing(b: Bytes, signed: bool, scale: float, zero: str) -> None:
    """(n * s) / s is within an eight millionth of n <= 255 where s has all its bits: what it is rounded to is n."""
    info = np.iinfo(S8 if signed else U8)
    by = b.steps(scale, {"low": info.min, "middle": 3, "high": info.max}[zero], signed)
    b.bytes(256, signed=signed)
    b.feeds["x"] = np.arange(info.min, info.max + 1).astype(info.dtype)
    before = b.graph(b.node("Transpose", b.q(b.dq("x", by), by), perm=(0,)))
    after = quantized_tables(before)
    assert "QuantizeLinear" not in kinds(after.nodes)
    same_bits(b, before, after)


def test_where_numbers_overflow_it_is_something(b: Bytes) -> None:
    by = b.steps(3e38, 100)
    b.bytes(256)
    b.feeds["x"] = np.arange(256).astype(np.uint8)
    before = b.graph(b.q(b.dq("x", by), by))
    after = simplify(before)
    assert kinds(after.nodes) == ["QuantizedTable"]
    same_bits(b, before, after)


def test_another_sign_is_a_flip(b: Bytes) -> None:
    x = b.dq(b.bytes(3, 40), b.steps(0.1, 140))
    before = b.graph(b.q(x, b.steps(0.1, 12, True)))
    after = simplify(before)
    assert kinds(after.nodes) == ["FlipSign"]
    same_bits(b, before, after)


# ---------------------------------------------------------------- tables

FUNCTIONS: list[tuple[str, dict[str, Any], list[float]]] = [
    ("Relu", {}, []), ("Sigmoid", {}, []), ("Tanh", {}, []), ("HardSwish", {}, []), ("HardSigmoid", {}, []), ("Erf", {}, []),
    ("Gelu", {}, []), ("Elu", {}, []), ("LeakyRelu", {"alpha": 0.1}, []), ("Softplus", {}, []), ("Exp", {}, []),
    ("Clip", {}, [0.0, 6.0]), ("Pow", {}, [2.0]), ("Add", {}, [0.3]), ("Mul", {}, [-1.7]), ("Div", {}, [0.7]), ("Max", {}, [0.2]),
    ("PRelu", {}, [0.25]), ("Abs", {}, []), ("Neg", {}, []), ("Log", {}, []), ("Sqrt", {}, []), ("Reciprocal", {}, []),
]  # fmt: skip


@pytest.mark.parametrize("signed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(("op", "fields", "numbers"), FUNCTIONS, ids=lambda v: v if isinstance(v, str) else "")
def test_functions(b: Bytes, op: str, fields: dict[str, Any], numbers: list[float], signed: tuple[bool, bool]) -> None:
    """NaN and infinities among them: the table has what QuantizeLinear makes of those."""
    x = b.dq(b.bytes(4, 256, signed=signed[0]), b.steps(0.04, -20 if signed[0] else 128, signed[0]))
    y = b.node(op, x, *(b.constant(n) for n in numbers), **fields)
    before = b.graph(b.q(y, b.steps(0.03, 5, signed[1])))
    with np.errstate(all="ignore"):
        after = simplify(before)
        assert kinds(after.nodes) == ["FlipSign"] * signed[0] + ["QuantizedTable"] + ["FlipSign"] * signed[1]
        same_bits(b, before, after)


def test_two_paths(b: Bytes) -> None:
    x = b.dq(b.bytes(3, 200), b.steps(0.05, 100))
    before = b.graph(b.q(b.node("Mul", x, b.node("Sigmoid", x)), b.steps(0.04, 8)))
    after = simplify(before)
    assert kinds(after.nodes) == ["QuantizedTable"]
    same_bits(b, before, after)


def test_two_paths_one_of_which_is_quantised(b: Bytes) -> None:
    """As onnxruntime writes x * sigmoid(x)."""
    x = b.dq(b.bytes(3, 200), b.steps(0.05, 100))
    gate = b.steps(1 / 256, 0)
    s = b.dq(b.q(b.node("Sigmoid", x), gate), gate)
    before = b.graph(b.q(b.node("Mul", x, s), b.steps(0.04, 8)))
    after = simplify(before)
    assert kinds(after.nodes) == ["QuantizedTable"]
    same_bits(b, before, after)


def test_an_inner_result_that_others_read(b: Bytes) -> None:
    x = b.dq(b.bytes(3, 200), b.steps(0.05, 100))
    gate = b.steps(1 / 256, 0)
    inner = b.q(b.node("Sigmoid", x), gate)
    before = b.graph(b.q(b.node("Mul", x, b.dq(inner, gate)), b.steps(0.04, 8)), inner)
    after = simplify(before)
    assert kinds(after.nodes) == ["QuantizedTable", "QuantizedTable"]
    assert {n.inputs[0] for n in after.nodes} == {"x"}
    same_bits(b, before, after)


def test_tables_in_a_row_are_one(b: Bytes) -> None:
    by = b.steps(0.05, 100)
    y = b.bytes(3, 200)
    for op in ("Relu", "Tanh", "Sigmoid"):
        y = b.q(b.node(op, b.dq(y, by)), by)
    before = b.graph(y)
    after = simplify(before)
    assert kinds(after.nodes) == ["QuantizedTable"]
    same_bits(b, before, after)


def test_a_dequantised_number_is_a_constant(b: Bytes) -> None:
    x = b.dq(b.bytes(3, 200), b.steps(0.05, 100))
    number = b.dq(b.constant(200, U8), b.steps(0.01, 0))
    before = b.graph(b.q(b.node("Add", number, b.node("Relu", x)), b.steps(0.1, 3)))
    after = simplify(before)
    assert kinds(after.nodes) == ["QuantizedTable"]
    same_bits(b, before, after)


@pytest.mark.parametrize("change", [
    "two tensors", "vector", "widens", "per axis", "16 bits in", "16 bits out", "sum", "computed number", "per axis out",
    "blocks",
])  # fmt: skip
def test_near_misses_of_tables(b: Bytes, change: str) -> None:
    x, by = b.dq(b.bytes(3, 4), b.steps(0.05, 100)), b.steps(0.1, 3)
    fields: dict[str, Any] = {}
    y = b.node("Sigmoid", x)
    if change == "two tensors":
        y = b.node("Mul", y, b.dq(b.bytes(3, 4, name="z"), b.steps()))
    elif change == "vector":
        y = b.node("Mul", y, b.constant([1.0, 2.0, 3.0, 4.0]))
    elif change == "widens":
        y = b.node("Mul", y, b.constant([[[2.0]]]))
    elif change == "per axis":
        y = b.node("Sigmoid", b.dq("x", (b.constant([0.1, 0.2, 0.3, 0.4]), b.constant([0, 1, 2, 3], U8)), axis=1))
    elif change == "16 bits in":
        b.nodes.clear()
        b.inputs["x"], b.feeds["x"] = TensorSpec(np.dtype(np.uint16), (3, 4)), b.feeds["x"].astype(np.uint16)
        y = b.node("Sigmoid", b.dq("x", (b.constant(0.05), b.constant(9, np.uint16))))
    elif change == "16 bits out":
        by = b.constant(0.1), b.constant(3, np.uint16)
    elif change == "sum":
        y = b.node("Softmax", y, axis=1)
    elif change == "computed number":
        y = b.node("Mul", y, b.input(name="s"))
    elif change == "per axis out":
        by, fields = (b.constant([0.1, 0.2, 0.3, 0.4]), b.constant([0, 1, 2, 3], U8)), {"axis": 1}
    elif change == "blocks":
        by = b.constant(np.full((3, 2), 0.1)), b.constant(np.zeros((3, 2)), U8)
        fields = {"axis": 1, "block_size": 2}
    before = b.graph(b.q(y, by, **fields))
    assert quantized_tables(before) is before
    same_bits(b, before, simplify(before))
    expected = {
        "two tensors": "more than one tensor",
        "vector": "several numbers",
        "widens": "more axes",
        "per axis": "constant scale",
    }
    told = reasons(quantized_tables, before)
    assert change not in expected or any(expected[change] in reason for reason in told), told


def test_a_long_chain_is_left() -> None:
    """How much is looked at has a bound, or a file of n quantised tensors might take n * n steps to load."""
    b = Bytes()
    y = b.dq(b.bytes(3, 4), b.steps(0.05, 100))
    for _ in range(70):
        y = b.node("Relu", y)
    before = b.graph(b.q(y, b.steps()))
    assert quantized_tables(before) is before


def test_the_table_operator(b: Bytes) -> None:
    op, table = QuantizedTable(), np.arange(256)[::-1].astype(np.uint8)
    x = np.arange(256, dtype=np.uint8).reshape(2, 128)
    (y,) = op.evaluate(x, table)
    np.testing.assert_array_equal(y, 255 - x)
    assert op.infer([TensorSpec.of(x), TensorSpec.of(table)])[0].concrete == (2, 128)
    for bad in ((x.astype(np.int8), table), (x, table[:255]), (x, table.astype(np.int8))):
        with pytest.raises(Exception, match="QuantizedTable"):
            op.infer([TensorSpec.of(v) for v in bad])
