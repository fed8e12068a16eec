"""A program frozen by PyInstaller: the hook of the wheel's entry point brings the kernels and all that is found by name."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import cnnengine
from cnnengine.__pyinstaller import get_hook_dirs

from .conftest import ROOT, run

MODEL = ROOT / "models" / "digits_lenet.onnx"

PROGRAM = """
import json, sys
import numpy as np
import cnnengine
from cnnengine import functional

x = np.random.default_rng(0).standard_normal((2, 1, 32, 32)).astype(np.float32)
scores = cnnengine.load(sys.argv[1], threads=1)(x)
again = cnnengine.InferenceSession(sys.argv[1]).run(None, {"image": x})[0]
assert (scores == again).all()
print(json.dumps({
    "scores": scores.tolist(),
    "relu": functional.relu(x).tolist() == np.maximum(x, 0).tolist(),
    "isa": cnnengine.show_config()["isa"],
    "version": cnnengine.__version__,
    "frozen": getattr(sys, "frozen", False),
}))
"""


def test_the_hook_is_where_the_entry_point_says() -> None:
    (folder,) = get_hook_dirs()
    assert (Path(folder) / "hook-cnnengine.py").is_file()
    text = (ROOT / "pyproject.toml").read_text()
    assert '[project.entry-points.pyinstaller40]\nhook-dirs = "cnnengine.__pyinstaller:get_hook_dirs"' in text


def test_a_frozen_program_finds_the_kernels(installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("PyInstaller")
    (tmp_path / "program.py").write_text(PROGRAM)
    run(installed, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", "program.py", cwd=tmp_path, env=environment)
    alone = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}  # nothing that leads to an installed Python
    program = tmp_path / "dist" / "program" / "program"
    done = subprocess.run([program, MODEL], env=alone, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    x = np.random.default_rng(0).standard_normal((2, 1, 32, 32)).astype(np.float32)
    np.testing.assert_array_equal(np.array(told["scores"], np.float32), cnnengine.load(MODEL, threads=1)(x))
    assert (told["relu"], told["isa"], told["frozen"]) == (True, cnnengine.show_config()["isa"], True)
    assert (
        told["version"]
        == run(installed, "-c", "import cnnengine; print(cnnengine.__version__)", cwd=tmp_path, env=environment).strip()
    )
