"""cnnengine in onnxruntime's place, for programs that are not to be changed.

    python -m cnnengine.onnxruntime PROGRAM ARGS...
    python -m cnnengine.onnxruntime -m MODULE ARGS...

runs a program of Python for which ``import onnxruntime`` finds cnnengine; `install` does so for what the calling process imports
from then on. Whether onnxruntime is installed is no matter. `docs/session.md` has every public name of onnxruntime's and what
becomes of it.

A folder goes to the front of the path on which modules are looked up. It holds a package `onnxruntime` of all the modules that
programs import, and the metadata that tell its version. So everything that asks for modules sees the same, and so do processes
that multiprocessing starts, which get their parent's path.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from pathlib import Path

__all__ = ["install", "shadow", "uninstall"]


def shadow() -> str:
    """The folder that holds the package `onnxruntime`.

    In front of the environment variable PYTHONPATH it makes the switch for each Python that is started with it.
    """
    return str(Path(__file__).resolve().parent / "shadow")


def install() -> None:
    """Let ``import onnxruntime`` find cnnengine: in this process, and in those that multiprocessing starts from it.

    Other programs that this one starts are left as they are, unless `shadow` is put in front of their PYTHONPATH. A second call
    changes nothing.

    Warns
    -----
    UserWarning
        The real onnxruntime is already imported: modules that hold its names keep them.
    """
    folder = shadow()
    if _forget(folder):
        warnings.warn(
            "onnxruntime is already imported: modules that hold its names keep them, later imports find cnnengine",
            UserWarning,
            stacklevel=2,
        )
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()


def uninstall() -> None:
    """Take `install` back: later imports find the real onnxruntime, or none; modules that hold cnnengine's names keep them."""
    folder = shadow()
    sys.path[:] = [place for place in sys.path if place != folder]
    _forget("")
    importlib.invalidate_caches()


def _forget(ours: str) -> bool:
    """Take all modules of onnxruntime that do not lie in this folder from those that are imported; whether there were any."""
    held = sys.modules.get("onnxruntime")
    if held is None or (ours and str(getattr(held, "__file__", None) or "").startswith(os.path.join(ours, ""))):
        return False
    for name in [n for n in sys.modules if n == "onnxruntime" or n.startswith("onnxruntime.")]:
        del sys.modules[name]
    return True
