"""Exported graphs whose height, width, depth or length are left open, at two other sizes, against onnxruntime.

The exporters fixed the sizes in the zoo's files; here the inputs' spatial extents are made dynamic again. Files that hold
further traces of the size (Reshape and Resize to constants, a Gemm behind Flatten) are not in the table.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import zoo_support

import cnnengine

onnxruntime = pytest.importorskip("onnxruntime")

CLASSIFIER = ((112, 144), (231, 232))
DENSE = ((128, 160), (288, 320))
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "act_zoo": ((32, 64), (29, 30)),
    "audio_m5_1d": ((16032,), (20001,)),
    "c3d_small": ((32, 88, 56), (19, 61, 62)),
    "convnext_tiny": CLASSIFIER,
    "convt_zoo": ((32, 64), (71, 45)),
    "deeplabv3_mbv3.ts": ((128, 160), (263, 264)),
    "densenet121": CLASSIFIER,
    "edsr_x4": ((32, 64), (37, 29)),
    "efficientnet_b0": CLASSIFIER,
    "efficientnet_lite0": CLASSIFIER,
    "efficientnet_v2_s.ts": CLASSIFIER,
    "ese_vovnet19b_dw": CLASSIFIER,
    "ghostnet_100": CLASSIFIER,
    "googlenet": CLASSIFIER,
    "hand_nin_lppool": ((32, 64), (40, 43)),
    "inception_v3": ((149, 181), (306, 307)),
    "k_efficientnet_b0": CLASSIFIER,
    "k_layers": ((64, 32), (71, 72)),
    "k_mobilenet_v2": CLASSIFIER,
    "k_unet": ((80, 48), (160, 128)),
    "kt_layers": ((64, 32), (71, 72)),
    "kt_mobilenet": CLASSIFIER,
    "lcnet_050": CLASSIFIER,
    "lraspp_mbv3.ts": ((128, 160), (263, 264)),
    "mnasnet1_0": CLASSIFIER,
    "mobilenet_v2": CLASSIFIER,
    "mobilenet_v3_large": CLASSIFIER,
    "mobilenetv4_conv_small": CLASSIFIER,
    "nin_lppool": ((32, 64), (40, 41)),
    "norm_gn": ((32, 64), (71, 72)),
    "norm_in": ((32, 64), (71, 72)),
    "norm_ln": ((32, 64), (71, 72)),
    "pool_zoo": ((47, 48), (46, 47)),
    "regnet_y_400mf": CLASSIFIER,
    "repvgg_a0": CLASSIFIER,
    "resnet18": CLASSIFIER,
    "resnet50": CLASSIFIER,
    "shufflenet_v2_x1_0.ts": CLASSIFIER,
    "smp_deeplabv3p_r18.ts": DENSE,
    "smp_fpn_mbv2": DENSE,
    "smp_unet_r18.ts": ((128, 160), (263, 264)),
    "squeezenet1_1": CLASSIFIER,
    "ssdlite320": ((160, 192), (327, 328)),
    "unet_bilinear": DENSE,
    "unet_convt": DENSE,
    "unet_nearest": DENSE,
    "zoo_densenet121": CLASSIFIER,
    "zoo_squeezenet": CLASSIFIER,
}
"""Beginnings of file names -> two sizes."""


def sizes_of(name: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The longest beginning counts."""
    found = [key for key in SIZES if name.startswith(key)]
    return SIZES[max(found, key=len)] if found else None


def spatial_axes(name: str) -> range:
    """Axes of height, width ...: the last ones, but the last before the channels for Keras."""
    rank = len(zoo_support.expected(name)["input"]["shape"])
    channels_last = name.endswith((".tf", ".kt"))
    return range(1, rank - 1) if channels_last else range(2, rank)


def open_model(name: str) -> onnx.ModelProto:
    """The complete model without any trace of its size but those in its nodes."""
    model = zoo_support.model_proto(name)
    constants = {tensor.name for tensor in model.graph.initializer}
    value = next(v for v in model.graph.input if v.name not in constants)
    for axis in spatial_axes(name):
        value.type.tensor_type.shape.dim[axis].dim_param = f"size_{axis}"
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    model.ir_version = min(model.ir_version, 10)  # onnxruntime reads a few versions less than onnx writes
    return model


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", [n for n in zoo_support.names() if sizes_of(n) is not None])
def test_other_sizes(name: str) -> None:
    entry = zoo_support.expected(name)["input"]
    model = open_model(name)
    peer = session(model)
    sizes = sizes_of(name)
    assert sizes is not None
    with cnnengine.load(model, threads=2) as engine:
        own = zoo_support.feeds(name)
        before = engine.run(None, own)
        zoo_support.check_outputs(name, before, zoo_support.tolerance(name))
        for size in sizes:
            shape = list(entry["shape"])
            for axis, extent in zip(spatial_axes(name), size, strict=True):
                shape[axis] = extent
            x = np.random.default_rng(math.prod(size)).normal(entry["mean"], entry["std"], shape).astype(np.float32)
            for mine, theirs in zip(engine.run(None, {entry["name"]: x}), peer.run(None, {entry["name"]: x}), strict=True):
                assert mine.dtype == theirs.dtype
                assert mine.shape == theirs.shape
                scale = float(np.abs(theirs).max()) if theirs.size else 0.0
                limit = zoo_support.tolerance(name) * scale if theirs.dtype.kind == "f" else 0
                assert np.isfinite(mine).all()
                assert (np.abs(mine.astype(np.float64) - theirs) <= limit).all(), f"{name} at {size}"
        assert (engine.host_nodes() == []) is (name not in zoo_support.IMPURE)
        # the plans of the sizes stand side by side
        for first, again in zip(before, engine.run(None, own), strict=True):
            assert first.tobytes() == again.tobytes()


def test_table_names_files() -> None:
    """Every entry serves a file, of the committed ones or of the folder CNNENGINE_ZOO."""
    known = zoo_support.names()
    used = {max((k for k in SIZES if n.startswith(k)), key=len) for n in known if sizes_of(n) is not None}
    committed = {k for k in SIZES if any(p.name.startswith(k) for p in zoo_support.ZOO.glob("*.onnx"))}
    assert committed <= used
    if len(known) >= 150:
        assert used == set(SIZES)
