"""qlinear_products: a QLinearMatMul or QGemm whose scales and zero points are constants is a QuantizedDense."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..ops.flip_sign import FlipSign
from ..ops.integer_products import QGemm, QLinearMatMul
from ..ops.quantized_dense import BYTES, FLOATS, QuantizedDense
from .nodes import FLOAT32, Nodes, rewrite
from .quantized import INT8, UINT8, Quantized, Steps, normal, unsigned


@rewrite(("QLinearMatMul", "QGemm"))
def qlinear_products(nodes: Nodes) -> None:
    """QLinearMatMul and QGemm -> QuantizedDense, between FlipSigns where their tensors are int8."""
    for node in nodes.of("QLinearMatMul", "QGemm"):
        op = node.op
        if isinstance(op, QGemm):
            if op.trans_a:
                nodes.left(node, "its first matrix is transposed")
            else:
                _product(node, 7, 8, op.trans_b, np.float32(op.alpha), nodes)
        elif isinstance(op, QLinearMatMul):
            _product(node, 6, 7, False, None, nodes)


def _product(node: Node, y_scale_at: int, y_zero_at: int, transposed: bool, alpha: np.float32 | None, nodes: Nodes) -> None:
    inputs = (*node.inputs, *[""] * 9)[:9]
    floats = not inputs[y_scale_at]
    named = (1, 2, 4, 5) if floats else (1, 2, 4, 5, y_scale_at, y_zero_at)
    found = {i: nodes.constants.get(inputs[i]) for i in named}
    if any(value is None for value in found.values()):
        nodes.left(node, "its scales or zero points are known only while it runs")
        return
    known = {i: value for i, value in found.items() if value is not None}
    x_scale, x_zero, w_scale, w_zero = (known[i] for i in (1, 2, 4, 5))
    w = nodes.constants.get(inputs[3])
    w_dtype = nodes.dtype(inputs[3]) if w is None else w.dtype
    kinds = [x_zero.dtype, w_zero.dtype, *([] if floats else [known[y_zero_at].dtype])]
    scales = [x_scale, w_scale, *([] if floats else [known[y_scale_at]])]
    if any(kind not in (UINT8, INT8) for kind in kinds) or any(scale.dtype != FLOAT32 for scale in scales):
        return  # a wrong model, or one of another type: its own rules say so
    if w_zero.dtype != w_dtype or nodes.dtype(inputs[0]) != x_zero.dtype:
        return
    singles = [x_scale, x_zero, *([] if floats else [known[y_scale_at], known[y_zero_at]])]
    n = 1 if w is None else w.shape[0 if transposed else -1]
    if any(value.size != 1 for value in singles):
        nodes.left(node, "it has a scale or zero point for each row")
        return
    if w is not None and w.ndim != 2:
        nodes.left(node, "its weights are no matrix")
        return
    if any(value.size not in (1, n) or value.ndim > 1 for value in (w_scale, w_zero)):
        nodes.left(node, "its weights have scales or zero points that are not one for each column")
        return
    bias = ""
    if alpha is not None and inputs[6]:
        units = nodes.constants.get(inputs[6])
        if units is None or units.dtype != np.int32 or units.size != n or units.shape[-1:] != (n,) or w is None:
            nodes.left(node, "its bias is no constant for each column")
            return
        bias = nodes.add(f"{node.name}/bias", units.reshape(-1))
    with np.errstate(all="ignore"):
        ratio = x_scale.reshape(()) * w_scale.reshape(-1)
        if alpha is not None:
            ratio = alpha * x_scale.reshape(()) * w_scale.reshape(-1)
        if not floats:
            ratio = ratio / known[y_scale_at].reshape(())
    if not normal(ratio):
        nodes.left(node, "the ratio of its scales is no normal number")
        return
    added: list[Node] = []
    x = unsigned(Quantized(inputs[0], Steps(1.0, int(x_zero.reshape(())), x_zero.dtype == INT8)), nodes, added)
    weights, zero = inputs[3], inputs[5] if np.any(w_zero) else ""
    if w is None:
        steps = Steps(1.0, int(w_zero.reshape(())), w_zero.dtype == INT8)
        other = unsigned(Quantized(weights, steps), nodes, added)
        weights = other.name
        zero = nodes.add(f"{weights}/zero point", np.asarray(other.steps.zero, np.uint8)) if other.steps.zero else ""
    names = [x.name, weights, zero, nodes.add(f"{node.name}/ratio", np.asarray(ratio, np.float32).reshape(-1)), bias]
    while not names[-1]:
        names.pop()
    y, after = node.outputs[0], []
    if floats:
        op = QuantizedDense(x.steps.zero, gives_what=FLOATS, transposed=transposed)
    else:
        y_zero = known[y_zero_at]
        moved = int(y_zero.reshape(())) + (128 if y_zero.dtype == INT8 else 0)
        op = QuantizedDense(x.steps.zero, moved, -moved, 255 - moved, BYTES, transposed=transposed)
        if y_zero.dtype == INT8:
            y = nodes.fresh(f"{y}/unsigned")
            after = [Node(FlipSign(), (y,), node.outputs, f"{node.outputs[0]}/signed")]
    nodes.put(node, *added, Node(op, tuple(names), (y,), node.name), *after)
