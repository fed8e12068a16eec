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
import importlib.util
import os
import sys
import warnings
from pathlib import Path

from ..errors import InputError

__all__ = ["folder", "install", "uninstall"]


def folder() -> str:
    """The folder that holds the package `onnxruntime`.

    In front of the environment variable PYTHONPATH it makes the switch for each Python that is started with it.
    """
    return str(Path(__file__).resolve().parent / "shadow")


def install() -> None:
    """Let ``import onnxruntime`` find cnnengine: in this process, and in those that multiprocessing starts from it.

    Other programs that this one starts are left as they are, unless `folder()` is put in front of their PYTHONPATH. A second call
    changes nothing.

    Warns
    -----
    UserWarning
        The real onnxruntime is already imported: modules that hold its names keep them.

    Raises
    ------
    InputError
        Python finds another onnxruntime nevertheless: a frozen program has no such folder, and finders of editable installations
        are asked before any folder.
    """
    place = folder()
    held = _imported()
    if held and not _is_ours():
        _forget(held)
        warnings.warn(
            "onnxruntime is already imported: modules that hold its names keep them, later imports find cnnengine",
            UserWarning,
            stacklevel=2,
        )
    if place in sys.path:
        sys.path.remove(place)
    sys.path.insert(0, place)
    importlib.invalidate_caches()
    if not _is_ours():
        found = importlib.util.find_spec("onnxruntime")
        origin = None if found is None else found.origin
        if not str(origin or "").startswith(os.path.join(place, "")):
            sys.path.remove(place)
            raise InputError("onnxruntime is still another one", tensor="onnxruntime", expected=place, received=origin)


def uninstall() -> None:
    """Take `install` back: later imports find the real onnxruntime, or none; modules that hold cnnengine's names keep them."""
    place = folder()
    sys.path[:] = [other for other in sys.path if other != place]
    if _is_ours():
        _forget(_imported())
    importlib.invalidate_caches()


def _imported() -> list[str]:
    """The modules of onnxruntime, whosesoever, that are imported."""
    return [name for name in sys.modules if name == "onnxruntime" or name.startswith("onnxruntime.")]


def _is_ours() -> bool:
    """Whether the onnxruntime that is imported lies in the folder."""
    held = str(getattr(sys.modules.get("onnxruntime"), "__file__", None) or "")
    return held.startswith(os.path.join(folder(), ""))


def _forget(names: list[str]) -> None:
    for name in names:
        del sys.modules[name]
