"""The C interface: every function, its statuses, bad input of every kind, threads and the GIL."""

from __future__ import annotations

import ctypes
import gc
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine.report import summarize
from cnnengine.runtime.runner import allocation_count
from cnnengine.runtime.threads import thread_info

from . import c_api
from .c_api import Info, Options, Tensor, tensors

MODELS = Path(__file__).resolve().parents[2] / "models"
LENET = str(MODELS / "digits_lenet.onnx").encode()
API = c_api.table()
NAN = float("nan")


def proto(nodes: list, inputs: dict, outputs: dict, initializers: list | None = None) -> bytes:
    def infos(values: dict) -> list:
        return [helper.make_tensor_value_info(n, t, s) for n, (t, s) in values.items()]

    graph = helper.make_graph(nodes, "g", infos(inputs), infos(outputs), initializers or [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def load(data: bytes, threads: int = 1, flags: int = 0) -> ctypes.c_uint64:
    model = ctypes.c_uint64()
    options = Options(ctypes.sizeof(Options), flags, threads)
    assert API.load_memory(data, len(data), options, model) == c_api.OK, API.last_error()
    return model


@pytest.fixture
def lenet() -> Iterator[ctypes.c_uint64]:
    model = ctypes.c_uint64()
    assert API.load(LENET, Options(ctypes.sizeof(Options), 0, 1), model) == c_api.OK, API.last_error()
    yield model
    API.model_free(model)


def workspace(model: ctypes.c_uint64, arrays: list[np.ndarray] | None = None, flags: int = 0) -> ctypes.c_uint64:
    made = ctypes.c_uint64()
    status = API.workspace_new(model, tensors(arrays) if arrays else None, len(arrays or ()), flags, made)
    assert status == c_api.OK, API.last_error()
    return made


def error() -> str:
    return API.last_error().decode()


def images(n: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 1, 32, 32)).astype(np.float32)


def test_version_and_names() -> None:
    assert (API.version, API.size) == (1, ctypes.sizeof(c_api.Table))
    names = [API.status_name(s) for s in range(13)]
    assert len(set(names)) == 13 and API.status_name(99) == b"unknown"


def test_what_a_model_says_of_itself(lenet: ctypes.c_uint64) -> None:
    count, info = ctypes.c_int32(), Info()
    assert API.input_count(lenet, count) == c_api.OK and count.value == 1
    assert API.output_count(lenet, count) == c_api.OK and count.value == 1
    assert API.input_info(lenet, 0, info) == c_api.OK
    assert (info.name, info.dtype, info.rank, list(info.dims[:4])) == (b"image", 1, 4, [-1, 1, 32, 32])
    assert API.output_info(lenet, 0, info) == c_api.OK
    assert (info.name, info.rank, list(info.dims[:2])) == (b"logits", 2, [-1, 10])
    made = workspace(lenet, [images(3)])
    assert API.workspace_output(made, 0, info) == c_api.OK
    assert list(info.dims[:2]) == [3, 10]
    assert API.workspace_free(made) == c_api.OK


@pytest.mark.parametrize("batch", [1, 3])
def test_runs_as_model_run_does(lenet: ctypes.c_uint64, batch: int) -> None:
    x, y = images(batch), np.full((batch, 10), NAN, np.float32)
    made = workspace(lenet, [x])
    with cnnengine.load(LENET.decode(), threads=1) as model:
        assert API.run(made, tensors([x]), 1, tensors([y]), 1) == c_api.OK, error()
        np.testing.assert_array_equal(y, model(x))
        x[...] = images(batch, 1)
        assert API.run(made, tensors([x]), 1, tensors([y]), 1) == c_api.OK
        np.testing.assert_array_equal(y, model(x))
    API.workspace_free(made)


def test_strides_of_the_callers(lenet: ctypes.c_uint64) -> None:
    x = images()
    wide = np.full((1, 2, 40, 70), NAN, np.float32)
    part = wide[:, 1:, 4:36, 3:67:2]
    part[...] = x
    result = np.full((10, 3), NAN, np.float32)
    target = result[::-1, 1][None]
    made = workspace(lenet, [x])
    assert API.run(made, tensors([part], strided=True), 1, tensors([target], strided=True), 1) == c_api.OK, error()
    with cnnengine.load(LENET.decode(), threads=1) as model:
        np.testing.assert_array_equal(target, model(x))
    assert np.isnan(result[:, [0, 2]]).all()
    API.workspace_free(made)


def test_memory_of_any_alignment(lenet: ctypes.c_uint64) -> None:
    x = images()
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = x.view(np.uint8).reshape(-1)
    given = tensors([x])
    given[0].data = raw.ctypes.data + 1
    y, expected = np.empty((1, 10), np.float32), np.empty((1, 10), np.float32)
    made = workspace(lenet, [x])
    assert API.run(made, given, 1, tensors([y]), 1) == c_api.OK
    assert API.run(made, tensors([x]), 1, tensors([expected]), 1) == c_api.OK
    np.testing.assert_array_equal(y, expected)
    API.workspace_free(made)


def test_runs_allocate_nothing(lenet: ctypes.c_uint64) -> None:
    x, y = images(), np.empty((1, 10), np.float32)
    made = workspace(lenet, [x])
    ins, outs = tensors([x]), tensors([y])
    API.run(made, ins, 1, outs, 1)
    before = allocation_count()
    for _ in range(50):
        API.run(made, ins, 1, outs, 1)
    assert allocation_count() == before
    API.workspace_free(made)


def test_outputs_that_are_inputs_or_known() -> None:
    data = proto(
        [
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Constant", [], ["known"], value=helper.make_tensor("c", TensorProto.INT64, [2], [5, -6])),
            helper.make_node("Relu", ["x"], ["relu"]),
        ],
        {"x": (TensorProto.FLOAT, [2, 3])},
        {"same": (TensorProto.FLOAT, [2, 3]), "known": (TensorProto.INT64, [2]), "relu": (TensorProto.FLOAT, [2, 3])},
    )
    model = load(data)
    made = workspace(model)
    x = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
    outs = [np.zeros((2, 3), np.float32), np.zeros(2, np.int64), np.zeros((2, 3), np.float32)]
    assert API.run(made, tensors([x]), 1, tensors(outs), 3) == c_api.OK, error()
    np.testing.assert_array_equal(outs[0], x)
    np.testing.assert_array_equal(outs[1], [5, -6])
    np.testing.assert_array_equal(outs[2], np.maximum(x, 0))
    # an output that is not wanted
    outs[2][...] = NAN
    given = tensors(outs)
    given[2].data = None
    assert API.run(made, tensors([x]), 1, given, 3) == c_api.OK
    assert np.isnan(outs[2]).all()
    API.workspace_free(made)
    API.model_free(model)


def test_scalar_inputs() -> None:
    """An input without axes has a shape, the empty one: for C, for bindings and for reports."""
    data = proto(
        [helper.make_node("Mul", ["x", "s"], ["y"])],
        {"x": (TensorProto.FLOAT, [2, 3]), "s": (TensorProto.FLOAT, [])},
        {"y": (TensorProto.FLOAT, [2, 3])},
    )
    x, scale, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.array(2.5, np.float32), np.zeros((2, 3), np.float32)
    model = load(data)
    made = workspace(model)
    assert API.run(made, tensors([x, scale]), 2, tensors([y]), 1) == c_api.OK, error()
    np.testing.assert_array_equal(y, x * scale)
    API.workspace_free(made)
    API.model_free(model)
    with cnnengine.load(data) as loaded:
        loop = loaded.bind({"x": x})
        loop.inputs["s"][...] = scale
        np.testing.assert_array_equal(loop.run()["y"], x * scale)
        assert summarize(loaded).shapes == {"x": (2, 3), "s": ()}


def test_the_workspace_outlives_the_model_handle(lenet: ctypes.c_uint64) -> None:
    x, y = images(), np.empty((1, 10), np.float32)
    made = workspace(lenet, [x])
    assert API.model_free(lenet) == c_api.OK
    assert API.run(made, tensors([x]), 1, tensors([y]), 1) == c_api.OK
    assert API.workspace_free(made) == c_api.OK


def test_closed_and_forged_handles(lenet: ctypes.c_uint64) -> None:
    x, y = images(), np.empty((1, 10), np.float32)
    made = workspace(lenet, [x])
    forged = [0, 1, 2**64 - 1, made.value + (1 << 32), lenet.value]
    for handle in forged:
        assert API.run(handle, tensors([x]), 1, tensors([y]), 1) == c_api.HANDLE
        assert API.workspace_free(handle) == c_api.HANDLE
    assert API.workspace_free(made) == c_api.OK
    assert API.workspace_free(made) == c_api.HANDLE
    assert API.run(made, tensors([x]), 1, tensors([y]), 1) == c_api.HANDLE
    assert "handle" in error()
    again = workspace(lenet, [x])  # in the same place, and yet another handle
    assert again.value != made.value
    assert API.run(made, tensors([x]), 1, tensors([y]), 1) == c_api.HANDLE
    API.workspace_free(again)
    count, info = ctypes.c_int32(), Info()
    assert API.model_free(lenet) == c_api.OK
    for status in (
        API.model_free(lenet),
        API.input_count(lenet, count),
        API.output_info(lenet, 0, info),
        API.workspace_new(lenet, None, 0, 0, made),
    ):
        assert status == c_api.HANDLE


def test_null_pointers(lenet: ctypes.c_uint64) -> None:
    x, y = images(), np.empty((1, 10), np.float32)
    made = workspace(lenet, [x])
    model = ctypes.c_uint64()
    good = tensors([y])
    for status in (
        API.load(None, None, model),
        API.load(LENET, None, None),
        API.load_memory(None, 5, None, model),
        API.input_count(lenet, None),
        API.input_info(lenet, 0, None),
        API.workspace_new(lenet, None, 0, 0, None),
        API.workspace_new(lenet, None, 1, 0, made),
        API.workspace_output(made, 0, None),
        API.run(made, None, 1, good, 1),
        API.run(made, tensors([x]), 1, None, 1),
    ):
        assert status == c_api.ARGUMENT
    no_data, no_dims = tensors([x]), tensors([x])
    no_data[0].data = None
    no_dims[0].dims = None
    assert API.run(made, no_data, 1, good, 1) == c_api.ARGUMENT
    assert API.run(made, no_dims, 1, good, 1) == c_api.ARGUMENT
    assert API.workspace_new(lenet, no_dims, 1, 0, made) == c_api.SHAPE
    API.workspace_free(made)


def test_wrong_sizes_and_types(lenet: ctypes.c_uint64) -> None:
    x, y = images(), np.full((1, 10), NAN, np.float32)
    made = workspace(lenet, [x])
    ok = tensors([y])
    info = Info()

    def run(ins: ctypes.Array[Tensor], outs: ctypes.Array[Tensor] = ok, n: int = 1, m: int = 1) -> int:
        return API.run(made, ins, n, outs, m)

    assert run(tensors([images(2)])) == c_api.SHAPE
    assert run(tensors([x[0]])) == c_api.SHAPE
    assert run(tensors([x.astype(np.float64)])) == c_api.DTYPE
    assert run(tensors([x]), tensors([y[:, :9]])) == c_api.SHAPE
    assert run(tensors([x]), tensors([y.astype(np.int64)])) == c_api.DTYPE
    assert run(tensors([x, x]), n=2) == c_api.ARGUMENT
    assert run(tensors([x]), m=0) == c_api.ARGUMENT
    for rank in (-1, 9, 2**31 - 1):
        wrong = tensors([x])
        wrong[0].rank = rank
        assert run(wrong) == c_api.SHAPE
        assert API.workspace_new(lenet, wrong, 1, 0, ctypes.c_uint64()) == c_api.SHAPE
    for dims in ((1, 1, 32, -32), (1, 1, 32, 2**62), (2**40, 1, 32, 32)):
        wrong = tensors([x])
        wrong[0].dims = (ctypes.c_int64 * 4)(*dims)
        assert run(wrong) == c_api.SHAPE
        assert API.workspace_new(lenet, wrong, 1, 0, ctypes.c_uint64()) == c_api.SHAPE
    assert API.workspace_new(lenet, tensors([x.astype(np.float64)]), 1, 0, ctypes.c_uint64()) == c_api.DTYPE
    assert API.workspace_new(lenet, tensors([x, x]), 2, 0, ctypes.c_uint64()) == c_api.ARGUMENT
    assert API.workspace_new(lenet, None, 0, 64, ctypes.c_uint64()) == c_api.ARGUMENT
    for index in (-1, 1, 2**31 - 1):
        assert API.input_info(lenet, index, info) == c_api.ARGUMENT
        assert API.workspace_output(made, index, info) == c_api.ARGUMENT
    assert np.isnan(y).all()
    API.workspace_free(made)


def flat(n: int, dtype: str = "float32") -> bytes:
    """A model of one Relu whose only axis is dynamic where n is 0."""
    extent: list = [n or "n"]
    return proto([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, extent)}, {"y": (1, extent)})


