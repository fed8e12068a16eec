"""Limits: small files that ask for much are refused by name before they get it, and honest ones pass."""

from __future__ import annotations

import itertools
import pickle
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cnnengine
from cnnengine import InputError, LimitError, Limits
from cnnengine.limits import GB, check, current, default, left, look, memory, use, within

MODELS = Path(__file__).resolve().parents[2] / "models"
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, shape: Any = None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def const(name: str, array: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def file(nodes: Any, inputs: Any, outputs: Any, given: Any = (), opset: int = 18, **more: Any) -> bytes:
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(given), **more)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("l", 1)]
    data: bytes = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
    return data


node = helper.make_node


def nodes_of(n: int) -> bytes:
    names = ["x", *(f"v{i}" for i in range(1, n)), "y"]
    return file([node("Relu", [a], [b]) for a, b in itertools.pairwise(names)], [value("x", (1,))], [value("y", (1,))])


def inner_nodes(n: int) -> bytes:
    body = [node("Relu", ["x"], ["p0"]), *(node("Relu", [f"p{i}"], [f"p{i + 1}"]) for i in range(n))]
    branch = helper.make_graph(body, "b", [], [value(f"p{n}")])
    return file([node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], [value("x", (1,)), value("c", (), BOOL)],
                [value("y")])  # fmt: skip


def expand(*shape: int) -> bytes:
    return file([node("Expand", ["x", "s"], ["y"])], [value("x", (1,))], [value("y")], [const("s", np.array(shape, np.int64))])


def fold(n: int) -> bytes:
    """A concatenation of constants: four times as much as the file has, which another one has again."""
    parts = [node("Concat", ["w"] * 4, ["a"], axis=0), node("Concat", ["a"] * 4, ["b"], axis=0), node("Add", ["x", "b"], ["y"])]
    return file(parts, [value("x", (1,))], [value("y")], [const("w", np.ones(n, np.float32))])


def sparse(n: int, count: int = 1) -> bytes:
    made = []
    for k in range(count):
        one = onnx.SparseTensorProto(dims=[n])
        one.values.CopyFrom(const(f"w{k}", np.ones(1, np.float32)))
        one.indices.CopyFrom(const("", np.zeros(1, np.int64)))
        made.append(one)
    return file([node("Sum", ["x", *(f"w{k}" for k in range(count))], ["y"])], [value("x", (1,))], [value("y")],
                sparse_initializer=made)  # fmt: skip


def phases(stride: int) -> bytes:
    weights = const("w", np.ones((1, 1, 1, 1), np.float32))
    return file(
        [node("ConvTranspose", ["x", "w"], ["y"], strides=[stride] * 2)], [value("x", (1, 1, 2, 2))], [value("y")], [weights]
    )


def loop(rounds: int, inner: int | None = None) -> bytes:
    def body(name: str, then: int | None) -> onnx.GraphProto:
        nodes = [node("Identity", [f"{name}c"], [f"{name}d"])]
        if then is None:
            nodes.append(node("Identity", [f"{name}i"], [f"{name}s"]))
        else:
            nodes += [node("Constant", [], [f"{name}m"], value=const("", np.int64(then)))]
            nodes += [node("Loop", [f"{name}m", ""], [f"{name}s"], body=body(f"{name}_", None))]
        return helper.make_graph(
            nodes,
            name,
            [value(f"{name}i", (), INT64), value(f"{name}c", (), BOOL)],
            [value(f"{name}d", (), BOOL), value(f"{name}s")],
        )

    return file(
        [node("Loop", ["m", ""], ["y"], body=body("b", inner))], [], [value("y", None, INT64)], [const("m", np.int64(rounds))]
    )


def steps(n: int) -> bytes:
    names = ["x", *(f"v{i}" for i in range(1, n)), "y"]
    nodes = [node("MaxPool", [a], [b], kernel_shape=[3], pads=[1, 1]) for a, b in itertools.pairwise(names)]
    return file(nodes, [value("x", (1, 1, 8))], [value("y")])


def outputs(n: int) -> bytes:
    made = [node("Expand", ["x", "s"], [f"y{k}"]) for k in range(4)]
    made = [node("Add", [f"e{k}", f"k{k}"], [f"y{k}"]) for k in range(4)]
    made += [node("Expand", ["x", "s"], [f"e{k}"]) for k in range(4)]
    given = [const("s", np.array([n])), *(const(f"k{k}", np.float32(k)) for k in range(4))]
    return file(made, [value("x", (1,))], [value(f"y{k}") for k in range(4)], given)


