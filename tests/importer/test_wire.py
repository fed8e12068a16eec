"""wire: files as protobuf reads them, without protobuf and without copies; a Source: where the weights lie, and for how long."""

from __future__ import annotations

import contextlib
import importlib.util
import mmap
import os
import pickle
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.defs import OpSchema
from onnx.reference import ReferenceEvaluator

import cnnengine
from cnnengine.errors import CNNEngineError, ModelError
from cnnengine.graph import Graph
from cnnengine.importer import import_model, open_model, read, wire
from cnnengine.importer.graphs import _told
from cnnengine.importer.other_schemas import BODIES, DEPENDENT, OTHER
from cnnengine.importer.reader import MAPPED
from cnnengine.importer.schemas import OPSET, SCHEMAS
from cnnengine.layout import is_mapped
from cnnengine.ops import INDEX


@cache
def make_schemas() -> ModuleType:
    """The script that writes `importer/schemas.py`."""
    path = Path(__file__).resolve().parents[2] / "tools" / "make_schemas.py"
    spec = importlib.util.spec_from_file_location("make_schemas", path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def dense_model(weight: TensorProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    """x (N, K) times a constant w (K, C), and w as it is."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", shape[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", shape[1]])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], initializer=[weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def large() -> tuple[onnx.ModelProto, np.ndarray]:
    w = np.random.default_rng(0).standard_normal((1024, 384), dtype=np.float32)
    assert w.nbytes > MAPPED
    return dense_model(numpy_helper.from_array(w, "w"), w.shape), w


def rich() -> onnx.ModelProto:
    """Every form that the reader knows: attributes of all kinds, a subgraph, data packed and raw, types, metadata."""
    then = helper.make_graph(
        [helper.make_node("Add", ["x", "c"], ["t"], name="inner")], "then",
        [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
        initializer=[helper.make_tensor("c", TensorProto.FLOAT, [3], [1.0, -2.5, 3e-8])],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["t"])], "else", [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["N", 3])]
    )
    nodes = [
        helper.make_node("If", ["flag"], ["a"], then_branch=then, else_branch=other),
        helper.make_node("Constant", [], ["k"], value=helper.make_tensor("", TensorProto.INT64, [2], [-1, 3])),
        helper.make_node("Reshape", ["a", "k"], ["b"], name="shape"),
        helper.make_node("LeakyRelu", ["b"], ["d"], alpha=-0.25, doc_string="text"),
        helper.make_node("Conv", ["e", "w"], ["f"], kernel_shape=[1, 1], auto_pad="NOTSET", pads=[0, 0, 0, 0]),
        helper.make_node("Clip", ["f", "", "high"], ["y", ""][:1]),
    ]
    nodes.insert(4, helper.make_node("Unsqueeze", ["d", "axes"], ["e"]))
    tensors = [
        numpy_helper.from_array(np.ones((2, 1, 1, 1), np.float32), "w"),
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 3]),
        helper.make_tensor("high", TensorProto.FLOAT, [], [4.5]),
        helper.make_tensor("half", TensorProto.FLOAT16, [2], [1.5, 2.5]),
        helper.make_tensor("bits", TensorProto.INT32, [3], [1, -1, 2**31 - 1]),
        numpy_helper.from_array(np.array([True, False]), "truth"),
        numpy_helper.from_array(np.array([1.25, 2.5]), "wide"),
        helper.make_tensor("packed_wide", TensorProto.DOUBLE, [1], [0.1]),
        helper.make_tensor("texts", TensorProto.STRING, [2], [b"one", b"two"]),
    ]
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("sparse", TensorProto.FLOAT, [1], [7.0]), helper.make_tensor("i", TensorProto.INT64, [1], [2]), [4]
    )
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "rich", inputs, outputs, tensors, sparse_initializer=[sparse], doc_string="what it is")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("other", 1)], ir_version=8)
    helper.set_model_props(model, {"labels": "a,b", "empty": ""})
    model.producer_name, model.model_version = "tests", -3
    return model


def outline(graph: Graph) -> Any:
    def text(value: Any) -> Any:
        return outline(value) if isinstance(value, Graph) else value.tolist() if isinstance(value, np.ndarray) else value

    return (
        [(n.name, n.op.op_type, n.inputs, n.outputs, [(k, text(v)) for k, v in sorted(vars(n.op).items())]) for n in graph.nodes],
        [(n, s.dtype, s.shape) for n, s in (*graph.inputs.items(), *graph.outputs.items())],
        {n: (v.dtype, v.shape, v.tobytes() if v.dtype != object else v.tolist()) for n, v in graph.constants.items()},
        graph.metadata,
    )


def outcome(message: Any) -> Any:
    try:
        return repr(outline(import_model(message)))
    except CNNEngineError as error:
        return type(error), str(error)


def test_the_fields_are_those_of_onnx() -> None:
    packed = {"packed ints", "packed floats", "packed numbers"}
    wires = {1: 1, 2: 5, 3: 0, 4: 0, 5: 0, 8: 0, 9: 2, 11: 2, 12: 2, 13: 0, 14: 0}  # FieldDescriptor.type -> wire type
    pairs = [
        (wire.ModelMessage, onnx.ModelProto), (wire.GraphMessage, onnx.GraphProto), (wire.NodeMessage, onnx.NodeProto),
        (wire.Attribute, onnx.AttributeProto), (wire.Tensor, onnx.TensorProto), (wire.SparseTensor, onnx.SparseTensorProto),
        (wire.ValueInfo, onnx.ValueInfoProto), (wire.Type, onnx.TypeProto), (wire.TensorType, onnx.TypeProto.Tensor),
        (wire.TensorShape, onnx.TensorShapeProto), (wire.Dimension, onnx.TensorShapeProto.Dimension),
        (wire.ElementType, onnx.TypeProto.Sequence), (wire.ElementType, onnx.TypeProto.Optional),
        (wire.MapType, onnx.TypeProto.Map), (wire.OpaqueType, onnx.TypeProto.Opaque),
        (wire.TensorType, onnx.TypeProto.SparseTensor),
        (wire.FunctionMessage, onnx.FunctionProto), (wire.Segment, onnx.TensorProto.Segment),
        (wire.Opset, onnx.OperatorSetIdProto), (wire.Entry, onnx.StringStringEntryProto),
    ]  # fmt: skip
    for own, theirs in pairs:
        numbers = theirs.DESCRIPTOR.fields_by_number
        for key, (name, kind, _) in own.FIELDS.items():
            field = numbers[key >> 3]
            assert name == field.name, (own, name)
            allowed = {wires[field.type]} | ({2} if field.is_repeated else set())
            assert key & 7 in allowed, (own, name)
            if kind in packed:
                assert field.is_repeated and key & 7 == 2
        if own is wire.Tensor:  # whatever holds data is known
            known = {key >> 3 for key in own.FIELDS}
            assert {f.number for f in numbers.values() if f.name.endswith(("_data", "segment"))} <= known


def test_messages_read_as_protobuf() -> None:
    data = rich().SerializeToString()
    source = open_model(data)
    assert isinstance(source.message, wire.ModelMessage)
    assert source.message.producer_name == "tests" and source.message.model_version == -3
    assert source.message.graph.doc_string == "what it is"
    assert outcome(source.message) == outcome(read(data))
    graph = import_model(source.message)
    assert graph.constants["half"].dtype == np.float16 and graph.constants["sparse"].tolist() == [0, 0, 7, 0]
    assert source.serialized() == data


def test_damage_is_judged_as_by_protobuf() -> None:
    data = rich().SerializeToString()
    rng = np.random.default_rng(5)
    cases = [data[:end] for end in range(0, len(data), 7)]
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        cases.append(bytes(damaged))
    direct = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in cases:
            found: list[Any] = []
            for way in (lambda b: open_model(b).message, read):
                try:
                    message = way(case)
                except CNNEngineError as error:
                    found.append((type(error), str(error)))
                else:
                    direct += isinstance(message, wire.ModelMessage)
                    try:
                        found.append(outcome(message))
                    except TypeError:  # protobuf gives bytes for text that is not UTF-8
                        assert not isinstance(message, wire.ModelMessage)
                        found.append(found[0])
            text = found[1] if isinstance(found[1], str) else found[1][1]
            assert found[0] == found[1] or "b'" in text or 'b"' in text  # the same in bytes
    assert direct > len(cases) // 4  # the reader itself judged them, not protobuf alone


def test_there_are_schemas_of_every_operator_of_the_index() -> None:
    """Those that the table lacks are read with the help of the onnx package, whose import takes longer than most files."""
    assert {*INDEX, "Constant"} == set(SCHEMAS)


def test_every_other_operator_of_onnx_is_told_as_onnx_tells_it() -> None:
    """Of the release that the table is of: schemas, functions, and which operators onnx alone can write by others."""
    if onnx.defs.onnx_opset_version() != OPSET or onnx.__version__ != "1.23.2":
        pytest.skip(f"the table is not of onnx {onnx.__version__}")
    script = make_schemas()
    others = script.others()
    assert {domain: sorted(names) for domain, names in OTHER.items()} == others
    for domain, names in others.items():
        for name in names:
            assert list(script.lines(name, OPSET, domain)) == list(OTHER[domain][name])
            assert list(script.bodies(name, OPSET, domain)) == list(BODIES.get(domain, {}).get(name, ()))
            assert script.depends(name, domain) == (name in DEPENDENT.get(domain, ()))


@pytest.mark.parametrize("op_type", ["HannWindow", "HammingWindow", "BlackmanWindow"])
def test_operators_that_onnx_defines_by_others_need_no_onnx(op_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node = helper.make_node(op_type, ["n"], ["y"], periodic=0)
    n, y = (
        helper.make_tensor_value_info("n", TensorProto.INT32, []),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [None]),
    )
    proto = helper.make_model(helper.make_graph([node], "g", [n], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    want = ReferenceEvaluator(proto).run(None, {"n": np.array(9, np.int32)})[0]
    monkeypatch.setitem(sys.modules, "onnx", None)
    np.testing.assert_allclose(cnnengine.load(proto.SerializeToString())(np.array(9, np.int32)), want, atol=1e-6)


@pytest.mark.parametrize("op_type", sorted(SCHEMAS))
def test_schemas_are_those_of_onnx(op_type: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    theirs = list(make_schemas().lines(op_type, min(OPSET, newest)))
    assert theirs == [line for line in SCHEMAS[op_type] if int(line.split()[0]) <= newest]
    for version in (1, 7, 13, 17, newest):
        with contextlib.suppress(onnx.defs.SchemaError):
            schema: OpSchema = onnx.defs.get_schema(op_type, version, "")
            told = _told(SCHEMAS[op_type], min(version, OPSET))
            assert told is not None and told.version == schema.since_version
            assert told.inputs == (schema.min_input, schema.max_input)


def test_loading_imports_no_onnx(tmp_path: Path) -> None:
    model, _ = large()
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    code = (
        "import sys, numpy as np, cnnengine\n"
        f"m = cnnengine.load({str(path)!r}); m(np.zeros((2, 1024), np.float32))\n"
        "print('onnx' in sys.modules, any(n.startswith('google.protobuf') for n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_first_run_imports_little(tmp_path: Path) -> None:
    """Of Python's library nothing that takes longer to import than a small file to load, unless NumPy has it already."""
    model, _ = large()
    onnx.save(model, tmp_path / "m.onnx")
    code = (
        "import sys, numpy as np; before = set(sys.modules)\n"
        f"import cnnengine; cnnengine.load({str(tmp_path / 'm.onnx')!r})(np.zeros((2, 1024), np.float32))\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    slow = {"json", "pathlib", "urllib", "argparse", "logging", "subprocess", "tempfile", "asyncio", "decimal", "email", "ctypes"}
    assert not slow & {name.partition(".")[0] for name in done.stdout.split()}
    own = {name for name in done.stdout.split() if name.startswith("cnnengine.")}
    assert "cnnengine.importer.wire" in own
    parts = ("session", "report", "quantization", "bench", "cli", "backend", "functional", "importer.other_schemas")
    assert not {name for name in own if name.startswith(tuple(f"cnnengine.{part}" for part in parts))}


# ---------------------------------------------------------------- where weights lie
def test_large_constants_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    model, w = large()
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    source = open_model(path)
    assert source.file is not None and isinstance(source.file.data, mmap.mmap)
    constant = import_model(source.message).constants["w"]
    assert is_mapped(constant) and not constant.flags.writeable
    assert np.shares_memory(constant.view(np.uint8), np.frombuffer(source.file.data, np.uint8))
    np.testing.assert_array_equal(constant, w)
    data = path.read_bytes()
    from_bytes = import_model(open_model(data).message).constants["w"]
    assert np.shares_memory(from_bytes.view(np.uint8), np.frombuffer(data, np.uint8))


def test_runs_hold_no_view_of_the_file(tmp_path: Path) -> None:
    """Constants that are read as they are, on the host, by subgraphs or as outputs: a run must not touch the file."""
    rng = np.random.default_rng(1)
    w = rng.standard_normal((1024, 384), dtype=np.float32)
    names = ("gemm", "add", "out", "host")
    tensors = [numpy_helper.from_array(w.T.copy() if n == "gemm" else w[:, :384], n) for n in names]
    nodes = [
        helper.make_node("Gemm", ["x", "gemm"], ["y"], transB=1),
        helper.make_node("Add", ["x2", "add"], ["z"]),
        helper.make_node("Binarizer", ["square"], ["d"], domain="ai.onnx.ml"),
        helper.make_node("GatherND", ["host", "at"], ["h"]),
    ]
    infos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1024]),
        helper.make_tensor_value_info("x2", TensorProto.FLOAT, [1, 384]),
        helper.make_tensor_value_info("square", TensorProto.FLOAT, [2, 2]),
        helper.make_tensor_value_info("at", TensorProto.INT64, [2, 1]),
    ]  # fmt: skip
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "z", "d", "h", "out")]
    graph = helper.make_graph(nodes, "g", infos, outputs, initializer=tensors)
    path = tmp_path / "m.onnx"
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    model = cnnengine.load(path, threads=1)
    feeds = {
        "x": rng.standard_normal((1, 1024), dtype=np.float32), "x2": np.ones((1, 384), np.float32),
        "square": np.eye(2, dtype=np.float32), "at": np.array([[3], [1000]]),
    }  # fmt: skip
    before = model.run(None, feeds)
    with open(path, "r+b") as file:  # the same file, other bytes: a view would show them
        file.write(b"\xff" * os.path.getsize(path))
    for got, expected in zip(model.run(None, feeds), before, strict=True):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(before[4], w)
    np.testing.assert_array_equal(before[3], w[[3, 1000]])


