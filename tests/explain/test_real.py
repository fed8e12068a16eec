"""Maps of a network with trained weights, on photographs (tests/networks/test_real_models.py says what must be installed)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks.test_real_models import efficientnet, nchw, picture, resized

import cnnengine
from cnnengine.explain import Explanation

__all__ = ["efficientnet"]  # a fixture

PICTURES = ("astronaut", "chelsea", "coffee", "camera", "coins", "page", "rocket", "moon")
SIDE, SIZE = 7, 32
"""Squares along the input, and pixels along a square: as large as the places of the last layer. Single pixels would be noise."""


def falls(model: cnnengine.Model, x: np.ndarray, found: Explanation) -> tuple[float, float]:
    """How far the score falls without the fifth of the squares that is most marked, and without as many at random."""
    marks = found.map.reshape(SIDE, SIZE, SIDE, SIZE).mean(axis=(1, 3))
    rng = np.random.default_rng(1)
    count = SIDE * SIDE // 5
    picks = [np.argsort(-marks, axis=None)[:count], *[rng.permutation(SIDE * SIDE)[:count] for _ in range(16)]]
    made = []
    for pick in picks:
        edited = x.copy()
        for at in pick:
            top, left = at // SIDE * SIZE, at % SIDE * SIZE
            edited[:, :, top : top + SIZE, left : left + SIZE] = x.mean(axis=(2, 3), keepdims=True)
        made.append(found.score - float(model(edited)[0, found.target]))
    return made[0], float(np.mean(made[1:]))


@pytest.mark.parametrize("method", ["cam", "ablation", "occlusion"])
def test_deleting_what_is_marked_on_photographs(efficientnet: Path, method: str) -> None:
    pairs = []
    with cnnengine.load(efficientnet) as model:
        for name in PICTURES:
            x = nchw((resized(picture(name), 224, 224) - 127) / 128)
            found = model.explain(x, method=method)
            assert found.method == method
            if method == "cam":
                assert found.bias is not None
                assert abs(found.coarse.mean(dtype=np.float64) + found.bias - found.score) <= 1e-5 * max(1, abs(found.score))
            pairs.append(falls(model, x, found))
    marked, random = np.array(pairs).T
    # not on every picture: class 540, a drilling platform, is the tower beside the rocket, and the rocket is what is marked
    assert (marked > random).sum() > len(PICTURES) // 2, (marked, random)
    assert marked.mean() > 1.4 * random.mean(), (marked, random)
