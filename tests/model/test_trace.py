"""Model.trace and load(inputs=...): every tensor of a file, against the references and against runs; networks cut anywhere."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import zoo_support
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import cnnengine
from cnnengine.errors import ClosedError, CNNEngineError, InputError, ModelError, ShapeError, UnsupportedOperatorError
from cnnengine.importer import import_model
from cnnengine.plan.trace import _Made

FLOAT, FLOAT16, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node
value = helper.make_tensor_value_info

Case = tuple[onnx.ModelProto, dict[str, Any]]


def rand(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model_of(nodes: Any, inputs: Any, outputs: Any, constants: dict[str, np.ndarray] | None = None, **kwargs: Any) -> Any:
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(v, n) for n, v in (constants or {}).items()], **kwargs
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


X = rand(2, 3, 8, 8)
W1, W2 = rand(4, 3, 3, 3, seed=5) * np.float32(0.2), rand(4, 4, 3, 3, seed=6) * np.float32(0.2)


def skip(batch: Any = "N") -> Case:
    """Two convolutions, the second one with what it reads added to it."""
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["s"], "add"),
        node("Flatten", ["s"], ["f"], "flat"),
        node("Softmax", ["f"], ["y"], "soft"),
    ]
    return model_of(nodes, [value("x", FLOAT, [batch, 3, 8, 8])], [value("y", FLOAT, None)], {"w1": W1, "w2": W2}), {"x": X}


def normalised() -> Case:
    """What a run folds and fuses: a normalisation, an activation that rounds, a mean."""
    nodes = [
        node("Conv", ["x", "w1"], ["c"], "conv"),
        node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], "norm"),
        node("Sigmoid", ["n"], ["g"], "gate"),
        node("Mul", ["n", "g"], ["silu"], "silu"),
        node("GlobalAveragePool", ["silu"], ["y"], "mean"),
    ]
    constants = {"w1": W1, "scale": rand(4), "shift": rand(4, seed=1), "mean": rand(4, seed=2), "var": abs(rand(4, seed=8)) + 1}
    return model_of(nodes, [value("x", FLOAT, [2, 3, 8, 8])], [value("y", FLOAT, None)], constants), {"x": X}


def by_data() -> Case:
    """Extents that depend on data, and what is computed behind them."""
    nodes = [
        node("Conv", ["x", "w1"], ["c"], "conv"),
        node("NonZero", ["c"], ["at"], "which"),
        node("Cast", ["at"], ["places"], "cast", to=FLOAT),
        node("Sqrt", ["places"], ["y"], "root"),
        node("Relu", ["c"], ["r"], "relu"),
    ]
    outputs = [value("y", FLOAT, None), value("r", FLOAT, None)]
    return model_of(nodes, [value("x", FLOAT, [2, 3, 8, 8])], outputs, {"w1": W1}), {"x": X}


def branches() -> Case:
    """An If whose condition is computed, and a Loop, both of which read from outside of their graphs."""
    yes = helper.make_graph([node("Relu", ["c"], ["inside_yes"])], "yes", [], [value("inside_yes", FLOAT, None)])
    no = helper.make_graph([node("Neg", ["c"], ["inside_no"])], "no", [], [value("inside_no", FLOAT, None)])
    body = helper.make_graph(
        [node("Mul", ["state", "half"], ["next"]), node("Identity", ["going"], ["on"])],
        "body",
        [value("i", INT64, []), value("going", BOOL, []), value("state", FLOAT, None)],
        [value("on", BOOL, []), value("next", FLOAT, None)],
    )
    nodes = [
        node("Conv", ["x", "w1"], ["c"], "conv"),
        node("ReduceMax", ["c"], ["most"], "most", keepdims=0),
        node("Greater", ["most", "half"], ["large"], "large"),
        node("If", ["large"], ["chosen"], "choice", then_branch=yes, else_branch=no),
        node("Loop", ["rounds", "go", "chosen"], ["again"], "loop", body=body),
        node("Exp", ["again"], ["y"], "exp"),
    ]
    constants = {"w1": W1, "half": np.array(0.5, np.float32), "rounds": np.array(3), "go": np.array(True)}
    return model_of(nodes, [value("x", FLOAT, [2, 3, 8, 8])], [value("y", FLOAT, None)], constants), {"x": X}


def sequences() -> Case:
    nodes = [
        node("Relu", ["x"], ["r"], "relu"),
        node("SplitToSequence", ["r", "sizes"], ["parts"], "split", axis=1),
        node("SequenceAt", ["parts", "one"], ["second"], "at"),
        node("SequenceInsert", ["parts", "second"], ["more"], "insert"),
        node("ConcatFromSequence", ["more"], ["joined"], "join", axis=1),
        node("Exp", ["joined"], ["y"], "exp"),
    ]
    constants = {"sizes": np.array([1, 2]), "one": np.array(1)}
    return model_of(nodes, [value("x", FLOAT, [2, 3, 8, 8])], [value("y", FLOAT, None)], constants), {"x": X}


def optional_outputs() -> Case:
    """Outputs that nodes may have or not, inputs that are absent, and a node that no output needs."""
    nodes = [
        node("MaxPool", ["x"], ["p", "indices"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Dropout", ["p"], ["d", "mask"], "drop"),
        node("Clip", ["d", "", "top"], ["k"], "clip"),
        node("TopK", ["k", "two"], ["", "which"], "top", axis=3),
        node("Split", ["k"], ["a", ""], "split", axis=2, num_outputs=2),
        node("Neg", ["p"], ["aside"], "unneeded"),
        node("Abs", ["a"], ["y"], "abs"),
    ]
    outputs = [value("y", FLOAT, None), value("which", INT64, None)]
    constants = {"top": np.array(1, np.float32), "two": np.array([2])}
    return model_of(nodes, [value("x", FLOAT, [2, 3, 8, 8])], outputs, constants), {"x": X}


def constants() -> Case:
    """Constants of either kind, and shapes that are computed."""
    nodes = [
        node("Constant", [], ["k"], "k", value=numpy_helper.from_array(np.array([2.0], np.float32))),
        node("Mul", ["k", "w"], ["kw"], "product"),
        node("Mul", ["x", "kw"], ["m"], "scaled"),
        node("Shape", ["m"], ["shape"], "shape"),
        node("Slice", ["shape", "zero", "one"], ["first"], "first"),
        node("Concat", ["first", "rest"], ["target"], "target", axis=0),
        node("Reshape", ["m", "target"], ["flat"], "reshape"),
        node("Tanh", ["flat"], ["y"], "tanh"),
    ]
    known = {"w": np.array([3.0], np.float32), "zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1])}
    return model_of(nodes, [value("x", FLOAT, ["N", 3, 8, 8])], [value("y", FLOAT, None)], known), {"x": X}


def quantised() -> Case:
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], "quant"),
        node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"], "dequant"),
        node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], "weights"),
        node("Conv", ["xd", "wd"], ["c"], "conv"),
        node("Relu", ["c"], ["r"], "relu"),
        node("QuantizeLinear", ["r", "ys", "yz"], ["yq"], "requant"),
        node("DequantizeLinear", ["yq", "ys", "yz"], ["y"], "out"),
    ]
    known = {
        "xs": np.array(0.03, np.float32),
        "xz": np.array(128, np.uint8),
        "wq": np.clip(np.rint(W1 * 150), -127, 127).astype(np.int8),
        "ws": np.array(1 / 150, np.float32),
        "wz": np.array(0, np.int8),
        "ys": np.array(0.06, np.float32),
        "yz": np.array(0, np.uint8),
    }
    return model_of(nodes, [value("x", FLOAT, [2, 3, 8, 8])], [value("y", FLOAT, None)], known), {"x": X}


def halves() -> Case:
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv"),
        node("Relu", ["c"], ["r"], "relu"),
        node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2]),
        node("Sigmoid", ["p"], ["y"], "sigmoid"),
    ]
    known = {"w": W1.astype(np.float16)}
    return model_of(nodes, [value("x", FLOAT16, ["N", 3, 8, 8])], [value("y", FLOAT16, None)], known), {"x": X.astype(np.float16)}


CASES: dict[str, Callable[[], Case]] = {
    f.__name__: f for f in (skip, normalised, by_data, branches, sequences, optional_outputs, constants, quantised, halves)
}
STEPS = {"quantised": 0.06, "halves": 4e-3}
"""What a rounding becomes: a step of the scale, a few of float16."""

all_cases = pytest.mark.parametrize("case", CASES)
each_limit = pytest.mark.parametrize("limit", [1 << 28, 5000, 1])


def near(ours: Any, theirs: Any, where: str, allowed: float = 2e-6) -> None:
    """Alike but for rounding."""
    if isinstance(theirs, list):
        assert isinstance(ours, list) and len(ours) == len(theirs), where
        for a, b in zip(ours, theirs, strict=True):
            near(a, b, where, allowed)
        return
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, where
    if (ours.dtype.kind in "iub" and ours.dtype.itemsize > 1) or ours.dtype.kind == "b":
        assert np.array_equal(ours, theirs), where
    elif ours.dtype.kind in "iu":
        assert np.abs(ours.astype(int) - theirs.astype(int)).max(initial=0) <= 1, where
    else:
        scale = max(1.0, float(np.abs(theirs).max(initial=0)))
        assert np.abs(ours.astype(float) - theirs.astype(float)).max(initial=0) <= allowed * scale, where


def own_tensors(proto: onnx.ModelProto) -> list[str]:
    """Names of all that the nodes of the file's own graph make."""
    return [n for each in proto.graph.node for n in each.output if n]


