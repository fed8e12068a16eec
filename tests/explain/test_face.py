"""Targets, inputs, results, the page and the command of `explain`."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import runner
from explain.test_methods import FLOAT, HEADS, MISSES, body, model_of, node, rand, sample
from onnx import helper
from PIL import Image

import cnnengine
from cnnengine import pages
from cnnengine.errors import CNNEngineError, InputError
from cnnengine.explain.page import page
from cnnengine.explain.result import enlarged

ROOT = Path(__file__).resolve().parents[2]
NIN = ROOT / "models" / "digits_nin.onnx"
THREE = ROOT / "models" / "samples" / "3.png"
X = sample((1, 3, 8, 10))
LABELS = ["cat", "dog, hound", "cow", "<script>alert(1)</script>", 'a" onerror="x']


@pytest.fixture
def model() -> Any:
    with cnnengine.load(model_of(HEADS["global pool, flatten, dense"][0])) as made:
        yield made


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    return runner(capsys)


# ---------------------------------------------------------------- targets
def test_targets_by_index_label_and_function(model: cnnengine.Model) -> None:
    scores = model(X)[0]
    assert model.explain(X).target == int(scores.argmax())
    by_label = model.explain(X, "hound", labels=LABELS)
    assert (by_label.target, by_label.label) == (1, "dog, hound")
    np.testing.assert_array_equal(by_label.map, model.explain(X, 1).map)
    assert model.explain(X, np.int64(2)).target == 2
    assert model.explain(X, (3,)).target == (3,)
    several = model.explain(X, [0, "cow"], labels=LABELS)
    assert [one.target for one in several] == [0, 2]
    assert [one.target for one in model.explain(X, top=3)] == np.argsort(-scores)[:3].tolist()
    difference = model.explain(X, lambda y: y[0, 1] - y[0, 0])
    assert difference.method == "ablation"
    assert "function" in difference.why
    assert difference.score == pytest.approx(scores[1] - scores[0])
    one, other = (model.explain(X, k, method="ablation").coarse for k in (1, 0))
    np.testing.assert_allclose(difference.coarse, one - other, atol=1e-4)


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        (5, {}, "0 to 4"),
        (-1, {}, "0 to 4"),
        (1.5, {}, "integer"),
        (True, {}, "integer"),
        ("cart", {"labels": LABELS}, "did you mean 'cat'"),
        ("cat", {}, "no labels"),
        ("cat", {"labels": ["a", "b"]}, "2 labels for 5 scores"),
        ("x", {"labels": ["x", "x", "a", "b", "c"]}, "indices 0, 1"),
        ((1, 2), {}, "1 numbers"),
        ((7,), {}, "-5 to 4"),
        (lambda y: "much", {}, "no number"),
        (lambda y: np.nan, {}, "no number"),
        (0, {"method": "gradcam"}, "unknown method"),
        (0, {"hide": "black"}, "unknown hide"),
        (0, {"output": "z"}, "no such output"),
        (0, {"input": "image"}, "no such input"),
        (0, {"layout": "NCWH"}, "unknown layout"),
        (0, {"top": 2}, "in place of a target"),
        (0, {"layer": "f", "method": "cam"}, "belongs to ablation"),
        (0, {"patch": 3, "method": "cam"}, "belong to occlusion"),
        (0, {"patch": 11}, "1 to 8"),
        (0, {"patch": (3, 3, 3)}, "1 or 2 numbers"),
        (0, {"patch": 3, "stride": 4}, "1 to 3"),
        (0, {"limit": 0}, ">= 1"),
        (0, {"progress": 3}, "function"),
    ],
)
def test_what_is_not_there_is_a_named_error(model: cnnengine.Model, target: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        model.explain(X, target, **options)
    assert caught.value.model == model.name


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.concatenate([X, X]), "one sample"),
        (X[:0], "one sample"),
        (X.astype(np.float64), "dtype"),
        (X[:, :2], "shape|extent|channels|expected"),
        ({"y": X}, "y"),
        (X * np.float32(np.nan), "no finite number"),
        ("nowhere.png", "says how a picture becomes"),
    ],
)
def test_inputs_that_cannot_be_explained(model: cnnengine.Model, x: Any, said: str) -> None:
    with pytest.raises(CNNEngineError, match=said):
        model.explain(x, 0)


def test_a_closed_model_and_what_ends_no_ranking(model: cnnengine.Model) -> None:
    proto = model_of([*body(), node("Conv", ["f", "narrow"], ["y"])])
    with cnnengine.load(proto) as maps:
        with pytest.raises(InputError, match="say what is explained"):
            maps.explain(X)
        with pytest.raises(InputError, match="tuple of 3 numbers"):
            maps.explain(X, 2)
        found = maps.explain(X, (2, 4, 7))
        assert found.score == pytest.approx(float(maps(X)[0, 2, 4, 7]))
        near = maps.explain(X, (2, 4, 7), patch=1)
        rows, columns = np.nonzero(np.abs(near.coarse) > 1e-6)
        assert rows.min() >= 3
        assert rows.max() <= 5
        assert columns.min() >= 6
        assert columns.max() <= 8
    model.close()
    with pytest.raises(cnnengine.ClosedError):
        model.explain(X, 0)


def test_a_batch_that_the_file_fixes_and_an_input_without_places() -> None:
    with (
        cnnengine.load(model_of(HEADS["global pool, flatten, dense"][0], shape=(4, 3, 8, 10))) as fixed,
        pytest.raises(InputError, match="fixes a batch"),
    ):
        fixed.explain(rand(4, 3, 8, 10), 0)
    with (
        cnnengine.load(model_of([node("Gemm", ["x", "b"], ["y"])], shape=("N", 6))) as dense,
        pytest.raises(InputError, match="no axes that are places"),
    ):
        dense.explain(rand(1, 6), 0)


def test_several_inputs() -> None:
    nodes = [*HEADS["global pool, flatten, dense"][0][:-1], node("Gemm", ["v", "bt", "c"], ["p"], transB=1)]
    nodes += [node("Add", ["p", "offset"], ["y"])]
    offset = rand(1, 5, seed=2)
    with cnnengine.load(model_of(nodes, more={"offset": ("N", 5)})) as model:
        found = model.explain({"x": X, "offset": offset}, 1)
        assert (found.method, found.input) == ("cam", "x")
        assert found.coarse.mean(dtype=np.float64) + found.bias == pytest.approx(found.score, abs=1e-5)
        for method in ("ablation", "occlusion"):
            assert model.explain({"x": X, "offset": offset}, 1, method=method).map.shape == (8, 10)
    nodes = [
        node("Add", ["x", "z"], ["xz"]),
        node("Conv", ["xz", "w"], ["f"]),
        node("GlobalMaxPool", ["f"], ["m"]),
        node("Flatten", ["m"], ["y"]),
    ]
    with cnnengine.load(model_of(nodes, more={"z": ("N", 3, 8, 10)})) as model:
        with pytest.raises(InputError, match="say which is explained"):
            model.explain({"x": X, "z": X}, 0)
        found = model.explain({"x": X, "z": X[:, :, ::-1].copy()}, 0, input="z", method="occlusion")
        assert found.input == "z"


def test_the_sample_may_lack_its_axis_and_a_softmax_is_looked_behind(model: cnnengine.Model) -> None:
    np.testing.assert_array_equal(model.explain(X[0], 1).map, model.explain(X, 1).map)
    with cnnengine.load(model_of(HEADS["mean from behind, reshaped, softmax"][0])) as soft:
        found = soft.explain(X, 2)
        assert found.output == pytest.approx(float(soft(X)[0, 2]))
        assert found.score != found.output
    # of the wrong axis it makes no ranking
    nodes = [
        *body(),
        node("GlobalAveragePool", ["f"], ["m"]),
        node("Softmax", ["m"], ["o"], axis=3),
        node("Flatten", ["o"], ["y"]),
    ]
    with cnnengine.load(model_of(nodes)) as odd:
        assert odd.explain(X, 2).score == pytest.approx(1)


def test_layout_is_asked_for_where_nothing_says_it() -> None:
    nodes = [node("Transpose", ["x"], ["t"], perm=[0, 2, 1, 3]), node("Conv", ["t", "one"], ["f"]), node("Flatten", ["f"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 4, 6, 5])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [onnx.numpy_helper.from_array(rand(2, 6, 1, 1), "one")],
    )
    with cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)) as model:
        with pytest.raises(InputError, match="say it"):
            model.explain(rand(1, 4, 6, 5), 0)
        assert model.explain(rand(1, 4, 6, 5), 0, layout="NHWC").map.shape == (4, 6)


def test_progress_counts_to_the_end(model: cnnengine.Model) -> None:
    told: list[tuple[int, int]] = []
    model.explain(X, 0, method="occlusion", patch=2, stride=1, progress=lambda *n: told.append(n))
    assert told[-1] == (63, 63)
    assert all(a < b for a, b in itertools.pairwise(told))


# ---------------------------------------------------------------- results
def test_a_result_tells_all_about_itself(model: cnnengine.Model) -> None:
    for method, paper, year in (("cam", "Zhou", 2016), ("ablation", "Desai", 2020), ("occlusion", "Zeiler", 2014)):
        found = model.explain(X, 1, method=method)
        text, told = str(found), json.loads(json.dumps(found.as_dict()))
        assert paper in found.source
        assert str(year) in found.source
        for part in (method, paper, "asked for", f"{found.score:.6g}", found.limits[0], str(found.cost["runs"])):
            assert part in text
        assert told["coarse"] == found.coarse.tolist()
        assert set(told) >= {"model", "method", "why", "target", "score", "cost", "source", "limits"}
        assert "<table>" in found._repr_html_()
        assert "data:image/png" in found._repr_html_()


def test_maps_are_enlarged_between_the_middles_of_places() -> None:
    found = enlarged(np.array([[0.0, 4.0]], np.float32), (2, 8))
    assert found.tolist() == [[0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]] * 2
    assert enlarged(rand(3, 4), (9, 12)).mean() == pytest.approx(rand(3, 4).mean(), abs=1e-6)
    assert enlarged(rand(5), (5,)).tolist() == rand(5).tolist()


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ({"fit": "stretch"}, (slice(0, 60), slice(0, 120))),
        ({"fit": "crop"}, (slice(0, 60), slice(30, 90))),
        ({"fit": "letterbox"}, (slice(0, 60), slice(0, 120))),
    ],
)
def test_the_map_lies_where_the_picture_does(settings: dict[str, Any], seen: tuple[slice, slice]) -> None:
    """Nothing is marked that the network does not see."""
    with cnnengine.load(NIN) as model:
        pixels = np.zeros((60, 120, 3), np.uint8)
        pixels[:30, 60:90] = 255
        found = model.explain(pixels, 0, method="occlusion", patch=4, stride=2, size=32, **settings)
        lying = found.on_picture()
        assert lying.shape == (60, 120)
        hidden = np.ones((60, 120), bool)
        hidden[seen] = False
        assert not lying[hidden].any()
        assert np.count_nonzero(lying[seen]) > 0.5 * lying[seen].size
        assert found.overlay().size == (120, 60)
        assert found.overlay(Image.fromarray(pixels)).size == (120, 60)
        with pytest.raises(InputError, match="another picture"):
            found.overlay(np.zeros((50, 50, 3), np.uint8))
        with pytest.raises(InputError, match="out of range"):
            found.overlay(opacity=2)


def test_a_bright_place_is_marked_where_it_is(tmp_path: Path) -> None:
    """The score is the sum of the input: a map has the input's own bright place, through a crop and back to the picture."""
    nodes = [node("Relu", ["x"], ["f"]), node("ReduceMean", ["f", "hw"], ["v"], keepdims=0), node("MatMul", ["v", "ones"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 2])],
        [onnx.numpy_helper.from_array(v, n) for n, v in {"hw": np.array([2, 3]), "ones": np.ones((3, 2), np.float32)}.items()],
    )
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[8:24, 72:88] = 200
    with cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)) as model:
        for fit in ("crop", "stretch", "letterbox"):
            found = model.explain(pixels, 0, scale=1 / 255, fit=fit, layout="NCHW")
            assert found.method == "cam"
            lying = found.on_picture()
            rows, columns = np.nonzero(lying > 0.6 * lying.max())
            assert abs(rows.mean() - 15.5) < 2, fit
            assert abs(columns.mean() - 79.5) < 2, fit
            path = tmp_path / "heat.png"
            found.save(path)
            with Image.open(path) as written:
                assert written.size == (128, 64)
                red, _, blue = np.asarray(written)[15, 79].astype(int)
                assert red > blue + 60  # orange
                assert np.ptp(np.asarray(written)[60, 10]) == 0  # nothing there


