"""The convolution, depthwise and dense kernels, each instruction set, one and two threads, among NaN, against the oracle."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import oracle
import pytest
from oracle import ROUNDING, assert_close, assert_same_bits

from cnnengine._kernels import dispatch, kernel
from cnnengine._kernels import pack as kernels
from cnnengine.layout import NO_HALO, View, aligned_empty, merge_halos
from cnnengine.operator import Activation

from .launching import blocked, pixels, run, unblocked
from .sliding import sliding

GUARD = 512
OUT_HALO = {1: ((0, 0), (0, 0), (2, 1)), 2: ((0, 0), (1, 0), (1, 3)), 3: ((1, 0), (2, 1), (0, 2))}


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def among_nan(array: np.ndarray, fill: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """An aligned copy of a flat array with NaN before and behind it: the whole, and the part."""
    whole = aligned_empty(array.size + 2 * GUARD)
    whole[:] = np.nan
    part = whole[GUARD : GUARD + array.size]
    if fill:
        part[:] = array
    return whole, part


def launch_conv(
    name,
    x,
    w,
    bias,
    *,
    stride=1,
    pads=0,
    dilation=1,
    groups=1,
    residual=None,
    activation=None,
    in_lanes=None,
    in_halo=NO_HALO,
    out_halo=NO_HALO,
    threads=1,
):
    """Run kernel `name` on arrays (N, C, ...) as `Conv.lower`."""
    window = sliding(x.shape, w.shape[2:], stride, pads, dilation)
    depthwise = name == "depthwise"
    layout_groups = 1 if depthwise or x.shape[1] // groups % dispatch.lanes() == 0 else groups
    # in_lanes 0: plain, for which the kernel has weights as for planes of one channel
    xv = View.plain(x.shape)
    if in_lanes != 0:
        xv = View.planes(x.shape, in_lanes or dispatch.lanes(), merge_halos(window.halo, in_halo), layout_groups)
    y_groups = 1 if depthwise or w.shape[0] // groups % dispatch.lanes() == 0 else groups
    yv = View.planes((x.shape[0], w.shape[0], *window.shape), dispatch.lanes(), out_halo, y_groups)
    if depthwise:
        packed = kernels.pack_depthwise(w, aligned_empty)
        bias_packed = kernels.pack_bias(bias, w.shape[0], aligned_empty)
        params: dict[str, Any] = {"per_group": w.shape[1]}
    else:
        packed = kernels.pack_conv(w, groups, {None: dispatch.lanes(), 0: 1}.get(in_lanes, in_lanes), aligned_empty)
        bias_packed = kernels.pack_bias(bias, w.shape[0], aligned_empty, groups)
        params = {"groups": groups}
    rv = None if residual is None else View.planes(yv.shape, dispatch.lanes(), in_halo, y_groups)
    launch = kernel(name).build([xv, None, None, rv], [yv], taps=window.taps, stride=window.step, activation=activation, **params)
    arrays = [among_nan(x.ravel() if xv.is_plain else blocked(xv, x))[1], among_nan(packed)[1], among_nan(bias_packed)[1]]
    arrays.append(None if rv is None else among_nan(blocked(rv, residual))[1])
    whole, y = among_nan(np.empty(yv.size, np.float32), fill=False)
    kernel(name).front(launch, *arrays, y, threads=threads)
    assert np.isnan(whole[:GUARD]).all() and np.isnan(whole[GUARD + y.size :]).all(), "written outside of the output"
    return unblocked(yv, y)


def check(name, x, w, bias=None, *, residual=None, activation=None, **kw):
    """The kernel's result, after comparing it with the oracle."""
    geometry = {k: kw[k] for k in ("stride", "pads", "dilation", "groups") if k in kw}
    got = launch_conv(name, x, w, bias, residual=residual, activation=activation, **kw)
    want = oracle.conv(x, w, bias, **geometry)
    magnitude = oracle.conv(abs(x), abs(w), None if bias is None else abs(bias), **geometry)
    if residual is not None:
        want, magnitude = want + residual, magnitude + abs(residual)
    if activation is not None and activation.kind == "clip":
        want = np.clip(want, activation.alpha, activation.beta)
    elif activation is not None:
        assert activation.kind == "leaky_relu"
        want = np.where(want < 0, want * activation.alpha, want)
    assert_close(got, want, ROUNDING, magnitude=magnitude, terms=math.prod(w.shape[1:]) + 2)
    return got


