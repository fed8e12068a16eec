"""What `cnnengine bench` makes of measured figures: engines that answer recorded times and outputs stand in for real ones."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine.bench import (
    Case,
    Comparison,
    Worker,
    distinct,
    engines,
    environments,
    overall,
    overall_text,
    precision,
    record_text,
    verdict,
)
from cnnengine.bench import compare as comparing
from cnnengine.bench import quantised as quantised_files
from cnnengine.bench import worker as working
from cnnengine.cli import main as command

STAND_IN = f"""
import json, sys
import numpy as np
sys.path.insert(0, {str(Path(working.__file__).parent)!r})
import worker
told = json.loads(sys.argv[1])
job, turns = {{}}, []

def prepare(**request):
    job.update(request)
    if told.get("fails"):
        raise RuntimeError(told["fails"])
    return {{}}

def load(outputs):
    x = np.load(job["feeds"])["000"]
    np.savez(outputs, **{{"000": np.maximum(x, 0) + np.float32(told.get("off", 0))}})
    figures = {{"load_s": 0.1, "load_and_first_run_s": 0.2, "before_load_mb": 1.0, "mode": ""}}
    return figures | {{"precision": told.get("precision", job["kind"])}}

def run(seconds):
    turns.append(0)
    times = told["times"]
    return {{"times_ms": times[(len(turns) - 1) % len(times)]}}

worker.serve({{"prepare": prepare, "load": load, "run": run, "memory": worker.memory, "peak": lambda **_: {{"gflops": 100.0}}}})
"""

Told = dict[str, dict[str, Any]]


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Callable[[Told], None]:
    """Makes every engine a stand-in; all packages are installed."""

    def put(told: Told) -> None:
        base = {"times": [[10.0, 10.0]]}

        def started(name: str, python: str) -> Worker:
            names.append(name)
            again = name == "cnnengine" and names.count(name) % 2 == 0
            given = base | told.get("cnnengine-again" if again else name, told.get(name, {}))
            return Worker([sys.executable, "-c", STAND_IN, json.dumps(given)])

        names: list[str] = []
        monkeypatch.setattr(comparing, "engine_worker", started)

        def installed(python: str, packages: list[str]) -> dict[str, Any]:
            return {"python": "3", "packages": dict.fromkeys(packages, "1")}

        monkeypatch.setattr(comparing, "probe", installed)

    return put


def relu(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def quantised(
    path: Path, scale: float = 0.5, zero: np.ndarray | None = None, ends: tuple[str, ...] = ("Flatten",), op: str = "Relu"
) -> Path:
    """x -> Q -> DQ -> op -> Q -> DQ -> ends."""
    zero = np.array(0, np.uint8) if zero is None else zero
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node(op, ["d"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "s", "z"], ["e0"]),
    ]
    nodes += [helper.make_node(end, [f"e{i}"], [f"e{i + 1}"]) for i, end in enumerate(ends)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])
    y = helper.make_tensor_value_info(f"e{len(ends)}", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(np.float32(scale), "s"), numpy_helper.from_array(zero, "z")]
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


class Bench:
    """The command, with what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        status = command(["bench", *map(str, arguments), "--rounds", "4", "--seconds", "0"])
        captured = self.capsys.readouterr()
        return status, captured.out, captured.err


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(capsys)


