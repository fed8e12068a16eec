"""The C sources under ISO C and POSIX alone: what other systems than Linux have."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cnnengine"
HEADERS = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.h"))
COMPILERS = [c for c in ("gcc", "clang") if shutil.which(c)] or [c for c in ("cc",) if shutil.which(c)]
# no compiler of today minds the length of strings, such as loops in assembler are
STRICT = [
    "-Wno-overlength-strings",
    "-std=c11",
    "-D_POSIX_C_SOURCE=200809L",
    "-pedantic",
    "-Wall",
    "-Wextra",
    "-Wno-unused-function",
    "-Wno-unused-parameter",
]
SYSTEMS = {
    "here": [],
    "POSIX alone": ["-DCNNENGINE_POSIX"],
    "not Linux": ["-U__linux__", "-U__linux", "-Ulinux", "-U__gnu_linux__"],
}
INCLUDE = [f"-I{PACKAGE / folder}" for folder in ("", "_kernels", "runtime", "importer", "include")]

pytestmark = [
    pytest.mark.skipif(not COMPILERS, reason="no C compiler"),
    pytest.mark.skipif(not Path(sysconfig.get_path("include"), "Python.h").is_file(), reason="Python's headers are not there"),
]


def said(compiler: str, source: Path, *flags: str) -> str:
    """What a compiler says against a source; none of its code is generated."""
    python = f"-isystem{sysconfig.get_path('include')}"
    command = [compiler, *STRICT, *flags, *INCLUDE, python, "-fsyntax-only", str(source)]
    return subprocess.run(command, capture_output=True, text=True).stderr


def test_there_are_headers() -> None:
    assert {"runtime/team.h", "importer/guard.h", "_kernels/simd.h", "_kernels/cpu.h", "include/cnnengine.h"} <= set(HEADERS)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_each_header_stands_alone(compiler: str, header: str, system: str, tmp_path: Path) -> None:
    """It includes what it uses, and uses nothing that neither ISO C, POSIX nor the compiler has, or only where it is."""
    source = tmp_path / "one.c"
    source.write_text(f'#include "{header}"\nextern int nothing;\n')
    assert said(compiler, source, *SYSTEMS[system]) == ""


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", ["runtime/threads", "importer/guard", "_kernels/dispatch", "_kernels/launch", "capi"])
def test_the_modules_that_ask_the_system(name: str, system: str, tmp_path: Path) -> None:
    """As Cython translates them; what Cython itself writes is not looked at."""
    pytest.importorskip("Cython")
    source = tmp_path / "module.c"
    translate = [sys.executable, "-m", "cython", "-3", "-X", "cdivision=True,initializedcheck=False", "-o", str(source)]
    subprocess.run([*translate, str(PACKAGE / f"{name}.pyx")], cwd=ROOT, check=True, capture_output=True)
    tags = ['-DCNNENGINE_LAYOUT=""', '-DCNNENGINE_FAMILIES=""']
    for compiler in COMPILERS:
        lines = said(compiler, source, *tags, *SYSTEMS[system]).splitlines()
        assert [line for line in lines if ": error:" in line or (".h:" in line and f"{PACKAGE}" in line)] == []


def test_strictness_is_strict(tmp_path: Path) -> None:
    """The compiler does say something against what only Linux has."""
    source = tmp_path / "linux.c"
    source.write_text("#include <sched.h>\nint here(void) { return sched_getcpu(); }\n")
    for compiler in COMPILERS:
        assert "sched_getcpu" in said(compiler, source)
