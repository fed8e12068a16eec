"""com.microsoft: models of each operator against the oracle, at each instruction set and by 1 and 2 threads; what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import oracle
import pytest
from hypothesis import given as fuzzed
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from oracle import contrib

import cnnengine
from cnnengine import CNNEngineError, InputError, ModelError, ShapeError, UnsupportedOperatorError
from cnnengine.importer.more_schemas import MORE, OPTIONAL
from cnnengine.importer.schemas import SCHEMAS
from cnnengine.ops import DOMAINS, MICROSOFT, lookup
from cnnengine.report import check
from cnnengine.report.profile import profile

F = np.float32
RNG = np.random.default_rng(27)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(F)


def node(
    op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), domain: str = "com.microsoft", **attributes: Any
) -> Any:
    return helper.make_node(op, inputs, outputs, name=op.lower(), domain=domain, **attributes)


def model(
    nodes: Sequence[Any],
    feeds: Mapping[str, np.ndarray],
    weights: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    known: bool = True,
) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape if known else None)
        for n, v in feeds.items()
    ]
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name=n) for n in outputs], tensors)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def runs(
    nodes: Sequence[Any],
    feeds: Mapping[str, np.ndarray],
    want: Mapping[str, Any],
    weights: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    host: Sequence[str] = (),
    rtol: float = 2e-5,
) -> None:
    """Read by this package's own reader and by protobuf: both give `want`, and no node but `host` runs in Python."""
    proto = model(nodes, feeds, weights, list(want), opset)
    found = [cnnengine.load(proto.SerializeToString(), threads=t).run(list(want), feeds) for t in (1, 2)]
    found.append(cnnengine.load(proto, threads=1).run(list(want), feeds))
    for results in found:
        for result, (name, value) in zip(results, want.items(), strict=True):
            scale = np.abs(value).max(initial=0) or 1.0
            assert result.shape == value.shape, name
            np.testing.assert_allclose(result, value, rtol=rtol, atol=rtol * scale, err_msg=name)
    for one, two in zip(*found[:2], strict=True):
        np.testing.assert_array_equal(one, two)
    assert [n.operator for n in check(proto).host_nodes] == list(host)


def fails(nodes: Sequence[Any], feeds: Mapping[str, np.ndarray], error: type[Exception], text: str, weights: Any = None) -> None:
    with pytest.raises(error, match=text) as caught:
        cnnengine.load(model(nodes, feeds, weights)).run(None, feeds)
    assert isinstance(caught.value, CNNEngineError)
    assert caught.value.node or "node" in str(caught.value)


X, W, B, Z = normal(2, 5, 9, 11), normal(7, 5, 3, 3), normal(7), normal(2, 7, 9, 11)
ONES = {"pads": [1] * 4}
PARAMETERS = {
    "Relu": {}, "Tanh": {}, "Sigmoid": {}, "HardSwish": {}, "Softplus": {}, "Softsign": {}, "LeakyRelu": {"alpha": 0.1},
    "Elu": {"alpha": 0.7}, "Celu": {"alpha": 0.7}, "ThresholdedRelu": {"alpha": 0.3}, "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "Selu": {"alpha": 1.2, "gamma": 0.9}, "Clip": {"min": -0.5, "max": 0.8}, "ParametricSoftplus": {"alpha": 2.0, "beta": 0.5},
    "ScaledTanh": {"alpha": 1.7, "beta": 0.6},
}  # fmt: skip
OF_CONV = ("Relu", "Tanh", "Sigmoid", "HardSwish", "LeakyRelu", "HardSigmoid", "Clip")


def _activation(name: str) -> dict[str, Any]:
    """FusedConv's attributes for it."""
    parameters = list(PARAMETERS[name].values()) if name else []
    return {**({"activation": name} if name else {}), **({"activation_params": parameters} if parameters else {})}


