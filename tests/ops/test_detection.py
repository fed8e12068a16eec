"""NonMaxSuppression against a plain loop written from the specification."""

from __future__ import annotations

import numpy as np
import pytest

from cnnengine.errors import InputError, ModelError, ShapeError
from cnnengine.operator import NodeRecord
from cnnengine.ops.detection import NonMaxSuppression
from cnnengine.spec import TensorSpec

I64 = np.int64


def overlap(a: np.ndarray, b: np.ndarray, center: bool) -> float:
    """Intersection over union of two boxes, 0 where one has no area."""
    edges = []
    for box in (a, b):
        if center:
            x, y, w, h = box
            edges.append((x - w / 2, x + w / 2, y - h / 2, y + h / 2))
        else:
            edges.append((min(box[0], box[2]), max(box[0], box[2]), min(box[1], box[3]), max(box[1], box[3])))
    (a0, a1, a2, a3), (b0, b1, b2, b3) = edges
    area_a, area_b = (a1 - a0) * (a3 - a2), (b1 - b0) * (b3 - b2)
    if area_a <= 0 or area_b <= 0:
        return 0.0
    shared = max(min(a1, b1) - max(a0, b0), 0) * max(min(a3, b3) - max(a2, b2), 0)
    return shared / (area_a + area_b - shared)


def plain(boxes, scores, count, threshold, lowest, center):
    found = []
    for n in range(scores.shape[0]):
        for c in range(scores.shape[1]):
            order = sorted(range(scores.shape[2]), key=lambda k: (-scores[n, c, k], k))
            kept: list[int] = []
            for k in order:
                if lowest is not None and not scores[n, c, k] > lowest:
                    continue
                if len(kept) < count and all(overlap(boxes[n, k], boxes[n, j], center) <= threshold for j in kept):
                    kept.append(k)
            found += [(n, c, k) for k in kept]
    return np.array(found, I64).reshape(-1, 3)


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("lowest", [None, 0.4])
@pytest.mark.parametrize("count", [0, 3, 1000])
def test_agrees_with_the_loop(center, threshold, lowest, count):
    rng = np.random.default_rng(3)
    # on a grid of quarters: overlaps are exact, equal boxes and empty ones occur
    boxes = (rng.integers(0, 12, (2, 60, 4)) / 4).astype(np.float32)
    scores = (rng.integers(0, 9, (2, 3, 60)) / 8).astype(np.float32)
    inputs = [boxes, scores, np.array([count], I64), np.float32([threshold])]
    if lowest is not None:
        inputs.append(np.float32([lowest]))
    (got,) = NonMaxSuppression(center).evaluate(*inputs)
    want = plain(boxes, scores, count, threshold, lowest, bool(center))
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, want)
    assert (len(want) > 0) is (count > 0)


def test_absent_inputs():
    boxes, scores = np.float32([[[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]]]), np.float32([[[0.1, 0.9, -1.0]]])
    op = NonMaxSuppression()
    assert op.evaluate(boxes, scores)[0].shape == (0, 3)
    specs = [TensorSpec.of(boxes), TensorSpec.of(scores)]
    assert op.specs(specs)[0].shape == (0, 3)
    assert op.specs([*specs, TensorSpec(np.dtype(I64), (1,))])[0].shape == (None, 3)
    np.testing.assert_array_equal(op.evaluate(boxes, scores, np.array(9, I64))[0], [[0, 0, 1], [0, 0, 2]])
    np.testing.assert_array_equal(op.evaluate(boxes, scores, np.array(9, I64), None, np.float32(0.0))[0], [[0, 0, 1]])
    assert op.evaluate(boxes[:, :0], scores[:, :, :0], np.array(9, I64))[0].shape == (0, 3)


