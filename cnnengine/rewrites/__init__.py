"""Rewrites of the graph: an ordered list of functions Graph -> Graph, each tested as before == after.

They know nothing of machines: what they do makes the graph smaller on every one of them. Graph outputs keep their names
and values.
"""

from __future__ import annotations

from collections.abc import Callable

from ..graph import Graph
from ..ops.common import FAULTS
from .bind_constants import bind_constants
from .cancel_transposes import cancel_transposes
from .channels_first import channels_first
from .common_subexpressions import common_subexpressions
from .dead_code import dead_code
from .fold_batchnorm import fold_batchnorm
from .fold_constants import fold_constants
from .fold_scale import fold_scale
from .fold_sequences import fold_sequences
from .fuse_gates import fuse_gates
from .fuse_layernorm import fuse_layernorm
from .fuse_matmul import fuse_matmul
from .fuse_pad import fuse_pad
from .fuse_prelu import fuse_prelu
from .global_pool import global_pool
from .inline_if import inline_if
from .merge_activation import merge_activation
from .merge_branches import merge_branches
from .remove_identity import remove_identity
from .resolve_castlike import resolve_castlike
from .sum_as_add import sum_as_add
from .widen_half import widen_half

__all__ = ["FINAL", "PASSES", "simplify"]

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    resolve_castlike,
    remove_identity,
    fold_constants,
    inline_if,
    bind_constants,
    widen_half,
    fold_sequences,
    common_subexpressions,
    cancel_transposes,
    fuse_gates,
    fuse_layernorm,
    fuse_prelu,
    global_pool,
    sum_as_add,
    fuse_pad,
    fuse_matmul,
    fold_batchnorm,
    fold_scale,
    merge_branches,
    channels_first,
    dead_code,
)
"""Run in this order, again and again until nothing changes; constants first, since the others look for them."""

FINAL: tuple[Callable[[Graph], Graph], ...] = (merge_activation, dead_code)
"""Run once after them: an activation inside a node hides the plain result that other passes look for."""

NEEDS: dict[Callable[[Graph], Graph], tuple[tuple[str, ...], ...]] = {
    resolve_castlike: (("CastLike",),),
    inline_if: (("If",),),
    bind_constants: (("If", "Loop", "Scan", "SequenceMap"),),
    fold_sequences: (("SplitToSequence",),),
    cancel_transposes: (("Transpose",),),
    fuse_gates: (("Mul", "Div"),),
    fuse_layernorm: (("Sub",), ("Sqrt", "Pow"), ("ReduceMean", "GlobalAveragePool")),
    fuse_prelu: (("Add", "Sub"), ("Relu", "Max", "Clip")),
    global_pool: (("ReduceMean", "ReduceMax"),),
    sum_as_add: (("Sum",),),
    fuse_pad: (("Pad",), ("Conv", "AveragePool")),
    fuse_matmul: (("MatMul",), ("Add",)),
    fold_batchnorm: (("BatchNormalization",), ("Conv", "ConvTranspose", "Gemm")),
    fold_scale: (("Mul", "Div", "Add", "Sub"), ("Conv", "ConvTranspose", "Gemm")),
    merge_branches: (("Add",), ("Conv",)),
    channels_first: (("Transpose",),),
}
"""Operators without one of each group of which a pass leaves every graph as it is."""

ROUNDS = 20
"""Times that PASSES is run at most; two or three rounds settle real graphs, a chain of scales takes one for each."""


def simplify(graph: Graph) -> Graph:
    """Run all passes; the graph is checked after each that changed it."""
    left: dict[Callable[[Graph], Graph], Graph] = {}  # the graph that a pass left as it was: it would leave it so again
    for _ in range(ROUNDS):
        before = graph
        for rewrite in PASSES:
            if left.get(rewrite) is not graph and _concerned(rewrite, graph):
                after = _checked(rewrite, graph)
                if after is graph:
                    left[rewrite] = graph
                graph = after
        if graph is before:
            break
    for rewrite in FINAL:
        graph = _checked(rewrite, graph)
    return graph


def _concerned(rewrite: Callable[[Graph], Graph], graph: Graph) -> bool:
    return not any(graph.kinds().isdisjoint(kinds) for kinds in NEEDS.get(rewrite, ()))


def _checked(rewrite: Callable[[Graph], Graph], graph: Graph) -> Graph:
    try:
        after = rewrite(graph)
    except FAULTS:
        # Shapes are not known yet, so weights of wrong ranks or lengths get this far. Left as it is, the graph fails where the
        # shapes are inferred, with the name of the node.
        return graph
    if after is not graph:
        after.check()
    return after
