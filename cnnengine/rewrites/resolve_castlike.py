"""resolve_castlike: a CastLike whose target's dtype is known for all inputs is a Cast."""

from __future__ import annotations

from ..ops.cast import Cast, CastLike
from ..ops.common import code_of
from .nodes import Nodes, rewrite


@rewrite(("CastLike",))
def resolve_castlike(nodes: Nodes) -> None:
    """Name the dtype, so that the node no longer waits for the other value and constants behind it can fold."""
    for node in nodes.of("CastLike"):
        if not isinstance(node.op, CastLike):
            continue
        dtype = nodes.dtype(node.inputs[1])
        if dtype is None or code_of(dtype) is None:
            nodes.left(node, "the dtype of the other value is not known")
            continue
        nodes.put(node, node.replace(op=Cast(dtype, node.op.saturate, node.op.round_mode), inputs=node.inputs[:1]))
