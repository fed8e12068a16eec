"""InferenceSession against expectations of our own, and against onnxruntime where that is installed."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import json
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import CNNEngineError, InferenceSession, InputError, OrtValue, RunOptions, SessionOptions, ShapeError

F = TensorProto.FLOAT
W = np.arange(3, dtype=np.float32).reshape(3, 1)
X = np.random.default_rng(3).standard_normal((2, 3, 4)).astype(np.float32)
HAS_ORT = importlib.util.find_spec("onnxruntime") is not None
needs_ort = pytest.mark.skipif(not HAS_ORT, reason="onnxruntime is not installed")


def proto(ir_version: int = 8, overridable: bool = True) -> onnx.ModelProto:
    """y = x + w, s = relu(x) * 2, with metadata; w may be overridden, z's type is left out of the file."""
    inputs = [helper.make_tensor_value_info("x", F, ["n", 3, None])]
    if overridable:
        inputs.append(helper.make_tensor_value_info("w", F, [3, 1]))
    outputs = [helper.make_tensor_value_info("y", F, ["n", 3, None]), onnx.ValueInfoProto(name="z")]
    nodes = [helper.make_node("Add", ["x", "w"], ["y"]), helper.make_node("Relu", ["x"], ["z"])]
    graph = helper.make_graph(nodes, "the graph", inputs, outputs, [numpy_helper.from_array(W, "w")], doc_string="of the graph")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir_version)
    model.producer_name, model.domain, model.doc_string, model.model_version = "me", "com.example", "about it", 7
    model.metadata_props.add(key="labels", value="a,b")
    return model


@pytest.fixture
def session() -> InferenceSession:
    return InferenceSession(proto().SerializeToString())


def arguments(items: Any) -> list[tuple[str, list[Any], str]]:
    return [(a.name, list(a.shape), a.type) for a in items]


# what it is


def test_arguments(session: InferenceSession) -> None:
    assert arguments(session.get_inputs()) == [("x", ["n", 3, None], "tensor(float)")]
    assert arguments(session.get_outputs()) == [("y", ["n", 3, None], "tensor(float)"), ("z", ["n", 3, None], "tensor(float)")]
    assert arguments(session.get_overridable_initializers()) == [("w", [3, 1], "tensor(float)")]
    assert "tensor(float)" in str(session.get_inputs()[0])
    assert "'n', 3" in repr(session)


def test_old_files_have_no_overridable_initializers() -> None:
    session = InferenceSession(proto(ir_version=3).SerializeToString())
    assert session.get_overridable_initializers() == []
    assert [a.name for a in session.get_inputs()] == ["x"]
    with pytest.raises(InputError, match="no such input"):
        session.run(None, {"x": X, "w": W})


def test_metadata(session: InferenceSession) -> None:
    meta = session.get_modelmeta()
    assert meta.custom_metadata_map == {"labels": "a,b"}
    assert (meta.producer_name, meta.graph_name, meta.domain) == ("me", "the graph", "com.example")
    assert (meta.description, meta.graph_description, meta.version) == ("about it", "of the graph", 7)


