"""`precision="bfloat16"` of convolutions, where the instruction set multiplies pairs of bfloat16 numbers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine._kernels import dispatch
from cnnengine.cli import main
from cnnengine.model import inside
from cnnengine.ops.fused import RoundedConv
from cnnengine.report import check, profile, summarize
from cnnengine.runtime.runner import fill_arenas

RNG = np.random.default_rng(17)
C = 48


def conv(x: str, y: str, name: str, w: str | None = None, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, w or f"{name}.w", f"{name}.b"], [y], name=name, **attributes)


def weights(o: int, c: int, *kernel: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((o, c, *kernel), np.float32) / np.float32(np.sqrt(c * np.prod(kernel)))


def network(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    shape: tuple[Any, ...] = ("n", 3, 12, 13),
    outputs: tuple[str, ...] = ("y",),
) -> onnx.ModelProto:
    """x -> nodes -> outputs; every convolution that names no bias of its own gets one."""
    have = dict(constants)
    for node in nodes:
        if node.op_type in ("Conv", "ConvTranspose") and len(node.input) == 3 and node.input[2] not in have:
            made = any(node.input[2] in other.output for other in nodes)
            if not made and node.input[1] in have:
                w = have[node.input[1]]
                o = w.shape[0] if node.op_type == "Conv" else w.shape[1]
                have[node.input[2]] = np.random.default_rng(len(have)).standard_normal(o, np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    ys = [helper.make_tensor_value_info(y, TensorProto.FLOAT, [None] * len(shape)) for y in outputs]
    graph = helper.make_graph(nodes, "net", [x], ys, [numpy_helper.from_array(v, n) for n, v in have.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


ENDS = {"first.w": weights(C, 3, 3, 3), "last.w": weights(7, C, 1, 1, seed=1)}


def between(middle: list[onnx.NodeProto], constants: dict[str, np.ndarray], **given: Any) -> onnx.ModelProto:
    """A first layer that gives a, `middle` from a to b, a last layer that reads b."""
    nodes = [conv("x", "a", "first", pads=[1, 1, 1, 1]), *middle, conv("b", "y", "last")]
    return network(nodes, {**ENDS, **constants}, **given)


def bottleneck() -> onnx.ModelProto:
    """A residual block with functions between, as ResNets have them."""
    middle = [
        conv("a", "c", "one"),
        helper.make_node("Relu", ["c"], ["d"]),
        conv("d", "e", "two", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["e"], ["f"]),
        conv("f", "g", "three"),
        helper.make_node("Add", ["g", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["b"]),
    ]
    return between(middle, {"one.w": weights(24, C, 1, 1), "two.w": weights(24, 24, 3, 3), "three.w": weights(C, 24, 1, 1)})


def lowered(proto: onnx.ModelProto, shape: tuple[int, ...] = (1, 3, 12, 13), **options: Any) -> tuple[str, ...]:
    """The layers that are lowered at this shape; those whose kernels are of bfloat16 must be the same."""
    with cnnengine.load(proto, precision="bfloat16", **options) as low:
        kernels = {
            layer.name for layer in summarize(low, {"x": shape}).layers if any(k.startswith("bconv") for k in layer.kernels)
        }
        assert kernels == set(low.lowered)
        return low.lowered


def layers(model: cnnengine.Model, shape: tuple[int, ...] = (1, 3, 12, 13)) -> list[Any]:
    model.prepare({"x": shape})
    return inside(model).program.segments()[-1].layers  # the plan of these shapes is the one that was asked for last


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2) / np.mean(b.astype(np.float64) ** 2)))


# ---------------------------------------------------------------- results
@pytest.mark.parametrize("winograd", [False, True])
def test_a_network_is_its_rounded_layers(pairs_isa: str, threads: int, winograd: bool) -> None:
    """As the nodes that run, evaluated one by one in float64; a sum next to a half may be rounded the other way."""
    x = RNG.standard_normal((2, 3, 12, 13), np.float32)
    with cnnengine.load(bottleneck(), precision="bfloat16", threads=threads, winograd=winograd) as low:
        fill_arenas(255)
        try:
            (got,) = low.run(None, {"x": x})
        finally:
            fill_arenas(None)
        values: dict[str, Any] = {"x": x, **inside(low).graph.constants}
        rounded = 0
        for layer in layers(low, x.shape):
            inputs = [values[n] if n else None for n in layer.node.inputs]
            rounded += isinstance(layer.node.op, RoundedConv)
            values.update(zip(layer.node.outputs, layer.node.op.reference(*inputs), strict=True))
        assert rounded == len(low.lowered) == (2 if winograd else 3)
    with cnnengine.load(bottleneck(), threads=threads) as full:
        (exact,) = full.run(None, {"x": x})
    error = rms(got, exact)
    assert 1e-4 < error < 2.0**-7
    assert rms(got, values["y"]) < error / 8


def test_planes_of_bfloat16_lie_between_lowered_convolutions_alone(pairs_isa: str) -> None:
    with cnnengine.load(bottleneck(), precision="bfloat16", winograd=False) as low:
        rounds = {n.node.name: n.node.op.rounds for n in layers(low) if isinstance(n.node.op, RoundedConv)}
        assert rounds == {"one": True, "two": True, "three": False}  # the last layer is float32
        kernels = {layer.name: layer.kernels for layer in summarize(low, {"x": (1, 3, 12, 13)}).layers}
        # what was rounded is read as it lies
        assert [k.endswith("rounds") for (k,) in (kernels[n] for n in ("one", "two", "three"))] == [True, False, False]
        assert not any("reorder" in k or "cast" in k for names in kernels.values() for k in names if names[0].startswith("bconv"))


def test_a_residual_of_bfloat16(pairs_isa: str, threads: int) -> None:
    """Two blocks: the second one adds what the first one rounded."""
    middle = [
        conv("a", "c", "one"),
        helper.make_node("Add", ["c", "a"], ["d"]),
        helper.make_node("Relu", ["d"], ["e"]),
        conv("e", "f", "two"),
        conv("f", "g", "three"),
        helper.make_node("Add", ["g", "e"], ["h"]),
        conv("h", "b", "four"),
    ]
    constants = {f"{n}.w": weights(C, C, 1, 1, seed=i) for i, n in enumerate(("one", "two", "three", "four"))}
    x = RNG.standard_normal((1, 3, 12, 13), np.float32)
    with cnnengine.load(between(middle, constants), precision="bfloat16", threads=threads) as low:
        (got,) = low.run(None, {"x": x})
        ops = {layer.node.name: layer.node.op for layer in layers(low)}
        assert [(ops[n].residual, ops[n].rounds) for n in ("one", "two", "three", "four")] == [
            (True, True),
            (False, True),
            (True, True),
            (False, False),
        ]
    with cnnengine.load(between(middle, constants)) as full:
        assert rms(got, full.run(None, {"x": x})[0]) < 2.0**-7


def test_threads_and_batches_change_no_bit(pairs_isa: str) -> None:
    x = RNG.standard_normal((5, 3, 12, 13), np.float32)
    with cnnengine.load(bottleneck(), precision="bfloat16", threads=1) as low:
        whole = low.run(None, {"x": x})[0]
        np.testing.assert_array_equal(low.run(None, {"x": x}, threads=2)[0], whole)
        for i in range(5):
            np.testing.assert_array_equal(low.run(None, {"x": x[i : i + 1]})[0], whole[i : i + 1])


def test_functions_that_the_tile_does_not_have(pairs_isa: str) -> None:
    middle = [
        conv("a", "c", "one"),
        helper.make_node("LeakyRelu", ["c"], ["d"], alpha=0.2),
        conv("d", "e", "two"),
        helper.make_node("HardSwish", ["e"], ["b"]),
    ]
    constants = {"one.w": weights(C, C, 1, 1), "two.w": weights(C, C, 1, 1, seed=1)}
    x = RNG.standard_normal((1, 3, 12, 13), np.float32)
    with (
        cnnengine.load(between(middle, constants), precision="bfloat16") as low,
        cnnengine.load(between(middle, constants)) as full,
    ):
        got, want = (m.run(None, {"x": x})[0] for m in (low, full))
        assert low.lowered == ("one", "two") and len(layers(low)) == 4
    assert rms(got, want) < 2.0**-7


# ---------------------------------------------------------------- the rule
def test_first_and_last_layers_stay_float32(pairs_isa: str) -> None:
    assert lowered(between([conv("a", "b", "one")], {"one.w": weights(C, C, 1, 1)})) == ("one",)
    assert lowered(network([conv("x", "a", "first"), conv("a", "y", "last", w="last.w")], ENDS)) == ()


def test_without_such_products_convolutions_stay_float32() -> None:
    for isa in dispatch.available_isas():
        with dispatch.use_isa(isa):
            expected = ("one", "two", "three") if dispatch.has_pairs() else ()
            assert lowered(bottleneck(), winograd=False) == expected
            assert cnnengine.show_config()["bfloat16"] == ("products and weights" if expected else "weights")


def test_transforms_that_are_faster_stay(pairs_isa: str) -> None:
    """F(4x4, 3x3) takes less than half of the products; F(2x2, 3x3) and strided ones do not."""
    square = between([conv("a", "b", "one", pads=[1, 1, 1, 1])], {"one.w": weights(C, C, 3, 3)}, shape=("n", 3, "h", "w"))
    assert lowered(square, (1, 3, 32, 32)) == ()
    assert lowered(square, (1, 3, 32, 32), winograd=False) == ("one",)
    assert lowered(square, (1, 3, 6, 6)) == ("one",)
    strided = between(
        [conv("a", "b", "one", pads=[1, 1, 1, 1], strides=[2, 2])], {"one.w": weights(C, C, 3, 3)}, shape=("n", 3, "h", "w")
    )
    assert lowered(strided, (1, 3, 32, 32)) == ("one",)


def test_bounded_memory_for_transforms_leaves_products_of_pairs(pairs_isa: str) -> None:
    proto = between([conv("a", "b", "one", pads=[1, 1, 1, 1])], {"one.w": weights(C, C, 3, 3)}, shape=("n", 3, 32, 32))
    assert lowered(proto, (1, 3, 32, 32), winograd=1.0) == ("one",)


@pytest.mark.parametrize("groups", [1, 2, 3, 4, C])
def test_groups(pairs_isa: str, groups: int) -> None:
    """Whole blocks of channels: others have kernels of float32."""
    w = weights(C, C // groups, 3, 3, seed=groups)
    proto = between([conv("a", "b", "one", pads=[1, 1, 1, 1], group=groups)], {"one.w": w})
    whole = groups == 1 or C // groups % dispatch.lanes() == 0
    assert lowered(proto, winograd=False) == (("one",) if whole else ())
    x = RNG.standard_normal((2, 3, 12, 13), np.float32)
    with cnnengine.load(proto, precision="bfloat16", winograd=False) as low, cnnengine.load(proto, winograd=False) as full:
        got, want = (m.run(None, {"x": x})[0] for m in (low, full))
    assert (0 < rms(got, want) < 2.0**-7) if whole else np.array_equal(got, want)


def test_near_misses(pairs_isa: str) -> None:
    w = {"one.w": weights(C, C, 1, 1)}
    one = conv("a", "b", "one")
    assert lowered(between([one], w)) == ("one",)
    # weights, and a bias, that the network computes
    scale = helper.make_node("ReduceMax", ["x"], ["s"], keepdims=0)
    computed = [scale, helper.make_node("Mul", ["one.w", "s"], ["w"]), helper.make_node("Conv", ["a", "w"], ["b"], name="one")]
    assert lowered(between(computed, w)) == ()
    biased = [scale, helper.make_node("Mul", ["k", "s"], ["one.b"]), one]
    assert lowered(between(biased, {**w, "k": np.ones(C, np.float32)})) == ()
    # transposed
    turned = helper.make_node("ConvTranspose", ["a", "one.w"], ["b"], name="one")
    assert lowered(between([turned], w)) == ()
    # of a single pixel, as gates are; of two
    for width, expected in ((1, ()), (2, ("one",))):
        assert lowered(between([one], w, shape=("n", 3, 1, width)), (1, 3, 1, width)) == expected
    # depthwise
    assert lowered(between([conv("a", "b", "one", group=C)], {"one.w": weights(C, 1, 3, 3)})) == ()


def test_weights_that_two_nodes_read(pairs_isa: str) -> None:
    middle = [conv("a", "c", "one", w="shared"), conv("c", "b", "two", w="shared")]
    proto = between(middle, {"shared": weights(C, C, 1, 1)})
    assert lowered(proto) == ("one", "two")
    # one of them in float32: the last layer reads them too
    nodes = [conv("x", "a", "first", pads=[1, 1, 1, 1]), conv("a", "c", "one", w="shared"), conv("c", "y", "last", w="shared")]
    both = network(nodes, {"first.w": ENDS["first.w"], "shared": weights(C, C, 1, 1)})
    assert lowered(both) == ("one",)
    x = RNG.standard_normal((1, 3, 12, 13), np.float32)
    with cnnengine.load(both, precision="bfloat16") as low, cnnengine.load(both) as full:
        assert 0 < rms(low.run(None, {"x": x})[0], full.run(None, {"x": x})[0]) < 2.0**-7


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(pairs_isa: str, threads: int, rank: int) -> None:
    shape = (2, 3, *(9, 6, 7)[:rank])
    constants = {
        "first.w": weights(C, 3, *(1,) * rank),
        "one.w": weights(C, C, *(3,) * rank),
        "last.w": weights(7, C, *(1,) * rank),
    }
    nodes = [conv("x", "a", "first"), conv("a", "b", "one", pads=[1] * 2 * rank, strides=[2] * rank), conv("b", "y", "last")]
    proto = network(nodes, constants, shape)
    assert lowered(proto, shape, winograd=False) == ("one",)
    x = RNG.standard_normal(shape, np.float32)
    with cnnengine.load(proto, precision="bfloat16", winograd=False, threads=threads) as low, cnnengine.load(proto) as full:
        assert 0 < rms(low.run(None, {"x": x})[0], full.run(None, {"x": x})[0]) < 2.0**-7


def test_a_value_that_is_also_an_output_is_not_rounded(pairs_isa: str) -> None:
    middle = [conv("a", "c", "one"), conv("c", "b", "two")]
    constants = {"one.w": weights(C, C, 1, 1), "two.w": weights(C, C, 1, 1, seed=1)}
    x = RNG.standard_normal((1, 3, 12, 13), np.float32)

    def c_of(outputs: tuple[str, ...]) -> list[np.ndarray]:
        with cnnengine.load(between(middle, constants, outputs=outputs), precision="bfloat16") as low:
            ops = {layer.node.name: layer.node.op for layer in layers(low)}
            assert ops["one"].rounds == (outputs == ("y",)) and low.lowered == ("one", "two")
            return low.run(None, {"x": x})

    y, c = c_of(("y", "c"))
    assert np.any(c.view(np.uint32) & 0xFFFF)  # of float32
    np.testing.assert_array_equal(c_of(("y",))[0], y)  # the reader rounds it to the same numbers


@pytest.mark.parametrize("reader", ["MaxPool", "Concat", "Conv", "Add"])
def test_a_reader_of_float32_gets_float32(pairs_isa: str, reader: str) -> None:
    """Beside a lowered convolution: a function, a part of a Concat, a depthwise convolution, an operand of a sum."""
    others = {
        "MaxPool": [helper.make_node("MaxPool", ["c"], ["e"], kernel_shape=[1, 1])],
        "Concat": [helper.make_node("Concat", ["c", "c"], ["k"], axis=1), conv("k", "e", "narrow")],
        "Conv": [conv("c", "e", "depthwise", group=C)],
        "Add": [helper.make_node("Sigmoid", ["c"], ["s"]), helper.make_node("Add", ["c", "s"], ["e"])],
    }
    middle = [conv("a", "c", "one"), conv("c", "d", "two"), *others[reader], helper.make_node("Mul", ["d", "e"], ["b"])]
    constants = {
        "one.w": weights(C, C, 1, 1),
        "two.w": weights(C, C, 1, 1, seed=1),
        "narrow.w": weights(C, 2 * C, 1, 1, seed=2),
        "depthwise.w": weights(C, 1, 1, 1, seed=3),
    }
    used = {n: v for n, v in constants.items() if any(n in node.input for node in middle)}
    x = RNG.standard_normal((1, 3, 12, 13), np.float32)
    proto = between(middle, used)
    with cnnengine.load(proto, precision="bfloat16") as low, cnnengine.load(proto) as full:
        got, want = (m.run(None, {"x": x})[0] for m in (low, full))
        ops = {layer.node.name: layer.node.op for layer in layers(low)}
        assert isinstance(ops["one"], RoundedConv) and not ops["one"].rounds
    assert 0 < rms(got, want) < 2.0**-6


def test_files_in_half_precision_stay_as_they_are(pairs_isa: str) -> None:
    """Their numbers were rounded by whoever wrote them: every layer has the bits of float32."""
    w = weights(C, C, 3, 3).astype(np.float16)
    cast = helper.make_node("Cast", ["small"], ["one.w"], to=TensorProto.FLOAT)
    middle = [cast, helper.make_node("Conv", ["a", "one.w"], ["b"], name="one")]
    assert lowered(between(middle, {"small": w}), winograd=False) == ()


def test_shapes_decide_at_each_plan(pairs_isa: str) -> None:
    proto = between([conv("a", "b", "one", pads=[1, 1, 1, 1])], {"one.w": weights(C, C, 3, 3)}, shape=("n", 3, "h", "w"))
    with cnnengine.load(proto, precision="bfloat16") as low:
        assert low.lowered == ()  # nothing is planned yet
        low.run(None, {"x": np.ones((1, 3, 32, 32), np.float32)})
        assert low.lowered == ()
        low.run(None, {"x": np.ones((1, 3, 6, 6), np.float32)})
        assert low.lowered == ("one",)


# ---------------------------------------------------------------- reports
def test_copies_and_pickles_keep_the_layers(pairs_isa: str) -> None:
    x = np.ones((1, 3, 12, 13), np.float32)
    with cnnengine.load(bottleneck(), precision="bfloat16") as low, pickle.loads(pickle.dumps(low)) as again:
        assert again.lowered == low.lowered == ("one", "three")
        np.testing.assert_array_equal(again.run(None, {"x": x})[0], low.run(None, {"x": x})[0])
    with pytest.raises(cnnengine.errors.ClosedError):
        _ = low.lowered


def test_check_tells_the_error_of_each_layer(pairs_isa: str) -> None:
    x = RNG.standard_normal((1, 3, 12, 13), np.float32)
    found = check(bottleneck(), feeds={"x": x}, precision="bfloat16")
    assert found.ok and found.errors is not None
    assert [e.node for e in found.errors.layers] == ["one", "three"]
    assert all(1e-4 < e.rms < 2.0**-7 for e in (*found.errors.layers, *found.errors.outputs))


def test_reports_name_the_layers(pairs_isa: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "net.onnx")
    onnx.save(bottleneck(), path)
    with cnnengine.load(path, precision="bfloat16") as low:
        measured = profile(low, {"x": (1, 3, 12, 13)}, seconds=0.01)
    assert measured.peak_pairs > 0
    assert sum(step.kernel.startswith("bconv") for step in measured.steps) == 2
    json.dumps(measured.as_dict())
    with cnnengine.load(path) as full:
        assert profile(full, {"x": (1, 3, 12, 13)}, seconds=0.01).peak_pairs == 0
    assert main(["info", path, "--precision", "bfloat16"]) == 0
    assert "precision: bfloat16 in one, three; else float32" in capsys.readouterr().out
    assert main(["profile", path, "--precision", "bfloat16", "--seconds", "0.01"]) == 0
    assert "GFLOP/s of pairs of bfloat16 numbers" in capsys.readouterr().out
    assert main(["config"]) == 0
    assert "bfloat16: products and weights" in capsys.readouterr().out
