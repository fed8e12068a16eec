"""The convolution of bfloat16 numbers, each instruction set that multiplies pairs of them, one and two threads, among NaN."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle.closeness import ROUNDING, assert_close, assert_same_bits

from cnnengine._kernels import dispatch, kernel
from cnnengine._kernels.cast import narrow, widen
from cnnengine._kernels.pack import pack_bias
from cnnengine.layout import NO_HALO, View, aligned_empty, merge_halos
from cnnengine.operator import Activation
from cnnengine.packing import PairPanels

from .launching import blocked, unblocked
from .sliding import sliding

GUARD = 512
F32, HALF = np.dtype(np.float32), np.dtype(np.uint16)
EPS, SMALLEST = 2.0**-23, 2.0**-126
RNG = np.random.default_rng(11)


def bits(x: np.ndarray) -> np.ndarray:
    """Numbers as bfloat16, told as uint16."""
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    out = np.empty(flat.size, np.uint16)
    narrow(flat, out, "bfloat16")
    return out.reshape(np.shape(x))


def wide(h: np.ndarray) -> np.ndarray:
    out = np.empty(h.size, np.float32)
    widen(np.ascontiguousarray(h).reshape(-1), out, "bfloat16")
    return out.reshape(h.shape)


def rounded(x: np.ndarray) -> np.ndarray:
    return wide(bits(x))


def in_planes(view: View, x: np.ndarray) -> np.ndarray:
    """x in planes, NaN in the lanes that no channel has: of bfloat16 where the view is."""
    data = blocked(replace(view, dtype=F32), x)
    if view.dtype == F32:
        return data
    out = aligned_empty(data.size, HALF)
    out[:] = bits(data)
    return out


def run(
    x, w, bias, *, stride=1, pads=0, dilation=1, groups=1, residual=None, activation=None, x_half=True, y_half=False,
    r_half=False, in_halo=NO_HALO, out_halo=NO_HALO, threads=1,
):  # fmt: skip
    """The kernel on arrays (N, C, ...), laid out among NaN; the result as float32."""
    window = sliding(x.shape, w.shape[2:], stride, pads, dilation)
    lanes = dispatch.lanes()
    x_groups = 1 if x.shape[1] // groups % lanes == 0 else groups
    y_groups = 1 if w.shape[0] // groups % lanes == 0 else groups
    xv = View.planes(x.shape, lanes, merge_halos(window.halo, in_halo), x_groups, HALF if x_half else F32)
    yv = View.planes((x.shape[0], w.shape[0], *window.shape), lanes, out_halo, y_groups, HALF if y_half else F32)
    rv = None if residual is None else View.planes(yv.shape, lanes, in_halo, y_groups, HALF if r_half else F32)
    packed, padded = PairPanels(w, lanes, groups)(aligned_empty), pack_bias(bias, w.shape[0], aligned_empty, groups)
    launch = kernel("bconv").build(
        [xv, View.plain(packed.shape, HALF), View.plain(padded.shape), rv],
        [yv], taps=window.taps, stride=window.step, groups=groups, activation=activation,
    )  # fmt: skip
    whole = aligned_empty(yv.size + 2 * GUARD, yv.dtype)
    whole.view(np.uint8)[:] = 0xFF
    y = whole[GUARD : GUARD + yv.size]
    buffers = [in_planes(xv, x), packed, padded, None if rv is None else in_planes(rv, residual)]
    for buffer in buffers:
        if buffer is not None:
            buffer.flags.writeable = False
    launch(*buffers, y, threads=threads)
    for edge in (whole[:GUARD], whole[GUARD + yv.size :]):
        assert (edge.view(np.uint8) == 0xFF).all(), "written outside of the output"
    return unblocked(replace(yv, dtype=F32), wide(y) if y_half else y)


def case(n=1, c=8, o=8, spatial=(6, 7), kernel=(3, 3), groups=1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, c, *spatial), np.float32)
    w = rng.standard_normal((o, c // groups, *kernel), np.float32)
    return {"x": x, "w": w, "bias": rng.standard_normal(o, np.float32)}


def exact(args, *, residual=None, r_half=False, **geometry):
    """The sums in float64 of what the kernel multiplies, and the sums of their absolute values."""
    x, w, bias = rounded(args["x"]), rounded(args["w"]), args["bias"]
    y = oracle.conv(x, w, bias, **geometry)
    size = oracle.conv(abs(x), abs(w), abs(bias), **geometry)
    if residual is not None:
        added = (rounded(residual) if r_half else residual).astype(np.float64)
        y, size = y + added, size + abs(added)
    return y, size


def near(got, want, size, terms, halves):
    """As `oracle.closeness` has it for sums in float32; what is rounded to bfloat16 is what such a sum may be rounded to."""
    if not halves:
        assert_close(got, want, ROUNDING, magnitude=size, terms=terms)
        return
    bound = EPS * (4 + np.sqrt(terms)) * size + SMALLEST
    low, high = rounded(want - bound), rounded(want + bound)
    assert ((low <= got) & (got <= high)).all(), f"{np.count_nonzero((got < low) | (got > high))} of {got.size} elements differ"
    assert_same_bits(got, rounded(got))


def check(args, **kw):
    geometry = {k: kw[k] for k in ("stride", "pads", "dilation", "groups") if k in kw}
    want, size = exact(args, residual=kw.get("residual"), r_half=kw.get("r_half", False), **geometry)
    act = kw.get("activation")
    if act is not None:
        assert act.kind == "clip"
        want = np.clip(want, act.alpha, act.beta)
    terms = int(np.prod(args["w"].shape[1:])) + 2
    near(run(**args, **kw), want, size, terms, kw.get("y_half", False))


SHAPES = [
    # n, c, o, spatial, kernel, geometry
    (1, 8, 8, (5, 6), (1, 1), {}),
    (2, 13, 19, (6, 7), (3, 3), {"pads": 1}),
    (1, 32, 33, (9, 29), (1, 1), {}),
    (1, 40, 16, (8, 15), (1, 1), {"stride": 2}),
    (1, 17, 24, (11, 10), (3, 3), {"pads": 1, "stride": 2}),
    (1, 5, 9, (9, 12), (3, 2), {"dilation": (2, 3), "pads": (2, 3, 1, 0)}),
    (1, 16, 40, (7, 7), (5, 5), {"pads": 2}),
    (2, 32, 64, (5, 5), (3, 3), {"groups": 2, "pads": 1}),
    (1, 12, 6, (6, 6), (3, 3), {"groups": 3, "pads": 1}),
    (1, 21, 6, (6, 6), (3, 3), {"groups": 3, "pads": 1}),
    (1, 9, 11, (23,), (4,), {"pads": (1, 2), "stride": 3}),
    (1, 6, 10, (4, 5, 6), (2, 3, 3), {"pads": (0, 1, 1, 1, 1, 1), "stride": (2, 1, 1)}),
    (1, 64, 64, (14, 14), (3, 3), {"pads": 1}),
    (1, 301, 70, (3, 4), (1, 1), {}),
    (1, 1, 16, (1, 1), (1, 1), {}),
    (3, 4, 130, (2, 33), (1, 3), {"pads": (0, 1, 0, 1)}),
]
WAYS = list(itertools.product((False, True), (False, True)))


@pytest.mark.parametrize("which", range(len(SHAPES)))
@pytest.mark.parametrize(("x_half", "y_half"), WAYS)
def test_sums(pairs_isa: str, threads: int, which: int, x_half: bool, y_half: bool) -> None:
    n, c, o, spatial, kernel_shape, geometry = SHAPES[which]
    args = case(n, c, o, spatial, kernel_shape, geometry.get("groups", 1), seed=which)
    check(args, threads=threads, x_half=x_half, y_half=y_half, **geometry)
    halos = {"in_halo": ((1, 0), (0, 2), (1, 1)), "out_halo": ((0, 0), (1, 1), (2, 1))}
    check(args, threads=threads, x_half=x_half, y_half=y_half, activation=Activation("clip", -0.5, 4.0), **halos, **geometry)


@pytest.mark.parametrize("pixels", range(1, 32))
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_every_width_of_a_tile(pairs_isa: str, pixels: int, blocks: int) -> None:
    """Rows of one tile and of two of different widths, of an even and an odd number of blocks."""
    o = blocks * dispatch.lanes() - 1
    check(case(1, 2 * dispatch.lanes() + 3, o, (2, pixels), (1, 2), seed=pixels), pads=(0, 1, 0, 0), y_half=pixels % 2 == 0)


@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    with_pairs = [isa for isa in dispatch.available_isas() if "bconv" in dispatch.OWN.get(isa, ())]
    if not with_pairs:
        pytest.skip("no instruction set with products of bfloat16 numbers was built")
    rank = data.draw(st.integers(1, 3))
    draw = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    kernel_shape, stride, dilation = draw(1, 3), draw(1, 3), draw(1, 2)
    pads = tuple(data.draw(st.integers(0, (k - 1) * d)) for _ in range(2) for k, d in zip(kernel_shape, dilation, strict=True))
    spatial = tuple((k - 1) * d + data.draw(st.integers(1, 6)) for k, d in zip(kernel_shape, dilation, strict=True))
    groups = data.draw(st.integers(1, 3))
    c, o = groups * data.draw(st.integers(1, 18)), groups * data.draw(st.integers(1, 18))
    args = case(data.draw(st.integers(1, 2)), c, o, spatial, kernel_shape, groups, seed=data.draw(st.integers(0, 99)))
    ways = {name: data.draw(st.booleans()) for name in ("x_half", "y_half", "r_half")}
    with dispatch.use_isa(data.draw(st.sampled_from(with_pairs))):
        geometry = {"stride": stride, "dilation": dilation, "pads": pads, "groups": groups}
        residual = None
        if data.draw(st.booleans()):
            shape = exact(args, **geometry)[0].shape
            residual = np.random.default_rng(1).standard_normal(shape, np.float32)
        check(args, residual=residual, **ways, **geometry)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("r_half", "y_half"), WAYS)
def test_residual(pairs_isa: str, threads: int, groups: int, r_half: bool, y_half: bool) -> None:
    """Added in float32, whatever it lies in, before the bounds and the rounding."""
    args = case(2, 32, 48, (7, 13), (3, 3), groups, seed=9)
    residual = RNG.standard_normal((2, 48, 7, 13), np.float32) * 9
    halos = {"in_halo": ((0, 0), (1, 1), (1, 1)), "out_halo": ((0, 0), (1, 1), (1, 1))}
    for activation in (None, Activation("clip", 0.0, np.inf), Activation("clip", -1.0, 6.0)):
        check(
            args, pads=1, groups=groups, residual=residual, r_half=r_half, y_half=y_half, activation=activation, threads=threads,
            **halos,
        )  # fmt: skip


@pytest.mark.parametrize("y_half", [False, True])
@pytest.mark.parametrize("shape", [(6, 17), (1, 1), (3, 70)])
def test_other_activations_come_before_the_rounding(pairs_isa: str, threads: int, y_half: bool, shape: tuple[int, int]) -> None:
    args = case(1, 12, 37, shape, (3, 3), seed=6)
    act = Activation("leaky_relu", 0.25)
    plain = run(**args, pads=1)
    want = np.where(plain < 0, plain * np.float32(0.25), plain)
    got = run(**args, pads=1, activation=act, y_half=y_half, threads=threads, out_halo=((0, 0), (1, 0), (0, 2)))
    assert_same_bits(got, rounded(want) if y_half else want)


def test_what_is_rounded_while_it_is_read_is_what_lies_there_rounded(pairs_isa: str, threads: int) -> None:
    args = case(1, 37, 50, (12, 31), (3, 3), seed=2)
    for stride in (1, 2):
        one = run(**args, pads=1, stride=stride, x_half=True, threads=threads)
        assert_same_bits(run(**args, pads=1, stride=stride, x_half=False, threads=threads), one)


def test_threads_and_batches_change_no_bit(pairs_isa: str) -> None:
    for shape, kernel_shape in (((28, 28), (3, 3)), ((7, 7), (1, 1)), ((2, 2), (3, 3))):
        args = case(3, 64, 96, shape, kernel_shape, seed=4)
        pads = kernel_shape[0] // 2
        one = run(**args, pads=pads)
        assert_same_bits(run(**args, pads=pads, threads=2), one)
        for i in range(3):
            assert_same_bits(run(**{**args, "x": args["x"][i : i + 1]}, pads=pads), one[i : i + 1])


def test_results_are_rounded_to_the_nearest_halves_to_even(pairs_isa: str) -> None:
    """A product of a bfloat16 number and one is itself, and the bias puts the sum beside, on and behind a half."""
    x = np.float32([1, 1, 1, 1, 1, 1, 1]).reshape(1, 1, 1, 7)
    half = 2.0**-8
    for above, want in ((half, 1), (half + 2**-20, 1 + 2 * half), (half - 2**-20, 1), (3 * half, 1 + 4 * half), (-half / 2, 1)):
        got = run(x, np.ones((1, 1, 1, 1), np.float32), np.float32([above]), y_half=True)
        np.testing.assert_array_equal(got, np.full_like(x, want), err_msg=str(above))


@pytest.mark.parametrize("y_half", [False, True])
@pytest.mark.parametrize("x_half", [False, True])
@pytest.mark.parametrize("c", [5, 6, 16, 33])
def test_what_is_not_finite(pairs_isa: str, threads: int, c: int, x_half: bool, y_half: bool) -> None:
    """NaN and infinities stand where the sums have them and nowhere else, beside the last channel too."""
    args = case(1, c, 9, (5, 8), (3, 3), seed=8)
    args["x"][0, c - 1, 2, 3], args["x"][0, 0, 0, 7], args["x"][0, c // 2, 4, 0] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        want, size = exact(args, pads=1)
    got = run(**args, pads=1, x_half=x_half, y_half=y_half, threads=threads)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(got[np.isinf(want)], want[np.isinf(want)])
    known = np.isfinite(want)
    assert known.any()
    near(got[known], want[known], size[known], 9 * c + 2, y_half)


def test_sums_beyond_the_largest_are_infinite(pairs_isa: str) -> None:
    args = {"x": np.full((1, 4, 2, 3), 3e38, np.float32), "w": np.ones((2, 4, 1, 1), np.float32), "bias": np.zeros(2, np.float32)}
    assert np.isposinf(run(**args)).all() and np.isposinf(run(**args, y_half=True)).all()
    clipped = run(**args, y_half=True, activation=Activation("clip", 0.0, 6.0))
    np.testing.assert_array_equal(clipped, np.full_like(clipped, 6))


def test_nothing_in_a_batch(pairs_isa: str) -> None:
    args = case(0, 8, 8)
    assert run(**args).shape == (0, 8, 4, 5)


@pytest.mark.parametrize("groups", [1, 3])
def test_weights_in_parts_are_those_of_the_whole(pairs_isa: str, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import cnnengine.packing

    monkeypatch.setattr(cnnengine.packing, "PART", 1 << 12)
    lanes, w = dispatch.lanes(), RNG.standard_normal((75 * groups, 13, 3, 2), np.float32)
    panels = PairPanels(w, lanes, groups)
    parts = panels.parts(lanes, aligned_empty)
    assert (parts is None) == (groups > 1)
    if parts is not None:
        made, jobs = parts
        assert len(jobs) > 1
        made[:] = 0xFFFF
        for job in jobs[::-1]:
            job(cnnengine.packing.Scratch())
        np.testing.assert_array_equal(made, panels(aligned_empty))


def test_what_does_not_fit_is_refused(pairs_isa: str) -> None:
    lanes = dispatch.lanes()
    x, y = View.planes((1, 2 * lanes, 4, 4), lanes, dtype=HALF), View.planes((1, lanes, 4, 4), lanes)
    w, bias = View.plain((2 * lanes * lanes,), HALF), View.plain((lanes,))
    at = {"taps": [(0, 0, 0)]}
    build = kernel("bconv").build
    build([x, w, bias, None], [y], **at)
    wrong: list[tuple[Any, Any, dict[str, Any]]] = [
        ([View.planes((1, 2 * lanes, 4, 4), lanes, dtype=np.dtype(np.uint8)), w, bias, None], y, at),
        ([View.planes((1, 2 * lanes, 4, 4), lanes, dtype=np.dtype(np.float64)), w, bias, None], y, at),
        ([View.planes((1, 2 * lanes, 4, 4), 1), w, bias, None], y, at),
        ([x, w, bias, None], View.planes((2, lanes, 4, 4), lanes), at),
        ([x, w, bias, None], y, {"taps": []}),
        ([x, w, bias, None], y, {"taps": [(0, 0, 1)]}),
        ([x, w, bias, None], y, {**at, "groups": 3}),
        ([x, w, bias, View.planes((1, lanes, 4, 3), lanes)], y, at),
        ([x, w, bias, View.planes((1, lanes, 4, 4), lanes, dtype=np.dtype(np.uint8))], y, at),
    ]
    for inputs, out, params in wrong:
        with pytest.raises(ValueError, match="bconv"):
            build(inputs, [out], **params)


def test_an_instruction_set_without_such_products_says_so() -> None:
    without = [isa for isa in dispatch.available_isas() if "bconv" not in dispatch.OWN.get(isa, ())]
    assert without
    for isa in without:
        with dispatch.use_isa(isa):
            assert not dispatch.has_pairs() and dispatch.pair_peak(0.001) == 0
            view = View.planes((1, 8, 4, 4), dispatch.lanes())
            with pytest.raises(ValueError, match="no products of bfloat16"):
                kernel("bconv").build([view, view, view, None], [view], taps=[(0, 0, 0)])


def test_the_peak_is_measured(pairs_isa: str) -> None:
    assert dispatch.has_pairs() and dispatch.pair_peak(0.001) > 0
