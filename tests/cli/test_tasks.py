"""`cnnengine predict` by task: boxes, segments, pictures, vectors and text, drawn or printed, and what it asks about."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import runner
from PIL import Image
from tasks.networks import constant, enlarging
from tasks.planted import forward

CANVAS = (64, 96)
BOXES = np.array([[10.0, 20, 40, 60], [41, 70, 75, 110]])
UNIT = ("--scale", "1/255")


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    return runner(capsys)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 200, (120, 80, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def boxes_of(path: Path, **metadata: str) -> Path:
    """Two boxes, and a third that overlaps the first by three quarters."""
    boxes = np.concatenate([BOXES, BOXES[:1] + [0, 5, 0, 5]])
    y = np.zeros((1, 300, 6))
    y[0, :3, :4] = forward(boxes, (120, 80), "stretch", CANVAS)
    y[0, :3, 4:] = [[0.9, 1], [0.5, 0], [0.3, 1]]
    return constant(path, {"y": y}, **metadata)


LINE = "dog 0.9000 10.0 20.0 40.0 60.0\tcat 0.5000 41.0 70.0 75.0 110.0\tdog 0.3000 10.0 25.0 40.0 65.0"


class TestDetect:
    def test_by_the_outputs(self, cnn, tmp_path: Path, photo: Path) -> None:
        model = boxes_of(tmp_path / "m.onnx", cnnengine__labels='["cat", "dog"]')
        result = cnn("predict", model, photo, *UNIT)
        assert (result.status, result.out) == (0, [f"{photo}\t{LINE}"])
        (line,) = result.err
        assert "; task detect, by the outputs; boxes: boxes, scores and classes as Ultralytics v10" in line
        assert line.endswith("(layout end2end, scores above 0.25)")
        assert cnn("predict", model, photo, *UNIT, "--quiet").err == []

    def test_json_and_options(self, cnn, tmp_path: Path, photo: Path) -> None:
        model = boxes_of(tmp_path / "m.onnx")
        for options, count in (([], 3), (["--top", 2], 2), (["--threshold", 0.4], 2), (["--threshold", 0.95], 0)):
            result = cnn("predict", model, photo, *UNIT, "--json", "--task", "detect", *options)
            found = json.loads(result.out[0])["outputs"]["detections"]
            assert (found["kind"], found["size"], len(found["found"])) == ("detections", [120, 80], count)
        for options in (["--threshold", "2"], ["--overlap", "-1"], ["--threshold", "nan"], ["--top", "0"], ["--task", "find"]):
            result = cnn("predict", model, photo, *UNIT, *options)
            assert result.status == 2
            assert options[0] in result.err[-1]

    def test_drawn(self, cnn, tmp_path: Path, photo: Path) -> None:
        other = tmp_path / "b"
        other.mkdir()
        Image.open(photo).save(other / "a.bmp")
        model = boxes_of(tmp_path / "m.onnx")
        result = cnn("predict", model, photo, other / "a.bmp", *UNIT, "--draw", tmp_path / "out" / "x")
        assert result.status == 0
        assert sorted(p.name for p in (tmp_path / "out" / "x").iterdir()) == ["a.2.png", "a.png"]
        drawn, before = (np.asarray(Image.open(p)) for p in (tmp_path / "out" / "x" / "a.png", photo))
        assert drawn.shape == before.shape
        changed = (drawn != before).any(2)
        assert changed[59:61, 11:39].all()  # the lower side of the first
        assert not changed[84:108, 45:72].any()  # within the second, below its name

    def test_what_cannot_be_drawn(self, cnn, tmp_path: Path, photo: Path) -> None:
        model = boxes_of(tmp_path / "m.onnx")
        result = cnn("predict", model, photo, *UNIT, "--draw", tmp_path)
        assert result.status == 1
        assert len(result.out) == 1
        assert "would be written over; expected another folder for --draw" in result.err[-1]
        result = cnn("predict", model, photo, *UNIT, "--draw", photo)
        assert result.status == 2
        assert "--draw: cannot make the folder" in result.err[-1]
        np.save(tmp_path / "x.npy", np.zeros((1, 3, *CANVAS), np.float32))
        result = cnn("predict", model, tmp_path / "x.npy", "--draw", tmp_path / "out")
        assert result.status == 1
        assert result.out[0].split("\t")[1].startswith("1 0.9000 12.0 10.7 48.0 32.0")  # pixels of the input
        assert "arrays are not drawn on" in result.err[-1]
        scores = constant(tmp_path / "c.onnx", {"y": np.ones((1, 4))})
        result = cnn("predict", scores, photo, *UNIT, "--draw", tmp_path / "out")
        assert result.status == 1
        assert "--draw: there is nothing to draw; expected --task detect, segment or image" in result.err[-1]

    def test_what_is_not_known_is_asked_about(self, cnn, tmp_path: Path, photo: Path) -> None:
        cells = sum((64 // s) * (96 // s) for s in (8, 16, 32))
        y = np.zeros((1, cells, 8))
        y[0, 5] = [48, 32, 20, 20, 1, 0.9, 0, 0]
        model = constant(tmp_path / "m.onnx", {"y": y})
        result = cnn("predict", model, photo, *UNIT, "--task", "detect")
        assert (result.status, result.out) == (2, [])
        assert "--format: how the outputs describe boxes is not known: say which layout they have" in result.err[-1]
        result = cnn("predict", model, photo, *UNIT, "--task", "detect", "--format", "yolox-decoded")
        assert result.out[0].startswith(f"{photo}\t0 0.9000 ")
        result = cnn("predict", model, photo, *UNIT)
        assert (result.status, result.out) == (0, [f"{photo}\tfloat32 ({cells}, 8), 0 to 48"])
        assert "what the outputs mean is not known: --task classify, detect, segment, image, embed, text says it" in result.err[0]
        labels = tmp_path / "labels.txt"
        labels.write_text("a\nb\nc\n")
        result = cnn("predict", model, photo, *UNIT, "--labels", labels, "--task", "detect")  # YOLOX's cells: exp(20) * 8 pixels
        assert result.status == 1
        assert "tensor 'y': its boxes are not those of layout 'yolox'; expected pixels of an input of 64 x 96" in result.err[-1]

    def test_one_broken_picture_among_others(self, cnn, tmp_path: Path, photo: Path) -> None:
        (tmp_path / "broken.png").write_bytes(b"no picture")
        model = boxes_of(tmp_path / "m.onnx", cnnengine__task="detect")
        result = cnn("predict", model, tmp_path / "broken.png", photo, *UNIT)
        assert (result.status, len(result.out)) == (1, 1)
        assert [("pictures:" in line, "broken.png" in line) for line in result.err] in (
            [(True, False), (False, True)],
            [(False, True), (True, False)],
        )


def test_segments(cnn, tmp_path: Path, photo: Path) -> None:
    y = np.zeros((1, 2, 16, 24))
    y[0, 1, :, 12:] = 1
    y[0, 0, :, :12] = 1
    model = constant(tmp_path / "m.onnx", {"y": y}, cnnengine__labels='["none", "road"]')
    result = cnn("predict", model, photo, *UNIT, "--task", "segment", "--draw", tmp_path / "out")
    assert result.out == [f"{photo}\tnone 50.00%\troad 50.00%"]
    assert "segments: scores of 2 classes for each pixel" in result.err[0]
    changed = (np.asarray(Image.open(tmp_path / "out" / "a.png")) != np.asarray(Image.open(photo))).any(2)
    assert changed[:, 40:].all()
    assert not changed[:, :40].any()


def test_a_mask_for_each_box_is_a_segment_too(cnn, tmp_path: Path, photo: Path) -> None:
    """Ultralytics' networks for segmentation say so in their metadata: boxes with masks."""
    cells = sum((64 // s) * (96 // s) for s in (8, 16, 32))
    y = np.zeros((1, 4 + 2 + 32, cells))
    y[0, :4, 7] = [48, 32, 60, 40]
    y[0, 5, 7] = 0.9
    y[0, 6, 7] = 1
    protos = np.zeros((1, 32, 16, 24))
    protos[0, 0] = np.where(np.arange(24) < 12, 1, -1)
    model = constant(tmp_path / "m.onnx", {"y": y, "p": protos}, cnnengine__labels='["a", "b"]', cnnengine__task="segment")
    result = cnn("predict", model, photo, *UNIT, "--json", "--draw", tmp_path / "out")
    (found,) = json.loads(result.out[0])["outputs"]["detections"]["found"]
    assert found["box"] == pytest.approx([15, 22.5, 65, 97.5])
    assert found["pixels"] == (40 - 15) * (98 - 22)
    assert "masks of 32 prototypes" in result.err[0]


def test_pictures(cnn, tmp_path: Path, photo: Path) -> None:
    """An output of twice the input's extents can be nothing else."""
    result = cnn("predict", enlarging(tmp_path / "m.onnx"), photo, *UNIT, "--draw", tmp_path / "out")
    assert result.out[0].startswith(f"{photo}\t160x240 RGB, of 0 to 0.78")
    assert "task image, by the outputs; picture: y, as the input's were made, turned around" in result.err[0]
    want = np.asarray(Image.open(photo)).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), want)
    same = constant(tmp_path / "s.onnx", {"y": np.full((1, 3, 64, 96), 0.4)})
    assert "what the outputs mean is not known" in cnn("predict", same, photo, *UNIT).err[0]
    result = cnn("predict", same, photo, "--task", "image", "--assume", "imagenet")
    assert result.status == 2
    assert "--values: what the output's numbers are is not known" in result.err[-1]
    result = cnn("predict", same, photo, "--task", "image", "--assume", "imagenet", "--values", "unit", "--draw", tmp_path / "o")
    assert result.status == 0
    assert (np.asarray(Image.open(tmp_path / "o" / "a.png")) == 102).all()


