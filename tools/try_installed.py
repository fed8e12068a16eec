"""Whether the installed cnnengine is whole: python tools/try_installed.py, in a folder that is not the source tree.

Imports every module of it, runs a model on each instruction set of this processor, and recognises the demo's digits by the
command and by the example. `tools/make_wheel.py` and cibuildwheel call this where a wheel is installed and nothing else.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import cnnengine
from cnnengine._kernels import dispatch

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
# Read by PyInstaller alone; and what is imported by another name alone.
HOOK, SHADOW = "cnnengine.__pyinstaller.hook-cnnengine", "cnnengine.onnxruntime.shadow."


def import_all() -> int:
    """How many modules there are; each is imported, but for tiles of instructions that this processor lacks.

    One that needs a package of an extra may say so.
    """
    names = [
        found.name for found in pkgutil.walk_packages(cnnengine.__path__, "cnnengine.") if found.name != "cnnengine.__main__"
    ]
    here = dispatch.available_isas()
    for name in names:
        if name.startswith(SHADOW) or (name == HOOK and importlib.util.find_spec("PyInstaller") is None):
            continue
        if ".tiles._" in name and name.rpartition("_")[2] not in here:
            continue
        with contextlib.suppress(cnnengine.errors.NotInstalledError):
            importlib.import_module(name)
    return len(names)


def main() -> None:
    if ROOT in Path(cnnengine.__file__).parents:
        sys.exit(f"this is the source tree, not an installed package: {cnnengine.__file__}")
    print(f"{import_all()} modules of {Path(cnnengine.__file__).parent}")
    digits = [str(digit) for digit in range(10)]
    with np.load(MODELS / "samples" / "expected.npz") as samples:
        x = samples["image"]
    for isa in dispatch.available_isas():
        with dispatch.use_isa(isa), cnnengine.load(MODELS / "digits_lenet.onnx") as model:
            read = model(x).argmax(axis=1).tolist()
        if read != list(range(10)):
            sys.exit(f"{isa} reads other digits: {read}")
        print(f"{isa}: reads the digits")
    pictures = [str(MODELS / "samples" / f"{digit}.png") for digit in digits]
    commands = [
        [sys.executable, "-m", "cnnengine", "predict", str(MODELS / "digits_lenet.onnx"), *pictures],
        [sys.executable, str(ROOT / "examples" / "classify_digits.py"), *pictures],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        # PATH, label, and what follows
        if [line.split()[1] for line in done.stdout.splitlines()] != digits:
            sys.exit(f"{' '.join(command[:4])} reads other digits:\n{done.stdout}{done.stderr}")
    print("the demo and the example read the digits")


if __name__ == "__main__":
    main()
