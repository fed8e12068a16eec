"""What models make the process do: none opens a file, runs a program or reaches the network, be it while it is loaded or run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cnnengine

ROOT = Path(__file__).resolve().parents[2]

WATCHED = """
import os, sys, sysconfig
import cnnengine, numpy, onnx, onnx.reference
from cnnengine.model import Model
from cnnengine.runtime.threads import default_threads
from conformance.suite import by_name, record

armed, seen, ran = [0], {}, [0]
# code is imported when it is first needed
folders = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
folders += [os.path.dirname(module.__file__) for module in (cnnengine, numpy)]
code = tuple(map(os.path.realpath, folders))
harmless = (
    "import", "compile", "exec", "marshal.", "object.__", "code.__new__", "function.__new__", "builtins.id", "sys._getframe",
    "sys._current_frames", "sys.unraisablehook", "os.listdir", "os.scandir", "os.stat", "cpython.", "ctypes.dlsym",
    "ctypes.dlopen", "ctypes.cdata", "_thread.start_new_thread", "gc.", "pathlib.", "array.__new__", "mmap.__new__",
    "warnings.", "contextvars.",
)

def watch(event, arguments):
    if not armed[0]:
        return
    if event == "open" and isinstance(arguments[0], (str, bytes)) and not set(arguments[1] or "") & set("wax+"):
        if os.path.realpath(os.fsdecode(arguments[0])).startswith(code):
            return
    if not event.startswith(harmless):
        seen.setdefault(event, str(arguments)[:200])

def watched(method):
    def call(*args, **kwargs):
        armed[0] += 1
        ran[0] += 1
        try:
            return method(*args, **kwargs)
        finally:
            armed[0] -= 1
    return call

Model.__init__ = watched(Model.__init__)
Model.run = watched(Model.run)
cnnengine.Limits(), default_threads(None)  # they ask the system, once, for its memory and CPUs
sys.addaudithook(watch)
failed = [name for name in by_name() if not record(name).passed]
print(ran[0], len(failed), seen)
armed[0] = 1
acts = (lambda: open(os.devnull, "w").close(), lambda: os.system("true"), lambda: __import__("socket").socket().close())
for act in acts:
    before = len(seen)
    act()
    print(len(seen) - before, end=" ")
"""


def test_no_case_of_the_suite_leaves_the_process() -> None:
    path = f"{Path(cnnengine.__file__).parents[1]}:{ROOT / 'tests'}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCHED],
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told, tried = done.stdout.splitlines()
    count, failed, seen = told.split(maxsplit=2)
    assert int(count) > 5000 and int(failed) == 0
    assert seen == "{}", seen
    assert all(int(n) > 0 for n in tried.split()), "the watch sees nothing"
