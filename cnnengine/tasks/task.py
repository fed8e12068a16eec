"""What every task has: from the outputs of a run to what each sample's mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ..preprocess import Placement


class Described(Protocol):
    """What one output of one sample means, or several together."""

    def as_text(self) -> str:
        """For people: one line, values separated by tabs."""
        ...

    def as_json(self) -> dict[str, object]:
        """For programs: `kind` and what belongs to it, without NaN."""
        ...


class Task(Protocol):
    """Reads a model's outputs; made once for a model."""

    @property
    def said(self) -> tuple[str, ...]:
        """How the outputs are read where nobody said it, for people; what needs outputs is known after `samples` or `read`."""
        ...

    def samples(self, outputs: Sequence[object], count: int | None, canvas: tuple[int, int] | None) -> list[list[object]] | None:
        """The outputs of a run, sample by sample; None where they are not one for each of `count`.

        Parameters
        ----------
        outputs : sequence of array or list
            The model's outputs.
        count : int or None
            Samples of the run.
        canvas : (height, width) or None
            Of the input, where it is a picture.

        Raises
        ------
        InputError
            The outputs are not what the task asks for.
        """
        ...

    def read(self, outputs: Sequence[object], place: Placement | None) -> Mapping[str, Described]:
        """What the outputs of one sample mean, by name.

        Parameters
        ----------
        outputs : sequence of array or list
            The model's outputs, without the batch axis.
        place : Placement or None
            Where the picture lies in the input; None where the input is not known to be a picture.
        """
        ...


def by_the_first_axis(outputs: Sequence[object], count: int | None) -> list[list[object]] | None:
    """The outputs sample by sample, where the first axis of each counts them; otherwise None."""
    arrays = [y for y in outputs if isinstance(y, np.ndarray) and count is not None and y.shape[:1] == (count,)]
    if count is None or len(arrays) != len(outputs):
        return None
    return [[y[i] for y in arrays] for i in range(count)]
