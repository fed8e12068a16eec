"""Pages as people see them, in Chromium: every layer opens, every sum agrees, nothing is asked of the network, nothing is blank.

Needs playwright (`pip install playwright`) and a Chromium of the system, such as Debian's package: CHROMIUM names another than
/usr/bin/chromium. `make web` runs it.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import zoo_support
from onnx import TensorProto, helper, numpy_helper
from page_reader import Read
from PIL import Image

import cnnengine
from cnnengine.view import Server, look, page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or "/usr/bin/chromium"
if shutil.which(CHROMIUM) is None:
    pytest.skip(f"{CHROMIUM} is not installed", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
SAMPLE = MODELS / "samples" / "3.png"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = "</script><img src=x onerror=window.hit=1>"
DIGITS = ("digits_lenet", "digits_nin", "digits_spp")
ZOO = ("mobilenet_v2.ts", "k_unet.tf", "act_zoo.dy", "audio_m5_1d.ts", "c3d_small.ts")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        opened = tools.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield opened
        opened.close()


class Tab:
    """A tab of the browser, and what it complained of or asked for."""

    def __init__(self, browser: Any, url: str, width: int = 1360, height: int = 900, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.goto(url)
        self.page.wait_for_selector("html[data-ready]", timeout=30_000)

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *args: object) -> None:
        self.context.close()

    def verdict(self) -> dict[str, str] | None:
        """What the page says of the sum: by its element's data."""
        found: dict[str, str] | None = self.page.evaluate("(v => v ? {...v.dataset} : null)(document.getElementById('verdict'))")
        return found

    def click(self, y: int, x: int, rows: int, columns: int) -> None:
        """Click on a pixel of the map."""
        box = self.page.locator("#over").bounding_box()
        self.page.locator("#over").click(
            position={"x": (x + 0.5) / columns * box["width"], "y": (y + 0.5) / rows * box["height"]}, force=True
        )

    def assert_quiet(self, url: str) -> None:
        """Nothing was complained of, and nothing was asked for but the page itself and what is in it."""
        assert not self.complaints
        assert [r for r in self.requests if not r.startswith("data:") and r.split("#")[0] != url] == []


