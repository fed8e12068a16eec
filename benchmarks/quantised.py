"""Quantised forms of zoo models, made by onnxruntime's quantiser in the cache folder: what the int8 tables are about.

    python benchmarks/quantised.py resnet50.ts qdq        # prints the path

Calibrated by seeded inputs, normally distributed, min-max. The same file is given to every engine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness  # noqa: F401
import numpy as np
import suite
import zoo_support

from cnnengine.errors import InputError

CALIBRATION = 8
"""Inputs that the ranges are taken from."""


def made(name: str, form: str) -> Path:
    """The file of a zoo model in a form of `suite.FORMS`.

    Raises
    ------
    InputError
        onnxruntime is not installed.
    KeyError
        There is no such model.
    """
    source = zoo_support.materialized(name)
    target = source.parent.parent / "quantised" / f"{source.stem}.{form}.onnx"
    if target.is_file():
        return target
    try:
        import onnxruntime.quantization as tool
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError:
        raise InputError("quantised models are made by onnxruntime: pip install onnxruntime", model=name) from None
    feeds = zoo_support.feeds(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        prepared, part = Path(work) / "prepared.onnx", Path(work) / "part.onnx"
        quant_pre_process(os.fspath(upgraded(source, Path(work))), os.fspath(prepared), skip_symbolic_shape=True)
        chosen = suite.FORMS[form]
        if chosen is None:
            kinds = ["Conv", "MatMul", "Gemm"]
            tool.quantize_dynamic(prepared, part, weight_type=tool.QuantType.QUInt8, op_types_to_quantize=kinds)
        else:
            layout, activations = chosen
            tool.quantize_static(
                prepared, part, _reader(tool, feeds), quant_format=tool.QuantFormat[layout], per_channel=True,
                activation_type=tool.QuantType[activations], weight_type=tool.QuantType.QInt8,
                calibrate_method=tool.CalibrationMethod.MinMax,
            )  # fmt: skip
        os.replace(part, target)
    return target


def upgraded(source: Path, folder: Path) -> Path:
    """The model, at least of the operator set that has scales per channel."""
    import onnx

    model = onnx.load(source)
    if max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) >= 13:
        return source
    path = folder / "upgraded.onnx"
    onnx.save(onnx.version_converter.convert_version(model, 13), path)
    return path


def _reader(tool: Any, feeds: dict[str, np.ndarray]) -> Any:
    class Reader(tool.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            rng = np.random.default_rng(1)
            self.left = [{n: rng.standard_normal(v.shape).astype(v.dtype) for n, v in feeds.items()} for _ in range(CALIBRATION)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    return Reader()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="zoo name")
    parser.add_argument("form", choices=list(suite.FORMS))
    options = parser.parse_args(argv)
    try:
        print(made(options.model, options.form))
    except (InputError, KeyError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
