"""Lines of text: what a network reads, by CTC (Graves et al. 2006) of the best class at each place.

At each place of a line the network scores its characters and a blank. The best class of each is taken, repeats become one, and
blanks go: "h", "h", blank, "i" is "hi", "l", blank, "l" is "ll".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..preprocess import Placement
from .candidates import array_of, softmax
from .source import Source, known_of, ran
from .tables import Printed, table


@dataclass(frozen=True, eq=False)
class Line(Printed):
    """A line of text.

    Attributes
    ----------
    text : str
    scores : ndarray, float32 (characters,)
        How sure each character is.
    places : ndarray, int64 (characters,)
        At which place of the output each was read first.
    """

    text: str
    scores: np.ndarray
    places: np.ndarray

    @property
    def score(self) -> float:
        """The mean of the characters' scores, as PaddleOCR has it; 0 for no text."""
        return float(self.scores.mean()) if len(self.scores) else 0.0

    def __str__(self) -> str:
        return table(["text", "score"], [[self.text, f"{self.score:.4f}"]], (1,))

    def as_text(self) -> str:
        """Text and score; what would break the line is written as in Python."""
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in self.text)
        return f"{shown}\t{self.score:.4f}"

    def as_json(self) -> dict[str, object]:
        score = self.score if math.isfinite(self.score) else None
        return {"kind": "text", "text": self.text, "score": score}


class Text:
    """Turns the scores of each place into a `Line`.

    Parameters
    ----------
    names : sequence of str
        The model's outputs; one has axes of places and classes.
    characters : tuple of str, or None
        What each class but the blank stands for.
    blank : {"first", "last"}
        Where the blank stands among the classes.
    option : str
        How a caller gives the characters.
    """

    def __init__(
        self, names: Sequence[str], characters: tuple[str, ...] | None, blank: str = "first", option: str = "characters="
    ) -> None:
        if blank not in ("first", "last"):
            raise InputError("unknown place", tensor="blank", expected="first or last", received=blank)
        if characters is None:
            raise InputError("which characters the classes stand for is not known", tensor=option, expected="a name for each")
        self._names = tuple(names)
        self._characters = characters
        self._blank = blank
        self._at: tuple[int, bool] | None = None
        self._said: tuple[str, ...] = ()

    @property
    def said(self) -> tuple[str, ...]:
        """Which output is read, and how, once outputs were seen."""
        return self._said

    def samples(self, outputs: Sequence[object], count: int | None, canvas: tuple[int, int] | None) -> list[list[object]] | None:
        """As `Task` has it; places may be on the first axis and samples on the second, as PyTorch's recurrent layers have it."""
        classes = len(self._characters) + 1
        fits = [i for i, y in enumerate(outputs) if isinstance(y, np.ndarray) and y.ndim == 3 and y.shape[2] == classes]
        if len(fits) != 1:
            shapes = [f"{n} {getattr(y, 'shape', '')}" for n, y in zip(self._names, outputs, strict=True)]
            raise InputError(
                "no output has a score for each character and the blank" if not fits else "several outputs read text",
                tensor=self._names[0],
                expected=f"(samples, places, {classes})",
                received=", ".join(shapes),
            )
        at = fits[0]
        y = array_of(outputs[at], self._names[at])
        shape, wanted = y.shape, count or 1
        if shape[0] == shape[1] == wanted and wanted > 1:
            expected = "another number of pictures at once"
            raise InputError("samples and places cannot be told apart", tensor=self._names[at], expected=expected, received=shape)
        if wanted not in shape[:2]:
            raise InputError(
                "the output is not one for each picture",
                tensor=self._names[at],
                expected=f"({wanted}, places, {classes})",
                received=shape,
            )
        turned = shape[0] != wanted
        if not self._said:
            how = ", places first" if turned else ""
            self._said = (f"text: {classes - 1} characters of {self._names[at]}{how}, the blank {self._blank}",)
        self._at = at, turned
        return [[y[:, i] if turned else y[i]] for i in range(wanted)]

    def read(self, outputs: Sequence[object], place: Placement | None) -> Mapping[str, Line]:
        """The line of one sample, as "text"."""
        (scores,) = outputs
        return {"text": decoded(array_of(scores, "scores"), self._characters, self._blank)}


def decoded(scores: np.ndarray, characters: Sequence[str], blank: str = "first") -> Line:
    """The line that scores (places, classes) say, by the best class of each place.

    Parameters
    ----------
    scores : ndarray, float (places, 1 + characters)
        Probabilities, or logits, which become such by softmax.
    characters : sequence of str
    blank : {"first", "last"}
    """
    wide = scores.astype(np.float64)
    if wide.size and not (wide.min() >= 0 and np.abs(wide.sum(1) - 1).max() < 1e-2):
        wide = softmax(wide)
    best = wide.argmax(1) if wide.size else np.empty(0, np.int64)
    changed = np.diff(best, prepend=-1) != 0
    none = 0 if blank == "first" else len(characters)
    places = np.flatnonzero(changed & (best != none))
    chosen = best[places] - (1 if blank == "first" else 0)
    text = "".join(characters[i] for i in chosen)
    return Line(text, wide[places, best[places]].astype(np.float32), places)


def text(
    model: Any,
    image: Any,
    *,
    characters: Sequence[str] | None = None,
    blank: str = "first",
    assume: str | None = None,
    **settings: Any,
) -> Line:
    """The text of a line that is cut out of a picture.

    Parameters
    ----------
    model : Model, or what `cnnengine.load` takes
    image : path, bytes, binary file object, PIL.Image.Image, or uint8 ndarray (H, W) or (H, W, 3)
    characters : sequence of str, optional
        What each class but the blank stands for, in place of the file's.
    blank : {"first", "last"}
        Where the blank stands among the classes.
    assume, **settings
        As for `Model.preparation`.

    Returns
    -------
    Line

    Raises
    ------
    InputError
        The picture or an option cannot be used, or no output has a score for each character.
    """
    with Source.of(model) as source:
        known = known_of(source.model)
        given = known.characters if characters is None else tuple(characters)
        return ran(source, Text([o.name for o in source.model.outputs], given, blank), image, assume, settings, Line)
