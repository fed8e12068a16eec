"""What a model's outputs mean: a file for each task, with a class that reads the outputs of one sample (`Task`)."""

from __future__ import annotations

from .classify import Classify, Ranking, Summary
from .task import Described, Task

__all__ = ["Classify", "Described", "Ranking", "Summary", "Task"]
