"""What to try where a model, or one of its nodes, does not run or is not compiled: one sentence each."""

from __future__ import annotations

import numpy as np

from ..errors import CNNEngineError, ModelNotFoundError, ShapeError, UnsupportedOperatorError
from ..importer.graphs import schema_of
from ..importer.more_schemas import EXPERIMENTAL
from ..importer.schemas import OPSET
from ..ops import lookup
from ..ops.fallback import ALLOWED

REPLACED = {"Scatter": "ScatterElements", "Upsample": "Resize"}
"""Deprecated operators -> those that took their place."""

RANDOM = frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"})

CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})

_ONE_PROCESSOR = (
    "onnxruntime's optimizer wrote this file for one kind of processor: give the file as it was before, or save it again with "
    "SessionOptions.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_EXTENDED"
)
_MICROSOFT = "com.microsoft"
_QUANTISED = (
    "written by onnxruntime's quantizer: quantize in the QDQ format (quant_format=QuantFormat.QDQ), which has ONNX's operators "
    "alone, and give that file as it was before onnxruntime's optimizer"
)
_DOMAINS = {
    "com.microsoft.nchwc": _ONE_PROCESSOR,
    "com.ms.internal.nhwc": _ONE_PROCESSOR,
    "ai.onnx.contrib": "an operator of onnxruntime-extensions: export without its pre- or postprocessing",
    "ai.onnx.training": "an operator of training: export the model for inference (torch: model.eval())",
    "ai.onnx.preview.training": "an operator of training: export the model for inference (torch: model.eval())",
    "org.pytorch.aten": "the exporter found no ONNX operator: torch.onnx.export(..., dynamo=True), or a higher opset_version",
    "aten": "the exporter found no ONNX operator: torch.onnx.export(..., dynamo=True), or a higher opset_version",
    "mmcv": "mmcv's own operator: export with MMDeploy's configuration for onnxruntime, without custom operators",
    "mmdeploy": "MMDeploy's own operator: export with its configuration for onnxruntime, without custom operators",
    "org.openvinotoolkit": "OpenVINO's own operator: export without fused operators",
}
_OWN_OPERATOR = (
    "not an operator of ONNX: export without it (as an ONNX function it would do), or cut the model before it with "
    "onnx.utils.extract_model"
)


def versions_that_run(op_type: str, domain: str) -> list[int]:
    """The versions of an operator (each a `since_version`) that run here by a class or by onnx.reference, ascending."""
    cls, allowed = lookup(op_type, domain), ALLOWED.get((domain, op_type), frozenset())
    return [v for v in _versions(op_type, domain) if v in allowed or (cls is not None and v >= cls.min_version)]


def _versions(op_type: str, domain: str) -> list[int]:
    """Versions of an operator in ONNX that are not deprecated, ascending."""
    found: set[int] = set()
    schema = schema_of(op_type, domain, 2**31 - 1)
    while schema is not None:
        if not schema.deprecated:
            found.add(schema.version)
        schema = schema_of(op_type, domain, schema.version - 1) if schema.version > 1 else None
    return sorted(found)


def of_unsupported(op_type: str, domain: str, version: int) -> str:
    """For a node that cannot be run.

    Parameters
    ----------
    op_type, domain : str
    version : int
        The operator's own under the model's opset import; that import where ONNX has no such operator in it, 0 without one.
    """
    if domain in _DOMAINS:
        return _DOMAINS[domain]
    if domain == _MICROSOFT:
        return _of_microsoft(op_type)
    if domain in ("", "ai.onnx") and op_type in EXPERIMENTAL:
        return _of_experimental(op_type)
    if "TRT" in op_type or domain.lower().startswith(("trt", "tensorrt")):
        return "a plugin of TensorRT: export without it (detectors: without the suppression of boxes inside the model)"
    known = _versions(op_type, domain)
    if not known:
        if domain == "" and version > OPSET:
            return f"ONNX has no such operator up to opset {OPSET}: export with an older opset, or upgrade onnx if it is newer"
        return _OWN_OPERATOR
    if domain == "ai.onnx.ml" and not versions_that_run(op_type, domain):
        return "classical machine learning, not a network: cut the model before it with onnx.utils.extract_model"
    runs = versions_that_run(op_type, domain)
    if not runs:
        if op_type in REPLACED:
            return _replaced(op_type, domain)
        if op_type in RANDOM:
            return "it draws random numbers: export the model for inference (torch: model.eval()), or make them an input"
        return "simplifying the model (onnxsim) may fold it away; else cut the model around it with onnx.utils.extract_model"
    if version == 0:
        return f"the file does not say which opset of {domain!r} it means: export again"
    if version < runs[0]:
        since = f"came with opset {runs[0]}" if runs[0] == known[0] else f"runs from opset {runs[0]} on"
        return f"{op_type} {since}: {_at_opset(runs[0], domain)} or later"
    if version > runs[-1]:
        if op_type in REPLACED:
            return _replaced(op_type, domain)
        return f"versions that run: {_listed(runs)}; {_at_opset(runs[-1], domain)}"
    if version in runs:
        return "the operator runs, with this setting it does not: export with another setting, or another opset"
    return f"versions that run: {_listed(runs)}; {_at_opset(next(v for v in runs if v > version), domain)}"


