"""The two tables: every rewrite has its drafts, needs what it says and no less, tells why it declines, and keeps its books."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from unittest import mock

import numpy as np
import pytest
import rewrites
from rewrites import PATTERNS

import cnnengine
from cnnengine.errors import CNNEngineError
from cnnengine.graph import Node
from cnnengine.importer.graphs import import_model
from cnnengine.importer.reader import open_model
from cnnengine.ops.common import FAULTS
from cnnengine.rewrites import LAST, PORTABLE, SHAPED, explaining
from cnnengine.rewrites.integers import QUANTIZED, QUANTIZED_SHAPED
from cnnengine.rewrites.nodes import Nodes, Rewrite

EVERY = {rewrite.name: rewrite for rewrite in (*QUANTIZED, *PORTABLE, *LAST, *SHAPED, *QUANTIZED_SHAPED)}
# These work on all nodes alike, or leave one alone where less is known of a value than in any draft (`test_why.py`).
SILENT = {"bind_constants", "common_subexpressions", "dead_code", "fold_beside_quantized", "fold_constants", "remove_identity"}
SILENT |= {"cancel_transposes", "fuse_channels", "resolve_castlike", "widen_half"}


def drafts(name: str, count: int) -> Iterator[rewrites.Draft]:
    for seed in range(count):
        d = rewrites.draft(name, 5000 + seed)
        if d.outputs:
            yield d


def tried(d: rewrites.Draft) -> None:
    """Load and run a draft, which may be no valid model."""
    with contextlib.suppress(CNNEngineError), np.errstate(all="ignore"):
        loaded = cnnengine.load(d.proto(), winograd=False)
        loaded.run(None, {n: v for n, v in d.feeds.items() if n in {i.name for i in loaded.inputs}})


def test_every_rewrite_has_a_draft():
    assert set(EVERY) == {name.split(":")[0] for name in PATTERNS}


@pytest.mark.parametrize("entry", [*QUANTIZED, *PORTABLE, *LAST, *SHAPED, *QUANTIZED_SHAPED], ids=lambda entry: entry.name)
def test_what_a_table_says_of_a_rewrite_it_says_itself(entry: Rewrite) -> None:
    """Its entry names it and one group of its own needs, or is itself."""
    module = import_module(f"cnnengine.rewrites.{entry.name}")
    itself: Rewrite = getattr(module, entry.name)
    assert itself.name == entry.name
    assert set(map(frozenset, entry.needs)) <= set(map(frozenset, itself.needs))


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_makers_and_readers_are_those_of_the_nodes(name: str) -> None:
    """After every rewrite that changed something, on matches and near misses: what is kept up to date is what one would build."""
    apply = Rewrite.apply

    def checked(self: Rewrite, nodes: Nodes) -> bool:
        changed = apply(self, nodes)
        if changed:
            agrees(nodes, self.name)
        return changed

    with mock.patch.object(Rewrite, "apply", checked):
        for d in drafts(name, 24):
            tried(d)


def agrees(nodes: Nodes, who: str) -> None:
    now = nodes.nodes()
    assert [id(n) for n in nodes] == [id(n) for n in now], who
    made = Counter(o for n in now for o in n.outputs if o)
    assert max(made.values(), default=1) == 1, who
    reads = Counter((name, id(n)) for n in now for name in n.inputs if name)
    position = {o: i for i, n in enumerate(now) for o in n.outputs if o}
    for i, node in enumerate(now):
        assert node in nodes
        assert node in list(nodes.of(node.op.op_type)), who
        for o in filter(None, node.outputs):
            assert nodes.maker(o) is node, (who, o)
        for name in filter(None, node.inputs):
            assert position.get(name, -1) < i, (who, f"{name} is read before it is made")
            if name not in position and nodes.specs is None:
                graph = nodes.graph()
                assert name in graph.inputs or name in nodes.constants, (who, name)
    for name in {*made, *nodes.constants}:
        readers = {key for value, key in reads if value == name}
        assert {id(n) for n in nodes.readers(name)} == readers, (who, name)
        alone = len(readers) == 1 and reads[name, next(iter(readers))] == 1 and name not in nodes.kept
        assert (nodes.only_reader(name) is not None) == alone, (who, name)
    for kind in {n.op.op_type for n in now}:
        assert nodes.has(kind), who
    for name in nodes.kept:
        known = nodes.value(name) is not None or (nodes.specs is None and name in nodes.graph().inputs)
        live = nodes.specs is not None and name not in position
        assert name in position or known or live, (who, name)


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_a_rewrite_without_what_it_needs_changes_nothing(name: str) -> None:
    """`needs` may leave no graph out that the rewrite would change."""
    for d in drafts(name, 40):
        try:
            graph = import_model(open_model(d.proto(), None).message)
        except CNNEngineError:
            continue
        for rewrite in (*QUANTIZED, *PORTABLE, *LAST):
            nodes = Nodes.of_graph(graph)
            if not rewrite.concerns(nodes):
                with contextlib.suppress(*FAULTS):
                    assert not rewrite.apply(nodes), rewrite.name


def test_what_comes_near_is_told_why_it_is_left() -> None:
    """Among the near misses of all patterns, every rewrite that may decline gives reasons."""
    told: set[str] = set()
    left = Nodes.left

    def noted(self: Nodes, node: Node, reason: str) -> None:
        assert node in self
        assert reason
        told.add(self.rewrite)
        left(self, node, reason)

    with mock.patch.object(Nodes, "left", noted), explaining() as reasons:
        for pattern in PATTERNS:
            for d in drafts(pattern, 60):
                tried(d)
    assert told == set(EVERY) - SILENT
    assert {found.rewrite for found in reasons.values()} <= told


def test_nobody_asked_nothing_is_noted() -> None:
    d = next(drafts("fuse_matmul: product_and_bias", 1))
    nodes = Nodes.of_graph(import_model(open_model(d.proto(), None).message))
    assert not nodes.explains
    nodes.left(nodes.nodes()[0], "a reason")
    with explaining() as reasons:
        pass
    assert not reasons
