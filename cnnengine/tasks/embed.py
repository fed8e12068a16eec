"""Embeddings: a vector for each picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..preprocess import Placement
from .candidates import array_of
from .source import Source, ran
from .tables import Printed, table
from .task import by_the_first_axis

SHOWN = 8


@dataclass(frozen=True, eq=False)
class Embedding(Printed):
    """What a network makes of a picture.

    Attributes
    ----------
    vector : ndarray, float32 (n,)
    """

    vector: np.ndarray

    @property
    def norm(self) -> float:
        """Its Euclidean length."""
        return float(np.linalg.norm(self.vector.astype(np.float64)))

    def similarity(self, other: Embedding) -> float:
        """The cosine of the angle between two, from -1 to 1.

        Raises
        ------
        InputError
            They have different numbers of elements, or one has no length.
        """
        if self.vector.shape != other.vector.shape:
            raise InputError(
                "embeddings of different networks", tensor="other", expected=self.vector.shape, received=other.vector.shape
            )
        lengths = self.norm * other.norm
        if not lengths > 0:
            raise InputError("an embedding without a length", tensor="other", expected="numbers other than 0")
        return float(self.vector.astype(np.float64) @ other.vector.astype(np.float64) / lengths)

    def __str__(self) -> str:
        rows = [[str(len(self.vector)), f"{self.norm:.6g}", self._first()]]
        return table(["elements", "length", "first"], rows, (0, 1))

    def as_text(self) -> str:
        """How many elements, the length, and the first of them."""
        return f"{len(self.vector)} elements, length {self.norm:.6g}\t{self._first()}"

    def as_json(self) -> dict[str, object]:
        """All elements; of one that is not finite, null."""
        values = [float(v) if np.isfinite(v) else None for v in self.vector]
        return {"kind": "embedding", "norm": self.norm if np.isfinite(self.norm) else None, "vector": values}

    def _first(self) -> str:
        more = " ..." if len(self.vector) > SHOWN else ""
        return " ".join(f"{v:.4g}" for v in self.vector[:SHOWN]) + more


class Embed:
    """Turns each output that is a vector into an `Embedding`.

    Parameters
    ----------
    names : sequence of str
        The model's outputs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    @property
    def said(self) -> tuple[str, ...]:
        """Nothing is guessed."""
        return ()

    def samples(self, outputs: Sequence[object], count: int | None, canvas: tuple[int, int] | None) -> list[list[object]] | None:
        """As `Task` has it."""
        return by_the_first_axis(outputs, count)

    def read(self, outputs: Sequence[object], place: Placement | None) -> Mapping[str, Embedding]:
        """A vector for each output of one axis; other axes of extent 1 do not count."""
        found = {}
        for name, y in zip(self._names, outputs, strict=True):
            vector = array_of(y, name)
            if vector.size and vector.size == max(vector.shape, default=1):
                found[name] = Embedding(vector.reshape(-1).astype(np.float32))
        if not found:
            received = ", ".join(f"{n} {getattr(y, 'shape', '')}" for n, y in zip(self._names, outputs, strict=True))
            raise InputError("no output is a vector", tensor=self._names[0], expected="one axis a sample", received=received)
        return found


def embed(model: Any, image: Any, *, name: str | None = None, assume: str | None = None, **settings: Any) -> Embedding:
    """The vector that a network makes of a picture.

    Parameters
    ----------
    model : Model, or what `cnnengine.load` takes
    image : path, bytes, binary file object, PIL.Image.Image, or uint8 ndarray (H, W) or (H, W, 3)
    name : str, optional
        The output, where several are vectors.
    assume, **settings
        As for `Model.preparation`.

    Returns
    -------
    Embedding

    Raises
    ------
    InputError
        The picture or an option cannot be used, or there is not one vector for a picture.
    """
    with Source.of(model) as source:
        names = [o.name for o in source.model.outputs]
        if name is not None and name not in names:
            raise InputError("no such output", model=source.model.name, tensor="name", expected=", ".join(names), received=name)
        return ran(source, _One(names, name) if name is not None else Embed(names), image, assume, settings, Embedding)


class _One(Embed):
    """The vector of one output."""

    def __init__(self, names: Sequence[str], name: str) -> None:
        super().__init__(names)
        self._name = name

    def read(self, outputs: Sequence[object], place: Placement | None) -> Mapping[str, Embedding]:
        found = super().read(outputs, place)
        if self._name not in found:
            raise InputError("is no vector", tensor=self._name, expected=f"one of {', '.join(found)}")
        return {self._name: found[self._name]}
