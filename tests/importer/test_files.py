"""Files that change while they are read, links and pipes: a load ends in a model or in a ModelError, never in a signal."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import session
from cnnengine.errors import ModelError, ModelNotFoundError
from cnnengine.importer import open_model

K = 800  # 2.5 MB for each matrix: mapped, and packed in several parts


def matrices(layers: int = 2) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.standard_normal((K, K)).astype(np.float32), f"w{i}") for i in range(layers)]
    nodes = [helper.make_node("MatMul", [f"v{i}", f"w{i}"], [f"v{i + 1}"]) for i in range(layers)]
    x = helper.make_tensor_value_info("v0", TensorProto.FLOAT, ["N", K])
    y = helper.make_tensor_value_info(f"v{layers}", TensorProto.FLOAT, None)
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def child(code: str, *arguments: object) -> tuple[int, str]:
    """A process of its own, since what is tested would end this one: its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout.strip() or done.stderr[-600:]


CHANGED = """
    import os, sys, pickle
    import numpy as np
    import cnnengine
    from cnnengine.importer import functions, graphs, reader
    from cnnengine.plan import emit, planner
    import cnnengine.importer, cnnengine.rewrites

    path, victim, stage, how, threads = sys.argv[1:]
    left = [1]

    def change():
        if not left:
            return
        left.clear()
        if how == "cut":
            os.truncate(victim, 4096)
        elif how == "emptied":
            os.truncate(victim, 0)
        else:
            size = os.path.getsize(victim)
            with open(victim, "r+b") as file:
                file.seek(size // 2)
                file.write(bytes(size // 4))

    def before(owner, name):
        real = getattr(owner, name)
        def wrapped(*args, **kwargs):
            change()
            return real(*args, **kwargs)
        setattr(owner, name, wrapped)

    def after(owner, name):
        real = getattr(owner, name)
        def wrapped(*args, **kwargs):
            result = real(*args, **kwargs)
            change()
            return result
        setattr(owner, name, wrapped)

    try:
        if stage == "parse":
            before(reader, "parse")
        elif stage == "import":
            before(cnnengine.importer, "import_model")
        elif stage == "passes":
            before(cnnengine.rewrites, "simplify")
        elif stage == "lowering":
            before(planner.Draft, "lower")
        elif stage == "packing":
            before(emit.Emitter, "pack")
        elif stage == "between parts":
            after(emit.Emitter, "_pack_part")
        model = cnnengine.load(path, threads=int(threads))
        if stage == "pickling":
            model(np.ones((1, 800), np.float32))
            after(reader.Source, "check")
            pickle.dumps(model)
        elif stage == "new shapes":
            before(planner.Planner, "_plan")
            model(np.ones((9, 800), np.float32))
        elif stage != "none":
            model(np.ones((9, 800), np.float32))
        print("ran", bool(left))
    except cnnengine.ModelError as error:
        print("refused", error)
"""


STAGES = ["parse", "import", "passes", "lowering", "packing", "between parts", "new shapes", "pickling"]


