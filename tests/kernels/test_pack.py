"""Packed weights against plain loops, from weights that lie in rows, in columns, in other orders and unaligned."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cnnengine._kernels import dispatch
from cnnengine._kernels.pack import pack_bias, pack_conv, pack_dense, pack_depthwise, scale_rows
from cnnengine._kernels.recurrent import pack_input_bias, pack_input_weights, pack_state_weights
from cnnengine._kernels.winograd import FORMS, forms_of_tiles, pack_winograd
from cnnengine.layout import aligned_empty
from cnnengine.packing import Slab


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
                    np.testing.assert_array_equal(pack_conv(given, groups, channels, aligned_empty), expected)


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
                whole = pack_winograd(given, aligned_empty, tile, strides)
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
                packed = pack_depthwise(given, aligned_empty)
                np.testing.assert_array_equal(packed, expected)
                assert packed.size == 0 or packed.ctypes.data % 64 == 0
        for c, groups in ((1, 1), (n, 1), (2 * n + 3, 1), (2 * n, 2), (6, 3)):
            bias = rng.standard_normal(c, dtype=np.float32)
            per = c // groups
            for values in (bias, None):
                packed = pack_bias(values, c, aligned_empty, groups).reshape(groups, -1)
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
    packed = pack_bias(np.ones(40, np.float32), 40, slab.floats)
    assert packed.base is slab.floats(1).base
    assert pack_bias(None, 40, aligned_empty).base is not packed.base


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


def test_winograd_of_groups_is_group_after_group(isa: str) -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((30, 20, 3, 3), dtype=np.float32)
    with dispatch.use_isa(isa):
        parts = [pack_winograd(part, aligned_empty) for part in np.split(w, 3)]
        assert pack_winograd(w, aligned_empty, groups=3).tobytes() == b"".join(part.tobytes() for part in parts)


def test_packers_take_their_memory_from_who_asks() -> None:
    """All of it in one piece, and none but of the size that they ask for."""
    lanes = dispatch.lanes()
    w = np.ones((2 * lanes + 3, lanes, 3, 3), np.float32)
    packers = {
        "conv": lambda empty: pack_conv(w, 1, lanes, empty),
        "bias": lambda empty: pack_bias(w[:, 0, 0, 0], len(w), empty),
        "depthwise": lambda empty: pack_depthwise(w[:, :1], empty),
        "dense": lambda empty: pack_dense(w[:, :, 0, 0], empty),
        "winograd": lambda empty: pack_winograd(w, empty, groups=1),
        "recurrent input": lambda empty: pack_input_weights(w[:, :, 0, 0][None, : 2 * lanes], 1, empty),
        "recurrent bias": lambda empty: pack_input_bias(w[: 2 * lanes, 0, 0, 0][None], 1, empty),
        "recurrent state": lambda empty: pack_state_weights(w[None, : 3 * lanes, :, 0, 0][:, : 3 * (lanes // 3)], "GRU", empty),
    }
    for name, pack in packers.items():
        given: list[np.ndarray] = []

        def empty(n: int, given: list[np.ndarray] = given) -> np.ndarray:
            given.append(aligned_empty(n))
            return given[-1]

        packed = pack(empty)
        assert len(given) == 1, name
        assert np.shares_memory(packed, given[0]), name
        assert packed.size == given[0].size, name
        with pytest.raises(ValueError, match=r"size|shape|broadcast"):
            pack(lambda n: aligned_empty(n - 1))


def test_forms_are_those_of_the_tiles(isa: str) -> None:
    """Every instruction set has the same forms in the same order, of each kernel the largest tile first."""
    with dispatch.use_isa(isa):
        assert list(forms_of_tiles().items()) == list(FORMS.items())
    assert list(FORMS.values()) == list(range(len(FORMS)))
    for kernel, tile, strides in FORMS:
        first = next(t for k, t, s in FORMS if (k, s) == (kernel, strides))
        assert math.prod(first) >= math.prod(tile)
