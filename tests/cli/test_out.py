"""`predict --out`: every kind of file, gone on with, cut off, of other columns; names that break lines; what is never lost."""

from __future__ import annotations

import ast
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import runner
from PIL import Image
from tasks.networks import constant, enlarging
from tasks.planted import forward

from cnnengine.cli import predict
from cnnengine.cli._common import shown
from cnnengine.cli.out import Mode, opened
from cnnengine.cli.reading import Ahead
from cnnengine.cli.results import ascii_of

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "models" / "digits_lenet.onnx")
SAMPLES = ROOT / "models" / "samples"
UNIT = ("--scale", "1/255")
ODD = [
    "tab\there.png",
    "new\nline.png",
    'quote".png',
    "'quoted'.png",
    "comma,.png",
    "cr\r.png",
    "\N{SNOWMAN}\N{PILE OF POO}.png",
    "\N{NO-BREAK SPACE}.png",
]
ENDS = ["jsonl", "csv", "npz", "parquet"]


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    return runner(capsys)


def digits(folder: Path, names: list[str]) -> list[str]:
    """Copies of the digits 0, 1, 2 ... under these names."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [os.path.join(folder, name) for name in names]
    for digit, path in enumerate(paths):
        with open(path, "wb") as file:
            file.write((SAMPLES / f"{digit % 10}.png").read_bytes())
    return paths


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def names_of(path: Path) -> list[str]:
    """The samples that a file of results holds, in its order."""
    if path.suffix == ".jsonl":
        return [json.loads(line)["input"] for line in path.read_bytes().splitlines()]
    if path.suffix == ".csv":
        return list(dict.fromkeys(row["input"] for row in rows(path)))
    if path.suffix == ".npz":
        with np.load(path) as whole:
            return [str(name) for name in whole["input"]]
    parquet = pytest.importorskip("pyarrow.parquet")
    found = list(dict.fromkeys(parquet.read_table(path).column("input").to_pylist()))
    return [ast.literal_eval(name) if name.startswith("'") and "\\udc" in name else name for name in found]


KILLED = """
import os, signal
from cnnengine.cli import main, predict
from cnnengine.cli.out.base import Saving

write, count = predict._Job._write, [0]

def killed(job, *arguments):
    count[0] += 1
    if count[0] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    write(job, *arguments)

