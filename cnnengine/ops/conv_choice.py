"""What convolutions cost: which of them are transformed, in what tiles, and which are cut into regions.

Every constant here was measured; what depends on the machine's memory for a whole model is `plan.budget`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .._kernels.winograd import FORMS
from ..records import dataclass
from ..window import Window
from .taps import Pair, plane


def _axis_regions(size: int, out: int, stride: int, offsets: Sequence[int]) -> list[tuple[int, int, list[int]]]:
    """Runs of output positions along one axis that the same taps serve: (first, count, taps that do not meet padding alone)."""
    regions: list[tuple[int, int, list[int]]] = []
    # what changes is where a tap enters the input and where it leaves it: an output may have many more positions
    first = [-(offset // stride) for offset in offsets]
    behind = [-((offset - size) // stride) for offset in offsets]
    starts = sorted({i for i in (0, *first, *behind) if 0 <= i < out})
    for i, end in zip(starts, (*starts[1:], out), strict=False):
        used = [t for t in range(len(offsets)) if first[t] <= i < behind[t]]
        if regions and regions[-1][2] == used:
            regions[-1] = (regions[-1][0], regions[-1][1] + end - i, used)
        else:
            regions.append((i, end - i, used))
    return regions


CALL_PRODUCTS = 100_000
"""Multiply-adds that take as long as one more call of a kernel, its tiles' tails included."""


def useful_regions(
    window: Window, spatial: Sequence[int], out: Sequence[int], ranges: Sequence[Sequence[int]], products: int
) -> list[list[tuple[int, int, list[int]]]] | None:
    """The regions of every axis where leaving out taps that meet padding alone saves a fifth of the products, else None.

    With kernels that are not dilated, only the rim of the output has such taps: too narrow to be computed by itself. Every region
    is a call of its own, and all `products` of an image are few in small layers.
    """
    whole, left, axes = 1, 1, []
    for size, n, stride, dilation, offsets in zip(spatial, out, window.strides, window.dilations, ranges, strict=True):
        regions = [(0, n, list(range(len(offsets))))]
        if dilation > 1:
            regions = _axis_regions(size, n, stride, offsets)
        axes.append(regions)
        whole *= n * len(offsets)
        left *= sum(count * len(used) for _, count, used in regions)
    calls = math.prod(map(len, axes))
    if left > 0.8 * whole or calls > 9 or (1 - left / whole) * products < calls * CALL_PRODUCTS:
        return None
    return axes


def within_blocks(groups: int, channels: int, out_channels: int, lanes: int) -> bool:
    """Whether groups of so many channels stay within a block of `lanes`: then they have a kernel of their own."""
    return groups > 1 and channels == out_channels and lanes % channels == 0 and channels < lanes


PAIR_TIME = 0.5
"""Time of products of bfloat16 numbers to that of those of float32: an instruction adds two, and takes as long."""

HALF_KEPT = 512 << 10
"""Bytes of float32 weights from which a convolution keeps numbers of half the size as they are. Each chunk widens them anew,
which takes up to a twentieth of a layer's time where they stay in a cache; smaller ones save little memory."""

LARGE_TRANSFORMED = 16 << 20
"""Bytes of transformed weights of 3-D and dilated kernels from which their memory counts."""


