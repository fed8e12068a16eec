"""What the tests of `cnnengine.functional` share."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest
from hypothesis import strategies as st
from oracle import assert_same_bits

from cnnengine.errors import CNNEngineError

# Around the tiles of every instruction set: 4, 8 and 16 lanes, 2 to 4 channel blocks.
CHANNELS = (1, 3, 4, 7, 8, 12, 15, 16, 17, 31, 32, 33, 40, 48)
WIDTHS = (*range(1, 32), 54, 57)
AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def normal(*shape, seed=0):
    """Reproducible standard normal float32; another seed or shape gives other numbers."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def name_of(case):
    """A readable test id: shapes joined by x, options as key=value."""
    parts = []
    for part in case:
        if isinstance(part, dict):
            parts += [f"{k}={name_of((v,))}" for k, v in part.items()]
        elif isinstance(part, tuple):
            parts.append("x".join(map(str, part)))
        else:
            parts.append(str(part))
    return "-".join(parts)


def both(function, *args, **kwargs):
    """The result with 1 thread, after asserting that 2 threads give the same bits."""
    one, two = (function(*args, threads=threads, **kwargs) for threads in (1, 2))
    if isinstance(one, tuple):
        for a, b in zip(one, two, strict=True):
            assert_same_bits(a, b)
    else:
        assert_same_bits(one, two)
    return one


@contextlib.contextmanager
def refused(error, *names):
    """The block raises `error`, whose text names one of these arguments, what was expected and what came."""
    with pytest.raises(error) as info:
        yield
    caught = info.value
    assert isinstance(caught, CNNEngineError), repr(caught)
    text = str(caught)
    assert any(re.search(rf"\b{re.escape(name)}\b", text) for name in names), f"{text!r} names none of {names}"
    assert caught.expected is not None and caught.received is not None, f"{text!r} does not say what was expected and received"


def outcome(call, fallback=(CNNEngineError,)):
    """call(), or None where it raised one of the errors that are fine."""
    try:
        return call()
    except fallback:
        return None


def geometries(ceil=False, transpose=False):
    """Strategy of (rank, spatial, kernel, keywords) of a window; many fit, some do not.

    Hypothesis draws a seed, and the seed the numbers: its own draws favour ones and repetitions, at which strides,
    dilations and rounding do nothing.
    """
    return st.integers(0, 2**32 - 1).map(lambda seed: _geometry(np.random.default_rng(seed), ceil, transpose))


def _geometry(rng, ceil, transpose):
    rank = int(rng.integers(1, 4))

    def ints(low, high, n=rank):
        return tuple(int(v) for v in rng.integers(low, high + 1, n))

    spatial = ints(1, (24, 9, 6)[rank - 1])
    kernel = ints(1, (7, 4, 3)[rank - 1])
    keywords = {
        "stride": ints(1, 4),
        "dilation": tuple(rng.choice([1, 1, 2, 3], rank).tolist()),
        "pads": ints(0, 3, 2 * rank),
        "auto_pad": str(rng.choice(["NOTSET", "NOTSET", "NOTSET", *AUTO_PADS])),
    }
    if ceil:  # pads under the kernel, so that few windows lie wholly inside the padding
        keywords["pads"] = tuple(min(p, k - 1) for p, k in zip(keywords["pads"], kernel * 2, strict=True))
        keywords["ceil_mode"] = bool(rng.integers(2))
    if keywords["auto_pad"] != "NOTSET":
        keywords["pads"] = 0  # the two exclude each other
    if transpose:
        limits = [max(s, d) for s, d in zip(keywords["stride"], keywords["dilation"], strict=True)]
        keywords["output_padding"] = tuple(int(rng.integers(limit)) for limit in limits)
    return rank, spatial, kernel, keywords