predict._Job._write = killed
Saving.SECONDS = Saving.SHARE = 0.0
main(["predict", {!r}, {!r}, "--out", {!r}])
"""


@pytest.fixture(params=ENDS)
def end(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return str(request.param)


class TestEveryKind:
    def test_all_samples_in_order_and_nothing_printed(self, cnn, tmp_path: Path, end: str) -> None:
        paths = digits(tmp_path / "in", [f"{i}.png" for i in range(7)])
        target = tmp_path / f"r.{end}"
        result = cnn("predict", MODEL, tmp_path / "in", "--out", target, "--batch-size", 3)
        assert (result.status, result.out) == (0, [])
        assert result.err[-1] == f"cnnengine: {target}: 7 written"
        assert names_of(target) == paths
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in", target.name]

    def test_it_is_not_written_over(self, cnn, tmp_path: Path, end: str) -> None:
        target = tmp_path / f"r.{end}"
        target.write_bytes(b"mine")
        result = cnn("predict", MODEL, SAMPLES / "1.png", "--out", target)
        assert (result.status, len(result.err)) == (2, 1)
        assert "is there already; expected --resume or --append" in result.err[0]
        target.write_bytes(b"mine\n" * 9)  # whole lines that are no results
        for option in ("--resume", "--append"):
            result = cnn("predict", MODEL, SAMPLES / "1.png", "--out", target, option)
            assert (result.status, len(result.err)) == (2, 1)
            assert "holds other than results of predict" in result.err[0]
            assert target.read_bytes() == b"mine\n" * 9

    def test_resume_runs_what_is_missing_alone(self, cnn, tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = digits(tmp_path / "in", [f"{i}.png" for i in range(6)])
        (tmp_path / "in" / "3.png").write_bytes(b"broken")
        target = tmp_path / f"r.{end}"
        result = cnn("predict", MODEL, tmp_path / "in", "--out", target, "--batch-size", 4)
        assert (result.status, result.err[-1]) == (1, f"cnnengine: {target}: 5 written, 1 failed")
        digits(tmp_path / "in", [f"{i}.png" for i in range(8)])
        read: list[str] = []
        whole = predict._Job._read
        monkeypatch.setattr(predict._Job, "_read", lambda job, one: read.append(one.path) or whole(job, one))
        result = cnn("predict", MODEL, tmp_path / "in", "--out", target, "--resume")
        assert (result.status, result.err[-1]) == (0, f"cnnengine: {target}: 3 written, 5 there already")
        missing = [paths[3], *(str(tmp_path / "in" / f"{i}.png") for i in (6, 7))]
        assert sorted(read) == missing
        assert names_of(target) == [p for p in paths if p != paths[3]] + missing
        before = target.read_bytes()
        assert cnn("predict", MODEL, tmp_path / "in", "--out", target, "--resume").status == 0
        assert target.read_bytes() == before

    def test_append_adds_all(self, cnn, tmp_path: Path, end: str) -> None:
        target = tmp_path / f"r.{end}"
        for _ in range(2):
            assert cnn("predict", MODEL, SAMPLES / "1.png", SAMPLES / "2.png", "--out", target, "--append").status == 0
        if end == "jsonl" or end == "npz":
            assert names_of(target) == [str(SAMPLES / f"{i}.png") for i in (1, 2)] * 2
        elif end == "csv":
            assert len(rows(target)) == 12
        else:
            assert pytest.importorskip("pyarrow.parquet").read_table(target).num_rows == 12

    @pytest.mark.skipif(os.name != "posix", reason="names of POSIX")
    def test_names_survive(self, cnn, tmp_path: Path, end: str) -> None:
        odd = [*ODD, os.fsdecode(b"caf\xe9.png")]
        digits(tmp_path / "in", odd)
        target = tmp_path / f"r.{end}"
        assert cnn("predict", MODEL, tmp_path / "in", "--out", target, "--quiet") == (0, [], [])
        assert names_of(target) == sorted(os.path.join(tmp_path / "in", name) for name in odd)
        assert all(os.path.exists(name) for name in names_of(target))
        result = cnn("predict", MODEL, tmp_path / "in", "--out", target, "--resume")
        assert result.err[-1].endswith(f": 0 written, {len(odd)} there already")

    def test_samples_of_an_array(self, cnn, tmp_path: Path, end: str) -> None:
        np.save(tmp_path / "x.npy", np.load(SAMPLES / "expected.npz")["image"][:3])
        target = tmp_path / f"r.{end}"
        for options in ([], ["--resume"]):
            assert cnn("predict", MODEL, tmp_path / "x.npy", "--out", target, *options).status == 0
            assert names_of(target) == [f"{tmp_path / 'x.npy'}[{i}]" for i in range(3)]

    def test_the_folder_of_the_results_may_be_that_of_the_inputs(self, cnn, tmp_path: Path, end: str) -> None:
        digits(tmp_path, ["1.png", "2.png"])
        target = tmp_path / f"r.{end}"
        for options in ([], ["--resume"]):
            assert cnn("predict", MODEL, tmp_path, "--out", target, *options).status == 0
            assert [Path(n).name for n in names_of(target)] == ["1.png", "2.png"]

    def test_an_interrupt_keeps_what_is_done(self, cnn, tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = digits(tmp_path / "in", [f"{i}.png" for i in range(6)])
        target = tmp_path / f"r.{end}"
        write, count = predict._Job._write, [0]

        def interrupted(job: predict._Job, *arguments: object) -> None:
            count[0] += 1
            if count[0] == 4:
                raise KeyboardInterrupt
            write(job, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(predict._Job, "_write", interrupted)
        assert cnn("predict", MODEL, tmp_path / "in", "--out", target).status == 130
        assert names_of(target) == paths[:3]
        monkeypatch.setattr(predict._Job, "_write", write)
        assert cnn("predict", MODEL, tmp_path / "in", "--out", target, "--resume").status == 0
        assert names_of(target) == paths

    def test_a_killed_process_loses_what_came_since_it_last_wrote(self, cnn, tmp_path: Path, end: str) -> None:
        paths, target = digits(tmp_path / "in", [f"{i}.png" for i in range(6)]), tmp_path / f"r.{end}"
        program = KILLED.format(MODEL, str(tmp_path / "in"), str(target))
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == -9, done.stderr
        assert names_of(target) == paths[:4]
        assert cnn("predict", MODEL, tmp_path / "in", "--out", target, "--resume").status == 0
        assert names_of(target) == paths
        assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [target.name]

    def test_nothing_to_write_leaves_no_file(self, cnn, tmp_path: Path, end: str) -> None:
        (tmp_path / "bad.png").write_bytes(b"")
        result = cnn("predict", MODEL, tmp_path / "bad.png", "--out", tmp_path / f"r.{end}")
        assert (result.status, result.err[-1]) == (1, f"cnnengine: {tmp_path / f'r.{end}'}: 0 written, 1 failed")
        assert [p.name for p in tmp_path.iterdir()] == ["bad.png"]

    def test_a_folder_that_is_not_there(self, cnn, tmp_path: Path, end: str) -> None:
        result = cnn("predict", MODEL, SAMPLES / "1.png", "--out", tmp_path / "none" / f"r.{end}", "--quiet")
        assert (result.status, len(result.err)) == (2, 1)
        assert "cannot be written" in result.err[0]


class TestCutOff:
    """Files that end within a line, as after a power failure."""

    def made(self, cnn, tmp_path: Path, end: str) -> tuple[list[str], Path]:
        paths = digits(tmp_path / "in", ["a.png", "new\nline.png", "c.png"])
        target = tmp_path / f"r.{end}"
        assert cnn("predict", MODEL, *paths, "--out", target).status == 0
        return paths, target

    @pytest.mark.parametrize("end", ["jsonl", "csv"])
    def test_resume_restores_the_whole(self, cnn, tmp_path: Path, end: str) -> None:
        paths, target = self.made(cnn, tmp_path, end)
        whole = target.read_bytes()
        for size in range(0, len(whole), 7):
            target.write_bytes(whole[:size])
            assert cnn("predict", MODEL, *paths, "--out", target, "--resume").status == 0
            assert names_of(target) == paths
            lost = end == "csv" and whole[:size].endswith(b"\n")  # a sample that lost whole rows looks like one with fewer
            if not lost:
                assert target.read_bytes() == whole, size

    @pytest.mark.parametrize("end", ["jsonl", "csv"])
    def test_append_drops_the_cut_line_alone(self, cnn, tmp_path: Path, end: str) -> None:
        paths, target = self.made(cnn, tmp_path, end)
        whole = target.read_bytes()
        target.write_bytes(whole[:-5])
        assert cnn("predict", MODEL, paths[0], "--out", target, "--append").status == 0
        kept = whole[: whole[:-5].rindex(b"\n") + 1]
        assert target.read_bytes().startswith(kept + (b'{"input"' if end == "jsonl" else paths[0].encode()))

    @pytest.mark.parametrize(
        ("end", "text"),
        [
            ("jsonl", "[]\n"),
            ("jsonl", '{"input": 3}\n'),
            ("jsonl", '{"output": "a"}\n'),
            ("csv", "path,output,kind\n"),
            ("csv", "input,output,kind\na,b\n"),
        ],
    )
    def test_what_is_no_result(self, cnn, tmp_path: Path, end: str, text: str) -> None:
        target = tmp_path / f"r.{end}"
        target.write_text(text)
        result = cnn("predict", MODEL, SAMPLES / "1.png", "--out", target, "--resume")
        assert (result.status, len(result.err)) == (2, 1)
        assert "holds other than results of predict" in result.err[0]
        assert target.read_text() == text

    def test_a_full_disk_leaves_whole_lines(self, cnn, tmp_path: Path) -> None:
        resource = pytest.importorskip("resource")
        signal = pytest.importorskip("signal")
        paths, target = self.made(cnn, tmp_path, "csv")
        whole = target.read_bytes()
        before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 40, before[1]))
            result = cnn("predict", MODEL, *paths, "--out", target, "--append", "--quiet")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert result.status == 2
        assert str(target) in result.err[-1]
        assert target.read_bytes() == whole


class TestTables:
    def boxes(self, path: Path) -> Path:
        y = np.zeros((1, 300, 6))
        y[0, :2, :4] = forward(np.array([[10.0, 20, 40, 60], [41, 70, 75, 110]]), (120, 80), "stretch", (64, 96))
        y[0, :2, 4:] = [[0.9, 1], [0.5, 0]]
        return constant(path, {"y": y}, cnnengine__labels='["cat, black", "dog"]')

    @pytest.fixture
    def photo(self, tmp_path: Path) -> Path:
        Image.fromarray(np.random.default_rng(0).integers(0, 200, (120, 80, 3), np.uint8)).save(tmp_path / "a.png")
        return tmp_path / "a.png"

    def test_a_row_for_each_class(self, cnn, tmp_path: Path) -> None:
        cnn("predict", MODEL, SAMPLES / "4.png", "--out", tmp_path / "r.csv", "--top", 2)
        (line,) = cnn("predict", MODEL, SAMPLES / "4.png", "--top", 2, "--json").out
        top = json.loads(line)["outputs"]["logits"]["top"]
        assert rows(tmp_path / "r.csv") == [
            {
                "input": str(SAMPLES / "4.png"),
                "output": "logits",
                "kind": "probability",
                "rank": str(i + 1),
                "index": str(one["index"]),
                "label": one["label"],
                "score": repr(one["probability"]),
            }
            for i, one in enumerate(top)
        ]

    def test_a_row_for_each_box_and_one_for_none(self, cnn, tmp_path: Path, photo: Path) -> None:
        model = self.boxes(tmp_path / "m.onnx")
        assert cnn("predict", model, photo, *UNIT, "--out", tmp_path / "r.csv").status == 0
        first, second = rows(tmp_path / "r.csv")
        assert [first[k] for k in ("rank", "label", "left", "top", "right", "bottom")] == [
            "1",
            "dog",
            "10.0",
            "20.0",
            "40.0",
            "60.0",
        ]
        assert [second[k] for k in ("rank", "label", "score", "width", "height")] == ["2", "cat, black", "0.5", "80", "120"]
        none = ("--threshold", "0.95", "--out", tmp_path / "none.csv")
        assert cnn("predict", model, photo, *UNIT, *none).status == 0
        (row,) = rows(tmp_path / "none.csv")
        assert (list(row), row["kind"], row["index"]) == (list(first), "detections", "")
        assert cnn("predict", model, photo, *UNIT, *none, "--resume").err[-1].endswith(": 0 written, 1 there already")

    def test_a_vector_is_a_column_for_each_element(self, cnn, tmp_path: Path, photo: Path) -> None:
        model = constant(tmp_path / "m.onnx", {"y": np.array([[3.0, 4.0]])})
        assert cnn("predict", model, photo, *UNIT, "--task", "embed", "--out", tmp_path / "r.csv").status == 0
        assert rows(tmp_path / "r.csv") == [
            {"input": str(photo), "output": "y", "kind": "embedding", "norm": "5.0", "v0": "3.0", "v1": "4.0"}
        ]

    def test_parquet_has_types(self, cnn, tmp_path: Path, photo: Path) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        assert cnn("predict", self.boxes(tmp_path / "m.onnx"), photo, *UNIT, "--out", tmp_path / "r.parquet").status == 0
        table = parquet.read_table(tmp_path / "r.parquet")
        assert table.column("left").to_pylist() == [10.0, 41.0]
        assert table.column("rank").to_pylist() == [1, 2]
        assert table.column("points").to_pylist() == [None, None]
        model = constant(tmp_path / "e.onnx", {"y": np.array([[3.0, 4.0]])})
        assert cnn("predict", model, photo, *UNIT, "--task", "embed", "--out", tmp_path / "e.parquet").status == 0
        assert parquet.read_table(tmp_path / "e.parquet").column("vector").to_pylist() == [[3.0, 4.0]]

    def test_without_pyarrow_it_is_named(self, cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        result = cnn("predict", MODEL, SAMPLES / "1.png", "--out", tmp_path / "r.parquet")
        assert (result.status, result.err) == (2, ["cnnengine: writing .parquet needs pyarrow: pip install pyarrow"])

    @pytest.mark.parametrize("end", ["csv", "parquet"])
    def test_other_columns_are_not_mixed(self, cnn, tmp_path: Path, photo: Path, end: str) -> None:
        if end == "parquet":
            pytest.importorskip("pyarrow")
        target = tmp_path / f"r.{end}"
        assert cnn("predict", MODEL, SAMPLES / "1.png", "--out", target).status == 0
        before = target.read_bytes()
        result = cnn("predict", self.boxes(tmp_path / "m.onnx"), photo, *UNIT, "--out", target, "--append")
        assert result.status == 2
        assert "has other columns" in result.err[-1]
        assert target.read_bytes() == before


class TestArrays:
    def test_the_outputs_themselves(self, cnn, tmp_path: Path) -> None:
        target = tmp_path / "r.npz"
        for options in ((), ("--append",)):
            assert cnn("predict", MODEL, *(SAMPLES / f"{i}.png" for i in range(10)), "--out", target, *options).status == 0
        with np.load(target) as whole, np.load(SAMPLES / "expected.npz") as expected:
            assert sorted(whole.files) == ["input", "logits"]
            np.testing.assert_allclose(whole["logits"], np.concatenate([expected["logits"]] * 2), rtol=1e-4, atol=1e-4)
            assert whole["logits"].dtype == np.float32

    def test_shapes_that_differ_are_a_failure_of_one_sample(self, cnn, tmp_path: Path) -> None:
        model = enlarging(tmp_path / "m.onnx")
        for name, size in (("a", (6, 5)), ("b", (7, 5)), ("c", (6, 5))):
            Image.new("RGB", size, (50, 0, 0)).save(tmp_path / f"{name}.png")
        target = tmp_path / "r.npz"
        result = cnn("predict", model, *(tmp_path / f"{n}.png" for n in "abc"), "--out", target, *UNIT)
        assert (result.status, result.err[-1]) == (1, f"cnnengine: {target}: 2 written, 1 failed")
        assert "is of another shape or dtype than the samples before it" in result.err[-2]
        assert [Path(name).name for name in names_of(target)] == ["a.png", "c.png"]
        with np.load(target) as whole:
            assert whole["y"].shape == (2, 3, 10, 12)

    def test_other_outputs_are_not_mixed(self, cnn, tmp_path: Path) -> None:
        target = tmp_path / "r.npz"
        Image.new("RGB", (6, 5), (50, 0, 0)).save(tmp_path / "a.png")
        assert cnn("predict", MODEL, SAMPLES / "1.png", "--out", target).status == 0
        before = target.read_bytes()
        model = enlarging(tmp_path / "m.onnx")
        result = cnn("predict", model, tmp_path / "a.png", "--out", target, *UNIT, "--append")
        assert result.status == 2
        assert "holds other outputs; expected y; received logits" in result.err[-1]
        assert target.read_bytes() == before

    def test_an_output_called_as_the_names_are(self, cnn, tmp_path: Path) -> None:
        model = constant(tmp_path / "m.onnx", {"input": np.array([[3.0, 4.0]])})
        Image.new("RGB", (6, 5)).save(tmp_path / "a.png")
        result = cnn("predict", model, tmp_path / "a.png", *UNIT, "--out", tmp_path / "r.npz")
        assert result.status == 2
        assert "an output has the name" in result.err[-1]
        assert not (tmp_path / "r.npz").exists()


class TestFolder:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        """cat/1.png and dog/1.png, the second brighter, and 1.bmp beside the folders."""
        for level, name in ((10, "cat/1.png"), (200, "dog/1.png"), (99, "1.bmp"), (50, "1.png")):
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 3), (level, 0, 0)).save(tmp_path / "in" / name)
        return tmp_path / "in"

    def levels(self, folder: Path) -> dict[str, int]:
        found = sorted(folder.rglob("*"))
        return {p.relative_to(folder).as_posix(): int(np.asarray(Image.open(p))[0, 0, 0]) for p in found if p.is_file()}

    def test_pictures_lie_as_the_inputs_do(self, cnn, tmp_path: Path, photos: Path) -> None:
        model = enlarging(tmp_path / "m.onnx")
        out = tmp_path / "out"
        result = cnn("predict", model, photos, *UNIT, "--out", out)
        assert (result.status, result.out, result.err[-1]) == (0, [], f"cnnengine: {out}: 4 written")
        expected = {"1.png": 99, "1.2.png": 50, "cat/1.png": 10, "dog/1.png": 200}
        assert self.levels(out) == expected
        assert np.asarray(Image.open(out / "cat" / "1.png")).shape == (6, 8, 3)
        result = cnn("predict", model, photos, *UNIT, "--out", out)
        assert (result.status, len(result.err)) == (2, 1)
        assert "holds files already" in result.err[0]
        (out / "1.2.png").unlink()
        (out / "dog" / "1.png").unlink()
        result = cnn("predict", model, photos, *UNIT, "--out", out, "--resume")
        assert result.err[-1] == f"cnnengine: {out}: 2 written, 2 there already"
        assert self.levels(out) == expected
        assert cnn("predict", model, photos / "cat" / "1.png", photos / "1.png", *UNIT, "--out", out, "--append").status == 0
        assert self.levels(out) == {**expected, "1.3.png": 10, "1.4.png": 50}

    def test_no_input_is_written_over(self, cnn, tmp_path: Path, photos: Path) -> None:
        before = self.levels(photos)
        model = enlarging(tmp_path / "m.onnx")
        for option in ("--draw", "--out"):
            result = cnn("predict", model, photos, *UNIT, option, photos, *(["--append"] if option == "--out" else []))
            assert "would be written over" in " ".join(result.err)
            after = self.levels(photos)
            assert {name: after[name] for name in before} == before

    def test_class_maps(self, cnn, tmp_path: Path, photos: Path) -> None:
        scores = np.zeros((1, 3, 64, 96))
        scores[0, 2, :, 48:] = 1
        model = constant(tmp_path / "m.onnx", {"y": scores})
        assert cnn("predict", model, photos / "1.png", *UNIT, "--task", "segment", "--out", tmp_path / "out").status == 0
        image = Image.open(tmp_path / "out" / "1.png")
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), np.repeat([[0, 0, 2, 2]], 3, 0))
        assert image.convert("RGB").getpixel((0, 0)) == (0, 0, 0)

    def test_classes_are_no_pictures(self, cnn, tmp_path: Path) -> None:
        result = cnn("predict", MODEL, SAMPLES / "1.png", SAMPLES / "2.png", "--out", tmp_path / "out")
        assert (result.status, len(result.err)) == (2, 2)
        assert "the results are no pictures" in result.err[-1]


class TestAhead:
    @pytest.mark.parametrize("readers", [0, 1, 3])
    def test_order_and_how_many_are_held(self, readers: int) -> None:
        read: list[int] = []
        given: list[int] = []

        def items():
            for i in range(100):
                given.append(i)
                yield i

        ahead = Ahead(items(), lambda i: read.append(i) or 10 * i, readers, 5)
        taken = []
        for i, value in ahead:
            taken.append((i, value()))
            assert len(given) - len(taken) <= 5
        assert taken == [(i, 10 * i) for i in range(100)]
        assert sorted(read) == list(range(100))
        ahead.close()

    def test_what_reading_raises_comes_with_its_item(self) -> None:
        ahead = Ahead(range(4), lambda i: 1 // (i - 2), 2, 2)
        found = []
        for i, value in ahead:
            try:
                value()
                found.append(i)
            except ZeroDivisionError:
                found.append(-i)
        assert found == [0, 1, -2, 3]
        ahead.close()

    @pytest.mark.parametrize("readers", [0, 1, 4])
    @pytest.mark.parametrize("batch_size", [1, 3])
    def test_results_do_not_depend_on_readers(self, cnn, readers: int, batch_size: int) -> None:
        alone = cnn("predict", MODEL, SAMPLES, "--readers", 0)
        assert cnn("predict", MODEL, SAMPLES, "--readers", readers, "--batch-size", batch_size) == alone


class TestUsage:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--resume"], "--out"),
            (["--append"], "--out"),
            (["--append", "--resume", "--out", "r.csv"], "not allowed with"),
            (["--json", "--out", "r.csv"], "--json"),
            (["--out", "r.xlsx"], ".jsonl, .csv, .parquet, .npz"),
            (["--readers", "-1"], "--readers"),
            (["--readers", "many"], "--readers"),
        ],
    )
    def test_wrong_usage_is_one_line(
        self, cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = cnn("predict", MODEL, SAMPLES / "1.png", *options)
        assert (result.status, result.out, len(result.err)) == (2, [], 1)
        assert said in result.err[0]
        assert list(tmp_path.iterdir()) == []

    def test_every_kind_of_file_is_opened_by_its_name(self, tmp_path: Path) -> None:
        for name in ("r.jsonl", "R.CSV", "r.npz", "folder", "folder.d/"):
            opened(str(tmp_path / name) + ("/" if name.endswith("/") else ""), Mode.NEW).close()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "folder.d"]


class TestPrinted:
    @pytest.mark.skipif(os.name != "posix", reason="names of POSIX")
    def test_a_line_for_each_whatever_its_name(self, cnn, tmp_path: Path) -> None:
        odd = [*ODD, os.fsdecode(b"caf\xe9.png")]
        paths = sorted(digits(tmp_path / "in", odd))
        result = cnn("predict", MODEL, tmp_path / "in", "--top", 1, "--quiet")
        assert (result.status, len(result.out)) == (0, len(odd))
        assert [line.split("\t")[0] for line in result.out] == [shown(path) for path in paths]
        assert [ast.literal_eval(n) if n.startswith("'") else n for n in (line.split("\t")[0] for line in result.out)] == paths
        result = cnn("predict", MODEL, tmp_path / "in", "--top", 1, "--quiet", "--json")
        assert [json.loads(line)["input"] for line in result.out] == paths
        (tmp_path / "in" / "tab\there.png").write_bytes(b"")
        result = cnn("predict", MODEL, tmp_path / "in", "--quiet")
        assert [line.split(": ")[1] for line in result.err] == [shown(str(tmp_path / "in" / "tab\there.png"))]

    @pytest.mark.parametrize(
        "name", ["a b.png", "\N{NO-BREAK SPACE}.png", "\N{IDEOGRAPHIC SPACE}.png", "caf\xe9.png", "back\\slash", "it's"]
    )
    def test_what_breaks_nothing_stays(self, name: str) -> None:
        assert shown(name) == name

    @pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\x1bb", "a\u2028b", "a\udce9b", "'a'", '"', "\x85"])
    def test_what_breaks_lines_is_written_as_python_does(self, name: str) -> None:
        assert ast.literal_eval(shown(name)) == name
        assert shown(name).isprintable()

    def test_encodings_that_lack_a_character(self) -> None:
        assert ascii_of("caf\xe9", "latin-1") == "caf\xe9"
        assert ascii_of("\N{SNOWMAN}x\N{PILE OF POO}", "latin-1") == "\\u2603x\\ud83d\\udca9"
        assert json.loads(f'"{ascii_of("a" + chr(0x1F4A9), "ascii")}"') == "a" + chr(0x1F4A9)

    def test_a_process_whose_output_is_latin(self, tmp_path: Path) -> None:
        (tmp_path / "labels").write_text("\n".join(["\N{SNOWMAN}"] * 10), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "cnnengine",
            "predict",
            MODEL,
            str(SAMPLES / "1.png"),
            "--labels",
            str(tmp_path / "labels"),
        ]
        environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
        for options, expected in ((["--top", "1"], "\\u2603 "), (["--json"], '"label": "\\u2603"')):
            done = subprocess.run([*command, *options], capture_output=True, timeout=120, env=environment, check=False)
            assert done.returncode == 0, done.stderr
            assert expected in done.stdout.decode("latin-1")


def test_failures_of_many_are_counted(cnn, tmp_path: Path) -> None:
    digits(tmp_path, [f"{i}.png" for i in range(10)])
    (tmp_path / "4.png").write_bytes(b"")
    (tmp_path / "5.png").write_bytes(b"")
    assert cnn("predict", MODEL, tmp_path).err[-1] == "cnnengine: 2 failed of 10 inputs"
    assert len(cnn("predict", MODEL, tmp_path, "--quiet").err) == 2
    (tmp_path / "9.png").unlink()
    assert len(cnn("predict", MODEL, tmp_path).err) == 3  # nine show by themselves
