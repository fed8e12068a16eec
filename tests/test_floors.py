"""Who may import whom: only downward, never in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import cnnengine

ROOT = Path(cnnengine.__file__).parent
# Lowest first. A module may import from its own floor (without a circle) and from those below it.
FLOORS = [
    ["arguments", "errors", "records", "_kernels"],
    ["graph", "window", "runtime", "preprocess"],
    ["ops", "passes", "functional", "onnx_functions"],
    ["importer", "lowering", "config"],
    ["model"],
    ["report", "session", "capi", "backend", "bench", "__pyinstaller"],
    ["cli"],
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}


def top_level(path: Path) -> str:
    part = path.relative_to(ROOT).parts[0]
    return part.removesuffix(".py").removesuffix(".pyx")


def imported(path: Path) -> set[str]:
    """Top-level parts of the package that a Python file imports, but for annotations alone."""
    tree = ast.parse(path.read_text())
    found = set()
    package = ("cnnengine", *path.relative_to(ROOT).with_suffix("").parts[:-1])
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{stem}.{a.name}" for a in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "cnnengine" and len(parts) > 1:
                found.add(parts[1])
    return found & set(FLOOR)


def edges() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = top_level(path)
        if name not in ("__init__", "__main__"):
            graph.setdefault(name, set()).update(imported(path) - {name})
    return graph


def test_every_part_has_a_floor():
    assert set(edges()) <= set(FLOOR)


def test_imports_go_down():
    upward = [f"{a} -> {b}" for a, targets in edges().items() for b in targets if FLOOR[b] > FLOOR[a]]
    assert not upward


def test_no_circle():
    graph = edges()

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        stack = [start]
        while stack:
            for other in graph.get(stack.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        return seen

    assert [name for name in graph if name in reach(name)] == []
