"""`cnnengine view`: a page that shows how a network computes."""

from __future__ import annotations

import argparse
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from ..arguments import integer
from ..errors import InputError
from ..files import is_array, read_feeds
from ..preprocess import require_pillow
from ..tasks import picture_input
from ._common import EXIT_OK, add_precision_option, add_winograd_option, complain, one_line, positive, whole
from .meanings import add_task_options, option_of, wishes_of
from .pictures import add_image_options, image_options, option_name
from .progress import StatusLine

if TYPE_CHECKING:
    from ..metadata import Preparation
    from ..model import Model
    from ..view import View

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Write a page that shows how a network computes one picture: every layer of the file, its maps, and the arithmetic of a pixel
that is clicked, beside what the engine computed. The page is one HTML file that asks for nothing else."""
EXAMPLES = """examples:
  cnnengine view model.onnx cat.jpg -o page.html
  cnnengine view model.onnx cat.jpg -o page.html --budget 20M
  cnnengine view model.onnx cat.jpg --serve
  cnnengine view sound.onnx wave.npy -o page.html

exit status: 0 all done, 2 wrong usage, or a model or a picture that cannot be used
"""
SIZES = {"": 1, "K": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def size(text: str) -> int:
    """An argparse type: a number of bytes, as 8M or 500K."""
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([KMG]?)B?", text.strip(), re.ASCII | re.IGNORECASE)
    if found is None:
        raise ValueError
    return integer(int(float(found[1]) * SIZES[found[2].upper()]), "the size", 1)


size.__name__ = "size"


def _port(text: str) -> int:
    value = whole(text)
    if value > 65535:
        raise ValueError
    return value


_port.__name__ = "port"


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "view",
        help="write a page that shows how a network computes",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="ONNX file (example: model.onnx)")
    parser.add_argument(
        "input", metavar="INPUT", help="image, .npy array, or .npz with the model's input names (example: cat.jpg)"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--output", metavar="FILE", help="write the page there (example: -o page.html)")
    where.add_argument(
        "--serve",
        action="store_true",
        help="show the page from this machine to its own browser, and compute any pixel on demand; until it is interrupted "
        "(example: view m.onnx x.png --serve)",
    )
    parser.add_argument(
        "--budget",
        metavar="SIZE",
        type=size,
        help="bytes of the page at most, shared by all layers (default: 8M; example: --budget 20M)",
    )
    parser.add_argument(
        "--port", metavar="N", type=_port, default=0, help="of --serve (default: any that is free; example: --port 8000)"
    )
    parser.add_argument("--untimed", action="store_true", help="do not measure how long each layer takes (example: --untimed)")
    parser.add_argument(
        "--labels",
        metavar="FILE|NAME",
        help="class labels: a file with one a line or a JSON list, or a set as predict takes it (example: --labels classes.txt)",
    )
    parser.add_argument("--softmax", action="store_true", help="the output holds logits (example: view m.onnx x.png --softmax)")
    add_task_options(parser, "classes or boxes to show (default: 5; example: --top 3)")
    parser.add_argument(
        "--threads", metavar="N", type=positive, help="threads to use (default: as many as predict; example: --threads 2)"
    )
    add_winograd_option(parser)
    add_precision_option(parser)
    add_image_options(parser)
    parser.set_defaults(run=run, top=5)


def run(args: argparse.Namespace) -> int:
    """Write or serve the page."""
    from .. import load
    from ..view import BUDGET, LEAST, Server, page

    budget = BUDGET if args.budget is None else args.budget
    if budget < LEAST:
        raise InputError("too small for a page", tensor="--budget", expected=f"at least {LEAST:,} bytes", received=f"{budget:,}")
    if args.output is not None:
        _check_target(args.output, args.input, args.model)
    if not is_array(args.input):
        require_pillow()
    status = StatusLine(sys.stderr)
    with load(args.model, threads=args.threads, winograd=args.winograd, precision=args.precision) as model:
        try:
            view = _looked(model, args, status)
            text = page(view, budget, served=args.serve, told=lambda what, done, total: status.tell(f"{what}: {done}/{total}"))
        finally:
            status.clear()
        if args.output is not None:
            _write(args.output, text)
            complain(f"{len(view.layers)} layers, {len(text.encode()) / 1e6:.2f} MB", about=one_line(args.output))
            return EXIT_OK
        server = Server(view, text, args.port)
        print(server.url, flush=True)
        complain("open this page in a browser of this machine; Ctrl+C ends it")
        with suppress(KeyboardInterrupt):
            server.run()
    return EXIT_OK


def _looked(model: Model, args: argparse.Namespace, status: StatusLine) -> View:
    from ..view import look

    wishes = wishes_of(model, args)
    common = {
        "wishes": wishes,
        "option": option_of,
        "timed": not args.untimed,
        "title": os.path.basename(args.input),
        "told": lambda what, done, total: status.tell(f"{what}: {done}/{total}"),
    }
    if is_array(args.input):
        return look(model, feeds=read_feeds(args.input, model.inputs), **common)
    return look(model, args.input, preparation=_preparation(model, args), **common)


def _preparation(model: Model, args: argparse.Namespace) -> Preparation:
    info = picture_input(model).info
    try:
        return model.about.preparation(info, image_options(args), args.assume, option_name)
    except InputError as error:
        raise error.locate(model=model.name) from None


def _check_target(target: str, *sources: str) -> None:
    """Refuse before anything is computed what could not be written, or would be written over."""
    for source in sources:
        if os.path.exists(target) and os.path.exists(source) and os.path.samefile(target, source):
            raise InputError("would be written over", tensor="--output", received=target)
    if os.path.isdir(target) or not os.path.isdir(os.path.dirname(os.path.abspath(target))):
        raise InputError("cannot be written", tensor="--output", expected="a file in a folder that is there", received=target)


def _write(target: str, text: str) -> None:
    """The page, whole or not at all."""
    beside = f"{target}.{os.getpid()}.part"
    try:
        with open(beside, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(beside, target)
    except OSError as error:
        if os.path.exists(beside):
            os.unlink(beside)
        raise InputError(f"{target}: cannot be written: {error.strerror or error}", tensor="--output") from error
