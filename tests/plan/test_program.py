"""Programs: what they hold on to, and the order of what runs in a plan."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import onnx
from onnx import TensorProto, helper

import cnnengine
from cnnengine.layout import KernelCall
from cnnengine.plan.emit import Emitter
from cnnengine.plan.plan import HostStep
from cnnengine.plan.planner import Draft


def with_a_body_and_a_tail() -> onnx.ModelProto:
    """A Loop whose body is planned, which runs on the host amid kernels, and extents that depend on data."""
    body = helper.make_graph(
        [
            helper.make_node("Conv", ["state", "w"], ["next"], pads=[1, 1, 1, 1]),
            helper.make_node("Identity", ["going"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [helper.make_tensor_value_info(n, t, s) for n, t, s in (("on", TensorProto.BOOL, []), ("next", TensorProto.FLOAT, None))],
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Loop", ["rounds", "", "c"], ["again"], body=body),
        helper.make_node("Det", ["again"], ["d"]),
        helper.make_node("NonZero", ["d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
        [
            onnx.numpy_helper.from_array(np.full((4, 4, 3, 3), 0.1, np.float32), "w"),
            onnx.numpy_helper.from_array(np.array(2), "rounds"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_the_last_reference_frees_weights_and_plans() -> None:
    """A program in a circle of references would keep its packed weights until the collector of cyclic garbage comes."""
    model = cnnengine.load(with_a_body_and_a_tail())
    x = np.random.default_rng(0).standard_normal((1, 4, 6, 6)).astype(np.float32)
    for _ in range(2):
        model.run(None, {"x": x})
    found = weakref.ref(model._program)
    made = model._program.segments()
    assert len(made) == 2 and any(s.tail is not None for s in made) and any(s.host_nodes for s in made)
    segments = [weakref.ref(s) for s in made]
    del made
    gc.disable()
    try:
        del model
        assert found() is None
        assert not any(s() for s in segments)
    finally:
        gc.enable()


def test_host_steps_run_between_the_calls_that_they_were_made_between() -> None:
    draft = Draft(Emitter(8, {}), {}, lambda *_: [], "m")
    names = iter("abcdef")

    def call() -> KernelCall:
        made = KernelCall("copy_nd", (), (), {}, next(names))
        draft.emitter.calls.append(made)
        return made

    def host() -> HostStep:
        made = HostStep(next(names), "Op", None, (), ())
        draft.add_host(made)
        return made

    order = [host(), call(), call(), host(), host(), call()]
    assert draft.items() == order
