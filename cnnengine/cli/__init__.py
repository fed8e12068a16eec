"""The command `cnnengine`: thin subcommands over the Python API.

One module per subcommand, each with `add_to(subparsers)`, which names a function of the parsed arguments that returns
the exit status. Statuses are one contract for all of them: 0 all done, 1 some inputs failed, 2 wrong usage or a model
that cannot be used. Errors are one line each on standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..errors import CNNEngineError
from . import annotate, bench, check, config, info, predict, profile, quantize
from ._common import EXIT_UNUSABLE, complain

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line, without the usage above them."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_UNUSABLE, f"cnnengine: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """`--version`, looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object) -> None:
        from .. import __version__

        print(f"cnnengine {__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="cnnengine", description="Run convolutional networks from ONNX files on the CPU.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (predict, info, annotate, profile, check, quantize, bench, config):
        command.add_to(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; `sys.argv[1:]` when left out.

    Returns
    -------
    int
        0 all done, 1 some inputs failed, 2 a model that cannot be used. Wrong usage leaves by SystemExit(2), as
        argparse does.
    """
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone (`| head`). Without this the interpreter would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except (CNNEngineError, OSError, MemoryError) as error:
        complain(error)
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        return 128 + 2
    return status