# ---------------------------------------------------------------- no row is lost
class TestNothingVanishes:
    def test_files_of_one_name_are_two_models(self, bench: Bench, stand_ins: Callable[[Told], None], tmp_path: Path) -> None:
        stand_ins({"onnxruntime": {"times": [[20.0]]}})
        first, second = relu(tmp_path / "a" / "model.onnx"), relu(tmp_path / "b" / "model.onnx")
        status, out, _ = bench(first, second, "--against", "onnxruntime", "--json")
        data = json.loads(out)
        assert status == 0
        assert [record["model"] for record in data["models"]] == ["a/model.onnx", "b/model.onnx"]
        assert data["overall"]["min"] == {"geometric_mean": pytest.approx(2.0), "models": 2, "behind": []}

    def test_names_tell_files_apart(self, tmp_path: Path) -> None:
        paths = ["/x/a/m.onnx", "/y/a/m.onnx", "/x/n.onnx", "/x/b/m.onnx", "/x/n.onnx"]
        names = [case.title for case in distinct(map(Case, paths))]
        assert names == ["x/a/m.onnx", "y/a/m.onnx", "n.onnx", "b/m.onnx", "n.onnx (2)"]
        assert [case.title for case in distinct([Case("/a/m.onnx"), Case("/b/m.onnx", "given")])] == ["m.onnx", "given"]
        assert [case.title for case in distinct([Case("/m.onnx"), Case("/a/m.onnx")])] == ["/m.onnx", "a/m.onnx"]

    def test_the_sum_counts_records_not_names(self) -> None:
        same = [recorded(onnxruntime=20.0), recorded(onnxruntime=5.0)]
        assert overall(same)["min"] == {"geometric_mean": pytest.approx(1.0), "models": 2, "behind": ["m"]}

    def test_a_quantised_model_whose_peers_round_otherwise(
        self, bench: Bench, stand_ins: Callable[[Told], None], tmp_path: Path
    ) -> None:
        path = quantised(tmp_path / "q.onnx", scale=0.5)
        stand_ins({"onnxruntime": {"times": [[2.0]], "off": 1.0}, "openvino": {"times": [[1.9]], "off": 12.0}})
        status, out, _ = bench(path, "--against", "onnxruntime,openvino")
        assert status == 0
        row, wrong = (next(line for line in out.splitlines() if line.startswith(name)) for name in ("onnxruntime", "openvino"))
        assert row.split()[1] == "int8"
        assert row.endswith("2.0 steps")
        assert wrong.endswith("24.0 steps DIFFERS")
        assert "openvino: does not count: its outputs differ by 24.0 steps" in out
        assert "best peer: onnxruntime takes 0.20 times our min (we are behind)" in out

        status, out, _ = bench(path, "--against", "openvino")
        assert status == 1
        assert "no peer to compare with: openvino: its outputs differ by 24.0 steps (0.19 times our min and 0.19" in out
        status, out, _ = bench(path, "--against", "openvino", "--tolerance", "24.5steps")
        assert status == 0
        assert "openvino takes 0.19 times our min (we are behind)" in out

    def test_a_sum_of_nothing_says_so(self, bench: Bench, stand_ins: Callable[[Told], None], tmp_path: Path) -> None:
        stand_ins({"ncnn": {"fails": "pnnx failed"}, "torch": {"off": 1.0}})
        paths = [relu(tmp_path / name) for name in ("a.onnx", "b.onnx")]
        status, out, _ = bench(*paths, "--against", "ncnn,torch")
        assert status == 1
        assert "no model was compared with any peer" in out
        assert "under 0.95" not in out
        assert "ncnn: without a.onnx, b.onnx: RuntimeError: pnnx failed" in out
        assert "not compared: a.onnx: torch: its outputs differ by" in out

    def test_the_head_names_no_precision_that_is_not_asked_for(
        self, bench: Bench, stand_ins: Callable[[Told], None], tmp_path: Path
    ) -> None:
        stand_ins({})
        path = relu(tmp_path / "m.onnx")
        assert "float32" not in "".join(bench(path, "--against", "torch")[1].splitlines()[:3])
        out = bench(path, "--against", "torch", "--precision", "bfloat16")[1]
        assert "ours in bf16" in out.splitlines()[2]

    def test_what_is_missing_is_named(self) -> None:
        records = [recorded("a", onnxruntime=20.0, ncnn=15.0), recorded("b", onnxruntime=20.0, skipped={"ncnn": "no such layer"})]
        found = overall(records, {"mnn": "MNN not installed"})["peers"]
        assert (found["ncnn"]["ran"], found["ncnn"]["of"], found["ncnn"]["missing"]) == (1, 2, {"b": "no such layer"})
        assert (found["onnxruntime"]["ran"], found["onnxruntime"]["counted"]) == (2, 2)
        assert (found["ncnn"]["best_with"], found["ncnn"]["best_without"]) == (pytest.approx(1.5), pytest.approx(2.0))
        text = overall_text(records, {"mnn": "MNN not installed"})
        assert "ncnn: without b: no such layer" in text
        assert "mnn: MNN not installed" in text


class TestFailBelow:
    @pytest.mark.parametrize(
        ("told", "why"),
        [({"fails": "no such operator"}, "RuntimeError: no such operator"), ({"off": 1.0}, "its outputs differ by")],
    )
    def test_nothing_to_compare_with_is_a_failure(
        self, bench: Bench, stand_ins: Callable[[Told], None], tmp_path: Path, told: dict[str, Any], why: str
    ) -> None:
        stand_ins({"ncnn": told})
        status, _, err = bench(relu(tmp_path / "m.onnx"), "--against", "ncnn", "--fail-below", "0.5")
        assert status == 1
        assert f"m.onnx: --fail-below: no peer was compared with: ncnn: {why}" in err

    @pytest.mark.parametrize(
        ("peer", "again", "limit", "status"),
        [
            ([[9.0]], [[10.0]], "0.95", 1),
            ([[9.0]], [[10.0]], "0.85", 0),
            ([[9.0]], [[9.0]], "0.95", 0),  # two processes of our own differ by as much
            ([[10.0, 8.0, 10.0]], [[10.0, 10.0]], "0.95", 1),  # by minima alone
            ([[10.0, 8.0, 10.0]], [[10.0, 7.0, 10.0]], "0.95", 0),
        ],
    )
    def test_below(
        self,
        bench: Bench,
        stand_ins: Callable[[Told], None],
        tmp_path: Path,
        peer: list[list[float]],
        again: list[list[float]],
        limit: str,
        status: int,
    ) -> None:
        stand_ins({"torch": {"times": peer}, "cnnengine-again": {"times": again}})
        assert bench(relu(tmp_path / "m.onnx"), "--against", "torch", "--fail-below", limit)[0] == status


