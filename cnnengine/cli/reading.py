"""Files read ahead: threads decode pictures while the network runs, results come in the order of the files.

Pillow holds no lock while it decodes and resizes. So many files are ahead at most, whatever their number: what they hold is what
memory it takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Ahead(Generic[T, R]):
    """Items, each with a function that gives what was read of it, or raises what reading it raised.

    Parameters
    ----------
    items : iterable
    read : function of an item
        Called in another thread, unless there are none.
    threads : int
        0 reads when the function is called.
    most : int
        Items that are read before they are asked for.
    """

    def __init__(self, items: Iterable[T], read: Callable[[T], R], threads: int, most: int) -> None:
        self._items = items
        self._read = read
        self._most = max(most, 1)
        self._pool = ThreadPoolExecutor(threads, "cnnengine-reader") if threads else None

    def __iter__(self) -> Iterator[tuple[T, Callable[[], R]]]:
        waiting: deque[tuple[T, Future[R]]] = deque()
        for item in self._items:
            if self._pool is None:
                yield item, lambda item=item: self._read(item)  # type: ignore[misc]
                continue
            waiting.append((item, self._pool.submit(self._read, item)))
            if len(waiting) > self._most:
                first, future = waiting.popleft()
                yield first, future.result
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result

    def close(self) -> None:
        """Wait for what is being read, and read no more."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