def strided(array: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> ctypes.Array[Tensor]:
    """Any description of an array's memory, right or wrong."""
    made = tensors([array])
    made[0].data, made[0].rank = array.ctypes.data + offset, len(shape)
    made[0].dims = (ctypes.c_int64 * len(shape))(*shape)
    made[0].strides = (ctypes.c_int64 * len(shape))(*strides)
    return made


def test_negative_zero_and_overlapping_strides() -> None:
    model = load(proto([helper.make_node("Neg", ["x"], ["y"])], {"x": (1, [2, 3])}, {"y": (1, [2, 3])}))
    made = workspace(model)
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), NAN, np.float32)
    # inputs may repeat and overlap
    for shape, strides, offset, expected in (
        ((2, 3), (-12, -4), 20, x[::-1, ::-1]),
        ((2, 3), (0, 4), 0, x[[0, 0]]),
        ((2, 3), (4, 4), 0, np.array([[0, 1, 2], [1, 2, 3]])),
    ):
        assert API.run(made, strided(x, shape, strides, offset), 1, tensors([y]), 1) == c_api.OK, error()
        np.testing.assert_array_equal(y, -expected)
    # outputs may not
    y[...] = NAN
    for strides in ((0, 4), (12, 0), (4, 4), (12, 3), (8, 4), (-8, 4), (12, -2)):
        assert API.run(made, tensors([x]), 1, strided(y, (2, 3), strides, 12), 1) == c_api.ARGUMENT
        assert "overlap" in error()
    assert np.isnan(y).all()
    wide = np.full(40, NAN, np.float32)
    for strides, offset in (((-12, 4), 12), ((4, 8), 0), ((80, -16), 60)):
        wide[...] = NAN
        assert API.run(made, tensors([x]), 1, strided(wide, (2, 3), strides, offset), 1) == c_api.OK, error()
        start = offset // 4
        for i in range(2):
            for k in range(3):
                assert wide[start + (strides[0] * i + strides[1] * k) // 4] == -x[i, k]
        assert np.isnan(wide).sum() == 34
    # no such memory
    for strides in ((2**63 - 1, 4), (-(2**63), 4), (2**62, 2**62), (12, -(2**62)), (0, 2**63 - 1)):
        for ins, outs in ((strided(x, (2, 3), strides), tensors([y])), (tensors([x]), strided(y, (2, 3), strides))):
            assert API.run(made, ins, 1, outs, 1) == c_api.ARGUMENT
    assert API.workspace_free(made) == API.model_free(model) == c_api.OK


def test_runs_in_place_and_outputs_over_inputs() -> None:
    """An output may lie on an input, whole or in part: the input counts as it was before the run."""
    data = proto(
        [
            helper.make_node("Softmax", ["x"], ["y"], axis=0),
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Neg", ["x"], ["z"]),
        ],
        {"x": (1, [64])},
        {"y": (1, [64]), "same": (1, [64]), "z": (1, [64])},
    )
    model = load(data)
    made = workspace(model)
    x = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    y = np.exp(x - x.max(), dtype=np.float64)
    for shift in (0, 1, -1, 63, 7):
        memory, others = np.zeros(192, np.float32), np.full((2, 64), NAN, np.float32)
        memory[64:128] = x
        target = memory[64 + shift : 128 + shift]
        assert API.run(made, tensors([memory[64:128]]), 1, tensors([target, *others]), 3) == c_api.OK, error()
        np.testing.assert_allclose(target, y / y.sum(), rtol=1e-5)
        np.testing.assert_array_equal(others, [x, -x])
    # two dense outputs on one place are refused, interleaved ones are not
    memory = np.full(200, NAN, np.float32)
    for first, second in ((0, 0), (0, 63), (63, 0)):
        outs = tensors([memory[first : first + 64], memory[second : second + 64], others[0]])
        assert API.run(made, tensors([x]), 1, outs, 3) == c_api.ARGUMENT
        assert "overlaps another output" in error()
    assert np.isnan(memory).all()
    outs = tensors([memory[0:128:2], memory[1:128:2], memory[128:192]], strided=True)
    assert API.run(made, tensors([x]), 1, outs, 3) == c_api.OK, error()
    np.testing.assert_allclose(memory[0:128:2], y / y.sum(), rtol=1e-5)
    np.testing.assert_array_equal(memory[1:128:2], x)
    np.testing.assert_array_equal(memory[128:192], -x)
    API.workspace_free(made)
    API.model_free(model)


def test_an_output_that_is_not_wanted_lies_nowhere() -> None:
    """Where it lay in the run before is free for another, and for the input."""
    data = proto(
        [helper.make_node("Softmax", ["x"], ["y"], axis=0), helper.make_node("Neg", ["x"], ["z"])],
        {"x": (1, [64])},
        {"y": (1, [64]), "z": (1, [64])},
    )
    model = load(data)
    made = workspace(model)
    x, first, second = (np.full(64, v, np.float32) for v in (2, NAN, NAN))
    wanted, less = tensors([first, second]), tensors([first, first])
    less[0].data = None
    for _ in range(2):
        assert API.run(made, tensors([x]), 1, wanted, 2) == c_api.OK, error()
        np.testing.assert_allclose(first, 1 / 64, rtol=1e-6)
        assert API.run(made, tensors([x]), 1, less, 2) == c_api.OK, error()
        np.testing.assert_array_equal(first, -x)
    API.workspace_free(made)
    API.model_free(model)


@pytest.mark.parametrize("extent", [-1, -(2**63), 2**31, 2**40, 2**61, 2**62, 2**63 - 1])
def test_extents_that_no_memory_has(extent: int) -> None:
    """Dynamic axes take any number: what cannot be is a status, and nothing is computed in wrapped numbers."""
    several = proto(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["y"])],
        {"x": (1, ["n", 1, "h", "w"])},
        {"y": (1, ["n", 2, 1, 1])},
        [helper.make_tensor("w", TensorProto.FLOAT, [2, 1, 3, 3], [1.0] * 18)],
    )
    small = np.zeros(1, np.float32)
    for data, shapes in ((flat(0), [(extent,)]), (several, [(extent, 1, 8, 8), (1, 1, extent, 8), (extent, 1, extent, extent)])):
        model, made = load(data), ctypes.c_uint64(77)
        for shape in shapes:
            if extent == 2**31 and len(shape) == 1:
                continue  # that much there may be
            given = strided(small, shape, (4,) * len(shape))
            status = API.workspace_new(model, given, 1, 0, made)
            assert status in (c_api.SHAPE, c_api.MEMORY) and made.value == 77, (shape, status, error())
        API.model_free(model)


