"""Dense (Gemm with transB and beta 1), Flatten-13 and Dropout-22 at inference."""

from __future__ import annotations

import math

import numpy as np


def dense(x, w, bias=None):
    """x (N, in), w (out, in), bias (out,) -> (N, out)."""
    y = np.asarray(x, np.float64) @ np.asarray(w, np.float64).T
    return y if bias is None else y + np.asarray(bias, np.float64)


def flatten(x, *, axis=1):
    """(product of the axes before `axis`, product of the others); axis = rank puts all of them before."""
    x = np.asarray(x, np.float64)
    if not -x.ndim <= axis <= x.ndim:
        raise ValueError(f"axis {axis} of {x.ndim}")
    axis += x.ndim if axis < 0 else 0
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def dropout(x):
    return np.array(x, np.float64)