@pytest.mark.parametrize(
    ("stage", "external"), [*((s, False) for s in STAGES), *((s, True) for s in ("parse", "packing", "pickling"))]
)
@pytest.mark.parametrize("how", ["cut", "written"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, stage: str, how: str, external: bool) -> None:
    path = victim = tmp_path / "m.onnx"
    if external:
        victim = tmp_path / "w.bin"
        onnx.save_model(matrices(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    else:
        onnx.save(matrices(), path)
    if external and stage == "parse":
        how = "emptied" if how == "cut" else how
    status, said = child(CHANGED, path, victim, stage, how, 2 if stage == "packing" else 1)
    assert status == 0, said
    if external and stage == "parse" and how == "written":
        assert said.startswith("ran False")  # the weights were opened after that
    else:
        assert said.startswith("refused"), said


def test_a_file_that_stays_is_read(tmp_path: Path) -> None:
    onnx.save(matrices(), tmp_path / "m.onnx")
    for stage in ("none", "new shapes"):
        status, said = child(CHANGED.replace("left.clear()", "return"), tmp_path / "m.onnx", "", stage, "cut", 2)
        assert (status, said) == (0, "ran True")


def test_what_a_written_file_s_model_says(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(matrices(), path)
    model = cnnengine.load(path)
    kept = cnnengine.load(path.read_bytes())
    with open(path, "r+b") as file:
        file.write(file.read(8))
        file.seek(0, os.SEEK_END)
        file.write(b"\x72\0")
    with pytest.raises(ModelError, match=r"written to after it was loaded.*os\.replace.*load\(bytes\)"):
        model(np.ones((3, K), np.float32))
    with pytest.raises(ModelError, match=r"load\(bytes\)"):
        pickle.dumps(model)
    x = np.ones((3, K), np.float32)
    np.testing.assert_array_equal(kept(x), pickle.loads(pickle.dumps(kept))(x))


def test_a_write_whose_time_is_put_back_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(matrices(), path)
    model = cnnengine.load(path)
    status = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(status.st_size // 2)
        file.write(bytes(1000))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ModelError, match="written to"):
        model(np.ones((3, K), np.float32))


@pytest.mark.parametrize("how", ["renamed", "deleted", "replaced", "linked", "chmod"])
def test_a_file_whose_name_or_rights_change_is_as_it_was(tmp_path: Path, how: str) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(matrices(), path)
    model = cnnengine.load(path)
    if how == "renamed":
        path.rename(tmp_path / "other.onnx")
    elif how == "deleted":
        path.unlink()
    elif how == "replaced":
        (tmp_path / "new").write_bytes(b"another")
        (tmp_path / "new").replace(path)
    elif how == "linked":
        os.link(path, tmp_path / "second.onnx")
    else:
        path.chmod(0o400)
    x = np.ones((3, K), np.float32)
    np.testing.assert_array_equal(model(x), pickle.loads(pickle.dumps(model))(x))


FOREIGN = """
    import ctypes, mmap, os, signal, sys
    import cnnengine
    from cnnengine.importer.guard import Guard, Watch

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: os._exit(7))
    libc = ctypes.CDLL(None)
    if sys.argv[2] == "handler":
        libc.signal.restype = ctypes.c_void_p
        libc.signal(signal.SIGBUS, handler)
    def mapped(name):
        path = os.path.join(sys.argv[1], name)
        with open(path, "wb") as file:
            file.write(b"x" * 65536)
        with open(path, "rb") as file:
            made = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        os.truncate(path, 4096)
        return made
    watched, other = mapped("watched"), mapped("other")
    watch = Watch(watched)
    with Guard():
        with Guard():
            pass
        assert watched[:4096] == b"x" * 4096 and not watch.lost
        assert watched[60000:] == bytes(65536 - 60000) and watch.lost
        print("zeros", flush=True)
        if sys.argv[2] == "forgotten":
            del watch
            watched = mapped("again")
            watched[60000]
        if sys.argv[2] != "outside":
            other[60000]
    other[60000]
    print("not reached")
"""


@pytest.mark.parametrize(
    ("what", "status"), [("default", -signal.SIGBUS), ("handler", 7), ("outside", -signal.SIGBUS), ("forgotten", -signal.SIGBUS)]
)
def test_other_bus_errors_go_where_they_went(tmp_path: Path, what: str, status: int) -> None:
    assert child(FOREIGN, tmp_path, what) == (status, "zeros")


def test_the_signal_s_handler_is_as_it_was(tmp_path: Path) -> None:
    onnx.save(matrices(), tmp_path / "m.onnx")
    code = """
        import ctypes, signal, sys
        import cnnengine
        libc = ctypes.CDLL(None)
        libc.signal.restype = ctypes.c_void_p
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: None)
        address = ctypes.cast(handler, ctypes.c_void_p).value
        libc.signal(signal.SIGBUS, address)
        cnnengine.load(sys.argv[1])
        print(libc.signal(signal.SIGBUS, address) == address)
    """
    assert child(code, tmp_path / "m.onnx") == (0, "True")


# ---------------------------------------------------------------- where external data may lie
def small(location: str) -> bytes:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


W = np.array([1, 2, 3], np.float32)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The model of a download cache: it and its data are links to files that lie beside each other under other names."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "aa").write_bytes(small("m.onnx_data"))
    (blobs / "bb").write_bytes(W.tobytes())
    (tmp_path / "secret").write_bytes(W.tobytes())
    (snapshot / "m.onnx").symlink_to("../../../blobs/aa")
    (snapshot / "m.onnx_data").symlink_to("../../../blobs/bb")
    return snapshot / "m.onnx"


def result(model: cnnengine.Model) -> np.ndarray:
    (y,) = model.run(None, {"x": np.zeros(3, np.float32)})
    return np.asarray(y)


def test_links_to_files_beside_each_other(cache: Path) -> None:
    np.testing.assert_array_equal(result(cnnengine.load(cache)), W)
    np.testing.assert_array_equal(result(pickle.loads(pickle.dumps(cnnengine.load(cache)))), W)
    np.testing.assert_array_equal(result(cnnengine.load(cache.resolve(), base_dir=cache.parent)), W)
    np.testing.assert_array_equal(result(cnnengine.load(cache.read_bytes(), base_dir=cache.parent)), W)
    alone = cache.parent / "alone.onnx"
    alone.write_bytes(cache.read_bytes())  # no link: its data must lie beside it, and the link leads elsewhere
    with pytest.raises(ModelError, match="link"):
        cnnengine.load(alone)


def test_a_linked_model_s_data_may_lie_beside_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "m.onnx").write_bytes(small("w.bin"))
    (tmp_path / "real" / "w.bin").write_bytes(W.tobytes())
    (tmp_path / "link.onnx").symlink_to("real/m.onnx")
    np.testing.assert_array_equal(result(cnnengine.load(tmp_path / "link.onnx")), W)


def test_links_out_of_both_folders_are_refused(cache: Path) -> None:
    (cache.parent / "m.onnx_data").unlink()
    (cache.parent / "m.onnx_data").symlink_to("../../../secret")
    with pytest.raises(ModelError, match="link"):
        cnnengine.load(cache)
    for location in ("../secret", "/etc/passwd", "a/../../secret"):
        with pytest.raises(ModelError, match=r"without '\.\.'"):
            cnnengine.load(small(location), base_dir=cache.parent)


def test_bytes_with_external_data_in_a_session(cache: Path) -> None:
    options = session.SessionOptions()
    data = cache.read_bytes()
    with pytest.raises(ModelError, match="base_dir"):
        session.InferenceSession(data, options)
    key = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(key, str(cache.parent))
    feeds = {"x": np.zeros(3, np.float32)}
    np.testing.assert_array_equal(session.InferenceSession(data, options).run(None, feeds)[0], W)
    restored = pickle.loads(pickle.dumps(session.InferenceSession(data, options)))
    np.testing.assert_array_equal(restored.run(None, feeds)[0], W)
    options.add_initializer("w", session.OrtValue.ortvalue_from_numpy(W * 2))
    np.testing.assert_array_equal(session.InferenceSession(data, options).run(None, feeds)[0], W * 2)
    options.add_session_config_entry(key, str(cache.parent / "nowhere"))
    with pytest.raises(ModelNotFoundError, match=r"m\.onnx_data"):
        session.InferenceSession(data, options)


# ---------------------------------------------------------------- what is no ordinary file
def test_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="0 bytes"):
        open_model(tmp_path / "pipe")  # which nobody writes to: not waited for
    with pytest.raises(ModelError, match="neither a file nor a pipe"):
        open_model("/dev/zero")
    data = matrices(1).SerializeToString()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        with open(writer, "wb") as file:
            file.write(data)
        os._exit(0)
    os.close(writer)
    try:
        assert open_model(f"/dev/fd/{reader}").message.graph.node
    finally:
        os.close(reader)
        os.waitpid(pid, 0)


def test_a_file_of_more_than_one_message_can_have(tmp_path: Path) -> None:
    with open(tmp_path / "m.onnx", "wb") as file:
        file.truncate(3 << 30)  # a hole: it takes no room
    with pytest.raises(ModelError, match="too large to be one ONNX message") as caught:
        open_model(tmp_path / "m.onnx")
    assert str(caught.value).count("too large") == 1
