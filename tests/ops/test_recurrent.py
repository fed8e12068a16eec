"""LSTM, GRU and RNN in models: every version, lengths known late, outputs left out, other element types, whole networks."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import oracle
import pytest
from onnx import helper, numpy_helper
from oracle import ROUNDING, assert_close

import cnnengine
from cnnengine.errors import CNNEngineError, InputError, ModelError, ShapeError
from cnnengine.operator import NodeRecord
from cnnengine.ops import recurrent as ops
from cnnengine.runtime.runner import fill_arenas

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
VERSIONS = {"LSTM": (1, 7, 14, 22), "GRU": (1, 3, 7, 14, 22), "RNN": (1, 7, 14, 22)}
KINDS = tuple(GATES)
STEPS, BATCH, SIZE, HIDDEN = 5, 3, 6, 9


@pytest.fixture(autouse=True)
def _among_nans():
    fill_arenas(255)
    yield
    fill_arenas(None)


def arrays(kind: str, directions: int = 1, *, steps: int = STEPS, batch: int = BATCH) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(kind) + directions)

    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.4).astype(np.float32)

    rows = GATES[kind] * HIDDEN
    made = {
        "x": normal(steps, batch, SIZE) * 2,
        "w": normal(directions, rows, SIZE),
        "r": normal(directions, rows, HIDDEN),
        "b": normal(directions, 2 * rows),
        "h": normal(directions, batch, HIDDEN),
    }
    if kind == "LSTM":
        made |= {"c": normal(directions, batch, HIDDEN), "p": normal(directions, 3 * HIDDEN)}
    return made


def model_of(
    kind: str,
    given: dict[str, np.ndarray],
    *,
    fed: tuple[str, ...] = ("x",),
    outputs: tuple[str, ...] = ("y",),
    version: int = 22,
    shapes: dict[str, Any] | None = None,
    **attributes: Any,
) -> tuple[bytes, dict[str, np.ndarray]]:
    """One node, whose operands are constants but for those that are fed."""
    order = ["x", "w", "r", "b", "l", "h", "c", "p"][: 8 if kind == "LSTM" else 6]
    names = [n if n in given else "" for n in order]
    node = helper.make_node(kind, names, list(outputs), hidden_size=HIDDEN, **attributes)
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(given[n].dtype), (shapes or {}).get(n, given[n].shape))
        for n in fed
    ]
    code = inputs[0].type.tensor_type.elem_type
    graph = helper.make_graph(
        [node],
        "g",
        inputs,
        [helper.make_tensor_value_info(n, code, None) for n in outputs if n],
        [numpy_helper.from_array(a, n) for n, a in given.items() if n not in fed],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    return proto.SerializeToString(), {n: given[n] for n in fed}


def run(data: bytes, feeds: dict[str, np.ndarray], threads: int = 1, *, hosted: bool = False) -> list[np.ndarray]:
    model = cnnengine.load(onnx.load_from_string(data), threads=threads)
    results = model.run(None, feeds)
    assert bool(model.host_nodes()) == hosted
    return list(results)


def close(kind: str, got: list[np.ndarray], given: dict[str, np.ndarray], **options: Any) -> None:
    names = {"l": "sequence_lens", "h": "initial_h", "c": "initial_c", "p": "peepholes"}
    more = {names[n]: a for n, a in given.items() if n in names}
    want, magnitude = oracle.recurrent(kind, given["x"], given["w"], given["r"], given.get("b"), **more, **options)
    for a, e, m in zip(got, want, magnitude, strict=False):
        assert_close(a, e, ROUNDING, magnitude=m, terms=SIZE + HIDDEN + 4)


@pytest.mark.parametrize(("kind", "version"), [(k, v) for k in KINDS for v in VERSIONS[k]])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_versions(isa, threads, kind, version, direction):
    given = arrays(kind, 2 if direction == "bidirectional" else 1)
    outputs = ("y", "yh", "yc")[: 3 if kind == "LSTM" else 2]
    data, feeds = model_of(kind, given, outputs=outputs, version=version, direction=direction)
    got = run(data, feeds, threads)
    assert len(got) == len(outputs)
    close(kind, got, given, direction=direction)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_left_out(isa, threads, kind):
    given = arrays(kind)
    names = ["y", "yh", "yc"][: 3 if kind == "LSTM" else 2]
    whole = run(*model_of(kind, given, outputs=tuple(names)), threads)
    for kept in range(1, 1 << len(names)):
        outputs = [n if kept >> i & 1 else "" for i, n in enumerate(names)]
        while not outputs[-1]:
            outputs.pop()
        got = run(*model_of(kind, given, outputs=tuple(outputs)), threads)
        want = [a for i, a in enumerate(whole) if kept >> i & 1]
        for a, e in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_states_and_lengths_are_fed(isa, threads, kind, layout):
    given = arrays(kind, 2) | {"l": np.array([2, 5, 0], np.int32)}
    if layout:
        given = {n: a.swapaxes(0, 1).copy() if n in "xhc" else a for n, a in given.items()}
    fed = tuple(n for n in given if n not in "wrb")
    data, feeds = model_of(kind, given, fed=fed, outputs=("y", "yh"), direction="bidirectional", layout=layout)
    close(kind, run(data, feeds, threads), given, direction="bidirectional", layout=layout)
    # all of the same length as the steps
    given["l"] = np.full(BATCH, STEPS, np.int32)
    data, feeds = model_of(kind, given, outputs=("y", "yh"), direction="bidirectional", layout=layout)
    close(kind, run(data, feeds, threads), given, direction="bidirectional", layout=layout)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("lengths", "bad"), [([2, 6, 1], 6), ([-1, 2, 2], -1), ([1, 1, -(2**31)], -(2**31))])
def test_lengths_outside_the_steps(isa, threads, kind, lengths, bad):
    given = arrays(kind) | {"l": np.array(lengths, np.int32)}
    data, feeds = model_of(kind, given, fed=("x", "l"), outputs=("y", "yh"))
    model = cnnengine.load(onnx.load_from_string(data), threads=threads)
    with pytest.raises(InputError, match="length lies outside the steps") as caught:
        model.run(None, feeds)
    assert (caught.value.operator, caught.value.tensor, caught.value.received) == (kind, "sequence_lens", bad)
    # and the model goes on
    feeds["l"] = np.array([5, 0, 1], np.int32)
    close(kind, list(model.run(None, feeds)), given | {"l": feeds["l"]})
    data, feeds = model_of(kind, given, outputs=("y", "yh"))
    with pytest.raises(InputError, match="length lies outside the steps"):
        cnnengine.load(onnx.load_from_string(data)).run(None, feeds)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_fed_run_on_the_host(kind):
    given = arrays(kind, 2)
    data, feeds = model_of(kind, given, fed=("x", "w", "r", "b"), outputs=("y", "yh"), direction="bidirectional")
    close(kind, run(data, feeds, hosted=True), given, direction="bidirectional")


@pytest.mark.parametrize("kind", KINDS)
def test_steps_and_batches_that_change(isa, kind):
    given = arrays(kind)
    del given["h"]
    given.pop("c", None)
    data, _ = model_of(kind, given, outputs=("y", "yh"), shapes={"x": ("steps", "batch", SIZE)})
    model = cnnengine.load(onnx.load_from_string(data))
    for steps, batch in ((1, 1), (9, 2), (4, 17), (0, 3), (3, 0)):
        now = given | {"x": arrays(kind, steps=steps, batch=batch)["x"]}
        close(kind, list(model.run(None, {"x": now["x"]})), now)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name)
def test_other_element_types(isa, kind, dtype):
    given = {n: a.astype(dtype) for n, a in arrays(kind).items()} | {"l": np.array([5, 2, 3], np.int32)}
    data, feeds = model_of(kind, given, fed=("x", "l"), outputs=("y", "yh"))
    wide = {n: a if n == "l" else a.astype(np.float64) for n, a in given.items()}
    more = {"sequence_lens": wide["l"], "initial_h": wide["h"]}
    if kind == "LSTM":
        more |= {"initial_c": wide["c"], "peepholes": wide["p"]}
    want, _ = oracle.recurrent(kind, wide["x"], wide["w"], wide["r"], wide["b"], **more)
    model = cnnengine.load(onnx.load_from_string(data))
    got = model.run(None, feeds)
    kinds = {n.name: n.op.op_type for n in model._graph.nodes}
    # half precision is cast around the kernels, by kernels; double runs on the host
    hosts = {kinds[n] for n in model.host_nodes()}
    assert hosts == (set() if np.dtype(dtype).itemsize == 2 else {kind})
    eps = float(ml_dtypes.finfo(dtype).eps)
    for a, e in zip(got, want, strict=False):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(np.float64), e, rtol=2 * eps, atol=2e-6 if eps > 1e-9 else 1e-13)


def record(kind: str = "LSTM", **attributes: Any) -> NodeRecord:
    return NodeRecord(kind, "", 22, attributes, ("x", "w", "r"), ("y",), "n")


def test_values_of_functions_are_consumed_in_order():
    names = ["LeakyRelu", "Tanh", "HardSigmoid"]
    made = ops.LSTM.from_onnx(record(activations=names, activation_alpha=[0.5, 0.25], activation_beta=[0.75]))
    assert [(f.kind, f.alpha, f.beta) for f in made.functions] == [
        ("LeakyRelu", 0.5, 0.0),
        ("Tanh", 0.0, 0.0),
        ("HardSigmoid", 0.25, 0.75),
    ]
    # one for each function, or what is left of the defaults
    made = ops.LSTM.from_onnx(record(activations=names, activation_alpha=[0.5, 9.0, 0.25]))
    assert [f.alpha for f in made.functions] == [0.5, 0.0, 0.25]
    made = ops.LSTM.from_onnx(record(activations=[n.upper() for n in names], activation_alpha=[0.5]))
    assert [(f.alpha, f.beta) for f in made.functions] == [(0.5, 0.0), (0.0, 0.0), (0.2, 0.5)]


def test_the_schemas_default_of_an_rnn_may_be_written_out():
    made = ops.RNN.from_onnx(record("RNN", activations=["Tanh", "Tanh"]))
    assert [f.kind for f in made.functions] == ["Tanh"]
    made = ops.RNN.from_onnx(record("RNN", activations=["Tanh", "Tanh"], direction="bidirectional"))
    assert [f.kind for f in made.functions] == ["Tanh", "Tanh"]


@pytest.mark.parametrize(
    ("kind", "attributes", "text"),
    [
        ("LSTM", {"activations": ["Sigmoid", "Tanh"]}, "too few or too many"),
        ("LSTM", {"direction": "bidirectional", "activations": ["Sigmoid", "Tanh", "Tanh"]}, "too few or too many"),
        ("RNN", {"activations": ["Tanh", "Relu"]}, "too few or too many"),
        ("GRU", {"activations": ["Sigmoid", "Gelu"]}, "is not known"),
        ("GRU", {"activation_beta": [1.0]}, "too many values"),
        ("LSTM", {"direction": "backward"}, "direction is not known"),
        ("LSTM", {"clip": 0.0}, "clip must be positive"),
        ("LSTM", {"clip": float("nan")}, "clip must be positive"),
        ("LSTM", {"layout": 3}, "layout is not known"),
        ("RNN", {"hidden_size": -1}, "hidden_size must be positive"),
    ],
)
def test_attributes_that_are_refused(kind, attributes, text):
    with pytest.raises(ModelError, match=text) as caught:
        getattr(ops, kind).from_onnx(record(kind, **attributes))
    assert caught.value.node == "n"
    assert caught.value.operator == kind
    assert caught.value.expected is not None


@pytest.mark.parametrize(
    ("name", "shape", "error"),
    [
        ("w", (1, 4 * HIDDEN, SIZE + 1), "'W'"),
        ("w", (2, 4 * HIDDEN, SIZE), "'W'"),
        ("r", (1, 3 * HIDDEN, HIDDEN), "'R'"),
        ("r", (4 * HIDDEN, HIDDEN), "'R'"),
        ("b", (1, 4 * HIDDEN), "'B'"),
        ("h", (BATCH, 1, HIDDEN), "'initial_h'"),
        ("c", (1, BATCH, HIDDEN + 1), "'initial_c'"),
        ("p", (1, 2 * HIDDEN), "'P'"),
        ("l", (BATCH + 1,), "'sequence_lens'"),
        ("x", (STEPS, SIZE), "'X'"),
    ],
)
def test_shapes_that_are_refused(name, shape, error):
    given = arrays("LSTM") | {name: np.zeros(shape, np.int32 if name == "l" else np.float32)}
    data, feeds = model_of("LSTM", given)
    with pytest.raises(ShapeError, match=error):
        cnnengine.load(onnx.load_from_string(data)).run(None, feeds)


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs"), [("LSTM", 9, 3), ("LSTM", 8, 4), ("GRU", 7, 2), ("RNN", 6, 3), ("RNN", 2, 1)]
)
def test_too_many_or_too_few_operands(kind, inputs, outputs):
    names = [tuple(f"{letter}{i}" for i in range(n)) for letter, n in (("x", inputs), ("y", outputs))]
    with pytest.raises(ModelError, match=r"too many|needs X, W and R"):
        getattr(ops, kind).from_onnx(NodeRecord(kind, "", 22, {}, *names))
    # absent ones behind the last do not count
    names = [(*n[:3], *[""] * (len(n) - 3)) for n in names]
    if inputs > 2:
        assert getattr(ops, kind).from_onnx(NodeRecord(kind, "", 22, {}, names[0], names[1][:2])).op_type == kind


def test_element_types_that_are_refused():
    for name, dtype in (("w", np.float64), ("h", np.float64), ("l", np.int64)):
        given = arrays("LSTM") | {"l": np.zeros(BATCH, np.int32)}
        given[name] = given[name].astype(dtype)
        data, feeds = model_of("LSTM", given)
        with pytest.raises(CNNEngineError):
            cnnengine.load(onnx.load_from_string(data)).run(None, feeds)


def reader(columns: int) -> tuple[bytes, dict[str, np.ndarray]]:
    """Convolutions whose columns are the steps of two LSTMs, with squeezes, transposes and reshapes as exporters write them."""
    rng = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants: dict[str, np.ndarray] = {
        "k0": normal(12, 1, 3, 3),
        "k1": normal(20, 12, 4, 3),
        "axes": np.array([2]),
        "flat": np.array([0, 0, -1]),
        "last": normal(2 * HIDDEN, 7),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 1], strides=[2, 1]),
        helper.make_node("Conv", ["b", "k1"], ["c"], pads=[0, 1, 0, 1]),
        helper.make_node("Squeeze", ["c", "axes"], ["d"]),
        helper.make_node("Transpose", ["d"], ["e0"], perm=[2, 0, 1]),
    ]
    size = 20
    for i in range(2):
        rows = 4 * HIDDEN
        constants |= {
            f"w{i}": normal(2, rows, size) * 4,
            f"r{i}": normal(2, rows, HIDDEN) * 4,
            f"b{i}": normal(2, 2 * rows),
        }
        nodes += [
            helper.make_node(
                "LSTM", [f"e{i}", f"w{i}", f"r{i}", f"b{i}"], [f"f{i}"], hidden_size=HIDDEN, direction="bidirectional"
            ),
            helper.make_node("Transpose", [f"f{i}"], [f"g{i}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"g{i}", "flat"], [f"e{i + 1}"]),
        ]
        size = 2 * HIDDEN
    nodes.append(helper.make_node("MatMul", ["e2", "last"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "reader",
        [helper.make_tensor_value_info("x", 1, ("n", 1, 8, "w"))],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return proto.SerializeToString(), constants


def test_a_network_that_reads_lines_has_no_host_node(isa, threads):
    data, constants = reader(24)
    model = cnnengine.load(onnx.load_from_string(data), threads=threads)
    for batch, columns in ((1, 24), (3, 17)):
        x = np.random.default_rng(columns).standard_normal((batch, 1, 8, columns)).astype(np.float32)
        (got,) = model.run(None, {"x": x})
        assert model.host_nodes() == []
        h = oracle.conv(x, constants["k0"], pads=1)
        h = oracle.conv(oracle.max_pool(h, (2, 1), stride=(2, 1))[0], constants["k1"], pads=(0, 1, 0, 1))
        h = h[:, :, 0].transpose(2, 0, 1)
        for i in range(2):
            (h, *_), _ = oracle.recurrent("LSTM", h, *(constants[f"{n}{i}"] for n in "wrb"), direction="bidirectional")
            h = h.transpose(0, 2, 1, 3).reshape(columns, batch, 2 * HIDDEN)
        want = h @ constants["last"].astype(np.float64)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())
