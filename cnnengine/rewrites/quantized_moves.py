"""quantized_moves: what only moves numbers moves them as integers, where they are quantised before and after.

A DequantizeLinear with one scale and zero point gives each integer one number, whatever stands beside it: to move integers and
dequantise them then gives the same bits, and so does MaxPool, since scales are positive and rounding keeps the order. In the same
way a QuantizeLinear may come before a move. What meets in the end, a QuantizeLinear of a DequantizeLinear, is up to
`quantized_tables`. What is moved is uint8, as all that kernels compute with.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph import Node
from ..operator import Operator
from ..ops.extend import Pad
from ..ops.flip_sign import FlipSign
from ..ops.pool import MaxPool
from ..ops.quantized import QuantizeLinear
from ..ops.resize import Resize
from ..ops.scatter import ScatterElements, ScatterND
from .nodes import Nodes, rewrite
from .quantized import INT8, UINT8, Quantized, Steps, integers, only_quantized, steps_of, unsigned

VIEWS = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace", "SpaceToDepth")
"""What gives each element once: a QuantizeLinear may come before as well."""
PIECES = ("Concat", "Slice", "Split", "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND")
MOVES = (*VIEWS, *PIECES, "Expand", "Tile", "Pad", "Where")
CHOICES = ("MaxPool", "Resize", "Upsample")
"""What may have kernels for floats alone: integers are chosen from where floats would be quantised next."""


@rewrite(("DequantizeLinear", "QuantizeLinear", "FlipSign"), (*MOVES, *CHOICES))
def quantized_moves(nodes: Nodes) -> None:
    """Let a DequantizeLinear come behind what moves its results, and a QuantizeLinear before what moves its input; as uint8."""
    for node in nodes.of(*MOVES, *CHOICES):
        if not _sinks(node, nodes) and not _turns(node, nodes):
            _rises(node, nodes)


def _sinks(node: Node, nodes: Nodes) -> bool:
    """Move integers where what is moved is dequantised by the same scale and zero point."""
    found: dict[int, Quantized] = {}
    floats = 0
    for place in _elements(node):
        x = integers(node.inputs[place], nodes)
        if x is not None:
            found[place] = x
        elif not (isinstance(node.op, Pad) and place == 2):
            floats += 1
    if not found or (0 not in found and node.op.op_type != "Where"):
        return False
    steps = next(iter(found.values())).steps
    if floats or any(x.steps != steps for x in found.values()):
        nodes.left(node, "what it moves is not quantised in one way")
        return False
    outputs = [name for name in node.outputs if name and nodes.wanted(name)]
    if any(name in nodes.kept for name in outputs):
        nodes.left(node, "an output of the model is what it moves")
        return False
    if not _all_quantised(outputs, nodes) and (
        (node.op.op_type in CHOICES and not _all_moved(outputs, nodes))
        or any(nodes.only_reader(node.inputs[place]) is None for place in found)
    ):
        nodes.left(node, "its results, or what it moves, are read as floats too")
        return False
    changed = _on_integers(node, steps.unsigned(), _padding(node, nodes), nodes)
    if changed is None:
        return False
    op, inputs = changed
    maker = nodes.maker(node.inputs[next(iter(found))], "DequantizeLinear")
    assert maker is not None
    scale, zero = maker.inputs[1], maker.inputs[2:]
    if steps.signed:
        zero = (nodes.add(f"{node.name}/zero point", np.asarray(steps.unsigned().zero, np.uint8)),)
    added: list[Node] = []
    for place, x in found.items():
        inputs[place] = unsigned(x, nodes, added).name
    moved = tuple(nodes.fresh(f"{name}/integers") if name in outputs else name for name in node.outputs)
    back = [
        Node(maker.op, (integer, scale, *zero), (name,), f"{node.name}/DequantizeLinear")
        for integer, name in zip(moved, node.outputs, strict=True)
        if name in outputs
    ]
    nodes.put(node, *added, Node(op, tuple(inputs), moved, node.name), *back)
    return True


def _elements(node: Node) -> list[int]:
    """The places of its inputs that are moved."""
    return [i for i, name in enumerate(node.inputs) if name and i in node.op.elements]


def _all_moved(names: list[str], nodes: Nodes) -> bool:
    """Whether all that reads these values moves them on."""
    readers = [reader for name in names for reader in nodes.readers(name)]
    return bool(readers) and all(reader.op.op_type in MOVES for reader in readers)


def _turns(node: Node, nodes: Nodes) -> bool:
    """Move uint8 where a file moves int8 that were uint8 before, or that may be quantised to it."""
    inputs, added = list(node.inputs), []
    for place in _elements(node):
        x = inputs[place]
        maker, value = nodes.maker(x, "FlipSign", "QuantizeLinear"), nodes.constants.get(x)
        steps = None if maker is None else steps_of(maker, nodes)
        if maker is not None and isinstance(maker.op, FlipSign) and nodes.dtype(maker.inputs[0]) in (UINT8,):
            inputs[place] = maker.inputs[0]
        elif steps is not None and steps.signed and nodes.only_reader(x) is node:
            inputs[place] = nodes.fresh(f"{x}/unsigned")
            added.append(Node(FlipSign(), (x,), (inputs[place],), f"{x}/unsigned"))
        elif not (isinstance(node.op, Pad) and place == 2 and value is not None and value.dtype == INT8):
            return False
    if inputs[0] == node.inputs[0] and node.op.op_type != "Where":
        return False
    padding = _padding(node, nodes)
    changed = _on_integers(node, Steps(1.0, 128, False), padding, nodes)
    if changed is None:
        return False
    op, settings = changed
    for place in _elements(node):
        if not (isinstance(node.op, Pad) and place == 2):
            settings[place] = inputs[place]
    outputs = tuple(nodes.fresh(f"{name}/unsigned") if name else name for name in node.outputs)
    back = [
        Node(FlipSign(), (moved,), (name,), f"{node.name}/signed")
        for moved, name in zip(outputs, node.outputs, strict=True)
        if name and nodes.wanted(name)
    ]
    nodes.put(node, *added, Node(op, tuple(settings), outputs, node.name), *back)
    return True


def _all_quantised(names: list[str], nodes: Nodes) -> bool:
    """Whether all that reads these values quantises them by one scale and zero point."""
    readers = [reader for name in names for reader in nodes.readers(name)]
    return all(isinstance(r.op, QuantizeLinear) and r.inputs[0] in names and steps_of(r, nodes) is not None for r in readers)


def _on_integers(node: Node, steps: Steps, padding: float | None, nodes: Nodes) -> tuple[Operator, list[str]] | None:
    """The operator and inputs that do the same to integers that mean these steps; None where there are none, with the reason."""
    op, inputs, reason = node.op, list(node.inputs), ""
    if isinstance(op, (ScatterElements, ScatterND)) and op.reduction != "none":
        reason = "it computes what it moves"
    elif isinstance(op, Resize) and (op.mode != "nearest" or op.coordinates == "tf_crop_and_resize"):
        reason = "it computes what it gives"
    elif isinstance(op, MaxPool) and not _in_each_window(op):
        reason = "a window may lie in the padding altogether"
    elif isinstance(op, MaxPool) and len(node.outputs) > 1 and node.outputs[1]:
        reason = "it also tells places"
    if reason:
        nodes.left(node, reason)
        return None
    if not isinstance(op, Pad) or op.mode != "constant":
        return op, inputs
    zero = None if padding is None else _exact(padding, steps)
    if zero is None:
        nodes.left(node, "it pads with what no integer stands for")
        return None
    if op.pads is not None:
        return Pad(op.mode, op.pads, float(zero)), inputs
    inputs += [""] * (3 - len(inputs))
    inputs[2] = nodes.add(f"{node.name}/constant", np.asarray(zero, np.uint8))
    return op, inputs


def _in_each_window(op: MaxPool) -> bool:
    """Whether each window has a pixel that is no padding."""
    window = op.window
    if window.auto_pad != "NOTSET" or not any(window.pads):
        return True
    rank = len(window.kernel)
    fits = all(pad < window.kernel[i % rank] for i, pad in enumerate(window.pads))
    return fits and all(d == 1 for d in window.dilations)


def _padding(node: Node, nodes: Nodes) -> float | None:
    """What a Pad writes; None where that is known only while it runs, and of others."""
    op = node.op
    if not isinstance(op, Pad):
        return None
    if op.pads is not None or len(node.inputs) < 3 or not node.inputs[2]:
        return float(op.value)
    x = integers(node.inputs[2], nodes)
    value = nodes.constants.get(node.inputs[2])
    if x is not None and value is None:
        number = nodes.constants.get(x.name)
        if number is None or number.size != 1:
            return None
        return float((np.float32(int(number.reshape(())) - x.steps.zero)) * np.float32(x.steps.scale))
    return None if value is None or value.size != 1 or value.dtype.kind not in "fi" else float(value.reshape(()))


def _exact(value: float, steps: Steps) -> int | None:
    """The uint8 that stands for just this number."""
    if not np.isfinite(value) or abs(value) > 256 * steps.scale:
        return None
    q = round(value / steps.scale) + steps.zero
    same = np.float32(q - steps.zero) * np.float32(steps.scale) == np.float32(value)
    return q if same and 0 <= q <= 255 else None


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
    quantize, steps = found
    op, (_, scale, *zero) = quantize.op, quantize.inputs
    assert isinstance(op, QuantizeLinear)
    y = quantize.outputs[0]
    moved, back = y, []
    if steps.signed:
        op = replace(op, output_dtype=None)
        zero = [nodes.add(f"{node.name}/zero point", np.asarray(steps.unsigned().zero, np.uint8))]
        moved = nodes.fresh(f"{y}/unsigned")
        back = [Node(FlipSign(), (moved,), (y,), f"{y}/signed")]
    name = nodes.fresh(f"{x}/integers")
    first = Node(op, (x, scale, *zero), (name,), quantize.name)
    nodes.put(node, first, Node(node.op, (name, *node.inputs[1:]), (moved,), node.name), *back, gone=(quantize,))
