"""Window: output-size and padding arithmetic of sliding windows, once, for conv, pool, transpose and im2col."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .errors import ShapeError

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")

MOST = 2**31 - 1
"""Each number of a window, and each extent that it moves over. Kernels compute with 64 bits and check nothing."""
MOST_PLACES = 2**48
"""Places that a window moves over, on all axes together: times the bytes of a block of channels they stay far below 64 bits."""
SMALL = 2**15
"""An extent up to which three axes have fewer places."""


def _check_reach(reach: Sequence[int], **received: object) -> None:
    """Raise ShapeError where kernels could not count the places that a window moves over, `reach` of them along each axis."""
    if max(reach, default=0) > MOST or math.prod(reach) > MOST_PLACES:
        raise ShapeError(
            "the window moves over more places than can be counted",
            expected=f"at most {MOST} along an axis, pads included, and {MOST_PLACES} in all",
            received=", ".join(f"{name} {value}" for name, value in received.items()),
        )


@dataclass(frozen=True)
class Window:
    """A sliding window over spatial axes, as ONNX's attributes describe it.

    Attributes
    ----------
    kernel, strides, dilations : tuple of int
        One per spatial axis.
    pads : tuple of int
        All begins, then all ends. Used with auto_pad NOTSET alone.
    auto_pad : {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"}
    ceil_mode : bool
        Round the output size up (pooling). A window that would start in the end padding is dropped.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: bool = False

    @classmethod
    def of(
        cls,
        kernel: Sequence[int],
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        auto_pad: str = "NOTSET",
        ceil_mode: bool = False,
    ) -> Window:
        """A checked Window; what is left out is 1 (strides, dilations) or 0 (pads)."""
        return _checked(
            tuple(kernel),
            tuple(strides) if strides else (),
            tuple(dilations) if dilations else (),
            tuple(pads) if pads else (),
            auto_pad,
            ceil_mode,
        )

    @classmethod
    def _made(
        cls,
        kernel: tuple[int, ...],
        strides: tuple[int, ...],
        dilations: tuple[int, ...],
        pads: tuple[int, ...],
        auto_pad: str,
        ceil_mode: bool,
    ) -> Window:
        rank = len(kernel)
        window = cls(
            tuple(int(k) for k in kernel),
            tuple(int(s) for s in strides) if strides else (1,) * rank,
            tuple(int(d) for d in dilations) if dilations else (1,) * rank,
            tuple(int(p) for p in pads) if pads else (0,) * (2 * rank),
            auto_pad or "NOTSET",
            bool(ceil_mode),
        )
        for name, length in (("strides", rank), ("dilations", rank), ("pads", 2 * rank)):
            value = getattr(window, name)
            if len(value) != length:
                raise ShapeError(f"{name} has the wrong length", tensor=name, expected=length, received=value)
        for name in ("kernel", "strides", "dilations"):
            if any(v < 1 for v in getattr(window, name)):
                raise ShapeError(f"{name} must be positive", tensor=name, expected=">= 1", received=getattr(window, name))
        for name in ("kernel", "strides", "dilations", "pads"):
            if any(abs(v) > MOST for v in getattr(window, name)):
                raise ShapeError(
                    f"{name} beyond what can be computed with",
                    tensor=name,
                    expected=f"at most {MOST}",
                    received=getattr(window, name),
                )
        if window.auto_pad not in AUTO_PADS:
            raise ShapeError("unknown auto_pad", tensor="auto_pad", expected=AUTO_PADS, received=window.auto_pad)
        return window

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def extent(self) -> tuple[int, ...]:
        """Extent of the dilated kernel per axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def _same_pads(self, total: int) -> tuple[int, int]:
        total = max(total, 0)
        small = total // 2
        return (small, total - small) if self.auto_pad == "SAME_UPPER" else (total - small, small)

    def resolve(self, spatial: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Output extents and begin and end pads over an input of these spatial extents.

        Returns
        -------
        out, begins, ends : tuples of int, one per axis
            `ends` are the pads as asked for; with ceil_mode a window may reach beyond them.

        Raises
        ------
        ShapeError
            When an output extent would be negative or zero while the input is not empty.
        """
        if len(spatial) != self.rank:
            raise ShapeError(
                "the window and the input differ in rank", expected=f"{self.rank} spatial axes", received=tuple(spatial)
            )
        out, begins, ends, reach = [], [], [], []
        for i, (n, k, s, e) in enumerate(zip(spatial, self.kernel, self.strides, self.extent, strict=True)):
            if self.auto_pad.startswith("SAME"):
                size = -(-n // s)
                begin, end = self._same_pads((size - 1) * s + e - n)
            else:
                begin, end = (0, 0) if self.auto_pad == "VALID" else (self.pads[i], self.pads[self.rank + i])
                room = n + begin + end - e
                size = room // s + 1
                if self.ceil_mode and self.auto_pad == "NOTSET":  # VALID's ceil formula equals floor's
                    # room may be negative: one window that reaches beyond the padded input
                    size = -(-room // s) + 1
                    if size > 1:  # windows that would start in the end pads go
                        size = max(1, min(size, (n + begin - 1) // s + 1))
            if size < 1:
                raise ShapeError(
                    f"the window does not fit into spatial axis {i}",
                    expected=f"extent + pads >= {e} (kernel {k}, dilation {self.dilations[i]})",
                    received=f"extent {n}, pads {begin} and {end}",
                )
            out.append(size)
            begins.append(begin)
            ends.append(end)
            reach.append(max(n + abs(begin) + abs(end), e, s, size))
        if self.rank > 3 or max(reach, default=0) > SMALL:
            _check_reach(reach, extents=tuple(spatial), window=self)
        return tuple(out), tuple(begins), tuple(ends)

    def resolve_transpose(
        self,
        spatial: Sequence[int],
        output_padding: Sequence[int] | None = None,
        output_shape: Sequence[int] | None = None,
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The same for ConvTranspose: output extents and the begin and end pads that are cut from the full result.

        An explicit output_shape overrides pads; SAME means out = in * stride; of an odd total only SAME_UPPER puts
        the smaller half first (ONNX ConvTranspose).
        """
        if len(spatial) != self.rank:
            raise ShapeError(
                "the window and the input differ in rank", expected=f"{self.rank} spatial axes", received=tuple(spatial)
            )
        output_padding = tuple(output_padding) if output_padding else (0,) * self.rank
        if len(output_padding) != self.rank:
            raise ShapeError(
                "output_padding has the wrong length", tensor="output_padding", expected=self.rank, received=output_padding
            )
        if output_shape and len(output_shape) != self.rank:
            raise ShapeError(
                "output_shape has the wrong length", tensor="output_shape", expected=self.rank, received=tuple(output_shape)
            )
        out, begins, ends, reach = [], [], [], []
        for i, (n, s, e) in enumerate(zip(spatial, self.strides, self.extent, strict=True)):
            full = (n - 1) * s + output_padding[i] + e
            if output_shape or self.auto_pad.startswith("SAME"):
                size = int(output_shape[i]) if output_shape else n * s
                total = max(full - size, 0)
                half = total // 2
                begin, end = (half, total - half) if self.auto_pad == "SAME_UPPER" else (total - half, half)
                if full < size:
                    end = full - size
            else:
                begin, end = (0, 0) if self.auto_pad == "VALID" else (self.pads[i], self.pads[self.rank + i])
                size = full - begin - end
            if size < 1:
                raise ShapeError(
                    f"the pads of ConvTranspose leave nothing of spatial axis {i}",
                    tensor="pads",
                    expected=f"pads {begin} and {end} to be less than the full extent {full}",
                    received=f"an output extent of {size}",
                )
            out.append(size)
            begins.append(begin)
            ends.append(end)
            reach.append(max(full, size, s, abs(begin) + abs(end), abs(output_padding[i])))
        if self.rank > 3 or max(reach, default=0) > SMALL:
            _check_reach(reach, extents=tuple(spatial), window=self)
        return tuple(out), tuple(begins), tuple(ends)


_checked = lru_cache(1024)(Window._made)
"""A layer asks for its window several times while it is planned, and layers are alike."""
