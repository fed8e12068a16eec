"""An activation is added in four files and no other: here one is, in a copy of the package, and runs behind a convolution."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine._kernels import ACTIVATIONS, dispatch

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(cnnengine.__file__).parent

# file -> (a line that is there, what is written before it)
ADDED = {
    "_kernels/activations.h": (
        "    /* as round, 0 for NaN: what quantising makes of a quotient */",
        '    ONE(ACT_BENT, "bent", vselect(vlt(x, zero), x * x * alpha, x + beta)) \\\n',
    ),
    "ops/activation.py": (
        "@dataclass(frozen=True)\nclass LeakyRelu(",
        "@dataclass(frozen=True)\n"
        "class Bent(_Unary):\n"
        '    """``x + beta``, below zero ``alpha * x * x``."""\n\n'
        '    op_type: ClassVar[str] = "Bent"\n'
        "    alpha: float = 0.5\n"
        "    beta: float = 2.0\n\n"
        "    def kernel_activation(self) -> Activation:\n"
        '        return Activation("bent", self.alpha, self.beta)\n\n'
        "    def reference(self, *inputs: Any) -> list[Any]:\n"
        "        x = np.asarray(inputs[0], np.float64)\n"
        "        return [np.where(x < 0, self.alpha * x * x, x + self.beta).astype(np.float32)]\n\n\n",
    ),
    "ops/__init__.py": ('    "LeakyRelu": "activation",\n', '    "Bent": "activation",\n'),
    "functional.py": (
        "def leaky_relu(",
        "def bent(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:\n"
        "    return _unary(_act.Bent(), x, threads, out)\n\n\n",
    ),
}

# The file's Relu is read as the new operator: which operators files may name is not what is tested.
USE = """
import sys
import numpy as np
import cnnengine
from cnnengine import functional
from cnnengine._kernels import ACTIVATIONS, dispatch
from cnnengine.ops import activation, lookup
folder, isa, model = sys.argv[1:]
assert cnnengine.__file__.startswith(folder) and dispatch.__file__.startswith(folder) and dispatch.current_isa() == isa
print(ACTIVATIONS["bent"])
Bent = lookup("Bent")
activation.Relu.from_onnx = classmethod(lambda cls, node: Bent())
x = np.load("x.npy")
one = cnnengine.load(model, threads=1)
y = one.run(None, {"x": x})[0]
print(",".join(line.kernel for segment in one._program.segments() for line in segment.plan.reports))
np.testing.assert_array_equal(cnnengine.load(model, threads=2).run(None, {"x": x})[0], y)
np.save("y.npy", y)
np.save("z.npy", functional.bent(x))
np.testing.assert_allclose(functional.bent(x), Bent().evaluate(x)[0], rtol=1e-6)
"""


def setup_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cnnengine_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package that has the activation; what the list of activations is part of is compiled anew.

    A build would compile all modules, since all are told apart by the list that they know. Here the two that make something of it
    keep the names of the build that the rest is of, which knows activations by what it asks these two.
    """
    folder = tmp_path_factory.mktemp("four files")
    target = folder / "cnnengine"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyx"))
    for path in ("_kernels/dispatch.pyx", "_kernels/tiles/vector.pyx"):
        shutil.copy(ROOT / "cnnengine" / path, target / path)
    for path, (line, text) in ADDED.items():
        before = (target / path).read_text(encoding="utf-8")
        assert before.count(line) == 1, path
        (target / path).write_text(before.replace(line, text + line), encoding="utf-8")
    setup = setup_script()
    capsules = dispatch._families  # type: ignore[attr-defined]
    kernels = ROOT / "cnnengine" / "_kernels"
    layout = setup.tag([*kernels.rglob("*.pxd"), kernels / "activations.h"])
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    compiler = [
        *sysconfig.get_config_var("CC").split(),
        "-shared",
        "-fPIC",
        "-I",
        sysconfig.get_paths()["include"],
        "-I",
        target / "_kernels",
    ]
    directives = [f"-X{name}={value}" for name, value in setup.DIRECTIVES.items() if name != "language_level"]
    for name in ("dispatch", "tiles/vector"):
        run(
            sys.executable,
            "-m",
            "cython",
            "-3",
            *directives,
            target / "_kernels" / f"{name}.pyx",
            cwd=folder,
            PYTHONPATH=str(folder),
        )
    common = [flag for flag in setup.COMMON if setup.compiles([flag])]
    families = " ".join(capsules.values())
    run(
        *(*compiler, *setup.MODULE_FLAGS, *common, f'-DCNNENGINE_LAYOUT="{layout}"', f'-DCNNENGINE_FAMILIES="{families}"'),
        *(target / "_kernels" / "dispatch.c", "-o", target / "_kernels" / f"dispatch{suffix}"),
        cwd=folder,
    )
    flags = [flag for flag in setup.TILE_FLAGS if setup.compiles([flag])]
    for isa in {dispatch.float_isa(name) for name in dispatch.available_isas()}:
        run(
            *(*compiler, *flags, *common, *setup.ISAS[isa], f'-DCNNENGINE_CAPSULE="{capsules["vector"]}"'),
            *("-DCYTHON_INLINE=inline __attribute__((always_inline))", f"-DPyInit_vector=PyInit__vector_{isa}"),
            *(target / "_kernels/tiles/vector.c", "-o", target / "_kernels" / "tiles" / f"_vector_{isa}{suffix}"),
            cwd=folder,
        )
    return folder


def test_four_files_are_enough(copy: Path, isa: str, tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(12, 5, 3, 3)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(2, 5, 9, 11)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", x)
    text = run(
        *(sys.executable, "-c", USE, copy, isa, "model.onnx"), cwd=tmp_path, PYTHONPATH=str(copy), CNNENGINE_ISA=isa
    ).splitlines()
    assert int(text[0]) == len(ACTIVATIONS)  # before the last row
    assert "activation" not in text[1] and ("conv" in text[1] or "winograd" in text[1])
    model.graph.node.pop()
    model.graph.output[0].name = "c"
    c = cnnengine.load(model, threads=1).run(None, {"x": x})[0]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), np.where(c < 0, 0.5 * c * c, c + 2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), np.where(x < 0, 0.5 * x * x, x + 2), rtol=1e-6)