@pytest.mark.parametrize(
    ("number", "name", "dtype"),
    [
        (TensorProto.FLOAT, "tensor(float)", np.float32),
        (TensorProto.DOUBLE, "tensor(double)", np.float64),
        (TensorProto.FLOAT16, "tensor(float16)", np.float16),
        (TensorProto.INT64, "tensor(int64)", np.int64),
        (TensorProto.UINT8, "tensor(uint8)", np.uint8),
        (TensorProto.BOOL, "tensor(bool)", np.bool_),
        (TensorProto.STRING, "tensor(string)", object),
    ],
)
def test_types(number: int, name: str, dtype: Any) -> None:
    value = helper.make_tensor_value_info("x", number, [2])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [value], [helper.make_tensor_value_info("y", number, [2])]
    )
    session = InferenceSession(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == name
    x = np.array(["a", "b"], object) if dtype is object else np.array([1, 0], dtype)
    (y,) = session.run(None, {"x": x})
    assert y.dtype == x.dtype
    assert y.tolist() == x.tolist()
    if dtype is not object:
        assert OrtValue.ortvalue_from_numpy(x).data_type() == name
        assert OrtValue.ortvalue_from_numpy(x).element_type() == number


def test_paths(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(proto().SerializeToString())
    for given in (path, str(path)):
        session = InferenceSession(given, None, ["CPUExecutionProvider"])
        assert "model.onnx" in repr(session)
        np.testing.assert_array_equal(session.run(["y"], {"x": X})[0], X + W)


def test_the_modules_functions() -> None:
    assert cnnengine.get_available_providers() == cnnengine.get_all_providers() == ["CPUExecutionProvider"]
    assert cnnengine.get_device() == "CPU"
    assert cnnengine.get_version_string() == cnnengine.__version__
    assert cnnengine.__version__ in cnnengine.get_build_info()
    cnnengine.set_seed(3)
    cnnengine.set_default_logger_severity(3)
    cnnengine.set_default_logger_verbosity(0)
    cnnengine.disable_telemetry_events()
    cnnengine.enable_telemetry_events()
    with pytest.raises(InputError):
        cnnengine.set_default_logger_severity(9)


# running


def test_run(session: InferenceSession) -> None:
    y, z = session.run(None, {"x": X})
    np.testing.assert_array_equal(y, X + W)
    np.testing.assert_array_equal(z, np.maximum(X, 0))
    assert [a.shape for a in session.run([], {"x": X})] == [X.shape, X.shape]
    (only,) = session.run(["z"], {"x": X}, RunOptions())
    np.testing.assert_array_equal(only, z)
    np.testing.assert_array_equal(session.run(["y"], {"x": X.tolist()})[0], y)
    np.testing.assert_array_equal(session.run(["y"], {"x": OrtValue.ortvalue_from_numpy(X)})[0], y)


def test_initializers_can_be_fed(session: InferenceSession) -> None:
    for w in (W + 5, W * 2):
        np.testing.assert_array_equal(session.run(["y"], {"x": X, "w": w})[0], X + w)
    np.testing.assert_array_equal(session.run(["y"], {"x": X})[0], X + W)
    assert len(session._overriding) == 1
    with pytest.raises(ShapeError, match="'w'"):
        session.run(None, {"x": X, "w": np.ones((1, 1), np.float32)})


@pytest.mark.parametrize(
    ("feed", "names", "kind", "text"),
    [
        ({}, None, InputError, "'x'.*missing"),
        ({"x": X, "q": X}, None, InputError, "'q'"),
        ({"x": X.astype(float)}, None, InputError, "float64"),
        ({"x": X[0]}, None, ShapeError, "'x'"),
        ({"x": X[:, :2]}, None, ShapeError, "'x'"),
        ({"x": [[1.0], [2.0, 3.0]]}, None, InputError, "'x'"),
        ({"x": X}, ["nope"], InputError, "nope"),
        ({"x": X}, "y", InputError, "output_names"),
        ([X], None, InputError, "input_feed"),
    ],
)
def test_refused_runs(session: InferenceSession, feed: Any, names: Any, kind: type[CNNEngineError], text: str) -> None:
    with pytest.raises(kind, match=text):
        session.run(names, feed)


def test_terminate(session: InferenceSession) -> None:
    options = RunOptions()
    options.terminate = True
    with pytest.raises(CNNEngineError, match="terminate"):
        session.run(None, {"x": X}, options)
    with pytest.raises(InputError, match="run_options"):
        session.run(None, {"x": X}, SessionOptions())  # type: ignore[arg-type]


def test_async(session: InferenceSession) -> None:
    done = threading.Event()
    got: list[Any] = []

    def callback(*given: Any) -> None:
        got.extend(given)
        done.set()

    session.run_async(["y"], {"x": X}, callback, "mine")
    assert done.wait(30)
    np.testing.assert_array_equal(got[0][0], X + W)
    assert got[1:] == ["mine", ""]
    done.clear()
    got.clear()
    session.run_async(None, {"x": X[0]}, callback, None)
    assert done.wait(30)
    assert got[0] == []
    assert "'x'" in got[2]


def test_ort_values(session: InferenceSession) -> None:
    value = OrtValue.ortvalue_from_numpy(X.copy())
    (y,) = session.run_with_ort_values(["y"], {"x": value})
    np.testing.assert_array_equal(y.numpy(), X + W)
    assert (y.shape(), y.data_type(), y.element_type(), y.device_name()) == ([2, 3, 4], "tensor(float)", 1, "cpu")
    assert (y.has_value(), y.is_tensor(), y.is_sparse_tensor(), y.is_tensor_sequence()) == (True, True, False, False)
    assert y.tensor_size_in_bytes() == 96
    assert y.data_ptr() == y.numpy().ctypes.data
    np.testing.assert_array_equal(np.from_dlpack(y), y.numpy())
    np.testing.assert_array_equal(np.asarray(y), y.numpy())
    value.update_inplace(np.ones_like(X))
    np.testing.assert_array_equal(session.run_with_ort_values(["y"], {"x": value})[0].numpy(), 1 + np.broadcast_to(W, X.shape))
    for wrong in (np.ones(3, np.float32), np.ones_like(X, float)):
        with pytest.raises(ShapeError):
            value.update_inplace(wrong)
    with pytest.raises(InputError, match="device"):
        OrtValue.ortvalue_from_numpy(X, "cuda")
    assert OrtValue.ortvalue_from_shape_and_type([2, 3], TensorProto.INT64).numpy().dtype == np.int64
    for shape, error in (([-1], ShapeError), ([2**62], ShapeError), (["n"], InputError), (2, InputError), ([True], InputError)):
        with pytest.raises(error, match="shape"):
            OrtValue.ortvalue_from_shape_and_type(shape, np.float32)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="element_type"):
        OrtValue.ortvalue_from_shape_and_type([1], 77)


def test_bindings(session: InferenceSession) -> None:
    binding = session.io_binding()
    x = X.copy()
    binding.bind_cpu_input("x", x)
    with pytest.raises(InputError, match="no output is bound"):
        session.run_with_iobinding(binding)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    (first,) = binding.copy_outputs_to_cpu()
    np.testing.assert_array_equal(first, X + W)
    x += 1
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), x + W)
    np.testing.assert_array_equal(first, X + W)

    binding.clear_binding_outputs()
    binding.clear_binding_inputs()
    assert binding.get_outputs() == []
    y, z = np.zeros_like(X), OrtValue.ortvalue_from_shape_and_type(X.shape, np.float32)
    binding.bind_input("x", "cpu", 0, np.float32, X.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    binding.bind_ortvalue_output("z", z)
    session.run_with_iobinding(binding, RunOptions())
    np.testing.assert_array_equal(y, x + W)
    np.testing.assert_array_equal(z.numpy(), np.maximum(x, 0))
    assert [v.shape() for v in binding.get_outputs()] == [[2, 3, 4]] * 2
    copies = binding.copy_outputs_to_cpu()
    before = [copied.copy() for copied in copies]
    x += 1
    session.run_with_iobinding(binding)
    assert (y == x + W).all()
    for copied, then in zip(copies, before, strict=True):
        np.testing.assert_array_equal(copied, then)  # of that run, wherever later ones write

    binding.bind_output("y", "cpu", 0, np.float32, (2, 3, 5))
    with pytest.raises(ShapeError, match="'y'"):
        session.run_with_iobinding(binding)
    binding.bind_output("y", "cpu", 0, np.float64, (2, 3, 4))
    with pytest.raises(ShapeError, match="float64"):
        session.run_with_iobinding(binding)
    binding.bind_ortvalue_input("x", OrtValue.ortvalue_from_numpy(X))
    binding.bind_ortvalue_output("y", OrtValue.ortvalue_from_shape_and_type(X.shape))
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), X + W)


