"""Binding: a plan tied to buffers, for loops that allocate nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np

from ..errors import InputError
from ..runtime.runner import Workspace
from .program import Segment


class Binding:
    """Input and output buffers of a model, tied to memory of its own; made by `Model.bind`.

    Fill `inputs`, call `run`, read `outputs`: nothing is checked, copied or allocated in between. Serves one thread at a time.

    Attributes
    ----------
    inputs, outputs : mapping of str to ndarray
        The arrays themselves, by name.
    """

    def __init__(
        self,
        segment: Segment,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
        copies: list[tuple[np.ndarray, np.ndarray]],
        threads: Callable[[], int],
        most: int,
    ) -> None:
        self.inputs = dict(inputs)
        self.outputs = dict(outputs)
        self._copies = copies
        self._threads = threads
        self._plan = segment.plan
        self._workspace = Workspace()
        self._lock = threading.Lock()
        # outputs that the plan makes and nobody asked for
        given = [outputs[n] if n in outputs else np.empty(shape, dtype) for n, shape, dtype in segment.outputs]
        self._kept = (segment, given)
        self._workspace.begin(self._plan.native, [inputs[n] for n in segment.inputs], given, most)
        self._count = self._plan.native.n_steps

    def run(self) -> dict[str, np.ndarray]:
        """Compute the outputs from what the inputs hold now.

        Returns
        -------
        dict of str to ndarray
            `outputs`.

        Raises
        ------
        InputError
            Another thread runs it.
        """
        if not self._lock.acquire(blocking=False):
            raise InputError("the binding is in use by another thread", tensor="bind", expected="a binding for each thread")
        try:
            self._workspace.run(0, self._count, self._threads())
            for target, source in self._copies:
                target[...] = source
        finally:
            self._lock.release()
        return self.outputs