def written(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.html"
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


def made(name: str, budget: int = 8_000_000) -> str:
    if name in DIGITS:
        with cnnengine.load(MODELS / f"{name}.onnx") as model:
            return page(look(model, SAMPLE, timed=False, title="3.png"), budget)
    with cnnengine.load(zoo_support.materialized(name)) as model:
        return page(look(model, feeds=zoo_support.feeds(name), timed=False), budget)


def agrees(said: dict[str, str]) -> bool:
    """Whether the page's own sum is the engine's within 1e-5; the page's verdict is not asked."""
    total, engine, size = (float(said[key]) for key in ("sum", "engine", "mag"))
    return total == engine or abs(total - engine) <= 1e-5 * max(abs(engine), size)


@pytest.mark.parametrize("name", [*DIGITS, *ZOO])
def test_every_layer_opens_by_keyboard_and_its_sum_agrees(browser: Any, tmp_path: Path, name: str):
    text = made(name)
    read = Read(text)
    url = written(tmp_path, "page", text)
    with Tab(browser, url) as tab:
        tab.page.focus("#layers")
        tab.page.keyboard.press("Home")
        for i, layer in enumerate(read.layers):
            if i:
                tab.page.keyboard.press("ArrowDown")
            assert tab.page.locator("#stage h3").inner_text() == ("Input" if layer["op"] == "Input" else layer["op"])
            assert tab.page.locator("#stage .say").inner_text() == layer["words"]
            assert tab.page.locator(f"#l{i}[aria-selected=true]").count() == 1
            said = tab.verdict()
            assert (said is not None) == ("rule" in layer)
            if said is not None:
                assert said["layer"] == str(i)
                assert agrees(said) and said["ok"] == "1"
        tab.assert_quiet(url)


@pytest.mark.parametrize("name", DIGITS)
def test_three_clicked_pixels_of_each_layer_agree(browser: Any, tmp_path: Path, name: str):
    text = made(name)
    read = Read(text)
    url = written(tmp_path, "page", text)
    rng = np.random.default_rng(1)
    clicked = 0
    with Tab(browser, url) as tab:
        for i, layer in enumerate(read.layers):
            if "rule" not in layer:
                continue
            tab.page.locator(f"#l{i}").click()
            shape = read.shape(layer["t"])
            maps, y_axis, x_axis = layer["view"]
            rows, columns = (1 if a < 0 else shape[a] for a in (y_axis, x_axis))
            seen = set()
            for _ in range(3):
                if maps:
                    shown = tab.page.locator("#grid .map")
                    shown.nth(int(rng.integers(shown.count()))).click()
                y, x = int(rng.integers(rows)), int(rng.integers(columns))
                tab.click(y, x, rows, columns)
                said = tab.verdict()
                assert said is not None and said["ok"] == "1" and agrees(said)
                index = [int(v) for v in said["index"].split(",")]
                # a row of numbers may be narrower than a pixel of the screen for each
                slack = columns / tab.page.locator("#over").bounding_box()["width"]
                assert y_axis < 0 or index[y_axis] == y
                assert x_axis < 0 or abs(index[x_axis] - x) <= (0 if slack < 1 else slack)
                # the engine's number beside the sum is the engine's, and the browser's sum is NumPy's
                assert float(said["engine"]) == read.value(layer["t"], index)
                value, size = read.compute(i, index)
                assert abs(value - float(said["sum"])) <= 1e-9 * max(size, abs(value)) + 1e-12
                seen.add(said["index"])
                clicked += 1
            assert len(seen) > 1 or rows * columns < 4
        tab.assert_quiet(url)
    assert clicked == 3 * (len(read.layers) - 1)


def everything() -> str:
    """The page of a network of all the operators that the others have not."""
    node, rng = helper.make_node, np.random.default_rng(2)
    weights: dict[str, np.ndarray] = {
        "c": rng.standard_normal(8).astype(np.float32),
        "w": rng.standard_normal((8, 2, 3, 3)).astype(np.float32),
        "last": rng.standard_normal(6).astype(np.float32),
        "m": rng.standard_normal((8, 6, 5)).astype(np.float32),
        "pads": np.array([0, 0, 1, 2, 0, 0, 2, 1]),
        "starts": np.array([1, -1]),
        "ends": np.array([7, -99]),
        "axes": np.array([1, 3]),
        "steps": np.array([2, -2]),
        "picks": np.array([5, -8]),
        "axis": np.array([1]),
        "two": np.array([1, 1, 2, 2], np.float32),
        "scale": np.float32(0.05),
        "zero": np.uint8(120),
        "half": np.float32(0.5),
    }
    nodes = [
        node("InstanceNormalization", ["x", "c", "c"], ["instance"]),
        node("GroupNormalization", ["x", "c", "c"], ["group"], num_groups=2),
        node("LayerNormalization", ["x", "last", "last"], ["layer"]),
        node("MeanVarianceNormalization", ["x"], ["mvn"]),
        node("LRN", ["x"], ["lrn"], size=3, alpha=0.5),
        node("MaxPool", ["x"], ["pooled", "at"], kernel_shape=[2, 2], strides=[2, 2]),
        node("MaxUnpool", ["pooled", "at"], ["unpooled"], kernel_shape=[2, 2], strides=[2, 2]),
        node(
            "AveragePool",
            ["x"],
            ["mean"],
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
            count_include_pad=1,
            ceil_mode=1,
        ),
        node("LpPool", ["x"], ["l3"], kernel_shape=[2, 2], p=3),
        node("Conv", ["x", "w"], ["grouped"], group=4, dilations=[2, 2], pads=[2, 2, 2, 2]),
        node("ConvTranspose", ["x", "w"], ["larger"], group=2, strides=[2, 2], pads=[1, 0, 0, 1]),
        node("MatMul", ["x", "m"], ["product"]),
        node("Pad", ["x", "pads"], ["reflected"], mode="reflect"),
        node("Pad", ["x", "pads", "half"], ["padded"]),
        node("Slice", ["x", "starts", "ends", "axes", "steps"], ["sliced"]),
        node("Gather", ["x", "picks"], ["gathered"], axis=1),
        node("DepthToSpace", ["x"], ["spread"], blocksize=2, mode="CRD"),
        node("Resize", ["x", "", "two"], ["cubic"], mode="cubic"),
        node("Split", ["x"], ["first", "second"], axis=1, num_outputs=2),
        node("QuantizeLinear", ["x", "scale", "zero"], ["steps8"]),
        node("DequantizeLinear", ["steps8", "scale", "zero"], ["back"]),
        node("ReduceL1", ["x", "axis"], ["l1"], keepdims=0),
        node("ReduceMin", ["x", "axis"], ["least"]),
        node("Softmax", ["x"], ["softmax"], axis=1),
        node("LogSoftmax", ["x"], ["log"], axis=-1),
        node("Greater", ["x", "half"], ["more"]),
        node("Where", ["more", "x", "half"], ["chosen"]),
        node("Gelu", ["x"], ["gelu"], approximate="tanh"),
        node("Gelu", ["x"], ["gelu2"]),
    ]
    used = {n for one in nodes for n in one.input}
    ends = [n for one in nodes for n in one.output if n not in used and n != "at"]
    graph = helper.make_graph(
        nodes,
        "everything",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 6])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ends],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with cnnengine.load(proto.SerializeToString()) as model:
        return page(look(model, feeds={"x": rng.standard_normal((1, 8, 6, 6)).astype(np.float32)}, timed=False))


