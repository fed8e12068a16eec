"""The front that all kernels share takes right buffers, whatever has them, and no wrong one."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnengine._kernels import kernel
from cnnengine.layout import View

F4, F8, I4, I8, U1, B1 = (np.dtype(t) for t in ("float32", "float64", "int32", "int64", "uint8", "bool"))


def views(*wanted: tuple[tuple[int, ...], np.dtype]) -> list[View]:
    return [View.plain(shape, dtype) for shape, dtype in wanted]


# kernel -> (inputs, outputs, parameters): float32 and other types, one output and two
CASES: dict[str, tuple[list, list, dict[str, Any]]] = {
    "softmax": ([((3, 8), F4)], [((3, 8), F4)], {"axis": 1}),
    "where": ([((4, 5), B1), ((4, 5), F4), ((5,), F4)], [((4, 5), F4)], {}),
    "compare": ([((4, 5), F4), ((5,), F4)], [((4, 5), B1)], {"op": "less"}),
    "logic": ([((20,), B1), ((20,), B1)], [((20,), B1)], {"op": "xor"}),
    "pair": ([((4, 6), I8), ((6,), I8)], [((4, 6), I8)], {"op": "add"}),
    "cast": ([((50,), F8)], [((50,), U1)], {}),
    "copy_nd": ([((4, 5), I4)], [((4, 5), I4)], {"shape": (4, 5), "x_strides": (5, 1), "y_strides": (5, 1)}),
    "fill": ([], [((9,), F8)], {"value": 3}),
    "gather": ([((7, 3), I8)], [((2, 3), I8)], {"axis": 0, "indices": [6, -7]}),
    "topk": ([((4, 9), F4)], [((4, 2), F4), ((4, 2), I8)], {"axis": 1, "largest": True}),
    "max_pool_indices": (
        [((1, 1, 8), F4)],
        [((1, 1, 4), F4), ((1, 1, 4), I8)],
        {"kernel": (2,), "stride": (2,), "dilation": (1,), "begins": (0,), "ends": (0,)},
    ),
    "running": ([((5, 4), I4)], [((5, 4), I4)], {"op": "product", "axis": 0}),
    "row_norm": ([((6, 8), F4), ((8,), F4), ((8,), F4)], [((6, 8), F4), ((6,), F4), ((6,), F4)], {"length": 8}),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Any, list[np.ndarray], int]:
    """A launch, right buffers for it, and how many of them are inputs."""
    inputs, outputs, params = CASES[request.param]
    launch = kernel(request.param).build(tuple(views(*inputs)), tuple(views(*outputs)), **params)
    rng = np.random.default_rng(3)
    arrays = [np.asarray(rng.integers(0, 2, shape)).astype(dtype) for shape, dtype in (*inputs, *outputs)]
    return launch, arrays, len(inputs)


def refused(launch: Any, arrays: list[Any], index: int, wrong: Any, message: str, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error, match=message):
        launch(*arrays[:index], wrong, *arrays[index + 1 :])


def test_any_shape_and_any_threads_give_the_same(case) -> None:
    launch, arrays, inputs = case
    launch(*arrays)
    expected = [a.tobytes() for a in arrays[inputs:]]
    for threads in (1, 2, 3):
        flat = [a.reshape(-1) for a in arrays[:inputs]] + [np.full(a.size, 1, a.dtype) for a in arrays[inputs:]]
        launch(*flat, threads=threads)
        assert [a.tobytes() for a in flat[inputs:]] == expected


def test_an_operand_of_another_type(case) -> None:
    launch, arrays, _ = case
    for index, a in enumerate(arrays):
        for other in {
            F4,
            F8,
            I4,
            I8,
            U1,
            B1,
            np.dtype("uint32"),
            np.dtype("int16"),
            np.dtype("float16"),
            np.dtype("complex64"),
        } - {a.dtype}:
            wrong = np.ones(a.size * 8, other)
            refused(launch, arrays, index, wrong, f"operand {index} is .*, {a.dtype} is needed")
        if a.dtype.itemsize > 1:
            refused(launch, arrays, index, a.astype(a.dtype.newbyteorder()), f"operand {index} is .*, {a.dtype} is needed")
        refused(
            launch, arrays, index, bytearray(a.tobytes()), f"operand {index} is uint8, {a.dtype} is needed"
        ) if a.dtype != U1 else None


def test_an_operand_that_is_too_small(case) -> None:
    launch, arrays, _ = case
    for index, a in enumerate(arrays):
        refused(launch, arrays, index, a.reshape(-1)[:-1].copy(), f"operand {index} has .* bytes, {a.nbytes} are needed")


def test_an_operand_with_gaps(case) -> None:
    launch, arrays, _ = case
    for index, a in enumerate(arrays):
        refused(launch, arrays, index, np.ones(2 * a.size, a.dtype)[::2], f"operand {index}: .*contiguous")
        refused(launch, arrays, index, np.ones(a.size, a.dtype)[::-1], f"operand {index}: .*contiguous")


def test_outputs_are_written_to_and_inputs_are_not(case) -> None:
    launch, arrays, inputs = case
    for a in arrays[:inputs]:
        a.flags.writeable = False
    launch(*arrays)
    for index in range(inputs, len(arrays)):
        frozen = arrays[index].copy()
        frozen.flags.writeable = False
        refused(launch, arrays, index, frozen, f"operand {index}: .*read-only")


def test_an_operand_that_is_absent_or_no_buffer(case) -> None:
    launch, arrays, _ = case
    for index, a in enumerate(arrays):
        refused(launch, arrays, index, None, f"operand {index} has 0 bytes, {a.nbytes} are needed")
        refused(launch, arrays, index, [0.0] * a.size, "bytes-like", TypeError)
    with pytest.raises(ValueError, match=f"operand {len(arrays) - 1} has 0 bytes"):
        launch(*arrays[:-1])
    with pytest.raises(TypeError, match=f"{len(arrays) + 1} operands"):
        launch(*arrays, arrays[0])
    with pytest.raises(ValueError, match="threads must be at least 1"):
        launch(*arrays, threads=0)


@pytest.mark.parametrize("case", [name for name, (inputs, _, _) in CASES.items() if inputs and inputs[0][1] != B1], indirect=True)
def test_a_refusal_holds_no_buffer(case) -> None:
    """What was taken before the wrong operand is given back: an array that lends its memory cannot grow."""
    launch, arrays, _ = case
    code = {F4: "f", F8: "d", I4: "i", I8: "q"}[arrays[0].dtype]
    lent = array.array(code, arrays[0].tobytes())
    for run in (
        lambda: refused(launch, [lent, *arrays[1:]], len(arrays) - 1, None, "are needed"),
        lambda: launch(lent, *arrays[1:]),
    ):
        run()
        lent.append(0)


def test_absent_outputs_may_be_left_out() -> None:
    x, s, b, y, mean, inverse = views(((6, 8), F4), ((8,), F4), ((8,), F4), ((6, 8), F4), ((6,), F4), ((6,), F4))
    arrays = [np.random.default_rng(5).normal(size=v.shape).astype(np.float32) for v in (x, s, b)]
    build: Callable[..., Any] = kernel("row_norm").build
    results = []
    for outputs in ((y, mean, inverse), (y, None, None), (y,)):
        made = [None if v is None else np.zeros(v.shape, np.float32) for v in outputs]
        build((x, s, b), outputs, length=8)(*arrays, *made)
        results.append(made[0].tobytes())
    assert len(set(results)) == 1


def test_what_is_no_array() -> None:
    """Whatever has the buffer protocol: here array.array, and a memoryview of more axes."""
    (view,) = views(((6,), F4))
    launch = kernel("softmax").build((view,), (view,), axis=0)
    x, y = array.array("f", range(6)), np.empty((2, 3), np.float32)
    launch(x, memoryview(y), threads=2)
    e = np.exp(np.arange(6.0))
    np.testing.assert_allclose(y.reshape(-1), e / e.sum(), rtol=1e-6)
