"""cnnengine in onnxruntime's place: programs, processes, errors, and every public name of onnxruntime 1.31."""

from __future__ import annotations

import enum
import importlib
import importlib.util
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

import cnnengine
from cnnengine import errors as errors_module
from cnnengine.onnxruntime import refused
from cnnengine.onnxruntime.errors import known
from cnnengine.onnxruntime.shadow import onnxruntime as ort

inside: Any = importlib.import_module("cnnengine.onnxruntime.shadow.onnxruntime.capi._pybind_state")
needs_ort = pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "session.md"
F = TensorProto.FLOAT
X = np.array([[1, -2, 3], [-4, 5, 6]], np.float32)


def source(operator: str = "Relu", opset: int = 17) -> bytes:
    info = [helper.make_tensor_value_info(name, F, ["n", 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], name="the node")], "g", info[:1], info[1:])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString())


def python(*arguments: object, status: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False, **options
    )
    assert done.returncode == status, done.stderr
    return done


def outside() -> dict[str, str]:
    """The environment of a program in a folder of its own: Python puts that on the path, as it does where nobody tests."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    given = os.environ.get("PYTHONPATH")
    return {**kept, **({"PYTHONPATH": os.pathsep.join(map(os.path.abspath, given.split(os.pathsep)))} if given else {})}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program's, with a model and a module of its own."""
    (tmp_path / "m.onnx").write_bytes(source())
    (tmp_path / "beside.py").write_text("import onnxruntime\nNAME = onnxruntime.__file__\n")
    return tmp_path


PROGRAM = """
import json, sys
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
import subprocess
import numpy as np
import onnxruntime as ort
import onnxruntime.capi.onnxruntime_pybind11_state
from onnxruntime.capi import _pybind_state as C
import beside

def work(x):
    import onnxruntime
    session = onnxruntime.InferenceSession(str(Path(__file__).with_name("m.onnx")), providers=C.get_available_providers())
    return onnxruntime.__file__, session.run(None, {"x": np.full((1, 3), x, np.float32)})[0].tolist()

if __name__ == "__main__":
    told = {"argv": sys.argv, "path": sys.path[1], "file": ort.__file__, "beside": beside.NAME, "version": ort.__version__,
            "metadata": version("onnxruntime"), "same": work is sys.modules["__main__"].work}
    told["answers"] = {"here": work(-2.0)}
    for method in ("spawn", "forkserver", "fork"):
        with get_context(method).Pool(1) as pool:
            told["answers"][method] = pool.map(work, [-2.0])[0]
    child = [sys.executable, "-c", "import onnxruntime; print(onnxruntime.__file__)"]
    told["child"] = subprocess.run(child, capture_output=True, text=True).stdout.strip()
    print(json.dumps(told))
    sys.exit(3)
"""


def test_a_program_and_its_processes(folder: Path) -> None:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    told = json.loads(
        python("-m", "cnnengine.onnxruntime", program, "a", "-b", "--c=d", status=3, cwd=folder.parent, env=outside()).stdout
    )
    ours = str(Path(cnnengine.onnxruntime.folder(), "onnxruntime", "__init__.py"))
    assert told["argv"] == [str(program), "a", "-b", "--c=d"]
    assert told["path"] == str(folder)
    assert (told["version"], told["metadata"], told["same"]) == ("1.31.1", "1.31.1", True)
    assert told["answers"] == {key: [ours, [[0.0, 0.0, 0.0]]] for key in ("here", "spawn", "forkserver", "fork")}
    assert told["file"] == told["beside"] == told["child"] == ours


SHORT = "import sys, onnxruntime; print(onnxruntime.__author__, __name__, sys.argv[1:])"