@pytest.mark.parametrize("width", [*range(1, 18), 27, 28, 29, 54, 57])
@pytest.mark.parametrize("channels", [(16, 16), (5, 40), (40, 72)])
def test_widths(width, channels, isa):
    c, o = channels
    check("conv", data(1, c, 3, width), data(o, c, 1, 3, seed=1), data(o, seed=2), pads=(0, 1, 0, 1), out_halo=OUT_HALO[2])
    check("conv", data(1, c, 2, 2 * width), data(o, c, 2, 3, seed=1), data(o, seed=2), stride=2, pads=(1, 1, 0, 1))
    check("conv", data(1, c, 1, width), data(o, c, 1, 1, seed=1), data(o, seed=2))


CASES = [
    # x, w, geometry
    ((1, 24, 9, 13), (144, 24, 1, 1), {}),
    ((1, 32, 7, 7), (48, 32, 1, 1), {}),
    ((2, 300, 5, 6), (33, 300, 1, 1), {}),  # several K blocks and a partial plane
    ((1, 129, 7, 7), (136, 129, 3, 3), {"pads": 1}),
    ((2, 64, 14, 14), (64, 64, 3, 3), {"pads": 1}),
    ((1, 200, 6, 5), (20, 200, 3, 3), {"pads": 1}),
    ((1, 16, 40, 30), (96, 16, 1, 1), {}),  # flat, a last row of its own length
    ((1, 16, 13, 11), (24, 16, 1, 1), {"stride": 2}),
    ((1, 20, 13, 11), (24, 20, 1, 1), {"stride": 3}),
    ((1, 20, 15, 22), (24, 20, 3, 3), {"stride": (2, 3), "dilation": (3, 2), "pads": (0, 1, 2, 3)}),
    ((1, 17, 31), (40, 17, 5), {"stride": 2, "pads": 2}),
    ((2, 18, 5, 6, 15), (35, 18, 3, 2, 3), {"stride": (2, 1, 1), "pads": (1, 0, 1, 1, 1, 1)}),
    ((1, 33, 8, 9), (17, 33, 5, 5), {"pads": 4, "dilation": 2}),
    ((0, 16, 8, 9), (16, 16, 3, 3), {"pads": 1}),
]


@pytest.mark.parametrize(("xs", "ws", "kw"), CASES)
def test_conv(xs, ws, kw, isa, threads):
    for halo in (NO_HALO, OUT_HALO[len(xs) - 2]):
        check("conv", data(*xs), data(*ws, seed=1), data(ws[0], seed=2), in_halo=halo, out_halo=halo, threads=threads, **kw)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize(("c", "o", "k"), [(1, 8, 5), (3, 64, 7), (3, 40, 3), (4, 17, 1), (3, 33, 11)])
def test_plain_planes(c, o, k, stride, isa, threads):
    check(
        "conv",
        data(2, c, 19, 61),
        data(o, c, k, k, seed=1),
        data(o, seed=2),
        stride=stride,
        pads=k // 2,
        in_lanes=1,
        out_halo=OUT_HALO[2],
        threads=threads,
    )


