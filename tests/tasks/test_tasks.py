"""Each task on pictures: what networks of known outputs give, in pixels of the picture, and what is refused."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tasks.networks import constant, enlarging, through
from tasks.planted import forward, parts, place, settings

import cnnengine
from cnnengine import tasks
from cnnengine.errors import CNNEngineError, InputError
from cnnengine.preprocess import Placement
from cnnengine.preprocess.sampling import along, bilinear, nearest
from cnnengine.tasks.source import Known
from cnnengine.tasks.text import decoded

CANVAS = (64, 96)
UNIT = {"scale": 1 / 255}


@pytest.fixture
def photo() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (120, 80, 3), np.uint8))


def rows(boxes: np.ndarray, scores: list[float], classes: list[int]) -> np.ndarray:
    found = np.zeros((1, 20, 6))
    found[0, : len(boxes)] = np.concatenate([boxes, np.array(scores)[:, None], np.array(classes)[:, None]], 1)
    return found


BOXES = np.array([[10.0, 20, 40, 60], [41, 70, 75, 110]])


class TestDetect:
    def test_a_picture_of_any_kind(self, tmp_path: Path, photo: Image.Image) -> None:
        y = rows(forward(BOXES, (120, 80), "letterbox", CANVAS), [0.9, 0.5], [1, 0])
        path = constant(tmp_path / "m.onnx", {"y": y}, cnnengine__labels='["cat", "dog"]')
        photo.save(tmp_path / "p.png")
        with cnnengine.load(path) as model:
            for image in (photo, np.asarray(photo), tmp_path / "p.png", (tmp_path / "p.png").read_bytes()):
                found = tasks.detect(model, image, fit="letterbox", **UNIT)
                np.testing.assert_allclose(found.boxes, BOXES, atol=1e-3)
            assert found.names == ("dog", "cat")
        assert tasks.detect(path, photo, fit="letterbox", **UNIT).as_json() == found.as_json()

    def test_the_result(self, tmp_path: Path, photo: Image.Image) -> None:
        y = rows(forward(BOXES, (120, 80), "stretch", CANVAS), [0.9, 0.5], [1, 0])
        path = constant(tmp_path / "m.onnx", {"y": y}, cnnengine__labels='["cat", "dog"]')
        found = tasks.detect(path, photo, **UNIT)
        assert str(found).splitlines() == [
            "class   score  left   top  right  bottom",
            "dog    0.9000  10.0  20.0   40.0    60.0",
            "cat    0.5000  41.0  70.0   75.0   110.0",
        ]
        assert found.as_text() == "dog 0.9000 10.0 20.0 40.0 60.0\tcat 0.5000 41.0 70.0 75.0 110.0"
        assert json.loads(json.dumps(found.as_json()))["found"][1] == {
            "index": 0, "label": "cat", "score": 0.5, "box": [41.0, 70.0, 75.0, 110.0]
        }  # fmt: skip
        assert (found.boxes.dtype, found.scores.dtype, found.classes.dtype) == (np.float32, np.float32, np.int64)
        with pytest.raises(dataclasses.FrozenInstanceError):
            found.size = (1, 1)  # type: ignore[misc]
        with pytest.raises(InputError, match=r"no such mask"):
            found.mask(0)

    def test_options(self, tmp_path: Path, photo: Image.Image) -> None:
        y = rows(forward(BOXES, (120, 80), "stretch", CANVAS), [0.9, 0.5], [1, 0])
        path = constant(tmp_path / "m.onnx", {"y": y})
        assert len(tasks.detect(path, photo, threshold=0.6, **UNIT)) == 1
        assert len(tasks.detect(path, photo, threshold=0.95, **UNIT)) == 0
        assert tasks.detect(path, photo, top=1, **UNIT).scores.tolist() == pytest.approx([0.9])
        assert tasks.detect(path, photo, labels=["a", "b"], **UNIT).names == ("b", "a")
        for options, message in (
            ({"threshold": 2}, "threshold.*0 to 1; received 2"),
            ({"layout": "v9"}, "no such layout"),
            ({"size": (3, 3), "colour": 1}, "'colour'.*no such setting"),
        ):
            with pytest.raises(InputError, match=message):
                tasks.detect(path, photo, **UNIT, **options)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"m\.onnx.*nothing in the file"):
            tasks.detect(path, photo)
        with pytest.raises(InputError, match=r"none\.png"):
            tasks.detect(path, tmp_path / "none.png", **UNIT)

    def test_a_second_input_for_the_extents(self, tmp_path: Path, photo: Image.Image) -> None:
        """RT-DETR's and D-FINE's own programs scale boxes by it: here they are ones, times the input's width and height."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        part = parts(forward(BOXES, (120, 80), "stretch", CANVAS), CANVAS)[None].astype(np.float32)
        inputs = [
            helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, *CANVAS]),
            helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["N", 2]),
        ]
        shapes = {"labels": ["N", 2], "boxes": ["N", 2, 4], "scores": ["N", 2]}
        outputs = [
            helper.make_tensor_value_info(n, TensorProto.INT64 if n == "labels" else TensorProto.FLOAT, s)
            for n, s in shapes.items()
        ]
        nodes = [
            helper.make_node("Cast", ["orig_target_sizes"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Tile", ["f", "twice"], ["t"]),
            helper.make_node("Unsqueeze", ["t", "one"], ["u"]),
            helper.make_node("Mul", ["u", "part"], ["boxes"]),
            helper.make_node("Identity", ["l"], ["labels"]),
            helper.make_node("Identity", ["s"], ["scores"]),
        ]
        weights = [
            numpy_helper.from_array(np.int64([1, 2]), "twice"),
            numpy_helper.from_array(np.int64([1]), "one"),
            numpy_helper.from_array(part, "part"),
            numpy_helper.from_array(np.int64([[1, 0]]), "l"),
            numpy_helper.from_array(np.float32([[0.9, 0.5]]), "s"),
        ]
        graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
        found = tasks.detect(tmp_path / "m.onnx", photo, **UNIT)
        np.testing.assert_allclose(found.boxes, BOXES, atol=1e-3)

    def test_an_input_without_an_axis_of_samples(self, tmp_path: Path, photo: Image.Image) -> None:
        corners = forward(BOXES, (120, 80), "stretch", CANVAS)
        y = {"boxes": corners, "labels": np.int64([1, 0]), "scores": np.array([0.9, 0.5])}
        path = constant(tmp_path / "m.onnx", y, (3, *CANVAS))
        np.testing.assert_allclose(tasks.detect(path, photo, **UNIT).boxes, BOXES, atol=1e-3)

    def test_drawn(self, photo: Image.Image) -> None:
        mask = np.zeros((40, 30), bool)
        mask[5:, 5:] = True
        found = tasks.Detections(
            np.float32([[10, 20, 40, 60]]), np.float32([0.9]), np.int64([3]), (120, 80), None, (mask,), np.float32([[[70, 100]]])
        )
        before = np.asarray(photo).copy()
        drawn = np.asarray(found.draw(photo))
        np.testing.assert_array_equal(np.asarray(photo), before)
        changed = (drawn != before).any(2)
        assert changed[25:55, 20:35].all()  # the mask
        assert not changed[61:95, :].any()
        assert changed[100, 70]  # the point
        assert not changed[26:30, 13:14].any()  # within the frame, not in the mask
        with pytest.raises(InputError, match=r"another picture"):
            found.draw(photo.resize((10, 10)))


class TestSampling:
    @pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
    @pytest.mark.parametrize("extents", [(64, 96), (16, 24), (128, 192), (1, 1)], ids=str)
    def test_a_plane_comes_back(self, fit: str, extents: tuple[int, int]) -> None:
        """A map that rises evenly over the input is, at each pixel, what it is at that pixel's place in the input."""
        where = place(fit, (50, 40), CANVAS)
        x = (np.arange(extents[1]) + 0.5) * (96 / extents[1])
        y = (np.arange(extents[0]) + 0.5) * (64 / extents[0])
        maps = np.stack(np.broadcast_arrays(x[None], y[:, None])).astype(np.float32)
        rows, columns = along(where, 0, extents[0]), along(where, 1, extents[1])
        found = bilinear(maps, rows, columns)
        for i, j in ((0, 0), (25, 20), (49, 39), (13, 31)):
            at = forward(np.array([[j + 0.5, i + 0.5, 0, 0]]), (50, 40), fit, CANVAS)[0, :2]
            within = np.clip(at, [x[0], y[0]], [x[-1], y[-1]])
            np.testing.assert_allclose(found[:, i, j], within, rtol=1e-5)
            assert (rows.seen[i] and columns.seen[j]) == (0 <= at[0] <= 96 and 0 <= at[1] <= 64)

    def test_nearest(self) -> None:
        where = place("stretch", (128, 192), CANVAS)
        numbers = np.random.default_rng(0).integers(0, 9, CANVAS)
        np.testing.assert_array_equal(
            nearest(numbers, along(where, 0, 64), along(where, 1, 96)), numbers.repeat(2, 0).repeat(2, 1)
        )


class TestSegment:
    def test_classes_in_pixels_of_the_picture(self, tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
        """Class 1 in the left half of the input, 2 in the lower right quarter, at a quarter of its extents."""
        scores = np.zeros((1, 3, 16, 24))
        scores[0, 1, :, :12] = 5
        scores[0, 2, 8:, 12:] = 5
        scores[0, 0, :8, 12:] = 5
        path = constant(tmp_path / "m.onnx", {"y": scores})
        want = np.zeros((120, 80), np.int32)
        want[60:, 40:] = 2
        want[:, :40] = 1
        found = tasks.segment(path, photo, **UNIT)
        np.testing.assert_array_equal(found.classes, want)
        monkeypatch.setattr(importlib.import_module("cnnengine.tasks.segment"), "BAND", 1000)
        np.testing.assert_array_equal(tasks.segment(path, photo, **UNIT).classes, want)
        assert str(found).splitlines() == ["class   pixels", "1      50.00 %", "0      25.00 %", "2      25.00 %"]
        assert found.as_text() == "1 50.00%\t0 25.00%\t2 25.00%"
        assert json.loads(json.dumps(found.as_json()))["found"][0] == {"index": 1, "label": None, "share": 0.5}
        drawn = np.asarray(found.draw(photo)) != np.asarray(photo)
        assert not drawn[:60, 40:].any()
        assert drawn[:, :40].any(2).all()

    def test_what_was_cut_off_is_not_known(self, tmp_path: Path) -> None:
        path = constant(tmp_path / "m.onnx", {"y": np.ones((1, 2, 64, 64))}, ("N", 3, 64, 64))
        found = tasks.segment(path, np.zeros((64, 128, 3), np.uint8), fit="crop", **UNIT)
        assert (found.classes[:, 32:96] == 0).all()
        assert (found.classes[:, :32] == -1).all()
        assert (found.classes[:, 96:] == -1).all()
        assert found.shares() == [(0, 1.0)]

    @pytest.mark.parametrize(
        ("y", "options", "share"),
        [
            (np.full((1, 1, 64, 96), 0.6), {}, 1.0),
            (np.full((1, 1, 64, 96), 0.6), {"threshold": 0.7}, 0.0),
            (np.where(np.arange(96) < 48, 3.0, -3.0) + np.zeros((1, 1, 64, 1)), {"threshold": 0.9}, 0.5),
            (np.where(np.arange(96) < 48, 3.0, -3.0) + np.zeros((1, 1, 64, 1)), {"threshold": 0.99}, 0.0),
            (np.ones((1, 64, 96), np.int64), {}, 1.0),
            (np.ones((1, 1, 32, 48), np.int64), {}, 1.0),
            (np.stack([np.zeros((64, 96)), np.ones((64, 96)), np.zeros((64, 96))], -1)[None], {}, 1.0),
        ],
    )
    def test_forms(self, tmp_path: Path, photo: Image.Image, y: np.ndarray, options: dict[str, float], share: float) -> None:
        path = constant(tmp_path / "m.onnx", {"y": y, "aux": np.zeros((1, 5))})
        found = dict(tasks.segment(path, photo, **UNIT, **options).shares())  # type: ignore[arg-type]
        assert found.get(1, 0.0) == pytest.approx(share, abs=0.01)

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            (np.zeros((1, 10)), r"'y'.*not a map.*received \(1, 10\)"),
            (np.zeros((1, 64, 96)), "no axis of classes"),
            (np.zeros((1, 6, 9, 13)), "'layout'.*which axis has the classes"),
            (np.zeros((1, 5, 7, 9)), "which axis has the classes"),
            (np.zeros((2, 3, 64, 96)), r"not a map for each picture"),
            (np.full((1, 3, 64, 96), np.nan), r"'y': has numbers that are none"),
        ],
    )
    def test_what_is_no_map(self, tmp_path: Path, photo: Image.Image, y: np.ndarray, message: str) -> None:
        with pytest.raises(CNNEngineError, match=message):
            tasks.segment(constant(tmp_path / "m.onnx", {"y": y}), photo, **UNIT)

    def test_labels_that_do_not_fit(self, tmp_path: Path, photo: Image.Image) -> None:
        path = constant(tmp_path / "m.onnx", {"y": np.zeros((1, 3, 64, 96))})
        with pytest.raises(InputError, match=r"expected 3 labels; received 2"):
            tasks.segment(path, photo, labels=["a", "b"], **UNIT)


class TestImage:
    @pytest.mark.parametrize(
        "prepared",
        [{"scale": 1 / 255}, {"scale": 1.0}, {"scale": 1 / 255, "mean": 0.5, "std": 0.5}, {"scale": 1 / 255, "order": "BGR"}],
    )
    def test_enlarged(self, tmp_path: Path, photo: Image.Image, prepared: dict[str, object]) -> None:
        found = tasks.image(enlarging(tmp_path / "m.onnx"), photo, **prepared)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.pixels, np.asarray(photo).repeat(2, 0).repeat(2, 1))
        found.save(tmp_path / "out.png")
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), found.pixels)
        assert str(found).splitlines()[1].split()[:3] == ["160", "240", "RGB"]
        assert found.as_text().startswith("160x240 RGB, of ")
        assert found.as_json()["height"] == 240
        with pytest.raises(InputError, match=r"out\.xyz: cannot be written"):
            found.save(tmp_path / "out.xyz")

    def test_what_was_filled_is_cut_off(self, tmp_path: Path, photo: Image.Image) -> None:
        found = tasks.image(enlarging(tmp_path / "m.onnx", 3), photo, fit="pad", multiple=32, fill=77, **UNIT)
        np.testing.assert_array_equal(found.pixels, np.asarray(photo).repeat(3, 0).repeat(3, 1))

    def test_extents_come_back(self, tmp_path: Path, photo: Image.Image) -> None:
        found = tasks.image(enlarging(tmp_path / "m.onnx"), photo, size=(50, 50), **UNIT)
        assert found.pixels.shape == (240, 160, 3)

    @pytest.mark.parametrize(
        ("y", "values", "level"),
        [(0.2, "unit", 51), (0.2, "signed", 153), (51.0, "pixels", 51), (300.0, "pixels", 255), (-3.0, "unit", 0)],
    )
    def test_ranges(self, tmp_path: Path, photo: Image.Image, y: float, values: str, level: int) -> None:
        path = constant(tmp_path / "m.onnx", {"y": np.full((1, 3, 64, 96), y)})
        assert (tasks.image(path, photo, values=values, **UNIT).pixels == level).all()

    def test_least_to_largest(self, tmp_path: Path, photo: Image.Image) -> None:
        ramp = np.linspace(-7, 900, 96) + np.zeros((1, 1, 64, 1))
        found = tasks.image(constant(tmp_path / "m.onnx", {"depth": ramp}), photo.resize((96, 64)), values="minmax", **UNIT)
        assert found.pixels.shape == (64, 96)
        np.testing.assert_array_equal(found.pixels[0], np.rint(np.linspace(0, 255, 96)))

    def test_a_range_that_is_not_known(self, tmp_path: Path, photo: Image.Image) -> None:
        path = constant(tmp_path / "m.onnx", {"y": np.full((1, 3, 64, 96), 0.5)})
        with pytest.raises(InputError, match=r"'values='.*say their range; expected input .*unit"):
            tasks.image(path, photo, assume="imagenet")
        with pytest.raises(InputError, match=r"'y'.*not in the range.*received 0.5 to 0.5"):
            tasks.image(path, photo, scale=1)
        pixels = constant(tmp_path / "p.onnx", {"y": np.full((1, 3, 64, 96), 128.0)})
        with pytest.raises(InputError, match=r"'y'.*not in the range.*received 128 to 128"):
            tasks.image(pixels, photo, **UNIT)
        broken = constant(tmp_path / "n.onnx", {"y": np.full((1, 3, 64, 96), np.nan)})
        with pytest.raises(InputError, match=r"'y'.*not finite"):
            tasks.image(broken, photo, **UNIT)
        with pytest.raises(InputError, match=r"no output is a picture.*expected 1 or 3 channels; received y \(1, 7\)"):
            tasks.image(constant(tmp_path / "v.onnx", {"y": np.zeros((1, 7))}), photo, **UNIT)
        with pytest.raises(InputError, match=r"no such range"):
            tasks.image(path, photo, values="levels", **UNIT)