def test_vectors(cnn, tmp_path: Path, photo: Path) -> None:
    model = constant(tmp_path / "m.onnx", {"y": np.array([[3.0, 4.0]])})
    assert cnn("predict", model, photo, *UNIT, "--task", "embed").out == [f"{photo}\t2 elements, length 5\t3 4"]
    found = json.loads(cnn("predict", model, photo, *UNIT, "--task", "embed", "--json").out[0])
    assert found["outputs"]["y"] == {"kind": "embedding", "norm": 5.0, "vector": [3.0, 4.0]}


def test_text(cnn, tmp_path: Path, photo: Path) -> None:
    model = constant(tmp_path / "m.onnx", {"y": np.eye(4)[[0, 1, 1, 0, 1, 3]][None]})
    labels = tmp_path / "abc.txt"
    labels.write_text("a\nb\nc\n")
    result = cnn("predict", model, photo, *UNIT, "--task", "text", "--labels", labels)
    assert result.out == [f"{photo}\taac\t1.0000"]
    assert result.err[0].endswith("text: 3 characters of y, the blank first")
    result = cnn("predict", model, photo, *UNIT, "--task", "text")
    assert result.status == 2
    assert "--labels: which characters the classes stand for is not known" in result.err[-1]


def test_softmax_is_said(cnn, tmp_path: Path, photo: Path) -> None:
    from tasks.networks import through

    labels = tmp_path / "abc.txt"
    labels.write_text("a\nb\nc\n")
    model = through(tmp_path / "m.onnx", "")
    result = cnn("predict", model, photo, *UNIT, "--labels", labels, "--json")
    assert json.loads(result.out[0])["outputs"]["y"]["kind"] == "probability"
    assert "logits, as they come from GlobalAveragePool: softmax applied" in result.err[0]
    assert json.loads(cnn("predict", model, photo, *UNIT, "--json").out[0])["outputs"]["y"]["kind"] == "score"
    result = cnn("predict", through(tmp_path / "s.onnx", "Sigmoid"), photo, *UNIT, "--labels", labels)
    assert "a sigmoid of each class: scores as they are" in result.err[0]


def test_several_pictures_at_once(cnn, tmp_path: Path, photo: Path) -> None:
    model = enlarging(tmp_path / "m.onnx")
    Image.open(photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "b.png")
    result = cnn("predict", model, photo, tmp_path / "b.png", *UNIT, "--batch-size", 2, "--draw", tmp_path / "out")
    assert [line.split("\t")[0] for line in result.out] == [str(photo), str(tmp_path / "b.png")]
    first, second = (np.asarray(Image.open(tmp_path / "out" / name)) for name in ("a.png", "b.png"))
    np.testing.assert_array_equal(first, second[:, ::-1])