def test_every_kind_of_arithmetic(browser: Any, tmp_path: Path):
    text = everything()
    read = Read(text)
    url = written(tmp_path, "page", text)
    rng = np.random.default_rng(3)
    with Tab(browser, url) as tab:
        for i, layer in enumerate(read.layers):
            tab.page.locator(f"#l{i}").click()
            if "rule" not in layer:
                continue
            shape = read.shape(layer["t"])
            rows, columns = (1 if a < 0 else shape[a] for a in layer["view"][1:])
            for _ in range(3):
                tab.click(int(rng.integers(rows)), int(rng.integers(columns)), rows, columns)
                said = tab.verdict()
                assert said is not None and said["ok"] == "1" and agrees(said), layer["op"]
                value, size = read.compute(i, [int(v) for v in said["index"].split(",")])
                assert abs(value - float(said["sum"])) <= 1e-7 * max(size, abs(value)) + 1e-12, layer["op"]
        tab.assert_quiet(url)
    assert sum("rule" in layer for layer in read.layers) == 30


@pytest.mark.parametrize("name", ["mobilenet_v2.ts", "c3d_small.ts"])
def test_pixels_that_a_page_carries_where_not_all_fits(browser: Any, tmp_path: Path, name: str):
    text = made(name, 2_000_000)
    read = Read(text)
    url = written(tmp_path, "page", text)
    compared = 0
    with Tab(browser, url) as tab:
        for i, layer in enumerate(read.layers):
            if "points" not in layer:
                continue
            tab.page.evaluate("location.hash = ''")
            tab.page.locator(f"#l{i}").click()
            said = tab.verdict()
            assert said is not None and said["ok"] == "1" and agrees(said)
            assert [int(v) for v in said["index"].split(",")] in layer["points"] or not layer["points"]
            compared += 1
        tab.assert_quiet(url)
    assert compared > len(read.layers) // 2


def planted(text: str) -> str:
    """The page with one weight of a convolution changed, and nothing else."""
    from cnnengine.view.pack import packed

    read = Read(text)
    conv = next(layer for layer in read.layers if layer["op"] == "Conv")
    t = conv["rule"]["r"][1]
    weights = np.array(read.whole(t))
    weights[:, 0, 2, 2] += 0.01
    chunk = read.tensors[t][2]
    old = f'id="c{chunk}">{read._chunks[chunk]}<'
    assert old in text
    return text.replace(old, f'id="c{chunk}">{packed(weights)}<')


def test_a_wrong_weight_turns_the_page_red(browser: Any, tmp_path: Path):
    text = made("digits_lenet")
    url = written(tmp_path, "page", planted(text))
    with Tab(browser, url) as tab:
        tab.page.locator("#l1").click()
        said = tab.verdict()
        assert said is not None and said["ok"] == "0" and not agrees(said)
        assert tab.page.locator("#verdict.off").inner_text().count("they differ") == 1
        tab.page.locator("#l3").click()  # what lies behind is computed from the engine's own numbers
        assert tab.verdict()["ok"] == "1"


