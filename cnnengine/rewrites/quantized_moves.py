"""quantized_moves: what only moves numbers moves them as integers, where they are quantised before and after.

A DequantizeLinear with one scale and zero point gives each integer one number, whatever stands beside it: to move integers and
dequantise them then gives the same bits, and so does MaxPool, since scales are positive and rounding keeps the order. In the same
way a QuantizeLinear may come before a move. What meets in the end, a QuantizeLinear of a DequantizeLinear, is up to
`quantized_tables`.
"""

from __future__ import annotations

import numpy as np

from ..graph import Node
from ..operator import Operator
from ..ops.extend import Pad
from ..ops.pool import MaxPool
from ..ops.quantized import QuantizeLinear
from ..ops.resize import Resize
from ..ops.scatter import ScatterElements, ScatterND
from .nodes import Nodes, rewrite
from .quantized import Quantized, Steps, integers, only_quantized, steps_of

VIEWS = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace", "SpaceToDepth")
"""What gives each element once: a QuantizeLinear may come before as well."""
PIECES = ("Concat", "Slice", "Split", "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND")
MOVES = (*VIEWS, *PIECES, "Expand", "Tile", "Pad", "Where")
CHOICES = ("MaxPool", "Resize", "Upsample")
"""What may have kernels for floats alone: integers are chosen from where floats would be quantised next."""


@rewrite(("DequantizeLinear", "QuantizeLinear"), (*MOVES, *CHOICES))
def quantized_moves(nodes: Nodes) -> None:
    """Let a DequantizeLinear come behind what moves its results, and a QuantizeLinear before what moves its input."""
    for node in nodes.of(*MOVES, *CHOICES):
        if not _sinks(node, nodes) and node in nodes:
            _rises(node, nodes)


def _elements(node: Node) -> list[int]:
    """The places of its inputs that are moved."""
    return [i for i, name in enumerate(node.inputs) if name and i in node.op.elements]


def _sinks(node: Node, nodes: Nodes) -> bool:
    """Move integers where what is moved is dequantised by the same scale and zero point."""
    places, added = _elements(node), 0
    found: dict[int, Quantized] = {}
    for place in places:
        x = integers(node.inputs[place], nodes)
        if x is not None:
            found[place] = x
        elif not (isinstance(node.op, Pad) and place == 2):
            added += 1
    if not found or (0 not in found and node.op.op_type != "Where"):
        return False
    steps = next(iter(found.values())).steps
    if added or any(x.steps != steps for x in found.values()):
        nodes.left(node, "what it moves is not quantised in one way")
        return False
    outputs = [name for name in node.outputs if name and nodes.wanted(name)]
    if any(name in nodes.kept for name in outputs):
        nodes.left(node, "an output of the model is what it moves")
        return False
    if not _all_quantised(outputs, nodes) and (
        node.op.op_type in CHOICES or any(nodes.only_reader(node.inputs[place]) is None for place in found)
    ):
        nodes.left(node, "its results, or what it moves, are read as floats too")
        return False
    op = _on_integers(node, steps, nodes)
    if op is None:
        return False
    changed, inputs = op
    for place, x in found.items():
        inputs[place] = x.name
    maker = nodes.maker(node.inputs[next(iter(found))], "DequantizeLinear")
    assert maker is not None
    moved = tuple(nodes.fresh(f"{name}/integers") if name in outputs else name for name in node.outputs)
    back = [
        Node(maker.op, (integer, *maker.inputs[1:]), (name,), f"{node.name}/DequantizeLinear")
        for integer, name in zip(moved, node.outputs, strict=True)
        if name in outputs
    ]
    nodes.put(node, Node(changed, tuple(inputs), moved, node.name), *back)
    return True


def _all_quantised(names: list[str], nodes: Nodes) -> bool:
    """Whether all that reads these values quantises them by one scale and zero point."""
    readers = [reader for name in names for reader in nodes.readers(name)]
    return all(isinstance(r.op, QuantizeLinear) and r.inputs[0] in names and steps_of(r, nodes) is not None for r in readers)


