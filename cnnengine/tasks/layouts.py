"""Layouts that exporters of detectors write: recognised by names, shapes and what is known of the model, and read.

Each function looks at the outputs of a run (`Seen`) and gives a `Match`, or None where its layout does not fit. `recognised` asks
all of them: where two fit, or none, the caller is asked.

- one tensor of rows, a row for each box: `yolov8` (Ultralytics v8 to v12: a column for each box, centre, width, height and a
  score for each class, in pixels), `yolov5` (a row for each of three anchors of each cell, with the score of any object before
  those of the classes), `yolox` (a row for each cell, in units of its stride), `end2end` (v10, v26, and exports with suppression:
  corners, score, class), `yolov7-end2end` (the same behind the number of the picture), `rtdetr` (Ultralytics': centre, width,
  height in parts of the input, scores), `detection-output` (Caffe's, OpenVINO's SSD: picture, class, score, corners in parts);
- boxes and scores apart: `detr` (a softmax whose last class is none), `rtdetr` (a sigmoid for each class), `yolo-nas` (corners in
  pixels), `yolov4` (corners in parts), `ssd-raw` (corners in parts, a first class of background);
- boxes, scores and classes apart: `torchvision` (also DEIM's, D-FINE's and RT-DETR's own), `tensorflow`, `efficientnms`;
- maps: `centerface`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import InputError
from .candidates import (
    STRIDES,
    Candidates,
    Extents,
    Match,
    Seen,
    anchors_of,
    array_of,
    best_classes,
    check_boxes,
    check_classes,
    check_scores,
    corners,
    in_pixels,
    sigmoid,
    softmax,
)
from .task import by_the_first_axis

Finder = Callable[[Seen, bool], Match | None]
Placed = Callable[[np.ndarray, np.ndarray, np.ndarray, Sequence[str], Extents], np.ndarray]
"""Corners in pixels, of boxes, classes, the rows that are wanted, the outputs' names, and the input's extents; it checks them."""
PROTOTYPES = 32
"""Of the masks of Ultralytics' networks, at a quarter of the input's extents."""


# ---------------------------------------------------------------- one tensor of rows
def _rows(seen: Seen) -> list[int]:
    """Outputs with a row or column for each box of each sample."""
    return [i for i, y in enumerate(seen.outputs) if y.ndim == 3 and y.dtype.kind == "f"]


def _prototypes(seen: Seen) -> int | None:
    """The output that masks are made of."""
    found = [
        i
        for i, y in enumerate(seen.outputs)
        if y.ndim == 4 and seen.canvas is not None and y.shape[2:] == (seen.canvas[0] // 4, seen.canvas[1] // 4)
    ]
    return found[0] if len(found) == 1 else None


def _attributes(seen: Seen, at: int, each: int, asked: bool) -> tuple[int, int] | None:
    """Axis of the numbers of a box in the output of a sample, and how many there are; the other axis counts boxes."""
    shape = seen.outputs[at].shape[1:]
    anchors = anchors_of(seen.canvas, each)
    fits = [axis for axis in (0, 1) if shape[1 - axis] in anchors]
    if len(fits) == 1:
        return fits[0], shape[fits[0]]
    if asked:
        axis = 0 if shape[0] < shape[1] else 1
        return axis, shape[axis]
    return None


def _only(seen: Seen, fits: Callable[[int], tuple[int, int] | None]) -> tuple[int, int, int] | None:
    """The one output that fits: where it stands, the axis of a box's numbers, how many there are."""
    found = [(i, *got) for i in _rows(seen) if (got := fits(i)) is not None]
    return found[0] if len(found) == 1 else None


def _beside(seen: Seen, *used: int | None) -> str:
    """What is said of outputs that are not read."""
    left = [n for i, n in enumerate(seen.names) if i not in used]
    return f", without {', '.join(left)}" if left else ""


