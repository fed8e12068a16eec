"""merge_activation: an activation that alone reads a node's result is computed where that node stores it."""

from __future__ import annotations

import dataclasses

from .common import only_output
from .nodes import Nodes, rewrite


@rewrite()
def merge_activation(nodes: Nodes) -> None:
    """Set the `activation` field of float32 nodes that have one, and let them make the activation's value."""
    for node in nodes:
        x = node.inputs[0] if node.inputs and only_output(node) else ""
        host = nodes.maker(x)
        if host is None or not hasattr(host.op, "activation") or not only_output(host):
            continue
        alone = nodes.only_reader(x) is node
        if not alone and not nodes.explains:
            continue
        activation = node.op.as_activation(nodes.specs_of(node))
        if activation is None:
            continue
        rank = nodes.rank(x)
        if not nodes.is_float32(x):
            nodes.left(node, "the values are not known to be float32")
        elif host.op.activation is not None:
            nodes.left(node, f"an activation is fused into {host.name} already")
        elif not alone:
            nodes.left(node, f"{x} is read by others too")
        elif node.op.light >= 0 and (rank is None or rank <= host.op.light):
            continue  # both run at once behind a data-dependent extent, which is no work for a plan
        else:
            op = dataclasses.replace(host.op, activation=activation)  # type: ignore[type-var]
            nodes.put(host, host.replace(op=op, outputs=node.outputs), gone=(node,))