# ---------------------------------------------------------------- verdicts
def recorded(model: str = "m", ours: float = 10.0, skipped: dict[str, str] | None = None, **times: float) -> dict[str, Any]:
    """A record of one time for each engine; `_` for `-`, precisions behind `__`."""
    results: dict[str, dict[str, Any]] = {"cnnengine": {"min_ms": ours, "median_ms": ours, "precision": "float32"}}
    for key, value in times.items():
        name, _, kind = key.partition("__")
        results[name.replace("_", "-")] = {"min_ms": value, "median_ms": value, "precision": kind or "float32"}
    verdict.compare_outputs(results, {name: [np.ones(1)] for name in results})
    best = verdict.best_peer(results)
    return {
        "model": model, "engines": results, "skipped": skipped or {}, "best_peer": best, "noise": None,
        "verdict": verdict.verdict(best, None),
    }  # fmt: skip


class TestVerdict:
    @staticmethod
    def turns(*pairs: tuple[float, float]) -> dict[str, Any]:
        least, middle = min(a for a, _ in pairs), float(np.median([b for _, b in pairs]))
        return {"min_ms": least, "median_ms": middle, "turns": [{"min_ms": a, "median_ms": b} for a, b in pairs]}

    def test_noise_is_how_far_equal_engines_differ(self) -> None:
        ours = self.turns((10, 12), (10, 12), (10, 12), (10, 12))
        assert verdict.noise({"cnnengine": ours, "cnnengine-again": ours}) == {"min": 1.0, "median": 1.0}
        again = self.turns((8, 12), (10, 12), (8, 12), (10, 12))
        assert verdict.noise({"cnnengine": ours, "cnnengine-again": again}) == {"min": 1.25, "median": 1.0}
        halves = self.turns((10, 12), (10, 15), (10, 12), (10, 15))  # the even turns are equal, the odd ones are not
        found = verdict.noise({"cnnengine": ours, "cnnengine-again": halves})
        assert found == {"min": 1.0, "median": 1.25}
        assert verdict.noise({"cnnengine": ours}) is None

    @pytest.mark.parametrize(
        ("least", "middle", "expected"),
        [
            (1.2, 1.1, ("ahead", "ahead", "ahead")),
            (0.8, 0.9, ("behind", "behind", "behind")),
            (1.05, 1.005, ("no difference", "no difference", "no difference")),
            (0.92, 1.0, ("no difference", "no difference", "no difference")),
            (1.2, 0.9, ("ahead", "behind", "mixed")),
            (1.05, 1.1, ("no difference", "ahead", "mixed")),
        ],
    )
    def test_by_minimum_and_by_median(self, least: float, middle: float, expected: tuple[str, str, str]) -> None:
        best = {"min": {"engine": "torch", "ratio": least}, "median": {"engine": "ncnn", "ratio": middle}}
        found = verdict.verdict(best, {"min": 1.1, "median": 1.01})
        assert found == dict(zip(("min", "median", "both"), expected, strict=True))

    def test_without_a_peer_there_is_none(self) -> None:
        assert verdict.verdict({"min": None, "median": None}, {"min": 1.0, "median": 1.0}) is None

    def test_the_command_prints_the_null_row(self, bench: Bench, stand_ins: Callable[[Told], None], tmp_path: Path) -> None:
        stand_ins({"cnnengine-again": {"times": [[11.0]]}, "torch": {"times": [[10.5]]}})
        out = bench(relu(tmp_path / "m.onnx"), "--against", "torch")[1]
        assert "null row: two processes of cnnengine differ by 1.10 of min, 1.10 of median" in out
        assert "torch takes 1.05 times our min (no difference), torch takes 1.05 times our median (no difference)" in out
        assert out.rstrip().endswith("by both: no difference")

    def test_what_is_measured_prints_as_its_table(self, stand_ins: Callable[[Told], None], tmp_path: Path) -> None:
        stand_ins({"torch": {"times": [[10.5]]}})
        comparison = Comparison(["torch"], rounds=2, seconds=0)
        record = comparison.measure(Case(str(relu(tmp_path / "m.onnx"))))
        assert json.loads(json.dumps(record)) == record
        assert str(record) == record_text(record)
        assert "torch takes 1.05 times our min" in str(record)
        assert "<td" in record._repr_html_() and ">torch</td>" in record._repr_html_()
        assert max(map(len, record_text(record, 80).splitlines()[1:5])) <= 80

    def test_two_processes_that_differ_are_a_failure(
        self, bench: Bench, stand_ins: Callable[[Told], None], tmp_path: Path
    ) -> None:
        stand_ins({"cnnengine-again": {"off": 1.0}})
        assert bench(relu(tmp_path / "m.onnx"), "--against", "torch")[0] == 1

    def test_means_by_size(self) -> None:
        records = [
            recorded("tiny", 0.5, torch=2.0), recorded("small", 2.0, torch=3.0), recorded("small2", 8.0, torch=4.0),
            recorded("large", 40.0, torch=60.0), recorded("edge", 10.0, torch=10.0), recorded("none", 10.0),
        ]  # fmt: skip
        rows = {row["class"]: row for row in overall(records)["classes"]}
        assert list(rows) == ["under 1 ms", "1 to 10 ms", "10 ms and more", "all"]
        assert [row["models"] for row in rows.values()] == [1, 2, 2, 5]
        assert rows["under 1 ms"]["min"] == pytest.approx(4.0)
        assert rows["1 to 10 ms"]["median"] == pytest.approx(0.75**0.5)
        assert [rows["all"][kind] for kind in ("ahead", "no difference", "behind", "mixed")] == [3, 1, 1, 0]
        assert overall(records)["not_compared"] == {"none": "no peer was asked for"}


