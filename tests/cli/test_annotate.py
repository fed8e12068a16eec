"""`cnnengine annotate`: what is written into a file, from options and from others' metadata, and what is refused."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import runner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import cnnengine


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    return runner(capsys)


def network(path: Path, external: bool = False, **metadata: str) -> Path:
    """(N, 3, 8, 8) -> (N, 2)."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    weights = numpy_helper.from_array(np.random.default_rng(0).standard_normal((192, 2)).astype(np.float32), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path, save_as_external_data=external, location="net.data" if external else None, size_threshold=0)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "x.png")
    return tmp_path / "x.png"


OPTIONS = ["--fit", "crop", "--resize", "10", "--order", "BGR", "--scale", "1", "--mean", "104,117,123", "--resample", "bicubic"]


def test_the_file_needs_no_options_then(cnn, tmp_path: Path, picture: Path) -> None:
    model, out = network(tmp_path / "m.onnx"), tmp_path / "out.onnx"
    (tmp_path / "labels.txt").write_text("cat\ndög\n", encoding="utf-8")
    labels = ["--labels", tmp_path / "labels.txt"]
    made = cnn("annotate", model, *OPTIONS, *labels, "--output", "logits", "--task", "classify", "-o", out)
    assert (made.status, made.err) == (0, [])
    keys = "cnnengine.labels, cnnengine.output, cnnengine.preprocess, cnnengine.task, names, task"
    assert made.out == [
        "pictures: NCHW 8x8 BGR, shorter side resized to 10 and the middle cut out, bicubic, pixel - (104, 117, 123) "
        "(from options)",
        f"2 labels from {tmp_path / 'labels.txt'}",
        "output: logits, from options",
        "task: classify, from options",
        f"{out}: {out.stat().st_size:,} bytes, with {keys}",
    ]
    before = cnn("predict", model, picture, *OPTIONS, *labels, "--softmax", "--quiet")
    assert cnn("predict", out, picture, "--quiet") == before
    assert before.out
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert out.read_bytes().startswith(model.read_bytes())
    with cnnengine.load(out) as loaded:
        assert loaded.labels == ("cat", "dög")
        assert loaded.metadata["names"] == "{0: 'cat', 1: 'dög'}"
        assert loaded.about.task == "classify"


def test_in_place_and_without_onnx(cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(tmp_path / "m.onnx")
    first = model.read_bytes()
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cnn("annotate", model, *OPTIONS, "-o", model).status == 0
    again = model.read_bytes()
    assert again.startswith(first)
    assert cnn("annotate", model, "--order", "RGB", "--scale", "1/255", "--mean", "0", "-o", model).status == 0
    assert json.loads(cnnengine.load(model).metadata["cnnengine.preprocess"])["fit"] == "crop"  # what was not said stays
    assert cnnengine.load(model).metadata["Image.NominalPixelRange"] == "Normalized_0_1"
    assert sorted(os.listdir(tmp_path)) == ["m.onnx"]


@pytest.mark.parametrize("given", ["folder", "file", "onnx", "beside"])
def test_from_others(cnn, tmp_path: Path, given: str) -> None:
    model, out = network(tmp_path / "m.onnx", **{"cnnengine.preprocess": '{"scale": 7}'}), tmp_path / "out.onnx"
    source = tmp_path / "source"
    source.mkdir()
    if given == "onnx":
        network(source / "other.onnx", names="['a', 'b']", stride="32", task="classify", imgsz="[8, 8]")
        options, settings = ["--from", source / "other.onnx"], {"fit": "crop", "scale": 1 / 255}
    else:
        (source / "preprocessor_config.json").write_text(
            json.dumps({"size": 8, "do_normalize": True, "image_mean": 0.25, "image_std": 0.5, "resample": 3})
        )
        config = {"model_type": "vit", "architectures": ["AForImageClassification"], "id2label": {"0": "a", "1": "b"}}
        (source / "config.json").write_text(json.dumps(config))
        options = ["--from", source if given == "folder" else source / "preprocessor_config.json"]
        settings = {"mean": [0.25], "resample": "bicubic", "scale": 1 / 255}
        if given == "beside":
            model, options = network(source / "m.onnx"), []
    made = cnn("annotate", model, *options, "-o", out)
    assert (made.status, made.err) == (0, [])
    with cnnengine.load(out) as loaded:
        stated = json.loads(loaded.metadata["cnnengine.preprocess"])
        assert {name: stated[name] for name in settings} == settings
        assert loaded.labels == (None if given == "file" else ("a", "b"))
        assert loaded.preparation().sources == ("its cnnengine metadata",)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to write"),
        (["--labels", "three.txt"], "expected 2 labels"),
        (["--from", "empty"], "nothing there that is known"),
        (["--from", "broken.json"], "is not JSON"),
        (["--from", "three.txt"], "nothing there that is known"),
        (["--from", "none"], "no such file"),
        (["--fit", "crop"], "--scale"),
        (["--scale", "1", "--fit", "shorter"], "resize"),
        (["--task", "classify", "-o", "folder/out.onnx"], "cannot be written"),
    ],
)
def test_what_is_refused_in_one_line(
    cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "empty").mkdir()
    network(tmp_path / "m.onnx")
    result = cnn("annotate", "m.onnx", "-o", "out.onnx", *arguments)
    assert (result.status, result.out, len(result.err)) == (2, [], 1)
    assert said in result.err[0]
    assert not (tmp_path / "out.onnx").exists()


def test_weights_in_files_of_their_own_stay_beside_the_model(cnn, tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx", external=True)
    (tmp_path / "other").mkdir()
    refused = cnn("annotate", model, "--task", "classify", "-o", tmp_path / "other" / "m.onnx")
    assert (refused.status, len(refused.err)) == (2, 1)
    assert "net.data" in refused.err[0]
    (tmp_path / "other" / "net.data").write_bytes(b"of another model")
    assert cnn("annotate", model, "--task", "classify", "-o", tmp_path / "other" / "m.onnx").status == 2
    (tmp_path / "other" / "net.data").write_bytes((tmp_path / "net.data").read_bytes())
    x = np.ones((1, 3, 8, 8), np.float32)
    for out in (tmp_path / "other" / "m.onnx", tmp_path / "out.onnx", model):
        assert cnn("annotate", model, "--task", "classify", "-o", out).status == 0
        np.testing.assert_array_equal(cnnengine.load(out)(x), cnnengine.load(model)(x))
