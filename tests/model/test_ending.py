"""Runs that are ended before their last step: by a time, by another thread, by signals; and models that signal handlers use."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import InputError, Stop, StoppedError, TimedOutError

LAYERS = 400
SIZE = 96


def deep(layers: int = LAYERS) -> bytes:
    """Convolutions one behind another: a run of many steps, each of a few milliseconds at most."""
    weights = np.random.default_rng(0).standard_normal((32, 32, 3, 3)).astype(np.float32) * np.float32(0.05)
    names = ["x", *(f"v{i}" for i in range(1, layers)), "y"]
    nodes = [helper.make_node("Conv", [a, "w"], [b], pads=[1] * 4) for a, b in itertools.pairwise(names)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32, SIZE, SIZE])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "deep", [x], [y], [numpy_helper.from_array(weights, "w")])
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    return data


def looping(rounds: int) -> bytes:
    """A Loop of so many rounds that computes next to nothing."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["co"]), helper.make_node("Add", ["v", "v"], ["vo"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, (1,)),
        ],
        [helper.make_tensor_value_info("co", TensorProto.BOOL, ()), helper.make_tensor_value_info("vo", TensorProto.FLOAT, (1,))],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["m", "", "x"], ["y"], body=body)],
        "loop",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1,))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(rounds), "m")],
    )
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    return data


@pytest.fixture(scope="module")
def model() -> Iterator[cnnengine.Model]:
    with cnnengine.load(deep(), threads=2) as model:
        yield model


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((4, 32, SIZE, SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def want(model: cnnengine.Model, x: np.ndarray) -> np.ndarray:
    found: np.ndarray = model(x)
    return found


def test_a_run_ends_when_its_time_is_over(model: cnnengine.Model, x: np.ndarray, want: np.ndarray) -> None:
    with pytest.raises(TimedOutError, match=r"timeout.*at most 0\.001 s") as caught:
        model.run(None, {"x": x}, timeout=0.001)
    assert caught.value.model == model.name and isinstance(caught.value, (StoppedError, TimeoutError))
    assert np.array_equal(model(x), want)


def test_a_run_within_its_time_gives_the_same(model: cnnengine.Model, x: np.ndarray, want: np.ndarray) -> None:
    assert np.array_equal(model.run(None, {"x": x}, timeout=1e9)[0], want)
    assert np.array_equal(model.run(None, {"x": x}, stop=Stop())[0], want)


def test_a_stop_that_is_set_ends_runs_at_once_until_it_is_cleared(
    model: cnnengine.Model, x: np.ndarray, want: np.ndarray
) -> None:
    stop = Stop()
    stop.set()
    assert stop.is_set()
    with pytest.raises(StoppedError, match="ended"):
        model.run(None, {"x": x}, stop=stop)
    stop.clear()
    assert not stop.is_set()
    assert np.array_equal(model.run(None, {"x": x}, stop=stop)[0], want)


@pytest.mark.parametrize("threads", [1, 2])
def test_another_thread_ends_a_run_between_its_steps(
    model: cnnengine.Model, x: np.ndarray, want: np.ndarray, threads: int
) -> None:
    """The run ends long before all of it can be done: of a hundred runs told of one Stop at most the first two are whole."""
    stop, whole, begun = Stop(), [], threading.Event()

    def end() -> None:
        begun.wait()
        stop.set()

    other = threading.Thread(target=end)
    other.start()
    with pytest.raises(StoppedError):
        for _ in range(100):
            begun.set()
            whole.append(model.run(None, {"x": x}, threads=threads, stop=stop)[0])
    other.join()
    assert len(whole) <= 2 and all(np.array_equal(y, want) for y in whole)
    assert np.array_equal(model(x), want)


def test_stops_reach_the_graphs_of_loops() -> None:
    with cnnengine.load(looping(10**6), threads=1) as model:
        stop = Stop()
        timer = threading.Timer(0.2, stop.set)
        timer.start()
        with pytest.raises(StoppedError):
            model.run(None, {"x": np.ones(1, np.float32)}, stop=stop)
        with pytest.raises(TimedOutError):
            model.run(None, {"x": np.ones(1, np.float32)}, timeout=0.2)


def test_what_runs_in_a_run_ends_with_it_and_what_comes_after_does_not(
    model: cnnengine.Model, x: np.ndarray, want: np.ndarray
) -> None:
    with pytest.raises(TimedOutError):
        model.run(None, {"x": x}, timeout=1e-6)
    assert np.array_equal(model.run(None, {"x": x})[0], want)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *(({"timeout": value}, "timeout") for value in (0, -1, float("nan"), "1", True)),
        *(({"stop": value}, "stop") for value in (True, threading.Event())),
    ],
)
def test_ends_that_are_none(model: cnnengine.Model, x: np.ndarray, given: dict[str, object], name: str) -> None:
    with pytest.raises(InputError, match=name):
        model.run(None, {"x": x}, **given)  # type: ignore[arg-type]


