"""import_model: graphs as files have them, and what is wrong with them said at once."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnengine.errors import ModelError, UnsupportedOperatorError
from cnnengine.graph import Graph
from cnnengine.importer import import_model

F = TensorProto.FLOAT


def value(name: str, shape: Sequence[Any] | None = ("N", 3), dtype: int = F) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto] = (value("x"),),
    outputs: Sequence[str] = ("y",),
    *,
    opset: int = 17,
    ir: int = 8,
    constants: dict[str, np.ndarray] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    opsets: Sequence[onnx.OperatorSetIdProto] = (),
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(v, n) for n, v in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "net", list(inputs), [value(o, None) for o in outputs], initializer=tensors)
    imports = [*opsets, helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=list(functions))


def identity(x: str = "x", y: str = "y", **kwargs: Any) -> onnx.NodeProto:
    return helper.make_node("Identity", [x], [y], **kwargs)


def run(proto: onnx.ModelProto, **feeds: Any) -> list[np.ndarray]:
    return import_model(proto).evaluate({n: np.asarray(v) for n, v in feeds.items()})


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_inputs_outputs_and_metadata() -> None:
    proto = model([identity()], [value("x", ["N", 3, None, 5])])
    proto.metadata_props.add(key="labels", value="a,b")
    graph = import_model(proto, name="m.onnx")
    assert graph.name == "m.onnx"
    assert graph.metadata == {"labels": "a,b"}
    assert graph.inputs["x"].shape == ("N", 3, None, 5)
    assert graph.inputs["x"].dtype == np.float32
    assert list(graph.outputs) == ["y"]


def test_dims_of_minus_one_and_missing_shapes() -> None:
    x = value("x", [1, 3])
    x.type.tensor_type.shape.dim[0].dim_value = -1
    graph = import_model(model([identity(), identity("z", "w")], [x, value("z", None)]))
    assert graph.inputs["x"].shape == (None, 3)
    assert graph.inputs["z"].shape is None


@pytest.mark.parametrize("ir", [3, 4, 8])
def test_initializers_among_the_inputs(ir: int) -> None:
    proto = model([helper.make_node("Concat", ["x", "w"], ["y"], axis=0)], [value("x"), value("w")], ir=ir, constants={"w": X})
    graph = import_model(proto)
    assert list(graph.inputs) == ["x"]
    np.testing.assert_array_equal(graph.evaluate({"x": X})[0], np.concatenate([X, X]))


DTYPES = [
    np.float16,
    np.float32,
    np.float64,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.bool_,
    np.complex64,
    np.complex128,
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("raw", [True, False])
def test_tensor_dtypes(dtype: type, raw: bool) -> None:
    want = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    tensor = numpy_helper.from_array(want, "w")
    if not raw:
        code = tensor.data_type
        tensor = helper.make_tensor("w", code, want.shape, want.reshape(-1).tolist())
    proto = model([identity("w")], [])
    proto.graph.initializer.append(tensor)
    result = import_model(proto).evaluate({})[0]
    assert result.dtype == want.dtype
    np.testing.assert_array_equal(result, want)


def test_strings() -> None:
    proto = model([identity("w")], [])
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.STRING, [2], ["ä", "b"]))
    assert import_model(proto).constants["w"].tolist() == ["ä", "b"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": numpy_helper.from_array(X)}, X),
        ({"value_float": 1.5}, np.float32(1.5)),
        ({"value_floats": [1.5, 2.0]}, np.array([1.5, 2.0], np.float32)),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4])),
        ({"value_string": "a"}, np.array("a", object)),
        ({"value_strings": ["a", "b"]}, np.array(["a", "b"], object)),
    ],
)
def test_constants(attributes: dict[str, Any], expected: np.ndarray) -> None:
    graph = import_model(model([helper.make_node("Constant", [], ["y"], **attributes)], []))
    assert not graph.nodes
    result = graph.constants["y"]
    assert result.dtype == np.asarray(expected).dtype
    assert result.shape == np.shape(expected)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("linear", [True, False])
def test_sparse_tensors(linear: bool) -> None:
    where = np.array([1, 5]) if linear else np.array([[0, 1], [1, 2]])
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([7, 8], np.float32), "w"), numpy_helper.from_array(where, "i"), [2, 3]
    )
    want = np.array([[0, 7, 0], [0, 0, 8]], np.float32)
    proto = model([identity("w")], [])
    proto.graph.sparse_initializer.append(sparse)
    np.testing.assert_array_equal(import_model(proto).evaluate({})[0], want)
    proto = model([helper.make_node("Constant", [], ["y"], sparse_value=sparse)], [])
    np.testing.assert_array_equal(import_model(proto).constants["y"], want)


@pytest.mark.parametrize(
    ("dims", "index"), [([2, 3], [6]), ([2, 3], [-1]), ([2**40, 2**40], [0]), ([-2, 3], [0]), ([2, 3], [0, 1])]
)
def test_damaged_sparse_tensors(dims: list[int], index: list[int]) -> None:
    sparse = onnx.SparseTensorProto(
        values=numpy_helper.from_array(np.ones(1, np.float32), "w"), indices=numpy_helper.from_array(np.array(index)), dims=dims
    )
    proto = model([identity("w")], [])
    proto.graph.sparse_initializer.append(sparse)
    with pytest.raises(ModelError, match=r"sparse|tensor_bytes"):
        import_model(proto)


@pytest.mark.parametrize("damage", ["short", "long", "negative", "type", "floats"])
def test_damaged_tensors(damage: str) -> None:
    tensor = numpy_helper.from_array(X, "w")
    if damage == "short":
        tensor.raw_data = tensor.raw_data[:-1]
    elif damage == "long":
        tensor.dims[0] = 1
    elif damage == "negative":
        tensor.dims[0] = -2
    elif damage == "type":
        tensor.data_type = 99
    else:
        tensor.ClearField("raw_data")
        tensor.float_data.extend([1, 2, 3])
    proto = model([identity("w")], [])
    proto.graph.initializer.append(tensor)
    with pytest.raises(ModelError, match="'w'"):
        import_model(proto)


def test_nameless_and_equally_named_nodes() -> None:
    nodes = [identity("x", "a"), identity("a", "b", name="n"), identity("b", "c", name="n"), identity("c", "y")]
    graph = import_model(model(nodes))
    assert [n.name for n in graph.nodes] == ["Identity_0", "n", "n#2", "Identity_3"]
    assert [n.name for n in import_model(model(nodes)).nodes] == [n.name for n in graph.nodes]


def test_empty_input_names_are_absent_inputs() -> None:
    node = helper.make_node("Slice", ["x", "s", "e", "", "t"], ["y"])
    constants = {"s": np.array([0, 2]), "e": np.array([2, 0]), "t": np.array([1, -1])}
    np.testing.assert_array_equal(run(model([node], constants=constants), x=X)[0], X[0:2, 2:0:-1])
    dropped = import_model(model([helper.make_node("Dropout", ["x", "", ""], ["y"])]))
    assert dropped.nodes[0].inputs == ("x",)


def test_nodes_out_of_order_are_sorted() -> None:
    graph = import_model(model([identity("b", "y"), identity("a", "b"), identity("x", "a")]))
    assert [n.outputs for n in graph.nodes] == [("a",), ("b",), ("y",)]


def test_cycles() -> None:
    with pytest.raises(ModelError, match="cycle"):
        import_model(model([identity("b", "a"), identity("a", "b"), identity("x", "y")]))


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([identity("x", "a"), identity("x", "a"), identity("a", "y")], "exists already"),
        ([identity("x", "x")], "exists already"),
        ([identity("nowhere", "y")], "nowhere"),
        ([identity("x", "z")], "an output that nothing makes"),
        ([helper.make_node("Identity", [], ["y"])], "number of inputs"),
        ([helper.make_node("Identity", [""], ["y"])], "number of inputs"),
        ([helper.make_node("Identity", ["x", "x"], ["y"])], "number of inputs"),
        ([helper.make_node("Identity", ["x"], ["y", "z"])], "number of outputs"),
        ([helper.make_node("Concat", ["x"], ["y"])], "axis"),
        ([helper.make_node("Concat", ["x"], ["y"], axis=1.0)], "wrong type"),
        ([helper.make_node("Concat", ["x"], ["y"], axis=1, dim=2)], "does not have"),
        ([helper.make_node("Constant", [], ["y"])], "one value"),
        ([helper.make_node("Constant", [], ["x"], value_int=1), identity()], "exists already"),
    ],
)
def test_broken_graphs(nodes: list[onnx.NodeProto], text: str) -> None:
    with pytest.raises(ModelError, match=text) as caught:
        import_model(model(nodes), name="file.onnx")
    assert not isinstance(caught.value, UnsupportedOperatorError)
    assert caught.value.model == "file.onnx"


def test_an_output_listed_again_has_a_second_name() -> None:
    graph = import_model(model([identity()], outputs=("y", "y", "y")))
    assert list(graph.outputs) == ["y", "y#2", "y#3"]
    x = np.arange(3, dtype=np.float32)
    for found in graph.evaluate({"x": x}):
        np.testing.assert_array_equal(found, x)


def test_all_unsupported_nodes_are_named_at_once() -> None:
    nodes = [
        helper.make_node("Foo", ["x"], ["a"], name="first", domain="com.example"),
        helper.make_node("Bar", ["a"], ["b"], name="second"),
        identity("b", "c"),
        helper.make_node("Multinomial", ["c"], ["d"], name="third"),
        helper.make_node("Cast", ["d"], ["e"], name="fourth", to=99),
        helper.make_node("Scatter", ["e", "e", "e"], ["y"], name="fifth"),
    ]
    with pytest.raises(UnsupportedOperatorError) as caught:
        import_model(model(nodes, opsets=[helper.make_opsetid("com.example", 3)]), name="m")
    error = caught.value
    assert [(p.node, p.op_type, p.domain, p.version) for p in error.problems] == [
        ("first", "Foo", "com.example", 3),
        ("second", "Bar", "", 17),
        ("third", "Multinomial", "", 7),
        ("fourth", "Cast", "", 13),
        ("fifth", "Scatter", "", 11),
    ]
    for word in (
        "5 nodes",
        "first",
        "Foo",
        "com.example",
        "second",
        "Bar",
        "third",
        "Multinomial",
        "fourth",
        "Cast",
        "deprecated",
    ):
        assert word in str(error), word
    assert isinstance(error, NotImplementedError)
    assert isinstance(error, ModelError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_one_unsupported_node() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"node 'n'.*'Foo'.*no opset") as caught:
        import_model(model([helper.make_node("Foo", ["x"], ["y"], name="n", domain="d")]))
    assert (caught.value.node, caught.value.operator) == ("n", "Foo")


def test_unused_domains_are_ignored() -> None:
    proto = model([identity()], opsets=[helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("com.unknown", 9)])
    assert len(import_model(proto).nodes) == 1


def test_the_default_domain_by_its_long_name() -> None:
    proto = model([helper.make_node("Identity", ["x"], ["y"], domain="ai.onnx")])
    assert import_model(proto).nodes[0].op.op_type == "Identity"


def test_versions_follow_the_opset() -> None:
    constants = {"axes": np.array([0])}
    new = import_model(model([helper.make_node("Unsqueeze", ["x", "axes"], ["y"])], opset=13, constants=constants))
    old = import_model(model([helper.make_node("Unsqueeze", ["x"], ["y"], axes=[0])], opset=11))
    assert new.nodes[0].op.axes is None
    assert old.nodes[0].op.axes == (0,)
    for graph in (new, old):
        assert graph.evaluate({"x": X})[0].shape == (1, 2, 3)
    with pytest.raises(ModelError, match="does not have"):
        import_model(model([helper.make_node("Unsqueeze", ["x", "axes"], ["y"], axes=[0])], opset=13, constants=constants))


def test_inputs_that_are_no_tensors() -> None:
    table = onnx.ValueInfoProto(name="x")
    table.type.map_type.key_type = TensorProto.INT64
    with pytest.raises(UnsupportedOperatorError, match="tensors"):
        import_model(model([identity()], [table]))
    sequence = import_model(model([identity()], [helper.make_tensor_sequence_value_info("x", F, None)])).inputs["x"]
    assert (sequence.kind, sequence.dtype) == ("sequence", np.float32)
    with pytest.raises(ModelError, match="no type"):
        import_model(model([identity()], [onnx.ValueInfoProto(name="x")]))


# subgraphs


def branch(nodes: Sequence[onnx.NodeProto], output: str, constants: dict[str, np.ndarray] | None = None) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(v, n) for n, v in (constants or {}).items()]
    return helper.make_graph(list(nodes), "b", [], [value(output, None)], initializer=tensors)


def test_if_reads_outer_values() -> None:
    nodes = [
        identity("x", "outer"),
        helper.make_node(
            "If",
            ["c"],
            ["y"],
            then_branch=branch([helper.make_node("Concat", ["outer", "w"], ["p"], axis=0)], "p", {"w": X}),
            else_branch=branch([helper.make_node("Concat", ["x", "outer"], ["q"], axis=1)], "q"),
        ),
    ]
    proto = model(nodes, [value("x"), value("c", [], TensorProto.BOOL)])
    graph = import_model(proto)
    assert graph.nodes[1].inputs == ("c", "x", "outer")  # the else branch comes first in the file
    for branch_graph in (graph.nodes[1].op.then_branch, graph.nodes[1].op.else_branch):
        assert list(branch_graph.inputs) == ["x", "outer"]
    np.testing.assert_array_equal(run(proto, x=X, c=True)[0], np.concatenate([X, X]))
    np.testing.assert_array_equal(run(proto, x=X, c=False)[0], np.concatenate([X, X], 1))


def test_nested_ifs_reach_the_outermost_values() -> None:
    def test(depth: int) -> onnx.GraphProto:
        if depth == 0:
            return branch([helper.make_node("Concat", ["x", "x"], ["z0"], axis=0)], "z0")
        inner = test(depth - 1)
        return branch([helper.make_node("If", ["c"], [f"z{depth}"], then_branch=inner, else_branch=inner)], f"z{depth}")

    node = helper.make_node("If", ["c"], ["y"], then_branch=test(2), else_branch=test(2))
    proto = model([node], [value("x"), value("c", [], TensorProto.BOOL)])
    np.testing.assert_array_equal(run(proto, x=X, c=True)[0], np.concatenate([X, X]))


def test_unsupported_nodes_in_branches_are_named() -> None:
    bad = branch([helper.make_node("Foo", ["x"], ["p"], name="deep")], "p")
    good = branch([identity("x", "q")], "q")
    node = helper.make_node("If", ["c"], ["y"], then_branch=bad, else_branch=good)
    with pytest.raises(UnsupportedOperatorError, match="deep"):
        import_model(model([node], [value("x"), value("c", [], TensorProto.BOOL)]))


@pytest.mark.parametrize("limit", [True, False])
def test_loop(limit: bool) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Concat", ["s", "x"], ["s2"], axis=0),
            helper.make_node("Identity", ["i"], ["scan"]),
            helper.make_node("Identity", ["go"], ["go2"]),
        ],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("s", None)],
        [value("go2", [], TensorProto.BOOL), value("s2", None), value("scan", [], TensorProto.INT64)],
    )
    node = helper.make_node("Loop", ["n", "" if limit else "c", "x"], ["y", "rounds"], body=body)
    inputs = [value("x"), value("n", [], TensorProto.INT64), value("c", [], TensorProto.BOOL)]
    y, rounds = run(model([node], inputs, ("y", "rounds")), x=X, n=3, c=True)
    np.testing.assert_array_equal(y, np.concatenate([X] * 4))
    np.testing.assert_array_equal(rounds, [0, 1, 2])
    y, rounds = run(model([node], inputs, ("y", "rounds")), x=X, n=0, c=True)
    assert y.shape == (2, 3)
    assert rounds.shape == (0,)
    assert rounds.dtype == np.int64


# functions


def function(
    name: str, inputs: list[str], outputs: list[str], nodes: list[onnx.NodeProto], attributes: Sequence[str] = ()
) -> onnx.FunctionProto:
    return helper.make_function(
        "local", name, inputs, outputs, nodes, [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)], list(attributes)
    )


def with_reference(node: onnx.NodeProto, name: str, reference: str, kind: int) -> onnx.NodeProto:
    node.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=reference, type=kind))
    return node


LOCAL = [helper.make_opsetid("local", 1)]


def test_functions_are_expanded() -> None:
    inner = function(
        "Twice", ["a"], ["b"], [with_reference(helper.make_node("Concat", ["a", "a"], ["b"]), "axis", "axis", 2)], ["axis"]
    )
    nodes = [
        with_reference(helper.make_node("Twice", ["a"], ["t"], domain="local"), "axis", "first", 2),
        helper.make_node("Twice", ["t"], ["b"], domain="local", axis=1),
    ]
    outer = function("Four", ["a"], ["b"], nodes, ["first"])
    calls = [
        helper.make_node("Four", ["x"], ["m"], domain="local", first=0, name="one"),
        helper.make_node("Four", ["m"], ["y"], domain="local", first=1, name="two"),
    ]
    proto = model(calls, functions=[inner, outer], opsets=LOCAL)
    graph = import_model(proto)
    assert [n.op.op_type for n in graph.nodes] == ["Concat"] * 4
    assert len({n.name for n in graph.nodes}) == 4
    want = np.concatenate([np.concatenate([X, X], 0)] * 2, 1)
    np.testing.assert_array_equal(graph.evaluate({"x": X})[0], np.concatenate([np.concatenate([want, want], 1)] * 2, 1))


def test_functions_with_absent_inputs_defaults_and_passed_values() -> None:
    nodes = [with_reference(helper.make_node("Concat", ["a", "a"], ["c"]), "axis", "axis", 2)]
    f = function("F", ["a", "unused"], ["c", "a", "d"], [*nodes, identity("c", "d")])
    f.attribute_proto.append(helper.make_attribute("axis", 1))
    proto = model(
        [helper.make_node("F", ["x"], ["y", "same"], domain="local")], outputs=("y", "same"), functions=[f], opsets=LOCAL
    )
    y, same = run(proto, x=X)
    np.testing.assert_array_equal(y, np.concatenate([X, X], 1))
    np.testing.assert_array_equal(same, X)


def test_function_names_do_not_collide() -> None:
    f = function("F", ["x"], ["y"], [identity("x", "t"), helper.make_node("Concat", ["t", "x"], ["y"], axis=0)])
    calls = [
        helper.make_node("F", ["x"], ["t"], domain="local", name="F"),
        helper.make_node("F", ["t"], ["F/t"], domain="local", name="F"),
        identity("F/t", "y"),
    ]
    np.testing.assert_array_equal(run(model(calls, functions=[f], opsets=LOCAL), x=X)[0], np.concatenate([X] * 4))


def test_functions_with_branches() -> None:
    inner = branch([helper.make_node("Concat", ["a", "t"], ["z"], axis=0)], "z")
    f = function(
        "F", ["a", "c"], ["b"], [identity("a", "t"), helper.make_node("If", ["c"], ["b"], then_branch=inner, else_branch=inner)]
    )
    call = helper.make_node("F", ["x", "flag"], ["y"], domain="local")
    proto = model([call], [value("x"), value("flag", [], TensorProto.BOOL)], functions=[f], opsets=LOCAL)
    np.testing.assert_array_equal(run(proto, x=X, flag=True)[0], np.concatenate([X, X]))


def test_a_graph_that_a_call_gives_reads_the_values_of_its_caller() -> None:
    """Whatever names the function has inside."""
    own = branch([helper.make_node("Neg", ["t"], ["z"])], "z")
    taken = with_reference(helper.make_node("If", ["c"], ["b"], else_branch=own), "then_branch", "body", 5)
    f = function("F", ["a", "c"], ["b"], [helper.make_node("Exp", ["a"], ["t"]), taken], ["body"])
    given = branch([helper.make_node("Abs", ["t"], ["z"])], "z")
    call = helper.make_node("F", ["x", "flag"], ["y"], domain="local", body=given)
    nodes = [helper.make_node("Concat", ["x", "x"], ["t"], axis=1), call]
    proto = model(nodes, [value("x"), value("flag", [], TensorProto.BOOL)], functions=[f], opsets=LOCAL)
    np.testing.assert_array_equal(run(proto, x=-X, flag=True)[0], np.concatenate([X, X], 1))
    np.testing.assert_allclose(run(proto, x=-X, flag=False)[0], -np.exp(-X))


def test_functions_that_call_themselves() -> None:
    f = function("F", ["a"], ["b"], [helper.make_node("F", ["a"], ["b"], domain="local")])
    with pytest.raises(ModelError, match="calls itself"):
        import_model(model([helper.make_node("F", ["x"], ["y"], domain="local")], functions=[f], opsets=LOCAL))


def test_function_opsets_are_their_own() -> None:
    f = helper.make_function(
        "local", "F", ["a"], ["b"], [helper.make_node("Squeeze", ["a"], ["b"], axes=[0])], [helper.make_opsetid("", 11)]
    )
    proto = model([helper.make_node("F", ["x"], ["y"], domain="local")], [value("x", [1, 3])], functions=[f], opsets=LOCAL)
    assert run(proto, x=X[:1])[0].shape == (3,)


# the package


def test_importing_the_package_does_not_import_onnx() -> None:
    code = "import sys, cnnengine.importer, cnnengine.rewrites; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_graphs_hold_no_protobufs() -> None:
    graph = import_model(model([helper.make_node("Concat", ["x", "w"], ["y"], axis=0)], constants={"w": X}))
    copy = pickle.loads(pickle.dumps(graph))
    assert isinstance(copy, Graph)
    assert copy.nodes[0].op == graph.nodes[0].op
