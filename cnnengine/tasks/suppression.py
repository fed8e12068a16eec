"""Non-maximum suppression of boxes with classes, by the compiled function of ONNX's NonMaxSuppression."""

from __future__ import annotations

import numpy as np

from .._kernels import function


def suppressed(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, overlap: float, most: int, by_class: bool = True
) -> np.ndarray:
    """Indices of the boxes that stay, by falling score, the lower index first among equals.

    Parameters
    ----------
    boxes : ndarray, float (n, 4)
        Two opposite corners each.
    scores : ndarray, float (n,)
    classes : ndarray, int (n,)
    overlap : float
        A box goes when its intersection over union with a better one is above it.
    most : int
        How many stay at most.
    by_class : bool
        Whether boxes suppress those of their own class alone.

    Returns
    -------
    ndarray, int64 (k,)
    """
    corners = np.ascontiguousarray(boxes, np.float32)
    rated = np.ascontiguousarray(scores, np.float32)
    if by_class:
        order = np.argsort(classes, kind="stable")
        starts = np.flatnonzero(np.diff(classes[order], prepend=-1))
        groups = np.split(order, starts[1:]) if len(order) else []
    else:
        groups = [np.arange(len(rated))]
    kept = []
    for group in groups:
        found = function("suppress")(corners[group][None], rated[group][None, None], most, overlap, None, False)
        kept.append(group[found[:, 2]])
    stays = np.sort(np.concatenate(kept)) if kept else np.empty(0, np.int64)
    best: np.ndarray = stays[np.argsort(-rated[stays], kind="stable")][:most].astype(np.int64)
    return best
