"""Forks while another thread is in its first load: what is being imported then can be imported in the child."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).resolve().parents[2] / "models" / "digits_lenet.onnx"

SCRIPT = """
import os, signal, sys, threading, time
import numpy as np
import cnnengine

slow, where = sys.argv[2], sys.argv[3]
reached = threading.Event()

class Slow:
    '''A finder that takes its time, while the import's lock is held; or a loader that does.'''
    def find_spec(self, name, path=None, target=None):
        if name != slow:
            return None
        sys.meta_path.remove(self)
        if where == "finding":
            reached.set()
            time.sleep(0.5)
            return None
        import importlib.machinery
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def exec_module(module):
            reached.set()
            time.sleep(0.5)
            run(module)
        spec.loader.exec_module = exec_module
        return spec

assert slow not in sys.modules
sys.meta_path.insert(0, Slow())

def work():
    return cnnengine.load(sys.argv[1], threads=1)(np.zeros((1, 1, 32, 32), np.float32))

thread = threading.Thread(target=work)
thread.start()
assert reached.wait(60)
child = os.fork()
if child == 0:
    signal.alarm(60)
    ok = work().shape == (1, 10)
    os._exit(0 if ok else 1)
_, status = os.waitpid(child, 0)
thread.join()
print(status, len(__import__("importlib")._bootstrap._module_locks))
"""


@pytest.mark.parametrize("where", ["finding", "running"])
@pytest.mark.parametrize(
    "slow", ["cnnengine.importer", "cnnengine.importer.wire", "cnnengine.rewrites.fold_scale", "cnnengine.ops.pool"]
)
def test_a_child_of_a_first_load_imports_what_it_needs(slow: str, where: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, MODEL, slow, where], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "0", "the child waited for a thread that it lacks"


def test_a_thread_may_fork_in_the_middle_of_its_own_import(tmp_path: Path) -> None:
    """And while another thread imports what this one is in the middle of: neither waits for ever."""
    (tmp_path / "forking.py").write_text(
        "import os\nimport cnnengine\nchild = os.fork()\nif child == 0:\n    os._exit(0)\nassert os.waitpid(child, 0)[1] == 0\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import forking; print('done')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr
