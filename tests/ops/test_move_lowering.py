"""Lowering of operators that move values: the kernel calls of one node, run one by one, against the node's reference."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from cnnengine._kernels import kernel
from cnnengine._kernels.dispatch import lanes
from cnnengine.layout import NO_HALO, View, aligned_copy, aligned_empty
from cnnengine.operator import NodeRecord
from cnnengine.ops import lookup
from cnnengine.spec import TensorSpec

RNG = np.random.default_rng(7)
HALO = ((0, 0), (1, 1), (2, 1))


class Buffer:
    """One operand: memory full of rubbish, and its view."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.memory = aligned_empty(view.size, view.dtype)
        self.memory.view(np.uint8)[...] = 0xFF  # NaN in floats


def reorder(source: Buffer, view: View) -> Buffer:
    target = Buffer(view)
    kernel("reorder").front(kernel("reorder").build((source.view,), (view,)), source.memory, target.memory)
    return target


class OneNode:
    """A `Lowering` for one node: operands are made when asked for, calls run at once in `finish`."""

    def __init__(self, inputs, outputs, known=(), blocked=(), halo=NO_HALO):
        self.lanes = lanes()
        self.arrays = inputs
        self.inputs = tuple(
            None if x is None else TensorSpec.of(x) if i in known else TensorSpec(x.dtype, x.shape) for i, x in enumerate(inputs)
        )
        self.outputs = tuple(outputs)
        self.known, self.blocked, self.halo = known, blocked, halo
        self.results: dict[int, Buffer] = {}
        self.views: dict[int, np.ndarray] = {}
        self.calls = []

    def const(self, index):
        return self.arrays[index] if index in self.known else None

    def is_planes(self, index):
        return index in self.blocked

    def grouping(self, index):
        return 1 if index in self.blocked else None

    def plain(self, index):
        x = self.arrays[index]
        made = Buffer(View.plain(x.shape, x.dtype))
        made.memory[...] = aligned_copy(x)
        return made

    def planes(self, index, *, halo=NO_HALO, lanes=None, groups=1, fill=None):
        kept = tuple(pair if axis >= 5 - self.arrays[index].ndim else (0, 0) for axis, pair in enumerate(self.halo))
        return reorder(self.plain(index), View.planes(self.arrays[index].shape, lanes or self.lanes, kept, groups))

    def out_plain(self, index=0):
        spec = self.outputs[index]
        return self.results.setdefault(index, Buffer(View.plain(spec.concrete, spec.dtype)))

    def out_planes(self, index=0, *, groups=1):
        kept = tuple(pair if axis >= 5 - len(self.outputs[index].shape) else (0, 0) for axis, pair in enumerate(self.halo))
        return self.results.setdefault(index, Buffer(View.planes(self.outputs[index].concrete, self.lanes, kept, groups)))

    def alias(self, output=0, input=0):
        self.views[output] = self.arrays[input].reshape(self.outputs[output].concrete)

    def same(self, output=0, input=0):
        assert self.arrays[input].shape == self.outputs[output].shape
        self.views[output] = self.arrays[input]

    def wants(self, index=0):
        return index < len(self.outputs)

    def faults(self, n, text="", tensor=""):
        return Buffer(View.plain((3 * n,), np.int64))

    def temp(self, shape, dtype=np.float32):
        return Buffer(View.plain(shape, dtype))

    def name(self, index):
        return f"x{index}"

    def call(self, name, inputs, outputs, **params):
        self.calls.append((name, tuple(inputs), tuple(outputs), params))

    def finish(self, threads):
        for name, inputs, outputs, params in self.calls:
            launch = kernel(name).build(tuple(b.view for b in inputs), tuple(b.view for b in outputs), **params)
            launch(*(b.memory for b in (*inputs, *outputs)), threads=threads)
        found = []
        for i, spec in enumerate(self.outputs):
            if i in self.views:
                found.append(self.views[i])
                continue
            buffer = self.results[i]
            if not buffer.view.is_plain:
                check_halo(buffer)
                buffer = reorder(buffer, View.plain(spec.concrete))
            found.append(buffer.memory.reshape(spec.concrete))
        return found


def check_halo(buffer: Buffer) -> None:
    """Every halo float was written zero."""
    v = buffer.view
    d, h, w = v.dhw
    (d0, d1), (h0, h1), (w0, w1) = v.halo
    whole = buffer.memory.reshape(v.n, v.blocks, d0 + d + d1, h0 + h + h1, w0 + w + w1, v.lanes).copy()
    whole[:, :, d0 : d0 + d, h0 : h0 + h, w0 : w0 + w] = 0
    assert not whole.any()


