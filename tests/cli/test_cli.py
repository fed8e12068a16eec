"""The command `cnnengine`: what it prints, its exit statuses, and that no error is a traceback."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import Result, runner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import cnnengine
from cnnengine.cli import _parser, main
from cnnengine.cli.progress import Progress, duration
from cnnengine.files import expand

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "models" / "digits_lenet.onnx")
SPP = str(ROOT / "models" / "digits_spp.onnx")
SAMPLES = ROOT / "models" / "samples"


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    """Run the command in this process; `predict` without the line that says where preparation and labels come from."""
    run = runner(capsys)
    return lambda *arguments: run(
        *arguments, *(["--quiet"] if arguments[:1] == ("predict",) and "--help" not in arguments else [])
    )


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
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
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
            (["--scale", "1/255"], [50 / 255, 100 / 255, 200 / 255]),
            (["--assume", "unit"], [50 / 255, 100 / 255, 200 / 255]),
            (["--assume", "pixels", "--order", "BGR"], [200, 100, 50]),
            (["--scale", "1"], [50, 100, 200]),
            (["--scale", "1", "--mean", "10", "--std", "2"], [20, 45, 95]),
            (["--scale", "1", "--mean", "50,100,200", "--size", "3x5"], [0, 0, 0]),
            (["--scale", "1/50", "--std=-1,-2,-4", "--size", "8"], [-1, -1, -1]),
            (
                ["--scale", "1", "--size", "8", "--fit", "letterbox", "--fill", "0,255,0"],
                [50 * 5 / 8, 100 * 5 / 8 + 255 * 3 / 8, 125],
            ),
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
        np.savez(tmp_path / "no_name.npz", stored["image"][:2])
        all_ten = cnn("predict", MODEL, tmp_path / "all.npy", "--batch-size", 4)
        assert [line.split("\t")[0] for line in all_ten.out] == [f"{tmp_path / 'all.npy'}[{i}]" for i in range(10)]
        assert [line.split("\t")[1].split()[0] for line in all_ten.out] == [str(i) for i in range(10)]
        assert [line.split("\t")[1:] for line in cnn("predict", MODEL, SAMPLES / "expected.npz").out] == [
            line.split("\t")[1:] for line in all_ten.out
        ]
        assert cnn("predict", MODEL, tmp_path / "one.npy", "--top", 1).out[0].split()[1] == "3"
        assert len(cnn("predict", MODEL, tmp_path / "no_name.npz").out) == 2

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
        assert result.err == ["cnnengine: reading images needs Pillow: pip install Pillow"]
        assert cnn("predict", MODEL, SAMPLES / "expected.npz").status == 0


class TestInputs:
    """Folders and patterns in place of files."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """two.PNG, one.png, three.npy, a text and a folder with seven.png."""
        folder = tmp_path / "in"
        (folder / "deep").mkdir(parents=True)
        for digit, name in ((2, "two.PNG"), (1, "one.png"), (7, "deep/seven.png")):
            shutil.copy(sample(digit), folder / name)
        np.save(folder / "three.npy", np.load(SAMPLES / "expected.npz")["image"][3:4])
        (folder / "notes.txt").write_text("no image")
        return folder

    def classes(self, result: Result) -> list[tuple[str, str]]:
        lines = [line.split("\t") for line in result.out]
        return [(Path(path).name, best.split()[0]) for path, best, *_ in lines]

    def test_a_folder_gives_its_images_and_arrays_by_name(self, cnn, folder: Path) -> None:
        result = cnn("predict", MODEL, folder, "--batch-size", 4)
        assert (result.status, result.err) == (0, [])
        assert self.classes(result) == [("seven.png", "7"), ("one.png", "1"), ("three.npy", "3"), ("two.PNG", "2")]

    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("*.png", ["one.png"]),
            ("*", None),
            ("**/*.png", ["seven.png", "one.png"]),
            ("t[hw]*.[nP]*", ["three.npy", "two.PNG"]),
            ("?ne.png", ["one.png"]),
        ],
    )
    def test_patterns(self, cnn, folder: Path, pattern: str, names: list[str] | None) -> None:
        result = cnn("predict", MODEL, folder / pattern)
        if names is None:  # the text too: who asks for everything gets everything
            assert result.status == 1
            assert [line.split(":")[1].strip() for line in result.err] == [str(folder / "notes.txt")]
            names = ["one.png", "three.npy", "two.PNG"]
        else:
            assert (result.status, result.err) == (0, [])
        assert [name for name, _ in self.classes(result)] == names

    def test_a_file_whose_name_looks_like_a_pattern(self, cnn, folder: Path) -> None:
        shutil.copy(sample(5), folder / "o[n]e*.png")
        assert self.classes(cnn("predict", MODEL, folder / "o[n]e*.png")) == [("o[n]e*.png", "5")]

    def test_what_stands_for_no_file_is_reported_and_the_rest_goes_on(self, cnn, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        result = cnn("predict", MODEL, sample(4), tmp_path / "empty", folder / "*.jpg", folder / "deep")
        assert result.status == 1
        assert self.classes(result) == [("4.png", "4"), ("seven.png", "7")]
        assert result.err == [
            f"cnnengine: {tmp_path / 'empty'}: no images or arrays in the folder",
            f"cnnengine: {folder / '*.jpg'}: no file matches the pattern",
        ]
        assert cnn("predict", MODEL, tmp_path / "empty").status == 1

    def test_a_bad_image_in_a_folder(self, cnn, folder: Path) -> None:
        (folder / "bad.png").write_bytes((folder / "one.png").read_bytes()[:60])
        result = cnn("predict", MODEL, folder, "--batch-size", 2)
        assert result.status == 1
        assert len(self.classes(result)) == 4
        assert len(result.err) == 1
        assert result.err[0].startswith(f"cnnengine: {folder / 'bad.png'}: ")


class TestFolders:
    """What lies below a folder."""

    def names(self, folder: Path, **options: object) -> list[str]:
        given = expand([str(folder)], **options)  # type: ignore[arg-type]
        assert all(one.error is None for one in given)
        assert all(Path(one.path).parent == folder / one.below for one in given)
        return [Path(one.path).relative_to(folder).as_posix() for one in given]

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in (
            "b.png",
            "a/2.png",
            "a/1.JPG",
            "a/deep/er/3.npy",
            "c/notes.txt",
            ".hidden/4.png",
            "a.png/5.png",
            "ab/.6.png",
        ):
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).touch()
        return tmp_path / "in"

    def test_by_name_at_every_depth(self, folder: Path) -> None:
        assert self.names(folder, deep=True) == ["a/1.JPG", "a/2.png", "a/deep/er/3.npy", "a.png/5.png", "ab/.6.png", "b.png"]
        assert self.names(folder) == ["b.png"]
        assert self.names(folder / ".hidden", deep=True) == ["4.png"]  # named itself

    def test_what_results_go_to_is_left_out(self, folder: Path) -> None:
        left = [str(folder / "a"), str(folder / "ab" / ".." / "b.png")]
        assert self.names(folder, deep=True, leave=left) == ["a.png/5.png", "ab/.6.png"]
        assert self.names(folder / "a", deep=True, leave=left) == ["1.JPG", "2.png", "deep/er/3.npy"]

    def test_links(self, folder: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "7.png").touch()
        try:
            (folder / "a" / "link").symlink_to(other)
            (folder / "a" / "up").symlink_to(folder)
            (other / "self").symlink_to(other)
        except OSError:
            pytest.skip("no links here")
        up = ["up/a.png/5.png", "up/ab/.6.png", "up/b.png"]  # all that it leads to but a, in which it lies
        assert self.names(folder / "a", deep=True) == ["1.JPG", "2.png", "deep/er/3.npy", "link/7.png", *up]

    @pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="rights of POSIX")
    def test_a_folder_that_cannot_be_read(self, cnn, folder: Path) -> None:
        (folder / "a" / "deep").chmod(0)
        found = expand([str(folder / "a")], deep=True)
        (folder / "a" / "deep").chmod(0o700)
        assert [Path(one.path).name for one in found] == ["1.JPG", "2.png", "deep"]
        assert "cannot read the folder" in str(found[2].error)


class TestLargePhotos:
    @pytest.fixture
    def photo(self, tmp_path: Path) -> Path:
        rng = np.random.default_rng(0)
        small = Image.fromarray(rng.integers(0, 255, (9, 12, 3), np.uint8))
        small.resize((1200, 900), Image.Resampling.BICUBIC).save(tmp_path / "photo.jpg", quality=92)
        return tmp_path / "photo.jpg"

    def test_exact_is_what_python_gives(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path) -> None:
        cnn = runner(capsys)
        model = pooled(tmp_path / "m.onnx", preprocess=json.dumps({"size": [48, 64], "scale": 1.0}))
        with cnnengine.load(model) as loaded:
            expected = loaded.preprocess(photo).mean((0, 2, 3))

        def scores(*options: str) -> tuple[list[float], list[str]]:
            result = cnn("predict", model, photo, "--json", *options)
            top = json.loads(result.out[0])["outputs"]["y"]["top"]
            return [c["score"] for c in sorted(top, key=lambda c: c["index"])], result.err[1:]

        exact, said = scores("--exact")
        np.testing.assert_allclose(exact, expected, rtol=1e-6)
        assert said == []
        reduced, said = scores()
        assert said == ["cnnengine: m.onnx: large JPEG files are decoded at a part of their extents; --exact: at all of them"]
        np.testing.assert_allclose(reduced, expected, atol=0.5)
        assert reduced != exact
        assert scores("--size", "480x640")[1] == []  # more than half
        assert scores("--quiet")[1] == []

    def test_what_is_drawn_on_is_whole(self, cnn, tmp_path: Path, photo: Path) -> None:
        nodes = [helper.make_node("Identity", ["x"], ["y"])]
        model = save_model(tmp_path / "m.onnx", nodes, {"x": [1, 3, 48, 64]}, {"y": [1, 3, 48, 64]})
        options = ["--scale", "1", "--task", "segment", "--draw", tmp_path / "out"]
        assert cnn("predict", model, photo, *options).status == 0
        assert Image.open(tmp_path / "out" / "photo.png").size == (1200, 900)


class TestProgress:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    @pytest.fixture
    def always(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cnnengine.cli.progress.PAUSE", 0.0)

    def test_on_a_terminal(self, always: None) -> None:
        stream = self.Terminal()
        progress = Progress(12, stream)
        progress.step(3)
        assert stream.getvalue().startswith("\r3/12 inputs, ")
        assert re.fullmatch(r"\r3/12 inputs, [\d.]+ a second, 0 s left\x1b\[K", stream.getvalue())
        progress.step()
        assert "\r4/12 inputs, " in stream.getvalue()
        progress.clear()
        assert stream.getvalue().endswith("\r\x1b[K")
        length = len(stream.getvalue())
        progress.clear()
        assert len(stream.getvalue()) == length

    @pytest.mark.parametrize(("total", "stream"), [(12, io.StringIO()), (9, Terminal())])
    def test_not_for_few_nor_for_files(self, always: None, total: int, stream: io.StringIO) -> None:
        progress = Progress(total, stream)
        progress.step(total)
        progress.clear()
        assert stream.getvalue() == ""

    def test_not_more_often_than_one_can_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = self.Terminal()
        monkeypatch.setattr("cnnengine.cli.progress.PAUSE", 3600.0)
        progress = Progress(1000, stream)
        for _ in range(1000):
            progress.step()
        assert stream.getvalue() == ""

    def test_it_comes_back_after_each_result(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = self.Terminal()
        monkeypatch.setattr("cnnengine.cli.progress.PAUSE", 0.0)
        progress = Progress(1000, stream)
        progress.step()
        monkeypatch.setattr("cnnengine.cli.progress.PAUSE", 3600.0)
        for done in range(2, 10):
            progress.clear()
            progress.step()
            assert stream.getvalue().rpartition("\r")[2].startswith(f"{done}/1000 inputs, ")
        length = len(stream.getvalue())
        progress.step()
        assert len(stream.getvalue()) == length

    def test_what_failed_and_what_was_there(self, always: None) -> None:
        stream = self.Terminal()
        progress = Progress(100, stream)
        for _ in range(40):
            progress.skip()
        progress.step(1, failed=1)
        assert "\r1/60 inputs, " in stream.getvalue()
        assert ", 1 failed\x1b[K" in stream.getvalue()
        progress.step(0, failed=1)
        assert ", 2 failed\x1b[K" in stream.getvalue()

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (3599, "60 min"), (7200, "2 h 0 min"), (90061, "25 h 1 min")],
    )
    def test_time_left(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text

    def test_results_in_a_file_leave_it_standing(self, always: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        screen = self.Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        paths = [sample(digit) for digit in range(10)]
        assert main(["predict", MODEL, *paths, "--quiet", "--out", str(tmp_path / "r.jsonl")]) == 0
        written = screen.getvalue()
        assert written.count("\r\x1b[K") == 1  # at the end
        assert written.endswith("\r\x1b[K")
        assert "\r10/10 inputs, " in written

    def test_results_and_errors_are_not_mixed_with_it(
        self, always: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        screen = self.Terminal()  # both streams on one terminal
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(sys, "stdout", screen)
        paths = [sample(digit) for digit in range(10)]
        assert main(["predict", MODEL, *paths[:5], str(tmp_path / "none.png"), *paths[5:], "--top", "1", "--quiet"]) == 1
        written = screen.getvalue()
        assert "\r10/11 inputs, " in written
        assert written.endswith("\r\x1b[K")
        # what is left on the screen: after the last carriage return of each line, erased or not
        left = [line.split("\r")[-1].removeprefix("\x1b[K") for line in written.splitlines() if line]
        lines = [line for line in written.replace("\r\x1b[K", "").split("\n") if "\t" in line]
        assert len(lines) == 10
        assert [line.split("\t")[0] for line in left if "\t" in line] == paths
        assert sum(line.startswith("cnnengine: ") for line in left) == 1


class TestInfo:
    def test_inputs_outputs_layers_and_metadata(self, cnn) -> None:
        result = cnn("info", MODEL)
        assert (result.status, result.err) == (0, [])
        text = "\n".join(result.out)
        for part in (
            "image  float32  (N, 1, 32, 32)",
            "logits  float32  (N, 10)",
            "layers at image (1, 1, 32, 32):",
            "total: 8 layers, 61,706 parameters, 416,520 MACs, ",
            "without a compiled kernel: no layer",
            'cnnengine.labels: ["0"',
        ):
            assert part in text
        (first,) = (line for line in result.out if "(1, 6, 28, 28)" in line)
        name, operator, tensor, output, parameters, macs, kernel = re.split(r"  +", first.strip())
        assert tensor == "/Relu_output_0"
        assert (operator, output, parameters, macs) == ("Conv + relu", "(1, 6, 28, 28)", "156", "117,600")
        assert "conv" in kernel
        assert name

    def test_json(self, cnn) -> None:
        (line,) = cnn("info", MODEL, "--json", "--shape", "2,1,32,32").out
        data = json.loads(line)
        assert data["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["N", 1, 32, 32]}]
        assert data["shapes"] == {"image": [2, 1, 32, 32]}
        assert data["totals"]["macs"] == 2 * 416_520
        assert data["totals"]["parameters"] == 61_706
        assert (data["totals"]["host"], data["totals"]["fallback"]) == (0, 0)
        assert data["layers"][0]["outputs"] == [{"name": "/Relu_output_0", "shape": [2, 6, 28, 28], "dtype": "float32"}]
        assert data["metadata"]["cnnengine.output"] == "logits"

    def test_memory(self, cnn, tmp_path: Path) -> None:
        data = json.loads(cnn("info", MODEL, "--json").out[0])
        assert max(step["in_use"] for step in data["memory"]["steps"]) <= data["totals"]["arena_bytes"]
        assert data["memory"]["held"][0]["tensors"] == ["/Relu_output_0"]
        assert json.loads(cnn("info", SPP, "--json").out[0])["memory"] is None
        pytest.importorskip("matplotlib")
        result = cnn("info", MODEL, "--plot", tmp_path / "memory.png")
        assert (result.status, result.err) == (0, [])
        assert result.out == cnn("info", MODEL).out
        assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")
        refused = cnn("info", SPP, "--plot", tmp_path / "spp.png")
        assert (refused.status, refused.out, len(refused.err)) == (2, [], 1)
        assert refused.err[0].startswith("cnnengine: option --plot: more than the batch is dynamic: give the shape")
        assert cnn("info", SPP, "--shape", "1,1,20,20", "--plot", tmp_path / "spp.svg").status == 0
        assert (tmp_path / "spp.svg").exists()
        assert cnn("info", MODEL, "--plot", tmp_path / "none" / "x.png").status == 2

    def test_letters_that_the_font_lacks_are_no_warning(self, cnn, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        name = "\N{CJK UNIFIED IDEOGRAPH-4E2D}"
        nodes = [helper.make_node("MaxPool", ["x"], [name], name, kernel_shape=[2, 2]), helper.make_node("Tanh", [name], ["y"])]
        model = save_model(tmp_path / "m.onnx", nodes, {"x": [1, 8, 9, 9]}, {"y": [1, 8, 8, 8]})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert cnn("info", model, "--plot", tmp_path / "m.png") == cnn("info", model)

    def test_the_graph_itself_is_left_to_netron(self, cnn) -> None:
        assert "netron.app" in " ".join(cnn("info", "--help").out)

    def test_many_runs_of_one_kernel_are_counted(self, cnn, tmp_path: Path) -> None:
        nodes = [helper.make_node("Concat", ["x"] * 5, ["y"], axis=1)]
        model = save_model(tmp_path / "m.onnx", nodes, {"x": [1, 3, 4, 4]}, {"y": [1, 15, 4, 4]})
        (layer,) = json.loads(cnn("info", model, "--json").out[0])["layers"]
        assert len(layer["kernels"]) == 5
        assert len(set(layer["kernels"])) == 1
        (line,) = (line for line in cnn("info", model).out if "Concat" in line)
        assert line.endswith(f"5 x {layer['kernels'][0]}")

    def test_a_dynamic_size(self, cnn) -> None:
        without = cnn("info", SPP)
        assert without.status == 0
        assert len(without.err) == 1
        (option,) = (word for word in without.err[0].split() if word.startswith("image="))
        assert f"--shape {option}" in without.err[0]
        assert cnn("info", SPP, "--shape", option).err == []
        assert any("SpatialPyramidPool" in line for line in without.out)
        for option in ("image=1,1,37,53", "1,1,37,53"):
            known = cnn("info", SPP, "--shape", option)
            assert (known.status, known.err) == (0, [])
            assert any("(1, 1008)" in line for line in known.out)
        assert json.loads(cnn("info", SPP, "--json").out[0])["shapes"] is None

    def test_layers_without_a_kernel_are_named(self, cnn, tmp_path: Path) -> None:
        nodes = [helper.make_node("Binarizer", ["x"], ["y"], name="steps", domain="ai.onnx.ml")]
        model = save_model(tmp_path / "m.onnx", nodes, {"x": [2, 3, 3]}, {"y": [2, 3, 3]})
        result = cnn("info", model)
        assert "without a compiled kernel: steps (Binarizer, fallback)" in result.out
        assert json.loads(cnn("info", model, "--json").out[0])["totals"]["fallback"] == 1


class TestProfile:
    @pytest.fixture(autouse=True)
    def signs(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What says that the machine is disturbed, in place of what does at this moment."""
        found: list[str] = []
        importlib.import_module("cnnengine.report.profile")
        monkeypatch.setattr(sys.modules["cnnengine.report.profile"], "disturbances", lambda *figures: tuple(found))
        return found

    def test_a_disturbed_machine_is_told(self, cnn, signs: list[str]) -> None:
        signs += ["whole runs are unsteady", "the peak fell"]
        out = cnn("profile", MODEL, "--seconds", 0, "--threads", 1).out
        assert out[-2].startswith("disturbed: whole runs are unsteady; the peak fell: measure again")
        (line,) = cnn("profile", MODEL, "--seconds", 0, "--json").out
        assert json.loads(line)["disturbed"] == signs

    def test_a_line_per_step(self, cnn) -> None:
        result = cnn("profile", MODEL, "--seconds", 0, "--threads", 1)
        assert (result.status, result.err) == (0, [])
        assert result.out[0].startswith("digits_lenet.onnx at image (1, 1, 32, 32): ")
        assert "GFLOP/s of multiply-adds" in result.out[1]
        assert result.out[2].split()[:3] == ["layer", "operator", "kernel"]
        steps = result.out[3:-2]
        assert sum(" Conv " in line and " conv " in line for line in steps) == 3
        assert result.out[-2].startswith("whole run: min ")
        assert result.out[-1].endswith(" of the roofline")

    def test_order_and_number_of_lines(self, cnn) -> None:
        result = cnn("profile", MODEL, "--seconds", 0, "--sort", "time", "--top", 4)
        shares = [float(re.search(r"([\d.]+)%", line)[1]) for line in result.out[3:-2]]  # type: ignore[index]
        assert len(shares) == 4
        assert shares == sorted(shares, reverse=True)

    def test_json(self, cnn) -> None:
        (line,) = cnn("profile", SPP, "--shape", "1,1,9,9", "--seconds", 0, "--json").out
        data = json.loads(line, parse_constant=pytest.fail)
        assert data["shapes"] == {"image": [1, 1, 9, 9]}
        assert "SpatialPyramidPool" in [step["operator"] for step in data["steps"]]
        assert all(step["seconds_min"] > 0 for step in data["steps"])

    def test_plot(self, cnn, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        result = cnn("profile", MODEL, "--seconds", 0, "--plot", tmp_path / "roofline.png")
        assert (result.status, result.err) == (0, [])
        assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")
        refused = cnn("profile", MODEL, "--seconds", 0, "--plot", tmp_path / "none" / "roofline.png")
        assert (refused.status, len(refused.err)) == (2, 1)

    def test_files_for_other_programs(self, cnn, tmp_path: Path) -> None:
        trace, nodes = tmp_path / "t.json", tmp_path / "times \N{CJK UNIFIED IDEOGRAPH-4E2D}.JSON"
        trace.write_text("what was there before is written over" * 9999)
        words = ("profile", MODEL, "--seconds", 0, "--trace", trace, "--node-data", nodes, "--json")
        result = cnn(*words)
        assert (result.status, result.err) == (0, [])
        steps = json.loads(result.out[0])["steps"]
        events = json.loads(trace.read_bytes())["traceEvents"]
        assert [e["name"] for e in events if e["ph"] == "X" and e["tid"] == 1] == [step["node"] for step in steps]
        assert json.loads(nodes.read_bytes())["results"].keys() == {step["node"] for step in steps}

    @pytest.mark.parametrize("option", ["--trace", "--node-data"])
    def test_files_that_are_refused_before_anything_is_measured(
        self, cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
    ) -> None:
        def measured(*given: object) -> None:
            pytest.fail("measured all the same")

        monkeypatch.setattr(sys.modules["cnnengine.report.profile"], "_profile", measured)
        model = tmp_path / "model.json"
        model.write_bytes(Path(MODEL).read_bytes())
        for path, said in (
            (tmp_path / "x.txt", f"option {option}: unknown kind of file"),
            (tmp_path / "none" / "x.json", "there is no such folder"),
            (tmp_path / "." / "model.json", f"option {option}: is the model itself"),
        ):
            result = cnn("profile", model, "--seconds", 0, option, path)
            assert (result.status, result.out, len(result.err)) == (2, [], 1)
            assert said in result.err[0]
        assert model.read_bytes() == Path(MODEL).read_bytes()
        both = cnn("profile", model, "--trace", tmp_path / "a.json", "--node-data", tmp_path / "." / "a.json")
        assert (both.status, len(both.err)) == (2, 1)
        assert "two results cannot be in one file" in both.err[0]
        assert not (tmp_path / "a.json").exists()

    def test_a_folder_in_the_place_of_a_file(self, cnn, tmp_path: Path) -> None:
        (tmp_path / "x.json").mkdir()
        result = cnn("profile", MODEL, "--seconds", 0, "--trace", tmp_path / "x.json")
        assert (result.status, len(result.err)) == (2, 1)
        assert "x.json" in result.err[0]

    @pytest.mark.parametrize("command", ["profile", "bench", "info"])
    def test_without_matplotlib_the_extra_is_named(self, cnn, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        result = cnn(command, MODEL, "--plot", "roofline.png")
        assert result == Result(2, [], ["cnnengine: plots need matplotlib: pip install matplotlib"])


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
            ["predict", MODEL, sample(1), "--crop-pct", "2"],
            ["predict", MODEL, sample(1), "--fit", "squash"],
            ["predict", MODEL, sample(1), "--fit", "shorter"],
            ["predict", MODEL, sample(1), "--resize", "3x4x5"],
            ["predict", MODEL, sample(1), "--fill", "300"],
            ["predict", MODEL, sample(1), "--assume", "imagnet"],
            ["predict", MODEL, sample(1), "--labels", "imagnet"],
            ["annotate", MODEL],
            ["annotate", "none.onnx", "-o", "x.onnx"],
            ["annotate", MODEL, "-o", "none/x.onnx"],
            ["annotate", MODEL, "-o", "x.onnx", "--from", "none"],
            ["annotate", MODEL, "-o", "x.onnx", "--task", "dream"],
            ["predict", MODEL, sample(1), "--no-gray", "--mean", "1,2"],
            ["info"],
            ["info", "none.onnx"],
            ["info", MODEL, "--shape", "image=1,one,32,32"],
            ["info", MODEL, "--shape", "image=1,-1,32,32"],
            ["info", MODEL, "--shape", "picture=1,1,32,32"],
            ["info", MODEL, "--shape", "image=1,1,31,32"],
            ["info", MODEL, "--shape", "image=1,1,32,32", "--shape", "1,1,32,32"],
            ["profile"],
            ["profile", "none.onnx"],
            ["profile", SPP],
            ["profile", MODEL, "--seconds", "-1"],
            ["profile", MODEL, "--seconds", "inf"],
            ["profile", MODEL, "--threads", "0"],
            ["profile", MODEL, "--sort", "name"],
            ["profile", MODEL, "--top", "0"],
            ["profile", MODEL, "--plot", "roofline.txt"],
            ["bench"],
            ["bench", "none.onnx", "--against", "cnnengine", "--json"],
            ["bench", MODEL, "--against", "tensorrt"],
            ["bench", MODEL, "--threads", "0"],
            ["bench", MODEL, "--batch", "0"],
            ["bench", MODEL, "--rounds", "0"],
            ["bench", MODEL, "--seconds", "-1"],
            ["bench", MODEL, "--fail-below", "much"],
            ["bench", MODEL, "--plot", "bench.txt"],
            ["bench", MODEL, "--peer-python", "/nowhere/python"],
            ["bench", MODEL, "--shape", "1,1,32,32", "--shape", "1,1,32,32"],
        ],
    )
    def test_wrong_usage_is_one_line_and_status_2(self, cnn, arguments: list[str]) -> None:
        result = cnn(*arguments)
        assert result.status == 2
        assert result.out == []
        assert len(result.err) == 1
        assert result.err[0].startswith("cnnengine: ")

    @pytest.mark.parametrize("command", ["predict", "info", "annotate", "profile", "check", "quantize", "bench"])
    def test_every_argument_is_in_the_help_with_an_example(self, cnn, command: str) -> None:
        (commands,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
        shown = " ".join(" ".join(cnn(command, "--help").out).split())
        for action in commands.choices[command]._actions:
            if action.dest == "help":
                continue
            assert "example: " in (action.help or ""), action.dest
            assert all(name in shown for name in action.option_strings or [action.metavar])
        assert "examples: cnnengine" in shown

    def test_version(self, cnn) -> None:
        assert cnn("--version") == Result(0, [f"cnnengine {cnnengine.__version__}"], [])

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

    @pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
    def test_progress_on_a_real_terminal_leaves_the_results_alone(self) -> None:
        terminal, stderr = os.openpty()
        code = "import sys; from cnnengine.cli import main, progress; progress.PAUSE = 0; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "predict", MODEL, str(SAMPLES), "--top", "1"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=120, check=False)
        os.close(stderr)
        shown = ""
        with contextlib.suppress(OSError):  # a terminal gives what it holds in pieces, then fails: nobody has its other end
            while piece := os.read(terminal, 1 << 16).decode():
                shown += piece
        os.close(terminal)
        assert "\r10/13 inputs, " in shown  # ten images, three arrays
        assert "\r" not in done.stdout
        assert sum(line.startswith(str(SAMPLES)) for line in done.stdout.splitlines()) >= 20

    @pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
    def test_a_reader_that_leaves_is_no_traceback(self) -> None:
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "cnnengine", "predict", MODEL, sample(8), "--quiet"]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
        os.close(write)
        assert done.stderr == ""
        assert done.returncode == 141

    def test_the_command_line_without_a_model_does_not_import_onnx(self) -> None:
        code = "import sys; from cnnengine.cli import main; main(['config']); print('onnx' in sys.modules, 'PIL' in sys.modules)"
        assert self.run("-c", code).stdout.splitlines()[-1] == "False False"
