"""Products of quantised matrices: bit for bit what integers give, at each instruction set, on one and two threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnengine._kernels import kernel
from cnnengine._kernels.dispatch import available_isas, use_isa
from cnnengine._kernels.qdense import pack_columns, pack_qdense, pack_qdense_bias, pack_qdense_part, packed_sizes
from cnnengine.layout import View, aligned_empty
from cnnengine.ops.quantized_dense import BytePanels, OfColumns
from cnnengine.packing import Scratch
from cnnengine.plan.share import share

from .bytes_planes import plain, run

pytestmark = pytest.mark.products_of_bytes


def exact(x: np.ndarray, w: np.ndarray, x_zero: int = 0, w_zero: Any = 0, bias: np.ndarray | None = None) -> np.ndarray:
    """The sums, int32 as ONNX has it."""
    sums = (x.astype(np.int64) - x_zero) @ (w.astype(np.int64) - w_zero)
    return (sums + (0 if bias is None else bias.astype(np.int64))).astype(np.int32)


def product(
    x: np.ndarray,
    w: np.ndarray,
    *,
    x_zero: int = 0,
    w_zero: Any = 0,
    bias: np.ndarray | None = None,
    ratio: np.ndarray | None = None,
    more: np.ndarray | None = None,
    dtype: Any = np.int32,
    running: bool = False,
    scales: tuple[float, float] | None = None,
    threads: int = 1,
    **params: Any,
) -> np.ndarray:
    """`running`: zero points come as operands, and what x's changes is found while running."""
    k, n = w.shape
    zeros = np.asarray(w_zero) - (128 if w.dtype == np.uint8 else 0)
    sums = None
    if running:
        sums = pack_columns(w.astype(np.int64).sum(axis=0) - (128 * k if w.dtype == np.uint8 else 0), n, np.int32, aligned_empty)
        held = None if bias is None else pack_columns(bias, n, np.int32, aligned_empty)
    else:
        held = pack_qdense_bias(w, bias, x_zero, aligned_empty)
    columns = pack_columns(zeros, n, np.int32, aligned_empty) if zeros.ndim else None
    scalar_zero = 0 if zeros.ndim else int(zeros)
    late = running and w.dtype == np.uint8 and not zeros.ndim
    inputs = [
        plain(x),
        plain(pack_qdense(w, aligned_empty)),
        plain(sums),
        plain(columns),
        plain(held),
        None if ratio is None else plain(pack_columns(ratio, n, np.float32, aligned_empty)),
        plain(more if more is None or dtype == np.uint8 else pack_columns(more, n, np.float32, aligned_empty)),
        None if scales is None else plain(np.array([scales[0]], np.float32)),
        plain(np.array([x_zero], np.uint8)) if running else None,
        None if scales is None else plain(np.array([scales[1]], np.float32)),
        plain(np.array([w_zero], np.uint8)) if late else None,
    ]
    y = View.plain((*x.shape[:-1], n), dtype)
    given = {"x_zero": 0 if running else x_zero, "w_zero": 0 if late else scalar_zero, **params}
    return run("qdense", inputs, [y], threads, **given)[0]


