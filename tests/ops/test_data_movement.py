"""Operators that move, pick or make elements: ONNX's node cases, and the forms of older versions that the suite lacks."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cnnengine.errors import CNNEngineError, InputError, ModelError, ShapeError, UnsupportedOperatorError
from cnnengine.importer.attributes import value_of
from cnnengine.operator import NodeRecord, Operator
from cnnengine.ops import INDEX, lookup
from cnnengine.spec import TensorSpec

MODULES = ("shape", "gather", "constant", "sequence", "arrange")
OPERATORS = sorted(op for op, module in INDEX.items() if module in MODULES)


def record(op_type: str, version: int, attributes: dict[str, Any], outputs: int = 1, inputs: int = 1) -> Operator:
    cls = lookup(op_type)
    assert cls is not None
    names = tuple(f"y{i}" for i in range(outputs))
    return cls.from_onnx(NodeRecord(op_type, "", version, attributes, tuple(f"x{i}" for i in range(inputs)), names, "n"))


def agree(op: Operator, inputs: list[Any], expected: list[Any]) -> None:
    """reference gives the expected outputs, and infer nothing else, with values known or not."""
    results = op.evaluate(*inputs)
    assert len(results) == len(expected)
    for known in (True, False):
        specs = op.specs([None if x is None else TensorSpec.of(x) if known else TensorSpec(x.dtype, x.shape) for x in inputs])
        for spec, want in zip(specs, expected, strict=True):
            assert spec.dtype == want.dtype
            assert spec.shape is None or len(spec.shape) == want.ndim
            assert spec.shape is None or all(a is None or a == b for a, b in zip(spec.shape, want.shape, strict=True))
            assert spec.value is None or np.array_equal(spec.value, want)
    for result, want in zip(results, expected, strict=True):
        assert result.dtype == want.dtype
        assert result.shape == want.shape
        if want.dtype.kind in "fc":
            np.testing.assert_allclose(result, want, rtol=1e-6)
        else:
            assert (result == want).all()


def array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


@cache
def suite() -> dict[str, list[Any]]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    found: dict[str, list[Any]] = {}
    for case in cases:
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in OPERATORS and not nodes[0].domain:
            found.setdefault(nodes[0].op_type, []).append(case)
    return found


def beyond_numpy(values: list[Any]) -> bool:
    """Dtypes that NumPy does not have, lists and optional values: not for these classes."""
    return any(not isinstance(v, np.ndarray) or v.dtype.isbuiltin != 1 for v in values)


@pytest.mark.parametrize("op_type", [op for op in OPERATORS if INDEX[op] != "sequence"])
def test_node_cases(op_type: str) -> None:
    count = 0
    for case in suite()[op_type]:
        node = case.model.graph.node[0]
        if case.name.startswith("test_training_dropout") and "zero_ratio" not in case.name:
            continue  # drops at random
        opset = {o.domain: o.version for o in case.model.opset_import}[""]
        version = onnx.defs.get_schema(op_type, opset, "").since_version
        for inputs, outputs in case.data_sets:
            given, expected = [array(v) for v in inputs], [array(v) for v in outputs]
            if beyond_numpy(given + expected):
                continue
            cls = lookup(op_type)
            assert cls is not None
            attributes = {a.name: value_of(a) for a in node.attribute}
            op = cls.from_onnx(NodeRecord(op_type, "", version, attributes, tuple(node.input), tuple(node.output), case.name))
            operands = iter(given)
            agree(op, [next(operands) if n else None for n in node.input], expected)
            count += 1
    assert count


X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
I = np.array  # noqa: E741

OLD_FORMS = [
    ("Reshape", 1, {"shape": [0, -1]}, [X], [X.reshape(2, 12)]),
    ("Squeeze", 1, {"axes": [0]}, [X[:1]], [X[0]]),
    ("Squeeze", 11, {"axes": [-3]}, [X[:1]], [X[0]]),
    ("Squeeze", 1, {}, [X[:1, :1]], [X[0, 0]]),
    ("Unsqueeze", 1, {"axes": [0, 2]}, [X], [X[None, :, None]]),
    ("Unsqueeze", 11, {"axes": [-1]}, [X], [X[..., None]]),
    ("Slice", 1, {"starts": [1, -3], "ends": [9, -1], "axes": [1, 2]}, [X], [X[:, 1:, 1:3]]),
    ("Slice", 1, {"starts": [1], "ends": [2]}, [X], [X[1:]]),
    ("Pad", 1, {"paddings": [0, 1, 0, 0, 0, 2]}, [X], [np.pad(X, [(0, 0), (1, 0), (0, 2)])]),
    ("Pad", 2, {"pads": [0, 1, 0, 0, 0, 2], "mode": "edge"}, [X], [np.pad(X, [(0, 0), (1, 0), (0, 2)], "edge")]),
    ("Pad", 2, {"pads": [0, -1, 0, 0, 0, 2], "value": 3.0}, [X], [np.pad(X[:, 1:], [(0, 0), (0, 0), (0, 2)], constant_values=3)]),
    ("Pad", 2, {"pads": [0, 0, -1, 0, 0, 2], "mode": "reflect"}, [X], [np.pad(X[..., 1:], [(0, 0), (0, 0), (0, 2)], "reflect")]),
    ("Concat", 1, {}, [X, X], [np.concatenate([X, X], 1)]),
    ("Tile", 1, {}, [X, I(2, np.int64), I(1, np.int64)], [np.tile(X, (1, 2, 1))]),
    ("Cast", 1, {"to": "INT64"}, [X], [X.astype(np.int64)]),
    ("Cast", 6, {"to": 11}, [X], [X.astype(np.float64)]),
    ("TopK", 1, {"k": 2, "axis": 1}, [X], [X[:, :0:-1], np.broadcast_to(I([[2], [1]]), (2, 2, 4))]),
    ("Shape", 1, {}, [X], [I([2, 3, 4])]),
    ("Flatten", 1, {"axis": 0}, [X], [X.reshape(1, 24)]),
    ("Gather", 1, {"axis": 2}, [X, I([[3, 0]])], [X[:, :, [[3, 0]]]]),
    (
        "DepthToSpace",
        1,
        {"blocksize": 2},
        [X.reshape(1, 4, 2, 3)],
        [X.reshape(1, 2, 2, 1, 2, 3).transpose(0, 3, 4, 1, 5, 2).reshape(1, 1, 4, 6)],
    ),
]


@pytest.mark.parametrize(("op_type", "version", "attributes", "inputs", "expected"), OLD_FORMS)
def test_older_forms(op_type: str, version: int, attributes: dict[str, Any], inputs: list[Any], expected: list[Any]) -> None:
    agree(record(op_type, version, attributes, len(expected), len(inputs)), inputs, expected)


@pytest.mark.parametrize(
    ("version", "form"), [(1, "attribute"), (1, "equal"), (2, "attribute"), (13, "input"), (13, "equal"), (18, "uneven")]
)
def test_split_forms(version: int, form: str) -> None:
    attributes: dict[str, Any] = {"axis": -1}
    inputs, sizes = [X], [1, 3]
    if form == "attribute":
        attributes["split"] = sizes
    elif form == "input":
        inputs.append(I(sizes))
    else:
        sizes = [2, 2] if form == "equal" else [2, 2, 0]
        if form == "uneven":
            attributes["num_outputs"] = 3
    parts = np.split(X, np.cumsum(sizes)[:-1], axis=-1)
    agree(record("Split", version, attributes, len(sizes), len(inputs)), inputs, parts)


@pytest.mark.parametrize(("version", "dtype"), [(1, np.float32), (7, np.float32), (10, np.bool_), (13, np.bool_)])
def test_dropout_masks(version: int, dtype: type) -> None:
    agree(record("Dropout", version, {"ratio": 0.5} if version < 12 else {}, 2), [X], [X, np.ones(X.shape, dtype)])
    agree(record("Dropout", version, {}, 1), [X], [X])


def test_dropout_refuses_to_train() -> None:
    with pytest.raises(UnsupportedOperatorError, match="training"):
        record("Dropout", 13, {}).evaluate(X, np.float32(0.5), I(True))


@pytest.mark.parametrize(
    ("start", "end", "step", "want"),
    [
        (0, 2**63 - 1, 1, slice(None)),
        (-(2**63), 2, 1, slice(0, 2)),
        (2**63 - 1, -(2**63), -1, slice(None, None, -1)),
        (3, 0, -2, slice(3, 0, -2)),
        (5, 9, 1, slice(0, 0)),
        (-2, -9, -1, slice(2, None, -1)),
        (0, 0, -1, slice(0, 0)),
        (1, 3, 5, slice(1, 3, 5)),
    ],
)
def test_slice_bounds(start: int, end: int, step: int, want: slice) -> None:
    agree(record("Slice", 13, {}), [X, I([start]), I([end]), I([2]), I([step])], [X[:, :, want]])


def test_values_known_from_shapes() -> None:
    x = TensorSpec(np.dtype(np.float32), ("N", 3, 4))
    assert record("Shape", 15, {"start": 1}).specs([x])[0].value.tolist() == [3, 4]
    assert record("Shape", 15, {}).specs([x])[0].value is None
    assert record("Size", 13, {}).specs([TensorSpec(x.dtype, (2, 3, 4))])[0].value == 24


WRONG = [
    ("Reshape", 14, {}, [X, I([5, -1])], ShapeError),
    ("Reshape", 14, {}, [X, I([-1, -1])], ShapeError),
    ("Reshape", 14, {"allowzero": 1}, [X, I([0, -1])], ShapeError),
    ("Reshape", 14, {}, [X, I([2, 3, 4, 0])], ShapeError),
    ("Transpose", 13, {"perm": [0, 1]}, [X], ShapeError),
    ("Transpose", 13, {"perm": [0, 1, 1]}, [X], ShapeError),
    ("Squeeze", 13, {}, [X, I([0])], ShapeError),
    ("Squeeze", 13, {}, [X, I([3])], ShapeError),
    ("Unsqueeze", 13, {}, [X, I([0, 0])], ShapeError),
    ("Unsqueeze", 13, {}, [X, I([0.5])], InputError),
    ("Concat", 13, {"axis": 0}, [X, X[:, :2]], ShapeError),
    ("Concat", 13, {"axis": 3}, [X, X], ShapeError),
    ("Concat", 13, {"axis": 0}, [X, X.astype(np.float64)], InputError),
    ("Slice", 13, {}, [X, I([0]), I([1]), I([0]), I([0])], ShapeError),
    ("Slice", 13, {}, [X, I([0]), I([1]), I([7])], ShapeError),
    ("Pad", 18, {}, [X, I([0, 0, -3, 0, 0, -3])], ShapeError),
    ("Pad", 18, {}, [X, I([0, 0])], ShapeError),
    ("Pad", 18, {"mode": "reflect"}, [X[:0], I([1, 0, 0, 0, 0, 0])], ShapeError),
    ("Expand", 13, {}, [X, I([3, 5])], ShapeError),
    ("Tile", 13, {}, [X, I([1, 2])], ShapeError),
    ("Gather", 13, {}, [X, I([2])], InputError),
    ("Gather", 13, {}, [X, I([-3])], InputError),
    ("GatherElements", 13, {}, [X, np.full((1, 1, 5), 0)], ShapeError),
    ("GatherND", 13, {}, [X, I([[9]])], InputError),
    ("ScatterND", 18, {}, [X, I([[0]]), X], ShapeError),
    ("ScatterElements", 18, {}, [X, I([[[0]]]), X], ShapeError),
    ("TopK", 11, {}, [X, I([5])], ShapeError),
    ("DepthToSpace", 13, {"blocksize": 2}, [X[None]], ShapeError),
    ("SpaceToDepth", 13, {"blocksize": 2}, [X[None]], ShapeError),
    ("ConstantOfShape", 9, {}, [I([-1])], ShapeError),
    ("Range", 11, {}, [I(0), I(3), I(0)], InputError),
]


@pytest.mark.parametrize("case", range(len(WRONG)), ids=lambda i: WRONG[i][0])
def test_wrong_operands(case: int) -> None:
    op_type, version, attributes, inputs, error = WRONG[case]
    op = record(op_type, version, attributes, 2 if op_type == "TopK" else 1, len(inputs))
    with pytest.raises(error) as caught:
        op.evaluate(*inputs)
    assert isinstance(caught.value, CNNEngineError)
    assert caught.value.operator == op_type


@pytest.mark.parametrize("version", [2, 11, 13, 18, 19, 21])
def test_the_modes_of_pad_by_version(version: int) -> None:
    given: dict[str, Any] = {"pads": [0, 0, 1, 0, 0, 2]} if version < 11 else {}
    operands = [X] if version < 11 else [X, I(given.get("pads", [0, 0, 1, 0, 0, 2]))]
    if version < 19:  # which brought it
        with pytest.raises(ModelError, match="unknown mode"):
            record("Pad", version, {"mode": "wrap", **given}, 1, len(operands))
    else:
        (y,) = record("Pad", version, {"mode": "wrap", **given}, 1, len(operands)).evaluate(*operands)
        np.testing.assert_array_equal(y, np.pad(X, [(0, 0), (0, 0), (1, 2)], "wrap"))
    with pytest.raises(ModelError, match="unknown mode"):
        record("Pad", version, {"mode": "circular", **given}, 1, len(operands))


@pytest.mark.parametrize(
    ("op_type", "version"), [("Reshape", 1), ("Slice", 1), ("Pad", 2), ("Unsqueeze", 1), ("Concat", 4), ("TopK", 1), ("Cast", 13)]
)
def test_missing_attributes(op_type: str, version: int) -> None:
    with pytest.raises(ModelError, match="missing"):
        record(op_type, version, {})


SQUARE = np.array([[[[1, 2], [3, 4]]]], np.float32)
OBLONG = np.arange(1, 9, dtype=np.float32).reshape(1, 1, 2, 4)
DOUBLED = [[1, 1.5, 2, 2], [2, 2.5, 3, 3], [3, 3.5, 4, 4], [3, 3.5, 4, 4]]
RESIZES = [
    ("Resize", 10, "nearest", SQUARE, (2, 3), np.repeat(np.repeat(SQUARE[0, 0], 2, 0), 3, 1)),
    ("Resize", 10, "linear", SQUARE, (2, 2), DOUBLED),
    ("Resize", 10, "nearest", OBLONG, (0.6, 0.6), [[1, 3]]),
    ("Resize", 10, "linear", OBLONG, (0.6, 0.6), [[1, 8 / 3]]),
    ("Upsample", 9, "linear", SQUARE, (2, 2), DOUBLED),
    ("Upsample", 9, "nearest", SQUARE, (2, 3), np.repeat(np.repeat(SQUARE[0, 0], 2, 0), 3, 1)),
]


@pytest.mark.parametrize(("op_type", "version", "mode", "x", "scales", "want"), RESIZES)
def test_resizes_without_coordinate_modes(op_type: str, version: int, mode: str, x: np.ndarray, scales: Any, want: Any) -> None:
    """Before version 11, output pixel i lies at input position i / scale; nearest rounds down, up where the axis shrinks."""
    op = record(op_type, version, {"mode": mode}, inputs=2)
    want = np.array(want, np.float32)[None, None]
    operands = [x, np.array([1, 1, *scales], np.float32)]
    agree(op, operands, [want])
    if version == 9:
        agree(record(op_type, 7, {"mode": mode, "scales": [1.0, 1.0, *scales]}), [x], [want])


def test_sequences() -> None:
    split = record("SplitToSequence", 11, {"axis": 1})
    pieces = split.evaluate(X, I(2))[0]
    assert [p.shape for p in pieces] == [(2, 2, 4), (2, 1, 4)]
    assert [p.shape for p in split.evaluate(X, I([1, 2]))[0]] == [(2, 1, 4), (2, 2, 4)]
    assert [p.shape for p in record("SplitToSequence", 11, {"axis": 1, "keepdims": 0}).evaluate(X, None)[0]] == [(2, 4)] * 3
    assert record("SequenceAt", 11, {}).evaluate(pieces, I(-1))[0].shape == (2, 1, 4)
    with pytest.raises(InputError, match="element"):
        record("SequenceAt", 11, {}).evaluate(pieces, I(2))
    with pytest.raises(ShapeError):
        split.evaluate(X, I([1, 1]))
    np.testing.assert_array_equal(record("ConcatFromSequence", 11, {"axis": 1}).evaluate(pieces)[0], X)
    assert record("ConcatFromSequence", 11, {"axis": 0, "new_axis": 1}).evaluate([X, X])[0].shape == (2, 2, 3, 4)
    assert record("SequenceLength", 11, {}).evaluate(record("SequenceConstruct", 11, {}).evaluate(X, X)[0])[0] == 2
