"""Window's arithmetic against the oracle's, over every small geometry of one axis (axes do not depend on each other)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.geometry import extent, transpose_axis, window_axis

from cnnengine.errors import ShapeError
from cnnengine.window import AUTO_PADS, MOST, MOST_PLACES, Window


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


NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(
        [s * 2**k + d for k in (0, 1, 15, 16, 30, 31, 32, 40, 47, 48, 61, 62, 63) for s in (1, -1) for d in (-1, 0, 1)]
    ),
    st.integers(-3, 9),
)
RANK = 2


@given(
    *[st.tuples(*[NUMBERS] * n) for n in (RANK, RANK, RANK, 2 * RANK)],
    st.tuples(*[st.integers(0, 2**40)] * RANK),
    st.sampled_from(AUTO_PADS),
    st.booleans(),
    st.tuples(*[NUMBERS] * RANK),
)
@settings(max_examples=2000, deadline=None)
def test_any_numbers_are_refused_or_small_enough_to_compute_with(
    kernel, strides, dilations, pads, spatial, auto_pad, ceil_mode, more
):
    """What comes out is what kernels may multiply: no product of places and the bytes of a block leaves 64 bits."""
    try:
        window = Window.of(kernel, strides, dilations, pads, auto_pad, ceil_mode)
    except ShapeError:
        return
    for resolve_ in (lambda: window.resolve(spatial), lambda: window.resolve_transpose(spatial, more)):
        try:
            out, begins, ends = resolve_()
        except ShapeError:
            continue
        places = 1
        for n, m, b, e, s, reach in zip(spatial, out, begins, ends, window.strides, window.extent, strict=True):
            assert max(m, abs(b), abs(e), s, reach) <= MOST
            places *= max(n, m, reach, s)
        assert places <= MOST_PLACES and places * 16 * 4 * 8 < 2**63


@pytest.mark.parametrize("name", ["kernel", "strides", "dilations", "pads"])
def test_each_number_has_an_end(name):
    numbers = {"kernel": (1,), "strides": (1,), "dilations": (1,), "pads": (0, 0)}
    most = {**numbers, name: (MOST, *numbers[name][1:])}
    assert Window.of(**most).kernel  # as large as can be, and taken
    with pytest.raises(ShapeError, match=name):
        Window.of(**{**numbers, name: (MOST + 1, *numbers[name][1:])})


def test_extents_with_their_pads_have_an_end():
    assert Window.of((1,), pads=(MOST - 8, 0), strides=(MOST,)).resolve((8,))[0] == (1,)
    with pytest.raises(ShapeError, match="more places"):
        Window.of((1,), pads=(MOST - 7, 0), strides=(MOST,)).resolve((8,))
    wide = 2**24
    assert Window.of((1, 1), strides=(wide, wide), pads=(wide - 4, wide - 4, 0, 0)).resolve((4, 4))[0] == (1, 1)
    with pytest.raises(ShapeError, match="more places"):
        Window.of((1, 1), strides=(wide, wide), pads=(wide - 4, wide - 3, 0, 0)).resolve((4, 4))