def _on_integers(node: Node, steps: Steps, nodes: Nodes) -> tuple[Operator, list[str]] | None:
    """The operator and inputs that do the same to integers; None where there are none, with the reason."""
    op, inputs = node.op, list(node.inputs)
    if isinstance(op, (ScatterElements, ScatterND)) and op.reduction != "none":
        nodes.left(node, "it computes what it moves")
        return None
    if isinstance(op, Resize) and (op.mode != "nearest" or op.coordinates == "tf_crop_and_resize"):
        nodes.left(node, "it computes what it gives")
        return None
    if isinstance(op, MaxPool) and not _in_each_window(op):
        nodes.left(node, "a window may lie in the padding altogether")
        return None
    if isinstance(op, MaxPool) and len(node.outputs) > 1 and node.outputs[1]:
        nodes.left(node, "it also tells places")
        return None
    if not isinstance(op, Pad) or op.mode != "constant":
        return op, inputs
    value = _padding(node, op, nodes)
    zero = None if value is None else _exact(value, steps)
    if zero is None:
        nodes.left(node, "it pads with what no integer stands for")
        return None
    if op.pads is not None:
        return Pad(op.mode, op.pads, float(zero)), inputs
    constant = nodes.add(f"{node.name}/constant", np.asarray(zero, np.int8 if steps.signed else np.uint8))
    inputs += [""] * (3 - len(inputs))
    inputs[2] = constant
    return op, inputs


def _in_each_window(op: MaxPool) -> bool:
    """Whether each window has a pixel that is no padding."""
    window = op.window
    if window.auto_pad != "NOTSET" or not any(window.pads):
        return True
    rank = len(window.kernel)
    fits = all(pad < window.kernel[i % rank] for i, pad in enumerate(window.pads))
    return fits and all(d == 1 for d in window.dilations)


def _padding(node: Node, op: Pad, nodes: Nodes) -> float | None:
    """What a Pad writes; None where that is known only while it runs."""
    if op.pads is not None or len(node.inputs) < 3 or not node.inputs[2]:
        return float(op.value)
    x = integers(node.inputs[2], nodes)
    value = nodes.constants.get(node.inputs[2])
    if x is not None and value is None:
        number = nodes.constants.get(x.name)
        if number is None or number.size != 1:
            return None
        return float((np.float32(int(number.reshape(())) - x.steps.zero)) * np.float32(x.steps.scale))
    return None if value is None or value.size != 1 or value.dtype.kind != "f" else float(value.reshape(()))


def _exact(value: float, steps: Steps) -> int | None:
    """The integer that stands for just this number."""
    low, high = (-128, 127) if steps.signed else (0, 255)
    if not np.isfinite(value) or abs(value) > 256 * steps.scale:
        return None
    q = round(value / steps.scale) + steps.zero
    same = np.float32(q - steps.zero) * np.float32(steps.scale) == np.float32(value)
    return q if same and low <= q <= high else None


def _rises(node: Node, nodes: Nodes) -> None:
    """Quantise before a view what is quantised behind it, where it is computed by what may then be quantised with it."""
    if node.op.op_type not in VIEWS or len(node.outputs) != 1:
        return
    found, x = only_quantized(node.outputs[0], nodes), node.inputs[0]
    if found is None or nodes.maker(x) is None or nodes.maker(x, "DequantizeLinear") is not None:
        return
    if nodes.only_reader(x) is not node:
        nodes.left(node, "what it moves is read as floats too")
        return
    quantize, _ = found
    name = nodes.fresh(f"{x}/integers")
    first = Node(quantize.op, (x, *quantize.inputs[1:]), (name,), quantize.name)
    nodes.put(node, first, Node(node.op, (name, *node.inputs[1:]), quantize.outputs, node.name), gone=(quantize,))
