"""Arguments of the public surface: wrong integers, numbers and arrays are refused, integers of every kind are taken."""

from __future__ import annotations

import copy
import decimal
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import cnnengine
from cnnengine import CNNEngineError, InferenceSession, InputError, OrtValue, SessionOptions, arguments, backend
from cnnengine import functional as F
from cnnengine.cli import main
from cnnengine.model import inside
from cnnengine.report import check, profile, summarize

X = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)


def relu(op: str = "Relu", dtype: int = TensorProto.FLOAT, shape: list[Any] | None = None) -> bytes:
    """One node on x of the shape (n, 3, 4)."""
    shape = ["n", 3, 4] if shape is None else shape
    x, y = (helper.make_tensor_value_info(n, dtype, shape) for n in "xy")
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "one", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("arguments") / "relu.onnx"
    file.write_bytes(relu())
    return file


@pytest.fixture(autouse=True)
def quick_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles without their measurements of the machine, which take their time."""
    module = sys.modules["cnnengine.report.profile"]
    monkeypatch.setattr(module, "fma_peak", lambda threads: 1.0)
    monkeypatch.setattr(module, "copy_bandwidth", lambda size, threads: 1.0)


def model(**options: Any) -> cnnengine.Model:
    return cnnengine.load(relu(), **options)


def second_run(threads: Any) -> Any:
    """The short way of a run, which the first one leads to."""
    one = model()
    one.run(None, {"x": X})
    return one.run(None, {"x": X}, threads=threads)


def set_threads(threads: Any) -> Any:
    one = model()
    one.threads = threads
    return one.run(None, {"x": X})


def option(name: str) -> Callable[[Any], Any]:
    def assign(value: Any) -> None:
        setattr(SessionOptions(), name, value)

    return assign


def bound(**how: Any) -> Any:
    return InferenceSession(relu()).io_binding().bind_output("y", **how)


IMAGE = np.ones((1, 4, 8, 8), np.float32)
KERNEL = np.ones((4, 4, 3, 3), np.float32)
NODE = helper.make_node("Relu", ["x"], ["y"])

# where an integer goes in -> (a call with it, a value that is right, the least one that is; None: every integer)
INTEGERS: dict[str, tuple[Callable[[Any], Any], int, int | None]] = {
    "load threads": (lambda v: model(threads=v), 2, 1),
    "load input_shapes": (lambda v: model(input_shapes={"x": (v, 3, 4)}), 2, 0),
    "run threads": (lambda v: model().run(None, {"x": X}, threads=v), 2, 1),
    "second run threads": (second_run, 2, 1),
    "Model.threads": (set_threads, 2, 1),
    "prepare": (lambda v: model().prepare((v, 3, 4)), 2, 0),
    "prepare by name": (lambda v: model().prepare({"x": [v, 3, 4]}), 2, 0),
    "predict batch_size": (lambda v: model().predict(X, batch_size=v), 2, 1),
    "whole_plan": (lambda v: inside(model()).whole_plan({"x": (v, 3, 4)}), 2, 0),
    "summarize shapes": (lambda v: summarize(model(), {"x": (v, 3, 4)}), 2, 0),
    "check threads": (lambda v: check(relu(), threads=v), 1, 1),
    "profile threads": (lambda v: profile(model(), threads=v, seconds=0.0, min_rounds=1), 1, 1),
    "profile min_rounds": (lambda v: profile(model(), seconds=0.0, min_rounds=v), 1, 1),
    "preprocess size": (lambda v: _pictures().preprocess(np.zeros((8, 8, 3), np.uint8), size=(v, 8), scale=1), 8, 1),
    "run_node opset_version": (lambda v: backend.run_node(NODE, [X], opset_version=v), 17, 1),
    "intra_op_num_threads": (option("intra_op_num_threads"), 2, None),
    "inter_op_num_threads": (option("inter_op_num_threads"), 2, None),
    "log_severity_level": (option("log_severity_level"), 2, None),
    "graph_optimization_level": (option("graph_optimization_level"), 1, 0),
    "execution_mode": (option("execution_mode"), 1, 0),
    "add_free_dimension_override_by_name": (lambda v: SessionOptions().add_free_dimension_override_by_name("n", v), 2, 1),
    "set_seed": (cnnengine.set_seed, 2, None),
    "set_default_logger_severity": (cnnengine.set_default_logger_severity, 2, -1),
    "set_default_logger_verbosity": (cnnengine.set_default_logger_verbosity, 2, None),
    "ortvalue shape": (lambda v: OrtValue.ortvalue_from_shape_and_type((v,), np.float32), 2, 0),
    "ortvalue element_type": (lambda v: OrtValue.ortvalue_from_shape_and_type((2,), v), 1, 1),
    "ortvalue device_id": (lambda v: OrtValue.ortvalue_from_numpy(X, "cpu", v), 0, 0),
    "bind_output shape": (lambda v: bound(element_type=np.float32, shape=(v, 3, 4)), 2, 0),
    "bind_output buffer_ptr": (lambda v: bound(element_type=np.float32, shape=(2, 3, 4), buffer_ptr=v), X.ctypes.data, 1),
    "conv2d stride": (lambda v: F.conv2d(IMAGE, KERNEL, stride=v), 2, 1),
    "conv2d stride each": (lambda v: F.conv2d(IMAGE, KERNEL, stride=(1, v)), 2, 1),
    "conv2d pads": (lambda v: F.conv2d(IMAGE, KERNEL, pads=v), 1, 0),
    "conv2d dilation": (lambda v: F.conv2d(IMAGE, KERNEL, dilation=v), 2, 1),
    "conv2d groups": (lambda v: F.conv2d(IMAGE, KERNEL[:, :2], groups=v), 2, 1),
    "conv2d threads": (lambda v: F.conv2d(IMAGE, KERNEL, threads=v), 2, 1),
    "conv_transpose2d output_padding": (lambda v: F.conv_transpose2d(IMAGE, KERNEL, stride=2, output_padding=v), 1, 0),
    "conv_transpose2d output_shape": (lambda v: F.conv_transpose2d(IMAGE, KERNEL, output_shape=(v, 10)), 10, 1),
    "max_pool2d kernel": (lambda v: F.max_pool2d(IMAGE, v), 2, 1),
    "avg_pool2d stride": (lambda v: F.avg_pool2d(IMAGE, 2, stride=v), 2, 1),
    "adaptive_avg_pool2d output_size": (lambda v: F.adaptive_avg_pool2d(IMAGE, v), 2, 1),
    "spatial_pyramid_pool levels": (lambda v: F.spatial_pyramid_pool(IMAGE, levels=(v, 1)), 2, 1),
    "max_unpool2d kernel": (lambda v: F.max_unpool2d(IMAGE, np.zeros(IMAGE.shape, np.int64), v, stride=2), 2, 1),
    "max_unpool2d output_shape": (
        lambda v: F.max_unpool2d(IMAGE, np.zeros(IMAGE.shape, np.int64), 2, stride=2, output_shape=(v, 16)),
        16,
        1,
    ),
    "flatten axis": (lambda v: F.flatten(X, axis=v), 1, -3),
    "softmax axis": (lambda v: F.softmax(X, axis=v), 1, -3),
    "layer_norm axis": (lambda v: F.layer_norm(X, axis=v), 1, -3),
    "group_norm groups": (lambda v: F.group_norm(IMAGE, np.ones(4, "f4"), np.zeros(4, "f4"), groups=v), 2, 1),
    "local_response_norm size": (lambda v: F.local_response_norm(IMAGE, size=v), 3, 1),
}


def _pictures() -> cnnengine.Model:
    return cnnengine.load(relu(shape=["n", 3, "h", "w"]))


class Index:
    """An integer by its method alone."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Raises:
    """An object whose methods raise what no caller expects."""

    def __index__(self) -> int:
        raise RuntimeError("no integer")

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("no array")