def _of_microsoft(op_type: str) -> str:
    """For a node of onnxruntime's own domain."""
    if lookup(op_type, _MICROSOFT) is not None:
        return "the operator runs, with this setting it does not: give the file as it was before onnxruntime's optimizer"
    if op_type.startswith(("Q", "MatMulInteger", "MulInteger")) or "uant" in op_type:
        return _QUANTISED
    return "onnxruntime's own operator: give the file as it was before onnxruntime's optimizer, or export without it"


def _of_experimental(op_type: str) -> str:
    """For a node of the default domain that ONNX had in its first versions."""
    if lookup(op_type) is not None:
        return "an experimental operator that ONNX retired in opset 10: it runs in files of opset 9 and older; export again"
    return "an experimental operator of ONNX's first versions, retired long ago: export again, with a newer exporter"


def _replaced(op_type: str, domain: str) -> str:
    name = REPLACED[op_type]
    return f"{name} took its place in opset {_versions(name, domain)[0]}: export again, with that opset or a later one"


def _at_opset(version: int, domain: str) -> str:
    # onnx.version_converter is no help here: it has no adapters for the operators whose versions do not run
    return f"export with opset {version} of {domain!r}" if domain else f"export with opset_version={version}"


def _listed(versions: list[int]) -> str:
    return ", ".join(str(v) for v in versions)


def of_error(error: CNNEngineError, *, arrays_given: bool = False) -> str:
    """For a model that cannot be loaded or run for another reason than its operators, on made-up arrays or on given ones."""
    if isinstance(error, ModelNotFoundError):
        return "files of external data must lie beside the model, under the names that it gives them"
    if isinstance(error, UnsupportedOperatorError):
        return "export with another element type, setting or opset"
    if isinstance(error, ShapeError) and arrays_given:
        return "give arrays of shapes that the model is made for; a size that was fixed at export stays fixed"
    if error.node is not None:
        return "onnx.checker.check_model(path, full_check=True) may say more; export again, or simplify the model (onnxsim)"
    if error.received is None and error.message.startswith("not an ONNX model: "):
        return str(error.expected)
    return "not ONNX, or damaged: export again, or compare the size and checksum of the download"


def of_host(op_type: str, runs: str, dtypes: list[np.dtype], data_dependent: bool) -> tuple[str, str]:
    """Why a node runs in Python, and what to try."""
    if runs == "fallback":
        return "no kernel, onnx.reference computes it", "export with operators that are compiled (docs/operators.md)"
    if op_type in CONTROL_FLOW:
        return "some of its body runs in NumPy", "what is fixed disappears at export (torch: trace, not script)"
    if op_type.startswith(("Sequence", "Optional", "SplitToSequence", "ConcatFromSequence")):
        return "sequences and optional values are Python's", "simplify the model (onnxsim), which replaces most of them"
    if any(d == np.float64 for d in dtypes):
        return "float64", "export the model in float32"
    if any(d.kind == "O" for d in dtypes) or op_type.startswith(("String", "Regex")):
        return "texts", "do the work on texts outside of the model"
    if data_dependent:
        return "its output's shape depends on data", "what follows is planned for each shape that comes up"
    kinds = ", ".join(dict.fromkeys(str(d) for d in dtypes))
    what = f"no kernel for these inputs{f' ({kinds})' if kinds else ''}"
    return what, "simplifying the model (onnxsim) may remove it; where it is much of a run, report it"
