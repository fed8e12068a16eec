"""Rewrites of the graph: tables of functions that change its nodes, each in a file of its own name.

Those of PORTABLE run when a model is loaded, before shapes are known; they know nothing of machines, and what they do makes the
graph smaller on every one of them. Those of `integers.QUANTIZED` come before them, in models that have integers in the place of
floats, and only these models import them.
`late` names those that graphs without certain operators need not import.
Those of SHAPED run when a plan is made, at concrete shapes. Outputs keep their names and values. `nodes.py` says what a rewrite
sees and may do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ..errors import CNNEngineError, LimitError
from ..graph import Graph, Node
from ..limits import look
from ..operator import Operator
from ..ops.common import FAULTS
from ..ops.control import Controlling
from ..spec import TensorSpec
from .common_subexpressions import common_subexpressions
from .dead_code import dead_code
from .fold_constants import fold_constants
from .fold_scale import fold_scale
from .lower_precision import lower_precision, precision_option
from .merge_activation import merge_activation
from .nodes import Declined, Nodes, Rewrite, explaining, late
from .remove_identity import remove_identity
from .widen_half import widen_half

__all__ = [
    "LAST",
    "PORTABLE",
    "QUANTIZED",
    "SHAPED",
    "Declined",
    "explaining",
    "lower_precision",
    "precision_option",
    "simplify",
    "specialize",
]

PORTABLE: tuple[Rewrite, ...] = (
    late("resolve_castlike", "CastLike"),
    remove_identity,
    fold_constants,
    late("inline_if", "If"),
    late("bind_constants", "If", "Loop", "Scan", "SequenceMap"),
    widen_half,
    late("fold_sequences", "SplitToSequence"),
    common_subexpressions,
    late("cancel_transposes", "Transpose"),
    late("fuse_gates", "Sigmoid", "HardSigmoid", "Clip", "Softplus", "Erf", "Tanh"),
    late("fuse_layernorm", "Sub"),
    late("fuse_prelu", "Min", "Clip", "Neg", "Abs"),
    late("global_pool", "ReduceMean", "ReduceMax"),
    late("sum_as_add", "Sum"),
    late("fuse_pad", "Pad"),
    late("fuse_matmul", "MatMul"),
    late("fold_batchnorm", "BatchNormalization"),
    fold_scale,
    late("merge_branches", "Add"),
    late("channels_first", "Transpose"),
    dead_code,
)
"""Run in this order, again and again until nothing changes; constants first, since the others look for them."""

LAST: tuple[Rewrite, ...] = (merge_activation, dead_code)
"""Run once after them: an activation inside a node hides the plain result that other rewrites look for."""

SHAPED: tuple[Rewrite, ...] = (
    late("fuse_pad", "Pad"),
    late("fuse_matmul", "MatMul"),
    merge_activation,
    late("fuse_residuals", "Add"),
    late("fuse_attention", "MatMul"),
    late("fuse_softmax_products", "Softmax"),
    late("fuse_affine", "Mul"),
    late("fuse_channels", "Gather", "Split", "Slice", "Reshape"),
    late("repeat_channels", "Conv"),
    late("fuse_chains", "Conv"),
    late("fuse_gates_into_weights", "Mul"),
    late("fuse_channels_last", "Transpose"),
)
"""Run once in this order for each set of shapes; some of them for what only the shapes tell, or for what pays by size."""

INTEGERS = ("DequantizeLinear", "QuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm")
"""Without any of these operators a model has nothing for `integers.QUANTIZED`."""

ROUNDS = 20
"""Times that PORTABLE is run at most; two or three rounds settle real graphs."""


def simplify(graph: Graph) -> Graph:
    """Run the rewrites of PORTABLE and LAST, where there are integers those of QUANTIZED before; the same graph where none finds
    anything."""
    nodes = Nodes.of_graph(graph)
    _vet(nodes)
    if nodes.has(*INTEGERS):
        from .integers import QUANTIZED

        _settle(QUANTIZED, nodes)
    _settle(PORTABLE, nodes)
    for rewrite in LAST:
        _apply(rewrite, nodes)
    nodes.done()
    if nodes.edits == 0:
        return graph
    _vet(nodes)
    graph = nodes.graph()
    graph.check()
    return graph


def specialize(
    nodes: Sequence[Node], specs: dict[str, TensorSpec], constants: dict[str, np.ndarray], wanted: Collection[str]
) -> list[Node]:
    """The nodes that run for these shapes, after the rewrites of SHAPED; adds to `specs` what these make.

    Parameters
    ----------
    nodes : in topological order
    specs : concrete ones of all values
    constants : of the graph
    wanted : names of the values that are read outside
    """
    view = Nodes(nodes, constants, wanted, specs=specs)
    table = SHAPED
    if view.has("QuantizedConv"):
        from .integers import QUANTIZED_SHAPED

        table += QUANTIZED_SHAPED
    for rewrite in table:
        if rewrite.concerns(view):
            rewrite.apply(view)
    view.done()
    return view.nodes()


def _settle(table: Sequence[Rewrite], nodes: Nodes) -> None:
    """Run the rewrites of a table until none of them finds anything."""
    left: dict[Rewrite, int] = {}  # the changes after which a rewrite left the nodes as they were: it would leave them so again
    for _ in range(ROUNDS):
        before = nodes.edits
        for rewrite in table:
            if left.get(rewrite) != nodes.edits and rewrite.concerns(nodes) and not _apply(rewrite, nodes):
                left[rewrite] = nodes.edits
        if nodes.edits == before:
            break


def _vet(nodes: Nodes) -> None:
    """Raise what operators say of constants that cannot be right, with the name of the node; in graphs inside of nodes too."""
    for node in nodes:
        op = node.op
        if isinstance(op, Controlling):
            for field in op.graphs:
                _vet(Nodes.of_graph(getattr(op, field)))
        if type(op).vet is not Operator.vet:
            try:
                op.vet(nodes.specs_of(node), node.inputs)
            except CNNEngineError as error:
                raise error.locate(node=node.name, operator=op.op_type) from None


def _apply(rewrite: Rewrite, nodes: Nodes) -> bool:
    look()
    try:
        return rewrite.apply(nodes)
    except LimitError:
        raise
    except FAULTS:
        # Shapes are not known yet, so weights of wrong ranks or lengths get this far. What is left as it is fails where shapes
        # are inferred, with the name of the node.
        return False