WRONG = (2.5, 2.0, np.float64(2), float("nan"), True, np.True_, "2", b"2", [[2]], decimal.Decimal(2), 2j, object(), Raises(), {})


@pytest.mark.parametrize("where", INTEGERS)
def test_integers(where: str) -> None:
    call, right, least = INTEGERS[where]
    for kind in (int, np.int64, np.uint64, np.array, Index):
        call(kind(right))
    for wrong in WRONG:
        if where == "ortvalue element_type" and isinstance(wrong, (str, bytes)):
            continue  # texts may name element types
        with pytest.raises(CNNEngineError):
            call(wrong)
    if least is not None:
        for wrong in (least - 1, -(2**31) - 1, -(2**70)):
            with pytest.raises(CNNEngineError):
                call(wrong)


@pytest.mark.parametrize("where", [w for w in INTEGERS if "threads" in w and "num" not in w])
def test_more_threads_than_there_can_be(where: str) -> None:
    for many in (257, 10**7, 2**31, 2**70):
        INTEGERS[where][0](many)
    assert model(threads=10**7).threads == 256


@pytest.mark.parametrize("where", ["prepare", "load input_shapes", "bind_output shape", "ortvalue shape"])
def test_extents_that_no_memory_holds(where: str) -> None:
    for many in (2**40, 2**62, 2**63, 2**70):
        with pytest.raises(CNNEngineError):
            INTEGERS[where][0](many)


