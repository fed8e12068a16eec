"""What moves and quantises bytes between integer convolutions: in planes, without a copy that is not needed, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.runtime.runner import fill_arenas


@pytest.fixture(autouse=True)
def rubbish():
    fill_arenas(255)
    yield
    fill_arenas(None)


class Quantised:
    """A model under construction; values are uint8 with a zero point of 100, unless said otherwise."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.rng, self.shape = np.random.default_rng(seed), shape
        self.nodes: list[object] = []
        self.constants: list[object] = []

    def n(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"v{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names  # type: ignore[return-value]

    def c(self, value: object, dtype: type) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def steps(self, zero: int = 100, dtype: type = np.uint8, scale: float = 0.25) -> tuple[str, str]:
        return self.c(scale, np.float32), self.c(zero, dtype)

    def q(self, x: str, *by: str) -> str:
        return self.n("QuantizeLinear", x, *(by or self.steps()))

    def d(self, x: str, *by: str) -> str:
        return self.n("DequantizeLinear", x, *(by or self.steps()))

    def conv(self, q: str, inputs: int, outputs: int, kernel: int = 3, group: int = 1) -> str:
        """Of uint8 to uint8; its halo holds 100."""
        w = self.c(self.rng.integers(-9, 10, (outputs, inputs // group, kernel, kernel)), np.int8)
        weights = self.n("DequantizeLinear", w, self.c(0.0625, np.float32))
        return self.q(self.n("Conv", self.d(q), weights, pads=[kernel // 2] * 4, group=group))

    def model(self, *outputs: str) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

    def kernels(self, *outputs: str) -> list[str]:
        """Those that run, after comparing what they give with the operators' references, for 1 and 3 threads."""
        x = (self.rng.standard_normal(self.shape) * 9).astype(np.float32)
        for threads in (3, 1):
            with cnnengine.load(self.model(*outputs), threads=threads) as loaded:
                values = loaded.run(None, {"x": x})
                for got, want in zip(values, loaded._graph.evaluate({"x": x}), strict=True):
                    assert got.dtype == want.dtype
                    np.testing.assert_array_equal(got, want)
                assert not loaded.host_nodes()
                made = [r.kernel for r in loaded._program.segments()[0].plan.reports]
        return made


def test_an_image_is_quantised_to_where_the_convolution_reads_it(isa):
    """Straight from the plain image to planes of four channels, and from the last convolution to plain floats."""
    net = Quantised((2, 3, 21, 18))
    y = net.d(net.conv(net.q("x"), 3, 20))
    kernels = net.kernels(y)
    assert [k.replace("[", " ").split()[0] for k in kernels] == ["quantize", "qconv", "dequantize"]
    assert kernels[0] == "quantize[pack]"
    assert kernels[2] == "dequantize[unpack]"


def test_who_reads_an_image_first_decides(isa):
    """A plain reader first, and then a convolution: the bytes are reordered; and an output that is asked for plain."""
    net = Quantised((2, 3, 9, 8))
    q = net.q("x")
    flat = net.n("Reshape", q, net.c([2, -1], np.int64))
    assert "quantize[flat]" in net.kernels(flat, net.conv(q, 3, 5))
    net = Quantised((2, 3, 9, 8))
    q = net.q("x")
    assert "quantize[pack]" in net.kernels(net.conv(q, 3, 5), q)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_a_float_operator_between_convolutions_costs_a_pass_each_way(isa, dtype):
    net = Quantised((1, 4, 9, 10))
    by = net.steps(-28 if dtype == np.int8 else 100, dtype)
    y = net.conv(net.q("x"), 4, 19)
    between = net.n("Softplus", net.d(y))
    y = net.conv(net.q(between), 19, 7)
    kernels = net.kernels(net.n("QuantizeLinear", net.d(y), *by))
    first = kernels.index("dequantize[rows]")
    assert kernels[first + 2] == "quantize[rows]"
    assert kernels[-1].split("[")[1] == "unpack]"
    assert not any(k.startswith(("reorder", "copy")) for k in kernels)


Body = Callable[[Quantised, str], str]


def shuffled(net: Quantised, q: str) -> str:
    """Of 22 channels."""
    y = net.n("Reshape", q, net.c([2, 2, 11, 7, 6], np.int64))
    return net.n("Reshape", net.n("Transpose", y, perm=[0, 2, 1, 3, 4]), net.c([2, 22, 7, 6], np.int64))


def parts(net: Quantised, q: str) -> str:
    a, b = net.n("Split", q, net.c([5, 17], np.int64), outputs=2, axis=1)
    return net.n("Concat", b, a, axis=1)


def padded(net: Quantised, q: str, value: int = 100, mode: str = "constant") -> str:
    return net.n("Pad", q, net.c([0, 0, 1, 0, 0, 0, 1, 2], np.int64), net.c(value, np.uint8), mode=mode)


def resized(net: Quantised, q: str) -> str:
    return net.n("Resize", q, "", net.c([1, 1, 2, 2], np.float32), mode="nearest", coordinate_transformation_mode="asymmetric")


MOVES: dict[str, tuple[Body, str]] = {
    "shuffle": (shuffled, "take_planes"),
    "gather": (lambda net, q: net.n("Gather", q, net.c([*range(21, -1, -1)], np.int64), axis=1), "take_planes"),
    "slice": (
        lambda net, q: net.n("Slice", net.n("Concat", q, q, axis=1), *(net.c([v], np.int64) for v in (13, 35, 1))),
        "copy_planes",
    ),
    "parts": (parts, "copy_planes"),
    "pad with the zero point": (padded, "reorder[rows]"),
    "pad with another number": (lambda net, q: padded(net, q, 7), "reorder[rows]"),
    "edges": (lambda net, q: padded(net, q, 0, "edge"), "resize"),
    "resize": (resized, "resize"),
}


@pytest.mark.parametrize("kind", sorted(MOVES))
def test_moves_stay_in_planes(isa, kind):
    """Whatever reads the result has its own halo around it: 100, which the bytes that are moved do not have."""
    move, kernel = MOVES[kind]
    net = Quantised((2, 3, 7, 6))
    y = net.conv(net.q("x"), 3, 22)
    y = net.conv(move(net, y), 22, 6)
    kernels = net.kernels(y)
    assert any(k.startswith(kernel) for k in kernels), kernels
    assert not any(k.startswith(("copy_nd", "gather", "fill", "reorder[pack]", "reorder[scalar]")) for k in kernels), kernels


@pytest.mark.parametrize("kind", sorted(MOVES))
def test_moves_of_plain_bytes(isa, kind):
    move, _ = MOVES[kind]
    net = Quantised((2, 22, 7, 6))
    net.kernels(move(net, net.q("x")))


def test_bytes_of_a_join_lie_inside_of_it(isa):
    """Parts of whole blocks are written to their places, each with the halo of who reads the whole."""
    from cnnengine._kernels.dispatch import lanes

    net = Quantised((2, 3, 7, 6))
    x = net.q("x")
    a, b = net.conv(x, 3, lanes()), net.conv(x, 3, 2 * lanes() + 3)
    kernels = net.kernels(net.conv(net.n("Concat", a, b, axis=1), 3 * lanes() + 3, 5))
    assert not any(k.startswith("copy") for k in kernels), kernels


@pytest.mark.parametrize("kind", ["mixed", "zeros"])
@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (70000,), ()])
def test_dynamic_scales(isa, kind, shape):
    """A scale that is found as the network runs: the same for any number of threads, and straight into planes."""
    net = Quantised(shape)
    y, scale, zero = net.n(
        "DynamicQuantizeLinear", "x" if kind == "mixed" else net.n("Mul", "x", net.c(0, np.float32)), outputs=3
    )
    kernels = net.kernels(y, scale, zero)
    assert "qrange" in kernels
    assert "dynamic_scale" in kernels


def test_a_sign_is_flipped_on_the_way(isa):
    """int8 at both ends of convolutions of uint8."""
    net = Quantised((2, 3, 9, 8))
    by = net.steps(-28, np.int8)
    q = net.n("Reshape", net.n("QuantizeLinear", "x", *by), net.c([2, 3, 8, 9], np.int64))  # through which no flip moves
    w = net.n("DequantizeLinear", net.c(net.rng.integers(-9, 10, (20, 3, 3, 3)), np.int8), net.c(0.0625, np.float32))
    y = net.n("QuantizeLinear", net.n("Conv", net.n("DequantizeLinear", q, *by), w, pads=[1] * 4), *by)
    kernels = net.kernels(y)
    assert kernels[-3:] == ["flip_sign[pack]", *[k for k in kernels if k.startswith("qconv")], "flip_sign[unpack]"]


def test_sums_and_products_of_convolutions(isa):
    """Two of uint8 in planes, with an activation; a gate per channel; and broadcasts that no kernel has."""
    net = Quantised((2, 3, 9, 8))
    x = net.q("x")
    a, b = net.conv(x, 3, 19), net.conv(x, 3, 19, 1)
    total = net.q(net.n("Relu", net.n("Add", net.d(a), net.d(b))))
    less = net.q(net.n("Sub", net.d(total), net.d(a)), *net.steps(30, np.uint8, 0.5))
    gate = net.q(net.n("GlobalAveragePool", net.d(a)))
    gated = net.q(net.n("Mul", net.d(less, *net.steps(30, np.uint8, 0.5)), net.d(gate)))
    kernels = net.kernels(net.conv(gated, 19, 5))
    assert sum(k.startswith("qadd") for k in kernels) >= 1
    assert any(k.startswith("qmul") for k in kernels)
    assert not any(k.startswith("reorder") for k in kernels[:-1]), kernels  # the last one gives the output


@pytest.mark.parametrize("shapes", [((2, 3, 4, 5), (4, 1)), ((2, 1, 4, 1), (1, 3, 1, 5)), ((5,), (2, 3, 4, 5)), ((), (3,))])
@pytest.mark.parametrize("kind", ["Add", "Mul", "Sub"])
def test_operands_that_broadcast(isa, shapes, kind):
    net = Quantised(shapes[0])
    other = net.d(net.c(net.rng.integers(0, 256, shapes[1]), np.uint8), *net.steps(9, np.uint8, 0.5))
    first = net.d(net.q("x"))
    y = net.q(net.n(kind, *((first, other) if len(shapes[0]) > 1 else (other, first))))
    x = (net.rng.standard_normal(shapes[0]) * 9).astype(np.float32)
    with cnnengine.load(net.model(y), threads=1) as loaded:
        (got,) = loaded.run(None, {"x": x})
        (want,) = loaded._graph.evaluate({"x": x})
        assert [n.op.op_type for n in loaded._graph.nodes].count("QuantizedMul" if kind == "Mul" else "QuantizedAdd") == 1
        np.testing.assert_array_equal(got, want)
        assert not loaded.host_nodes()


def test_joins_of_several_scales(isa):
    """What has the scale of the result is joined as it is, the other part is quantised anew."""
    net = Quantised((2, 3, 9, 8))
    x = net.q("x")
    a = net.conv(x, 3, 19)
    b = net.q(net.d(net.conv(x, 3, 6)), *net.steps(17, np.uint8, 0.5))
    y = net.q(net.n("Concat", net.d(a), net.d(b, *net.steps(17, np.uint8, 0.5)), axis=1))
    model = net.model(net.conv(y, 25, 4))
    with cnnengine.load(model, threads=1) as loaded:
        joins = [n for n in loaded._graph.nodes if n.op.op_type == "Concat"]
        assert len(joins) == 1
    kernels = net.kernels(net.conv(y, 25, 4))
    assert not any(k.startswith(("copy_nd", "reorder")) for k in kernels[:-1]), kernels
