"""Threads that use the engine at once, with and without a GIL: right results to the last bit, and nothing used by two.

Where there is a GIL, threads take turns every few microseconds here. What is about things that are made when they are first asked
for has a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnengine
import cnnengine.functional as F
from cnnengine.errors import ClosedError, InputError
from cnnengine.plan.program import PLANS
from cnnengine.runtime.runner import Workspaces

MODELS = Path(__file__).resolve().parents[2] / "models"
SPP = MODELS / "digits_spp.onnx"
CALLERS = 8


@pytest.fixture(autouse=True)
def short_turns() -> Generator[None]:
    """With a GIL, another thread's turn comes soon."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(work: Callable[[int], Any], callers: int = CALLERS) -> list[Any]:
    """What `work` gives for each number, all begun at once; raises what one of them raised."""
    barrier = threading.Barrier(callers)

    def begin(number: int) -> Any:
        barrier.wait(60)
        return work(number)

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(begin, range(callers)))


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((height, width, seed)).standard_normal((1, 1, height, width)).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_model(threads: int) -> None:
    """Eight callers, each with images of its own."""
    model = cnnengine.load(SPP, threads=threads)
    images = [image(64, 64, seed) for seed in range(CALLERS)]
    expected = [model(x) for x in images]

    def work(number: int) -> int:
        return sum(not np.array_equal(model(images[number]), expected[number]) for _ in range(60))

    assert together(work) == [0] * CALLERS