@pytest.mark.parametrize("way", ["module", "code", "folder", "archive", "command"])
def test_the_ways_to_name_a_program(folder: Path, way: str) -> None:
    environment = outside()
    if way == "module":
        (folder / "short.py").write_text(SHORT)
        arguments = ["-m", "short"]
    elif way == "code":
        arguments = ["-c", SHORT]
    elif way == "folder":
        (folder / "__main__.py").write_text(SHORT)
        arguments = [str(folder)]
    elif way == "archive":
        import zipfile

        with zipfile.ZipFile(folder / "short.pyz", "w") as archive:
            archive.writestr("__main__.py", SHORT)
        arguments = ["short.pyz"]
    else:
        (folder / "short").write_text(f"#!{sys.executable}\n{SHORT}\n")
        (folder / "short").chmod(0o755)
        environment["PATH"] = os.pathsep.join([str(folder), environment.get("PATH", "")])
        arguments = ["short"]
    where = folder if way != "command" else folder.parent
    told = python("-m", "cnnengine.onnxruntime", *arguments, "-m", "x", cwd=where, env=environment).stdout
    assert told == "cnnengine __main__ ['-m', 'x']\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "a program is needed"),
        (["-m"], "a program is needed"),
        (["--no-such"], "a program is needed, not --no-such"),
        (["no-such-program"], "there is no file 'no-such-program', and no command of this name"),
        (["./no\nsuch.py"], "there is no file './no\\nsuch.py'"),
        (["sh"], "is no program of Python"),
    ],
)
def test_wrong_calls(arguments: list[str], text: str) -> None:
    done = python("-m", "cnnengine.onnxruntime", *arguments, status=2)
    assert done.stderr.startswith("cnnengine.onnxruntime: ")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_help() -> None:
    assert "PROGRAM" in python("-m", "cnnengine.onnxruntime", "--help").stdout


def test_install_and_uninstall() -> None:
    code = """
import sys, warnings, importlib.util
import cnnengine.onnxruntime as switch
before = importlib.util.find_spec("onnxruntime")
warnings.simplefilter("error")
switch.install(); switch.install()
assert sys.path.count(switch.folder()) == 1
import onnxruntime
assert onnxruntime.__author__ == "cnnengine"
switch.install()
assert sys.modules["onnxruntime"] is onnxruntime
assert importlib.util.find_spec("onnxruntime").origin == onnxruntime.__file__
switch.uninstall(); switch.uninstall()
assert switch.folder() not in sys.path and "onnxruntime.capi" not in sys.modules
after = importlib.util.find_spec("onnxruntime")
assert (before and before.origin) == (after and after.origin)
"""
    python("-c", code)


def test_a_finder_that_is_asked_before_any_folder(tmp_path: Path) -> None:
    """As editable installations have: the switch must not seem to be made."""
    (tmp_path / "elsewhere.py").write_text("")
    code = """
import importlib.util, sys
import cnnengine, cnnengine.onnxruntime as switch
class Finder:
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, "elsewhere.py") if name == "onnxruntime" else None
sys.meta_path.insert(0, Finder())
try:
    switch.install()
except cnnengine.InputError as error:
    assert "elsewhere.py" in str(error), error
else:
    raise AssertionError
assert switch.folder() not in sys.path
"""
    python("-c", code, cwd=tmp_path, env=outside())


@needs_ort
def test_what_was_imported_before() -> None:
    code = """
import warnings, onnxruntime as real
from onnxruntime.capi import _pybind_state
import sys, cnnengine, cnnengine.onnxruntime
cnnengine.onnxruntime.uninstall()
assert sys.modules["onnxruntime"] is real
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    cnnengine.onnxruntime.install()
(warning,) = caught
assert warning.filename == "<string>" and "already imported" in str(warning.message)
import onnxruntime
from onnxruntime.capi import _pybind_state as other
assert real.__author__ != onnxruntime.__author__ == "cnnengine"
assert other is not _pybind_state
from cnnengine.report import check
try:
    check("m.onnx", against="onnxruntime")
except cnnengine.InputError as error:
    assert "cnnengine itself" in str(error)
else:
    raise AssertionError
"""
    python("-c", code, cwd=_written("m.onnx"), env=outside())


def _written(name: str) -> str:
    import tempfile

    folder = tempfile.mkdtemp()
    Path(folder, name).write_bytes(source())
    return folder


@pytest.mark.parametrize("name", refused.MODULES)
def test_modules_that_are_not_there(name: str) -> None:
    done = python("-m", "cnnengine.onnxruntime", "-c", f"import {name}", status=1)
    assert done.stderr.splitlines()[-1] == f"ImportError: {name}: {refused.MODULES[name]}"


