"""Reports: a summary's numbers against counts by hand, a profile's against its plan and simple arithmetic."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zoo_support
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.report import Profile, StepProfile, profile, summarize
from cnnengine.report.plots import _apart
from cnnengine.report.profile import _Step, bandwidth_at, copy_bandwidth, disturbances, fma_peak
from cnnengine.report.steps import by_layer

ROOT = Path(__file__).resolve().parents[2]
LENET = ROOT / "models" / "digits_lenet.onnx"
SPP = ROOT / "models" / "digits_spp.onnx"


def one_node(
    op_type: str, x: list, y: list, weights: dict | None = None, opset: int = 18, **attributes: object
) -> cnnengine.Model:
    """x -> a node with these constants -> y."""
    constants = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in (weights or {}).items()]
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x", *(weights or {})], ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        constants,
    )
    return cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


class TestSummary:
    def test_a_lenet_counted_by_hand(self) -> None:
        with cnnengine.load(LENET) as model:
            summary = summarize(model)
        assert summary.shapes == {"image": (1, 1, 32, 32)}
        conv1, conv2, conv3 = (layer for layer in summary.layers if layer.operator == "Conv")
        fc1, fc2 = (layer for layer in summary.layers if layer.operator == "Gemm")
        assert conv1.outputs == (((1, 6, 28, 28), "float32"),)
        assert [n.macs for n in (conv1, conv2, conv3, fc1, fc2)] == [28 * 28 * 6 * 25, 100 * 16 * 150, 120 * 400, 120 * 84, 840]
        assert [n.parameters for n in (conv1, conv2, conv3, fc1, fc2)] == [156, 2416, 48120, 10164, 850]
        assert (summary.parameters, summary.macs) == (61_706, 416_520)
        assert conv1.fused == ("relu",)
        assert fc2.fused == ()
        assert any(kernel.startswith("conv") for kernel in conv1.kernels)
        assert {layer.runs for layer in summary.layers} <= {"kernel", "free"}
        assert summary.arena_bytes is not None and summary.arena_bytes >= 4 * 6 * 28 * 28
        assert summary.weight_bytes is not None and summary.weight_bytes >= 4 * 61_706

    def test_a_batch(self) -> None:
        with cnnengine.load(LENET) as model:
            summary = summarize(model, {"image": (3, 1, 32, 32)})
        assert summary.macs == 3 * 416_520
        assert summary.layers[-1].outputs == (((3, 10), "float32"),)

    @pytest.mark.parametrize(("name", "macs"), [("resnet18.dy", 1_814_073_344), ("mobilenet_v2.ts", 300_774_272)])
    def test_networks_whose_figures_are_known(self, name: str, macs: int) -> None:
        with cnnengine.load(zoo_support.model_proto(name), threads=1) as model:
            summary = summarize(model)
        assert summary.macs == macs
        assert summary.count("host") == summary.count("fallback") == 0
        assert sum("add" in layer.fused for layer in summary.layers) == {"resnet18.dy": 8, "mobilenet_v2.ts": 10}[name]

    def test_multiply_adds_of_other_operators(self) -> None:
        transposed = one_node("ConvTranspose", [2, 6, 5, 5], [2, 8, 10, 10], {"w": (6, 4, 2, 2)}, strides=[2, 2], group=2)
        grouped = one_node("Conv", [1, 8, 9], [1, 4, 7], {"w": (4, 2, 3)}, group=4)
        product = one_node("MatMul", [2, 3, 4], [2, 3, 5], {"b": (4, 5)})
        turned = one_node("Gemm", [7, 3], [3, 5], {"b": (7, 5)}, transA=1)
        pooled = one_node("MaxPool", [1, 2, 8, 8], [1, 2, 4, 4], kernel_shape=[2, 2], strides=[2, 2])
        expected = [2 * 6 * 25 * 4 * 4, 4 * 7 * 2 * 3, 2 * 3 * 5 * 4, 3 * 5 * 7, 0]
        assert [summarize(model).macs for model in (transposed, grouped, product, turned, pooled)] == expected

    def test_a_dynamic_size_leaves_shapes_open(self) -> None:
        with cnnengine.load(SPP) as model:
            summary = summarize(model)
            known = summarize(model, {"image": (1, 1, 16, 24)})
        assert (summary.shapes, summary.macs, summary.arena_bytes) == (None, None, None)
        assert {layer.runs for layer in summary.layers} == {"unknown"}
        assert summary.parameters == known.parameters == 83_898
        assert known.macs == 384 * 16 * 9 + 384 * 32 * 144 + 96 * 48 * 288 + 1008 * 64 + 640

    def test_wrong_shapes(self) -> None:
        with cnnengine.load(SPP) as model:
            with pytest.raises(cnnengine.InputError, match="picture"):
                summarize(model, {"picture": (1, 1, 8, 8)})
            with pytest.raises(cnnengine.ShapeError):
                summarize(model, {"image": (1, 3, 8, 8)})
            with pytest.raises(cnnengine.ShapeError):
                summarize(model, {"image": (1, 1, -8, 8)})

    def test_layers_that_are_not_compiled_are_marked(self) -> None:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 3])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3, 3])
        nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Binarizer", ["r"], ["y"], domain="ai.onnx.ml")]
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
        model = cnnengine.load(helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=imports, ir_version=8))
        relu, steps = summarize(model).layers
        assert (relu.runs, steps.runs, steps.operator) == ("kernel", "fallback", "Binarizer")

    def test_shapes_that_depend_on_data(self) -> None:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])
        y = helper.make_tensor_value_info("y", TensorProto.INT64, ["r", "n"])
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("NonZero", ["r"], ["i"]),
            helper.make_node("Transpose", ["i"], ["t"]),
            helper.make_node("Identity", ["t"], ["y"]),
        ]
        model = cnnengine.load(
            helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        )
        layers = {layer.operator: layer for layer in summarize(model).layers}
        assert layers["NonZero"].outputs == (None,)
        assert layers["NonZero"].runs == "host"
        ((shape, dtype),) = layers["Transpose"].outputs  # type: ignore[misc]
        assert (shape[1], dtype) == (2, "int64")

    def test_plain_data(self) -> None:
        with cnnengine.load(LENET) as model:
            data = json.loads(json.dumps(summarize(model).as_dict(), allow_nan=False))
        assert data["layers"][0]["outputs"] == [{"name": "/Relu_output_0", "shape": [1, 6, 28, 28], "dtype": "float32"}]
        assert data["macs"] == 416_520

    def test_a_closed_model(self) -> None:
        model = cnnengine.load(LENET)
        model.close()
        with pytest.raises(cnnengine.ClosedError):
            summarize(model)
        with pytest.raises(cnnengine.ClosedError):
            profile(model)


@pytest.fixture(scope="module")
def report() -> Profile:
    with cnnengine.load(LENET, threads=1) as model:
        return profile(model, seconds=0.05)


class TestProfile:
    def test_every_step_of_the_plan_once_and_in_order(self, report: Profile) -> None:
        with cnnengine.load(LENET, threads=1) as model:
            (segment,) = model._program.segments()
            reports = segment.plan.reports
            names = {node.name for node in model._graph.nodes}
            convs = sum(layer.macs or 0 for layer in summarize(model).layers)
        assert [(s.kernel, s.flops, s.nbytes, s.chunks) for s in report.steps] == [
            (r.kernel, r.flops, r.nbytes, r.n_chunks) for r in reports
        ]
        assert {s.node for s in report.steps} <= names
        assert sum(s.flops for s in report.steps if s.operator in ("Conv", "Gemm")) == 2 * convs

    def test_times(self, report: Profile) -> None:
        assert report.rounds >= 5
        for step in report.steps:
            assert 0 < step.seconds_min <= step.seconds_median < 1
        assert report.steps_min == sum(step.seconds_min for step in report.steps)
        assert 0 < report.run_min <= report.run_median < 1
        assert 0 < report.roofline < 10

    def test_a_step_that_takes_long_is_seen(self) -> None:
        wide = {"w": (64, 64, 3, 3)}
        small = one_node("Conv", [1, 64, 6, 6], [1, 64, 4, 4], wide)
        large = one_node("Conv", [1, 64, 50, 50], [1, 64, 48, 48], wide)
        first, second = (next(s for s in profile(m, threads=1, seconds=0.02).steps if s.flops) for m in (small, large))
        assert second.flops == 144 * first.flops
        assert second.seconds_min > 10 * first.seconds_min

    def test_host_steps_are_timed(self) -> None:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])
        y = helper.make_tensor_value_info("y", TensorProto.INT64, ["n", "r"])
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("NonZero", ["r"], ["i"]),
            helper.make_node("Transpose", ["i"], ["y"]),
        ]
        graph = helper.make_graph(nodes, "g", [x], [y])
        with cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)) as model:
            steps = profile(model, seconds=0).steps
        (found,) = [s for s in steps if s.operator == "NonZero"]
        assert found.kernel == "host"
        assert found.seconds_min > 1e-7
        assert found.roofline == 0
        assert [s.operator for s in steps if s.kernel != "host"].count("Relu") >= 1

    @pytest.mark.parametrize("threads", [1, 2])
    def test_threads(self, threads: int) -> None:
        with cnnengine.load(SPP) as model:
            result = profile(model, {"image": (2, 1, 20, 20)}, threads=threads, seconds=0)
        assert (result.threads, result.rounds) == (threads, 5)
        assert result.shapes == {"image": (2, 1, 20, 20)}

    def test_a_dynamic_size_must_be_given(self) -> None:
        with cnnengine.load(SPP) as model:
            with pytest.raises(cnnengine.InputError, match="image") as caught:
                profile(model)
            ((name, shape),) = [word.split("=") for word in str(caught.value.expected).split() if "=" in word]
            given = {name: tuple(map(int, shape.split(",")))}
            assert profile(model, given, seconds=0, min_rounds=1).shapes == given

    @pytest.mark.parametrize("arguments", [{"threads": 0}, {"seconds": -1.0}, {"seconds": math.nan}, {"min_rounds": 0}])
    def test_wrong_arguments(self, arguments: dict) -> None:
        with cnnengine.load(LENET) as model, pytest.raises(cnnengine.InputError):
            profile(model, **arguments)

    def test_plain_data(self, report: Profile) -> None:
        data = json.loads(json.dumps(report.as_dict(), allow_nan=False))
        assert len(data["steps"]) == len(report.steps)
        step, plain = report.steps[1], data["steps"][1]
        assert plain["gflops"] == pytest.approx(step.flops / step.seconds_min / 1e9)
        assert plain["gigabytes"] == pytest.approx(step.nbytes / step.seconds_min / 1e9)
        assert plain["intensity"] == pytest.approx(step.flops / step.nbytes)
        assert data["bandwidths"][0].keys() == {"bytes", "gigabytes_per_second"}


class TestLimits:
    BANDWIDTHS = ((1 << 18, 80.0), (1 << 22, 40.0), (1 << 27, 10.0))

    def test_bandwidth_between_measured_sizes(self) -> None:
        for nbytes, rate in ((0, 80), (1 << 18, 80), (1 << 20, 60), (1 << 22, 40), (1 << 27, 10), (1 << 40, 10)):
            assert bandwidth_at(self.BANDWIDTHS, nbytes) == pytest.approx(rate)

    @pytest.mark.parametrize(
        ("flops", "nbytes", "limit"),
        [(2e6, 1 << 18, 2e6 / 100e9), (1e3, 1 << 18, (1 << 18) / 80e9), (0, 1 << 22, (1 << 22) / 40e9), (0, 0, 0)],
    )
    def test_the_longer_of_two_times_is_the_limit(self, flops: float, nbytes: float, limit: float) -> None:
        step = _Step("n", "Conv", "conv", 1, flops, nbytes, lambda: None, lambda: None)
        step.taken += [150_000, 140_000, 400_000]
        result = step.result(40_000, 100.0, self.BANDWIDTHS)
        assert (result.seconds_min, result.seconds_median) == pytest.approx((1e-4, 1.1e-4))
        assert result.limit_seconds == pytest.approx(limit)
        assert result.roofline == pytest.approx(limit / 1e-4)

    def test_times_below_the_clock_s_own_cost_stay_positive(self) -> None:
        step = _Step("n", "Relu", "activation", 1, 10.0, 80.0, lambda: None, lambda: None)
        step.taken += [100, 120, 110]
        assert step.result(200, 100.0, self.BANDWIDTHS).seconds_min > 0

    @pytest.mark.parametrize("threads", [1, 2])
    def test_the_machine_is_measured(self, threads: int) -> None:
        assert 0.5 < fma_peak(threads, 0.01) < 1e5
        assert 0.1 < copy_bandwidth(1 << 20, threads, 0.01) < 1e5


class TestPlot:
    def test_a_point_for_every_step_that_computes(self, report: Profile, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        figure = report.plot()
        bars, axes = figure.axes
        lengths = [0.0] * len(by_layer(report.steps))
        for bar in bars.patches:
            lengths[round(bar.get_y() + bar.get_height() / 2)] += bar.get_width() * 1e-6
        np.testing.assert_allclose(
            lengths, [sum(step.seconds_min for step in layer) for layer in by_layer(report.steps)], rtol=1e-9
        )
        shown = [s for s in report.steps if s.flops and s.nbytes]
        points = np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections])
        np.testing.assert_allclose(sorted(map(tuple, points)), sorted((s.intensity, s.gflops) for s in shown), rtol=1e-9)
        figure.savefig(tmp_path / "plot.png")
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")

    def test_a_model_without_operations(self) -> None:
        pytest.importorskip("matplotlib")
        step = StepProfile("t", "Transpose", "copy_nd", 1, 1e-6, 1e-6, 0.0, 64.0, 1e-9)
        rates = ((1 << 18, 80.0), (1 << 22, 40.0), (1 << 27, 10.0))
        assert Profile("m", "avx2", 1, {"x": (1,)}, 5, 100.0, 0.0, rates, 1e-6, 1e-6, (step,)).plot().axes
        assert Profile("m", "avx2", 1, {"x": (1,)}, 5, 100.0, 0.0, rates, 1e-6, 1e-6, ()).plot().axes

    def test_the_full_colour_is_what_the_roofline_asks_for(self) -> None:
        pytest.importorskip("matplotlib")
        slow = StepProfile("a", "Conv", "conv", 1, 4e-6, 4e-6, 1e5, 1e4, 1e-6)
        fast = StepProfile("b", "Conv", "winograd", 1, 2e-6, 2e-6, 1e6, 1e4, 5e-6)  # counted as the direct algorithm
        rates = ((1 << 18, 80.0), (1 << 22, 40.0), (1 << 27, 10.0))
        bars, _ = Profile("m", "avx2", 1, {"x": (1,)}, 5, 100.0, 0.0, rates, 1e-6, 1e-6, (slow, fast)).plot().axes
        full, pale = ([b.get_width() for b in bars.patches if (b.get_facecolor()[3] == 1) == whole] for whole in (True, False))
        assert full == pytest.approx([1, 2])
        assert pale == pytest.approx([3, 0])

    def test_names_are_drawn_as_they_are(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        name = "a $\\frac{$ \n\x07 \udcff"
        step = StepProfile(name, name, "conv", 1, 1e-6, 1e-6, 1e3, 64.0, 1e-9)
        rates = ((1 << 18, 80.0), (1 << 22, 40.0), (1 << 27, 10.0))
        figure = Profile(name, "avx2", 1, {name: (1,)}, 5, 100.0, 0.0, rates, 1e-6, 1e-6, (step,)).plot()
        figure.savefig(tmp_path / "plot.svg")
        (label,) = figure.axes[0].get_yticklabels()
        assert label.get_text().startswith("a \\$\\frac{\\$ \\n\\x07 \\udcff")

    @pytest.mark.parametrize("gap", [1, 2, 3, 7])
    def test_names_keep_apart(self, gap: int) -> None:
        sizes = [float(n) for n in np.random.default_rng(gap).permutation(50)]
        named = _apart(sizes, gap)
        assert named == sorted(named)
        assert sizes.index(49.0) in named
        assert all(b - a >= gap for a, b in itertools.pairwise(named))
        assert all(any(abs(i - j) < gap and sizes[j] >= sizes[i] for j in named) for i in range(50))

    def test_without_matplotlib_the_extra_is_named(self, report: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(cnnengine.InputError, match="pip install matplotlib"):
            report.plot()


class TestDisturbances:
    """Recorded figures of quiet and of busy machines."""

    STEPS = (
        StepProfile("a", "Conv", "conv", 4, 4e-3, 4.1e-3, 1e8, 1e6, 3e-3),
        StepProfile("b", "Conv", "conv", 4, 2e-3, 2.1e-3, 1e8, 1e6, 1e-3),
    )

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({}, None),
            ({"run_median": 8e-3}, "whole runs take 1.33 times their shortest in the median"),
            ({"peaks": (118.0, 60.0)}, "the multiply-add peak was 118 GFLOP/s before and 60 after"),
            ({"peaks": (60.0, 118.0)}, "the multiply-add peak was 60 GFLOP/s before and 118 after"),
            ({"peaks": (118.0, 110.0)}, None),
            ({"cpu_share": 0.5}, "the process had a CPU for 50% of the time"),
            ({"cpu_share": 0.5, "threads": 2}, None),
            ({"run_min": 4.5e-3, "run_median": 4.6e-3}, "the steps' shortest times sum up to 1.33 times the shortest whole run"),
        ],
    )
    def test_signs(self, change: dict[str, Any], words: str | None) -> None:
        quiet = {"threads": 1, "run_min": 6e-3, "run_median": 6.2e-3, "peaks": (118.0, 117.0), "cpu_share": 0.99}
        found = disturbances(steps=self.STEPS, **{**quiet, **change})
        assert found == (() if words is None else (words,))

    def test_steps_that_were_stopped(self) -> None:
        slow = StepProfile("c", "Conv", "conv", 4, 1e-3, 4e-3, 1e8, 1e6, 1e-3)
        (sign,) = disturbances(1, (*self.STEPS, slow), 7e-3, 7.1e-3, (118.0, 118.0), 1.0)
        assert sign == "steps take 1.46 times their shortest in the median"

    def test_the_cost_of_many_small_steps_is_no_sign(self) -> None:
        small = tuple(StepProfile(str(i), "Relu", "relu", 1, 3e-6, 3e-6, 0.0, 1e3, 1e-7) for i in range(20))
        assert disturbances(2, small, 3e-5, 3.1e-5, (200.0, 200.0), 1.0) == ()

    def test_a_profile_has_them(self, report: Profile) -> None:
        assert report.as_dict()["disturbed"] == list(report.disturbed)