@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
@pytest.mark.parametrize(
    ("c", "o", "k", "dilation"),
    [(1, 8, 5, 1), (3, 64, 7, 1), (3, 40, 3, 1), (4, 17, 1, 1), (3, 33, (2, 5), (2, 3)), (20, 9, 3, 1)],
)
def test_plain_rows(c, o, k, dilation, stride, isa, threads):
    kernel_shape = (k, k) if isinstance(k, int) else k
    for height, width, pads in ((19, 61, 0), (40, 33, 1), (7, 130, (3, 0, 0, 7)), (13, 12, (0, 9, 8, 0))):
        got = check(
            "conv",
            data(2, c, height, width),
            data(o, c, *kernel_shape, seed=1),
            data(o, seed=2),
            stride=stride,
            dilation=dilation,
            pads=pads,
            in_lanes=0,
            out_halo=OUT_HALO[2],
            threads=threads,
        )
        x, w = data(2, c, height, width), data(o, c, *kernel_shape, seed=1)
        kw = {"stride": stride, "dilation": dilation, "pads": pads}
        if threads == 1:
            assert_same_bits(got, launch_conv("conv", x, w, data(o, seed=2), in_lanes=1, **kw))
            assert_same_bits(got[1:], launch_conv("conv", x[1:], w, data(o, seed=2), in_lanes=0, **kw))


def test_plain_rows_of_one_axis(isa, threads):
    for activation in (None, Activation("clip", 0.0, 6.0), Activation("leaky_relu", 0.1)):
        x, w, residual = data(2, 2, 900), data(40, 2, 9, seed=1), data(2, 40, 450, seed=3)
        kw = {"stride": 2, "pads": 4, "in_lanes": 0, "threads": threads}
        check("conv", x, w, data(40, seed=2), residual=residual, activation=activation, **kw)


def test_plain_rows_that_do_not_fit(isa):
    build = kernel("conv").build
    y = View.planes((1, 8, 3, 3), dispatch.lanes())
    for x, kw in (
        (View.plain((1, 2, 1, 3, 3)), {}),
        (View.plain((1, 2, 3, 3)), {"groups": 2}),
        (View.plain((1, 2, 3, 3)), {"extent": (1, 2, 2)}),
        (View.plain((1, 2, 3, 3)), {"step": (1, 2, 2)}),
        (View.plain((1, 2, 3, 3)), {"taps": []}),
        (View.plain((1, 2, 3, 3)), {"taps": [(1, 0, 0)]}),
    ):
        with pytest.raises(ValueError, match="conv"):
            build([x, None, None, None], [y], **{"taps": [(0, 0, 0)], **kw})