def yolov8(seen: Seen, asked: bool) -> Match | None:
    """Ultralytics v8 to v12: (N, 4 + classes [+ more], boxes), or its axes exchanged."""
    got = _only(seen, lambda i: _attributes(seen, i, 1, asked))
    if got is None:
        return None
    at, axis, numbers = got
    mask = _prototypes(seen)
    masks = seen.outputs[mask].shape[1] if mask is not None else 0
    points = seen.points if seen.task == "pose" else None
    more = masks + (points[0] * points[1] if points is not None else 0)
    if masks and numbers - 4 - masks < 1:
        mask, masks, more = None, 0, more - masks
    if mask is not None and seen.classes is not None and numbers == 4 + seen.classes:
        mask, masks, more = None, 0, more - masks
    classes = numbers - 4 - more
    if classes < 1:
        return None
    if seen.classes is not None and classes != seen.classes:
        if not asked or seen.classes + 4 > numbers:
            return None
        raise InputError(
            "does not have a number for each class and four for the box",
            tensor=seen.names[at],
            expected=f"{4 + seen.classes + more} numbers a box, of {seen.classes} classes",
            received=seen.outputs[at].shape,
        )
    if axis == 1 and seen.classes is None and not asked:
        return None  # YOLOX' rows look the same
    tensor = seen.names[at]

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        y = array_of(sample[at], tensor)
        if y.ndim != 2 or y.shape[axis] != numbers:
            raise _another(tensor, f"{numbers} numbers a box", y)
        rows = y.T if axis == 0 else y
        scores = rows[:, 4 : 4 + classes]
        check_scores(scores, tensor, "yolov8")
        kept, best, found = best_classes(scores, threshold)
        boxes = corners(rows[kept, :4])
        check_boxes(boxes, canvas, tensor, "yolov8", rows[:, :4])
        spots = None
        if points is not None:
            spots = rows[kept, 4 + classes : 4 + classes + points[0] * points[1]].reshape(-1, *points).astype(np.float64)
        if mask is None:
            return Candidates(boxes, best, found, spots)
        return Candidates(boxes, best, found, spots, rows[kept, numbers - masks :], array_of(sample[mask], seen.names[mask]))

    with_masks = f", masks of {masks} prototypes" if masks else ""
    turned = "" if axis == 0 else ", rows and columns exchanged"
    said = f"{_classes_text(classes)} as Ultralytics v8 to v12 write them{with_masks}{turned}{_beside(seen, at, mask)}"
    return Match("yolov8", said, read, by_the_first_axis)


def yolov5(seen: Seen, asked: bool) -> Match | None:
    """YOLOv5, v7: (N, 3 * cells, 5 + classes [+ 32])."""
    got = _only(seen, lambda i: _attributes(seen, i, 3, asked))
    if got is None:
        return None
    at, axis, numbers = got
    mask = _prototypes(seen)
    masks = seen.outputs[mask].shape[1] if mask is not None else 0
    if mask is not None and (numbers - 5 - masks < 1 or (seen.classes is not None and numbers == 5 + seen.classes)):
        mask, masks = None, 0
    classes = numbers - 5 - masks
    if classes < 1 or (seen.classes is not None and classes != seen.classes):
        if asked:
            raise InputError(
                "does not have five numbers and one for each class",
                tensor=seen.names[at],
                expected="5 + classes numbers a box" if seen.classes is None else f"{5 + seen.classes} numbers a box",
                received=seen.outputs[at].shape,
            )
        return None
    tensor = seen.names[at]

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        y = array_of(sample[at], tensor)
        if y.ndim != 2 or y.shape[axis] != numbers:
            raise _another(tensor, f"{numbers} numbers a box", y)
        rows = y.T if axis == 0 else y
        check_scores(rows[:, 4 : 5 + classes], tensor, "yolov5")
        every = rows[:, :4]
        rows = rows[rows[:, 4] > threshold]
        kept, best, found = best_classes(rows[:, 5 : 5 + classes], threshold, rows[:, 4].astype(np.float64))
        boxes = corners(rows[kept, :4])
        check_boxes(boxes, canvas, tensor, "yolov5", every)
        if mask is None:
            return Candidates(boxes, best, found)
        return Candidates(boxes, best, found, None, rows[kept, numbers - masks :], array_of(sample[mask], seen.names[mask]))

    said = f"{_classes_text(classes)} as YOLOv5 and v7 write them{_beside(seen, at, mask)}"
    return Match("yolov5", said, read, by_the_first_axis)