def test_more_shapes_than_plans_are_kept() -> None:
    """Every caller makes plans and gives up others', some of which run."""
    model = cnnengine.load(SPP, threads=1)
    sizes = [(24 + n % 8, 24 + n // 8) for n in range(PLANS + 8)]
    images = [image(*size) for size in sizes]
    expected = [cnnengine.load(SPP, threads=1)(x) for x in images]

    def work(number: int) -> int:
        order = np.random.default_rng(number).permutation(len(images))
        return sum(not np.array_equal(model(images[i]), expected[i]) for i in order)

    assert together(work) == [0] * CALLERS
    assert len([s for s in cnnengine.model.inside(model).program.segments() if s.start == 0]) <= PLANS


def test_different_models() -> None:
    """Each caller loads, runs and closes models of its own, and runs one that all have."""
    files = [MODELS / name for name in ("digits_lenet.onnx", "digits_nin.onnx", "digits_spp.onnx")]
    shared = cnnengine.load(files[0], threads=2)
    inputs, expected = {}, {}
    for path in files:
        with cnnengine.load(path, threads=1) as model:
            inputs[path] = image(*(n if isinstance(n, int) else 32 for n in model.inputs[0].shape[2:]))
            expected[path] = model(inputs[path])

    def work(number: int) -> int:
        wrong = 0
        for turn in range(4):
            path = files[(number + turn) % len(files)]
            with cnnengine.load(path, threads=1 + number % 2) as model:
                wrong += not np.array_equal(model(inputs[path]), expected[path])
                wrong += not np.array_equal(shared(inputs[files[0]]), expected[files[0]])
                wrong += not np.array_equal(model(inputs[path]), expected[path])
        return wrong

    assert together(work) == [0] * CALLERS


def test_functions() -> None:
    """Launches that are kept for shapes, and those with stand-ins for small weights, which belong to a thread."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 8, 12, 12)).astype(np.float32)
    weights = [rng.standard_normal((8, 8, 3, 3)).astype(np.float32) for _ in range(CALLERS)]
    expected = [(F.conv2d(x, w, pads=1), F.max_pool2d(x, 2), F.softmax(x, axis=1)) for w in weights]

    def work(number: int) -> int:
        wrong = 0
        for _ in range(400):
            made = F.conv2d(x, weights[number], pads=1), F.max_pool2d(x, 2), F.softmax(x, axis=1)
            wrong += not all(map(np.array_equal, made, expected[number]))
        return wrong

    assert together(work) == [0] * CALLERS


def test_a_session() -> None:
    session = cnnengine.InferenceSession(SPP)
    name = session.get_inputs()[0].name
    images = [image(40, 40 + number) for number in range(CALLERS)]
    expected = [session.run(None, {name: x})[0] for x in images]

    def work(number: int) -> int:
        return sum(not np.array_equal(session.run(None, {name: images[number]})[0], expected[number]) for _ in range(30))

    assert together(work) == [0] * CALLERS


def test_a_workspace_is_one_callers() -> None:
    """What `take` gives is nobody else's until it is given back: two runs in one arena would give wrong numbers silently."""
    workspaces = Workspaces()
    held: set[int] = set()
    twice = []

    def work(number: int) -> int:
        for _ in range(2000):
            one = workspaces.take()
            if id(one) in held:
                twice.append(number)
            held.add(id(one))
            held.discard(id(one))
            workspaces.give(one)
        return len(workspaces)

    together(work)
    assert not twice
    assert 1 <= len(workspaces) <= CALLERS
    taken = [workspaces.take() for _ in range(len(workspaces))]
    assert len({id(one) for one in taken}) == len(taken)


def test_closed_by_another_thread() -> None:
    """Every run gives the right result or says that the model was closed."""
    x = image(32, 32)
    expected = cnnengine.load(SPP, threads=1)(x)
    for _ in range(10):
        model = cnnengine.load(SPP, threads=1)
        running = threading.Semaphore(0)

        def work(number: int, model: cnnengine.Model = model, running: threading.Semaphore = running) -> int:
            if number == 0:
                running.acquire()
                model.close()
                return 0
            for _ in range(1000):
                try:
                    result = model(x)
                except ClosedError:
                    return 0
                running.release()
                if not np.array_equal(result, expected):
                    return 1
            raise AssertionError("never closed")

        assert together(work, 4) == [0] * 4


def test_threads_that_are_set_meanwhile() -> None:
    model = cnnengine.load(SPP, threads=1)
    x = image(48, 48)
    expected = model(x)

    def work(number: int) -> int:
        wrong = 0
        for turn in range(60):
            if number == 0:
                model.threads = 1 + turn % 3
            wrong += not np.array_equal(model(x), expected)
        return wrong

    assert together(work, 4) == [0] * 4


def test_a_binding_serves_one() -> None:
    """Who comes while it runs is refused; whoever is not finds the result of its own run."""
    model = cnnengine.load(SPP, threads=1)
    x = image(64, 64)
    expected = model(x)
    loop = model.bind({model.inputs[0].name: x})
    ran: list[bool] = []

    def work(number: int) -> int:
        wrong = 0
        for _ in range(100):
            try:
                loop.run()
            except InputError:
                continue
            ran.append(True)
        return wrong

    assert together(work, 4) == [0] * 4
    assert ran
    assert np.array_equal(loop.outputs[model.outputs[0].name], expected)


def test_plans_behind_extents_that_depend_on_data() -> None:
    """A Loop, and shapes behind a NonZero: run node by node, then planned, and found again by what came before."""
    helper = pytest.importorskip("onnx.helper")
    tensor = pytest.importorskip("onnx").TensorProto
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], name="places"),
        helper.make_node("Cast", ["places"], ["floats"], to=tensor.FLOAT),
        helper.make_node("Mul", ["floats", "two"], ["doubled"]),
        helper.make_node("ReduceSum", ["doubled"], ["sum"], keepdims=0),
        helper.make_node("Relu", ["sum"], ["start"]),
    ]
    body = helper.make_graph(
        [
            helper.make_node("Add", ["carried", "one"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", tensor.INT64, []),
            helper.make_tensor_value_info("go", tensor.BOOL, []),
            helper.make_tensor_value_info("carried", tensor.FLOAT, []),
        ],
        [helper.make_tensor_value_info("on", tensor.BOOL, []), helper.make_tensor_value_info("next", tensor.FLOAT, [])],
        [helper.make_tensor("one", tensor.FLOAT, [], [1.0])],
    )
    nodes.append(helper.make_node("Loop", ["turns", "", "start"], ["y"], body=body))
    graph = helper.make_graph(
        nodes,
        "counts",
        [helper.make_tensor_value_info("x", tensor.FLOAT, [None])],
        [helper.make_tensor_value_info("y", tensor.FLOAT, []), helper.make_tensor_value_info("doubled", tensor.FLOAT, None)],
        [helper.make_tensor("two", tensor.FLOAT, [1], [2.0]), helper.make_tensor("turns", tensor.INT64, [], [5])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = cnnengine.load(proto.SerializeToString(), threads=1)

    def work(number: int) -> int:
        wrong = 0
        for turn in range(120):
            count = 1 + (number + turn) % 9
            y, doubled = model(np.arange(-1, count, dtype=np.float32))  # one element is zero
            places = 2.0 * np.array([[0, *range(2, count + 1)]], np.float32)
            wrong += not (np.array_equal(doubled, places) and y == places.sum() + 5)
        return wrong

    assert together(work) == [0] * CALLERS


FIRST = """
import sys, threading
import numpy as np
sys.setswitchinterval(1e-5)
rng = np.random.default_rng(0)
x = rng.standard_normal((1, 1, 64, 64)).astype(np.float32)
small = rng.standard_normal((1, 8, 9, 9)).astype(np.float32)
w = rng.standard_normal((8, 8, 3, 3)).astype(np.float32)
barrier, results, errors = threading.Barrier(8), [None] * 8, []

def work(number):
    barrier.wait()
    try:
        import cnnengine
        model = cnnengine.load(PATH, threads=2)
        session = cnnengine.InferenceSession(PATH)
        layer = cnnengine.functional.conv2d(small, w, pads=1)
        results[number] = model(x), layer, session.run(None, {model.inputs[0].name: x})[0]
    except BaseException as error:
        errors.append(repr(error))

threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not errors, errors
assert all(np.array_equal(a, b) for one in results for a, b in zip(one, results[0]))
assert np.array_equal(results[0][0], results[0][2])
print("done")
"""


def test_the_first_use_is_by_eight_threads() -> None:
    """Import, instruction sets, kernels, schemas, the lazy parts: whatever is made once is asked for by all at once."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", f"PATH = {str(SPP)!r}\n{FIRST}"], capture_output=True, text=True, timeout=300, env=env
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout == "done\n"
