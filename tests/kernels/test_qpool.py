"""Pools of bytes: bit for bit their definition, at each instruction set, on one and two threads, whatever halos hold."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnengine._kernels import kernel
from cnnengine._kernels.dispatch import available_isas, use_isa
from cnnengine.layout import View
from cnnengine.window import Window

from .bytes_planes import in_planes, run
from .test_pool import CASES

HALO = ((0, 1), (2, 1), (1, 3))


def windows(x: np.ndarray, window: Window) -> Any:
    """For each window: where its result stands, the inputs under it (N, C, taps), how many taps lie in the padded input."""
    out, begins, ends = window.resolve(x.shape[2:])
    for at in itertools.product(*map(range, out)):
        places, padded = [], 1
        for i, o in enumerate(at):
            taps = [o * window.strides[i] - begins[i] + k * window.dilations[i] for k in range(window.kernel[i])]
            places.append([t for t in taps if 0 <= t < x.shape[2 + i]])
            padded *= sum(t < x.shape[2 + i] + ends[i] for t in taps)
        yield at, x[(slice(None), slice(None), *np.ix_(*places))].reshape(*x.shape[:2], math.prod(map(len, places))), padded


def definition(x: np.ndarray, window: Window, kind: str, include: bool, ratio: float, x_zero: int, y_zero: int) -> np.ndarray:
    out = window.resolve(x.shape[2:])[0]
    y = np.zeros((*x.shape[:2], *out), np.uint8)
    for at, under, padded in windows(x, window):
        if kind == "max":
            value = under.max(axis=2) if under.shape[2] else 0
        else:
            count = padded if include else under.shape[2]
            sums = (under.astype(np.int64) - x_zero).sum(axis=2).astype(np.float32)
            steps = sums * np.float32(ratio) / np.float32(max(count, 1))
            value = np.clip(np.rint(steps).astype(np.float64) + y_zero, 0, 255)
        y[(slice(None), slice(None), *at)] = value
    return y


def pooled(
    x: np.ndarray,
    window: Window,
    kind: str,
    include: bool = False,
    ratio: float = 1.0,
    x_zero: int = 0,
    y_zero: int = 0,
    threads: int = 1,
    groups: int = 1,
) -> np.ndarray:
    out, begins, ends = window.resolve(x.shape[2:])
    source = in_planes(x.shape, HALO, 201, groups), x
    y = in_planes((*x.shape[:2], *out), HALO, 55, groups)
    more = {} if kind == "max" else {"count_include_pad": include, "ratio": ratio, "x_zero": x_zero, "y_zero": y_zero}
    geometry = {"kernel": window.kernel, "stride": window.strides, "dilation": window.dilations, "begins": begins, "ends": ends}
    return run("qpool", [source], [y], threads, kind=kind, **geometry, **more)[0]


def window_of(case: dict[str, Any]) -> Window:
    auto, ceil = case.get("auto_pad", "NOTSET"), case.get("ceil_mode", False)
    return Window.of(case["kernel"], case.get("stride", ()), case.get("dilation", ()), case.get("pads", ()), auto, ceil)


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("kind", ["max", "avg", "padded avg"])
def test_windows(case: int, kind: str, isa: str, threads: int) -> None:
    shape, geometry = CASES[case]
    x = np.random.default_rng(case).integers(0, 256, shape, np.uint8)
    window = window_of(geometry)
    options = (kind[-3:], kind.startswith("padded"), 0.83, (0, 255, 121)[case % 3], (17, 0, 255)[case % 3])
    np.testing.assert_array_equal(pooled(x, window, *options, threads=threads), definition(x, window, *options))


def test_groups(isa: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (1, 15, 9, 9), np.uint8)
    window = Window.of((3, 3), (2, 2), (), (1, 1, 1, 1))
    np.testing.assert_array_equal(pooled(x, window, "max", groups=3), definition(x, window, "max", False, 1, 0, 0))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_window(data: st.DataObject) -> None:
    draw = data.draw
    rank = draw(st.integers(1, 3))
    kernel_, dilation = (tuple(draw(st.integers(1, m)) for _ in range(rank)) for m in (5, 3))
    window = Window.of(
        kernel_,
        tuple(draw(st.integers(1, 3)) for _ in range(rank)),
        dilation,
        tuple(draw(st.integers(0, 4)) for _ in range(2 * rank)),
        ceil_mode=draw(st.booleans()),
    )
    spatial = tuple((k - 1) * d + draw(st.integers(1, 14)) for k, d in zip(kernel_, dilation, strict=True))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 20)), *spatial)
    x = np.random.default_rng(draw(st.integers(0, 999))).integers(0, 256, shape, np.uint8)
    ratio = draw(st.floats(1 / 1024, 50))
    options = (
        draw(st.sampled_from(["max", "avg"])),
        draw(st.booleans()),
        ratio,
        draw(st.integers(0, 255)),
        draw(st.integers(0, 255)),
    )
    with use_isa(draw(st.sampled_from(available_isas()))):
        got = pooled(x, window, *options, threads=draw(st.sampled_from([1, 2])))
    np.testing.assert_array_equal(got, definition(x, window, *options))


SHAPES = [
    (2, 19, 7, 7),
    (1, 3, 1, 1),
    (1, 40, 14, 13),
    (3, 5, 37),
    (1, 9, 3, 4, 5),
    (1, 2, 130, 120),
    (0, 4, 3, 3),
    (1, 8, 5, 600),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("layout", ["planes", "planes to plain", "plain"])
def test_whole_planes(shape: tuple[int, ...], kind: str, layout: str, isa: str, threads: int) -> None:
    x = np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)
    out = (*shape[:2], *(1,) * (len(shape) - 2))
    flat = x.reshape(*shape[:2], math.prod(shape[2:]))
    ratio, x_zero, y_zero = 1.7, 118, 3
    if kind == "max":
        want = flat.max(axis=2, initial=0)
    else:
        steps = (flat.astype(np.int64) - x_zero).sum(axis=2).astype(np.float32) * np.float32(ratio) / np.float32(flat.shape[2])
        want = np.clip(np.rint(steps).astype(np.float64) + y_zero, 0, 255).astype(np.uint8)
    for halo in (HALO, ((0, 0),) * 3):
        source = View.plain(shape, np.uint8) if layout == "plain" else in_planes(shape, halo, 9)
        target = in_planes(out, halo, 7) if layout == "planes" else View.plain(out, np.uint8)
        params = {"kind": kind} if kind == "max" else {"kind": kind, "ratio": ratio, "x_zero": x_zero, "y_zero": y_zero}
        got = run("qglobal_pool", [(source, x)], [target], threads, **params)[0]
        np.testing.assert_array_equal(got.reshape(want.shape), want)


def test_refused() -> None:
    view = in_planes((1, 4, 5, 5))
    geometry = {"kernel": (2, 2), "stride": (1, 1), "dilation": (1, 1), "begins": (0, 0), "ends": (0, 0)}
    small = in_planes((1, 4, 4, 4))

    def build(name: str = "qpool", x: View = view, y: View = small, **params: Any) -> None:
        kernel(name).build([x], [y], **{**(geometry if name == "qpool" else {}), "kind": "avg", **params})

    build()
    with pytest.raises(ValueError, match="kind 'lp'"):
        build(kind="lp")
    with pytest.raises(ValueError, match="zero points 256"):
        build(x_zero=256)
    for ratio in (0.0, float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match="ratio"):
            build(ratio=ratio)
    with pytest.raises(ValueError, match="not uint8"):
        build(x=in_planes((1, 4, 5, 5), dtype=np.float32))
    with pytest.raises(ValueError, match="may not fit 32 bits"):
        build(kernel=(3000, 3000), begins=(2999, 2999))
    with pytest.raises(ValueError, match="groups"):
        build(y=in_planes((1, 4, 4, 4), groups=2))
    with pytest.raises(ValueError, match="numbers a channel"):
        build("qglobal_pool", View.plain((1, 4, 0, 3), np.uint8), View.plain((1, 4, 1, 1), np.uint8))
    with pytest.raises(ValueError, match="numbers a channel"):
        build("qglobal_pool", View.plain((1, 1, 2902, 2902), np.uint8), View.plain((1, 1, 1, 1), np.uint8))
    with pytest.raises(ValueError, match="x is plain, y is not"):
        build("qglobal_pool", View.plain((1, 4, 3, 3), np.uint8), in_planes((1, 4, 1, 1)))
