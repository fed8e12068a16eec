"""What every task has: from the outputs of one sample to something that can be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..preprocess import Placement


class Described(Protocol):
    """What one output of one sample means."""

    def as_text(self) -> str:
        """For people: one line, values separated by tabs."""
        ...

    def as_json(self) -> dict[str, object]:
        """For programs: `kind` and what belongs to it, without NaN."""
        ...


class Task(Protocol):
    """Reads a model's outputs; made once for a model."""

    def read(self, outputs: Sequence[object], place: Placement | None) -> Mapping[str, Described]:
        """What the outputs of one sample mean, by name.

        Parameters
        ----------
        outputs : sequence of array or list
            The model's outputs, without the batch axis.
        place : Placement or None
            Where the picture lies in the input; None where the sample came as arrays.
        """
        ...