# ---------------------------------------------------------------- values
@each_limit
@all_cases
def test_every_tensor_is_what_the_references_say(case: str, limit: int) -> None:
    proto, feeds = CASES[case]()
    graph = import_model(proto)
    names = [n for n in own_tensors(proto) if n in graph.names()]
    expected = dict(zip(names, graph.evaluate(feeds, names), strict=True))
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds, limit=limit)
        for name in names:
            near(trace[name].value, expected[name], name, STEPS.get(case, 2e-6))
        for name, given in feeds.items():
            assert np.array_equal(trace[name].value, given)
        for tensor in proto.graph.initializer:
            assert np.array_equal(trace[tensor.name].value, numpy_helper.to_array(tensor))
        assert set(trace) == {*feeds, *(t.name for t in proto.graph.initializer), *names}


@all_cases
def test_every_tensor_is_what_onnx_says(case: str) -> None:
    proto, feeds = CASES[case]()
    everything = copy.deepcopy(proto)
    listed = {o.name for o in proto.graph.output}
    names = own_tensors(proto)
    everything.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in listed)
    expected = dict(zip([o.name for o in everything.graph.output], ReferenceEvaluator(everything).run(None, feeds), strict=True))
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds)
        for name in names:
            theirs = expected[name]
            theirs = [np.asarray(t) for t in theirs] if isinstance(theirs, list) else np.asarray(theirs)
            near(trace[name].value, theirs, name, STEPS.get(case, 2e-6))


