"""The page of a View, no larger than it may be."""

from __future__ import annotations

from ..arguments import integer
from .page import assembled, frame
from .view import Told, View

BUDGET = 8_000_000
"""Bytes of a page by default."""
LEAST = 100_000
"""What a budget is at least: the page's own program is more than half of it."""


def page(view: View, budget: int = BUDGET, *, served: bool = False, told: Told | None = None) -> str:
    """One HTML file.

    Parameters
    ----------
    view : View
    budget : int
        Bytes of the file at most. All layers share them.
    served : bool
        Whether a `Server` answers it, so that what does not fit is asked for.
    told : function of what is done, how much of it, and of how many, optional

    Returns
    -------
    str

    Raises
    ------
    InputError
        Not even names and figures fit.
    """
    budget = integer(budget, "budget", LEAST, None)
    data, chunks = view.data(budget, served, frame(), told)
    title = f"{view.about['model']} - cnnengine".encode("utf-8", "replace").decode()  # a file's name may be no text
    return assembled(data, chunks, title, served)
