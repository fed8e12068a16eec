"""Python without copies: inputs and outputs where they lie, loops that allocate nothing, many threads on one model."""

from __future__ import annotations

import array
import gc
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine.errors import InputError, ShapeError
from cnnengine.runtime.runner import allocation_count

from .conftest import ROOT

SIZE = 1 << 20  # floats: 4 MB


@pytest.fixture(scope="module")
def relu() -> cnnengine.Model:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [SIZE]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    return cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), threads=1)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)


class Interface:
    """Only `__array_interface__`."""

    def __init__(self, base: np.ndarray) -> None:
        self.base = base
        self.__array_interface__ = base.__array_interface__


class DLPack:
    """Only DLPack."""

    def __init__(self, base: np.ndarray) -> None:
        self.base = base

    def __dlpack__(self, **options: Any) -> Any:
        return self.base.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.base.__dlpack_device__()


def peak(call: Callable[[], object]) -> int:
    """The most bytes that Python and NumPy held in addition during the call."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "ndarray": lambda a: a,
    "memoryview": memoryview,
    "array.array": lambda a: array.array("f", a),
    "__array_interface__": Interface,
    "DLPack": DLPack,
}


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_read_where_they_lie(relu: cnnengine.Model, x: np.ndarray, kind: str) -> None:
    given, out = KINDS[kind](x), np.empty(SIZE, np.float32)
    relu.run(None, {"x": given}, out=[out])
    out[...] = np.nan
    assert peak(lambda: relu.run(None, {"x": given}, out=[out])) < SIZE, "4 * SIZE would be a copy"
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    # and what would be one shows, or the bound means nothing
    assert peak(lambda: relu.run(None, {"x": x[::-1]}, out=[out])) >= 4 * SIZE


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "DLPack"])
def test_outputs_are_written_where_they_lie(relu: cnnengine.Model, x: np.ndarray, kind: str) -> None:
    target = KINDS[kind](np.full(SIZE, np.nan, np.float32))
    relu.run(None, {"x": x}, out=[target])
    made: list[Any] = []
    assert peak(lambda: made.extend(relu.run(None, {"x": x}, out=[target]))) < SIZE
    assert made[0] is target
    np.testing.assert_array_equal(np.asarray(target), np.maximum(x, 0))
    assert peak(lambda: relu.run(None, {"x": x})) >= 4 * SIZE


def test_outputs_that_cannot_be_written_at_once(relu: cnnengine.Model, x: np.ndarray) -> None:
    """Strided, or over an input: right all the same. Of the wrong kind: refused, and nothing written."""
    expected = np.maximum(x, 0)
    wide = np.full(2 * SIZE, np.nan, np.float32)
    relu.run(None, {"x": x}, out=[wide[::-2]])
    np.testing.assert_array_equal(wide[::-2], expected)
    assert np.isnan(wide[::2]).all()
    memory = np.zeros(SIZE + 5, np.float32)
    memory[:SIZE] = x
    relu.run(None, {"x": memory[:SIZE]}, out=[memory[5:]])
    np.testing.assert_array_equal(memory[5:], expected)
    fixed = np.full(SIZE, np.nan, np.float32)
    fixed.flags.writeable = False
    for wrong, error in (
        (np.full(SIZE - 1, np.nan, np.float32), ShapeError),
        (np.full(SIZE, np.nan, np.float64), InputError),
        (fixed, InputError),
        ([0.0] * 3, InputError),
    ):
        with pytest.raises(error):
            relu.run(None, {"x": x}, out=[wrong])
        assert not isinstance(wrong, np.ndarray) or np.isnan(wrong).all()


def test_torch_tensors(relu: cnnengine.Model, x: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    given, out = torch.from_numpy(x), torch.empty(SIZE)
    relu.run(None, {"x": given}, out=[out])
    made: list[Any] = []
    assert peak(lambda: made.extend(relu.run(None, {"x": given}, out=[out]))) < SIZE
    assert made[0] is out
    assert torch.equal(out, torch.relu(given))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_bound_loop_allocates_nothing(threads: int) -> None:
    with cnnengine.load(ROOT / "models" / "digits_lenet.onnx", threads=threads) as model:
        image, scores = np.zeros((1, 1, 32, 32), np.float32), np.empty((1, 10), np.float32)
        loop = model.bind({"image": image}, {"logits": scores})
        frames = np.random.default_rng(0).standard_normal((20, *image.shape)).astype(np.float32)
        expected = [model(frame) for frame in frames]
        for frame in frames:  # warm up: helpers, caches
            image[...] = frame
            loop.run()
        blocks = allocation_count()

        def many() -> None:
            for _ in range(200):
                loop.run()

        assert peak(many) < 600  # the frames and numbers of the loop itself
        counted = []
        for _ in range(5):
            before = sys.getallocatedblocks()
            many()
            counted.append(sys.getallocatedblocks() - before)
        assert min(counted) <= 1, "a run that kept a block would keep two hundred"
        assert allocation_count() == blocks
        for frame, want in zip(frames, expected, strict=True):
            image[...] = frame
            assert loop.run()["logits"] is scores
            np.testing.assert_array_equal(scores, want)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_eight_threads_on_one_model_with_shapes_of_their_own(threads: int) -> None:
    """Bit for bit what one thread alone gives, at any number of threads of a run."""
    path = ROOT / "models" / "digits_spp.onnx"
    images = [
        np.random.default_rng(i).standard_normal((1 + i % 3, 1, 24 + 4 * i, 24 + 3 * i)).astype(np.float32) for i in range(8)
    ]
    with cnnengine.load(path, threads=1) as serial:
        expected = [serial(image) for image in images]
    wrong: list[int] = []
    with cnnengine.load(path, threads=threads) as model:
        start = threading.Barrier(8)

        def work(number: int) -> None:
            start.wait()
            for turn in range(24):
                other = (number + turn // 8) % 8
                if not np.array_equal(model(images[other]), expected[other]):
                    wrong.append(other)

        workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not wrong


def test_closing_under_other_threads() -> None:
    """Runs that are under way end right; later ones raise ClosedError, nothing else."""
    path = ROOT / "models" / "digits_lenet.onnx"
    image = np.random.default_rng(0).standard_normal((1, 1, 32, 32)).astype(np.float32)
    with cnnengine.load(path, threads=1) as model:
        expected = model(image)
    strange: list[object] = []
    for _ in range(20):
        model = cnnengine.load(path, threads=1)
        start = threading.Barrier(5)

        def work(model: cnnengine.Model = model, start: threading.Barrier = start) -> None:
            batches = [np.repeat(image, n, axis=0) for n in (1, 2, 3)]
            start.wait()
            try:
                while True:
                    for batch in batches:
                        if not np.array_equal(model(batch), np.repeat(expected, len(batch), axis=0)):
                            strange.append("wrong")
                    model.host_nodes()
            except cnnengine.ClosedError:
                pass
            except BaseException as error:
                strange.append(error)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        start.wait()
        for closer in [threading.Thread(target=model.close) for _ in range(2)]:
            closer.start()
            workers.append(closer)
        for worker in workers:
            worker.join()
        with pytest.raises(cnnengine.ClosedError):
            model(image)
    assert not strange, strange[0]
