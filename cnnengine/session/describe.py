"""What a file says of itself and of its inputs and outputs, as NodeArg and ModelMetadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..ops.common import DTYPE_NAMES

if TYPE_CHECKING:
    import onnx


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

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.shape), self.type))


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

    def __hash__(self) -> int:
        return hash((frozenset(self.custom_metadata_map.items()), self.graph_name, self.producer_name, self.version))


def name_of(tensor: Any) -> str:
    return str(tensor.values.name if hasattr(tensor, "values") else tensor.name)


def initializer_names(proto: onnx.ModelProto) -> set[str]:
    return {name_of(t) for t in (*proto.graph.initializer, *proto.graph.sparse_initializer)}


_TYPE_NAMES = {number: name.lower() for name, number in DTYPE_NAMES.items()}


def is_known(value: onnx.ValueInfoProto) -> bool:
    """Whether a file says an input's or output's type, and a tensor's shape."""
    kind = value.type.WhichOneof("value")
    return kind is not None and (
        kind != "tensor_type" or (value.type.tensor_type.elem_type != 0 and value.type.tensor_type.HasField("shape"))
    )


def complete_outputs(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph's outputs, their types and shapes inferred where the file leaves them out."""

    outputs = list(proto.graph.output)
    if all(is_known(v) for v in outputs):
        return outputs
    import onnx

    try:
        inferred = {v.name: v for v in onnx.shape_inference.infer_shapes(proto).graph.output}
    except Exception:
        # shape inference of files that run all the same: unknown domains, inconsistent declarations, more than 2 GB
        return outputs
    return [v if is_known(v) else inferred.get(v.name, v) for v in outputs]


def node_arg(value: onnx.ValueInfoProto) -> NodeArg:
    shape: list[int | str | None] = []
    if value.type.WhichOneof("value") == "tensor_type":
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and not dim.dim_param.startswith("unk__"):  # the name that shape inference makes up
                shape.append(dim.dim_param)
            else:
                shape.append(int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value >= 0 else None)
    return NodeArg(value.name, shape, _type_name(value.type))


def _type_name(kind: onnx.TypeProto) -> str:
    field_name = kind.WhichOneof("value")
    if field_name == "tensor_type" and kind.tensor_type.elem_type in _TYPE_NAMES:
        return f"tensor({_TYPE_NAMES[kind.tensor_type.elem_type]})"
    import onnx

    if field_name in ("tensor_type", "sparse_tensor_type"):
        number = getattr(kind, field_name).elem_type
        try:
            name = str(onnx.TensorProto.DataType.Name(number)).lower()
        except ValueError:
            name = "undefined"
        return f"{'sparse_' if field_name == 'sparse_tensor_type' else ''}tensor({ {'undefined': 'float'}.get(name, name) })"
    if field_name == "sequence_type":
        return f"seq({_type_name(kind.sequence_type.elem_type)})"
    if field_name == "optional_type":
        return f"optional({_type_name(kind.optional_type.elem_type)})"
    if field_name == "map_type":
        key = str(onnx.TensorProto.DataType.Name(kind.map_type.key_type)).lower()
        return f"map({key},{_type_name(kind.map_type.value_type)})"
    return "tensor(float)"
