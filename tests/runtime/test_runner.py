"""Plans' operands and the memory of runs: what is wired where, and what a wrong call is told."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine.errors import InputError
from cnnengine.model import inside
from cnnengine.plan import Segment
from cnnengine.runtime.runner import Workspace, Workspaces, allocation_count, fill_arenas

X = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)


def planned(threads: int = 1) -> tuple[cnnengine.Model, Segment]:
    """p = relu(a) + b, q = b * a: inputs that several steps read, two outputs."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Softmax", ["r"], ["s"]),
        helper.make_node("Add", ["s", "b"], ["p"]),
        helper.make_node("Mul", ["b", "a"], ["q"]),
    ]
    inputs, outputs = ([info(n, TensorProto.FLOAT, [3, 4]) for n in names] for names in ("ab", "pq"))
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = cnnengine.load(proto, threads=threads)
    segment = inside(model).whole_plan({"a": X.shape, "b": X.shape})
    assert segment is not None
    return model, segment


def results(segment: Segment, outputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip((name for name, _, _ in segment.outputs), outputs, strict=True))


def expected(a: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    e = np.exp(np.maximum(a, 0) - np.maximum(a, 0).max(1, keepdims=True))
    return {"p": e / e.sum(1, keepdims=True) + b, "q": a * b}


def run(segment: Segment, workspace: Workspace, a: np.ndarray, b: np.ndarray) -> None:
    """One run that reads and writes other arrays than the one before."""
    inputs = [{"a": a, "b": b}[name] for name in segment.inputs]
    outputs = [np.full(shape, np.nan, dtype) for _, shape, dtype in segment.outputs]
    native = segment.plan.native
    workspace.begin(native, inputs, outputs, 1)
    workspace.run(0, native.n_steps, 1)
    found, right = results(segment, outputs), expected(a, b)
    for name in "pq":
        np.testing.assert_allclose(found[name], right[name], rtol=1e-5, atol=1e-6)


def test_each_run_reads_and_writes_what_it_was_begun_with() -> None:
    model, segment = planned()
    with model:
        workspace = Workspace()
        for seed in range(4):
            rng = np.random.default_rng(seed)
            a, b = (rng.standard_normal((3, 4)).astype(np.float32) for _ in range(2))
            kept = a.copy(), b.copy()
            run(segment, workspace, a, b)
            assert np.array_equal(a, kept[0]) and np.array_equal(b, kept[1])


def test_a_workspace_serves_one_plan_after_another() -> None:
    """Operand pointers of one plan do not survive in the other, and memory grows but once."""
    model, segment = planned()
    rng = np.random.default_rng(0)
    with model, cnnengine.load(model_of_indices()) as other:
        second = inside(other).whole_plan({"table": (5, 3), "at": (7,)})
        assert second is not None
        workspace, before = Workspace(), 0
        for turn in range(4):
            run(segment, workspace, X, -X)
            table, at = rng.standard_normal((5, 3)).astype(np.float32), rng.integers(0, 5, 7)
            out = [np.empty(shape, dtype) for _, shape, dtype in second.outputs]
            inputs = [{"table": table, "at": at}[name] for name in second.inputs]
            workspace.begin(second.plan.native, inputs, out, 1)
            workspace.run(0, second.plan.native.n_steps, 1)
            assert np.array_equal(out[0], table[at] + 1)
            if turn:
                assert allocation_count() == before
            before = allocation_count()


def model_of_indices() -> bytes:
    info = helper.make_tensor_value_info
    nodes = [helper.make_node("Gather", ["table", "at"], ["rows"], name="pick"), helper.make_node("Add", ["rows", "one"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [info("table", TensorProto.FLOAT, [5, 3]), info("at", TensorProto.INT64, [7])],
        [info("y", TensorProto.FLOAT, [7, 3])],
        [helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])],
    )
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return data


def test_what_a_step_reports_names_node_operator_and_input() -> None:
    with cnnengine.load(model_of_indices()) as model:
        at = np.array([0, 1, 2, 99, 3, 4, 0])
        loop = model.bind()
        loop.inputs["table"][...] = 1
        for bad in (99, -6):
            at[3] = loop.inputs["at"][3] = bad
            table = np.ones((5, 3), np.float32)
            for call in (lambda: model.run(None, {"table": table, "at": at}), loop.run):  # noqa: B023
                with pytest.raises(InputError, match="outside the axis") as caught:
                    call()
                assert (caught.value.node, caught.value.operator, caught.value.tensor) == ("pick", "Gather", "indices")
                assert caught.value.received == bad
        loop.inputs["at"][3] = 2
        loop.run()


def test_wrong_calls_are_refused() -> None:
    model, segment = planned()
    native = segment.plan.native
    arrays = [X.copy(), X.copy()]
    with model:
        workspace = Workspace()
        with pytest.raises(ValueError, match="outside the plan"):
            workspace.run(0, 0, 1)  # attached to none
        for inputs, outputs in ((arrays[:1], arrays), (arrays, arrays[:1]), ([], [])):
            with pytest.raises(ValueError, match="for 2, 2"):
                workspace.begin(native, inputs, outputs, 1)
        workspace.begin(native, arrays, [X.copy(), X.copy()], 1)
        n = native.n_steps
        for first, count in ((-1, 1), (0, -1), (0, n + 1), (n, 1), (1, n)):
            for call in (
                lambda: workspace.run(first, count, 1),  # noqa: B023
                lambda: workspace.time(first, count, 1, np.empty(n + 2)),  # noqa: B023
            ):
                with pytest.raises(ValueError, match="outside the plan"):
                    call()
        with pytest.raises(ValueError, match="outside the plan"):
            workspace.time(0, n, 1, np.empty(n - 1))
        with pytest.raises(ValueError, match="no thread"):
            workspace.run(0, n, 0)


def test_arenas_are_filled_before_each_run() -> None:
    """What a step reads before it was written is seen in the tests that ask for this."""
    model, segment = planned()
    native = segment.plan.native
    assert native.arena_bytes
    workspace, arrays = Workspace(), [X, X.copy()]
    with model:
        fill_arenas(255)
        try:
            for _ in range(2):
                workspace.begin(native, arrays, [X.copy(), X.copy()], 1)
                assert (workspace.array(0, (native.arena_bytes,), np.dtype(np.uint8)) == 255).all()
                workspace.run(0, native.n_steps, 1)
                assert not (workspace.array(0, (native.arena_bytes,), np.dtype(np.uint8)) == 255).all()
        finally:
            fill_arenas(None)


def test_idle_workspaces_are_used_again_and_none_after_the_end() -> None:
    pool = Workspaces()
    first, second = pool.take(), pool.take()
    assert first is not second and len(pool) == 0
    pool.give(first)
    pool.give(second)
    assert {id(pool.take()), id(pool.take())} == {id(first), id(second)}
    pool.give(first)
    pool.close()
    assert len(pool) == 0
    pool.give(second)  # of a call that was under way
    assert len(pool) == 0 and isinstance(pool.take(), Workspace)


def test_closing_gives_up_workspaces() -> None:
    model, _ = planned()
    for _ in range(2):
        model.run(None, {"a": X, "b": X})
    pool = model._program.workspaces
    assert len(pool) == 1
    model.close()
    assert len(pool) == 0
