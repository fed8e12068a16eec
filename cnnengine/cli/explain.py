"""`cnnengine explain`: which pixels a score rests on."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from ..errors import CNNEngineError, InputError
from ..explain import METHODS
from ..explain.methods import FILLS
from ..files import is_array, read_feeds
from ..preprocess import require_pillow
from ._common import EXIT_OK, positive
from .pictures import add_image_options, image_options, labels_given
from .progress import PAUSE, StatusLine

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

TOP = 5
"""Classes on a page."""
PATIENCE = 1.0
"""Seconds from which on progress is told."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
EXAMPLES = """examples:
  cnnengine explain model.onnx cat.jpg -o heat.png
  cnnengine explain model.onnx cat.jpg --class tabby -o heat.png
  cnnengine explain model.onnx cat.jpg --top 5 -o page.html
  cnnengine explain model.onnx cat.jpg --method occlusion --patch 32 --stride 16 -o heat.png
  cnnengine explain segmenter.onnx street.jpg --class 12,80,64 -o heat.png

exit status: 0 done, 2 wrong usage, a picture or model that cannot be used, or a method that does not fit the network
"""


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "explain",
        help="show which pixels a score rests on",
        description="Draw over a picture what speaks for a class (orange) and against it (blue), and say by which method, why, "
        "at what cost, and what it cannot tell. Exact class activation maps where the network ends in a mean and sums, "
        "Ablation-CAM elsewhere, occlusion for any network (docs/explain.md).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="ONNX file (example: model.onnx)")
    parser.add_argument("image", metavar="IMAGE", help="a picture, or an .npy or .npz with one sample (example: cat.jpg)")
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        help="a picture, a page (.html), or the numbers (.json, .npy) (default: the text alone; example: -o heat.png)",
    )
    parser.add_argument(
        "--class",
        metavar="N|LABEL|N,N,..",
        dest="target",
        help="a class by index or label, or an element of an output that is no ranking (default: the best class; "
        "example: --class 281)",
    )
    parser.add_argument(
        "--top", metavar="N", type=positive, help=f"the best classes, for a page (default: {TOP} on a page; example: --top 3)"
    )
    parser.add_argument(
        "--method", choices=METHODS, default="auto", help="how (default: the first that fits; example: --method cam)"
    )
    parser.add_argument(
        "--output", metavar="NAME", help="the output that is explained (default: the first; example: --output logits)"
    )
    parser.add_argument(
        "--layer", metavar="NAME", help="the tensor whose channels are ablated (default: the last; example: --layer relu_4)"
    )
    parser.add_argument(
        "--patch",
        metavar="N",
        type=positive,
        help="of occlusion, in pixels of the input (default: a seventh of it; example: --patch 32)",
    )
    parser.add_argument(
        "--stride", metavar="N", type=positive, help="from patch to patch (default: half a patch; example: --stride 16)"
    )
    parser.add_argument("--hide", choices=FILLS, default="mean", help="what patches show (default: mean; example: --hide blur)")
    parser.add_argument(
        "--labels", metavar="FILE|NAME", help="class labels, as `predict` takes them (example: --labels classes.txt)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (example: explain m.onnx x.png --json)")
    parser.add_argument("--threads", metavar="N", type=positive, help="threads to use (default: all CPUs; example: --threads 2)")
    add_image_options(parser)
    parser.set_defaults(run=run)


class _Told:
    """How far the runs have come, on a terminal, once it takes longer."""

    def __init__(self) -> None:
        self._line = StatusLine(sys.stderr)
        self._began = time.monotonic()
        self._written = self._began + PATIENCE - PAUSE

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._written >= PAUSE:
            left = (now - self._began) / max(done, 1) * (total - done)
            self._line.tell(f"{done}/{total} runs, {left:.0f} s left")
            self._written = now

    def clear(self) -> None:
        self._line.clear()


def run(args: argparse.Namespace) -> int:
    """Explain one picture; prints what was found, and writes it where it is asked to."""
    from .. import load
    from ..pages import saved, written

    kind = _kind(args.out)
    array = is_array(args.image)
    if not array or kind in ("picture", "page"):
        require_pillow()
    told = _Told()
    with load(args.model, threads=args.threads) as model:
        last = model.outputs[0].shape[-1] if model.outputs and model.outputs[0].shape else None
        labels = labels_given(args.labels, last if isinstance(last, int) else None) if args.labels else None
        options: dict[str, Any] = {k: v for k, v in image_options(args).items() if v is not None}
        x = _arrays(args.image, model) if array else args.image
        top = args.top if args.top is not None or args.target is not None or kind != "page" else _classes(model)
        try:
            found = model.explain(
                x,
                _target(args.target),
                top=top,
                method=args.method,
                output=args.output,
                layer=args.layer,
                patch=args.patch,
                stride=args.stride,
                hide=args.hide,
                labels=labels,
                assume=args.assume,
                progress=told,
                **options,
            )
        except InputError as error:
            if error.tensor == "target":
                error.tensor = "--class"  # as whoever typed it knows it
            raise
        finally:
            told.clear()
    several = found if isinstance(found, list) else [found]
    if kind == "page":
        from ..explain.page import page

        written(args.out, page(several, os.path.basename(args.image)))
    elif kind == "picture":
        saved(args.out, several[0].overlay())
    elif kind == "json":
        written(args.out, json.dumps([one.as_dict() for one in several]) + "\n")
    elif kind == "npy":
        import numpy as np

        try:
            np.save(args.out, several[0].map)
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror or error}", file=args.out) from error
    for at, one in enumerate(several):
        if args.json:
            print(json.dumps(one.as_dict()))
        elif at and kind == "page":
            print(f"{one.rows[1][1]}\t{one.score:.6g}")
        else:
            print(one)
    return EXIT_OK


def _arrays(path: str, model: Any) -> Any:
    try:
        return read_feeds(path, model.inputs)
    except CNNEngineError as error:
        raise error.locate(file=path) from None


def _classes(model: Any) -> int | None:
    """The classes of a page, of a model whose first output is a ranking by its shape."""
    shape = model.outputs[0].shape if model.outputs else None
    if not shape or len(shape) < 2:
        return None
    rest = [d for d in shape[1:] if d != 1]
    return min(TOP, rest[0]) if len(rest) == 1 and isinstance(rest[0], int) else None


def _kind(path: str | None) -> str | None:
    """What is written, by the name's ending."""
    if path is None:
        return None
    ending = os.path.splitext(path)[1].lower()
    found = {".html": "page", ".htm": "page", ".json": "json", ".npy": "npy", **dict.fromkeys(PICTURES, "picture")}.get(ending)
    if found is None:
        expected = f"a name that ends in .html, .json, .npy, {', '.join(PICTURES)}"
        raise InputError("unknown kind of file", tensor="--out", expected=expected, received=path)
    return found


def _target(text: str | None) -> Any:
    """A tuple of indices, an index, or a label."""
    parts = [] if text is None else text.split(",")
    if len(parts) > 1 and all(p.strip().isascii() and p.strip().isdigit() for p in parts):
        return tuple(int(p) for p in parts)
    return text
