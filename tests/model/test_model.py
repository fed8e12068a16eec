"""Model: loading, running, options, errors, life; on graphs made here."""

from __future__ import annotations

import copy
import io
import pickle
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import (
    ClosedError,
    CNNEngineError,
    InputError,
    ModelError,
    ModelNotFoundError,
    ShapeError,
    UnsupportedOperatorError,
)
from cnnengine import functional as F
from cnnengine.runtime.runner import fill_arenas

RNG = np.random.default_rng(5)


def rand(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def model_of(nodes, inputs, outputs, constants=(), opset=20, metadata=None) -> onnx.ModelProto:
    def info(name, shape, dtype=TensorProto.FLOAT):
        return helper.make_tensor_value_info(name, dtype, shape)

    graph = helper.make_graph(
        nodes,
        "graph",
        [info(*i) for i in inputs],
        [info(*o) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in dict(constants).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    if metadata:
        helper.set_model_props(model, metadata)
    return model


W = rand(20, 3, 3, 3) * np.float32(0.2)
B = rand(20)
V = rand(20, 20, 3, 3) * np.float32(0.1)


def small_net(**kwargs) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1], name="first"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "v"], ["c"], pads=[1, 1, 1, 1], name="second"),
        helper.make_node("Add", ["c", "r"], ["s"], name="add"),
        helper.make_node("MaxPool", ["s"], ["p"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        helper.make_node("GlobalAveragePool", ["p"], ["g"], name="gap"),
        helper.make_node("Flatten", ["g"], ["y"], name="flat"),
    ]
    return model_of(nodes, [("x", ["N", 3, "H", "W"])], [("y", ["N", 20])], {"w": W, "b": B, "v": V}, **kwargs)


def expected(x: np.ndarray) -> np.ndarray:
    r = F.relu(F.conv2d(x, W, B, pads=1))
    s = F.conv2d(r, V, pads=1) + r
    return F.flatten(F.global_avg_pool(F.max_pool2d(s, 2, stride=2)))


@pytest.fixture
def net():
    with cnnengine.load(small_net(), threads=2) as model:
        yield model


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


class TestRun:
    @pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 9, 17), (3, 3, 33, 14), (1, 3, 2, 3)])
    def test_dynamic_shapes(self, net, shape):
        x = rand(*shape)
        close(net(x), expected(x))

    def test_empty_batch(self, net):
        assert net(np.zeros((0, 3, 8, 8), np.float32)).shape == (0, 20)

    def test_inputs_of_every_kind(self, net):
        x = rand(2, 3, 12, 16)
        y = net(x)
        big = np.zeros((2, 3, 24, 16), np.float32)
        big[:, :, ::2] = x
        raw = np.zeros(x.nbytes + 1, np.uint8)
        misaligned = raw[1:].view(np.float32).reshape(x.shape)
        misaligned[...] = x
        frozen = x.copy()
        frozen.flags.writeable = False
        for other in (big[:, :, ::2], np.asfortranarray(x), misaligned, frozen, x.astype(">f4")):
            np.testing.assert_array_equal(net(other), y)

    def test_outputs_never_alias(self, net):
        x = rand(1, 3, 8, 8)
        first = net(x)
        kept = first.copy()
        net(rand(1, 3, 8, 8))
        np.testing.assert_array_equal(first, kept)
        assert first.flags.owndata or first.base is not None
        first[...] = 7
        np.testing.assert_array_equal(net(x), kept)

    def test_threads_give_the_same_bits(self, net):
        x = rand(3, 3, 31, 45)
        one, two = (net.run(None, {"x": x}, threads=t)[0] for t in (1, 2))
        np.testing.assert_array_equal(one, two)

    def test_isas_agree(self, isa):
        x = rand(2, 3, 19, 21)
        with cnnengine.load(small_net()) as model:
            assert model.isa == isa
            close(model(x), expected(x))

    def test_no_stale_read(self, net):
        x = rand(2, 3, 13, 11)
        y = net(x)
        fill_arenas(255)
        try:
            np.testing.assert_array_equal(net(x), y)
        finally:
            fill_arenas(None)

    def test_calls_by_name_and_position(self, net):
        x = rand(1, 3, 8, 8)
        np.testing.assert_array_equal(net(x), net(x=x))
        np.testing.assert_array_equal(net(x), net.run(["y"], {"x": x})[0])
        with pytest.raises(InputError):
            net(x, x)
        with pytest.raises(InputError):
            net(x, x=x)

    def test_intermediate_outputs(self):
        x = rand(1, 3, 8, 10)
        with cnnengine.load(small_net(), outputs=["r", "y", "s"]) as model:
            r, y, s = model(x)
            assert [o.name for o in model.outputs] == ["r", "y", "s"]
        close(r, F.relu(F.conv2d(x, W, B, pads=1)))
        close(s, F.conv2d(r, V, pads=1) + r)
        close(y, expected(x))
        with pytest.raises(InputError, match="nothing"):
            cnnengine.load(small_net(), outputs=["nothing"])

    def test_output_that_is_an_input_or_a_constant(self):
        nodes = [
            helper.make_node("Identity", ["x"], ["y"]),
            helper.make_node("Identity", ["k"], ["z"]),
            helper.make_node("Relu", ["x"], ["r"]),
        ]
        k = rand(3)
        model = cnnengine.load(model_of(nodes, [("x", [2])], [("y", [2]), ("z", [3]), ("r", [2])], {"k": k}))
        x = rand(2)
        y, z, r = model(x)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(z, k)
        np.testing.assert_array_equal(r, np.maximum(x, 0))
        y[...] = 9
        z[...] = 9
        assert not np.array_equal(x, y)
        np.testing.assert_array_equal(model(x)[1], k)

    def test_shape_decided_by_data(self):
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("NonZero", ["r"], ["i"]),
            helper.make_node("Transpose", ["i"], ["t"], perm=[1, 0]),
            helper.make_node("GatherND", ["r", "t"], ["v"]),
            helper.make_node("Mul", ["v", "two"], ["y"]),
        ]
        model = cnnengine.load(model_of(nodes, [("x", ["N", 4])], [("y", [None])], {"two": np.float32(2)}), threads=1)
        for rows in (1, 3, 7):
            x = rand(rows, 4)
            np.testing.assert_array_equal(model(x), x[x > 0] * 2)


