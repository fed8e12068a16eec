"""`cnnengine config`: how this installation was built and what it uses on this machine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ._common import EXIT_OK

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("config", help="show the build and the instruction set in use")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print `cnnengine.show_config()`."""
    from .. import show_config

    for key, value in show_config().items():
        print(f"{key}: {', '.join(value) if isinstance(value, tuple) else value}")
    return EXIT_OK
