"""cnnengine where NumPy alone is installed: what tests/bare/record.py wrote, and the commands that need no other package.

    python tests/bare/run.py FOLDER            # in an environment without onnx, protobuf and ml_dtypes
    python tests/bare/run.py FOLDER --block    # in one that has them: importing them fails as if they were not there

A case passes when it gives what was recorded, and where it needs another package when its error is one line that names the node
or the tensor and the command that installs it. OF_ONNX, OF_ML_DTYPES and OF_PILLOW say which operators and element types may need
one. Exit code 1 when anything else happened.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import os
import pickle
import re
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS))
ABSENT = ("onnx", "google", "ml_dtypes", "onnxruntime", "PIL")
COMMANDS = ("pip install onnx", "pip install Pillow")
OF_ONNX = frozenset(
    [
        "Attention",
        "CausalConvWithState",
        "CenterCropPad",
        "FlexAttention",
        "LinearAttention",
        "MelWeightMatrix",
        "RotaryEmbedding",
    ]
    + ["TensorScatter", "TfIdfVectorizer", "ArrayFeatureExtractor", "Binarizer", "LabelEncoder", "TreeEnsemble"]
    + ["Adagrad", "Adam", "Momentum"]
)
"""Operators that only onnx.reference has, or that the onnx package alone writes by others."""
OF_PILLOW = frozenset(["ImageDecoder"])
OF_ML_DTYPES = re.compile(r"the element type (bfloat16|float[468]_\w+|u?int[24]) needs ml_dtypes, which is not installed")


class Block(importlib.abc.MetaPathFinder):
    """Packages that are not there, whatever is installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def restored(value: Any) -> Any:
    if isinstance(value, list):
        return [restored(v) for v in value]
    if isinstance(value, tuple):
        raise Small
    return value


class Small(Exception):
    """A value of a type that NumPy lacks."""


