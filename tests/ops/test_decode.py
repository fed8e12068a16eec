"""ImageDecoder against pictures written by Pillow, and against files that must not be opened."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnengine import load
from cnnengine.errors import CNNEngineError, InputError

pillow = pytest.importorskip("PIL.Image")
PIXELS = np.random.default_rng(3).integers(0, 256, (7, 5, 3), np.uint8)


def encoded(picture: Any, kind: str, **options: Any) -> np.ndarray:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return np.frombuffer(stream.getvalue(), np.uint8)


def decoder(pixel_format: str | None = None, data: np.ndarray | None = None) -> Any:
    node = helper.make_node("ImageDecoder", ["x"], ["y"], **({} if pixel_format is None else {"pixel_format": pixel_format}))
    inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n"])] if data is None else []
    made = [] if data is None else [numpy_helper.from_array(data, "x")]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.UINT8, None)], made)
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString())


def decode(data: np.ndarray, pixel_format: str | None = None) -> np.ndarray:
    y: np.ndarray = decoder(pixel_format).run(None, {"x": data})[0]
    assert y.dtype == np.uint8
    return y


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_formats_without_loss(kind: str) -> None:
    data = encoded(pillow.fromarray(PIXELS), kind)
    np.testing.assert_array_equal(decode(data), PIXELS)
    np.testing.assert_array_equal(decode(data, "BGR"), PIXELS[..., ::-1])
    assert decode(data, "Grayscale").shape == (7, 5, 1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_modes_become_what_was_asked_for(mode: str) -> None:
    """Pictures of other modes than the model's give as many channels as it has all the same."""
    picture = pillow.fromarray(PIXELS).convert(mode)
    data = encoded(picture, "TIFF" if mode == "CMYK" else "PNG")
    np.testing.assert_array_equal(decode(data), np.asarray(picture.convert("RGB")))
    np.testing.assert_array_equal(decode(data, "Grayscale")[..., 0], np.asarray(picture.convert("L")))


def test_sixteen_bits_keep_the_upper_eight() -> None:
    deep = np.array([[0, 255, 256], [40000, 65535, 1024]], np.uint16)
    y = decode(encoded(pillow.fromarray(deep), "PNG"), "Grayscale")
    np.testing.assert_array_equal(y[..., 0], deep >> 8)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_cannot_be_decoded_is_empty(channels: int) -> None:
    whole = encoded(pillow.fromarray(PIXELS), "PNG")
    for data in (whole[:40], whole[:0], np.frombuffer(b"no picture at all", np.uint8)):
        assert decode(data, "Grayscale" if channels == 1 else None).shape == (0, 0, channels)


def test_formats_that_run_programs_are_not_opened() -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    assert decode(np.frombuffer(script, np.uint8)).shape == (0, 0, 3)


def test_nothing_is_decoded_while_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*args: object, **options: object) -> None:
        raise AssertionError("opened at load")

    with monkeypatch.context() as patched:
        patched.setattr(pillow, "open", opened)
        model = decoder(data=encoded(pillow.fromarray(PIXELS), "PNG"))
    np.testing.assert_array_equal(model.run(None, {})[0], PIXELS)


def test_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CNNEngineError, match="pixel_format"):
        decoder("RGBA")
    data = encoded(pillow.fromarray(np.zeros((40, 40), np.uint8)), "PNG")
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="too large"):
        decode(data)
