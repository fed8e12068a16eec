"""fuse_quantized_tables: a function of single elements that alone reads a quantised convolution is computed where that stores."""

from __future__ import annotations

from ..ops.quantized_conv import TABLE, QuantizedConv
from ..ops.quantized_table import QuantizedTable
from .nodes import Nodes, rewrite


@rewrite(("QuantizedTable",), ("QuantizedConv",))
def fuse_quantized_tables(nodes: Nodes) -> None:
    """QuantizedConv -> QuantizedTable is a QuantizedConv with a table."""
    for node in nodes.of("QuantizedTable"):
        maker = nodes.maker(node.inputs[0], "QuantizedConv")
        if maker is None or not isinstance(maker.op, QuantizedConv) or not isinstance(node.op, QuantizedTable):
            continue
        if maker.op.floats or len(maker.inputs) > TABLE:
            nodes.left(node, f"something else is fused into {maker.name} already")
        elif nodes.only_reader(node.inputs[0]) is not node:
            nodes.left(node, f"{node.inputs[0]} is read elsewhere too")
        elif nodes.value(node.inputs[1]) is None:
            nodes.left(node, "the table is known only while it runs")
        else:
            inputs = (*maker.inputs, *("",) * (TABLE - len(maker.inputs)), node.inputs[1])
            nodes.put(maker, maker.replace(inputs=inputs, outputs=node.outputs), gone=(node,))
