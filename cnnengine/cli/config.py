"""`cnnengine config`: how this installation was built and what it uses on this machine."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from ._common import EXIT_OK

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


EXAMPLES = """examples:
  cnnengine config
  cnnengine config --json | python -m json.tool
"""


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "config",
        help="show the build and the instruction set in use",
        description="Show how cnnengine was built, the instruction sets and threads that it uses here, and versions.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object (example: cnnengine config --json)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print `cnnengine.show_config()`."""
    from .. import show_config

    found = show_config()
    if args.json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))
        return EXIT_OK
    for key, value in found.items():
        print(f"{key}: {', '.join(value) if isinstance(value, tuple) else value}")
    return EXIT_OK