def _yolox(seen: Seen, asked: bool, raw: bool) -> Match | None:
    layout = "yolox" if raw else "yolox-decoded"
    got = _only(seen, lambda i: _attributes(seen, i, 1, asked))
    if got is None:
        return None
    at, axis, numbers = got
    classes = numbers - 5
    if axis == 0 or classes < 1 or not (asked or (raw and seen.classes == classes)):
        return None  # a row of v8 has as many numbers, with a class more
    if seen.classes is not None and seen.classes != classes:
        raise InputError(
            "does not have five numbers and one for each class",
            tensor=seen.names[at],
            expected=f"{5 + seen.classes} numbers a box",
            received=seen.outputs[at].shape,
        )
    tensor = seen.names[at]

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        rows = array_of(sample[at], tensor)
        if rows.ndim != 2 or rows.shape[1] != numbers:
            raise _another(tensor, f"{numbers} numbers a box", rows)
        check_scores(rows[:, 4:], tensor, layout)
        kept, best, found = best_classes(rows[:, 5:], threshold, rows[:, 4].astype(np.float64))
        boxes = rows[kept, :4].astype(np.float64)
        if raw:
            cells, strides = _cells(canvas, len(rows), tensor)
            with np.errstate(over="ignore"):
                sides = np.exp(boxes[:, 2:]) * strides[kept, None]
            boxes = np.concatenate([(boxes[:, :2] + cells[kept]) * strides[kept, None], sides], 1)
        boxes = corners(boxes)
        check_boxes(boxes, canvas, tensor, layout, None if raw else rows[:, :4])
        return Candidates(boxes, best, found)

    unit = "in units of its cell" if raw else "in pixels"
    return Match(layout, f"{_classes_text(classes)} as YOLOX writes them, {unit}{_beside(seen, at)}", read, by_the_first_axis)


def yolox(seen: Seen, asked: bool) -> Match | None:
    """YOLOX as its exporter writes it: (N, cells, 5 + classes), offsets in cells and logarithms of sides."""
    return _yolox(seen, asked, True)


def yolox_decoded(seen: Seen, asked: bool) -> Match | None:
    """YOLOX exported with its boxes in pixels, which by its shape is the same: only where it is asked for."""
    return _yolox(seen, asked, False) if asked else None