def functions(depth: int) -> bytes:
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("l", 1)]
    made = [helper.make_function("l", "f0", ["a"], ["b"], [node("Neg", ["a"], ["b"])], imports)]
    for i in range(1, depth):
        calls = [node(f"f{i - 1}", [a], [b], domain="l") for a, b in (("a", "t"), ("t", "b"))]
        made.append(helper.make_function("l", f"f{i}", ["a"], ["b"], calls, imports))
    graph = helper.make_graph([node(f"f{depth - 1}", ["x"], ["y"], domain="l")], "g", [value("x", (1,))], [value("y", (1,))])
    data: bytes = helper.make_model(graph, opset_imports=imports, ir_version=10, functions=made).SerializeToString()
    return data


CASES: dict[str, tuple[str, Callable[[], bytes], int]] = {
    # a file that just passes at this limit, and not at one less
    "nodes": ("nodes", lambda: nodes_of(50), 50),
    "nodes of branches": ("nodes", lambda: inner_nodes(20), 1 + 2 * 21),
    "bytes of the file": ("file_bytes", lambda: nodes_of(50), len(nodes_of(50))),
    "a tensor": ("tensor_bytes", lambda: expand(100, 300), 100 * 300 * 4),
    "a tensor of no elements": ("tensor_bytes", lambda: expand(0, 300000), 300000 * 4),
    "a sparse tensor": ("tensor_bytes", lambda: sparse(50000), 50000 * 4),
    "sparse tensors together": ("total_bytes", lambda: sparse(50000, 3), 3 * 50000 * 4),
    "parts of a ConvTranspose": ("phases", lambda: phases(7), 49),
    "rounds of a loop": ("loop_trips", lambda: loop(30), 30),
    "rounds of loops in loops": ("loop_trips", lambda: loop(5, 6), 5 + 5 * 6),
    "nodes of functions": ("expanded_nodes", lambda: functions(5), 2 + 4 + 8 + 16 + 16),
}


def run(data: bytes, limits: Limits) -> list[Any]:
    with cnnengine.load(data, threads=1, limits=limits) as model:
        return model.run(
            None, {i.name: np.ones([d if isinstance(d, int) else 1 for d in i.shape or ()], i.dtype) for i in model.inputs}
        )


@pytest.mark.parametrize("case", CASES)
def test_a_limit_is_exact(case: str) -> None:
    limit, make, most = CASES[case]
    data = make()
    run(data, Limits(**{limit: most}))
    with pytest.raises(LimitError, match=limit) as caught:
        run(data, Limits(**{limit: most - 1}))
    assert caught.value.limit == limit and isinstance(caught.value, (cnnengine.ModelError, cnnengine.ShapeError))
    assert caught.value.expected is not None and caught.value.received is not None


def test_an_arena_and_outputs_have_a_limit() -> None:
    for make in (lambda: steps(4), lambda: outputs(1 << 16)):
        with pytest.raises(LimitError, match="arena_bytes"):
            run(make(), Limits(arena_bytes=64))
        run(make(), Limits(arena_bytes=16 << 20))


def test_kernel_calls_have_a_limit() -> None:
    run(steps(3000), Limits(steps=3000))
    with pytest.raises(LimitError, match="steps"):
        run(steps(3000), Limits(steps=1000))


def test_folding_stops_at_its_limit_and_the_result_is_the_same() -> None:
    data = fold(20000)
    for total in (1, 4 * 80000, 20 * 80000):
        y = run(data, Limits(total_bytes=total))[0]
        assert y.shape == (320000,) and (y == 2).all()


def test_loads_that_take_too_long_end() -> None:
    started = time.perf_counter()
    with pytest.raises(LimitError, match="load_seconds"):
        cnnengine.load(nodes_of(20000), limits=Limits(load_seconds=0.05))
    assert time.perf_counter() - started < 60  # of minutes


