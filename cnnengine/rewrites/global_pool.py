"""global_pool: the mean or maximum over all spatial axes, written as ReduceMean or ReduceMax, is a global pooling."""

from __future__ import annotations

from ..graph import Node
from ..ops.pool import GlobalAveragePool, GlobalMaxPool
from ..ops.reduce import ReduceMax, ReduceMean
from ..ops.shape import Flatten
from .common import axes_of
from .nodes import Nodes, rewrite


@rewrite(("ReduceMean", "ReduceMax"))
def global_pool(nodes: Nodes) -> None:
    """ReduceMean and ReduceMax of float32 (N, C, spatial...) over all spatial axes; without keepdims a Flatten follows."""
    for node in nodes.of("ReduceMean", "ReduceMax"):
        op, rank = node.op, nodes.rank(node.inputs[0])
        if not isinstance(op, (ReduceMean, ReduceMax)):
            continue
        if rank is None or not nodes.is_float32(node.inputs[0]):
            nodes.left(node, "the rank is not known" if rank is None else "the values are not known to be float32")
            continue
        axes = axes_of(op, nodes.constant(node, 1), rank)
        if rank < 3 or axes is None or sorted(axes) != list(range(2, rank)):
            continue  # another reduction
        pool = GlobalAveragePool() if isinstance(op, ReduceMean) else GlobalMaxPool()
        if op.keepdims:
            nodes.put(node, Node(pool, node.inputs[:1], node.outputs[:1], node.name))
            continue
        middle = nodes.fresh(f"{node.outputs[0]}/pooled")
        nodes.put(
            node,
            Node(pool, node.inputs[:1], (middle,), node.name),
            Node(Flatten(1), (middle,), node.outputs[:1], f"{node.name}/flatten"),
        )
