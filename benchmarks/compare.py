"""`cnnengine bench` for models of the zoo, by name: completed in the cache folder, fed with their seeded inputs.

    python benchmarks/compare.py resnet18.ts mobilenet_v2.ts --against onnxruntime,ncnn --threads 1

Names are those of tests/zoo and of the folder in CNNENGINE_ZOO; ONNX files may stand among them. Options and exit status are
those of the command.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import harness  # noqa: F401  puts tests/ on the path
import zoo_support

from cnnengine.bench import Case
from cnnengine.cli.bench import add_options, execute
from cnnengine.errors import CNNEngineError


def zoo_case(name: str, batch: int = 1) -> Case:
    """A zoo model, with the input that expected.json is about, and `batch` - 1 others behind it."""
    path = zoo_support.materialized(name)
    return Case(path, name, feeds=zoo_support.feeds(name, batch if batch > 1 else None))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="zoo name, or ONNX file")
    add_options(parser)
    options = parser.parse_args(argv)
    try:
        cases = [Case(m) if Path(m).is_file() else zoo_case(m, options.batch) for m in options.models]
        return execute(cases, options)
    except KeyError as error:
        parser.error(f"no such file, and {error.args[0]}")
    except CNNEngineError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
