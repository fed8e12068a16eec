"""What the scripts of this folder share: where things are, and cnnengine's own measuring of other engines.

`worker` is cnnengine/bench/worker.py by its path, standing alone: scripts here also run under interpreters without cnnengine.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
sys.path.append(str(ROOT / "tests"))  # zoo_support


def _worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cnnengine_bench_worker", ROOT / "cnnengine" / "bench" / "worker.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = _worker()