def check(
    op_type,
    version,
    attributes,
    inputs,
    *,
    n_outputs=1,
    known=None,
    kernels=None,
    blocked=(),
    halo=NO_HALO,
    lowers=True,
    threads=1,
):
    """Lower and run one node; `kernels` are the names of the calls that are expected."""
    inputs = [None if x is None else np.asarray(x) for x in inputs]
    known = tuple(range(1, len(inputs))) if known is None else known
    cls = lookup(op_type)
    assert cls is not None
    op = cls.from_onnx(
        NodeRecord(
            op_type, "", version, attributes, tuple(f"i{i}" for i in range(len(inputs))), tuple(f"o{i}" for i in range(n_outputs))
        )
    )
    expected = [np.asarray(e) for e in op.evaluate(*inputs)]
    ctx = OneNode(inputs, [TensorSpec(e.dtype, e.shape) for e in expected], known, blocked, halo)
    assert op.lower(ctx) is lowers, op
    if not lowers:
        return ctx
    if kernels is not None:
        assert [c[0] for c in ctx.calls] == list(kernels), ctx.calls
    for got, want in zip(ctx.finish(threads), expected, strict=True):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        assert got.tobytes() == want.tobytes(), (op, [x.shape for x in inputs if x is not None])
    return ctx


def random(shape, dtype=np.float32):
    return (RNG.standard_normal(shape) * 50).astype(dtype)