# errors


def errors(*names: str) -> tuple[type[Exception], ...]:
    return tuple(getattr(inside, name) for name in names)


@pytest.mark.parametrize(
    ("call", "ours", "theirs"),
    [
        (lambda s: ort.InferenceSession("nowhere.onnx"), cnnengine.ModelNotFoundError, ("NoSuchFile",)),
        (lambda s: ort.InferenceSession(b"no model"), cnnengine.ModelError, ("InvalidProtobuf", "Fail")),
        (lambda s: ort.InferenceSession(source("Foo")), cnnengine.UnsupportedOperatorError, ("InvalidGraph", "NotImplemented")),
        (lambda s: s.run(None, {}), cnnengine.InputError, ("InvalidArgument",)),
        (lambda s: s.run(["q"], {"x": X}), cnnengine.InputError, ("InvalidArgument",)),
        (lambda s: s.run(None, {"x": X, "z": X}), cnnengine.InputError, ("InvalidArgument",)),
        (lambda s: s.run(None, {"x": X[0]}), cnnengine.ShapeError, ("InvalidArgument",)),
        (lambda s: s.run(None, {"x": X.astype(float)}), cnnengine.InputError, ("InvalidArgument",)),
        (lambda s: s.run_with_iobinding(s.io_binding()), cnnengine.InputError, ("InvalidArgument",)),
        (lambda s: s.run_with_ort_values(None, {}), cnnengine.InputError, ("InvalidArgument",)),
    ],
)
def test_errors_are_both_packages(call: Any, ours: type[Exception], theirs: tuple[str, ...]) -> None:
    with pytest.raises(ours) as caught:
        call(ort.InferenceSession(source()))
    for kind in errors(*theirs):
        assert isinstance(caught.value, kind)
    assert (isinstance(caught.value, inside.Fail)) == (theirs != ("InvalidArgument",) and theirs != ("NoSuchFile",))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


