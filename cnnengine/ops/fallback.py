"""Operators without a class of their own, run through onnx.reference: only what was checked.

onnx.reference is right for what ONNX's own suite tests, and silently wrong elsewhere: it passes over attributes and inputs that
it does not know, in older versions and in newest ones alike. `CHECKED` therefore says for each operator which versions,
attributes (some for certain values alone), inputs, outputs and element types were found right;
`tests/ops/test_fallback_cases.py` has a case for each and holds the table against ONNX's schemas. Whatever is not listed is
refused when the model is loaded, like an operator that nobody knows. Operators with subgraphs are never listed: the nodes
inside would run unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import CNNEngineError, InputError, ModelError, UnsupportedOperatorError
from ..operator import Operator
from ..spec import TensorSpec
from .common import code_of, known_dtype

if TYPE_CHECKING:
    import onnx

ANY: None = None
"""Every value of the attribute was checked."""

Attributes = Mapping[str, Any]


def _never(attributes: Attributes, outputs: int) -> str | None:
    return None


@dataclass(frozen=True)
class Checked:
    """What of an operator onnx.reference was found right for.

    Attributes
    ----------
    versions : tuple of int
    attributes : mapping of str to tuple or ANY
        The attributes that a node may have, with the values that they may have.
    inputs, outputs : int
        So many from the first on may be given.
    dtypes : str
        Kinds and names of the element types of the first input, as NumPy writes them.
    refuses : callable
        What in the attributes and the number of outputs together was not checked, or None.
    """

    versions: tuple[int, ...]
    attributes: Mapping[str, tuple[Any, ...] | None] = field(default_factory=dict)
    inputs: int = 1
    outputs: int = 1
    dtypes: str = "float32"
    refuses: Callable[[Attributes, int], str | None] = _never

    def refusal(self, version: int, attributes: Attributes, inputs: int, outputs: int) -> str | None:
        """Why a node with these attributes and numbers of inputs and outputs may not run here, or None."""
        if version not in self.versions:
            return f"onnx.reference was not checked for version {version}"
        for name, value in attributes.items():
            if name not in self.attributes:
                return f"onnx.reference was not checked for the attribute {name}"
            allowed = self.attributes[name]
            if allowed is not None and value not in allowed:
                return f"onnx.reference was not checked for {name} = {value!r}"
        if inputs > self.inputs:
            return f"onnx.reference was not checked for more than {self.inputs} inputs"
        if outputs > self.outputs:
            return f"onnx.reference was not checked for more than {self.outputs} outputs"
        return self.refuses(attributes, outputs)


def _weights_by_coordinate(attributes: Attributes, outputs: int) -> str | None:
    """ONNX has a weight for each n-gram, onnx.reference takes it for the weight of the output's coordinate."""
    indexes = list(attributes.get("ngram_indexes", ()))
    if "weights" in attributes and indexes != list(range(len(indexes))):
        return "onnx.reference was not checked for weights where ngram_indexes is not 0, 1, 2 ..."
    if "weights" not in attributes and attributes.get("mode") != "TF":
        return "onnx.reference was not checked for IDF and TFIDF without weights"
    return None


def _members_other_than_zero(attributes: Attributes, outputs: int) -> str | None:
    """onnx.reference takes a member of 0 for the end of the set."""
    members = attributes.get("membership_values")
    if members is not None and (np.asarray(members, np.float64) == 0).any():
        return "onnx.reference was not checked for membership_values that hold 0"
    return None


def _keys_other_than_nan(attributes: Attributes, outputs: int) -> str | None:
    """NaN is a key that finds nothing in a dictionary."""
    for name in ("keys_floats", "keys_tensor"):
        keys = attributes.get(name)
        if keys is not None and np.asarray(keys).dtype.kind == "f" and np.isnan(np.asarray(keys)).any():
            return f"onnx.reference was not checked for NaN among {name}"
    return None


def _scores_before_softcap(attributes: Attributes, outputs: int) -> str | None:
    """Mode 0 asks for the products as they were before; onnx.reference gives them as they are after."""
    if outputs > 3 and attributes.get("softcap", 0.0) != 0 and attributes.get("qk_matmul_output_mode", 0) == 0:
        return "onnx.reference was not checked for qk_matmul_output_mode = 0 with softcap"
    return None


