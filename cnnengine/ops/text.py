"""Operators on texts: StringConcat, StringSplit, StringNormalizer, RegexFullMatch. Texts are objects of Python's str."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError, UnsupportedOperatorError
from ..operator import BROADCAST, EXACT, SAME, Gives, Giving, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import INT64, Specs, broadcast_shape, required, spec_at
from .regex import Matcher

TEXT = np.dtype(object)
OTHER_CASES = ("az", "el", "lt", "tr")
"""Languages in which the other case of some letter is not Unicode's default one."""


def _texts(inputs: Specs, index: int, operator: str) -> TensorSpec:
    spec = required(inputs, index, operator)
    if spec.dtype != TEXT:
        raise InputError("must hold texts", operator=operator, tensor=f"input {index}", expected="string", received=spec.dtype)
    return spec


def _objects(values: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    made = np.empty(len(values), TEXT)
    made[:] = values
    return made.reshape(shape)


@dataclass(frozen=True)
class StringConcat(Operator):
    """ONNX StringConcat (20): texts joined element by element, with broadcasting."""

    op_type: ClassVar[str] = "StringConcat"
    min_version: ClassVar[int] = 20
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False
    gives: ClassVar[Giving] = BROADCAST

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x, y = _texts(inputs, 0, self.op_type), _texts(inputs, 1, self.op_type)
        return [TensorSpec(TEXT, broadcast_shape(x.concrete, y.concrete, self.op_type))]

    def reference(self, *inputs: Any) -> list[Any]:
        x, y = np.broadcast_arrays(*inputs)
        pairs = zip(x.reshape(-1).tolist(), y.reshape(-1).tolist(), strict=True)
        return [_objects([a + b for a, b in pairs], x.shape)]


@dataclass(frozen=True)
class StringSplit(Operator):
    """ONNX StringSplit (20): each text cut at a delimiter, and how many parts that gave.

    Attributes
    ----------
    delimiter : str, optional
        Runs of whitespace where it is None or empty.
    maxsplit : int, optional
        Cuts from the left at most; all where it is None.
    """

    delimiter: str | None = None
    maxsplit: int | None = None

    op_type: ClassVar[str] = "StringSplit"
    min_version: ClassVar[int] = 20
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> StringSplit:
        limit = node.attribute("maxsplit")
        if limit is not None and limit < 0:
            raise ModelError("maxsplit is negative", node=node.name, operator=node.op_type, expected=">= 0", received=limit)
        return cls(node.attribute("delimiter") or None, None if limit is None else int(limit))

    def outline(self, inputs: Specs) -> list[TensorSpec]:
        x = spec_at(inputs, 0)
        shape = None if x is None or x.shape is None else (None,) * len(x.shape)
        return [TensorSpec(TEXT, None if shape is None else (*shape, None)), TensorSpec(INT64, shape)]

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        x = _texts(inputs, 0, self.op_type)
        return [TensorSpec(TEXT, (*x.concrete, None)), TensorSpec(INT64, x.concrete)]

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        parts = [text.split(self.delimiter, -1 if self.maxsplit is None else self.maxsplit) for text in x.reshape(-1).tolist()]
        longest = max(map(len, parts), default=0)
        padded = [part for found in parts for part in (*found, *[""] * (longest - len(found)))]
        counts = np.array([len(found) for found in parts], np.int64).reshape(x.shape)
        return [_objects(padded, (*x.shape, longest)), counts]


@dataclass(frozen=True)
class StringNormalizer(Operator):
    """ONNX StringNormalizer (10): elements that are stop words are left out, the others put into lower or upper case.

    Attributes
    ----------
    case_change_action : {"NONE", "LOWER", "UPPER"}
    is_case_sensitive : int
        Whether stop words are compared as they are written.
    stopwords : tuple of str
    """

    case_change_action: str = "NONE"
    is_case_sensitive: int = 0
    stopwords: tuple[str, ...] = ()

    op_type: ClassVar[str] = "StringNormalizer"
    min_version: ClassVar[int] = 10
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False
    gives: ClassVar[Giving] = SAME

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> StringNormalizer:
        action = node.attribute("case_change_action", "NONE")
        if action not in ("NONE", "LOWER", "UPPER"):
            raise ModelError(
                "unknown case_change_action",
                node=node.name,
                operator=node.op_type,
                expected="'NONE', 'LOWER' or 'UPPER'",
                received=action,
            )
        locale = node.attribute("locale", "")
        if locale[:2].lower() in OTHER_CASES and action != "NONE":
            raise UnsupportedOperatorError(
                "letters have other cases in this locale",
                node=node.name,
                operator=node.op_type,
                expected="a locale with Unicode's own cases",
                received=locale,
            )
        return cls(action, int(node.attribute("is_case_sensitive", 0)), tuple(node.attribute("stopwords", ())))

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        shape = _texts(inputs, 0, self.op_type).concrete
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[0] != 1):
            raise ShapeError("has the wrong shape", operator=self.op_type, tensor="X", expected="[C] or [1, C]", received=shape)
        return [TensorSpec(TEXT, (*shape[:-1], None))]

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.asarray(inputs[0])
        stop = set(self.stopwords) if self.is_case_sensitive else {w.lower() for w in self.stopwords}
        left = [t for t in x.reshape(-1).tolist() if (t if self.is_case_sensitive else t.lower()) not in stop] or [""]
        if self.case_change_action != "NONE":
            left = [t.lower() if self.case_change_action == "LOWER" else t.upper() for t in left]
        return [_objects(left, (*x.shape[:-1], len(left)))]


@lru_cache(maxsize=64)
def _matcher(pattern: str) -> Matcher:
    return Matcher(pattern)


@dataclass(frozen=True)
class RegexFullMatch(Operator):
    """ONNX RegexFullMatch (20): whether a pattern in the syntax of RE2 matches the whole of a text.

    Python's expressions stand in for RE2's: where a pattern is valid in both, they find the same, but for \\s (a vertical tab).
    """

    pattern: str

    op_type: ClassVar[str] = "RegexFullMatch"
    min_version: ClassVar[int] = 20
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False
    gives: ClassVar[Giving] = (Gives(np.dtype(np.bool_)),)

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> RegexFullMatch:
        pattern = node.attribute("pattern")
        if pattern is None:
            raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected="pattern")
        try:
            _matcher(pattern)
        except UnsupportedOperatorError as error:
            raise error.locate(node=node.name, operator=node.op_type) from None
        except (re.error, RecursionError, OverflowError) as error:
            raise UnsupportedOperatorError(
                f"this pattern is not understood ({error})", node=node.name, operator=node.op_type, received=pattern
            ) from None
        return cls(pattern)

    def infer(self, inputs: Specs) -> list[TensorSpec]:
        return [TensorSpec(np.dtype(np.bool_), _texts(inputs, 0, self.op_type).concrete)]

    def reference(self, *inputs: Any) -> list[Any]:
        x, matches = np.asarray(inputs[0]), _matcher(self.pattern).matches
        return [np.array([matches(text) for text in x.reshape(-1).tolist()], np.bool_).reshape(x.shape)]
