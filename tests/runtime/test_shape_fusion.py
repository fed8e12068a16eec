"""Rewrites at known shapes: pads that follow from shapes, and scale and shift of a channel in one pass."""

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


def padded(net: Net, x: str, widths: list[int], value: float | None = None, mode: str = "constant") -> str:
    """A Pad whose widths are computed from a shape, so that no pass knows them."""
    n = net.add("Gather", [net.add("Shape", ["x"])[0], net.constant(np.array([0], np.int64))])[0]
    zero = net.add("Sub", [n, net.constant(np.array([net.shape[0]], np.int64))])[0]
    pads = net.add("Add", [net.constant(np.array(widths, np.int64)), zero])[0]
    return net.add("Pad", [x, pads, *([] if value is None else [net.constant(np.float32(value))])], mode=mode)[0]


def apart(net: Net, x: tuple[str, int], y: tuple[str, int], at: np.ndarray) -> tuple[list[np.ndarray], list[str]]:
    """Values of x (a graph output too, so that nothing reads it alone) and y."""
    arrays, kernels, _ = run(net.model(x, y), at)
    return arrays, kernels


def model(shape, c, widths, last, **kw):
    """conv -> Pad (between Transposes where `last`) -> 3x3 convolution without pads, and its value."""
    net = Net(np.random.default_rng(0), shape)
    x = net.conv(("x", shape[1]), c)
    value = x[0]
    if last:
        value = net.add("Transpose", [value], perm=[0, 2, 3, 1])[0]
        widths = [widths[i] for i in (0, 2, 3, 1, 4, 6, 7, 5)]
    value = padded(net, value, widths, **kw)
    if last:
        value = net.add("Transpose", [value], perm=[0, 3, 1, 2])[0]
    w = net.rng.standard_normal((4, c + widths[1] if not last else c, 3, 3)).astype(np.float32)
    y = net.add("Conv", [value, net.constant(w)])[0], 4
    return net, x, y, w


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("widths", [[0, 0, 1, 2, 0, 0, 0, 3], [0, 0, 0, 0, 0, 0, 1, 1]])
def test_pads_from_shapes(isa, last, widths):
    shape = (2, 3, 5, 6)
    net, x, y, w = model(shape, 19, widths, last)
    (before, after), kernels = apart(net, x, y, np.random.default_rng(1).standard_normal(shape).astype(np.float32))
    whole = np.pad(before.astype(np.float64), list(zip(widths[:4], widths[4:], strict=True)))
    windows = np.lib.stride_tricks.sliding_window_view(whole, (3, 3), (2, 3))
    np.testing.assert_allclose(after, np.einsum("nchwij,ocij->nohw", windows, w), atol=1e-4)
    assert not any(k.startswith(("copy_nd", "fill")) for k in kernels)


@pytest.mark.parametrize("kw", [{"value": 1.5}, {"mode": "edge"}])
def test_other_pads_stay(isa, kw):
    shape, widths = (2, 3, 5, 6), [0, 0, 1, 1, 0, 0, 1, 1]
    net, x, y, w = model(shape, 5, widths, True, **kw)
    (before, after), _ = apart(net, x, y, np.random.default_rng(1).standard_normal(shape).astype(np.float32))
    how = {"mode": "edge"} if "mode" in kw else {"constant_values": 1.5}
    whole = np.pad(before.astype(np.float64), list(zip(widths[:4], widths[4:], strict=True)), **how)
    windows = np.lib.stride_tricks.sliding_window_view(whole, (3, 3), (2, 3))
    np.testing.assert_allclose(after, np.einsum("nchwij,ocij->nohw", windows, w), atol=1e-4)


@pytest.mark.parametrize("shapes", [((7, 1, 1), (1, 7, 1, 1)), ((1,), (7, 1, 1)), ((1, 7, 1, 1), ())])
@pytest.mark.parametrize("relu", [False, True])
def test_scale_and_shift_are_one_pass(isa, shapes, relu):
    net = Net(np.random.default_rng(2), (2, 3, 5, 6))
    x = net.add("MaxPool", [net.conv(("x", 3), 7)[0]], kernel_shape=[2, 2])[0]
    scale, shift = (net.rng.standard_normal(s).astype(np.float32) for s in shapes)
    y = net.add("Add", [net.constant(shift), net.add("Mul", [x, net.constant(scale)])[0]])[0]
    if relu:
        y = net.add("Relu", [y])[0]
    (before, after), kernels = apart(net, (x, 7), (y, 7), np.random.default_rng(3).standard_normal(net.shape).astype(np.float32))
    expected = before.astype(np.float64) * scale + shift
    np.testing.assert_allclose(after, np.maximum(expected, 0) if relu else expected, atol=1e-5)
    assert not any(k.startswith(("binary", "activation")) for k in kernels)
    assert any(k.startswith("batch_norm") for k in kernels)


def test_what_is_no_scale_of_channels(isa):
    """Constants of other shapes, constants that widen, and a product that something else reads."""
    net = Net(np.random.default_rng(4), (2, 3, 5, 6))
    x = net.add("MaxPool", [net.conv(("x", 3), 7)[0]], kernel_shape=[2, 2])[0]
    narrow = net.add("MaxPool", [net.conv(("x", 3), 1)[0]], kernel_shape=[2, 2])[0]
    row, channel = net.rng.standard_normal((1, 5)).astype(np.float32), net.rng.standard_normal((7, 1, 1)).astype(np.float32)
    product = net.add("Mul", [x, net.constant(channel)])[0]
    outputs = [
        net.add("Add", [net.add("Mul", [x, net.constant(row)])[0], net.constant(channel)])[0],
        net.add("Add", [net.add("Mul", [narrow, net.constant(channel)])[0], net.constant(channel)])[0],
        net.add("Add", [product, net.constant(channel)])[0],
        product,
    ]
    at = np.random.default_rng(3).standard_normal(net.shape).astype(np.float32)
    arrays, kernels, _ = run(net.model((x, 7), (narrow, 1), *((o, 7) for o in outputs)), at)
    wide, thin = arrays[:2]
    expected = [wide * row + channel, thin * channel + channel, wide * channel + channel, wide * channel]
    for a, b in zip(arrays[2:], expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert not any(k.startswith("batch_norm") for k in kernels)