def _cells(canvas: Extents, count: int, tensor: str) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of the cell that each box belongs to, and its stride."""
    for strides in STRIDES:
        shapes = [(-(-canvas[0] // s), -(-canvas[1] // s)) for s in strides]
        if sum(h * w for h, w in shapes) == count:
            cells = [np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).reshape(-1, 2) for h, w in shapes]
            return np.concatenate(cells), np.repeat(strides, [h * w for h, w in shapes])
    raise InputError(
        f"has not a box for each cell of an input of {canvas[0]} x {canvas[1]}",
        tensor=tensor,
        expected=f"{' or '.join(map(str, anchors_of(canvas)))} boxes",
        received=count,
    )


def end2end(seen: Seen, asked: bool) -> Match | None:
    """(N, boxes, 6 [+ 32, or key points]): left, top, right, bottom in pixels, score, class; what overlaps is gone."""
    mask = _prototypes(seen)
    masks = seen.outputs[mask].shape[1] if mask is not None else 0
    points = seen.points if seen.task == "pose" else None
    more = points[0] * points[1] if points is not None else masks

    def fits(i: int) -> tuple[int, int] | None:
        y = seen.outputs[i]
        if y.shape[2] != 6 + more or (y.shape[1] in anchors_of(seen.canvas) and not asked):
            return None
        whole = y[..., 5]
        return (1, 6 + more) if asked or bool((whole == np.rint(whole)).all() and (whole >= 0).all()) else None

    got = _only(seen, fits)
    if got is None:
        return None
    at, _, numbers = got
    tensor = seen.names[at]

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        y = array_of(sample[at], tensor)
        if y.ndim != 2 or y.shape[1] != numbers:
            raise _another(tensor, f"{numbers} numbers a box", y)
        check_scores(y[:, 4], tensor, "end2end")
        rows = y[y[:, 4] > threshold]
        check_classes(rows[:, 5], tensor, "end2end")
        boxes = rows[:, :4].astype(np.float64)
        check_boxes(boxes, canvas, tensor, "end2end", y[:, :4])
        best, found = rows[:, 4].astype(np.float64), rows[:, 5].astype(np.int64)
        if points is not None:
            return Candidates(boxes, best, found, rows[:, 6:].reshape(-1, *points).astype(np.float64))
        if mask is None:
            return Candidates(boxes, best, found)
        return Candidates(boxes, best, found, None, rows[:, 6:], array_of(sample[mask], seen.names[mask]))

    said = f"boxes, scores and classes as Ultralytics v10, v26 and exports with suppression write them{_beside(seen, at, mask)}"
    return Match("end2end", said, read, by_the_first_axis, False)


def yolov7_end2end(seen: Seen, asked: bool) -> Match | None:
    """(boxes, 7): number of the picture, corners in pixels, class, score."""
    found = [i for i, y in enumerate(seen.outputs) if y.ndim == 2 and y.shape[1] == 7 and y.dtype.kind == "f"]
    if len(found) != 1 or not (asked or (len(seen.outputs) == 1 and _numbered(seen.outputs[found[0]], seen.count))):
        return None
    at = found[0]
    tensor = seen.names[at]

    def split(outputs: Sequence[object], count: int | None) -> list[list[object]] | None:
        y = array_of(outputs[at], tensor)
        return [[y[y[:, 0] == i] if k == at else None for k in range(len(outputs))] for i in range(count or 1)]

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        y = array_of(sample[at], tensor)
        check_scores(y[:, 6], tensor, "yolov7-end2end")
        rows = y[y[:, 6] > threshold]
        check_classes(rows[:, 5], tensor, "yolov7-end2end")
        boxes = rows[:, 1:5].astype(np.float64)
        check_boxes(boxes, canvas, tensor, "yolov7-end2end", y[:, 1:5])
        return Candidates(boxes, rows[:, 6].astype(np.float64), rows[:, 5].astype(np.int64))

    said = f"boxes, classes and scores behind the picture's number, as YOLOv7 writes them{_beside(seen, at)}"
    return Match("yolov7-end2end", said, read, split, False)


def _numbered(y: np.ndarray, count: int | None) -> bool:
    """Whether rows begin with the number of a picture, end in class and score, and have corners between."""
    if not len(y):
        return True
    whole = (y[:, [0, 5]] == np.rint(y[:, [0, 5]])).all() and (y[:, [0, 5]] >= 0).all()
    return bool(whole and (y[:, 0] < (count or 1)).all() and (y[:, 6] <= 1).all() and (y[:, 3:5] >= y[:, 1:3]).all())


def detection_output(seen: Seen, asked: bool) -> Match | None:
    """(1, 1, boxes, 7): number of the picture (-1 behind the last), class, score, corners in parts of the input."""
    found = [i for i, y in enumerate(seen.outputs) if y.ndim == 4 and y.shape[:2] == (1, 1) and y.shape[3] == 7]
    if len(found) != 1:
        return None
    at = found[0]
    tensor = seen.names[at]

    def split(outputs: Sequence[object], count: int | None) -> list[list[object]] | None:
        y = array_of(outputs[at], tensor).reshape(-1, 7)
        past = np.flatnonzero(y[:, 0] < 0)
        y = y[: past[0]] if len(past) else y
        return [[y[y[:, 0] == i] if k == at else None for k in range(len(outputs))] for i in range(count or 1)]

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        y = array_of(sample[at], tensor)
        check_scores(y[:, 2], tensor, "detection-output")
        rows = y[y[:, 2] > threshold]
        check_classes(rows[:, 1], tensor, "detection-output")
        _check_parts(rows[:, 3:], tensor, "detection-output")
        return Candidates(in_pixels(rows[:, 3:], canvas), rows[:, 2].astype(np.float64), rows[:, 1].astype(np.int64))

    return Match("detection-output", f"boxes as Caffe's DetectionOutput has them{_beside(seen, at)}", read, split, False)


# ---------------------------------------------------------------- boxes and scores apart
def _pair(seen: Seen, last: int = 4) -> tuple[int, int] | None:
    """Boxes (N, n, 4) and scores (N, n, classes)."""
    rows = _rows(seen)
    named = seen.named("pred_boxes", "logits") or seen.named("boxes", "scores") or seen.named("pred_boxes", "pred_logits")
    if named is not None and all(i in rows for i in named) and _beside_each_other(seen, *named):
        return named[0], named[1]
    boxes = [i for i in rows if seen.outputs[i].shape[2] == last]
    if len(rows) != 2 or not boxes:
        return None
    if len(boxes) == 2:
        boxes = [i for i in boxes if "box" in seen.names[i].lower()]
        if len(boxes) != 1:
            return None
    scores = next(i for i in rows if i != boxes[0])
    return (boxes[0], scores) if _beside_each_other(seen, boxes[0], scores) else None


def _beside_each_other(seen: Seen, boxes: int, scores: int) -> bool:
    return seen.outputs[boxes].shape[2] == 4 and seen.outputs[boxes].shape[:2] == seen.outputs[scores].shape[:2]


def detr(seen: Seen, asked: bool) -> Match | None:
    """Logits with a last class of nothing, boxes in parts of the input: DETR, YOLOS."""
    return _queries(seen, asked, "detr", True)


def rtdetr(seen: Seen, asked: bool) -> Match | None:
    """A logit for each class, boxes in parts: RT-DETR, Deformable DETR; of Ultralytics in one tensor, with probabilities."""
    return _rtdetr_rows(seen, asked) or _queries(seen, asked, "rtdetr", False)


def _queries(seen: Seen, asked: bool, layout: str, nothing: bool) -> Match | None:
    pair = _pair(seen)
    if pair is None:
        return None
    at, scored = pair
    names = seen.names[at], seen.names[scored]
    numbers = seen.outputs[scored].shape[2]
    classes = numbers - nothing
    if not asked:
        if names[0] != "pred_boxes" or seen.classes is None or seen.classes != classes:
            return None
    elif seen.classes is not None and seen.classes != classes:
        raise InputError(
            f"does not have the classes of layout {layout!r}",
            tensor=names[1],
            expected=f"{seen.classes + nothing} numbers a box",
            received=seen.outputs[scored].shape,
        )

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        logits, boxes = array_of(sample[scored], names[1]), array_of(sample[at], names[0])
        scores = softmax(logits)[:, :-1] if nothing else sigmoid(logits)
        kept, best, found = best_classes(scores, threshold)
        _check_parts(boxes[kept], names[0], layout)
        return Candidates(in_pixels(corners(boxes[kept]), canvas), best, found)

    how = "softmax with a last class of nothing" if nothing else "a sigmoid for each"
    said = f"{_classes_text(classes)} of {names[1]} ({how}), boxes of {names[0]} in parts{_beside(seen, at, scored)}"
    return Match(layout, said, read, by_the_first_axis, False)


def _rtdetr_rows(seen: Seen, asked: bool) -> Match | None:
    def fits(i: int) -> tuple[int, int] | None:
        y = seen.outputs[i]
        if y.shape[2] < 5 or y.shape[1] in anchors_of(seen.canvas) or y.shape[1] in anchors_of(seen.canvas, 3):
            return None
        if asked:
            return 1, y.shape[2]
        small = bool((np.abs(y[..., :4]) <= 1.5).all() and (y[..., 4:] >= 0).all() and (y[..., 4:] <= 1).all())
        return (1, y.shape[2]) if seen.classes is not None and y.shape[2] == 4 + seen.classes and small else None

    got = _only(seen, fits) if _pair(seen) is None else None
    if got is None:
        return None
    at, _, numbers = got
    tensor = seen.names[at]
    if seen.classes is not None and numbers != 4 + seen.classes:
        expected = f"{4 + seen.classes} numbers a box"
        raise InputError(
            "does not have the classes of layout 'rtdetr'", tensor=tensor, expected=expected, received=seen.outputs[at].shape
        )

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        rows = array_of(sample[at], tensor)
        if rows.ndim != 2 or rows.shape[1] != numbers:
            raise _another(tensor, f"{numbers} numbers a box", rows)
        check_scores(rows[:, 4:], tensor, "rtdetr")
        kept, best, found = best_classes(rows[:, 4:], threshold)
        _check_parts(rows[kept, :4], tensor, "rtdetr")
        return Candidates(in_pixels(corners(rows[kept, :4]), canvas), best, found)

    said = f"{_classes_text(numbers - 4)}, boxes in parts of the input, as Ultralytics writes RT-DETR{_beside(seen, at)}"
    return Match("rtdetr", said, read, by_the_first_axis, False)


def yolo_nas(seen: Seen, asked: bool) -> Match | None:
    """Corners in pixels and scores from 0 to 1, for each cell."""
    pair = _pair(seen)
    if pair is None or not (asked or seen.outputs[pair[0]].shape[1] in anchors_of(seen.canvas)):
        return None
    if not asked and (seen.names[pair[0]] == "pred_boxes" or float(np.abs(seen.outputs[pair[0]]).max(initial=0)) <= 2):
        return None
    return _apart(seen, pair, "yolo-nas", background=False, parts=False)


def ssd_raw(seen: Seen, asked: bool) -> Match | None:
    """Corners in parts of the input and probabilities, the first that of the background: only where it is asked for."""
    pair = _pair(seen) if asked else None
    return None if pair is None else _apart(seen, pair, "ssd-raw", background=True, parts=True)


def _apart(seen: Seen, pair: tuple[int, int], layout: str, background: bool, parts: bool) -> Match | None:
    at, scored = pair
    names = seen.names[at], seen.names[scored]
    classes = seen.outputs[scored].shape[2] - background
    if classes < 1 or (seen.classes is not None and seen.classes != classes):
        return None

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        boxes, scores = array_of(sample[at], names[0]), array_of(sample[scored], names[1])
        check_scores(scores, names[1], layout)
        kept, best, found = best_classes(scores[:, int(background) :], threshold)
        chosen = boxes[kept].astype(np.float64)
        if parts:
            _check_parts(chosen, names[0], layout)
            return Candidates(in_pixels(chosen, canvas), best, found)
        check_boxes(chosen, canvas, names[0], layout, boxes)
        return Candidates(chosen, best, found)

    unit = "parts of the input" if parts else "pixels"
    said = f"{_classes_text(classes)} of {names[1]}, corners of {names[0]} in {unit}{_beside(seen, at, scored)}"
    return Match(layout, said, read, by_the_first_axis)


def yolov4(seen: Seen, asked: bool) -> Match | None:
    """Corners (N, n, 1, 4) in parts of the input, scores (N, n, classes)."""
    boxes = [i for i, y in enumerate(seen.outputs) if y.ndim == 4 and y.shape[2:] == (1, 4)]
    rows = _rows(seen)
    if len(boxes) != 1 or len(rows) != 1 or seen.outputs[boxes[0]].shape[:2] != seen.outputs[rows[0]].shape[:2]:
        return None
    at, scored = boxes[0], rows[0]
    names = seen.names[at], seen.names[scored]
    if seen.classes is not None and seen.classes != seen.outputs[scored].shape[2]:
        return None

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        scores = array_of(sample[scored], names[1])
        check_scores(scores, names[1], "yolov4")
        kept, best, found = best_classes(scores, threshold)
        parts = array_of(sample[at], names[0])[kept, 0]
        _check_parts(parts, names[0], "yolov4")
        return Candidates(in_pixels(parts, canvas), best, found)

    return Match("yolov4", f"corners of {names[0]} in parts, scores of {names[1]}", read, by_the_first_axis)


# ---------------------------------------------------------------- boxes, scores and classes apart
def torchvision(seen: Seen, asked: bool) -> Match | None:
    """`boxes`, `labels`, `scores`, with or without an axis of samples: corners in pixels, or in parts where all are at most 2."""
    found = seen.named("boxes", "labels", "scores") or seen.named("bboxes", "labels", "scores")
    found = found or _by_kind(seen)
    if found is None:
        return None
    at, labelled, scored = found
    shapes = [seen.outputs[i].shape for i in found]
    ranks = [len(s) for s in shapes]
    if ranks not in ([2, 1, 1], [3, 2, 2]) or shapes[0][-1] != 4 or not shapes[0][:-1] == shapes[1] == shapes[2]:
        return None
    masked = seen.named("masks")
    mask = masked[0] if masked is not None and seen.outputs[masked[0]].ndim == 4 else None
    names = seen.names
    batched = ranks[0] == 3
    first = seen.outputs[at]
    parts = [bool(np.abs(first).max() <= 2)] if first.size else []  # decided by the first boxes that there are

    def split(outputs: Sequence[object], count: int | None) -> list[list[object]] | None:
        if batched:
            return by_the_first_axis(outputs, count)
        return [list(outputs)] if count in (1, None) else None

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        boxes, classes, scores = (array_of(sample[i], names[i]) for i in found)
        check_scores(scores, names[scored], "torchvision")
        check_classes(classes, names[labelled], "torchvision")
        if boxes.size and not parts:
            parts.append(float(np.abs(boxes).max()) <= 2)
        rows = np.flatnonzero(scores > threshold)
        chosen = boxes[rows].astype(np.float64)
        if parts and parts[0]:
            _check_parts(chosen, names[at], "torchvision")
            chosen = in_pixels(chosen, canvas)
        elif parts:
            check_boxes(chosen, canvas, names[at], "torchvision")
        masks = None if mask is None else array_of(sample[mask], names[mask])[rows, 0]
        order = np.argsort(-scores[rows], kind="stable")
        every = Candidates(chosen, scores[rows].astype(np.float64), classes[rows].astype(np.int64), masks=masks)
        return every[order]

    unit = "" if not parts else " in parts of the input" if parts[0] else " in pixels"
    said = f"corners of {names[at]}{unit}, classes of {names[labelled]}, scores of {names[scored]}{_beside(seen, *found, mask)}"
    return Match("torchvision", said, read, split, False)


def _by_kind(seen: Seen) -> list[int] | None:
    """Boxes, classes and scores by their shapes and types, where names say nothing: the exporter numbers them."""
    if not (len(seen.outputs) == 3 or (len(seen.outputs) == 4 and any(y.ndim == 4 for y in seen.outputs))):
        return None
    boxes = [i for i, y in enumerate(seen.outputs) if y.dtype.kind == "f" and y.ndim in (2, 3) and y.shape[-1:] == (4,)]
    if len(boxes) != 1:
        return None
    shape = seen.outputs[boxes[0]].shape[:-1]
    rest = [i for i, y in enumerate(seen.outputs) if y.shape == shape and i != boxes[0]]
    whole = [i for i in rest if seen.outputs[i].dtype.kind in "iu"]
    floats = [i for i in rest if seen.outputs[i].dtype.kind == "f"]
    return [boxes[0], whole[0], floats[0]] if len(whole) == 1 and len(floats) == 1 else None


def tensorflow(seen: Seen, asked: bool) -> Match | None:
    """TensorFlow's object detection: top, left, bottom, right in parts of the input, classes from 1 on."""

    def placed(boxes: np.ndarray, classes: np.ndarray, rows: np.ndarray, names: Sequence[str], canvas: Extents) -> np.ndarray:
        check_classes(classes[rows], names[1], "tensorflow")
        _check_parts(boxes[rows], names[0], "tensorflow")
        return in_pixels(boxes[rows][:, [1, 0, 3, 2]], canvas)

    outputs = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
    return _with_count(
        seen, outputs, "tensorflow", "boxes as TensorFlow's object detection writes them, classes from 1 on", placed
    )


