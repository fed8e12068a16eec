"""Loaded: the view of a model's inside that reports, and whatever else looks at how it runs, start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import arguments
from .errors import InputError, ShapeError
from .feeds import TensorInfo, check_feeds
from .graph import Graph
from .plan import Program, Segment
from .runtime.runner import Workspace
from .spec import check_size

if TYPE_CHECKING:
    from .importer import Source


@dataclass(frozen=True, eq=False)
class Loaded:
    """What an open model consists of; made by `cnnengine.model.inside`.

    Not part of the public interface: it changes as the engine does. It keeps all of this alive, also when the model is closed
    meanwhile.

    Attributes
    ----------
    name : str
    source : Source
        The file's message, and the model as protobuf has it.
    graph : Graph
        As it is planned: after the rewrites that need no shapes.
    program : Program
        Plans, and what was packed for them.
    inputs : mapping of str to TensorInfo
    threads_given : bool
        Whether somebody said how many threads a run has, so that OpenMP's settings say nothing.
    options : mapping of str to object
        What `load` was called with.
    """

    name: str
    source: Source
    graph: Graph
    program: Program
    inputs: Mapping[str, TensorInfo]
    threads_given: bool
    options: Mapping[str, Any]

    def check_feeds(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Values as `run` takes them; raises what `Model.run` raises for inputs that do not fit."""
        return check_feeds(feeds, self.inputs, model=self.name)

    def of_shapes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """Values of these shapes, which take no memory; raises what `Model.run` raises for inputs that do not fit."""
        feeds = {}
        for name, shape in shapes.items():
            info = self.inputs.get(name)
            if info is None:
                said = f"no such input{arguments.meant(name, self.inputs)}"
                raise InputError(said, model=self.name, tensor=name, expected=list(self.inputs))
            extents = arguments.extents(shape, name, model=self.name)
            try:
                check_size(extents, info.dtype, name)
            except ShapeError as error:
                raise error.locate(model=self.name) from None
            feeds[name] = np.broadcast_to(np.zeros((), info.dtype), extents)
        return check_feeds(feeds, self.inputs, model=self.name, copies=False)

    def whole_plan(self, shapes: Mapping[str, Sequence[int]]) -> Segment | None:
        """The one compiled plan of the whole model for these shapes; None where nodes run in Python or it takes several."""
        segment = self.program.segment(0, self.of_shapes(shapes))
        count = len(self.graph.nodes)
        return segment if 0 < count == segment.end and segment.is_compiled else None

    def known_value(self, segment: Segment, name: str) -> np.ndarray:
        """An output that does not depend on the inputs' values."""
        found: np.ndarray = segment.constants[name] if name in segment.constants else self.graph.constants[name]
        return found

    def run(self, values: dict[str, Any], threads: int) -> None:
        """Run the model on `values`, as `check_feeds` gives them, and add all results to them."""
        self.program.run(values, threads)

    def segments(self, values: dict[str, Any], workspace: Workspace, threads: int) -> Iterator[Segment]:
        """The segments for these values, in order, planned where they are not.

        Where a later one depends on data, those before it are run on `values`, each after it was given.
        """
        start, count = 0, len(self.graph.nodes)
        while start < count:
            segment = self.program.segment(start, values)
            yield segment
            start = segment.end
            if start < count:
                segment.execute(values, workspace, threads)

    @property
    def weight_bytes(self) -> int:
        """Memory of the packed weights."""
        return sum(array.nbytes for array in self.program.packed.values())
