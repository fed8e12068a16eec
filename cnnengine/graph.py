"""The graph between importer and lowering: values by name, nodes that hold operators.

A `Graph` knows neither ONNX protobufs nor kernels. Every pass maps a Graph to a Graph, and every Graph can be run
by `Graph.evaluate` with the operators' plain NumPy references, so that a pass is tested as before == after.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ModelError, ShapeError
from .records import lazy

if TYPE_CHECKING:
    from .ops.base import Operator

Dim = int | str | None
"""One extent: a number, the name of a symbolic dimension, or None where nothing is known."""


MAX_RANK = 32
"""Axes that NumPy has in every version."""


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not every system tells
        return 1 << 40


MAX_BYTES = _memory()
"""Bytes of one tensor: the machine's memory. A file of a hundred bytes can ask for more than any machine has."""


def check_size(shape: Sequence[int], dtype: np.dtype, tensor: str | None = None) -> None:
    """Raise ShapeError for a tensor that no memory can hold."""
    if 0 < math.prod(shape) * dtype.itemsize <= MAX_BYTES and len(shape) <= MAX_RANK:
        return
    # NumPy refuses empty arrays too when their other extents are beyond all memory
    if len(shape) > MAX_RANK or math.prod(max(d, 1) for d in shape) * dtype.itemsize > MAX_BYTES:
        raise ShapeError(
            "a tensor of this size cannot be held",
            tensor=tensor,
            expected=f"at most {MAX_BYTES} bytes and {MAX_RANK} axes",
            received=tuple(shape),
        )


@dataclass(frozen=True, eq=False)
class TensorSpec:
    """What is known of a value: dtype, shape, and the value itself where shapes alone decide it.

    Attributes
    ----------
    dtype : numpy.dtype
    shape : tuple of int, str or None, or None
        None when even the rank is unknown. While planning, all extents are ints.
    value : ndarray or None
        The value, when it is a constant or follows from shapes (Shape -> Gather -> Concat ...).
    kind : {"tensor", "sequence", "optional", "optional sequence"}
        What inputs and outputs of a graph are: a sequence is a list of arrays, dtype and shape those of its elements; an
        optional value may be None.
    """

    dtype: np.dtype
    shape: tuple[Dim, ...] | None
    value: np.ndarray | None = None
    kind: str = "tensor"

    def __init__(
        self, dtype: np.dtype, shape: tuple[Dim, ...] | None, value: np.ndarray | None = None, kind: str = "tensor"
    ) -> None:
        # as the generated one does, which sets each field by a call: planning makes thousands
        fields = self.__dict__
        fields["dtype"] = dtype
        fields["shape"] = shape
        fields["value"] = value
        fields["kind"] = kind

    @staticmethod
    def of(value: np.ndarray) -> TensorSpec:
        """The spec of a known value."""
        return TensorSpec(value.dtype, value.shape, value)

    @property
    def concrete(self) -> tuple[int, ...]:
        """The shape, when every extent is known; raises ValueError otherwise."""
        if not self.is_concrete:
            raise ValueError(f"the shape {self.shape} is not fully known")
        return self.shape  # type: ignore[return-value]

    @lazy
    def is_concrete(self) -> bool:
        if self.shape is None:
            return False
        for extent in self.shape:  # noqa: SIM110  asked so often that a generator would be felt
            if not isinstance(extent, int):
                return False
        return True