BOMBS: dict[str, Callable[[], bytes]] = {
    "functions that double": lambda: functions(60),
    "a loop without an end": lambda: loop(2**31 - 2),
    "loops in loops": lambda: loop(2**31 - 2, 2**31 - 2),
    "parts of a ConvTranspose": lambda: phases(3000),
    "an output of half the machine": lambda: expand(1 << 20, 1 << 17),
    "a sparse tensor": lambda: sparse(2**40),
    "empty nodes": lambda: b"\x08\x0a\x3a" + bytes([0x80 | 0x00, 0x89, 0x7A]) + b"\x0a\x00" * 1_000_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("limits", ["default", "strict"])
def test_bombs_do_not_go_off(bomb: str, limits: str) -> None:
    with pytest.raises(LimitError):
        run(BOMBS[bomb](), Limits.strict() if limits == "strict" else Limits())


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_honest_files_pass_strict_limits(path: Path) -> None:
    assert cnnengine.load(path, limits=Limits.strict()).outputs


def test_defaults_let_large_weights_pass() -> None:
    assert default().file_bytes >= 16 * GB
    strict = Limits.strict()
    for name in (
        "file_bytes",
        "nodes",
        "expanded_nodes",
        "tensor_bytes",
        "total_bytes",
        "arena_bytes",
        "loop_trips",
        "load_seconds",
    ):
        assert 0 < getattr(strict, name) <= getattr(default(), name), name
    assert Limits.strict(loop_trips=7).loop_trips == 7


@pytest.mark.parametrize("name", ["nodes", "file_bytes", "tensor_bytes", "load_seconds", "loop_trips"])
@pytest.mark.parametrize("wrong", [-1, "many", None, True, float("nan")])
def test_limits_that_are_none(name: str, wrong: Any) -> None:
    with pytest.raises(InputError, match=name):
        Limits(**{name: wrong})


def test_load_takes_limits_alone() -> None:
    with pytest.raises(InputError, match="limits"):
        cnnengine.load(MODELS / "digits_lenet.onnx", limits="strict")  # type: ignore[arg-type]


def test_limits_stay_with_a_model() -> None:
    model = cnnengine.load(loop(10), threads=1, limits=Limits(loop_trips=10))
    again = pickle.loads(pickle.dumps(model))
    for one in (model, again):
        assert one.run(None, {})[0].shape == (10,)
        assert one.run(None, {})[0].shape == (10,), "each run has all of it"
    short = pickle.loads(pickle.dumps(cnnengine.load(loop(10), threads=1, limits=Limits(loop_trips=9))))
    with pytest.raises(LimitError, match="loop_trips"):
        short.run(None, {})


def test_sessions_take_limits() -> None:
    options = cnnengine.SessionOptions()
    options.add_session_config_entry("cnnengine.limits", "strict")
    session = cnnengine.InferenceSession(loop(20000), options)
    with pytest.raises(LimitError, match="loop_trips"):
        session.run(None, {})
    options.add_session_config_entry("cnnengine.limits", "none")
    with pytest.raises(InputError, match="limits"):
        cnnengine.InferenceSession(loop(2), options)


def test_accounts() -> None:
    one, other = Limits(nodes=10), Limits(nodes=5)
    assert current() is default()
    with within(one):
        use("nodes", 6)
        with within(one):
            assert left("nodes") == 4  # the same account
        with within(other):
            use("nodes", 5)
            with pytest.raises(LimitError):
                use("nodes", 1)
        use("nodes", 4)
        with pytest.raises(LimitError, match="received 11"):
            use("nodes", 1)
        check("nodes", 10)
        look()
    assert current() is default() and left("nodes") == default().nodes


GROUPS = {
    "v2": ("0::/a/b\n", {"sys/fs/cgroup/a/memory.max": "5000000", "sys/fs/cgroup/a/b/memory.max": "max"}),
    "v1": ("5:cpu,memory:/a\n", {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "5000000"}),
    "of a container": ("0::/../host/path\n", {"sys/fs/cgroup/memory.max": "5000000\n"}),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_memory_is_what_control_groups_leave(kind: str, tmp_path: Path) -> None:
    groups, files = GROUPS[kind]
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory(str(tmp_path)) == 5000000


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_is_what_the_address_space_leaves(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    whole = memory(str(tmp_path))
    resource.setrlimit(resource.RLIMIT_AS, (whole // 2, before[1]))
    try:
        assert memory(str(tmp_path)) == whole // 2
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert memory(str(tmp_path)) == whole
