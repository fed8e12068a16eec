"""ONNX's conformance suite, a test for each case, at the suite's own tolerances."""

from __future__ import annotations

import onnx
import onnx.backend.test
import pytest
from conformance.suite import EXCLUDED, NAMES, Recorder, Suite, by_name, record

PINNED = "1.23.2"
COUNT = 2025
ALL = NAMES.read_text().split()

pinned = pytest.mark.skipif(onnx.__version__ != PINNED, reason=f"the names are those of onnx {PINNED}")


@pytest.mark.parametrize("name", ALL)
def test_case(name: str) -> None:
    if name not in by_name():
        pytest.skip(f"not in onnx {onnx.__version__}")
    found = record(name)
    assert found.passed, found.error


@pinned
def test_all_cases_are_here() -> None:
    assert len(ALL) == len(set(ALL)) == COUNT
    assert list(by_name()) == ALL


@pinned
def test_the_excluded_cases_exist() -> None:
    suite = Suite(Recorder, __name__)
    every = {name for items in suite._test_items.values() for name in items if name.endswith("_cpu")}
    assert len(every) == COUNT + len(EXCLUDED)
    assert set(EXCLUDED) == every - set(ALL)
    assert all(reason for reason in EXCLUDED.values())
