"""The command `cnnengine`: thin subcommands over the Python API.

One module per subcommand, each with `add_to(subparsers)`, which names a function of the parsed arguments that returns
the exit status. Statuses are one contract for all of them: 0 all done, 1 some inputs failed, 2 wrong usage or a model
that cannot be used. Errors are one line each on standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ..arguments import meant
from ..errors import CNNEngineError
from ._common import EXIT_UNUSABLE, complain, one_line
from .streams import UnwritableError, safe_streams

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["main"]

SHELLS = ("bash", "zsh", "tcsh")
COMPLETED = {
    "MODEL": "FILE",
    "INPUT": "FILE",
    "FILE": "FILE",
    "FILE|NAME": "FILE",
    "IMAGE": "FILE",
    "OUT": "FILE",
    "PATH": "FILE",
    "FOLDER": "DIRECTORY",
}
"""What an argument's name in the help says that a shell completes."""
SURE = 0.7
"""How alike words must be: all options begin alike."""


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line, without the usage above them."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_UNUSABLE, f"cnnengine: {one_line(message)} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse would hide that the help could not be written."""
        if file is not None and file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)


class _Version(argparse.Action):
    """`--version`, looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object) -> None:
        from .. import __version__

        print(f"cnnengine {__version__}")
        parser.exit()


class _Completion(argparse.Action):
    """`--print-completion SHELL`, by shtab."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, shell: Any, option: str | None = None) -> None:
        from ..errors import needed

        shtab = needed("shtab", "completion for shells", extra="completion", tensor=option)
        for one in (parser, *_commands(parser).values()):
            for action in one._actions:
                kind = COMPLETED.get(str(action.metavar))
                if kind is not None:
                    action.complete = getattr(shtab, kind)  # type: ignore[attr-defined]
        print(shtab.complete(parser, shell=shell))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    # here, for what they import fails where CNNENGINE_ISA names no instruction set of this machine
    from . import annotate, bench, check, config, explain, info, lab, predict, profile, quantize, view

    parser = _Parser(prog="cnnengine", description="Run convolutional networks from ONNX files on the CPU.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=SHELLS,
        help="print what makes a shell complete commands, options and files, and leave; needs shtab (pip install shtab)",
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (predict, info, view, explain, lab, annotate, profile, check, quantize, bench, config):
        command.add_to(subparsers)
    return parser


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the subcommands by name."""
    (action,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(action.choices)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """The parsed arguments; wrong usage leaves by SystemExit, with what may have been meant."""
    parser = _parser()
    commands = _commands(parser)
    word = next((word for word in argv if not word.startswith("-")), None)
    after_option = argv[0].startswith("-") if argv else False
    if word is not None and word not in commands and not after_option:
        near = meant(word, commands, SURE)
        parser.error(f"there is no command {word!r}{near or ': ' + ', '.join(commands)}")
    args, rest = parser.parse_known_args(argv)
    if rest:
        one = commands.get(argv[0], parser)
        option = next((word for word in rest if word.startswith("-")), None)
        if option is None:
            one.error(f"nothing takes {' '.join(rest)!r}")
        option = option.partition("=")[0]
        names = [name for name in one._option_string_actions if len(name) > 2]
        one.error(f"there is no option {option}{meant(option, names, SURE)}")
    return args


def _warned(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: str | None = None
) -> None:
    """A warning in one line; where in the program it was raised helps nobody here."""
    complain(f"warning: {message}")


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
    try:
        with safe_streams(), warnings.catch_warnings():
            warnings.showwarning = _warned
            # Pillow refuses what is twice its limit, and warns from its limit on: that is a large photo
            warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
            return _run(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:  # the reader of our output has gone (`| head`)
        return 128 + 13
    except UnwritableError as error:
        complain(error)
        return EXIT_UNUSABLE


def _run(argv: Sequence[str]) -> int:
    try:
        args = _parse(argv)
        status: int = args.run(args)
    except (BrokenPipeError, UnwritableError):
        raise
    except (CNNEngineError, OSError, MemoryError) as error:
        complain(error)
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        return 128 + 2
    except Exception as error:
        if os.environ.get("CNNENGINE_TRACEBACK"):
            raise
        complain(f"a fault of cnnengine, please report it: {type(error).__name__}: {error} (CNNENGINE_TRACEBACK=1 shows where)")
        return EXIT_UNUSABLE
    return status
