"""The Python interface's manners: a model or its file everywhere, near misses named, foreign files called what they are."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine.errors import ClosedError, InputError, ModelError
from cnnengine.report import check, precision_errors, profile, summarize

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "digits_lenet.onnx"
X = np.random.default_rng(1).standard_normal((1, 1, 32, 32)).astype(np.float32)


@pytest.fixture
def model():
    with cnnengine.load(MODEL, threads=1) as loaded:
        yield loaded


def same(a: Any, b: Any) -> None:
    """Reports of one model, but for their times."""
    assert type(a) is type(b)
    assert (a.model, a.shapes, a.precision) == (b.model, b.shapes, b.precision)


def test_what_runs_need_is_not_shown(model: cnnengine.Model) -> None:
    assert not {"known_value", "whole_plan", "threads_given"} & {*dir(model), *vars(model)}


class TestModelOrFile:
    @pytest.mark.parametrize(
        "report", [summarize, check, lambda m: profile(m, seconds=0.0, min_rounds=1)], ids=["summarize", "check", "profile"]
    )
    def test_reports_take_both(self, model: cnnengine.Model, report: Callable[[Any], Any]) -> None:
        of_model = report(model)
        for given in (MODEL, str(MODEL), MODEL.read_bytes(), onnx.load(MODEL)):
            assert report(given).precision == "float32"
        same(of_model, report(str(MODEL)))
        assert model.run(None, {"image": X})  # it is not closed by a report on it

    def test_precision_errors_take_a_file(self, model: cnnengine.Model) -> None:
        assert precision_errors(str(MODEL), {"image": X}) == precision_errors(model, {"image": X})

    def test_a_check_of_a_model_is_of_that_model(self) -> None:
        with cnnengine.load(MODEL, threads=2, precision="bfloat16") as loaded:
            found = check(loaded)
            assert (found.model, found.runs, found.threads, found.precision) == ("digits_lenet.onnx", True, 2, "bfloat16")
            assert found.errors is not None
            for option in ({"threads": 1}, {"precision": "float32"}):
                with pytest.raises(InputError, match="the model was loaded with its own"):
                    check(loaded, **option)
            assert check(loaded, threads=2, precision="bfloat16").runs

    def test_a_check_of_a_model_tells_why_rewrites_left_it(self, model: cnnengine.Model) -> None:
        assert check(model, why=True).declined == check(MODEL, why=True).declined

    @pytest.mark.parametrize("report", [summarize, check, profile])
    def test_a_closed_model(self, report: Callable[[Any], Any]) -> None:
        loaded = cnnengine.load(MODEL)
        loaded.close()
        with pytest.raises(ClosedError):
            report(loaded)

    @pytest.mark.parametrize("report", [summarize, profile])
    def test_what_is_neither(self, report: Callable[[Any], Any]) -> None:
        with pytest.raises(ModelError, match="this is not a model"):
            report(3)
        with pytest.raises(cnnengine.ModelNotFoundError):
            report("none.onnx")


class TestNames:
    def test_a_text_in_the_place_of_a_list(self, model: cnnengine.Model) -> None:
        with pytest.raises(InputError, match="must be a list of names") as caught:
            model.run("logits", {"image": X})  # type: ignore[arg-type]
        assert "['logits']" in str(caught.value)

    @pytest.mark.parametrize(
        ("use", "meant"),
        [
            (lambda m: m.run(["logit"], {"image": X}), "logits"),
            (lambda m: m.run(None, {"imag": X}), "image"),
            (lambda m: m(Image=X), "image"),
            (lambda m: m.prepare({"imge": X.shape}), "image"),
            (lambda m: m.bind({"imge": X}), "image"),
            (lambda m: m.bind(None, {"logts": np.zeros((1, 10), np.float32)}), "logits"),
            (lambda m: summarize(m, {"imge": X.shape}), "image"),
            (lambda m: cnnengine.load(MODEL, outputs=["Relu_output_0"]), "/Relu_output_0"),
            (lambda m: cnnengine.load(MODEL, outputs=["logit"]), "logits"),
            (lambda m: m.preprocess(MODEL, siz=3), "size"),
        ],
    )
    def test_near_misses_are_named(self, model: cnnengine.Model, use: Callable[[Any], Any], meant: str) -> None:
        with pytest.raises(InputError) as caught:
            use(model)
        assert f"did you mean {meant!r}?" in str(caught.value)

    def test_what_is_like_none_is_not_answered_by_a_guess(self, model: cnnengine.Model) -> None:
        for use in (lambda: model.run(["xyz"], {"image": X}), lambda: cnnengine.load(MODEL, outputs=["qqq"])):
            with pytest.raises(InputError) as caught:
                use()
            assert "did you mean" not in str(caught.value)


class TestOutputs:
    """`load(outputs=...)`: tensors, or nodes, in the place of the file's outputs."""

    def names(self, *outputs: str, path: Any = MODEL) -> list[str]:
        with cnnengine.load(path, outputs=outputs) as loaded:
            return [value.name for value in loaded.outputs]

    def test_they_replace_the_files(self) -> None:
        assert self.names("/Relu_output_0") == ["/Relu_output_0"]
        assert self.names("/Relu_output_0", "logits") == ["/Relu_output_0", "logits"]

    def test_a_node_stands_for_what_it_gives(self, model: cnnengine.Model) -> None:
        node = next(node for node in onnx.load(MODEL).graph.node if node.op_type == "MaxPool")
        assert self.names(node.name) == list(node.output)
        with cnnengine.load(MODEL, outputs=[node.name]) as a, cnnengine.load(MODEL, outputs=list(node.output)) as b:
            assert np.array_equal(a(X), b(X))

    @staticmethod
    def saved(path: Path, name: str) -> Path:
        """A Split of the first name, whose outputs a Relu of the second reads; the Relu's tensor is called `name`."""
        nodes = [
            helper.make_node("Split", ["x"], ["a", "b"], name="split", axis=1, num_outputs=2),
            helper.make_node("Relu", ["b"], ["split" if name == "split" else "y"], name="relu"),
        ]
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes, "g", [value("x", TensorProto.FLOAT, [1, 4])], [value(nodes[1].output[0], TensorProto.FLOAT, [1, 2])]
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
        return path

    def test_a_node_of_several_outputs_stands_for_all(self, tmp_path: Path) -> None:
        assert self.names("split", path=self.saved(tmp_path / "m.onnx", "y")) == ["a", "b"]

    def test_a_tensor_comes_before_a_node_of_its_name(self, tmp_path: Path) -> None:
        assert self.names("split", path=self.saved(tmp_path / "m.onnx", "split")) == ["split"]


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"content")  # without the time, which would be in the names of tests
    return file.getvalue()