_MANY = 1 << 16
"""Variadic inputs and outputs."""
CHECKED: dict[tuple[str, str], Checked] = {
    ("", "Attention"): Checked(
        (23, 24, 25),
        {
            "is_causal": (0, 1),
            "kv_num_heads": ANY,
            "left_window_size": ANY,
            "q_num_heads": ANY,
            "qk_matmul_output_mode": (0, 1, 2, 3),
            "right_window_size": ANY,
            "scale": ANY,
            "softcap": ANY,
            "softmax_precision": (1, 11),
        },
        inputs=7,
        outputs=4,
        refuses=_scores_before_softcap,
    ),
    ("", "CenterCropPad"): Checked((18,), {"axes": ANY}, inputs=2, dtypes="float32 float64 int32 int64 uint8"),
    ("", "MelWeightMatrix"): Checked((17,), {"output_datatype": (1, 6, 7, 10, 11)}, inputs=5, dtypes="int32 int64"),
    ("", "RotaryEmbedding"): Checked((23,), {"interleaved": (0, 1), "num_heads": ANY, "rotary_embedding_dim": ANY}, inputs=4),
    ("", "TensorScatter"): Checked(
        (24,), {"axis": ANY, "mode": ("linear", "circular")}, inputs=3, dtypes="float32 float64 int32 int64"
    ),
    ("", "TfIdfVectorizer"): Checked(
        (9,),
        {
            "max_gram_length": ANY,
            "max_skip_count": ANY,
            "min_gram_length": ANY,
            "mode": ("TF", "IDF", "TFIDF"),
            "ngram_counts": ANY,
            "ngram_indexes": ANY,
            "pool_int64s": ANY,
            "pool_strings": ANY,
            "weights": ANY,
        },
        dtypes="int32 int64 object",
        refuses=_weights_by_coordinate,
    ),
    ("ai.onnx.ml", "ArrayFeatureExtractor"): Checked((1,), inputs=2, dtypes="float32 float64 int32 int64 object"),
    ("ai.onnx.ml", "Binarizer"): Checked((1,), {"threshold": ANY}, dtypes="float32 float64 int32 int64"),
    ("ai.onnx.ml", "LabelEncoder"): Checked(
        (4,),
        {
            "default_float": ANY,
            "default_int64": ANY,
            "default_string": ANY,
            "default_tensor": ANY,
            "keys_floats": ANY,
            "keys_int64s": ANY,
            "keys_strings": ANY,
            "keys_tensor": ANY,
            "values_floats": ANY,
            "values_int64s": ANY,
            "values_strings": ANY,
            "values_tensor": ANY,
        },
        dtypes="float32 int64 object",
        refuses=_keys_other_than_nan,
    ),
    ("ai.onnx.ml", "TreeEnsemble"): Checked(
        (5,),
        {
            "aggregate_function": (0, 1, 2, 3),
            "leaf_targetids": ANY,
            "leaf_weights": ANY,
            "membership_values": ANY,
            "n_targets": ANY,
            "nodes_falseleafs": ANY,
            "nodes_falsenodeids": ANY,
            "nodes_featureids": ANY,
            "nodes_hitrates": ANY,
            "nodes_missing_value_tracks_true": ANY,
            "nodes_modes": ANY,
            "nodes_splits": ANY,
            "nodes_trueleafs": ANY,
            "nodes_truenodeids": ANY,
            "post_transform": (0,),
            "tree_roots": ANY,
        },
        dtypes="float32 float64",
        refuses=_members_other_than_zero,
    ),
    ("ai.onnx.preview.training", "Adagrad"): Checked(
        (1,), {"decay_factor": ANY, "epsilon": ANY, "norm_coefficient": ANY}, inputs=_MANY, outputs=_MANY
    ),
    ("ai.onnx.preview.training", "Adam"): Checked(
        (1,),
        {"alpha": ANY, "beta": ANY, "epsilon": ANY, "norm_coefficient": ANY, "norm_coefficient_post": ANY},
        inputs=_MANY,
        outputs=_MANY,
    ),
    ("ai.onnx.preview.training", "Momentum"): Checked(
        (1,),
        {"alpha": ANY, "beta": ANY, "mode": ("standard", "nesterov"), "norm_coefficient": ANY},
        inputs=_MANY,
        outputs=_MANY,
    ),
}
"""(domain, operator) -> what of it may run."""
ALLOWED: dict[tuple[str, str], frozenset[int]] = {key: frozenset(checked.versions) for key, checked in CHECKED.items()}
"""(domain, operator) -> versions."""

KNOWN_VALUE_LIMIT = 1024
"""Elements of a known value that shape inference gets to see."""


def refusal(op_type: str, domain: str, version: int, attributes: Attributes, inputs: int, outputs: int) -> str | None:
    """Why a node may not run through onnx.reference, or None where it may; "" for operators that are not listed at all."""
    checked = CHECKED.get((domain, op_type))
    return "" if checked is None else checked.refusal(version, attributes, inputs, outputs)


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
    by_onnx: ClassVar[bool] = True
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
        first, checked = inputs[0] if inputs else None, CHECKED.get((self.domain, self.op_type))
        if first is not None and checked is not None and first.dtype.name not in checked.dtypes.split():
            raise UnsupportedOperatorError(
                "onnx.reference was not checked for this element type",
                operator=self.op_type,
                expected=checked.dtypes,
                received=first.dtype,
            )
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
        named = [_plain(next(given)) if n else None for n in outputs]
        if any(isinstance(v, np.ndarray) and v.dtype.kind == "f" for v in named):
            # an intermediate of float64 makes onnx.reference give float64 where the operator's type is smaller
            specs = self.infer([TensorSpec(x.dtype, x.shape, x) if isinstance(x, np.ndarray) else None for x in inputs])
            return [
                v.astype(s.dtype) if isinstance(v, np.ndarray) and v.dtype.kind == "f" and v.dtype != s.dtype else v
                for v, s in zip(named, specs, strict=True)
            ]
        return named


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
