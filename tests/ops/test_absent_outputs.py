"""Outputs that a node leaves out, by an empty name or at the end: the others are what they are beside them.

Each operator with several outputs, each subset of them: in a plan, in a branch of an If, behind an extent that depends on
data, by the node's references, and as a function. The expected values are those of the node with all of its outputs.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine._kernels import dispatch
from cnnengine.errors import InputError
from cnnengine.importer.graphs import import_model
from cnnengine.importer.reader import open_model
from cnnengine.plan.eager import by_kernels
from cnnengine.plan.host import run_host
from cnnengine.rewrites import simplify
from cnnengine.runtime.runner import fill_arenas

RNG = np.random.default_rng(15)
X = RNG.standard_normal((2, 12, 6, 7)).astype(np.float32)
PARTS = np.array([3, 4, 5])
HALVES = np.array([8, 4])  # of which each starts at a block of channels of 4 lanes or of 8
VECTOR = RNG.standard_normal(12).astype(np.float32)
LAST = RNG.standard_normal(7).astype(np.float32)
TRUE = np.array(True)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def value(name: str) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=name)


def tensor(name: str, code: int, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, code, shape)


def graph(nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[str]) -> onnx.GraphProto:
    return helper.make_graph(nodes, "body", inputs, [value(n) for n in outputs])


BRANCHES = {
    "then_branch": graph([helper.make_node(op, ["x0"], [o]) for op, o in (("Relu", "a"), ("Neg", "b"))], [], ["a", "b"]),
    "else_branch": graph([helper.make_node(op, ["x0"], [o]) for op, o in (("Neg", "c"), ("Abs", "d"))], [], ["c", "d"]),
}
LOOP = graph(
    [
        helper.make_node("Identity", ["going"], ["on"]),
        helper.make_node("Add", ["state", "x2"], ["next"]),
        helper.make_node("Split", ["next"], ["", "half"], axis=1, num_outputs=2),
        helper.make_node("ReduceMax", ["half"], ["most"], keepdims=0),
    ],
    [tensor("round", TensorProto.INT64), tensor("going", TensorProto.BOOL), value("state")],
    ["on", "next", "most"],
)
SCAN = graph(
    [helper.make_node("Add", ["state", "slice"], ["next"]), helper.make_node("Neg", ["next"], ["out"])],
    [value("state"), value("slice")],
    ["next", "out"],
)

CASES: dict[str, tuple[str, int, dict[str, Any], list[np.ndarray | None], int]] = {
    # name: operator, opset, attributes, inputs (the first is fed, the others are constants), outputs
    "Split by sizes": ("Split", 13, {"axis": 1}, [X, PARTS], 3),
    "Split by an attribute": ("Split", 11, {"axis": -3, "split": [3, 4, 5]}, [X], 3),
    "Split of blocks": ("Split", 13, {"axis": 1}, [X, HALVES], 2),
    "Split in equal parts": ("Split", 18, {"axis": 3, "num_outputs": 3}, [X], 3),
    "Split of doubles": ("Split", 13, {"axis": 2}, [X.astype(np.float64)], 2),
    "Split of texts": ("Split", 13, {"axis": 0}, [np.array(["a", "b", "c"], object), np.array([1, 2])], 2),
    "MaxPool": ("MaxPool", 12, {"kernel_shape": [2, 2], "strides": [2, 1], "pads": [1, 0, 0, 0]}, [X], 2),
    "MaxPool of rows": ("MaxPool", 12, {"kernel_shape": [3], "storage_order": 1}, [X[0]], 2),
    "MaxPool of doubles": ("MaxPool", 12, {"kernel_shape": [2, 2]}, [X.astype(np.float64)], 2),
    "TopK": ("TopK", 11, {"axis": 1}, [X, np.array([3])], 2),
    "TopK of before": ("TopK", 1, {"axis": 3, "k": 2}, [X], 2),
    "TopK of halves": ("TopK", 11, {"axis": 1}, [X.astype(np.float16), np.array([3])], 2),
    "Dropout": ("Dropout", 13, {}, [X], 2),
    "Dropout of before": ("Dropout", 7, {}, [X], 2),
    "Dropout in training": ("Dropout", 13, {"seed": 3}, [X, np.float32(0.5), TRUE], 2),
    "BatchNormalization": ("BatchNormalization", 15, {"training_mode": 1}, [X, VECTOR, VECTOR, VECTOR, VECTOR**2], 3),
    "LayerNormalization": ("LayerNormalization", 17, {"axis": -1}, [X, LAST, LAST], 3),
    "DynamicQuantizeLinear": ("DynamicQuantizeLinear", 11, {}, [X], 3),
    "Unique": ("Unique", 11, {"sorted": 1}, [np.array([3, 1, 3, 2, 1], np.float32)], 4),
    "LSTM": ("LSTM", 14, {"hidden_size": 4}, [floats(5, 2, 3), floats(1, 16, 3), floats(1, 16, 4)], 3),
    "GRU": ("GRU", 14, {"hidden_size": 4}, [floats(5, 2, 3), floats(1, 12, 3), floats(1, 12, 4)], 2),
    "RNN": ("RNN", 14, {"hidden_size": 4}, [floats(5, 2, 3), floats(1, 4, 3), floats(1, 4, 4)], 2),
    "SoftmaxCrossEntropyLoss": ("SoftmaxCrossEntropyLoss", 13, {}, [floats(4, 5), np.array([0, 4, 2, 2])], 2),
    "If": ("If", 18, BRANCHES, [X, TRUE], 2),
    "Loop": ("Loop", 18, {"body": LOOP}, [X, np.array(3), X], 2),
    "Scan": ("Scan", 18, {"body": SCAN, "num_scan_inputs": 1}, [floats(4), floats(5, 4)], 2),
}
WIRING = {"If": ["x1"], "Loop": ["x1", "", "x2"], "Dropout in training": ["x0", "x1", "x2"]}
"""What the node reads, where that is not all in order."""


def names_of(case: str, mask: tuple[bool, ...], trimmed: bool) -> list[str]:
    """Names of the outputs; those left out at the end have none or, where the operator says how many it has, are not there."""
    names = [f"y{i}" if wanted else "" for i, wanted in enumerate(mask)]
    while trimmed and CASES[case][0] not in ("Split", "TopK", "If", "Loop", "Scan") and not names[-1]:
        names.pop()
    return names


def model_of(case: str, outputs: list[str], form: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The node in a model, what it is fed, and the names of what it gives."""
    op, opset, attributes, inputs, _ = CASES[case]
    read = WIRING.get(case, [f"x{i}" if v is not None else "" for i, v in enumerate(inputs)])
    node = helper.make_node(op, read, outputs, name="node", **attributes)
    nodes, fed = [node], {"x0": inputs[0]}
    constants = {f"x{i}": v for i, v in enumerate(inputs) if i and v is not None}
    if form == "branch":
        fed["choose"] = np.array(True)
        branches = {}
        for branch in ("then", "else"):
            own = [onnx.NodeProto() for _ in nodes]
            for copy, one in zip(own, nodes, strict=True):
                copy.CopyFrom(one)
                copy.output[:] = [f"{branch} {n}" if n else "" for n in one.output]
            branches[f"{branch}_branch"] = graph(own, [], [f"{branch} {n}" for n in outputs if n])
        nodes = [helper.make_node("If", ["choose"], [n for n in outputs if n], name="chosen", **branches)]
    elif form == "behind":  # only running tells that nothing is cut
        nodes = [
            helper.make_node("NonZero", ["all"], ["places"]),
            helper.make_node("Reshape", ["places", "flat"], ["rows"]),
            helper.make_node("Gather", ["given", "rows"], ["x0"], axis=0),
            node,
        ]
        constants["flat"] = np.array([-1])
        fed = {"given": inputs[0], "all": np.ones(len(inputs[0]), np.float32)}
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in fed.items()]
    made = helper.make_graph(
        nodes,
        "g",
        infos,
        [value(n) for n in outputs if n],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), fed


