"""Binding: a plan tied to buffers, for loops that allocate nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from ..errors import InputError
from ..runtime.runner import Workspace
from .segment import Segment


class Buffers(dict[str, np.ndarray]):
    """Arrays by name, for reading: nobody would see another array in the place of one, since plans know addresses alone."""

    def __setitem__(self, name: str, array: np.ndarray) -> None:
        if self.get(name) is not array:  # `buffers[name] += 1` writes in place, and then sets what was there
            self._refuse(name)

    def _refuse(self, *names: Any, **arrays: Any) -> NoReturn:
        raise InputError(
            "a bound array cannot be replaced",
            tensor=str(next(iter(names), "bind")),
            expected="its elements to be written, as in inputs[name][...] = frame, or a new bind()",
        )

    __delitem__ = pop = popitem = clear = update = setdefault = __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class Binding:
    """Input and output buffers of a model, tied to memory of its own; made by `Model.bind`.

    Fill `inputs`, call `run`, read `outputs`: nothing is checked, copied or allocated in between. Serves one thread at a time.

    Attributes
    ----------
    inputs, outputs : mapping of str to ndarray
        The arrays themselves, by name; write to their elements, they cannot be replaced.
    """

    def __init__(
        self,
        segment: Segment,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
        copies: list[tuple[np.ndarray, np.ndarray]],
        threads: Callable[[], int],
    ) -> None:
        self._inputs = Buffers(inputs)
        self._outputs = Buffers(outputs)
        self._copies = copies
        self._threads = threads
        self._plan = segment.plan
        self._workspace = Workspace()
        self._lock = threading.Lock()
        # outputs that the plan makes and nobody asked for
        given = [outputs[n] if n in outputs else np.empty(shape, dtype) for n, shape, dtype in segment.outputs]
        self._kept = (segment, [inputs[n] for n in segment.inputs], given)
        self._count = self._plan.native.n_steps
        self._begin(threads())

    def _begin(self, threads: int) -> None:
        """Make ready for runs of up to so many threads."""
        _, inputs, outputs = self._kept
        self._workspace.begin(self._plan.native, inputs, outputs, threads)
        self._most = threads

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, np.ndarray]:
        return self._outputs

    def run(self) -> Mapping[str, np.ndarray]:
        """Compute the outputs from what the inputs hold now.

        Returns
        -------
        mapping of str to ndarray
            `outputs`.

        Raises
        ------
        InputError
            Another thread runs it.
        """
        if not self._lock.acquire(blocking=False):
            raise InputError("the binding is in use by another thread", tensor="bind", expected="a binding for each thread")
        try:
            threads = self._threads()
            if threads > self._most:  # the model was given more since
                self._begin(threads)
            self._workspace.run(0, self._count, threads)
            for target, source in self._copies:
                target[...] = source
        finally:
            self._lock.release()
        return self._outputs
