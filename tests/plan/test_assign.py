"""Where buffers lie in the arena: few and many of them are placed by two codes, to the same offsets."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from cnnengine.layout import ALIGNMENT
from cnnengine.plan import arena


@pytest.mark.parametrize("span", [1, 5, 60, 400])
@pytest.mark.parametrize("sizes", [(64, 65), (0, 300), (1, 5000)])
def test_many_buffers_lie_where_few_would(span: int, sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(span)
    lives = []
    for _ in range(400):
        first = int(rng.integers(0, 400))
        lives.append(arena.Life(first, first + int(rng.integers(0, span)), int(rng.integers(*sizes))))
    few, many = copy.deepcopy(lives), copy.deepcopy(lives)
    assert arena._assign_many(many) == arena.assign(copy.deepcopy(lives))
    limit, arena.FEW = arena.FEW, len(lives)
    try:
        total = arena.assign(few)
    finally:
        arena.FEW = limit
    assert [v.offset for v in few] == [v.offset for v in many]
    assert total >= max(v.offset + v.nbytes for v in few)
    for i, a in enumerate(few):
        assert a.offset % ALIGNMENT == 0
        for b in few[:i]:
            if a.nbytes and b.nbytes and a.first <= b.last and b.first <= a.last:
                assert a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
