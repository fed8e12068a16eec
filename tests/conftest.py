"""Fixtures that every kernel test shares: each instruction set of this machine, and 1 and 2 threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # `import oracle`, in every import mode

# The same examples on every machine and in every run; a found failure becomes a case of its own, not a database entry.
settings.register_profile(
    "cnnengine",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("cnnengine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CNNENGINE_ALL_INSTALLED is 1, a test that skips because something is not installed fails: it was to be there."""
    report = yield
    if report.skipped and os.environ.get("CNNENGINE_ALL_INSTALLED") == "1" and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if "not installed" in reason or "could not import" in reason:
            report.outcome, report.longrepr = "failed", f"{item.nodeid}: {reason}"
    return report


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "products_of_bytes: runs on instruction sets that differ in products of bytes alone, too")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:  # asked here, so that tests without kernels run in a tree that is not built
        from cnnengine._kernels import dispatch

        isas = dispatch.available_isas()
        if metafunc.definition.get_closest_marker("products_of_bytes") is None:
            isas = tuple(isa for isa in isas if dispatch.float_isa(isa) == isa)  # the others have the same tiles
        metafunc.parametrize("isa", isas, indirect=True)
    if "pairs_isa" in metafunc.fixturenames:
        from cnnengine._kernels import dispatch

        isas = tuple(isa for isa in dispatch.available_isas() if "bconv" in dispatch.OWN.get(isa, ()))
        metafunc.parametrize("pairs_isa", isas, indirect=True)


@pytest.fixture
def isa(request: pytest.FixtureRequest):
    """The name of an instruction set; its kernels are the ones in use during the test."""
    from cnnengine._kernels import dispatch

    with dispatch.use_isa(request.param):
        assert dispatch.current_isa() == request.param
        yield request.param


@pytest.fixture
def pairs_isa(request: pytest.FixtureRequest):
    """The same, of those that multiply pairs of bfloat16 numbers."""
    from cnnengine._kernels import dispatch

    with dispatch.use_isa(request.param):
        yield request.param


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> int:
    """A number of threads."""
    return request.param
