"""quantized_tables: functions of single elements between integers of 8 bits are one table of 256 integers.

From a QuantizeLinear back to integers of 8 bits: whatever lies between and gives each element by one of theirs and by constants,
over any number of paths (x * sigmoid(x)), and through tensors that were quantised on the way. The operators themselves compute
the 256 values, so that the table has their bits. A table of a table is one, and a QuantizeLinear of a DequantizeLinear with the
same parameters is nothing. Tables are of uint8, as all that kernels compute with integers.

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
ROOTS = ("QuantizeLinear", "QuantizedTable")


@rewrite(ROOTS)
def quantized_tables(nodes: Nodes) -> None:
    """Put a QuantizedTable in the place of what computes 8-bit integers out of others, element by element."""
    for node in nodes.of(*ROOTS):
        if steps_of(node, nodes) is None if isinstance(node.op, QuantizeLinear) else not _behind_a_table(node, nodes):
            continue
        found = _Function(node, nodes)
        source = found.source()
        if source is None:
            if found.reason:
                nodes.left(node, found.reason)
            continue
        table = found.table(source)
        if table is not None:
            _put(node, source, found.dtypes[source], table, nodes)


def _behind_a_table(node: Node, nodes: Nodes) -> bool:
    """Whether what a node reads, but for its sign, is made by a QuantizedTable."""
    maker = nodes.maker(node.inputs[0])
    while maker is not None and isinstance(maker.op, FlipSign):
        maker = nodes.maker(maker.inputs[0])
    return maker is not None and isinstance(maker.op, QuantizedTable)


def _put(node: Node, source: str, dtype: np.dtype, table: np.ndarray, nodes: Nodes) -> None:
    """Let `table`, by the bits of `source`, make what `node` makes: of uint8, between FlipSigns where either side is int8."""
    y, target = node.outputs[0], table.dtype
    bits = table.view(UINT8)
    bits = np.roll(bits, SIZE // 2) if dtype == INT8 else bits
    bits = bits ^ np.uint8(128) if target == INT8 else bits
    if np.array_equal(bits, np.arange(SIZE)):
        if dtype == target:
            nodes.same({y: source})
        else:
            nodes.put(node, Node(FlipSign(), (source,), (y,), node.name))
        return
    made = [Node(FlipSign(), (source,), (nodes.fresh(f"{source}/unsigned"),), f"{node.name}/unsigned")] if dtype == INT8 else []
    x = made[0].outputs[0] if made else source
    inner = nodes.fresh(f"{y}/unsigned") if target == INT8 else y
    made.append(Node(QuantizedTable(), (x, nodes.add(f"{y}/table", np.ascontiguousarray(bits))), (inner,), node.name))
    if target == INT8:
        made.append(Node(FlipSign(), (inner,), (y,), f"{node.name}/signed"))
    nodes.put(node, *made)


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
            if len(left) == 1 and not (maker is not None and self._goes_on(maker)):
                return last
            if maker is None or not isinstance(op, (QuantizedTable, FlipSign, QuantizeLinear)):
                self.reason = "it is computed from more than one tensor"
                return None
            left.discard(last)
            if not self._behind(maker, left):
                return None

    def _goes_on(self, maker: Node) -> bool:
        """Whether to look behind what makes the integers that all is computed from: other integers do as well, and are nearer."""
        if isinstance(maker.op, FlipSign):
            return self.dtypes[maker.outputs[0]] == INT8 or _behind_a_table(maker, self.nodes)
        return isinstance(maker.op, QuantizedTable)

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
                flipped = isinstance(op, FlipSign) and self.dtypes[node.outputs[0]] == UINT8
                self.dtypes[read[0]] = INT8 if flipped else UINT8
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