def test_errors_of_a_node() -> None:
    info = [helper.make_tensor_value_info(name, kind, ["n"]) for name, kind in (("x", F), ("i", TensorProto.INT64), ("y", F))]
    graph = helper.make_graph([helper.make_node("Gather", ["x", "i"], ["y"], name="the node")], "g", info[:2], info[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString())
    for kind in (cnnengine.InputError, *errors("InvalidArgument", "RuntimeException", "Fail")):
        with pytest.raises(kind, match="the node"):
            session.run(None, {"x": X[0], "i": np.array([7])})


def test_every_error_has_a_kind() -> None:
    """None that the package raises reaches a program for onnxruntime as something that it does not catch."""
    for name in errors_module.__all__:
        kind = getattr(errors_module, name)
        if isinstance(kind, type) and issubclass(kind, cnnengine.CNNEngineError):
            told = known(kind("text", tensor="t"))
            assert isinstance(told, kind)
            assert isinstance(told, errors("Fail", "InvalidArgument", "NoSuchFile"))
            assert (told.message, told.tensor) == ("text", "t")


def test_a_cancelled_load() -> None:
    options = ort.SessionOptions()
    options.set_load_cancellation_flag(True)
    for kind in (cnnengine.ModelError, inside.ModelLoadCanceled):
        with pytest.raises(kind, match="cancelled"):
            ort.InferenceSession(source(), options)
    options.set_load_cancellation_flag(False)
    assert ort.InferenceSession(source(), options).get_inputs()


def test_an_entry_that_is_not_there() -> None:
    for options in (ort.SessionOptions().get_session_config_entry, ort.RunOptions().get_run_config_entry):
        with pytest.raises(RuntimeError, match="no such config entry") as caught:
            options("a")
        assert isinstance(caught.value, cnnengine.InputError)


# what programs look up


def test_sessions() -> None:
    session = ort.InferenceSession(source(), sess_options=ort.SessionOptions(), no_such_argument=3)
    assert isinstance(session, importlib.import_module(f"{ort.__name__}.capi.onnxruntime_inference_collection").Session)
    assert [i.name for i in session._inputs_meta] == [i.name for i in session._sess.inputs_meta] == ["x"]
    assert session._sess.run(["y"], {"x": X}, None)[0].tolist() == np.maximum(X, 0).tolist()
    assert {session.get_inputs()[0]: 1, session.get_modelmeta(): 2}[session.get_inputs()[0]] == 1
    assert hash(session.get_modelmeta()) == hash(session.get_modelmeta())
    assert [m.name for m in (*session.get_input_memory_infos(), *session.get_output_memory_infos())] == ["Cpu", "Cpu"]
    assert [d.ep_name for d in session.get_input_epdevices()] == ["CPUExecutionProvider"]
    with pytest.raises(inside.InvalidArgument, match="record_ep_graph_assignment_info"):
        session.get_provider_graph_assignment_info()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    (part,) = ort.InferenceSession(source(), options).get_provider_graph_assignment_info()
    assert (part.ep_name, [(n.name, n.domain, n.op_type) for n in part.get_nodes()]) == (
        "CPUExecutionProvider",
        [("the node", "", "Relu")],
    )


def test_sessions_that_programs_derive() -> None:
    class Session(ort.InferenceSession):  # type: ignore[name-defined,misc]
        def __init__(self, path: str, **options: Any) -> None:
            super().__init__(path, **options)
            self.path = path

        def __getstate__(self) -> dict[str, Any]:
            return {"path": self.path}

        def __setstate__(self, state: dict[str, Any]) -> None:
            self.__init__(state["path"])  # type: ignore[misc]

    path = os.path.join(_written("m.onnx"), "m.onnx")
    session = Session(path, providers=["CPUExecutionProvider"])
    assert session._model_path == path
    other = Session.__new__(Session)
    other.__setstate__(session.__getstate__())
    assert other.run(None, {"x": X})[0].tolist() == np.maximum(X, 0).tolist()
    again = pickle.loads(pickle.dumps(ort.InferenceSession(path)))
    assert type(again) is ort.InferenceSession
    assert again.run(None, {"x": X})[0].tolist() == np.maximum(X, 0).tolist()


def test_threads_that_all_sessions_share() -> None:
    options = ort.SessionOptions()
    options.use_per_session_threads = False
    own = ort.SessionOptions()
    own.intra_op_num_threads = 2
    ort.set_global_thread_pool_sizes(1, 1)
    try:
        assert ort.InferenceSession(source(), options)._model.threads == 1
        assert ort.InferenceSession(source(), own)._model.threads == 2
        assert options.intra_op_num_threads == 0
    finally:
        ort.set_global_thread_pool_sizes(0, 0)
    for wrong in (-1, 1.5, "2"):
        with pytest.raises(cnnengine.InputError):
            ort.set_global_thread_pool_sizes(wrong)


def test_providers_of_the_options() -> None:
    options = ort.SessionOptions()
    assert not options.has_providers()
    with pytest.raises(cnnengine.InputError, match="CUDA"):
        options.add_provider("CUDAExecutionProvider", {})
    assert not options.has_providers()
    options.add_provider_for_devices(ort.get_ep_devices(), {})
    assert options.has_providers()
    assert ort.InferenceSession(source(), options).get_session_options().has_providers()


def test_bindings_of_both_kinds() -> None:
    session = ort.InferenceSession(source())
    binding = session.io_binding()
    assert isinstance(binding, ort.IOBinding)
    cpu = ort.OrtDevice.make("cpu", 0)
    out = np.zeros((2, 3), np.float32)
    binding._iobinding.bind_input("x", cpu, np.float32, X.shape, X.ctypes.data)
    binding._iobinding.bind_output("y", cpu, np.float32, out.shape, out.ctypes.data)
    session.run_with_iobinding(binding)
    assert out.tolist() == np.maximum(X, 0).tolist()
    assert [v.numpy().tolist() for v in binding.get_outputs_as_ortvaluevector()] == [out.tolist()]
    other = ort.SessionIOBinding(session)
    other.bind_input("x", -X)
    other.bind_output("y", cpu)
    session.run_with_iobinding(other)
    assert other.get_outputs()[0].numpy().tolist() == np.maximum(-X, 0).tolist()
    for call in (
        lambda: other.bind_input("x", cpu, np.float32),
        lambda: other.bind_output("y", "cpu"),
        lambda: other.bind_output("y"),
    ):
        with pytest.raises(cnnengine.InputError):
            call()


def test_vectors() -> None:
    session = ort.InferenceSession(source())
    feeds, fetches = inside.OrtValueVector(), inside.OrtValueVector()
    feeds.push_back(X.copy())
    session.run_with_ortvaluevector(None, ["x"], feeds, ["y"], fetches, [])
    (fetched,) = fetches
    assert fetched.numpy().tolist() == np.maximum(X, 0).tolist()
    feeds[0].update_inplace(-X)
    session.run_with_ortvaluevector(None, ["x"], feeds, ["y"], fetches, [])
    assert fetched.numpy().tolist() == np.maximum(-X, 0).tolist()
    with pytest.raises(inside.InvalidArgument):
        session.run_with_ortvaluevector(None, ["x", "z"], feeds, ["y"], fetches, [])
    feeds.push_back(np.array([1, 0], np.uint8), True)
    assert (feeds.bool_tensor_indices(), [feeds.element_type_at(i) for i in range(len(feeds))]) == ([1], [1, 9])
    assert np.from_dlpack(fetches[0]).tolist() == fetched.numpy().tolist()
    assert [ort.OrtValue.from_dlpack(c).shape() for c in fetches.to_dlpacks()] == [[2, 3]]


def test_tensors_of_others() -> None:
    array = np.arange(6, dtype=np.int32)
    value = ort.OrtValue.from_dlpack(array)
    array[0] = 9
    assert value.numpy().tolist() == [9, 1, 2, 3, 4, 5]
    assert ort.OrtValue.from_dlpack(value.to_dlpack()).numpy().tolist() == value.numpy().tolist()
    assert ort.OrtValue.from_dlpack(np.array([True, False])).data_type() == "tensor(bool)"
    assert inside.is_dlpack_uint8_tensor(np.zeros(2, np.uint8).__dlpack__())
    assert not inside.is_dlpack_uint8_tensor(np.zeros(2, np.int8).__dlpack__())
    for wrong in (3, "a", None, np.array(["a"])):
        with pytest.raises(cnnengine.InputError):
            ort.OrtValue.from_dlpack(wrong)
    assert ort.OrtValue(value)._ortvalue.numpy() is value._get_c_value().numpy()
    assert ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, 6).element_type() == 6
    for number in (7, 16, 99):
        with pytest.raises(cnnengine.InputError):
            ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, number)
    target = ort.OrtValue.ortvalue_from_shape_and_type([6], np.int32)
    ort.copy_tensors([value], [target])
    assert target.numpy().tolist() == array.tolist()
    with pytest.raises(cnnengine.InputError):
        ort.copy_tensors([value], [])
    with pytest.raises(cnnengine.ShapeError):
        ort.copy_tensors([value], [ort.OrtValue.ortvalue_from_shape_and_type([5], np.int32)])