def test_refused_bindings(session: InferenceSession) -> None:
    binding = session.io_binding()
    for call in (
        lambda: binding.bind_cpu_input("nope", X),
        lambda: binding.bind_output("nope"),
        lambda: binding.bind_output("y", "cuda"),
        lambda: binding.bind_output("y", "cpu", 1),
        lambda: binding.bind_output("y", shape=(2, 3, 4)),
        lambda: binding.bind_output("y", buffer_ptr=123),
        lambda: binding.bind_input("x", "cpu", 0, np.float32, (1, 3, 4), 0),
        lambda: binding.bind_input("x", "cpu", 0, np.float32, (2**60, 3, 4), 4096),
        lambda: binding.bind_input("x", "cpu", 0, object, (1, 3, 4), 4096),
        lambda: binding.bind_ortvalue_input("x", X),  # type: ignore[arg-type]
        lambda: binding.bind_ortvalue_output("y", X),  # type: ignore[arg-type]
        lambda: InferenceSession(proto().SerializeToString()).run_with_iobinding(binding),
    ):
        with pytest.raises((InputError, ShapeError)):
            call()


# options


def test_options_have_defaults_and_kinds() -> None:
    options = SessionOptions()
    assert options.graph_optimization_level is cnnengine.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.graph_optimization_level = cnnengine.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_mode = cnnengine.ExecutionMode.ORT_PARALLEL
    options.inter_op_num_threads = np.int64(3)  # type: ignore[assignment]
    options.enable_profiling = 0  # type: ignore[assignment]
    assert options.enable_profiling is False
    assert options.inter_op_num_threads == 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    for name, value in (
        ("intra_op_num_threads", "two"),
        ("intra_op_num_threads", 1.5),
        ("graph_optimization_level", 17),
        ("execution_mode", None),
        ("logid", 3),
    ):
        with pytest.raises(InputError, match=name):
            setattr(options, name, value)
    with pytest.raises(AttributeError):
        options.intra_op_threads = 2  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="no such config entry"):
        options.get_session_config_entry("other")
    with pytest.raises(InputError):
        options.add_session_config_entry("a", 1)  # type: ignore[arg-type]
    with pytest.raises(cnnengine.UnsupportedOperatorError):
        options.register_custom_ops_library("lib.so")
    assert InferenceSession(proto().SerializeToString(), options).get_session_options().inter_op_num_threads == 3


