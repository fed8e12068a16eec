"""`predict` with progress, sample by sample (`iterate`) and beside an event loop (`predict_async`): the same numbers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine.errors import ClosedError, InputError, ShapeError

MODEL = Path(__file__).resolve().parents[2] / "models" / "digits_lenet.onnx"
X = np.random.default_rng(1).standard_normal((7, 1, 32, 32)).astype(np.float32)


@pytest.fixture
def model() -> Iterator[cnnengine.Model]:
    with cnnengine.load(MODEL, threads=1) as loaded:
        yield loaded


def two_outputs(batch: int | str) -> onnx.ModelProto:
    """(batch, L) -> its double and its square; L is dynamic."""
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Add", ["x", "x"], ["double"]), helper.make_node("Mul", ["x", "x"], ["square"])]
    outputs = [value(name, TensorProto.FLOAT, [batch, "L"]) for name in ("double", "square")]
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [batch, "L"])], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


class TestProgress:
    @pytest.mark.parametrize(("size", "told"), [(3, [3, 6, 7]), (7, [7]), (10, [7]), (None, [7]), (1, [1, 2, 3, 4, 5, 6, 7])])
    def test_it_is_told_after_each_run(self, model: cnnengine.Model, size: int | None, told: list[int]) -> None:
        seen: list[Any] = []
        y = model.predict(X, size, progress=lambda done, of: seen.append((done, of)))
        assert seen == [(done, 7) for done in told]
        assert np.array_equal(y, model.predict(X, size))

    def test_no_samples(self, model: cnnengine.Model) -> None:
        seen: list[Any] = []
        assert model.predict(X[:0], progress=lambda *a: seen.append(a)).shape == (0, 10)
        assert seen == [(0, 0)]

    def test_what_is_no_function(self, model: cnnengine.Model) -> None:
        for use in (model.predict, model.iterate):
            with pytest.raises(InputError, match="must be a function"):
                use(X, 1, progress=True)


class TestIterate:
    @pytest.mark.parametrize("size", [1, 2, 7, 9])
    def test_the_numbers_of_predict(self, model: cnnengine.Model, size: int) -> None:
        seen: list[Any] = []
        rows = list(model.iterate(X, size, progress=lambda *a: seen.append(a)))
        assert np.array_equal(np.stack(rows), model.predict(X, size))
        assert seen[-1] == (7, 7)

    def test_samples_are_taken_as_they_are_needed(self, model: cnnengine.Model) -> None:
        taken: list[int] = []

        def samples() -> Iterator[np.ndarray]:
            for at in range(7):
                taken.append(at)
                yield X[at]

        seen: list[Any] = []
        rows = model.iterate(samples(), 2, progress=lambda *a: seen.append(a))
        assert taken == []
        first = next(rows)
        assert taken == [0, 1]
        assert np.array_equal(first, model.predict(X[:2])[0])
        assert len(list(rows)) == 6
        assert seen[-1] == (7, None)

    def test_shapes_that_change_begin_another_batch(self) -> None:
        samples = [np.full(length, at, np.float32) for at, length in enumerate((3, 3, 4, 3, 3, 3))]
        with cnnengine.load(two_outputs("N")) as loaded:
            seen: list[Any] = []
            rows = list(loaded.iterate(samples, 2, progress=lambda *a: seen.append(a)))
        assert [done for done, _ in seen] == [2, 3, 5, 6]
        for sample, (double, square) in zip(samples, rows, strict=True):
            assert np.array_equal(double, sample * 2)
            assert np.array_equal(square, sample**2)

    def test_a_batch_that_the_file_fixes(self) -> None:
        with cnnengine.load(two_outputs(4)) as loaded:
            rows = list(loaded.iterate(np.arange(12, dtype=np.float32).reshape(6, 2), 4))
            assert np.array_equal([square for _, square in rows], np.arange(12, dtype=np.float32).reshape(6, 2) ** 2)
            assert len(list(loaded.iterate(np.zeros((5, 2), np.float32)))) == 5
            with pytest.raises(InputError, match="the file fixes the batch"):
                loaded.iterate([], 3)

    def test_a_bad_sample_comes_after_the_good_ones(self, model: cnnengine.Model) -> None:
        rows = model.iterate([X[0], X[1], X[2][:, :5]], 1)
        assert len([next(rows), next(rows)]) == 2
        with pytest.raises(ShapeError):
            next(rows)

    @pytest.mark.parametrize("samples", [3, "text", b"bytes", None, {"image": X}])
    def test_what_is_no_set_of_samples(self, model: cnnengine.Model, samples: Any) -> None:
        with pytest.raises(InputError, match="samples"):
            model.iterate(samples)

    def test_wrong_arguments_are_refused_at_the_call(self, model: cnnengine.Model) -> None:
        with pytest.raises(InputError):
            model.iterate(X, 0)
        model.close()
        with pytest.raises(ClosedError):
            model.iterate(X)


class TestAsync:
    @pytest.mark.parametrize("size", [None, 2])
    def test_the_numbers_of_predict(self, model: cnnengine.Model, size: int | None) -> None:
        seen: list[Any] = []

        def told(done: int, of: int | None) -> None:
            seen.append((done, of, threading.current_thread() is threading.main_thread()))

        y = asyncio.run(model.predict_async(X, size, progress=told))
        assert np.array_equal(y, model.predict(X, size))
        assert seen == [(done, 7, True) for done in ([7] if size is None else [2, 4, 6, 7])]

    def test_the_loop_goes_on_meanwhile(self, model: cnnengine.Model, monkeypatch: pytest.MonkeyPatch) -> None:
        going, waiting = threading.Event(), threading.Event()
        run = cnnengine.Model.run

        def held(self: cnnengine.Model, *arguments: Any, **options: Any) -> Any:
            waiting.set()
            assert going.wait(30)  # set by the loop, which a run in its own thread would hold up
            return run(self, *arguments, **options)

        monkeypatch.setattr(cnnengine.Model, "run", held)

        async def both() -> Any:
            task = asyncio.create_task(model.predict_async(X))
            while not waiting.is_set():
                await asyncio.sleep(0.001)
            going.set()
            return await task

        assert asyncio.run(both()).shape == (7, 10)

    def test_a_cancelled_task_begins_no_further_batch(self, model: cnnengine.Model, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[int] = []
        run = cnnengine.Model.run

        def counted(self: cnnengine.Model, *arguments: Any, **options: Any) -> Any:
            started.append(1)
            return run(self, *arguments, **options)

        monkeypatch.setattr(cnnengine.Model, "run", counted)

        async def cancelled() -> None:
            task = asyncio.create_task(model.predict_async(X, 1, progress=lambda done, of: task.cancel() if done == 2 else None))
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancelled())
        assert len(started) <= 3

    def test_errors_come_out(self, model: cnnengine.Model) -> None:
        with pytest.raises(InputError):
            asyncio.run(model.predict_async(X.astype(np.float64)))
        with pytest.raises(ShapeError):
            asyncio.run(model.predict_async(np.float32(1)))
