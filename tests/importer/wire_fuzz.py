"""Damaged and unusual messages read by `wire` and by protobuf, which must say the same.

    python tests/importer/wire_fuzz.py SECONDS

Where the two may differ, and why that does not matter, is said in `compare`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from cnnengine.importer import wire
from cnnengine.importer.wire import Malformed, Message, Tensor, encode, parse_as

NUMBERS = {"float_data": "<f4", "double_data": "<f8", "int32_data": "<i8", "int64_data": "<i8", "uint64_data": "<u8"}
KINDS = {
    wire.ModelMessage: onnx.ModelProto, wire.GraphMessage: onnx.GraphProto, wire.NodeMessage: onnx.NodeProto,
    wire.Attribute: onnx.AttributeProto, wire.Tensor: onnx.TensorProto, wire.SparseTensor: onnx.SparseTensorProto,
    wire.ValueInfo: onnx.ValueInfoProto, wire.Type: onnx.TypeProto, wire.FunctionMessage: onnx.FunctionProto,
}  # fmt: skip


def seeds() -> list[tuple[type[Message], bytes]]:
    """Whole messages of every kind, with all fields that ONNX has."""
    node = helper.make_node("Conv", ["x", "w", ""], ["y"], name="n", kernel_shape=[3, -1], auto_pad="VALID", alpha=0.5)
    node.attribute.append(onnx.AttributeProto(name="r", ref_attr_name="outer", type=onnx.AttributeProto.INTS))
    node.attribute.append(helper.make_attribute("f", [1.5, -2.5, 3.0]))
    node.attribute.append(helper.make_attribute("s", ["a", "ü", ""]))
    node.attribute.append(helper.make_attribute("t", numpy_helper.from_array(np.arange(4.0))))
    tensors = [
        helper.make_tensor("float", TensorProto.FLOAT, [2], [1.0, -2.0]),
        helper.make_tensor("int32", TensorProto.INT32, [3], [1, -1, 2**31 - 1]),
        helper.make_tensor("int64", TensorProto.INT64, [2], [-(2**63), 2**63 - 1]),
        helper.make_tensor("uint64", TensorProto.UINT64, [1], [2**64 - 1]),
        helper.make_tensor("double", TensorProto.DOUBLE, [1], [0.1]),
        helper.make_tensor("half", TensorProto.FLOAT16, [2], [1.5, 2.5]),
        helper.make_tensor("texts", TensorProto.STRING, [2], [b"one", b"\xff"]),
        numpy_helper.from_array(np.array([True, False]), "raw"),
    ]
    outside = TensorProto(name="far", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL, doc_string="text")
    outside.external_data.add(key="location", value="w.bin")
    outside.segment.begin, outside.segment.end = 1, 2
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", TensorProto.FLOAT, [1], [7.0]), helper.make_tensor("i", TensorProto.INT64, [1], [2]), [4]
    )
    inner = helper.make_graph([helper.make_node("Neg", ["x"], ["t"])], "inner", [], [onnx.ValueInfoProto(name="t")], tensors[:1])
    node.attribute.append(helper.make_attribute("g", inner))
    node.attribute.append(helper.make_attribute("gs", [inner, inner]))
    types = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, None]),
        helper.make_tensor_sequence_value_info("s", TensorProto.INT64, ["N"]),
        helper.make_value_info("o", helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.BOOL, []))),
        helper.make_value_info("m", helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, [2]))),
        helper.make_value_info("p", helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [5])),
        helper.make_value_info("q", onnx.TypeProto(opaque_type=onnx.TypeProto.Opaque(domain="d", name="n"))),
    ]
    node.attribute.append(helper.make_attribute("tp", types[2].type))
    node.attribute.append(helper.make_attribute("sp", sparse))
    graph = helper.make_graph([node, node], "graph", types, types[:1], [*tensors, outside], value_info=types, doc_string="what")
    graph.sparse_initializer.append(sparse)
    function = helper.make_function(
        "d", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 17)], ["outer"], [helper.make_attribute("k", 3)]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("d", 1)], functions=[function]
    )
    helper.set_model_props(model, {"labels": "a,b", "empty": ""})
    model.model_version = -3
    return [
        (wire.ModelMessage, model.SerializeToString()), (wire.GraphMessage, graph.SerializeToString()),
        (wire.NodeMessage, node.SerializeToString()), (wire.FunctionMessage, function.SerializeToString()),
        (wire.SparseTensor, sparse.SerializeToString()), (wire.Tensor, outside.SerializeToString()),
        *[(wire.Attribute, a.SerializeToString()) for a in node.attribute],
        *[(wire.Tensor, t.SerializeToString()) for t in tensors],
        *[(wire.Type, v.type.SerializeToString()) for v in types],
    ]  # fmt: skip


def varint(number: int, more: int = 0) -> bytes:
    """A varint, with so many bytes more than it needs."""
    out = []
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    for _ in range(more):
        out[-1] |= 128
        out.append(0)
    return bytes(out)


def fields_of(data: bytes) -> list[tuple[int, int, int, int]]:
    """(key, begin, value, end) of the fields of a whole message."""
    found, at = [], 0
    while at < len(data):
        begin = at
        key, at = number_at(data, at)
        value = at
        if key & 7 == 2:
            length, at = number_at(data, at)
            value = at
            at += length
        elif key & 7 == 0:
            _, at = number_at(data, at)
        else:
            at += 4 if key & 7 == 5 else 8
        found.append((key, begin, value, at))
    return found


def number_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
        shift += 7


def changed(kind: type[Message], data: bytes, rng: np.random.Generator) -> bytes:
    """One field of the message, or of one inside of it, given otherwise; the lengths around it stay right."""
    fields = fields_of(data)
    if not fields:
        return bytes(rng.integers(0, 256, int(rng.integers(4)), np.uint8))
    key, begin, value, end = fields[int(rng.integers(len(fields)))]
    inner = kind.FIELDS.get(key, ("", "", None))[2]
    if inner is not None and rng.random() < 0.7:
        body = changed(inner, data[value:end], rng)
        return data[:begin] + varint(key) + varint(len(body)) + body + data[end:]
    field = data[begin:end]
    keys = list(kind.FIELDS) or [10]
    other = int(keys[int(rng.integers(len(keys)))])
    how = int(rng.integers(12))
    if how == 0:
        return data[:begin] + data[end:]
    if how == 1:  # twice
        return data[:end] + field + data[end:]
    if how == 2:  # at the end once more: messages go on
        return data + field
    if how == 3:  # longer numbers for the same
        more = int(rng.integers(1, 10))
        body = data[value:end]
        if key & 7 == 2:
            body = varint(len(body), int(rng.integers(0, 6))) + body
        elif key & 7 == 0:
            body = varint(number_at(data, value)[0], more)
        return data[:begin] + varint(key, int(rng.integers(0, 6))) + body + data[end:]
    if how == 4:  # another form of the same field
        form = int(rng.integers(8))
        return data[:begin] + varint(key & ~7 | form) + data[value:end] + data[end:]
    if how == 5:  # another field
        return data[:begin] + varint(other) + (varint(end - value) if other & 7 == 2 else b"") + data[value:end] + data[end:]
    if how == 6:  # a group, perhaps without an end, perhaps within another
        group = int(rng.integers(0, 40))
        ends = [varint(group << 3 | 4), b"", varint((group + 1) << 3 | 4)][int(rng.integers(3))]
        return data[:begin] + varint(group << 3 | 3) + field * int(rng.integers(0, 2)) + ends + data[begin:]
    if how == 7:  # any number
        number = [0, 1, 2**31, 2**32 + 1, 2**63, 2**64 - 1, 2**64 + 7, int(rng.integers(0, 40))][int(rng.integers(8))]
        if key & 7 == 0:
            return data[:begin] + varint(key) + varint(number, int(rng.integers(0, 2))) + data[end:]
        return data[:begin] + varint(number & 2**32 - 1) + data[value:end] + data[end:]
    if how == 8:  # numbers one by one, or together
        if key & 7 == 2:
            return data[:begin] + b"".join(varint(key & ~7) + varint(b) for b in data[value:end][:9]) + data[end:]
        return data[:begin] + varint(key & ~7 | 2) + varint(end - value) + data[value:end] + data[end:]
    if how == 9:  # in pieces
        half = (end - value) // 2
        if key & 7 == 2:
            first, second = data[value : value + half], data[value + half : end]
            head = varint(key)
            return data[:begin] + head + varint(len(first)) + first + head + varint(len(second)) + second + data[end:]
    if how == 10:  # a length that is not right
        if key & 7 == 2:
            return data[:begin] + varint(key) + varint(max(0, end - value + int(rng.integers(-3, 4)))) + data[value:]
        return data[: end - 1]
    at = int(rng.integers(begin, end))  # any byte
    return data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]


def damaged(kind: type[Message], data: bytes, rng: np.random.Generator) -> bytes:
    """Some changes one upon another, while the message is whole, and some of its bytes turned, cut off or put in."""
    for _ in range(int(rng.integers(1, 4))):
        try:
            data = changed(kind, data, rng)
            fields_of(data)
        except IndexError:
            break
    for _ in range(int(rng.integers(0, 3)) if rng.random() < 0.4 else 0):
        at = int(rng.integers(0, len(data) + 1))
        how = int(rng.integers(3))
        if how == 0:
            data = data[:at]
        elif how == 1:
            data = data[:at] + bytes(rng.integers(0, 256, int(rng.integers(1, 5)), np.uint8)) + data[at:]
        elif data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]
    return data


def compare(kind: type[Message], data: bytes) -> str:
    """ "same", "both refuse" or "unread"; raises AssertionError where the two readers differ.

    `wire` passes over fields that inference does not need, unread: where protobuf refuses what lies in one of them alone, it must
    take the message without them. Text that is not UTF-8 is bytes in protobuf and has escapes here.
    """
    theirs = KINDS[kind]()
    try:
        theirs.ParseFromString(data)
        taken = True
    except (DecodeError, RuntimeError):
        taken = False
    try:
        ours = parse_as(kind, data)
    except Malformed as error:
        assert not taken, f"refused ({error}), and protobuf takes it: {data!r}"
        return "both refuse"
    if not taken:
        again = KINDS[kind]()
        again.ParseFromString(encode(ours))  # raises where what was read is not right by itself
        assert_same(parse_as(kind, encode(ours)), again, data)
        return "unread"
    assert_same(ours, theirs, data)
    whole = KINDS[kind]()
    whole.ParseFromString(encode(ours))
    assert_same(ours, whole, data)
    pieces = KINDS[kind]()
    pieces.ParseFromString(ours.SerializeToString())
    assert pieces == theirs, data
    return "same"


def assert_same(ours: Message, theirs: Any, data: bytes) -> None:
    for name in dict.fromkeys(name for name, _, _ in ours.FIELDS.values()):
        field = theirs.DESCRIPTOR.fields_by_name[name]
        value, wanted = getattr(ours, name), getattr(theirs, name)
        if field.is_repeated:
            assert ours.HasField(name) == (len(wanted) > 0) or not len(value), (name, data)
        else:
            assert ours.HasField(name) == theirs.HasField(name), (name, data)
            if not ours.HasField(name):
                continue
        if isinstance(ours, Tensor) and name in NUMBERS:
            numbers = np.frombuffer(value, NUMBERS[name])
            if name == "int32_data":
                numbers = numbers.astype(np.int32)
            np.testing.assert_array_equal(numbers, np.array(wanted, numbers.dtype), err_msg=repr((name, data)))
        elif field.is_repeated:
            assert len(value) == len(wanted), (name, data)
            for one, other in zip(value, wanted, strict=True):
                same_value(one, other, name, data)
        else:
            same_value(value, wanted, name, data)


def same_value(value: Any, wanted: Any, name: str, data: bytes) -> None:
    if isinstance(value, Message):
        assert_same(value, wanted, data)
    elif isinstance(value, str):
        text = wanted.decode("utf-8", "backslashreplace") if isinstance(wanted, bytes) else wanted
        # text that is itself written again has its escapes as text
        assert value == text, (name, data)
    elif isinstance(value, float):
        assert value == wanted or (value != value and wanted != wanted), (name, data)
    elif isinstance(value, memoryview):
        assert bytes(value) == wanted, (name, data)
    else:
        assert value == wanted, (name, value, wanted, data)


def rounds(count: int, seed: int, found: Counter[str]) -> None:
    """So many messages, the same for the same seed."""
    rng = np.random.default_rng(seed)
    whole = seeds()
    for _ in range(count):
        kind, data = whole[int(rng.integers(len(whole)))]
        found[compare(kind, damaged(kind, data, rng))] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="of the first round (default: the time)")
    options = parser.parse_args()
    found: Counter[str] = Counter()
    end, seed = time.monotonic() + options.seconds, options.seed
    while time.monotonic() < end:
        try:
            rounds(500, seed, found)
        except AssertionError:
            print(f"--seed {seed}")
            raise
        seed += 1
    print(dict(found))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
