"""RoiAlign and GridSample: the references against onnx.reference, the kernels against the references."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import cnnengine
from cnnengine import InputError, ShapeError
from cnnengine.ops.sample import GridSample, RoiAlign
from cnnengine.plan.eager import run_operator
from cnnengine.runtime.runner import fill_arenas

F = np.float32
PADDINGS = ("zeros", "border", "reflection")
MODES = ("nearest", "linear", "cubic")


def standard(kind: str, arrays: list[np.ndarray], version: int, **attributes: Any) -> np.ndarray:
    """What onnx.reference computes."""
    names = [f"x{i}" for i in range(len(arrays))]
    node = helper.make_node(kind, names, ["y"], **attributes)
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(names, arrays, strict=True)
    ]
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)
    (y,) = ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))
    return y


def grid_of(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Places inside, on the borders, outside and far outside."""
    grid = rng.uniform(-1.6, 1.6, shape).astype(F)
    flat = grid.reshape(-1, shape[-1])
    flat[: min(6, len(flat))] = np.array([[-1], [1], [0], [-3.7], [2.2], [9]], F)[: len(flat)]
    return grid


@pytest.mark.parametrize(("mode", "padding", "corners"), itertools.product(MODES, PADDINGS, (0, 1)))
@pytest.mark.parametrize("spatial", [(5, 4), (3, 4, 5), (7,)])
def test_grid_sample_reference_is_the_standards(mode, padding, corners, spatial):
    rng = np.random.default_rng(len(spatial))
    x = rng.standard_normal((2, 2, *spatial)).astype(F)
    grid = grid_of((2, *(3,) * (len(spatial) - 1), 4, len(spatial)), rng)
    (y,) = GridSample(mode, padding, corners).evaluate(x, grid)
    if (mode, padding) == ("cubic", "border"):
        # onnx.reference clamps the place too, not the taps alone; an image that goes on for long enough needs no clamping
        room = 64
        wide = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *((room, room),) * len(spatial)), "edge")
        places = np.empty(grid.shape)
        for axis, n in enumerate(reversed(spatial)):
            v = grid[..., axis].astype(np.float64)
            at = room + ((v + 1) / 2 * (n - 1) if corners else ((v + 1) * n - 1) / 2)
            places[..., axis] = 2 * at / (n + 2 * room - 1) - 1
        expected = standard("GridSample", [wide, places], 20, mode="cubic", padding_mode="zeros", align_corners=1)
    else:
        expected = standard("GridSample", [x, grid], 20, mode=mode, padding_mode=padding, align_corners=corners)
    np.testing.assert_allclose(y, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("mode", "padding", "corners"), itertools.product(MODES, PADDINGS, (0, 1)))
@pytest.mark.parametrize(
    ("x_shape", "out"), [((2, 3, 6, 5), (4, 7)), ((1, 33, 9, 1), (1, 65)), ((1, 16, 1, 8), (130, 2)), ((3, 1, 12, 13), (3, 64))]
)
def test_grid_sample_kernel_is_the_reference(isa, threads, mode, padding, corners, x_shape, out):
    rng = np.random.default_rng(x_shape[1])
    x = rng.standard_normal(x_shape).astype(F)
    grid = grid_of((x_shape[0], *out, 2), rng)
    op = GridSample(mode, padding, corners)
    fill_arenas(255)
    try:
        (y,) = run_operator(op, [x, grid], threads=threads)
    finally:
        fill_arenas(None)
    np.testing.assert_allclose(y, op.evaluate(x, grid)[0], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_places_that_are_no_numbers_lead_nowhere(isa, mode, padding):
    x = np.arange(1, 13, dtype=F).reshape(1, 1, 3, 4)
    grid = np.zeros((1, 1, 5, 2), F)
    grid[0, 0, :, 0] = [np.nan, np.inf, -np.inf, 3e38, -3e38]
    op = GridSample(mode, padding, 0)
    (y,) = run_operator(op, [x, grid])
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y, op.evaluate(x, grid)[0], rtol=1e-5)
    if padding == "zeros":
        assert not y.any()


def regions(n: int, rng: np.random.Generator, size: float) -> np.ndarray:
    """Regions inside, across the borders, outside, thin, and turned around."""
    start = rng.uniform(-0.3 * size, size, (n, 2))
    rois = np.concatenate([start, start + rng.uniform(0, 0.8 * size, (n, 2))], 1).astype(F)
    rois[1::6, 2:] = rois[1::6, :2] + F(0.01)
    rois[2::6] = rois[2::6][:, [2, 3, 0, 1]]
    rois[3::6] += F(3 * size)
    return rois


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_roi_align_reference_is_the_standards(mode, half, ratio):
    rng = np.random.default_rng(ratio)
    x = rng.standard_normal((2, 3, 11, 9)).astype(F)
    rois, images = regions(13, rng, 40), rng.integers(0, 2, 13)
    if half and ratio == 0:
        rois[2::6] = np.abs(rois[2::6])[:, [2, 3, 0, 1]]
        rois = np.concatenate([np.minimum(rois[:, :2], rois[:, 2:]), np.maximum(rois[:, :2], rois[:, 2:])], 1)
    op = RoiAlign(mode, 3, 2, ratio, 0.25, half)
    expected = standard(
        "RoiAlign",
        [x, rois, images],
        16,
        mode=mode,
        output_height=3,
        output_width=2,
        sampling_ratio=ratio,
        spatial_scale=0.25,
        coordinate_transformation_mode="half_pixel" if half else "output_half_pixel",
    )
    np.testing.assert_allclose(op.evaluate(x, rois, images)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("version", "half"), [(10, False), (15, False), (16, True), (22, True)])
