"""The losses against their definitions, element by element."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cnnengine.errors import InputError, ModelError, ShapeError
from cnnengine.operator import NodeRecord
from cnnengine.ops.loss import NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss
from cnnengine.spec import TensorSpec


def slow(log_prob: np.ndarray, target: np.ndarray, weight: np.ndarray | None, reduction: str, ignore: int | None) -> np.ndarray:
    loss, total = np.zeros(target.shape), 0.0
    for at in np.ndindex(target.shape):
        c = int(target[at])
        if c == ignore:
            continue
        w = 1.0 if weight is None else float(weight[c])
        loss[at] = -w * float(log_prob[(at[0], c, *at[1:])])
        total += w
    return loss if reduction == "none" else np.array(loss.sum() / (total if reduction == "mean" else 1))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [None, 1, -7])
@pytest.mark.parametrize("shape", [(5, 4), (2, 4, 3), (2, 4, 3, 2)])
def test_losses(reduction: str, weighted: bool, ignore: int | None, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape)
    target = rng.integers(0, 4, (shape[0], *shape[2:]))
    if ignore == -7:
        target.flat[0] = -7
    weight = rng.uniform(0.5, 2, 4) if weighted else None
    operands = [x, target, *([weight] if weighted else [])]
    nll = NegativeLogLikelihoodLoss(reduction, ignore)
    (y,) = nll.evaluate(*operands)
    np.testing.assert_allclose(y, slow(x, target, weight, reduction, ignore), rtol=1e-12)
    assert nll.specs([TensorSpec.of(v) for v in operands])[0].shape == y.shape
    log_prob = np.empty(shape)
    for at in np.ndindex(target.shape):
        column = [float(x[(at[0], c, *at[1:])]) for c in range(4)]
        for c in range(4):
            log_prob[(at[0], c, *at[1:])] = column[c] - math.log(sum(map(math.exp, column)))
    loss, given = SoftmaxCrossEntropyLoss(reduction, ignore).evaluate(*operands)
    np.testing.assert_allclose(given, log_prob, rtol=1e-10)
    np.testing.assert_allclose(loss, slow(log_prob, target, weight, reduction, ignore), rtol=1e-10)


def test_large_scores_do_not_overflow() -> None:
    loss, log_prob = SoftmaxCrossEntropyLoss().evaluate(np.float32([[1e4, 0]]), np.array([1]))
    assert loss == np.float32(1e4)
    assert log_prob.tolist() == [[0, -1e4]]


def test_refused() -> None:
    op = NegativeLogLikelihoodLoss()
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match="no such class"):
        op.evaluate(x, np.array([0, 3]))
    with pytest.raises(ShapeError, match="target"):
        op.specs([TensorSpec.of(x), TensorSpec.of(np.array([0, 1, 2]))])
    with pytest.raises(ShapeError, match="weight"):
        op.evaluate(x, np.array([0, 1]), np.ones(2, np.float32))
    with pytest.raises(InputError, match="integers"):
        op.specs([TensorSpec.of(x), TensorSpec.of(np.zeros(2, np.float32))])
    with pytest.raises(ModelError, match="reduction"):
        NegativeLogLikelihoodLoss.from_onnx(
            NodeRecord("NegativeLogLikelihoodLoss", "", 13, {"reduction": "max"}, ("x", "t"), ("y",))
        )
