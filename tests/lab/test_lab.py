"""The laboratory: arrays against NumPy, sentences that say what is there, sheets and pages."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import runner
from explain.test_face import Seen
from PIL import Image

import cnnengine
from cnnengine import lab
from cnnengine.errors import InputError
from cnnengine.lab.layers import FILTERS, SOBEL

ROOT = Path(__file__).resolve().parents[2]
PIXELS = np.random.default_rng(7).integers(0, 256, (40, 56, 3), np.uint8)
X = PIXELS.astype(np.float64).transpose(2, 0, 1) / 255
GRAY = np.tensordot([0.299, 0.587, 0.114], X, 1)


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    return runner(capsys)


def windows(x: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """(..., rows, columns, kernel * kernel) of all windows."""
    seen = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (-2, -1))[..., ::stride, ::stride, :, :]
    return seen.reshape(*seen.shape[:-2], -1)


def close(a: np.ndarray, b: np.ndarray) -> None:
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


def test_pooling_is_what_numpy_says() -> None:
    made = lab.pooling(PIXELS, 4)
    arrays = {name: y[0] for name, y in made.arrays.items()}
    close(arrays["input"], X)
    close(arrays["max"], windows(X, 4, 4).max(-1))
    close(arrays["average"], windows(X, 4, 4).mean(-1))
    close(arrays["L2"], np.sqrt((windows(X, 4, 4) ** 2).sum(-1)))
    close(arrays["overlapping max"], windows(X, 3, 2).max(-1))
    close(arrays["1x1 convolution, stride"], X[:, ::4, ::4])
    close(arrays["global average"], X.mean((1, 2), keepdims=True))
    weights = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]).ravel() / 256
    close(arrays["5x5 convolution, stride"], windows(np.pad(X, ((0, 0), (2, 2), (2, 2))), 5, 4) @ weights)
    bins = [[slice(i * n // 7, -(-(i + 1) * n // 7)) for i in range(7)] for n in (40, 56)]
    close(arrays["adaptive max"], np.array([[[c[a, b].max() for b in bins[1]] for a in bins[0]] for c in X]))
    close(arrays["adaptive average"], np.array([[[c[a, b].mean() for b in bins[1]] for a in bins[0]] for c in X]))
    close(arrays["pyramid (SPP)"][-3:], X.max((1, 2)))
    assert arrays["pyramid (SPP)"].size == 63
    # each level of the pyramid as it is drawn: 4 x 4 bins of 24 pixels
    drawn = made["pyramid (SPP)"].pixels[12:96:24, 12:96:24]
    np.testing.assert_array_equal(drawn, np.rint(level_of(4) * 255))


def level_of(count: int) -> np.ndarray:
    """Maxima of count x count bins, (rows, columns, channels)."""
    bins = [[slice(i * n // count, -(-(i + 1) * n // count)) for i in range(count)] for n in (40, 56)]
    return np.array([[[c[a, b].max() for c in X] for b in bins[1]] for a in bins[0]])


def test_a_shift_is_measured() -> None:
    made = lab.shift(PIXELS, 3, 4)
    before, after = GRAY[:, :-3], GRAY[:, 3:]
    close(made["input"].array[0, 0], before)
    close(made["moved"].array[0, 0], after)
    for name, way in {
        "no pooling": lambda v: v,
        "max": lambda v: windows(v, 4, 4).max(-1),
        "average": lambda v: windows(v, 4, 4).mean(-1),
        "L2": lambda v: np.sqrt((windows(v, 4, 4) ** 2).mean(-1)),
        "overlapping max": lambda v: windows(v, 3, 2).max(-1),
        "every pixel of many": lambda v: v[::4, ::4],
        "global average": lambda v: v.mean(keepdims=True),
    }.items():
        change = way(after) - way(before)
        close(made[name].array[0, 0], change)
        assert f"{100 * np.abs(made[name].array).mean():.3g} % of white" in made[name].sentence
    flat = lab.shift(np.full((40, 56), 99, np.uint8))
    inside = flat["blur, stride"].array[..., 2:-2, 2:-2]
    assert np.abs(inside).max() < 1e-6
    assert all(np.abs(flat[name].array).max() < 1e-6 for name in ("max", "average", "adaptive average", "global average"))


def test_winners_are_the_largest_of_their_windows() -> None:
    made = lab.winners(PIXELS, 4)
    for name, kernel, stride in (("apart", 4, 4), ("overlapping", 3, 2)):
        count, pooled = made[f"{name}: winners"].array[0, 0], made[f"{name}: pooled"].array[0, 0]
        close(pooled, windows(GRAY, kernel, stride).max(-1))
        assert count.sum() == pooled.size
        close(np.sort(np.repeat(GRAY.ravel(), count.ravel().astype(int))), np.sort(pooled.ravel()))
        assert f"{100 * (count > 0).mean():.3g} % of the pixels win" in made[f"{name}: winners"].sentence
    large = lab.winners(np.random.default_rng(0).integers(0, 256, (150, 170), np.uint8))
    assert large["input"].array.shape == (1, 1, 64, 64)


@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_unpooling_returns_winners_alone(kernel: int) -> None:
    made = lab.unpooling(PIXELS, kernel)
    x, back = made["input"].array, made["max unpooling"].array
    assert x.shape == back.shape == made["each mean, spread"].array.shape == made["each mean, interpolated"].array.shape
    kept = back != 0
    np.testing.assert_array_equal(back[kept], x[kept])
    np.testing.assert_array_equal(back + made["dropped"].array, x)
    assert kept.sum() <= made["pooled"].array.size
    blocks = windows(x[0, 0].astype(np.float64), kernel, kernel).mean(-1).repeat(kernel, 0).repeat(kernel, 1)
    close(made["each mean, spread"].array[0, 0], blocks)
    assert f"{100 * np.abs(x - back).mean():.3g} % of white" in made["max unpooling"].sentence
    flat = lab.unpooling(np.full((40, 56), 90, np.uint8), kernel)["each mean, interpolated"].array[0, 0]
    np.testing.assert_allclose(flat[kernel:-kernel, kernel:-kernel], 90 / 255, atol=1e-6)  # weights add up to 1 inside
    board = made["checkerboard"].array[0, 0]
    assert set(np.unique(board)) == {1, 2, 4}


def test_filters_strides_dilations_and_paddings() -> None:
    padded = np.pad(GRAY, 1)
    edges = windows(padded, 3, 1) @ SOBEL.ravel()
    made = lab.filters(PIXELS)
    close(made["vertical edges"].array[0, 0], edges)
    for name, weights, _ in FILTERS:
        half = len(weights) // 2
        close(made[name].array[0, 0], windows(np.pad(GRAY, half), len(weights), 1) @ weights.astype(np.float64).ravel())
    for step in (1, 2, 4, 8):
        found = lab.strides(PIXELS)[f"stride {step}"]
        close(found.array[0, 0], edges[::step, ::step])
        assert f"{100 / step**2:.3g} %" in found.sentence
    for gap in (1, 2, 4, 8):
        wide = np.pad(GRAY, gap)
        naive = sum(SOBEL[i, j] * wide[i * gap : i * gap + 40, j * gap : j * gap + 56] for i in range(3) for j in range(3))
        close(lab.dilations(PIXELS)[f"dilation {gap}"].array[0, 0], np.asarray(naive))
    made = lab.paddings(PIXELS, 5)
    close(made["none"].array[0, 0], windows(GRAY, 5, 1).mean(-1))
    for name, mode in (("zeros", "constant"), ("edge", "edge"), ("reflected", "reflect")):
        close(made[name].array[0, 0], windows(np.pad(GRAY, 2, mode=mode), 5, 1).mean(-1))
    close(made["what zeros cost"].array, made["zeros"].array - made["edge"].array)
    ones = np.pad(np.ones_like(GRAY), 2)
    close(made["average pooling"].array[0, 0], windows(np.pad(GRAY, 2), 5, 1).sum(-1) / windows(ones, 5, 1).sum(-1))


def test_activations_normalisations_and_dropout() -> None:
    made = lab.activations(PIXELS, gain=3)
    x = made["edges"].array.astype(np.float64)
    close(made["ReLU"].array, np.maximum(x, 0))
    close(made["LeakyReLU"].array, np.where(x > 0, x, x / 10))
    close(made["ELU"].array, np.where(x > 0, x, np.expm1(x)))
    close(made["Sigmoid"].array, 1 / (1 + np.exp(-x)))
    close(made["Tanh"].array, np.tanh(x))
    close(made["SiLU"].array, x / (1 + np.exp(-x)))
    close(made["GELU"].array, x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2)
    close(made["HardSwish"].array, x * np.clip(x / 6 + 0.5, 0, 1))
    close(made["Softplus"].array, np.log1p(np.exp(x)))
    close(made["Mish"].array, x * np.tanh(np.log1p(np.exp(x))))
    made = lab.normalisations(PIXELS)
    instance = made["instance norm"].array[0]
    np.testing.assert_allclose(instance.mean((1, 2)), 0, atol=1e-4)
    deviation = made["input"].array[0].astype(np.float64).var((1, 2))
    np.testing.assert_allclose(instance.std((1, 2)), np.sqrt(deviation / (deviation + 1e-5)), atol=1e-4)
    assert made["layer norm"].array.mean() == pytest.approx(0, abs=1e-4)
    close(made["group norm"].array, made["layer norm"].array)
    dim = made["input"].array[0].astype(np.float64)
    close(made["batch norm"].array[0, 0], (dim[0] - 0.485) / np.sqrt(0.229**2 + 1e-5))
    made = lab.dropout(PIXELS, 0.25)
    x, once = made["input"].array, made["once, in training"].array
    assert (once == 0).mean() == pytest.approx(0.25, abs=0.05)
    close(once[once != 0], x[once != 0] / 0.75)
    np.testing.assert_array_equal(made["at inference"].array, x)
    assert abs(made["32 times, averaged"].array - x).mean() < abs(once - x).mean() / 3
    np.testing.assert_array_equal(lab.dropout(PIXELS, 0.25).arrays["once, in training"], once)


@pytest.mark.parametrize("name", lab.EXPERIMENTS)
@pytest.mark.parametrize("image", [PIXELS, PIXELS[:, :, 0], GRAY.astype(np.float32), Image.fromarray(PIXELS)], ids=type)
def test_every_experiment_shows_all_of_its_arrays(name: str, image: Any, tmp_path: Path) -> None:
    made = lab.EXPERIMENTS[name](image)
    assert len(made) >= 5
    assert len(made.arrays) == len(made)
    for panel in made:
        assert panel.sentence.endswith(".")
        assert panel.pixels.dtype == np.uint8
        assert np.isfinite(panel.array).all()
        assert panel.name in str(made)
        assert panel.sentence in str(made)
    assert made._repr_html_().count("<img") == len(made)
    made.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert len(set(sheet.convert("L").tobytes())) > 8  # something is drawn
    made.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("<img") == len(made)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lab.pooling(PIXELS, 1), "2 to 8"),
        (lambda: lab.pooling(PIXELS, 9), "2 to 8"),
        (lambda: lab.pooling(PIXELS[:10]), "too small"),
        (lambda: lab.pooling(PIXELS.astype(np.int32)), "not pixels"),
        (lambda: lab.pooling(X), "not pixels"),
        (lambda: lab.pooling(np.full((20, 20), np.nan)), "finite"),
        (lambda: lab.pooling("nowhere.png"), "nowhere.png"),
        (lambda: lab.pooling(PIXELS, size=8), "16 to 1024"),
        (lambda: lab.shift(PIXELS, 0), "1 to 14"),
        (lambda: lab.dropout(PIXELS, 1), "out of range"),
        (lambda: lab.paddings(PIXELS, 4), "odd"),
        (lambda: lab.activations(PIXELS, gain="much"), "number"),
        (lambda: lab.pooling(PIXELS)["maximum"], "max"),
        (lambda: lab.pooling(PIXELS).save("/no/such/folder/a.png"), "cannot be written"),
        (lambda: lab.pooling(PIXELS).save("/no/such/folder/a.html"), "cannot be written"),
    ],
)
def test_what_cannot_be_is_a_named_error(call: Any, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        call()


def test_large_pictures_are_made_smaller_and_small_ones_stay() -> None:
    assert lab.taken(np.zeros((400, 600, 3), np.uint8)).shape == (1, 3, 128, 192)
    assert lab.taken(PIXELS).shape == (1, 3, 40, 56)
    assert lab.taken(np.zeros((400, 600), np.uint8), 96).shape == (1, 1, 64, 96)


def test_command(cnn: Any, tmp_path: Path) -> None:
    picture = tmp_path / "<b>.png"
    Image.fromarray(PIXELS).save(picture)
    out = tmp_path / "page.html"
    done = cnn("lab", picture, "-o", out)
    assert done.status == 0, done.err
    text = out.read_text()
    seen = Seen(text)
    assert not {"script", "link", "iframe"}.intersection(tag for tag, _ in seen.tags)
    assert "<b>.png" in seen.text
    assert "&lt;b&gt;.png" in text
    assert not re.search(r"https?://|url\(|@import", text)
    assert sum(tag == "section" for tag, _ in seen.tags) == len(lab.EXPERIMENTS)
    assert cnn("lab", picture, "--only", "pooling", "-o", tmp_path / "sheet.png").status == 0
    assert (tmp_path / "sheet.png").is_file()
    for args, said in (
        ((picture, "-o", tmp_path / "sheet.png"), "--only"),
        ((picture, "-o", out, "--only", "poolin"), "did you mean 'pooling'"),
        ((tmp_path / "none.png", "-o", out), "none.png"),
        ((picture, "-o", tmp_path / "no" / "a.html"), "cannot be written"),
    ):
        done = cnn("lab", *args)
        assert (done.status, len(done.err)) == (2, 1)
        assert said in done.err[0]


def test_notebooks_show_models_traces_and_results() -> None:
    with cnnengine.load(ROOT / "models" / "digits_nin.onnx") as model:
        shown = model._repr_html_()
        for part in ("digits_nin.onnx", "image", "logits", "N x 1 x 32 x 32", model.isa):
            assert part in shown
        trace = model.trace(np.zeros((1, 1, 32, 32), np.float32))
        text = trace._repr_html_()
        assert all(f"<td>{name}</td>" in text for name in trace)
        assert not trace._results  # nothing is computed for it
        found = cnnengine.tasks.classify(model, ROOT / "models" / "samples" / "3.png", labels=["<i>"] * 10)
        assert "&lt;i&gt;" in found._repr_html_()
    assert "closed" in model._repr_html_()


def test_the_examples_of_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    Image.fromarray(PIXELS).save(tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/lab.md", "exec"), {})
    assert (tmp_path / "pooling.png").is_file()
    assert (tmp_path / "lab.html").is_file()
    for name in lab.EXPERIMENTS:
        assert f"`{name}`" in text
