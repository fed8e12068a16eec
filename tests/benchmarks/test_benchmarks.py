"""Benchmarks: workers that fail say why, what is missing is skipped, the tables are those of the figures. No time is asserted."""

from __future__ import annotations

import inspect
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))

import families  # noqa: E402
import layers  # noqa: E402
import publish  # noqa: E402
import recurrent  # noqa: E402
import regress  # noqa: E402
import scaling  # noqa: E402
import suite  # noqa: E402
import tables  # noqa: E402

import cnnengine  # noqa: E402
from cnnengine import functional  # noqa: E402
from cnnengine.bench import (  # noqa: E402
    Case,
    Comparison,
    Worker,
    WorkerError,
    environments,
    overall,
    plot,
)
from cnnengine.bench import compare as comparing  # noqa: E402
from cnnengine.bench import verdict as judging  # noqa: E402
from cnnengine.bench import worker as working  # noqa: E402
from cnnengine.bench.engines import NEEDS  # noqa: E402
from cnnengine.bench.harness import busy_processes  # noqa: E402
from cnnengine.cli import main as command  # noqa: E402

MODEL = str(ROOT / "models" / "digits_lenet.onnx")
SPP = str(ROOT / "models" / "digits_spp.onnx")
SERVER = f"""
import os, signal, sys, time
sys.path.insert(0, {str(Path(working.__file__).parent)!r})
import worker
worker.serve({{
    "add": lambda a, b: {{"sum": a + b}},
    "talk": lambda: (print("x" * 300_000), {{"said": 300_000}})[1],
    "raise": lambda: 1 / 0,
    "die": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "sleep": lambda: time.sleep(60),
    "child": lambda: {{"pid": __import__("subprocess").Popen(["sleep", "300"]).pid}},
    "variables": lambda: {{"bound": os.getenv("OMP_PROC_BIND")}},
}})
"""


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker([sys.executable, "-c", SERVER], timeout=30)
    yield made
    made.close()


def state(worker: Worker) -> str:
    status = Path(f"/proc/{worker.pid}/stat").read_text()
    return status.rsplit(")", 1)[1].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_worker_answers_and_is_stopped_between_requests(worker: Worker) -> None:
    assert worker.ask(do="add", a=2, b=3) == {"sum": 5}
    deadline = time.monotonic() + 5
    while state(worker) != "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state(worker) == "T"
    assert worker.ask(do="talk") == {"said": 300_000}  # what it prints is no answer, and does not block it


def test_worker_that_fails_says_why(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="ZeroDivisionError"):
        worker.ask(do="raise")
    assert worker.ask(do="add", a=1, b=1) == {"sum": 2}
    with pytest.raises(WorkerError, match=signal.SIGSEGV.name):
        worker.ask(do="die")
    with pytest.raises(WorkerError, match=signal.SIGSEGV.name):
        worker.ask(do="add", a=1, b=1)


def test_worker_that_hangs_is_given_up() -> None:
    hanging = Worker([sys.executable, "-c", SERVER], timeout=1.0)
    try:
        with pytest.raises(WorkerError, match="no answer"):
            hanging.ask(do="sleep")
    finally:
        hanging.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_closing_ends_what_the_worker_started(worker: Worker) -> None:
    child = worker.ask(do="child")["pid"]
    worker.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            stat = Path(f"/proc/{child}/stat").read_text()
        except OSError:
            return
        if stat.rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.01)
    pytest.fail("its child lives on")


def test_threads_of_an_engine_are_not_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    made = Worker([sys.executable, "-c", SERVER], timeout=30)
    try:
        assert made.ask(do="variables") == {"bound": None}
    finally:
        made.close()


def test_turns() -> None:
    calls: list[int] = []
    assert len(working.timed(lambda: calls.append(1), 0.0)) == 1  # a call that takes longer than the turn is the turn
    assert len(calls) == 1
    taken = working.timed(lambda: time.sleep(0.002), 0.02)
    assert 1 <= len(taken) <= 10
    assert min(taken) >= 2


def test_memory() -> None:
    held = working.memory()
    if Path("/proc/self/status").exists():
        assert held["resident_mb"] is not None
        assert held["peak_resident_mb"] is not None
        assert 10 < held["resident_mb"] <= held["peak_resident_mb"] * 1.01


def test_summary() -> None:
    assert working.summary([3.0, 1.0, 2.0, 10.0]) == {"runs": 4, "min_ms": 1.0, "median_ms": 2.5, "p90_ms": 10.0}