def test_pixels_and_maps_by_keyboard(browser: Any, tmp_path: Path):
    url = written(tmp_path, "page", made("digits_lenet"))
    with Tab(browser, url) as tab:
        tab.page.locator("#l1").click()
        tab.click(5, 6, 28, 28)
        tab.page.keyboard.press("ArrowRight")
        tab.page.keyboard.press("ArrowDown")
        assert tab.verdict()["index"].split(",")[2:] == ["6", "7"]
        for _ in range(40):
            tab.page.keyboard.press("ArrowLeft")
        assert tab.verdict()["index"].split(",")[2:] == ["6", "0"]
        tab.page.focus("#grid")
        before = tab.page.locator("#mapname").inner_text()
        tab.page.keyboard.press("ArrowRight")
        assert tab.page.locator("#mapname").inner_text() != before
        assert tab.verdict()["ok"] == "1"
        tab.page.focus("#layers")
        tab.page.keyboard.press("End")
        assert tab.page.locator("#l12[aria-selected=true]").count() == 1
        tab.page.keyboard.press("ArrowDown")
        assert tab.page.locator("#l12[aria-selected=true]").count() == 1
        tab.page.fill("#find", "pool")
        assert tab.page.locator("#layers .row:visible").count() == 2
        tab.assert_quiet(url)


def test_the_path_leads_through_the_network(browser: Any, tmp_path: Path):
    url = written(tmp_path, "page", made("digits_nin"))
    with Tab(browser, url) as tab:
        hops = tab.page.locator("#path .hop")
        assert hops.count() == 17
        for i in range(hops.count()):
            hops.nth(i).click()
            said = tab.verdict()
            assert i == 0 or (said["layer"] == str(i) and said["ok"] == "1")
        assert tab.page.locator("#result .rank").count() == 5
        tab.assert_quiet(url)


def hostile() -> str:
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Conv", ["x" + HOSTILE, "w"], ["a" + HOSTILE], name="n" + HOSTILE),
            node("GlobalAveragePool", ["a" + HOSTILE], ["g"]),
            node("Flatten", ["g"], ["y" + HOSTILE]),
        ],
        "g" + HOSTILE,
        [helper.make_tensor_value_info("x" + HOSTILE, TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("y" + HOSTILE, TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.ones((3, 1, 3, 3), np.float32), "w")],
    )
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    helper.set_model_props(proto, {"cnnengine.labels": f'["{HOSTILE}", "b", "c"]', "cnnengine.output": "logits"})
    with cnnengine.load(proto.SerializeToString()) as model:
        x = np.random.default_rng(0).standard_normal((1, 1, 8, 8)).astype(np.float32)
        return page(look(model, feeds={"x" + HOSTILE: x}, timed=False, title=HOSTILE))


def test_hostile_names_are_text(browser: Any, tmp_path: Path):
    url = written(tmp_path, "page", hostile())
    with Tab(browser, url) as tab:
        for i in range(4):
            tab.page.locator(f"#l{i}").click()
            assert tab.page.evaluate("window.hit") is None
        assert HOSTILE in tab.page.locator("#result").inner_text()
        assert HOSTILE in tab.page.locator("#sub").inner_text()
        assert tab.page.locator("img[onerror]").count() == 0
        tab.assert_quiet(url)


def test_the_policy_stops_a_program_that_is_planted(browser: Any, tmp_path: Path):
    text = made("digits_lenet").replace("<main>", "<script>window.hit = 1</script><img src='http://127.0.0.1:9/x'><main>", 1)
    with Tab(browser, written(tmp_path, "page", text)) as tab:
        assert tab.page.evaluate("window.hit") is None
        assert len(tab.complaints) >= 2


def picture_of(tab: Tab, full: bool = False) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(tab.page.screenshot(full_page=full))).convert("RGB")).astype(int)


def light_of(pixels: np.ndarray) -> float:
    """How light most of a picture is."""
    return float(np.median(pixels.mean(axis=2)))


VIEWS = {"light": (1360, 900, "light"), "dark": (1360, 900, "dark"), "phone": (390, 844, "light"), "narrow": (320, 640, "dark")}


