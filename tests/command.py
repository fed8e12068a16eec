"""Run the command `cnnengine` in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from cnnengine.cli import main


class Result(NamedTuple):
    """Exit status, and the lines of standard output and standard error."""

    status: int
    out: list[str]
    err: list[str]


def runner(capsys: pytest.CaptureFixture[str], *first: str) -> Callable[..., Result]:
    """A function that runs the command with these arguments and its own."""

    def run(*arguments: object) -> Result:
        try:
            status = main([*first, *(str(argument) for argument in arguments)])
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        captured = capsys.readouterr()
        return Result(status, captured.out.splitlines(), captured.err.splitlines())

    return run