class Computed:
    """float32 weights that are computed when they are asked for and never kept: only packed they are needed.

    Takes the place of an ndarray among a graph's constants; what an ndarray has and this does not comes from one made for the
    purpose.

    Parameters
    ----------
    source : ndarray of float32, or Computed
        What they are made of; they have its shape.
    """

    __slots__ = ("dtype", "nbytes", "ndim", "shape", "size", "source")
    dtype: np.dtype
    shape: tuple[int, ...]
    nbytes: int
    ndim: int
    size: int

    def __init__(self, source: np.ndarray | Computed) -> None:
        self.source = source
        self.shape, self.dtype, self.ndim = source.shape, source.dtype, source.ndim
        self.size, self.nbytes = source.size, source.nbytes

    def made(self, empty: Callable[[int], np.ndarray]) -> np.ndarray:
        """The values, where it can be in memory for so many floats that `empty` gives."""
        raise NotImplementedError

    def cut(self, axis: int, start: int, end: int) -> np.ndarray | Computed:
        """A range of an axis, for which no more is computed than it needs."""
        raise NotImplementedError

    def bound(self, largest: Callable[[np.ndarray | Computed], float]) -> float:
        """The largest absolute value, or not less than it, from the `largest` of what it is made of."""
        raise NotImplementedError

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        out = self.made(lambda n: np.empty(n, np.float32))
        return out if dtype is None else out.astype(dtype, copy=False)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # the protocols by which NumPy looks for an array
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]


class Scaled(Computed):
    """Weights times numbers per channel. The products are those of float64, rounded once.

    Parameters
    ----------
    source : ndarray of float32, or Computed
    scale : ndarray of float64
        Broadcasts to the source.
    """

    __slots__ = ("scale",)

    def __init__(self, source: np.ndarray | Computed, scale: np.ndarray) -> None:
        super().__init__(source)
        self.scale = scale

    def made(self, empty: Callable[[int], np.ndarray]) -> np.ndarray:
        from ._kernels.conv import scale_rows  # only here: the graph itself needs no compiled code

        source = np.asarray(self.source)
        out: np.ndarray | None = scale_rows(source, self.scale, empty)
        if out is None:
            out = np.empty_like(source)
            np.multiply(source, self.scale, out=out, casting="same_kind")
        return out

    def cut(self, axis: int, start: int, end: int) -> Scaled:
        scale, own = self.scale, axis - (self.ndim - self.scale.ndim)
        if own >= 0 and scale.shape[own] > 1:
            scale = scale[(slice(None),) * own + (slice(start, end),)]
        return Scaled(cut(self.source, axis, start, end), scale)

    def bound(self, largest: Callable[[np.ndarray | Computed], float]) -> float:
        return largest(self.source) * float(np.abs(self.scale).max())


class Summed(Computed):
    """Weights with others added to a part of them.

    Parameters
    ----------
    source : ndarray of float32, or Computed
    part : tuple
        An index of the source, each element at most once: for the first two axes whole ones, or arrays of numbers.
    added : ndarray, or Computed
        What is added there.
    """

    __slots__ = ("added", "part")

    def __init__(self, source: np.ndarray | Computed, part: tuple[Any, ...], added: np.ndarray | Computed) -> None:
        super().__init__(source)
        self.part, self.added = part, added

    def made(self, empty: Callable[[int], np.ndarray]) -> np.ndarray:
        out = empty(self.size).reshape(self.shape)
        out[...] = self.source
        out[self.part] += np.asarray(self.added)
        return out

    def cut(self, axis: int, start: int, end: int) -> Summed:
        source, here = cut(self.source, axis, start, end), self.part[axis]
        if isinstance(here, slice):
            return Summed(source, self.part, cut(self.added, axis, start, end))
        inside = (here >= start) & (here < end)
        part = [p[inside] if isinstance(p, np.ndarray) else p for p in self.part]
        part[axis] = part[axis] - start
        return Summed(source, tuple(part), self.added[inside])

    def bound(self, largest: Callable[[np.ndarray | Computed], float]) -> float:
        return largest(self.source) + largest(self.added)


def cut(weights: np.ndarray | Computed, axis: int, start: int, end: int) -> np.ndarray | Computed:
    """A range of an axis of weights."""
    if isinstance(weights, Computed):
        return weights.cut(axis, start, end)
    return weights[(slice(None),) * axis + (slice(start, end),)]


