"""Memory over the steps of a run: lives against graphs whose readers are counted by hand, places against each other."""

from __future__ import annotations

import itertools
import json
import math
import sys
import warnings
from pathlib import Path

import pytest
import zoo_support
from onnx import TensorProto, helper

import cnnengine
from cnnengine.report import Memory, memory, summarize

ROOT = Path(__file__).resolve().parents[2]
LENET = ROOT / "models" / "digits_lenet.onnx"
SPP = ROOT / "models" / "digits_spp.onnx"
ODD = "a $\\frac{$ \n\x07 \N{CJK UNIFIED IDEOGRAPH-4E2D} <b>"
"""A name that is no formula, with characters that end lines and that fonts lack."""


def model_of(nodes: list, shapes: dict[str, list], outputs: dict[str, list], kinds: dict[str, int] | None = None):
    infos = [
        [helper.make_tensor_value_info(name, (kinds or {}).get(name, TensorProto.FLOAT), shape) for name, shape in group.items()]
        for group in (shapes, outputs)
    ]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    return cnnengine.load(
        helper.make_model(helper.make_graph(nodes, "g", *infos), opset_imports=imports, ir_version=8), threads=1
    )


def lives(found: Memory) -> dict[str, tuple[int, int]]:
    return {one.name: (one.first, one.last) for one in found.held}


def check_places(found: Memory) -> None:
    """Nothing lies outside of the arena, and nothing on what is still needed."""
    for one in found.held:
        assert 0 <= one.first <= one.last < len(found.steps)
        assert 0 <= one.offset < one.offset + one.nbytes <= found.arena_bytes
    for a, b in itertools.combinations(found.held, 2):
        together = a.first <= b.last and b.first <= a.last
        apart = a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
        assert apart or not together, (a, b)
    for step, used in enumerate(found.in_use):
        assert used == sum(one.nbytes for one in found.at(step)) <= found.arena_bytes