@each_limit
@all_cases
def test_what_is_said_to_be_exact_has_the_bits_of_a_run(case: str, limit: int) -> None:
    proto, feeds = CASES[case]()
    with cnnengine.load(proto) as model:
        outputs = dict(zip([o.name for o in model.outputs], model.run(None, feeds), strict=True))
        trace = model.trace(feeds, limit=limit)
        for name, result in outputs.items():
            near(trace[name].value, result, name, STEPS.get(case, 2e-6))
        stored = [n for n, t in trace.items() if t.source == "node" and t.exact and t.how != "known"]
        # a tensor that a run stores anyway may be asked for without changing the run
        wanted = list(dict.fromkeys([*outputs, *stored]))
        with cnnengine.load(proto, outputs=wanted) as asked:
            results = dict(zip(wanted, asked.run(None, feeds), strict=True))
        for name in stored:
            theirs = outputs.get(name, results[name])
            ours = trace[name].value
            pairs = zip(ours, theirs, strict=True) if isinstance(ours, list) else [(ours, theirs)]
            assert all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs), name


@pytest.mark.parametrize("name", ["c3d_small.ts", "squeezenet1_1.ts", "audio_m5_1d.tsbn", "resnet18.dyraw", "norm_gn.dy"])
def test_exported_networks(name: str) -> None:
    feeds = zoo_support.feeds(name)
    proto = zoo_support.model_proto(name)
    with cnnengine.load(proto) as model:
        outputs = dict(zip([o.name for o in model.outputs], model.run(None, feeds), strict=True))
        for limit in (1 << 28, 1 << 18):
            trace = model.trace(feeds, limit=limit)
            zoo_support.check_outputs(name, {n: trace[n].value for n in outputs}, zoo_support.tolerance(name))
            stored = [n for n, t in trace.items() if t.source == "node" and t.exact and t.how != "known"]
            with cnnengine.load(proto, outputs=[*outputs, *(n for n in stored if n not in outputs)]) as asked:
                results = dict(zip([o.name for o in asked.outputs], asked.run(None, feeds), strict=True))
            for tensor in stored:
                assert trace[tensor].value.tobytes() == outputs.get(tensor, results[tensor]).tobytes(), tensor
            if name in ("c3d_small.ts", "squeezenet1_1.ts") and limit == 1 << 28:  # nothing but exact activations is fused
                assert len(stored) > 10 and all(trace[n].exact for n in outputs)


# ---------------------------------------------------------------- what it says
def test_what_a_run_does_with_each_tensor() -> None:
    proto, feeds = skip()
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds)
        told = {n: (t.how, t.fused, t.exact) for n, t in trace.items()}
    assert told == {
        "x": ("given", (), True),
        "w1": ("known", (), True),
        "w2": ("known", (), True),
        "c1": ("fused", ("conv1", "relu1"), False),  # nowhere in memory
        "r1": ("fused", ("conv1", "relu1"), True),  # the largest of zero and the same number
        "c2": ("fused", ("conv2", "add"), False),
        "s": ("fused", ("conv2", "add"), False),  # a sum of more
        "f": ("alone", (), False),  # exact by itself, of what is not
        "y": ("alone", (), False),
    }


def test_what_is_folded_or_rounds_is_not_exact() -> None:
    proto, feeds = normalised()
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds)
        assert not any(trace[n].exact for n in ("c", "n", "g", "silu", "y"))
        assert {"conv", "norm"} <= set(trace["n"].fused)


def test_tensors_that_do_not_depend_on_the_input_and_those_that_nobody_needs() -> None:
    proto, feeds = constants()
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds)
        assert {n: trace[n].how for n in ("kw", "shape", "first", "target", "k")} == dict.fromkeys(
            ("kw", "shape", "first", "target", "k"), "known"
        )
        assert trace["k"].source == "constant" and trace["k"].node is not None and trace["k"].node.operator == "Constant"
        assert trace["w"].source == "constant" and trace["w"].node is None
    proto, feeds = optional_outputs()
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds)
        assert trace["aside"].how == "unused" and not trace["aside"].exact
        assert trace["indices"].how != "alone" or trace["indices"].exact