# ---------------------------------------------------------------- precisions
class TestPrecision:
    def test_a_lower_one_counts_when_it_is_asked_for(
        self, bench: Bench, stand_ins: Callable[[Told], None], tmp_path: Path
    ) -> None:
        stand_ins({"openvino": {"times": [[12.0]]}, "openvino-default": {"times": [[6.0]], "precision": "bfloat16"}})
        path = relu(tmp_path / "m.onnx")
        out = bench(path, "--against", "openvino,openvino-default")[1]
        rows = {line.split()[0]: line.split()[1] for line in out.splitlines() if line.startswith("openvino")}
        assert (rows["openvino"], rows["openvino-default"]) == ("float32", "bf16")
        assert "best peer: openvino takes 1.20 times our min" in out
        assert "openvino-default: does not count: bf16 is a lower precision than our float32" in out
        assert "best peer: openvino-default takes 0.60" in bench(path, "--against", "openvino-default", "--any-precision")[1]

    def test_a_higher_one_counts(self) -> None:
        results = recorded(torch=20.0)["engines"]
        for ours, theirs, counts in [
            ("bfloat16", "float32", True), ("bfloat16", "bfloat16", True), ("bfloat16", "int8", False), ("int8", "float16", True),
            ("float16", "bfloat16", False), ("float32", "float16", False),
        ]:  # fmt: skip
            results["cnnengine"]["precision"], results["torch"]["precision"] = ours, theirs
            assert (verdict.why_not("torch", results) == "") is counts

    def test_of_files(self, tmp_path: Path) -> None:
        def of(path: Path) -> str:
            return precision.of_model(onnx.load(path))

        assert of(relu(tmp_path / "m.onnx")) == "float32"
        assert of(quantised(tmp_path / "q.onnx")) == "int8"
        assert of(quantised(tmp_path / "s.onnx", zero=np.array(3, np.int8))) == "int8"
        assert of(quantised(tmp_path / "w.onnx", zero=np.array(3, np.uint16))) == "int16"
        for kind, expected in [(np.float16, "float16"), (np.float32, "float32")]:
            model = onnx.load(tmp_path / "m.onnx")
            model.graph.initializer.append(numpy_helper.from_array(np.ones(8, kind), "w"))
            assert precision.of_model(model) == expected
        dequantised = onnx.load(tmp_path / "m.onnx")  # weights alone: the arithmetic is in floats
        dequantised.graph.node.append(helper.make_node("DequantizeLinear", ["w8", "s"], ["w"]))
        assert precision.of_model(dequantised) == "float32"
        for op in ("QLinearConv", "ConvInteger", "DynamicQuantizeMatMul", "QGemm"):
            model = onnx.load(tmp_path / "m.onnx")
            model.graph.node.append(helper.make_node(op, ["x"], ["z"]))
            assert precision.of_model(model) == "int8"

    @pytest.mark.parametrize(
        ("ends", "expected"),
        [
            ((), 0.5),
            (("Flatten",), 0.5),
            (("Softmax",), 0.25),
            (("Flatten", "Sigmoid"), 0.125),
            (("Exp",), None),
            (("Relu", "Exp"), None),
        ],
    )
    def test_a_step_of_an_output(self, tmp_path: Path, ends: tuple[str, ...], expected: float | None) -> None:
        assert precision.steps_of(onnx.load(quantised(tmp_path / "q.onnx", 0.5, ends=ends))) == [expected]

    def test_an_integer_output_has_steps_of_one(self, tmp_path: Path) -> None:
        model = onnx.load(quantised(tmp_path / "q.onnx", ends=()))
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("rq", TensorProto.UINT8, None))
        assert precision.steps_of(model) == [1.0]

    def test_differences_in_steps(self) -> None:
        ours, theirs = [np.array([0.0, 5.0, 10.0])], [np.array([0.0, 5.0, 9.0])]
        assert verdict.steps_apart(ours, theirs, [0.5]) == 2.0
        assert verdict.steps_apart(ours, theirs, [None]) == pytest.approx(25.5)  # of a range of 10
        assert verdict.steps_apart(ours, [*theirs, theirs[0]], [0.5]) == float("inf")
        assert verdict.steps_apart(ours, [np.full(3, np.nan)], [0.5]) == float("inf")
        assert verdict.steps_apart([np.zeros(3)], [np.zeros(3)], []) == 0.0
        assert verdict.steps_apart([np.zeros(0)], [np.zeros(0)], [None]) == 0.0

    def test_integers_do_not_wrap_around(self) -> None:
        assert verdict.steps_apart([np.array([0], np.uint8)], [np.array([255], np.uint8)], [1.0]) == 255

    @pytest.mark.parametrize(
        ("ours", "theirs", "gap", "agrees"),
        [
            ("float32", "float32", 2e-3, False), ("float32", "float32", 5e-4, True), ("float32", "bfloat16", 5e-2, True),
            ("float32", "bfloat16", 0.2, False), ("bfloat16", "float32", 5e-2, True), ("float16", "float32", 5e-3, True),
            ("float16", "float32", 5e-2, False),
        ],
    )  # fmt: skip
    def test_the_tolerance_is_of_the_lower_precision(self, ours: str, theirs: str, gap: float, agrees: bool) -> None:
        results: dict[str, dict[str, Any]] = {
            name: {"min_ms": 1.0, "median_ms": 1.0, "precision": kind} for name, kind in [("cnnengine", ours), ("torch", theirs)]
        }
        verdict.compare_outputs(results, {"cnnengine": [np.ones(1)], "torch": [np.ones(1) + gap]})
        assert results["torch"]["agrees"] is agrees

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("0.01", {"float32": 0.01, "float16": 0.01, "bfloat16": 0.01}),
            ("6steps", {"int4": 6, "float8": 6, "int8": 6, "int16": 6}),
            ("bf16=0.05,int8=7", {"bfloat16": 0.05, "int8": 7}),
            ("int8=7steps", {"int8": 7}),
        ],
    )
    def test_tolerances(self, text: str, expected: dict[str, float]) -> None:
        assert precision.tolerances(text) == expected

    @pytest.mark.parametrize("text", ["", "much", "-1", "inf", "nan", "int7=3", "=3", "float32=3steps", "0.1,,", "steps"])
    def test_no_tolerances(self, text: str) -> None:
        with pytest.raises(cnnengine.InputError):
            precision.tolerances(text)
        with pytest.raises(SystemExit) as error:
            command(["bench", "m.onnx", "--tolerance", text])
        assert error.value.code == 2

    def test_unknown_ones_are_refused(self) -> None:
        with pytest.raises(cnnengine.InputError, match="precision"):
            Comparison([], precision="int8")
        with pytest.raises(cnnengine.InputError, match="tolerance"):
            Comparison([], tolerance={"float64": 1.0})

    def test_what_openvino_computes_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Kind:
            def get_type_name(self) -> str:
                return "bf16"

        class Compiled:
            def get_property(self, name: str) -> Kind:
                assert name == "INFERENCE_PRECISION_HINT"
                return Kind()

            def create_infer_request(self) -> None:
                return None

        class Core:
            def read_model(self, path: str) -> Any:
                return type("Graph", (), {"reshape": lambda self, shapes: None})()

            def compile_model(self, graph: Any, device: str, hints: dict[str, Any]) -> Compiled:
                asked.append(hints.get("INFERENCE_PRECISION_HINT"))
                return Compiled()

        asked: list[str | None] = []
        monkeypatch.setitem(sys.modules, "openvino", type("openvino", (), {"Core": Core}))  # type: ignore[arg-type]
        for name, kind, expected in [
            ("openvino", "float32", "bfloat16"), ("openvino-default", "float32", "bfloat16"), ("openvino-default", "int8", "int8")
        ]:  # fmt: skip
            engine, job = engines.ENGINES[name](), engines.Job("m", "m", kind)
            engine.prepare(job, {})
            engine.load(job, {})
            assert engine.precision == expected
        assert asked == ["f32", None, None]

    def test_what_cnnengine_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[dict[str, Any]] = []
        monkeypatch.setattr(cnnengine, "load", lambda path, **options: given.append(options))
        for kind, asked, expected in [
            ("float32", "float32", "float32"), ("float32", "bfloat16", "bfloat16"),
            ("int8", "float32", "int8"), ("int8", "bfloat16", "int8"),
        ]:  # fmt: skip
            engine, job = engines.CNNEngine(), engines.Job("m", "m", kind, asked, threads=2)
            engine.prepare(job, {})
            engine.load(job, {})
            assert engine.precision == expected
        assert given == [{"threads": 2}, {"threads": 2, "precision": "bfloat16"}] * 2


