"""The model that the project trained: its file, its expected outputs, its accuracy, the example that uses it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from PIL import Image

import cnnengine
from cnnengine.preprocess import Preprocess, read_image

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "models"
MODEL = FOLDER / "digits_lenet.onnx"
SAMPLES = FOLDER / "samples"


def assert_logits(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(np.float64) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.fixture(scope="module")
def model() -> cnnengine.Model:
    return cnnengine.load(MODEL)


@pytest.fixture(scope="module")
def preprocess(model: cnnengine.Model) -> Preprocess:
    return Preprocess.of_model(model.metadata, model.inputs[0].shape, model.inputs[0].dtype)


def test_the_file_is_small_and_self_contained() -> None:
    assert MODEL.stat().st_size < 500_000
    proto = onnx.load(MODEL, load_external_data=False)
    onnx.checker.check_model(proto, full_check=True)
    assert not any(t.HasField("data_location") and t.data_location for t in proto.graph.initializer)
    assert not any(node.doc_string for node in proto.graph.node)  # exporters write the training machine's paths there


def test_the_batch_is_dynamic(model: cnnengine.Model) -> None:
    (image,), (logits,) = model.inputs, model.outputs
    assert (image.name, logits.name) == ("image", "logits")
    assert image.shape[1:] == (1, 32, 32)
    assert logits.shape[1:] == (10,)
    assert not isinstance(image.shape[0], int)
    for n in (0, 1, 3, 7):
        assert model(np.zeros((n, 1, 32, 32), np.float32)).shape == (n, 10)


def test_metadata(model: cnnengine.Model) -> None:
    assert json.loads(model.metadata["cnnengine.labels"]) == [str(digit) for digit in range(10)]
    assert model.metadata["cnnengine.output"] == "logits"


def test_preprocessing_is_the_training_script_s(preprocess: Preprocess) -> None:
    expected = np.load(SAMPLES / "expected.npz")["image"]
    x = np.concatenate([preprocess.apply(read_image(SAMPLES / f"{digit}.png")) for digit in range(10)])
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 10])
def test_samples_give_the_logits_of_pytorch(model: cnnengine.Model, batch: int) -> None:
    stored = np.load(SAMPLES / "expected.npz")
    logits = np.concatenate([model(stored["image"][i : i + batch]) for i in range(0, 10, batch)])
    assert_logits(logits, stored["logits"])
    assert logits.argmax(axis=1).tolist() == list(range(10))


def test_held_out_third(model: cnnengine.Model, preprocess: Preprocess) -> None:
    stored = np.load(FOLDER / "digits_heldout.npz")
    assert stored["images"].shape == (599, 8, 8)  # a third of 1,797
    x = np.concatenate([preprocess.apply(Image.fromarray(image)) for image in stored["images"]])
    logits = model(x)
    assert_logits(logits, stored["logits"])
    accuracy = (logits.argmax(axis=1) == stored["labels"]).mean()
    assert accuracy >= 0.97
    card = (FOLDER / "README.md").read_text()
    assert f"{accuracy:.2%}" in card


def test_example() -> None:
    example = _import(ROOT / "examples" / "classify_digits.py")
    assert example.classify([SAMPLES / f"{digit}.png" for digit in (7, 0, 9)]) == ["7", "0", "9"]


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