def test_element_types_without_a_number() -> None:
    texts = proto(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": (TensorProto.STRING, [2])}, {"y": (TensorProto.STRING, [2])}
    )
    model, made = ctypes.c_uint64(), ctypes.c_uint64()
    status = API.load_memory(texts, len(texts), None, model)
    if status == c_api.OK:
        info = Info()
        assert API.input_info(model, 0, info) == c_api.OK and info.dtype == 0
        for flags in (0, c_api.ALLOW_PYTHON):
            assert API.workspace_new(model, None, 0, flags, made) == c_api.UNSUPPORTED
        API.model_free(model)
    else:
        assert status == c_api.UNSUPPORTED


def test_models_cut_short_and_changed() -> None:
    """Whatever bytes come in, a status comes out; a model that loads all the same can be asked and run."""
    data = Path(LENET.decode()).read_bytes()
    rng = np.random.default_rng(0)
    x, y = images(), np.empty((1, 10), np.float32)
    broken = [data[:n] for n in (0, 1, 2, 7, 20, 100, 1000, len(data) // 2, len(data) - 1)]
    for _ in range(40):
        changed = bytearray(data)
        for at in rng.integers(0, 600, 3):
            changed[at] = rng.integers(256)
        broken.append(bytes(changed))
    for one in broken:
        model, made, info = ctypes.c_uint64(77), ctypes.c_uint64(), Info()
        status = API.load_memory(one or b"x", len(one), None, model)
        assert 0 <= status <= c_api.INTERNAL and status != c_api.INTERNAL, error()
        if status:
            assert model.value == 77 and error()
            continue
        API.input_info(model, 0, info)
        API.workspace_new(model, tensors([x]), 1, 0, made)
        API.run(made, tensors([x]), 1, tensors([y]), 1)
        API.workspace_free(made)
        assert API.model_free(model) == c_api.OK


def test_handles_closed_by_other_threads() -> None:
    """Runs, questions and new workspaces go on while another thread closes the handles under them, each closed once."""
    data = Path(LENET.decode()).read_bytes()
    x = images()
    seen: set[int] = set()
    for _ in range(15):
        model = load(data)
        spaces = [workspace(model, [x]) for _ in range(3)]
        closed: list[int] = []
        start = threading.Barrier(6)

        def use(handle: ctypes.c_uint64, model: ctypes.c_uint64 = model, start: threading.Barrier = start) -> None:
            y, info, status = np.empty((1, 10), np.float32), Info(), c_api.OK
            start.wait()
            while status in (c_api.OK, c_api.BUSY):
                status = API.run(handle, tensors([x]), 1, tensors([y]), 1)
                asked = API.output_info(model, 0, info)
                seen.add(asked)
            seen.add(status)

        def close(
            model: ctypes.c_uint64 = model,
            spaces: list[ctypes.c_uint64] = spaces,
            closed: list[int] = closed,
            start: threading.Barrier = start,
        ) -> None:
            start.wait()
            time.sleep(0.003)
            for handle, free in [(model, API.model_free), *((s, API.workspace_free) for s in spaces)]:
                status = free(handle)
                while status == c_api.BUSY:
                    status = free(handle)
                closed.append(status)

        threads = [threading.Thread(target=use, args=(s,)) for s in spaces] + [threading.Thread(target=close) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(closed) == [c_api.OK] * 4 + [c_api.HANDLE] * 8
    assert seen <= {c_api.OK, c_api.HANDLE} and c_api.HANDLE in seen


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads of Python take turns soon."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def test_a_model_that_is_closed_while_it_is_used_goes_with_its_last_user(hasty: None) -> None:
    kinds = [("Softmax", "Relu", "Neg", "Tanh")[i % 4] for i in range(120)]  # whose plan takes a while
    nodes = [helper.make_node(kind, [f"t{i}"], [f"t{i + 1}"]) for i, kind in enumerate(kinds)]
    data = proto(nodes, {"t0": (1, [4, 5])}, {"t120": (1, [4, 5])})

    def alive() -> int:
        gc.collect()
        return sum(isinstance(o, cnnengine.Model) for o in gc.get_objects())

    before, within = alive(), 0
    for delay in (0.001, 0.0, 0.002, 0.004, 0.008) * 8:
        model, started, made = load(data), threading.Event(), ctypes.c_uint64()
        statuses: list[int] = []

        def use(
            model: ctypes.c_uint64 = model,
            started: threading.Event = started,
            made: ctypes.c_uint64 = made,
            statuses: list[int] = statuses,
        ) -> None:
            started.set()
            statuses.append(API.workspace_new(model, None, 0, 0, made))

        thread = threading.Thread(target=use)
        thread.start()
        started.wait()
        time.sleep(delay)
        assert API.model_free(model) == c_api.OK
        going_on = not statuses
        thread.join()
        assert statuses[0] in (c_api.OK, c_api.HANDLE)
        within += going_on and statuses[0] == c_api.OK
        if statuses[0] == c_api.OK:
            assert API.workspace_free(made) == c_api.OK
        if within == 3:
            break
    assert alive() == before
    if not within:
        pytest.skip("no model was closed while it was used")


def test_loads_that_fail(tmp_path: Path) -> None:
    model = ctypes.c_uint64(77)
    assert API.load(str(tmp_path / "none.onnx").encode(), None, model) == c_api.NOT_FOUND
    assert "none.onnx" in error()
    assert API.load_memory(b"\x00junk", 5, None, model) == c_api.MODEL
    unknown = proto([helper.make_node("NoSuch", ["x"], ["y"])], {"x": (1, [1])}, {"y": (1, [1])})
    assert API.load_memory(unknown, len(unknown), None, model) == c_api.UNSUPPORTED
    assert "NoSuch" in error()
    for options in (Options(4, 0, 1), Options(ctypes.sizeof(Options), 512, 1), Options(ctypes.sizeof(Options), 0, -1)):
        assert API.load(LENET, options, model) == c_api.ARGUMENT
    assert model.value == 77


def test_models_that_need_python() -> None:
    data = proto(
        [helper.make_node("Unique", ["x"], ["y"], sorted=1)],
        {"x": (TensorProto.FLOAT, [6])},
        {"y": (TensorProto.FLOAT, ["n"])},
    )
    model, made = load(data), ctypes.c_uint64()
    assert API.workspace_new(model, None, 0, 0, made) == c_api.NEEDS_PYTHON
    made = workspace(model, flags=c_api.ALLOW_PYTHON)
    info = Info()
    assert API.workspace_output(made, 0, info) == c_api.OK and info.rank == -1
    x, y = np.array([3, 1, 2, 1, 3, 3], np.float32), np.zeros(3, np.float32)
    assert API.run(made, tensors([x]), 1, tensors([y]), 1) == c_api.OK, error()
    assert y.tolist() == [1, 2, 3]
    short = np.full(2, NAN, np.float32)
    assert API.run(made, tensors([x]), 1, tensors([short]), 1) == c_api.SHAPE
    assert "(3,)" in error() and np.isnan(short).all()
    API.workspace_free(made)
    API.model_free(model)


def test_an_index_out_of_range_is_a_status() -> None:
    node = helper.make_node("Gather", ["x", "i"], ["y"], name="picked")
    data = proto([node], {"x": (TensorProto.FLOAT, [5]), "i": (TensorProto.INT64, [3])}, {"y": (TensorProto.FLOAT, [3])})
    model = load(data)
    made = workspace(model)
    x, y = np.arange(5, dtype=np.float32), np.empty(3, np.float32)
    for indices, status in (
        ([0, -1, 4], c_api.OK),
        ([0, 5, 1], c_api.INPUT),
        ([-(2**62), 0, 0], c_api.INPUT),
        ([2, 2, 2], c_api.OK),
    ):
        i = np.array(indices)
        assert API.run(made, tensors([x, i]), 2, tensors([y]), 1) == status
        if status == c_api.OK:
            np.testing.assert_array_equal(y, x[i])
        else:
            assert "picked" in error()
            assert "Gather" in error()
    API.workspace_free(made)
    API.model_free(model)


def test_errors_belong_to_threads(lenet: ctypes.c_uint64) -> None:
    API.load(b"/no/such/first", None, ctypes.c_uint64())
    seen = []

    def other() -> None:
        seen.append(error())
        API.input_info(lenet, 5, Info())
        seen.append(error())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen[0] == "" and "index" in seen[1]
    assert "first" in error()


def slow_model() -> bytes:
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for i in range(6):
        w = (rng.standard_normal((64, 64, 3, 3)) / 24).astype(np.float32)
        weights.append(helper.make_tensor(f"w{i}", TensorProto.FLOAT, w.shape, w.tobytes(), raw=True))
        nodes.append(helper.make_node("Conv", [f"t{i}", f"w{i}"], [f"t{i + 1}"], pads=[1, 1, 1, 1]))
    shape = [1, 64, 112, 112]
    return proto(nodes, {"t0": (1, shape)}, {"t6": (1, shape)}, weights)


def test_no_gil_while_kernels_run() -> None:
    model = load(slow_model())
    x, y = np.ones((1, 64, 112, 112), np.float32), np.empty((1, 64, 112, 112), np.float32)
    made = workspace(model, [x])
    # ctypes gives the GIL up around a call: a run that took it back would stop the counter
    counts, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counts[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = counts[0]
        for _ in range(5):
            assert API.run(made, tensors([x]), 1, tensors([y]), 1) == c_api.OK
        assert counts[0] - before > 10
    finally:
        stop.set()
        thread.join()
        API.workspace_free(made)
        API.model_free(model)


LIMITED = """
import ctypes, os, sys, time
from pathlib import Path
os.environ["CNNENGINE_NUM_THREADS"] = "2"
sys.path.insert(0, sys.argv[1])
import threadpoolctl
import numpy as np
import c_api
from cnnengine.runtime.threads import thread_info
api, data = c_api.table(), Path(sys.argv[2]).read_bytes()
x, y = np.ones((1, 64, 112, 112), np.float32), np.empty((1, 64, 112, 112), np.float32)
def helpers(threads):
    model, made = ctypes.c_uint64(), ctypes.c_uint64()
    assert api.load_memory(data, len(data), c_api.Options(ctypes.sizeof(c_api.Options), 0, threads), model) == c_api.OK
    assert api.workspace_new(model, c_api.tensors([x]), 1, 0, made) == c_api.OK
    for _ in range(3):
        assert api.run(made, c_api.tensors([x]), 1, c_api.tensors([y]), 1) == c_api.OK
    return thread_info()["helpers"]
with threadpoolctl.threadpool_limits(1):
    print(helpers(0), helpers(2))
"""
"""What has no number of threads of its own keeps to OpenMP's limit in the native run; what was given one does not."""


def test_the_limit_of_openmp_holds_for_what_was_given_no_number(tmp_path: Path) -> None:
    pytest.importorskip("threadpoolctl")
    if thread_info()["openmp"] is None:
        pytest.skip("built without OpenMP")
    (tmp_path / "slow.onnx").write_bytes(slow_model())
    command = [sys.executable, "-c", LIMITED, str(Path(__file__).parent), str(tmp_path / "slow.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout == "0 1\n", done.stderr


def test_one_workspace_serves_one_thread() -> None:
    model = load(slow_model())
    x, y = np.ones((1, 64, 112, 112), np.float32), np.empty((1, 64, 112, 112), np.float32)
    made = workspace(model, [x])
    seen: set[int] = set()
    stop = time.monotonic() + 20

    def work() -> None:
        mine = np.empty_like(y)
        while not {c_api.OK, c_api.BUSY} <= seen and time.monotonic() < stop:
            seen.add(API.run(made, tensors([x]), 1, tensors([mine]), 1))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {c_api.OK, c_api.BUSY}
    assert API.workspace_free(made) == c_api.OK
    API.model_free(model)


@pytest.mark.parametrize("threads", [1, 2])
def test_eight_threads_at_once_with_shapes_of_their_own(threads: int) -> None:
    model = ctypes.c_uint64()
    path = str(MODELS / "digits_spp.onnx").encode()
    assert API.load(path, Options(ctypes.sizeof(Options), 0, threads), model) == c_api.OK
    inputs = [
        np.random.default_rng(i).standard_normal((1 + i % 2, 1, 24 + 4 * i, 24 + 3 * i)).astype(np.float32) for i in range(8)
    ]
    with cnnengine.load(path.decode(), threads=1) as serial:
        expected = [serial(x) for x in inputs]
    wrong: list[object] = []

    def work(number: int) -> None:
        x, y = inputs[number], np.empty_like(expected[number])
        made = workspace(model, [x])
        for _ in range(20):
            y[...] = NAN
            status = API.run(made, tensors([x]), 1, tensors([y]), 1)
            if status != c_api.OK or not np.array_equal(y, expected[number]):
                wrong.append((number, status))
        API.workspace_free(made)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    API.model_free(model)


@pytest.mark.parametrize("python", [False, True], ids=["kernels", "Python"])
def test_another_thread_stops_a_run(python: bool) -> None:
    """A run that is stopped gives a status long before its end, and the next one is whole; others are not touched."""
    if python:  # rounds of a Loop, each of which is a run of its own
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])],
            "body",
            [helper.make_tensor_value_info("i", TensorProto.INT64, ()), helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
             helper.make_tensor_value_info("v", TensorProto.FLOAT, ())],
            [helper.make_tensor_value_info("d", TensorProto.BOOL, ()), helper.make_tensor_value_info("w", TensorProto.FLOAT, ())],
        )  # fmt: skip
        nodes = [helper.make_node("Loop", ["m", "", "x"], ["y"], body=body)]
        rounds = helper.make_tensor("m", TensorProto.INT64, [], [200_000])
        model = load(proto(nodes, {"x": (TensorProto.FLOAT, ())}, {"y": (TensorProto.FLOAT, ())}, [rounds]))
        x, y = np.zeros((), np.float32), np.zeros((), np.float32)
    else:
        names = ["x", *(f"v{k}" for k in range(299)), "y"]
        nodes = [helper.make_node("Conv", [a, "w"], [b], pads=[1] * 4) for a, b in itertools.pairwise(names)]
        weights = helper.make_tensor("w", TensorProto.FLOAT, (16, 16, 3, 3), np.full(2304, 0.01, np.float32))
        shape = (TensorProto.FLOAT, (1, 16, 96, 96))
        model = load(proto(nodes, {"x": shape}, {"y": shape}, [weights]), flags=c_api.NO_WINOGRAD)
        x = np.ones((1, 16, 96, 96), np.float32)
        y = np.zeros_like(x)
    ws = workspace(model, [x], c_api.ALLOW_PYTHON)
    assert API.stop(ws) == c_api.OK  # nothing is under way: without effect
    statuses, running = [], threading.Event()

    def run() -> None:
        running.set()
        while not statuses or statuses[-1] == c_api.OK:
            statuses.append(API.run(ws, tensors([x]), 1, tensors([y]), 1))
        statuses.append(error())

    thread = threading.Thread(target=run)
    thread.start()
    running.wait()
    while thread.is_alive():
        assert API.stop(ws) == c_api.OK
        time.sleep(0.01)
    thread.join()
    assert (statuses[-2] == c_api.STOPPED and "stop" in statuses[-1]) or "ended" in statuses[-1]
    assert len(statuses) <= 4, "runs went to their end"
    assert API.run(ws, tensors([x]), 1, tensors([y]), 1) == c_api.OK, error()
    assert API.workspace_free(ws) == c_api.OK and API.stop(ws) == c_api.HANDLE
    assert API.stop(model) == c_api.HANDLE and API.stop(0) == c_api.HANDLE
    API.model_free(model)


def test_handles_come_and_go(lenet: ctypes.c_uint64) -> None:
    x = images()
    for _ in range(3):
        many = [workspace(lenet, [x]) for _ in range(200)]
        assert len({w.value for w in many}) == 200
        for w in many:
            assert API.workspace_free(w) == c_api.OK
    if hasattr(sys, "getrefcount"):
        with cnnengine.load(LENET.decode()) as model:
            assert model(x).shape == (1, 10)
