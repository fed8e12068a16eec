"""`wire` beside protobuf on damaged messages (wire_fuzz.py runs for longer), and tensors in all fields beside onnx's reading."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from importer import wire_fuzz
from onnx import TensorProto, helper, numpy_helper

from cnnengine.errors import ModelError
from cnnengine.importer import wire
from cnnengine.importer.attributes import array_of, tensor_of
from cnnengine.importer.fields import DEPTH


@pytest.mark.parametrize("seed", range(8))
def test_damaged_messages_are_read_as_by_protobuf(seed: int) -> None:
    found: Counter[str] = Counter()
    wire_fuzz.rounds(500, seed, found)
    assert found["same"] > 100 and found["both refuse"] > 100


@pytest.mark.parametrize(("kind", "data"), wire_fuzz.seeds(), ids=lambda v: v.__name__ if isinstance(v, type) else "")
def test_whole_and_cut_messages_are_read_as_by_protobuf(kind: Any, data: bytes) -> None:
    assert wire_fuzz.compare(kind, data) == "same"
    for end in range(0, len(data), max(1, len(data) // 400)):
        wire_fuzz.compare(kind, data[:end])


@pytest.mark.parametrize("within", [DEPTH - 1, DEPTH, DEPTH + 1, DEPTH + 2])
def test_messages_lie_as_deep_as_in_protobuf(within: int) -> None:
    data = b""
    for level in range(within):  # TypeProto.sequence_type, Sequence.elem_type in turn, the outermost a TypeProto's
        key = 0x22 if (within - level) % 2 else 0x0A
        data = wire_fuzz.varint(key) + wire_fuzz.varint(len(data)) + data
    assert wire_fuzz.compare(wire.Type, data) == ("same" if within <= DEPTH else "both refuse")


@pytest.mark.parametrize("within", [1, DEPTH - 2, DEPTH + 2, 10 * DEPTH])
def test_groups_lie_as_deep_as_in_protobuf(within: int) -> None:
    """But for one level, which protobuf counts differently from message to message; no ONNX file has a group."""
    groups = b"\xa3\x06" * within + b"\xa4\x06" * within
    assert wire_fuzz.compare(wire.Type, groups) == ("same" if within < DEPTH else "both refuse")


CODES = [code for code in TensorProto.DataType.values() if code]


def outcome(read: Any) -> Any:
    try:
        values = read()
    except (ModelError, ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
        return type(error)
    return values.dtype, values.shape, values.tolist() if values.dtype == object else values.tobytes()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_tensors_in_any_field_are_read_as_by_onnx(data: st.DataObject) -> None:
    """Where onnx reads them; bytes beyond those that 4 and 2 bits need are refused here, as those of other types are by both."""
    code = data.draw(st.sampled_from(CODES))
    dims = data.draw(st.lists(st.integers(0, 4), max_size=3))
    count = math.prod(dims) + data.draw(st.sampled_from([0, 0, 0, 1, -1]))
    tensor = TensorProto(name="w", data_type=code, dims=dims)
    field = data.draw(
        st.sampled_from(["raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"])
    )
    if data.draw(st.booleans()):  # the field that the type has
        field = helper.tensor_dtype_to_field(code)
    pairs = 2 if code in (TensorProto.COMPLEX64, TensorProto.COMPLEX128) else 1
    bits = {**dict.fromkeys((21, 22, 23), 4), **dict.fromkeys((25, 26), 2)}.get(code, 8)
    count = max(0, -(-count * bits // 8) * pairs)
    if field == "raw_data":
        size = 1 if code == TensorProto.STRING else helper.tensor_dtype_to_np_dtype(code).itemsize
        size = count * (size // pairs if bits == 8 else 1)
        if code in (27, 28):
            size = -(-count * 6 // 8)
        values = data.draw(st.binary(min_size=size, max_size=size))
        tensor.raw_data = bytes(b & 1 for b in values) if code == TensorProto.BOOL else values
    elif field == "string_data":
        tensor.string_data.extend(data.draw(st.lists(st.text().map(str.encode), min_size=count, max_size=count)))
    elif field in ("float_data", "double_data"):
        getattr(tensor, field).extend(data.draw(st.lists(st.floats(width=32), min_size=count, max_size=count)))
    else:
        low, high = {"int32_data": (-(2**31), 2**31 - 1), "int64_data": (-(2**63), 2**63 - 1), "uint64_data": (0, 2**64 - 1)}[
            field
        ]
        numbers = st.integers(0, 1) if code == TensorProto.BOOL else st.integers(low, high)
        getattr(tensor, field).extend(data.draw(st.lists(numbers, min_size=count, max_size=count)))
    encoded = tensor.SerializeToString()
    ours = outcome(lambda: array_of(wire.parse_as(wire.Tensor, encoded)))
    assert ours == outcome(lambda: array_of(tensor))  # a ModelProto's tensors, by the same rules
    theirs = outcome(lambda: numpy_helper.to_array(tensor))
    if isinstance(ours, type):
        short = bits < 8 or code in (27, 28)
        assert ours is ModelError and (isinstance(theirs, type) or short)
    else:
        assert ours == theirs


@pytest.mark.parametrize("code", CODES)
def test_arrays_become_tensors_and_come_back(code: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(code)
    if code == TensorProto.STRING:
        values = np.array([["a", "ü"], ["", "b"]], object)
    else:
        values = np.arange(21).reshape(3, 7).astype(np.uint8).view(np.uint8)
        values = (values % 2).astype(dtype) if dtype.itemsize == 1 else values.astype(dtype)
        if code == TensorProto.FLOAT8E8M0:  # which has no 0
            values = np.ones((3, 7), dtype)
    tensor = tensor_of("w", values, code)
    proto = TensorProto.FromString(tensor.SerializeToString())
    for found in (array_of(tensor), array_of(proto), numpy_helper.to_array(proto)):
        assert found.shape == values.shape
        assert found.tolist() == values.tolist()


def test_small_integers_come_back_with_their_signs() -> None:
    for dtype, code in (
        (ml_dtypes.int4, TensorProto.INT4),
        (ml_dtypes.int2, TensorProto.INT2),
        (ml_dtypes.uint4, TensorProto.UINT4),
    ):
        low, high = int(ml_dtypes.iinfo(dtype).min), int(ml_dtypes.iinfo(dtype).max)
        values = np.arange(low, high + 1)[: high - low].astype(dtype)  # an odd number of them
        proto = TensorProto.FromString(tensor_of("w", values, code).SerializeToString())
        assert array_of(proto).tolist() == numpy_helper.to_array(proto).tolist() == values.tolist()