@pytest.mark.parametrize(
    ("groups", "cg", "og"), [(2, 16, 16), (4, 4, 4), (8, 8, 8), (3, 5, 7), (2, 20, 33), (32, 4, 8), (5, 1, 3), (4, 32, 16)]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_groups(groups, cg, og, stride, isa, threads):
    check(
        "conv",
        data(1, groups * cg, 9, 15),
        data(groups * og, cg, 3, 3, seed=1),
        data(groups * og, seed=2),
        groups=groups,
        pads=1,
        stride=stride,
        threads=threads,
        out_halo=OUT_HALO[2],
    )


@pytest.mark.parametrize(
    "activation", [None, Activation("clip", 0.0, math.inf), Activation("clip", -0.5, 0.75), Activation("leaky_relu", 0.1)]
)
@pytest.mark.parametrize(("c", "o", "k"), [(32, 72, 1), (150, 40, 3), (10, 20, 3)])
@pytest.mark.parametrize("kind", ["conv", "depthwise"])
def test_residual_and_activation(kind, c, o, k, activation, isa, threads):
    if kind == "depthwise":
        c, w, kw = o, data(o, 1, k, k, seed=1), {"groups": o}
    else:
        w, kw = data(o, c, k, k, seed=1), {}
    for pads in (k // 2, k):
        side = 10 + 2 * pads - k + 1
        residual = data(2, o, side, side, seed=3)
        for halo in (NO_HALO, OUT_HALO[2]):
            check(
                kind,
                data(2, c, 10, 10),
                w,
                data(o, seed=2),
                residual=residual,
                activation=activation,
                pads=pads,
                in_halo=halo,
                out_halo=halo,
                threads=threads,
                **kw,
            )


@pytest.mark.parametrize("k", [1, 3, 5, 7, (1, 3), (4, 2)])
@pytest.mark.parametrize("stride", [1, 2, 3, (1, 2)])
@pytest.mark.parametrize(("c", "width"), [(16, 14), (24, 7), (70, 27), (5, 60)])
def test_depthwise(c, width, stride, k, isa, threads):
    kernel_shape = (k, k) if isinstance(k, int) else k
    pads = tuple(n // 2 for n in kernel_shape) * 2
    for dilation, rows in ((1, 9), (2, 14)):
        check(
            "depthwise",
            data(2, c, rows, width),
            data(c, 1, *kernel_shape, seed=1),
            data(c, seed=2),
            groups=c,
            stride=stride,
            pads=pads,
            dilation=dilation,
            out_halo=OUT_HALO[2],
            threads=threads,
        )


@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
@pytest.mark.parametrize(("c", "per_group", "width"), [(32, 2, 14), (48, 4, 27), (24, 8, 7), (20, 4, 9), (2, 2, 33), (72, 8, 20)])
def test_groups_inside_a_block(c, per_group, width, stride, isa, threads):
    if per_group > dispatch.lanes():
        with pytest.raises(ValueError, match="channels a group"):
            launch_conv("depthwise", data(1, c, 4, 4), data(c, per_group, 1, 1), None, groups=c // per_group)
        return
    w, bias = data(c, per_group, 3, 3, seed=1), data(c, seed=2)
    x, groups = data(2, c, 8, width), c // per_group
    residual = oracle.conv(x, w, groups=groups, stride=stride, pads=1).astype(np.float32)
    for r, activation in ((None, None), (residual, Activation("clip", -1.0, 2.0)), (None, Activation("leaky_relu", 0.1))):
        check(
            "depthwise",
            x,
            w,
            bias,
            groups=groups,
            stride=stride,
            pads=1,
            residual=r,
            activation=activation,
            in_halo=OUT_HALO[2],
            out_halo=OUT_HALO[2],
            threads=threads,
        )
    if groups > 1:  # what is not finite stays in its group
        x[:, per_group] = np.inf
        y = launch_conv("depthwise", x, w, bias, groups=groups, stride=stride, pads=1)
        assert np.isfinite(y[:, :per_group]).all() and np.isfinite(y[:, 2 * per_group :]).all()
        assert not np.isfinite(y[:, per_group : 2 * per_group]).any()


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize(("c", "o", "k"), [(32, 40, 2), (20, 16, 3), (8, 72, 1), (48, 32, 4)])
def test_phases_of_a_transposed_convolution(c, o, k, stride, isa, threads):
    """Each phase writes its own pixels, every `stride`-th, and nothing between them; phases without taps write the bias."""
    x, w, bias = data(2, c, 5, 9), data(c, o, k, k, seed=1), data(o, seed=2)
    want = oracle.conv_transpose(x, w, bias, stride=stride)
    magnitude = oracle.conv_transpose(abs(x), abs(w), abs(bias), stride=stride)
    reach = -(-k // stride)
    xv = View.planes(x.shape, dispatch.lanes(), ((0, 0), (reach, reach), (reach, reach)))
    yv = View.planes(want.shape, dispatch.lanes(), OUT_HALO[2])
    y = aligned_empty(yv.size)
    y[:] = np.nan
    bias_packed = kernels.pack_bias(bias, o, aligned_empty)
    phases = list(itertools.product(range(stride), repeat=2))
    for index, (a, b) in enumerate(phases):
        used = [(i, j) for i in range(a, k, stride) for j in range(b, k, stride)]
        taps = [(0, (a - i) // stride, (b - j) // stride) for i, j in used]
        extent = (1, -(-(want.shape[2] - a) // stride), -(-(want.shape[3] - b) // stride))
        picked = np.ascontiguousarray(np.stack([w[:, :, i, j] for i, j in used], -1) if used else w[:, :, :0, 0]).transpose(
            1, 0, 2
        )
        before = pixels(yv, y).copy()
        launch = kernel("conv").build(
            [xv, None, None, None],
            [yv],
            taps=taps,
            start=(0, a, b),
            step=(1, stride, stride),
            extent=extent,
            write_halo=index + 1 == len(phases),
        )
        packed = kernels.pack_conv(picked, 1, dispatch.lanes(), aligned_empty) if used else aligned_empty(0)
        kernel("conv").front(launch, blocked(xv, x), packed, bias_packed, None, y, threads=threads)
        after = pixels(yv, y)
        others = np.ones(after.shape, bool)
        others[:, :, :, a::stride, b::stride] = False
        np.testing.assert_array_equal(after[others], before[others])
    assert_close(unblocked(yv, y), want, ROUNDING, magnitude=magnitude, terms=c * k * k + 1)


def test_a_convolution_that_does_not_fit_is_refused(isa):
    xv, yv = View.planes((1, 16, 8, 8), dispatch.lanes()), View.planes((1, 16, 8, 8), dispatch.lanes())
    taps = [(0, i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    with pytest.raises(ValueError, match="taps reach"):
        kernel("conv").build([xv, None, None, None], [yv], taps=taps)
    with pytest.raises(ValueError, match="taps reach"):
        kernel("depthwise").build([xv, None, None, None], [yv], taps=taps)
    with pytest.raises(ValueError, match="groups"):
        kernel("conv").build([xv, None, None, None], [yv], taps=taps[4:5], groups=3)
    launch = kernel("conv").build([xv, None, None, None], [yv], taps=taps[4:5])
    x, w, y = aligned_empty(xv.size), aligned_empty(256), aligned_empty(yv.size)
    with pytest.raises(ValueError, match="operand 2 has"):
        kernel("conv").front(launch, x, w, aligned_empty(8), None, y)
    with pytest.raises(ValueError, match="operand 4 has"):
        kernel("conv").front(launch, x, w, aligned_empty(16), None, y[:-1])


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 30])
@pytest.mark.parametrize(("k", "o"), [(1, 1), (10, 5), (33, 16), (64, 100), (130, 1000), (2048, 37), (1025, 200), (512, 130)])
def test_dense(rows, k, o, isa, threads):
    x, w, bias = data(rows, k), data(o, k, seed=1), data(o, seed=2)
    for activation in (None, Activation("clip", 0.0, math.inf), Activation("leaky_relu", 0.1)):
        arrays = [x, kernels.pack_dense(w, aligned_empty), kernels.pack_bias(bias, o, aligned_empty), None]
        (got,) = run("dense", arrays, [(rows, o)], threads=threads, activation=activation)
        want = x.astype(np.float64) @ w.T.astype(np.float64) + bias
        if activation is not None:
            want = np.where(want < 0, want * (0.1 if activation.kind == "leaky_relu" else 0), want)
        magnitude = abs(x).astype(np.float64) @ abs(w).T + abs(bias)
        assert_close(got, want, ROUNDING, magnitude=magnitude, terms=k + 1)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("k", [1, 15, 16, 33, 63, 64, 65, 130, 511, 1029])
def test_dense_rows(rows, k, isa, threads):
    """Weights as they are: rows of y around those read side by side, sums around the registers read after one another."""
    for o in (1, 3, 4, 5, 7, 8, 9, 16, 21):
        x, w, bias = data(rows, k), data(o, k, seed=1), data(o, seed=2)
        arrays = [among_nan(a.reshape(-1))[1].reshape(a.shape) for a in (x, w, bias)]
        (got,) = run("dense_rows", arrays, [(rows, o)], threads=threads, activation=Activation("clip", -1.0, math.inf))
        want = np.maximum(x.astype(np.float64) @ w.T.astype(np.float64) + bias, -1)
        assert_close(got, want, ROUNDING, magnitude=abs(x).astype(np.float64) @ abs(w).T + abs(bias), terms=k + 1)


def test_threads_change_no_bit(isa):
    x, w, bias = data(2, 70, 30, 31), data(80, 70, 3, 3, seed=1), data(80, seed=2)
    assert_same_bits(*(launch_conv("conv", x, w, bias, pads=1, threads=t) for t in (1, 2)))
    w = data(70, 1, 3, 3, seed=1)
    assert_same_bits(*(launch_conv("depthwise", x, w, data(70), pads=1, groups=70, threads=t) for t in (1, 2)))


@pytest.mark.parametrize("channels", [(16, 40), (20, 72), (3, 24), (5, 16)])
@pytest.mark.parametrize("used", [[0], [8], [1, 4, 7], [0, 2, 5, 6], [3, 4, 5, 8], []])
def test_part_of_the_taps(channels, used, isa):
    """Weights of nine taps of which a call uses some, in a region of y, with a residual: the rest of y is not touched."""
    c, o = channels
    x, w, bias, residual = data(2, c, 9, 10), data(o, c, 3, 3, seed=1), data(o, seed=2), data(2, o, 9, 10, seed=3)
    lanes = dispatch.lanes()
    for in_lanes in (lanes, 1):
        halo = ((0, 0), (1, 1), (1, 1))
        xv, yv = View.planes(x.shape, in_lanes, halo), View.planes(residual.shape, lanes)
        part = np.zeros_like(w)
        for t in used:
            part[:, :, t // 3, t % 3] = w[:, :, t // 3, t % 3]
        start, extent = (0, 2, 3), (1, 5, 6)
        launch = kernel("conv").build(
            [xv, None, None, yv],
            [yv],
            taps=[(0, t // 3 - 1 + start[1], t % 3 - 1 + start[2]) for t in used],
            start=start,
            extent=extent,
            weight_taps=(used, 9),
        )
        y = np.full(yv.size, 7.0, np.float32)
        kernel("conv").front(
            launch,
            among_nan(blocked(xv, x))[1],
            among_nan(kernels.pack_conv(w, 1, in_lanes, aligned_empty))[1],
            among_nan(kernels.pack_bias(bias, o, aligned_empty))[1],
            among_nan(blocked(yv, residual))[1],
            y,
            threads=2,
        )
        got = unblocked(yv, y)
        want = oracle.conv(x, part, bias, pads=1) + residual
        magnitude = oracle.conv(abs(x), abs(part), abs(bias), pads=1) + abs(residual)
        region = (slice(None), slice(None), slice(2, 7), slice(3, 9))
        assert_close(got[region], want[region], ROUNDING, magnitude=magnitude[region], terms=c * len(used) + 2)
        got[region] = 7
        assert (got == 7).all()


def test_taps_that_the_weights_lack(isa):
    view = View.planes((1, 16, 4, 4), dispatch.lanes(), ((0, 0), (1, 1), (1, 1)))
    for used, total in (([0, 9], 9), ([1, 0], 9), ([0], 9), ([-1, 0], 9)):
        with pytest.raises(ValueError, match="taps"):
            kernel("conv").build(
                [view, None, None, None], [view], taps=[(0, 0, 0), (0, 0, 1)], weight_taps=(used, total), extent=(1, 2, 2)
            )


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 30, 131])
@pytest.mark.parametrize(("k", "o"), [(1, 1), (33, 16), (64, 100), (144, 432), (300, 37), (1025, 100)])
def test_dense_with_a_residual(rows, k, o, isa, threads):
    x, w, bias, residual = data(rows, k), data(o, k, seed=1), data(o, seed=2), data(rows, o, seed=3)
    for activation in (None, Activation("clip", 0.0, math.inf), Activation("silu")):
        arrays = [x, kernels.pack_dense(w, aligned_empty), kernels.pack_bias(bias, o, aligned_empty), residual]
        (got,) = run("dense", arrays, [(rows, o)], threads=threads, activation=activation)
        want = x.astype(np.float64) @ w.T.astype(np.float64) + bias + residual
        if activation is not None:
            want = np.maximum(want, 0) if activation.kind == "clip" else want / (1 + np.exp(-want))
        magnitude = abs(x).astype(np.float64) @ abs(w).T + abs(bias) + abs(residual)
        assert_close(got, want, ROUNDING, magnitude=magnitude, terms=k + 2)
    with pytest.raises(ValueError, match="residual"):
        run("dense", [*arrays[:3], residual[:, :-1]], [(rows, o)])