@pytest.mark.parametrize(
    ("name", "shape"), [("lstm_64_48", (80, 2, 1, 48)), ("gru_linear_64_48", (80, 2, 1, 48)), ("crnn", (79, 1, 37))]
)
def test_recurrent_models_run_without_the_host(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    recurrent.MODELS[name](tmp_path / "m.onnx")
    model = cnnengine.load(tmp_path / "m.onnx")
    x = np.ones(model.inputs[0].shape, np.float32)
    (y,) = model.run(None, {"x": x})
    assert y.shape == shape
    assert np.isfinite(y).all()
    assert model.host_nodes() == []


def test_every_function_has_a_case() -> None:
    assert set(functional.__all__) == {case.function for case in layers.CASES}


@pytest.mark.parametrize("case", layers.CASES, ids=lambda case: case.name)
def test_case_fits_the_signature(case: layers.Case) -> None:
    arrays = [None] * len(case.arrays)
    inspect.signature(getattr(functional, case.function)).bind(*arrays, *case.rest, **case.options, threads=1)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([[1.0, -4.0]], [[1.0, -4.0]], 0.0),
        ([[1.0, -4.0]], [[1.0, -3.0]], 0.25),
        ([[1.0, -4.0]], [[1.0]], float("inf")),
        ([[1.0], [2.0]], [[1.0]], float("inf")),
        ([[1.0]], [[float("nan")]], float("inf")),
    ],
)
def test_difference(ours: list[list[float]], theirs: list[list[float]], expected: float) -> None:
    def arrays(lists: list[list[float]]) -> list[np.ndarray]:
        return [np.asarray(values, np.float32) for values in lists]

    assert judging.difference(arrays(ours), arrays(theirs)) == expected


# ---------------------------------------------------------------- comparing
@pytest.fixture
def measured() -> dict[str, Any]:
    """One model against a second process of cnnengine."""
    return Comparison(["cnnengine"], seconds=0.02, rounds=2).measure(Case(MODEL))


