"""What files say of a model's pictures, classes and purpose: our own keys, and those of others.

A file for each format, with a function that gives a `Statement` or None; `about` asks them all in turn, `presets` are the usual
guesses, `labels` the well-known sets of names, `write` puts text into a model's file.
"""

from __future__ import annotations

from .about import About, Preparation, about
from .labels import SETS, named_labels
from .own import OUTPUT_KEY, TASK_KEY, output_kind
from .presets import PRESETS
from .statement import OUTPUT_KINDS, TASKS, Statement, Subject

__all__ = [
    "OUTPUT_KEY",
    "OUTPUT_KINDS",
    "PRESETS",
    "SETS",
    "TASKS",
    "TASK_KEY",
    "About",
    "Preparation",
    "Statement",
    "Subject",
    "about",
    "named_labels",
    "output_kind",
]
