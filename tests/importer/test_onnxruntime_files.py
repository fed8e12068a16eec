"""Models as onnxruntime's optimizer saves them: they load, and give what onnxruntime gives."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import zoo_support as zoo

import cnnengine
from cnnengine import UnsupportedOperatorError
from cnnengine.report import check

ort = pytest.importorskip("onnxruntime")

FILES = (
    "act_zoo.ts",
    "audio_m5_1d.ts",
    "c3d_small.ts",
    "convt_zoo.ts",
    "k_layers.tf",
    "lenet5.ts7",
    "mobilenet_v2.ts9",
    "norm_gn.ts",
    "norm_in.ts",
    "norm_ln.ts",
    "resnet18.ts",
    "shufflenet_v2_x1_0.ts9",
    "squeezenet1_1.ts9",
    "unet_convt.ts",
)
"""Zoo models into which onnxruntime puts FusedConv, FusedGemm, Gelu or QuickGelu."""


def saved(name: str, path: Path, level: str) -> list[np.ndarray]:
    """Write the model as onnxruntime optimizes it; what it computes itself."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path)
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(str(zoo.materialized(name)), options, providers=["CPUExecutionProvider"])
    return session.run(None, zoo.feeds(name))


@pytest.mark.parametrize("name", FILES)
def test_the_extended_level(name: str, tmp_path: Path) -> None:
    path = tmp_path / "optimized.onnx"
    want, feeds = saved(name, path, "ORT_ENABLE_EXTENDED"), zoo.feeds(name)
    found = {n.op_type for n in onnx.load(path, load_external_data=False).graph.node if n.domain == "com.microsoft"}
    assert found  # which ones exactly depends on the version of onnxruntime
    loaded, plain = cnnengine.load(path, threads=1), cnnengine.load(zoo.materialized(name), threads=1)
    results = loaded.run([o.name for o in loaded.outputs], feeds)
    zoo.check_outputs(name, results, zoo.tolerance(name))
    for result, value in zip(results, want, strict=True):
        assert np.abs(result - value).max() <= 1e-4 * np.abs(value).max()
    assert [n.operator for n in check(path).host_nodes] == [n.operator for n in check(zoo.materialized(name)).host_nodes]
    assert len(loaded.outputs) == len(plain.outputs)


def test_the_layout_level_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "optimized.onnx"
    saved("lenet5.ts7", path, "ORT_ENABLE_ALL")
    domains = Counter(n.domain for n in onnx.load(path).graph.node)
    if not domains["com.microsoft.nchwc"]:
        pytest.skip("this processor has no such layout")
    with pytest.raises(UnsupportedOperatorError, match="save the model with ORT_ENABLE_EXTENDED"):
        cnnengine.load(path)
    hints = {n.hint for n in check(path).unsupported}
    assert len(hints) == 1 and "graph_optimization_level" in hints.pop()


def test_reading_them_needs_no_onnx(tmp_path: Path) -> None:
    """Its own domain has schemas of its own here; onnx would be asked in vain."""
    from cnnengine.importer import open_model
    from cnnengine.importer.wire import ModelMessage

    path = tmp_path / "optimized.onnx"
    saved("lenet5.ts7", path, "ORT_ENABLE_EXTENDED")
    assert isinstance(open_model(path).message, ModelMessage)
