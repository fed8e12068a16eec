"""Every rewrite, on what it matches and on what comes near: the graph means the same, for kernels and references.

`rewrites.py` makes the graphs. `CNNENGINE_REWRITE_SEEDS` sets how many of each pattern are tried.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest
import rewrites
from rewrites import PATTERNS, Draft

import cnnengine
import cnnengine.rewrites
from cnnengine._kernels import dispatch
from cnnengine.errors import CNNEngineError
from cnnengine.graph import Graph
from cnnengine.importer.graphs import import_model
from cnnengine.importer.reader import open_model
from cnnengine.ops.common import FAULTS
from cnnengine.rewrites import SHAPED
from cnnengine.rewrites.integers import QUANTIZED_SHAPED
from cnnengine.rewrites.nodes import Rewrite
from cnnengine.runtime.runner import fill_arenas
from cnnengine.spec import TensorSpec

CHAINS = importlib.import_module("cnnengine.rewrites.fuse_chains")  # the package has the rewrite under this name

SEEDS = int(os.environ.get("CNNENGINE_REWRITE_SEEDS", "108"))
ROUNDING = {np.dtype(np.float16): 1e-2, np.dtype(np.float32): 4e-5, np.dtype(np.float64): 1e-9}
"""Of the largest value: sums are added in another order, and halves are rounded at the end alone."""


def one_by_one(graph: Graph, feeds: dict[str, np.ndarray]) -> list[Any] | None:
    """The graph's outputs by the operators' references; None where an operator refuses what it is given."""
    values: dict[str, Any] = {name: np.asarray(value) for name, value in graph.constants.items()}
    values.update(feeds)
    for node in graph.nodes:
        inputs = [values[n] if n else None for n in node.inputs]
        try:
            node.op.specs([TensorSpec.of(v) if isinstance(v, np.ndarray) else _loose(v) for v in inputs])
            with np.errstate(all="ignore"):
                results = node.op.evaluate(*inputs)
        except (CNNEngineError, *FAULTS):
            return None
        values.update((n, v) for n, v in zip(node.outputs, results, strict=False) if n)
    return [np.asarray(values[name]) for name in graph.outputs]


def _loose(value: Any) -> TensorSpec | None:
    return None if value is None else TensorSpec(value[0].dtype if value else np.dtype(np.float32), None)


def agree(d: Draft, actual: Sequence[Any], expected: Sequence[np.ndarray], who: str) -> None:
    step = d.step()
    dtypes = {v.dtype for v in (*d.feeds.values(), *d.constants.values()) if v.dtype.kind == "f"}
    for name, a, e in zip(d.outputs, actual, expected, strict=True):
        a = np.asarray(a)
        assert (a.shape, a.dtype) == (e.shape, e.dtype), (who, name)
        if e.dtype in (np.int8, np.uint8) and step:
            assert np.abs(a.astype(int) - e).max(initial=0) <= 1, (who, name)
            continue
        if e.dtype.kind != "f":
            np.testing.assert_array_equal(a, e, f"{who}: {name}")
            continue
        rounding = max(ROUNDING[t] for t in {e.dtype, *dtypes})
        wide = e.astype(np.float64)
        scale = float(np.abs(wide[np.isfinite(wide)]).max(initial=0)) or 1.0
        scale *= max(1.0, scale / 100)  # a quotient by next to nothing has its rounding enlarged
        np.testing.assert_allclose(a.astype(np.float64), wide, rtol=0, atol=rounding * scale + step, err_msg=f"{who}: {name}")


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Rewrites that pay in large layers, in small ones too."""
    with mock.patch.object(CHAINS, "CHAIN_BYTES", 1):
        yield


def check(d: Draft, isas: Sequence[str]) -> str:
    """All ways to compute a draft agree; "valid", "refused" or, where only an operator that was not needed refuses, "left"."""
    proto = d.proto()
    try:
        graph = import_model(open_model(proto, None).message)
    except CNNEngineError:
        with pytest.raises(CNNEngineError):
            cnnengine.load(proto)
        return "refused"
    feeds = {n: v for n, v in d.feeds.items() if n in graph.inputs}
    expected = one_by_one(graph, feeds)
    if expected is None:
        try:
            with eager(), np.errstate(all="ignore"):
                cnnengine.load(proto).run(None, feeds)
        except CNNEngineError:
            return "refused"
        return "left"
    after = cnnengine.rewrites.simplify(graph)
    after.check()
    rewritten = one_by_one(after, feeds)
    assert rewritten is not None, "an operator refuses what the rewrites made"
    agree(d, rewritten, expected, "references, after the rewrites")
    for isa in isas:
        with dispatch.use_isa(isa), eager():
            loaded = cnnengine.load(proto, winograd=False)
            results = loaded.run(None, feeds, threads=1)
            agree(d, results, expected, f"model, {isa}")
            for name, one, two in zip(d.outputs, results, loaded.run(None, feeds, threads=2), strict=True):
                np.testing.assert_array_equal(two, one, f"{isa}, 2 threads: {name}")
    return "valid"


@pytest.fixture(autouse=True)
def rubbish():
    fill_arenas(255)
    yield
    fill_arenas(None)


def _shown(d: Draft) -> str:
    import onnx

    return f"changes: {d.notes}\n{onnx.printer.to_text(d.proto())}"


@pytest.mark.parametrize("name", PATTERNS)
def test_matches_and_near_misses(name: str) -> None:
    isas = dispatch.available_isas()
    by_shapes = name.split(":")[0] in {rewrite.name for rewrite in (*SHAPED, *QUANTIZED_SHAPED)}
    found = []
    for seed in range(SEEDS):
        d = rewrites.draft(name, seed)
        # what rewrites do is seen by the references; 7 and the number of changes have no divisor in common
        kernels = by_shapes or seed % 7 == 0
        try:
            found.append(check(d, [isas[seed // 7 % len(isas)]] if kernels else []))
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}: {type(error).__name__}: {error}\n{_shown(d)}") from error
    assert found.count("valid") >= SEEDS // 4  # most changes leave a model


@pytest.mark.parametrize("name", PATTERNS)
def test_what_is_drafted_matches(name: str) -> None:
    """Without changes, the rewrite that a pattern is for does something: or the near misses would be near nothing."""
    wanted = name.split(":")[0]
    happened = 0
    for seed in range(12):
        d = rewrites.draft(name, 1000 + seed, 0, plainly=True)
        if not d.outputs:
            continue
        with contextlib.ExitStack() as stack:
            did: set[str] = set()
            stack.enter_context(eager())
            stack.enter_context(mock.patch.object(Rewrite, "apply", _noting(did)))
            loaded = cnnengine.load(d.proto(), winograd=False)
            loaded.run(None, d.feeds)
            happened += wanted in did
    assert happened >= 4


def _noting(did: set[str]) -> Any:
    """`Rewrite.apply`, which notes the names of those that change something."""
    apply = Rewrite.apply

    def noting(self: Rewrite, nodes: Any) -> bool:
        changed = apply(self, nodes)
        if changed:
            did.add(self.name)
        return changed

    return noting
