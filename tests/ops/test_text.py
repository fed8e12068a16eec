"""Operators on texts against Python written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from cnnengine import load
from cnnengine.errors import CNNEngineError, InputError, ShapeError, UnsupportedOperatorError


def texts(*values: Any) -> np.ndarray:
    return np.array(values, dtype=object)


def run(op_type: str, *inputs: np.ndarray, outputs: int = 1, opset: int = 20, **attributes: Any) -> list[np.ndarray]:
    names = [f"x{i}" for i in range(len(inputs))]
    kinds = {"StringSplit": [TensorProto.STRING, TensorProto.INT64], "RegexFullMatch": [TensorProto.BOOL]}.get(
        op_type, [TensorProto.STRING]
    )
    results = [helper.make_tensor_value_info(f"y{i}", kinds[i], None) for i in range(outputs)]
    node = helper.make_node(op_type, names, [r.name for r in results], **attributes)
    values = [helper.make_tensor_value_info(n, TensorProto.STRING, x.shape) for n, x in zip(names, inputs, strict=True)]
    graph = helper.make_graph([node], "g", values, results)
    made = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9).SerializeToString())
    return made.run(None, dict(zip(names, inputs, strict=True)))


def test_concat_broadcasts_and_keeps_every_character() -> None:
    (y,) = run("StringConcat", texts(["a ", "b\0"], ["", "é"]), texts("x", " \0"))
    assert y.tolist() == [["a x", "b\0 \0"], ["x", "é \0"]]


@pytest.mark.parametrize(
    ("attributes", "words", "counts"),
    [
        ({}, [["a", "b", "c"], ["d", "", ""], ["", "", ""]], [3, 1, 0]),
        ({"delimiter": ""}, [["a", "b", "c"], ["d", "", ""], ["", "", ""]], [3, 1, 0]),
        ({"maxsplit": 1}, [["a", "b  c"], ["d", ""], ["", ""]], [2, 1, 0]),
        ({"maxsplit": 0}, [["a b  c"], ["d"], [""]], [1, 1, 0]),
        ({"delimiter": " "}, [["a", "b", "", "c"], ["d", "", "", ""], ["", "", "", ""]], [4, 1, 1]),
        ({"delimiter": " ", "maxsplit": 2}, [["a", "b", " c"], ["d", "", ""], ["", "", ""]], [3, 1, 1]),
        ({"delimiter": "b  "}, [["a ", "c"], ["d", ""], ["", ""]], [2, 1, 1]),
    ],
)
def test_split(attributes: dict[str, Any], words: list[list[str]], counts: list[int]) -> None:
    parts, n = run("StringSplit", texts("a b  c", "d", ""), outputs=2, **attributes)
    assert parts.tolist() == words
    assert n.tolist() == counts
    assert n.dtype == np.int64


def test_split_of_nothing() -> None:
    parts, n = run("StringSplit", np.empty((2, 0), object), outputs=2)
    assert parts.shape == (2, 0, 0)
    assert n.shape == (2, 0)


@pytest.mark.parametrize(
    ("attributes", "want"),
    [
        ({}, ["Monday", "MONDAY", "on Monday", "Füße"]),
        ({"case_change_action": "LOWER"}, ["monday", "monday", "on monday", "füße"]),
        ({"case_change_action": "UPPER"}, ["MONDAY", "MONDAY", "ON MONDAY", "FÜSSE"]),
        ({"stopwords": ["monday"]}, ["on Monday", "Füße"]),
        ({"stopwords": ["Monday"], "is_case_sensitive": 1}, ["MONDAY", "on Monday", "Füße"]),
        ({"stopwords": ["MONDAY"], "is_case_sensitive": 1, "case_change_action": "LOWER"}, ["monday", "on monday", "füße"]),
        ({"stopwords": ["monday", "ON MONDAY", "füße"]}, [""]),
        ({"locale": "en_US.UTF-8", "case_change_action": "LOWER"}, ["monday", "monday", "on monday", "füße"]),
    ],
)
def test_normalizer(attributes: dict[str, Any], want: list[str]) -> None:
    """A stop word is a whole element, letters keep their accents."""
    words = texts("Monday", "MONDAY", "on Monday", "Füße")
    for x, expected in ((words, want), (words[None], [want])):
        (y,) = run("StringNormalizer", x, opset=10, **attributes)
        assert y.tolist() == expected


def test_normalizer_leaves_the_locale_alone() -> None:
    import locale

    before = locale.setlocale(locale.LC_ALL)
    run("StringNormalizer", texts("a"), opset=10, locale="C.UTF-8", case_change_action="UPPER")
    assert locale.setlocale(locale.LC_ALL) == before


def test_regex() -> None:
    (y,) = run("RegexFullMatch", texts(["ab1", "ab"], ["xab1", "ab\u0661"]), pattern=r"[a-c]+\d")
    assert y.tolist() == [[True, False], [False, False]]
    assert run("RegexFullMatch", np.empty(0, object), pattern="a")[0].shape == (0,)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "opset", "error"),
    [
        ("StringNormalizer", [texts(["a"], ["b"])], {}, 10, ShapeError),
        ("StringNormalizer", [texts("a")], {"case_change_action": "TITLE"}, 10, CNNEngineError),
        ("StringNormalizer", [texts("a")], {"case_change_action": "LOWER", "locale": "tr_TR"}, 10, UnsupportedOperatorError),
        ("StringSplit", [texts("a")], {"maxsplit": -1}, 20, CNNEngineError),
        ("RegexFullMatch", [texts("a")], {"pattern": "("}, 20, UnsupportedOperatorError),
        ("RegexFullMatch", [texts("a")], {}, 20, CNNEngineError),
        ("StringConcat", [texts("a", "b"), texts("a", "b", "c")], {}, 20, ShapeError),
    ],
)
def test_refused(op_type: str, inputs: list[np.ndarray], attributes: dict[str, Any], opset: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=op_type):
        run(op_type, *inputs, opset=opset, outputs=2 if op_type == "StringSplit" else 1, **attributes)


def test_numbers_are_no_texts() -> None:
    from cnnengine.ops.text import StringSplit
    from cnnengine.spec import TensorSpec

    with pytest.raises(InputError, match=r"StringSplit.*texts"):
        StringSplit().specs([TensorSpec.of(np.zeros(3))])