def matrices(m: int, k: int, n: int, dtype: Any = np.int8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    return rng.integers(0, 256, (m, k), np.uint8), rng.integers(limits.min, limits.max + 1, (k, n), dtype)


SHAPES = [(1, 1, 1), (1, 64, 10), (2, 65, 33), (3, 3, 64), (4, 127, 65), (5, 8, 31), (7, 130, 97), (1, 1280, 100), (13, 17, 129)]
SHAPES += [(64, 33, 40), (200, 300, 70), (1, 0, 5), (0, 5, 5), (9, 4096, 32)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("running", [False, True])
def test_sums(shape: tuple[int, int, int], dtype: Any, running: bool, isa: str, threads: int) -> None:
    x, w = matrices(*shape, dtype)
    n = shape[2]
    bias = np.random.default_rng(1).integers(-(1 << 31), 1 << 31, n).astype(np.int32)
    limits = np.iinfo(dtype)
    by_column = np.random.default_rng(2).integers(limits.min, limits.max + 1, n)
    for x_zero, w_zero in ((0, 0), (200, limits.min), (131, limits.max), (9, by_column)):
        got = product(x, w, x_zero=x_zero, w_zero=w_zero, bias=bias, running=running, threads=threads)
        np.testing.assert_array_equal(got, exact(x, w, x_zero, w_zero, bias))
    np.testing.assert_array_equal(product(x, w, x_zero=77, running=running), exact(x, w, 77))


def test_sums_that_wrap_around(isa: str) -> None:
    """What int32 does not hold is what ONNX's int32 has."""
    x, w = np.full((1, 70000), 255, np.uint8), np.full((70000, 3), -128, np.int8)
    bias = np.full(3, -(1 << 31), np.int32)
    np.testing.assert_array_equal(product(x, w, x_zero=0, w_zero=127, bias=bias), exact(x, w, 0, 127, bias))


@pytest.mark.parametrize("shape", [(1, 100, 70), (5, 64, 33), (40, 31, 64)])
def test_what_is_done_to_a_sum(shape: tuple[int, int, int], isa: str, threads: int) -> None:
    x, w = matrices(*shape)
    n = shape[2]
    rng = np.random.default_rng(3)
    bias, ratio = rng.integers(-9999, 9999, n).astype(np.int32), rng.uniform(1e-4, 4e-3, n).astype(np.float32)
    offset, table = rng.standard_normal(n).astype(np.float32), rng.permutation(256).astype(np.uint8)
    sums = exact(x, w, 120, 3, bias)
    given: dict[str, Any] = {"x_zero": 120, "w_zero": 3, "bias": bias, "ratio": ratio, "threads": threads}
    steps = sums.astype(np.float32) * ratio
    want = np.clip(np.rint(steps).astype(np.float64) + 131, 9, 240).astype(np.uint8)
    np.testing.assert_array_equal(product(x, w, dtype=np.uint8, y_zero=131, low=9, high=240, **given), want)
    np.testing.assert_array_equal(product(x, w, dtype=np.uint8, y_zero=131, low=9, high=240, more=table, **given), table[want])
    got = product(x, w, dtype=np.float32, more=offset, low=-1.5, high=40.0, **given)
    np.testing.assert_array_equal(got, np.clip(steps + offset, np.float32(-1.5), np.float32(40)))
    got = product(x, w, dtype=np.float32, **given)
    np.testing.assert_array_equal(got.view(np.int32), steps.view(np.int32))
    for running in (False, True):
        got = product(x, w, dtype=np.float32, scales=(0.31, 1.7), running=running, **given)
        factor = (np.float32(0.31) * np.float32(1.7)) * ratio
        np.testing.assert_array_equal(got.view(np.int32), (sums.astype(np.float32) * factor).view(np.int32))
    got = product(x, w, dtype=np.float32, scales=(np.nan, 1.0), more=offset, **given)
    assert np.isnan(got).all()


@pytest.mark.parametrize("batch", [(3,), (2, 3), ()])
@pytest.mark.parametrize("transposed", [False, True])
def test_two_matrices_known_only_while_running(batch: tuple[int, ...], transposed: bool, isa: str, threads: int) -> None:
    rng = np.random.default_rng(0)
    for m, k, n in ((5, 33, 70), (1, 64, 31), (40, 7, 64)):
        x = rng.integers(0, 256, (*batch, m, k), np.uint8)
        w = rng.integers(0, 256, (*batch, n, k) if transposed else (*batch, k, n), np.uint8)
        count, columns = packed_sizes(k, n)
        total = int(np.prod(batch, dtype=int))
        packed, sums = run(
            "qpack",
            [plain(w)],
            [View.plain((total * count,), np.int8), View.plain((total * columns,), np.int32)],
            threads,
            transposed=transposed,
        )
        w = w.swapaxes(-1, -2) if transposed else w
        zeros = [plain(np.array([v], np.uint8)) for v in (99, 201)]
        y = View.plain((*batch, m, n), np.int32)
        inputs = [plain(x), plain(packed), plain(sums), None, None, None, None, None, zeros[0], None, zeros[1]]
        got = run("qdense", inputs, [y], threads, batched=True)[0]
        np.testing.assert_array_equal(got, (x.astype(np.int64) - 99) @ (w.astype(np.int64) - 201))
        if batch:  # one matrix for all
            first = x.reshape(-1, m, k)[0]
            got = run("qdense", [plain(first), *inputs[1:]], [y], threads, batched=True)[0]
            np.testing.assert_array_equal(got, (first.astype(np.int64) - 99) @ (w.astype(np.int64) - 201))


def test_rows_of_several_axes(isa: str) -> None:
    x, w = matrices(30, 20, 40)
    got = product(x.reshape(2, 3, 5, 20), w, x_zero=5)
    np.testing.assert_array_equal(got.reshape(30, 40), exact(x, w, 5))


def test_transposed_and_mapped_weights_are_read_as_they_lie(isa: str) -> None:
    x, w = matrices(3, 20, 50)
    whole = np.zeros(1001, np.int8)
    whole[1:] = np.ascontiguousarray(w.T).reshape(-1)
    turned = whole[1:].reshape(50, 20).T
    turned.flags.writeable = False
    np.testing.assert_array_equal(pack_qdense(turned, aligned_empty), pack_qdense(w, aligned_empty))
    np.testing.assert_array_equal(product(x, turned, x_zero=5), exact(x, w, 5))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(4000, 700), (700, 4001), (64, 1 << 16)])
