"""The view of a model's inside: what reports see of it is what runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine.errors import ClosedError, InputError
from cnnengine.model import inside
from cnnengine.runtime.runner import Workspace

X = np.random.default_rng(3).standard_normal((1, 2, 5, 5)).astype(np.float32)


def three_kinds() -> onnx.ModelProto:
    """A convolution; a Loop, which runs on the host amid kernels; and NonZero, behind which extents depend on data."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Relu", ["state"], ["next"]), helper.make_node("Identity", ["going"], ["on"])],
        "body",
        [value("i", TensorProto.INT64, []), value("going", TensorProto.BOOL, []), value("state", TensorProto.FLOAT, None)],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("Loop", ["rounds", "", "c"], ["again"], name="loop", body=body),
        helper.make_node("Exp", ["again"], ["e"], name="exp"),
        helper.make_node("NonZero", ["again"], ["at"], name="which"),
        helper.make_node("Cast", ["at"], ["places"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Sigmoid", ["places"], ["y"], name="last"),
    ]
    weights = np.random.default_rng(4).standard_normal((2, 2, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [1, 2, 5, 5])],
        [value("y", TensorProto.FLOAT, None), value("e", TensorProto.FLOAT, [1, 2, 3, 3])],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(np.array(1), "rounds")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def model() -> Iterator[cnnengine.Model]:
    with cnnengine.load(three_kinds(), threads=1) as loaded:
        yield loaded


def test_segments_are_those_of_a_run(model: cnnengine.Model) -> None:
    expected = dict(zip("ye", model.run(None, {"x": X}), strict=True))
    view = inside(model)
    values: dict[str, Any] = view.check_feeds({"x": X})
    workspace = Workspace()
    covered = []
    for segment in view.segments(values, workspace, 1):
        assert not any(name in values for name, _, _ in segment.outputs)  # given before it runs
        covered += list(range(segment.start, segment.end))
        last = segment
    assert covered == list(range(len(view.graph.nodes)))
    assert "y" not in values  # nothing depends on what the last one gives
    last.execute(values, workspace, 1)
    for name, array in expected.items():
        assert np.array_equal(values[name], array)
    again: dict[str, Any] = view.check_feeds({"x": X})
    view.run(again, 1)
    assert all(np.array_equal(again[name], array) for name, array in expected.items())


def test_what_runs_on_the_host_runs_inside_of_the_given_context(model: cnnengine.Model) -> None:
    view, workspace = inside(model), Workspace()
    seen: list[tuple[str, str]] = []

    @contextmanager
    def around(node: str) -> Iterator[None]:
        seen.append(("begin", node))
        yield
        seen.append(("end", node))

    values: dict[str, Any] = view.check_feeds({"x": X})
    segment = view.program.segment(0, values)
    segment.execute(values, workspace, 1, around=around)
    assert seen == [("begin", "loop"), ("end", "loop"), ("begin", "which"), ("end", "which")]
    assert segment.tail is not None and not segment.is_compiled and segment.plan.hosted
    rest = view.program.segment(segment.end, values)
    rest.execute(values, workspace, 1, around=around)
    assert len(seen) == 4 and rest.is_compiled


def test_it_tells_of_the_file_and_of_what_was_packed(model: cnnengine.Model) -> None:
    view = inside(model)
    assert view.weight_bytes == sum(a.nbytes for a in view.program.packed.values()) > 2 * 2 * 9 * 4
    assert view.source.message.graph.node[0].op_type == "Conv"
    assert (view.name, list(view.inputs)) == (model.name, ["x"])
    with pytest.raises(InputError, match="missing"):
        view.check_feeds({})


def test_of_a_closed_model_there_is_none(model: cnnengine.Model) -> None:
    view = inside(model)
    values: dict[str, Any] = view.check_feeds({"x": X})
    model.close()
    with pytest.raises(ClosedError):
        inside(model)
    view.run(values, 1)  # it keeps what it shows
    assert values["e"].shape == (1, 2, 3, 3)


def test_nobody_else_knows_the_privates_of_a_model() -> None:
    """Reports, benchmarks, the session and the command line look through `inside`."""
    root = Path(cnnengine.__file__).parent
    own = root / "model.py"
    (model,) = [n for n in ast.parse(own.read_text()).body if isinstance(n, ast.ClassDef) and n.name == "Model"]
    private = {n.attr for n in ast.walk(model) if isinstance(n, ast.Attribute) and n.attr.startswith("_")}
    private |= {n.name for n in model.body if isinstance(n, ast.FunctionDef)}
    private = {name for name in private if name.startswith("_") and not name.startswith("__")}
    assert {"_program", "_graph", "_source", "_opened"} <= private
    found = []
    for path in [*root.rglob("*.py"), *(root.parent / "benchmarks").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())) if path != own else ():
            if isinstance(node, ast.Attribute) and node.attr in private and ast.unparse(node.value) not in ("self", "cls"):
                found.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
    assert not found
