"""Metadata written into a model's file: what is replaced, what stays byte for byte, and what is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnengine.errors import InputError, ModelError
from cnnengine.metadata import write
from cnnengine.metadata.write import properties_of, write_properties


def relu(path: Path, **props: str) -> Path:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3, 8, 8]) for n in "xy")
    weights = numpy_helper.from_array(np.arange(3000, dtype=np.float32), "w")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, producer_name="test")
    helper.set_model_props(model, props)
    onnx.save(model, path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return relu(tmp_path / "m.onnx", names="old", kept="as it is", other="")


def test_new_entries_stand_behind_all_that_was_there(model: Path, tmp_path: Path) -> None:
    write_properties(str(model), str(tmp_path / "out.onnx"), {"a": "1", "ü\n": "é" * 300, "empty": ""})
    before, after = model.read_bytes(), (tmp_path / "out.onnx").read_bytes()
    assert after.startswith(before)
    found = properties_of(str(tmp_path / "out.onnx"))
    assert found == {"names": "old", "kept": "as it is", "other": "", "a": "1", "ü\n": "é" * 300, "empty": ""}
    read = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(read)
    assert {p.key: p.value for p in read.metadata_props} == found


def test_an_entry_of_the_same_key_is_replaced(model: Path, tmp_path: Path) -> None:
    write_properties(str(model), str(tmp_path / "out.onnx"), {"names": "new"})
    read = onnx.load(tmp_path / "out.onnx")
    assert [(p.key, p.value) for p in read.metadata_props] == [("kept", "as it is"), ("other", ""), ("names", "new")]
    expected = onnx.load(model)
    del read.metadata_props[:], expected.metadata_props[:]
    assert read == expected
    assert len((tmp_path / "out.onnx").read_bytes()) == len(model.read_bytes())


def test_entries_between_other_fields_and_given_twice(model: Path, tmp_path: Path) -> None:
    entry = helper.make_model(helper.make_graph([], "g", [], []))
    del entry.opset_import[:]
    entry.Clear()
    entry.metadata_props.add(key="names", value="older")
    odd = tmp_path / "odd.onnx"
    odd.write_bytes(entry.SerializeToString() + model.read_bytes() + entry.SerializeToString())
    write_properties(str(odd), str(odd), {"names": "new"})
    plain = relu(tmp_path / "plain.onnx", kept="as it is", other="")
    assert odd.read_bytes().startswith(plain.read_bytes())
    assert properties_of(str(odd)) == {"kept": "as it is", "other": "", "names": "new"}


def test_in_place_and_again_is_the_same(model: Path) -> None:
    write_properties(str(model), str(model), {"names": "new", "more": "x"})
    first = model.read_bytes()
    write_properties(str(model), str(model), {"names": "new", "more": "x"})
    assert model.read_bytes() == first
    assert os.listdir(model.parent) == ["m.onnx"]


def test_rights_and_links_stay(model: Path, tmp_path: Path) -> None:
    model.chmod(0o640)
    (tmp_path / "link.onnx").symlink_to(model)
    write_properties(str(model), str(tmp_path / "link.onnx"), {"a": "1"})
    assert (tmp_path / "link.onnx").is_symlink()
    assert stat.S_IMODE(model.stat().st_mode) == 0o640
    assert properties_of(str(model))["a"] == "1"
    mask = os.umask(0o027)
    try:
        write_properties(str(model), str(tmp_path / "new.onnx"), {"a": "1"})
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new.onnx").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-3],
        lambda data: data + b"\x0b",  # a group, which ONNX has none of
        lambda data: data + b"\x00\x00",
        lambda data: data + b"\x72\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        lambda data: data + b"\x72\x05\x0a\x7f",
        lambda data: data + b"\x72\x02\x0a\x05",
        lambda data: b"<!DOCTYPE html>",
        lambda data: data + b"\x08" * 11,
    ],
)
def test_damaged_files_are_refused_and_nothing_is_written(model: Path, tmp_path: Path, damage) -> None:
    data = damage(model.read_bytes())
    model.write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        write_properties(str(model), str(tmp_path / "out.onnx"), {"a": "1"})
    with pytest.raises(ModelError):
        write_properties(str(model), str(model), {"a": "1"})
    assert model.read_bytes() == data
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_where_it_cannot_be_written(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for out in (tmp_path, tmp_path / "none" / "out.onnx", Path("/dev/null")):
        with pytest.raises(InputError, match="cannot be written"):
            write_properties(str(model), str(out), {"a": "1"})
    monkeypatch.setattr(write, "LIMIT", model.stat().st_size + 8)
    write_properties(str(model), str(tmp_path / "fits.onnx"), {"a": "1"})
    with pytest.raises(InputError, match="too large"):
        write_properties(str(model), str(tmp_path / "out.onnx"), {"a": "12"})
    with pytest.raises(ModelError, match="no such file"):
        write_properties(str(tmp_path / "none.onnx"), str(tmp_path / "out.onnx"), {"a": "1"})
    assert sorted(os.listdir(tmp_path)) == ["fits.onnx", "m.onnx"]


def test_a_failing_write_leaves_what_was_there(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.onnx").write_bytes(b"before")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "_copy", full)
    with pytest.raises(InputError, match="No space left"):
        write_properties(str(model), str(tmp_path / "out.onnx"), {"a": "1"})
    assert (tmp_path / "out.onnx").read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "out.onnx"]


def test_large_files_are_copied_in_pieces(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "PIECE", 7)
    write_properties(str(model), str(tmp_path / "out.onnx"), {"a": "1"})
    assert (tmp_path / "out.onnx").read_bytes().startswith(model.read_bytes())