@pytest.mark.parametrize("kind", VIEWS)
def test_pictures_of_the_page(browser: Any, tmp_path: Path, kind: str):
    width, height, scheme = VIEWS[kind]
    url = written(tmp_path, "page", made("digits_lenet"))
    with Tab(browser, url, width, height, scheme) as tab:
        tab.page.locator("#l4").click()
        tab.page.wait_for_timeout(300)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width  # nothing to scroll sideways
        pixels = picture_of(tab, True)
        assert (light_of(pixels) > 200) == (scheme == "light")
        colours = {tuple(c) for c in pixels[::7, ::7].reshape(-1, 3).tolist()}
        assert len(colours) > 150
        for name in ("#big", "#grid canvas", "#path canvas", "#legend"):
            tab.page.locator(name).first.scroll_into_view_if_needed()
            tab.page.wait_for_timeout(100)
            drawn = tab.page.locator(name).first.evaluate(
                "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, s = new Set();"
                " for (let i = 0; i < d.length; i += 4) s.add(d[i] * 65536 + d[i + 1] * 256 + d[i + 2]); return s.size; }"
            )
            assert drawn > 8, name
        if kind == "light":
            tab.page.keyboard.press("t")
            assert light_of(picture_of(tab)) < 60
            assert tab.verdict()["ok"] == "1"
        folder = os.environ.get("PICTURES")
        if folder:
            Path(folder, f"view_{kind}.png").write_bytes(tab.page.screenshot())
        tab.assert_quiet(url)


CONTRAST = """() => {
  const lum = c => { const v = c.map(x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4; });
    return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
  const parse = s => (s.match(/[\\d.]+/g) || []).map(Number), bad = [];
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
    if (e.closest("script,style,svg,.sr,.skip,.gridv.tiny")) continue;
    const st = getComputedStyle(e); if (st.fontSize === "0px") continue;
    let b = e, back = null;
    for (; b && !back; b = b.parentElement) {
      const c = parse(getComputedStyle(b).backgroundColor);
      if (c.length && (c.length < 4 || c[3] > .5)) back = c;
    }
    const a = lum(parse(st.color).slice(0, 3)), z = lum((back || [255, 255, 255]).slice(0, 3));
    const r = (Math.max(a, z) + .05) / (Math.min(a, z) + .05);
    if (r < 4.5 && !e.closest(".gridv")) bad.push(`${e.tagName}.${e.className} ${e.textContent.slice(0, 20)} ${r.toFixed(2)}`);
  }
  return bad; }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_and_has_a_name(browser: Any, tmp_path: Path, scheme: str):
    url = written(tmp_path, "page", made("digits_lenet"))
    with Tab(browser, url, scheme=scheme) as tab:
        for i in (1, 3, 10, 12):
            tab.page.locator(f"#l{i}").click()
            assert tab.page.evaluate(CONTRAST) == []
            unnamed = tab.page.evaluate(
                "[...document.querySelectorAll('button,input,[role=listbox],[role=option],[role=application],img')].filter(e => "
                "!(e.textContent.trim() || e.getAttribute('aria-label') || e.alt || e.title)).map(e => e.outerHTML)"
            )
            assert unnamed == []


def test_a_served_page_computes_any_pixel(browser: Any):
    with cnnengine.load(zoo_support.materialized("mobilenet_v2.ts")) as model:
        view = look(model, feeds=zoo_support.feeds("mobilenet_v2.ts"), timed=False)
        text = page(view, 1_000_000, served=True)
        read = Read(text)
        with Server(view, text) as server, Tab(browser, server.url) as tab:
            asked = 0
            for i in range(1, len(read.layers), 9):
                layer = read.layers[i]
                if "rule" not in layer:
                    continue
                tab.page.locator(f"#l{i}").click()
                shape = read.shape(layer["t"])
                rows, columns = (1 if a < 0 else shape[a] for a in layer["view"][1:])
                tab.click(rows // 3, columns // 3, rows, columns)
                tab.page.wait_for_selector("#verdict", timeout=20_000)
                said = tab.verdict()
                index = tuple(int(v) for v in said["index"].split(","))
                assert said["layer"] == str(i) and said["ok"] == "1" and agrees(said)
                assert float(said["engine"]) == float(view.trace.value(view.layers[i].name)[index])
                asked += 1
            assert asked > 8
            assert not tab.complaints
            own = re.escape(server.url)
            assert all(re.match(f"{own}(need|map|$|#)|data:", request) for request in tab.requests)
            assert any("need?" in request for request in tab.requests)