def winograd_tile(window: Window, channels: int, out_channels: int, out: Sequence[int]) -> Pair | None:
    """The output pixels of a Winograd tile, None where the direct kernel is faster; by channels of a group and output extents.

    Measured on AVX2 and AVX-512 over 6 to 56 pixels and 3 to 512 channels: from 9 tiles of 4x4 (an output of 9 pixels) on, 3x3
    kernels take 0.25 to 0.75 of the time with 32 channels and more, 5x5 kernels 0.4 to 0.6 from 16 channels and 16 tiles of 2x2
    on. With fewer tiles the weights, four times as many, are used too seldom; with few channels the transforms outweigh the
    products. From 5 to 8 pixels on a side 3x3 kernels have tiles of 2x2, for which the weights are less than twice as many.
    Kernels of one row or column take 0.4 to 0.85, 3x3 kernels at stride 2 0.65 to 0.9, those dilated by 2 to 4 0.3 to 0.6.

    The tiles of all depths share the weights: 4 tiles (7 pixels) at 2 depths take 0.6 of the time. Where the weights of 3-D
    layers are large, four times the memory buys little: r3d_18 takes a twentieth longer without the 28 MB of each layer of 256
    channels at 64 tiles, and no longer without the 113 MB of those of 512 channels at 8.

    The batch does not count: it must not change the rounding.
    """
    rank = len(window.kernel)
    kernel, strides, dilations = (plane(v, 1) for v in (window.kernel, window.strides, window.dilations))
    tile: Pair | None = next((tile for taps, tile, step in FORMS if taps == kernel and step == strides), None)
    if tile is None or (rank == 3 and set(window.dilations) != {1}):
        return None

    def tiles(size: Pair) -> int:
        each = (d * -(-n // d // m) for n, d, m in zip(plane(out, 1), dilations, size, strict=True))
        return math.prod(each) * (out[0] if rank == 3 else 1)

    least, products, count = min(channels, out_channels), channels * out_channels, tiles(tile)
    if max(dilations) > 1:
        # every phase has tiles of its own, which may reach beyond it; the direct kernel leaves out taps that meet padding alone
        waste = count * math.prod(tile) / max(math.prod(out), 1)
        if strides != (1, 1) or max(dilations) > 4 or waste > 2:
            return None
        if kernel == (3, 3) and 4 * 36 * products > LARGE_TRANSFORMED:
            return 2, 2  # 0.48 of the direct time instead of 0.4, for less than half of the memory
    if strides != (1, 1):
        # 81 products for 144, but tiles may reach beyond the output, and the transforms weigh more the fewer channels there are
        spent = 81 * count * (1 + 16 / least) if least else 0.0
        return tile if rank == 2 and least >= 32 and count >= 16 and spent <= 0.9 * 9 * math.prod(out) else None
    if 1 in kernel:
        return tile if rank < 3 and least >= (16 if 3 in kernel else 32) and products >= 1024 and count >= 12 else None
    enough = 9
    if rank == 3:
        enough = 8 if 4 * 36 * window.kernel[0] * channels * out_channels <= LARGE_TRANSFORMED else 65
    if count >= enough:
        return tile if least >= 8 and products >= (512 if count < 25 else 256) else None
    small: Pair = (2, 2)
    return small if rank == 2 and kernel == (3, 3) and tiles(small) >= 9 and least >= 32 else None


@dataclass(frozen=True)
class Transform:
    """A way of computing a convolution by Winograd's algorithm.

    Attributes
    ----------
    tile : (h, w)
        Output pixels of a tile.
    extra : int
        Bytes of the transformed weights beyond those of the plain ones.
    saved : float
        Products of one image that are saved, those being taken off that take as long as the transforms.
    """

    tile: Pair
    extra: int
    saved: float


TRANSFORM_PRODUCTS = 6
"""Products that take as long as the transforms of an element, per input channel and per output channel."""


def transforms(
    window: Window, channels: int, out_channels: int, groups: int, spatial: Sequence[int], lanes: int
) -> list[Transform]:
    """How Winograd's algorithm may compute a convolution, the fastest way first; none where it does not pay.

    Parameters
    ----------
    window : Window
    channels, out_channels : int
        Of a group.
    groups : int
    spatial : sequence of int
        Extents of the input.
    lanes : int
    """
    if within_blocks(groups, channels, out_channels, lanes):
        return []
    out, _, _ = window.resolve(spatial)
    best = winograd_tile(window, channels, out_channels, out)
    if best is None:
        return []
    kernel, strides, dilations = (plane(v, 1) for v in (window.kernel, window.strides, window.dilations))
    depth, deep = (window.kernel[0], out[0]) if len(out) == 3 else (1, 1)
    inputs, outputs = groups * channels, groups * out_channels
    found = []
    for taps, tile, step in FORMS:
        if taps != kernel or step != strides or math.prod(tile) > math.prod(best):
            continue
        matrices = math.prod(n + k - 1 for n, k in zip(tile, kernel, strict=True))
        elements = math.prod(n * s + k - s for n, k, s in zip(tile, kernel, strides, strict=True))
        tiles = math.prod(d * -(-n // d // m) for n, d, m in zip(plane(out, 1), dilations, tile, strict=True)) * deep
        spent = elements * tiles * (depth * channels * outputs + TRANSFORM_PRODUCTS * (inputs + outputs))
        saved = float(math.prod(out) * math.prod(kernel) * depth * channels * outputs - spent)
        # four bytes an element, and two bits a tap
        weights = channels * outputs * depth
        extra = 4 * weights * (matrices - math.prod(kernel)) + weights * math.prod(kernel) // 4
        found.append(Transform(tile, extra, saved))
    return sorted(found, key=lambda option: -math.prod(option.tile))
