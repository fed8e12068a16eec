"""onnxruntime's quantiser, the one file that knows it: a model prepared, calibrated once, quantised as often as is asked."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError, ModelError, needed
from .samples import Samples

if TYPE_CHECKING:
    import onnx

FORMATS = ("qdq", "qoperator")
TYPES = ("u8s8", "s8s8", "u8u8")
CALIBRATIONS = ("minmax", "percentile", "entropy")
LEAST_OPSET = 13
"""Of ONNX: DequantizeLinear has scales per channel from here on."""
MOST_BYTES = (1 << 31) - (1 << 24)
"""Of a model as protobuf."""

_ENUMS = {"u": "QUInt8", "s": "QInt8"}
_METHODS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
_KEYS = ("onnx.infer", "onnx.quant.pre_process")
"""Metadata that the quantiser leaves behind."""


def required() -> Any:
    """The quantiser; an InputError that says how to get it where it is not installed."""
    found = needed("onnxruntime.quantization", "quantising", extra="quantize")
    if "calibration_cache_path" not in inspect.signature(found.quantize_static).parameters:
        version = importlib.import_module("onnxruntime").__version__
        raise InputError("onnxruntime is too old: pip install --upgrade onnxruntime", received=version)
    return found


def quantised_already(proto: onnx.ModelProto) -> str | None:
    """The first node that computes with quantised numbers, by operator and name; None in a float model."""
    graphs = [proto.graph.node, *(function.node for function in proto.functions)]
    for nodes in graphs:
        for node in nodes:
            kind = node.op_type
            if "Quantize" in kind or "Integer" in kind or kind.startswith("QLinear") or kind in ("QGemm", "MatMulNBits"):
                return f"{kind} {node.name}".strip()
    return None


def prepared(proto: onnx.ModelProto, folder: str, model: str) -> onnx.ModelProto:
    """The model as it is quantised: normalisations merged, shapes inferred, opset 13 or later, each node with a name.

    Parameters
    ----------
    proto : onnx.ModelProto
        Not changed.
    folder : str
        For temporary files.
    model : str
        Its name, for messages.
    """
    import onnx

    required()
    if proto.ByteSize() > MOST_BYTES:
        raise InputError("too large to quantise", model=model, expected="less than 2 GB", received=f"{proto.ByteSize()} bytes")
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    name_nodes(copy.graph)
    opset = next((o.version for o in copy.opset_import if o.domain in ("", "ai.onnx")), 1)
    way_out = f"export it with opset {LEAST_OPSET} or later"
    if opset < LEAST_OPSET:
        try:
            copy = onnx.version_converter.convert_version(copy, LEAST_OPSET)
        except Exception as error:  # onnx' converter raises what it likes
            said = " ".join(str(error).split())[:200]
            raise ModelError(f"onnx cannot convert it from opset {opset} ({said}): {way_out}", model=model) from error
    source, target = os.path.join(folder, "float.onnx"), os.path.join(folder, "prepared.onnx")
    onnx.save(copy, source)
    preparing: Any = importlib.import_module("onnxruntime.quantization.shape_inference")
    with _quiet():
        try:
            preparing.quant_pre_process(source, target, skip_symbolic_shape=True)
        except Exception as error:  # onnxruntime raises what it likes
            raise ModelError(f"onnxruntime cannot prepare it: {_said(error)}; {way_out}", model=model) from error
    found = onnx.load(target)
    name_nodes(found.graph)
    return found


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give nodes without a name the one that `cnnengine info` shows: the operator and a number."""
    taken = {node.name for node in graph.node}
    counter = 0
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        if not node.name:
            name, more = f"{node.op_type}_{counter}", 0
            while name in taken:
                more += 1
                name = f"{node.op_type}_{counter}_{more}"
            node.name = name
            taken.add(name)
        counter += 1


@dataclass(frozen=True)
class Settings:
    """How to quantise, in this package's words."""

    format: str
    type: str
    per_channel: bool
    calibration: str
    percentile: float


class Quantiser:
    """Quantises one prepared model, any set of its nodes left in float; calibrates at the first call.

    Parameters
    ----------
    proto : onnx.ModelProto
        As `prepared` gives it.
    settings : Settings
    samples : Samples
        To calibrate on.
    folder : str
        For temporary files.
    model : str
        Its name, for messages.
    """

    def __init__(self, proto: onnx.ModelProto, settings: Settings, samples: Samples, folder: str, model: str) -> None:
        import onnx

        self._settings = settings
        self._samples = samples
        self._folder = folder
        self._model = model
        self._path = os.path.join(folder, "named.onnx")
        onnx.save(proto, self._path)

    @staticmethod
    def operators() -> frozenset[str]:
        """Operators that can be quantised."""
        found: Any = importlib.import_module("onnxruntime.quantization.registry")
        return frozenset([*found.QLinearOpsRegistry, *found.QDQRegistry])

    def run(self, excluded: Collection[str], form: str | None = None) -> onnx.ModelProto:
        """The model quantised, these nodes left in float.

        Parameters
        ----------
        excluded : collection of str
            Names of nodes.
        form : {"qdq", "qoperator"}, optional
            That of the settings.
        """
        import onnx

        library, settings = required(), self._settings
        target = os.path.join(self._folder, "quantised.onnx")
        formats = {"qdq": library.QuantFormat.QDQ, "qoperator": library.QuantFormat.QOperator}
        with _quiet():
            try:
                library.quantize_static(
                    self._path,
                    target,
                    _reader(library, self._samples),
                    quant_format=formats[form or settings.format],
                    per_channel=settings.per_channel,
                    activation_type=getattr(library.QuantType, _ENUMS[settings.type[0]]),
                    weight_type=getattr(library.QuantType, _ENUMS[settings.type[2]]),
                    nodes_to_exclude=sorted(excluded),
                    calibrate_method=getattr(library.CalibrationMethod, _METHODS[settings.calibration]),
                    # one sample at a time: the quantiser keeps all tensors of what it collects at once
                    extra_options={"CalibStridedMinMax": 1, "CalibPercentile": settings.percentile},
                    calibration_cache_path=os.path.join(self._folder, "ranges.json"),
                )
            except Exception as error:  # onnxruntime raises what it likes
                raise ModelError(f"onnxruntime cannot quantise it: {_said(error)}", model=self._model) from error
        return onnx.load(target)


def finished(proto: onnx.ModelProto, original: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the metadata of the original and without opsets that nothing uses."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.metadata_props[:]
    copy.metadata_props.extend(p for p in original.metadata_props if p.key not in _KEYS)
    copy.doc_string = original.doc_string
    used = {"" if node.domain == "ai.onnx" else node.domain for node in copy.graph.node} | {""}
    used.update(function.domain for function in copy.functions)
    used.update(o.domain for function in copy.functions for o in function.opset_import)
    inner = any(a.HasField("g") or a.graphs for node in copy.graph.node for a in node.attribute)
    kept = [o for o in copy.opset_import if inner or o.domain in used or o.domain == "ai.onnx"]
    del copy.opset_import[:]
    copy.opset_import.extend(kept)
    return copy


def _reader(library: Any, samples: Samples) -> Any:
    class Reader(library.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._units = iter(samples.units())
            self._left = 0

        def __len__(self) -> int:
            return samples.runs

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = end_index - start_index

        def get_next(self) -> Any:
            if not self._left:
                return None
            self._left -= 1
            return next(self._units).feeds

    return Reader()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(": ")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the quantiser prints and logs; it would also set up logging where the program has not."""
    root, handler, before = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(handler)
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
        root.removeHandler(handler)