def cases(folder: Path) -> Iterator[dict[str, Any]]:
    with open(folder / "cases.pickle", "rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return


def assert_equal(found: Any, expected: Any, rtol: float, atol: float) -> None:
    if isinstance(expected, list):
        assert isinstance(found, list), f"a list expected, {type(found).__name__} came"
        assert len(found) == len(expected), f"{len(expected)} elements expected, {len(found)} came"
        for a, b in zip(found, expected, strict=True):
            assert_equal(a, b, rtol, atol)
        return
    if expected is None:
        assert found is None
        return
    assert found.dtype == expected.dtype, f"{expected.dtype} expected, {found.dtype} came"
    assert found.shape == expected.shape, f"{expected.shape} expected, {found.shape} came"
    if expected.dtype == object:
        assert [str(v) for v in found.reshape(-1)] == [str(v) for v in expected.reshape(-1)]
    else:
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def run_case(cnnengine: Any, case: dict[str, Any]) -> str:
    """ "" where it gave what it should; else what it needs: an operator or an element type."""
    try:
        with cnnengine.load(case["model"], threads=1) as model:
            feeds = {i.name: restored(x) for i, x in zip(model.inputs, case["inputs"], strict=False)}
            found = model.run(None, feeds)
    except cnnengine.CNNEngineError as error:
        text = str(error)
        small = OF_ML_DTYPES.search(text)
        needs = small.group(1) if small else error.operator
        if needs is None or not any(command in text for command in COMMANDS):
            raise
        allowed = OF_ONNX if COMMANDS[0] in text else OF_PILLOW
        assert small or needs in allowed, f"{needs} should need no other package: {text}"
        assert "\n" not in text, f"more than a line: {text}"
        assert error.node or error.tensor, f"names neither node nor tensor: {text}"
        return str(needs)
    for a, b in zip(found, case["outputs"], strict=True):
        assert_equal(a, restored(b), *case["tolerance"])
    return ""


def run_network(cnnengine: Any, path: Path) -> None:
    """A file of the zoo, by its path: its outputs, and the session's."""
    import zoo_support

    name = path.name.removesuffix(".onnx")
    feeds = dict(np.load(path.with_suffix(".npz")))
    with cnnengine.load(path, threads=2) as model:
        found = model.run(None, feeds)
    zoo_support.check_outputs(name, found, zoo_support.tolerance(name))
    session = cnnengine.InferenceSession(path)
    assert [a.name for a in session.get_inputs()] == list(feeds)
    for a, b in zip(session.run(None, feeds), found, strict=True):
        np.testing.assert_array_equal(a, b)


def run_commands(block: bool, path: Path) -> None:
    """The commands on a model, in processes of their own."""
    start = [sys.executable, "-c", "import run; run.command()"] if block else [sys.executable, "-P", "-m", "cnnengine"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS / "bare"), *filter(None, sys.path)])} if block else None
    shape = ["--shape", "image=1,1,24,24"]
    for words in (["info"], ["check", *shape], ["check", "--json", *shape], ["profile", *shape], ["config"]):
        given = words if words == ["config"] else [words[0], str(path), *words[1:]]
        done = subprocess.run([*start, *given], capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-400:]}"
    for words, needs in (
        (["check", str(path), "--against", "reference", *shape], "onnx.reference needs onnx, which is not installed"),
        (["quantize", str(path), "--data", str(path), "-o", "out.onnx"], "quantising needs onnxruntime, which"),
    ):
        done = subprocess.run([*start, *words], capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode and "Traceback" not in done.stderr, f"{' '.join(words)}: {done.stderr[-400:]}"
        assert needs in done.stderr and "pip install" in done.stderr, f"{' '.join(words)}: {done.stderr[-400:]}"


def command() -> None:
    """`cnnengine` with the packages blocked."""
    sys.meta_path.insert(0, Block())
    from cnnengine.cli import main

    sys.exit(main())


def run_refusals(cnnengine: Any) -> None:
    """What cannot do without onnx says so."""
    for call in (
        lambda: importlib.import_module("cnnengine.backend"),
        lambda: importlib.import_module("cnnengine.onnx_functions").adaptive_pool((7, 7)),
        lambda: importlib.import_module("cnnengine.importer").read(ROOT / "models" / "digits_lenet.onnx"),
    ):
        try:
            call()
        except cnnengine.NotInstalledError as error:
            assert COMMANDS[0] in str(error) and isinstance(error, ImportError)
        else:
            raise AssertionError("no NotInstalledError")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--block", action="store_true", help="make the packages missing that are installed")
    parser.add_argument("--least", type=int, default=0, help="fail when fewer cases than this give what was recorded")
    options = parser.parse_args()
    folder: Path = options.folder
    if options.block:
        sys.meta_path.insert(0, Block())
    else:
        there = [name for name in ABSENT if importlib.util.find_spec(name) is not None]
        assert not there, f"installed: {there}"
    import cnnengine

    started = time.perf_counter()
    failed: list[str] = []
    passed = 0
    needs: Counter[str] = Counter()

    def attempt(name: str, call: Any) -> None:
        nonlocal passed
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                lacks = call()
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[-400:]}")
            return
        if lacks:
            needs[lacks] += 1
        else:
            passed += 1

    for case in cases(folder):
        attempt(case["name"], lambda case=case: run_case(cnnengine, case))
    of_cases = passed
    for path in sorted(folder.glob("*.onnx")):
        attempt(path.name, lambda path=path: run_network(cnnengine, path))
    attempt("commands", lambda: run_commands(options.block, ROOT / "models" / "digits_spp.onnx"))
    attempt("refusals", lambda: run_refusals(cnnengine))
    loaded = sorted({name.partition(".")[0] for name in sys.modules} & set(ABSENT))
    if loaded:
        failed.append(f"imported: {loaded}")
    if of_cases < options.least:
        failed.append(f"{of_cases} cases gave what was recorded, not {options.least}")
    for line in failed:
        print(f"failed: {line}")
    total = passed + sum(needs.values()) + len(failed)
    print(f"{passed} of {total} run with NumPy alone, {sum(needs.values())} need another package: {dict(needs.most_common())}")
    print(f"{len(failed)} failed, {time.perf_counter() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
