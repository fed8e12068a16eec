"""Files that exporters write, made here and now by the exporters themselves, against what the frameworks compute.

Needs torch, onnxscript and keras (`pip install '.[exporters]'`); what is not installed is skipped. tf2onnx is in the zoo:
its files are those named ``.tf``.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import cnnengine
from cnnengine.importer import import_model, open_model
from cnnengine.runtime.runner import fill_arenas

TOLERANCE = 2e-5
"""Of max |y|: both sides round in float32, in different orders."""

LATEST = onnx.defs.onnx_opset_version()


@pytest.fixture(autouse=True)
def rubbish():
    fill_arenas(255)
    yield
    fill_arenas(None)


def agree(actual: Any, expected: np.ndarray) -> None:
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    assert np.abs(expected).max() > 0
    assert np.abs(actual.astype(np.float64) - expected).max() <= TOLERANCE * np.abs(expected).max()


# ---------------------------------------------------------------- PyTorch


def networks() -> dict[str, Any]:
    """Small networks of what vision models are made of, by name; their inputs are (N, 3, H, W)."""
    torch = pytest.importorskip("torch")
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(0)

    def conv(c, o, k=3, s=1, g=1, act=nn.ReLU):
        return nn.Sequential(nn.Conv2d(c, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), act())

    class Squeeze(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.down, self.up = nn.Conv2d(c, 8, 1), nn.Conv2d(8, c, 1)

        def forward(self, x):
            return x * F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))

    class Mobile(nn.Module):
        """Inverted residuals with gates, as MobileNetV3; a classifier."""

        def __init__(self):
            super().__init__()
            self.stem = conv(3, 16, s=2, act=nn.Hardswish)
            self.block = nn.Sequential(
                conv(16, 40, 1, act=nn.Hardswish),
                conv(40, 40, 5, g=40, act=nn.SiLU),
                Squeeze(40),
                conv(40, 16, 1, act=nn.Identity),
            )
            self.head = nn.Linear(16, 10)

        def forward(self, x):
            x = self.stem(x)
            x = F.relu6(x + self.block(x))
            return F.softmax(self.head(F.dropout(x.mean((2, 3)), 0.2, self.training)), 1)

    class Shuffle(nn.Module):
        """Split, shuffle and concatenation, as ShuffleNetV2."""

        def __init__(self):
            super().__init__()
            self.stem = conv(3, 24)
            self.right = nn.Sequential(conv(12, 12, 1), conv(12, 12, g=12, act=nn.LeakyReLU), conv(12, 12, 1, act=nn.PReLU))

        def forward(self, x):
            a, b = self.stem(x).chunk(2, 1)
            x = torch.cat((a, self.right(b)), 1)
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            return F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)

    class Next(nn.Module):
        """A block of ConvNeXt: channels-last norm and linear layers, and a scaled residual."""

        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 24, 4, 4)
            self.depthwise, self.norm = nn.Conv2d(24, 24, 7, padding=3, groups=24), nn.LayerNorm(24, 1e-6)
            self.up, self.down = nn.Linear(24, 96), nn.Linear(96, 24)
            self.gamma = nn.Parameter(torch.rand(24))

        def forward(self, x):
            x = self.stem(x)
            y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
            y = self.gamma * self.down(F.gelu(self.up(y)))
            return x + y.permute(0, 3, 1, 2)

    class Segment(nn.Module):
        """Dilated branches, transposed convolution, sizes taken from other tensors."""

        def __init__(self):
            super().__init__()
            self.stem = conv(3, 16, s=2)
            self.dilated = nn.ModuleList(nn.Conv2d(16, 8, 3, padding=d, dilation=d) for d in (1, 6, 12))
            self.up = nn.ConvTranspose2d(24, 8, 2, 2)
            self.norm = nn.GroupNorm(4, 8)
            self.last = nn.Conv2d(8, 5, 1)

        def forward(self, x):
            y = self.stem(x)
            y = torch.cat([F.elu(branch(y)) for branch in self.dilated], 1)
            y = torch.sigmoid(self.last(self.norm(self.up(y))))
            return F.interpolate(y, scale_factor=2.0, mode="nearest") + F.pad(y.mean((2, 3), keepdim=True), (0, 0, 0, 0))

    class Scaled(nn.Module):
        """Bilinear, to the extents of the input; padding that reflects; slices."""

        def __init__(self):
            super().__init__()
            self.conv = conv(3, 12, s=2, act=nn.Mish)
            self.last = nn.Conv2d(15, 4, 3)

        def forward(self, x):
            y = F.interpolate(self.conv(x), size=x.shape[2:], mode="bilinear", align_corners=False)
            y = torch.cat((F.pad(x, (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 1:-1], y), 1)
            return self.last(y)[:, :, ::2, 1:]

    class Attend(nn.Module):
        """Tokens of pixels, self attention."""

        def __init__(self):
            super().__init__()
            self.patch, self.qkv, self.out = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 48), nn.Linear(16, 6)
            self.norm = nn.LayerNorm(16)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            n, t, c = x.shape
            q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
            weights = torch.softmax(q @ k.transpose(-2, -1) * 8**-0.5, -1)
            return self.out(x + (weights @ v).transpose(1, 2).reshape(n, t, c)).mean(1)

    made = {"mobile": Mobile, "shuffle": Shuffle, "next": Next, "segment": Segment, "scaled": Scaled, "attend": Attend}
    return {name: cls() for name, cls in made.items()}


NETWORKS = ["mobile", "shuffle", "next", "segment", "scaled", "attend"]

FIRST = {"scaled": 11, "shuffle": 10}
"""Opsets before which ONNX has no operator for what a network does (bilinear as PyTorch does it; pools with ceil_mode)."""


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[str, Any]:
    net = networks()[request.param].eval()
    import torch

    generator = torch.Generator().manual_seed(1)
    for module in net.modules():  # statistics that are not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return request.param, net


def check(torch: Any, model: cnnengine.Model, net: Any, shapes: Any) -> None:
    """The model gives what the network gives, all by kernels."""
    for shape in shapes:
        x = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
        with torch.inference_mode():
            expected = net(x)
        expected = expected if isinstance(expected, tuple) else (expected,)
        results = model.run(None, {model.inputs[0].name: x.numpy()})
        assert len(results) == len(expected)
        for y, e in zip(results, expected, strict=True):
            agree(y, e.numpy())
    assert model.is_pure, model.host_nodes()


def opsets_of(proto: onnx.ModelProto) -> dict[str, int]:
    return {i.domain: i.version for i in proto.opset_import}


SHAPES = [(1, 3, 32, 32), (3, 3, 40, 24)]


@pytest.mark.parametrize("opset", range(9, 21))
def test_torchscript(torch: Any, network: tuple[str, Any], opset: int) -> None:
    name, net = network
    if opset < FIRST.get(name, 9):
        pytest.skip(f"opset {opset} cannot say what this network does")
    file = io.BytesIO()
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.randn(1, 3, 32, 32),), file, input_names=["x"], dynamic_axes=axes, opset_version=opset, dynamo=False
        )
    assert opsets_of(onnx.load_from_string(file.getvalue()))[""] == opset
    with cnnengine.load(file.getvalue()) as model:
        check(torch, model, net, SHAPES)


@pytest.mark.parametrize("opset", range(18, LATEST + 1))
def test_dynamo(torch: Any, network: tuple[str, Any], opset: int, tmp_path: Path) -> None:
    """With weights in a file beside the model."""
    pytest.importorskip("onnxscript")
    _, net = network
    dims = {0: torch.export.Dim("n"), 2: 4 * torch.export.Dim("h", min=2), 3: 4 * torch.export.Dim("w", min=2)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net, (torch.randn(2, 3, 32, 32),), dynamic_shapes=(dims,), opset_version=opset, dynamo=True, verbose=False
        )
    path = tmp_path / "net.onnx"
    program.save(path, external_data=True)
    assert (tmp_path / "net.onnx.data").stat().st_size > 0
    if opsets_of(onnx.load(path, load_external_data=False))[""] != opset:
        pytest.skip(f"PyTorch exports opset 18 and could not convert it to {opset}")
    with cnnengine.load(path) as model:
        check(torch, model, net, SHAPES)
    with cnnengine.load(program.model_proto) as model:
        check(torch, model, net, SHAPES[:1])
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(cnnengine.ModelError, match=r"net\.onnx\.data"):
        cnnengine.load(path)


def test_functions_of_onnxscript_are_inlined() -> None:
    """Functions that call functions and pass attributes on, as onnxscript writes them."""
    script = pytest.importorskip("onnxscript").script
    from onnxscript import FLOAT, values
    from onnxscript import opset18 as op

    local = values.Opset("local", 1)

    @script(local, default_opset=op)
    def leaky(x, slope: float):
        return op.LeakyRelu(x, alpha=slope)

    @script(local, default_opset=op)
    def gate(x, slope: float):
        squeezed = leaky(op.GlobalAveragePool(x), slope=slope)
        return x * op.Sigmoid(squeezed)

    @script(default_opset=op)
    def network(x):
        y = gate(x, slope=0.25)
        return gate(leaky(y, slope=-0.5), slope=4.0)

    images = FLOAT["N", 4, "H", "W"]
    proto = network.to_model_proto(input_types=[images], output_types=[images])
    assert {f.name for f in proto.functions} == {"leaky", "gate"}
    graph = import_model(open_model(proto, None).message)
    assert {n.op.op_type for n in graph.nodes} == {"LeakyRelu", "GlobalAveragePool", "Sigmoid", "Mul"}
    x = np.random.default_rng(3).standard_normal((2, 4, 5, 6)).astype(np.float32)

    def plain_gate(x: np.ndarray, slope: float) -> np.ndarray:
        squeezed = x.astype(np.float64).mean((2, 3), keepdims=True)
        return x / (1 + np.exp(-np.where(squeezed < 0, slope * squeezed, squeezed)))

    y = plain_gate(x, 0.25)
    with cnnengine.load(proto) as model:
        agree(model(x), plain_gate(np.where(y < 0, -0.5 * y, y), 4.0).astype(np.float32))
        assert model.is_pure


# ---------------------------------------------------------------- Keras


@pytest.fixture(scope="module")
def keras() -> Any:
    pytest.importorskip("torch")
    os.environ.setdefault("KERAS_BACKEND", "torch")  # read when Keras is imported
    return pytest.importorskip("keras")


def keras_classifier(keras: Any, x: Any) -> Any:
    """Convolutions of every padding and stride, an inverted residual with a gate, a classifier."""
    layers = keras.layers
    y = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
    y = layers.Activation("hard_silu")(layers.BatchNormalization()(y))
    z = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(40, 1, use_bias=False)(y)))
    z = layers.DepthwiseConv2D(5, padding="same", activation="silu")(z)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(z)
    gate = layers.Conv2D(40, 1, activation="sigmoid")(layers.Conv2D(8, 1, activation="relu")(gate))
    z = layers.Conv2D(16, 1)(layers.Multiply()([z, gate]))
    y = layers.Add()([y, z])
    y = layers.SeparableConv2D(20, 3, activation="elu")(layers.ZeroPadding2D(((0, 1), (1, 0)))(y))
    y = layers.MaxPooling2D(3, 2)(y)
    return layers.Dense(10, activation="softmax")(layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(y)))


def keras_segmenter(keras: Any, x: Any) -> Any:
    """Down and up again: pooling, dilation, transposed convolution, upsampling, concatenation."""
    layers = keras.layers
    a = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2D(12, 3, padding="same")(x))
    b = layers.Conv2D(24, 3, padding="same", dilation_rate=2, activation="gelu")(layers.AveragePooling2D(2)(a))
    b = layers.BatchNormalization()(b)
    c = layers.Conv2DTranspose(12, 2, strides=2, activation="tanh")(b)
    d = layers.UpSampling2D(2, interpolation="nearest")(b)
    channels = 1 if keras.config.image_data_format() == "channels_first" else -1  # the layer itself takes the last axis
    y = layers.Concatenate(axis=channels)([a, c, d])
    return layers.Conv2D(3, 1, activation="sigmoid")(layers.Cropping2D(1)(y))


@pytest.mark.parametrize("build", [keras_classifier, keras_segmenter])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_keras(keras: Any, build: Any, data_format: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    shape = (32, 24, 3) if data_format == "channels_last" else (3, 32, 24)
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(data_format)
    try:
        x = keras.Input(shape)
        net = keras.Model(x, build(keras, x))
        rng = np.random.default_rng(4)
        weights = [w + rng.uniform(0.05, 0.3, w.shape).astype(np.float32) * (w.ndim == 1) for w in net.get_weights()]
        net.set_weights(weights)
        image = rng.standard_normal((2, *shape)).astype(np.float32)
        expected = keras.ops.convert_to_numpy(net(image, training=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net.export(tmp_path / "net.onnx", format="onnx", verbose=False)
    finally:
        keras.config.set_image_data_format(before)
    with cnnengine.load(tmp_path / "net.onnx") as model:
        agree(model(image), expected)
        agree(model(image[:1]), expected[:1])
        assert model.is_pure, model.host_nodes()


# ---------------------------------------------------------------- versions that are not known yet


def newer(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    x, y = (info(name, onnx.TensorProto.FLOAT, ["N", 3, 4, 4]) for name in "xy")
    graph = helper.make_graph(list(nodes), "newer", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", LATEST + 1)], ir_version=onnx.IR_VERSION)


def test_newer_opsets_run_where_every_operator_is_known() -> None:
    proto = newer(helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"]))
    x = np.random.default_rng(5).standard_normal((2, 3, 4, 4)).astype(np.float32)
    with pytest.warns(UserWarning, match=f"opset {LATEST + 1} is newer"):
        model = cnnengine.load(proto)
    agree(model(x), x / (1 + np.exp(-x)))


def test_newer_opsets_name_the_operator_that_is_not_known() -> None:
    proto = newer(helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Tomorrow", ["r"], ["y"], name="new"))
    with (
        pytest.warns(UserWarning, match="newer"),
        pytest.raises(cnnengine.UnsupportedOperatorError, match=r"'new'.*'Tomorrow'"),
    ):
        cnnengine.load(proto)
