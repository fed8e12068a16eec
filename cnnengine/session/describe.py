"""What a file says of itself and of its inputs and outputs, as NodeArg and ModelMetadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..ops.common import DTYPE_NAMES, code_of
from ..plan import Segment

if TYPE_CHECKING:
    from ..importer import Source
    from ..importer.wire import ModelMessage, Type, ValueInfo


@dataclass(frozen=True)
class NodeArg:
    """An input or output of the model.

    Attributes
    ----------
    name : str
    shape : list of int, str or None
        A string is a symbolic dimension, None an unknown one; empty where the rank is unknown, as for scalars.
    type : str
        Such as ``"tensor(float)"``.
    """

    name: str
    shape: list[int | str | None]
    type: str

    def __str__(self) -> str:
        return repr(self)


@dataclass(frozen=True)
class ModelMetadata:
    """What the file says of itself."""

    custom_metadata_map: dict[str, str] = field(default_factory=dict)
    description: str = ""
    domain: str = ""
    graph_description: str = ""
    graph_name: str = ""
    producer_name: str = ""
    version: int = 0


def name_of(tensor: Any) -> str:
    return str(tensor.values.name if hasattr(tensor, "values") else tensor.name)


def initializer_names(proto: ModelMessage) -> set[str]:
    return {name_of(t) for t in (*proto.graph.initializer, *proto.graph.sparse_initializer)}


_TYPE_NAMES = {number: name.lower() for name, number in DTYPE_NAMES.items()}
_TYPE_NAMES |= {17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4"}
_TYPE_NAMES |= {23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2", 27: "float6e2m3", 28: "float6e3m2"}


def _is_known(value: ValueInfo) -> bool:
    """Whether a file says an input's or output's type, and a tensor's shape."""
    kind = value.type.WhichOneof("value")
    return kind is not None and (
        kind != "tensor_type" or (value.type.tensor_type.elem_type != 0 and value.type.tensor_type.HasField("shape"))
    )


def complete_outputs(source: Source, plan: Segment | None) -> list[NodeArg]:
    """The graph's outputs; what the file leaves out is inferred by ONNX, or where that is not installed told by the plan.

    Parameters
    ----------
    source : Source
    plan : Segment or None
        That of all of the model, where it was planned at load.
    """
    outputs = list(source.message.graph.output)
    if all(_is_known(v) for v in outputs):
        return [node_arg(v) for v in outputs]
    try:
        import onnx
    except ImportError:
        return [node_arg(v) if _is_known(v) else _planned(v, source, plan) for v in outputs]
    try:
        inferred = {v.name: v for v in onnx.shape_inference.infer_shapes(source.proto()).graph.output}
    except Exception:
        # shape inference of files that run all the same: unknown domains, inconsistent declarations, more than 2 GB
        inferred = {}
    return [node_arg(v if _is_known(v) else inferred.get(v.name, v)) for v in outputs]


def _planned(value: ValueInfo, source: Source, plan: Segment | None) -> NodeArg:
    """An output that the file does not describe: element type and rank by the plan, extents too where no input's is dynamic."""
    found = {} if plan is None else {name: (shape, dtype) for name, shape, dtype in plan.outputs}
    if value.name not in found or value.type.WhichOneof("value") not in (None, "tensor_type"):
        return node_arg(value)
    shape, dtype = found[value.name]
    fixed = all(d.dim_value > 0 for v in source.message.graph.input for d in v.type.tensor_type.shape.dim)
    return NodeArg(value.name, [d if fixed else None for d in shape], f"tensor({_TYPE_NAMES[code_of(dtype) or 1]})")


def node_arg(value: ValueInfo) -> NodeArg:
    shape: list[int | str | None] = []
    if value.type.WhichOneof("value") == "tensor_type":
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and not dim.dim_param.startswith("unk__"):  # the name that shape inference makes up
                shape.append(dim.dim_param)
            else:
                shape.append(int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value >= 0 else None)
    return NodeArg(value.name, shape, _type_name(value.type))


def _type_name(kind: Type) -> str:
    field_name = kind.WhichOneof("value")
    if field_name in ("tensor_type", "sparse_tensor_type"):
        name = _TYPE_NAMES.get(getattr(kind, field_name).elem_type, "float")
        return f"{'sparse_' if field_name == 'sparse_tensor_type' else ''}tensor({name})"
    if field_name == "sequence_type":
        return f"seq({_type_name(kind.sequence_type.elem_type)})"
    if field_name == "optional_type":
        return f"optional({_type_name(kind.optional_type.elem_type)})"
    if field_name == "map_type":
        return f"map({_TYPE_NAMES.get(kind.map_type.key_type, 'undefined')},{_type_name(kind.map_type.value_type)})"
    return "tensor(float)"
