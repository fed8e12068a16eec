"""The price of a call: a model of one Relu on one element at 1 thread, by the C interface, by Model.run and by a binding.

    python benchmarks/call.py

Builds examples/c_embed in a temporary folder against this Python's cnnengine; needs make and a C compiler. Each figure is the
smallest mean of many rounds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

import cnnengine

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "c_embed"


def relu() -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return data


def microseconds(call: Callable[[], object], number: int = 5000) -> float:
    return min(timeit.repeat(call, number=number, repeat=20)) / number * 1e6


def by_c(folder: Path) -> str:
    for path in EXAMPLE.iterdir():
        shutil.copy(path, folder)
    (folder / "relu.onnx").write_bytes(relu())
    env = {**os.environ, "CNNENGINE_PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = ["make", "-s", f"PYTHON={sys.executable}", "call_time"]
    built = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if built.returncode:
        return f"not built: {built.stderr.strip().splitlines()[-1]}"
    done = subprocess.run([folder / "call_time", folder / "relu.onnx"], env=env, capture_output=True, text=True, check=True)
    return f"{float(done.stdout.split()[0]) / 1000:.3f} us"


def main() -> None:
    x = np.array([-1.0], np.float32)
    with cnnengine.load(relu(), threads=1) as model:
        feeds = {"x": x}
        print(f"Model.run     {microseconds(lambda: model.run(None, feeds)):.2f} us")
        loop = model.bind({"x": x})
        print(f"Binding.run   {microseconds(loop.run):.2f} us")
    with tempfile.TemporaryDirectory() as folder:
        print(f"cnne_run      {by_c(Path(folder))}")


if __name__ == "__main__":
    main()