class TestEmbed:
    def test_vectors(self, tmp_path: Path, photo: Image.Image) -> None:
        y = {"v": np.array([[[[3.0]], [[4.0]]]]), "map": np.zeros((1, 2, 8, 8))}
        path = constant(tmp_path / "m.onnx", y)
        found = tasks.embed(path, photo, **UNIT)
        assert found.vector.tolist() == [3, 4]
        assert found.norm == 5
        assert found.similarity(tasks.Embedding(np.float32([4, -3]))) == 0
        assert found.similarity(found) == pytest.approx(1)
        assert found.as_text() == "2 elements, length 5\t3 4"
        assert found.as_json() == {"kind": "embedding", "norm": 5.0, "vector": [3.0, 4.0]}
        assert str(found).splitlines() == ["elements  length  first", "       2       5  3 4"]
        with pytest.raises(InputError, match=r"different networks"):
            found.similarity(tasks.Embedding(np.float32([1])))
        with pytest.raises(InputError, match=r"without a length"):
            found.similarity(tasks.Embedding(np.float32([0, 0])))

    def test_which_output(self, tmp_path: Path, photo: Image.Image) -> None:
        path = constant(tmp_path / "m.onnx", {"a": np.ones((1, 2)), "b": np.zeros((1, 3)), "c": np.zeros((1, 3, 2, 2))})
        with pytest.raises(InputError, match=r"expected one Embedding"):
            tasks.embed(path, photo, **UNIT)
        assert tasks.embed(path, photo, name="a", **UNIT).vector.tolist() == [1, 1]
        with pytest.raises(InputError, match=r"no such output; expected a, b, c; received d"):
            tasks.embed(path, photo, name="d", **UNIT)
        with pytest.raises(InputError, match=r"'c'.*is no vector; expected one of a, b"):
            tasks.embed(path, photo, name="c", **UNIT)
        with pytest.raises(InputError, match=r"no output is a vector"):
            tasks.embed(constant(tmp_path / "n.onnx", {"c": np.zeros((1, 3, 2, 2))}), photo, **UNIT)


