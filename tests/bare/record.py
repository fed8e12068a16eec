"""Write what tests/bare/run.py runs, in an environment that has onnx: python tests/bare/record.py FOLDER

FOLDER gets the zoo's files with their weights and inputs, ONNX's conformance cases and the digit networks with inputs and what
must come out: as pickles of NumPy's own types alone, so that an environment without onnx and ml_dtypes reads them.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
import unittest
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
from onnx.backend.base import Backend, BackendRep
from onnx.reference import ReferenceEvaluator

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
import zoo_support  # noqa: E402

RANDOM = ("test_bernoulli", "test_gradient")
"""Cases without a defined answer, and of training, by the beginnings of their names."""
MODELS = TESTS.parent / "models"


def plain(value: Any) -> Any:
    """A value of NumPy's own types: of others the name and the bits."""
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.isbuiltin == 2:
        return ("bits", array.dtype.name, array.view(np.uint16 if array.dtype.itemsize == 2 else np.uint8))
    return array.astype(object) if array.dtype.kind in "UT" else array


class Told(Exception):
    """A case has said what it is."""


class Recorder(Backend):  # type: ignore[misc]
    """A backend that notes the model and the inputs."""

    model: onnx.ModelProto
    inputs: Sequence[Any]

    class Rep(BackendRep):  # type: ignore[misc]
        def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
            Recorder.inputs = inputs
            return ()

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> BackendRep:
        cls.model = model
        return cls.Rep()

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> bool:
        return True

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


class Suite(onnx.backend.test.BackendTest):  # type: ignore[misc]
    """The suite, whose cases tell what they expect and go no further."""

    expected: Sequence[Any]
    tolerance: tuple[float, float]

    @classmethod
    def assert_similar_outputs(cls, ref_outputs: Sequence[Any], outputs: Any, rtol: float, atol: float, **_: Any) -> None:
        Suite.expected, Suite.tolerance = ref_outputs, (rtol, atol)
        raise Told


def conformance(every: int) -> Iterator[dict[str, Any]]:
    """ONNX's cases, or one of so many; of those with several sets of inputs the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        suite = Suite(Recorder, __name__)
    number = 0
    for items in suite._test_items.values():
        for name, item in sorted(items.items()):
            number += name.endswith("_cpu")
            if not name.endswith("_cpu") or name.startswith(RANDOM) or number % every:
                continue
            with suppress(Told, unittest.SkipTest), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                item.func(None)
                continue
            yield {
                "name": name,
                "model": Recorder.model.SerializeToString(),
                "inputs": [plain(x) for x in Recorder.inputs],
                "outputs": [plain(y) for y in Suite.expected],
                "tolerance": Suite.tolerance,
            }


def networks() -> Iterator[dict[str, Any]]:
    """The digit networks, with the results of onnx.reference."""
    image = np.load(MODELS / "samples" / "expected.npz")["image"]
    for path in sorted(MODELS.glob("*.onnx")):
        expected = ReferenceEvaluator(onnx.load(path)).run(None, {"image": image})
        yield {
            "name": path.name,
            "model": path.read_bytes(),
            "inputs": [image],
            "outputs": [plain(y) for y in expected],
            "tolerance": (1e-4, 1e-4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="only one of so many conformance cases")
    parser.add_argument("--no-zoo", action="store_true", help="leave the zoo out")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "cases.pickle", "wb") as file, tempfile.TemporaryDirectory() as models:
        os.environ["ONNX_MODELS"] = models  # the suite writes its light models there
        for case in (*networks(), *conformance(options.every)):
            pickle.dump(case, file)
    for name in () if options.no_zoo else zoo_support.names():
        onnx.save(zoo_support.model_proto(name), folder / f"{name}.onnx")
        np.savez(folder / f"{name}.npz", **zoo_support.feeds(name))


if __name__ == "__main__":
    main()
