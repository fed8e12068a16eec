"""`cnnengine check`: what it says of models that run, that run in part in Python, that cannot run, and that differ."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from command import runner
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.importer.schemas import OPSET
from cnnengine.ops.activation import Relu
from cnnengine.report import against, check, hints
from cnnengine.report.against import Comparison, Reference, Steps, judge, measure

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "models" / "digits_lenet.onnx")
SPP = str(ROOT / "models" / "digits_spp.onnx")
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    """Run `cnnengine check` in this process."""
    return runner(capsys, "check")


def make(
    nodes: list[onnx.NodeProto], inputs: list, outputs: list, weights: dict | None = None, opsets: dict | None = None
) -> onnx.ModelProto:
    """Inputs and outputs are (name, element type, shape)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in (opsets or {"": 18}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def saved(path: Path, proto: onnx.ModelProto) -> Path:
    onnx.save(proto, path)
    return path


def partly_compiled() -> onnx.ModelProto:
    """Three kernels, a node whose shape depends on data (compiled too) and one by onnx.reference."""
    nodes = [
        node("Relu", ["x"], ["r"], name="act"),
        node("Unique", ["r"], ["u"], name="distinct", sorted=1),
        node("NonZero", ["r"], ["z"], name="where"),
        node("Relu", ["u"], ["y"], name="last"),
        node("Binarizer", ["r"], ["d"], name="steps", domain="ai.onnx.ml"),
    ]
    outputs = [("y", FLOAT, ["k"]), ("z", INT64, [3, "m"]), ("d", FLOAT, ["N", 4, 4])]
    return make(nodes, [("x", FLOAT, ["N", 4, 4])], outputs, opsets={"": 18, "ai.onnx.ml": 1})


def refused() -> onnx.ModelProto:
    """Five nodes that cannot be run, each for another reason."""
    nodes = [
        node("Relu", ["x"], ["r"], name="act"),
        node("QAttention", ["r"] * 8, ["a"], name="added", domain="com.microsoft"),
        node("GridSample", ["a", "a"], ["b"], name="sample"),
        node("Frobnicate", ["b"], ["c"], name="odd"),
        node("Upsample", ["c", "s"], ["d"], name="up"),
        node("NMS", ["d"], ["y"], name="boxes", domain="my.ops"),
    ]
    weights = {"s": np.ones(4, np.float32)}
    return make(nodes, [("x", FLOAT, [1, 3, 4, 4])], [("y", FLOAT, [1])], weights, {"": 11, "com.microsoft": 1})


def small_net() -> onnx.ModelProto:
    """Conv, then two branches: Relu and Sigmoid, and their sum."""
    rng = np.random.default_rng(3)
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv"),
        node("Relu", ["c"], ["r"], name="relu"),
        node("Sigmoid", ["c"], ["s"], name="sigmoid"),
        node("Add", ["r", "s"], ["t"], name="sum"),
        node("MaxPool", ["t"], ["y"], name="pool", kernel_shape=[2, 2]),
    ]
    weights = {"w": rng.standard_normal((4, 3, 3, 3), dtype=np.float32)}
    return make(nodes, [("x", FLOAT, ["N", 3, 8, 8])], [("y", FLOAT, ["N", 4, 5, 5])], weights)


class Fake:
    """Another engine: onnx.reference with a fault planted in one tensor."""

    name = "fake"
    version = "1"

    def __init__(self, **faults: Any) -> None:
        self.faults = faults
        self.asked: list[str] = []

    def run(self, proto: onnx.ModelProto, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        self.asked = list(outputs)
        for name, value in self.faults.items():
            for each in proto.graph.node:
                each.output[:] = [f"{name} before" if o == name else o for o in each.output]
            proto.graph.node.insert(
                next(i for i, n in enumerate(proto.graph.node) if f"{name} before" in n.output) + 1,
                node("Mul", [f"{name} before", f"{name} factor"], [name]),
            )
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), f"{name} factor"))
        return Reference().run(proto, outputs, feeds)