@dataclass(frozen=True, eq=False)
class Node:
    """One operator with the names of its values; an empty input name means "absent"."""

    op: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str = ""

    def __init__(self, op: Operator, inputs: tuple[str, ...], outputs: tuple[str, ...], name: str = "") -> None:
        fields = self.__dict__
        fields["op"] = op
        fields["inputs"] = inputs
        fields["outputs"] = outputs
        fields["name"] = name

    def replace(self, **changes: object) -> Node:
        return replace(self, **changes)  # type: ignore[arg-type]

    def reads(self) -> tuple[str, ...]:
        """The names of the values that it reads, in graphs of its own too; empty ones are absent inputs."""
        captured = self.op.captures()
        return (*self.inputs, *captured) if captured else self.inputs


@dataclass(eq=False)
class Graph:
    """Nodes in topological order, constants by name (arrays, or `Computed` ones), inputs and outputs.

    Passes never change a Graph in place: they build another one (`replace`), sharing the arrays.
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    nodes: list[Node]
    constants: dict[str, np.ndarray]
    name: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    _producers: dict[str, Node] | None = field(default=None, init=False, repr=False)
    _consumers: dict[str, list[Node]] | None = field(default=None, init=False, repr=False)
    _kinds: frozenset[str] | None = field(default=None, init=False, repr=False)
    _names: frozenset[str] | None = field(default=None, init=False, repr=False)

    def replace(self, **changes: object) -> Graph:
        return replace(self, **changes)  # type: ignore[arg-type]

    def producers(self) -> dict[str, Node]:
        """Value name -> the node that makes it; made once, not to be changed."""
        if self._producers is None:
            self._producers = {name: node for node in self.nodes for name in node.outputs if name}
        return self._producers

    def kinds(self) -> frozenset[str]:
        """The operators that the nodes have; made once."""
        if self._kinds is None:
            self._kinds = frozenset([node.op.op_type for node in self.nodes])
        return self._kinds

    def names(self) -> frozenset[str]:
        """The names of all values; made once."""
        if self._names is None:
            self._names = frozenset(self.inputs).union(self.constants, *[node.outputs for node in self.nodes])
        return self._names

    def consumers(self) -> dict[str, list[Node]]:
        """Value name -> the nodes that read it, once per reading input; graph outputs are not listed. Not to be changed."""
        if self._consumers is None:
            users: dict[str, list[Node]] = {}
            for node in self.nodes:
                for name in node.reads():
                    if name:
                        if name in users:
                            users[name].append(node)
                        else:
                            users[name] = [node]
            self._consumers = users
        return self._consumers

    def check(self) -> None:
        """Raise ModelError unless every value is made once, before it is read."""
        known = set(self.inputs) | set(self.constants)
        for node in self.nodes:
            for name in node.reads():
                if name not in known and name:
                    raise ModelError(
                        "reads a value that no earlier node makes",
                        model=self.name,
                        node=node.name,
                        operator=node.op.op_type,
                        tensor=name,
                    )
            for name in node.outputs:
                if not name:
                    continue
                if name in known:
                    raise ModelError(
                        "makes a value that exists already",
                        model=self.name,
                        node=node.name,
                        operator=node.op.op_type,
                        tensor=name,
                    )
                known.add(name)
        for name in self.outputs:
            if name not in known:
                raise ModelError("an output that nothing makes", model=self.name, tensor=name)

    def evaluate(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> list[np.ndarray]:
        """Run the graph with the operators' NumPy references: slow, the yardstick of every pass."""
        values: dict[str, object] = {name: np.asarray(value) for name, value in self.constants.items()}
        values.update(feeds)
        for node in self.nodes:
            results = node.op.reference(*[values[n] if n else None for n in node.inputs])
            for name, value in zip(node.outputs, results, strict=False):
                if name:
                    values[name] = value
        return [values[name] for name in (outputs if outputs is not None else self.outputs)]  # type: ignore[misc]
