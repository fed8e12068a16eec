"""Operators of detectors, whose output shapes depend on data: they run between plans, by compiled functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._kernels import function
from ..errors import InputError, ModelError, ShapeError
from ..operator import ANY_RANK, EXACT, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import INT64, required, scalar, spec_at


def _corners(boxes: np.ndarray, center: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Low and high edges along both axes; any two opposite corners may describe a box."""
    a, b, c, d = boxes.T
    if center:  # x, y, width, height
        half_w, half_h = c / 2, d / 2
        return a - half_w, a + half_w, b - half_h, b + half_h
    return np.minimum(a, c), np.maximum(a, c), np.minimum(b, d), np.maximum(b, d)


def keep_best(boxes: np.ndarray, scores: np.ndarray, count: int, threshold: float, center: bool) -> list[int]:
    """Greedy non-maximum suppression: indices of at most `count` boxes by falling score, the lower index first among equals.

    A box goes when its intersection over union with a better one that stays is above `threshold`; boxes without an area
    neither suppress nor are suppressed.
    """
    low_a, high_a, low_b, high_b = _corners(boxes, center)
    areas = (high_a - low_a) * (high_b - low_b)
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while left.size and len(kept) < count:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        wide = np.minimum(high_a[best], high_a[left]) - np.maximum(low_a[best], low_a[left])
        high = np.minimum(high_b[best], high_b[left]) - np.maximum(low_b[best], low_b[left])
        shared = np.maximum(wide, 0) * np.maximum(high, 0)
        union = areas[best] + areas[left] - shared
        solid = (areas[best] > 0) & (areas[left] > 0) & (union > 0)
        ratio = np.divide(shared, union, out=np.zeros_like(shared), where=solid)
        left = left[~(ratio > threshold)]
    return kept


@dataclass(frozen=True)
class NonMaxSuppression(Operator):
    """ONNX NonMaxSuppression (10, 11): (batch, class, box) of the boxes that stay, class by class, the best first.

    Attributes
    ----------
    center_point_box : int
        0: a box is two opposite corners (y, x, y, x); 1: its center, width and height.
    """

    center_point_box: int = 0

    op_type: ClassVar[str] = "NonMaxSuppression"
    tolerance: ClassVar[str] = EXACT
    light: ClassVar[int] = ANY_RANK
    divides: ClassVar[bool] = True

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> NonMaxSuppression:
        center = int(node.attribute("center_point_box", 0))
        if center not in (0, 1):
            raise ModelError(
                "must be 0 or 1", node=node.name, operator=node.op_type, expected="center_point_box", received=center
            )
        return cls(center)

    def _check(self, boxes: tuple[Any, ...], scores: tuple[Any, ...]) -> None:
        if len(boxes) != 3 or boxes[2] != 4:
            raise ShapeError("boxes must be (batch, boxes, 4)", operator=self.op_type, tensor="boxes", received=boxes)
        if len(scores) != 3 or scores[0] != boxes[0] or scores[2] != boxes[1]:
            raise ShapeError(
                "scores must be (batch, classes, boxes)",
                operator=self.op_type,
                tensor="scores",
                expected=f"({boxes[0]}, classes, {boxes[1]})",
                received=scores,
            )

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        boxes, scores = required(inputs, 0, self.op_type), required(inputs, 1, self.op_type)
        for name, spec in (("boxes", boxes), ("scores", scores)):
            if spec.dtype.kind != "f":
                raise InputError("must be float", operator=self.op_type, tensor=name, expected="float32", received=spec.dtype)
        if boxes.is_concrete and scores.is_concrete:
            self._check(boxes.concrete, scores.concrete)
        count = spec_at(inputs, 2)
        if count is None:  # as the default of 0 boxes has it
            return [TensorSpec(INT64, (0, 3))]
        return [TensorSpec(INT64, (None, 3))]

    def _arguments(
        self, boxes: Any, scores: Any, most: Any = None, overlap: Any = None, lowest: Any = None
    ) -> tuple[int, Any, Any]:
        """max_output_boxes_per_class, iou_threshold and score_threshold (None where absent), checked."""
        self._check(boxes.shape, scores.shape)
        count = 0 if most is None else int(scalar(most, self.op_type, "max_output_boxes_per_class"))
        threshold = boxes.dtype.type(0 if overlap is None else scalar(overlap, self.op_type, "iou_threshold"))
        if not 0 <= threshold <= 1:
            raise InputError("must be from 0 to 1", operator=self.op_type, tensor="iou_threshold", received=float(threshold))
        return count, threshold, None if lowest is None else scalar(lowest, self.op_type, "score_threshold")

    def immediate(self, *inputs: Any) -> list[Any] | None:
        boxes, scores = inputs[:2]
        if boxes.dtype != np.float32 or scores.dtype != np.float32:
            return None
        count, threshold, lowest = self._arguments(*inputs)
        center = bool(self.center_point_box)
        return [function("suppress")(boxes, scores, max(min(count, boxes.shape[1]), 0), threshold, lowest, center)]

    def reference(self, *inputs: Any) -> list[Any]:
        boxes, scores = inputs[:2]
        count, threshold, lowest = self._arguments(*inputs)
        found: list[tuple[int, int, int]] = []
        for n in range(scores.shape[0]):
            for c in range(scores.shape[1]):
                rated = scores[n, c]
                chosen = np.arange(len(rated))
                if lowest is not None:
                    chosen = np.flatnonzero(rated > lowest)
                kept = keep_best(boxes[n, chosen], rated[chosen], count, threshold, bool(self.center_point_box))
                found += [(n, c, int(chosen[k])) for k in kept]
        return [np.array(found, np.int64).reshape(-1, 3)]