class TestOneNode:
    """A one-node model and the same layer as a function agree bit for bit."""

    CASES: ClassVar = [
        (
            "Conv",
            {"pads": [1, 2, 0, 1], "strides": [2, 1]},
            (2, 5, 13, 17),
            [rand(7, 5, 3, 3), rand(7)],
            lambda x, w, b: F.conv2d(x, w, b, pads=(1, 2, 0, 1), stride=(2, 1)),
        ),
        (
            "Conv",
            {"pads": [1, 1], "dilations": [2]},
            (2, 33, 40),
            [rand(17, 33, 3)],
            lambda x, w: F.conv1d(x, w, pads=1, dilation=2),
        ),
        ("Conv", {"group": 24}, (1, 24, 9, 30), [rand(24, 1, 5, 5)], lambda x, w: F.conv2d(x, w, groups=24)),
        ("Conv", {"group": 3}, (2, 12, 9, 8), [rand(6, 4, 3, 3)], lambda x, w: F.conv2d(x, w, groups=3)),
        (
            "Conv",
            {"auto_pad": "SAME_UPPER", "strides": [2, 2, 2]},
            (1, 3, 7, 8, 9),
            [rand(18, 3, 3, 3, 3)],
            lambda x, w: F.conv3d(x, w, auto_pad="SAME_UPPER", stride=2),
        ),
        (
            "ConvTranspose",
            {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0]},
            (2, 18, 7, 6),
            [rand(18, 5, 3, 4), rand(5)],
            lambda x, w, b: F.conv_transpose2d(x, w, b, stride=(2, 3), pads=(1, 0, 0, 1), output_padding=(1, 0)),
        ),
        (
            "MaxPool",
            {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
            (2, 19, 10, 9),
            [],
            lambda x: F.max_pool2d(x, (3, 2), stride=2, ceil_mode=True),
        ),
        (
            "AveragePool",
            {"kernel_shape": [3], "pads": [1, 1], "count_include_pad": 1},
            (2, 5, 10),
            [],
            lambda x: F.avg_pool1d(x, 3, pads=1, count_include_pad=True),
        ),
        ("LpPool", {"kernel_shape": [2, 2, 2], "p": 2}, (1, 5, 4, 6, 5), [], lambda x: F.lp_pool3d(x, 2)),
        ("GlobalAveragePool", {}, (2, 37, 5, 6), [], F.global_avg_pool),
        ("Gemm", {"transB": 1}, (4, 50), [rand(21, 50), rand(21)], F.dense),
        ("BatchNormalization", {}, (2, 9, 4, 5), [rand(9), rand(9), rand(9), np.abs(rand(9))], F.batch_norm),
        ("InstanceNormalization", {}, (2, 9, 4, 5), [rand(9), rand(9)], F.instance_norm),
        ("LayerNormalization", {}, (2, 9, 40), [rand(40), rand(40)], F.layer_norm),
        ("LRN", {"size": 4}, (2, 9, 4, 5), [], lambda x: F.local_response_norm(x, size=4)),
        ("Softmax", {"axis": 1}, (2, 9, 4, 5), [], lambda x: F.softmax(x, axis=1)),
        ("LogSoftmax", {}, (2, 100), [], F.log_softmax),
        ("Sigmoid", {}, (2, 9, 4, 5), [], F.sigmoid),
        ("Gelu", {}, (2, 9, 45), [], F.gelu),
        ("HardSwish", {}, (333,), [], F.hard_swish),
        ("Tanh", {}, (3, 7), [], F.tanh),
        ("Flatten", {"axis": 2}, (2, 3, 4, 5), [], lambda x: F.flatten(x, axis=2)),
    ]

    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[2]}")
    def test_same_bits(self, case, threads, isa):
        operator, attributes, shape, weights, function = case
        names = [f"k{i}" for i in range(len(weights))]
        node = helper.make_node(operator, ["x", *names], ["y"], **attributes)
        x = rand(*shape)
        result = function(x, *weights)
        proto = model_of(
            [node], [("x", list(shape))], [("y", list(result.shape))], dict(zip(names, weights, strict=True)), opset=22
        )
        with cnnengine.load(proto, threads=threads, fallback="error", winograd=False) as model:
            np.testing.assert_array_equal(model(x), result)
            assert model.host_nodes() == []

    @pytest.mark.parametrize("rows", [1, 3])
    def test_few_rows_of_a_dense_layer(self, rows, isa):
        """The exception: a function reads weights as they lie there, since packing them would take longer than the product."""
        x, w, b = rand(rows, 500), rand(21, 500), rand(21)
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
        proto = model_of([node], [("x", [rows, 500])], [("y", [rows, 21])], {"w": w, "b": b}, opset=22)
        exact = x.astype(np.float64) @ w.astype(np.float64).T + b
        with cnnengine.load(proto, fallback="error") as model:
            for result in (model(x), F.dense(x, w, b)):
                np.testing.assert_allclose(result, exact, rtol=0, atol=2e-6 * np.abs(exact).max())

    def test_batches_share_the_weights_of_a_dense_layer(self):
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
        proto = model_of([node], [("x", ["n", 50])], [("y", ["n", 21])], {"w": rand(21, 50), "b": rand(21)}, opset=22)
        with cnnengine.load(proto) as model:
            packed = []
            for rows in (1, 2, 8):
                model(rand(rows, 50))
                packed.append({key: id(array) for key, array in model._program.packed.items()})
            assert packed[0] == packed[1] == packed[2]