def efficientnms(seen: Seen, asked: bool) -> Match | None:
    """`num_dets`, `det_boxes`, `det_scores`, `det_classes` of a plugin of TensorRT: corners in pixels."""

    def placed(boxes: np.ndarray, classes: np.ndarray, rows: np.ndarray, names: Sequence[str], canvas: Extents) -> np.ndarray:
        check_boxes(boxes[rows], canvas, names[0], "efficientnms", boxes)
        chosen: np.ndarray = boxes[rows].astype(np.float64)
        return chosen

    outputs = ("det_boxes", "det_classes", "det_scores", "num_dets")
    return _with_count(seen, outputs, "efficientnms", "boxes as EfficientNMS writes them", placed)


def _with_count(seen: Seen, outputs: tuple[str, str, str, str], layout: str, said: str, placed: Placed) -> Match | None:
    """Outputs of these names: boxes (N, n, 4), classes, scores, and how many of them count."""
    found = seen.named(*outputs)
    if found is None or seen.outputs[found[0]].ndim != 3 or seen.outputs[found[0]].shape[2] != 4:
        return None
    names = [seen.names[i] for i in found]

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        boxes, classes, scores, counts = (array_of(sample[i], name) for i, name in zip(found, names, strict=True))
        count = _counted(counts, names[3], len(scores))
        check_scores(scores[:count], names[2], layout)
        rows = np.flatnonzero(scores[:count] > threshold)
        chosen = placed(boxes[:count], classes[:count], rows, names, canvas)
        return Candidates(chosen, scores[rows].astype(np.float64), classes[rows].astype(np.int64))

    return Match(layout, f"{said}{_beside(seen, *found)}", read, by_the_first_axis, False)