@pytest.mark.parametrize("limit", [1 << 28, 1])
def test_what_shapes_decide_is_known_in_every_part(limit: int) -> None:
    """Also where it is computed by what rounds, of what an earlier part made."""
    nodes = [
        node("Relu", ["x"], ["r"], "relu"),
        node("Shape", ["r"], ["shape"], "shape"),
        node("Cast", ["shape"], ["extents"], "cast", to=FLOAT),
        node("Exp", ["extents"], ["powers"], "exp"),
        node("Mul", ["r", "powers"], ["y"], "mul"),
    ]
    proto = model_of(nodes, [value("x", FLOAT, ["N", 2])], [value("y", FLOAT, None)])
    with cnnengine.load(proto) as model:
        trace = model.trace(rand(3, 2), limit=limit)
        assert [(trace[n].how, trace[n].exact) for n in ("shape", "extents", "powers")] == [("known", True)] * 3
        near(trace["powers"].value, np.exp(np.array([3, 2], np.float32)), "powers")


def test_a_node_that_a_run_leaves_out_is_not_fused() -> None:
    nodes = [node("Exp", ["x"], ["e"], "exp"), node("Identity", ["e"], ["i"], "same"), node("Tanh", ["i"], ["y"], "tanh")]
    proto = model_of(nodes, [value("x", FLOAT, [2, 3])], [value("y", FLOAT, None)])
    with cnnengine.load(proto) as model:
        trace = model.trace(rand(2, 3))
        assert (trace["y"].how, trace["y"].fused) == ("alone", ())


def test_layers_are_alike_only_where_all_of_them_is() -> None:
    """Each difference by itself: what decides whether bits are those of a run."""
    proto, feeds = skip()
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds)
        graph = import_model(proto)
        conv = graph.nodes[0]
        made = _Made(conv, ("conv",), None, False, {"w1": W1, "fresh": W1})
        assert trace._alike(made, replace(made))
        other = replace(conv.op, strides=(2, 2))
        for changed in (
            replace(made, kernels=("winograd",)),
            replace(made, tile=(4, 4)),
            replace(made, hosted=True),
            replace(made, node=conv.replace(op=other)),
            replace(made, node=conv.replace(op=graph.nodes[1].op)),
            replace(made, node=conv.replace(inputs=("r1", "w1"))),
            replace(made, node=conv.replace(inputs=("x", "w1", "b"))),
        ):
            assert not trace._alike(made, changed) and not trace._alike(changed, made)
        folded = replace(made, node=conv.replace(inputs=("x", "fresh")))  # a name that a rewrite made
        assert trace._alike(folded, replace(folded, constants={"fresh": W1.copy()}))
        assert not trace._alike(folded, replace(folded, constants={"fresh": W1 * 2}))


def test_nodes_are_those_of_the_file() -> None:
    proto, feeds = optional_outputs()
    proto.graph.node[0].name = ""
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds)
        assert [(n.operator, n.inputs, n.outputs) for n in trace.nodes] == [
            (n.op_type, tuple(n.input), tuple(n.output)) for n in proto.graph.node
        ]
        assert trace.nodes[0].name == "MaxPool_0" and trace.nodes[1].name == "drop"  # the engine's where the file has none
        assert trace["mask"].node is trace.nodes[1] and trace.nodes[1].domain == "ai.onnx"
        assert (trace.inputs, trace.outputs) == (("x",), ("y", "which"))
        assert len(trace) == len(list(trace)) and "k" in trace and "zz" not in trace and trace.get("zz") is None
        assert repr(trace["k"]) == "<Traced 'k' of Clip 'clip'>"


def test_nodes_that_are_written_by_others_are_one_node() -> None:
    """An operator of another domain that the engine spells out: its inner tensors are no tensors of the file."""
    nodes = [helper.make_node("FusedConv", ["x", "w1"], ["c"], "fused", domain="com.microsoft", activation="Sigmoid")]
    proto = model_of(
        [*nodes, node("Exp", ["c"], ["y"], "exp")], [value("x", FLOAT, [2, 3, 8, 8])], [value("y", FLOAT, None)], {"w1": W1}
    )
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with cnnengine.load(proto) as model:
        trace = model.trace(X)
        assert list(trace) == ["x", "w1", "c", "y"]
        assert (
            trace["c"].node is not None and trace["c"].node.operator == "FusedConv" and trace["c"].node.domain == "com.microsoft"
        )
        (plain,) = import_model(proto).evaluate({"x": X}, ["c"])
        near(trace["c"].value, plain, "c")


