"""Losses of classifiers: NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss, in NumPy."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import Specs, required, spec_at

REDUCTIONS = ("none", "mean", "sum")


@dataclass(frozen=True)
class _Loss(Operator):
    """A loss of scores (N, C, d1, ...) against class numbers (N, d1, ...).

    Attributes
    ----------
    reduction : {"mean", "sum", "none"}
        The mean is weighted: it divides by the sum of the weights that count.
    ignore_index : int, optional
        Targets of this number, whatever it is, count nothing.
    """

    reduction: str = "mean"
    ignore_index: int | None = None

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> _Loss:
        reduction, ignore = node.attribute("reduction", "mean"), node.attribute("ignore_index")
        if reduction not in REDUCTIONS:
            raise ModelError("unknown reduction", node=node.name, operator=node.op_type, expected=REDUCTIONS, received=reduction)
        return cls(str(reduction), None if ignore is None else int(ignore))

    def _check(self, x: tuple[Any, ...], target: tuple[Any, ...], weight: tuple[Any, ...] | None) -> None:
        if len(x) < 2 or target != (x[0], *x[2:]):
            raise ShapeError(
                "the target does not fit the scores",
                operator=self.op_type,
                tensor="target",
                expected=f"{(x[0], *x[2:]) if len(x) > 1 else 'scores of rank >= 2'}",
                received=target,
            )
        if weight is not None and weight != (x[1],):
            raise ShapeError(
                "there must be a weight for each class", operator=self.op_type, tensor="weight", expected=(x[1],), received=weight
            )

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, target, weight = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type), spec_at(inputs, 2)
        if target.dtype.kind not in "iu":
            raise InputError(
                "class numbers must be integers", operator=self.op_type, tensor="target", expected="int64", received=target.dtype
            )
        if x.is_concrete and target.is_concrete and (weight is None or weight.is_concrete):
            self._check(x.concrete, target.concrete, None if weight is None else weight.concrete)
        return [TensorSpec(x.dtype, target.shape if self.reduction == "none" else ())]

    def _loss(self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        """The loss of log-probabilities `x`."""
        self._check(x.shape, target.shape, None if weight is None else weight.shape)
        counts = np.ones(target.shape, bool) if self.ignore_index is None else target != self.ignore_index
        chosen = target[counts]
        if chosen.size and (chosen.min() < 0 or chosen.max() >= x.shape[1]):
            raise InputError(
                "there is no such class",
                operator=self.op_type,
                tensor="target",
                expected=f"0..{x.shape[1] - 1}",
                received=(int(chosen.min()), int(chosen.max())),
            )
        classes = np.where(counts, target, 0).astype(np.intp)
        picked = np.take_along_axis(x.astype(np.float64), np.expand_dims(classes, 1), 1).squeeze(1)
        weights = counts.astype(np.float64) if weight is None else np.where(counts, weight.astype(np.float64)[classes], 0.0)
        # a class that does not count counts nothing, even where its log-probability is infinite
        loss = np.where(counts, -picked * weights, 0.0)
        with np.errstate(all="ignore"):
            if self.reduction == "mean":
                loss = loss.sum() / weights.sum()
            elif self.reduction == "sum":
                loss = loss.sum()
        return np.asarray(loss, dtype=x.dtype)


@dataclass(frozen=True)
class NegativeLogLikelihoodLoss(_Loss):
    """ONNX NegativeLogLikelihoodLoss (12, 13, 22): minus the log-probability of the target class."""

    op_type: ClassVar[str] = "NegativeLogLikelihoodLoss"

    def reference(self, *inputs: Any) -> list[Any]:
        x, target, weight = (*inputs, None)[:3]
        return [self._loss(x, target, weight)]


@dataclass(frozen=True)
class SoftmaxCrossEntropyLoss(_Loss):
    """ONNX SoftmaxCrossEntropyLoss (12, 13): that of the scores' softmax along axis 1, whose logarithm is a second output."""

    op_type: ClassVar[str] = "SoftmaxCrossEntropyLoss"

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        return [*super().infer(inputs), TensorSpec(x.dtype, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, target, weight = (*inputs, None)[:3]
        wide = x.astype(np.float64)
        with np.errstate(all="ignore"):
            shifted = wide - wide.max(axis=1, keepdims=True)
            log_prob = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return [self._loss(log_prob, target, weight).astype(x.dtype), log_prob.astype(x.dtype)]