class TestFace:
    def test_describes_itself(self, net):
        assert [(i.name, i.shape, i.dtype) for i in net.inputs] == [("x", ("N", 3, "H", "W"), np.float32)]
        assert [(i.name, i.shape) for i in net.outputs] == [("y", ("N", 20))]
        assert "x: float32" in repr(net)

    def test_metadata(self):
        with cnnengine.load(small_net(metadata={"author": "someone"})) as model:
            assert model.metadata == {"author": "someone"}

    def test_sources(self, tmp_path):
        proto = small_net()
        data = proto.SerializeToString()
        path = tmp_path / "net.onnx"
        path.write_bytes(data)
        x = rand(1, 3, 8, 8)
        results = [cnnengine.load(source)(x) for source in (proto, data, str(path), path, io.BytesIO(data))]
        for y in results[1:]:
            np.testing.assert_array_equal(y, results[0])

    def test_source_object_is_left_alone(self):
        proto = small_net()
        before = proto.SerializeToString(deterministic=True)
        cnnengine.load(proto)(rand(1, 3, 8, 8))
        assert proto.SerializeToString(deterministic=True) == before

    def test_predict(self, net):
        x = rand(7, 3, 8, 8)
        whole = net(x)
        np.testing.assert_array_equal(net.predict(x), whole)
        close(net.predict(x, batch_size=3), whole)
        assert net.predict(x[:0]).shape == (0, 20)
        with pytest.raises(InputError, match="batch_size"):
            net.predict(x, batch_size=0)

    def test_predict_loops_over_a_fixed_batch(self):
        proto = small_net()
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        x = rand(5, 3, 8, 8)
        with cnnengine.load(proto) as model:
            close(model.predict(x), expected(x))

    def test_prepare(self, net):
        assert net.prepare({"x": (2, 3, 16, 16)}) is net
        net.prepare((1, 3, 9, 9))
        with pytest.raises(ShapeError, match="x"):
            net.prepare({"x": (2, 4, 16, 16)})
        with pytest.raises(InputError, match="nope"):
            net.prepare({"nope": (1,)})

    @pytest.mark.parametrize(
        "duplicate", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy], ids=["pickle", "deepcopy", "copy"]
    )
    def test_copies(self, duplicate):
        x = rand(1, 3, 8, 8)
        with cnnengine.load(small_net(), threads=2, outputs=["r", "y"]) as model:
            other = duplicate(model)
            assert other.threads == 2 and [o.name for o in other.outputs] == ["r", "y"]
            for a, b in zip(model(x), other(x), strict=True):
                np.testing.assert_array_equal(a, b)

    def test_closed(self):
        model = cnnengine.load(small_net())
        model.close()
        model.close()
        assert "closed" in repr(model)
        for use in (
            lambda: model(rand(1, 3, 8, 8)),
            lambda: model.prepare((1, 3, 8, 8)),
            lambda: pickle.dumps(model),
            model.__enter__,
        ):
            with pytest.raises(ClosedError):
                use()


