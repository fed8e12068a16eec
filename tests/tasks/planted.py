"""Boxes planted in a picture, and what a network of each layout would give for them, from the layouts' definitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnnengine.preprocess import Placement, Preprocess

CANVAS = (320, 416)


@dataclass(frozen=True)
class Planted:
    """Boxes in pixels of the picture, the best first, none of which overlaps another."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    size: tuple[int, int]


def planted(rng: np.random.Generator, size: tuple[int, int], count: int, classes: int) -> Planted:
    """One box in each of some cells of a grid."""
    rows, columns = 4, 5
    cells = rng.permutation(rows * columns)[:count]
    high, wide = size[0] / rows, size[1] / columns
    boxes = []
    for cell in cells:
        top, left = (cell // columns) * high, (cell % columns) * wide
        y, x = np.sort(rng.uniform(0.05, 0.95, (2, 2)), axis=1)
        y, x = (v if v[1] - v[0] > 0.3 else np.array([0.1, 0.9]) for v in (y, x))
        boxes.append([left + wide * x[0], top + high * y[0], left + wide * x[1], top + high * y[1]])
    scores = np.sort(rng.uniform(0.4, 0.95, count))[::-1]
    return Planted(np.array(boxes).reshape(-1, 4), scores, rng.integers(0, classes, count), size)


def forward(boxes: np.ndarray, size: tuple[int, int], fit: str, canvas: tuple[int, int]) -> np.ndarray:
    """Boxes of the picture in pixels of the input, as letterboxes, stretches and crops are defined."""
    (height, width), (rows, columns) = size, canvas
    if fit == "stretch":
        resized, offset = (rows, columns), (0, 0)
    elif fit == "letterbox":
        ratio = min(rows / height, columns / width)
        resized = round(height * ratio), round(width * ratio)
        offset = (rows - resized[0]) // 2, (columns - resized[1]) // 2
    elif fit == "crop":
        short = max(canvas)
        resized = (short, int(short * width / height)) if height <= width else (int(short * height / width), short)
        offset = -round((resized[0] - rows) / 2), -round((resized[1] - columns) / 2)
    else:
        raise AssertionError(fit)
    factor = np.array([resized[1] / width, resized[0] / height] * 2)
    return boxes * factor + np.array([offset[1], offset[0]] * 2)


def settings(fit: str, canvas: tuple[int, int] = CANVAS) -> Preprocess:
    return Preprocess(size=canvas, fit=fit, resize=(max(canvas),) if fit == "crop" else None)


def place(fit: str, size: tuple[int, int], canvas: tuple[int, int] = CANVAS) -> Placement:
    return settings(fit, canvas).place(*size)


def centred(boxes: np.ndarray) -> np.ndarray:
    return np.stack(
        [(boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2, boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]],
        1,
    )


def parts(boxes: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    return boxes / np.array([canvas[1], canvas[0]] * 2)


def cells(canvas: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Column, row and stride of each cell, map after map."""
    return [(x, y, s) for s in (8, 16, 32) for y in range(canvas[0] // s) for x in range(canvas[1] // s)]


def twice(found: Planted, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each box, and beside it one that overlaps it by much with a lower score."""
    side = (boxes[:, 2:] - boxes[:, :2]) * 0.04
    moved = boxes + np.concatenate([side, side], 1)
    scores = np.concatenate([found.scores, found.scores - 0.05])
    return np.concatenate([boxes, moved]), scores, np.concatenate([found.classes, found.classes])


Encoder = Callable[[np.random.Generator, Planted, np.ndarray, int, tuple[int, int]], dict[str, np.ndarray]]


def noisy(rng: np.random.Generator, rows: int, classes: int, canvas: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of centre and sides anywhere, and scores that are too low."""
    boxes = rng.uniform(1, min(canvas), (rows, 4))
    return boxes, rng.uniform(0, 0.1, (rows, classes))


def yolov8(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """A column for each cell: centre, sides, a score for each class."""
    count = len(cells(canvas))
    own, scores = noisy(rng, count, classes, canvas)
    every, values, kinds = twice(found, boxes)
    at = rng.permutation(count)[: len(every)]
    own[at] = centred(every)
    scores[at, kinds] = values
    return {"output0": np.concatenate([own, scores], 1).T[None]}


def yolov8_turned(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    return {"output0": yolov8(rng, found, boxes, classes, canvas)["output0"].transpose(0, 2, 1)}


def yolov5(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Three rows for each cell: centre, sides, the score of any object, scores of classes; their product counts."""
    count = 3 * len(cells(canvas))
    own, scores = noisy(rng, count, classes, canvas)
    scores = scores * 9  # of classes alone: without an object they are worth nothing
    objects = rng.uniform(0, 0.1, (count, 1))
    every, values, kinds = twice(found, boxes)
    at = rng.permutation(count)[: len(every)]
    own[at] = centred(every)
    objects[at, 0] = 0.97
    scores[at] = rng.uniform(0, 0.1, (len(at), classes))
    scores[at, kinds] = values / 0.97
    return {"output": np.concatenate([own, objects, scores], 1)[None]}


def yolox(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """A row for each cell: the centre less the cell's corner, logarithms of sides, both in strides; scores as YOLOv5."""
    grid = np.array(cells(canvas))
    count = len(grid)
    raw = rng.uniform(-1, 1, (count, 4))
    objects, scores = rng.uniform(0, 0.1, (count, 1)), rng.uniform(0, 0.9, (count, classes))
    every, values, kinds = twice(found, boxes)
    at = rng.permutation(count)[: len(every)]
    middle = centred(every)
    stride = grid[at, 2:]
    raw[at] = np.concatenate([middle[:, :2] / stride - grid[at, :2], np.log(middle[:, 2:] / stride)], 1)
    objects[at, 0] = 0.97
    scores[at] = rng.uniform(0, 0.1, (len(at), classes))
    scores[at, kinds] = values / 0.97
    return {"output": np.concatenate([raw, objects, scores], 1)[None]}


def yolox_decoded(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    made = yolov5(rng, found, boxes, classes, canvas)["output"][0]
    best = np.argsort(-made[:, 4], kind="stable")[: len(cells(canvas))]
    return {"output": made[rng.permutation(best)][None]}


def end2end(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """300 rows by falling score: corners, score, class."""
    rows = np.zeros((300, 6))
    rows[:, :4] = rng.uniform(0, 100, (300, 4))
    rows[:, 4] = 0.01
    rows[: len(boxes)] = np.concatenate([boxes, found.scores[:, None], found.classes[:, None]], 1)
    return {"output0": rows[None]}


def yolov7_end2end(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    zero = np.zeros((len(boxes), 1))
    return {"output": np.concatenate([zero, boxes, found.classes[:, None], found.scores[:, None]], 1)}


def rtdetr(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Ultralytics': a row for each query, centre and sides in parts, scores."""
    rows = np.concatenate([rng.uniform(0.1, 0.9, (300, 4)), rng.uniform(0, 0.1, (300, classes))], 1)
    at = rng.permutation(300)[: len(boxes)]
    rows[at, :4] = centred(parts(boxes, canvas))
    rows[at, 4 + found.classes] = found.scores
    return {"output0": rows[None]}


def detr_sigmoid(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """RT-DETR of transformers: a logit for each class."""
    rows = rtdetr(rng, found, boxes, classes, canvas)["output0"]
    return {"logits": np.log(rows[..., 4:] / (1 - rows[..., 4:])), "pred_boxes": rows[..., :4]}


def detr(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """DETR: the last logit is that of nothing."""
    probabilities = np.full((100, classes + 1), 0.01)
    probabilities[:, -1] = 1
    queries = rng.uniform(0.1, 0.9, (100, 4))
    at = rng.permutation(100)[: len(boxes)]
    queries[at] = centred(parts(boxes, canvas))
    probabilities[at, -1] = 0
    probabilities[at, found.classes] = 0
    left = (1 - found.scores) / classes
    probabilities[at] = left[:, None]
    probabilities[at, found.classes] = found.scores
    probabilities /= probabilities.sum(1, keepdims=True)
    return {"logits": np.log(probabilities)[None] + 3.0, "pred_boxes": queries[None]}


def torchvision(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    order = rng.permutation(len(boxes))
    return {"boxes": boxes[order], "labels": found.classes[order].astype(np.int64), "scores": found.scores[order]}


def with_samples(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """RT-DETR's and D-FINE's own programs: the same with an axis of samples."""
    made = torchvision(rng, found, boxes, classes, canvas)
    return {name: made[name][None] for name in ("labels", "boxes", "scores")}


def zoo_ssd(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The model zoo's SSD: the same in parts of the input."""
    made = with_samples(rng, found, boxes, classes, canvas)
    return {"bboxes": parts(made["boxes"][0], canvas)[None], "labels": made["labels"], "scores": made["scores"]}


def unnamed(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    made = torchvision(rng, found, boxes, classes, canvas)
    return {"1234": made["boxes"], "1240": made["labels"], "1239": made["scores"]}


def tensorflow(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """100 rows of top, left, bottom, right in parts, of which num_detections count."""
    n = len(boxes)
    corners, scores, kinds = rng.uniform(0, 1, (1, 100, 4)), np.full((1, 100), 0.9), np.ones((1, 100))
    corners[0, :n] = parts(boxes, canvas)[:, [1, 0, 3, 2]]
    scores[0, :n], kinds[0, :n] = found.scores, found.classes
    return {
        "detection_boxes:0": corners,
        "detection_classes:0": kinds,
        "detection_scores:0": scores,
        "num_detections:0": np.array([float(n)]),
    }


def efficientnms(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    n = len(boxes)
    corners, scores, kinds = rng.uniform(0, 99, (1, 100, 4)), np.full((1, 100), 0.9), np.zeros((1, 100), np.int32)
    corners[0, :n], scores[0, :n], kinds[0, :n] = boxes, found.scores, found.classes
    return {"num_dets": np.array([[n]], np.int32), "det_boxes": corners, "det_scores": scores, "det_classes": kinds}


def detection_output(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    """200 rows of the picture's number, class, score, corners in parts; behind the last the number is -1."""
    rows = rng.uniform(0, 1, (200, 7))
    rows[:, 0] = 0
    rows[: len(boxes), 1] = found.classes
    rows[: len(boxes), 2] = found.scores
    rows[: len(boxes), 3:] = parts(boxes, canvas)
    rows[len(boxes), 0] = -1
    return {"detection_out": rows[None, None]}


def yolo_nas(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    made = yolov8(rng, found, boxes, classes, canvas)["output0"][0].T
    own = np.concatenate([made[:, :2] - made[:, 2:4] / 2, made[:, :2] + made[:, 2:4] / 2], 1)
    return {"graph2_962_cast_0": own[None], "graph2_974_cast_0": made[None, :, 4:]}


def yolov4(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    made = yolo_nas(rng, found, boxes, classes, canvas)
    own, scores = made.values()
    return {"boxes": np.clip(parts(own[0], canvas), -3, 3)[None, :, None], "confs": scores}


def ssd_raw(
    rng: np.random.Generator, found: Planted, boxes: np.ndarray, classes: int, canvas: tuple[int, int]
) -> dict[str, np.ndarray]:
    made = yolo_nas(rng, found, boxes, classes, canvas)
    own, scores = made.values()
    nothing = np.clip(1 - scores.sum(-1, keepdims=True), 0, 1)
    return {"scores": np.concatenate([nothing, scores], -1), "boxes": np.clip(parts(own[0], canvas), -3, 3)[None]}


ENCODERS: dict[str, tuple[Encoder, str | None]] = {
    "yolov8": (yolov8, None),
    "yolov8 turned": (yolov8_turned, None),
    "yolov5": (yolov5, None),
    "yolox": (yolox, None),
    "yolox decoded": (yolox_decoded, "yolox-decoded"),
    "end2end": (end2end, None),
    "yolov7 end2end": (yolov7_end2end, None),
    "rtdetr": (rtdetr, None),
    "rtdetr of transformers": (detr_sigmoid, None),
    "detr": (detr, None),
    "torchvision": (torchvision, None),
    "torchvision unnamed": (unnamed, None),
    "rtdetr's own": (with_samples, None),
    "zoo's ssd": (zoo_ssd, None),
    "tensorflow": (tensorflow, None),
    "efficientnms": (efficientnms, None),
    "detection output": (detection_output, None),
    "yolo-nas": (yolo_nas, None),
    "yolov4": (yolov4, None),
    "ssd raw": (ssd_raw, "ssd-raw"),
}
"""Name -> what writes it, and the layout that must be asked for, because shapes do not tell."""
