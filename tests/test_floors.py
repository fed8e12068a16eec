"""Who may import whom: only downward, and no two files in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "cnnengine"  # the sources: what is installed lacks the .pyx
# Lowest first: the one list of floors, which the README, CONTRIBUTING.md and docs/architecture.md tell. A part of the package may
# import from its own floor and from those below it; no two files may import each other, be it by others in between, inside of a
# function or for annotations alone.
FLOORS = [
    ["errors", "records"],
    ["_kernels", "arguments", "limits"],
    ["spec", "layout", "window", "weights"],
    ["packing", "runtime", "preprocess", "pages"],
    ["operator"],
    ["graph"],
    ["ops"],
    ["rewrites"],
    ["plan"],
    ["functional", "importer", "onnx_functions", "config", "feeds", "files", "metadata", "lab"],
    ["loaded", "explain"],
    ["model"],
    ["report", "session", "capi", "backend", "bench", "quantization", "tasks", "view"],
    ["onnxruntime"],
    ["cli", "__pyinstaller"],
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
# Files that stand for the package itself, as users import it.
SURFACE = ("__init__", "__main__")
CYTHON_IMPORT = re.compile(
    r"^\s*(?:from\s+(cnnengine[\w.]*)\s+c?import\s+\(?([^#\n]*)|c?import\s+(cnnengine[\w.]*))", re.MULTILINE
)


def modules() -> dict[str, list[Path]]:
    """Module name -> its files (a compiled one has a .pyx and perhaps a .pxd)."""
    found: dict[str, list[Path]] = {}
    for path in sorted(ROOT.rglob("*")):
        if path.suffix in (".py", ".pyx", ".pxd"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(("cnnengine", *parts)).removesuffix(".__init__")
            found.setdefault(name, []).append(path)
    return found


def named(path: Path) -> Iterator[str]:
    """Dotted names that a file imports from the package; of ``from a import b`` a.b, which may be no module."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        for stem, names, plain in CYTHON_IMPORT.findall(text):
            yield from [f"{stem}.{name.split(' as ')[0].strip()}" for name in names.split(",")] if stem else [plain]
        return
    package = ("cnnengine", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{a.name}" for a in node.names)


def edges() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports."""
    found = modules()
    graph: dict[str, set[str]] = {}
    for module, paths in found.items():
        targets: set[str] = set()
        graph[module] = targets
        for path in paths:
            for name in named(path):
                while name and name not in found:
                    name = name.rpartition(".")[0]
                if name and name != module and name != "cnnengine":
                    targets.add(name)
    return graph


def part(module: str) -> str:
    """The part of the package that a module is in, which has a floor."""
    return module.split(".")[1]


def below(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    return {m: targets for m, targets in graph.items() if m != "cnnengine" and part(m) not in SURFACE}


def test_every_part_has_a_floor():
    assert {part(m) for m in below(edges())} == set(FLOOR)


def test_imports_go_down():
    graph = below(edges())
    upward = [f"{a} -> {b}" for a, targets in graph.items() for b in targets if FLOOR[part(b)] > FLOOR[part(a)]]
    assert not upward


def test_no_circle():
    graph = below(edges())
    circles = []
    for start in graph:
        seen: set[str] = set()
        stack = [start]
        while stack:
            for other in graph.get(stack.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        if start in seen:
            circles.append(start)
    assert not circles


def test_imports_are_seen_in_every_kind_of_file():
    """What the others rest on."""
    graph = edges()
    assert "cnnengine.errors" in graph["cnnengine._kernels.dispatch"]  # a .pyx
    assert "cnnengine._kernels.launch" in graph["cnnengine.runtime.threads"]  # a .pxd
    assert "cnnengine.spec" in graph["cnnengine.graph"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_documents_tell_the_same_floors(name: str):
    lines = (Path(__file__).resolve().parents[1] / name).read_text(encoding="utf-8").splitlines()
    at = lines.index("    " + ", ".join(FLOORS[0]))
    assert [line.strip().split(", ") for line in lines[at : at + len(FLOORS)]] == FLOORS
    assert not lines[at + len(FLOORS)].strip()