I64 = np.int64
DTYPES = [np.float32, np.int64, np.bool_, np.float16, np.uint8, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_are_aliases(dtype):
    x = random((2, 3, 1, 4), dtype)
    check("Identity", 1, {}, [x], kernels=())
    check("Dropout", 7, {}, [x], kernels=())
    check("Dropout", 12, {}, [x, np.float32(0.5), np.bool_(False)], kernels=())
    check("Reshape", 5, {}, [x, np.array([0, -1], I64)], kernels=())
    check("Reshape", 1, {"shape": [4, 6]}, [x], kernels=())
    check("Flatten", 9, {"axis": 2}, [x], kernels=())
    check("Squeeze", 13, {}, [x, np.array([2], I64)], kernels=())
    check("Unsqueeze", 11, {"axes": [0, 5]}, [x], kernels=())
    check("Transpose", 1, {"perm": [0, 1, 3, 2]}, [x], kernels=())
    check("Slice", 10, {}, [x, np.array([0], I64), np.array([99], I64)], kernels=())
    check("Expand", 8, {}, [x, np.array([1, 4], I64)], kernels=())
    check("Tile", 6, {}, [x, np.array([1, 1, 1, 1], I64)], kernels=())
    check("Pad", 11, {}, [x, np.zeros(8, I64)], kernels=())


def test_dropout_writes_its_mask():
    check("Dropout", 12, {}, [random((2, 5))], n_outputs=2, kernels=("fill",))
    check("Dropout", 7, {}, [random((2, 5))], n_outputs=2, kernels=("fill",))
    check("Dropout", 12, {}, [random((2, 5)), np.float32(0.0), np.bool_(True)], known=(1,), lowers=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose(isa, dtype):
    x = random((2, 19, 6, 33), dtype)
    for perm in itertools.permutations(range(4)):
        check("Transpose", 13, {"perm": list(perm)}, [x], kernels=() if perm == (0, 1, 2, 3) else ("copy_nd",), threads=2)
    check("Transpose", 13, {}, [x], kernels=("copy_nd",))
    check("Transpose", 13, {}, [random((0, 3), dtype)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_concat_and_split_plain(dtype):
    for axis in (0, 1, -1):
        shapes = [[4, 5, 6] for _ in range(3)]
        for shape, n in zip(shapes, (3, 0, 7), strict=True):
            shape[axis] = n
        check("Concat", 13, {"axis": axis}, [random(s, dtype) for s in shapes], known=(), kernels=("copy_nd", "copy_nd"))
    x = random((4, 9, 6), dtype)
    check("Split", 13, {"axis": 1}, [x, np.array([2, 0, 7], I64)], n_outputs=3, kernels=("copy_nd", "copy_nd"))
    check("Split", 18, {"axis": 1, "num_outputs": 4}, [x], n_outputs=4)
    check("Split", 2, {"axis": -1, "split": [1, 5]}, [x], n_outputs=2)
    check("Split", 13, {}, [random((1,), dtype)], n_outputs=1)


@pytest.mark.parametrize("halo", [NO_HALO, HALO])
@pytest.mark.parametrize("tail", [(), (9,), (5, 7), (2, 3, 5)])
def test_channels_stay_in_planes(isa, halo, tail):
    for channels in ((16, 32, 5), (3, 20, 16), (1, 1), (48,)):
        xs = [random((2, c, *tail)) for c in channels]
        ctx = check("Concat", 13, {"axis": 1}, xs, known=(), blocked=range(9), halo=halo, kernels=("copy_planes",) * len(xs))
        whole = np.concatenate(xs, 1)
        check("Split", 13, {"axis": 1}, [whole, np.array(channels, I64)], n_outputs=len(xs), blocked=(0,), halo=halo,
              kernels=("copy_planes",) * len(xs))  # fmt: skip
        if len(xs) > 1:
            cut = [np.array(v, I64) for v in ([channels[0]], [10**9], [1])]
            check("Slice", 10, {}, [whole, *cut], blocked=(0,),
                  halo=halo, kernels=("copy_planes",))  # fmt: skip
        assert ctx.results[0].view.lanes == lanes()
    # one input that does not lie in planes, another axis, another dtype: plain
    check("Concat", 13, {"axis": 1}, xs + xs, known=(), blocked=(0,), kernels=("copy_nd",) * 2)
    check("Concat", 13, {"axis": 0}, xs, known=(), blocked=(0,), kernels=("copy_nd",))


@pytest.mark.parametrize("dtype", DTYPES)
def test_slice(dtype):
    x = random((3, 10, 12, 11), dtype)
    for starts, ends, axes, steps in [
        ([0], [5], [1], [2]),
        ([0, 0], [99, 99], [2, 3], [2, 2]),
        ([-1, -1], [-99, -99], [2, 3], [-1, -3]),
        ([1], [3], [-1], [1]),
        ([5], [2], [0], [1]),
        ([9, 1], [-(2**62), 2**62], [1, 2], [-4, 5]),
    ]:
        check("Slice", 13, {}, [x, *(np.array(v, I64) for v in (starts, ends, axes, steps))])
    check("Slice", 1, {"starts": [1, 2], "ends": [-1, 9]}, [x], kernels=("copy_nd",))
    check("Slice", 13, {}, [x, np.array([1], I64), np.array([2], I64)], known=(1,), lowers=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pad(dtype):
    x = random((2, 3, 5, 7), dtype)
    for pads in (
        [0, 0, 1, 2, 0, 0, 3, 4],
        [1, 0, 0, 0, 0, 2, 0, 1],
        [0, -1, -2, 3, 0, 0, 1, -3],
        [1] * 8,
        [-1, 0, 0, 0, -1, 0, 0, 0],
    ):
        for value in (None, np.array(1, dtype)):
            check("Pad", 13, {}, [x, np.array(pads, I64), value])
        if 0 in np.array(x.shape) + pads[:4] + pads[4:]:
            continue
        for mode in ("edge", "wrap", "reflect"):
            check("Pad", 19, {"mode": mode}, [x, np.array(pads, I64)])
            if dtype == np.float32:
                in_planes = not any(pads[:2] + pads[4:6])
                check(
                    "Pad", 19, {"mode": mode}, [x, np.array(pads, I64)], blocked=(0,), kernels=("resize",) if in_planes else None
                )
    if dtype == np.float32:  # of many channels, plain ones too go by planes
        wide = [random((2, lanes() + 1, 4, 6)), np.array([0, 0, 1, 2, 0, 0, 0, 3], I64)]
        check("Pad", 19, {"mode": "reflect"}, wide, kernels=("resize",))
        check("Pad", 19, {"mode": "edge"}, [wide[0], np.array([0, 0, 1, 0, 0, 0, 1, 0], I64)], kernels=("gather",))
        check(
            "Pad", 19, {"mode": "wrap"}, [random((2, 3, 4, 3, 5)), np.array([0, 0, 1, 0, 2, 0, 0, 2, 3, -1], I64)], blocked=(0,)
        )
    check("Pad", 18, {}, [x, np.array([1, 2], I64), None, np.array([-2], I64)])
    check("Pad", 2, {"pads": [0, 1, 0, 1], "value": 1.0}, [random((4, 5))])
    check("Pad", 13, {}, [x, np.array([1] * 8, I64), np.array(1, dtype)], known=(1,), lowers=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_expand_tile_gather_and_blocks(dtype):
    x = random((3, 1, 5, 1), dtype)
    for shape in ([4, 1, 6], [2, 3, 7, 5, 1], [3, 1, 5, 1], [1], [3, 0, 5, 2]):
        check("Expand", 13, {}, [x, np.array(shape, I64)])
    y = random((2, 3, 4), dtype)
    for repeats in ([1, 2, 3], [2, 1, 1], [3, 3, 3], [1, 0, 2]):
        check("Tile", 13, {}, [y, np.array(repeats, I64)])
    check("Tile", 13, {}, [random((2, 2, 2, 2, 2), dtype), np.array([2, 2, 2, 2, 2], I64)], lowers=False)  # ten axes
    for axis, indices in ((0, [1, 0, -1]), (1, [[0, 2], [1, -3]]), (-1, 3), (2, [])):
        check("Gather", 13, {"axis": axis}, [y, np.array(indices, I64)])
    check("Gather", 13, {}, [y, np.array([1, -2], I64)], known=(), kernels=("index_offsets", "take"))
    check("Gather", 13, {"axis": 1}, [y, np.array([0, 1, 2], I64)], kernels=())  # all of it, in order
    z = random((2, 8, 6, 10), dtype)
    for mode in ("DCR", "CRD"):
        check("DepthToSpace", 11, {"blocksize": 2, "mode": mode}, [z], kernels=("copy_nd",))
    check("SpaceToDepth", 13, {"blocksize": 2}, [z], kernels=("copy_nd",))
    check("ConstantOfShape", 9, {"value": np.array([1], dtype)}, [np.array([3, 4], I64)], known=(0,), kernels=("fill",))


def test_gather_out_of_range_is_left_to_the_host():
    cls = lookup("Gather")
    x = random((3, 4))
    ctx = OneNode([x, np.array([3], I64)], [TensorSpec(x.dtype, (1, 4))], (1,))
    assert not cls().lower(ctx)


def test_cast():
    table = {np.float32: 1, np.uint8: 2, np.int8: 3, np.int32: 6, np.int64: 7, np.bool_: 9, np.float64: 11}
    for source, target in itertools.product(table, table):
        x = np.abs(random((3, 7))).clip(0, 100).astype(source)
        check("Cast", 13, {"to": table[target]}, [x], kernels=() if source == target else ("cast",))
        check("CastLike", 15, {}, [x, np.zeros(1, target)], known=())
        check("Cast", 13, {"to": 10}, [x], kernels=("cast",))
        half = x.astype(np.float16)
        check("Cast", 13, {"to": table[target]}, [half], kernels=("cast",))
    with warnings.catch_warnings():
        check("Cast", 13, {"to": 5}, [random((3,))], lowers=False)  # int16


def check_resize(shape, attributes, *, version=19, scales=None, sizes=None, lowers=True, op_type="Resize", exact=False):
    """Lowered against the reference, which the conformance suite pins."""
    x = RNG.standard_normal(shape).astype(np.float32)
    scales = None if scales is None else np.array(scales, np.float32)
    inputs = [x, scales] if version < 11 else [x, None, scales, None if sizes is None else np.array(sizes, I64)]
    op = lookup(op_type).from_onnx(NodeRecord(op_type, "", version, attributes, tuple("abcd"[: len(inputs)]), ("y",)))
    expected = op.evaluate(*inputs)[0]
    specs = [None if v is None else TensorSpec.of(v) for v in inputs]
    assert op.specs([TensorSpec(x.dtype, x.shape), *specs[1:]])[0].shape == expected.shape
    ctx = OneNode(inputs, [TensorSpec(expected.dtype, expected.shape)], range(1, len(inputs)), halo=HALO)
    assert op.lower(ctx) is lowers
    if lowers:
        got = ctx.finish(2)[0]
        if exact:
            assert np.array_equal(got, expected)
        else:
            np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize(isa, mode):
    for coordinates in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"):
        attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil") if mode == "nearest" else ("floor",):
            attributes["nearest_mode"] = rounding
            check_resize((2, 19, 7, 9), attributes, scales=[1, 1, 2, 2], exact=mode == "nearest")
            check_resize((1, 5, 8, 6), attributes, scales=[1, 1, 0.6, 1.7], exact=mode == "nearest")
            check_resize((1, 17, 5), attributes, sizes=[1, 17, 13], exact=mode == "nearest")
            check_resize((1, 3, 4, 3, 5), attributes, sizes=[1, 3, 7, 1, 10], exact=mode == "nearest")
    check_resize((1, 3, 4, 5), {"mode": mode}, version=10, scales=[1, 1, 3, 0.5], exact=mode == "nearest")
    check_resize((1, 3, 4, 5), {"mode": mode}, version=9, scales=[1, 1, 2, 2], op_type="Upsample", exact=mode == "nearest")
    if mode == "nearest":
        check_resize((2, 3, 4, 5), {"mode": mode}, scales=[2, 1, 1, 1], lowers=False)