def test_a_call_of_a_function_of_the_file_is_one_node() -> None:
    function = helper.make_function(
        "own",
        "Twice",
        ["a"],
        ["b"],
        [node("Add", ["a", "a"], ["inner"]), node("Sigmoid", ["inner"], ["b"])],
        [helper.make_opsetid("", 21)],
    )
    nodes = [
        node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("Twice", ["r"], ["t"], "call", domain="own"),
        node("Exp", ["t"], ["y"]),
    ]
    proto = model_of(nodes, [value("x", FLOAT, [2, 3])], [value("y", FLOAT, None)])
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    x = rand(2, 3)
    with cnnengine.load(proto) as model:
        trace = model.trace(x)
        assert list(trace) == ["x", "r", "t", "y"]
        assert [(n.name, n.operator, n.domain) for n in trace.nodes[:2]] == [
            ("relu", "Relu", "ai.onnx"),
            ("call", "Twice", "own"),
        ]
        near(trace["t"].value, (1 / (1 + np.exp(-2 * np.maximum(x, 0)))).astype(np.float32), "t")


@pytest.mark.parametrize("winograd", [True, False, 2.0])
def test_convolutions_by_winograd_s_algorithm_are_traced_as_they_run(winograd: bool | float) -> None:
    """The tiles of a part may be others than those of the run: then it says so."""
    nodes = [
        node("Conv", ["x", "a"], ["c1"], "one", pads=[1, 1, 1, 1]),
        node("Conv", ["c1", "b"], ["c2"], "two", pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], ["r2"], "relu"),
        node("Conv", ["r2", "c"], ["y"], "three", pads=[1, 1, 1, 1]),
    ]
    known = {n: rand(32, 32, 3, 3, seed=i) * np.float32(0.08) for i, n in enumerate("abc")}
    proto = model_of(nodes, [value("x", FLOAT, [1, 32, 24, 24])], [value("y", FLOAT, None)], known)
    x = rand(1, 32, 24, 24)
    with cnnengine.load(proto, winograd=winograd) as model, cnnengine.load(proto, winograd=not winograd) as other:
        expected = model(x)
        trace = model.trace(x)
        assert trace["y"].exact and trace["y"].value.tobytes() == expected.tobytes()
        assert other(x).tobytes() != expected.tobytes()  # so that the option is seen at all
        for limit in (1, 200_000):
            parted = model.trace(x, limit=limit)
            for name in ("c1", "r2", "y"):
                same = parted[name].value.tobytes() == trace[name].value.tobytes()
                assert same or not parted[name].exact
                near(parted[name].value, trace[name].value, name, 1e-5)


# ---------------------------------------------------------------- what is fed
def test_sequences_and_optional_values_as_inputs() -> None:
    tensor = helper.make_tensor_type_proto(FLOAT, None)
    proto = model_of(
        [node("ConcatFromSequence", ["s"], ["j"], "join", axis=0), node("Exp", ["j"], ["y"], "exp")],
        [helper.make_value_info("s", helper.make_sequence_type_proto(tensor))],
        [value("y", FLOAT, None)],
    )
    parts = [rand(1, 4), rand(2, 4, seed=8)]
    with cnnengine.load(proto) as model:
        for limit in (1, 1 << 28):
            trace = model.trace({"s": parts}, limit=limit)
            assert np.array_equal(trace["j"].value, np.concatenate(parts))
            near(trace["y"].value, np.exp(np.concatenate(parts)), "y")
            assert [a.shape for a in trace["s"].value] == [(1, 4), (2, 4)] and trace["s"].how == "given"
    proto = model_of(
        [node("OptionalHasElement", ["o"], ["y"], "has")],
        [helper.make_value_info("o", helper.make_optional_type_proto(tensor))],
        [value("y", BOOL, [])],
    )
    with cnnengine.load(proto) as model:
        for given in (None, rand(2)):
            trace = model.trace({"o": given})
            assert bool(trace["y"].value) is (given is not None)
            assert trace["o"].value is None if given is None else np.array_equal(trace["o"].value, given)