def test_parts_are_the_whole(shape: tuple[int, int], turned: bool, isa: str) -> None:
    """Weights that are packed part by part, in any order, have the bits of those packed at once."""
    w = np.random.default_rng(0).integers(-128, 128, shape, np.int8)
    w = np.ascontiguousarray(w.T).T if turned else w
    found = BytePanels(w).parts(0, aligned_empty)
    assert found is not None and len(found[1]) > 1
    found[0][:] = 77
    for job in found[1][::-1]:
        job(Scratch())
    np.testing.assert_array_equal(found[0], pack_qdense(w, aligned_empty))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("shape", [(4000, 700), (700, 4001), (64, 1 << 16)])
def test_sums_of_columns_in_parts_are_those_of_the_whole(shape: tuple[int, int], dtype: type, turned: bool, isa: str) -> None:
    """By several threads, in any order."""
    w = np.random.default_rng(0).integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape, dtype)
    w = np.ascontiguousarray(w.T).T if turned else w
    bias = np.random.default_rng(1).integers(-(1 << 20), 1 << 20, shape[1], np.int32)
    build = OfColumns(w, lambda totals, empty: pack_qdense_bias(w, bias, 7, empty, totals))
    found = build.parts(0, aligned_empty)
    assert found is not None and len(found[1]) > 1
    share([lambda thread, job=job: job(Scratch()) for job in found[1][::-1]], 4)
    np.testing.assert_array_equal(found[0], pack_qdense_bias(w, bias, 7, aligned_empty))
    np.testing.assert_array_equal(build(aligned_empty), found[0])
    assert OfColumns(w[:8, :100], build.finish).parts(0, aligned_empty) is None


def test_parts_that_are_none() -> None:
    w, out = np.zeros((8, 100), np.int8), np.zeros(packed_sizes(16, 100)[0], np.int8)
    pack_qdense_part(w, 8, 0, 16, out)
    for part, first, column, k in ((w, 1, 0, 16), (w, 8, 3, 16), (w, 12, 0, 16), (w[:7], 0, 0, 16), (w, -8, 0, 16)):
        with pytest.raises(ValueError, match="rows from"):
            pack_qdense_part(part, first, column, k, out)
    with pytest.raises(ValueError, match="panels from"):
        pack_qdense_part(np.zeros((8, 1000), np.int8), 0, 0, 16, out)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_shape(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.integers(0, 30)), draw(st.integers(0, 200)), draw(st.integers(1, 200))
    dtype = draw(st.sampled_from([np.int8, np.uint8]))
    x, w = matrices(*shape, dtype, draw(st.integers(0, 999)))
    limits = np.iinfo(dtype)
    x_zero, w_zero = draw(st.integers(0, 255)), draw(st.integers(limits.min, limits.max))
    with use_isa(draw(st.sampled_from(available_isas()))):
        got = product(x, w, x_zero=x_zero, w_zero=w_zero, running=draw(st.booleans()), threads=draw(st.sampled_from([1, 2])))
    np.testing.assert_array_equal(got, exact(x, w, x_zero, w_zero))


def test_refused() -> None:
    count, columns = packed_sizes(8, 5)
    views: dict[str, View | None] = {
        "x": View.plain((3, 8), np.uint8), "w": View.plain((count,), np.int8), "w_sums": None, "w_zeros": None, "bias": None,
        "ratio": None, "more": None, "x_scale": None, "x_zero": None, "w_scale": None, "w_zero": None,
    }  # fmt: skip
    ints = View.plain((columns,), np.int32)

    def build(y: View | None = None, params: dict[str, Any] | None = None, **changed: View) -> None:
        kernel("qdense").build(list({**views, **changed}.values()), [y or View.plain((3, 5), np.int32)], **(params or {}))

    build()
    build(bias=ints)
    with pytest.raises(ValueError, match="known before"):
        build(x_zero=View.plain((), np.uint8))
    with pytest.raises(ValueError, match="x_scale"):
        build(View.plain((3, 5)), x_scale=View.plain((2,)))
    with pytest.raises(ValueError, match="stored as they are"):
        build(ratio=View.plain((columns,)))
    with pytest.raises(ValueError, match="float32 where i4"):
        build(bias=View.plain((columns,)))
    with pytest.raises(ValueError, match="zero points 0, 200"):
        build(params={"w_zero": 200})
    with pytest.raises(ValueError, match="bounds 9 and 3"):
        build(View.plain((3, 5), np.uint8), {"low": 9, "high": 3})
    with pytest.raises(ValueError, match="int8"):
        build(x=View.plain((3, 8), np.int8))
    with pytest.raises(ValueError, match="->"):
        build(View.plain((2, 5), np.int32))
    launch = kernel("qdense").build(list(views.values()), [View.plain((3, 5), np.int32)])
    with pytest.raises(ValueError, match=f"operand 1 has 4 bytes, {count} are needed"):
        launch(np.zeros(24, np.uint8), np.zeros(4, np.int8), *[None] * 9, np.zeros(15, np.int32))
