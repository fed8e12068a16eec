"""NumPy's BLAS in nodes that run on the host: held to the threads of the run, and set back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine.runtime import blas
from cnnengine.runtime.blas import limited


class Counted:
    """A library of BLAS with one count, in the place of NumPy's."""

    def __init__(self, count: int = 8) -> None:
        self.count = count
        self.seen: list[int] = []

    def functions(self) -> Any:
        return (lambda: self.count), self.put

    def put(self, count: int) -> None:
        assert count >= 1
        self.count = count
        self.seen.append(count)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    library = Counted()
    monkeypatch.setattr(blas, "_functions", library.functions)
    return library


def test_the_least_of_all_holds_and_the_last_one_sets_it_back(counted: Counted) -> None:
    first, second, third = limited(4), limited(2), limited(16)
    for enter, want in ((first, 4), (second, 2), (third, 2)):
        enter.__enter__()
        assert counted.count == want
    for leave, want in ((second, 4), (first, 8), (third, 8)):
        leave.__exit__(None, None, None)
        assert counted.count == want
    with limited(3), limited(3):
        assert counted.count == 3
    assert counted.count == 8 and not blas._held


def test_an_error_sets_it_back(counted: Counted) -> None:
    with pytest.raises(KeyError), limited(1):
        raise KeyError
    assert counted.count == 8


def test_what_somebody_else_sets_meanwhile_stays(counted: Counted) -> None:
    with limited(2):
        counted.count = 5
    assert counted.count == 5


def test_many_threads(counted: Counted) -> None:
    wrong: list[int] = []

    def work(threads: int) -> None:
        for _ in range(300):
            with limited(threads):
                if not 1 <= counted.count <= threads:
                    wrong.append(counted.count)

    workers = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3, 4, 8, 9)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (wrong, counted.count, blas._held) == ([], 8, [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_has_no_limit_of_its_parents_threads() -> None:
    program = """
import os
from cnnengine.runtime import blas
class Library:
    count = 8
def put(n): Library.count = n
blas._functions = lambda: (lambda: Library.count, put)
with blas.limited(1):
    child = os.fork()
    if child == 0:
        good = Library.count == 8 and not blas._held
        with blas.limited(2):
            good = good and Library.count == 2
        os._exit(0 if good and Library.count == 8 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0 and Library.count == 1
assert Library.count == 8
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_such_a_library_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_functions", lambda: None)
    with limited(1):
        assert not blas._held


def test_it_is_the_library_that_numpy_uses() -> None:
    """As threadpoolctl finds it, which looks at all libraries of the process."""
    threadpoolctl = pytest.importorskip("threadpoolctl")
    openblas = [one for one in threadpoolctl.threadpool_info() if one["internal_api"] == "openblas"]
    if not openblas:
        assert blas._functions() is None or blas._functions()[0]() >= 1  # type: ignore[index]
        pytest.skip("NumPy has another BLAS")
    with limited(1):
        assert 1 in [one["num_threads"] for one in threadpoolctl.threadpool_info() if one["internal_api"] == "openblas"]


def host_model() -> bytes:
    """A MatMul of float64, which runs in NumPy, between nodes that are compiled."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [8, 8]) for n in "xy")
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Cast", ["r"], ["d"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["d", "d"], ["t"]),
        helper.make_node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "host", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_host_nodes_run_with_the_threads_of_the_run(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    with cnnengine.load(host_model(), threads=1) as model:
        assert model.host_nodes()
        x = np.eye(8, dtype=np.float32)
        op = next(type(n.op) for n in model._graph.nodes if n.name in model.host_nodes())
        before = op.reference

        def reference(self: Any, *inputs: Any) -> Any:
            seen.append(counted.count)
            return before(self, *inputs)

        monkeypatch.setattr(op, "reference", reference)
        for threads, want in ((None, 1), (1, 1), (2, 2), (64, 8)):
            model.run(None, {"x": x}, threads=threads)
            assert (seen.pop(), seen, counted.count) == (want, [], 8)
