"""Packed weights against plain loops, from weights that lie in rows, in columns, in other orders and unaligned."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cnnengine._kernels import dispatch
from cnnengine._kernels.memory import Slab, pack_into
from cnnengine._kernels.pack import pack_bias, pack_conv, pack_depthwise, scale_rows
from cnnengine._kernels.winograd import FORMS, pack_winograd


def panels(w: np.ndarray, groups: int, channels: int) -> np.ndarray:
    """[group][panel of up to two blocks of outputs][input plane][tap][channel][output], zeros where a panel has no output."""
    lanes, (o, cg) = dispatch.lanes(), w.shape[:2]
    w = w.reshape(o, cg, -1)
    parts = []
    for group in w.reshape(groups, o // groups, cg, -1):
        first = 0
        while first < len(group):
            width = 2 * lanes if len(group) - first > lanes else lanes
            rows = group[first : first + width]
            for c in range(0, cg, channels):
                some = rows[:, c : c + channels].transpose(2, 1, 0)
                parts.append(np.pad(some, ((0, 0), (0, 0), (0, width - len(rows)))).ravel())
            first += width
    return np.concatenate(parts)


def unaligned(w: np.ndarray) -> np.ndarray:
    raw = np.zeros(w.nbytes + 1, np.uint8)
    raw[1:] = w.ravel().view(np.uint8)
    return raw[1:].view(np.float32).reshape(w.shape)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(1,), (2,), (3, 3), (7, 7), (15, 15)])
def test_pack_conv(isa: str, groups: int, kernel: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    with dispatch.use_isa(isa):
        n = dispatch.lanes()
        for o, cg in itertools.product((1, 3, n - 1, n, n + 1, 2 * n, 2 * n + 5, 70), (1, 2, n, n + 3, 40)):
            w = rng.standard_normal((o * groups, cg, *kernel), dtype=np.float32)
            for channels in {1, n}:
                expected = panels(w, groups, channels)
                for given in (w, unaligned(w), np.asfortranarray(w), w.astype(">f4")):
                    np.testing.assert_array_equal(pack_conv(given, groups, channels), expected)


def points_of(taps: int, out: int) -> np.ndarray:
    """G for these taps and output pixels: powers of the finite points over their distances; infinity is the last tap."""
    sides = {4: [1], 6: [1, 2], 8: [1, 2, 0.5], 10: [0.75, 1.25, 2, 0.375]}[taps + out - 1]
    points = [0.0, *(sign * p for p in sides for sign in (1, -1))]
    rows = [[p**k / np.prod([p - q for q in points if q != p]) for k in range(taps)] for p in points]
    return np.array([*rows, [0.0] * (taps - 1) + [1.0]])


def test_points_are_those_of_the_paper() -> None:
    np.testing.assert_allclose(
        points_of(3, 4),
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
    )
    np.testing.assert_allclose(points_of(3, 2), [[-1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def halves_of() -> np.ndarray:
    """G at stride 2: the outer taps as those of two taps at 0, 1, -1, 2 and infinity, then the tap between."""
    points = [0.0, 1.0, -1.0, 2.0]
    rows = [[1 / scale, 0, p / scale] for p in points for scale in [np.prod([p - q for q in points if q != p])]]
    return np.array([*rows, [0, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize(("kernel", "tile", "strides"), sorted(FORMS))
def test_pack_winograd(kernel: tuple[int, int], tile: tuple[int, int], strides: tuple[int, int], isa: str) -> None:
    gh, gw = (points_of(taps, out) if taps > 1 else np.eye(1) for taps, out in zip(kernel, tile, strict=True))
    if strides == (2, 2):
        gh = gw = halves_of()
    elements = len(gh) * len(gw)
    rng = np.random.default_rng(0)
    with dispatch.use_isa(isa):
        n = dispatch.lanes()
        for o, c in itertools.product((1, n, n + 1, 2 * n + 3, 40), (1, 3, n, 20, 45)):
            w = rng.standard_normal((o, c, *kernel), dtype=np.float32)
            u = np.einsum("ai,ocij,bj->ocab", gh, w.astype(np.float64), gw).astype(np.float32).reshape(o, c, elements)
            for given in (w, unaligned(w)):
                whole = pack_winograd(given, tile, strides)
                size = -(-o // n) * n * c
                assert whole.size == elements * size + -(-o // n) * n * -(-c // 16) * math.prod(kernel)
                packed = whole[: elements * size].reshape(elements, -1)
                for element in range(elements):
                    np.testing.assert_allclose(
                        packed[element], panels(u[:, :, element : element + 1], 1, n), rtol=1e-6, atol=1e-6
                    )


def test_pack_depthwise_and_bias(isa: str) -> None:
    rng = np.random.default_rng(0)
    with dispatch.use_isa(isa):
        n = dispatch.lanes()
        for c, k, t in itertools.product((1, n - 1, n, 2 * n, 3 * n + 1), (1, 2), (0, 1, 9)):
            w = rng.standard_normal((c, k, t), dtype=np.float32)
            padded = np.zeros((-(-c // n) * n, k, t), np.float32)
            padded[:c] = w
            expected = padded.reshape(-(-c // n), n, k, t).transpose(0, 3, 2, 1).ravel()
            for given in (w, unaligned(w)):
                packed = pack_depthwise(given)
                np.testing.assert_array_equal(packed, expected)
                assert packed.size == 0 or packed.ctypes.data % 64 == 0
        for c, groups in ((1, 1), (n, 1), (2 * n + 3, 1), (2 * n, 2), (6, 3)):
            bias = rng.standard_normal(c, dtype=np.float32)
            per = c // groups
            for values in (bias, None):
                packed = pack_bias(values, c, groups).reshape(groups, -1)
                assert packed.shape[1] == -(-per // n) * n
                np.testing.assert_array_equal(packed[:, :per].ravel(), np.zeros(c) if values is None else values)
                assert not packed[:, per:].any()


def test_slab() -> None:
    """Arrays of a slab are aligned and do not overlap, whatever their sizes; a piece goes when its arrays have gone."""
    slab, rng = Slab(), np.random.default_rng(0)
    sizes = [1, 16, 17, 0, 1 << 17, 1 << 18, (1 << 21) + 1, 1 << 21, *rng.integers(1, 1 << 20, 40).tolist()]
    arrays = [slab.floats(size) for size in sizes]
    for i, array in enumerate(arrays):
        assert array.dtype == np.float32
        assert array.shape == (sizes[i],)
        assert array.size == 0 or array.ctypes.data % 64 == 0
        array[...] = i
    assert all((array == i).all() for i, array in enumerate(arrays))
    pack_into(slab)
    try:
        packed = pack_bias(np.ones(40, np.float32), 40)
    finally:
        pack_into(None)
    assert packed.base is slab.floats(1).base
    assert pack_bias(None, 40).base is not packed.base


def test_scale_rows() -> None:
    """The bits of NumPy's products in float64, rounded once; matrices both ways round, parts of them, unaligned ones."""

    def floats(n: int) -> np.ndarray:
        return np.empty(n, np.float32)

    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((37, 53)).astype(np.float32)
    raw = np.zeros(matrix.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(matrix.shape)
    unaligned[...] = matrix
    matrix[0, :4] = np.inf, -np.inf, np.nan, 3e38
    takes = [
        rng.standard_normal((5, 4, 3, 2)).astype(np.float32),
        matrix,
        matrix[3:9],
        matrix.T,
        matrix.T[5:11],
        matrix.T.reshape(53, 37, 1, 1),
        unaligned,
        unaligned.T,
    ]
    for w in takes:
        scale = (1e3 * rng.standard_normal(len(w))).reshape(-1, *(1,) * (w.ndim - 1))
        with np.errstate(all="ignore"):
            expected = (w.astype(np.float64) * scale).astype(np.float32)
        found = scale_rows(w, scale, floats)
        assert found is not None
        assert found.shape == w.shape
        np.testing.assert_array_equal(found, expected)
    for w, scale in (
        (matrix, np.ones(53)),
        (matrix, np.ones((1, 53))),
        (matrix[:, ::2], np.ones((37, 1))),
        (matrix.T[::2], np.ones((27, 1))),
        (matrix.astype(np.float64), np.ones((37, 1))),
        (matrix[:0], np.ones((0, 1))),
    ):
        assert scale_rows(w, scale, floats) is None
