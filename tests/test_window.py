"""Window's arithmetic against the oracle's, over every small geometry of one axis (axes do not depend on each other)."""

from __future__ import annotations

import itertools

import pytest
from oracle.geometry import extent, transpose_axis, window_axis

from cnnengine.errors import ShapeError
from cnnengine.window import AUTO_PADS, Window


def both_ways(ours, reference):
    """The two results; None where it raised."""
    results = []
    for call, error in ((ours, ShapeError), (reference, ValueError)):
        try:
            results.append(call())
        except error:
            results.append(None)
    return results


def resolve(n, k, s, d, begin, end, auto_pad, ceil_mode):
    out, begins, ends = Window.of((k,), (s,), (d,), (begin, end), auto_pad, ceil_mode).resolve((n,))
    return out[0], begins[0], ends[0]


@pytest.mark.parametrize("ceil_mode", [False, True], ids=["floor", "ceil"])
@pytest.mark.parametrize("auto_pad", AUTO_PADS)
def test_resolve(auto_pad, ceil_mode):
    pads = itertools.product(range(3), range(4)) if auto_pad == "NOTSET" else [(0, 0)]
    for (begin, end), n, k, s, d in itertools.product(pads, range(1, 10), range(1, 5), range(1, 5), range(1, 4)):
        ours, expected = both_ways(
            lambda: resolve(n, k, s, d, begin, end, auto_pad, ceil_mode),  # noqa: B023 - called at once
            lambda: window_axis(n, k, s, d, begin, end, auto_pad, ceil_mode),  # noqa: B023
        )
        assert ours == expected, f"extent {n}, kernel {k}, stride {s}, dilation {d}, pads {begin} {end}"


def resolve_transpose(n, k, s, d, begin, end, auto_pad, output_padding, wanted):
    window = Window.of((k,), (s,), (d,), (begin, end), auto_pad)
    out, begins, ends = window.resolve_transpose((n,), (output_padding,), None if wanted is None else (wanted,))
    assert out[0] + begins[0] + ends[0] == s * (n - 1) + output_padding + extent(k, d)  # nothing else is cut off
    return out[0], begins[0]


@pytest.mark.parametrize("auto_pad", AUTO_PADS)
def test_resolve_transpose(auto_pad):
    pads = itertools.product(range(3), range(3)) if auto_pad == "NOTSET" else [(0, 0)]
    for (begin, end), n, k, s, d in itertools.product(pads, range(1, 5), range(1, 5), range(1, 4), range(1, 4)):
        for output_padding, wanted in itertools.product(range(max(s, d)), (None, n, n * s, n * s + 2)):
            arguments = (n, k, s, d, begin, end, auto_pad, output_padding, wanted)
            ours, expected = both_ways(lambda: resolve_transpose(*arguments), lambda: transpose_axis(*arguments))  # noqa: B023
            assert ours == expected, arguments
