"""Nodes: what a rewrite sees of a graph and how it changes it, before shapes are known and at concrete ones.

A rewrite is a function that takes `Nodes`, marked by `@rewrite(...)` with the operators that it needs to look at. It asks who
makes and who reads a value, what is known of it, and puts nodes in the place of others; makers, readers and the operators that
are there are kept up to date by each change, so that the next question is about the graph as it then is. What nothing reads any
more goes at once. A change leaves every value that is still there what it was: names are kept, and what is known of them stays
true.

Each change (`put`, `same`, `computed`, `remove`, `drop`) leaves a graph that means the same: a rewrite may stop, or fail, between
any two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from ..graph import Graph, Node
from ..ops.shape import Identity
from ..spec import TensorSpec
from .facts import Fact, facts, specs_of

FLOAT32, UINT8 = np.dtype(np.float32), np.dtype(np.uint8)
NOTHING = Fact()


@dataclass(frozen=True)
class Declined:
    """Why a rewrite left nodes that its pattern nearly fits.

    Attributes
    ----------
    node, operator : str
        The node that the rewrite started from.
    rewrite : str
    reason : str
    """

    node: str
    operator: str
    rewrite: str
    reason: str


_explained: ContextVar[dict[tuple[str, str, str], Declined] | None] = ContextVar("explained", default=None)


@contextmanager
def explaining() -> Iterator[dict[tuple[str, str, str], Declined]]:
    """While it lasts, what is loaded and planned in this thread notes why rewrites decline: by rewrite, node and output."""
    found: dict[tuple[str, str, str], Declined] = {}
    token = _explained.set(found)
    try:
        yield found
    finally:
        _explained.reset(token)


class Nodes:
    """Nodes in topological order with what is known of their values.

    Parameters
    ----------
    nodes : sequence of Node
    constants : dict of str to ndarray
        The model's; those that rewrites make are added where there is no `specs`, and those that nothing reads go.
    kept : collection of str
        Values that are read from outside.
    graph : Graph, optional
        Of which these are the nodes, where shapes are not known.
    specs : dict of str to TensorSpec, optional
        Concrete specs of all values; what rewrites make is added. Nodes whose values are known by them, or that nothing needs,
        are left out.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        constants: dict[str, np.ndarray],
        kept: Collection[str],
        *,
        graph: Graph | None = None,
        specs: dict[str, TensorSpec] | None = None,
    ) -> None:
        assert (graph is None) != (specs is None)
        self.constants = constants
        self.kept = kept
        self.specs = specs
        self.edits = 0
        """Number of changes so far."""
        self.rewrite = ""
        """The rewrite that is at work, as its reasons name it."""
        self.largest: dict[int, tuple[object, float]] = {}
        """Largest absolute values of weights, by id, with the weights so that the id stays theirs."""
        self._graph = graph
        self._graph_at = 0
        self._facts: Mapping[str, Fact] | None = None
        self._facts_at = 0
        self._fresh: dict[str, int] = {}
        self._names: set[str] | None = None
        self._reasons = _explained.get()
        self._noted: set[str] = set() if self._reasons is None else {name for node in nodes for name in node.outputs}
        nodes = nodes if specs is None else self._needed(nodes, specs)
        self._long = False
        """Whether there are rows of several nodes: changing one of them takes as long as its row is."""
        self._rows: list[tuple[Node, ...]] = [(node,) for node in nodes]
        self._row_of: dict[int, int] = {id(node): row for row, node in enumerate(nodes)}
        self._makers: dict[str, Node] = {}
        self._readers: dict[str, dict[int, Node]] = {}
        self._kinds: dict[str, dict[int, Node]] = {}
        self._twice: set[tuple[str, int]] = set()
        """Values with the ids of nodes that read them more than once."""
        for node in nodes:
            self._index(node)

    @staticmethod
    def of_graph(graph: Graph) -> Nodes:
        """A graph's; it stays as it is."""
        return Nodes(graph.nodes, dict(graph.constants), graph.outputs, graph=graph)

    # ---------------------------------------------------------------- asking

    def __iter__(self) -> Iterator[Node]:
        """All nodes in order, as they are when their turn comes."""
        for row in range(len(self._rows)):
            for node in self._rows[row]:
                if id(node) in self._row_of:
                    yield node

    def of(self, *op_types: str) -> Iterator[Node]:
        """The nodes that are one of these operators, in order, as they are when their turn comes."""
        rows = {self._row_of[node] for kind in op_types for node in self._kinds.get(kind, ())}
        for row in sorted(rows):
            for node in self._rows[row]:
                if node.op.op_type in op_types and id(node) in self._row_of:
                    yield node

    def has(self, *op_types: str) -> bool:
        """Whether there is a node of one of these operators."""
        return any(self._kinds.get(kind) for kind in op_types)

    def __contains__(self, node: object) -> bool:
        return id(node) in self._row_of

    def position(self, name: str) -> int:
        """A number that is larger the later the value is made; -1 for what no node makes."""
        maker = self._makers.get(name)
        return -1 if maker is None else self._row_of[id(maker)]

    def maker(self, name: str, *op_types: str) -> Node | None:
        """The node that makes a value, if it is one of these operators (any, when none are named)."""
        node = self._makers.get(name)
        return node if node is not None and (not op_types or node.op.op_type in op_types) else None

    def readers(self, name: str) -> list[Node]:
        """The nodes that read a value, each once."""
        return list(self._readers.get(name, {}).values())

    def only_reader(self, name: str) -> Node | None:
        """The one node that reads a value, once; None when there are others, or when it is read from outside."""
        found = self._readers.get(name)
        if found is None or len(found) != 1 or name in self.kept:
            return None
        ((key, node),) = found.items()
        return None if (name, key) in self._twice else node

    def wanted(self, name: str) -> bool:
        """Whether anything reads the value."""
        return name in self.kept or bool(self._readers.get(name))

    def constant(self, node: Node, index: int) -> np.ndarray | None:
        """The constant of the model that a node reads as input `index`, if it is there and one."""
        return self.constants.get(node.inputs[index]) if index < len(node.inputs) else None

    def value(self, name: str) -> np.ndarray | None:
        """The value, where it is a constant or follows from shapes that are known by now."""
        if self.specs is None:
            return self.constants.get(name)
        spec = self.specs.get(name)
        return None if spec is None else spec.value

    def dtype(self, name: str) -> np.dtype | None:
        return self.fact(name).dtype if self.specs is None else self.specs[name].dtype

    def is_float32(self, name: str) -> bool:
        """Whether the dtype is known and float32; NumPy takes None for float64 where it compares it."""
        dtype = self.dtype(name)
        return dtype is not None and dtype == FLOAT32

    def rank(self, name: str) -> int | None:
        if self.specs is None:
            return self.fact(name).rank
        shape = self.specs[name].shape
        return None if shape is None else len(shape)

    def known(self) -> dict[str, TensorSpec]:
        """The specs, at known shapes."""
        assert self.specs is not None
        return self.specs

    def shape(self, name: str) -> tuple[int, ...]:
        """The extents, at known shapes."""
        return self.known()[name].concrete

    def may_lie_in_planes(self, name: str) -> bool:
        """Whether the value, at known shapes, may lie in planes of channels and is not empty."""
        spec = self.known().get(name)
        return (
            spec is not None
            and spec.value is None
            and spec.dtype in (FLOAT32, UINT8)
            and spec.is_concrete
            and 2 <= len(spec.concrete) <= 5
            and 0 not in spec.concrete
        )

    def fact(self, name: str) -> Fact:
        """dtype and rank where shapes are not known, as far as they follow from the graph as it was when the rewrite began."""
        if self._facts is None:
            self._facts, self._facts_at = facts(self.graph()), self.edits
        found = self._facts.get(name)
        if found is None and name in self.constants:
            value = self.constants[name]
            return Fact(value.dtype, value.ndim)
        return NOTHING if found is None else found

    @property
    def explains(self) -> bool:
        """Whether reasons are asked for."""
        return self._reasons is not None

    def specs_of(self, node: Node) -> list[TensorSpec | None]:
        """What is known of a node's inputs, None where absent; of constants their values."""
        if self.specs is not None:
            return [self.specs[n] if n else None for n in node.inputs]
        self.fact("")
        assert self._facts is not None
        return specs_of(node, self._facts, self.constants)

    def given(self) -> list[np.dtype]:
        """The dtypes of inputs and constants of a graph, where shapes are not known."""
        inputs = [] if self._graph is None else [spec.dtype for spec in self._graph.inputs.values()]
        return inputs + [value.dtype for value in self.constants.values()]

    def left(self, node: Node, reason: str) -> None:
        """Say why the rewrite at work leaves a node that its pattern nearly fits; costs nothing where nobody asked."""
        if self._reasons is not None:
            key = (self.rewrite, node.name, node.outputs[0] if node.outputs else "")
            self._noted.add(key[2])
            self._reasons[key] = Declined(node.name, node.op.op_type, self.rewrite, reason)

    # ---------------------------------------------------------------- changing

    def put(self, at: Node, *new: Node, gone: Sequence[Node] = ()) -> None:
        """Let `new` stand where `at` stands, which goes, and with it `gone` and what nothing reads any more."""
        row = self._row_of[id(at)]
        nodes = self._rows[row]
        index = next(i for i, node in enumerate(nodes) if node is at)
        self._rows[row] = (*nodes[:index], *new, *nodes[index + 1 :])
        self._long = self._long or len(new) > 1
        reads = self._unlink(at)
        for node in gone:
            reads += self._take_out(node)
        for node in new:
            self._row_of[id(node)] = row
            self._index(node)
        self.edits += 1
        self._drop_unread(reads)

    def remove(self, node: Node) -> None:
        """Drop a node that nothing reads, and what only it read."""
        self.edits += 1
        self._drop_unread(self._take_out(node))

    def drop(self, name: str) -> None:
        """Drop a constant that nothing reads."""
        self.edits += 1
        self._drop_unread([name])

    def same(self, changes: Mapping[str, str]) -> None:
        """Read `changes[name]` wherever `name` is read; what made the old values, and nothing else that is read, goes.

        A kept value keeps its name: the maker of its new value takes the name over, or, where that value is an input, a constant
        or kept itself, an Identity passes it on.
        """
        if not changes:
            return
        final: dict[str, str] = {}
        for name in changes:
            chain = []
            while name in changes and name not in final:
                chain.append(name)
                name = changes[name]
            final.update(dict.fromkeys(chain, final.get(name, name)))
        renamed: dict[str, str] = {}
        passed_on: dict[str, str] = {}
        for name in self.kept:
            target = final.get(name)
            if target is None:
                continue
            if target in self._makers and target not in self.kept and target not in renamed:
                renamed[target] = name
            else:
                passed_on[name] = renamed.get(target, target)

        def read(name: str) -> str:
            name = final.get(name, name)
            return renamed.get(name, name)

        touched: dict[int, Node] = {}  # each once, however many of its inputs change
        for name in (*final, *renamed):
            touched.update(self._readers.get(name, {}))
            maker = self._makers.get(name)
            if maker is not None:
                touched[id(maker)] = maker
        unread = list(final)
        for node in touched.values():
            outputs = tuple("" if o in final else renamed.get(o, o) for o in node.outputs)
            if any(outputs) or not any(node.outputs):
                self._swap(node, Node(node.op, tuple(map(read, node.inputs)), outputs, node.name))
            else:
                unread += self._take_out(node)
        for name, target in passed_on.items():
            node = Node(Identity(), (read(target),), (name,), f"{name}/identity")
            self._row_of[id(node)] = len(self._rows)
            self._rows.append((node,))
            self._index(node)
        self.edits += 1
        self._drop_unread(unread)

    def computed(self, node: Node, results: Mapping[str, np.ndarray]) -> None:
        """Let a node's results, by name, be constants, and drop it."""
        self.edits += 1
        reads = self._take_out(node)
        self.constants.update(results)
        self._drop_unread(reads)

    def add(self, stem: str, value: np.ndarray) -> str:
        """A constant of a new name like `stem`, for a node that is then put; its name."""
        name = self.fresh(stem)
        if self.specs is None:
            self.constants[name] = value
        else:
            self.specs[name] = TensorSpec.of(value)
        return name

    def made(self, stem: str, spec: TensorSpec) -> str:
        """The name of a new value like `stem`, at known shapes."""
        name = self.fresh(stem)
        self.known()[name] = spec
        return name

    def fresh(self, stem: str) -> str:
        """A value name like `stem` that is not taken."""
        if self._names is None:
            self._names = set(self.specs or ()) if self._graph is None else set(self._graph.names())
        count = self._fresh.get(stem, 2)  # so that n equal names take n steps
        name = stem
        while name in self._names:
            name = f"{stem}#{count}"
            count += 1
        self._fresh[stem] = count
        self._names.add(name)
        return name

    def begin(self, rewrite: str) -> None:
        """Tell which rewrite is at work; what it asks is answered from the graph as it is now."""
        self.rewrite = rewrite
        if self._long:
            self._long = False
            nodes = self.nodes()
            self._rows = [(node,) for node in nodes]
            self._row_of = {id(node): row for row, node in enumerate(nodes)}
        if self._facts_at != self.edits:
            self._facts = None
        if self._reasons is not None:
            for key in [key for key in self._reasons if key[0] == rewrite and self.specs is None]:
                del self._reasons[key]  # of a round before

    def done(self) -> None:
        """Forget the reasons why nodes were left that are gone since."""
        for key, declined in list((self._reasons or {}).items()):
            maker = self._makers.get(key[2])
            if key[2] in self._noted and (maker is None or maker.op.op_type != declined.operator) and self._reasons is not None:
                del self._reasons[key]

    # ---------------------------------------------------------------- the result

    def nodes(self) -> list[Node]:
        return [node for row in self._rows for node in row]

    def graph(self) -> Graph:
        """The graph as it is now: the one that it was made of where nothing has changed."""
        assert self._graph is not None
        if self._graph_at != self.edits:
            self._graph = self._graph.replace(nodes=self.nodes(), constants=dict(self.constants))
            self._graph_at = self.edits
        return self._graph

    # ---------------------------------------------------------------- keeping order

    def _needed(self, nodes: Sequence[Node], specs: Mapping[str, TensorSpec]) -> list[Node]:
        """Nodes whose outputs are not known from shapes alone and that something needs."""
        need = {n for n in self.kept if specs[n].value is None}
        found: list[Node] = []
        for node in reversed(nodes):
            if not need.isdisjoint(node.outputs):
                found.append(node)
                need.update([n for n in node.inputs if n and specs[n].value is None])
        return found[::-1]

    def _index(self, node: Node) -> None:
        for name in node.outputs:
            if name:
                self._makers[name] = node
        key, readers = id(node), self._readers
        for name in node.inputs:
            if name:
                found = readers.get(name)
                if found is None:
                    readers[name] = {key: node}
                else:
                    if key in found:
                        self._twice.add((name, key))
                    found[key] = node
        kind = node.op.op_type
        kinds = self._kinds.get(kind)
        if kinds is None:
            self._kinds[kind] = {key: node}
        else:
            kinds[key] = node

    def _unlink(self, node: Node) -> list[str]:
        """Forget who reads, makes and is what, for one node; the values that it read."""
        key, reads = id(node), [name for name in node.inputs if name]
        del self._row_of[key]
        del self._kinds[node.op.op_type][key]
        for name in node.outputs:
            if self._makers.get(name) is node:
                del self._makers[name]
        for name in reads:
            self._readers[name].pop(key, None)
            if self._twice:
                self._twice.discard((name, key))
        return reads

    def _take_out(self, node: Node) -> list[str]:
        row = self._row_of[id(node)]
        self._rows[row] = tuple(n for n in self._rows[row] if n is not node)
        return self._unlink(node)

    def _swap(self, old: Node, new: Node) -> None:
        row = self._row_of[id(old)]
        self._rows[row] = tuple(new if n is old else n for n in self._rows[row])
        self._unlink(old)
        self._row_of[id(new)] = row
        self._index(new)

    def _drop_unread(self, names: list[str]) -> None:
        """Drop what made these values, and so on, where nothing reads them any more."""
        while names:
            name = names.pop()
            if self.wanted(name):
                continue
            maker = self._makers.get(name)
            if maker is None:
                if self.specs is None:
                    self.constants.pop(name, None)
            elif not any(o and self.wanted(o) and (self.specs is None or self.specs[o].value is None) for o in maker.outputs):
                names += self._take_out(maker)


