"""Modules that tests compile against the package they test, installed or in its tree: what the package itself shall not contain.

Nothing here is skipped: without a compiler or Cython, which `cnnengine[test]` asks for, a test that needs such a module fails.
"""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

import cnnengine
from cnnengine.runtime.threads import thread_info

SETUP = """
from Cython.Build import cythonize
from setuptools import Extension, setup

given = dict(include_dirs=[{include!r}], extra_compile_args={flags!r}, extra_link_args={flags!r})
one = Extension({name!r}, [{name!r} + ".pyx"], **given)
setup(name={name!r}, ext_modules=cythonize([one], compiler_directives={{"freethreading_compatible": True}}))
"""


@cache
def folder() -> Path:
    """Where this process' modules are built; it goes when the process ends."""
    made = Path(tempfile.mkdtemp(prefix="cnnengine-compiled-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    sys.path.append(str(made))
    return made


@cache
def module(source: Path) -> ModuleType:
    """The module of a .pyx file, which may cimport from cnnengine; `folder()` is on the path that it is imported by."""
    package = Path(cnnengine.__file__).parent
    name = source.stem
    shutil.copy(source, folder())
    # the same OpenMP as the package's, or none
    flags = ["-fopenmp"] if thread_info()["openmp"] else []
    text = SETUP.format(name=name, include=str(package / "_kernels"), flags=flags)
    path = os.pathsep.join(p for p in (str(package.parent), os.environ.get("PYTHONPATH", "")) if p)
    done = subprocess.run(
        [sys.executable, "-c", text, "-q", "build_ext", "--inplace"],
        cwd=folder(),
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{source} does not compile:\n{done.stdout}{done.stderr}"
    return importlib.import_module(name)