def whole(case: str) -> list[Any]:
    """All outputs, by the operator's reference."""
    model, fed = model_of(case, names_of(case, (True,) * CASES[case][4], False), "plan")
    results = import_model(open_model(model, None).message).evaluate(fed)
    return [np.asarray(r) for r in results]


def masks(case: str) -> list[tuple[bool, ...]]:
    return [m for m in itertools.product((True, False), repeat=CASES[case][4]) if any(m)]


def agree(case: str, mask: tuple[bool, ...], given: list[Any], who: str) -> None:
    expected = [y for y, wanted in zip(whole(case), mask, strict=True) if wanted]
    assert len(given) == len(expected), who
    for a, e in zip(given, expected, strict=True):
        assert (np.shape(a), np.asarray(a).dtype) == (e.shape, e.dtype), who
        if e.dtype.kind == "f":
            scale = max(float(np.abs(e.astype(np.float64)).max(initial=0)), 1.0)
            np.testing.assert_allclose(a.astype(np.float64) / scale, e.astype(np.float64) / scale, atol=1e-6, err_msg=who)
        else:
            np.testing.assert_array_equal(a, e, who)


@pytest.fixture(autouse=True)
def rubbish():
    fill_arenas(255)
    yield
    fill_arenas(None)


@pytest.mark.parametrize("case", CASES)
def test_each_subset(case: str) -> None:
    forms = ["plan", "branch"]
    if CASES[case][1] > 9 and case not in ("If", "Scan", "Loop"):  # which do not read x0 as it is
        forms.append("behind")
    for mask in masks(case):
        names = names_of(case, mask, True)
        for form in forms:
            model, fed = model_of(case, names, form)
            for isa in dispatch.available_isas() if form == "plan" else dispatch.available_isas()[:1]:
                with dispatch.use_isa(isa):
                    for threads in (1, 2):
                        with cnnengine.load(model, threads=threads) as loaded:
                            agree(case, mask, loaded.run(None, fed), f"{form}, {isa}, {mask}")
        model, fed = model_of(case, names_of(case, mask, False), "plan")
        imported = import_model(open_model(model, None).message)
        for plain in (imported, simplify(imported)):
            agree(case, mask, plain.evaluate(fed), f"references, {mask}")
        with cnnengine.load(model) as loaded:
            agree(case, mask, loaded.run(None, fed), f"all names there, {mask}")


