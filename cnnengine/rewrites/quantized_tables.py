"""quantized_tables: functions of single elements between integers of 8 bits are one table of 256 integers.

From a QuantizeLinear back to integers of 8 bits: whatever lies between and gives each element by one of theirs and by constants,
over any number of paths (x * sigmoid(x)), and through tensors that were quantised on the way. The operators themselves compute
the 256 values, so that the table has their bits. A table of a table is one, and a QuantizeLinear of a DequantizeLinear with the
same parameters is nothing.

Only what costs less is done: a table reads the integers that are there, whoever else reads what lies between.
"""

from __future__ import annotations

import numpy as np

from ..errors import CNNEngineError
from ..graph import Node
from ..ops.common import FAULTS
from ..ops.flip_sign import FlipSign
from ..ops.quantized import DequantizeLinear, QuantizeLinear
from ..ops.quantized_table import SIZE, QuantizedTable
from .fold_constants import results_of
from .nodes import Nodes, rewrite
from .quantized import INT8, UINT8, steps_of

OF_SEVERAL = frozenset(
    ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "PRelu", "Where", "Not", "And", "Or", "Xor", "Cast"]
    + ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]
)
"""Functions of single elements of all their inputs."""
MOST = 64
"""Nodes that are looked at for one table."""
ROOTS = ("QuantizeLinear", "QuantizedTable", "FlipSign")


@rewrite(ROOTS)
def quantized_tables(nodes: Nodes) -> None:
    """Put a QuantizedTable in the place of what computes 8-bit integers out of others, element by element."""
    for node in nodes.of(*ROOTS):
        if isinstance(node.op, QuantizeLinear):
            if steps_of(node, nodes) is None:
                continue
        elif nodes.maker(node.inputs[0], "QuantizedTable", "FlipSign") is None:
            continue
        found = _Function(node, nodes)
        source = found.source()
        if source is None:
            if found.reason:
                nodes.left(node, found.reason)
            continue
        table = found.table(source)
        if table is None:
            continue
        dtype = found.dtypes[source]
        here = np.arange(SIZE, dtype=np.uint8)
        if dtype == table.dtype and np.array_equal(table.view(np.uint8), here):
            nodes.same({node.outputs[0]: source})
        elif dtype != table.dtype and np.array_equal(table.view(np.uint8), here ^ 128):
            if not isinstance(node.op, FlipSign) or node.inputs[0] != source:
                nodes.put(node, Node(FlipSign(), (source,), node.outputs, node.name))
        else:
            name = nodes.add(f"{node.outputs[0]}/table", table)
            nodes.put(node, Node(QuantizedTable(), (source, name), node.outputs, node.name))


class _Function:
    """What a node makes of single elements of one tensor of 8-bit integers, if it does.

    Attributes
    ----------
    dtypes : dict of str to dtype
        Of the tensors of 8-bit integers that were met.
    reason : str
        Why there is no such tensor, where it comes near.
    """

    def __init__(self, root: Node, nodes: Nodes) -> None:
        self.root = root
        self.nodes = nodes
        self.dtypes: dict[str, np.dtype] = {}
        self.reason = ""
        self._constants: dict[str, np.ndarray] = {}
        self._seen: set[str] = set()
        self._count = 0

    def source(self) -> str | None:
        """The integers that all of it is computed from; None where there are no such."""
        nodes = self.nodes
        left: set[str] = set()
        if not self._behind(self.root, left) or not left:
            return None
        while True:
            last = max(left, key=nodes.position)
            maker = nodes.maker(last)
            op = None if maker is None else maker.op
            if len(left) == 1 and not isinstance(op, (QuantizedTable, FlipSign)):
                return last
            if maker is None or not isinstance(op, (QuantizedTable, FlipSign, QuantizeLinear)):
                self.reason = "it is computed from more than one tensor"
                return None
            left.discard(last)
            if not self._behind(maker, left):
                return None

    def _behind(self, node: Node, left: set[str]) -> bool:
        """Add the 8-bit integers that a node is computed from, element by element; False where there is something else too."""
        nodes, waiting = self.nodes, [node]
        while waiting:
            node = waiting.pop()
            self._count += 1
            if self._count > MOST:
                return False
            op, read = node.op, [name for name in node.inputs if name]
            if isinstance(op, QuantizedTable | FlipSign):
                if isinstance(op, QuantizedTable) and nodes.constants.get(node.inputs[1]) is None:
                    return False
                known = self.dtypes.get(read[0], nodes.dtype(read[0]))
                if known is None or known not in (UINT8, INT8):
                    return False
                self.dtypes[read[0]] = known
                left.add(read[0])
                continue
            if isinstance(op, DequantizeLinear):
                steps = steps_of(node, nodes)
                if steps is None:
                    self.reason = "what it is computed from is not dequantised by one constant scale and zero point of 8 bits"
                    return False
                self.dtypes[read[0]] = INT8 if steps.signed else UINT8
                left.add(read[0])
                continue
            if isinstance(op, QuantizeLinear):
                if steps_of(node, nodes) is None:
                    return False
                read = read[:1]
            elif op.op_type not in OF_SEVERAL:
                if not op.elementwise or any(nodes.constants.get(name) is None for name in read[1:]):
                    return False
                read = read[:1]
            if getattr(op, "axis", None) is not None and not isinstance(op, QuantizeLinear):
                return False  # operands as operators before version 7 align them
            for name in read:
                if name in self._seen or self._is_number(name):
                    continue
                self._seen.add(name)
                maker = nodes.maker(name)
                if maker is None:
                    return False
                waiting.append(maker)
        return True

    def _is_number(self, name: str) -> bool:
        """Whether it is a constant of one element, or one that is dequantised."""
        nodes = self.nodes
        if name in self._constants:
            return True
        value = nodes.constants.get(name)
        if value is None:
            maker = nodes.maker(name, "DequantizeLinear")
            if maker is None or any(n and n not in nodes.constants for n in maker.inputs):
                return False
            if nodes.constants[maker.inputs[0]].size != 1:
                self.reason = "a constant has several numbers"
                return False
            results = results_of(maker, nodes)
            value = None if results is None else results[0]
        if value is None or value.size != 1:
            self.reason = "" if value is None else "a constant has several numbers"
            return False
        self._constants[name] = np.asarray(value)
        return True

    def table(self, source: str) -> np.ndarray | None:
        """The values of the root for all values of the source, in the order of their bits."""
        nodes = self.nodes
        rank = nodes.rank(source)
        if any(value.ndim > (rank or 0) for value in self._constants.values()):
            self.nodes.left(self.root, "a constant has more axes than the tensor")
            return None
        every = np.arange(SIZE, dtype=np.uint8).view(self.dtypes[source])
        known: dict[str, np.ndarray] = {source: every, **self._constants}

        def value(name: str) -> np.ndarray:
            if name not in known:
                if name in nodes.constants:
                    known[name] = nodes.constants[name]
                else:
                    maker = nodes.maker(name)
                    assert maker is not None
                    known[name] = result(maker)
            return known[name]

        def result(node: Node) -> np.ndarray:
            found: np.ndarray = np.asarray(node.op.evaluate(*[value(n) if n else None for n in node.inputs])[0])
            return found

        try:
            with np.errstate(all="ignore"):
                made = result(self.root)
        except (CNNEngineError, *FAULTS):
            return None  # it fails where it stands
        if made.size != SIZE or made.dtype not in (UINT8, INT8):
            return None
        return np.ascontiguousarray(made.reshape(SIZE))
