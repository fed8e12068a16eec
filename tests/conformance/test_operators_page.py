"""docs/operators.md is what its script writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx
import pytest
from conformance.suite import EXCLUDED, PINNED, by_name, record

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_operators.py"


@pytest.mark.skipif(onnx.__version__ != PINNED, reason=f"the page is that of onnx {PINNED}")
def test_the_page_is_not_stale() -> None:
    spec = importlib.util.spec_from_file_location("make_operators", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = script.page([record(name) for name in by_name()], len(EXCLUDED))
    assert text == script.PAGE.read_text(), "run `python docs/make_operators.py`"