@pytest.mark.parametrize("case", CASES)
def test_on_the_host_and_as_functions(case: str) -> None:
    for mask in masks(case):
        model, fed = model_of(case, names_of(case, mask, True), "plan")
        imported = import_model(open_model(model, None).message)
        if len(imported.nodes) > 1:
            continue  # a function of several nodes
        (node,) = imported.nodes
        values = {**imported.constants, **fed}
        arrays = [np.asarray(values[n]) if n else None for n in node.inputs]
        results = run_host(node, arrays, 1)
        agree(case, mask, [v for n, v in zip(node.outputs, results, strict=False) if n], f"host, {mask}")
        count = max(i for i, wanted in enumerate(mask) if wanted) + 1
        if all(mask[:count]) and arrays[0] is not None and arrays[0].dtype != object:
            (node,) = import_model(
                open_model(model_of(case, names_of(case, (True,) * len(mask), False), "plan")[0], None).message
            ).nodes
            kernels = by_kernels(node.op, arrays, outputs=count)
            if kernels is not None:
                agree(case, mask, kernels, f"function, {count} outputs")


def test_nothing_is_asked_for() -> None:
    nodes = [helper.make_node("Split", ["x", "parts"], ["", "", ""], axis=1), helper.make_node("Relu", ["x"], ["y"])]
    made = helper.make_graph(
        nodes, "g", [tensor("x", TensorProto.FLOAT, *X.shape)], [value("y")], [numpy_helper.from_array(PARTS, "parts")]
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    np.testing.assert_array_equal(cnnengine.load(model).run(None, {"x": X})[0], np.maximum(X, 0))


def sequence(split: np.ndarray, positions: list[int]) -> onnx.ModelProto:
    nodes = [helper.make_node("SplitToSequence", ["x", "split"], ["s"], axis=1)]
    constants = {"split": split}
    for i, position in enumerate(positions):
        nodes.append(helper.make_node("SequenceAt", ["s", f"at{i}"], [f"y{i}"], name=f"At{i}"))
        constants[f"at{i}"] = np.array(position)
    made = helper.make_graph(
        nodes,
        "g",
        [tensor("x", TensorProto.FLOAT, *X.shape)],
        [value(f"y{i}") for i in range(len(positions))],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("split", [PARTS, np.array(5), np.array(4)], ids=["listed", "uneven", "even"])
def test_pieces_of_a_sequence(split: np.ndarray) -> None:
    ends = [3, 7] if split.ndim else [5, 10] if split == 5 else [4, 8]
    pieces = np.split(X, ends, axis=1)
    for positions in ([0], [1], [2], [0, 1], [2, 0], [1, 2], [0, 1, 2], [-1], [-3, 1], [0, -3]):
        for isa in dispatch.available_isas():
            with dispatch.use_isa(isa), cnnengine.load(sequence(split, positions)) as loaded:
                for position, y in zip(positions, loaded.run(None, {"x": X}), strict=True):
                    np.testing.assert_array_equal(y, pieces[position])


@pytest.mark.parametrize("split", [PARTS, np.array(5), np.array(4)], ids=["listed", "uneven", "even"])
@pytest.mark.parametrize("position", [3, 5, -4])
def test_positions_past_the_pieces(split: np.ndarray, position: int) -> None:
    model = sequence(split, [0, position])
    with pytest.raises(InputError, match=r"At1.*SequenceAt.*no such element"):
        cnnengine.load(model).run(None, {"x": X})
    graph = simplify(import_model(open_model(model, None).message))
    with pytest.raises(InputError, match="no such element"):
        graph.evaluate({"x": X})