class TestConvolutions:
    @pytest.mark.parametrize("activation", ["", *OF_CONV])
    @pytest.mark.parametrize("inputs", ["xw", "xwb", "xw z", "xwbz"])
    def test_fused_conv(self, isa: str, activation: str, inputs: str) -> None:
        kind = _activation(activation)
        y = oracle.conv(X, W, B if "b" in inputs else None, pads=1) + (Z if "z" in inputs else 0)
        if activation:
            y = contrib.ACTIVATIONS[activation](y, *PARAMETERS[activation].values())
        weights = {"w": W, "b": B}
        feeds = {"x": X, "z": Z} if "z" in inputs else {"x": X}
        runs([node("FusedConv", [i.strip() for i in inputs], **ONES, **kind)], feeds, {"y": y}, weights)

    def test_its_geometry(self, isa: str) -> None:
        w = normal(6, 2, 3, 2)
        given = {"strides": [2, 1], "dilations": [1, 2], "pads": [1, 0, 2, 1], "group": 2, "kernel_shape": [3, 2]}
        y = oracle.conv(X[:, :4], w, stride=(2, 1), dilation=(1, 2), pads=(1, 0, 2, 1), groups=2)
        runs(
            [node("FusedConv", ["x", "w"], activation="Relu", **given)], {"x": X[:, :4].copy()}, {"y": np.maximum(y, 0)}, {"w": w}
        )

    def test_the_residual_and_the_activation_are_fused(self) -> None:
        feeds = {"x": X, "z": Z}
        loaded = cnnengine.load(
            model([node("FusedConv", ["x", "w", "b", "z"], activation="Relu", **ONES)], feeds, {"w": W, "b": B})
        )
        steps = profile(loaded, threads=1, seconds=0.01, min_rounds=1).steps
        assert len([s for s in steps if not s.kernel.startswith("reorder")]) == 1

    @pytest.mark.parametrize("op", ["NhwcConv", "NhwcFusedConv"])
    @pytest.mark.parametrize("rank", [3, 4, 5])
    def test_channels_last(self, isa: str, op: str, rank: int) -> None:
        x, w = normal(2, 3, *(6, 5, 4)[: rank - 2]), normal(4, 3, *(2,) * (rank - 2))
        y = oracle.conv(x, w, B[:4], pads=1)
        feeds, inputs, kind = {"x": np.moveaxis(x, 1, -1).copy()}, ["x", "w", "b"], {}
        if op == "NhwcFusedConv":
            z = normal(*y.shape)
            y = np.clip((y + z) * 0.3 + 0.4, 0, 1)
            feeds["z"], kind = np.moveaxis(z, 1, -1).copy(), {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}
            inputs.append("z")
        kind["pads"] = [1] * (2 * rank - 4)
        runs([node(op, inputs, **kind)], feeds, {"y": np.moveaxis(y, 1, -1)}, {"w": w, "b": B[:4]})

    @pytest.mark.parametrize("dtype", [np.uint8, np.int8, F])
    def test_max_pool(self, isa: str, dtype: Any) -> None:
        x = (RNG.integers(-100, 100, (2, 6, 7, 3))).astype(dtype)
        y = np.moveaxis(oracle.max_pool(np.moveaxis(x, -1, 1), (2, 3), stride=(2, 1), ceil_mode=True)[0], 1, -1).astype(dtype)
        operator = node("NhwcMaxPool", ["x"], kernel_shape=[2, 3], strides=[2, 1], ceil_mode=1)
        runs([operator], {"x": x}, {"y": y}, host=["MaxPool"] if dtype is np.int8 else [])

    def test_refusals(self) -> None:
        x = {"x": X}
        for kind, error, text in (
            ({"activation": "Mish"}, UnsupportedOperatorError, "onnxruntime does not fuse"),
            ({"activation": "LeakyRelu"}, ModelError, "parameters of the activation"),
            ({"activation": "Clip", "activation_params": [0.0]}, ModelError, "parameters of the activation"),
            ({"activation": 3}, ModelError, "wrong type"),
            ({"other": 3}, ModelError, "does not have"),
            ({"pads": [1]}, ShapeError, "wrong length"),
        ):
            fails([node("FusedConv", ["x", "w"], **kind)], x, error, text, {"w": W})
        fails([node("FusedConv", ["x", "w", "", "z"])], {**x, "z": normal(2, 7, 6, 5)}, ShapeError, "broadcast", {"w": W})
        small = {"x": normal(2, 5, 3, 3), "z": normal(2, 7, 6, 5)}  # a result of one pixel would become many
        fails([node("FusedConv", ["x", "w", "", "z"])], small, ShapeError, "what is added has the wrong shape", {"w": W})
        small["z"] = normal(1, 7, 1, 1)
        fails([node("FusedConv", ["x", "w", "", "z"])], small, ShapeError, "what is added has the wrong shape", {"w": W})
        fails([node("FusedConv", ["x"])], x, ModelError, "wrong number of inputs")


