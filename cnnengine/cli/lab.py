"""`cnnengine lab`: one picture through every kind of layer."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from ..errors import InputError
from ..preprocess import require_pillow
from ._common import EXIT_OK, positive
from .progress import StatusLine

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

EXAMPLES = """examples:
  cnnengine lab cat.jpg -o page.html
  cnnengine lab cat.jpg --only pooling -o sheet.png

exit status: 0 done, 2 wrong usage, or a picture that cannot be used
"""


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "lab",
        help="show what each kind of layer does to a picture",
        description="Run one picture through filters, strides, dilations, paddings, activations, every kind of pooling and "
        "unpooling, normalisations and dropout, and write all of it side by side, with a sentence for each (docs/lab.md).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", metavar="IMAGE", help="a picture (example: cat.jpg)")
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        required=True,
        help="a page (.html), or a sheet of one experiment (.png) (example: -o page.html)",
    )
    parser.add_argument("--only", metavar="NAME", help="one experiment (default: all; example: --only pooling)")
    parser.add_argument(
        "--size",
        metavar="N",
        type=positive,
        help="pixels of the longer side that the picture is made no larger than (default: 192; example: --size 256)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the page or the sheet."""
    from .. import lab, pages
    from ..arguments import meant

    require_pillow()
    is_page = args.out.lower().endswith((".html", ".htm"))
    if args.only is not None and args.only not in lab.EXPERIMENTS:
        said = f"no such experiment{meant(args.only, lab.EXPERIMENTS)}"
        raise InputError(said, tensor="--only", expected=", ".join(lab.EXPERIMENTS), received=args.only)
    if args.only is None and not is_page:
        raise InputError("all experiments make a page", tensor="--out", expected=".html, or --only NAME", received=args.out)
    line = StatusLine(sys.stderr)
    size = lab.SIDE if args.size is None else args.size
    try:
        if args.only is not None:
            found = [lab.EXPERIMENTS[args.only](args.image, size=size)]
        else:
            found = lab.everything(args.image, size=size, progress=lambda done, of: line.tell(f"{done}/{of} experiments"))
    finally:
        line.clear()
    if is_page:
        pages.written(args.out, lab.page(found, f"What layers do to {os.path.basename(args.image)}"))
    else:
        found[0].save(args.out)
    for one in found:
        print(one)
    return EXIT_OK