def test_devices() -> None:
    device = ort.OrtDevice.make("cpu", 0)
    assert (device.device_id(), device.device_type(), device.device_vendor_id(), device.device_mem_type()) == (0, 0, 0, 0)
    for call in (
        lambda: ort.OrtDevice.make("cuda", 0),
        lambda: ort.OrtDevice.make("cpu", 1),
        lambda: ort.OrtDevice(1, 0, 0),
        lambda: ort.OrtDevice(),
        lambda: ort.OrtMemoryInfo("Cuda", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT),
        lambda: ort.OrtArenaCfg({"no_such": 1}),
        lambda: ort.OrtArenaCfg(1),
    ):
        with pytest.raises(cnnengine.InputError):
            call()
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_DEVICE_ALLOCATOR, 0, ort.OrtMemType.CPU)
    assert (info.name, info.allocator_type, info.mem_type, info.device_id) == ("Cpu", 0, -1, 0)
    assert ort.OrtArenaCfg(1, 2, 3, 4).max_dead_bytes_per_chunk == 4
    assert ort.OrtArenaCfg({"max_mem": 5}).max_mem == 5
    ort.create_and_register_allocator(info, ort.OrtArenaCfg({}))
    (found,) = ort.get_ep_devices()
    assert (found.ep_name, found.device.type) == ("CPUExecutionProvider", ort.OrtHardwareDeviceType.CPU)


