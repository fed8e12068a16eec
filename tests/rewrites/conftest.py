"""Operators that have no class yet get stand-ins, in the passes' own look-ups too."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import support


@pytest.fixture(autouse=True)
def look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    import cnnengine.rewrites  # noqa: F401  (its modules are patched by name)

    for name in ("fuse_gates", "fuse_matmul", "global_pool"):
        monkeypatch.setattr(sys.modules[f"cnnengine.rewrites.{name}"], "lookup", support.find)
    if importlib.util.find_spec("cnnengine.ops.activation") is None:
        for name in ("conv", "dense"):
            if importlib.util.find_spec(f"cnnengine.ops.{name}") is not None:
                monkeypatch.setattr(importlib.import_module(f"cnnengine.ops.{name}"), "activate", support.activate)
