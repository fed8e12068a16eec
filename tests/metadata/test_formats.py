"""Metadata of others: what each format settles, what it is not, and what is said when nobody says anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnengine.errors import InputError, ModelError
from cnnengine.feeds import TensorInfo
from cnnengine.metadata import PRESETS, About, Preparation, Subject, about
from cnnengine.preprocess import Preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FIXED = ("N", 3, 224, 224)
FREE = ("N", 3, "H", "W")
NAMES = str(dict(enumerate(["person", "dog's", "cat"])))


def known(
    props: dict[str, str] | None = None,
    shape: Any = FIXED,
    outputs: Any = (("N", 1000),),
    folder: Path | None = None,
    **files: Any,
) -> About:
    """What is known of a model with these metadata, with these JSON files beside it (a_b for a_b.json)."""
    path = None
    if folder is not None:
        path = str(folder / "net.onnx")
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return about(Subject(props or {}, path, shape, outputs))


def prepared(found: About, shape: Any = FIXED, dtype: type = np.float32, **given: Any) -> Preparation:
    assume = given.pop("assume", None)
    return found.preparation(TensorInfo("x", shape, np.dtype(dtype)), given, assume)


class TestUltralytics:
    PROPS = {"names": NAMES, "stride": "32", "task": "detect", "imgsz": "[320, 640]", "author": "Ultralytics"}  # noqa: RUF012

    def test_a_detector_is_letterboxed(self) -> None:
        found = known(self.PROPS, ("N", 3, 320, 640), (("N", 7, 100),))
        settings = prepared(found, ("N", 3, 320, 640)).settings
        assert settings == Preprocess(size=(320, 640), fit="letterbox", fill=114, antialias=False)
        assert (found.labels, found.task, found.output) == (("person", "dog's", "cat"), "detect", None)
        assert prepared(found, ("N", 3, 320, 640)).assumed == ()

    def test_of_any_size_it_is_filled_to_multiples_of_its_stride(self) -> None:
        settings = prepared(known(self.PROPS, FREE, (("N", 7, "A"),)), FREE).settings
        assert (settings.size, settings.multiple) == ((320, 640), 32)
        assert settings.place(480, 640).canvas == (320, 448)

    def test_a_classifier_is_cut(self) -> None:
        props = {**self.PROPS, "task": "classify", "imgsz": "[224, 224]"}
        found = known(props, outputs=(("N", 3),))
        assert prepared(found).settings == Preprocess(size=224, fit="crop")
        assert found.output == "probabilities"

    def test_yolov5_names_no_task(self) -> None:
        props = {"names": "['a', 'b']", "stride": "32"}
        boxes, classes = known(props, outputs=(("N", 25200, 7),)), known(props, outputs=(("N", 2),))
        assert (boxes.task, classes.task) == ("detect", "classify")
        assert prepared(boxes).settings.fit == "letterbox"
        assert prepared(classes).settings == Preprocess(size=224, fit="crop", mean=MEAN, std=STD, antialias=False)
        assert "YOLOv5 does not name it" in prepared(boxes).notes[0]

    def test_gray(self) -> None:
        shape = ("N", 1, 64, 64)
        found = known({**self.PROPS, "channels": "1", "imgsz": "[64, 64]"}, shape, (("N", 7, 10),))
        assert prepared(found, shape).settings.gray

    @pytest.mark.parametrize(
        "change",
        [
            {"names": "{0: 'a', 2: 'b'}"},
            {"names": "a, b"},
            {"names": "__import__('os')"},
            {"names": "[" * 5000},
            {"stride": "many"},
            {"stride": ""},
            {"stride": "0"},
        ],
    )
    def test_near_misses_are_nobodys(self, change: dict[str, str]) -> None:
        assert known({**self.PROPS, **change}).statements == ()

    def test_a_task_that_is_not_known_settles_nothing_but_labels(self) -> None:
        found = known({**self.PROPS, "task": "dream"}, outputs=(("N", 7, 100),))
        assert found.labels == ("person", "dog's", "cat")
        with pytest.raises(InputError, match="nothing"):
            prepared(found)


class TestPaddle:
    CHARACTERS = "a\n疗\n1"

    @pytest.mark.parametrize(("shape", "size", "longest"), [(FREE, (48, 320), None), (("N", 3, 32, 100), (32, 100), 100)])
    def test_a_reader_of_lines(self, shape: Any, size: Any, longest: int | None) -> None:
        found = known({"character": self.CHARACTERS}, shape, (("N", "T", 5),))
        assert found.task == "text"
        assert found.first("characters") == (("a", "疗", "1", " "), "its RapidOCR metadata")
        settings = prepared(found, shape).settings
        assert (settings.size, settings.longest, settings.order) == (size, longest, "BGR")
        x = settings.apply(_gray_picture(30, 60, 255))
        height, width = size
        filled = min(2 * height, width)
        assert x.shape == (1, 3, height, width)
        assert (x[..., :filled] == 1).all()
        np.testing.assert_allclose(x[..., filled:], 0, atol=1e-6)

    def test_a_classifier_has_labels_and_no_preparation(self) -> None:
        found = known({"character": "0\n90\n180\n270"}, outputs=(("N", 4),))
        assert (found.labels, found.task) == (("0", "90", "180", "270"), "classify")
        with pytest.raises(InputError, match="nothing"):
            prepared(found)

    @pytest.mark.parametrize("outputs", [(("N", 5),), (("N", "T", 9),), (("N", 1, 4, 4),), (None,), ()])
    def test_near_misses(self, outputs: Any) -> None:
        assert known({"character": self.CHARACTERS}, outputs=outputs).statements == ()


class TestImageProperties:
    @pytest.mark.parametrize(
        ("form", "span", "expected"),
        [
            ("Bgr8", "NominalRange_0_255", {"order": "BGR", "scale": 1.0}),
            ("Rgb8", "Normalized_0_1", {"scale": 1 / 255}),
            ("Rgb8", "Normalized_1_1", {"scale": 1 / 255, "mean": 0.5, "std": 0.5}),
        ],
    )
    def test_order_and_range(self, form: str, span: str, expected: dict[str, Any]) -> None:
        found = known({"Image.BitmapPixelFormat": form, "Image.NominalPixelRange": span, "Image.ColorSpaceGamma": "SRGB"})
        preparation = prepared(found)
        assert preparation.settings == Preprocess(size=224, **expected)
        assert preparation.assumed == ("fit stretch", "resample bilinear")  # they do not say how the size is reached

    def test_the_range_of_television(self) -> None:
        settings = prepared(known({"Image.NominalPixelRange": "NominalRange_16_235"})).settings
        np.testing.assert_allclose(settings.normalise(np.array([0.0, 255.0])), [16, 235])

    def test_a_format_alone_does_not_say_the_scale(self) -> None:
        with pytest.raises(InputError, match="nothing"):
            prepared(known({"Image.BitmapPixelFormat": "Bgr8"}))
        settings = prepared(known({"Image.BitmapPixelFormat": "Bgr8"}), scale=1).settings
        assert settings.order == "BGR"

    @pytest.mark.parametrize("props", [{"Image.BitmapPixelFormat": "Nv12"}, {"Image.NominalPixelRange": "huge"}, {}])
    def test_others_are_nobodys(self, props: dict[str, str]) -> None:
        assert known(props).statements == ()


class TestOpenVINO:
    PROPS = {  # noqa: RUF012
        "model_info mean_values": "123.675 116.28 103.53",
        "model_info scale_values": "58.395 57.12 57.375",
        "model_info reverse_input_channels": "True",
        "model_info resize_type": "fit_to_window_letterbox",
        "model_info pad_value": "114",
        "model_info labels": "cat big_dog",
        "model_info model_type": "Classification",
    }

    def test_keys_in_the_file(self) -> None:
        found = known(self.PROPS, outputs=(("N", 2),))
        assert prepared(found).settings == Preprocess(
            size=224,
            fit="letterbox",
            fill=114,
            scale=1,
            mean=(123.675, 116.28, 103.53),
            std=(58.395, 57.12, 57.375),
            antialias=False,
        )
        assert (found.labels, found.task) == (("cat", "big_dog"), "classify")
        assert prepared(found).assumed == ()

    def test_the_xml_beside_it(self, tmp_path: Path) -> None:
        entries = "".join(f'<{k.split()[1]} value="{v}" />' for k, v in self.PROPS.items())
        (tmp_path / "net.xml").write_text(f"<net><layers/><rt_info><model_info>{entries}</model_info></rt_info></net>")
        found = known({}, outputs=(("N", 2),), folder=tmp_path)
        assert prepared(found).settings == prepared(known(self.PROPS, outputs=(("N", 2),))).settings
        assert prepared(found).sources == ("net.xml",)

    def test_without_a_reversal_the_order_is_assumed_and_said(self) -> None:
        props = {k: v for k, v in self.PROPS.items() if "reverse" not in k}
        assert prepared(known(props)).assumed == ("order RGB",)

    def test_a_network_that_resizes_by_itself(self) -> None:
        found = known({**self.PROPS, "model_info embedded_processing": "True"})
        assert prepared(found).settings.scale == 1
        assert "resizes and scales by itself" in prepared(found).notes[0]

    @pytest.mark.parametrize(
        "change",
        [
            {"model_info mean_values": "a b c"},
            {"model_info mean_values": "1 2"},
            {"model_info scale_values": "1 0 1"},
            {"model_info intensity_mode": "percentile"},
        ],
    )
    def test_values_that_are_none_are_not_guessed(self, change: dict[str, str]) -> None:
        with pytest.raises(InputError, match="nothing"):
            prepared(known({**self.PROPS, **change}))

    @pytest.mark.parametrize("text", ["<net>", "<!DOCTYPE x><net/>", "<net><rt_info/></net>", "no xml"])
    def test_another_xml_is_nobodys(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "net.xml").write_text(text)
        assert known(folder=tmp_path).statements == ()


class TestTimm:
    CONFIG = {  # noqa: RUF012
        "input_size": [3, 224, 224],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "crop_mode": "center",
        "mean": list(MEAN),
        "std": list(STD),
        "num_classes": 2,
        "label_names": ["n1", "n2"],
    }

    def test_a_hub_config(self, tmp_path: Path) -> None:
        config = {"architecture": "resnet50", "pretrained_cfg": self.CONFIG, "label_descriptions": {"n1": "a fish"}}
        found = known(outputs=(("N", 2),), folder=tmp_path, config=config)
        assert prepared(found).settings == Preprocess(size=224, fit="crop", crop_pct=0.95, resample="bicubic", mean=MEAN, std=STD)
        assert prepared(found).settings.place(400, 300).resized == (int(235 * 400 / 300), 235)
        assert (found.labels, found.output, found.task) == (("a fish", "n2"), "logits", "classify")

    @pytest.mark.parametrize(
        ("mode", "resized", "canvas"),
        [("center", (313, 235), (224, 224)), ("squash", (235, 235), (224, 224)), ("border", (235, 176), (224, 224))],
    )
    def test_crop_modes(self, tmp_path: Path, mode: str, resized: Any, canvas: Any) -> None:
        config = {"architecture": "x", **self.CONFIG, "crop_mode": mode}
        place = prepared(known(folder=tmp_path, config=config)).settings.place(400, 300)
        assert (place.resized, place.canvas) == (resized, canvas)

    def test_a_model_of_another_size_keeps_the_part_that_is_cut(self, tmp_path: Path) -> None:
        config = {"architecture": "x", **self.CONFIG}
        found = prepared(known(shape=("N", 3, 256, 256), folder=tmp_path, config=config), ("N", 3, 256, 256))
        assert (found.settings.size, found.settings.crop_pct) == ((256, 256), 0.95)
        assert any("224x224" in note for note in found.notes)

    def test_features_have_no_classes(self, tmp_path: Path) -> None:
        found = known(folder=tmp_path, config={"architecture": "x", **self.CONFIG, "num_classes": 0, "label_names": None})
        assert (found.task, found.output, found.labels) == ("embed", None, None)

    @pytest.mark.parametrize("change", [{"mean": [1, 2]}, {"std": [0, 1, 1]}, {"mean": "x"}, {"std": [1, 1, float("inf")]}])
    def test_values_that_are_none_are_not_guessed(self, tmp_path: Path, change: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="nothing"):
            prepared(known(folder=tmp_path, config={"architecture": "x", **self.CONFIG, **change}))

    @pytest.mark.parametrize("config", ["{", "[]", {"mean": [1], "std": [1]}, {"architecture": "x"}, "\x00", "[" * 100000])
    def test_another_config_is_nobodys(self, tmp_path: Path, config: Any) -> None:
        assert known(folder=tmp_path, config=config).statements == ()

    def test_labels_of_another_number_are_left_and_told(self, tmp_path: Path) -> None:
        found = known(outputs=(("N", 1000),), folder=tmp_path, config={"architecture": "x", **self.CONFIG})
        assert found.labels is None
        assert any("2 labels are not those of 1000 classes" in note for note in prepared(found).notes)


class TestHuggingFace:
    VIT = {  # noqa: RUF012
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": 224, "width": 224},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }

    HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}  # noqa: RUF012
    SHORT = {"shortest_edge": 224}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("kind", "change", "expected"),
        [
            ("ViT", {}, {**HALF}),
            ("ViT", {"size": 224}, {**HALF}),
            (
                "CLIP",
                {"size": SHORT, "crop_size": 224, "resample": 3},
                {**HALF, "fit": "crop", "resize": 224, "resample": "bicubic"},
            ),
            ("CLIP", {"size": 224, "crop_size": 224}, {**HALF, "fit": "crop", "resize": 224}),
            ("DeiT", {"size": {"height": 256, "width": 256}, "crop_size": 224}, {**HALF, "resize": (256, 256)}),
            ("ConvNext", {"size": SHORT, "crop_pct": 0.875}, {**HALF, "fit": "crop", "resize": 256}),
            ("Levit", {"size": SHORT, "crop_size": 224}, {**HALF, "fit": "crop", "resize": 256}),
            ("PoolFormer", {"size": SHORT, "crop_size": 224, "crop_pct": 0.9}, {**HALF, "fit": "crop", "resize": 248}),
            (
                "MobileViT",
                {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_normalize": False},
                {"fit": "crop", "resize": 256, "order": "BGR"},
            ),
            (
                "EfficientNet",
                {"rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": False, "do_normalize": False},
                {"scale": 1 / 127.5, "mean": 1},
            ),
            ("Any", {"do_rescale": False, "do_normalize": False}, {"scale": 1.0}),
            ("Any", {"do_center_crop": False, "crop_size": 100}, {**HALF}),
        ],
    )
    @pytest.mark.parametrize("suffix", ["ImageProcessor", "ImageProcessorFast", "FeatureExtractor"])
    def test_processors(self, tmp_path: Path, kind: str, suffix: str, change: dict[str, Any], expected: dict[str, Any]) -> None:
        key = "feature_extractor_type" if suffix == "FeatureExtractor" else "image_processor_type"
        config = {k: v for k, v in self.VIT.items() if k != "image_processor_type"}
        found = prepared(known(folder=tmp_path, preprocessor_config={**config, key: kind + suffix, **change}))
        assert found.settings == Preprocess(size=224, **expected)
        assert found.assumed == ()
        assert found.sources == ("preprocessor_config.json",)

    def test_convnext_stretches_from_384_on(self, tmp_path: Path) -> None:
        config = {**self.VIT, "image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}
        settings = prepared(known(shape=FREE, folder=tmp_path, preprocessor_config=config), FREE).settings
        assert (settings.fit, settings.size) == ("stretch", (384, 384))

    def test_the_second_deviation_of_efficientnet(self, tmp_path: Path) -> None:
        config = {**self.VIT, "image_processor_type": "EfficientNetImageProcessor", "include_top": True}
        settings = prepared(known(folder=tmp_path, preprocessor_config=config)).settings
        np.testing.assert_allclose(settings.std, 0.5 * np.array([0.47853944, 0.4732864, 0.47434163]))

    def test_the_shorter_side_alone(self, tmp_path: Path) -> None:
        config = {**self.VIT, "image_processor_type": "DetrImageProcessor", "size": {"shortest_edge": 800, "longest_edge": 1333}}
        settings = prepared(known(shape=FREE, folder=tmp_path, preprocessor_config=config), FREE).settings
        assert settings.place(480, 640).canvas == (800, 1066)
        assert settings.place(1000, 4000).canvas[1] == 1333

    def test_padding_to_multiples(self, tmp_path: Path) -> None:
        config = {**self.VIT, "do_resize": False, "do_normalize": False, "do_pad": True, "pad_size": 8}
        settings = prepared(known(shape=FREE, folder=tmp_path, preprocessor_config=config), FREE).settings
        place = settings.place(13, 16)
        assert (place.resized, place.canvas, place.top) == ((13, 16), (16, 16), 0)

    @pytest.mark.parametrize(
        "change",
        [
            {"image_mean": None},
            {"image_std": [0, 1, 1]},
            {"rescale_factor": "x"},
            {"image_mean": [1, 2]},
            {"rescale_factor": None},
        ],
    )
    def test_values_that_are_none_are_not_guessed(self, tmp_path: Path, change: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="nothing"):
            prepared(known(folder=tmp_path, preprocessor_config={**self.VIT, **change}))

    @pytest.mark.parametrize("change", [{"size": "large"}, {"size": None}, {"size": {"width": 4}}, {"resample": 9}])
    def test_what_is_not_known_is_assumed_and_said(self, tmp_path: Path, change: dict[str, Any]) -> None:
        found = prepared(known(folder=tmp_path, preprocessor_config={**self.VIT, **change}))
        assert found.assumed
        assert any(next(iter(change)) in note for note in found.notes)

    def test_classes(self, tmp_path: Path) -> None:
        config = {
            "model_type": "vit",
            "architectures": ["ViTForImageClassification"],
            "id2label": {"10": "k", **{str(i): chr(97 + i) for i in range(10)}},
        }
        found = known(outputs=(("N", 11),), folder=tmp_path, preprocessor_config=self.VIT, config=config)
        assert found.labels == tuple("abcdefghijk")
        assert (found.output, found.task) == ("logits", "classify")
        assert found.first("labels") == (found.labels, "config.json")

    def test_classes_without_names_and_several_at_once(self, tmp_path: Path) -> None:
        config = {
            "model_type": "vit",
            "architectures": ["ViTForImageClassification"],
            "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
            "problem_type": "multi_label_classification",
        }
        found = known(outputs=(("N", 2),), folder=tmp_path, config=config)
        assert (found.labels, found.output, found.task) == (None, None, "classify")

    def test_an_onnx_folder_has_its_files_above_it(self, tmp_path: Path) -> None:
        (tmp_path / "onnx").mkdir()
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(self.VIT))
        assert known(folder=tmp_path / "onnx").chosen is not None
        (tmp_path / "other").mkdir()
        assert known(folder=tmp_path / "other").chosen is None

    def test_a_link_into_a_cache_has_files_beside_its_target(self, tmp_path: Path) -> None:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "preprocessor_config.json").write_text(json.dumps(self.VIT))
        (tmp_path / "cache" / "net.onnx").write_bytes(b"")
        (tmp_path / "net.onnx").symlink_to(tmp_path / "cache" / "net.onnx")
        assert known(folder=tmp_path).chosen is not None


class TestTorchvision:
    PRESET = {  # noqa: RUF012
        "training": True,
        "_parameters": {},
        "crop_size": [224],
        "resize_size": [232],
        "mean": list(MEAN),
        "std": list(STD),
        "interpolation": "InterpolationMode.BICUBIC",
        "antialias": True,
        "categories": ["a", "b"],
    }

    @pytest.mark.parametrize("name", ["transforms", "net.transforms"])
    def test_the_fields_of_a_preset(self, tmp_path: Path, name: str) -> None:
        found = known(outputs=(("N", 2),), folder=tmp_path, **{name: self.PRESET})
        assert prepared(found).settings == Preprocess(size=224, fit="crop", resize=232, resample="bicubic", mean=MEAN, std=STD)
        assert found.labels == ("a", "b")

    def test_a_model_of_another_size_keeps_the_part_that_is_cut(self, tmp_path: Path) -> None:
        shape = ("N", 3, 448, 448)
        settings = prepared(known(shape=shape, outputs=(("N", 2),), folder=tmp_path, transforms=self.PRESET), shape).settings
        assert (settings.size, settings.resize) == ((448, 448), None)
        assert settings.place(600, 900).resized == (464, 696)

    def test_those_of_another_model_are_not_taken(self, tmp_path: Path) -> None:
        assert known(folder=tmp_path, **{"other.transforms": self.PRESET}).statements == ()

    def test_a_preset_of_segmentation(self, tmp_path: Path) -> None:
        preset = {k: v for k, v in self.PRESET.items() if k not in ("crop_size", "categories")}
        settings = prepared(known(shape=FREE, folder=tmp_path, transforms={**preset, "resize_size": [520]}), FREE).settings
        assert settings.place(400, 500).canvas == (520, 650)

    @pytest.mark.parametrize("change", [{"resize_size": ["x"]}, {"crop_size": [0]}, {"interpolation": "box"}])
    def test_what_is_not_known_is_assumed_and_said(self, tmp_path: Path, change: dict[str, Any]) -> None:
        found = prepared(known(folder=tmp_path, transforms={**self.PRESET, **change}))
        assert found.assumed
        assert found.notes


class TestPrecedence:
    OWN = {"cnnengine.preprocess": json.dumps({"scale": 0.5}), "cnnengine.labels": '["x", "y"]'}  # noqa: RUF012

    def test_ours_goes_first_and_has_its_defaults(self, tmp_path: Path) -> None:
        props = {**TestOpenVINO.PROPS, **self.OWN}
        found = known(props, outputs=(("N", 2),), folder=tmp_path, preprocessor_config=TestHuggingFace.VIT)
        assert prepared(found).settings == Preprocess(size=224, scale=0.5)
        assert prepared(found).assumed == ()
        assert found.labels == ("x", "y")

    def test_our_labels_alone_leave_the_preparation_to_others(self, tmp_path: Path) -> None:
        props = {"cnnengine.labels": '["x", "y"]'}
        found = known(props, outputs=(("N", 2),), folder=tmp_path, preprocessor_config=TestHuggingFace.VIT)
        assert prepared(found).sources == ("preprocessor_config.json",)

    def test_what_settles_the_resizing_too_goes_before_what_does_not(self, tmp_path: Path) -> None:
        props = {"Image.NominalPixelRange": "NominalRange_0_255"}
        found = known(props, folder=tmp_path, preprocessor_config=TestHuggingFace.VIT)
        assert prepared(found).settings.mean == (0.5,) * 3

    def test_options_go_before_all(self) -> None:
        found = prepared(known(self.OWN), scale=1, fit="crop", size=(8, 8), resize=9)
        assert found.settings == Preprocess(scale=1, fit="crop", size=8, resize=9)
        assert found.sources == ("options", "its cnnengine metadata")

    def test_another_way_to_fit_takes_what_belonged_to_the_old_one(self, tmp_path: Path) -> None:
        found = known(folder=tmp_path, transforms=TestTorchvision.PRESET)
        assert prepared(found, fit="stretch").settings.resize is None
        assert prepared(found, crop_pct=0.5).settings.resize is None
        assert prepared(found, fit="letterbox", crop_pct=0.9).settings.crop_pct == 0.9

    @pytest.mark.parametrize("key", ["cnnengine.preprocess", "cnnengine.labels", "cnnengine.output", "cnnengine.task"])
    def test_ours_must_be_right(self, key: str) -> None:
        with pytest.raises(ModelError, match=key):
            known({key: "{"})


class TestNothingKnown:
    def test_floats_are_asked_for(self) -> None:
        with pytest.raises(InputError, match=r"nothing .* input 'x', float32 \(N, 3, 224, 224\): give scale=, .*assume="):
            prepared(known())

    @pytest.mark.parametrize(
        ("content", "said"), [(b"{", "is not JSON"), (b'{"a": "\xff"}', "is not UTF-8"), (b"[" * 10**5, "is not JSON")]
    )
    def test_a_broken_file_beside_it_is_told(self, tmp_path: Path, content: bytes, said: str) -> None:
        (tmp_path / "preprocessor_config.json").write_bytes(content)
        with pytest.raises(InputError, match=rf"nothing .*preprocessor_config\.json.* {said}"):
            prepared(known(folder=tmp_path))
        assert len(known(folder=tmp_path).problems) == 1

    def test_integers_are_pixels(self) -> None:
        found = prepared(known(), dtype=np.uint8)
        assert found.settings == Preprocess(size=224, scale=1)
        assert found.assumed == ("fit stretch", "order RGB", "resample bilinear")

    def test_a_scale_is_enough_and_the_rest_is_said(self) -> None:
        found = prepared(known(), scale=1)
        assert (found.settings, found.sources) == (Preprocess(size=224, scale=1), ("options",))
        assert found.assumed == ("fit stretch", "order RGB", "resample bilinear")
        assert prepared(known(), FREE, scale=1).assumed == ("not resized", "order RGB")
        assert prepared(known(), scale=1, resize=256).assumed == ("fit crop", "order RGB", "resample bilinear")

    def test_a_mean_tells_the_scale_only_where_it_can(self) -> None:
        assert prepared(known(), mean=MEAN, std=STD).assumed[0] == "scale 1/255"
        for given in ({"mean": (123.0, 116.0, 103.0)}, {"std": 255.0}, {"mean": -2.0}):
            with pytest.raises(InputError, match="scale="):
                prepared(known(), **given)

    @pytest.mark.parametrize("name", PRESETS)
    @pytest.mark.parametrize("channels", [1, 3])
    def test_usual_ways(self, name: str, channels: int) -> None:
        shape = ("N", channels, 64, 48)
        found = prepared(known(shape=shape), shape, assume=name)
        assert found.sources == (f"assume {name}",)
        assert found.assumed == ()
        assert found.settings.apply(_gray_picture(30, 60, 128)).shape == (1, channels, 64, 48)

    def test_a_usual_way_does_not_replace_what_is_known(self) -> None:
        found = prepared(known({"Image.NominalPixelRange": "NominalRange_0_255"}), assume="imagenet")
        assert (found.settings.scale, found.settings.mean, found.settings.fit) == (1, (0,), "crop")
        own = prepared(known({"cnnengine.preprocess": '{"scale": 0.5}'}), assume="imagenet")
        assert own.settings == Preprocess(size=224, scale=0.5)

    def test_unknown_ways_and_sizes(self) -> None:
        with pytest.raises(InputError, match="imagenet"):
            prepared(known(), assume="imagnet")
        with pytest.raises(InputError, match=r"size=.*height and width"):
            prepared(known(shape=FREE), FREE, assume="imagenet")

    @pytest.mark.parametrize("shape", [("N", 10), (1, 4, 8, 8)])
    def test_inputs_that_take_no_picture(self, shape: Any) -> None:
        with pytest.raises(InputError, match="image"):
            prepared(known(shape=shape), shape, scale=1)


def _gray_picture(height: int, width: int, level: int) -> Any:
    from PIL import Image

    return Image.new("RGB", (width, height), (level, level, level))