def test_errors():
    op = NonMaxSuppression()
    boxes, scores = np.zeros((1, 5, 4), np.float32), np.zeros((1, 2, 5), np.float32)
    for bad_boxes, bad_scores in [(boxes[0], scores), (boxes[:, :, :3], scores), (boxes, scores[0]), (boxes, scores[:, :, :4])]:
        with pytest.raises(ShapeError):
            op.evaluate(bad_boxes, bad_scores, np.array(1, I64))
        with pytest.raises(ShapeError):
            op.specs([TensorSpec(b.dtype, b.shape) for b in (bad_boxes, bad_scores)])
    with pytest.raises(InputError, match="iou_threshold"):
        op.evaluate(boxes, scores, np.array(1, I64), np.float32(1.5))
    with pytest.raises(InputError, match="float"):
        op.specs([TensorSpec(np.dtype(I64), (1, 5, 4)), TensorSpec(np.dtype(np.float32), (1, 2, 5))])
    with pytest.raises(ModelError):
        NonMaxSuppression.from_onnx(NodeRecord("NonMaxSuppression", "", 11, {"center_point_box": 2}, ("a", "b"), ("y",)))


def scattered(n: int, rng: np.random.Generator) -> np.ndarray:
    """Boxes of which some are equal, empty, turned around, huge or not numbers."""
    corners = rng.uniform(0, 20, (n, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 6, (n, 2))], 1).astype(np.float32)
    boxes[1::7] = boxes[0 : n - 1 : 7][: len(boxes[1::7])]
    boxes[2::11, 2:] = boxes[2::11, :2]
    boxes[3::13] = boxes[3::13][:, [2, 3, 0, 1]]
    if n > 40:
        boxes[20, 1], boxes[21, 2], boxes[22] = np.nan, np.inf, [-1e30, -1e30, 1e30, 1e30]
    return boxes


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("n", [1, 15, 16, 63, 64, 65, 257, 700])
def test_the_compiled_function_is_the_reference_to_the_bit(isa, center, n):
    rng = np.random.default_rng(n)
    boxes = np.stack([scattered(n, rng), scattered(n, rng)])
    scores = rng.integers(0, 40, (2, 3, n)).astype(np.float32) / 40
    if n > 10:
        scores[0, 1, 3:6], scores[1, 0, 2], scores[1, 2, 4] = np.nan, -np.inf, -0.0
    op = NonMaxSuppression(center)
    for count, threshold, lowest in [
        (n, 0.0, None),
        (10, 0.5, None),
        (n, 0.45, 0.3),
        (0, 0.5, None),
        (n, 1.0, None),
        (n, 0.2, 2.0),
    ]:
        inputs = [boxes, scores, np.array([count], I64), np.float32([threshold])]
        if lowest is not None:
            inputs.append(np.float32([lowest]))
        with np.errstate(all="ignore"):
            (expected,) = op.evaluate(*inputs)
        found = op.immediate(*inputs)
        assert found is not None
        np.testing.assert_array_equal(found[0], expected)


def test_thresholds_are_met_exactly(isa):
    """A box that shares just the threshold stays; ratios are rounded as float32 division rounds them."""
    boxes = np.array([[[0, 0, 2, 3], [0, 0, 2, 1], [0, 0, 1, 3], [0, 1, 2, 3]]], np.float32)
    scores = np.array([[[4, 3, 2, 1]]], np.float32)
    third, half = np.float32(1) / np.float32(3), np.float32(0.5)
    for threshold, kept in [
        (third, [0, 1]),
        (np.nextafter(third, np.float32(0)), [0]),
        (half, [0, 1, 2]),
        (np.float32(2) / 3, [0, 1, 2, 3]),
    ]:
        (found,) = NonMaxSuppression().immediate(boxes, scores, np.array(9), np.float32([threshold]))
        assert found[:, 2].tolist() == kept
        np.testing.assert_array_equal(found, NonMaxSuppression().evaluate(boxes, scores, np.array(9), np.float32([threshold]))[0])


def test_the_compiled_function_refuses_what_the_reference_refuses():
    boxes, scores = np.zeros((1, 3, 4), np.float32), np.zeros((1, 1, 3), np.float32)
    with pytest.raises(InputError, match="iou_threshold"):
        NonMaxSuppression().immediate(boxes, scores, np.array(1), np.float32([1.5]))
    with pytest.raises(ShapeError, match="scores"):
        NonMaxSuppression().immediate(boxes, scores[..., :2], np.array(1), np.float32([0.5]))
    assert NonMaxSuppression().immediate(boxes.astype(np.float64), scores.astype(np.float64)) is None