def by_the_definition(best: list[int], characters: str, blank: int) -> str:
    text, before = "", None
    for i in best:
        if i != before and i != blank:
            text += characters[i - (1 if blank == 0 else 0)]
        before = i
    return text


class TestText:
    @pytest.mark.parametrize("seed", range(20))
    @pytest.mark.parametrize("blank", ["first", "last"])
    def test_decoded(self, seed: int, blank: str) -> None:
        rng = np.random.default_rng(seed)
        best = rng.integers(0, 4, 12).tolist()
        scores = rng.normal(0, 0.1, (12, 4)).astype(np.float32)
        scores[np.arange(12), best] = 5
        for given in (scores, np.exp(scores) / np.exp(scores).sum(1, keepdims=True)):
            line = decoded(given, "abc", blank)
            assert line.text == by_the_definition(best, "abc", 0 if blank == "first" else 3)
            assert len(line.scores) == len(line.text) == len(line.places)
            assert (line.scores > 0.9).all()

    def test_nothing(self) -> None:
        for scores in (np.eye(4, dtype=np.float32)[[0, 0, 0]], np.zeros((0, 4), np.float32)):
            line = decoded(scores, "abc")
            assert (line.text, line.score, line.as_text()) == ("", 0.0, "\t0.0000")

    @pytest.mark.parametrize("turned", [False, True])
    def test_of_a_picture(self, tmp_path: Path, photo: Image.Image, turned: bool) -> None:
        y = np.eye(4)[[0, 1, 1, 0, 1, 3, 3]][None]
        path = constant(tmp_path / "m.onnx", {"y": y.transpose(1, 0, 2) if turned else y})
        line = tasks.text(path, photo, characters="ab\n", **UNIT)
        assert line.text == "aa\n"
        assert line.as_text() == "aa\\n\t1.0000"
        assert line.as_json() == {"kind": "text", "text": "aa\n", "score": 1.0}
        assert line.places.tolist() == [1, 4, 5]
        with pytest.raises(InputError, match=r"no output has a score.*expected \(samples, places, 3\); received y"):
            tasks.text(path, photo, characters="ab", **UNIT)
        with pytest.raises(InputError, match=r"'characters='.*not known"):
            tasks.text(path, photo, **UNIT)
        with pytest.raises(InputError, match=r"blank.*first or last"):
            tasks.text(path, photo, characters="abc", blank="middle", **UNIT)

    def test_places_first(self) -> None:
        task = tasks.Text(["y"], ("a", "b"))
        y = np.zeros((5, 2, 3), np.float32)
        samples = task.samples([y], 2, None)
        assert [np.asarray(s[0]).shape for s in samples or []] == [(5, 3), (5, 3)]
        assert "places first" in task.said[0]
        with pytest.raises(InputError, match=r"cannot be told apart"):
            task.samples([np.zeros((2, 2, 3), np.float32)], 2, None)
        with pytest.raises(InputError, match=r"not one for each picture"):
            task.samples([y], 3, None)


