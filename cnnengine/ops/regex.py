"""Matcher: whether a pattern matches the whole of a text, in time that grows with pattern x text.

Python's `re` goes back and tries again, which takes twice as long with each character for patterns as ``(a+)+b``; RE2, whose
syntax ONNX means, never does. So patterns that could make `re` do so are run as automata: all places of the pattern that a text
can be at are followed at once, character by character. `re` parses them, and says what single characters and anchors match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from ..errors import UnsupportedOperatorError

PLACES = 20_000
"""Places of an automaton: a{1000}{1000} is a million of them in 13 characters."""

Test = Callable[[str, int], bool]
"""Whether a text goes on so at a position."""

CHARACTERS = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)
REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)


class Matcher:
    """A pattern made ready.

    Parameters
    ----------
    pattern : str
        In what Python's syntax and RE2's have in common; classes as \\w hold ASCII alone.

    Raises
    ------
    re.error
        It is no pattern.
    UnsupportedOperatorError
        It refers to groups or looks around, which RE2 knows nothing of, or is too long when its repetitions are written out.
    """

    def __init__(self, pattern: str) -> None:
        tree = _parser.parse(pattern, re.ASCII)
        self._at_once = None if _lengths(tree) > 1 else re.compile(pattern, re.ASCII).fullmatch
        self._tests: list[Test | None] = []  # of a place; None where it only leads on
        self._next: list[list[int]] = []
        self._anchors: set[int] = set()
        self._last = -1
        if self._at_once is None:
            self._state = tree.state
            self._first, end = self._new(None), self._new(None)
            self._sequence(tree, self._first, end)
            self._last = end

    def matches(self, text: str) -> bool:
        """Whether the whole of the text is what the pattern says."""
        if self._at_once is not None:
            return self._at_once(text) is not None
        places = self._reached([self._first], text, 0)
        for at in range(len(text)):
            tests = self._tests
            on = [n for p in places if (test := tests[p]) is not None and test(text, at) for n in self._next[p]]
            if not on:
                return False
            places = self._reached(on, text, at + 1)
        return self._last in places

    def _reached(self, starts: Iterable[int], text: str, at: int) -> set[int]:
        """The places that can be come to without another character."""
        found: set[int] = set()
        left = list(starts)
        while left:
            place = left.pop()
            if place in found:
                continue
            found.add(place)
            test = self._tests[place]
            if test is None or (place in self._anchors and test(text, at)):
                left.extend(self._next[place])
        for place in self._anchors & found:  # passed, or the end of the way
            found.discard(place)
        return found

    def _new(self, test: Test | None, anchor: bool = False) -> int:
        if len(self._tests) >= PLACES:
            raise UnsupportedOperatorError(
                "this pattern is too long with its repetitions written out", expected=f"{PLACES} places"
            )
        self._tests.append(test)
        self._next.append([])
        if anchor:
            self._anchors.add(len(self._tests) - 1)
        return len(self._tests) - 1

    def _sequence(self, parts: Any, start: int, end: int) -> None:
        """Ways from one place to another by these parts of a pattern, one after the other."""
        at = start
        for kind, argument in parts:
            then = self._new(None)
            self._part(kind, argument, at, then)
            at = then
        self._next[at].append(end)

    def _part(self, kind: Any, argument: Any, start: int, end: int) -> None:
        if kind in CHARACTERS or kind is _constants.AT:
            single = re_of(self._state, kind, argument)
            anchor = kind is _constants.AT
            place = self._new((lambda text, at: single.match(text, at) is not None) if anchor else _character(single), anchor)
            self._next[start].append(place)
            self._next[place].append(end)
        elif kind is _constants.BRANCH:
            for way in argument[1]:
                first = self._new(None)
                self._next[start].append(first)
                self._sequence(way, first, end)
        elif kind is _constants.SUBPATTERN:
            _, added, removed, inner = argument
            if added or removed:
                raise UnsupportedOperatorError("this pattern changes its flags inside", received="(?flags:...)")
            self._sequence(inner, start, end)
        elif kind in REPEATS:
            least, most, inner = argument
            at = start
            for _ in range(least):
                then = self._new(None)
                self._sequence(inner, at, then)
                at = then
            if most is _constants.MAXREPEAT:
                loop = self._new(None)
                self._next[at].append(loop)
                again = self._new(None)
                self._sequence(inner, loop, again)
                self._next[again].append(loop)
                at = loop
            else:
                for _ in range(most - least):
                    then = self._new(None)
                    self._next[at].append(end)
                    self._sequence(inner, at, then)
                    at = then
            self._next[at].append(end)
        else:
            raise UnsupportedOperatorError("this pattern has what RE2 does not know", received=str(kind).lower())


def re_of(state: Any, kind: Any, argument: Any) -> re.Pattern[str]:
    """A part of a pattern by itself."""
    alone = _parser.SubPattern(state, [(kind, argument)])
    compiled: re.Pattern[str] = _compiler.compile(alone, state.flags)
    return compiled


def _character(single: re.Pattern[str]) -> Test:
    @cache
    def takes(character: str) -> bool:
        return single.fullmatch(character) is not None

    return lambda text, at: takes(text[at])


def _lengths(parts: Any) -> int:
    """How many parts of a pattern can have several lengths: with more than one, `re` may try all of them together."""
    found = 0
    for kind, argument in parts:
        if kind in REPEATS:
            least, most, inner = argument
            found += 1 + _lengths(inner) if least != most else min(least, 2) * _lengths(inner)
        elif kind is _constants.BRANCH:
            found += 1 + sum(_lengths(way) for way in argument[1])
        elif kind is _constants.SUBPATTERN:
            found += _lengths(argument[3])
        elif kind not in CHARACTERS and kind is not _constants.AT:
            found += 2
    return found
