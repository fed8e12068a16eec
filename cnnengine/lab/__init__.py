"""The laboratory: one picture of the reader's own through every kind of layer, side by side (docs/lab.md).

Each function takes a picture (path, bytes, Pillow image, uint8 pixels, or floats from 0 to 1), runs the kernels of
`cnnengine.functional` on it, and gives an `Experiment`: arrays, a picture and a sentence for each, shown by notebooks, written by
`save` as a sheet (.png) or a page (.html). Pictures need Pillow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import pages
from .layers import activations, dilations, dropout, filters, normalisations, paddings, strides
from .picture import SIDE, taken
from .pooling import pooling, shift, unpooling, winners
from .result import Experiment, Panel

__all__ = [
    "EXPERIMENTS",
    "SIDE",
    "Experiment",
    "Panel",
    "activations",
    "dilations",
    "dropout",
    "everything",
    "filters",
    "normalisations",
    "paddings",
    "page",
    "pooling",
    "shift",
    "strides",
    "taken",
    "unpooling",
    "winners",
]

EXPERIMENTS: dict[str, Callable[..., Experiment]] = {
    "filters": filters,
    "strides": strides,
    "dilations": dilations,
    "paddings": paddings,
    "activations": activations,
    "pooling": pooling,
    "shift": shift,
    "winners": winners,
    "unpooling": unpooling,
    "normalisations": normalisations,
    "dropout": dropout,
}
"""All experiments by name, in the order in which a network has such layers."""


def everything(image: Any, *, size: int = SIDE, progress: Callable[[int, int], object] | None = None) -> list[Experiment]:
    """All experiments on one picture.

    Parameters
    ----------
    image : as `taken` takes it
    size : int
        The most that its longer side may have.
    progress : function of (int, int), optional
        Called after each experiment with how many are done, and of how many.

    Raises
    ------
    InputError
        It is no picture.
    """
    pixels = taken(image, size)[0].transpose(1, 2, 0)
    made = []
    for experiment in EXPERIMENTS.values():
        made.append(experiment(pixels, size=size))
        if progress is not None:
            progress(len(made), len(EXPERIMENTS))
    return made


def page(experiments: list[Experiment], title: str = "The laboratory") -> str:
    """A page of experiments that stands alone."""
    links = " · ".join(f'<a href="#{at}">{pages.escape(one.title)}</a>' for at, one in enumerate(experiments))
    parts = "".join(f'<div id="{at}">{one.html(2)}</div>' for at, one in enumerate(experiments))
    return pages.document(title, f"<h1>{pages.escape(title)}</h1><nav>{links}</nav>{parts}")