FOREIGN = {
    "torch.pt": (zipped("archive/data.pkl", "archive/version", "archive/data/0"), "PyTorch", "torch.onnx.export"),
    "script.pt": (zipped("s/data.pkl", "s/code/__torch__.py", "s/constants.pkl"), "TorchScript", "torch.onnx.export"),
    "exported.pt2": (zipped("e/archive_format", "e/models/model.json"), "torch.export", "torch.onnx.export"),
    "old.pth": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch", "torch.onnx.export"),
    "keras.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5", "model.export"),
    "model.keras": (zipped("metadata.json", "config.json", "model.weights.h5"), "Keras", "model.export"),
    "m.tflite": (b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite", "tf2onnx"),
    "m.ort": (b"\x1c\0\0\0ORTM" + bytes(40), "onnxruntime", "onnx"),
    "m.safetensors": (struct.pack("<Q", 9) + b'{"a":{}  ', "safetensors", "weights alone"),
    "m.xml": (b'<?xml version="1.0"?>\n<net name="n" version="11">', "OpenVINO", "onnx"),
    "m.param": (b"7767517\n2 2\nInput x 0 1 x\n", "ncnn", "onnx"),
    "m.gguf": (b"GGUF\3\0\0\0" + bytes(40), "GGUF", "onnx"),
    "page.onnx": (b"\n<!DOCTYPE html>\n<html>", "web page", "download"),
    "lfs.onnx": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS", "git lfs pull"),
    "arrays.npz": (zipped("a.npy", "b.npy"), "NumPy", "ONNX"),
    "a.zip": (zipped("m.onnx", "readme.txt"), "zip", "m.onnx"),
}


