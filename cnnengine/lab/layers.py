"""Filters, activations, normalisations, dropout, stride, dilation and padding on one picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import arguments
from .. import functional as F
from .picture import SIDE, alike, binomial, gray, light, share, signed, taken
from .result import Experiment, Panel

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32) / 4
FILTERS: tuple[tuple[str, np.ndarray, str], ...] = (
    ("blur", binomial(5), "A weighted mean of 5 x 5: what is fine goes."),
    ("vertical edges", SOBEL, "Right minus left: orange where it grows brighter to the right."),
    ("horizontal edges", SOBEL.T.copy(), "Below minus above: orange where it grows brighter downward."),
    ("corners and dots", np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32), "A pixel against its four neighbours."),
    ("sharper", np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32), "The same, added to the picture."),
)


def edges(x: np.ndarray) -> np.ndarray:
    """Vertical edges of a picture in gray: signed numbers, as convolutions give them."""
    y: np.ndarray = F.conv2d(gray(x), SOBEL[None, None], pads=1)
    return y


def filters(image: Any, *, size: int = SIDE) -> Experiment:
    """Convolutions whose weights are known.

    Parameters
    ----------
    image : as `cnnengine.lab.taken` takes it
    size : int

    Raises
    ------
    InputError
    """
    x = gray(taken(image, size))
    panels = [light("input", x, "The picture in gray.")]
    for name, weights, said in FILTERS:
        y = F.conv2d(x, weights[None, None], pads=len(weights) // 2)
        panels.append(light(name, y, said) if name in ("blur", "sharper") else signed(name, y, said))
    return Experiment(
        "Filters", "A convolution is one small pattern of weights, held against every place of the picture.", panels
    )


ACTIVATIONS: tuple[tuple[str, Callable[[np.ndarray], np.ndarray], str], ...] = (
    ("ReLU", F.relu, "Zero for all that is negative"),
    ("LeakyReLU", lambda v: F.leaky_relu(v, alpha=0.1), "A tenth of what is negative"),
    ("ELU", F.elu, "What is negative bends toward -1"),
    ("Sigmoid", F.sigmoid, "Everything between 0 and 1, zero becomes a half"),
    ("Tanh", F.tanh, "Everything between -1 and 1"),
    ("SiLU", F.silu, "Times its sigmoid: a small dip below zero"),
    ("GELU", F.gelu, "Times the chance that a normal number is smaller"),
    ("HardSwish", F.hard_swish, "SiLU from straight pieces: zero below -3, as it is above 3"),
    ("Softplus", F.softplus, "A smooth ReLU, which is never zero"),
    ("Mish", F.mish, "Times the tanh of its softplus"),
)


def activations(image: Any, *, gain: float = 4.0, size: int = SIDE) -> Experiment:
    """Activations behind a filter for vertical edges.

    Parameters
    ----------
    image, size : as for `filters`
    gain : float
        What the edges are multiplied with, so that curves are not straight where they are seen.

    Raises
    ------
    InputError
    """
    factor = np.float32(arguments.number(gain, "gain"))
    x = np.ascontiguousarray(edges(taken(image, size)) * factor)
    most = float(np.percentile(np.abs(x), 99)) or 1.0
    panels = [signed("edges", x, f"Right minus left, times {factor:g}: from {x.min():.2g} to {x.max():.2g}.", most)]
    for name, function, said in ACTIVATIONS:
        y = np.asarray(function(x))
        panels.append(signed(name, y, f"{said}: {y.min():.2g} to {y.max():.2g}, {share(float((y == 0).mean()))} zeros.", most))
    return Experiment(
        "Activations", "The same edges through each curve, in the same colours: orange above zero, blue below.", panels
    )


def normalisations(image: Any, *, size: int = SIDE) -> Experiment:
    """Normalisations of a picture that is too dark and tinted.

    Parameters
    ----------
    image, size : as for `filters`

    Raises
    ------
    InputError
    """
    x = taken(image, size)
    x = np.ascontiguousarray(np.broadcast_to(x, (1, 3, *x.shape[2:])))
    dim = np.ascontiguousarray(x * np.array([0.5, 0.35, 0.2], np.float32)[:, None, None] + np.float32(0.05))
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    var = np.array([0.229, 0.224, 0.225], np.float32) ** 2
    ways: list[tuple[str, np.ndarray, str]] = [
        (
            "batch norm",
            F.batch_norm(dim, one, zero, mean, var),
            "By the mean and deviation of the data it was trained on: a dark picture stays dark.",
        ),
        (
            "instance norm",
            F.instance_norm(dim, one, zero),
            "Each channel by its own mean and deviation: brightness, contrast and tint are gone.",
        ),
        (
            "layer norm",
            F.layer_norm(dim, axis=1),
            "All channels by one mean and deviation: the tint stays, brightness goes.",
        ),
        ("group norm", F.group_norm(dim, one, zero, groups=1), "Groups of channels, here all three in one, as layer norm."),
    ]
    panels = [light("input", dim, "The picture, dark and tinted.")]
    for name, y, said in ways:
        told = ", ".join(
            f"{round(float(m), 2) + 0:.2f} ± {s:.2f}" for m, s in zip(y[0].mean(axis=(1, 2)), y[0].std(axis=(1, 2)), strict=True)
        )
        panels.append(light(name, y, f"{said} Channels: {told}.", -2.2, 2.2))
    local = F.local_response_norm(dim, size=3, alpha=3.0, beta=0.75, bias=0.1)
    panels.append(
        light(
            "local response norm",
            local,
            "Each pixel by its neighbour channels: the strongest of them stays.",
            0,
            float(local.max()),
        )
    )
    return Experiment("Normalisations", "What is taken as the usual, and what is left.", panels)


def dropout(image: Any, share_dropped: float = 0.5, *, seed: int = 0, size: int = SIDE) -> Experiment:
    """Dropout in training, drawn here by NumPy, and at inference, where the layer does nothing.

    Parameters
    ----------
    image, size : as for `filters`
    share_dropped : float
        From 0 to below 1.
    seed : int

    Raises
    ------
    InputError
    """
    from ..errors import InputError

    p = arguments.number(share_dropped, "share_dropped")
    if not 0 <= p < 1:
        raise InputError("is out of range", tensor="share_dropped", expected="0 to below 1", received=share_dropped)
    x = gray(taken(image, size))
    rng = np.random.default_rng(arguments.integer(seed, "seed", 0))

    def once() -> np.ndarray:
        return np.where(rng.random(x.shape) < p, 0, x / (1 - p)).astype(np.float32)

    first = once()
    many = np.mean([first, *[once() for _ in range(31)]], axis=0).astype(np.float32)
    most = 1 / (1 - p)
    same = F.dropout(x)
    colours = taken(image, size)
    colours = np.ascontiguousarray(np.broadcast_to(colours, (1, 3, *colours.shape[2:])))
    dropped = colours * np.array([most, 0, most], np.float32)[:, None, None]
    panels = [
        light("input", x, "The picture in gray."),
        light("once, in training", first, f"{share(p)} of the numbers are zero, the others {most:.3g} times as large.", 0, most),
        light("32 times, averaged", many, "On average nothing changes: this is why the rest is made larger."),
        light("a channel, in training", dropped, "A whole channel is dropped, here green, and the others made larger.", 0, most),
        light("at inference", same, "The input as it is: the layer does nothing, and an engine takes it out."),
    ]
    return Experiment("Dropout", "Noise that training adds so that no number is relied on alone.", panels)


def strides(image: Any, *, size: int = SIDE) -> Experiment:
    """A filter for edges that moves by 1, 2, 4 and 8, and pixels that are left out.

    Parameters
    ----------
    image, size : as for `filters`

    Raises
    ------
    InputError
    """
    x = gray(taken(image, size))
    panels: list[Panel] = [light("input", x, "The picture in gray.")]
    for step in (1, 2, 4, 8):
        y = F.conv2d(x, SOBEL[None, None], pads=1, stride=step)
        part = share(1 / step**2)
        unseen = f"{step - 3} rows and columns" if step > 4 else "a row and a column"
        seen = "" if step <= 3 else f" Between windows, {unseen} are seen by none."
        panels.append(signed(f"stride {step}", y, f"Edges at {part} of the places, and {part} of the work.{seen}"))
    return Experiment("Stride", "How far a window moves: the output is so many times smaller.", panels)


def dilations(image: Any, *, size: int = SIDE) -> Experiment:
    """A filter for edges whose taps move apart.

    Parameters
    ----------
    image, size : as for `filters`

    Raises
    ------
    InputError
    """
    x = gray(taken(image, size))
    panels: list[Panel] = [light("input", x, "The picture in gray.")]
    for gap in (1, 2, 4, 8):
        y = F.conv2d(x, SOBEL[None, None], pads=gap, dilation=gap)
        wide = 2 * gap + 1
        said = f"The same nine weights over {wide} x {wide} pixels"
        panels.append(signed(f"dilation {gap}", y, f"{said}: edges of coarser things." if gap > 1 else f"{said}."))
    return Experiment("Dilation", "Taps farther apart see farther at the same cost; fine things between them are missed.", panels)


def paddings(image: Any, kernel: int = 15, *, size: int = SIDE) -> Experiment:
    """A blur up to the border, by each way of padding.

    Parameters
    ----------
    image, size : as for `filters`
    kernel : int
        Of the blur, odd.

    Raises
    ------
    InputError
    """
    from ..errors import InputError

    x = gray(taken(image, size))
    k = arguments.integer(kernel, "kernel", 3, min(x.shape[2:]))
    if k % 2 == 0:
        raise InputError("must be odd", tensor="kernel", expected="an odd number", received=kernel)
    blur = alike(np.full((k, k), 1 / k**2), 1)
    half = k // 2
    around = [(0, 0), (0, 0), (half, half), (half, half)]
    none = F.conv2d(x, blur)
    zeros = F.conv2d(x, blur, pads=half)
    edge = F.conv2d(np.pad(x, around, mode="edge"), blur)
    mirrored = F.conv2d(np.pad(x, around, mode="reflect"), blur)
    counted = F.avg_pool2d(x, k, pads=half)
    panels = [
        light("input", x, "The picture in gray."),
        light("none", none, f"The window stays inside: {k - 1} rows and columns fewer."),
        light("zeros", zeros, "Zeros around: as large as the input, and darker toward the border."),
        signed("what zeros cost", zeros - edge, "How much darker the border is than with repeated pixels."),
        light("edge", edge, "The outermost pixels repeated."),
        light("reflected", mirrored, "The picture mirrored at its border."),
        light("average pooling", counted, "The mean of what is inside, padding not counted: no dark border."),
    ]
    return Experiment("Padding", f"What a blur of {k} x {k} sees beyond the border.", panels)
