"""`cnnengine bench` for models of the zoo, by name: completed in the cache folder, fed with their seeded inputs.

    python benchmarks/compare.py resnet18.ts mobilenet_v2.ts --against onnxruntime,ncnn --threads 1

Names are those of tests/zoo and of the folder in CNNENGINE_ZOO; "resnet50.ts qdq" is one in a form of suite.FORMS; ONNX files
and folders of them may stand among them. Options and exit status are
those of the command.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import harness  # noqa: F401  puts tests/ on the path
import quantised
import zoo_support

from cnnengine.bench import Case
from cnnengine.cli.bench import add_options, execute, files_of
from cnnengine.errors import CNNEngineError


def zoo_case(name: str, batch: int = 1) -> Case:
    """A zoo model, or a quantised form of one, with the input that expected.json is about, and `batch` - 1 others behind it."""
    base, _, form = name.partition(" ")
    path = quantised.made(base, form) if form else zoo_support.materialized(base)
    return Case(path, name, feeds=zoo_support.feeds(base, batch if batch > 1 else None))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="zoo name, or ONNX file")
    add_options(parser)
    options = parser.parse_args(argv)
    try:
        cases = []
        for name in options.models:
            there = Path(name).exists()
            cases += [Case(path) for path in files_of([name])] if there else [zoo_case(name, options.batch)]
        return execute(cases, options)
    except KeyError as error:
        parser.error(f"no such file, and {error.args[0]}")
    except CNNEngineError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