def with_external_data(folder: Path) -> Path:
    """y = x + w, where w lies in w/w.bin."""
    info = [helper.make_tensor_value_info(name, F, ["n", 3]) for name in "xy"]
    weight = numpy_helper.from_array(np.array([10, 20, 30], np.float32), "w")
    external_data_helper.set_external_data(weight, "w/w.bin")
    weight.ClearField("raw_data")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", info[:1], info[1:], [weight])
    path = folder / "external.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("as_bytes", [False, True])
def test_external_data_in_memory(tmp_path: Path, as_bytes: bool) -> None:
    path = with_external_data(tmp_path)
    given = path.read_bytes() if as_bytes else str(path)
    content = np.array([1, 2, 3, 99], np.float32)
    options = ort.SessionOptions()
    options.add_external_initializers_from_files_in_memory(["w/w.bin"], [content], [12])
    session = ort.InferenceSession(given, options)
    content[:] = 7
    for one in (session, pickle.loads(pickle.dumps(session))):
        for x in (X, X[:1]):
            assert one.run(None, {"x": x})[0].tolist() == (x + np.array([1, 2, 3], np.float32)).tolist()
    with pytest.raises(cnnengine.ModelError):
        ort.InferenceSession(given)


@pytest.mark.parametrize(
    ("names", "buffers", "lengths"),
    [
        (["../w"], [b"a"], [1]),
        (["/w"], [b"a"], [1]),
        ([""], [b"a"], [1]),
        (["w"], [b"a"], [2]),
        (["w"], [b"a"], [-1]),
        (["w"], [3], [1]),
        (["w"], [], [1]),
        (["w"], [b"a"], []),
        ("w", [b"a"], [1]),
    ],
)
def test_refused_external_data_in_memory(names: Any, buffers: Any, lengths: Any) -> None:
    with pytest.raises(cnnengine.InputError):
        ort.SessionOptions().add_external_initializers_from_files_in_memory(names, buffers, lengths)


def test_the_backend() -> None:
    backend: Any = importlib.import_module(f"{ort.__name__}.backend")
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA")
    for model in (source(), onnx.load_from_string(source()), ort.InferenceSession(source())):
        prepared = backend.prepare(model)
        assert backend.prepare(prepared) is prepared
        assert np.asarray(backend.run(model, [X])[0]).tolist() == np.maximum(X, 0).tolist()
    with pytest.raises(inside.InvalidProtobuf):
        backend.prepare(b"no model")


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    ort.preload_dlls()
    assert capsys.readouterr().out == ""
    ort.print_debug_info()
    assert cnnengine.__version__ in capsys.readouterr().out
    assert (ort.__version__, ort.version, ort.get_version_string()) == ("1.31.1",) * 3


# the tables of docs/session.md

TABLES = {"onnxruntime": 0, "onnxruntime.capi._pybind_state": 1}
LIST = """
import importlib, inspect, json, types
found = {}
for name in MODULES:
    module = importlib.import_module(name)
    names, numbers = [], {}
    for key in dir(module):
        value = getattr(module, key)
        where = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        foreign = isinstance(where, str) and not where.startswith("onnxruntime")
        if key.startswith("_") and key != "__version__" or foreign or key == "annotations":
            continue
        names.append(key)
        if inspect.isclass(value) and not issubclass(value, Exception):
            parent = int if issubclass(value, int) else object
            names += [f"{key}.{k}" for k in dir(value) if not k.startswith("_") and not hasattr(parent, k)]
            members = getattr(value, "__members__", {})
            numbers.update({f"{key}.{k}": int(v) for k, v in members.items()})
    found[name] = names, numbers
print(json.dumps(found))
"""


