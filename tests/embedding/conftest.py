"""An environment of its own with the built wheel in it: examples are compiled and run there, as a user would."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None, check: bool = True) -> str:
    """What the command printed; its failure is the test's, with what it said."""
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)
    if check:
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new virtual environment with the wheel of this tree, and NumPy, onnx and Cython from this environment."""
    folder = tmp_path_factory.mktemp("embedding")
    wheel = _wheel(tmp_path_factory)
    run(sys.executable, "-m", "venv", folder / "env")
    python = folder / "env" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # what cnnengine needs comes from here; its own package comes first, from the wheel
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--force-reinstall", wheel)
    where = run(python, "-P", "-c", "import cnnengine; print(cnnengine.__file__)", cwd=folder).strip()
    assert Path(where).is_relative_to(folder), where
    return python


def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CNNENGINE_WHEEL, else the wheel of this tree, built once by whichever of the processes needs it first."""
    if os.environ.get("CNNENGINE_WHEEL"):
        return Path(os.environ["CNNENGINE_WHEEL"])
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cnnengine-wheel"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("cnnengine-*.whl")):
            isolation = ["--no-build-isolation"] if _has_build_tools() else []
            run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", *isolation, "-w", folder, ".", cwd=ROOT)
    (wheel,) = folder.glob("cnnengine-*.whl")
    return wheel


def _has_build_tools() -> bool:
    try:
        import Cython  # noqa: F401
        import setuptools
    except ImportError:
        return False
    return int(setuptools.__version__.split(".")[0]) >= 77


@pytest.fixture(scope="session")
def environment(installed: Path) -> dict[str, str]:
    """Variables for programs that use this environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CNNENGINE", "VIRTUAL_ENV"))}
    return {**kept, "CNNENGINE_PYTHON": str(installed)}


@pytest.fixture(scope="session")
def c_programs(installed: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where examples/c_embed was built."""
    config = Path(sysconfig.get_config_var("BINDIR"), f"python{sysconfig.get_config_var('LDVERSION')}-config")
    if not config.exists():
        pytest.skip("this Python cannot be embedded: it has no python-config")
    return build_c(ROOT / "examples" / "c_embed", tmp_path_factory.mktemp("c_embed"), installed, environment)


def build_c(source: Path, folder: Path, python: Path, environment: dict[str, str], *flags: str) -> Path:
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    run("make", f"PYTHON={python}", *flags, cwd=folder, env=environment)
    return folder


@pytest.fixture(scope="session")
def build(installed: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds an example with a setup.py; gives the folder."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        for path in (ROOT / "examples" / name).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        run(installed, "setup.py", "-q", "build_ext", "--inplace", cwd=folder, env=environment)
        return folder

    return make
