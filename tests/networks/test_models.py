"""The models that the project trained: their files, expected outputs and accuracies, and the example that uses one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

import cnnengine
from cnnengine.preprocess import Preprocess, read_image

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "models"
MODEL = FOLDER / "digits_lenet.onnx"
SAMPLES = FOLDER / "samples"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")


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


@pytest.mark.parametrize("name", ["digits_lenet", "digits_lenet_dynamo", "digits_nin", "digits_spp"])
def test_the_files_are_small_and_self_contained(name: str) -> None:
    path = FOLDER / f"{name}.onnx"
    assert path.stat().st_size < 500_000
    proto = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(proto, full_check=True)
    assert not any(t.HasField("data_location") and t.data_location for t in proto.graph.initializer)
    # exporters write the training machine's paths into texts of every kind
    for graph in (proto.graph, *proto.functions):
        for part in (graph, *graph.node, *graph.value_info):
            assert not part.metadata_props
        assert not any(part.doc_string for part in (*graph.node, *graph.value_info))
    assert {p.key for p in proto.metadata_props} == {"cnnengine.labels", "cnnengine.preprocess", "cnnengine.output"}
    content = path.read_bytes()
    assert not any(word in content for word in (b".py", b"/home", b"/root", b"/work", b"/usr", b"/tmp", b"stack_trace"))


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("digits_lenet", {"Conv", "Relu", "MaxPool", "Flatten", "Gemm"}),
        ("digits_lenet_dynamo", {"Conv", "Relu", "MaxPool", "Reshape", "Gemm"}),
        ("digits_nin", {"Conv", "Relu", "LpPool", "MaxPool", "BatchNormalization", "ReduceMean"}),
        ("digits_spp", {"Conv", "Relu", "MaxPool", "Gemm", "SpatialPyramidPool2d_max_4_2_1"}),
    ],
)
def test_operators_and_parameters_are_those_of_the_card(name: str, operators: set[str]) -> None:
    proto = onnx.load(FOLDER / f"{name}.onnx")
    assert {node.op_type for node in proto.graph.node} == operators
    size = (FOLDER / f"{name}.onnx").stat().st_size
    assert f"{size:,} bytes" in CARD
    kept = [numpy_helper.to_array(t) for t in proto.graph.initializer]
    count = sum(a.size for a in kept if a.dtype == np.float32)
    assert f"| {count - (96 if name == 'digits_nin' else 0):,}" in CARD
    with cnnengine.load(FOLDER / f"{name}.onnx", fallback="error") as model:
        model(np.zeros((2, 1, 32, 32), np.float32))
        assert model.is_pure
        settings = json.loads(model.metadata["cnnengine.preprocess"])
        assert (settings["scale"], settings["gray"]) == (1 / 255, True)
        assert f"`(pixel / 255 - {settings['mean']}) / {settings['std']}`" in CARD


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


@pytest.mark.parametrize(
    ("name", "key", "size"),
    [
        ("digits_lenet", "logits", None),
        ("digits_lenet_dynamo", "logits", None),
        ("digits_nin", "logits_nin", None),
        ("digits_spp", "logits_spp_8x8", (8, 8)),
        ("digits_spp", "logits_spp_16x24", (16, 24)),
        ("digits_spp", "logits_spp_32x32", (32, 32)),
        ("digits_spp", "logits_spp_37x53", (37, 53)),
    ],
)
def test_held_out_third(name: str, key: str, size: tuple[int, int] | None) -> None:
    stored = np.load(FOLDER / "digits_heldout.npz")
    assert stored["images"].shape == (599, 8, 8)  # a third of 1,797
    with cnnengine.load(FOLDER / f"{name}.onnx") as network:
        settings = {} if size is None else {"size": size}
        logits = network(np.concatenate([network.preprocess(image, **settings) for image in stored["images"]]))
    assert_logits(logits, stored[key])
    right = int((logits.argmax(axis=1) == stored["labels"]).sum())
    assert right / 599 >= 0.97
    assert f"{right / 599:.2%}" in CARD
    assert f"({right} of 599)" in CARD or f"({right})" in CARD


def test_network_in_network_gives_the_logits_of_pytorch() -> None:
    stored = np.load(SAMPLES / "expected_nin.npz")
    with cnnengine.load(FOLDER / "digits_nin.onnx") as network:
        logits = network(stored["image"])
        assert [n.op.op_type for n in network._graph.nodes].count("LpPool") == 1
    assert_logits(logits, stored["logits"])
    assert logits.argmax(axis=1).tolist() == list(range(10))


@pytest.mark.parametrize("batch", [1, 10])
@pytest.mark.parametrize("size", ["8x8", "16x24", "32x32", "37x53"])
def test_any_size_gives_the_logits_of_pytorch(size: str, batch: int) -> None:
    stored = np.load(SAMPLES / "expected_spp.npz")
    x = stored[f"image_{size}"]
    with cnnengine.load(FOLDER / "digits_spp.onnx") as network:
        logits = np.concatenate([network(x[i : i + batch]) for i in range(0, 10, batch)])
        assert "SpatialPyramidPool" in [n.op.op_type for n in network._graph.nodes]
    assert_logits(logits, stored[f"logits_{size}"])


def test_the_pyramid_s_body_says_the_same_as_its_kernel() -> None:
    proto = onnx.load(FOLDER / "digits_spp.onnx")
    stored = np.load(SAMPLES / "expected_spp.npz")
    (portable,) = ReferenceEvaluator(proto).run(None, {"image": stored["image_16x24"]})
    assert_logits(portable, stored["logits_16x24"])
    proto.functions[0].name = proto.graph.node[7].op_type = "Unknown"  # the same body, not recognised
    with cnnengine.load(proto) as network:
        assert "SpatialPyramidPool" not in [n.op.op_type for n in network._graph.nodes]
        for size in ("8x8", "37x53"):
            assert_logits(network(stored[f"image_{size}"]), stored[f"logits_{size}"])


def test_the_files_give_the_logits_of_pytorch_in_onnxruntime() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")

    def run(name: str, x: np.ndarray) -> np.ndarray:
        session = onnxruntime.InferenceSession(FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"image": x})
        return logits

    for name, file in (("lenet", "expected"), ("lenet_dynamo", "expected"), ("nin", "expected_nin")):
        stored = np.load(SAMPLES / f"{file}.npz")
        assert_logits(run(f"digits_{name}", stored["image"]), stored["logits"])
    stored = np.load(SAMPLES / "expected_spp.npz")
    for size in ("8x8", "16x24", "32x32", "37x53"):
        assert_logits(run("digits_spp", stored[f"image_{size}"]), stored[f"logits_{size}"])


class TestWhatTheFileSays:
    def test_labels(self, model: cnnengine.Model) -> None:
        assert model.labels == tuple("0123456789")

    def test_a_file_without_them(self) -> None:
        proto = onnx.load(MODEL)
        del proto.metadata_props[:]
        with cnnengine.load(proto) as bare:
            assert bare.labels is None
            with pytest.raises(cnnengine.InputError, match=r"nothing .* says how a picture becomes its input 'image'.*scale="):
                bare.preprocess(SAMPLES / "3.png")
            plain = bare.preprocess(SAMPLES / "3.png", scale=1 / 255)  # size and channels from the input
            np.testing.assert_array_equal(bare.preprocess(SAMPLES / "3.png", assume="unit"), plain)
        assert plain.shape == (1, 1, 32, 32)
        pixels = np.asarray(Image.open(SAMPLES / "3.png"), np.float32)
        np.testing.assert_allclose(plain[0, 0], pixels / 255, rtol=1e-6)

    @pytest.mark.parametrize("labels", ["no JSON", "[1]", "{}"])
    def test_broken_labels(self, labels: str) -> None:
        proto = onnx.load(MODEL)
        onnx.helper.set_model_props(proto, {"cnnengine.labels": labels})
        with cnnengine.load(proto) as broken, pytest.raises(cnnengine.ModelError, match=r"cnnengine\.labels"):
            _ = broken.labels

    def test_an_image_as_path_picture_or_array(self, model: cnnengine.Model) -> None:
        expected = np.load(SAMPLES / "expected.npz")["image"][4:5]
        path = SAMPLES / "4.png"
        pixels = np.asarray(Image.open(path))
        for image in (path, str(path), Image.open(path), pixels, pixels[:, :, None], np.repeat(pixels[:, :, None], 3, 2)):
            x = model.preprocess(image)
            assert x.dtype == np.float32
            np.testing.assert_allclose(x, expected, rtol=0, atol=1e-6)

    def test_settings_go_first(self, model: cnnengine.Model) -> None:
        pixels = np.full((32, 32), 100, np.uint8)
        np.testing.assert_allclose(model.preprocess(pixels, scale=1.0, mean=50.0, std=2.0), 25)
        with pytest.raises(cnnengine.InputError, match="brightness"):
            model.preprocess(pixels, brightness=1)

    def test_images_of_any_size_keep_theirs(self) -> None:
        with cnnengine.load(FOLDER / "digits_spp.onnx") as network:
            assert network.preprocess(np.zeros((11, 9), np.uint8)).shape == (1, 1, 11, 9)

    @pytest.mark.parametrize(
        "image",
        [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8), 7],
    )
    def test_what_is_no_image(self, model: cnnengine.Model, image: object) -> None:
        with pytest.raises(cnnengine.InputError):
            model.preprocess(image)

    def test_models_of_several_inputs(self) -> None:
        values = [onnx.helper.make_tensor_value_info(n, 1, [1, 3, 4, 4]) for n in "aby"]
        graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["a", "b"], ["y"])], "g", values[:2], values[2:])
        proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
        with cnnengine.load(proto) as two, pytest.raises(cnnengine.InputError, match="one input"):
            two.preprocess(np.zeros((4, 4, 3), np.uint8))


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
