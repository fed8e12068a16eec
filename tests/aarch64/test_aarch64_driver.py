"""The driver that runs the tiles under an emulator names them as they are: it compiles against this machine's instruction set."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TILES = ROOT / "cnnengine" / "_kernels" / "tiles"
pytest.importorskip("Cython")
CC = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")


@pytest.mark.skipif(CC is None, reason="no C compiler")
@pytest.mark.skipif(not Path(sysconfig.get_path("include"), "Python.h").is_file(), reason="Python's headers are not there")
@pytest.mark.parametrize("family", sorted(path.stem for path in TILES.glob("*.pyx")))
def test_the_driver_compiles(family: str, tmp_path: Path) -> None:
    """Names and signatures; what the tiles compute, `make aarch64` tests."""
    source = tmp_path / f"{family}.c"
    translate = [sys.executable, "-m", "cython", "-3", "-X", "cdivision=True,initializedcheck=False", "-o", str(source)]
    subprocess.run([*translate, str(TILES / f"{family}.pyx")], cwd=ROOT, check=True, capture_output=True)
    assert f"FAMILY_{family}" in (ROOT / "tests/aarch64/driver.c").read_text(encoding="utf-8")
    assert CC is not None
    done = subprocess.run(
        [
            CC,
            "-fsyntax-only",
            "-Werror=incompatible-pointer-types",
            "-Werror=implicit-function-declaration",
            f"-I{sysconfig.get_path('include')}",
            f"-I{ROOT / 'cnnengine' / '_kernels'}",
            f"-DFAMILY_{family}",
            f'-DSOURCE="{source}"',
            str(ROOT / "tests/aarch64/driver.c"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