def test_whole_shapes_of_the_wrong_kind() -> None:
    for wrong in (None, 5, "abc", (1, 3, 16.9), {"x": 5}, {"x": None}, {"x": "abc"}, {"q": (1,)}, Raises(), {2, 3, 4}):
        with pytest.raises(CNNEngineError):
            model().prepare(wrong)  # type: ignore[arg-type]
    for wrong in (5, [2, 3, 4], {"x": 5}, {"x": "abc"}, {1: (2,)}):
        with pytest.raises(InputError):
            model(input_shapes=wrong)


def test_the_model_keeps_what_threads_was_set_to() -> None:
    one = model()
    one.threads = np.int64(3)  # type: ignore[assignment]
    assert (type(one.threads), one.threads, inside(one).threads_given) == (int, 3, True)
    for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert other.threads == 3
    for wrong in (0, -1, None, True):
        with pytest.raises(InputError, match="threads"):
            one.threads = wrong  # type: ignore[assignment]
    assert one.threads == 3


@pytest.mark.parametrize("threads", ["0", "-1", "2.5", "two", "1_0", " 3", "\u0663", "9" * 5000, ""])
def test_the_command_line(path: Path, threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["predict", str(path), "x.npy"], ["profile", str(path)], ["check", str(path)], ["bench", str(path)]):
        with pytest.raises(SystemExit) as left:
            main([*command, f"--threads={threads}"])
        assert left.value.code == 2
        assert "--threads" in capsys.readouterr().err
    for shape in (f"x={threads},3,4", f"{threads},3,4"):
        if threads != "0" and threads != " 3":
            with pytest.raises(SystemExit):
                main(["info", str(path), "--shape", shape])


NUMBERS: dict[str, Callable[[Any], Any]] = {
    "batch_norm epsilon": lambda v: F.batch_norm(IMAGE, *[np.ones(4, "f4")] * 4, epsilon=v),
    "layer_norm epsilon": lambda v: F.layer_norm(X, epsilon=v),
    "leaky_relu alpha": lambda v: F.leaky_relu(X, alpha=v),
    "hard_sigmoid beta": lambda v: F.hard_sigmoid(X, beta=v),
    "clip min": lambda v: F.clip(X, v),
    "lp_pool2d p": lambda v: F.lp_pool2d(IMAGE, 2, p=v),
    "local_response_norm alpha": lambda v: F.local_response_norm(IMAGE, size=3, alpha=v),
    "check tolerance": lambda v: check(relu(), tolerance=v),
    "preprocess scale": lambda v: _pictures().preprocess(np.zeros((8, 8, 3), np.uint8), scale=v),
    "preprocess mean": lambda v: _pictures().preprocess(np.zeros((8, 8, 3), np.uint8), scale=1, mean=v),
}