@pytest.mark.parametrize(("given", "want"), [(1, 1), (2, 2), (0, None), (-1, None)])
def test_threads(given: int, want: int | None) -> None:
    options = SessionOptions()
    options.intra_op_num_threads = given
    session = InferenceSession(proto().SerializeToString(), options)
    assert session._model.threads == (want or cnnengine.load(proto()).threads)
    options.intra_op_num_threads = 7
    assert session.get_session_options().intra_op_num_threads == given


def test_free_dimensions() -> None:
    options = SessionOptions()
    options.add_free_dimension_override_by_name("n", 4)
    session = InferenceSession(proto().SerializeToString(), options)
    assert session.get_inputs()[0].shape == [4, 3, None]
    assert session.get_outputs()[0].shape == [4, 3, None]
    with pytest.raises(ShapeError, match="'x'"):
        session.run(None, {"x": X})
    assert session.run(["y"], {"x": np.concatenate([X, X])})[0].shape == (4, 3, 4)
    with pytest.raises(InputError):
        options.add_free_dimension_override_by_name("n", 0)


def test_initializers_of_the_options(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(proto().SerializeToString())
    options = SessionOptions()
    options.add_external_initializers(["w"], [OrtValue.ortvalue_from_numpy(W - 9)])
    session = InferenceSession(path, options)
    np.testing.assert_array_equal(session.run(["y"], {"x": X})[0], X + (W - 9))
    assert "m.onnx" in repr(session)
    options.add_initializer("w", OrtValue.ortvalue_from_numpy(np.ones(3, np.float32)))
    with pytest.raises(ShapeError, match="'w'"):
        InferenceSession(path, options)
    options.add_initializer("v", OrtValue.ortvalue_from_numpy(W))
    options.add_initializer("w", OrtValue.ortvalue_from_numpy(W))
    with pytest.raises(cnnengine.ModelError, match="'v'"):
        InferenceSession(path, options)


def test_providers() -> None:
    source = proto().SerializeToString()
    options = [("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})]
    assert InferenceSession(source, providers=options).get_providers() == ["CPUExecutionProvider"]
    session = InferenceSession(source, providers=["CPUExecutionProvider"], provider_options=[{}])
    assert session.get_provider_options() == {"CPUExecutionProvider": {}}
    session.disable_fallback()
    session.enable_fallback()
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        session = InferenceSession(source, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        session.set_providers(["CUDAExecutionProvider"])
    assert session.get_providers() == ["CPUExecutionProvider"]
    for providers, given in (
        ("CPUExecutionProvider", None),
        ([3], None),
        (options, [{}]),
        (["CPUExecutionProvider"], []),
        (None, [{}]),
        ([("CPUExecutionProvider", 3)], None),
    ):
        with pytest.raises(InputError, match="provider"):
            InferenceSession(source, providers=providers, provider_options=given)  # type: ignore[arg-type]


def test_refused_constructors(tmp_path: Path) -> None:
    with pytest.raises(cnnengine.ModelNotFoundError, match="nowhere"):
        InferenceSession(tmp_path / "nowhere.onnx")
    with pytest.raises(cnnengine.ModelError):
        InferenceSession(b"no model")
    with pytest.raises(InputError, match="path_or_bytes"):
        InferenceSession(proto())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="sess_options"):
        InferenceSession(proto().SerializeToString(), ["CPUExecutionProvider"])  # type: ignore[arg-type]
    options = SessionOptions()
    options.log_severity_level = 7
    with pytest.raises(InputError, match="log_severity_level"):
        InferenceSession(proto().SerializeToString(), options)
    options = SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    with pytest.warns(UserWarning, match="optimized_model_filepath"):
        InferenceSession(proto().SerializeToString(), options)


def test_profile(tmp_path: Path) -> None:
    options = SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "trace")
    session = InferenceSession(proto().SerializeToString(), options)
    session.run(None, {"x": X})
    session.run(None, {"x": X})
    path = session.end_profiling()
    assert os.path.dirname(path) == str(tmp_path)
    events = json.loads(Path(path).read_text())
    assert [e["name"] for e in events] == ["model_loading_array", "model_run", "model_run"]
    assert all(e["ph"] == "X" and e["dur"] >= 0 and e["ts"] >= 0 for e in events)
    assert session.end_profiling() == ""
    assert session.get_profiling_start_time_ns() > 10**18
    assert InferenceSession(proto().SerializeToString()).end_profiling() == ""


def test_copies(session: InferenceSession) -> None:
    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.add_free_dimension_override_by_name("n", 2)
    session = InferenceSession(proto().SerializeToString(), options)
    for other in (pickle.loads(pickle.dumps(session)), copy.deepcopy(session)):
        np.testing.assert_array_equal(other.run(["y"], {"x": X})[0], X + W)
        np.testing.assert_array_equal(other.run(["y"], {"x": X, "w": W + 1})[0], X + W + 1)
        assert other.get_modelmeta() == session.get_modelmeta()
        assert other.get_inputs() == session.get_inputs()
        assert other._model.threads == 1
        assert other.get_session_options().intra_op_num_threads == 1


def test_many_threads_share_a_session(session: InferenceSession) -> None:
    failures: list[Any] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            x = rng.standard_normal((1 + seed % 3, 3, 1 + seed)).astype(np.float32)
            w = rng.standard_normal((3, 1)).astype(np.float32)
            if not np.array_equal(session.run(["y"], {"x": x, "w": w})[0], x + w):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# beside onnxruntime


def names_of(owner: Any) -> set[str]:
    return {n for n in dir(owner) if not n.startswith("_")}


@needs_ort
def test_the_names_are_onnxruntimes() -> None:
    import onnxruntime as ort
    from onnxruntime.capi import _pybind_state as inside  # it has a class of tensors more

    for kind in (SessionOptions, RunOptions, cnnengine.NodeArg, cnnengine.ModelMetadata, OrtValue, cnnengine.IOBinding):
        assert names_of(kind) <= names_of(getattr(ort, kind.__name__)) | names_of(getattr(inside, kind.__name__, None)), kind
    assert names_of(InferenceSession) <= names_of(ort.InferenceSession)
    options, theirs = SessionOptions(), ort.SessionOptions()
    for mine, other in ((options, theirs), (RunOptions(), ort.RunOptions())):
        for name in names_of(mine):
            value = getattr(mine, name)
            if not callable(value):
                default = getattr(other, name)
                assert (value, name) == (getattr(default, "value", default), name)
    for enum in (cnnengine.GraphOptimizationLevel, cnnengine.ExecutionMode, cnnengine.ExecutionOrder):
        for name, member in getattr(ort, enum.__name__).__members__.items():
            assert enum[name].value == int(member)
    for method in ("run", "run_async", "run_with_iobinding", "run_with_ort_values"):
        given = inspect.signature(getattr(ort.InferenceSession, method)).parameters
        assert list(inspect.signature(getattr(InferenceSession, method)).parameters) == list(given)


@needs_ort
@pytest.mark.parametrize("ir_version", [3, 8])
def test_the_same_answers(ir_version: int) -> None:
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    source = proto(ir_version).SerializeToString()
    mine, theirs = InferenceSession(source), ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    for name in ("get_inputs", "get_outputs", "get_overridable_initializers"):
        assert arguments(getattr(mine, name)()) == arguments(getattr(theirs, name)()), name
    meta = theirs.get_modelmeta()
    for name in names_of(mine.get_modelmeta()) - {"graph_description"}:  # onnxruntime leaves that one empty
        assert getattr(mine.get_modelmeta(), name) == getattr(meta, name), name
    feed = {"x": X} if ir_version == 3 else {"x": X, "w": W * 3}
    for got, want in zip(mine.run(None, feed), theirs.run(None, feed), strict=True):
        np.testing.assert_array_equal(got, want)
    for wrong in ({}, {"x": X, "q": X}, {"x": X.astype(float)}, {"x": X[0]}, {"x": X[:, :2]}):
        with pytest.raises(Exception):  # noqa: B017 (theirs has no common root)
            theirs.run(None, wrong)
        with pytest.raises(CNNEngineError):
            mine.run(None, wrong)