class TestRuns:
    def test_a_model_of_kernels_alone(self, cnn) -> None:
        result = cnn(MODEL, "--threads", 1)
        assert (result.status, result.err) == (0, [])
        assert result.out[0].startswith("digits_lenet.onnx: runs at image (1, 1, 32, 32): ")
        assert result.out[1:] == ["12 nodes in the file, 8 layers: 8 compiled", "all of it is compiled"]

    def test_host_nodes_and_fallbacks_with_their_cost(self, cnn, tmp_path: Path) -> None:
        path = saved(tmp_path / "m.onnx", partly_compiled())
        found = check(path)
        assert found.ok and found.layers == {"compiled": 4, "fallback": 1}
        assert [(n.node, n.operator, n.version, n.runs) for n in found.host_nodes] == [("steps", "Binarizer", 1, "fallback")]
        assert found.milliseconds is not None and found.host_milliseconds is not None
        assert 0 < found.host_milliseconds < found.milliseconds
        for each in found.host_nodes:
            assert each.milliseconds is not None and each.milliseconds > 0
            assert each.share == pytest.approx(each.milliseconds / found.milliseconds)
            assert each.hint and each.reason
        result = cnn(path)
        assert result.status == 0
        text = "\n".join(result.out)
        assert "5 nodes in the file, 5 layers: 4 compiled, 1 fallback (onnx.reference)" in text
        assert "Binarizer-1  fallback" in text
        assert "hint: Binarizer: " in text

    def test_a_slow_host_node_costs_what_it_takes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from time import sleep

        from cnnengine.ops.fallback import Fallback

        plain = Fallback.reference

        def slow(self: Fallback, *inputs: Any) -> list[Any]:
            if self.op_type == "Binarizer":
                sleep(0.02)
            return plain(self, *inputs)

        monkeypatch.setattr(Fallback, "reference", slow)
        costs = {n.node: n for n in check(partly_compiled()).host_nodes}
        assert (costs["steps"].milliseconds or 0) >= 20
        assert (costs["steps"].share or 0) > 0.5

    def test_shapes(self, cnn) -> None:
        without = cnn(SPP)
        assert without.status == 2
        assert without.out[0] == "digits_spp.onnx: can be loaded; not run"
        assert "not run: the" not in "".join(without.out)
        assert without.err == [
            "cnnengine: digits_spp.onnx: not run: the shape of image is dynamic; give it: --shape image=1,1,224,224"
        ]
        for option in ("image=1,1,37,53", "1,1,37,53"):
            known = cnn(SPP, "--shape", option)
            assert (known.status, known.err) == (0, [])
            assert "runs at image (1, 1, 37, 53)" in known.out[0]

    def test_a_shape_that_the_model_cannot_take(self, cnn, tmp_path: Path) -> None:
        path = saved(
            tmp_path / "m.onnx",
            make(
                [node("Conv", ["x", "w"], ["y"], name="conv")],
                [("x", FLOAT, ["N", "C", "H", "W"])],
                [("y", FLOAT, ["N", 2, "h", "w"])],
                {"w": np.ones((2, 3, 3, 3), np.float32)},
            ),
        )
        assert cnn(path, "--shape", "1,3,8,8").status == 0
        wrong = cnn(path, "--shape", "1,4,8,8")
        assert wrong.status == 2
        assert wrong.out[0] == "m.onnx: can be loaded; not run at x (1, 4, 8, 8)"
        (line,) = wrong.err
        assert "'conv'" in line
        assert "cannot run" not in line
        suggested = re.search(r"--shape (x=[0-9,]+)", line)
        assert suggested is not None
        assert cnn(path, "--shape", suggested[1]).status == 0
        assert check(path, {"x": (1, 4, 8, 8)}).runs is None

    @staticmethod
    def dynamic(path: Path, nodes: list, inputs: list, weights: dict) -> Path:
        proto = make(nodes, inputs, [("y", FLOAT, None)], weights)
        return saved(path, proto)

    @pytest.mark.parametrize("kind", ["line", "channels last", "one name", "sequence", "index", "gray"])
    def test_a_suggestion_can_run(self, cnn, tmp_path: Path, kind: str) -> None:
        """Networks that the usual picture does not fit: the height, channels, two inputs or an index say what does."""
        conv = node("Conv", ["x", "w"], ["y"], name="conv")
        flat = [node("Reshape", ["x", "to"], ["f"], name="flat"), node("MatMul", ["f", "w"], ["y"], name="dense")]
        square, weights = [("x", FLOAT, ["N", 3, "H", "W"])], {"w": np.ones((1, 3, 3, 3), np.float32)}
        nodes: list = [conv]
        inputs: list = square
        if kind == "line":  # the height of 48 becomes 1, which Squeeze takes away
            nodes = [
                node("MaxPool", ["x"], ["p"], name="pool", kernel_shape=[48, 1], strides=[48, 1]),
                node("Squeeze", ["p", "axis"], ["y"], name="away"),
            ]
            weights = {"axis": np.array([2], np.int64)}
        elif kind == "channels last":
            inputs = [("x", FLOAT, ["N", "H", "W", 3])]
            nodes = [
                node("Transpose", ["x"], ["t"], name="move", perm=[0, 3, 1, 2]),
                node("Conv", ["t", "w"], ["y"], name="conv"),
            ]
        elif kind == "one name":
            inputs = [("x", FLOAT, ["N", "L"]), ("z", FLOAT, ["N", "L", 2])]
            nodes = [node("Unsqueeze", ["x", "axis"], ["u"], name="up"), node("Add", ["u", "z"], ["y"], name="add")]
            weights = {"axis": np.array([2], np.int64)}
        elif kind == "sequence":
            inputs, nodes = [("x", FLOAT, ["N", "L"])], flat
            weights = {"to": np.array([1, 512], np.int64), "w": np.ones((512, 2), np.float32)}
        elif kind == "index":
            inputs = [("x", TensorProto.INT64, ["N", "L"])]
            nodes, weights = [node("Gather", ["w", "x"], ["y"], name="table")], {"w": np.ones((5, 3), np.float32)}
        elif kind == "gray":
            inputs, weights = [("x", FLOAT, ["N", "C", "H", "W"])], {"w": np.ones((1, 1, 3, 3), np.float32)}
        path = self.dynamic(tmp_path / "m.onnx", nodes, inputs, weights)
        first = cnn(path)
        assert first.status == 2
        options = re.findall(r"--shape (\S+=[0-9,]+)", first.err[0])
        assert len(options) == len(inputs)
        followed = cnn(path, *(word for option in options for word in ("--shape", option)))
        assert (followed.status, followed.err) == (0, [])

    def test_where_no_usual_shape_runs_none_is_made_up(self, cnn, tmp_path: Path) -> None:
        nodes = [node("Reshape", ["x", "to"], ["y"], name="flat")]
        path = self.dynamic(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["N", "L"])], {"to": np.array([1, 777], np.int64)})
        (line,) = cnn(path).err
        assert "--shape x=N,L, as the model is made for" in line

    def test_zeros_that_a_model_does_not_take_are_no_fault_of_it(self, cnn, tmp_path: Path) -> None:
        nodes = [node("Sub", ["i", "one"], ["at"], name="less"), node("Gather", ["w", "at"], ["y"], name="table")]
        weights = {"one": np.array(7, np.int64), "w": np.ones((5, 3), np.float32)}
        path = self.dynamic(tmp_path / "m.onnx", nodes, [("i", TensorProto.INT64, [2])], weights)
        result = cnn(path)
        assert (result.status, len(result.err)) == (2, 1)
        assert "cannot run" not in "".join([*result.out, *result.err])
        assert "--input FILE.npz" in result.err[0]
        np.savez(tmp_path / "i.npz", i=np.array([8, 9]))
        assert cnn(path, "--input", tmp_path / "i.npz").status == 0

    def test_texts_and_bfloat16_as_inputs(self) -> None:
        texts = make(
            [node("StringConcat", ["a", "a"], ["y"], name="twice")],
            [("a", TensorProto.STRING, [3])],
            [("y", TensorProto.STRING, [3])],
            opsets={"": 20},
        )
        found = check(texts, against="reference")
        assert found.ok and [n.reason for n in found.host_nodes] == ["texts"]
        halves = make([node("Relu", ["x"], ["y"])], [("x", TensorProto.BFLOAT16, [64])], [("y", TensorProto.BFLOAT16, [64])])
        compared = check(halves, against="reference").comparison
        assert compared is not None and compared.agrees
        assert compared.largest is not None and compared.largest.scale > 0  # not zeros alone

    def test_given_arrays(self, cnn, tmp_path: Path) -> None:
        """Zeros are no split of an axis: the model runs on what it is made for alone."""
        nodes = [node("Split", ["x", "n"], ["a", "b"], name="parts", axis=0), node("Relu", ["a"], ["y"], name="act")]
        proto = make(nodes, [("x", FLOAT, [5, 2]), ("n", INT64, [2])], [("y", FLOAT, ["k", 2]), ("b", FLOAT, ["m", 2])])
        path = saved(tmp_path / "m.onnx", proto)
        without = cnn(path)
        assert without.status == 2
        assert "integer inputs were zeros" in without.err[0] and "--input" in without.err[0]
        arrays = {"x": np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2), "n": np.array([3, 2])}
        np.savez(tmp_path / "given.npz", **arrays)
        result = cnn(path, "--input", tmp_path / "given.npz", "--against", "reference")
        assert (result.status, result.err) == (0, [])
        assert "runs at x (5, 2), n (2,)" in result.out[0]
        assert check(proto, feeds=arrays).shapes == {"x": (5, 2), "n": (2,)}

    def test_given_sequences(self) -> None:
        nodes = [node("SequenceAt", ["q", "i"], ["y"], name="at")]
        proto = make(nodes, [("x", FLOAT, [2])], [("y", FLOAT, [2])], {"i": np.int64(1)})
        del proto.graph.input[:]
        proto.graph.input.append(helper.make_tensor_sequence_value_info("q", FLOAT, None))
        assert check(proto).runs is None
        assert check(proto, feeds={"q": [np.zeros(2, np.float32), np.ones(2, np.float32)]}, against="reference").ok

    def test_a_model_without_inputs(self) -> None:
        proto = make([node("Relu", ["c"], ["y"], name="act")], [], [("y", FLOAT, [2])], {"c": np.array([-1, 2], np.float32)})
        found = check(proto, against="reference")
        assert found.ok and found.layers == {}
        assert found.comparison is not None and found.comparison.tensors == 1

    def test_a_newer_opset_is_a_warning(self, cnn, tmp_path: Path) -> None:
        proto = small_net()
        proto.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
        result = cnn(saved(tmp_path / "m.onnx", proto))
        assert result.status == 0
        assert any(line.startswith("warning: ") and "newer" in line for line in result.out)