def skip() -> cnnengine.Model:
    """`a` is read by the second and by the last node: it lives all the time."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a"], "first", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("AveragePool", ["a"], ["b"], "second", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["b"], ["c"], "third", kernel_shape=[5, 5], pads=[2, 2, 2, 2]),
        helper.make_node("AveragePool", ["c"], ["d"], "fourth", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["d", "a"], ["y"], "last"),
    ]
    return model_of(nodes, {"x": [1, 8, 16, 16]}, {"y": [1, 8, 16, 16]})


class TestLives:
    def test_what_is_read_again_later_stays(self) -> None:
        found = memory(skip())
        nodes = [node for node, _, _ in found.steps]
        made = nodes.index("second") - 1  # a reorder of the input may come before, one of the output behind the last node
        held = lives(found)
        assert nodes[made] == "first"
        assert held["a"] == (made, nodes.index("last"))
        assert held["b"] == (nodes.index("second"), nodes.index("third"))
        assert held["c"] == (nodes.index("third"), nodes.index("fourth"))
        assert "y" not in held or held["y"][0] >= nodes.index("last")
        check_places(found)

    def test_the_most_is_where_three_tensors_live_at_once(self) -> None:
        found = memory(skip())
        assert found.in_use[found.peak] == max(found.in_use)
        assert {one.name for one in found.at(found.peak)} >= {"a"}
        assert len(found.at(found.peak)) == 3
        sizes = [one.nbytes for one in found.at(found.peak)]
        assert sizes == sorted(sizes, reverse=True)

    @pytest.mark.parametrize("name", ["resnet18.dy", "squeezenet1_1.ts", "unet_convt.ts", "shufflenet_v2_x1_0.ts9"])
    def test_networks(self, name: str) -> None:
        with cnnengine.load(zoo_support.model_proto(name), threads=1) as model:
            summary = summarize(model)
            found = memory(model)
        assert found == summary.memory
        assert found.arena_bytes == summary.arena_bytes
        check_places(found)
        sizes = {
            n: 4 * math.prod(o[0]) for layer in summary.layers for n, o in zip(layer.tensors, layer.outputs, strict=True) if o
        }
        whole = [one for one in found.held if len(one.tensors) == 1 and one.name in sizes]
        assert len(whole) > 5
        for one in whole:
            assert one.nbytes >= sizes[one.name]  # and the zeros around it
        assert max(found.in_use) > 0.9 * found.arena_bytes

    def test_the_parts_of_a_concat_are_in_it(self) -> None:
        pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes = [
            helper.make_node("MaxPool", ["x"], ["a"], "m", **pads),
            helper.make_node("AveragePool", ["x"], ["b"], "n", **pads),
            helper.make_node("Concat", ["a", "b"], ["c"], "join", axis=1),
            helper.make_node("MaxPool", ["c"], ["y"], "last", **pads),
        ]
        found = memory(model_of(nodes, {"x": [1, 32, 8, 8]}, {"y": [1, 64, 8, 8]}))
        (joined,) = (one for one in found.held if "c" in one.tensors)
        assert joined.tensors == ("c", "a", "b")
        assert joined.node in ("m", "n")  # what is a part writes first
        assert joined.nbytes >= 4 * 64 * 64
        assert "join" not in {node for node, _, _ in found.steps}
        check_places(found)

    def test_steps_on_the_host(self) -> None:
        nodes = [
            helper.make_node("Sigmoid", ["x"], ["r"], "one"),
            helper.make_node("Binarizer", ["r"], ["s"], "two", domain="ai.onnx.ml"),
            helper.make_node("Tanh", ["s"], ["y"], "three"),
        ]
        found = memory(model_of(nodes, {"x": [2, 300]}, {"y": [2, 300]}))
        assert found.steps[1] == ("two", "Binarizer", "host")
        assert lives(found) == {"r": (0, 1), "s": (1, 2)}
        check_places(found)

    def test_shapes_that_depend_on_data(self) -> None:
        nodes = [
            helper.make_node("Sigmoid", ["x"], ["r"], "one"),
            helper.make_node("Tanh", ["r"], ["s"], "two"),
            helper.make_node("NonZero", ["s"], ["i"], "three"),
            helper.make_node("Transpose", ["i"], ["t"], "four"),
            helper.make_node("Neg", ["t"], ["y"], "five"),
        ]
        found = memory(model_of(nodes, {"x": [40, 40]}, {"y": ["r", "n"]}, {"y": TensorProto.INT64}))
        names = [node for node, _, _ in found.steps]
        assert names[:3] == ["one", "two", "three"]
        assert "five" in names[3:]
        assert lives(found)["r"] == (0, 1)
        check_places(found)

    def test_the_words_of_a_step_that_may_complain_are_read_at_the_end(self) -> None:
        nodes = [
            helper.make_node("Gather", ["x", "i"], ["a"], "take", axis=0),
            helper.make_node("Sigmoid", ["a"], ["b"], "then"),
            helper.make_node("Tanh", ["b"], ["y"], "last"),
        ]
        found = memory(model_of(nodes, {"x": [9, 64], "i": [5]}, {"y": [5, 64]}, {"i": TensorProto.INT64}))
        words = [one for one in found.held if not one.tensors]
        assert words
        assert max(one.last for one in words) == len(found.steps) - 1
        assert {one.name for one in words} == {"working memory of take"}
        check_places(found)

    def test_a_model_with_nothing_in_between(self) -> None:
        nodes = [helper.make_node("Tanh", ["x"], ["y"], "only")]
        found = memory(model_of(nodes, {"x": [2, 3]}, {"y": [2, 3]}))
        assert (found.held, found.peak, found.in_use) == ((), -1, (0,))
        assert "the most" not in str(found)

    def test_a_dynamic_size(self) -> None:
        with cnnengine.load(SPP) as model:
            assert summarize(model).memory is None
            with pytest.raises(cnnengine.InputError, match="give the shape"):
                memory(model)
            with pytest.raises(cnnengine.InputError, match="memory is known when shapes are"):
                summarize(model).plot()
            small, large = (memory(model, {"image": (1, 1, n, n)}) for n in (16, 32))
        assert 2 * small.arena_bytes < large.arena_bytes

    def test_it_is_plain_data_and_text(self) -> None:
        found = memory(LENET)
        data = json.loads(json.dumps(found.as_dict(), allow_nan=False))
        assert [step["in_use"] for step in data["steps"]] == list(found.in_use)
        assert data["steps"][data["peak"]]["in_use"] == max(found.in_use)
        assert {tuple(held["tensors"]) for held in data["held"]} == {one.tensors for one in found.held}
        assert summarize(LENET).as_dict()["memory"] == found.as_dict()
        lines = str(found).splitlines()
        assert len(lines) == 3 + len(found.steps)
        assert lines[-1].startswith(f"the most: {max(found.in_use):,} bytes in step {found.peak}: ")
        assert "<table>" in found._repr_html_()


class TestPlot:
    def test_a_box_for_every_tensor(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        found = memory(skip())
        figure = found.plot()
        above, below = figure.axes
        paths = [p.get_extents() for c in above.collections for p in c.get_paths()]
        unit = max(p.y1 for p in paths) / max(one.offset + one.nbytes for one in found.held)
        drawn = sorted((round(p.x0), round(p.x1), round(p.y0 / unit), round(p.y1 / unit)) for p in paths)
        assert drawn == sorted((h.first, h.last + 1, h.offset, h.offset + h.nbytes) for h in found.held)
        (stairs,) = (patch for patch in below.patches if hasattr(patch, "get_data"))
        assert [round(n / unit) for n in stairs.get_data().values] == [round(n) for n in found.in_use]
        (said,) = (t.get_text() for t in above.texts if t.get_text().startswith("the most"))
        assert f"in step {found.peak}, " in said
        figure.savefig(tmp_path / "memory.png")
        assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")

    def test_names_that_are_no_formulas(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        nodes = [
            helper.make_node("MaxPool", ["x"], [ODD], ODD, kernel_shape=[2, 2]),
            helper.make_node("Tanh", [ODD], ["y"], "last"),
        ]
        figure = memory(model_of(nodes, {"x": [1, 8, 9, 9]}, {"y": [1, 8, 8, 8]})).plot()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph ")
            figure.savefig(tmp_path / "memory.svg")
        assert any("frac" in text.get_text() for axes in figure.axes for text in axes.texts)

    def test_nothing_to_draw(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        nodes = [helper.make_node("Tanh", ["x"], ["y"], "only")]
        memory(model_of(nodes, {"x": [2, 3]}, {"y": [2, 3]})).plot().savefig(tmp_path / "memory.png")
        assert (tmp_path / "memory.png").stat().st_size > 1000

    def test_without_matplotlib(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(cnnengine.InputError, match="plots need matplotlib: pip install matplotlib"):
            summarize(LENET).plot()
