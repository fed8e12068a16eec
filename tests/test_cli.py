"""The command `cnnengine`: what it prints, its exit statuses, and that no error is a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import cnnengine
from cnnengine.cli import main

ROOT = Path(__file__).resolve().parent.parent
MODEL = str(ROOT / "models" / "digits_lenet.onnx")
SAMPLES = ROOT / "models" / "samples"


class Result(NamedTuple):
    status: int
    out: list[str]
    err: list[str]


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    """Run the command in this process."""

    def run(*arguments: object) -> Result:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        captured = capsys.readouterr()
        return Result(status, captured.out.splitlines(), captured.err.splitlines())

    return run


def sample(digit: int) -> str:
    return str(SAMPLES / f"{digit}.png")


def expected_probabilities() -> np.ndarray:
    logits = np.load(SAMPLES / "expected.npz")["logits"].astype(np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def save_model(path: Path, nodes: list, inputs: dict, outputs: dict, weights: dict | None = None, **metadata: str) -> Path:
    """A small model of float32 values; keyword arguments become metadata `cnnengine.<name>`."""
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in group.items()]
        for group in (inputs, outputs)
    ]
    constants = [numpy_helper.from_array(np.asarray(w, np.float32), name) for name, w in (weights or {}).items()]
    graph = helper.make_graph(nodes, "small", *values, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {f"cnnengine.{name}": text for name, text in metadata.items()})
    onnx.save(model, path)
    return path


def pooled(path: Path, channels: int = 3, **metadata: str) -> Path:
    """(N, C, H, W) -> the mean of every channel, (N, C): scores that a test can tell from the image."""
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
    return save_model(path, nodes, {"x": ["N", channels, "H", "W"]}, {"y": ["N", channels]}, **metadata)


class TestPredict:
    def test_images_one_line_each(self, cnn) -> None:
        paths = [sample(digit) for digit in range(10)]
        result = cnn("predict", MODEL, *paths)
        assert result.status == 0
        assert result.err == []
        assert len(result.out) == 10
        for digit, (line, p) in enumerate(zip(result.out, expected_probabilities(), strict=True)):
            path, *classes = line.split("\t")
            assert path == sample(digit)
            assert classes[0] == f"{digit} {p.max():.4f}"
            assert [c.split()[0] for c in classes] == [str(i) for i in np.argsort(-p)[:3]]

    def test_top(self, cnn) -> None:
        assert len(cnn("predict", MODEL, sample(3), "--top", 1).out[0].split("\t")) == 2
        assert len(cnn("predict", MODEL, sample(3), "--top", 99).out[0].split("\t")) == 11

    @pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
    def test_batch_size_changes_nothing_but_speed(self, cnn, batch_size: int) -> None:
        paths = [sample(digit) for digit in range(10)]
        assert cnn("predict", MODEL, *paths, "--batch-size", batch_size) == cnn("predict", MODEL, *paths)

    def test_json(self, cnn) -> None:
        result = cnn("predict", MODEL, sample(4), sample(5), "--json", "--top", 2)
        lines = [json.loads(line) for line in result.out]
        assert [line["input"] for line in lines] == [sample(4), sample(5)]
        logits = lines[0]["outputs"]["logits"]
        assert logits["kind"] == "probability"
        assert logits["top"][0]["index"] == 4
        assert logits["top"][0]["label"] == "4"
        assert logits["top"][0]["probability"] == pytest.approx(expected_probabilities()[4].max(), abs=1e-6)
        assert len(logits["top"]) == 2

    def test_json_of_numbers_that_json_lacks(self, cnn, tmp_path: Path) -> None:
        np.save(tmp_path / "nan.npy", np.full((1, 3, 1, 1), [[[[np.nan]], [[2]], [[np.inf]]]], np.float32))
        (line,) = cnn("predict", pooled(tmp_path / "m.onnx"), tmp_path / "nan.npy", "--json").out
        top = json.loads(line, parse_constant=pytest.fail)["outputs"]["y"]["top"]
        assert [(c["index"], c["score"]) for c in top] == [(2, None), (1, 2.0), (0, None)]

    @pytest.mark.parametrize("threads", [1, 2])
    def test_threads(self, cnn, threads: int) -> None:
        assert cnn("predict", MODEL, sample(7), "--threads", threads) == cnn("predict", MODEL, sample(7))

    def test_labels_from_a_file(self, cnn, tmp_path: Path) -> None:
        names = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun, die letzte"]
        (tmp_path / "lines.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        (tmp_path / "list.json").write_text(json.dumps(names), encoding="utf-8")
        for file in ("lines.txt", "list.json"):
            result = cnn("predict", MODEL, sample(9), sample(5), "--labels", tmp_path / file, "--top", 1)
            assert [line.split("\t")[1].rpartition(" ")[0] for line in result.out] == ["neun, die letzte", "fünf"]

    def test_labels_that_do_not_fit(self, cnn, tmp_path: Path) -> None:
        (tmp_path / "two.txt").write_text("a\nb\n")
        result = cnn("predict", MODEL, sample(9), "--labels", tmp_path / "two.txt")
        assert result.status == 2
        assert result.err == ["cnnengine: the labels do not fit the model; expected 10 labels; received 2"]

    @pytest.mark.parametrize("content", [b"\xff\xfe\xfa", b"[1, 2]", b'["a"'])
    def test_broken_labels(self, cnn, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "labels").write_bytes(content)
        result = cnn("predict", MODEL, sample(9), "--labels", tmp_path / "labels")
        assert result.status == 2
        assert len(result.err) == 1

    def test_preprocessing_options(self, cnn, tmp_path: Path) -> None:
        Image.fromarray(np.full((4, 6, 3), [50, 100, 200], np.uint8)).save(tmp_path / "flat.png")
        model = pooled(tmp_path / "m.onnx")
        for options, scores in (
            ([], [50 / 255, 100 / 255, 200 / 255]),
            (["--scale", "1"], [50, 100, 200]),
            (["--scale", "1", "--mean", "10", "--std", "2"], [20, 45, 95]),
            (["--scale", "1", "--mean", "50,100,200", "--size", "3x5"], [0, 0, 0]),
            (["--scale", "1/50", "--std=-1,-2,-4", "--size", "8"], [-1, -1, -1]),
        ):
            (line,) = cnn("predict", model, tmp_path / "flat.png", "--json", *options).out
            top = json.loads(line)["outputs"]["y"]["top"]
            assert [c["score"] for c in sorted(top, key=lambda c: c["index"])] == pytest.approx(scores, rel=1e-5, abs=1e-5)

    def test_gray_option(self, cnn, tmp_path: Path) -> None:
        Image.fromarray(np.full((4, 6, 3), 100, np.uint8)).save(tmp_path / "flat.png")
        nodes = [helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)]
        model = save_model(tmp_path / "any.onnx", nodes, {"x": ["N", "C", "H", "W"]}, {"y": []})
        assert cnn("predict", model, tmp_path / "flat.png", "--gray", "--scale", 1).out == [f"{tmp_path / 'flat.png'}\t0 100"]

    def test_metadata_of_the_model_are_used(self, cnn, tmp_path: Path) -> None:
        Image.fromarray(np.full((4, 6, 3), [10, 30, 20], np.uint8)).save(tmp_path / "flat.png")
        settings = json.dumps({"scale": 0.1, "mean": [1, 1, 1]})
        model = pooled(tmp_path / "m.onnx", labels='["r", "g", "b"]', preprocess=settings, output="logits")
        (line,) = cnn("predict", model, tmp_path / "flat.png").out
        p = np.exp([0.0, 2.0, 1.0]) / np.exp([0.0, 2.0, 1.0]).sum()
        assert line.split("\t")[1:] == [f"g {p[1]:.4f}", f"b {p[2]:.4f}", f"r {p[0]:.4f}"]

    @pytest.mark.parametrize("broken", [{"labels": "[1]"}, {"labels": "x"}, {"output": "votes"}, {"preprocess": "[]"}])
    def test_broken_metadata_are_one_line_naming_the_key(self, cnn, tmp_path: Path, broken: dict[str, str]) -> None:
        Image.new("RGB", (4, 4)).save(tmp_path / "flat.png")
        result = cnn("predict", pooled(tmp_path / "m.onnx", **broken), tmp_path / "flat.png")
        assert result.status == 2
        assert len(result.err) == 1
        assert f"cnnengine.{next(iter(broken))}" in result.err[0]

    def test_scores_stay_scores_unless_they_are_a_distribution(self, cnn, tmp_path: Path) -> None:
        model = pooled(tmp_path / "m.onnx")
        for row, options, kind, best in (
            ([1, 3, 2], [], "score", 3.0),
            ([0.25, 0.5, 0.25], [], "probability", 0.5),
            ([0, 0, np.log(2)], ["--softmax"], "probability", 0.5),
        ):
            np.save(tmp_path / "x.npy", np.reshape(np.array(row, np.float32), (3, 1, 1)))
            (line,) = cnn("predict", model, tmp_path / "x.npy", "--json", *options).out
            y = json.loads(line)["outputs"]["y"]
            assert y["kind"] == kind
            assert y["top"][0][kind] == pytest.approx(best, rel=1e-6)

    def test_arrays_are_fed_as_they_are(self, cnn, tmp_path: Path) -> None:
        stored = np.load(SAMPLES / "expected.npz")
        np.save(tmp_path / "all.npy", stored["image"])
        np.save(tmp_path / "one.npy", stored["image"][3].astype(np.float64))
        np.savez(tmp_path / "other_name.npz", whatever=stored["image"][:2])
        all_ten = cnn("predict", MODEL, tmp_path / "all.npy", "--batch-size", 4)
        assert [line.split("\t")[0] for line in all_ten.out] == [f"{tmp_path / 'all.npy'}[{i}]" for i in range(10)]
        assert [line.split("\t")[1].split()[0] for line in all_ten.out] == [str(i) for i in range(10)]
        assert [line.split("\t")[1:] for line in cnn("predict", MODEL, SAMPLES / "expected.npz").out] == [
            line.split("\t")[1:] for line in all_ten.out
        ]
        assert cnn("predict", MODEL, tmp_path / "one.npy", "--top", 1).out[0].split()[1] == "3"
        assert len(cnn("predict", MODEL, tmp_path / "other_name.npz").out) == 2

    def test_images_and_arrays_keep_their_order(self, cnn) -> None:
        result = cnn("predict", MODEL, sample(1), SAMPLES / "expected.npz", sample(2), sample(3), "--batch-size", 8)
        assert [line.split("\t")[1].split()[0] for line in result.out] == [*"1", *"0123456789", *"23"]

    def test_images_of_different_sizes(self, cnn, tmp_path: Path) -> None:
        paths = []
        for i, (width, height) in enumerate([(4, 4), (4, 4), (6, 4), (4, 4)]):
            paths.append(tmp_path / f"{i}.png")
            Image.new("RGB", (width, height), (i + 2, 0, 0)).save(paths[-1])
        result = cnn("predict", pooled(tmp_path / "m.onnx"), *paths, "--batch-size", 3, "--scale", 1, "--top", 1)
        assert result.out == [f"{path}\t0 {i + 2}" for i, path in enumerate(paths)]

    def test_a_batch_that_the_file_fixes(self, cnn, tmp_path: Path) -> None:
        shapes = {"x": [4, 3, "H", "W"]}, {"y": [4, 3]}
        nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
        model = save_model(tmp_path / "four.onnx", nodes, *shapes)
        paths = [tmp_path / f"{i}.png" for i in range(6)]
        for i, path in enumerate(paths):
            Image.new("RGB", (5, 5), (i + 2, 0, 0)).save(path)
        result = cnn("predict", model, *paths, "--scale", 1, "--top", 1)
        assert result.out == [f"{path}\t0 {i + 2}" for i, path in enumerate(paths)]
        assert cnn("predict", model, *paths, "--batch-size", 4, "--scale", 1, "--top", 1) == result
        refused = cnn("predict", model, *paths, "--batch-size", 2)
        assert (refused.status, len(refused.err)) == (2, 1)

    def test_two_inputs_and_two_outputs(self, cnn, tmp_path: Path) -> None:
        nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
        shape = ["N", 2]
        model = save_model(tmp_path / "two.onnx", nodes, {"a": shape, "b": shape}, {"sum": shape, "difference": shape})
        np.savez(tmp_path / "ab.npz", a=np.float32([[1, 2], [8, 4]]), b=np.float32([[5, 6], [7, 7]]))
        result = cnn("predict", model, tmp_path / "ab.npz", "--top", 1)
        assert result.out == [
            f"{tmp_path / 'ab.npz'}[0]\tsum: 1 8\tdifference: 0 -4",
            f"{tmp_path / 'ab.npz'}[1]\tsum: 0 15\tdifference: 0 1",
        ]
        np.savez(tmp_path / "a.npz", a=np.float32([[1, 2]]))
        missing = cnn("predict", model, tmp_path / "a.npz")
        assert missing.status == 1
        assert missing.err == [f"cnnengine: {tmp_path / 'a.npz'}: arrays are missing; expected b; received a"]
        assert cnn("predict", model, sample(1)).status == 2

    def test_maps_are_summarised(self, cnn, tmp_path: Path) -> None:
        model = save_model(
            tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": ["N", 3, 2, 2]}, {"y": ["N", 3, 2, 2]}
        )
        np.save(tmp_path / "x.npy", np.linspace(-1, 2.5, 24, dtype=np.float32).reshape(2, 3, 2, 2))
        result = cnn("predict", model, tmp_path / "x.npy")
        assert result.out[1] == f"{tmp_path / 'x.npy'}[1]\tfloat32 (3, 2, 2), 0.826087 to 2.5"
        (_, line) = cnn("predict", model, tmp_path / "x.npy", "--json").out
        assert json.loads(line)["outputs"]["y"] == {
            "kind": "array",
            "dtype": "float32",
            "shape": [3, 2, 2],
            "min": pytest.approx(0.826087),
            "max": 2.5,
        }

    def test_some_inputs_fail_and_the_others_go_on(self, cnn, tmp_path: Path) -> None:
        (tmp_path / "text.png").write_text("no image")
        np.save(tmp_path / "shape.npy", np.zeros((1, 1, 9, 9), np.float32))
        np.save(tmp_path / "rank.npy", np.zeros((5,), np.float32))
        np.save(tmp_path / "dtype.npy", np.zeros((1, 1, 32, 32), np.complex64))
        np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
        cut = tmp_path / "cut.npz"
        cut.write_bytes((SAMPLES / "expected.npz").read_bytes()[:500])
        bad = [tmp_path / name for name in ("text.png", "shape.npy", "rank.npy", "dtype.npy", "pickle.npy", "cut.npz", "no.png")]
        result = cnn("predict", MODEL, sample(1), *bad, sample(2), "--batch-size", 2)
        assert result.status == 1
        assert [line.split("\t")[0] for line in result.out] == [sample(1), sample(2)]
        assert len(result.err) == len(bad)
        for path, line in zip(bad, result.err, strict=True):
            assert line.startswith(f"cnnengine: {path}: ")

    def test_a_model_that_is_not_there(self, cnn, tmp_path: Path) -> None:
        result = cnn("predict", tmp_path / "none.onnx", sample(1))
        assert result.status == 2
        assert len(result.err) == 1
        assert "none.onnx" in result.err[0]

    @pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08" * 100])
    def test_a_model_that_is_none(self, cnn, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "m.onnx").write_bytes(content)
        result = cnn("predict", tmp_path / "m.onnx", sample(1))
        assert result.status == 2
        assert len(result.err) == 1

    def test_out_of_memory_is_one_line(self, cnn, monkeypatch: pytest.MonkeyPatch) -> None:
        def load(*arguments: object, **options: object) -> None:
            raise MemoryError

        monkeypatch.setattr(cnnengine, "load", load)
        assert cnn("predict", MODEL, sample(1)) == Result(2, [], ["cnnengine: MemoryError"])

    def test_without_pillow_the_extra_is_named(self, cnn, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PIL", "PIL.Image"):
            monkeypatch.setitem(sys.modules, name, None)
        result = cnn("predict", MODEL, sample(1))
        assert result.status == 2
        assert result.err == ["cnnengine: reading images needs Pillow: pip install 'cnnengine[image]'"]
        assert cnn("predict", MODEL, SAMPLES / "expected.npz").status == 0


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["fly"],
            ["predict"],
            ["predict", MODEL],
            ["predict", MODEL, "x.png", "--top", "0"],
            ["predict", MODEL, "x.png", "--batch-size", "-1"],
            ["predict", MODEL, "x.png", "--threads", "two"],
            ["predict", MODEL, "x.png", "--size", "3x4x5"],
            ["predict", MODEL, "x.png", "--scale", "1/0"],
            ["predict", MODEL, "x.png", "--mean", "1,,2"],
            ["predict", MODEL, "x.png", "--std", "nan"],
            ["predict", MODEL, "x.png", "--layout", "CHW"],
            ["predict", MODEL, sample(1), "--std", "0"],
            ["predict", MODEL, sample(1), "--no-gray", "--mean", "1,2"],
        ],
    )
    def test_wrong_usage_is_one_line_and_status_2(self, cnn, arguments: list[str]) -> None:
        result = cnn(*arguments)
        assert result.status == 2
        assert result.out == []
        assert len(result.err) == 1
        assert result.err[0].startswith("cnnengine: ")

    def test_help(self, cnn) -> None:
        result = cnn("predict", "--help")
        assert result.status == 0
        assert any("--batch-size" in line for line in result.out)

    def test_version(self, cnn) -> None:
        assert cnn("--version") == Result(0, [f"cnnengine {cnnengine.__version__}"], [])

    def test_info(self, cnn) -> None:
        result = cnn("info", MODEL)
        assert result.status == 0
        text = "\n".join(result.out)
        for part in ("image  float32  (N, 1, 32, 32)", "logits  float32  (N, 10)", 'cnnengine.labels: ["0"'):
            assert part in text
        assert cnn("info", "none.onnx").status == 2

    def test_config(self, cnn) -> None:
        result = cnn("config")
        assert result.status == 0
        assert result.out


class TestProcess:
    """What only shows from outside: the entry points, the streams, a reader that leaves."""

    def run(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload,no-any-return]

    def test_module_and_script_are_the_same_command(self) -> None:
        module = self.run("-m", "cnnengine", "predict", MODEL, sample(8))
        assert module.returncode == 0
        assert module.stdout.split("\t")[1].startswith("8 ")
        script = Path(sys.executable).with_name("cnnengine")
        if script.exists():
            installed = subprocess.run([script, "predict", MODEL, sample(8)], capture_output=True, text=True, timeout=120)
            assert (installed.returncode, installed.stdout) == (0, module.stdout)

    def test_statuses(self) -> None:
        assert self.run("-m", "cnnengine", "predict", MODEL, sample(8), "none.png").returncode == 1
        assert self.run("-m", "cnnengine", "predict", "none.onnx", sample(8)).returncode == 2
        assert self.run("-m", "cnnengine", "predict").returncode == 2

    @pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
    def test_a_reader_that_leaves_is_no_traceback(self) -> None:
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "cnnengine", "predict", MODEL, sample(8)]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
        os.close(write)
        assert done.stderr == ""
        assert done.returncode == 141

    def test_the_command_line_without_a_model_does_not_import_onnx(self) -> None:
        code = "import sys; from cnnengine.cli import main; main(['config']); print('onnx' in sys.modules, 'PIL' in sys.modules)"
        assert self.run("-c", code).stdout.splitlines()[-1] == "False False"
