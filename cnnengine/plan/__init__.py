"""Lowering: from a graph to segments that run.

`Program` holds what does not depend on shapes: the simplified graph, the instruction set, packed weights. For each set of
input shapes it makes `Segment`s: shapes inferred, layouts chosen, kernels called, memory planned. A program is cut after
every node whose output shape depends on data; each segment has its own plan.
"""

from __future__ import annotations

from .binding import Binding
from .program import Program
from .segment import Layer, Segment

__all__ = ["Binding", "Layer", "Program", "Segment"]
