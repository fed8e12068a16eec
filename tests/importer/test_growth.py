"""The work of reading a model grows with its size, whatever there is much of: a small file must not take minutes.

Each kind of file is made at a size and at four times that size. The CPU time of import and passes may grow eightfold (a linear
one grows fourfold, a quadratic one sixteenfold); where it grows more it is measured again, and the least of both sizes counts.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.errors import CNNEngineError, LimitError, ModelError
from cnnengine.importer import import_model, open_model
from cnnengine.limits import Limits, within
from cnnengine.rewrites import simplify

GROWTH = 8.0
TRIES = 6
FLOAT, BOOL = TensorProto.FLOAT, TensorProto.BOOL


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, **attributes)


def value(name: str, shape: Any = (1, 4), dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def const(name: str, array: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def file(
    nodes: list[onnx.NodeProto],
    inputs: Any = None,
    outputs: Any = None,
    initializers: Any = (),
    opsets: Any = (),
    opset: int = 18,
    **more: Any,
) -> bytes:
    graph = helper.make_graph(
        nodes, "g", [value("x")] if inputs is None else inputs, [value("y", None)] if outputs is None else outputs, initializers
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in opsets)]
    data: bytes = helper.make_model(graph, opset_imports=imports, ir_version=10, **more).SerializeToString()
    return data


def chain(n: int, kinds: tuple[str, ...], extra: tuple[str, ...] = (), **attributes: Any) -> list[onnx.NodeProto]:
    """x -> kinds in turn -> y."""
    names = ["x", *(f"v{i}" for i in range(1, n)), "y"]
    return [node(kinds[i % len(kinds)], [names[i], *extra], [names[i + 1]], **attributes) for i in range(n)]


def named(nodes: list[onnx.NodeProto], name: Callable[[int], str]) -> list[onnx.NodeProto]:
    for index, one in enumerate(nodes):
        one.name = name(index)
    return nodes


def branch(nodes: list[onnx.NodeProto], output: str = "b") -> onnx.GraphProto:
    return helper.make_graph(nodes, "branch", [], [value(output, None)])


def function(name: str, nodes: list[onnx.NodeProto], inputs: Any = ("a",), outputs: Any = ("b",)) -> onnx.FunctionProto:
    return helper.make_function(
        "l", name, list(inputs), list(outputs), nodes, [helper.make_opsetid("", 18), helper.make_opsetid("l", 1)]
    )


def calls(n: int) -> bytes:
    return file(
        [helper.make_node("f", [a], [b], domain="l") for a, b in _links(n)],
        opsets=["l"],
        functions=[function("f", [node("Relu", ["a"], ["t"]), node("Neg", ["t"], ["b"])])],
    )


def _links(n: int) -> list[tuple[str, str]]:
    return list(itertools.pairwise(["x", *(f"v{i}" for i in range(1, n)), "y"]))


def nested_functions(n: int) -> bytes:
    inner = [function(f"f{i}", [helper.make_node(f"f{i + 1}", ["a"], ["b"], domain="l")]) for i in range(n)]
    leaf = function(f"f{n}", [node("Relu", ["a"], ["b"])])
    return file([helper.make_node("f0", ["x"], ["y"], domain="l")], opsets=["l"], functions=[*inner, leaf])


def ifs_in_a_function(n: int) -> bytes:
    body = []
    for a, b in _links(n):
        a, b = {"x": "a"}.get(a, a), {"y": "b"}.get(b, b)
        sides = (("then_branch", "Relu"), ("else_branch", "Neg"))
        graphs = {k: branch([node(o, [a], [f"{b}/{k}"])], f"{b}/{k}") for k, o in sides}
        body.append(node("If", ["c"], [b], **graphs))
    return file(
        [helper.make_node("f", ["x", "c"], ["y"], domain="l")],
        [value("x"), value("c", (), BOOL)],
        opsets=["l"],
        functions=[function("f", body, ["a", "c"])],
    )


def ifs(n: int, known: bool) -> bytes:
    nodes = [
        node("If", ["c"], [b], then_branch=branch([node("Relu", [a], ["b"])]), else_branch=branch([node("Neg", [a], ["b"])]))
        for a, b in _links(n)
    ]
    given = [const("c", np.array(True))] if known else []
    return file(nodes, [value("x")] if known else [value("x"), value("c", (), BOOL)], None, given)


def captures(n: int, constants: bool) -> bytes:
    names = [f"k{i}" for i in range(n)]
    graphs = {k: branch([node(o, names, ["b"], **kw)]) for k, o, kw in (("then_branch", "Sum", {}), ("else_branch", "Max", {}))}
    inputs = [value("c", (), BOOL)]
    if constants:
        given = [const(k, np.full(4, i, "f4")) for i, k in enumerate(names)]
        return file([node("If", ["c"], ["y"], **graphs)], inputs, None, given)
    return file([node("If", ["c"], ["y"], **graphs)], inputs + [value(k) for k in names])


def slopes(n: int) -> bytes:
    """Sums of a Relu and the end of a longer and longer row of factors."""
    nodes = [node("Relu", ["x"], ["r"]), node("Neg", ["x"], ["m"]), node("Relu", ["m"], ["v0"])]
    for i in range(n):
        nodes += [node("Mul", [f"v{i}", "s"], [f"v{i + 1}"]), node("Add", ["r", f"v{i + 1}"], [f"a{i}"])]
    nodes.append(node("Sum", [f"a{i}" for i in range(n)], ["y"]))
    return file(nodes, [value("x", (1, 4, 2, 2))], None, [const("s", np.float32(0.5))])


def tensors(n: int) -> bytes:
    nodes = [node("Add", [a, f"k{i}"], [b]) for i, (a, b) in enumerate(_links(n))]
    return file(nodes, None, None, [const(f"k{i}", np.full((1, 4), i, "f4")) for i in range(n)])


def convolutions(n: int, after: str) -> bytes:
    nodes = []
    for i, (a, b) in enumerate(_links(n)):
        more = ["s"] if after in ("Mul", "Add") else ["v"] * 4
        nodes += [node("Conv", [a, "w"], [f"c{i}"]), node(after, [f"c{i}", *more], [b])]
    given = [const("w", np.ones((4, 4, 1, 1), "f4")), const("s", np.ones((1, 4, 1, 1), "f4")), const("v", np.ones(4, "f4"))]
    return file(nodes, [value("x", (1, 4, 2, 2))], None, given)


def channels_last(n: int) -> bytes:
    nodes = []
    for i in range(n):
        nodes += [node("Transpose", [f"x{i}"], [f"t{i}"], perm=[0, 2, 3, 1]), node("MatMul", [f"t{i}", "w"], [f"m{i}"])]
    nodes.append(node("Concat", [f"m{i}" for i in range(n)], ["y"], axis=0))
    return file(nodes, [value(f"x{i}", (1, 4, 2, 2)) for i in range(n)], None, [const("w", np.ones((4, 4), "f4"))])


def pieces(n: int) -> bytes:
    nodes = [node("SplitToSequence", ["x", "s"], ["q"], axis=1)]
    nodes += [node("SequenceAt", ["q", f"p{i}"], [f"y{i}"]) for i in range(n)]
    given = [const("s", np.ones(n, np.int64)), *(const(f"p{i}", np.int64(i)) for i in range(n))]
    return file(nodes, [value("x", (1, n))], [value(f"y{i}", None) for i in range(n)], given)


def means(n: int) -> bytes:
    nodes = [node("ReduceMean", ["x", "a"], [f"m{i}"]) for i in range(n)]
    nodes += [node("Sub", ["x", f"m{i}"], [f"s{i}"]) for i in range(n)]
    nodes += [node("Sqrt", [f"s{i}"], [f"q{i}"]) for i in range(n)]
    axes = const("a", np.zeros(4 * n, np.int64))
    return file(nodes, [value("x", (1, 4, 2, 2))], [value(f"q{i}", None) for i in range(n)], [axes])


def dimensions(n: int) -> bytes:
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[2**62] * n, raw_data=b"\0\0\0\0")
    return file([node("Add", ["x", "w"], ["y"])], None, None, [tensor])


def attributes(n: int) -> bytes:
    one = node("Relu", ["x"], ["y"])
    one.attribute.extend(helper.make_attribute(f"a{i}", i) for i in range(n))
    return file([one])


def metadata(n: int) -> bytes:
    model = onnx.ModelProto.FromString(file(chain(2, ("Relu", "Neg"))))
    for i in range(n):
        model.metadata_props.add(key=f"k{i}", value="v")
        model.opset_import.add(domain=f"d{i}", version=1)
        model.graph.value_info.append(value(f"i{i}"))
    data: bytes = model.SerializeToString()
    return data


def outputs(n: int, kind: str) -> bytes:
    nodes = [node("Relu", ["x"], ["r"]), *(node(kind, ["r"], [f"y{i}"]) for i in range(n))]
    return file(nodes, None, [value(f"y{i}", None) for i in range(n)])


def inputs(n: int, kind: str, dtype: int = FLOAT, **more: Any) -> bytes:
    names = [f"x{i}" for i in range(n)]
    return file([node(kind, names, ["y"], **more)], [value(name, (1, 4), dtype) for name in names])


def pads(n: int) -> bytes:
    nodes = []
    for i, (a, b) in enumerate(_links(n)):
        nodes += [node("Pad", [a, "p"], [f"q{i}"]), node("Conv", [f"q{i}", "w"], [b])]
    given = [const("p", np.array([0, 0, 1, 1, 0, 0, 1, 1])), const("w", np.ones((4, 4, 3, 3), "f4"))]
    return file(nodes, [value("x", (1, 4, 8, 8))], None, given)


CASES: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "nodes": (1000, lambda n: file(chain(n, ("Sigmoid", "Tanh", "Exp", "Abs")))),
    "nodes of one name": (1000, lambda n: file(named(chain(n, ("Sigmoid", "Tanh", "Exp", "Abs")), lambda i: "n"))),
    "nodes of names that collide": (1000, lambda n: file(named(chain(n, ("Exp", "Abs")), lambda i: "n" if i % 2 else f"n#{i}"))),
    "nodes out of order": (1000, lambda n: file(chain(n, ("Exp", "Abs"))[::-1])),
    "unsupported nodes": (1000, lambda n: file(chain(n, ("Nothing",)))),
    "empty nodes": (4000, lambda n: file([onnx.NodeProto()] * n)),
    "names that are long together": (500, lambda n: file(named(chain(n, ("Exp", "Abs")), lambda i: f"{'n' * 500}{i}"))),
    "identities": (1000, lambda n: file(chain(n, ("Identity",)))),
    "dropouts": (1000, lambda n: file(chain(n, ("Dropout",)))),
    "casts": (1000, lambda n: file(chain(n, ("Cast",), to=FLOAT))),
    "transposes": (500, lambda n: file(chain(n, ("Transpose",), perm=[1, 0]))),
    "equal nodes": (1000, lambda n: outputs(n, "Exp")),
    "identities that are outputs": (1000, lambda n: outputs(n, "Identity")),
    "consumers of one value": (500, lambda n: file([*(node("Exp", ["x"], [f"v{i}"]) for i in range(n)),
                                                     node("Sum", [f"v{i}" for i in range(n)], ["y"])])),
    "initializers": (1000, tensors),
    "constants": (1000, lambda n: file([*(node("Constant", [], [f"k{i}"], value_float=float(i)) for i in range(n)),
                                         node("Sum", ["x", *(f"k{i}" for i in range(n))], ["y"])])),
    "constants that fold": (1000, lambda n: file([node("Add", ["k0", "k0"], ["v0"]),
                                                   *(node("Add", [f"v{i}", "k0"], [f"v{i + 1}"]) for i in range(n)),
                                                   node("Add", ["x", f"v{n}"], ["y"])],
                                                  None, None, [const("k0", np.float32(1))])),
    "dims": (20000, dimensions),
    "attributes": (4000, attributes),
    "ints of an attribute": (40000, lambda n: file([node("ReduceSum", ["x"], ["y"], axes=[0] * n)], opset=11)),
    "metadata, opsets, value_info": (2000, metadata),
    "inputs of a Concat": (1000, lambda n: inputs(n, "Concat", axis=0)),
    "inputs of a Sum": (500, lambda n: inputs(n, "Sum")),
    "inputs of half precision": (500, lambda n: inputs(n, "Max", TensorProto.FLOAT16)),
    "inputs that are absent": (4000, lambda n: file([node("Sum", ["x", *[""] * n], ["y"])])),
    "outputs of a Split": (2000, lambda n: file([node("Split", ["x"], [f"y{i}" for i in range(n)], axis=1, num_outputs=n)],
                                                [value("x", (1, n))], [value(f"y{i}", None) for i in range(n)])),
    "pieces of a sequence": (500, pieces),
    "calls of functions": (500, calls),
    "functions inside of functions": (250, nested_functions),
    "nodes of a function": (1000, lambda n: file([helper.make_node("f", ["x"], ["y"], domain="l")], opsets=["l"],
        functions=[function("f", [node("Exp", [{"x": "a"}.get(a, a)], [{"y": "b"}.get(b, b)]) for a, b in _links(n)])])),
    "functions": (2000, lambda n: file(chain(1, ("Relu",)), opsets=["l"],
        functions=[function(f"f{i}", [node("Relu", ["a"], ["b"])]) for i in range(n)])),
    "branches in a function": (300, ifs_in_a_function),
    "branches": (250, lambda n: ifs(n, False)),
    "branches that are chosen": (250, lambda n: ifs(n, True)),
    "captured values": (1000, lambda n: captures(n, False)),
    "captured constants": (1000, lambda n: captures(n, True)),
    "factors of a slope": (250, slopes),
    "scales behind convolutions": (150, lambda n: convolutions(n, "Mul")),
    "batch norms behind convolutions": (150, lambda n: convolutions(n, "BatchNormalization")),
    "scales behind each other": (100, lambda n: file([node("Conv", ["x", "w"], ["v0"]),
        *(node("Mul", [f"v{i}", "s"], [f"v{i + 1}"]) for i in range(n)), node("Relu", [f"v{n}"], ["y"])],
        [value("x", (1, 4, 2, 2))], None, [const("w", np.ones((4, 4, 1, 1), "f4")), const("s", np.ones((1, 4, 1, 1), "f4"))])),
    "activations": (500, lambda n: file([
        one for i, (a, b) in enumerate(_links(n)) for one in (node("Add", [a, "s"], [f"c{i}"]), node("Relu", [f"c{i}"], [b]))],
        None, None, [const("s", np.ones(4, "f4"))])),
    "pads": (250, pads),
    "products of one matrix, channels last": (500, channels_last),
    "means over many axes": (200, means),
}  # fmt: skip


def cost(data: bytes) -> float:
    """CPU seconds of import and passes."""
    gc.collect()
    gc.disable()
    start = time.process_time()
    try:
        simplify(import_model(open_model(data).message))
    except CNNEngineError:
        pass  # what is refused must be refused as quickly
    finally:
        spent = time.process_time() - start
        gc.enable()
    return spent


@pytest.mark.parametrize("case", CASES)
def test_work_grows_with_the_size(case: str) -> None:
    size, make = CASES[case]
    small, large = make(size), make(4 * size)
    cost(small)
    least = [cost(small), cost(large)]
    for _ in range(TRIES):
        if least[1] <= GROWTH * least[0]:
            break
        least = [min(least[0], cost(small)), min(least[1], cost(large))]
    assert least[1] <= GROWTH * least[0], f"{size}: {least[0]:.4f} s, {4 * size}: {least[1]:.4f} s"


def doubling(depth: int, leaf: list[onnx.NodeProto]) -> bytes:
    fs = [function("f0", leaf)]
    for i in range(1, depth):
        two = [helper.make_node(f"f{i - 1}", [a], [b], domain="l") for a, b in (("a", "t"), ("t", "b"))]
        fs.append(function(f"f{i}", two))
    return file([helper.make_node(f"f{depth - 1}", ["x"], ["y"], domain="l")], opsets=["l"], functions=fs)


def test_functions_that_double() -> None:
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(cnnengine.load(doubling(8, [node("Neg", ["a"], ["b"])]))(x), x)  # 128 times


@pytest.mark.parametrize("leaf", [True, False], ids=["nodes", "nothing"])
def test_functions_that_double_without_end(leaf: bool) -> None:
    data = doubling(60, [node("Neg", ["a"], ["b"])] if leaf else [])
    with within(Limits(expanded_nodes=1000)), pytest.raises(LimitError, match="expanded_nodes"):
        import_model(open_model(data).message)


def test_bytes_of_functions_are_bounded() -> None:
    large = helper.make_node("Constant", [], ["k"], value=const("k", np.ones(1 << 12, np.float32)))
    data = doubling(12, [large, node("Add", ["a", "k"], ["b"])])
    with within(Limits(expanded_bytes=1 << 20)), pytest.raises(LimitError, match="expanded_bytes"):
        import_model(open_model(data).message)


def test_functions_that_call_each_other_in_a_circle() -> None:
    two = [function(f, [helper.make_node(g, ["a"], ["b"], domain="l")]) for f, g in (("f", "g"), ("g", "f"))]
    with pytest.raises(ModelError, match="a function calls itself"):
        import_model(open_model(file([helper.make_node("f", ["x"], ["y"], domain="l")], opsets=["l"], functions=two)).message)


def nested_loops(depth: int, trips: int) -> bytes:
    """Loops inside of each other, the inner ones with this number of rounds, which constants say."""
    body: onnx.GraphProto | None = None
    for d in range(depth):
        last = node("Identity", [f"i{d}"], [f"s{d}"]) if body is None else node("Loop", [f"m{d}", ""], [f"s{d}"], body=body)
        nodes = [node("Identity", [f"c{d}"], [f"k{d}"]), node("Constant", [], [f"m{d}"], value_int=trips), last]
        ends = [value(f"k{d}", (), BOOL), value(f"s{d}", None, TensorProto.INT64)]
        body = helper.make_graph(nodes, "body", [value(f"i{d}", (), TensorProto.INT64), value(f"c{d}", (), BOOL)], ends)
    return file([node("Loop", ["m", ""], ["y"], body=body)], [value("m", (), TensorProto.INT64)], [value("y", None, 7)])


@pytest.mark.parametrize("trips", [0, 2**31 - 2])
def test_loops_in_loops_are_not_run_while_they_are_read(trips: int) -> None:
    model = cnnengine.load(nested_loops(24, trips))
    (y,) = model.run(None, {"m": np.array(0)})
    assert y.shape[0] == 0


def test_loops_in_branches_that_are_chosen_are_not_run_while_they_are_read() -> None:
    loop = onnx.ModelProto.FromString(nested_loops(1, 0)).graph.node[0]
    nodes = [node("Constant", [], ["m"], value_int=2**31 - 2), loop]
    graphs = {k: helper.make_graph(nodes, k, [], [value("y", None, 7)]) for k in ("then_branch", "else_branch")}
    model = cnnengine.load(file([node("If", ["c"], ["z"], **graphs)], [], [value("z", None, 7)], [const("c", np.array(True))]))
    assert model.outputs[0].name == "z"
