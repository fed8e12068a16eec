"""Files in half precision, and `precision`: what is kept in half the size, and that results are those of these weights."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import packing
from cnnengine._kernels import dispatch
from cnnengine._kernels import kernel as kernel_of
from cnnengine.cli import main
from cnnengine.errors import InputError
from cnnengine.layout import View, aligned_empty
from cnnengine.model import inside
from cnnengine.report import check, profile, summarize
from cnnengine.session import InferenceSession, SessionOptions
from cnnengine.weights import Half, Rounded, Widened

F32 = np.dtype(np.float32)
HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
RNG = np.random.default_rng(7)
K, HIDDEN, LAST = 96, 1152, 10
WIDE = RNG.standard_normal((HIDDEN, HIDDEN), dtype=np.float32) / 32


def tensor(array: np.ndarray, name: str) -> onnx.TensorProto:
    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[array.dtype.name]
    return helper.make_tensor(name, kind, array.shape, array.tobytes(), raw=True)


def model(
    nodes: list, constants: dict[str, np.ndarray], dtype: np.dtype = F32, shape: tuple = ("n", K), rank: int = 2
) -> onnx.ModelProto:
    """x -> nodes -> y."""
    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[dtype.name]
    x, y = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", kind, [None] * rank)
    graph = helper.make_graph(nodes, "net", [x], [y], [tensor(v, n) for n, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def mlp(dtype: np.dtype = F32, middle: np.dtype | None = None, **changes: object) -> onnx.ModelProto:
    """Three dense layers, the one in the middle by 5 MB of weights, whose values may be rounded to those of another type."""
    rng = np.random.default_rng(0)
    first, last = (rng.standard_normal(s, dtype=np.float32) / 8 for s in ((HIDDEN, K), (LAST, HIDDEN)))
    wide = WIDE if middle is None else WIDE.astype(middle).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"], name="first", transB=1),
        helper.make_node("Gemm", ["a", "w2", "b2"], ["b"], name="middle", **{"transB": 1, **changes}),
        helper.make_node("Relu", ["b"], ["c"], name="relu"),
        helper.make_node("Gemm", ["c", "w3"], ["y"], name="last", transB=1),
    ]
    constants = {"w1": first, "w2": wide, "b2": np.float32(rng.standard_normal(HIDDEN)), "w3": last}
    return model(nodes, {n: v.astype(dtype) for n, v in constants.items()}, dtype)


def widened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model in half precision as one in float32 of the same values."""
    arrays = {t.name: numpy_helper.to_array(t).astype(np.float32) for t in proto.graph.initializer}
    return model(list(proto.graph.node), arrays)


def kernels(loaded: cnnengine.Model, rows: int = 1) -> dict[str, tuple[str, ...]]:
    return {layer.name: layer.kernels for layer in summarize(loaded, {"x": (rows, K)}).layers}