class TestClassify:
    @pytest.mark.parametrize(
        ("op", "kind", "first"),
        [
            ("", "probability", np.exp(2) / (np.exp(2) + np.exp(1) + np.exp(0.5))),
            ("Softmax", "probability", np.exp(2) / (np.exp(2) + np.exp(1) + np.exp(0.5))),
            ("LogSoftmax", "probability", np.exp(2) / (np.exp(2) + np.exp(1) + np.exp(0.5))),
            ("Sigmoid", "score", 1 / (1 + np.exp(-2))),
            ("Relu", "score", 2.0),
        ],
    )
    def test_what_numbers_are_is_told_by_where_they_come_from(self, tmp_path: Path, op: str, kind: str, first: float) -> None:
        flat = np.full((8, 8, 3), [50, 100, 200], np.uint8)
        path = through(tmp_path / "m.onnx", op)
        found = tasks.classify(path, flat, scale=0.01, top=2)
        assert (found.kind, len(found.classes)) == (kind, 2)
        assert found.classes[0][0] == 2
        assert found.classes[0][2] == pytest.approx(first)

    def test_what_is_said_goes_first(self, tmp_path: Path) -> None:
        flat = np.full((8, 8, 3), [0, 1, 2], np.uint8)
        path = through(tmp_path / "m.onnx", "", cnnengine__output="probabilities")
        assert tasks.classify(path, flat, scale=1).classes[0][2] == 2
        found = tasks.classify(path, flat, scale=1, output="logits", labels=["a", "b", "c"])
        assert found.classes[0][1] == "c"
        assert found.classes[0][2] == pytest.approx(0.66524, rel=1e-4)
        assert str(found).splitlines()[0] == "label  class  probability"
        with pytest.raises(InputError, match=r"output.*logits or probabilities"):
            tasks.classify(path, flat, output="odds", scale=1)
        with pytest.raises(InputError, match=r"expected 3 labels; received 1"):
            tasks.classify(path, flat, labels=["a"], scale=1)
        with pytest.raises(InputError, match=r"one Ranking"):
            tasks.classify(constant(tmp_path / "n.onnx", {"y": np.zeros((1, 3, 8, 8))}), flat, **UNIT)


def test_placements_of_settings() -> None:
    """What the other tests rest on: the way there, written a second time, is that of `Preprocess`."""
    for fit in ("stretch", "letterbox", "crop"):
        where: Placement = settings(fit, CANVAS).place(50, 40)
        box = np.array([[3.0, 5, 30, 44]])
        np.testing.assert_allclose(where.to_original(forward(box, (50, 40), fit, CANVAS)), box)


def test_a_model_without_pictures(tmp_path: Path, photo: Image.Image) -> None:
    path = constant(tmp_path / "m.onnx", {"y": np.zeros((1, 3))}, ("N", 7))
    for run in (tasks.detect, tasks.classify, tasks.segment, tasks.image, tasks.embed):
        with pytest.raises(InputError, match=r"m\.onnx.*not an image"):
            run(path, photo, **UNIT)
    assert Known().labels is None
