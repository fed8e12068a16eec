"""The examples for programs that embed the engine, built against the installed wheel and compared with `Model.run`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import cnnengine

from .conftest import ROOT, run

MODEL = ROOT / "models" / "digits_lenet.onnx"
SAMPLES = sorted((ROOT / "models" / "samples").glob("*.png"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A folder of raw images, the images, and the scores of each run alone on one thread."""
    folder = tmp_path_factory.mktemp("digits")
    with cnnengine.load(MODEL, threads=1) as model:
        images = np.concatenate([model.preprocess(path) for path in SAMPLES])
        scores = np.concatenate([model(image[None]) for image in images])
    for number, image in enumerate(images):
        image.tofile(folder / f"{number}.f32")
    return folder, images, scores


@pytest.mark.parametrize("threads", [1, 8])
def test_c_program(c_programs: Path, environment: dict[str, str], digits: tuple, threads: int) -> None:
    folder, _, scores = digits
    files = sorted(folder.glob("*.f32"), key=lambda p: int(p.stem))
    lines = run(c_programs / "classify", MODEL, threads, *files, env=environment).splitlines()
    found = [line.rsplit(" ", 2) for line in lines]
    assert [int(best) for _, best, _ in found] == scores.argmax(axis=1).tolist() == list(range(10))
    assert [np.float32(score) for _, _, score in found] == scores.max(axis=1).tolist()


def test_c_program_says_what_is_wrong(c_programs: Path, environment: dict[str, str], tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run(
        [c_programs / "classify", tmp_path / "no.onnx", "1", tmp_path / "no.f32"], env=environment, capture_output=True
    )
    assert done.returncode == 1
    assert b"no such file" in done.stderr


def test_c_call_time_runs(c_programs: Path, environment: dict[str, str], tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    path = tmp_path / "relu.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    printed = run(c_programs / "call_time", path, 100, env=environment)
    assert printed.endswith(" ns\n") and float(printed.split()[0]) > 0


def test_c_call_time_takes_a_dynamic_batch(c_programs: Path, environment: dict[str, str]) -> None:
    printed = run(c_programs / "call_time", MODEL, 10, env=environment)
    assert printed.endswith(" ns\n") and float(printed.split()[0]) > 0


def test_c_call_time_says_what_is_wrong(c_programs: Path, environment: dict[str, str], tmp_path: Path) -> None:
    import subprocess

    x, y, z = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xyz")
    graph = helper.make_graph([helper.make_node("Add", ["x", "y"], ["z"])], "add", [x, y], [z])
    path = tmp_path / "add.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    for arguments, told in (([path], b"2 inputs"), ([tmp_path / "no.onnx"], b"no such file"), ([], b"usage")):
        done = subprocess.run([c_programs / "call_time", *arguments], env=environment, capture_output=True)
        assert done.returncode in (1, 2) and told in done.stderr


def test_the_commands_of_the_readme(c_programs: Path, installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Every command stands on one line, in the order in which they work."""
    text = (c_programs / "README.md").read_text()
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert commands[0].startswith("make ") and len(commands) == 4
    for command in commands[1:]:
        command = command.replace("/path/to/env/bin/python", str(installed)).replace("../..", str(ROOT))
        printed = run("sh", "-c", command, cwd=c_programs, env=environment)
        if "./classify" in command:
            assert printed.split()[:2] == ["image.f32", "7"]


def test_c_extension(build: Callable[[str], Path], installed: Path, environment: dict[str, str], digits: tuple) -> None:
    folder = build("c_extension")
    files, _, scores = digits
    program = (
        "import json, digits, sys; digits.load(sys.argv[1]);"
        "print(json.dumps([digits.classify(open(p, 'rb').read()) for p in sys.argv[2:]]))"
    )
    found = json.loads(
        run(installed, "-c", program, MODEL, *(files / f"{i}.f32" for i in range(10)), cwd=folder, env=environment)
    )
    assert [best for best, _ in found] == list(range(10))
    assert [np.float32(score) for _, score in found] == scores.max(axis=1).tolist()


def test_cython_app(
    build: Callable[[str], Path], installed: Path, environment: dict[str, str], digits: tuple, tmp_path: Path
) -> None:
    folder = build("cython_app")
    _, images, scores = digits
    np.save(tmp_path / "images.npy", images)
    program = (
        "import app, numpy as np, sys; s, c = app.classify(sys.argv[1], np.load(sys.argv[2]));"
        "np.savez(sys.argv[3], scores=s, classes=c)"
    )
    run(installed, "-c", program, MODEL, tmp_path / "images.npy", tmp_path / "out.npz", cwd=folder, env=environment)
    with np.load(tmp_path / "out.npz") as out:
        assert out["classes"].tolist() == list(range(10))
        np.testing.assert_array_equal(out["scores"], scores)