class Rewrite:
    """A rewrite with what it needs: called with a Graph, it gives the graph rewritten, or the same where it changes nothing.

    Attributes
    ----------
    name : str
    needs : tuple of tuples of str
        Operators without one of each group of which it leaves every graph as it is.
    """

    def __init__(self, run: Callable[[Nodes], None], needs: tuple[tuple[str, ...], ...]) -> None:
        self.run = run
        self.needs = needs
        self.name = self.__name__ = run.__name__
        self.__doc__ = run.__doc__

    def concerns(self, nodes: Nodes) -> bool:
        """Whether the operators that it looks for are there."""
        return all(nodes.has(*group) for group in self.needs)

    def apply(self, nodes: Nodes) -> bool:
        """Rewrite the nodes; whether that changed anything."""
        before = nodes.edits
        nodes.begin(self.name)
        self.run(nodes)
        return nodes.edits != before

    def __call__(self, graph: Graph) -> Graph:
        nodes = Nodes.of_graph(graph)
        self.apply(nodes)
        return nodes.graph()

    def __repr__(self) -> str:
        return f"<rewrite {self.name}>"


def rewrite(*needs: tuple[str, ...]) -> Callable[[Callable[[Nodes], None]], Rewrite]:
    """Mark a function as a rewrite that leaves every graph as it is that lacks one of each of these groups of operators."""
    return lambda run: Rewrite(run, needs)


def late(name: str, *operators: str) -> Rewrite:
    """The rewrite of this name in the module of this name, which is imported when it is first run.

    So a load imports nothing that its graph has no use for.

    Parameters
    ----------
    name : str
    operators : str
        One group of its `needs`: it is not run, and so not imported, where none of these is there.
    """

    def run(nodes: Nodes) -> None:
        found: Rewrite = getattr(import_module(f".{name}", __package__), name)
        itself.run, itself.needs, itself.__doc__ = found.run, found.needs, found.__doc__
        found.run(nodes)

    run.__name__ = name
    itself = Rewrite(run, (operators,))
    return itself
