"""Operators without a class of their own, run through onnx.reference: only versions that were checked.

onnx.reference is right for the operator versions that ONNX's own suite tests, and silently wrong for others. `ALLOWED`
therefore lists versions one by one; `tests/test_fallback.py` has a case for each. Whatever is not listed is refused
when the model is loaded, like an operator that nobody knows. Operators with subgraphs are never listed: the nodes
inside would run unchecked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import CNNEngineError, InputError, ModelError, UnsupportedOperatorError
from ..graph import TensorSpec
from .base import Operator
from .common import code_of, known_dtype

if TYPE_CHECKING:
    import onnx

_VERSIONS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (20,),
    "Attention": (23, 24, 25),
    "CenterCropPad": (18,),
    "Col2Im": (18,),
    "Compress": (9, 11, 28),
    "CumProd": (26,),
    "Det": (11, 22),
    "DynamicQuantizeLinear": (11,),
    "EyeLike": (9, 22),
    "GRU": (7, 14, 22),
    "ImageDecoder": (20,),
    "LSTM": (7, 14, 22),
    "MelWeightMatrix": (17,),
    "RNN": (7, 14, 22),
    "RegexFullMatch": (20,),
    "ReverseSequence": (10, 28),
    "RotaryEmbedding": (23,),
    "StringConcat": (20,),
    "StringNormalizer": (10,),
    "StringSplit": (20,),
    "TensorScatter": (24,),
    "TfIdfVectorizer": (9,),
    "Unique": (11, 28),
}
_OTHER_DOMAINS: dict[tuple[str, str], tuple[int, ...]] = {
    ("ai.onnx.ml", "ArrayFeatureExtractor"): (1,),
    ("ai.onnx.ml", "Binarizer"): (1,),
    ("ai.onnx.ml", "LabelEncoder"): (4,),
    ("ai.onnx.ml", "TreeEnsemble"): (5,),
    ("ai.onnx.preview.training", "Adagrad"): (1,),
    ("ai.onnx.preview.training", "Adam"): (1,),
    ("ai.onnx.preview.training", "Momentum"): (1,),
}
ALLOWED: dict[tuple[str, str], frozenset[int]] = {
    **{("", name): frozenset(versions) for name, versions in _VERSIONS.items()},
    **{key: frozenset(versions) for key, versions in _OTHER_DOMAINS.items()},
}
"""(domain, operator) -> versions."""

KNOWN_VALUE_LIMIT = 1024
"""Elements of a known value that shape inference gets to see."""


def is_allowed(op_type: str, domain: str, version: int) -> bool:
    """Whether this version of the operator was checked."""
    return version in ALLOWED.get((domain, op_type), ())


@dataclass(frozen=True)
class Fallback(Operator):
    """One node as a model of its own, under the operator's own version.

    Attributes
    ----------
    op_type, domain : str
    version : int
        The operator's own version, which the one-node model imports.
    model : bytes
        The one-node model.
    """

    widens: ClassVar[bool] = False
    op_type: str = ""  # type: ignore[misc]
    domain: str = ""  # type: ignore[misc]
    version: int = 1
    model: bytes = b""

    @classmethod
    def of(cls, node: onnx.NodeProto, version: int) -> Fallback:
        """Wrap a file's node; its values are renamed by position, so that equal nodes give equal operators."""
        import onnx
        from onnx import helper

        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = ""
        copy.domain = "" if node.domain == "ai.onnx" else node.domain
        copy.input[:] = [f"x{i}" if n else "" for i, n in enumerate(node.input)]
        copy.output[:] = [f"y{i}" if n else "" for i, n in enumerate(node.output)]
        graph = helper.make_graph(
            [copy],
            "node",
            [onnx.ValueInfoProto(name=n) for n in copy.input if n],
            [onnx.ValueInfoProto(name=n) for n in copy.output if n],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(copy.domain, version)], ir_version=10)
        return cls(node.op_type, copy.domain, version, model.SerializeToString(deterministic=True))

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        """By ONNX's own shape inference; what it leaves open is None."""
        import onnx
        from onnx import helper, numpy_helper

        model = onnx.ModelProto.FromString(self.model)
        node = model.graph.node[0]
        del model.graph.input[:]
        for name in filter(None, node.input):
            spec = inputs[int(name[1:])]
            if spec is None:
                continue
            if spec.value is not None and spec.value.size <= KNOWN_VALUE_LIMIT and spec.value.dtype != object:
                model.graph.initializer.append(
                    numpy_helper.from_array(np.ascontiguousarray(spec.value).reshape(spec.value.shape), name)
                )
            else:
                model.graph.input.append(helper.make_tensor_value_info(name, _code(spec.dtype, self.op_type), spec.shape))
        try:
            found = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        except Exception as error:  # InferenceError, whose base differs between releases
            raise InputError(f"the inputs do not fit ({_first_line(error)})", operator=self.op_type) from None
        types = {v.name: v.type.tensor_type for v in found.graph.output if v.type.HasField("tensor_type")}
        specs = []
        for name in node.output:
            if name and types.get(name) is None:
                raise UnsupportedOperatorError("the type of an output is not known", operator=self.op_type)
            tensor = types.get(name)
            if tensor is None:
                specs.append(TensorSpec(np.dtype("V"), None))
                continue
            shape = None
            if tensor.HasField("shape"):
                shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
            dtype = known_dtype(tensor.elem_type)
            if dtype is None:
                raise UnsupportedOperatorError(
                    "an output's element type is not supported", operator=self.op_type, received=tensor.elem_type
                )
            specs.append(TensorSpec(dtype, shape))
        return specs

    def reference(self, *inputs: Any) -> list[Any]:
        node_inputs, outputs, session = _session(self.model)
        feeds = {n: inputs[int(n[1:])] for n in node_inputs if n}
        try:
            with np.errstate(all="ignore"):
                results = session.run(None, feeds)
        except CNNEngineError:
            raise
        except Exception as error:  # onnx.reference lets through whatever NumPy or its own code raises
            raise InputError(
                f"onnx.reference cannot compute it ({type(error).__name__}: {_first_line(error)})", operator=self.op_type
            ) from error
        given = iter(results)
        return [_plain(next(given)) if n else None for n in outputs]


def _plain(value: Any) -> Any:
    if isinstance(value, list) or value is None:
        return value
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "UT" else array  # texts are objects here


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _code(dtype: np.dtype, operator: str) -> int:
    code = code_of(dtype)
    if code is not None:
        return code
    raise UnsupportedOperatorError(
        "this element type is not supported", operator=operator, expected="a NumPy dtype", received=dtype
    )


@lru_cache(maxsize=512)
def _session(model: bytes) -> tuple[tuple[str, ...], tuple[str, ...], Any]:
    """Names of the node's inputs and outputs and its evaluator, made once per operator."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    proto = onnx.ModelProto.FromString(model)
    node = proto.graph.node[0]
    try:
        return tuple(node.input), tuple(node.output), ReferenceEvaluator(proto)
    except Exception as error:
        raise ModelError(f"onnx.reference does not take it ({_first_line(error)})", operator=node.op_type) from None