class TestCannotRun:
    def test_every_node_with_its_reason_and_a_hint(self, cnn, tmp_path: Path) -> None:
        path = saved(tmp_path / "m.onnx", refused())
        found = check(path)
        assert found.runs is False and not found.ok and found.nodes == 6
        assert [(n.node, n.operator, n.domain, n.version) for n in found.unsupported] == [
            ("added", "QAttention", "com.microsoft", 1),
            ("sample", "GridSample", "ai.onnx", 11),
            ("odd", "Frobnicate", "ai.onnx", 11),
            ("up", "Upsample", "ai.onnx", 10),
            ("boxes", "NMS", "my.ops", 0),
        ]
        for each, part in zip(
            found.unsupported, ("QDQ", "opset_version=16", "not an operator of ONNX", "Resize", "cut the model"), strict=True
        ):
            assert part in each.hint
        result = cnn(path)
        assert (result.status, result.err) == (1, [])
        assert result.out[0] == "m.onnx: cannot run: 5 of 6 nodes are not supported"
        for each in found.unsupported:
            assert any(each.node in line and each.reason in line for line in result.out)
            assert any(line.startswith("hint: ") and line.endswith(each.hint) for line in result.out)

    def test_one_node(self, cnn, tmp_path: Path) -> None:
        proto = make([node("Frobnicate", ["x"], ["y"], name="odd")], [("x", FLOAT, [1])], [("y", FLOAT, [1])])
        result = cnn(saved(tmp_path / "m.onnx", proto))
        assert (result.status, result.out[0]) == (1, "m.onnx: cannot run: 1 of 1 nodes is not supported")

    def test_what_is_no_model(self, cnn, tmp_path: Path) -> None:
        path = tmp_path / "page.onnx"
        path.write_bytes(b"<!DOCTYPE html>")
        result = cnn(path)
        assert (result.status, result.err) == (1, [])
        assert result.out[0] == "page.onnx: cannot run"
        assert any("not an ONNX model" in line for line in result.out)
        assert any(line.startswith("hint: ") for line in result.out)

    def test_a_broken_model(self, cnn, tmp_path: Path) -> None:
        proto = make([node("Relu", ["x", "x"], ["y"], name="two")], [("x", FLOAT, [1])], [("y", FLOAT, [1])])
        result = cnn(saved(tmp_path / "m.onnx", proto))
        assert (result.status, result.err) == (1, [])
        assert any("'two'" in line for line in result.out)

    def test_shapes_of_a_file_that_contradict_each_other(self, cnn, tmp_path: Path) -> None:
        proto = make(
            [node("Conv", ["x", "w"], ["y"], name="conv")],
            [("x", FLOAT, [1, 4, 8, 8])],
            [("y", FLOAT, [1, 2, 6, 6])],
            {"w": np.ones((2, 3, 3, 3), np.float32)},
        )
        result = cnn(saved(tmp_path / "m.onnx", proto))
        assert (result.status, result.err) == (1, [])
        assert any(line.startswith("reason: ") and "'conv'" in line for line in result.out)
        assert any(line.startswith("hint: ") and "check_model" in line for line in result.out)

    def test_missing_external_data_are_no_missing_model(self, cnn, tmp_path: Path) -> None:
        onnx.save_model(small_net(), tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
        (tmp_path / "weights.bin").unlink()
        result = cnn(tmp_path / "m.onnx")
        assert (result.status, result.err) == (1, [])
        assert any("weights.bin" in line for line in result.out)

    def test_no_file(self, cnn) -> None:
        result = cnn("none.onnx")
        assert (result.status, result.out) == (2, [])
        with pytest.raises(cnnengine.ModelNotFoundError):
            check("none.onnx")


class TestHints:
    @pytest.mark.parametrize(
        ("op_type", "domain", "version", "part"),
        [
            ("GridSample", "", 11, "GridSample came with opset 16: export with opset_version=16 or later"),
            ("DeformConv", "", 18, "opset 19"),
            ("RandomNormal", "", 1, "random numbers"),
            ("MaxRoiPool", "", 1, "extract_model"),
            ("Unique", "", 10, "opset 11"),
            ("Upsample", "", 10, "Resize took its place in opset 10"),
            ("Conv", "", 11, "with this setting it does not"),
            ("EfficientNMS_TRT", "TRT", 1, "TensorRT"),
            ("EfficientNMS_TRT", "", 17, "TensorRT"),
            ("ATen", "org.pytorch.aten", 1, "dynamo=True"),
            ("SVMClassifier", "ai.onnx.ml", 1, "classical machine learning"),
            ("LabelEncoder", "ai.onnx.ml", 2, "opset 4"),
            ("Anything", "my.ops", 0, "not an operator of ONNX"),
            ("Anything", "", 17, "not an operator of ONNX"),
            ("Anything", "", OPSET + 1, "upgrade onnx if it is newer"),
            ("Crop", "", 10, "retired in opset 10: it runs in files of opset 9 and older"),
            ("GRUUnit", "", 7, "retired long ago"),
            ("QAttention", "com.microsoft", 1, "QuantFormat.QDQ"),
            ("QEmbedLayerNormalization", "com.microsoft", 1, "QuantFormat.QDQ"),
            ("MatMulInteger16", "com.microsoft", 1, "QuantFormat.QDQ"),
            ("FusedConv", "com.microsoft", 1, "with this setting it does not"),
            ("BeamSearch", "com.microsoft", 1, "before onnxruntime's optimizer"),
            ("Conv", "com.microsoft.nchwc", 1, "GraphOptimizationLevel.ORT_ENABLE_EXTENDED"),
            ("Conv", "com.ms.internal.nhwc", 1, "GraphOptimizationLevel.ORT_ENABLE_EXTENDED"),
        ],
    )
    def test_of_unsupported_nodes(self, op_type: str, domain: str, version: int, part: str) -> None:
        assert part in hints.of_unsupported(op_type, domain, version)

    def test_the_versions_that_run(self) -> None:
        assert hints.versions_that_run("GridSample", "") == [16, 20, 22]
        assert hints.versions_that_run("Frobnicate", "") == []
        assert 11 in hints.versions_that_run("Conv", "")


class TestMeasure:
    def test_relative_to_the_scale(self) -> None:
        theirs = np.array([0.0, 2.0, -4.0], np.float32)
        difference, scale, elements, size, note = measure(theirs + np.array([0.0, 0.0, 1.0], np.float32), theirs, 1e-3)
        assert (difference, scale, elements, size, note) == (0.25, 4.0, 1, 3, "")

    def test_equal_tensors_of_every_kind(self) -> None:
        texts = np.array(["a", "b"], object)
        huge = np.array([2**62 + 1], np.int64)
        odd = np.array([np.nan, np.inf, -np.inf, 1.0])
        for value in (texts, huge, odd, np.zeros(3), np.zeros((0, 4), np.float32), np.array(True), [huge, odd], [], None):
            difference, _, elements, _, note = measure(value, value, 0.0)
            assert (difference, elements, note) == (0.0, 0, "")

    @pytest.mark.parametrize(
        ("ours", "theirs", "note"),
        [
            (np.zeros(2), np.zeros(3), "shapes differ"),
            (np.zeros(2), np.zeros(2, np.int64), "element types differ"),
            (np.array([np.nan, 1]), np.array([0.0, 1]), "NaN or infinite"),
            (np.array([np.inf, 1]), np.array([-np.inf, 1]), "NaN or infinite"),
            (np.array(["a"], object), np.array(["b"], object), "texts differ"),
            (None, np.zeros(2), "ours is None"),
            ([np.zeros(2)], [], "sequence of 1"),
            ([np.zeros(2)], [np.zeros(3)], "shapes differ"),
        ],
    )
    def test_what_no_number_says(self, ours: Any, theirs: Any, note: str) -> None:
        difference, *_, said = measure(ours, theirs, 1e9)
        assert difference is None
        assert note in said

    def test_zeros_of_theirs_do_not_hide_ours(self) -> None:
        difference, scale, *_ = measure(np.array([1e-9]), np.array([0.0]), 1e-3)
        assert (difference, scale) == (1.0, 1e-9)

    def test_booleans_and_integers(self) -> None:
        assert measure(np.array([True, False]), np.array([True, True]), 1e-3)[:3] == (1.0, 1.0, 1)
        assert measure(np.array([4, 9]), np.array([4, 8]), 1e-3)[:3] == (0.125, 8.0, 1)


class TestAgainst:
    def test_agreement(self) -> None:
        peer = Fake()
        found = check(small_net(), against=peer).comparison
        assert found is not None and found.agrees
        assert (found.peer, found.tensors, found.first, found.differing) == ("fake", 5, None, ())
        assert peer.asked == ["c", "r", "s", "t", "y"]
        assert found.largest is not None and found.largest.difference is not None and found.largest.difference < 1e-5
        assert [d.tensor for d in found.outputs] == ["y"]

    def test_the_first_node_that_differs(self) -> None:
        found = check(small_net(), against=Fake(s=1.5))
        assert found.runs and not found.ok
        assert found.comparison is not None and found.comparison.first is not None
        first = found.comparison.first
        assert (first.node, first.operator, first.tensor, first.cause) == ("sigmoid", "Sigmoid", "s", "node")
        assert first.difference == pytest.approx(1 / 3, rel=1e-4)
        assert [(d.node, d.cause) for d in found.comparison.differing] == [
            ("sigmoid", "node"),
            ("sum", "inputs"),
            ("pool", "inputs"),
        ]
        assert [d.differs for d in found.comparison.outputs] == [True]

    def test_the_tolerance(self) -> None:
        assert check(small_net(), against=Fake(s=1.01)).ok is False
        assert check(small_net(), against=Fake(s=1.01), tolerance=0.02).ok is True

    def test_two_faults_are_told_apart_from_what_follows(self) -> None:
        found = check(small_net(), against=Fake(r=1.5, y=2.0)).comparison
        assert found is not None
        assert [(d.node, d.cause) for d in found.differing] == [("relu", "node"), ("sum", "inputs"), ("pool", "inputs")]

    def test_rounding_that_decides(self) -> None:
        """Scores equal but for rounding: the second engine has them the other way round, and the node is not at fault."""
        nodes = [node("Mul", ["x", "w"], ["s"], name="scores"), node("TopK", ["s", "k"], ["v", "i"], name="best")]
        weights = {"w": np.zeros(4, np.float32), "k": np.array([2])}
        proto = make(nodes, [("x", FLOAT, [4])], [("v", FLOAT, [2]), ("i", INT64, [2])], weights)
        graph = cnnengine.importer.import_model(proto)
        a = np.array([1.0, 3.0, 3.000001, 2.0], np.float32)
        b = np.array([1.0, 3.000001, 3.0, 2.0], np.float32)
        feeds = {"x": np.ones(4, np.float32)}
        ours = {"s": a, "v": np.sort(a)[:1:-1], "i": np.array([2, 1])}
        theirs = {"s": b, "v": np.sort(b)[:1:-1], "i": np.array([1, 2])}
        empty = Comparison("fake", "1", 1e-3)
        found = judge(graph, set(ours), feeds, ours, theirs, {}, empty)
        assert [(d.tensor, d.cause) for d in found.differing] == [("i", "rounding")]
        assert not found.agrees
        wrong = {**ours, "i": np.array([2, 0])}  # not what the node gives on ours
        assert [d.cause for d in judge(graph, set(ours), feeds, wrong, theirs, {}, empty).differing] == ["node"]
        wrong = {**theirs, "i": np.array([1, 0])}
        assert [d.cause for d in judge(graph, set(ours), feeds, ours, wrong, {}, empty).differing] == ["node"]

    def test_a_fault_of_a_kernel_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from cnnengine.ops.activation import LeakyRelu

        # max(x, 0) becomes max(x, 0.01 x): wrong for negative numbers alone
        monkeypatch.setattr(Relu, "lower", lambda self, ctx: LeakyRelu(0.01).lower(ctx))
        found = check(small_net(), against="reference").comparison
        assert found is not None and found.first is not None
        assert found.first.node == "relu"

    def test_a_fault_of_a_rewrite(self) -> None:
        proto = small_net()
        with cnnengine.load(proto) as model:
            x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
            values = {"c": np.ones(2, np.float32), "y": model(x)}
            graph = model._graph
            fused = {"y": values["y"] + 1}
        full = cnnengine.importer.import_model(proto)
        assert graph is not None
        found = judge(full, {"c", "y"}, {}, values, values, fused, Comparison("fake", "1", 1e-3))
        assert found.differing == () and not found.agrees
        assert found.outputs[0].cause == "rewrite"

    def test_a_peer_that_fails(self, cnn, monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken(Fake):
            def run(self, proto: onnx.ModelProto, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
                raise RuntimeError("NOT_IMPLEMENTED : no such kernel\nat 0x0")

        found = check(small_net(), against=Broken())
        assert found.runs and not found.ok
        assert found.comparison is not None
        assert found.comparison.error == "fake cannot run it: RuntimeError: NOT_IMPLEMENTED : no such kernel"
        monkeypatch.setitem(against.PEERS, "reference", Broken)
        result = cnn(MODEL, "--against", "reference")
        assert (result.status, result.err) == (1, [])
        assert any("no such kernel" in line for line in result.out)

    def test_host_nodes_sequences_and_texts(self) -> None:
        nodes = [
            node("Relu", ["x"], ["r"], name="relu"),
            node("SplitToSequence", ["r"], ["q"], name="split", axis=0),
            node("SequenceAt", ["q", "one"], ["a"], name="second"),
            node("Unique", ["a"], ["y"], name="distinct"),
        ]
        proto = make(nodes, [("x", FLOAT, [3, 4])], [("y", FLOAT, ["k"])], {"one": np.int64(1)})
        found = check(proto, against="reference")
        assert found.ok
        assert found.comparison is not None and found.comparison.tensors == 4

    def test_values_inside_of_functions_are_left_out(self) -> None:
        body = [node("Relu", ["a"], ["b"]), node("Neg", ["b"], ["c"])]
        function = helper.make_function("my.ops", "Both", ["a"], ["c"], body, [helper.make_opsetid("", 18)])
        proto = make(
            [node("Both", ["x"], ["m"], name="call", domain="my.ops"), node("Exp", ["m"], ["y"], name="exp")],
            [("x", FLOAT, [2, 3])],
            [("y", FLOAT, [2, 3])],
            opsets={"": 18, "my.ops": 1},
        )
        proto.functions.append(function)
        found = check(proto, against="reference")
        assert found.ok
        assert found.comparison is not None
        assert (found.comparison.tensors, len(found.comparison.left_out)) == (2, 1)

    def test_onnxruntime(self, tmp_path: Path, cnn) -> None:
        pytest.importorskip("onnxruntime")
        for proto in (small_net(), partly_compiled()):
            result = cnn(saved(tmp_path / "m.onnx", proto), "--against", "onnxruntime")
            assert result.status == 0
            assert any("5 tensors compared, 0 beyond 0.001" in line for line in result.out)

    def test_an_engine_that_is_not_installed(self, cnn, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        result = cnn(MODEL, "--against", "onnxruntime")
        assert (result.status, result.out) == (2, [])
        (line,) = result.err
        assert "onnxruntime is not installed" in line and line.endswith(": pip install onnxruntime")

    def test_wrong_arguments(self) -> None:
        with pytest.raises(cnnengine.InputError, match="shapes"):
            check(MODEL, {"image": (1, 1, 32, 32)}, feeds={"image": np.zeros((1, 1, 32, 32), np.float32)})
        with pytest.raises(cnnengine.InputError, match="picture"):
            check(MODEL, feeds={"picture": np.zeros((1, 1, 32, 32), np.float32)})
        with pytest.raises(cnnengine.InputError, match="tensorrt"):
            check(MODEL, against="tensorrt")
        with pytest.raises(cnnengine.InputError, match="tolerance"):
            check(MODEL, tolerance=-1)
        for steps in (-1, 0.5, True):
            with pytest.raises(cnnengine.InputError, match="steps"):
                check(MODEL, steps=steps)


def quantised_net() -> onnx.ModelProto:
    """x, quantised; a convolution with weights per channel and a Relu, quantised; pooled; the best of its numbers."""
    rng = np.random.default_rng(4)
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], name="q1"),
        node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"], name="dq1"),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="dqw", axis=0),
        node("Conv", ["xd", "wd"], ["c"], name="conv"),
        node("Relu", ["c"], ["r"], name="relu"),
        node("QuantizeLinear", ["r", "rs", "rz"], ["rq"], name="q2"),
        node("DequantizeLinear", ["rq", "rs", "rz"], ["rd"], name="dq2"),
        node("MaxPool", ["rd"], ["p"], name="pool", kernel_shape=[2, 2]),
        node("Reshape", ["p", "flat"], ["f"], name="flat"),
        node("Sigmoid", ["f"], ["s"], name="sigmoid"),
        node("TopK", ["s", "k"], ["v", "i"], name="best"),
    ]
    weights = {
        "w": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "ws": np.array([0.001, 0.002, 0.004, 0.008], np.float32),
        "wz": np.zeros(4, np.int8),
        "xs": np.float32(0.05),
        "xz": np.uint8(128),
        "rs": np.float32(0.04),
        "rz": np.uint8(0),
        "flat": np.array([1, -1]),
        "k": np.array([8]),
    }
    outputs = [("v", FLOAT, [1, 8]), ("i", INT64, [1, 8])]
    return make(nodes, [("x", FLOAT, [1, 3, 5, 5])], outputs, weights, {"": 21})


def run_all(proto: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    """Every tensor that a node makes, by the references."""
    graph = cnnengine.importer.import_model(proto)
    names = [name for each in graph.nodes for name in each.outputs if name]
    return dict(zip(names, graph.evaluate(feeds, names), strict=True))


class TestSteps:
    X: ClassVar[np.ndarray] = np.random.default_rng(6).standard_normal((1, 3, 5, 5)).astype(np.float32)

    def judged(self, ours: dict[str, Any], theirs: dict[str, Any], steps: int = 1) -> Comparison:
        graph = cnnengine.importer.import_model(quantised_net())
        return judge(graph, set(ours), {"x": self.X}, ours, theirs, {}, Comparison("fake", "1", 1e-3, steps=steps))

    def after(self, quantised: np.ndarray) -> dict[str, Any]:
        """All tensors, of an engine that quantised x so."""
        proto = quantised_net()
        values = run_all(proto, {"x": self.X})
        del proto.graph.node[0]
        proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("xq", TensorProto.UINT8, [1, 3, 5, 5]))
        return {**values, **run_all(proto, {"xq": quantised}), "xq": quantised}

    def middle(self, values: dict[str, Any]) -> int:
        """A number of rq that is not at the end of its range."""
        return int(np.flatnonzero((values["rq"] > 20) & (values["rq"] < 230))[0])

    def test_which_tensors_and_how_large(self) -> None:
        graph = cnnengine.importer.import_model(quantised_net())
        steps = Steps(graph, {**graph.constants, "x": self.X, **run_all(quantised_net(), {"x": self.X})})
        found = {name: steps.largest(name) for name in ("x", "xq", "xd", "w", "wd", "c", "r", "rq", "rd", "p", "f")}
        small, large = pytest.approx(0.04), pytest.approx(0.05)
        assert found == {
            "x": large,
            "xq": None,
            "xd": large,
            "w": None,
            "wd": pytest.approx(0.008),
            "c": small,
            "r": small,
            "rq": None,
            "rd": small,
            "p": small,
            "f": small,
        }
        assert not any(name in steps for name in ("s", "v", "i", "flat", "k", "ws"))
        wd = steps.count("wd", np.zeros((4, 3, 3, 3), np.float32), np.full((4, 3, 3, 3), 0.008, np.float32))
        assert wd is not None and wd[:, 0, 0, 0] == pytest.approx([8, 4, 2, 1])

    def test_what_is_no_quantised_number(self) -> None:
        """Masks, indices, sums of 32 bits, and what several scales meet in."""
        nodes = [
            node("Greater", ["x", "xs"], ["g"], name="greater"),
            node("Cast", ["g"], ["mask"], name="cast", to=TensorProto.UINT8),
            node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], name="q1"),
            node("MaxPool", ["xq"], ["p", "where"], name="pool", kernel_shape=[2, 2]),
            node("ConvInteger", ["xq", "w", "xz"], ["sum"], name="conv"),
            node("DequantizeLinear", ["sum", "small"], ["y"], name="dq"),
            node("DequantizeLinear", ["xq", "xs", "xz"], ["a"], name="dqa"),
            node("DequantizeLinear", ["xq", "small", "xz"], ["b"], name="dqb"),
            node("Concat", ["a", "b"], ["ab"], name="both", axis=1),
            node("Concat", ["a", "a"], ["aa"], name="twice", axis=1),
            node("Concat", ["xq", "xq"], ["qq"], name="whole", axis=1),
            node("Concat", ["a", "x"], ["ax"], name="mixed", axis=1),
        ]
        weights = {
            "xs": np.float32(0.02),
            "xz": np.uint8(128),
            "small": np.float32(0.001),
            "w": np.ones((2, 3, 3, 3), np.uint8),
        }
        names = ["mask", "p", "where", "sum", "y", "ab", "aa", "qq", "ax"]
        proto = make(nodes, [("x", FLOAT, [1, 3, 5, 5])], [(name, FLOAT, None) for name in names], weights)
        graph = cnnengine.importer.import_model(proto)
        steps = Steps(graph, {**graph.constants, "x": self.X, **run_all(proto, {"x": self.X})})
        assert [name for name in names if name in steps] == ["p", "aa", "qq"]
        assert (steps.largest("p"), steps.largest("qq"), steps.largest("aa")) == (None, None, pytest.approx(0.02))

    def test_a_step_is_none_and_two_are(self) -> None:
        ours = self.after(run_all(quantised_net(), {"x": self.X})["xq"])
        for more, differs in ((1, False), (2, True)):
            theirs = {**ours, "rq": ours["rq"].copy()}
            theirs["rq"].flat[self.middle(ours)] += more
            theirs["rd"] = theirs["rq"] * np.float32(0.04)
            found = self.judged({k: ours[k] for k in ("xq", "xd", "r", "rq", "rd")}, theirs)
            assert [d.tensor for d in found.differing] == (["rq", "rd"] if differs else [])
            assert [d.cause for d in found.differing] == (["node", "inputs"] if differs else [])
            assert found.agrees is not differs
            if differs and found.first is not None:
                assert (found.first.steps, found.first.step, found.first.elements) == (2, None, 1)
                assert found.differing[1].steps == pytest.approx(2, abs=1e-3)
                assert self.judged({k: ours[k] for k in ("xq", "xd", "r", "rq", "rd")}, theirs, steps=2).agrees

    def test_roundings_that_grow_are_no_difference(self) -> None:
        """The input is rounded the other way: more steps later on, each node right by itself."""
        mine = run_all(quantised_net(), {"x": self.X})["xq"]
        ours, theirs = self.after(mine), self.after(mine + np.uint8(1))
        del ours["v"], ours["i"]
        assert np.abs(ours["rq"].astype(int) - theirs["rq"]).max() > 1
        found = self.judged(ours, theirs)
        assert found.agrees and found.carried >= 3
        wrong = {**theirs, "rq": theirs["rq"].copy()}
        wrong["rq"].flat[self.middle(wrong)] += 2  # not what its node makes of its inputs
        found = self.judged(ours, wrong)
        assert not found.agrees and found.first is not None
        assert (found.first.tensor, found.first.cause) == ("rq", "node")

    def test_an_index_that_roundings_change_is_still_told(self) -> None:
        mine = run_all(quantised_net(), {"x": self.X})["xq"]
        ours = self.after(mine)
        rng, theirs = np.random.default_rng(8), ours
        while np.array_equal(ours["i"], theirs["i"]):  # until roundings change the order
            theirs = self.after((mine + rng.integers(-1, 2, mine.shape)).astype(np.uint8))
        found = self.judged(ours, theirs)
        assert [(d.tensor, d.cause) for d in found.differing] == [("i", "rounding")]

    @pytest.mark.parametrize(
        ("apart", "agrees"), [([0, 0, 0, 4], True), ([0, 0, 0, 5], False), ([1, 1, 1, -1], True), ([2, 2, 2, -2], False)]
    )
    @pytest.mark.parametrize("scaled", [True, False])
    def test_fused_outputs_may_drift(self, apart: list[int], agrees: bool, scaled: bool) -> None:
        """In few elements by some steps, in all by one; without a scale a step is a 255th of the largest number."""
        nodes = [
            node("QuantizeLinear", ["x", "xs"], ["q"], name="q"),
            node("DequantizeLinear", ["q", "xs"], ["d"], name="dq"),
            node("Neg", ["d"], ["y"], name="neg"),
        ]
        proto = make(nodes, [("x", FLOAT, [64])], [("d", FLOAT, [64]), ("y", FLOAT, [64])], {"xs": np.float32(0.5)})
        feeds = {"x": np.linspace(0, 127.5, 64, dtype=np.float32)}
        values = run_all(proto, feeds)
        off = np.float32(0.5) * np.array([*apart, *([apart[0]] * 60)], np.float32)
        name = "d" if scaled else "y"
        graph = cnnengine.importer.import_model(proto)
        for steps, agreed in ((1, agrees), (0, False), (2, True)):
            empty = Comparison("fake", "1", 1e-3, steps=steps)
            found = judge(graph, set(values), feeds, values, values, {name: values[name] + off}, empty)
            assert found.agrees is agreed
            assert [d.cause for d in found.outputs] == [""] if agreed else ["rewrite"]

    def test_float_outputs_that_no_quantised_tensor_is_before_may_not(self) -> None:
        nodes = [
            node("QuantizeLinear", ["x", "xs"], ["q"], name="q"),
            node("DequantizeLinear", ["q", "xs"], ["d"], name="dq"),
            node("Neg", ["x"], ["y"], name="neg"),
        ]
        proto = make(nodes, [("x", FLOAT, [2])], [("d", FLOAT, [2]), ("y", FLOAT, [2])], {"xs": np.float32(0.5)})
        feeds = {"x": np.array([1, 255], np.float32)}
        values = run_all(proto, feeds)
        graph = cnnengine.importer.import_model(proto)
        fused = {"y": values["y"] + np.array([0, 0.5], np.float32)}
        assert not judge(graph, set(values), feeds, values, values, fused, Comparison("fake", "1", 1e-3)).agrees
        nodes = [node("DequantizeLinear", ["w", "xs"], ["d"], name="dq"), node("Mul", ["x", "d"], ["y"], name="mul")]
        weights = {"w": np.array([2, 3], np.int8), "xs": np.float32(0.5)}  # weights alone are quantised
        proto = make(nodes, [("x", FLOAT, [2])], [("y", FLOAT, [2])], weights)
        values = run_all(proto, feeds)
        graph = cnnengine.importer.import_model(proto)
        fused = {"y": values["y"] + np.array([0, 1], np.float32)}
        assert not judge(graph, set(values), feeds, values, values, fused, Comparison("fake", "1", 1e-3)).agrees

    def test_what_has_no_name_in_the_file_is_computed(self) -> None:
        """An operator that is several of ours: its inner tensors are known to nobody."""
        nodes = [
            node("DequantizeLinear", ["xq", "xs"], ["a"], name="dq"),
            node("Mul", ["a", "five"], ["b"], name="mul"),
            node("QuantizeLinear", ["b", "xs"], ["yq"], name="q"),
        ]
        weights = {"xs": np.float32(0.5), "five": np.float32(5)}
        proto = make(nodes, [("xq", TensorProto.UINT8, [3])], [("yq", TensorProto.UINT8, [3])], weights)
        graph = cnnengine.importer.import_model(proto)
        ours, theirs = np.array([3, 4, 5], np.uint8), np.array([4, 4, 5], np.uint8)
        mine, other = run_all(proto, {"xq": ours})["yq"], run_all(proto, {"xq": theirs})["yq"]
        assert (mine.tolist(), other.tolist()) == ([15, 20, 25], [20, 20, 25])
        first = node("Identity", ["in"], ["xq"], name="given")
        proto.graph.node.insert(0, first)
        proto.graph.input[0].name = "in"
        graph = cnnengine.importer.import_model(proto)
        both = ({"xq": ours, "yq": mine}, {"xq": theirs, "yq": other})
        found = judge(graph, {"xq", "yq"}, {"in": ours}, *both, {}, Comparison("fake", "1", 1e-3))
        assert (found.agrees, found.carried) == (True, 1)
        both[1]["yq"] = other + np.array([0, 2, 0], np.uint8)
        found = judge(graph, {"xq", "yq"}, {"in": ours}, *both, {}, Comparison("fake", "1", 1e-3))
        assert [(d.tensor, d.cause) for d in found.differing] == [("yq", "node")]

    def test_nan_beside_a_scale(self) -> None:
        ours = self.after(run_all(quantised_net(), {"x": self.X})["xq"])
        theirs = {**ours, "r": ours["r"].copy()}
        theirs["r"].flat[0] = np.nan
        (found,) = self.judged({"r": ours["r"]}, theirs).differing
        assert (found.tensor, found.steps) == ("r", None)
        assert "NaN" in found.note

    def test_in_words(self, cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = saved(tmp_path / "m.onnx", quantised_net())
        monkeypatch.setitem(against.PEERS, "reference", Fake)
        result = cnn(path, "--against", "reference")
        assert result.status == 0
        assert "against fake 1: 12 tensors compared, 9 of them in steps, 0 beyond 0.001 or 1 step" in result.out
        monkeypatch.setitem(against.PEERS, "reference", lambda: Fake(rd=1.5))
        result = cnn(path, "--against", "reference", "--steps", 2)
        assert result.status == 1
        assert any(
            "first node that differs: dq2 (DequantizeLinear), tensor rd: " in line and " steps of 0.04" in line
            for line in result.out
        )

    def test_onnxruntime(self, cnn, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime")
        result = cnn(saved(tmp_path / "m.onnx", quantised_net()), "--against", "onnxruntime")
        assert result.status == 0
        assert any("12 tensors compared, 9 of them in steps, 0 beyond" in line for line in result.out)


class TestCommand:
    def test_many_host_nodes_are_listed_by_operator(self, cnn, tmp_path: Path) -> None:
        nodes = [node("Binarizer", ["x"], [f"d{i}"], name=f"steps{i}", domain="ai.onnx.ml") for i in range(25)]
        outputs = [(f"d{i}", FLOAT, [2, 3, 3]) for i in range(25)]
        # each of its own input, or they would be one
        nodes = [node("Mul", ["x", f"c{i}"], [f"x{i}"]) for i in range(25)] + nodes
        for i in range(25):
            nodes[25 + i].input[0] = f"x{i}"
        weights = {f"c{i}": np.float32(i) for i in range(25)}
        path = saved(tmp_path / "m.onnx", make(nodes, [("x", FLOAT, [2, 3, 3])], outputs, weights, {"": 18, "ai.onnx.ml": 1}))
        result = cnn(path)
        assert result.status == 0
        (line,) = (line for line in result.out if "Binarizer-1" in line)
        assert line.split()[:3] == ["Binarizer-1", "25", "fallback"]
        assert "  (25 nodes; --json has each)" in result.out
        assert len(json.loads(cnn(path, "--json").out[0])["host_nodes"]) == 25

    def test_what_is_printed_of_a_difference(self, cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(against.PEERS, "reference", lambda: Fake(s=1.5))
        result = cnn(saved(tmp_path / "m.onnx", small_net()), "--against", "reference")
        assert (result.status, result.err) == (1, [])
        text = "\n".join(result.out)
        assert "against fake 1: 5 tensors compared, 3 beyond 0.001" in text
        assert "first node that differs: sigmoid (Sigmoid), tensor s: 3.33e-01 of its scale" in text
        assert "DIFFERS" in text

    def test_json_of_a_model_that_runs(self, cnn, tmp_path: Path) -> None:
        path = saved(tmp_path / "m.onnx", partly_compiled())
        (line,) = cnn(path, "--json", "--against", "reference").out
        data = json.loads(line)
        assert set(data) == {
            *("model", "isa", "threads", "runs", "error", "hint", "nodes", "unsupported", "shapes", "layers", "milliseconds"),
            *("host_nodes", "warnings", "comparison", "declined", "precision", "errors", "host_milliseconds", "ok"),
        }
        assert (data["model"], data["runs"], data["ok"], data["error"]) == ("m.onnx", True, True, None)
        assert data["shapes"] == {"x": [1, 4, 4]}
        assert set(data["host_nodes"][0]) == {
            *("node", "operator", "domain", "version", "runs", "milliseconds", "share", "reason", "hint"),
        }
        assert set(data["comparison"]) == {
            *("peer", "version", "tolerance", "tensors", "left_out", "first", "largest", "differing", "outputs", "error"),
            *("agrees", "steps", "in_steps", "carried"),
        }
        assert data["comparison"]["agrees"] is True
        assert set(data["comparison"]["largest"]) == {
            *("tensor", "node", "operator", "difference", "scale", "elements", "size", "differs", "cause", "note"),
            *("steps", "step"),
        }

    def test_json_of_one_that_does_not(self, cnn, tmp_path: Path) -> None:
        result = cnn(saved(tmp_path / "m.onnx", refused()), "--json")
        assert result.status == 1
        data = json.loads(result.out[0])
        assert (data["runs"], data["ok"], data["milliseconds"], data["comparison"]) == (False, False, None, None)
        assert len(data["unsupported"]) == 5
        assert set(data["unsupported"][0]) == {"node", "operator", "domain", "version", "reason", "hint"}

    def test_json_of_one_that_was_not_run(self, cnn) -> None:
        result = cnn(SPP, "--json")
        assert result.status == 2
        data = json.loads(result.out[0])
        assert (data["runs"], data["layers"], data["shapes"]) == (None, {"unknown": 7}, None)

    def test_json_holds_no_infinities(self, cnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(against.PEERS, "reference", lambda: Fake(s=np.inf))
        result = cnn(saved(tmp_path / "m.onnx", small_net()), "--json", "--against", "reference")
        assert result.status == 1
        first = json.loads(result.out[0])["comparison"]["first"]
        assert (first["node"], first["difference"]) == ("sigmoid", None)
        assert "infinite" in first["note"]

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["none.onnx"],
            [MODEL, "--input", "none.npy"],
            [MODEL, "--input", MODEL],
            [MODEL, "--input", str(ROOT / "models" / "samples" / "expected.npz"), "--shape", "1,1,32,32"],
            [MODEL, "--against", "tensorrt"],
            [MODEL, "--tolerance", "-1"],
            [MODEL, "--tolerance", "nan"],
            [MODEL, "--steps", "-1"],
            [MODEL, "--steps", "0.5"],
            [MODEL, "--threads", "0"],
            [MODEL, "--shape", "image=1,one,32,32"],
            [MODEL, "--shape", "picture=1,1,32,32"],
            [MODEL, "--shape", "image=1,1,31,32"],
            [MODEL, "--shape", "1,1,32,32", "--shape", "1,1,32,32"],
        ],
    )
    def test_wrong_usage_is_one_line_and_status_2(self, cnn, arguments: list[str]) -> None:
        result = cnn(*arguments)
        assert (result.status, result.out) == (2, [])
        assert len(result.err) == 1
        assert result.err[0].startswith("cnnengine: ")


# ---------------------------------------------------------------- what was not fused


def nearly() -> onnx.ModelProto:
    """A Pad of ones before a convolution, and a scale behind it that is not the only reader."""
    rng = np.random.default_rng(5)
    nodes = [
        node("Pad", ["x", "widths", "one"], ["p"], name="pad"),
        node("Conv", ["p", "w"], ["c"], name="conv"),
        node("Mul", ["c", "s"], ["m"], name="scale"),
        node("Sigmoid", ["c"], ["g"], name="gate"),
        node("Sub", ["m", "g"], ["y"], name="difference"),
    ]
    weights = {
        "widths": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "one": np.float32(1),
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "s": rng.standard_normal((4, 1, 1)).astype(np.float32),
    }
    return make(nodes, [("x", FLOAT, (1, 3, 8, 8))], [("y", FLOAT, None)], weights)


EXPECTED = {
    ("conv", "Conv", "fuse_pad"): "the Pad is not of zeros",
    ("scale", "Mul", "fold_scale"): "c is read by others too",
    ("gate", "Sigmoid", "merge_activation"): "c is read by others too",
}


def test_why_nodes_were_left() -> None:
    found = check(nearly(), why=True)
    assert found.ok
    assert {(d.node, d.operator, d.rewrite): d.reason for d in found.declined} == EXPECTED
    assert not check(nearly()).declined


def test_why_is_printed(cnn: Any, tmp_path: Path) -> None:
    path = tmp_path / "nearly.onnx"
    onnx.save(nearly(), path)
    found = cnn(path, "--why")
    assert found.status == 0
    at = found.out.index("rewrites that nearly fit: 3")
    assert found.out[at + 1].split() == ["node", "operator", "rewrite", "left", "because"]
    assert sorted(line.split(maxsplit=3)[:3] for line in found.out[at + 2 :]) == sorted(list(key) for key in EXPECTED)
    assert not any("nearly fit" in line for line in cnn(path).out)
    assert cnn(MODEL, "--why").out[-1] == "no rewrite nearly fits"
    data = json.loads(cnn(path, "--why", "--json").out[0])
    assert {(d["node"], d["operator"], d["rewrite"]): d["reason"] for d in data["declined"]} == EXPECTED


def test_many_reasons_are_counted(cnn: Any, tmp_path: Path) -> None:
    """A line for each reason where there are more nodes than are listed."""
    widths, one = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), np.float32(1)
    w = np.full((3, 3, 3, 3), 0.1, np.float32)
    nodes = []
    for i in range(25):
        nodes += [
            node("Pad", [f"x{i}", "widths", "one"], [f"p{i}"]),
            node("Conv", [f"p{i}", "w"], [f"x{i + 1}"], name=f"conv{i}"),
        ]
    path = tmp_path / "many.onnx"
    weights = {"widths": widths, "one": one, "w": w}
    onnx.save(make(nodes, [("x0", FLOAT, (1, 3, 4, 4))], [("x25", FLOAT, None)], weights), path)
    out = cnn(path, "--why").out
    at = out.index("rewrites that nearly fit: 25")
    assert out[at + 2].split(maxsplit=3) == ["fuse_pad", "Conv", "25", "the Pad is not of zeros"]
    assert out[at + 3].strip() == "(25 nodes; --json has each)"
