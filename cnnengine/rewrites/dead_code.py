"""dead_code: nodes and constants that no graph output needs go."""

from __future__ import annotations

from .nodes import Nodes, rewrite


@rewrite()
def dead_code(nodes: Nodes) -> None:
    """Keep the nodes and constants that graph outputs need; changes drop what they leave unread, a file may have more of it."""
    for node in reversed(list(nodes)):
        if node in nodes and not any(map(nodes.wanted, filter(None, node.outputs))):
            nodes.remove(node)
    for name in [name for name in nodes.constants if not nodes.wanted(name)]:
        nodes.drop(name)
