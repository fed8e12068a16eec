"""What `import cnnengine` and a first prediction import: nothing that they do not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).resolve().parents[1] / "models" / "digits_lenet.onnx"

UNUSED = (
    "cnnengine.backend",
    "cnnengine.bench",
    "cnnengine.cli",
    "cnnengine.config",
    "cnnengine.functional",
    "cnnengine.metadata",
    "cnnengine.plan.trace",
    "cnnengine.preprocess",
    "cnnengine.quantization",
    "cnnengine.report",
    "cnnengine.session",
    "cnnengine.tasks",
    "onnx",
    "PIL",
    "asyncio",
    "multiprocessing",
)
PREDICT = f"import numpy, cnnengine; cnnengine.load({str(MODEL)!r})(numpy.zeros((1, 1, 32, 32), 'float32'))"


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return set(done.stdout.split())


def test_a_first_prediction_imports_nothing_that_it_does_not_use() -> None:
    assert not modules_after(PREDICT).intersection(UNUSED)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("Preprocess", "cnnengine.preprocess"),
        ("show_config", "cnnengine.config"),
        ("quantize", "cnnengine.quantization"),
        ("InferenceSession", "cnnengine.session"),
        ("functional", "cnnengine.functional"),
        ("tasks", "cnnengine.tasks"),
    ],
)
def test_what_is_put_off_comes_when_it_is_asked_for(name: str, module: str) -> None:
    assert module not in modules_after("import cnnengine")
    assert module in modules_after(f"from cnnengine import {name}")
    assert module in modules_after(f"import cnnengine; assert '{name}' in dir(cnnengine); cnnengine.{name}")