class TestComparison:
    def test_a_model_against_itself(self, measured: dict[str, Any]) -> None:
        assert measured["model"] == "digits_lenet.onnx"
        assert measured["inputs"] == {"image": [1, 1, 32, 32]}
        assert measured["skipped"] == {}
        assert len(measured["fma_peak_gflops"]) == 2
        ours, again = measured["engines"]["cnnengine"], measured["engines"]["cnnengine-again"]
        assert set(again) - set(ours) == {"difference", "agrees", "ratio_min", "ratio_median"}
        assert (ours["precision"], again["precision"], measured["kind"]) == ("float32", "float32", "float32")
        assert again["difference"] == 0
        assert again["agrees"] is True
        for result in (ours, again):
            assert 0 < result["min_ms"] <= result["median_ms"] <= result["p90_ms"]
            assert 0 < result["load_s"] <= result["load_and_first_run_s"]
            assert len(result["turns"]) == 2
            assert result["runs"] == sum(turn["runs"] for turn in result["turns"])
        assert measured["best_peer"] == {"min": None, "median": None}  # the noise is no peer
        assert measured["verdict"] is None
        assert min(measured["noise"].values()) >= 1
        assert again["ratio_min"] == again["min_ms"] / ours["min_ms"]

    @pytest.mark.parametrize("peer", sorted(set(NEEDS) - {"cnnengine"}))
    def test_a_peer_that_is_here_agrees(self, peer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = environments.default_cache()
        monkeypatch.setattr(comparing, "interpreter", lambda name, cache: environments.interpreter(name, made))
        comparison = Comparison([peer], batch=2, seconds=0.02, rounds=1, any_precision=True, cache=tmp_path)
        if peer in comparison.absent:
            pytest.skip(comparison.absent[peer])
        record = comparison.measure(Case(MODEL))
        if peer == "zentorch" and "AVX-512" in record["skipped"].get(peer, ""):
            pytest.skip(record["skipped"][peer])
        assert record["skipped"] == {}
        assert record["engines"][peer]["agrees"] is True
        if peer.endswith("-bf16"):
            assert record["engines"][peer]["precision"] == "bfloat16"
        assert record["best_peer"]["min"] == {"engine": peer, "ratio": record["engines"][peer]["ratio_min"]}

    def test_a_peer_that_is_not_installed_is_skipped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        versions = {"python": "3.0", "packages": dict.fromkeys(["numpy", "onnx", "torch", "onnxruntime"], "1")}
        packages = {name: versions["packages"].get(name) for needs in NEEDS.values() for name in (*needs, "numpy", "onnx")}
        monkeypatch.setattr(comparing, "probe", lambda *arguments: versions | {"packages": packages})
        comparison = Comparison(["torch", "onnxruntime", "ncnn"])
        assert comparison.engines == ["cnnengine", "cnnengine-again", "onnxruntime"]
        assert comparison.absent["torch"] == "onnx2torch not installed (cnnengine bench --setup --against torch)"
        assert comparison.absent["ncnn"].startswith("ncnn and pnnx not installed")
        assert comparison.head()["versions"] == {"numpy": "1", "onnx": "1", "onnxruntime": "1"}

    def test_a_peer_that_cannot_run_the_model_is_skipped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        comparison = Comparison(["cnnengine"], seconds=0, rounds=1)
        comparison.engines.append("onnxruntime")
        comparison.pythons["onnxruntime"] = sys.executable
        started = comparing.engine_worker

        def broken(name: str, python: str) -> Worker:
            return (
                Worker([sys.executable, "-c", "import sys; sys.exit('no such engine')"])
                if name == "onnxruntime"
                else started(name, python)
            )

        monkeypatch.setattr(comparing, "engine_worker", broken)
        record = comparison.measure(Case(MODEL))
        assert list(record["engines"]) == ["cnnengine", "cnnengine-again"]
        assert "exit code 1: no such engine" in record["skipped"]["onnxruntime"]

    def test_dynamic_axes(self) -> None:
        comparison = Comparison([], batch=3, seconds=0, rounds=1)
        assert comparison.measure(Case(MODEL))["inputs"] == {"image": [3, 1, 32, 32]}
        assert comparison.measure(Case(SPP, shapes={None: (1, 1, 9, 12)}))["inputs"] == {"image": [1, 1, 9, 12]}

    @pytest.mark.parametrize(
        ("case", "error"),
        [
            (Case("none.onnx"), cnnengine.errors.ModelNotFoundError),
            (Case(__file__), cnnengine.errors.ModelError),
            (Case(SPP), cnnengine.InputError),
            (Case(MODEL, shapes={"picture": (1, 1, 32, 32)}), cnnengine.InputError),
            (Case(MODEL, shapes={"image": (1, 1, 31, 32)}), cnnengine.ShapeError),
            (Case(MODEL, feeds={"image": np.zeros((1, 32, 32), np.float32)}), cnnengine.ShapeError),
        ],
    )
    def test_what_does_not_fit_is_refused(self, case: Case, error: type[Exception]) -> None:
        with pytest.raises(error):
            Comparison([], seconds=0, rounds=1).measure(case)

    def test_a_fixed_batch(self, tmp_path: Path) -> None:
        path = relu(tmp_path / "fixed.onnx", [1, 3, 4, 4])
        assert Comparison([], seconds=0, rounds=1).measure(Case(path))["inputs"] == {"x": [1, 3, 4, 4]}
        with pytest.raises(cnnengine.ShapeError, match="batch is fixed"):
            Comparison([], batch=8, seconds=0, rounds=1).measure(Case(path))

    @pytest.mark.parametrize(
        "arguments", [{"threads": 0}, {"batch": 0}, {"rounds": 0}, {"seconds": float("nan")}, {"busy": 10**6}]
    )
    def test_numbers_out_of_range(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(cnnengine.InputError):
            Comparison([], **arguments)

    def test_unknown_engine_and_interpreter(self) -> None:
        with pytest.raises(cnnengine.InputError, match="tensorrt"):
            Comparison(["tensorrt"])
        with pytest.raises(cnnengine.InputError, match="does not run"):
            Comparison(["torch"], peer_python="/nowhere/python")

    def test_a_cpu_is_kept_busy_meanwhile_and_no_longer(self) -> None:
        def spent() -> float:
            return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime  # of children that have ended

        before = spent()
        with busy_processes(3) as numbers:
            assert len(numbers) == 3
            for number in numbers:  # of our priority, free to use any CPU, and no session of its own to be given a share as such
                assert os.getpriority(os.PRIO_PROCESS, number) == os.getpriority(os.PRIO_PROCESS, 0)
                assert os.sched_getaffinity(number) == os.sched_getaffinity(0)
                assert os.getsid(number) == os.getsid(0)
            time.sleep(1.0)
            assert all(map(alive, numbers))
        assert spent() > before + 0.05
        assert not any(map(alive, numbers))
        assert Comparison([], seconds=0, rounds=1, busy=1).measure(Case(MODEL))["busy"] == 1

    def test_a_wrong_peer_is_not_the_best(self) -> None:
        results: dict[str, dict[str, Any]] = {
            name: {"min_ms": time, "median_ms": time}
            for name, time in [("cnnengine", 2.0), ("torch", 6.0), ("ncnn", 1.0), ("cnnengine-again", 1.5)]
        }
        outputs = {"cnnengine": [np.ones(4)], "torch": [np.ones(4)], "ncnn": [np.zeros(4)], "cnnengine-again": [np.ones(4)]}
        judging.compare_outputs(results, outputs)
        assert results["ncnn"]["agrees"] is False
        assert judging.best_peer(results)["min"] == {"engine": "torch", "ratio": 3.0}
        record = {"model": "m", "engines": results, "best_peer": judging.best_peer(results)}
        assert not judging.failed(record)
        assert judging.failed({"engines": {name: results[name] for name in ("cnnengine", "ncnn")}})
        assert judging.failed({"engines": {}})
        assert overall([record | {"skipped": {}}])["median"] == {"geometric_mean": pytest.approx(3.0), "models": 1, "behind": []}

    def test_far_slower_engines_have_few_turns(self) -> None:
        times = {"cnnengine": [[2.0, 3.0]], "torch": [[9.0]], "ncnn": [[7.0]], "openvino": []}
        assert comparing.far_slower(times, "torch", 10.0)
        assert not comparing.far_slower(times, "torch", 100.0)  # a turn holds many
        assert not comparing.far_slower(times, "ncnn", 10.0)
        assert not comparing.far_slower(times, "openvino", 10.0)


def relu(path: Path, shape: list[Any]) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


class TestCommand:
    def run(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], list[str]]:
        status = command(["bench", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    QUICK = ("--seconds", "0.02", "--rounds", "2", "--against", "cnnengine")

    def test_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, err = self.run(capsys, MODEL, SPP, "--shape", "1,1,32,32", *self.QUICK)
        assert (status, err) == (0, [])
        assert "multiply-add peak now" in out[2]
        assert sum(line.startswith("cnnengine-again ") for line in out) == 2
        assert any(line.startswith("digits_spp.onnx  (image 1x1x32x32; ") for line in out)

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, (line,), err = self.run(capsys, MODEL, *self.QUICK, "--json", "--threads", 2)
        assert (status, err) == (0, [])
        data = json.loads(line, parse_constant=pytest.fail)
        assert set(data) == {"head", "models", "overall"}
        assert {"cpu", "isa", "threads", "batch", "versions", "fma_peak_gflops", "absent", "cnnengine", "load"} <= set(
            data["head"]
        )
        assert data["head"]["threads"] == 2
        (record,) = data["models"]
        assert set(record) == {
            "model", "inputs", "kind", "threads", "batch", "busy", "fma_peak_gflops", "engines", "skipped", "best_peer", "noise",
            "verdict",
        }  # fmt: skip

    def test_plot(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        assert self.run(capsys, MODEL, *self.QUICK, "--plot", tmp_path / "bench.png")[0] == 0
        assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
        status, _, err = self.run(capsys, MODEL, *self.QUICK, "--plot", tmp_path / "none" / "bench.png")
        assert (status, len(err)) == (2, 1)

    def test_the_bars(self, measured: dict[str, Any]) -> None:
        pytest.importorskip("matplotlib")
        head = Comparison([]).head()
        slow = json.loads(json.dumps(measured)) | {"model": "slow"}
        slow["engines"]["cnnengine-again"]["min_ms"] = 10 * slow["engines"]["cnnengine"]["min_ms"]
        (axes,) = plot(head, [measured, slow]).axes
        assert [label.get_text() for label in axes.get_xticklabels()] == ["digits_lenet.onnx", "slow"]
        assert len(axes.patches) == 4
        assert max(patch.get_height() for patch in axes.patches) == pytest.approx(10)
        assert axes.get_yscale() == "log"
        with pytest.raises(cnnengine.InputError, match="nothing to draw"):
            plot(head, [measured | {"engines": {}}])

    def test_one_bad_model_does_not_end_the_others(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        status, out, err = self.run(capsys, tmp_path / "none.onnx", MODEL, *self.QUICK)
        assert (status, len(err)) == (1, 1)
        assert any(line.startswith("digits_lenet.onnx ") for line in out)
        status, _, err = self.run(capsys, tmp_path / "none.onnx", *self.QUICK)
        assert (status, len(err)) == (2, 1)

    def test_fail_below(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        found = {"engine": "torch", "ratio": 0.9}
        monkeypatch.setattr(comparing, "best_peer", lambda results, any_precision: {"min": found, "median": found})
        monkeypatch.setattr(comparing, "noise", lambda results: {"min": 1.02, "median": 1.02})
        assert self.run(capsys, MODEL, *self.QUICK)[0] == 0
        assert self.run(capsys, MODEL, *self.QUICK, "--fail-below", "0.85")[0] == 0
        assert self.run(capsys, MODEL, *self.QUICK, "--fail-below", "0.91")[0] == 0  # not by more than the null row differs
        assert self.run(capsys, MODEL, *self.QUICK, "--fail-below", "0.95")[0] == 1

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
    def test_interrupted_it_leaves_no_process(self, number: int, status: int) -> None:
        arguments = ["bench", MODEL, "--seconds", "300", "--rounds", "5", "--against", "cnnengine"]
        process = subprocess.Popen(
            [sys.executable, "-m", "cnnengine", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # a suite in a shell's background has SIGINT ignored, and its children would inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            deadline = time.monotonic() + 60
            workers: list[int] = []
            while len(workers) < 2 and time.monotonic() < deadline:
                workers = children(process.pid)
                time.sleep(0.05)
            time.sleep(1.0)  # into the turns, or the loading before them
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        assert len(workers) == 2
        assert process.returncode == status
        assert err == b""
        deadline = time.monotonic() + 10
        while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(alive(pid) for pid in workers)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children(parent: int) -> list[int]:
    """Workers of a process: those of its children that run the worker's file."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if (
                int(stat.read_text().rsplit(")", 1)[1].split()[1]) == parent
                and b"worker.py" in (stat.parent / "cmdline").read_bytes()
            ):
                found.append(int(stat.parent.name))
        except (OSError, ValueError):
            continue
    return found


# ---------------------------------------------------------------- the published tables
def record(
    model: str, threads: int = 1, batch: int = 1, busy: int = 0, kind: str = "float32", precision: str = "float32", **times: float
) -> dict[str, Any]:
    """As publish.py stores it; keywords are milliseconds, with `_` for `-`, the best peer's are those of our precision."""
    engines: dict[str, dict[str, Any]] = {}
    for name, time_ms in times.items():
        engines[name.replace("_", "-")] = {
            "runs": 9,
            "precision": kind if kind == "int8" or name == "openvino" else precision,
            "min_ms": time_ms,
            "median_ms": 2 * time_ms,
            "p90_ms": 3 * time_ms,
            "load_and_first_run_s": time_ms / 10,
            "resident_mb": 50.0 + time_ms,
            "peak_resident_mb": 60.0 + time_ms,
        }
    judging.compare_outputs(engines, {name: [np.ones(1)] for name in engines})
    return {
        "model": model, "threads": threads, "batch": batch, "busy": busy, "inputs": {"x": [batch, 3, 8, 8]},
        "fma_peak_gflops": [100.0, 110.0], "again": model == "b",
        "engines": engines, "skipped": {"ncnn": "pnnx failed"}, "best_peer": judging.best_peer(engines), "run": 0,
        "kind": kind, "precision": precision, "noise": {"min": 1.1, "median": 1.02},
    }  # fmt: skip


def figures() -> tuple[dict[str, Any], dict[str, Any]]:
    run = {
        "date": "2026-01-02 03:04", "cpu": "A CPU", "cpus": 2, "system": "Linux", "seconds": 1.0, "rounds": 8, "python": "3.11",
        "isa": "avx512", "versions": {"onnxruntime": "1.2"}, "cnnengine": {"version": "0.1.0"},
        "absent": {"mnn": "MNN not installed"}, "left_out": ["torch"],
    }  # fmt: skip
    records = [
        record("b", cnnengine=10.0, onnxruntime=8.0, openvino=20.0),
        record("a", cnnengine=10.0, onnxruntime=50.0, openvino=20.0),
        record("a", 2, cnnengine=6.0, onnxruntime=30.0, openvino=12.0),
        record("a", 1, 1, 1, cnnengine=11.0),
        record("a", 2, 1, 1, cnnengine=13.0),
        record("a", 1, 8, cnnengine=80.0, torch_compile=100.0),
        record("a", precision="bfloat16", cnnengine=5.0, openvino_default=6.0, openvino=7.0),
        record("a qdq", kind="int8", cnnengine=4.0, onnxruntime=4.1, litert=4.5),
    ]
    way = {"ms": 0.5, "gflops": 80.0, "of_peak": 0.8, "roofline": 0.9, "kernel": "conv 14x2", "call_ms": 0.75}
    layer: dict[str, Any] = {"set": "avx512", "family": "3x3", "operator": "Conv", "layer": "1x3"}
    layer["torch"] = {"kernel_ms": 1.0, "kernel_of_peak": 0.4, "call_ms": 1.5}
    rows = [
        layer | {"cnnengine": {"chosen": way | {"of_peak": 2.0}, "direct": way}},
        layer | {"cnnengine": {"chosen": way}},
        layer | {"set": "avx2", "cnnengine": {}},
    ]
    return {"runs": [run], "records": records}, {"layers": rows}


class TestTables:
    PAGE = "# Page\n" + "".join(f"\n<!-- table: {name} -->\n<!-- end -->\n" for name in tables.TABLES)

    def test_rendered(self) -> None:
        page = tables.rendered(self.PAGE, *figures())
        parts = dict(zip(tables.TABLES, re.findall(r"<!-- table: .*? -->\n(.*?)<!-- end", page, re.S), strict=True))
        assert "| CPU | A CPU, 2 CPUs, Linux |" in parts["machine"]
        row = "| float32 | 1 | 1 | 10 ms and more | 2 | **1.26** | 1.26 | 1 | 1 | 0 | 1 | 0 |"
        assert row in parts["summary"]  # sqrt(0.8 * 2)
        assert row.replace("10 ms and more", "all") in parts["summary"]
        assert "| float32 | 2 | 1 | 1 to 10 ms | 1 | 2.00 | **2.00** | 0 | 1 | 0 | 0 | 0 |" in parts["summary"]
        assert "| bf16 | 1 | 1 | 1 to 10 ms | 1 | **1.20** | 1.20 | 0 | 1 | 0 | 0 | 0 |" in parts["summary"]
        assert "| int8 | 1 | 1 | all | 1 | **1.02** | 1.02 | 0 | 0 | 0 | 0 | 1 |" in parts["summary"]  # its minima say nothing
        assert "| float32 | 1 | 1 | onnxruntime | float32 | 2 of 2 | 2 | 2.00 | 2.00 | 1.26 | - |" in parts["peers"]
        assert (
            "| float32 | 1 | 1 | ncnn | - | 0 of 2 | 0 | - | - | - | 1.26 |" in parts["peers"]
        )  # it ran nowhere, and stands there
        assert "| bf16 | 1 | 1 | openvino | float32 | 1 of 1 | 1 | 1.40 | 1.40 | 1.20 | - |" in parts["peers"]
        assert "- mnn: MNN not installed (float32, 1 thread, batch 1; " in parts["peers"]
        assert "- torch: not asked for (float32, 1 thread, batch 1; " in parts["peers"]
        lines = parts["models-1"].splitlines()
        assert lines[2].startswith("| a | 10 | 50 | 20 | 2.00 | 2.00 | ahead | 1.00 / 2.00 openvino | 70 / 110 |")
        assert lines[3].startswith("| b | 10 | 8 | 20 | **0.80** | **0.80** | behind |")
        assert "- a, b: ncnn: pnnx failed" in parts["models-1"]  # it has no column, but a reason
        assert "| a | 12 | 60 | 24 | 2.00 | 2.00 |" in parts["models-2"]
        assert parts["models-2"].splitlines()[2].endswith("| 0.60 | **1.18** |")
        assert "| measured again | 1 of 6 |" in parts["machine"]
        assert "differ by, in the middle | 1.100 of min, 1.020 of median |" in parts["machine"]
        assert "| a | 80 | 100 | 1.25 | 1.25 |" in parts["models-batch"]
        assert parts["bf16-1"].splitlines()[2].startswith("| a | 5 | 7 float32 | 6 | 1.20 | 1.20 | ahead |")
        assert parts["int8-1"].splitlines()[2].startswith("| a qdq | 4 | 4.1 | 4.5 | 1.02 | 1.02 | mixed |")
        assert "| 3x3 | 1 | 80 to 200 % | 80 % | 90 % | 40 % | 2.00 | - | - | - | 40 % | - |" in parts["families"]
        assert "| 1x3 | avx512 | conv 14x2 | 0.5000 | 80 | 80% | 1.0000 | 0.7500 | 1.5000 |" in parts["layers"]

    def test_without_figures_it_says_so(self) -> None:
        page = tables.rendered(self.PAGE, {"runs": [], "records": []}, {"layers": []})
        assert page.count(tables.NOT_MEASURED) == len(tables.TABLES)

    @pytest.mark.parametrize(
        "page",
        ["", PAGE.replace("table: peers", "table: pears"), PAGE.replace("<!-- end -->", "", 1), PAGE + "\n<!-- table: x -->\n"],
    )
    def test_markers_that_do_not_fit(self, page: str) -> None:
        with pytest.raises(ValueError, match="markers"):
            tables.rendered(page, *figures())

    def test_the_page_is_that_of_the_figures(self) -> None:
        assert tables.main(["--check"]) == 0

    def test_a_stale_page_is_found_and_mended(self, tmp_path: Path) -> None:
        publish.store(tmp_path / publish.MODELS, figures()[0])
        page = tmp_path / "page.md"
        page.write_text(self.PAGE)
        options = ["--results", str(tmp_path), "--page", str(page)]
        assert tables.main([*options, "--check"]) == 1
        assert tables.main(options) == 0
        assert tables.main([*options, "--check"]) == 0
        page.write_text(page.read_text().replace("**0.80**", "0.99"))
        assert tables.main([*options, "--check"]) == 1


class TestPublish:
    def test_one_variant_of_each(self) -> None:
        names = ["a.dy", "a.ts", "a.ts9", "b.c2", "c.tf", "d.dy24", "d.dy", "e.f.hm"]
        assert suite.variants(names) == ["a.ts", "b.c2", "c.tf", "d.dy", "e.f.hm"]
        plan = publish.plan(["a.ts", "resnet18.ts"], [1, 2], 8, busy=True, precisions=["float32"])
        busy = [item for item in plan if item.busy]
        assert busy == [publish.Item(name, threads, 1, 1) for name in ("a.ts", "resnet18.ts") for threads in (1, 2)]
        free = [tuple(item[:3]) for item in plan if not item.busy]
        assert free == [("a.ts", 1, 1), ("a.ts", 2, 1), ("resnet18.ts", 1, 1), ("resnet18.ts", 2, 1), ("resnet18.ts", 1, 8)]
        assert publish.plan(["a.ts"], [1], 8, busy=False) == [publish.Item("a.ts", 1)]

    def test_each_precision_has_its_models(self) -> None:
        names = ["lenet5.ts", "resnet18.ts", "vgg16.ts"]
        work = publish.plan(names, [1, 2], 1, busy=True, precisions=["bfloat16", "int8"], forms=["qdq", "qop"])
        bf16 = [publish.Item(name, count, precision="bfloat16") for name in names[1:] for count in (1, 2)]
        assert work == bf16 + [publish.Item(f"resnet18.ts {form}", count) for form in ("qdq", "qop") for count in (1, 2)]
        assert set(suite.QUANTISED) <= set(suite.DOZEN)
        assert len(set(work)) == len(work)
        stored = record("resnet18.ts", precision="bfloat16", cnnengine=1.0)
        assert publish.item_of(stored) == publish.Item("resnet18.ts", 1, precision="bfloat16")
        assert publish.item_of({key: stored[key] for key in stored if key != "precision"}) == publish.Item("resnet18.ts", 1)

    def test_the_disturbed_are_measured_again_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def measured(self: publish.Comparison, case: Any) -> dict[str, Any]:
            calls.append((case.title, self.threads, self.busy))
            found = record(case.title, self.threads, 1, self.busy, cnnengine=10.0, openvino=12.0)
            for engine in found["engines"].values():
                disturbed = self.threads == 2 and engine["min_ms"] == 12.0
                engine["median_ms"] = engine["min_ms"] * (1.4 if disturbed else 1.1)
            return found

        calls: list[tuple[str, int, int]] = []
        monkeypatch.setattr(publish.Comparison, "measure", measured)
        options = ["--only", "lenet5", "--against", "", "--no-layers", "--results", str(tmp_path)]
        assert publish.main(options) == 0
        first = [("lenet5.ts", 1, 0), ("lenet5.ts", 2, 0), ("lenet5.ts", 1, 1), ("lenet5.ts", 2, 1)]
        assert calls == [*first, ("lenet5.ts", 2, 0)]
        found = publish.stored(tmp_path / publish.MODELS)["records"]
        assert [publish.item_of(r)[1:4] for r in found] == [(1, 1, 0), (2, 1, 0), (1, 1, 1), (2, 1, 1)]
        assert [r["again"] for r in found] == [False, True, False, False]
        assert publish.main(options) == 0
        assert len(calls) == 5

    @pytest.mark.parametrize(
        ("given", "of_lenet", "of_dozen"),
        [
            ([], "", "torch-compile"),
            (["--torch", "all"], "torch", "torch torch-compile"),
            (["--torch", "dozen", "--compile", "none"], "", "torch"),
            (["--torch", "none", "--compile", "all"], "torch-compile", "torch-compile"),
        ],
    )
    def test_which_models_torch_runs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], of_lenet: str, of_dozen: str
    ) -> None:
        def measured(self: Any, case: Any) -> dict[str, Any]:
            ran[case.title] = " ".join(self.against)
            return record(case.title, self.threads, 1, self.busy, cnnengine=10.0)

        class Asked:
            def __init__(self, against: list[str], **options: Any) -> None:
                self.against, self.threads, self.busy = against, options["threads"], options["busy"]

            def head(self) -> dict[str, Any]:
                return {}

            measure = measured

        ran: dict[str, str] = {}
        monkeypatch.setattr(publish, "Comparison", Asked)
        options = ["--only", "lenet5,mobilenet_v2", "--against", "torch,torch-compile", "--threads", "1", "--batch", "1"]
        options += ["--precisions", "float32", "--no-busy", "--no-layers", "--no-again", "--results", str(tmp_path)]
        assert publish.main([*options, *given]) == 0
        assert ran["lenet5.ts"] == of_lenet
        assert ran["mobilenet_v2.ts"] == of_dozen

    def test_a_run_goes_on_where_it_stopped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        options = [
            "--only",
            "lenet5",
            "--against",
            "",
            "--seconds",
            "0",
            "--rounds",
            "1",
            "--no-layers",
            "--no-busy",
            "--no-again",
            "--results",
            str(tmp_path),
        ]
        assert publish.main([*options, "--threads", "1"]) == 0
        first = publish.stored(tmp_path / publish.MODELS)
        assert [(r["model"], r["threads"], r["run"]) for r in first["records"]] == [("lenet5.ts", 1, 0)]
        assert "turns" not in first["records"][0]["engines"]["cnnengine"]
        assert publish.main(options) == 0
        second = publish.stored(tmp_path / publish.MODELS)
        assert second["records"][0] == first["records"][0]
        assert [(r["model"], r["threads"], r["run"]) for r in second["records"][1:]] == [("lenet5.ts", 2, 1)]
        monkeypatch.setattr(publish.Comparison, "measure", pytest.fail)
        assert publish.main(options) == 0


class TestFamilies:
    def test_every_layer_is_what_it_says(self) -> None:
        seen = {layer.title: layer for layer in suite.LAYERS}
        assert len(seen) == len(suite.LAYERS)
        for layer in suite.LAYERS:
            x, w, b = families.arrays(layer)
            assert (x.shape, w.shape) == (layer.x, layer.w)
            spatial, groups = len(layer.x) - 2, layer.options.get("groups", 1)
            if layer.operator == "Conv":
                assert w.shape[1] * groups == x.shape[1]
                assert w.shape[0] % groups == 0
                assert len(w.shape) == spatial + 2
            assert b.shape == (w.shape[1] if layer.operator == "ConvTranspose" else w.shape[0],)

    def test_one_family(self, tmp_path: Path) -> None:
        target = tmp_path / "families.json"
        isa = cnnengine.show_config()["isa"]
        arguments = ["--only", "dense, batch 64", "--rounds", "1", "--seconds", "0", "--isa", str(isa), "--json", str(target)]
        assert families.main(arguments) == 0
        (found,) = json.loads(target.read_text())["layers"]
        assert (found["set"], found["family"]) == (isa, "dense, batch 64")
        assert found["isa"]["cnnengine"] == isa
        assert found["cnnengine"]["chosen"]["flops"] == 2 * 64 * 2048 * 1000
        assert 0 < found["cnnengine"]["chosen"]["of_peak"] < 2
        assert found["cnnengine"]["chosen"]["call_ms"] > 0

    def test_what_onednn_tells_of_its_primitives(self) -> None:
        lines = [
            "onednn_verbose,v1,info,cpu,isa:Intel AVX2",
            "onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src:f32::blocked:abcd,,,1x64x56x56,0.25",
            "onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx2,forward_inference,src:f32,,alg:direct,mb1_ic64oc64,2.5\n",
            "onednn_verbose,v1,primitive,create:cache_miss,cpu,convolution,jit:avx2,forward_inference,src:f32,,,mb1_ic64oc64,7.5",
            "onednn_verbose,v1,primitive,exec,cpu,inner_product,gemm:jit,forward_inference,src:f32,,,mb1ic9216oc4096,0.125",
            "something else, convolution, 3",
        ]
        assert families.primitives(lines) == [2.5, 0.125]

    def test_kernel_beside_kernel_and_call_beside_call(self, tmp_path: Path) -> None:
        class Side:
            def __init__(self, answers: list[dict[str, Any]]) -> None:
                self.answers = answers

            def ask(self, do: str, output: str = "", **request: Any) -> dict[str, Any]:
                if do == "prepare":
                    np.save(output, np.ones(1))
                    return {"isa": "avx2"}
                return self.answers.pop(0)

        def way(ms: float, call: float, peak: float) -> dict[str, Any]:
            return {"chosen": {"ms": ms, "call_ms": call, "flops": 1e6, "peak_gflops": peak, "gflops": 1 / ms, "roofline": 1.0}}

        workers = {
            "cnnengine": Side([way(0.5, 0.9, 4.0), way(0.25, 1.0, 3.0)]),
            "torch": Side([{"times_ms": [3.0], "kernels_ms": [1.0, 0.5]}, {"times_ms": [2.0], "kernels_ms": []}]),
        }
        options = type("Options", (), {"threads": 1, "rounds": 2, "seconds": 0.0})()
        found = families.measure(0, workers, options, tmp_path)
        assert (found["cnnengine"]["chosen"]["ms"], found["cnnengine"]["chosen"]["call_ms"]) == (0.25, 0.9)
        assert found["cnnengine"]["chosen"]["of_peak"] == 1.0
        assert found["torch"] == {"call_ms": 2.0, "kernel_ms": 0.5, "gflops": 2.0, "kernel_of_peak": 0.5}


class TestRegress:
    def test_interval(self) -> None:
        assert regress.interval([1.0]) == (1.0, 1.0)
        assert regress.interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
        values = [float(i) for i in range(1, 13)]
        assert regress.interval(values) == (3.0, 10.0)  # 1 - 2 * (1 + 12 + 66) / 4096 = 96.1 %
        assert regress.interval(values, 0.99) == (2.0, 11.0)

    def test_verdict(self) -> None:
        assert regress.verdict(1.06, 1.2, 0.05) == "slower"
        assert regress.verdict(1.04, 1.2, 0.05) == ""
        assert regress.verdict(0.8, 0.9, 0.05) == "faster"
        assert regress.verdict(0.8, 1.0, 0.05) == ""

    def test_this_tree_against_itself(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(regress.harness, "ROOT", Path(cnnengine.__file__).resolve().parents[1])
        target = tmp_path / "r.json"
        arguments = [".", ".", "--kernels", "relu 1x64,dense, batch 64", "--models", MODEL, "--rounds", "1", "--seconds", "0"]
        arguments += ["--loads", MODEL]
        assert regress.main([*arguments, "--threshold", "1000", "--json", str(target)]) == 0
        found = json.loads(target.read_text())["items"]
        assert {item["kind"] for item in found} == {"layer", "function", "model", "load"}
        assert all(item["ratio"] > 0 for item in found)
        assert "geometric mean B / A" in capsys.readouterr().out

    def test_what_is_slower_is_measured_twice(self) -> None:
        class Side:
            def __init__(self, time_ms: float) -> None:
                self.time_ms = time_ms

            def ask(self, do: str, **request: Any) -> dict[str, Any]:
                return {"times_ms": [self.time_ms]}

        options = type("Options", (), {"threads": 1, "rounds": 6, "seconds": 0.0, "threshold": 0.05})()
        item = {"kind": "function", "key": 0, "title": "t"}
        slower = regress.measure(item, [Side(1.0), Side(1.1)], options)
        assert (slower["verdict"], slower["rounds"]) == ("slower", 12)
        same = regress.measure(item, [Side(1.0), Side(1.04)], options)
        assert (same["verdict"], same["rounds"]) == ("", 6)

    def test_an_unknown_commit(self) -> None:
        with pytest.raises(SystemExit, match="git rev-parse"):
            regress.main(["no-such-commit", "."])


def test_scaling(capsys: pytest.CaptureFixture[str]) -> None:
    """Every step is in the table by kernel, with a time at both numbers of threads; the losses are the differences."""
    assert scaling.main([MODEL, "--seconds", "0.1", "--top", "1000"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith(f"{MODEL}: 1 thread ")
    tables_at = [i for i, line in enumerate(lines) if line.split()[0] in ("kernel", "step")]
    kinds, steps = lines[tables_at[0] + 1 : tables_at[1]], lines[tables_at[1] + 1 :]
    assert len(steps) == sum(int(line[30:].split()[0]) for line in kinds) > 5
    for line in kinds:
        _, one, two, loss = (float(cell) for cell in line[30:].split())
        assert one > 0 and two > 0 and abs(loss - (two - one / 2)) < 0.2


@pytest.mark.parametrize("route", ["c", "python"])
def test_callers(route: str) -> None:
    """Several callers are counted, and the process is silent afterwards."""
    import shutil
    import sysconfig

    config = Path(sysconfig.get_config_var("BINDIR"), f"python{sysconfig.get_config_var('LDVERSION')}-config")
    if route == "c" and (shutil.which("cc") is None or not config.exists()):
        pytest.skip("programs that embed Python cannot be built here")
    command_line = [
        sys.executable,
        BENCHMARKS / "callers.py",
        MODEL,
        "--routes",
        route,
        "--cases",
        "1x1",
        "3x2",
        "--seconds",
        "0.2",
    ]
    folder = str(Path(cnnengine.__file__).resolve().parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, *(p for p in sys.path if p)])}
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    assert [row[:2] for row in rows[2:]] == [[route.capitalize(), "1 x 1"], [route.capitalize(), "3 x 2"]]
    for row in rows[2:]:
        runs, median, worst, busy, idle = (float(cell) for cell in row[2:])
        assert runs > 0 and 0 < median <= worst and busy > 0
        assert idle < 20  # ms of CPU time in a second
