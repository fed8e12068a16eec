"""read: what it takes, and that files cannot make it read anything else."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnengine.errors import ModelError, ModelNotFoundError
from cnnengine.importer import import_model, read

W = np.arange(6, dtype=np.float32).reshape(2, 3)


def model(weight: TensorProto | None = None) -> onnx.ModelProto:
    tensor = numpy_helper.from_array(W, "w") if weight is None else weight
    node = helper.make_node("Concat", ["x", "w"], ["y"], axis=0)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy")
    graph = helper.make_graph([node], "g", [x], [y], initializer=[tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def external(location: str, **entries: object) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=W.shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def weights(proto: onnx.ModelProto) -> np.ndarray:
    return import_model(proto).constants["w"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "w.bin").write_bytes(b"\0" * 8 + W.tobytes() + b"\0" * 4)
    (tmp_path / "secret.bin").write_bytes(W.tobytes())
    return inside


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "bytearray", "memoryview", "file", "proto"])
def test_sources(tmp_path: Path, kind: str) -> None:
    data = model().SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    sources = {
        "path": path, "text": str(path), "bytes": data, "bytearray": bytearray(data), "memoryview": memoryview(data),
        "file": io.BytesIO(data), "proto": model(),
    }  # fmt: skip
    np.testing.assert_array_equal(weights(read(sources[kind])), W)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"nothing\.onnx") as caught:
        read(tmp_path / "nothing.onnx")
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("source", [None, 3, object(), io.StringIO("text"), "a\0b"])
def test_what_is_no_model(source: object) -> None:
    with pytest.raises(ModelError):
        read(source)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\x80\x02PK", b"PK\x03\x04" + b"\0" * 40, b"hello, world", b"\xff" * 100, b"\x08\x07"])
def test_bytes_that_are_no_model(data: bytes) -> None:
    with pytest.raises(ModelError, match="not an ONNX model"):
        read(data)


def test_every_truncation_is_an_error_or_a_smaller_model() -> None:
    data = model().SerializeToString()
    refused = 0
    for end in range(len(data)):
        try:
            import_model(read(data[:end]))
        except ModelError:
            refused += 1
    assert refused >= len(data) - 10  # cuts in the model's tail, after the graph, may leave a whole model


def test_flipped_bits_never_escape_as_other_errors() -> None:
    data = model().SerializeToString()
    for position in range(len(data)):
        for bit in (0, 3, 7):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with contextlib.suppress(ModelError):
                import_model(read(bytes(damaged)))


@pytest.mark.parametrize("ir", [2**40, onnx.IR_VERSION + 1])
def test_newer_ir_versions_warn(ir: int) -> None:
    proto = model()
    proto.ir_version = ir
    with pytest.warns(UserWarning, match="IR version"):
        assert weights(read(proto)) is not None


def test_newer_opsets_warn() -> None:
    proto = model()
    proto.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    with pytest.warns(UserWarning, match="opset"):
        assert weights(read(proto)) is not None


def test_external_data(folder: Path) -> None:
    proto = model(external("w.bin", offset=8, length=24))
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(weights(read(folder / "m.onnx")), W)
    np.testing.assert_array_equal(weights(read(proto.SerializeToString(), base_dir=folder)), W)
    np.testing.assert_array_equal(weights(read(proto, base_dir=str(folder))), W)
    assert proto.graph.initializer[0].data_location == TensorProto.EXTERNAL  # the caller's model stays as it was


def test_external_data_without_a_length(folder: Path) -> None:
    np.testing.assert_array_equal(weights(read(model(external("w.bin", offset=8)), folder)), W)


def test_external_data_in_a_sub_folder(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "w.bin").write_bytes(W.tobytes())
    np.testing.assert_array_equal(weights(read(model(external("data/w.bin")), folder)), W)


def test_external_data_needs_a_folder() -> None:
    with pytest.raises(ModelError, match="base_dir"):
        read(model(external("w.bin")))


def test_missing_external_file(folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"none\.bin"):
        read(model(external("none.bin")), folder)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "a/../../secret.bin", "", "..", ".", "C:/secret.bin", "..\\secret.bin", "a\0b"]
)
def test_external_data_outside(folder: Path, location: str) -> None:
    with pytest.raises(ModelError):
        read(model(external(location)), folder)


def test_absolute_external_data(folder: Path) -> None:
    with pytest.raises(ModelError, match="relative"):
        read(model(external(str(folder / "w.bin"))), folder)


@pytest.mark.parametrize("how", ["file", "folder"])
def test_links_that_lead_out(folder: Path, how: str) -> None:
    location = "link.bin" if how == "file" else "link/secret.bin"
    (folder / location.split("/")[0]).symlink_to(folder.parent / "secret.bin" if how == "file" else folder.parent)
    (folder / "m.onnx").write_bytes(model(external(location)).SerializeToString())
    with pytest.raises(ModelError, match="link"):
        read(folder / "m.onnx")
    np.testing.assert_array_equal(weights(read(folder / "m.onnx", folder)), W)  # a folder that the caller names is trusted


def test_links_that_stay_inside(folder: Path) -> None:
    (folder / "link.bin").symlink_to("w.bin")
    np.testing.assert_array_equal(weights(read(model(external("link.bin", offset=8)), folder)), W)


@pytest.mark.parametrize(
    "entries",
    [{"offset": 16}, {"offset": -1}, {"length": 23}, {"length": 25}, {"offset": 2**62}, {"offset": "x"}, {"length": "y"}]
    + [{"offset": "0_8"}, {"offset": "+8"}, {"length": -7}, {"offset": "9" * 5000}],
)
def test_wrong_sizes(folder: Path, entries: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        read(model(external("w.bin", **entries)), folder)


def test_external_data_must_be_a_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "sub").mkdir()
    for location in ("pipe", "sub"):
        with pytest.raises(ModelError, match="ordinary file"):
            read(model(external(location)), folder)


def test_external_data_in_constants_and_branches(folder: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["z"], value=external("w.bin", offset=8))],
        "b",
        [],
        [helper.make_tensor_value_info("z", 1, None)],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("c", TensorProto.BOOL, [])], [helper.make_tensor_value_info("y", 1, None)]
    )
    proto = read(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder)
    np.testing.assert_array_equal(import_model(proto).evaluate({"c": np.array(True)})[0], W)