class TestErrors:
    def test_missing_file(self, tmp_path):
        with pytest.raises(ModelNotFoundError) as info:
            cnnengine.load(tmp_path / "none.onnx")
        assert isinstance(info.value, FileNotFoundError) and isinstance(info.value, CNNEngineError)

    def test_not_a_model(self):
        with pytest.raises(ModelError):
            cnnengine.load(b"this is not an ONNX model")

    @pytest.mark.parametrize(
        "feeds,error,words",
        [
            ({}, InputError, "x"),
            ({"z": np.zeros(1, np.float32)}, InputError, "z"),
            ({"x": np.zeros((1, 3, 8, 8), np.float64)}, InputError, "float64"),
            ({"x": np.zeros((1, 3, 8, 8), np.int64)}, InputError, "int64"),
            ({"x": np.zeros((1, 4, 8, 8), np.float32)}, ShapeError, "4, 8, 8"),
            ({"x": np.zeros((3, 8, 8), np.float32)}, ShapeError, "3, 8, 8"),
            ({"x": np.zeros((1, 3, 1, 1), np.float32)}, ShapeError, "pool"),
            ([], InputError, "dict"),
        ],
    )
    def test_feeds(self, net, feeds, error, words):
        with pytest.raises(error, match=words):
            net.run(None, feeds)

    def test_unknown_output(self, net):
        with pytest.raises(InputError, match="nope"):
            net.run(["nope"], {"x": np.zeros((1, 3, 8, 8), np.float32)})

    def test_all_unsupported_nodes_at_once(self):
        nodes = [
            helper.make_node("Blur", ["x"], ["a"], name="one", domain="some.where"),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Sharpen", ["b"], ["y"], name="two", domain="some.where"),
        ]
        proto = model_of(nodes, [("x", [1])], [("y", [1])])
        proto.opset_import.append(helper.make_opsetid("some.where", 1))
        with pytest.raises(UnsupportedOperatorError) as info:
            cnnengine.load(proto)
        assert isinstance(info.value, NotImplementedError)
        for word in ("one", "Blur", "two", "Sharpen", "some.where"):
            assert word in str(info.value)

    def test_options(self):
        for options in ({"fallback": "maybe"}, {"threads": 0}, {"threads": "two"}):
            with pytest.raises(InputError):
                cnnengine.load(small_net(), **options)

    def test_errors_pickle(self, net):
        with pytest.raises(ShapeError) as info:
            net(np.zeros((1, 4, 8, 8), np.float32))
        again = pickle.loads(pickle.dumps(info.value))
        assert str(again) == str(info.value) and again.tensor == "x"


# ---------------------------------------------------------------- products


def kernels_of(model: cnnengine.Model, *arrays: np.ndarray) -> list[str]:
    segment = model._program.segment(0, dict(zip((i.name for i in model.inputs), arrays, strict=True)))
    return [r.kernel for r in segment.plan.reports]