def test_roi_align_places_its_regions_as_its_version_does(version, half):
    """Version 10 has no half pixel and no attribute for it; from 16 on it is the default."""
    rng = np.random.default_rng(5)
    x, rois = rng.standard_normal((2, 3, 11, 9)).astype(F), np.sort(rng.uniform(0, 16, (7, 2, 2)), 1).reshape(7, 4).astype(F)
    images, settings = rng.integers(0, 2, 7), {"output_height": 3, "output_width": 2, "sampling_ratio": 2, "spatial_scale": 0.5}
    where = "half_pixel" if half else "output_half_pixel"
    expected = standard("RoiAlign", [x, rois, images], 16, coordinate_transformation_mode=where, **settings)
    info = [helper.make_tensor_value_info(n, t, s) for n, t, s in (("x", 1, x.shape), ("rois", 1, (7, 4)), ("images", 7, (7,)))]
    node = helper.make_node("RoiAlign", [v.name for v in info], ["y"], **settings)
    graph = helper.make_graph([node], "g", info, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    (y,) = cnnengine.load(model).run(None, {"x": x, "rois": rois, "images": images})
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize(
    ("x_shape", "bins", "n"),
    [((2, 3, 11, 9), (3, 2), 13), ((1, 37, 20, 30), (7, 7), 30), ((3, 16, 1, 1), (2, 3), 7), ((1, 5, 64, 3), (1, 1), 1)],
)
def test_roi_align_kernel_is_the_reference(isa, threads, half, ratio, x_shape, bins, n):
    rng = np.random.default_rng(n)
    x = rng.standard_normal(x_shape).astype(F)
    rois, images = regions(n, rng, 2 * max(x_shape[2:])), rng.integers(0, x_shape[0], n)
    op = RoiAlign("avg", *bins, ratio, 0.5, half)
    model = one_node(op, x_shape, n)
    fill_arenas(255)
    try:
        (y,) = model.run(None, {"x": x, "rois": rois, "images": images}, threads=threads)
    finally:
        fill_arenas(None)
    np.testing.assert_allclose(y, op.evaluate(x, rois, images)[0], rtol=1e-4, atol=2e-5)
    assert not model.host_nodes()


def one_node(op: RoiAlign, x_shape: tuple[int, ...], n: int) -> cnnengine.Model:
    node = helper.make_node(
        "RoiAlign",
        ["x", "rois", "images"],
        ["y"],
        name="regions",
        mode=op.mode,
        output_height=op.output_height,
        output_width=op.output_width,
        sampling_ratio=op.sampling_ratio,
        spatial_scale=op.spatial_scale,
        coordinate_transformation_mode="half_pixel" if op.half_pixel else "output_half_pixel",
    )
    T = onnx.TensorProto
    inputs = [
        helper.make_tensor_value_info("x", T.FLOAT, x_shape),
        helper.make_tensor_value_info("rois", T.FLOAT, [n, 4]),
        helper.make_tensor_value_info("images", T.INT64, [n]),
    ]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", T.FLOAT, None)])
    return cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize("ratio", [0, 2])
def test_regions_that_are_no_regions_end(isa, bad, ratio):
    x = np.ones((1, 2, 4, 5), F)
    rois = np.zeros((4, 4), F)
    rois[0, 0] = rois[1, 1] = rois[2, 2] = rois[3, 3] = bad
    y = one_node(RoiAlign("avg", 2, 2, ratio, 1.0, True), x.shape, 4).run(
        None, {"x": x, "rois": rois, "images": np.zeros(4, np.int64)}
    )[0]
    assert np.isfinite(y).all()
    assert 0 <= y.min() <= y.max() <= 1.0001


@pytest.mark.parametrize("bad", [-1, 2, 2**40])
def test_an_image_that_is_not_there_is_an_error_that_names_the_node(bad):
    model = one_node(RoiAlign("avg", 2, 2), (2, 3, 4, 5), 3)
    feeds = {"x": np.ones((2, 3, 4, 5), F), "rois": np.ones((3, 4), F), "images": np.array([0, bad, 1])}
    with pytest.raises(InputError, match=f"regions.*RoiAlign.*outside.*{bad}"):
        model.run(None, feeds)
    with pytest.raises(InputError, match="outside"):
        RoiAlign("avg", 2, 2).evaluate(*feeds.values())


def test_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match="GridSample"):
        GridSample().evaluate(np.ones((1, 2, 3, 4), F), np.ones((1, 2, 2, 3), F))
    with pytest.raises(ShapeError, match="RoiAlign"):
        RoiAlign().evaluate(np.ones((1, 2, 3, 4), F), np.ones((2, 3), F), np.zeros(2, np.int64))
    assert GridSample().evaluate(np.ones((1, 2, 3, 4), F), np.ones((1, 0, 5, 2), F))[0].shape == (1, 2, 0, 5)