@pytest.mark.parametrize("where", NUMBERS)
def test_numbers(where: str) -> None:
    for right in (1, 1.5, np.float32(1.5), np.int64(2), np.array(1.5)):
        NUMBERS[where](right)
    for wrong in ("a", b"1", True, [[1]], 1j, 10**400, object(), Raises(), {}):
        with pytest.raises(CNNEngineError):
            NUMBERS[where](wrong)


def test_bools() -> None:
    for right in (True, False, np.True_, 1, 0):
        F.max_pool2d(IMAGE, 2, ceil_mode=right)
    for right in (True, False, np.True_, 1, 2.5, np.float32(3), float("inf")):
        model(winograd=right)
    for wrong in ("yes", None, 0, 0.5, -1, float("nan"), [], Raises()):
        with pytest.raises(InputError, match="winograd"):
            model(winograd=wrong)
    for wrong in ("yes", None, 2, 0.0, [], Raises()):
        with pytest.raises(InputError, match="ceil_mode"):
            F.max_pool2d(IMAGE, 2, ceil_mode=wrong)
        with pytest.raises(InputError, match="enable_profiling"):
            option("enable_profiling")(wrong)


def test_names() -> None:
    for wrong in ("y", 5, [5], [None], [["y"]], b"y"):
        with pytest.raises(InputError):
            model().run(wrong, {"x": X})  # type: ignore[arg-type]
        with pytest.raises(InputError):
            InferenceSession(relu()).run(wrong, {"x": X})  # type: ignore[arg-type]
        with pytest.raises(InputError, match="outputs"):
            model(outputs=wrong)


# ---------------------------------------------------------------- arrays
class Tensor:
    """What torch's tensors offer NumPy: an element type of their own, by __array__ and DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self._array if dtype is None else self._array.astype(dtype)

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class Copied(Tensor):
    """One whose array is a copy each time."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        if copy is False:
            raise ValueError("no array without a copy")
        return self._array.astype(self._array.dtype if dtype is None else dtype)


class OnlyDLPack(Tensor):
    __array__ = None  # type: ignore[assignment]


class Graded(Tensor):
    """A tensor that requires gradients."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


class Unsupported(Tensor):
    """A tensor of a type that NumPy lacks."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("Got unsupported ScalarType BFloat16")


def test_results_are_written_into_tensors() -> None:
    """NumPy sees DLPack's memory as read-only where a library does not say otherwise; `__array__` has it writeable, or a copy."""
    model = cnnengine.load(relu("Identity"))
    memory = np.full(X.shape, np.nan, np.float32)
    target = Tensor(memory)
    assert model.run(None, {model.inputs[0].name: X.astype(np.float32)}, out=[target])[0] is target
    np.testing.assert_array_equal(memory, X.astype(np.float32))
    memory[...] = np.nan
    memory.flags.writeable = False
    with pytest.raises(InputError):
        model.run(None, {model.inputs[0].name: X.astype(np.float32)}, out=[target])
    assert np.isnan(memory).all()


def test_a_copy_is_no_place_for_results() -> None:
    """Where DLPack gives memory that cannot be written to and `__array__` a copy, nothing is written into the copy and lost."""

    class Elsewhere(Copied):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("not told to NumPy")

    model = cnnengine.load(relu("Identity"))
    for kind in (Copied, Elsewhere):
        memory = np.full(X.shape, np.nan, np.float32)
        target = kind(memory)
        try:
            model.run(None, {model.inputs[0].name: X.astype(np.float32)}, out=[target])
        except InputError:
            assert np.isnan(memory).all()
        else:
            np.testing.assert_array_equal(memory, X.astype(np.float32))


DTYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": TensorProto.INT64, "uint8": TensorProto.UINT8}


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_any_library_have_the_inputs_dtype(dtype: str) -> None:
    session = InferenceSession(relu("Identity", DTYPES[dtype]))
    model = cnnengine.load(relu("Identity", DTYPES[dtype]))
    for given in (*DTYPES, "int32", "bool", "float16", "complex64"):
        array = X.astype(given)
        for value in (array, Tensor(array), memoryview(array)):
            for run in (session.run, model.run):
                if given == dtype:
                    np.testing.assert_array_equal(run(None, {"x": value})[0], array)
                else:
                    with pytest.raises(InputError, match=r"'x'.*wrong dtype"):
                        run(None, {"x": value})


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    session = InferenceSession(relu())
    np.testing.assert_array_equal(session.run(None, {"x": torch.from_numpy(X)})[0], X)
    for kind in (torch.uint8, torch.float64, torch.int64, torch.bfloat16, torch.float16):
        with pytest.raises(InputError, match="'x'"):
            session.run(None, {"x": torch.ones(2, 3, 4).to(kind)})
    with pytest.raises(InputError, match=r"'x'.*grad"):
        session.run(None, {"x": torch.ones(2, 3, 4, requires_grad=True)})


def test_what_cannot_be_read_is_an_input_error() -> None:
    recursive: list[Any] = []
    recursive.append(recursive)
    wrong: tuple[Any, ...] = (
        Graded(X),
        Unsupported(X),
        Raises(),
        recursive,
        [[1, [2]]],
        object(),
        {},
        iter([1]),
        None,
        b"abc",
        1 << 70,
    )
    session = InferenceSession(relu())
    binding = session.io_binding()
    for value in wrong:
        for call in (
            lambda v: model().run(None, {"x": v}),
            lambda v: session.run(None, {"x": v}),
            lambda v: model().predict(v),
            lambda v: model().bind({"x": 5 if v is None or isinstance(v, Tensor) else v}),
            lambda v: F.relu(v),
            lambda v: F.conv2d(IMAGE, v),
            lambda v: (binding.bind_cpu_input("x", v), binding.bind_output("y"), session.run_with_iobinding(binding)),
            lambda v: OrtValue(X.copy()).update_inplace(v),
        ):
            with pytest.raises(CNNEngineError):
                call(value)


@pytest.mark.parametrize(
    ("dtype", "right", "wrong"),
    [
        ("float32", ([1, 2.5], 1, True, [2**24 + 1], [2**70], []), (None, [1.0, None], "1", ["1"], 1e300, [2**2000], 1j, b"1")),
        (
            "int64",
            (1, [1, 2], True, [-(2**63)], []),
            (1.5, [1.0], None, [None], 2**63, [2**70], "1", [[1, 2], [3]], float("nan")),
        ),
        ("uint8", ([0, 255], False), (256, -1, 1.0, [1, -1])),
        ("float16", (1, 65504), (70000, 1e6)),
        ("bool", ([True, False],), (1, [0, 1], 1.0, None, "True")),
    ],
)
def test_python_values(dtype: str, right: tuple[Any, ...], wrong: tuple[Any, ...]) -> None:
    kind = np.dtype(dtype)
    for value in right:
        made = arguments.python_array(value, kind, "x")
        assert made.dtype == kind
        np.testing.assert_array_equal(made, np.array(value, kind))
    for value in wrong:
        if isinstance(value, bytes):
            assert not arguments.is_python(value)
            continue
        with pytest.raises(InputError, match="'x'"):
            arguments.python_array(value, kind, "x")


def test_none_is_no_number() -> None:
    with pytest.raises(InputError):
        InferenceSession(relu(shape=[])).run(None, {"x": None})
    assert InferenceSession(relu(shape=[])).run(None, {"x": -2})[0] == 0


def test_messages_do_not_hold_the_data() -> None:
    session = InferenceSession(relu())
    for value in (b"A" * 10**6, "A" * 10**6, ["A" * 10**6], [1.0] * 10**5 + [None], bytearray(10**6)):
        for run in (session.run, model().run):
            with pytest.raises(InputError) as caught:
                run(None, {"x": value})
            assert len(str(caught.value)) < 1000
    with pytest.raises(InputError) as caught:
        model(fallback="A" * 10**6)
    assert len(str(caught.value)) < 1000


