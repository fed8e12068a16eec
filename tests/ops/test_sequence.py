"""Sequences, optional values and SequenceMap: what ONNX's own cases leave out."""

from __future__ import annotations

import numpy as np
import pytest

from cnnengine.errors import InputError
from cnnengine.graph import Graph, Node
from cnnengine.ops.control import SequenceMap
from cnnengine.ops.elementwise import Add
from cnnengine.ops.sequence import (
    Optional,
    OptionalGetElement,
    OptionalHasElement,
    SequenceEmpty,
    SequenceErase,
    SequenceInsert,
)
from cnnengine.spec import TensorSpec

A, B, C = (np.full(n, n, np.float32) for n in (1, 2, 3))
F32 = np.dtype(np.float32)


def sizes(value: list[np.ndarray]) -> list[int]:
    return [len(v) for v in value]


@pytest.mark.parametrize(
    ("position", "want"), [(None, [1, 2, 3]), (0, [3, 1, 2]), (1, [1, 3, 2]), (2, [1, 2, 3]), (-1, [1, 3, 2]), (-2, [3, 1, 2])]
)
def test_insert(position: int | None, want: list[int]) -> None:
    given = [A, B]
    at = [] if position is None else [np.array(position)]
    assert sizes(SequenceInsert().evaluate(given, C, *at)[0]) == want
    assert sizes(given) == [1, 2]  # the sequence itself stays


@pytest.mark.parametrize(("position", "want"), [(None, [1, 2]), (0, [2, 3]), (1, [1, 3]), (-3, [2, 3])])
def test_erase(position: int | None, want: list[int]) -> None:
    given = [A, B, C]
    at = [] if position is None else [np.array(position)]
    assert sizes(SequenceErase().evaluate(given, *at)[0]) == want
    assert sizes(given) == [1, 2, 3]


@pytest.mark.parametrize("position", [3, -3])
def test_positions_outside(position: int) -> None:
    with pytest.raises(InputError, match="position"):
        SequenceInsert().evaluate([A, B], C, np.array(position))
    with pytest.raises(InputError, match="element"):
        SequenceErase().evaluate([A, B], np.array(position))


def test_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="dtype"):
        SequenceInsert().evaluate([A], C.astype(np.int64))
    with pytest.raises(InputError, match="sequence"):
        SequenceErase().evaluate(A)
    with pytest.raises(InputError, match="element"):
        SequenceErase().evaluate([])


def test_empty_and_optional() -> None:
    assert SequenceEmpty().evaluate() == [[]]
    assert Optional().evaluate() == [None]
    assert Optional().evaluate(A)[0] is A
    assert OptionalHasElement().evaluate()[0] == np.array(False)
    assert OptionalHasElement().evaluate(None)[0] == np.array(False)
    assert OptionalHasElement().evaluate([])[0] == np.array(True)
    assert OptionalGetElement().evaluate([A])[0] == [A]
    with pytest.raises(InputError, match="no element"):
        OptionalGetElement().evaluate(None)


def test_what_is_known_before_running() -> None:
    (none,), (tensor,), (unknown,) = (
        OptionalHasElement().specs(specs) for specs in ([], [TensorSpec(F32, (2,))], [TensorSpec(F32, None)])
    )
    assert none.value is not None and not none.value
    assert tensor.value is not None and tensor.value
    assert unknown.value is None and unknown.shape == ()


def adding() -> Graph:
    spec = TensorSpec(F32, None)
    return Graph({"a": spec, "b": spec}, {"c": spec}, [Node(Add(), ("a", "b"), ("c",), "add")], {})


def test_map() -> None:
    op = SequenceMap(adding(), 2)
    (whole,) = op.evaluate([A, B], np.float32([10]))
    assert [v.tolist() for v in whole] == [[11], [12, 12]]
    (pairs,) = op.evaluate([A, B], [C, B])
    assert [v.tolist() for v in pairs] == [[4, 4, 4], [4, 4]]
    assert op.evaluate([], [])[0] == []
    with pytest.raises(InputError, match="fit together"):
        op.evaluate([A, B], [C])
    with pytest.raises(InputError, match="fit together"):
        op.evaluate(A, [C])
