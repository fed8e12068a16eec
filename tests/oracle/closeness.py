"""How close a float32 result must come to the oracle: two classes, and no other tolerance anywhere in the tests.

EXACT
    The operator selects, moves or compares values (max pool, relu, clip, flatten, unpool): the result equals the
    oracle's, rounded to float32, in every element. NaN equals NaN; +0 and -0 are equal, since ONNX's max leaves the
    sign of a zero open.
ROUNDING
    The operator computes: |actual - expected| <= eps * (4 + sqrt(terms)) * magnitude, eps = 2**-23. `magnitude` is what
    the same formula gives when every term that it adds is taken positive (conv of |x|, |w| and |bias|), so cancellation
    loosens nothing by itself; without additions it is |expected|, a few units in the last place. `terms` is how many
    products or values one result sums: rounding errors of a sum in any order grow with its square root. Results under
    the smallest normal float32 may be flushed to zero. Infinities and NaN must stand where the oracle has them.
"""

from __future__ import annotations

import numpy as np

EXACT = "EXACT"
ROUNDING = "ROUNDING"

_EPS = 2.0**-23
_SMALLEST_NORMAL = 2.0**-126


def assert_close(actual, expected, kind, *, magnitude=None, terms=1):
    """Assert that a float32 result is what the oracle says, within its class.

    Parameters
    ----------
    actual : float32 array
    expected : float64 array
        From the oracle; the shapes must be equal.
    kind : EXACT or ROUNDING
    magnitude : float64 array, optional
        ROUNDING alone: the sum of the absolute values of the terms; |expected| where left out.
    terms : int
        ROUNDING alone: the number of terms in one sum.
    """
    assert isinstance(actual, np.ndarray), type(actual)
    assert actual.dtype == np.float32, actual.dtype
    expected = np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float32)
    if kind == EXACT:
        wrong = ~((actual == rounded) | (np.isnan(actual) & np.isnan(rounded)))
        bound = np.zeros(expected.shape)
    elif kind == ROUNDING:
        finite = np.isfinite(rounded)
        magnitude = np.abs(expected) if magnitude is None else np.broadcast_to(magnitude, expected.shape)
        bound = _EPS * (4.0 + np.sqrt(terms)) * np.where(finite, magnitude, 0.0) + _SMALLEST_NORMAL
        with np.errstate(invalid="ignore"):
            near = np.abs(actual.astype(np.float64) - expected) <= bound
        same = (actual == rounded) | (np.isnan(actual) & np.isnan(rounded))
        wrong = np.where(finite, ~near, ~same)
    else:
        raise AssertionError(f"kind is EXACT or ROUNDING, not {kind!r}")
    if wrong.any():
        at = np.unravel_index(int(np.argmax(wrong)), wrong.shape) if wrong.shape else ()
        raise AssertionError(
            f"{kind}: {np.count_nonzero(wrong)} of {wrong.size} elements differ; first at {tuple(map(int, at))}: "
            f"got {actual[at]!r}, expected {expected[at]!r}, allowed {bound[at]:.3g}"
        )


def assert_same_bits(one, other):
    """Assert that two arrays agree in dtype, shape and every bit."""
    assert one.dtype == other.dtype and one.shape == other.shape
    assert one.tobytes() == other.tobytes(), f"{np.count_nonzero(one != other)} of {one.size} elements differ"
