"""Boxes go from a picture into each layout and come back; near misses are refused or asked about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tasks.planted import CANVAS, ENCODERS, Encoder, Planted, forward, place, planted, yolov5, yolov8, yolox

from cnnengine.errors import CNNEngineError, InputError
from cnnengine.tasks import Detect, Detections
from cnnengine.tasks.source import Known
from cnnengine.tasks.suppression import suppressed

CLASSES = 7
LABELS = tuple(f"c{i}" for i in range(CLASSES))
SIZES = [(480, 640), (333, 250), (1000, 90)]


def run(
    outputs: dict[str, np.ndarray], where: Any, known: Known, layout: str | None = None, **options: Any
) -> tuple[Detections, Detect]:
    task = Detect(list(outputs), known, layout, **options)
    arrays = [y if y.dtype.kind in "iu" else y.astype(np.float32) for y in outputs.values()]
    samples = task.samples(arrays, 1, where.canvas)
    assert samples is not None
    assert len(samples) == 1
    return task.read(samples[0], where)["detections"], task


def check(found: Detections, want: Planted, seen: np.ndarray) -> None:
    """The boxes that were planted, in their order, also those of which a crop cut off a part."""
    assert found.size == want.size
    assert found.boxes.shape == want.boxes[seen].shape
    side = max(want.size)
    np.testing.assert_allclose(found.boxes, want.boxes[seen], atol=2e-4 * side)
    np.testing.assert_allclose(found.scores, want.scores[seen], atol=1e-5)
    assert found.classes.tolist() == want.classes[seen].tolist()


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("fit", "size"), [(f, s) for f in ("letterbox", "stretch") for s in SIZES] + [("crop", SIZES[0])])
def test_round_trip(name: str, fit: str, size: tuple[int, int]) -> None:
    encode, layout = ENCODERS[name]
    rng = np.random.default_rng(sum(map(ord, name + fit)) + size[0])
    want = planted(rng, size, 6, CLASSES)
    boxes = forward(want.boxes, size, fit, CANVAS)
    where = place(fit, size)
    found, task = run(encode(rng, want, boxes, CLASSES, CANVAS), where, Known(LABELS), layout)
    check(found, want, np.arange(6))
    assert found.names == tuple(LABELS[c] for c in want.classes)
    assert found.layout in task.said[0]


@pytest.mark.parametrize("name", ENCODERS)
def test_nothing_found(name: str) -> None:
    encode, layout = ENCODERS[name]
    rng = np.random.default_rng(3)
    none = Planted(np.empty((0, 4)), np.empty(0), np.empty(0, np.int64), SIZES[0])
    found, _ = run(encode(rng, none, np.empty((0, 4)), CLASSES, CANVAS), place("letterbox", SIZES[0]), Known(LABELS), layout)
    assert (len(found), found.boxes.shape, found.as_text()) == (0, (0, 4), "nothing")


@pytest.mark.parametrize("name", ["yolov8", "yolov5", "yolox", "rtdetr", "detr", "yolo-nas", "yolov8 turned", "yolov4"])
def test_one_class(name: str) -> None:
    encode, layout = ENCODERS[name]
    rng = np.random.default_rng(4)
    want = planted(rng, SIZES[0], 5, 1)
    boxes = forward(want.boxes, SIZES[0], "letterbox", CANVAS)
    known = Known(("thing",), words="ultralytics rtdetr-l model")
    found, _ = run(encode(rng, want, boxes, 1, CANVAS), place("letterbox", SIZES[0]), known, layout)
    check(found, want, np.arange(5))


@pytest.mark.parametrize("name", ENCODERS)
def test_several_pictures(name: str) -> None:
    """Each has its own boxes; what has no axis of samples tells them by a number, or is refused."""
    encode, layout = ENCODERS[name]
    rng = np.random.default_rng(5)
    wants = [planted(rng, size, 4, CLASSES) for size in SIZES[:2]]
    made = [encode(rng, w, forward(w.boxes, w.size, "stretch", CANVAS), CLASSES, CANVAS) for w in wants]
    if name in ("yolov7 end2end", "detection output"):
        for number, one in enumerate(made):
            (y,) = one.values()
            numbers = y.reshape(-1, 7)[:, 0]
            numbers[numbers >= 0] = number
        axis = 2 if name == "detection output" else 0
        rows = [y[..., y.reshape(-1, 7)[:, 0] >= 0, :] if axis == 2 else y for one in made for y in one.values()]
        if axis == 2:
            rows = [r[:, :, :4] for r in rows]
            rows.append(np.full((1, 1, 1, 7), -1.0))
        outputs = [np.concatenate(rows, axis).astype(np.float32)]
    else:
        columns = zip(*(one.values() for one in made), strict=True)
        outputs = [np.concatenate(c).astype(c[0].dtype if c[0].dtype.kind in "iu" else np.float32) for c in columns]
    task = Detect(list(made[0]), Known(LABELS), layout)
    if name in ("torchvision", "torchvision unnamed"):
        with pytest.raises(InputError, match=r"not one for each picture"):
            task.samples(outputs, 2, CANVAS)
        return
    samples = task.samples(outputs, 2, CANVAS)
    assert samples is not None
    for want, sample in zip(wants, samples, strict=True):
        check(task.read(sample, place("stretch", want.size))["detections"], want, np.arange(4))


def seven(rng: np.random.Generator, encode: Encoder, size: tuple[int, int] = SIZES[0]) -> tuple[Planted, dict[str, np.ndarray]]:
    want = planted(rng, size, 6, CLASSES)
    return want, encode(rng, want, forward(want.boxes, size, "letterbox", CANVAS), CLASSES, CANVAS)


def test_without_labels_what_is_one_of_a_kind_is_read() -> None:
    rng = np.random.default_rng(6)
    for encode in (yolov8, yolov5):
        want, outputs = seven(rng, encode)
        found, _ = run(outputs, place("letterbox", SIZES[0]), Known())
        check(found, want, np.arange(6))
        assert found.names == tuple(str(c) for c in want.classes)


def test_without_labels_rows_of_cells_are_asked_about() -> None:
    """Those of YOLOX and of v8 with its axes exchanged look the same."""
    rng = np.random.default_rng(7)
    for name in ("yolox", "yolov8 turned"):
        want, outputs = seven(rng, ENCODERS[name][0])
        with pytest.raises(InputError, match=r"'layout='.*say which layout.*one of yolov8, yolov5, yolox.*output0? float32"):
            run(outputs, place("letterbox", SIZES[0]), Known())
        found, _ = run(outputs, place("letterbox", SIZES[0]), Known(), name.split()[0])
        check(found, want, np.arange(6))


def test_labels_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(8)
    for name in ("yolov8", "yolov5", "yolox", "rtdetr", "detr", "yolo-nas", "yolov4"):
        _, outputs = seven(rng, ENCODERS[name][0])
        with pytest.raises(InputError, match=r"with 9 labels"):
            run(outputs, place("letterbox", SIZES[0]), Known(tuple("abcdefghi")))


def test_detr_and_rtdetr_are_told_by_the_labels_alone() -> None:
    rng = np.random.default_rng(9)
    want, outputs = seven(rng, ENCODERS["detr"][0])
    where = place("letterbox", SIZES[0])
    with pytest.raises(InputError, match=r"not known"):
        run(outputs, where, Known())
    check(run(outputs, where, Known(), "detr")[0], want, np.arange(6))
    assert run(outputs, where, Known((*LABELS, "more")))[0].layout == "rtdetr"
    with pytest.raises(InputError, match=r"'logits'.*expected 9 numbers a box; received \(1, 100, 8\)"):
        run(outputs, where, Known((*LABELS, "more")), "detr")


def test_outputs_beside_the_boxes_are_left_and_named() -> None:
    rng = np.random.default_rng(10)
    want, outputs = seven(rng, yolov5)
    heads = {f"head{s}": np.zeros((1, 3, CANVAS[0] // s, CANVAS[1] // s, 12)) for s in (8, 16, 32)}
    found, task = run({**heads, **outputs}, place("letterbox", SIZES[0]), Known(LABELS))
    check(found, want, np.arange(6))
    assert "without head8, head16, head32" in task.said[0]


def test_the_input_s_extents_may_change() -> None:
    rng = np.random.default_rng(11)
    task = Detect(["output"], Known(LABELS))
    for canvas in (CANVAS, (256, 256), (96, 320)):
        for encode in (yolox,):
            want = planted(rng, SIZES[0], 3, CLASSES)
            y = encode(rng, want, forward(want.boxes, SIZES[0], "stretch", canvas), CLASSES, canvas)["output"]
            (sample,) = task.samples([y.astype(np.float32)], 1, canvas) or []
            check(task.read(sample, place("stretch", SIZES[0], canvas))["detections"], want, np.arange(3))
    with pytest.raises(InputError, match=r"'output'.*not a box for each cell.*320 x 416"):
        task.read([y[0, :100].astype(np.float32)], place("stretch", SIZES[0]))


def test_boxes_are_cut_off_at_the_picture_and_dropped_beyond_it() -> None:
    """What lies in the filled part of a letterbox is no part of the picture."""
    size = (100, 200)
    inside = np.array([[-20.0, 10, 30, 50], [150, 80, 230, 130], [20, -60, 60, -20], [10, 10, 60, 60]])
    want = Planted(inside, np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 1, 2, 3]), size)
    y = ENCODERS["end2end"][0](np.random.default_rng(0), want, forward(inside, size, "letterbox", CANVAS), CLASSES, CANVAS)
    found, _ = run(y, place("letterbox", size), Known(LABELS))
    np.testing.assert_allclose(found.boxes, [[0, 10, 30, 50], [150, 80, 200, 100], [10, 10, 60, 60]], atol=1e-3)
    assert found.classes.tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("yolov8", lambda y: y.__setitem__((0, 5, 3), 7.5), "'output0': its scores.*expected 0 to 1; received .* to 7.5"),
        ("yolov8", lambda y: y.__setitem__((0, 5, 3), np.nan), "scores are not those.*received nan"),
        ("yolov8", lambda y: y[:, :4].__imul__(1 / 416), "parts of the input, not pixels.*expected pixels of an input"),
        ("yolov8", lambda y: y[:, :4].__imul__(1e6), "boxes are not those of layout 'yolov8'"),
        ("yolox", lambda y: y[:, :, :4].__iadd__(200), "boxes are not those of layout 'yolox'"),
        ("end2end", lambda y: y.__setitem__((0, 0, 4), np.inf), "scores are not those"),
        ("rtdetr", lambda y: y[:, :, :4].__imul__(416), "boxes|not known"),
        ("detection output", lambda y: y.__setitem__((0, 0, 0, 1), 0.5), "classes are not.*expected whole numbers; received 0.5"),
        ("detection output", lambda y: y[..., 3:].__imul__(300), "expected parts of the input, 0 to 1"),
    ],
)  # fmt: skip
def test_what_is_not_the_layout_is_refused(name: str, spoil: Any, message: str) -> None:
    _, outputs = seven(np.random.default_rng(12), ENCODERS[name][0])
    spoil(next(iter(outputs.values())))
    with pytest.raises(CNNEngineError, match=message):
        run(outputs, place("letterbox", SIZES[0]), Known(LABELS), None if name == "rtdetr" else ENCODERS[name][1])


@pytest.mark.parametrize("name", ["yolov8", "yolov5", "yolox decoded", "end2end", "yolov7 end2end", "yolo-nas", "efficientnms"])
def test_one_box_in_parts_of_the_input_is_refused_where_pixels_belong(name: str) -> None:
    """Otherwise it would be a tiny one in the corner, where one in pixels may lie."""
    encode, layout = ENCODERS[name]
    layout = layout or name.replace(" ", "-")
    for shrink in (False, True):
        want = Planted(np.array([[0.2, 0.1, 1.4, 1.2]]), np.array([0.9]), np.array([2]), CANVAS)
        outputs = encode(np.random.default_rng(1), want, want.boxes, CLASSES, CANVAS)
        boxes = {"yolov8": (0, slice(4)), "yolov7 end2end": (slice(None), slice(1, 5))}.get(name, (..., slice(4)))
        key = "det_boxes" if name == "efficientnms" else next(iter(outputs))
        if name in ("yolov7 end2end", "efficientnms"):
            want = planted(np.random.default_rng(1), CANVAS, 1, CLASSES)
            outputs = encode(np.random.default_rng(1), want, want.boxes, CLASSES, CANVAS)
        if shrink:
            outputs[key][boxes] /= 416
            with pytest.raises(InputError, match=r"parts of the input, not pixels"):
                run(outputs, place("stretch", CANVAS), Known(LABELS), layout)
        else:
            assert len(run(outputs, place("stretch", CANVAS), Known(LABELS), layout)[0]) == 1


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.zeros((1, 1000))},
        {"y": np.zeros((1, 3, 320, 416))},
        {"y": np.zeros((1, 11, 2728))},
        {"y": np.zeros((1, 10, 2729))},
        {"a": np.zeros((1, 11, 2730)), "b": np.zeros((1, 11, 2730))},
        {"y": np.zeros((1, 2730, 13))},
        {"y": np.zeros((2, 0, 7))},
        {"boxes": np.zeros((5, 4)), "scores": np.zeros(4), "labels": np.zeros(5, np.int64)},
        {"boxes": np.zeros((5, 5)), "scores": np.zeros(5), "labels": np.zeros(5, np.int64)},
        {n: np.zeros((1, c, 8, 8)) for n, c in (("heat", 1), ("scale", 2), ("offset", 2), ("points", 8))},
    ],
    ids=lambda outputs: ", ".join(f"{n} {y.shape}" for n, y in outputs.items()),
)  # fmt: skip
def test_what_is_no_detector_is_asked_about(outputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError, match=r"not known|say which|boxes"):
        run(outputs, place("letterbox", SIZES[0]), Known(LABELS))


def test_another_layout_than_is_asked_for() -> None:
    where = place("letterbox", SIZES[0])
    with pytest.raises(InputError, match=r"no such layout; expected yolov8, .*; received yolo99"):
        run({"y": np.zeros((1, 11, 2730))}, where, Known(), "yolo99")
    for layout in ("tensorflow", "centerface", "torchvision", "yolov4", "detr", "efficientnms", "detection-output", "yolo-nas"):
        with pytest.raises(InputError, match=f"not those of layout '{layout}'; received y float32"):
            run({"y": np.zeros((1, 11, 2730))}, where, Known(), layout)


def test_masks() -> None:
    """Two prototypes: one above 0 in the left half of the input, one in the upper half."""
    size, canvas = (200, 400), (320, 416)
    protos = np.zeros((32, 80, 104), np.float32)
    protos[0] = np.where(np.arange(104) < 52, 1, -1)
    protos[1] = np.where(np.arange(80) < 40, 1, -1)[:, None]
    want = planted(np.random.default_rng(1), size, 2, 3)
    boxes = forward(np.array([[0, 0, 400, 200], [100.5, 50.5, 300.5, 150.5]]), size, "letterbox", canvas)
    want = Planted(np.array([[0, 0, 400, 200], [100.5, 50.5, 300.5, 150.5]]), want.scores, np.array([0, 2]), size)
    y = yolov8(np.random.default_rng(2), want, boxes, 3, canvas)["output0"]
    coefficients = np.zeros((1, 32, y.shape[2]))
    coefficients[0, 0, y[0, 4] > 0.2] = 1
    coefficients[0, 1, y[0, 6] > 0.2] = 1
    outputs = {"output0": np.concatenate([y, coefficients], 1), "output1": protos[None]}
    found, task = run(outputs, place("letterbox", size), Known(("a", "b", "c")))
    check(found, want, np.arange(2))
    assert "masks of 32 prototypes" in task.said[0]
    np.testing.assert_array_equal(found.mask(0), np.arange(400)[None] + np.zeros((200, 1)) < 200)
    expected = np.zeros(size, bool)
    expected[50:100, 100:301] = True
    np.testing.assert_array_equal(found.mask(1), expected)
    assert found.masks is not None
    assert [m.shape for m in found.masks] == [(200, 400), (101, 201)]


def test_key_points() -> None:
    rng = np.random.default_rng(13)
    want = planted(rng, SIZES[0], 3, 1)
    boxes = forward(want.boxes, SIZES[0], "letterbox", CANVAS)
    y = yolov8(rng, want, boxes, 1, CANVAS)["output0"]
    spots = np.concatenate([want.boxes[:, :2], want.boxes[:, 2:]], 1).reshape(3, 2, 2)
    points = np.zeros((1, 6, y.shape[2]))
    for box, score, spot in zip(boxes, want.scores, spots, strict=True):
        at = int(np.flatnonzero(np.abs(y[0, 4] - score) < 1e-9)[0])
        on_canvas = forward(np.tile(spot, 2), SIZES[0], "letterbox", CANVAS)[:, :2]
        points[0, :, at] = np.concatenate([on_canvas, [[0.5], [0.75]]], 1).ravel()
        assert box is not None
    known = Known(("person",), "pose", points=(2, 3))
    found, _ = run({"output0": np.concatenate([y, points], 1)}, place("letterbox", SIZES[0]), known)
    assert found.points is not None
    np.testing.assert_allclose(found.points[..., :2], spots, atol=0.1)
    np.testing.assert_allclose(found.points[..., 2], [[0.5, 0.75]] * 3)
    with pytest.raises(InputError, match=r"turned"):
        run({"output0": y}, place("letterbox", SIZES[0]), Known(("person",), "obb"))


def naive(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, overlap: float, by_class: bool) -> list[int]:
    left = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept: list[int] = []
    for i in left:
        for k in kept:
            if by_class and classes[i] != classes[k]:
                continue
            wide = max(0.0, min(boxes[i][2], boxes[k][2]) - max(boxes[i][0], boxes[k][0]))
            high = max(0.0, min(boxes[i][3], boxes[k][3]) - max(boxes[i][1], boxes[k][1]))
            areas = [(boxes[j][2] - boxes[j][0]) * (boxes[j][3] - boxes[j][1]) for j in (i, k)]
            if wide * high / (areas[0] + areas[1] - wide * high) > overlap:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("count", [0, 1, 2, 50, 400])
@pytest.mark.parametrize("by_class", [True, False])
def test_suppression_is_that_of_its_definition(count: int, by_class: bool) -> None:
    rng = np.random.default_rng(count)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 30, (count, 2))], 1).astype(np.float32)
    scores = (np.round(rng.uniform(0, 1, count), 2)).astype(np.float32)  # some are equal
    classes = rng.integers(0, 4, count)
    want = naive(boxes.astype(float), scores.astype(float), classes, 0.5, by_class)
    assert suppressed(boxes, scores, classes, 0.5, 10**6, by_class).tolist() == want
    assert suppressed(boxes, scores, classes, 0.5, 3, by_class).tolist() == want[:3]


@pytest.mark.parametrize(
    "options", [{"threshold": 1.5}, {"threshold": -0.1}, {"overlap": float("nan")}, {"top": 0}, {"threshold": "x"}]
)
def test_options_out_of_their_range(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Detect(["y"], Known(), **options)
