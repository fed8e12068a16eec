"""merge_activation: an activation that alone reads a node's result is computed where that node stores it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from ..graph import Graph, Node
from ..operator import Activation
from .facts import Fact, facts
from .rewrite import FLOAT32, Uses, field_of, only_output, scalar_of


def merge_activation(graph: Graph) -> Graph:
    """Set the `activation` field of float32 nodes that have one, and let them make the activation's value."""
    uses, known = Uses(graph), facts(graph)
    merged: dict[int, Node] = {}
    gone: set[int] = set()
    for node in graph.nodes:
        host = uses.maker(node.inputs[0]) if node.inputs and only_output(node) else None
        if host is None or id(host) in merged or not hasattr(host.op, "activation") or host.op.activation is not None:
            continue
        if (
            uses.only_reader(node.inputs[0]) is not node
            or not only_output(host)
            or not known.get(node.inputs[0], Fact()).has_dtype(FLOAT32)
        ):
            continue
        activation = activation_of(node, uses)
        if activation is None:
            continue
        merged[id(host)] = host.replace(op=dataclasses.replace(host.op, activation=activation), outputs=node.outputs)  # type: ignore[type-var]
        gone.add(id(node))
    if not gone:
        return graph
    return graph.replace(nodes=[merged.get(id(n), n) for n in graph.nodes if id(n) not in gone])


def activation_of(node: Node, uses: Uses) -> Activation | None:
    """The activation that a node is, or None."""
    rule = RULES.get(node.op.op_type)
    return None if rule is None else rule(node, uses)


def _clip(node: Node, uses: Uses) -> Activation | None:
    bounds = []
    for index, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        bound: Any = field_of(node.op, name)
        if bound is None and index < len(node.inputs) and node.inputs[index]:
            bound = scalar_of(uses.constant(node, index), 1)
            if bound is None:
                return None
        bounds.append(default if bound is None else float(bound))
    if not bounds[0] <= bounds[1]:
        return None  # Clip gives its upper bound then; the fused kernels do not promise that
    return Activation("clip", *bounds)


def _prelu(node: Node, uses: Uses) -> Activation | None:
    value = uses.constant(node, 1)
    rank = facts(uses.graph).get(node.inputs[0], Fact()).rank
    if value is None:
        return None
    slope = scalar_of(value, value.ndim if rank is None else rank)  # one that would widen the input is refused
    return None if slope is None else Activation("leaky_relu", slope)


def _plain(kind: str, *fields: str) -> Callable[[Node, Uses], Activation | None]:
    def rule(node: Node, uses: Uses) -> Activation | None:
        values = [field_of(node.op, f) for f in fields]
        return None if None in values else Activation(kind, *(float(v) for v in values))  # type: ignore[arg-type]

    return rule


def _gelu(node: Node, uses: Uses) -> Activation | None:
    kind = {"none": "gelu", "tanh": "gelu_tanh"}.get(str(field_of(node.op, "approximate", "none")))
    return None if kind is None else Activation(kind)


def _swish(node: Node, uses: Uses) -> Activation | None:
    return Activation("silu") if field_of(node.op, "alpha", 1.0) == 1.0 else None


RULES: dict[str, Callable[[Node, Uses], Activation | None]] = {
    "Relu": lambda node, uses: Activation("clip", 0.0, math.inf),
    "Clip": _clip,
    "PRelu": _prelu,
    "LeakyRelu": _plain("leaky_relu", "alpha"),
    "Sigmoid": _plain("sigmoid"),
    "Tanh": _plain("tanh"),
    "Swish": _swish,
    "HardSigmoid": _plain("hard_sigmoid", "alpha", "beta"),
    "HardSwish": _plain("hard_swish"),
    "Elu": _plain("elu", "alpha"),
    "Selu": _plain("selu", "alpha", "gamma"),
    "Celu": _plain("celu", "alpha"),
    "Gelu": _gelu,
    "Mish": _plain("mish"),
    "Softplus": _plain("softplus"),
    "Softsign": _plain("softsign"),
}
"""Operator -> its Activation; the kinds are those of `cnnengine._kernels.ACTIVATIONS`."""