# ---------------------------------------------------------------- bindings
def test_bound_arrays_cannot_be_replaced() -> None:
    loop = model().bind({"x": X.copy()})
    loop.inputs["x"][...] = -1
    loop.inputs["x"] += 2  # type: ignore[index]
    np.testing.assert_array_equal(loop.run()["y"], np.ones_like(X))
    for change in (
        lambda held: held.__setitem__("x", X),
        lambda held: held.__setitem__("q", X),
        lambda held: held.__delitem__("x"),
        lambda held: held.update(x=X),
        lambda held: held.setdefault("q", X),
        lambda held: held.pop("x"),
        lambda held: held.popitem(),
        lambda held: held.clear(),
        lambda held: held.__ior__({"x": X}),
    ):
        for held in (loop.inputs, loop.outputs):
            with pytest.raises(InputError, match="cannot be replaced"):
                change(held)
    for name in ("inputs", "outputs"):
        with pytest.raises(AttributeError):
            setattr(loop, name, {"x": X})
    assert set(loop.inputs) == {"x"} and set(loop.outputs) == {"y"}
    np.testing.assert_array_equal(loop.run()["y"], np.ones_like(X))


def test_a_binding_follows_the_models_threads() -> None:
    one = cnnengine.load(relu(), threads=1)
    loop = one.bind({"x": X})
    for threads in (4, 2, 64):
        one.threads = threads
        np.testing.assert_array_equal(loop.run()["y"], X)


# ---------------------------------------------------------------- run_async
def called_back(
    session: InferenceSession, names: Any, feed: Any, options: Any = None, after: Callable[[], None] = lambda: None
) -> Any:
    done = threading.Event()
    got: list[Any] = []
    session.run_async(names, feed, lambda *given: (got.extend(given), done.set()), "mine", options)
    after()
    assert done.wait(60)
    return got


def test_async_takes_its_inputs_at_the_call() -> None:
    session = InferenceSession(relu())
    x, feed = X.copy(), {}
    feed["x"] = x

    def spoil() -> None:
        x[...] = -1
        feed.clear()

    for _ in range(20):
        x[...] = X
        feed["x"] = x
        results, _, error = called_back(session, None, feed, after=spoil)
        assert error == ""
        np.testing.assert_array_equal(results[0], X)


@pytest.mark.parametrize("feed", [None, 5, {"x": Raises()}, {"x": Graded(X)}, {"x": None}, {}, {5: X}])
def test_async_always_calls_back(feed: Any) -> None:
    results, mine, error = called_back(InferenceSession(relu()), None, feed)
    assert (results, mine) == ([], "mine") and error
    assert called_back(InferenceSession(relu()), 5, {"x": X})[2]
    assert called_back(InferenceSession(relu()), None, {"x": X}, "options")[2]


def test_async_calls_back_for_errors_of_any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (MemoryError("none left"), RuntimeError("unexpected"), SystemExit(3)):
        session = InferenceSession(relu())

        def run(*given: Any, error: BaseException = error) -> Any:
            raise error

        monkeypatch.setattr(session._model, "run", run)
        results, _, text = called_back(session, None, {"x": X})
        assert results == [] and type(error).__name__ in text


# ---------------------------------------------------------------- no crash in a process of its own
def test_threads_of_no_number_crash_nothing() -> None:
    """Scratch of no thread would be written to: in a process of its own, with a layer that needs scratch."""
    program = """
import sys, numpy as np, cnnengine
from cnnengine.model import inside
from cnnengine.runtime.runner import Workspace
m = cnnengine.load(sys.argv[1])
x = np.zeros((2, 1, 32, 32), np.float32)
for first in (True, False):
    for threads in (0, -1, -2**31, 2**31, -2**63):
        try:
            m.run(None, {"image": x}, threads=threads)
        except cnnengine.InputError as error:
            assert threads < 1 and "threads" in str(error)
        else:
            assert threads > 0
plan = inside(m).whole_plan({"image": x.shape}).plan.native
for threads in (0, -1):
    try:
        Workspace().begin(plan, [x], [np.zeros((2, 10), np.float32)], threads)
    except ValueError:
        continue
    raise SystemExit("a workspace for no thread")
"""
    lenet = Path(__file__).resolve().parents[1] / "models" / "digits_lenet.onnx"
    done = subprocess.run([sys.executable, "-c", program, lenet], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
