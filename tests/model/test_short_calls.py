"""The short way of Model.run: after a run, plain arrays of the same shapes skip the checks; all else must fare as before."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict

import numpy as np
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine.errors import ClosedError, InputError, ShapeError
from cnnengine.runtime.runner import fill_arenas

X = np.random.default_rng(5).standard_normal((3, 4)).astype(np.float32)


def two_outputs(extra: int = 0) -> bytes:
    """Outputs "sum" = a + b, "less" = relu(a), in that order, and inputs that nothing reads."""
    info = helper.make_tensor_value_info
    rows = TensorProto.FLOAT, ["n", 4]
    inputs = [info("a", *rows), info("b", *rows), *(info(f"extra{i}", TensorProto.INT64, [1]) for i in range(extra))]
    nodes = [helper.make_node("Relu", ["a"], ["less"]), helper.make_node("Add", ["a", "b"], ["sum"])]
    graph = helper.make_graph(nodes, "two", inputs, [info("sum", *rows), info("less", *rows)])
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return data


@pytest.fixture
def model():
    with cnnengine.load(two_outputs(), threads=1) as loaded:
        loaded.run(None, {"a": X, "b": 2 * X})
        assert loaded._short[1] is not None
        yield loaded


def check(model, a, b):
    found = model.run(None, {"a": a, "b": b})
    a, b = np.asarray(a).astype(np.float32), np.asarray(b).astype(np.float32)
    np.testing.assert_array_equal(found[0], a + b)
    np.testing.assert_array_equal(found[1], np.maximum(a, 0))
    assert all(f.dtype == np.float32 and f.flags.owndata and f.flags.writeable for f in found)
    return found


def test_fresh_results_in_the_files_order(model):
    first = check(model, X, X)
    second = check(model, -X, X)
    assert not any(np.may_share_memory(f, g) for f in first for g in (*second, X))
    np.testing.assert_array_equal(first[0], X + X)
    assert model.run(["less"], {"a": X, "b": X})[0].tobytes() == np.maximum(X, 0).tobytes()
    assert model(X, X)[1].tobytes() == np.maximum(X, 0).tobytes()


def test_arrays_that_lie_otherwise(model):
    wide = np.zeros((3, 8), np.float32)
    wide[:, ::2] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    raw = np.zeros(X.nbytes + 1, np.uint8)
    askew = raw[1:].view(np.float32).reshape(X.shape)
    askew[...] = X

    class Mine(np.ndarray):
        pass

    for a in (wide[:, ::2], np.asfortranarray(X), read_only, askew, X.astype(">f4"), X.view(Mine), X[::-1], X.tolist()):
        if isinstance(a, list):
            with pytest.raises(InputError):
                model.run(None, {"a": a, "b": X})
            continue
        check(model, a, X)
        check(model, X, a)
    check(model, memoryview(X), X)


def test_other_shapes_take_the_long_way_once(model):
    before = model._short
    for n in (5, 1, 5):
        x = np.resize(X, (n, 4))
        check(model, x, x)
        assert model._short is not before
        short = model._short
        check(model, -x, x)
        assert model._short is short
    check(model, X, X)


def test_wrong_input_is_refused_as_before(model):
    for feeds, error in (
        ({"a": X}, InputError),
        ({"a": X, "c": X}, InputError),
        ({"a": X, "b": X, "c": X}, InputError),
        ({"a": X, "b": X.astype(np.float64)}, InputError),
        ({"a": X, "b": X.view(np.int32)}, InputError),
        ({"a": X, "b": X.astype("M8[s]")}, InputError),
        ({"a": X, "b": None}, InputError),
        ({"a": X, "b": X[:, :3]}, ShapeError),
        ({"a": X, "b": X[0]}, ShapeError),
        ([X, X], InputError),
    ):
        with pytest.raises(error):
            model.run(None, feeds)
    check(model, X, X)


def test_other_mappings(model):
    found = model.run(None, OrderedDict(b=X, a=X))
    np.testing.assert_array_equal(found[0], X + X)
    np.testing.assert_array_equal(model.run(None, {"b": X, "a": -X})[1], np.maximum(-X, 0))


def test_given_arrays_and_closing(model):
    out = [np.empty_like(X), None]
    assert model.run(None, {"a": X, "b": X}, out=out)[0] is out[0]
    np.testing.assert_array_equal(out[0], X + X)
    model.close()
    with pytest.raises(ClosedError):
        model.run(None, {"a": X, "b": X})


def test_nothing_is_held(model):
    a, b = X.copy(), X.copy()
    feeds = {"a": a, "b": b}
    counts = sys.getrefcount(a), sys.getrefcount(b), sys.getrefcount(feeds)
    for _ in range(50):
        model.run(None, feeds)
        with pytest.raises(InputError):
            model.run(None, {"a": a, "b": b.astype(np.int64)})
    assert (sys.getrefcount(a), sys.getrefcount(b), sys.getrefcount(feeds)) == counts
    del feeds
    a.resize((6, 4))  # refused while a buffer is held
    assert len(model._program.workspaces) == 1


def test_unread_inputs_are_checked_and_many_take_the_long_way():
    for extra, short in ((2, True), (9, False)):
        with cnnengine.load(two_outputs(extra), threads=1) as model:
            feeds = {"a": X, "b": X, **{f"extra{i}": np.zeros(1, np.int64) for i in range(extra)}}
            for _ in range(3):
                np.testing.assert_array_equal(model.run(None, feeds)[0], X + X)
            assert (model._short[1] is not None) is short
            with pytest.raises(InputError):
                model.run(None, {**feeds, "extra0": np.zeros(1, np.int32)})


def test_arenas_are_filled_on_this_way_too(model):
    fill_arenas(255)
    try:
        check(model, X, X)
    finally:
        fill_arenas(None)


def test_many_threads_at_once(model):
    wrong = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32)
        for _ in range(200):
            found = model.run(None, {"a": x, "b": X}, threads=1 + seed % 2)
            if not np.array_equal(found[0], x + X):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
