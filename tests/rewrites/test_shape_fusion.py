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
    """A Pad whose widths are computed from a shape, so that nothing before knows them."""
    n = net.add("Gather", [net.add("Shape", ["x"])[0], net.constant(np.array([0], np.int64))])[0]
    zero = net.add("Sub", [n, net.constant(np.array([net.shape[0]], np.int64))])[0]
    pads = net.add("Add", [net.constant(np.array(widths, np.int64)), zero])[0]
    return net.add("Pad", [x, pads, *([] if value is None else [net.constant(np.float32(value))])], mode=mode)[0]


def apart(net: Net, *values: tuple[str, int], at: np.ndarray) -> tuple[list[np.ndarray], list[str]]:
    """These values: graph outputs too, so that nothing reads them alone."""
    arrays, kernels, _ = run(net.model(*values), at)
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
    (before, after), kernels = apart(net, x, y, at=np.random.default_rng(1).standard_normal(shape).astype(np.float32))
    whole = np.pad(before.astype(np.float64), list(zip(widths[:4], widths[4:], strict=True)))
    windows = np.lib.stride_tricks.sliding_window_view(whole, (3, 3), (2, 3))
    np.testing.assert_allclose(after, np.einsum("nchwij,ocij->nohw", windows, w), atol=1e-4)
    assert not any(k.startswith(("copy_nd", "fill")) for k in kernels)


@pytest.mark.parametrize("kw", [{"value": 1.5}, {"mode": "edge"}])
def test_other_pads_stay(isa, kw):
    shape, widths = (2, 3, 5, 6), [0, 0, 1, 1, 0, 0, 1, 1]
    net, x, y, w = model(shape, 5, widths, True, **kw)
    (before, after), _ = apart(net, x, y, at=np.random.default_rng(1).standard_normal(shape).astype(np.float32))
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
    (before, after), kernels = apart(
        net, (x, 7), (y, 7), at=np.random.default_rng(3).standard_normal(net.shape).astype(np.float32)
    )
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


@pytest.mark.parametrize(("c", "tail"), [(19, (5, 6)), (32, (1, 9))])
def test_zeros_around_pixels_stay_in_planes(isa, c, tail):
    net = Net(np.random.default_rng(5), (2, 3, *tail))
    x = net.conv(("x", 3), c)
    y = net.add("Pad", [x[0], net.constant(np.array([0, 0, 1, 2, 0, 0, 0, 1], np.int64))])[0]
    z = net.add("MaxPool", [y], kernel_shape=[2, 3], strides=[1, 2])[0]
    (before, padded, pooled), kernels = apart(
        net, x, (y, c), (z, c), at=np.random.default_rng(3).standard_normal(net.shape).astype(np.float32)
    )
    np.testing.assert_array_equal(padded, np.pad(before, [(0, 0), (0, 0), (1, 0), (2, 1)]))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 3), (2, 3))[:, :, :, ::2]
    np.testing.assert_array_equal(pooled, windows.max((-1, -2)))
    assert not any(k.startswith(("copy_nd", "fill")) for k in kernels)


def last(net: Net, x: str, w: np.ndarray, **kw: object) -> str:
    """A convolution of the channels-last x: behind a Transpose."""
    planes = net.add("Transpose", [x], perm=[0, 3, 1, 2])[0]
    return net.add("Conv", [planes, net.constant(w), net.constant(np.arange(len(w), dtype=np.float32))], **kw)[0]


@pytest.mark.parametrize(
    "kw",
    [
        {"pads": [1, 1, 1, 1]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 3], "pads": [0, 2, 1, 0]},
        {"auto_pad": "VALID"},
    ],
)
@pytest.mark.parametrize(("c", "o", "kernel"), [(1, 5, (3, 3)), (3, 40, (3, 3)), (4, 24, (2, 5)), (3, 16, (7, 7))])
@pytest.mark.parametrize("threads", [1, 2])
def test_images_with_their_channels_last(isa, c, o, kernel, kw, threads):
    """The convolution reads them as they are; its sums are those of the same image turned around beforehand."""
    rng = np.random.default_rng(5)
    shape, w = (2, 17, 22, c), rng.standard_normal((o, c, *kernel)).astype(np.float32)
    image = rng.standard_normal(shape).astype(np.float32)
    net = Net(rng, shape)
    y = net.add("Relu", [last(net, "x", w, **kw)])[0]
    (got,), kernels, _ = run(net.model((y, o)), image, threads)
    turned = Net(rng, (2, c, 17, 22))
    inputs = ["x", turned.constant(w), turned.constant(np.arange(o, dtype=np.float32))]
    y = turned.add("Relu", [turned.add("Conv", inputs, **kw)[0]])[0]
    (want,), _, _ = run(turned.model((y, o)), np.ascontiguousarray(image.transpose(0, 3, 1, 2)), threads)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)
    assert not any(k.startswith("copy_nd") for k in kernels)
    # a batch is its images
    (one,), _, _ = run(Net.model(_of_one(net, shape), (net.nodes[-1].output[0], o)), image[1:], threads)
    np.testing.assert_array_equal(one, got[1:])


def _of_one(net: Net, shape: tuple[int, ...]) -> Net:
    net.shape = (1, *shape[1:])
    return net


def test_images_that_something_else_reads_turned_around(isa):
    """Another reader, many channels, dilated or grouped kernels: the Transpose stays."""
    rng = np.random.default_rng(6)
    image = rng.standard_normal((1, 9, 11, 4)).astype(np.float32)
    w, narrow = (rng.standard_normal(s).astype(np.float32) for s in ((8, 4, 3, 3), (8, 2, 3, 3)))
    for kw, weights, read in (({}, w, True), ({"dilations": [2, 2]}, w, False), ({"group": 2}, narrow, False)):
        net = Net(rng, image.shape)
        y = last(net, "x", weights, **kw)
        outputs = [(y, 8), (net.nodes[0].output[0], 4)] if read else [(y, 8)]
        values, _, _ = run(net.model(*outputs), image)
        turned = Net(rng, (1, 4, 9, 11))
        z = turned.add("Conv", ["x", turned.constant(weights), turned.constant(np.arange(8, dtype=np.float32))], **kw)[0]
        (want,), _, _ = run(turned.model((z, 8)), np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
        np.testing.assert_allclose(values[0], want, rtol=1e-5, atol=1e-4)
        if read:
            np.testing.assert_array_equal(values[1], image.transpose(0, 3, 1, 2))
