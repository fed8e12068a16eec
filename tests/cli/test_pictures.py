"""From a picture to an answer: what `predict` and `info` say of where the preparation comes from, and what they do not guess."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import runner
from onnx import TensorProto, helper
from PIL import Image

import cnnengine
from cnnengine.cli.pictures import FIELDS, option_name
from cnnengine.metadata import PRESETS, SETS, TASKS

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "models" / "digits_lenet.onnx")
SAMPLE = str(ROOT / "models" / "samples" / "3.png")


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    return runner(capsys)


def pooled(path: Path, size: object = ("H", "W"), dtype: int = TensorProto.FLOAT, **metadata: str) -> Path:
    """(N, 3, H, W) -> the mean of every channel, (N, 3)."""
    x = helper.make_tensor_value_info("x", dtype, ["N", 3, *size])  # type: ignore[misc]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["f"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {key.replace("__", "."): text for key, text in metadata.items()})
    onnx.save(model, path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.full((8, 12, 3), [50, 100, 200], np.uint8)).save(tmp_path / "flat.png")
    return tmp_path / "flat.png"


def scores(line: str) -> list[float]:
    top = json.loads(line)["outputs"]["y"]["top"]
    return [c["score"] for c in sorted(top, key=lambda c: c["index"])]


class TestTheLine:
    def test_of_our_own_metadata(self, cnn) -> None:
        result = cnn("predict", MODEL, SAMPLE)
        assert result.status == 0
        assert result.err == [
            "cnnengine: digits_lenet.onnx: pictures: NCHW 32x32 gray, stretched, bilinear, (pixel / 255 - 0.3063) / 0.3236 "
            "(from its cnnengine metadata); 10 labels from its cnnengine metadata; logits, says its cnnengine metadata"
        ]
        quiet = cnn("predict", MODEL, SAMPLE, "--quiet")
        assert (quiet.out, quiet.err) == (result.out, [])

    def test_of_a_file_beside_it_and_of_options(self, cnn, tmp_path: Path, picture: Path) -> None:
        model = pooled(tmp_path / "m.onnx", (4, 4))
        (tmp_path / "preprocessor_config.json").write_text(
            json.dumps({"size": 4, "do_rescale": False, "do_normalize": False, "resample": 3})
        )
        result = cnn("predict", model, picture, "--json", "--order", "BGR", "--labels", __file__, "--top", 1, "--softmax")
        assert result.status == 2  # these are no three labels: it was told before
        assert result.err[0] == (
            "cnnengine: m.onnx: pictures: NCHW 4x4 BGR, stretched, bicubic, pixel (from options, preprocessor_config.json); "
            f"labels from {__file__}; logits, by --softmax"
        )
        assert scores(cnn("predict", model, picture, "--json").out[0]) == [50, 100, 200]

    def test_what_is_assumed(self, cnn, tmp_path: Path, picture: Path) -> None:
        result = cnn("predict", pooled(tmp_path / "m.onnx", (4, 4)), picture, "--scale", 1)
        assert result.err == [
            "cnnengine: m.onnx: pictures: NCHW 4x4 RGB, stretched, bilinear, pixel (from options); "
            "assumed: fit stretch, order RGB, resample bilinear"
        ]

    def test_bytes_are_pixels(self, cnn, tmp_path: Path, picture: Path) -> None:
        result = cnn("predict", pooled(tmp_path / "m.onnx", (4, 4), TensorProto.UINT8), picture, "--json")
        assert scores(result.out[0]) == [50, 100, 200]
        assert "from the input's uint8, which takes pixels as they are" in result.err[0]
        assert "assumed: fit stretch" in result.err[0]

    def test_arrays_need_no_preparation(self, cnn, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.ones((1, 3, 4, 4), np.float32))
        assert cnn("predict", pooled(tmp_path / "m.onnx"), tmp_path / "x.npy").err == []
        foreign = pooled(tmp_path / "f.onnx", names="['a', 'b', 'c']", stride="32", task="classify", imgsz="[4, 4]")
        result = cnn("predict", foreign, tmp_path / "x.npy", "--top", 1)
        assert result.out == [f"{tmp_path / 'x.npy'}\ta 1.0000"]
        assert result.err == [
            "cnnengine: f.onnx: 3 labels from its Ultralytics metadata; probabilities, says its Ultralytics metadata; "
            "task classify, says its Ultralytics metadata"
        ]

    def test_the_first_of_several_pictures(self, cnn, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (4, 3), (level, 0, 0)) for level in (10, 120)]
        frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
        model = pooled(tmp_path / "m.onnx")
        result = cnn("predict", model, tmp_path / "two.gif", "--scale", 1, "--top", 1)
        assert result.out == [f"{tmp_path / 'two.gif'}\t0 10"]
        assert result.err[1:] == [f"cnnengine: {tmp_path / 'two.gif'}: the first of 2 pictures is taken"]
        assert cnn("predict", model, tmp_path / "two.gif", "--scale", 1, "--quiet").err == []


class TestNothingKnown:
    def test_options_are_asked_for(self, cnn, tmp_path: Path, picture: Path) -> None:
        result = cnn("predict", pooled(tmp_path / "m.onnx", (4, 4)), picture)
        assert (result.status, result.out) == (2, [])
        (line,) = result.err
        for part in (
            "m.onnx",
            "nothing in the file or beside it",
            "'x', float32 (N, 3, 4, 4)",
            "--scale",
            "--assume",
            "imagenet",
        ):
            assert part in line

    def test_any_size_asks_for_one(self, cnn, tmp_path: Path, picture: Path) -> None:
        model = pooled(tmp_path / "m.onnx")
        result = cnn("predict", model, picture, "--assume", "imagenet")
        assert (result.status, len(result.err)) == (2, 1)
        assert "--size" in result.err[0]
        assert cnn("predict", model, picture, "--assume", "imagenet", "--size", 4).status == 0

    def test_a_mean_of_levels_asks_for_the_scale(self, cnn, tmp_path: Path, picture: Path) -> None:
        model = pooled(tmp_path / "m.onnx")
        result = cnn("predict", model, picture, "--mean", "123,116,103")
        assert (result.status, len(result.err)) == (2, 1)
        assert "--scale" in result.err[0]
        assert cnn("predict", model, picture, "--mean", "123,116,103", "--scale", 1).status == 0


class TestArrays:
    def test_integers_are_not_fed_as_floats_without_a_word(self, cnn, tmp_path: Path) -> None:
        model = pooled(tmp_path / "m.onnx")
        for dtype in (np.uint8, np.int64):
            np.save(tmp_path / "x.npy", np.full((1, 3, 4, 4), 200, dtype))
            result = cnn("predict", model, tmp_path / "x.npy")
            assert (result.status, result.out) == (1, [])
            assert result.err == [
                f"cnnengine: {tmp_path / 'x.npy'}: tensor 'x': integers, and the input takes floats: --scale 1 feeds them as "
                f"they are, --scale X scales them; expected float32; received {np.dtype(dtype)}"
            ]
            for options, expected in (
                (["--scale", 1], 200),
                (["--scale", "1/200"], 1),
                (["--scale", "1/200", "--mean", "0.5,0.5,0.5", "--std", 0.5], 1),
                (["--scale", "1/100", "--mean", "1,1,1"], 1),
            ):
                (line,) = cnn("predict", model, tmp_path / "x.npy", "--json", *options).out
                assert scores(line) == pytest.approx([expected] * 3)

    def test_means_of_other_channels(self, cnn, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.ones((1, 5, 4, 4), np.uint8))
        result = cnn("predict", pooled(tmp_path / "m.onnx"), tmp_path / "x.npy", "--scale", 1, "--mean", "1,2,3")
        assert (result.status, len(result.err)) == (1, 1)
        assert "has other channels than mean and std; expected 3; received (1, 5, 4, 4)" in result.err[0]

    @pytest.mark.parametrize(
        ("arrays", "said"),
        [
            ({"X": 0}, "there is no input 'X'; did you mean 'x'?; expected x; received X"),
            ({"xx": 0}, "there is no input 'xx'; did you mean 'x'?; expected x; received xx"),
            ({"picture": 0}, "there is no input 'picture'; expected x; received picture"),
            ({"x": 0, "z": 0}, "there is no input 'z'; expected x; received x, z"),
            ({"y": 0}, "arrays are missing; expected x; received y"),
        ],
    )
    def test_names_that_are_no_inputs(self, cnn, tmp_path: Path, arrays: dict[str, int], said: str) -> None:
        np.savez(tmp_path / "a.npz", **{name: np.ones((1, 3, 4, 4), np.float32) for name in arrays})
        result = cnn("predict", pooled(tmp_path / "m.onnx"), tmp_path / "a.npz")
        assert (result.status, result.out) == (1, [])
        assert result.err == [f"cnnengine: {tmp_path / 'a.npz'}: {said}"]

    def test_outputs_may_stand_beside_the_inputs(self, cnn, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.ones((1, 3, 4, 4), np.float32), y=np.ones((1, 3)))
        assert cnn("predict", pooled(tmp_path / "m.onnx"), tmp_path / "a.npz").status == 0
        assert cnn("check", pooled(tmp_path / "m.onnx"), "--input", tmp_path / "a.npz").status == 0

    @pytest.mark.parametrize(("values", "dtype"), [([1e30], np.float64), ([-1e39], np.float64)])
    def test_values_that_become_infinite(self, cnn, tmp_path: Path, values: list[float], dtype: type) -> None:
        np.save(tmp_path / "x.npy", np.full((1, 3, 4, 4), values[0], dtype))
        result = cnn("predict", pooled(tmp_path / "m.onnx"), tmp_path / "x.npy")
        assert result.status == (0 if abs(values[0]) < 3e38 else 1)
        assert ("do not fit" in "".join(result.err)) == (result.status == 1)


class TestInfo:
    def test_it_says_what_predict_would_do(self, cnn, tmp_path: Path) -> None:
        out = cnn("info", MODEL).out
        assert (
            "pictures: NCHW 32x32 gray, stretched, bilinear, (pixel / 255 - 0.3063) / 0.3236 (from its cnnengine metadata)" in out
        )
        assert "10 labels from its cnnengine metadata" in out
        (line,) = (line for line in cnn("info", pooled(tmp_path / "m.onnx", (4, 4))).out if line.startswith("pictures: "))
        assert "--assume" in line
        nodes = [helper.make_node("Relu", ["x"], ["y"])]
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy"]
        graph = helper.make_graph(nodes, "g", values[:1], values[1:])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "flat.onnx")
        assert not any("pictures" in line for line in cnn("info", tmp_path / "flat.onnx").out)

    def test_json(self, cnn, tmp_path: Path) -> None:
        about = json.loads(cnn("info", MODEL, "--json").out[0])["about"]
        assert about["preparation"]["settings"]["mean"] == [0.3063]
        assert about["preparation"]["sources"] == ["its cnnengine metadata"]
        assert about["labels"] == {"value": list("0123456789"), "source": "its cnnengine metadata"}
        about = json.loads(cnn("info", pooled(tmp_path / "m.onnx", (4, 4)), "--json").out[0])["about"]
        assert about == {"preparation": None, "labels": None, "output": None, "task": None, "notes": []}


class TestLabels:
    def test_a_file_of_a_known_set_s_name_goes_first(self, cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "voc").write_text("a\nb\nc\n")
        np.save(tmp_path / "x.npy", np.ones((1, 3, 4, 4), np.float32))
        result = cnn("predict", pooled(tmp_path / "m.onnx"), tmp_path / "x.npy", "--labels", "voc", "--top", 1)
        assert result.out == [f"{tmp_path / 'x.npy'}\ta 1"]

    def test_sets_come_from_packages_that_are_there(self, cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = tmp_path / "torchvision"
        (package / "models").mkdir(parents=True)
        (package / "__init__.py").write_text("raise ImportError('not to be imported')")
        (package / "models" / "_meta.py").write_text(
            "_VOC_CATEGORIES = ['__background__'] + [f'v{i}' for i in range(20)]\n"
            "_COCO_CATEGORIES = ['__background__'] + [f'c{i}' for i in range(80)] + ['N/A'] * 10\n"
            "_IMAGENET_CATEGORIES = [f'i{i}' for i in range(1000)]\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        from cnnengine.metadata import named_labels

        assert named_labels("voc")[:2] == ("__background__", "v0")
        assert named_labels("coco") == tuple(f"c{i}" for i in range(80))
        assert len(named_labels("coco91")) == 91
        assert named_labels("imagenet") == tuple(f"i{i}" for i in range(1000))
        assert named_labels("imagenet", 1001)[:2] == ("background", "i0")
        np.save(tmp_path / "x.npy", np.ones((1, 3, 4, 4), np.float32))
        result = cnn("predict", pooled(tmp_path / "m.onnx"), tmp_path / "x.npy", "--labels", "voc")
        assert (result.status, "21" in result.err[-1]) == (2, True)

    def test_without_such_a_package_it_is_named(self, cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        np.save(tmp_path / "x.npy", np.ones((1, 3, 4, 4), np.float32))
        result = cnn("predict", pooled(tmp_path / "m.onnx"), tmp_path / "x.npy", "--labels", "imagenet")
        assert (result.status, len(result.err)) == (2, 1)
        assert "torchvision or timm" in result.err[0]


class TestThePage:
    PAGE = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")

    def test_its_python_prints_what_it_says(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.chdir(ROOT)
        (code,) = re.findall(r"```python\n(.*?)```", self.PAGE, re.S)
        exec(compile(code, "predict.md", "exec"), {})
        assert capsys.readouterr().out.splitlines() == re.findall(r"^print\(.*\) +# (.*)$", code, re.M)

    def test_its_command_prints_what_it_says(self, cnn, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)
        command, line, answer = re.search(r"^    \$ cnnengine (.*)\n    (.*)\n    (.*)$", self.PAGE, re.M).groups()  # type: ignore[union-attr]
        result = cnn(*command.split())
        assert (result.out, result.err) == ([answer], [line])

    def test_every_option_for_pictures_is_on_it(self) -> None:
        for name in FIELDS:
            option = option_name(name)
            assert option in self.PAGE or option.replace("--", "--no-") in self.PAGE, option
        for name in (*PRESETS, *SETS):
            assert f"`{name}`" in self.PAGE

    def test_every_field_is_on_the_page_of_metadata(self) -> None:
        page = (ROOT / "docs" / "metadata.md").read_text(encoding="utf-8")
        table = page.split("| field |")[1].split("\n\n")[0]
        assert set(FIELDS) == {f.name for f in dataclasses.fields(cnnengine.Preprocess)}
        for name in FIELDS:
            assert f"`{name}`" in table
        for task in TASKS:
            assert f"`{task}`" in page.split("`cnnengine.task`")[1].split("\n")[0]


def test_in_python_as_in_the_command(tmp_path: Path, picture: Path) -> None:
    import copy
    import pickle

    pooled(tmp_path / "m.onnx", (4, 4))
    with cnnengine.load(tmp_path / "m.onnx") as model:
        with pytest.raises(cnnengine.InputError, match="scale="):
            model.preprocess(picture)
        np.testing.assert_allclose(model.preprocess(picture, assume="pixels")[0, :, 0, 0], [50, 100, 200])
        assert model.preparation(scale=1).assumed == ("fit stretch", "order RGB", "resample bilinear")
    (tmp_path / "transforms.json").write_text(
        json.dumps({"mean": 0, "std": 1, "resize_size": 4, "crop_size": 4, "categories": ["a", "b", "c"]})
    )
    with cnnengine.load(tmp_path / "m.onnx") as model:
        for one in (model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert one.labels == ("a", "b", "c")
            assert one.preparation().settings.fit == "crop"
        model.metadata["cnnengine.labels"] = '["x", "y", "z"]'
        assert model.labels == ("x", "y", "z")
    data = (tmp_path / "m.onnx").read_bytes()
    assert cnnengine.load(data).labels is None
