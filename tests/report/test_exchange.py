"""Files of profiles for other programs: what the two formats ask for, names as they are, times that add up."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import onnx
import pytest

import cnnengine
from cnnengine.report import Profile, StepProfile, profile

LENET = Path(__file__).resolve().parents[2] / "models" / "digits_lenet.onnx"
ODD = 'a "b" \\ \n\t\x00 \N{CJK UNIFIED IDEOGRAPH-4E2D} \U0001f600 \udcff </script>'
RATES = ((1 << 18, 80.0), (1 << 22, 40.0), (1 << 27, 10.0))
STEPS = (
    StepProfile("first", "Conv", "reorder", 2, 1e-6, 2e-6, 0.0, 640.0, 5e-7, (("a", (1, 8, 4, 4)),)),
    StepProfile("first", "Conv", "conv 6x2", 4, 4e-6, 5e-6, 4e5, 2e4, 2e-6, (("a", (1, 8, 4, 4)),)),
    StepProfile(ODD, "NonZero", "host", 1, 1.0004e-6, 3e-6, 0.0, 0.0, 0.0, ((ODD, None), ("n", ()))),
    StepProfile("first", "Conv", "reorder", 1, 5e-7, 6e-7, 0.0, 64.0, 1e-7, (("a", (1, 8, 4, 4)),)),
    StepProfile("results", "Relu", "activation", 1, 2e-6, 2e-6, 8.0, 64.0, 1e-9),
)


def made(*steps: StepProfile, threads: int = 2) -> Profile:
    return Profile(ODD, "avx2", threads, {"x": (1, 3)}, 7, 100.0, 0.0, RATES, 9e-6, 1.2e-5, steps, ("the peak fell",))


@pytest.fixture(scope="module")
def report() -> Profile:
    with cnnengine.load(LENET, threads=1) as model:
        return profile(model, seconds=0)


def strict(path: Path) -> Any:
    """A file that any reader of JSON takes: ASCII, no NaN, no key twice."""

    def once(pairs: list) -> dict:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    return json.loads(path.read_bytes().decode("ascii"), parse_constant=pytest.fail, object_pairs_hook=once)


def check_trace(events: list[dict[str, Any]]) -> None:
    """The fields that Chrome's trace format gives complete events and metadata, each of its type."""
    named = set()
    for event in events:
        assert {"ph", "name", "pid", "tid", "ts", "args"} <= event.keys()
        assert isinstance(event["name"], str)
        assert event["name"]
        assert (type(event["pid"]), type(event["tid"]), type(event["args"])) == (int, int, dict)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
            assert event["args"].keys() == ({"sort_index"} if event["name"].endswith("index") else {"name"})
            if event["name"] == "thread_name":
                named.add(event["tid"])
            continue
        assert event["ph"] == "X"
        assert isinstance(event["cat"], str)
        assert all(isinstance(event[k], float) and math.isfinite(event[k]) and event[k] >= 0 for k in ("ts", "dur"))
        assert event["tid"] in named  # metadata stand first