# ---------------------------------------------------------------- conversions
class TestConversions:
    def test_weights_that_are_inputs_are_taken_out(self, tmp_path: Path) -> None:
        x, y, w = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xyw")
        weight = numpy_helper.from_array(np.arange(3, dtype=np.float32), "w")
        graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [w, x], [y], [weight])
        path = tmp_path / "m.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
        before = path.read_bytes()

        (tmp_path / "made").mkdir()
        model = onnx.load(comparing.bare(path, onnx.load(path), tmp_path / "made"))
        assert [value.name for value in model.graph.input] == ["x"]
        np.testing.assert_array_equal(numpy_helper.to_array(model.graph.initializer[0]), [0, 1, 2])
        assert path.read_bytes() == before

        plain = relu(tmp_path / "plain.onnx")
        assert comparing.bare(plain, onnx.load(plain), tmp_path) == plain

    def test_converters_are_given_the_stripped_file_and_engines_the_file(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        x, y, w = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xyw")
        weight = numpy_helper.from_array(np.ones((1, 3), np.float32), "w")
        graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [w, x], [y], [weight])
        path = tmp_path / "m.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
        seen: dict[str, Any] = {}

        class Asked(Worker):
            def send(self, **request: Any) -> None:
                if request["do"] == "prepare":
                    seen.update(request, inputs=[v.name for v in onnx.load(request["bare"]).graph.input])
                super().send(**request)

        def started(name: str, python: str) -> Worker:
            return Asked([sys.executable, "-c", STAND_IN, json.dumps({"times": [[1.0]]})])

        monkeypatch.setattr(comparing, "engine_worker", started)
        Comparison([], seconds=0, rounds=1).measure(Case(path))
        assert (seen["model"], seen["names"], seen["inputs"]) == (str(path), ["x"], ["x"])

    def test_pnnx_is_given_the_stripped_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "bare.onnx").write_bytes(b"bare")
        (tmp_path / "m.onnx").write_bytes(b"with weights")
        tool = tmp_path / "pnnx"
        tool.write_text('#!/bin/sh\ncp "$1" model.param\ntouch model.bin\necho "$2" >> model.param\n')
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
        monkeypatch.setattr(engines.importlib.metadata, "version", lambda name: "1")
        job = engines.Job(str(tmp_path / "m.onnx"), str(tmp_path / "bare.onnx"), shapes=[[4, 3, 8, 8]], folder=str(tmp_path))
        param, _ = engines.pnnx_converted(job)
        assert param.read_text() == "bareinputshape=[1,3,8,8]\n"

    def test_conversions_are_kept_and_failures_remembered(self, tmp_path: Path) -> None:
        made: list[Path] = []

        def make(work: Path) -> None:
            made.append(work)
            (work / "f").write_text("converted")

        def broken(work: Path) -> None:
            made.append(work)
            raise RuntimeError("the converter failed")

        model = tmp_path / "m.onnx"
        model.write_bytes(b"1")
        job = engines.Job(str(model), str(model), shapes=[[1, 3]], folder=str(tmp_path / "cache"))
        for _ in range(2):
            (path,) = engines.kept("x", "1.0", job, ["f"], make)
            assert path.read_text() == "converted"
        assert len(made) == 1
        assert engines.kept("x", "1.1", job, ["f"], make) != [path]  # of another version
        model.with_name("m.onnx.data").write_bytes(b"weights")
        assert engines.kept("x", "1.0", job, ["f"], make) != [path]  # of other weights
        assert len(made) == 3
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the converter failed"):
                engines.kept("y", "1.0", job, ["f"], broken)
        assert len(made) == 4
        with pytest.raises(RuntimeError, match="left no file"):
            engines.kept("z", "1.0", job, ["g"], make)

    def test_a_converter_that_dies_says_how(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        job = engines.Job("m", "m", folder=str(tmp_path))
        engine = engines.MNN()

        def dies(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            assert argv[2:] == ["mnn", "job.json", "model.mnn"]
            assert engines.Job(**json.loads((options["cwd"] / "job.json").read_text())) == job
            return subprocess.CompletedProcess(argv, -11, "", "loading\nlast words\n")

        monkeypatch.setattr(engines.subprocess, "run", dies)
        with pytest.raises(RuntimeError, match="the conversion was killed by signal 11: last words"):
            engine.run_converter(job, tmp_path)

    def test_layers_that_ncnn_lacks_are_named(self, tmp_path: Path) -> None:
        class Library:
            def layer_to_index(self, name: str) -> int:
                return {"Input": 0, "ReLU": 1}.get(name, -1)

        param = tmp_path / "model.param"
        param.write_text(
            "7767517\n4 4\nInput in0 0 1 in0\naten::x a 1 1 in0 1\nReLU r 1 1 1 2\naten::x b 1 1 2 3\nF.y c 1 1 3 4\n"
        )
        assert engines.unknown_layers(param, Library()) == ": it knows no aten::x, F.y"

    def test_images_lie_channels_last(self) -> None:
        assert engines.channels_last([1, 3, 8, 9]) == [1, 8, 9, 3]
        assert engines.channels_last([1, 3, 8]) == [1, 3, 8]

    def test_the_order_of_inputs(self) -> None:
        names = ["serving_default_args_10:0", "serving_default_args_2:0", "serving_default_args_1:0"]
        found = engines.numbered([{"name": name.removesuffix(":0")} for name in names])
        assert [detail["name"][-2:].strip("_") for detail in found] == ["1", "2", "10"]


# ---------------------------------------------------------------- quantised files in other formats
class TestQuantised:
    @staticmethod
    def model(weight: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, axis: int | None) -> onnx.ModelProto:
        """x * dequantised weight."""
        options = {} if axis is None else {"axis": axis}
        names = ["w", "s"] + ["z"] * (zero is not None)
        nodes = [
            helper.make_node("DequantizeLinear", names, ["wf"], **options),
            helper.make_node("DequantizeLinear", ["q", "s0"], ["x"]),
            helper.make_node("MatMul", ["x", "wf"], ["y"]),
        ]
        constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(scale, "s")]
        constants += [numpy_helper.from_array(zero, "z")] if zero is not None else []
        constants.append(numpy_helper.from_array(np.float32(0.5), "s0"))
        q = helper.make_tensor_value_info("q", TensorProto.INT8, [1, weight.shape[0]])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        return helper.make_model(helper.make_graph(nodes, "g", [q], [y], constants))

    @pytest.mark.parametrize("axis", [0, 1, -1, None])
    def test_weights_become_floats_with_their_scales(self, axis: int | None) -> None:
        weight = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
        count = 1 if axis is None else weight.shape[axis]
        scale = np.float32(0.25) if axis is None else np.linspace(0.1, 0.9, count).astype(np.float32)
        model = self.model(weight, np.asarray(scale), None, axis)
        known = quantised_files.without_weight_quantisation(model)
        assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "MatMul"]  # that of the activations stays
        value = numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == "wf"))
        along = scale if axis is None else np.expand_dims(scale, 1 - axis % 2)
        np.testing.assert_array_equal(value, weight.astype(np.float32) * along)
        found = quantised_files.scales_of(value, known)
        assert found is not None
        assert found.axis == (None if axis is None else axis % 2)
        turned = quantised_files.scales_of(np.ascontiguousarray(value.T), known)
        assert turned is not None
        assert turned.axis == (None if axis is None else 1 - axis % 2)
        assert quantised_files.scales_of(value + 1, known) is None

    @pytest.mark.parametrize(
        ("weight", "zero"), [(np.ones((2, 2), np.int8), np.int8(3)), (np.ones((2, 2), np.uint8), np.uint8(128))]
    )
    def test_weights_that_the_converters_have_no_form_for(self, weight: np.ndarray, zero: Any) -> None:
        model = self.model(weight, np.asarray(np.float32(0.5)), np.asarray(zero), None)
        with pytest.raises(NotImplementedError, match=r"wf: weights of u?int8 with a zero point of"):
            quantised_files.without_weight_quantisation(model)

    def test_what_litert_leaves_to_the_caller(self) -> None:
        detail = {"dtype": np.int8, "quantization": (0.5, -3)}
        x = np.array([0.0, 0.25, 0.75, 1.0, 1e9, -1e9], np.float32)
        q = engines.narrowed(x, detail)
        assert (q.dtype, q.tolist()) == (np.int8, [-3, -3, -1, -1, 127, -128])  # halves to even
        assert x[1] == 0.25
        assert engines.widened(q[:4], detail).tolist() == [0.0, 0.0, 1.0, 1.0]
        plain = {"dtype": np.float32, "quantization": (0.0, 0)}
        assert engines.narrowed(x, plain) is x
        assert engines.widened(x, plain) is x
        indices = np.array([1], np.int8)  # int8 that stands for no floats
        assert engines.widened(indices, {"dtype": np.int8, "quantization": (0.0, 0)}) is indices

    def test_litert_runs_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = environments.default_cache()
        monkeypatch.setattr(comparing, "interpreter", lambda name, cache: environments.interpreter(name, made))
        comparison = Comparison(["litert"], seconds=0, rounds=1, cache=tmp_path)
        if "litert" in comparison.absent:
            pytest.skip(comparison.absent["litert"])
        rng = np.random.default_rng(5)
        weight = rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
        scales = {"sx": 0.02, "sy": 0.05}
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "sx", "z"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "sx", "z"], ["xd"]),
            helper.make_node("DequantizeLinear", ["w", "sw"], ["wd"], axis=0),
            helper.make_node("Conv", ["xd", "wd", "b"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("QuantizeLinear", ["c", "sy", "z"], ["cq"]),
            helper.make_node("DequantizeLinear", ["cq", "sy", "z"], ["y"]),
        ]
        constants = [numpy_helper.from_array(np.float32(value), name) for name, value in scales.items()]
        constants.append(numpy_helper.from_array(np.uint8(128), "z"))
        constants.append(numpy_helper.from_array(weight, "w"))
        constants.append(numpy_helper.from_array(np.linspace(0.001, 0.003, 8).astype(np.float32), "sw"))
        constants.append(numpy_helper.from_array(rng.standard_normal(8).astype(np.float32), "b"))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 16, 16])
        path = tmp_path / "q.onnx"
        graph = helper.make_graph(nodes, "g", [x], [y], constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        record = comparison.measure(Case(path))
        assert record["skipped"] == {}
        litert = record["engines"]["litert"]
        assert (litert["precision"], litert["agrees"]) == ("int8", True)
        assert litert["steps"] <= 1.01
        assert "quantised by NumPy" in litert["mode"]


# ---------------------------------------------------------------- environments
class TestEnvironments:
    def test_every_engine_has_one_with_what_it_needs(self) -> None:
        for engine, needs in engines.NEEDS.items():
            if engine != "cnnengine":
                text = environments.recipe(environments.environment_of(engine))
                for package in needs:
                    assert f"{package}==" in text, engine

    def test_versions_are_those_of_the_extra(self) -> None:
        project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
        pinned = [line for line in project["project"]["optional-dependencies"]["bench"] if "==" in line]
        assert pinned
        for requirement in pinned:
            assert requirement in environments.recipe("peers")

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
        made: list[list[str]] = []

        def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            made.append(argv)
            if "venv" in argv:
                Path(argv[-1]).mkdir(parents=True)
            bad = any("litert-torch" in part for part in argv)
            return subprocess.CompletedProcess(argv, int(bad), "", "WARNING: x\nERROR: no matching distribution\n[notice] y\n")

        monkeypatch.setattr(environments.subprocess, "run", run)
        yield made

    def test_set_up(self, calls: list[list[str]], tmp_path: Path) -> None:
        assert environments.interpreter("mnn", tmp_path) is None
        said: list[str] = []
        assert environments.set_up(["mnn", "onnxruntime", "ncnn", "cnnengine"], tmp_path, said.append) == {}
        python = str(tmp_path / "environments" / "mnn" / "bin" / "python")
        assert environments.interpreter("mnn", tmp_path) == python
        assert calls[0][1:] == ["-m", "venv", str(tmp_path / "environments" / "mnn")]
        assert calls[1][:4] == [python, "-m", "pip", "install"]
        assert "MNN==3.6.1" in calls[1]
        assert len(calls) == 5  # of mnn two, of the two others' common one three
        assert environments.set_up(["mnn"], tmp_path, said.append) == {}
        assert len(calls) == 5
        assert said[-1].endswith("is there")

    def test_what_was_made_of_other_versions_is_made_anew(self, calls: list[list[str]], tmp_path: Path) -> None:
        environments.set_up(["mnn"], tmp_path, str)
        (tmp_path / "environments" / "mnn" / environments.READY).write_text("MNN==3.0")
        assert environments.interpreter("mnn", tmp_path) is None
        environments.set_up(["mnn"], tmp_path, str)
        assert len(calls) == 4
        assert environments.interpreter("mnn", tmp_path) is not None

    def test_what_fails_leaves_nothing_and_says_why(self, calls: list[list[str]], tmp_path: Path) -> None:
        failures = environments.set_up(["litert", "mnn"], tmp_path, str)
        assert failures == {"litert": "ERROR: no matching distribution"}
        assert not (tmp_path / "environments" / "litert").exists()
        assert environments.interpreter("litert", tmp_path) is None
        assert environments.interpreter("mnn", tmp_path) is not None

    def test_the_command(self, bench: Bench, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        status, out, err = bench("--setup", "--against", "mnn,litert")
        assert (status, err) == (1, "litert: not made: ERROR: no matching distribution\n")
        assert "mnn: " in out
        assert bench("--setup", "--against", "mnn")[0] == 0
        assert bench("--setup", "m.onnx")[0] == 2

    def test_a_peer_is_looked_for_there(self, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        environments.set_up(["mnn"], tmp_path, str)
        home = str(tmp_path / "environments" / "mnn" / "bin" / "python")

        def probe(python: str, packages: list[str]) -> dict[str, Any]:
            here = {"numpy": "1", "onnx": "1", "onnxruntime": "2"} if python == sys.executable else {"MNN": "3"}
            return {"python": "3", "packages": {name: here.get(name) for name in packages}}

        monkeypatch.setattr(comparing, "probe", probe)
        comparison = Comparison(["onnxruntime", "mnn", "litert"], cache=tmp_path)
        assert comparison.pythons["mnn"] == home
        assert comparison.pythons["onnxruntime"] == sys.executable
        assert comparison.absent["litert"].endswith("not installed (cnnengine bench --setup --against litert)")


# ---------------------------------------------------------------- what is asked for
class TestModels:
    def test_folders(self, bench: Bench, stand_ins: Callable[[Told], None], tmp_path: Path) -> None:
        stand_ins({"torch": {"times": [[20.0]]}})
        for name in ("b.onnx", "a.onnx", "deep/a.onnx", "deep/notes.txt"):
            relu(tmp_path / "held" / name)
        alone = relu(tmp_path / "alone.onnx")
        status, out, _ = bench(tmp_path / "held", alone, "--against", "torch", "--json")
        data = json.loads(out)
        assert status == 0
        assert [record["model"] for record in data["models"]] == ["held/a.onnx", "b.onnx", "deep/a.onnx", "alone.onnx"]
        assert data["overall"]["min"]["models"] == 4

    def test_nothing_to_measure(self, bench: Bench, tmp_path: Path) -> None:
        status, _, err = bench(tmp_path)
        assert status == 2
        assert "there is no ONNX file in it" in err
        assert bench()[0] == 2

    def test_by_default_no_peer_is_told_to_use_fewer_bits(self) -> None:
        assert set(comparing.PEERS) - set(comparing.USUAL) == {"ncnn-bf16", "torch-compile-bf16"}
        assert {"openvino", "openvino-default"} <= set(comparing.USUAL)

    def test_every_engine_is_measured_beside_the_busy_processes(
        self, stand_ins: Callable[[Told], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        events: list[str] = []

        class Busy:
            def __init__(self, count: int) -> None:
                events.append(f"busy {count}")

            def __enter__(self) -> None:
                events.append("begin")

            def __exit__(self, *error: object) -> None:
                events.append("end")

        class Told(Worker):
            def send(self, **request: Any) -> None:
                events.append(request["do"])
                super().send(**request)

        stand_ins({})
        monkeypatch.setattr(comparing, "busy_processes", Busy)
        monkeypatch.setattr(
            comparing,
            "engine_worker",
            lambda name, python: Told([sys.executable, "-c", STAND_IN, json.dumps({"times": [[1.0]]})]),
        )
        record = Comparison(["torch", "ncnn"], busy=7, rounds=2, seconds=0).measure(Case(relu(tmp_path / "m.onnx")))
        assert record["busy"] == 7
        assert events.index("busy 7") < events.index("begin") < events.index("run")
        assert events.count("run") == 2 * 4
        assert len(events) - 1 - events[::-1].index("run") < events.index("end")