# ---------------------------------------------------------------- maps
def centerface(seen: Seen, asked: bool) -> Match | None:
    """CenterFace: a heat map, logarithms of height and width, offsets down and right, five points, at a quarter of the input."""
    maps = [i for i, y in enumerate(seen.outputs) if y.ndim == 4 and y.dtype.kind == "f"]
    if len(maps) != 4 or len(seen.outputs) != 4 or [seen.outputs[i].shape[1] for i in maps] != [1, 2, 2, 10]:
        return None
    if len({(seen.outputs[i].shape[0], *seen.outputs[i].shape[2:]) for i in maps}) != 1:
        return None
    names = seen.names

    def read(sample: Sequence[object], canvas: Extents, threshold: float) -> Candidates:
        heat, scale, offset, marks = (array_of(sample[i], names[i]) for i in range(4))
        check_scores(heat, names[0], "centerface")
        step = canvas[0] / heat.shape[1], canvas[1] / heat.shape[2]
        row, column = np.nonzero(heat[0] > threshold)
        with np.errstate(over="ignore"):
            sides = np.exp(scale[:, row, column].astype(np.float64)) * np.array(step)[:, None]
        top = np.maximum((row + offset[0, row, column] + 0.5) * step[0] - sides[0] / 2, 0)
        left = np.maximum((column + offset[1, row, column] + 0.5) * step[1] - sides[1] / 2, 0)
        boxes = np.stack([left, top, left + sides[1], top + sides[0]], -1)
        check_boxes(boxes, canvas, names[1], "centerface")
        x = marks[1::2, row, column] * sides[1] + left
        y = marks[0::2, row, column] * sides[0] + top
        points = np.stack([x, y], -1).transpose(1, 0, 2)
        return Candidates(boxes, heat[0, row, column].astype(np.float64), np.zeros(len(row), np.int64), points)

    return Match("centerface", "faces and five points of each, as CenterFace writes them", read, by_the_first_axis)


