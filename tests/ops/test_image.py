"""Resize, AffineGrid, Col2Im, DeformConv and RoiAlign's maximum: kernels against the references, references against loops."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import cnnengine
from cnnengine import ShapeError
from cnnengine.ops.affine import AffineGrid
from cnnengine.ops.columns import Col2Im
from cnnengine.ops.deform import DeformConv
from cnnengine.ops.resize import Resize
from cnnengine.ops.sample import GridSample, RoiAlign
from cnnengine.plan.eager import by_kernels
from cnnengine.runtime.runner import fill_arenas

F = np.float32


def compiled(op: Any, inputs: list[Any], threads: int = 1) -> np.ndarray:
    """By kernels, with NaN in all memory before; fails where there are none."""
    fill_arenas(255)
    try:
        found = by_kernels(op, inputs, threads=threads)
    finally:
        fill_arenas(None)
    assert found is not None
    y: np.ndarray = found[0]
    return y


RESIZES = [
    Resize("nearest"),
    Resize("nearest", "asymmetric", "floor"),
    Resize("nearest", "tf_half_pixel_for_nn"),
    Resize("linear"),
    Resize("linear", "align_corners"),
    Resize("linear", antialias=1),
    Resize("linear", exclude_outside=1),
    Resize("cubic"),
    Resize("cubic", antialias=1),
    Resize("cubic", exclude_outside=1),
]
EXTENTS = [((5, 9), (10, 27)), ((13, 11), (4, 5)), ((7, 33), (7, 16)), ((4, 6), (9, 6)), ((1, 8), (3, 1)), ((9,), (20,))]
EXTENTS += [((3, 4, 5), (6, 3, 5)), ((40, 130), (17, 64))]


@pytest.mark.parametrize("c", [1, 3, 17])
@pytest.mark.parametrize("op", RESIZES, ids=lambda op: f"{op.mode}-{op.coordinates}-{op.antialias}{op.exclude_outside}")
def test_resize_kernels_are_the_reference(isa, threads, op, c):
    rng = np.random.default_rng(c)
    for spatial, out in EXTENTS:
        x = rng.standard_normal((2, c, *spatial)).astype(F)
        inputs = [x, None, None, np.array([2, c, *out])]
        (expected,) = op.evaluate(*inputs)
        np.testing.assert_allclose(compiled(op, inputs, threads), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_cropped_borders_are_extrapolated_by_the_kernel(isa, threads, mode):
    op = Resize(mode, "tf_crop_and_resize", extrapolation=7.5)
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 9)).astype(F)
    roi = np.array([0, 0, 0.4, -0.2, 1, 1, 1.3, 0.9], F)
    inputs = [x, roi, None, np.array([2, 3, 7, 6])]
    (expected,) = op.evaluate(*inputs)
    assert (expected == 7.5).any()
    assert (expected != 7.5).any()
    np.testing.assert_allclose(compiled(op, inputs, threads), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("c", [2, 19])
def test_resize_between_convolutions(isa, threads, mode, c):
    """In planes, with a halo that the next convolution asks for; small images and rows of several pieces."""
    rng = np.random.default_rng(c)
    w = rng.standard_normal((c, 3, 1, 1)).astype(F)
    v = rng.standard_normal((4, c, 3, 3)).astype(F)
    for hw, size, antialias in (((6, 7), (13, 5), 0), ((20, 150), (9, 40), 1), ((6, 7), (12, 14), 0)):
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Resize", ["a", "", "", "s"], ["b"], mode=mode, antialias=antialias),
            helper.make_node("Conv", ["b", "v"], ["y"], pads=[1] * 4),
        ]
        constants = {"w": w, "v": v, "s": np.array([1, c, *size])}
        model = helper.make_model(
            helper.make_graph(
                nodes,
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, *hw])],
                [onnx.ValueInfoProto(name="y")],
                [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()],
            ),
            opset_imports=[helper.make_opsetid("", 19)],
            ir_version=9,
        )
        x = rng.standard_normal((1, 3, *hw)).astype(F)
        loaded = cnnengine.load(io.BytesIO(model.SerializeToString()), threads=threads, winograd=False)
        a = np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0])
        (b,) = Resize(mode, antialias=antialias).evaluate(a, None, None, constants["s"])
        padded = np.pad(b, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        expected = np.einsum("nchwij,ocij->nohw", windows, v)
        np.testing.assert_allclose(loaded(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_what_weighs_nothing_is_not_read(isa, mode):
    """An infinite pixel reaches those outputs alone in which it has a weight."""
    x = np.ones((1, 1, 4, 8), F)
    x[0, 0, 1, 3] = np.inf
    (y,) = (compiled(Resize(mode, "align_corners"), [x, None, None, np.array([1, 1, 7, 15])]),)
    assert y[0, 0, 2, 6] == np.inf
    assert np.isfinite(y[0, 0, ::2, ::2]).sum() == 4 * 8 - 1
    assert np.isfinite(y[0, 0, 4:, :]).all() or mode == "cubic"


# ---------------------------------------------------------------- AffineGrid


def affine_by_loops(theta: np.ndarray, spatial: tuple[int, ...], corners: int) -> np.ndarray:
    y = np.zeros((len(theta), *spatial, len(spatial)))
    for place in np.ndindex(*spatial):
        at = []
        for i, n in zip(place, spatial, strict=True):
            at.append((2 * i / (n - 1) - 1 if n > 1 else 0.0) if corners else (2 * i + 1) / n - 1)
        y[(slice(None), *place)] = theta @ np.array([*at[::-1], 1.0])
    return y


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("spatial", [(3, 4), (1, 9), (70, 301), (2, 3, 5), (1, 1, 4), (0, 3)])
def test_affine_grid(isa, threads, corners, spatial):
    rank = len(spatial)
    theta = np.random.default_rng(rank).standard_normal((3, rank, rank + 1)).astype(F)
    op, size = AffineGrid(corners), np.array([3, 2, *spatial])
    expected = affine_by_loops(theta.astype(np.float64), spatial, corners)
    np.testing.assert_allclose(op.evaluate(theta, size)[0], expected, atol=2e-6)
    np.testing.assert_allclose(compiled(op, [theta, size], threads), expected, atol=2e-6)


@pytest.mark.parametrize("size", [[2, 1, 3], [2, 1, 3, 4, 5, 6], [3, 1, 4, 4], [2, 1, 4, 4, 4], [2, 1, -4, 4]])
def test_affine_grid_refuses_sizes_that_do_not_fit(size):
    with pytest.raises(ShapeError, match="AffineGrid"):
        AffineGrid().evaluate(np.zeros((2, 2, 3), F), np.array(size))


@pytest.mark.parametrize("spatial", [(6, 7), (3, 4, 5)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_spatial_transformer_with_a_symbolic_batch(spatial, batch):
    """The size comes from Shape, the batch is known at the call alone; extent 1 is a batch like others."""
    rank = len(spatial)
    nodes = [
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("AffineGrid", ["theta", "size"], ["grid"], align_corners=1),
        helper.make_node("GridSample", ["x", "grid"], ["y"], align_corners=1),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, *spatial]),
        helper.make_tensor_value_info("theta", TensorProto.FLOAT, ["n", rank, rank + 1]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    rng = np.random.default_rng(batch)
    x = rng.standard_normal((batch, 2, *spatial)).astype(F)
    theta = np.repeat(np.eye(rank, rank + 1, dtype=F)[None], batch, 0)
    theta[:, 0, 0] = -1  # mirrored along the last axis
    (y,) = cnnengine.load(io.BytesIO(model.SerializeToString())).run(None, {"x": x, "theta": theta})
    np.testing.assert_allclose(y, x[..., ::-1], atol=1e-5)


# ---------------------------------------------------------------- Col2Im


def columns_by_loops(x, image, block, strides, dilations, pads):
    rank = len(image)
    counts = [(image[a] + pads[a] + pads[rank + a] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1 for a in range(rank)]
    taps = int(np.prod(block))
    y = np.zeros((x.shape[0], x.shape[1] // taps, *image))
    whole = x.reshape(x.shape[0], -1, taps, *counts)
    for tap, place in enumerate(np.ndindex(*block)):
        for at in np.ndindex(*counts):
            p = tuple(at[a] * strides[a] + place[a] * dilations[a] - pads[a] for a in range(rank))
            if all(0 <= i < n for i, n in zip(p, image, strict=True)):
                y[(slice(None), slice(None), *p)] += whole[(slice(None), slice(None), tap, *at)]
    return y, counts


@st.composite
def column_cases(draw):
    rank = draw(st.integers(1, 3))

    def each(low, high, count=rank):
        return tuple(draw(st.integers(low, high)) for _ in range(count))

    block, dilations, pads, strides = each(1, 3), each(1, 3), each(0, 4, 2 * rank), each(1, 4)
    least = [max(1, dilations[a] * (block[a] - 1) + 1 - pads[a] - pads[rank + a]) for a in range(rank)]
    return tuple(low + draw(st.integers(0, 9)) for low in least), block, strides, dilations, pads


@given(case=column_cases(), n=st.integers(1, 2), c=st.integers(1, 3), two=st.booleans())
def test_col2im(case, n, c, two):
    image, block, strides, dilations, pads = case
    rank = len(image)
    counts = [(image[a] + pads[a] + pads[rank + a] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1 for a in range(rank)]
    x = np.random.default_rng(n).standard_normal((n, c * int(np.prod(block)), int(np.prod(counts)))).astype(F)
    expected, _ = columns_by_loops(x, image, block, strides, dilations, pads)
    op = Col2Im(strides, pads, dilations)
    inputs = [x, np.array(image), np.array(block)]
    np.testing.assert_allclose(op.evaluate(*inputs)[0], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(compiled(op, inputs, 1 + two), expected, rtol=1e-5, atol=1e-5)


def test_col2im_at_each_instruction_set(isa, threads):
    rng = np.random.default_rng(0)
    for stride in (1, 2):
        counts = [(n + 2 - 2 - 1) // stride + 1 for n in (19, 37)]
        x = rng.standard_normal((2, 5 * 9, counts[0] * counts[1])).astype(F)
        expected, _ = columns_by_loops(x, (19, 37), (3, 3), (stride,) * 2, (1, 1), (1,) * 4)
        op = Col2Im((stride,) * 2, (1,) * 4, None)
        np.testing.assert_allclose(
            compiled(op, [x, np.array([19, 37]), np.array([3, 3])], threads), expected, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    ("shape", "image", "block"),
    [((1, 4, 9), (4, 4), (2,)), ((1, 5, 9), (4, 4), (2, 2)), ((1, 4, 8), (4, 4), (2, 2)), ((1, 4, 9), (1, 1), (2, 2))],
)
def test_col2im_refuses_what_does_not_fit(shape, image, block):
    with pytest.raises(ShapeError, match="Col2Im"):
        Col2Im().evaluate(np.zeros(shape, F), np.array(image), np.array(block))


# ---------------------------------------------------------------- DeformConv


DEFORMED = [
    # x, outputs, kernel, strides, dilations, pads, group, offset groups, masked
    ((2, 3, 7, 6), 5, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, 1, True),
    ((1, 16, 9, 70), 17, (3, 2), (2, 1), (1, 2), (0, 2, 1, 0), 1, 1, False),
    ((1, 32, 6, 5), 8, (2, 2), (1, 1), (1, 1), (0, 0, 0, 0), 2, 2, True),
    ((2, 32, 5, 5), 6, (1, 3), (1, 2), (1, 1), (0, 1, 0, 1), 2, 1, True),
    ((1, 20, 5, 5), 4, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, 1, True),
]


@pytest.mark.parametrize("case", DEFORMED)
def test_deform_conv_kernel_is_the_reference(isa, threads, case):
    x_shape, o, kernel, strides, dilations, pads, group, parts, masked = case
    rng = np.random.default_rng(o)
    op = DeformConv(strides, pads, dilations, group, parts)
    x = rng.standard_normal(x_shape).astype(F)
    w = rng.standard_normal((o, x_shape[1] // group, *kernel)).astype(F)
    out = [(x_shape[2 + a] + pads[a] + pads[2 + a] - dilations[a] * (kernel[a] - 1) - 1) // strides[a] + 1 for a in range(2)]
    taps = kernel[0] * kernel[1] * parts
    offset = (rng.standard_normal((x_shape[0], 2 * taps, *out)) * 3).astype(F)
    offset[:, 0, 0, 0], offset[:, 1, -1, -1], offset[:, 0, -1, 0], offset[:, 1, 0, -1] = np.nan, np.inf, 1e30, 0
    mask = rng.uniform(0, 2, (x_shape[0], taps, *out)).astype(F) if masked else None
    inputs = [x, w, offset, rng.standard_normal(o).astype(F), mask]
    (expected,) = op.evaluate(*inputs)
    np.testing.assert_allclose(compiled(op, inputs, threads), expected, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- RoiAlign, float16


@pytest.mark.parametrize(("ratio", "half"), list(itertools.product((0, 1, 3), (False, True))))
def test_the_largest_corner_of_regions(isa, threads, ratio, half):
    rng = np.random.default_rng(ratio)
    x = rng.standard_normal((2, 19, 9, 12)).astype(F)
    corners = rng.uniform(-8, 20, (24, 2)).astype(F)
    rois = np.concatenate([corners, corners + rng.uniform(-2, 14, (24, 2)).astype(F)], 1)
    rois[0] = [0, 0, 12, 9]
    rois[1] = [-90, -90, -80, -80]
    rois[2] = [3, 3, 3, 3]
    op = RoiAlign("max", 3, 4, ratio, 0.5, half)
    inputs = [x, rois, rng.integers(0, 2, 24)]
    (expected,) = op.evaluate(*inputs)
    assert (expected < 0).any()
    np.testing.assert_allclose(compiled(op, inputs, threads), expected, rtol=1e-5, atol=1e-6)


def test_no_number_among_the_corners_is_the_largest(isa):
    x = np.ones((1, 1, 6, 6), F)
    x[0, 0, 2, 2] = np.nan
    y = compiled(RoiAlign("max", 1, 2, 2, 1.0, False), [x, np.array([[0, 0, 6, 6]], F), np.zeros(1, np.int64)])
    assert np.isnan(y[0, 0, 0, 0])
    assert np.isfinite(y[0, 0, 0, 1])


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_cubic_taps_alone_are_clamped(isa, padding):
    """Outside, the weights are those of the place, whatever pixels its taps stand for."""
    op = GridSample("cubic", padding, 1)
    x = np.array([[[[1, 2, 4, 8]]]], F)
    at = np.array([-1.5, -0.6, 3.3, 4.25])
    grid = np.zeros((1, 1, 4, 2), F)
    grid[0, 0, :, 0] = at / 3 * 2 - 1
    expected = []
    for v in at:
        base, total = int(np.floor(v)), 0.0
        for i in range(base - 1, base + 3):
            t = abs(v - i)
            weight = (1.25 * t - 2.25) * t * t + 1 if t <= 1 else ((-0.75 * t + 3.75) * t - 6) * t + 3
            mirrored = abs(i) if i < 4 else 6 - i
            j = {"zeros": i, "border": min(max(i, 0), 3), "reflection": mirrored}[padding]
            total += weight * x[0, 0, 0, j] if 0 <= j < 4 else 0
        expected.append(total)
    np.testing.assert_allclose(op.evaluate(x, grid)[0].ravel(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(compiled(op, [x, grid]).ravel(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("x_type", "grid_type"), [(10, 10), (10, 1), (1, 10)])
def test_grids_and_images_of_half_precision(x_type, grid_type):
    """The result has the type of the image; half precision is computed by kernels, not by the host."""
    types = {1: np.float32, 10: np.float16}
    graph = helper.make_graph(
        [helper.make_node("GridSample", ["x", "g"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", x_type, [1, 3, 6, 7]), helper.make_tensor_value_info("g", grid_type, [1, 5, 4, 2])],
        [helper.make_tensor_value_info("y", x_type, [1, 3, 5, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((1, 3, 6, 7)).astype(types[x_type]), rng.uniform(-1, 1, (1, 5, 4, 2)).astype(types[grid_type])
    loaded = cnnengine.load(io.BytesIO(model.SerializeToString()))
    (y,) = loaded.run(None, {"x": x, "g": g})
    assert y.dtype == types[x_type]
    np.testing.assert_allclose(y, GridSample().evaluate(x.astype(F), g.astype(F))[0], atol=2e-3)
    from cnnengine.report import summarize

    assert any("grid_sample" in kernel for layer in summarize(loaded).layers for kernel in layer.kernels)


def test_a_graph_that_does_not_fit_a_batch_of_one_loads():
    """A Squeeze without axes takes a batch of 1 away; a model for other batches is a model, and 1 is refused when it runs."""

    def model(columns: int) -> io.BytesIO:
        nodes = [
            helper.make_node("Squeeze", ["x"], ["flat"]),
            helper.make_node("Split", ["flat"], ["a", "b"], axis=1, num_outputs=2),
            helper.make_node("Add", ["a", "b"], ["y"]),
        ]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", columns, 1])]
        graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name="y")])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        return io.BytesIO(made.SerializeToString())

    loaded = cnnengine.load(model(4))
    x = np.arange(12, dtype=F).reshape(3, 4, 1)
    assert np.array_equal(loaded(x), x[:, :2, 0] + x[:, 2:, 0])
    with pytest.raises(ShapeError, match="Split"):
        loaded(x[:1])
    odd = cnnengine.load(model(5))  # a batch that constants decide cannot be guessed: what fits none is refused at each run
    for batch in (1, 2, 3):
        with pytest.raises(ShapeError, match=r"Add|Split"):
            odd(np.zeros((batch, 5, 1), F))
