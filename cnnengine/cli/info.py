"""`cnnengine info`: what a model takes, gives and consists of."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..metadata.own import KEYS
from ._common import (
    EXIT_OK,
    add_limits_option,
    add_precision_option,
    add_shape_option,
    check_plot,
    complain,
    save_plot,
    shapes_of,
    show,
)
from .pictures import preparation_of, told, told_as_json

if TYPE_CHECKING:
    from ..metadata import Preparation
    from ..model import Model, TensorInfo
    from ..report import Summary
    from ..report.tables import Text

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Show a model as it is run: inputs, outputs, one line per layer with its operator, output shape, parameters, multiply-adds
(MACs) and kernel; totals and metadata. Layers without a compiled kernel are marked: 'host' runs in NumPy, 'fallback' in
onnx.reference. '-' needs no computation. The graph itself, as a picture to walk through, is what Netron shows (netron.app)."""
EXAMPLES = """examples:
  cnnengine info model.onnx
  cnnengine info detector.onnx --shape image=1,3,480,640
  cnnengine info model.onnx --json | python -m json.tool
  cnnengine info model.onnx --plot memory.png
"""


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "info",
        help="show a model's inputs, outputs, layers and metadata",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="ONNX file (example: model.onnx)")
    add_shape_option(parser)
    add_precision_option(parser)
    add_limits_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object (example: cnnengine info model.onnx --json)")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw memory over the steps of a run: which tensors lie where, and where the most is in use; .png, .svg or .pdf; "
        "needs matplotlib (example: --plot memory.png)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the model as it was loaded."""
    from .. import load
    from ..report import summarize

    if args.plot is not None:
        check_plot(args.plot)
    with load(args.model, precision=args.precision, limits=args.limits) as model:
        summary = summarize(model, shapes_of(model, args.shape))
        if args.plot is not None:
            if summary.memory is None:
                said = "more than the batch is dynamic: give the shape"
                raise InputError(said, tensor="--plot", expected=_shapes_for(model, args.shape))
            save_plot(summary.plot(), args.plot)
        if args.json:
            print(json.dumps(_as_json(model, summary), ensure_ascii=False, allow_nan=False))
            return EXIT_OK
        show(_head(model))
        show(summary.text())
        show(_metadata(model))
        if summary.shapes is None:
            known = f"{_shapes_for(model, args.shape)} gives shapes, multiply-adds and kernels"
            complain(f"more than the batch is dynamic: {known}")
    return EXIT_OK


def _head(model: Model) -> Text:
    """What stands before the layers."""
    from ..report.tables import Text

    text = Text()
    text.line(repr(model))
    for title, values in (("inputs", model.inputs), ("outputs", model.outputs)):
        text.line(f"{title}:")
        for line in _describe(values):
            text.line(f"  {line}")
    for line in _about(model):
        text.line(line)
    return text


def _metadata(model: Model) -> Text:
    from ..report.tables import Text

    text = Text()
    if model.metadata:
        text.line("metadata:")
    for key, value in model.metadata.items():
        text.line(f"  {key}: {value if key in KEYS or len(value) <= 100 else value[:97] + '...'}")
    return text


def _shapes_for(model: Model, given: Sequence[tuple[str | None, tuple[int, ...]]]) -> str:
    """Options for the inputs whose shapes are missing."""
    from ..report.planning import dynamic_inputs
    from ..report.suggest import suggested

    known = shapes_of(model, given) or {}
    return suggested(model, [name for name in dynamic_inputs(model) if name not in known])


def _preparation(model: Model) -> tuple[Preparation | None, str]:
    """How pictures become the input, or why that is not known; nothing of models that take none."""
    if len(model.inputs) != 1 or model.inputs[0].shape is None or len(model.inputs[0].shape) != 4:
        return None, ""
    try:
        return preparation_of(model), ""
    except InputError as error:
        return None, error.message


def _about(model: Model) -> list[str]:
    """What is known of pictures, classes and purpose, and from where."""
    preparation, reason = _preparation(model)
    parts = told(model.about, preparation, None, False)
    return [*([f"pictures: {reason}"] if reason else []), *parts]


def _as_json(model: Model, summary: Summary) -> dict[str, Any]:
    def values(infos: Sequence[TensorInfo]) -> list[dict[str, Any]]:
        return [{"name": i.name, "dtype": str(i.dtype), "shape": None if i.shape is None else list(i.shape)} for i in infos]

    described = summary.as_dict()
    layers = described.pop("layers")
    totals = {key: described.pop(key) for key in ("parameters", "macs", "arena_bytes", "weight_bytes")}
    totals.update({"layers": len(layers), "host": summary.count("host"), "fallback": summary.count("fallback")})
    return {
        **described,
        "inputs": values(model.inputs),
        "outputs": values(model.outputs),
        "layers": layers,
        "totals": totals,
        "metadata": model.metadata,
        "about": told_as_json(model.about, _preparation(model)[0]),
    }


def _describe(values: Sequence[TensorInfo]) -> list[str]:
    from ..report.tables import shape_text

    width = max((len(value.name) for value in values), default=0)
    return [f"{value.name:{width}}  {value.dtype}  {shape_text(value.shape)}" for value in values]
