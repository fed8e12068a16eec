"""cnnengine where neither onnx nor protobuf, ml_dtypes or Pillow can be imported: a share of what `make bare` runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_a_share_of_the_cases_runs_with_numpy_alone(tmp_path: Path) -> None:
    record = [sys.executable, str(HERE / "record.py"), str(tmp_path), "--every", "4", "--no-zoo"]
    done = subprocess.run(record, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    run = [sys.executable, str(HERE / "run.py"), str(tmp_path), "--block", "--least", "400"]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
