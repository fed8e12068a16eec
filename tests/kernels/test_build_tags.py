"""Modules of different builds are told apart: an ImportError that says so, not a struct read wrongly."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

import cnnengine
from cnnengine._kernels import dispatch

FAMILIES = ("conv", "half", "image", "move", "norm", "pool", "qdense", "qpool", "recurrent", "vector", "winograd")

STALE = """
import ctypes, importlib.machinery, sys, types
package = types.ModuleType("cnnengine")  # without its __init__, which imports the dispatcher
package.__path__ = [{folder!r}]
sys.modules["cnnengine"] = package
make = ctypes.pythonapi.PyCapsule_New
make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
name = "cnnengine._kernels.tiles._{family}_{isa}"
memory, stale = ctypes.create_string_buffer(8), types.ModuleType(name)  # far shorter than the tiles of any family
label = {label!r}
stale.__spec__ = importlib.machinery.ModuleSpec(name, None)
stale.capsule = make(ctypes.addressof(memory), label, None)
sys.modules[name] = stale
try:
    importlib.import_module("cnnengine._kernels.dispatch")
except ImportError as error:
    print(error)
else:
    raise SystemExit("it was taken")
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_stale_tiles(family: str) -> None:
    """The dispatcher refuses a tile module that names other declarations, by its name, before it reads a pointer of it."""
    isa, folder = dispatch.current_isa(), os.path.dirname(cnnengine.__file__)
    for label in (f"cnnengine.tiles.{family}".encode(), f"cnnengine.tiles.{family}:000000000000".encode()):
        code = STALE.format(family=family, isa=isa, label=label, folder=folder)
        environment = {**os.environ, "CNNENGINE_ISA": isa}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert f"_{family}_{isa} is of another build" in done.stdout
        assert "--force" in done.stdout


def test_stale_module() -> None:
    """A module compiled with other declarations of the kernel table does not get it."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    capsule = dispatch.__pyx_capi__["table_for"]  # type: ignore[attr-defined]
    table_for = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(pointer(capsule, name(capsule)))
    with pytest.raises(ImportError, match=r"different builds of cnnengine are mixed \(0123 and [0-9a-f]{12}\)"):
        table_for(b"0123")
