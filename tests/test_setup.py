"""setup.py: what it compiles is there, and how it asks the compiler."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("Cython")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of setup.py; nothing is compiled."""
    monkeypatch.chdir(ROOT)
    return runpy.run_path(str(ROOT / "setup.py"), run_name="setup")


def test_every_compiled_source_is_named(setup: dict[str, Any]) -> None:
    sources = {path.relative_to(ROOT) for path in (ROOT / "cnnengine").rglob("*.pyx")}
    named = {Path(name.replace(".", "/")).with_suffix(".pyx") for name in setup["MODULES"]}
    named |= {Path("cnnengine/_kernels/tiles", f"{name}.pyx") for name in setup["TILES"]}
    assert named == sources


def test_a_missing_source_is_an_error(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    names = setup["extensions"].__globals__
    monkeypatch.setitem(names, "MODULES", ["cnnengine._kernels.nothing"])
    monkeypatch.setitem(names, "TILES", [])
    monkeypatch.setitem(names, "compiles", lambda *args: True)
    with pytest.raises(ValueError, match="nothing"):
        setup["extensions"]()


@pytest.mark.parametrize("compiler", ["gcc", "ccache gcc"])
def test_a_compiler_of_several_words(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    monkeypatch.setenv("CC", compiler)
    asked = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert setup["compiles"](["-fthing"])
    assert asked[0][:-3] == [*compiler.split(), "-Werror", "-fthing"]


@pytest.mark.parametrize(
    ("platform", "isas"),
    [
        ("linux-x86_64", {"sse2", "avx2", "avx512"}),
        ("macosx-11.0-x86_64", {"sse2", "avx2", "avx512"}),
        ("linux-aarch64", {"neon"}),
        ("macosx-11.0-arm64", {"neon"}),
    ],
)
def test_the_machine_that_is_compiled_for(monkeypatch: pytest.MonkeyPatch, platform: str, isas: set[str]) -> None:
    """That of the build's configuration, whatever machine the build runs on."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("_PYTHON_HOST_PLATFORM", platform)
    assert set(runpy.run_path(str(ROOT / "setup.py"), run_name="setup")["ISAS"]) == isas


def test_posix_alone_reaches_what_asks_the_system(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each header that looks at CNNENGINE_POSIX is known to setup.py, and the modules that include it are told."""
    package = ROOT / "cnnengine"
    asking = {path.name for path in package.rglob("*.h") if "CNNENGINE_POSIX" in path.read_text(encoding="utf-8")}
    assert asking == set(setup["SYSTEM"])
    assert {flag for module in setup["MODULES"] for flag in setup["system_flags"](module)} == set()
    monkeypatch.setitem(setup["system_flags"].__globals__, "POSIX", True)
    told = {module for module in setup["MODULES"] if setup["system_flags"](module)}
    assert (
        {"cnnengine.runtime.threads", "cnnengine.importer.guard", "cnnengine._kernels.dispatch"} <= told < set(setup["MODULES"])
    )
