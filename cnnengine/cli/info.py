"""`cnnengine info`: what a model takes and gives."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..preprocess import LABELS_KEY, METADATA_KEY
from ._common import EXIT_OK
from .results import OUTPUT_KEY

if TYPE_CHECKING:
    from ..model import TensorInfo

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("info", help="show a model's inputs, outputs and metadata")
    parser.add_argument("model", metavar="MODEL", help="ONNX file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the model as it was loaded."""
    from .. import load

    with load(args.model) as model:
        print(repr(model))
        for title, values in (("inputs", model.inputs), ("outputs", model.outputs)):
            print(f"{title}:")
            for line in _describe(values):
                print(f"  {line}")
        host = model.host_nodes()
        print(f"without a compiled kernel: {', '.join(host) if host else 'no node'}")
        if model.metadata:
            print("metadata:")
            for key, text in model.metadata.items():
                known = key in (METADATA_KEY, LABELS_KEY, OUTPUT_KEY)
                print(f"  {key}: {text if known or len(text) <= 100 else text[:97] + '...'}")
    return EXIT_OK


def _describe(values: Sequence[TensorInfo]) -> list[str]:
    width = max((len(value.name) for value in values), default=0)
    return [f"{value.name:{width}}  {value.dtype}  {shape_text(value.shape)}" for value in values]


def shape_text(shape: Sequence[int | str | None] | None) -> str:
    """A shape for people: symbolic extents by name, unknown ones as "?"."""
    if shape is None:
        return "of unknown rank"
    extents = ["?" if extent is None else str(extent) for extent in shape]
    return f"({', '.join(extents)}{',' if len(extents) == 1 else ''})"
