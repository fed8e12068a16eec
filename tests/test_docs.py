"""What the documentation promises: its code runs, its tables are complete, its commands are those of the Makefile."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import cnnengine
from cnnengine import errors, functional

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The README's text under a heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.M | re.S)
    assert found is not None, title
    return found[1]


def first_column(title: str) -> list[str]:
    """The first cell of every row of a section's table, without its head."""
    rows = [line for line in section(title).splitlines() if line.startswith(("| ", "|`"))]
    return [row.split("|")[1].strip() for row in rows[1:]]


def test_the_examples_of_the_readme_print_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.S))
    promised = re.findall(r"^print\(.*\) +# (.*)$", code, re.M)
    assert len(promised) == code.count("print(")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue().splitlines() == promised


def test_the_examples_of_the_export_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(encoding="utf-8"), re.S))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/export.md", "exec"), {"__name__": "export"})
    with cnnengine.load("any_size.onnx") as model:
        assert [node.op.op_type for node in model._graph.nodes] == ["Conv", "AdaptivePool", "SpatialPyramidPool", "Gemm"]


def test_the_table_of_layers_is_complete() -> None:
    named: set[str] = set()
    for cell in first_column("Layers"):
        for name in re.findall(r"`(\w+)`(?= to `3d`)", cell):  # `max_pool1d` to `3d`
            named.update(name.replace("1d", f"{rank}d") for rank in (1, 2, 3))
        named.update(name for name in re.findall(r"`(\w+)`", cell) if name != "3d")
    assert named == set(functional.__all__)


def test_the_table_of_stages_names_what_exists() -> None:
    rows = re.findall(r"^\| \w+ \| `([\w.]+)` \| .* \| (`.*`) \|$", section("The way of a model"), re.M)
    assert len(rows) == 6
    for function, folders in rows:
        module, *attributes = function.split(".")
        target: object = importlib.import_module(f"cnnengine.{module}")
        for attribute in attributes:
            target = getattr(target, attribute)
        assert callable(target)
        for folder in re.findall(r"`(.*?)`", folders):
            assert (ROOT / folder).is_dir()


def test_the_table_of_errors_is_complete() -> None:
    named = {cell.strip("`") for cell in first_column("Errors")}
    assert named == set(errors.__all__) - {"CNNEngineError"}
    for name in named:
        assert issubclass(getattr(errors, name), errors.CNNEngineError)


def test_the_table_of_errors_names_the_right_bases() -> None:
    for row in re.findall(r"^\| `(\w+)` \| (.*?) \|", section("Errors"), re.M):
        for base in re.findall(r"`(\w+)`", row[1]):
            known = getattr(errors, base, None) or getattr(builtins, base)
            assert issubclass(getattr(errors, row[0]), known)


def test_the_table_of_environment_variables_is_complete() -> None:
    named = {cell.strip("`") for cell in first_column("Environment variables")}
    sources = [ROOT / "setup.py", *(p for p in (ROOT / "cnnengine").rglob("*.py*") if p.suffix in (".py", ".pyx"))]
    sources += [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    pattern = r"environ(?:\.get\(|\[)\s*[\"']((?:CNNENGINE|OMP)_\w+)[\"']"
    read = {name for path in sources for name in re.findall(pattern, path.read_text(encoding="utf-8"))}
    assert read == named


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_commands_of_the_readme_are_those_of_make(target: str) -> None:
    # what an outer make was told (ENVS=..., PYTEST_ARGS=...) reaches its children through these
    outer = ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "ENVS", "PYTHON", "PYTEST_ARGS")
    clean = {k: v for k, v in os.environ.items() if k not in outer}
    command = ["make", "--no-print-directory", "-n", target]
    planned = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    commands = [line.strip() for line in planned.stdout.splitlines()]
    assert len(commands) == 3
    written = [line.strip() for line in README.splitlines() if line.startswith("    ")]
    assert set(commands) <= set(written)


def test_links_lead_somewhere() -> None:
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "models" / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_version_is_one() -> None:
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert stated is not None
    if cnnengine.__version__ != "0+unknown":  # a source tree that is not installed
        assert cnnengine.__version__ == stated[1]
    assert f"## [{stated[1]}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