class TestMatrices:
    @pytest.mark.parametrize("activation", [a for a in PARAMETERS if a not in ("Clip", "HardSwish")])
    @pytest.mark.parametrize("constant", [True, False])
    def test_fused_gemm(self, isa: str, activation: str, constant: bool) -> None:
        a, b, c = normal(8, 4), normal(19, 8), normal(19)
        given = {f"activation_{k}": v for k, v in PARAMETERS[activation].items()}
        y = contrib.ACTIVATIONS[activation](0.5 * (contrib.wide(a).T @ b.T) + 2 * contrib.wide(c), **PARAMETERS[activation])
        operator = node("FusedGemm", ["a", "b", "c"], activation=activation, transA=1, transB=1, alpha=0.5, beta=2.0, **given)
        if constant:
            runs([operator], {"a": a}, {"y": y}, {"b": b, "c": c})
        else:
            runs([operator], {"a": a, "b": b, "c": c}, {"y": y})

    def test_fused_gemm_refusals(self) -> None:
        feeds, weights = {"a": normal(2, 3)}, {"b": normal(3, 4)}
        for given, error, text in (
            ({}, UnsupportedOperatorError, "does not fuse"),
            ({"activation": "HardSwish"}, UnsupportedOperatorError, "does not fuse"),
            ({"activation": "HardSigmoid", "activation_alpha": 1.0}, ModelError, "required attribute"),
        ):
            fails([node("FusedGemm", ["a", "b"], **given)], feeds, error, text, weights)

    @fuzzed(
        st.lists(st.integers(1, 3), min_size=0, max_size=2),
        st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 18)),
        st.tuples(*[st.integers(0, 1)] * 4),
        st.sampled_from([1.0, 0.25]),
        st.booleans(),
        st.sampled_from(["", "a", "b"]),
    )
    def test_fused_matmul(self, batch: Any, extents: Any, flags: Any, alpha: float, constant: bool, vector: str) -> None:
        m, k, n = extents
        trans_a, trans_b, batch_a, batch_b = flags
        a = normal(*batch, k, m) if trans_a else normal(*batch, m, k)
        b = normal(*batch, n, k) if trans_b else normal(*batch, k, n)
        a, b = np.moveaxis(a, -2, 0) if batch_a else a, np.moveaxis(b, -2, 0) if batch_b else b
        if vector == "a":
            a = normal(k)
        elif vector == "b":
            b = normal(k)
        a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
        y = contrib.fused_matmul(a, b, alpha=alpha, trans_a=trans_a, trans_b=trans_b, batch_a=batch_a, batch_b=batch_b)
        operator = node(
            "FusedMatMul", ["a", "b"], alpha=alpha, transA=trans_a, transB=trans_b, transBatchA=batch_a, transBatchB=batch_b
        )
        feeds = {"a": a} if constant else {"a": a, "b": b}
        for known in (True, False):
            loaded = cnnengine.load(model([operator], feeds, {"b": b} if constant else {}, known=known), threads=1)
            (result,) = loaded.run(["y"], feeds)
            np.testing.assert_allclose(result, y, rtol=2e-5, atol=1e-5)

    def test_the_older_name(self, isa: str) -> None:
        a, b = normal(2, 5, 4), normal(5, 3)
        runs([node("TransposeMatMul", ["a", "b"], transA=1, alpha=0.5)], {"a": a}, {"y": 0.5 * a.swapaxes(1, 2) @ b}, {"b": b})

    def test_attention_is_one_kernel(self, isa: str) -> None:
        """Scaled behind the product, as onnxruntime and many exporters have it."""
        q, k, v = (normal(2, 3, 10, 8) for _ in range(3))
        scores = contrib.fused_matmul(q, k, alpha=0.3, trans_b=1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        y = weights / weights.sum(-1, keepdims=True) @ v
        nodes = [
            node("FusedMatMul", ["q", "k"], ["s"], transB=1, alpha=0.3),
            node("Softmax", ["s"], ["p"], domain="", axis=-1),
            node("MatMul", ["p", "v"], domain=""),
        ]
        runs(nodes, {"q": q, "k": k, "v": v}, {"y": y})
        steps = profile(cnnengine.load(model(nodes, {"q": q, "k": k, "v": v}), threads=1), seconds=0.01, min_rounds=1).steps
        assert [s.kernel for s in steps] == ["attention"]

    @pytest.mark.parametrize("bits", [2, 4, 8])
    @pytest.mark.parametrize("zeros", ["", "packed", "numbers"])
    @pytest.mark.parametrize(("k", "block"), [(64, 32), (40, 16), (130, 64)])
    @pytest.mark.parametrize("constant", [True, False])
    def test_weights_of_few_bits(self, bits: int, zeros: str, k: int, block: int, constant: bool) -> None:
        n, blocks = 5, -(-k // block)
        tensors = {"b": RNG.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8)}
        tensors["s"] = (RNG.random((n, blocks)) * 0.1).astype(F)
        inputs = ["a", "b", "s"]
        if zeros:
            size = n * -(-blocks * bits // 8)
            tensors["z"] = RNG.integers(0, 256, size).astype(np.uint8) if zeros == "packed" else normal(n, blocks) * 4
            inputs.append("z")
        w = contrib.nbits_weights(*tensors.values(), n=n, k=k, bits=bits, block=block)
        a = normal(2, 3, k)
        operator = node("MatMulNBits", inputs, K=k, N=n, bits=bits, block_size=block)
        if constant:
            runs([operator], {"a": a}, {"y": a @ w}, tensors, rtol=5e-5)
        else:
            runs([operator], {"a": a, **tensors}, {"y": a @ w}, rtol=5e-5, host=["UnpackedWeights"])

    def test_their_order_and_bias(self, isa: str) -> None:
        n, k, block = 6, 48, 16
        places = RNG.permutation(np.repeat(np.arange(3), block)).astype(np.int32)
        packed, scales = RNG.integers(0, 256, (n, 3, 8)).astype(np.uint8), (RNG.random(n * 3) * 0.1).astype(F)
        w = contrib.nbits_weights(packed, scales, None, places, n=n, k=k, bits=4, block=block)
        a, bias = normal(7, k), normal(n)
        tensors = {"b": packed, "s": scales, "g": places, "c": bias}
        operator = node("MatMulNBits", ["a", "b", "s", "", "g", "c"], K=k, N=n, bits=4, block_size=block)
        runs([operator], {"a": a}, {"y": a @ w + bias}, tensors, rtol=5e-5)

    def test_their_refusals(self) -> None:
        a, packed, scales = normal(2, 32), np.zeros((4, 2, 8), np.uint8), np.ones((4, 2), F)
        good = {"K": 32, "N": 4, "bits": 4, "block_size": 16}
        for change, tensors, error, text in (
            ({"bits": 3}, {}, UnsupportedOperatorError, "of this form"),
            ({"weight_prepacked": 1}, {}, UnsupportedOperatorError, "of this form"),
            ({"block_size": 24}, {}, ModelError, "impossible extents"),
            ({"N": -4}, {}, ModelError, "impossible extents"),
            ({"K": 10**12}, {}, ShapeError, "wrong size"),
            ({}, {"b": packed[:3]}, ShapeError, "'B': has the wrong size"),
            ({}, {"b": packed.astype(np.int8)}, InputError, "'B': has the wrong dtype"),
            ({}, {"s": scales[:1]}, ShapeError, "'scales': has the wrong size"),
            ({}, {"z": np.zeros(9, np.uint8)}, ShapeError, "'zero_points': has the wrong size"),
            ({}, {"g": np.zeros(9, np.int32)}, ShapeError, "'g_idx'"),
            ({}, {"g": np.full(32, 2, np.int32)}, InputError, "an index lies outside"),
        ):
            weights = {"b": packed, "s": scales, **tensors}
            inputs = ["a", "b", "s", "z" if "z" in tensors else "", "g" if "g" in tensors else ""]
            fails([node("MatMulNBits", inputs, **{**good, **change})], {"a": a}, error, text, weights)

    def test_inverse(self) -> None:
        x = normal(2, 3, 4, 4) + 4 * np.eye(4, dtype=F)
        x[1, 2] = 0  # it has none
        y = np.full(x.shape, np.nan)
        y[np.isfinite(np.linalg.cond(x))] = np.linalg.inv(contrib.wide(x[np.isfinite(np.linalg.cond(x))]))
        (got,) = cnnengine.load(model([node("Inverse", ["x"])], {"x": x})).run(None, {"x": x})
        np.testing.assert_allclose(got, y, rtol=1e-5, atol=1e-6)
        fails([node("Inverse", ["x"])], {"x": normal(2, 3)}, ShapeError, "square")


class TestActivations:
    @pytest.mark.parametrize("dtype", [F, np.float16])
    @pytest.mark.parametrize(
        ("op", "vector", "attributes", "want"),
        [
            ("Gelu", False, {}, contrib.gelu),
            ("FastGelu", False, {}, contrib.fast_gelu),
            ("FastGelu", True, {}, contrib.fast_gelu),
            ("BiasGelu", True, {}, contrib.gelu),
            ("QuickGelu", False, {}, lambda x: x * contrib.sigmoid(1.702 * x)),
            ("QuickGelu", False, {"alpha": 1.0}, lambda x: x * contrib.sigmoid(x)),
            ("QuickGelu", False, {"alpha": 0.0}, lambda x: x / 2),
        ],
    )
    def test_all(self, isa: str, op: str, vector: bool, attributes: Any, want: Any, dtype: Any) -> None:
        x, bias = (normal(3, 5, 37) * 3).astype(dtype), normal(37).astype(dtype)
        y = want(contrib.wide(x + bias if vector else x))
        inputs = ["x", "bias"] if vector else ["x"]
        rtol = 2e-5 if dtype is F else 2e-3
        runs([node(op, inputs, **attributes)], {"x": x}, {"y": y}, {"bias": bias} if vector else {}, rtol=rtol)


class TestNormalisation:
    @pytest.mark.parametrize("skip", [(2, 3, 21), (1, 3, 21), (3, 21)])
    @pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
    @pytest.mark.parametrize("outputs", ["y", "y t", "y mit", "y mi"])
    @pytest.mark.parametrize("bias", [False, True])
    def test_skip(self, isa: str, op: str, skip: Any, outputs: str, bias: bool) -> None:
        x, s, gamma, beta, b = normal(2, 3, 21) + 1, normal(*skip), normal(21), normal(21), normal(21)
        rms = "Simplified" in op
        total = contrib.wide(x) + s + (b if bias else 0)
        y = oracle.rms_norm(total, gamma, epsilon=1e-3) if rms else oracle.layer_norm(total, gamma, beta, epsilon=1e-3)
        want = {"y": y}
        names = ["y", "m" if "m" in outputs and not rms else "", "i" if "i" in outputs else "", "t" if "t" in outputs else ""]
        mean = 0 if rms else total.mean(-1, keepdims=True)
        every = {"m": mean, "i": 1 / np.sqrt(((total - mean) ** 2).mean(-1, keepdims=True) + 1e-3), "t": total}
        want.update({n: every[n] for n in names[1:] if n})
        while not names[-1]:
            names.pop()
        inputs = ["x", "s", "gamma", *([] if rms else ["beta"]), *(["b"] if bias else [])]
        weights = {"gamma": gamma, "beta": beta, "b": b}
        runs([node(op, inputs, names, epsilon=1e-3)], {"x": x, "s": s}, want, weights)

    def test_the_sum_alone(self, isa: str) -> None:
        x, s, g = normal(2, 3, 8), normal(2, 3, 8), normal(8)
        runs([node("SkipLayerNormalization", ["x", "s", "g"], ["", "", "", "t"])], {"x": x, "s": s}, {"t": x + s}, {"g": g})

    def test_what_would_widen_is_refused(self) -> None:
        x = {"x": normal(1, 3, 8), "s": normal(2, 3, 8)}
        text = "what is added has the wrong shape"
        fails([node("SkipLayerNormalization", ["x", "s", "g"])], x, ShapeError, text, {"g": np.ones(8, F)})
        fails([node("BiasGelu", ["x", "s"])], x, ShapeError, text)
        fails([node("FastGelu", ["x", "s"])], x, ShapeError, text)

    def test_what_is_not_made_is_refused_where_it_is_read(self) -> None:
        x = {"x": normal(2, 3, 8), "s": normal(2, 3, 8)}
        operator = node("SkipSimplifiedLayerNormalization", ["x", "s", "g"], ["y", "mean"])
        proto = model([operator], x, {"g": np.ones(8, F)})
        assert cnnengine.load(proto).run(["y"], x)[0].shape == (2, 3, 8)
        proto.graph.output.append(onnx.ValueInfoProto(name="mean"))
        with pytest.raises(ModelError, match="which has none") as caught:
            cnnengine.load(proto)
        assert (caught.value.node, caught.value.tensor) == ("skipsimplifiedlayernormalization", "mean")

    @pytest.mark.parametrize("opset", [7, 12, 17, 23])
    @pytest.mark.parametrize("axis", [-1, 1])
    def test_simplified(self, isa: str, opset: int, axis: int) -> None:
        x = normal(2, 3, 35)
        scale = normal(*x.shape[axis:])
        y, inverse = oracle.rms_norm(x, scale, axis=axis), oracle.rms_norm(x, axis=axis) / x
        inverse = inverse.reshape(2, 3, 35)[:, :, :1] if axis == -1 else inverse[:, :1, :1]
        operator = node("SimplifiedLayerNormalization", ["x", "g"], ["y", "i"], domain="", axis=axis)
        runs([operator], {"x": x}, {"y": y, "i": inverse}, {"g": scale}, opset=opset)

    def test_rms_normalization_of_onnx(self, isa: str) -> None:
        x, scale = normal(2, 3, 35), normal(35)
        runs(
            [node("RMSNormalization", ["x", "g"], domain="")], {"x": x}, {"y": oracle.rms_norm(x, scale)}, {"g": scale}, opset=23
        )

    @pytest.mark.parametrize("opset", [7, 9, 16, 17])
    def test_layer_normalization_in_old_opsets(self, isa: str, opset: int) -> None:
        x, scale, bias = normal(2, 3, 35), normal(35), normal(35)
        y, mean = oracle.layer_norm(x, scale, bias), contrib.wide(x).mean(-1, keepdims=True)
        operator = node("LayerNormalization", ["x", "g", "b"], ["y", "m"], domain="")
        runs([operator], {"x": x}, {"y": y, "m": mean}, {"g": scale, "b": bias}, opset=opset)

    @pytest.mark.parametrize("last", [0, 1])
    @pytest.mark.parametrize("silu", [0, 1])
    def test_group_norm(self, isa: str, last: int, silu: int) -> None:
        x, gamma, beta = normal(2, 12, 5, 7), normal(12), normal(12)
        y = oracle.group_norm(x, gamma, beta, groups=3)
        y = y * contrib.sigmoid(y) if silu else y
        feed, want = (np.moveaxis(v, 1, -1).copy() if last else v for v in (x, y))
        operator = node("GroupNorm", ["x", "g", "b"], groups=3, activation=silu, channels_last=last)
        runs([operator], {"x": feed}, {"y": want}, {"g": gamma, "b": beta})


class TestSampling:
    @pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
    def test_grid_sample(self, isa: str, mode: str) -> None:
        """It is the one that ONNX had in opset 16."""
        x, grid = normal(2, 3, 6, 5), RNG.uniform(-1.2, 1.2, (2, 4, 3, 2)).astype(F)
        given = {"mode": mode, "padding_mode": "zeros", "align_corners": 1}
        proto = model([node("GridSample", ["x", "g"], domain="", **given)], {"x": x, "g": grid}, opset=16)
        (want,) = cnnengine.load(proto).run(None, {"x": x, "g": grid})
        runs([node("GridSample", ["x", "g"], **given)], {"x": x, "g": grid}, {"y": want}, opset=12)
        fails([node("GridSample", ["x", "g"], mode="linear")], {"x": x, "g": grid}, ModelError, "unknown mode")

    @pytest.mark.parametrize("mode", ["bilinear", "nearest"])
    @pytest.mark.parametrize("size", [(3, 4), (1, 5), (6, 1), (6, 5)])
    def test_crop_and_resize(self, mode: str, size: tuple[int, int]) -> None:
        x, images = normal(3, 2, 6, 5), np.array([2, 0, 1, 1], np.int32)
        rois = np.array([[0, 0, 1, 1], [0.11, 0.23, 0.81, 0.67], [0.93, 0.83, 0.21, 0.13], [-0.31, 0.41, 0.72, 1.23]], F)
        want = contrib.crop_and_resize(x, rois, images, size, mode=mode, outside=-7.0)
        operator = node("CropAndResize", ["x", "r", "i", "s"], mode=mode, extrapolation_value=-7.0)
        feeds, crop = {"x": x, "r": rois, "i": images}, np.array(size, np.int32)
        for given, weights in ((feeds, {"s": crop}), ({**feeds, "s": crop}, {})):
            (got,) = cnnengine.load(model([operator], given, weights)).run(None, given)
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)

    def test_crop_and_resize_refusals(self) -> None:
        good = {"x": normal(1, 2, 4, 4), "r": np.zeros((2, 4), F), "i": np.zeros(2, np.int32)}
        operator = node("CropAndResize", ["x", "r", "i", "s"])
        for change, size, error, text in (
            ({"i": np.array([0, 1], np.int32)}, [2, 2], InputError, "an image that the batch does not have"),
            ({"i": np.array([0, -1], np.int32)}, [2, 2], InputError, "an image that the batch does not have"),
            ({"r": np.zeros((3, 4), F)}, [2, 2], ShapeError, "do not fit"),
            ({"x": normal(1, 2, 4)}, [2, 2], ShapeError, "needs images"),
            ({}, [0, 2], InputError, "crop_size"),
            ({}, [2], InputError, "crop_size"),
        ):
            fails([operator], {**good, **change}, error, text, {"s": np.array(size, np.int32)})


def test_in_a_branch(isa: str) -> None:
    """What stands for a node has names of its own in every graph of the model."""
    x = normal(2, 8)
    branches = {}
    for name, alpha in (("then_branch", 0.5), ("else_branch", 2.0)):
        body = node("FusedMatMul", ["x", "w"], ["r"], alpha=alpha)
        branches[name] = helper.make_graph([body], name, [], [onnx.ValueInfoProto(name="r")])
    feeds, w = {"x": x, "c": np.array(True)}, normal(8, 3)
    proto = model([node("If", ["c"], domain="", **branches)], feeds, {"w": w})
    for flag, alpha in ((True, 0.5), (False, 2.0)):
        (y,) = cnnengine.load(proto).run(None, {"x": x, "c": np.array(flag)})
        np.testing.assert_allclose(y, alpha * (x @ w), rtol=1e-5, atol=1e-5)


def test_the_index_and_the_schemas_agree() -> None:
    assert sorted(MICROSOFT) == sorted(MORE["com.microsoft"])
    for domain in ("", "com.microsoft"):
        for op in MORE[domain]:
            assert lookup(op, domain) is not None and op in DOMAINS[domain]


def test_the_schemas_are_onnxruntimes() -> None:
    pytest.importorskip("onnxruntime")
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    if not hasattr(state, "get_all_operator_schema"):
        pytest.skip("this onnxruntime does not tell its schemas")
    kinds = {"FLOAT": 1, "INT": 2, "STRING": 3, "FLOATS": 6, "INTS": 7, "STRINGS": 8}
    theirs = {(s.domain, s.name, s.since_version): s for s in state.get_all_operator_schema()}
    for domain, operators in MORE.items():
        for op, lines in operators.items():
            for line in lines:
                version, low, high, out_low, out_high, *rest = line.split()
                schema = theirs[domain, op, int(version)]
                assert [int(n) for n in (low, high, out_low, out_high)] == [
                    schema.min_input, schema.max_input, schema.min_output, schema.max_output,
                ], op  # fmt: skip
                assert schema.deprecated == ("deprecated" in rest)
                first = enumerate(schema.inputs[: schema.min_input])
                absent = tuple(i for i, formal in first if str(formal.option).endswith("Optional"))
                assert absent == (OPTIONAL.get(op, ()) if domain else ()), op
                own = {text.split(":")[0].rstrip("!"): int(text.split(":")[1]) for text in rest if text != "deprecated"}
                assert own == {n: kinds[str(a.type).split(".")[-1]] for n, a in schema.attributes.items()}, op
    for op in MORE[""]:
        assert op not in SCHEMAS or int(SCHEMAS[op][0].split()[0]) > 1