def test_a_stop_is_of_this_process() -> None:
    import pickle

    with pytest.raises(TypeError, match="process"):
        pickle.dumps(Stop())


def test_an_interrupt_ends_a_run_between_its_steps(model: cnnengine.Model, x: np.ndarray, want: np.ndarray) -> None:
    """The handler raises as Python's own does: at a step, not when all of them are done."""
    ran, raised = [0], [0.0]

    def handler(*_: object) -> None:
        raised[0] = time.perf_counter()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            for _ in range(1000):
                model.run(None, {"x": x}, threads=1)
                ran[0] += 1
                assert not raised[0], "the handler waited for the end of a run"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert np.array_equal(model(x), want)


def test_an_interrupt_is_seen_in_the_middle_of_a_run(model: cnnengine.Model, x: np.ndarray, want: np.ndarray) -> None:
    """A handler that returns runs while steps are left, and the run goes on as if nothing had been."""
    inside, seen = [False], [0]

    def handler(*_: object) -> None:
        seen[0] += inside[0]

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        for _ in range(200):
            inside[0] = True
            y = model.run(None, {"x": x}, threads=1)[0]
            inside[0] = False
            assert np.array_equal(y, want)
            if seen[0] > 3:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen[0] > 3


def test_a_handler_runs_the_model_that_it_interrupts(model: cnnengine.Model, x: np.ndarray) -> None:
    """In the middle of planning, and of a run, by the same thread: neither waits for itself, and all results are right."""
    script = f"""
import faulthandler, signal, sys
import numpy as np
import cnnengine
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_ending import deep

faulthandler.dump_traceback_later(200, exit=True)
model = cnnengine.load(deep(40), threads=2)
rng = np.random.default_rng(0)
images = rng.standard_normal((1, 32, 96, 96)).astype(np.float32)
want = model(images)
hits, wrong, inside = [0], [0], [False]

def handler(*_):
    if inside[0]:
        return
    inside[0] = True
    try:
        hits[0] += 1
        sized = np.ascontiguousarray(np.broadcast_to(images, (1 + hits[0] % 3, 32, 96, 96)))
        wrong[0] += not np.array_equal(model(sized)[-1], want[0])
    finally:
        inside[0] = False

signal.signal(signal.SIGALRM, handler)
model.trim()
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.05)
for at in range(1000):
    model.trim()
    sized = np.ascontiguousarray(np.broadcast_to(images, (1 + at % 5, 32, 96, 96)))
    wrong[0] += not np.array_equal(model(sized)[-1], want[0])
    if hits[0] >= 12:
        break
signal.setitimer(signal.ITIMER_REAL, 0)
print(hits[0], wrong[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    hits, wrong = map(int, done.stdout.split())
    assert hits >= 12 and wrong == 0


def test_planning_is_reentrant_on_its_thread() -> None:
    """A signal that comes while the thread plans: the plan that its handler makes is another one, and both are right."""
    from cnnengine.model import inside

    model = cnnengine.load(deep(3), threads=1)
    program, results = inside(model).program, []
    one, two = (np.ones((n, 32, SIZE, SIZE), np.float32) for n in (2, 3))
    plan = program._planner.plan

    def interrupted(start: int, specs: object) -> object:
        if not results:
            results.append(model(two))
        return plan(start, specs)  # type: ignore[arg-type]

    program._planner.plan = interrupted  # type: ignore[method-assign]
    y = model(one)
    assert len(results) == 1
    other = cnnengine.load(deep(3), threads=1)
    assert np.array_equal(y, other(one)) and np.array_equal(results[0], other(two))


def test_run_options_end_a_run_that_is_under_way(x: np.ndarray) -> None:
    session = cnnengine.InferenceSession(deep())
    options = cnnengine.RunOptions()
    timer = threading.Timer(0.05, lambda: setattr(options, "terminate", True))
    timer.start()
    with pytest.raises(StoppedError, match="terminate"):
        for _ in range(1000):
            session.run(None, {"x": x}, options)
    with pytest.raises(StoppedError, match="terminate"):
        session.run(None, {"x": x}, options)
    options.terminate = False
    assert session.run(None, {"x": x[:1]}, options)[0].shape == (1, 32, SIZE, SIZE)
