"""The pooling kernels, each instruction set, one and two threads, among buffers full of NaN, against the oracle."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
from oracle import EXACT, ROUNDING, assert_close, assert_same_bits

from cnnengine.ops import pool as ops
from cnnengine.spec import TensorSpec

from .launching import run

HALO = ((0, 1), (2, 1), (1, 3))
AXIS_HALO = {1: ((0, 0), (0, 0), (2, 1)), 2: ((0, 0), (1, 0), (1, 3)), 3: HALO}


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def oracle_window(kind, x, case, **extra):
    if kind == "max":
        return oracle.max_pool(x, case["kernel"], **{k: v for k, v in case.items() if k != "kernel"})[0]
    pool = oracle.avg_pool if kind == "avg" else oracle.lp_pool
    return pool(x, case["kernel"], **{k: v for k, v in case.items() if k != "kernel"}, **extra)


def operator(kind, case, **extra):
    cls = {"max": ops.MaxPool, "avg": ops.AveragePool, "lp": ops.LpPool}[kind]
    return cls(
        kernel_shape=tuple(case["kernel"]),
        strides=tuple(case.get("stride", ())),
        pads=tuple(case.get("pads", ())),
        dilations=tuple(case.get("dilation", ())),
        ceil_mode=int(case.get("ceil_mode", False)),
        auto_pad=case.get("auto_pad", "NOTSET"),
        **extra,
    )


def geometry(op, x):
    _, begins, ends = op.window.resolve(x.shape[2:])
    w = op.window
    return {"kernel": w.kernel, "stride": w.strides, "dilation": w.dilations, "begins": begins, "ends": ends}


CASES = [
    ((2, 19, 14, 15), {"kernel": (2, 2), "stride": (2, 2)}),
    ((1, 35, 13, 17), {"kernel": (3, 3), "stride": (2, 2), "pads": (1, 1, 1, 1)}),
    ((1, 16, 9, 22), {"kernel": (3, 3), "pads": (1, 1, 1, 1)}),
    ((1, 7, 12, 13), {"kernel": (5, 5), "pads": (2, 2, 2, 2)}),
    ((1, 7, 12, 13), {"kernel": (2, 2), "pads": (0, 0, 1, 1)}),
    ((1, 7, 12, 13), {"kernel": (3, 2), "stride": (1, 3), "dilation": (2, 3), "pads": (1, 2, 2, 0)}),
    ((1, 5, 8, 8), {"kernel": (3, 3), "stride": (2, 2), "ceil_mode": True}),
    ((1, 5, 6, 7), {"kernel": (2, 2), "stride": (3, 3), "pads": (1, 1, 1, 1), "ceil_mode": True}),  # drops a window
    ((1, 5, 7, 5), {"kernel": (3, 3), "stride": (2, 2), "auto_pad": "SAME_UPPER"}),
    ((1, 5, 8, 5), {"kernel": (4, 2), "stride": (3, 2), "auto_pad": "SAME_LOWER"}),
    ((1, 5, 8, 5), {"kernel": (1, 2), "stride": (3, 2), "auto_pad": "SAME_UPPER"}),  # stride > kernel
    ((1, 5, 8, 6), {"kernel": (4, 2), "stride": (3, 3), "auto_pad": "VALID"}),
    ((1, 5, 2, 3), {"kernel": (5, 5), "pads": (2, 2, 2, 2)}),  # no interior
    ((1, 5, 3, 3), {"kernel": (4, 4), "stride": (2, 2), "ceil_mode": True}),  # larger than the input
    ((1, 5, 1, 2), {"kernel": (2, 2), "dilation": (3, 3), "pads": (2, 2, 2, 2)}),  # taps on both sides of the input
    ((1, 3, 20, 20), {"kernel": (11, 9), "stride": (3, 2), "pads": (5, 4, 5, 4)}),
    ((2, 33, 31), {"kernel": (3,), "stride": (2,), "pads": (1, 1)}),
    ((3, 4, 31), {"kernel": (4,), "stride": (4,), "ceil_mode": True}),
    ((1, 18, 6, 7, 9), {"kernel": (2, 2, 2), "stride": (2, 2, 2)}),
    (
        (1, 3, 6, 7, 9),
        {"kernel": (3, 2, 3), "stride": (1, 2, 2), "dilation": (2, 1, 1), "pads": (1, 0, 1, 1, 1, 2), "ceil_mode": True},
    ),
    ((0, 3, 6, 7), {"kernel": (3, 2)}),
    ((1, 64, 4, 4), {"kernel": (2, 2), "stride": (2, 2)}),  # several planes a chunk
    ((1, 3, 90, 100), {"kernel": (7, 7), "pads": (3, 3, 3, 3)}),  # several chunks a plane
]


@pytest.mark.parametrize(("shape", "case"), CASES)
def test_max(shape, case, isa, threads):
    x = data(*shape)
    want = oracle_window("max", x, case)
    op = operator("max", case)
    (got,) = run("pool", [x], [want.shape], planes=(0,), out_planes=(0,), halo=AXIS_HALO[x.ndim - 2],
                 out_halo=AXIS_HALO[x.ndim - 2], threads=threads, kind="max", **geometry(op, x))  # fmt: skip
    assert_close(got, want, EXACT)
    assert op.specs([TensorSpec.of(x)])[0].shape == want.shape
    assert_close(op.evaluate(x)[0], want, EXACT)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize(("shape", "case"), CASES)
def test_average(shape, case, include, isa, threads):
    x = data(*shape)
    with np.errstate(invalid="ignore"):
        want = oracle_window("avg", x, case, count_include_pad=include)
        magnitude = oracle_window("avg", np.abs(x), case, count_include_pad=include)
        op = operator("avg", case, count_include_pad=int(include))
        (got,) = run("pool", [x], [want.shape], planes=(0,), out_planes=(0,), threads=threads, kind="avg",
                     count_include_pad=include, **geometry(op, x))  # fmt: skip
    terms = int(np.prod(case["kernel"]))
    assert_close(got, want, ROUNDING, magnitude=magnitude, terms=terms)
    assert_close(op.evaluate(x)[0], want, ROUNDING, magnitude=magnitude, terms=terms)


@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
@pytest.mark.parametrize(("shape", "case"), CASES)
def test_lp(shape, case, p, isa, threads):
    x = data(*shape)
    want = oracle_window("lp", x, case, p=p)
    op = operator("lp", case, p=p)
    (got,) = run("pool", [x], [want.shape], planes=(0,), out_planes=(0,), threads=threads, kind="lp", p=p, **geometry(op, x))
    assert_close(got, want, ROUNDING, terms=int(np.prod(case["kernel"])))
    assert_close(op.evaluate(x)[0], want, ROUNDING, terms=int(np.prod(case["kernel"])))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_max_of_nan_and_infinities(stride, isa, threads):
    x = data(1, 20, 16, 17)
    rng = np.random.default_rng(1)
    x[rng.random(x.shape) < 0.05] = np.nan
    x[rng.random(x.shape) < 0.05] = -np.nan
    x[rng.random(x.shape) < 0.1] = np.inf
    x[:, 3] = -np.inf
    case = {"kernel": (3, 3), "stride": (stride, stride), "pads": (1, 1, 1, 1)}
    want, where = oracle.max_pool(x, **case)
    op = operator("max", case, indices=True)
    (got,) = run("pool", [x], [want.shape], planes=(0,), out_planes=(0,), threads=threads, kind="max", **geometry(op, x))
    plain, indices = run("max_pool_indices", [x], [want.shape, (want.shape, np.int64)], threads=threads, **geometry(op, x))
    assert np.isnan(want).any() and np.isinf(want).any()
    assert_close(got, want, EXACT)
    assert_close(plain, want, EXACT)
    np.testing.assert_array_equal(indices, where)
    np.testing.assert_array_equal(op.evaluate(x)[1], where)


def test_groups(isa, threads):
    x = data(2, 3 * 18, 7, 9)
    case = {"kernel": (3, 3), "stride": (2, 2), "pads": (1, 1, 1, 1)}
    want = oracle_window("max", x, case)
    (got,) = run("pool", [x], [want.shape], planes=(0,), out_planes=(0,), groups=3, out_halo=HALO, threads=threads, kind="max",
                 **geometry(operator("max", case), x))  # fmt: skip
    whole = oracle.global_avg_pool(x)
    for out_planes in ((), (0,)):
        (mean,) = run(
            "global_pool", [x], [whole.shape], planes=(0,), out_planes=out_planes, groups=3, threads=threads, kind="avg"
        )
        assert_close(mean, whole, ROUNDING, magnitude=oracle.global_avg_pool(np.abs(x)), terms=63)
    assert_close(got, want, EXACT)


def test_threads_change_no_bit():
    x = data(2, 40, 60, 61)
    case = {"kernel": (3, 3), "pads": (1, 1, 1, 1)}
    shape = (2, 40, 60, 61)
    one, two = (
        run("pool", [x], [shape], planes=(0,), out_planes=(0,), threads=t, kind="avg", **geometry(operator("avg", case), x))[0]
        for t in (1, 2)
    )
    assert_same_bits(one, two)


@pytest.mark.parametrize("storage_order", [0, 1])
@pytest.mark.parametrize(("shape", "case"), CASES)
def test_max_indices(shape, case, storage_order, isa, threads):
    x = np.round(data(*shape) * 2)  # with equals
    want, where = oracle.max_pool(x, **case)
    op = operator("max", case, storage_order=storage_order, indices=True)
    got, indices = run("max_pool_indices", [x], [want.shape, (want.shape, np.int64)], threads=threads,
                       storage_order=storage_order, **geometry(op, x))  # fmt: skip
    if storage_order:
        n, c, *at = np.unravel_index(np.maximum(where, 0), x.shape)
        column = np.ravel_multi_index(at, x.shape[2:], order="F") + (n * x.shape[1] + c) * int(np.prod(x.shape[2:]))
        where = np.where(where < 0, -1, column)
    assert_close(got, want, EXACT)
    np.testing.assert_array_equal(indices, where)
    reference = op.evaluate(x)
    assert_close(reference[0], want, EXACT)
    np.testing.assert_array_equal(reference[1], where)


WHOLE = [
    (2, 19, 7, 7),
    (1, 5, 13),
    (1, 33, 3, 5, 7),
    (1, 3, 112, 112),
    (2, 17, 1, 1),
    (2, 19, 2, 5),  # two rows, which the halo parts
    (1, 3, 2, 1),
    (1, 17, 2, 2, 3),
    (1, 2, 70001),
    (0, 3, 4, 4),
    (1, 1, 300, 3),
]


@pytest.mark.parametrize("kind", ["max", "avg", 1, 2, 3])
@pytest.mark.parametrize("shape", WHOLE)
def test_global(shape, kind, isa, threads):
    x = data(*shape) + np.float32(3)
    if kind == "max":
        op, want, params, mag = ops.GlobalMaxPool(), oracle.global_max_pool(x), {"kind": "max"}, None
    elif kind == "avg":
        op, want, params, mag = (
            ops.GlobalAveragePool(),
            oracle.global_avg_pool(x),
            {"kind": "avg"},
            oracle.global_avg_pool(np.abs(x)),
        )
    else:
        op, want, params, mag = ops.GlobalLpPool(p=kind), oracle.global_lp_pool(x, p=kind), {"kind": "lp", "p": kind}, None
    for planes, out_planes, halo in itertools.product([(), (0,)], [(), (0,)], [AXIS_HALO[x.ndim - 2], ((0, 0),) * 3]):
        if out_planes and not planes:
            continue
        (got,) = run("global_pool", [x], [want.shape], planes=planes, out_planes=out_planes, halo=halo,
                     out_halo=AXIS_HALO[x.ndim - 2], threads=threads, **params)  # fmt: skip
        # a long sum must not collect errors: a handful of units, whatever its length
        assert_close(got, want, op.tolerance.upper(), magnitude=mag, terms=1)
    assert_close(op.evaluate(x)[0], want, op.tolerance.upper(), magnitude=mag, terms=1)


def test_global_max_keeps_nan(isa):
    for at in (0, 5, 31, 48):
        x = data(1, 17, 7, 7)
        x[0, 2].reshape(-1)[at] = np.nan
        for planes in ((), (0,)):
            (got,) = run("global_pool", [x], [(1, 17, 1, 1)], planes=planes, kind="max")
            assert_close(got, oracle.global_max_pool(x), EXACT)


ADAPTIVE = [
    ((2, 19, 13, 17), (4, 5)),
    ((1, 3, 5, 4), (7, 9)),  # more bins than pixels
    ((1, 33, 10, 10), (1, 1)),
    ((1, 5, 31), (8,)),
    ((2, 5, 6, 7, 40), (3, 2, 3)),
    ((0, 5, 6, 7), (3, 2)),
    ((1, 3, 200, 210), (50, 60)),
]


@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize(("shape", "size"), ADAPTIVE)
def test_adaptive(shape, size, mode, isa, threads):
    x = data(*shape)
    pool = oracle.adaptive_max_pool if mode == "max" else oracle.adaptive_avg_pool
    want, op = pool(x, size), ops.AdaptivePool(size, mode)
    magnitude = None if mode == "max" else pool(np.abs(x), size)
    (got,) = run(
        "adaptive_pool", [x], [want.shape], planes=(0,), halo=AXIS_HALO[x.ndim - 2], threads=threads, kind=mode, levels=[size]
    )
    kind = EXACT if mode == "max" else ROUNDING
    assert_close(got, want, kind, magnitude=magnitude)
    assert op.specs([TensorSpec.of(x)])[0].shape == want.shape
    assert_close(op.evaluate(x)[0], want, kind, magnitude=magnitude)


@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize("shape", [(2, 19, 13, 17), (1, 5, 3, 2), (1, 37, 100, 101)])
@pytest.mark.parametrize("levels", [(4, 2, 1), (1,), (6, 3)])
def test_pyramid(shape, levels, mode, isa, threads):
    x = data(*shape)
    want, op = oracle.spatial_pyramid_pool(x, levels=levels, mode=mode), ops.SpatialPyramidPool(levels, mode)
    magnitude = None if mode == "max" else oracle.spatial_pyramid_pool(np.abs(x), levels=levels, mode=mode)
    (got,) = run("adaptive_pool", [x], [want.shape], planes=(0,), threads=threads, kind=mode, levels=[(v, v) for v in levels])
    kind = EXACT if mode == "max" else ROUNDING
    assert_close(got, want, kind, magnitude=magnitude)
    assert op.specs([TensorSpec.of(x)])[0].shape == want.shape
    assert_close(op.evaluate(x)[0], want, kind, magnitude=magnitude)


@pytest.mark.parametrize("extra", [None, (0, 1), (3, 2)])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 0, 1)])
def test_unpool(pads, extra):
    x = data(2, 3, 4, 5)
    op = ops.MaxUnpool((2, 3), (2, 2), pads)
    inferred = oracle.max_unpool(x, np.zeros(x.shape, np.int64), (2, 3), stride=2, pads=pads).shape
    indices = np.random.default_rng(2).permutation(int(np.prod(inferred)))[: x.size].reshape(x.shape)
    shape = None if extra is None else (*inferred[:2], inferred[2] + extra[0], inferred[3] + extra[1])
    want = oracle.max_unpool(x, indices, (2, 3), stride=2, pads=pads, output_shape=shape)
    got, words = run("max_unpool", [x, indices], [want.shape, ((3,), np.int64)], inferred=inferred)
    assert_close(got, want, EXACT)
    assert not words.any()
    arguments = [x, indices] if shape is None else [x, indices, np.array(shape)]
    assert op.specs([TensorSpec.of(a) for a in arguments])[0].shape == want.shape
    assert_close(op.evaluate(*arguments)[0], want, EXACT)


@pytest.mark.parametrize("bad", [-1, 2 * 3 * 8 * 10])
def test_unpool_tells_of_foreign_indices(bad):
    x = data(2, 3, 4, 5)
    indices = np.zeros(x.shape, np.int64)
    indices[1, 2, 3, 4] = bad
    _, words = run("max_unpool", [x, indices], [(2, 3, 8, 10), ((3,), np.int64)], inferred=(2, 3, 8, 10))
    assert words.tolist() == [1, bad, 0]


def test_builders_refuse_what_does_not_fit():
    x = data(1, 3, 6, 6)
    window = {"kernel": (2, 2), "stride": (2, 2), "dilation": (1, 1), "begins": (0, 0), "ends": (0, 0)}
    with pytest.raises(ValueError):
        run("pool", [x], [(1, 3, 3, 3)], kind="max", **window)  # plain
    with pytest.raises(ValueError):
        run("pool", [x], [(1, 4, 3, 3)], planes=(0,), out_planes=(0,), kind="max", **window)
    with pytest.raises(ValueError):
        run("pool", [x], [(1, 3, 3, 3)], planes=(0,), out_planes=(0,), kind="median", **window)
    with pytest.raises(ValueError):
        run("pool", [x], [(1, 3, 3, 3)], planes=(0,), out_planes=(0,), kind="max", **{**window, "stride": (0, 1)})
    with pytest.raises(ValueError):
        run("adaptive_pool", [x], [(1, 3, 3, 3)], planes=(0,), kind="max", levels=[(3, 4)])
    with pytest.raises(ValueError):
        run("global_pool", [x], [(1, 3, 2, 1)], kind="max")
    with pytest.raises(ValueError):
        run("max_unpool", [x, np.zeros(x.shape, np.int64)], [(1, 3, 5, 6)], inferred=(1, 3, 6, 6))


def test_integer_max_pool_reference():
    x = np.random.default_rng(0).integers(-128, 128, (1, 2, 6, 7)).astype(np.int8)
    case = {"kernel": (3, 3), "stride": (2, 2), "pads": (1, 1, 1, 1)}
    got = operator("max", case).evaluate(x)[0]
    assert got.dtype == np.int8
    np.testing.assert_array_equal(got, oracle.max_pool(x, **case)[0])