def test_a_product_takes_bias_residual_and_activation():
    # the rank is known when the shapes are: a Reshape by a computed shape
    x, w, b = rand(2, 15, 33), rand(33, 33) / np.float32(6), rand(33)
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["m"]),
        helper.make_node("Add", ["b", "m"], ["a"]),
        helper.make_node("Add", ["r", "a"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["e"]),
        helper.make_node("Add", ["e", "b"], ["f"]),
        helper.make_node("Sigmoid", ["f"], ["g"]),
        helper.make_node("Mul", ["f", "g"], ["y"]),
    ]
    m = cnnengine.load(model_of(nodes, [("x", ["n", 15, 33])], [("y", ["n", 15, 33])], {"w": w, "b": b}), threads=1)
    assert kernels_of(m, x) == ["dense", "dense"]
    first = np.maximum(x.astype(np.float64) @ w + b + x, 0)
    second = first @ w + b
    fill_arenas(255)
    try:
        np.testing.assert_allclose(m(x), second / (1 + np.exp(-second)), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(m(x)[1:], m(x[1:]))
    finally:
        fill_arenas(None)


def test_a_product_leaves_other_sums_alone():
    # another reader, a residual that is made later, a vector along another axis
    x, w, v = rand(2, 9, 9), rand(9, 9) / np.float32(3), rand(9, 1)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "x"], ["a"]),
        helper.make_node("Add", ["m", "a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("Add", ["c", "v"], ["y"]),
    ]
    m = cnnengine.load(model_of(nodes, [("x", [2, 9, 9])], [("y", [2, 9, 9])], {"w": w, "v": v}), threads=1)
    wide = x.astype(np.float64) @ w
    np.testing.assert_allclose(m(x), (2 * wide + x) @ w + v, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 3])
def test_scaled_attention_is_one_product(heads):
    q, k, v = (rand(2, heads, 20, 9) for _ in range(3))
    nodes = [
        helper.make_node("Mul", ["q", "s"], ["qs"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("Div", ["kt", "t"], ["ks"]),
        helper.make_node("MatMul", ["qs", "ks"], ["a"]),
        helper.make_node("Softmax", ["a"], ["p"]),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
    ]
    shape = [2, heads, 20, 9]
    constants = {"s": np.float32(0.5), "t": np.float32([1.5])}
    proto = model_of(nodes, [(n, shape) for n in "qkv"], [("y", shape)], constants)
    m = cnnengine.load(proto, threads=1)
    assert list(kernels_of(m, q, k, v)) == ["attention"]
    a = q.astype(np.float64) @ k.swapaxes(-1, -2).astype(np.float64) * 0.5 / 1.5
    p = np.exp(a - a.max(-1, keepdims=True))
    want = p / p.sum(-1, keepdims=True) @ v
    np.testing.assert_allclose(m.run(None, {"q": q, "k": k, "v": v})[0], want, rtol=1e-4, atol=1e-5)
    # weights that are read elsewhere are stored: two products, scaled, and the softmax between
    proto.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, [2, heads, 20, 20]))
    m = cnnengine.load(proto, threads=1)
    assert len(kernels_of(m, q, k, v)) == 3
    got = m.run(None, {"q": q, "k": k, "v": v})
    np.testing.assert_allclose(got[0], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[1], p / p.sum(-1, keepdims=True), rtol=1e-4, atol=1e-6)
    del proto.graph.output[-1]
    # what others read is made, and other permutations stay
    proto.graph.output.append(helper.make_tensor_value_info("qs", TensorProto.FLOAT, shape))
    got = cnnengine.load(proto, threads=1).run(None, {"q": q, "k": k, "v": v})
    np.testing.assert_array_equal(got[1], q * np.float32(0.5))
    np.testing.assert_allclose(got[0], want, rtol=1e-4, atol=1e-5)


def test_a_bias_that_follows_from_shapes_is_not_packed_for_other_shapes():
    w = rand(4, 1)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Size", ["x"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["f", "one"], ["b"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    proto = model_of(nodes, [("x", ["n", 3, 4])], [("y", ["n", 3, 1])], {"w": w, "one": np.array([1])})
    m = cnnengine.load(proto, threads=1)
    for n in (1, 5, 2):
        x = rand(n, 3, 4)
        np.testing.assert_allclose(m(x), x @ w + x.size, rtol=1e-5)