def test_a_written_file_is_told(tmp_path: Path) -> None:
    model, _ = large()
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    loaded = cnnengine.load(path)
    x = np.ones((1, 1024), np.float32)
    y = loaded(x)
    with open(path, "wb") as file:
        file.write(b"short")
    np.testing.assert_array_equal(loaded(x), y)  # the plan is made
    with pytest.raises(ModelError, match="written to"):
        pickle.dumps(loaded)
    with pytest.raises(ModelError, match="written to"):
        loaded(np.ones((5, 1024), np.float32))


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_pickles_and_new_plans_outlive_the_name(tmp_path: Path, how: str) -> None:
    model, w = large()
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    loaded = cnnengine.load(path)
    x = np.random.default_rng(3).standard_normal((4, 1024), dtype=np.float32)
    if how == "deleted":
        path.unlink()
    else:
        (tmp_path / "new").write_bytes(b"another")
        (tmp_path / "new").replace(path)
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(loaded(x), again(x))
    np.testing.assert_allclose(loaded(x), x @ w, rtol=1e-4, atol=1e-4)


def test_external_data_is_mapped_and_pickles(tmp_path: Path) -> None:
    model, _ = large()
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    source = open_model(tmp_path / "m.onnx")
    assert is_mapped(import_model(source.message).constants["w"])
    loaded = cnnengine.load(tmp_path / "m.onnx")
    x = np.random.default_rng(3).standard_normal((4, 1024), dtype=np.float32)
    y = loaded(x)
    (tmp_path / "w.bin").unlink()
    (tmp_path / "m.onnx").unlink()
    data = pickle.dumps(loaded)
    np.testing.assert_array_equal(pickle.loads(data)(x), y)


def test_closing_gives_the_file_back(tmp_path: Path) -> None:
    model, _ = large()
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    loaded = cnnengine.load(path)

    def mapped() -> bool:
        return str(path) in Path("/proc/self/maps").read_text()

    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc")
    assert mapped()
    loaded.close()
    assert not mapped()


def test_planning_leaves_one_copy_of_the_weights(tmp_path: Path) -> None:
    """What stays resident after load is the packed weights: the file's pages are given back."""
    if not Path("/proc/self/smaps").exists():
        pytest.skip("no /proc")
    w = np.random.default_rng(0).standard_normal((4096, 2048), dtype=np.float32)
    path = tmp_path / "m.onnx"
    onnx.save(dense_model(numpy_helper.from_array(w, "w"), w.shape), path)
    loaded = cnnengine.load(path)
    loaded(np.zeros((1, 4096), np.float32))
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if line.endswith(str(path)):
            resident = next(n for n in lines if n.startswith("Rss:"))
            assert int(resident.split()[1]) * 1024 < w.nbytes // 8
            return
    raise AssertionError("the file is not mapped")