def test_a_graph_without_nodes() -> None:
    graph = helper.make_graph(
        [],
        "g",
        [value("x", FLOAT, [2])],
        [value("x", FLOAT, [2]), value("w", FLOAT, [3])],
        [numpy_helper.from_array(rand(3), "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with cnnengine.load(proto) as model:
        trace = model.trace(rand(2))
        assert list(trace) == ["x", "w"] and trace.nodes == ()
        assert [trace[n].how for n in trace] == ["given", "known"] and np.array_equal(trace["w"].value, rand(3))


# ---------------------------------------------------------------- when it is computed
def test_nothing_is_computed_before_it_is_asked_for() -> None:
    """The last node cannot run on these values; what is before it can be looked at."""
    nodes = [
        node("Conv", ["x", "w1"], ["c"], "conv"),
        node("NonZero", ["c"], ["at"], "which"),
        node("Reshape", ["at", "shape"], ["y"], "impossible"),
    ]
    known = {"w1": W1, "shape": np.array([7, 11])}
    proto = model_of(nodes, [value("x", FLOAT, [2, 3, 8, 8])], [value("y", INT64, None)], known)
    with cnnengine.load(proto) as model:
        trace = model.trace(X)
        assert trace["c"].value.shape == (2, 4, 6, 6) and trace["at"].value.shape[0] == 4
        for _ in range(2):  # an error changes nothing
            with pytest.raises(CNNEngineError) as caught:
                trace["y"].value  # noqa: B018
            assert caught.value.node == "impossible"
            assert trace["c"].value.shape == (2, 4, 6, 6)


def test_what_was_given_up_is_computed_again_to_the_same_bits() -> None:
    proto, feeds = skip()
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds, limit=1)
        first = {n: t.value.copy() for n, t in trace.items()}
        for name in reversed(first):
            assert trace[name].value.tobytes() == first[name].tobytes(), name


def test_what_is_not_kept_is_freed() -> None:
    """Of a network that is larger than the limit, only what later nodes read stays, and what was asked for last."""
    nodes = [node("Abs" if i % 2 else "Neg", [f"t{i}"], [f"t{i + 1}"], f"n{i}") for i in range(12)]
    proto = model_of(nodes, [value("t0", FLOAT, [1000])], [value("t12", FLOAT, None)])
    with cnnengine.load(proto) as model:
        trace = model.trace(rand(1000), limit=8000)
        kept = {}
        for i in range(1, 13):
            array = trace[f"t{i}"].value
            while isinstance(array.base, np.ndarray):
                array = array.base
            kept[i] = weakref.ref(array)
            del array
        gc.collect()
        alive = [i for i, ref in kept.items() if ref() is not None]
        # a part makes two tensors, of which the second begins the next one
        assert set(range(1, 11, 2)).isdisjoint(alive) and {11, 12} <= set(alive)


def test_it_keeps_the_inputs_as_they_were_and_gives_what_nobody_can_write_to() -> None:
    proto, feeds = skip()
    given = feeds["x"].copy()
    with cnnengine.load(proto) as model:
        expected = model(given)
        trace = model.trace(given)
        given[:] = 0
        near(trace["y"].value, expected, "y")
        with pytest.raises(ValueError, match="read-only"):
            trace["c1"].value[:] = 0
        with pytest.raises(ValueError, match="read-only"):
            trace["x"].value[:] = 0
    proto, feeds = sequences()
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds)
        trace["parts"].value.clear()  # a list of the caller's own
        assert [a.shape for a in trace["parts"].value] == [(2, 1, 8, 8), (2, 2, 8, 8)]


def test_it_lives_on_when_the_model_is_closed() -> None:
    proto, feeds = skip()
    model = cnnengine.load(proto)
    trace = model.trace(feeds)
    expected = model(X)
    model.close()
    near(trace["y"].value, expected, "y")
    assert trace["r1"].exact
    with pytest.raises(ClosedError):
        model.trace(feeds)


def test_several_threads_may_ask_at_once() -> None:
    proto, feeds = skip()
    with cnnengine.load(proto) as model:
        expected = {n: t.value.tobytes() for n, t in model.trace(feeds, limit=1).items()}
        trace = model.trace(feeds, limit=1)
        wrong: list[str] = []

        def ask(names: list[str]) -> None:
            wrong.extend(n for n in names if trace[n].value.tobytes() != expected[n] or not isinstance(trace[n].exact, bool))

        threads = [threading.Thread(target=ask, args=(list(expected)[:: 1 if i % 2 else -1],)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_a_file_that_changes_is_an_error(tmp_path: Path) -> None:
    """Constants of a large file are views of it."""
    big = rand(512, 1024)
    proto = model_of(
        [node("MatMul", ["x", "w"], ["y"], "dense")], [value("x", FLOAT, ["N", 512])], [value("y", FLOAT, None)], {"w": big}
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    with cnnengine.load(path) as model:
        trace = model.trace(rand(2, 512))
        assert np.array_equal(trace["w"].value, big)
        path.write_bytes(b"another")
        with pytest.raises(ModelError):
            trace["w"].value  # noqa: B018
        with pytest.raises(ModelError):
            trace["y"].value  # noqa: B018


def test_lower_precision_is_traced_as_it_is_computed() -> None:
    nodes = [
        node("MatMul", ["x", "a"], ["h"], "m1"),
        node("MatMul", ["h", "b"], ["i"], "m2"),
        node("MatMul", ["i", "c"], ["y"], "m3"),
    ]
    known = {n: rand(640, 640, seed=i) * np.float32(0.04) for i, n in enumerate("abc")}
    proto = model_of(nodes, [value("x", FLOAT, ["N", 640])], [value("y", FLOAT, None)], known)
    x = rand(1, 640)
    with cnnengine.load(proto, precision="bfloat16") as model, cnnengine.load(proto) as plain:
        assert model.lowered == ("m2",)
        for limit in (1 << 28, 1):
            trace = model.trace(x, limit=limit)
            near(trace["y"].value, model(x), "y", 2e-6)
        assert np.abs(model(x) - plain(x)).max() > 1e-5
        assert np.array_equal(trace["h"].value, plain.trace(x)["h"].value)


# ---------------------------------------------------------------- names and arguments
def test_names_that_are_not_there() -> None:
    proto, feeds = zoo_support.model_proto("resnet18.ts"), zoo_support.feeds("resnet18.ts")
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds)
        name = next(n for n in own_tensors(proto) if "layer1" in n and "relu" in n)
        with pytest.raises(InputError) as caught:
            trace[name.upper()]
        assert repr(name) in str(caught.value)
        with pytest.raises(InputError) as caught:
            trace[name[:-1]]
        assert caught.value.tensor == name[:-1] and "near it are" in str(caught.value)
        with pytest.raises(InputError, match="of which there are"):
            trace["@@@"]
        with pytest.raises(InputError, match="tensors have names"):
            trace[3]  # type: ignore[index]


def test_a_node_s_name_and_an_inner_tensor_are_answered_by_what_the_node_makes() -> None:
    proto, feeds = branches()
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds)
        with pytest.raises(InputError, match="a node has this name, and makes 'again'"):
            trace["loop"]
        for inner, holder in (("next", "again"), ("inside_no", "chosen")):
            with pytest.raises(InputError, match="inside of a node") as caught:
                trace[inner]
            assert repr(holder) in str(caught.value)


def test_arguments_of_trace() -> None:
    proto, _ = skip(2)
    with cnnengine.load(proto) as model:
        with pytest.raises(ShapeError):
            model.trace(X[:1])
        with pytest.raises(InputError, match="dtype"):
            model.trace(X.astype(np.float64))
        with pytest.raises(InputError, match="missing"):
            model.trace({})
        with pytest.raises(InputError, match="no such input"):
            model.trace({"x": X, "z": X})
        for wrong in ({"limit": 0}, {"limit": "1"}, {"threads": 0}):
            with pytest.raises(InputError):
                model.trace(X, **wrong)
        near(model.trace(X, threads=1)["y"].value, model(X), "y")
    with cnnengine.load(proto, inputs=["c2", "r1"]) as model, pytest.raises(InputError, match="name the inputs"):
        model.trace(X)


# ---------------------------------------------------------------- networks that begin in the middle
def every_cut(proto: onnx.ModelProto) -> list[str]:
    return [n for n in own_tensors(proto) if n not in {o.name for o in proto.graph.output}]


@all_cases
def test_a_network_begins_at_any_of_its_tensors(case: str) -> None:
    """What the trace says of a tensor is fed there; where more is needed, the error names it."""
    proto, feeds = CASES[case]()
    reached = 0
    with cnnengine.load(proto) as model:
        trace = model.trace(feeds)
        whole = {o.name: trace[o.name].value for o in model.outputs}
        for name in every_cut(proto):
            for output in whole:
                given = [name]
                try:
                    try:
                        tail = cnnengine.load(proto, inputs=given, outputs=[output])
                    except InputError as error:
                        if "depends on it" in str(error):
                            continue
                        assert "what crosses the cut" in str(error)
                        crossing = str(error.expected).removeprefix("also ").partition(" (or ")[0]
                        given += [part.strip("'") for part in crossing.split(", ")]
                        tail = cnnengine.load(proto, inputs=given, outputs=[output])
                except UnsupportedOperatorError as error:
                    assert "type does not follow" in str(error)
                    continue
                with tail:
                    assert [i.name for i in tail.inputs] == given
                    result = tail.run([output], {n: trace[n].value for n in given})[0]
                near(result, whole[output], f"{given} -> {output}", STEPS.get(case, 2e-6))
                reached += 1
    assert reached >= len(every_cut(proto)) // 2


def test_what_crosses_the_cut_is_named() -> None:
    proto, feeds = skip()
    with pytest.raises(InputError, match="crosses the cut") as caught:
        cnnengine.load(proto, inputs=["c2"])
    assert caught.value.expected == "also 'r1' (or 'x')" and caught.value.model == "g"
    with cnnengine.load(proto) as model, cnnengine.load(proto, inputs=["c2", "r1"]) as tail:
        trace = model.trace(feeds)
        near(tail(trace["c2"].value, trace["r1"].value), model(X), "y")
    with cnnengine.load(proto, inputs=["c2", "x"]) as tail:  # the skip from the file's input instead
        near(tail(trace["c2"].value, X), trace["y"].value, "y")


def test_what_an_input_in_the_middle_is() -> None:
    """Its type, and its extents where they are the same for every batch."""
    proto, _ = skip()
    proto.graph.value_info.append(value("s", FLOAT16, [1, 2]))  # what exporters leave there is not believed
    with cnnengine.load(proto, inputs=["s"]) as model:
        (info,) = model.inputs
        assert (info.shape, info.dtype, info.kind) == ((None, 4, 8, 8), np.float32, "tensor")
        for batch in (1, 3):
            assert model(rand(batch, 4, 8, 8)).shape == (batch, 256)
        with pytest.raises(ShapeError):
            model(rand(2, 4, 8, 7))
    proto, _ = constants()
    with cnnengine.load(proto, inputs=["flat"]) as model:
        assert model.inputs[0].shape == (None, 192)
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"
    with cnnengine.load(proto, inputs=["flat"]) as model:
        assert model.inputs[0].shape is None or None in model.inputs[0].shape  # extents are open with those of the file
        assert np.allclose(model(rand(2, 5)), np.tanh(rand(2, 5)), atol=1e-6)
    proto, _ = sequences()
    with cnnengine.load(proto, inputs=["more"]) as model:
        assert (model.inputs[0].kind, model.inputs[0].dtype) == ("sequence", np.float32)


def test_an_initializer_or_an_input_of_the_file_may_be_fed() -> None:
    proto, _ = skip()
    with cnnengine.load(proto) as model, cnnengine.load(proto, inputs=["w2", "x"]) as open_weights:
        assert [i.name for i in open_weights.inputs] == ["w2", "x"]
        assert open_weights.inputs[0].shape == W2.shape
        near(open_weights(W2, X), model(X), "y")
        assert np.abs(open_weights(W2 * 2, X) - model(X)).max() > 1e-3
        with pytest.raises(ShapeError):
            open_weights(W1, X)
    with cnnengine.load(proto, inputs=["x"]) as same, cnnengine.load(proto) as model:
        assert np.array_equal(same(X), model(X)) and same.inputs == model.inputs
    known = constants()[0]
    with cnnengine.load(known, inputs=["x", "k"]) as model:  # of a node Constant
        near(model(X, np.array([0.5], np.float32)), np.tanh(X * 1.5).reshape(2, -1), "y")


def test_one_output_of_several_may_be_fed() -> None:
    """The node is still needed for the other one."""
    nodes = [node("Split", ["x"], ["a", "b"], "split", axis=1, num_outputs=2), node("Sub", ["a", "b"], ["y"], "sub")]
    proto = model_of(nodes, [value("x", FLOAT, [2, 4])], [value("y", FLOAT, None)])
    x, b = rand(2, 4), rand(2, 2, seed=9)
    with cnnengine.load(proto, inputs=["x", "b"]) as model:
        assert np.array_equal(model(x, b), x[:, :2] - b)
        assert np.array_equal(model.trace({"x": x, "b": b})["y"].value, x[:, :2] - b)


def test_an_output_that_is_fed_is_what_is_fed() -> None:
    proto, _ = skip()
    with cnnengine.load(proto, inputs=["y"]) as model:
        x = rand(2, 256)
        assert np.array_equal(model(x), x)


def test_shapes_may_be_planned_for_where_a_network_begins() -> None:
    proto, _ = skip()
    shapes = {"c2": (5, 4, 8, 8), "r1": (5, 4, 8, 8)}
    with cnnengine.load(proto, inputs=list(shapes), input_shapes=shapes) as model:
        loop = model.bind({n: rand(*shape) for n, shape in shapes.items()})
        assert np.array_equal(loop.run()["y"], model(loop.inputs["c2"], loop.inputs["r1"]))
    with pytest.raises(ShapeError):
        cnnengine.load(proto, inputs=list(shapes), input_shapes={**shapes, "r1": (5, 3, 8, 8)})
    with pytest.raises(InputError, match="no such input"):
        cnnengine.load(proto, inputs=list(shapes), input_shapes={"x": (5, 3, 8, 8)})


def test_cuts_that_make_no_sense() -> None:
    proto, _ = skip()
    for inputs, outputs, message in (
        ([], None, "names no value"),
        (["c1", "c1"], None, "named twice"),
        (["C1 "], None, "no such value"),
        (["s"], ["c2"], "no output depends on it"),
        (["w1"], None, "crosses the cut"),
        ("c1", None, "list of names"),
        ([3], None, "list of names"),
    ):
        with pytest.raises(InputError, match=message):
            cnnengine.load(proto, inputs=inputs, outputs=outputs)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a node has this name, and makes 'c2'"):
        cnnengine.load(proto, inputs=["conv2"])
    with cnnengine.load(proto, outputs=["conv2"]) as model:  # at the end a node stands for what it gives
        assert [o.name for o in model.outputs] == ["c2"]


def test_a_cut_network_is_a_model_like_others() -> None:
    proto, _ = skip()
    with cnnengine.load(proto, inputs=["c1"], outputs=["s"]) as model:
        c1 = rand(2, 4, 8, 8)
        expected = model(c1)
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert [i.name for i in other.inputs] == ["c1"] and np.array_equal(other(c1), expected)
        trace = model.trace(c1)
        assert list(trace) == ["c1", "w2", "r1", "c2", "s"]
        assert [n.name for n in trace.nodes] == ["relu1", "conv2", "add"]
        near(trace["s"].value, expected, "s")
        with pytest.raises(InputError, match="begins behind it"):
            model.preparation("unit")
    with cnnengine.load(proto, inputs=["x"]) as model:
        assert model.preparation("unit").settings is not None  # pictures go where they went