# ---------------------------------------------------------------- files in half precision
@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
@pytest.mark.parametrize("rows", [1, 2, 5, 33])
def test_a_file_in_half_precision_gives_the_bits_of_its_float32(isa: str, threads: int, rows: int, dtype: np.dtype) -> None:
    x = RNG.standard_normal((rows, K)).astype(dtype)
    with cnnengine.load(mlp(dtype), threads=threads) as half, cnnengine.load(widened(mlp(dtype)), threads=threads) as full:
        (got,), (want,) = half.run(None, {"x": x}), full.run(None, {"x": x.astype(np.float32)})
        assert half.is_pure
        assert {name: names[0] for name, names in kernels(half, rows).items() if name in ("first", "middle", "last")} == {
            "first": "dense half",
            "middle": "dense half",
            "last": "dense half" if LAST * HIDDEN * 4 >= 1 << 16 else "dense",
        }
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, want.astype(dtype))


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_weights_of_half_precision_are_kept_in_half_the_size(dtype: np.dtype) -> None:
    with cnnengine.load(mlp(dtype)) as half, cnnengine.load(widened(mlp(dtype))) as full:
        large = [c for c in inside(half).graph.constants.values() if c.size >= HIDDEN * K]
        assert large and all(isinstance(c, Widened) and c.source.dtype == dtype for c in large)
        sizes = [summarize(m, {"x": (1, K)}).weight_bytes for m in (half, full)]
        assert summarize(half).parameters == summarize(full).parameters > HIDDEN * HIDDEN
        assert sizes[0] is not None and sizes[1] is not None and 0.45 < sizes[0] / sizes[1] < 0.55
        # other batches share what is packed
        packed = dict(inside(half).program.packed)
        half.run(None, {"x": np.zeros((9, K), dtype)})
        assert {k: v.nbytes for k, v in inside(half).program.packed.items()} == {k: v.nbytes for k, v in packed.items()}


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_what_scales_the_weights_makes_them_float32(dtype: np.dtype) -> None:
    """Products with a factor are no numbers of half the size."""
    x = RNG.standard_normal((2, K)).astype(dtype)
    with cnnengine.load(mlp(dtype, alpha=0.3)) as half, cnnengine.load(widened(mlp(dtype, alpha=0.3))) as full:
        assert kernels(half)["middle"] == ("dense",)
        (got,), (want,) = half.run(None, {"x": x}), full.run(None, {"x": x.astype(np.float32)})
    np.testing.assert_array_equal(got, want.astype(dtype))


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_weights_stored_in_half_precision_behind_a_cast(dtype: np.dtype) -> None:
    """A float32 network whose file keeps its weights small."""
    cast = helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT)
    proto = model([cast, helper.make_node("MatMul", ["x", "wide"], ["y"], name="middle")], {"w": WIDE[:K].astype(dtype)})
    x = RNG.standard_normal((3, K), dtype=np.float32)
    plain = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": WIDE[:K].astype(dtype).astype(np.float32)})
    with cnnengine.load(proto) as half, cnnengine.load(plain) as full:
        assert kernels(half) == {"middle": ("dense half",)}
        assert all(isinstance(c, Widened) for c in inside(half).graph.constants.values())
        np.testing.assert_array_equal(half.run(None, {"x": x})[0], full.run(None, {"x": x})[0])


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_convolutions_of_half_precision(threads: int, dtype: np.dtype) -> None:
    """Packed as float32 from the file's numbers, of which no float32 is kept beside."""
    w = (RNG.standard_normal((64, 64, 3, 3)) / 24).astype(dtype)
    scale = np.float32(RNG.uniform(0.5, 2, 64)).astype(dtype)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "zero", "zero", "one"], ["y"], name="bn"),
    ]
    zero, one = np.zeros(64, dtype), np.ones(64, dtype)
    proto = model(nodes, {"w": w, "scale": scale, "zero": zero, "one": one}, dtype, (1, 64, 14, 14), 4)
    x = RNG.standard_normal((1, 64, 14, 14)).astype(dtype)
    arrays = {t.name: numpy_helper.to_array(t).astype(np.float32) for t in proto.graph.initializer}
    full_proto = model(nodes, arrays, F32, (1, 64, 14, 14), 4)
    with cnnengine.load(proto, threads=threads) as half, cnnengine.load(full_proto, threads=threads) as full:
        assert not any(
            isinstance(c, np.ndarray) and c.dtype == F32 and c.size >= w.size for c in inside(half).graph.constants.values()
        )
        (got,), (want,) = half.run(None, {"x": x}), full.run(None, {"x": x.astype(np.float32)})
    np.testing.assert_array_equal(got, want.astype(dtype))


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
@pytest.mark.parametrize(
    ("o", "c", "kernel", "attributes", "size"),
    [
        (512, 256, (1, 1), {}, (9, 11)),
        (512, 260, (1, 1), {"strides": [2, 2]}, (14, 15)),
        (130, 130, (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (9, 8)),
        (256, 128, (3, 3), {"group": 2, "pads": [1, 1, 1, 1], "dilations": [2, 2]}, (8, 8)),
        (132, 128, (3, 3), {"pads": [12, 12, 12, 12], "dilations": [12, 12]}, (14, 14)),
        (128, 1030, (1, 1), {}, (1, 1)),
        (1024, 132, (1,), {}, (5,)),
        (128, 96, (3, 2, 2), {"strides": [1, 1, 2]}, (5, 4, 9)),
    ],
)
def test_large_weights_of_direct_convolutions_stay_in_half_the_size(
    isa: str, threads: int, dtype: np.dtype, o: int, c: int, kernel: tuple, attributes: dict, size: tuple
) -> None:
    """Widened a block at a time, with the bits of the float32 network of the same weights."""
    rng = np.random.default_rng(o)
    w = (rng.standard_normal((o, c, *kernel), np.float32) / 16).astype(dtype)
    channels = c * attributes.get("group", 1)
    node = helper.make_node("Conv", ["x", "w", "b"], ["a"], name="conv", **attributes)
    nodes = [node, helper.make_node("Relu", ["a"], ["y"], name="relu")]
    constants = {"w": w, "b": np.float32(rng.standard_normal(o)).astype(dtype)}
    rank = 2 + len(size)
    x = rng.standard_normal((2, channels, *size), np.float32).astype(dtype)
    proto = model(nodes, constants, dtype, ("n", channels, *size), rank)
    wide = {n: v.astype(np.float32) for n, v in constants.items()}
    full_proto = model(nodes, wide, F32, ("n", channels, *size), rank)
    with (
        cnnengine.load(proto, threads=threads, winograd=False) as half,
        cnnengine.load(full_proto, threads=threads, winograd=False) as full,
    ):
        (got,), (want,) = half.run(None, {"x": x}), full.run(None, {"x": x.astype(np.float32)})
        made = [summarize(m, {"x": x.shape}) for m in (half, full)]
        ran = [[k for layer in m.layers for k in layer.kernels if k.startswith("conv ")] for m in made]
        assert ran[0] == [f"{k} half" for k in ran[1]] != []
        sizes = [m.weight_bytes for m in made]
        assert sizes[0] is not None and sizes[1] is not None and sizes[0] < 0.52 * sizes[1]
    np.testing.assert_array_equal(got, want.astype(dtype))


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_small_weights_and_those_of_other_kernels_are_float32(dtype: np.dtype) -> None:
    """Near misses: few weights, a transform, a first layer, groups within a block, a transposed convolution."""
    for o, c, kernel, group, kind, winograd in (
        (256, 511, (1, 1), 1, "Conv", False),
        (256, 64, (3, 3), 1, "Conv", True),
        (16384, 3, (2, 2), 1, "Conv", False),
        (4096, 1, (6, 6), 4096, "Conv", False),
        (256, 64, (3, 3), 1, "ConvTranspose", False),
    ):
        w = np.ones((o, c, *kernel), dtype)
        channels = o if kind == "ConvTranspose" else c * group
        proto = model(
            [helper.make_node(kind, ["x", "w"], ["y"], name="conv", group=group)], {"w": w}, dtype, (1, channels, 16, 16), 4
        )
        with cnnengine.load(proto, winograd=winograd) as half:
            assert not any(k.endswith("half") for layer in summarize(half).layers for k in layer.kernels), (o, c, kernel, kind)
    proto = model(
        [helper.make_node("Conv", ["x", "w"], ["y"])], {"w": np.ones((256, 512, 1, 1), dtype)}, dtype, (1, 512, 4, 4), 4
    )
    with cnnengine.load(proto) as half:
        assert any(k.endswith("half") for layer in summarize(half).layers for k in layer.kernels)


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_large_weights_in_half_the_size_are_packed_in_parts(isa: str, dtype: np.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PART", 1 << 14)
    lanes = dispatch.lanes()
    for kernel in ((), (1, 1), (3, 2)):
        w = Widened(RNG.standard_normal((75, 37, *kernel), np.float32).astype(dtype))
        panels = packing.NarrowPanels(w, lanes)
        parts = panels.parts(lanes, aligned_empty)
        assert parts is not None or w.nbytes <= 1 << 14
        if parts is not None:
            made, jobs = parts
            assert len(jobs) > 1
            made[:] = 0xFFFF
            for job in jobs[::-1]:
                job(packing.Scratch())
            np.testing.assert_array_equal(made, panels(aligned_empty))


def test_weights_of_half_the_size_that_a_kernel_cannot_have_are_refused() -> None:
    lanes = dispatch.lanes()
    plain = View.planes((1, 2, 4, 4), 1)
    y, bias = View.planes((1, lanes, 4, 4), lanes), View.plain((lanes,))
    with pytest.raises(ValueError, match="float16"):
        w = View.plain((2 * lanes,), np.uint16)
        kernel_of("conv").build([plain, w, bias, None], [y], taps=[(0, 0, 0)], kind="float16")


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_a_network_in_half_precision_has_no_step_in_python(dtype: np.dtype) -> None:
    with cnnengine.load(mlp(dtype)) as loaded:
        loaded.run(None, {"x": np.ones((1, K), dtype)})
        assert loaded.host_nodes() == []


# ---------------------------------------------------------------- precision
def lowered(proto: onnx.ModelProto, **options: object) -> tuple[str, ...]:
    with cnnengine.load(proto, precision="bfloat16", **options) as loaded:  # type: ignore[arg-type]
        graph = inside(loaded).graph
        held = {n.name for n in graph.nodes if any(isinstance(graph.constants.get(i), Rounded) for i in n.inputs)}
        assert held == set(loaded.lowered)
        return loaded.lowered


@pytest.mark.parametrize("rows", [1, 2, 5, 33])
def test_bfloat16_is_float32_by_rounded_weights(isa: str, threads: int, rows: int) -> None:
    x = RNG.standard_normal((rows, K), dtype=np.float32)
    with (
        cnnengine.load(mlp(), threads=threads, precision="bfloat16") as low,
        cnnengine.load(mlp(middle=HALVES[1]), threads=threads) as rounded,
        cnnengine.load(mlp(), threads=threads) as full,
    ):
        assert low.lowered == ("middle",) and full.lowered == ()
        assert (low.precision, full.precision) == ("bfloat16", "float32")
        assert kernels(low, rows)["middle"] == ("dense half",) and kernels(full, rows)["middle"] == ("dense",)
        got, want, exact = (m.run(None, {"x": x})[0] for m in (low, rounded, full))
    np.testing.assert_array_equal(got, want)
    assert 1e-4 < np.abs(got - exact).max() / np.abs(exact).max() < 1e-2


def test_a_row_has_the_same_bits_in_every_batch() -> None:
    x = RNG.standard_normal((9, K), dtype=np.float32)
    with cnnengine.load(mlp(), precision="bfloat16") as low:
        whole = low.run(None, {"x": x})[0]
        for i in range(9):
            np.testing.assert_array_equal(low.run(None, {"x": x[i : i + 1]})[0], whole[i : i + 1])


def test_first_and_last_layers_stay_float32() -> None:
    w = {"w": WIDE, "v": WIDE.T.copy()}

    def gemm(x: str, y: str, name: str, weights: str = "w") -> onnx.NodeProto:
        return helper.make_node("Gemm", [x, weights], [y], name=name)

    def of(nodes: list) -> tuple[str, ...]:
        return lowered(model(nodes, w, shape=("n", HIDDEN)))

    assert of([gemm("x", "y", "one")]) == ()
    assert of([gemm("x", "a", "one"), gemm("a", "y", "two")]) == ()
    assert of([gemm("x", "a", "one"), gemm("a", "b", "two"), gemm("b", "y", "three")]) == ("two",)
    # functions before the first and behind the last one change nothing
    ends = [helper.make_node("Relu", ["x"], ["r"]), gemm("r", "a", "one"), gemm("a", "b", "two"), gemm("b", "c", "three")]
    assert of([*ends, helper.make_node("Softmax", ["c"], ["y"])]) == ("two",)
    # two ways from x, two ways to y: the first and the last of each
    two = [gemm("x", "a", "a1"), gemm("a", "b", "a2"), gemm("b", "c", "a3"), gemm("x", "d", "b1", "v"), gemm("d", "e", "b2", "v")]
    assert of([*two, helper.make_node("Add", ["c", "e"], ["y"])]) == ("a2",)
    # a skip around: what follows reads the input's layer and x itself
    skip = [gemm("x", "a", "a1"), helper.make_node("Add", ["a", "x"], ["s"]), gemm("s", "b", "a2"), gemm("b", "y", "a3", "v")]
    assert of(skip) == ("a2",)


def test_layers_that_do_not_gain_stay_float32() -> None:
    assert lowered(mlp(alpha=0.5)) == ()
    turned = list(mlp(transA=1).graph.node)
    constants = {t.name: numpy_helper.to_array(t) for t in mlp().graph.initializer}
    for nodes, expected in ((turned, ()), (list(mlp().graph.node), ("middle",))):  # a square between, so that both fit
        assert lowered(model(nodes, constants, shape=(HIDDEN, K))) == expected
    rng = np.random.default_rng(1)
    ends = {"w1": rng.standard_normal((K, HIDDEN), dtype=np.float32), "w3": rng.standard_normal((HIDDEN, LAST), dtype=np.float32)}

    def between(middle: list, constants: dict[str, np.ndarray], **given: object) -> tuple[str, ...]:
        nodes = [helper.make_node("MatMul", ["x", "w1"], ["a"]), *middle, helper.make_node("MatMul", ["b", "w3"], ["y"])]
        return lowered(model(nodes, {**ends, **constants}, **given))  # type: ignore[arg-type]

    matmul = helper.make_node("MatMul", ["a", "w2"], ["b"], name="middle")
    assert between([matmul], {"w2": WIDE}) == ("middle",)
    assert (
        between([matmul], {"w2": WIDE[:, :]}, shape=("n", 50, K), rank=3) == ()
    )  # many rows: computing takes longer than memory
    # a square of 512 is 1 MiB, the smallest that gains; of 511 is less
    for side, expected in ((512, ("middle",)), (511, ())):
        constants = {"w1": ends["w1"][:, :side], "w2": WIDE[:side, :side], "w3": ends["w3"][:side]}
        assert between([matmul], constants) == expected
    # weights that the network computes
    computed = [helper.make_node("Mul", ["w2", "s"], ["w"]), helper.make_node("ReduceMax", ["x"], ["s"], keepdims=0)]
    assert between([*computed[::-1], helper.make_node("MatMul", ["a", "w"], ["b"], name="middle")], {"w2": WIDE}) == ()


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_files_in_half_precision_stay_as_they_are(dtype: np.dtype) -> None:
    assert lowered(mlp(dtype)) == ()
    with cnnengine.load(mlp(dtype), precision="bfloat16") as loaded:
        assert all(c.kind == dtype.name for c in inside(loaded).graph.constants.values() if isinstance(c, Half))


def test_folded_weights_are_rounded_once() -> None:
    """A scale behind the layer goes into its weights before they are rounded."""
    rng = np.random.default_rng(2)
    scale = rng.uniform(0.5, 2, HIDDEN).astype(np.float32)
    nodes = [n for n in mlp().graph.node if n.name != "relu"]
    nodes.insert(2, helper.make_node("Mul", ["b", "scale"], ["c"]))
    constants = {t.name: numpy_helper.to_array(t) for t in mlp().graph.initializer}
    x = rng.standard_normal((2, K), dtype=np.float32)
    with cnnengine.load(model(nodes, {**constants, "scale": scale}), precision="bfloat16") as low:
        assert low.lowered == ("middle",)
        (got,) = low.run(None, {"x": x})
    wide = (constants["w2"].astype(np.float64) * scale[:, None]).astype(np.float32).astype(HALVES[1]).astype(np.float32)
    bias = (constants["b2"].astype(np.float64) * scale).astype(np.float32)
    changed = {**constants, "w2": wide, "b2": bias}
    plain = [
        helper.make_node("Gemm", [*n.input], ["c" if n.name == "middle" else n.output[0]], transB=1)
        for n in nodes
        if n.op_type == "Gemm"
    ]
    with cnnengine.load(model(plain, changed)) as full:
        np.testing.assert_array_equal(got, full.run(None, {"x": x})[0])


@pytest.mark.parametrize("wrong", ["bf16", "", "float16", None, 16, True, ["bfloat16"]])
def test_a_wrong_precision_names_the_choices(wrong: object) -> None:
    with pytest.raises(InputError, match=r"precision.*'float32', 'bfloat16'"):
        cnnengine.load(mlp(), precision=wrong)  # type: ignore[arg-type]
    if wrong is not None:  # what `check` is not told is the model's own
        with pytest.raises(InputError, match=r"precision.*'float32', 'bfloat16'"):
            check(mlp(), precision=wrong)  # type: ignore[arg-type]


def test_copies_and_pickles_keep_the_precision() -> None:
    with cnnengine.load(mlp(), precision="bfloat16") as low:
        assert "bfloat16" in repr(low)
        x = np.ones((1, K), np.float32)
        with pickle.loads(pickle.dumps(low)) as again:
            assert again.precision == "bfloat16" and again.lowered == low.lowered
            np.testing.assert_array_equal(again.run(None, {"x": x})[0], low.run(None, {"x": x})[0])


def test_the_session_takes_it() -> None:
    options = SessionOptions()
    options.add_session_config_entry("cnnengine.precision", "bfloat16")
    session = InferenceSession(mlp().SerializeToString(), options)
    assert session._model.precision == "bfloat16" and session._model.lowered == ("middle",)
    options.add_session_config_entry("cnnengine.precision", "half")
    with pytest.raises(InputError, match="precision"):
        InferenceSession(mlp().SerializeToString(), options)


# ---------------------------------------------------------------- reports
def test_check_tells_the_error_of_each_layer_and_of_the_outputs() -> None:
    x = RNG.standard_normal((2, K), dtype=np.float32)
    found = check(mlp(), feeds={"x": x}, precision="bfloat16")
    assert found.ok and found.precision == "bfloat16" and found.errors is not None
    assert [(e.node, e.operator, e.tensor) for e in found.errors.layers] == [("middle", "Gemm", "c")]
    assert [e.tensor for e in found.errors.outputs] == ["y"]
    with cnnengine.load(mlp()) as full, cnnengine.load(mlp(), precision="bfloat16") as low:
        a, b = (m.run(None, {"x": x})[0].astype(np.float64) for m in (low, full))
    assert found.errors.outputs[0].error == np.abs(a - b).max() / np.abs(b).max() > 0
    assert math.isclose(found.errors.outputs[0].rms, np.sqrt(np.sum((a - b) ** 2) / np.sum(b**2)), rel_tol=1e-12)
    plain = check(mlp(), feeds={"x": x})
    assert plain.precision == "float32" and plain.errors is None
    json.dumps(found.as_dict())


def test_reports_say_the_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "mlp.onnx")
    onnx.save(mlp(), path)
    with cnnengine.load(path, precision="bfloat16") as low:
        assert (summarize(low).precision, summarize(low).lowered) == ("bfloat16", ("middle",))
        assert profile(low, seconds=0.01).precision == "bfloat16"
    for command in (["info"], ["profile", "--seconds", "0.01"], ["check"]):
        for precision in ("bfloat16", "float32"):
            assert main([command[0], path, *command[1:], "--precision", precision]) == 0
            assert precision in capsys.readouterr().out
        assert main([command[0], path, "--precision", "half"]) == 2
        assert "'float32', 'bfloat16'" in capsys.readouterr().err
    assert main(["info", path, "--json", "--precision", "bfloat16"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert (described["precision"], described["lowered"]) == ("bfloat16", ["middle"])
    assert main(["check", path, "--precision", "bfloat16"]) == 0
    told = capsys.readouterr().out
    assert "bfloat16 in 1 layer, errors against float32" in told and "middle" in told