def test_signals_and_volumes_have_maps_and_no_pictures() -> None:
    for name, shape in (("a signal", (30,)), ("a volume", (4, 6, 5))):
        nodes, options = HEADS[name]
        with cnnengine.load(model_of(nodes, **options)) as model:
            found = model.explain(sample(options["shape"]), 1)
            assert found.map.shape == shape
            assert found.picture is None
            assert "<table>" in found._repr_html_()
            for draw in (found.overlay, found.on_picture, lambda found=found: page([found])):
                with pytest.raises(InputError, match="no picture"):
                    draw()
            assert model.explain(sample(options["shape"]), 1, method="occlusion").map.shape == shape


def test_colours() -> None:
    numbers = np.array([[-2.0, -1.0, 0.0, 1.0, np.nan]])
    cover = pages.heat(numbers)
    assert cover[0, :, 3].tolist() == [255, 128, 0, 128, 0]
    assert tuple(cover[0, 0, :3]) == pages.BELOW
    assert tuple(cover[0, 3, :3]) == pages.ABOVE
    assert pages.heat(np.zeros((2, 2)))[..., 3].max() == 0
    assert pages.signed(np.array([0.0, 1.0]))[0].tolist() == [255, 255, 255]


# ---------------------------------------------------------------- the page
class Seen(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_escapes_names_and_asks_nobody(model: cnnengine.Model) -> None:
    found = model.explain(X, [3, 4, 0], labels=LABELS)
    text = page(found, "</title><script>alert(2)</script>")
    seen = Seen(text)
    assert [tag for tag, _ in seen.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in seen.tags for name in attributes)
    assert "alert(2)" in seen.text
    for label in LABELS[3:]:
        assert label in seen.text
    for _, attributes in seen.tags:
        for name in ("src", "href", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), attributes
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|https?://", text)
    assert "default-src 'none'" in text
    assert sum(tag == "button" for tag, _ in seen.tags) == 3
    assert any(tag == "input" and a.get("type") == "range" for tag, a in seen.tags)
    assert LABELS[3] not in found[0]._repr_html_()


# ---------------------------------------------------------------- the command
def test_command(cnn: Any, tmp_path: Path) -> None:
    heat, html = tmp_path / "heat.png", tmp_path / "page.html"
    done = cnn("explain", NIN, THREE, "-o", heat)
    assert done.status == 0
    assert "cam, because" in "\n".join(done.out)
    with Image.open(heat) as made, Image.open(THREE) as given:
        assert made.size == given.size
    done = cnn("explain", NIN, THREE, "--class", "8", "--method", "ablation", "-o", tmp_path / "heat.json", "--json")
    assert done.status == 0
    told = json.loads(done.out[0])
    assert (told["target"], told["label"], told["method"]) == (8, "8", "ablation")
    assert json.loads((tmp_path / "heat.json").read_text()) == [told]
    assert cnn("explain", NIN, THREE, "-o", html).status == 0
    assert sum(tag == "button" for tag, _ in Seen(html.read_text()).tags) == 5
    assert cnn("explain", NIN, THREE, "--top", "2", "-o", html).status == 0
    assert sum(tag == "button" for tag, _ in Seen(html.read_text()).tags) == 2
    assert cnn("explain", NIN, THREE, "--patch", "8", "-o", tmp_path / "map.npy").status == 0
    assert np.load(tmp_path / "map.npy").shape == (32, 32)


def test_command_on_arrays_and_what_it_refuses(cnn: Any, tmp_path: Path) -> None:
    path, array = tmp_path / "m.onnx", tmp_path / "x.npy"
    onnx.save(model_of(HEADS["a signal"][0], **HEADS["a signal"][1]), path)
    np.save(array, sample((1, 3, 30)))
    done = cnn("explain", path, array, "-o", tmp_path / "map.npy")
    assert done.status == 0, done.err
    assert np.load(tmp_path / "map.npy").shape == (30,)
    for args, said in (
        ((path, array, "-o", tmp_path / "heat.png"), "no picture"),
        ((path, array, "-o", tmp_path / "heat.xyz"), "unknown kind of file"),
        ((path, array, "--class", "12"), "0 to 4"),
        ((path, tmp_path / "none.npy"), "none.npy"),
        ((NIN, tmp_path / "none.png"), "none.png"),
        ((NIN, THREE, "-o", tmp_path / "no" / "heat.png"), "cannot be written"),
        ((NIN, THREE, "-o", tmp_path / "no" / "page.html"), "cannot be written"),
        ((NIN, THREE, "-o", tmp_path / "no" / "map.npy"), "cannot be written"),
        ((NIN, THREE, "--class", "thre"), "option --class: no such class"),
    ):
        done = cnn("explain", *args)
        assert done.status == 2, args
        assert said in done.err[0]
        assert len(done.err) == 1


def test_methods_that_do_not_fit_say_why(cnn: Any, tmp_path: Path) -> None:
    path, array = tmp_path / "m.onnx", tmp_path / "x.npy"
    onnx.save(model_of(MISSES["a gate"][0]), path)
    np.save(array, X)
    done = cnn("explain", path, array, "--method", "cam")
    assert done.status == 2
    assert "Mul 'gate'" in done.err[0]


def test_the_examples_of_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/explain.md", "exec"), names)
    assert names["found"].label == "3"
    assert (tmp_path / "heat.png").is_file()