LAYOUTS: dict[str, Finder] = {
    "yolov8": yolov8,
    "yolov5": yolov5,
    "yolox": yolox,
    "yolox-decoded": yolox_decoded,
    "end2end": end2end,
    "yolov7-end2end": yolov7_end2end,
    "rtdetr": rtdetr,
    "detr": detr,
    "torchvision": torchvision,
    "tensorflow": tensorflow,
    "efficientnms": efficientnms,
    "detection-output": detection_output,
    "yolo-nas": yolo_nas,
    "yolov4": yolov4,
    "ssd-raw": ssd_raw,
    "centerface": centerface,
}
"""By the names that `--format` takes."""


def matches(seen: Seen) -> list[Match]:
    """Every layout that fits without being asked for."""
    return [match for find in LAYOUTS.values() if (match := find(seen, False)) is not None]


def recognised(seen: Seen, layout: str | None, option: str = "layout=") -> Match:
    """The layout of a detector's outputs.

    Parameters
    ----------
    seen : Seen
    layout : str or None
        A name of LAYOUTS, where it is known.
    option : str
        How a caller says it.

    Raises
    ------
    InputError
        None fits, several do, or the one that was asked for does not.
    """
    if layout is not None:
        if layout not in LAYOUTS:
            raise InputError("no such layout", tensor=option, expected=", ".join(LAYOUTS), received=layout)
        match = LAYOUTS[layout](seen, True)
        if match is None:
            raise InputError(f"the outputs are not those of layout {layout!r}", received=seen.shapes_text())
        return match
    if seen.task == "obb":
        raise InputError("boxes that are turned are not read", expected="task detect, segment or pose", received="task obb")
    found = matches(seen)
    if len(found) == 1:
        return found[0]
    known = "" if seen.classes is None else f", with {seen.classes} labels"
    if found:
        raise InputError(
            "several layouts of boxes fit the outputs: say which",
            tensor=option,
            expected=" or ".join(match.layout for match in found),
            received=f"{seen.shapes_text()}{known}",
        )
    raise InputError(
        "how the outputs describe boxes is not known: say which layout they have, or give the labels",
        tensor=option,
        expected=f"one of {', '.join(LAYOUTS)}",
        received=f"{seen.shapes_text()}{known}",
    )


def _check_parts(boxes: np.ndarray, tensor: str, layout: str) -> None:
    """Refuse boxes in parts of the input that are pixels, or not finite."""
    if not boxes.size:
        return
    low, high = float(boxes.min()), float(boxes.max())
    if not (low >= -4 and high <= 4):
        raise InputError(
            f"its boxes are not those of layout {layout!r}",
            tensor=tensor,
            expected="parts of the input, 0 to 1",
            received=f"{low:g} to {high:g}",
        )


def _counted(counts: np.ndarray, tensor: str, most: int) -> int:
    """How many of the rows are boxes."""
    value = float(counts.reshape(-1)[0]) if counts.size else -1.0
    if not (0 <= value <= most and value == int(value)):
        raise InputError("is no number of boxes", tensor=tensor, expected=f"0 to {most}", received=value)
    return int(value)


def _another(tensor: str, expected: str, received: np.ndarray) -> InputError:
    return InputError("has another shape than before", tensor=tensor, expected=expected, received=received.shape)


def _classes_text(count: int) -> str:
    return f"{count} class{'' if count == 1 else 'es'}"