class TestForeignFiles:
    @pytest.mark.parametrize("name", FOREIGN)
    def test_they_are_named_as_what_they_are(self, tmp_path: Path, name: str) -> None:
        data, kind, way = FOREIGN[name]
        path = tmp_path / name
        path.write_bytes(data)
        for given in (path, data):
            with pytest.raises(ModelError) as caught:
                cnnengine.load(given)
            assert kind in str(caught.value)
            assert way in str(caught.value)
        with pytest.raises(ModelError, match="not an ONNX model"):
            cnnengine.load(path)

    @pytest.mark.parametrize(
        "data", [b"", b"PK\x03\x04", b"PK\x03\x04" + bytes(100), zipped("x")[:40], b"\x89HDF", b"\x80\x02", struct.pack("<Q", 9)]
    )
    def test_what_only_begins_like_one(self, data: bytes) -> None:
        with pytest.raises(ModelError, match="not an ONNX model, or a damaged one"):
            cnnengine.load(data)

    def test_real_ones(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch", reason="torch is not installed")
        torch.save({"a": torch.zeros(3)}, tmp_path / "w.pt")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "s.pt"))
        torch.save({"a": torch.zeros(3)}, tmp_path / "o.pt", _use_new_zipfile_serialization=False)
        for name, kind in (("w.pt", "PyTorch"), ("s.pt", "TorchScript"), ("o.pt", "PyTorch")):
            with pytest.raises(ModelError, match=kind):
                cnnengine.load(tmp_path / name)

    def test_the_command_says_it_in_a_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from cnnengine.cli import main

        path = tmp_path / "w.pt"
        path.write_bytes(FOREIGN["torch.pt"][0])
        assert main(["info", str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "torch.onnx.export(model, (example,), 'w.onnx')" in line
        assert main(["check", str(path), "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert "PyTorch" in found["error"]
        assert "torch.onnx.export" in found["error"] + found["hint"]
        assert "damaged" not in found["hint"]


class TestSummary:
    def test_tensors_are_named(self, model: cnnengine.Model) -> None:
        layers = summarize(model).layers
        assert layers[0].tensors == ("/Relu_output_0",)
        assert layers[-1].tensors == ("logits",)
        assert summarize(model).as_dict()["layers"][-1]["outputs"][0]["name"] == "logits"
        unknown = summarize(str(ROOT / "models" / "digits_spp.onnx"))
        assert unknown.shapes is None
        assert unknown.layers[-1].tensors == ("logits",)

    def test_every_tensor_that_is_shown_can_be_asked_for(self, model: cnnengine.Model) -> None:
        for layer in summarize(model).layers:
            with cnnengine.load(MODEL, outputs=layer.tensors) as loaded:
                assert tuple(info.name for info in loaded.outputs) == layer.tensors

    def test_info_shows_them(self, capsys: pytest.CaptureFixture[str]) -> None:
        from cnnengine.cli import main

        assert main(["info", str(MODEL)]) == 0
        out = capsys.readouterr().out
        assert "/MaxPool_output_0" in out
        assert main(["info", str(MODEL), "--json"]) == 0
        layers = json.loads(capsys.readouterr().out)["layers"]
        assert [one["outputs"][0]["name"] for one in layers][-1] == "logits"

    def test_a_shape_costs_no_memory(self, tmp_path: Path) -> None:
        """4 TB of an input are refused before they are asked for; what memory could hold is neither made nor filled."""
        path = tmp_path / "m.onnx"
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "g",
            [value("x", TensorProto.FLOAT, ["N", 1, "H", "W"])],
            [value("y", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
        with pytest.raises(cnnengine.ShapeError, match="tensor_bytes"):
            summarize(path, {"x": (1, 1, 1000000, 1000000)})
        found = summarize(path, {"x": (1, 1, 8192, 8192)})
        assert found.layers[0].outputs == (((1, 1, 8192, 8192), "float32"),)
        small, traced = summarize(path, {"x": (1, 1, 8, 8)}), []
        for size in (64, 4096):
            tracemalloc.start()
            summarize(path, {"x": (1, 1, size, size)})
            traced.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert traced[1] < 2 * traced[0] + 100_000
        assert small.layers[0].kernels == found.layers[0].kernels

    def test_shapes_that_depend_on_data_are_still_found(self, tmp_path: Path) -> None:
        path = tmp_path / "m.onnx"
        value = helper.make_tensor_value_info
        nodes = [helper.make_node("NonZero", ["x"], ["at"]), helper.make_node("Cast", ["at"], ["y"], to=TensorProto.FLOAT)]
        graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [2, 3])], [value("y", TensorProto.FLOAT, None)])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
        assert summarize(path).layers[-1].outputs == (((2, 6), "float32"),)  # of random numbers, of which none is 0

    def test_a_shape_beyond_all_memory_is_refused(self, model: cnnengine.Model) -> None:
        with pytest.raises(cnnengine.CNNEngineError):
            summarize(str(ROOT / "models" / "digits_spp.onnx"), {"image": (1, 1, 1 << 40, 1 << 40)})
        with pytest.raises(cnnengine.CNNEngineError, match=">= 0"):
            summarize(str(ROOT / "models" / "digits_spp.onnx"), {"image": (1, 1, -5, 5)})
