"""Environments of the engines: which packages of which version, a command that makes them, where they are found.

Each lies in a folder of the benchmarks' cache. Engines whose packages ask for others of the same package in another version have
an environment each.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import InputError

TORCH, ONNX, ONNX2TORCH = "torch==2.13.0", "onnx==1.23.2", "onnx2torch==1.5.15"
ALONE = "--no-deps"
ENVIRONMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "peers": (
        (ONNX, "onnxruntime==1.31.1", "openvino==2026.4.1", "ncnn==1.0.20261020", TORCH),
        (ALONE, ONNX2TORCH, "pnnx==20261020"),
    ),
    "litert": ((TORCH, ONNX, "ai-edge-litert==2.3.0", "litert-torch==0.10.0"), (ALONE, ONNX2TORCH)),
    "mnn": (("numpy", "MNN==3.6.1"),),
    "zentorch": ((TORCH, ONNX, "zentorch==2.13.0.2"), (ALONE, ONNX2TORCH)),
    "executorch": ((TORCH, ONNX, "executorch==1.5.1"), (ALONE, ONNX2TORCH)),
}
"""What pip installs, call by call. onnx2torch (an ONNX file in torch) and pnnx (an ONNX file for ncnn) come without what they
depend on: torchvision, of which detection operators alone make use, and torch."""
READY = "cnnengine-bench"
"""The file in an environment that says what it was made of, when it was made to the end."""


def environment_of(engine: str) -> str:
    """Its name: of the engines that read the same packages one."""
    return engine if engine in ENVIRONMENTS else "peers"


def default_cache() -> Path:
    """$XDG_CACHE_HOME/cnnengine/bench, by default ~/.cache/cnnengine/bench."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cnnengine" / "bench"


def folder_of(name: str, cache: Path) -> Path:
    return cache / "environments" / name


def recipe(name: str) -> str:
    return "\n".join(" ".join(call) for call in ENVIRONMENTS[name])


def interpreter(engine: str, cache: Path) -> str | None:
    """The interpreter of an engine's environment; None where there is none of these versions."""
    name = environment_of(engine)
    home = folder_of(name, cache)
    try:
        ready = (home / READY).read_text(encoding="utf-8") == recipe(name)
    except OSError:
        ready = False
    return os.fspath(home / "bin" / "python") if ready else None


def hint(engine: str) -> str:
    """The command that makes an engine available."""
    return f"cnnengine bench --setup --against {engine}"


def set_up(engines: Iterable[str], cache: Path | None = None, say: Callable[[str], None] = print) -> dict[str, str]:
    """Make the environments of these engines, those that are not there.

    Parameters
    ----------
    engines : iterable of str
    cache : path, optional
        `default_cache` by default.
    say : callable
        Told what is done.

    Returns
    -------
    dict
        The environments that could not be made, each with its reason.

    Raises
    ------
    InputError
        The folder cannot be written to.
    """
    cache = cache or default_cache()
    failures: dict[str, str] = {}
    for name in dict.fromkeys(environment_of(engine) for engine in engines if engine != "cnnengine"):
        home = folder_of(name, cache)
        if interpreter(name if name != "peers" else "onnxruntime", cache) is not None:
            say(f"{name}: {home} is there")
            continue
        try:
            shutil.rmtree(home, ignore_errors=True)
            home.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot be written to: {error.strerror or error}", file=os.fspath(home.parent)) from error
        python = os.fspath(home / "bin" / "python")
        calls = [[sys.executable, "-m", "venv", os.fspath(home)]]
        calls += [[python, "-m", "pip", "install", "--quiet", *call] for call in ENVIRONMENTS[name]]
        for call in calls:
            say(f"{name}: {' '.join(call)}")
            done = subprocess.run(call, capture_output=True, text=True, check=False)
            if done.returncode:
                lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("[notice]")]
                errors = [line for line in lines if "ERROR" in line]
                failures[name] = (errors or lines or [f"exit code {done.returncode}"])[0][-300:]
                shutil.rmtree(home, ignore_errors=True)
                break
        else:
            (home / READY).write_text(recipe(name), encoding="utf-8")
    return failures
