"""integer_products: a MatMulInteger, with scales that its sums are multiplied by and a bias, is a QuantizedDense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph import Node
from ..ops.cast import Cast
from ..ops.elementwise import Add, Mul
from ..ops.flip_sign import FlipSign
from ..ops.integer_products import MatMulInteger
from ..ops.quantized_dense import FLOATS, SUMS, QuantizedDense
from .nodes import FLOAT32, Nodes, rewrite
from .quantized import INT8, UINT8


@rewrite(("MatMulInteger",))
def integer_products(nodes: Nodes) -> None:
    """MatMulInteger (-> Cast -> Mul by scales (-> Add of a constant)) -> QuantizedDense: of int32, or of float32.

    Scales and zero points are constants, or those of a DynamicQuantizeLinear.
    """
    for node in nodes.of("MatMulInteger"):
        if isinstance(node.op, MatMulInteger):
            _product(node, nodes)


@dataclass(frozen=True)
class _Side:
    """One of the matrices as it is multiplied.

    Attributes
    ----------
    name : str
    zero : str or int
        The value that is its zero point, known only while running, or the number.
    """

    name: str
    zero: str | int


def _dynamic(name: str, output: int, nodes: Nodes) -> bool:
    """Whether a value is this output of a DynamicQuantizeLinear: one number."""
    maker = nodes.maker(name, "DynamicQuantizeLinear")
    return maker is not None and len(maker.outputs) > output and maker.outputs[output] == name


def _side(node: Node, index: int, nodes: Nodes, added: list[Node]) -> _Side | None:
    """The matrix as uint8 and its zero point; None where a kernel takes neither."""
    name, what = node.inputs[index], "first" if index == 0 else "second"
    dtype, zero = nodes.dtype(name), node.inputs[index + 2] if len(node.inputs) > index + 2 else ""
    if dtype not in (UINT8, INT8):
        return None
    value = nodes.constants.get(zero)
    if zero and value is None:
        if not _dynamic(zero, 2, nodes) or dtype != UINT8:
            nodes.left(node, f"the zero point of its {what} matrix is known only while it runs")
            return None
        return _Side(name, zero)
    if value is not None and (value.size != 1 or value.dtype != dtype):
        nodes.left(node, f"its {what} matrix has several zero points")
        return None
    number = 0 if value is None else int(value.reshape(()))
    if dtype == UINT8:
        return _Side(name, number)
    flipped = nodes.fresh(f"{name}/unsigned")
    added.append(Node(FlipSign(), (name,), (flipped,), flipped))
    return _Side(flipped, number + 128)


def _product(node: Node, nodes: Nodes) -> None:
    added: list[Node] = []
    w = nodes.constants.get(node.inputs[1])
    x = _side(node, 0, nodes, added)
    if x is None:
        return
    if w is not None:
        if w.ndim != 2 or w.dtype not in (UINT8, INT8):
            nodes.left(node, "its weights are no matrix")
            return
        weights, zero = node.inputs[1], node.inputs[3] if len(node.inputs) > 3 else ""
        value = nodes.constants.get(zero)
        if zero and (value is None or value.size not in (1, w.shape[1]) or value.ndim > 1 or value.dtype != w.dtype):
            nodes.left(node, "the zero point of its weights is no constant for each column")
            return
    else:
        side = _side(node, 1, nodes, added)
        if side is None:
            return
        weights = side.name
        zero = side.zero if isinstance(side.zero, str) else ""
        if side.zero and not zero:
            zero = nodes.add(f"{weights}/zero point", np.asarray(side.zero, np.uint8))
    y, gone, factors, offset = _behind(node, None if w is None else w.shape[1], nodes)
    op = QuantizedDense(x.zero if isinstance(x.zero, int) else 0, gives_what=FLOATS if gone else SUMS, wraps=True)
    names = [x.name, weights, zero, factors.ratio, "", offset, "", factors.scales[0], "" if isinstance(x.zero, int) else x.zero]
    names.append(factors.scales[1])
    while not names[-1]:
        names.pop()
    # scales may be made after the product, but never after what multiplies by them
    end = gone[1] if gone else node
    others = tuple(n for n in (node, *gone) if n is not end)
    nodes.put(end, *added, Node(op, tuple(names), (y,), node.name), gone=others)


@dataclass(frozen=True)
class _Factors:
    """What sums are multiplied by: a constant, one number or one for each column, and numbers known only while running."""

    ratio: str = ""
    scales: tuple[str, str] = ("", "")


def _behind(node: Node, n: int | None, nodes: Nodes) -> tuple[str, tuple[Node, ...], _Factors, str]:
    """The result, the nodes that make it of the sums, what these are multiplied by, and the constant that is added."""
    y = node.outputs[0]
    nothing = y, (), _Factors(), ""
    cast = nodes.only_reader(y)
    if cast is None or not isinstance(cast.op, Cast) or cast.op.to != FLOAT32:
        return nothing
    y = cast.outputs[0]
    mul = nodes.only_reader(y)
    if mul is None or not isinstance(mul.op, Mul) or mul.op.activation is not None or mul.op.axis is not None:
        nodes.left(node, "its sums are not multiplied by scales")
        return nothing
    factors = _factors(mul.inputs[1 - mul.inputs.index(y)], n, nodes)
    if factors is None:
        nodes.left(node, "what its sums are multiplied by is no number, nor one for each column, that is known or a scale")
        return nothing
    y, gone = mul.outputs[0], (cast, mul)
    add = nodes.only_reader(y)
    if add is None or not isinstance(add.op, Add) or add.op.axis is not None or add.op.activation is not None:
        return y, gone, factors, ""
    name = add.inputs[1 - add.inputs.index(y)]
    value, rank = nodes.constants.get(name), nodes.rank(y)
    if value is None or n is None or value.size != n or value.shape[-1:] != (n,) or value.ndim > (1 if rank is None else rank):
        return y, gone, factors, ""
    return add.outputs[0], (cast, mul, add), factors, nodes.add(f"{node.name}/offset", value.reshape(-1))


def _factors(name: str, n: int | None, nodes: Nodes) -> _Factors | None:
    value = nodes.constants.get(name)
    if value is not None:
        return _Factors(name) if _serves(value, n) else None
    if _dynamic(name, 1, nodes):
        return _Factors(scales=(name, ""))
    product = nodes.maker(name)
    if product is None or not isinstance(product.op, Mul) or product.op.activation is not None or product.op.axis is not None:
        return None
    a, b = product.inputs
    for first, second in ((a, b), (b, a)):
        if _dynamic(first, 1, nodes):
            value = nodes.constants.get(second)
            if value is not None and _serves(value, n):
                return _Factors(second, (first, ""))
            if _dynamic(second, 1, nodes):
                return _Factors(scales=(first, second))
    return None


def _serves(value: np.ndarray, n: int | None) -> bool:
    """Whether a constant is one number, or one for each of n columns, and widens nothing."""
    return value.dtype == FLOAT32 and value.ndim <= (0 if n is None else 1) and value.size in (1, n)
