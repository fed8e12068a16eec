"""`python -m cnnengine.onnxruntime PROGRAM ARGS...`: run a program for which onnxruntime is cnnengine."""

from __future__ import annotations

import io
import os
import runpy
import shutil
import sys
import types
from typing import NoReturn

from . import folder, install

USAGE = """usage: python -m cnnengine.onnxruntime PROGRAM ARGS...
       python -m cnnengine.onnxruntime -m MODULE ARGS...
       python -m cnnengine.onnxruntime -c CODE ARGS...

Run a program of Python for which onnxruntime is cnnengine, whether onnxruntime is installed or not. PROGRAM is a file, a folder
or archive with a __main__.py, or a command of Python that is found on the PATH. Processes that the program starts, if they are of
Python, find cnnengine in onnxruntime's place too: its folder goes in front of PYTHONPATH. docs/session.md says what each name of
onnxruntime's becomes.
"""


def main(arguments: list[str]) -> None:
    """Run the program; `arguments` are those behind the module's name."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE, end="")
        return
    flag, rest = (arguments[0], arguments[1:]) if arguments[:1] in (["-m"], ["-c"]) else ("", arguments)
    if not rest or (not flag and rest[0].startswith("-")):
        _stop(f"a program is needed{f', not {rest[0]}' if rest else ''} (see python -m cnnengine.onnxruntime --help)")
    program, *options = rest
    if not flag:
        program = _found(program)
    # what `python -m` put there, the folder of the call, gives way to what Python has there for the program
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
        sys.path.insert(0, "" if flag else os.path.dirname(os.path.realpath(program)))
    install()
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([folder(), *([inherited] if inherited else [])])
    if flag == "-m":
        sys.argv[:] = [program, *options]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    elif flag == "-c":
        sys.argv[:] = ["-c", *options]
        exec(compile(program, "<string>", "exec"), _as_main(None))
    elif os.path.isfile(program) and not _is_archive(program):
        sys.argv[:] = [program, *options]
        with io.open_code(program) as file:
            source = file.read()
        exec(compile(source, program, "exec"), _as_main(program))
    else:
        sys.argv[:] = [program, *options]
        runpy.run_path(program, run_name="__main__")


def _as_main(file: str | None) -> dict[str, object]:
    """The names of a new module `__main__`, which pickle and multiprocessing find as that of the program."""
    module = types.ModuleType("__main__")
    if file is not None:
        module.__file__ = file
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    return module.__dict__


def _found(program: str) -> str:
    """The file that a program's name means: itself, or a command of Python on the PATH."""
    if os.path.exists(program):
        return program
    command = None if os.path.dirname(program) else shutil.which(program)
    if command is None:
        _stop(f"there is no file {program!r}" + ("" if os.path.dirname(program) else ", and no command of this name"))
    with open(command, "rb") as file:
        first = file.readline(1000)
    if not first.startswith(b"#!") or b"python" not in first:
        _stop(f"the command {command} is no program of Python")
    return command


def _is_archive(program: str) -> bool:
    import zipfile

    return zipfile.is_zipfile(program)


def _stop(text: str) -> NoReturn:
    print(f"cnnengine.onnxruntime: {text!s}".replace("\n", "\\n"), file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