def rows(table: int) -> Iterator[tuple[list[str], str, str]]:
    """Names (of classes' members with the class), what becomes of them, and the remark."""
    text = DOCUMENT.read_text(encoding="utf-8").split("### Every name of onnxruntime\n")[1].split("\n## ")[0]
    tables = [block.splitlines()[2:] for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    for line in tables[table]:
        first, status, remark = (cell.strip() for cell in line.strip().strip("|").split("|"))
        prefix, names = "", []
        for token in re.findall(r"`([^`]+)`", first):
            if token.endswith("."):
                prefix = token
                continue
            known = token.split(".")[0]
            names.append(token if not prefix or known[0].isupper() or "." in token else prefix + token)
        yield names, status, remark


@pytest.fixture(scope="module")
def installed() -> Any:
    modules = [*TABLES, "onnxruntime.capi.onnxruntime_inference_collection", "onnxruntime.capi.onnxruntime_validation"]
    return json.loads(python("-c", f"MODULES = {[*modules, 'onnxruntime.backend']}\n{LIST}").stdout)


def expanded(names: list[str], all_names: list[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        found += [n for n in all_names if n.startswith(name[:-1])] if name.endswith(".*") else [name]
        assert not name.endswith(".*") or any(n.startswith(name[:-1]) for n in all_names), f"{name}: nothing"
    return found


@needs_ort
@pytest.mark.parametrize("module", TABLES)
def test_the_table_has_every_name(module: str, installed: Any) -> None:
    names = [n for n in installed[module][0] if module == "onnxruntime" or n not in installed["onnxruntime"][0]]
    told = [name for row, _, _ in rows(TABLES[module]) for name in expanded(row, names)]
    assert sorted(told) == sorted(set(names))


@needs_ort
@pytest.mark.parametrize("module", TABLES)
def test_the_names_are_there(module: str, installed: Any) -> None:
    here = ort if module == "onnxruntime" else inside
    names, numbers = installed[module]
    missing = [name for name in names if not has(here, name)]
    assert missing == []
    assert {name: int(find(here, name)) for name in numbers} == numbers


@needs_ort
def test_names_of_the_other_modules(installed: Any) -> None:
    told = {row[0]: remark for row, status, remark in rows(2) if status == "works"}
    for module, remark in told.items():
        here = importlib.import_module(f"{ort.__name__}{module.removeprefix('onnxruntime')}")
        names = [n for n in installed[module][0] if n not in installed["onnxruntime"][0]]
        names = [n for n in names if n not in ("backend", "backend_rep")]
        want = sorted([*names, *(["onnxruntime"] if "`onnxruntime`" in remark else [])])
        assert sorted(expanded(re.findall(r"`([^`]+)`", remark), names)) == want
        assert [name for name in names if not has(here, name)] == []


def find(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part)
    return module


def has(module: Any, name: str) -> bool:
    """Whether a module, a class or its instances have the name."""
    try:
        find(module, name)
        return True
    except AttributeError:
        owner, _, attribute = name.partition(".")
        kind = getattr(module, owner, None)
        if not isinstance(kind, type):
            return False
        if issubclass(kind, enum.Enum):
            return attribute in ("name", "value")
        fields = getattr(kind, "__dataclass_fields__", {})
        return attribute in fields or re.search(rf"self\.{attribute} = ", inspect.getsource(kind)) is not None


def test_the_remarks_are_the_reasons() -> None:
    statuses = {status for table in (0, 1, 2) for _, status, _ in rows(table)}
    assert statuses == {"works", "no effect", "refused"}
    told = set()
    for here, table in ((ort, 0), (inside, 1)):
        for names, status, remark in rows(table):
            for name in names:
                if status != "refused":
                    assert not isinstance(refused.OBJECTS.get(name), type), name
                    continue
                told.add(name.removesuffix(".*"))
                call = find(here, name.removesuffix(".*"))
                with pytest.raises(cnnengine.UnsupportedOperatorError) as caught:
                    call(*[1] * (0 if isinstance(call, type) else required(call)))
                assert caught.value.message == remark, name
                assert isinstance(caught.value, NotImplementedError)
    assert set(refused.OBJECTS) <= told
    assert {row[0]: remark for row, status, remark in rows(2) if status == "refused"} == refused.MODULES


def required(call: Any) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in inspect.signature(call).parameters.values())


def test_members_of_refused_classes() -> None:
    for name, (reason, members) in refused.CLASSES.items():
        kind = refused.OBJECTS[name]
        for member in members:
            with pytest.raises(inside.NotImplemented, match=re.escape(reason)):
                getattr(kind, member)(1, a=2)
