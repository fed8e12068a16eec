"""Extents that depend on data, and graphs inside of nodes: node by node at first, planned when they come again, the same bits."""

from __future__ import annotations

import concurrent.futures

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import InputError
from cnnengine.plan import program as lowering

F, INT, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
RNG = np.random.default_rng(5)


def value(name: str, kind: int = F, shape: object = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray], threads: int = 1) -> cnnengine.Model:
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    )
    return cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), threads=threads)


def detector(threads: int = 1) -> cnnengine.Model:
    """Scores above a threshold, the best three of them, their boxes, and which of those stay."""
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["p"]),
        helper.make_node("Greater", ["p", "least"], ["above"]),
        helper.make_node("NonZero", ["above"], ["at"], name="which"),
        helper.make_node("Transpose", ["at"], ["rows"]),
        helper.make_node("GatherND", ["p", "rows"], ["scores"]),
        helper.make_node("GatherND", ["boxes", "rows"], ["kept"]),
        helper.make_node("Shape", ["scores"], ["n"]),
        helper.make_node("Concat", ["three", "n"], ["both"], axis=0),
        helper.make_node("ReduceMin", ["both"], ["k"], keepdims=1),
        helper.make_node("TopK", ["scores", "k"], ["best", "order"]),
        helper.make_node("Gather", ["kept", "order"], ["ordered"]),
        helper.make_node("Mul", ["ordered", "two"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "zero"], ["b3"]),
        helper.make_node("Unsqueeze", ["best", "zeros"], ["s3"]),
        helper.make_node("NonMaxSuppression", ["b3", "s3", "most", "overlap"], ["chosen"], name="suppression"),
        helper.make_node("Gather", ["chosen", "second"], ["which_box"], axis=1),
        helper.make_node("Gather", ["scaled", "which_box"], ["y"]),
    ]
    constants = {
        "least": np.float32(0.5),
        "three": np.array([3]),
        "two": np.float32(2),
        "zero": np.array([0]),
        "zeros": np.array([0, 1]),
        "most": np.array([99]),
        "overlap": np.float32([0.4]),
        "second": np.array(2),
    }
    return model(
        nodes,
        [value("x", F, ["n"]), value("boxes", F, ["n", 4])],
        [value("y"), value("best"), value("scores")],
        constants,
        threads,
    )


def feeds(n: int, positive: int) -> dict[str, np.ndarray]:
    x = -np.abs(RNG.standard_normal(n)).astype(np.float32) - 0.01
    x[RNG.permutation(n)[:positive]] *= -1
    return {"x": x, "boxes": RNG.uniform(0, 9, (n, 4)).astype(np.float32)}


def expected(m: cnnengine.Model, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    return m._graph.evaluate(given)


def test_steps_and_plans_give_the_same_bits() -> None:
    m = detector()
    given = feeds(50, 20)
    first = m.run(None, given)
    stepped = {s.start for s in m._program.segments()}
    for _ in range(lowering.STEPPED + 2):
        for a, b in zip(m.run(None, given), first, strict=True):
            np.testing.assert_array_equal(a, b)
    assert stepped == {0}
    assert len({s.start for s in m._program.segments()}) > 2
    assert not any(s.by_numpy for s in m._program.segments())
    for a, b in zip(first, expected(m, given), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_counts_that_vary_from_run_to_run(threads: int) -> None:
    m = detector(threads)
    for round_ in range(60):
        given = feeds(50, round_ % 7 if round_ % 2 else round_ % 41)
        for a, b in zip(m.run(None, given), expected(m, given), strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-6)
    starts = [s.start for s in m._program.segments()]
    assert max(map(starts.count, starts)) <= lowering.PLANS


def test_plans_and_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "PLANS", 4)
    monkeypatch.setattr(lowering, "SEEN", 10)
    m = detector()
    for positive in range(30):
        given = feeds(40, positive)
        for _ in range(lowering.STEPPED + 2):
            m.run(None, given)
    starts = [s.start for s in m._program.segments()]
    assert max(map(starts.count, starts)) <= 4
    assert len(m._program._seen) <= 10


def test_a_fault_while_stepping_names_its_node() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"]),
        helper.make_node("Squeeze", ["at", "zero"], ["flat"]),
        helper.make_node("Gather", ["table", "flat"], ["y"], name="picked"),
    ]
    m = model(nodes, [value("x", F, ["n"])], [value("y")], {"zero": np.array([0]), "table": np.arange(3.0, dtype=np.float32)})
    for _ in range(lowering.STEPPED + 3):  # stepped, then planned
        with pytest.raises(InputError, match=r"picked.*outside"):
            m.run(None, {"x": np.ones(5, np.float32)})
        assert m(np.float32([1, 0, 1])).tolist() == [0, 2]


def looped() -> cnnengine.Model:
    """A convolution again and again, its weights captured from outside."""
    body = helper.make_graph(
        [
            helper.make_node("Conv", ["state", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["next"]),
            helper.make_node("ReduceMean", ["next"], ["mean"], keepdims=0),
            helper.make_node("Identity", ["going"], ["on"]),
        ],
        "body",
        [value("i", INT, []), value("going", B, []), value("state")],
        [value("on", B, []), value("next"), value("mean")],
    )
    nodes = [helper.make_node("Loop", ["rounds", "", "x"], ["y", "means"], name="again", body=body)]
    w = (RNG.standard_normal((4, 4, 3, 3)) / 6).astype(np.float32)
    return model(nodes, [value("x", F, [1, 4, 9, 9]), value("rounds", INT, [])], [value("y"), value("means")], {"w": w})


def test_the_body_of_a_loop_is_planned() -> None:
    m = looped()
    x = RNG.standard_normal((1, 4, 9, 9)).astype(np.float32)
    for rounds in (3, 5, 0):
        given = {"x": x, "rounds": np.array(rounds)}
        for a, b in zip(m.run(None, given), expected(m, given), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    kernels = {r.kernel for s in m._program.segments() for r in s.plan.reports}
    assert any(k.startswith("conv") for k in kernels)
    assert not any(s.by_numpy for s in m._program.segments())
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        given = {"x": x, "rounds": np.array(6)}
        one = m.run(None, given)
        for other in pool.map(lambda _: m.run(None, given), range(16)):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_model_with_bodies_can_be_closed() -> None:
    m = looped()
    m.run(None, {"x": np.ones((1, 4, 9, 9), np.float32), "rounds": np.array(2)})
    m.close()
    with pytest.raises(cnnengine.CNNEngineError):
        m.run(None, {"x": np.ones((1, 4, 9, 9), np.float32), "rounds": np.array(2)})