class TestTrace:
    def test_events(self, report: Profile) -> None:
        for one in (report, made(*STEPS)):
            check_trace(one.trace_events())

    @pytest.mark.parametrize(("track", "which"), [(1, "seconds_median"), (2, "seconds_min")])
    def test_steps_follow_one_another(self, track: int, which: str) -> None:
        events = [e for e in made(*STEPS).trace_events() if e["ph"] == "X" and e["tid"] == track]
        assert [e["name"] for e in events] == [step.node for step in STEPS]
        assert [e["dur"] for e in events] == pytest.approx([getattr(step, which) * 1e6 for step in STEPS], abs=0.0011)
        assert events[0]["ts"] == 0
        for before, after in itertools.pairwise(events):
            assert before["ts"] + before["dur"] == pytest.approx(after["ts"], abs=1e-9)

    def test_what_a_step_is(self) -> None:
        conv, host = (e for e in made(*STEPS).trace_events() if e["tid"] == 1 and e["args"].get("step") in (1, 2))
        assert conv["cat"] == "Conv"
        assert conv["args"] == {
            "step": 1,
            "node": "first",
            "operator": "Conv",
            "kernel": "conv 6x2",
            "outputs": {"a": "1x8x4x4"},
            "flops": 4e5,
            "bytes": 2e4,
            "chunks": 4,
            "GFLOP/s": 100.0,
            "roofline": 0.5,
        }
        assert host["args"]["outputs"] == {ODD: "?", "n": "scalar"}
        assert "roofline" not in host["args"]

    def test_tracks_are_steps_and_not_threads(self) -> None:
        events = made(*STEPS).trace_events()
        names = [e["args"]["name"] for e in events if e["name"] == "thread_name"]
        assert names == ["steps: medians of 7 rounds, 2 threads on each", "steps: shortest of 7 rounds, 2 threads on each",
                         "whole run: median of 7"]  # fmt: skip
        assert "1 thread on each" in made(*STEPS, threads=1).trace_events()[1]["args"]["name"]
        (whole,) = (e for e in events if e["ph"] == "X" and e["tid"] == 3)
        assert (whole["ts"], whole["dur"], whole["name"]) == (0, 12.0, ODD)

    def test_the_file(self, tmp_path: Path) -> None:
        made(*STEPS).write_trace(tmp_path / "t.json")
        data = strict(tmp_path / "t.json")
        assert data["traceEvents"] == made(*STEPS).trace_events()
        assert data["displayTimeUnit"] == "ms"
        assert data["otherData"]["model"] == ODD
        assert data["otherData"]["disturbed"] == ["the peak fell"]

    def test_a_profile_without_steps(self) -> None:
        events = made().trace_events()
        check_trace(events)
        assert sum(e["ph"] == "X" for e in events) == 1

    def test_shapes_are_those_of_the_layers(self, report: Profile) -> None:
        first = next(e for e in report.trace_events() if e["ph"] == "X" and e["args"]["operator"] == "Conv")
        assert first["args"]["outputs"] == {"/Relu_output_0": "1x6x28x28"}
        assert json.loads(json.dumps(report.as_dict()))["steps"][0]["outputs"] == [
            {"name": "/Relu_output_0", "shape": [1, 6, 28, 28]}
        ]


def check_node_data(data: dict[str, Any]) -> None:
    """What Model Explorer reads as the data of one graph."""
    assert data.keys() <= {"name", "results", "thresholds", "gradient"}
    assert isinstance(data["name"], str)
    assert "results" not in data["results"]  # that would make it a file of several graphs
    for key, result in data["results"].items():
        assert isinstance(key, str)
        assert key
        assert result.keys() == {"value"}
        assert isinstance(result["value"], float)
        assert math.isfinite(result["value"])
    stops = [item["stop"] for item in data["gradient"]]
    assert (stops[0], stops[-1]) == (0, 1)
    assert stops == sorted(stops)
    for item in data["gradient"]:
        assert len(item["bgColor"]) == 7
        int(item["bgColor"].removeprefix("#"), 16)


class TestNodeData:
    def test_nodes_are_those_of_the_file(self, report: Profile) -> None:
        data = report.node_data()
        check_node_data(data)
        assert data["results"].keys() <= {node.name for node in onnx.load(LENET).graph.node}
        assert sum(result["value"] for result in data["results"].values()) == pytest.approx(report.steps_min * 1e6, abs=0.01)

    def test_the_steps_of_a_node_are_one_number(self, tmp_path: Path) -> None:
        made(*STEPS).write_node_data(tmp_path / "n.json")
        data = strict(tmp_path / "n.json")
        check_node_data(data)
        assert data["results"] == {"first": {"value": 5.5}, ODD: {"value": 1.0}}

    def test_a_profile_without_steps(self) -> None:
        check_node_data(made().node_data())


@pytest.mark.parametrize("write", ["write_trace", "write_node_data"])
def test_a_file_that_cannot_be_written(tmp_path: Path, write: str) -> None:
    with pytest.raises(cnnengine.InputError, match="cannot be written"):
        getattr(made(*STEPS), write)(tmp_path / "none" / "x.json")
    getattr(made(*STEPS), write)(tmp_path / "x.json")
    size = (tmp_path / "x.json").stat().st_size
    getattr(made(), write)(tmp_path / "x.json")
    assert (tmp_path / "x.json").stat().st_size < size  # written anew
