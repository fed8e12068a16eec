"""Channel shuffles and picks: one kernel on planes, the values of the operators that were written."""

from __future__ import annotations

import numpy as np
import pytest
from plane_nets import Net, run

from cnnengine.runtime.runner import fill_arenas


@pytest.fixture(autouse=True)
def rubbish():
    fill_arenas(255)
    yield
    fill_arenas(None)


def shuffle(net: Net, x: tuple[str, int], groups: int) -> tuple[str, int]:
    n, _, h, w = net.shape
    wide = net.add("Reshape", [x[0], net.constant(np.array([n, groups, x[1] // groups, h, w], np.int64))])
    turned = net.add("Transpose", wide, perm=[0, 2, 1, 3, 4])
    return net.add("Reshape", [*turned, net.constant(np.array([n, x[1], h, w], np.int64))])[0], x[1]


def shuffled(x: np.ndarray, groups: int) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).transpose(0, 2, 1, 3, 4).reshape(x.shape)


def grouped(net: Net, x: tuple[str, int], channels: int, groups: int) -> tuple[str, int]:
    w = net.rng.standard_normal((channels, x[1] // groups, 1, 1)).astype(np.float32)
    return net.add("Conv", [x[0], net.constant(w)], group=groups)[0], channels


def outputs(net: Net, *values: tuple[str, int], threads: int = 1) -> tuple[list[np.ndarray], list[str]]:
    x = np.random.default_rng(5).standard_normal(net.shape).astype(np.float32)
    arrays, kernels, _ = run(net.model(*values), x, threads)
    return arrays, kernels


@pytest.mark.parametrize(("channels", "groups"), [(58, 2), (60, 3), (64, 4), (136, 4), (24, 8)])
def test_a_shuffle(isa, threads, channels, groups):
    net = Net(np.random.default_rng(0), (2, 3, 5, 6))
    x = net.conv(("x", 3), channels)
    y = shuffle(net, x, groups)
    (before, after), kernels = outputs(net, x, y, threads=threads)
    np.testing.assert_array_equal(after, shuffled(before, groups))
    assert kernels.count("take_planes") == 1
    assert not any(k.startswith("copy_nd") for k in kernels)


@pytest.mark.parametrize(("channels", "groups"), [(40, 4), (136, 8), (96, 3)])
def test_a_shuffle_between_grouped_convolutions(isa, channels, groups):
    net = Net(np.random.default_rng(1), (2, 2 * groups, 5, 6))
    x = grouped(net, ("x", 2 * groups), channels, groups)
    y = shuffle(net, x, groups)
    z = grouped(net, y, 2 * channels, groups)
    (before, after, last), kernels = outputs(net, x, y, z)
    np.testing.assert_array_equal(after, shuffled(before, groups))
    assert kernels.count("take_planes") == 1
    assert "reorder[scalar]" not in kernels
    assert np.isfinite(last).all()


@pytest.mark.parametrize("half", [16, 29, 58])
def test_halves_of_a_shuffled_concat(isa, half):
    """ShuffleNet v2: neither the concat nor the shuffle is ever made."""
    net = Net(np.random.default_rng(2), (1, 3, 7, 7))
    a, b = net.conv(("x", 3), half), net.conv(("x", 3), half, 3)
    y = shuffle(net, net.concat(a, b), 2)
    c, d = net.split(y, [half, half])
    e = net.slice(y, 3, half + 3)
    ends = [net.conv(t, t[1]) for t in (c, d, e)]
    arrays, kernels = outputs(net, a, b, c, d, e, *ends)
    whole = shuffled(np.concatenate(arrays[:2], 1), 2)
    for got, expected in zip(arrays[2:5], (whole[:, :half], whole[:, half:], whole[:, 3 : half + 3]), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert kernels.count("take_planes") == 3
    assert not any(k.startswith(("copy", "reorder[scalar]")) for k in kernels)


@pytest.mark.parametrize("axis", [1, -3])
def test_gather_along_channels(isa, axis):
    net = Net(np.random.default_rng(3), (2, 3, 5, 6))
    a, b = net.conv(("x", 3), 21), net.conv(("x", 3), 10)
    indices = np.array([-1, 5, 5, 30, 0, -31, *range(20)], np.int64)
    y = net.add("Gather", [net.concat(a, b)[0], net.constant(indices)], axis=axis)[0], len(indices)
    (one, other, picked), kernels = outputs(net, a, b, y)
    np.testing.assert_array_equal(picked, np.concatenate([one, other], 1)[:, indices])
    assert "take_planes" in kernels


def test_what_only_looks_like_a_shuffle(isa):
    """Other axes, other extents, or elements of another kind of view: left as it is."""
    net = Net(np.random.default_rng(4), (2, 6, 4, 6))
    x = net.conv(("x", 6), 24)
    expected = []
    results = [x]
    for inside, perm in (
        ((2, 4, 6, 4, 6), [0, 1, 2, 4, 3]),
        ((2, 4, 6, 4, 6), [1, 0, 2, 3, 4]),
        ((2, 12, 4, 2, 6), [0, 2, 1, 3, 4]),
        ((2, 2, 3, 4, 24), [0, 2, 1, 3, 4]),
    ):
        wide = net.add("Reshape", [x[0], net.constant(np.array(inside, np.int64))])
        turned = net.add("Transpose", wide, perm=perm)
        y = net.add("Reshape", [*turned, net.constant(np.array([2, 24, 4, 6], np.int64))])[0]
        results.append((y, 24))
        expected.append((inside, perm))
    arrays, _ = outputs(net, *results)
    for y, (inside, perm) in zip(arrays[1:], expected, strict=True):
        np.testing.assert_array_equal(y, arrays[0].reshape(inside).transpose(perm).reshape(y.shape))


def test_other_dtypes_and_plain_inputs(isa):
    net = Net(np.random.default_rng(6), (2, 6, 4, 6))
    whole = net.add("Cast", ["x"], to=7)[0], 6
    y = shuffle(net, whole, 3)
    z = shuffle(net, ("x", 6), 2)
    x = (10 * np.random.default_rng(7).standard_normal(net.shape)).astype(np.float32)
    (a, b), _, _ = run(net.model(y, z), x)
    np.testing.assert_array_equal(a, shuffled(x.astype(np.int64), 3))
    np.testing.assert_array_equal(b, shuffled(x, 2))
