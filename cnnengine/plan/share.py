"""share: jobs of a load, handed out to threads that live as long as they take.

The team of `runtime.threads` runs steps without the interpreter; packing is Python around long stretches that let go of the GIL
(kernels that pack, NumPy's copies), so plain threads serve, and need no care at forks and at the interpreter's exit: they are
joined before `share` returns, and a child lacks them as it lacks the thread that loads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence


def share(jobs: Sequence[Callable[[int], None]], threads: int) -> None:
    """Call every job once with the number of the thread that it runs on, 0 for the caller's; begun in their order.

    Raises the error of a job; those that were not begun by then are left out.
    """
    left = deque(jobs)
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            while True:
                try:
                    job = left.popleft()
                except IndexError:
                    return
                job(thread)
        except BaseException as error:
            left.clear()
            if thread == 0:
                raise
            errors.append(error)

    helpers: list[threading.Thread] = []
    try:
        for thread in range(1, min(threads, len(jobs))):
            helper = threading.Thread(target=work, args=(thread,), name=f"cnnengine load {thread}")
            try:
                helper.start()
            except RuntimeError:  # no more threads, or the interpreter is ending
                break
            helpers.append(helper)
        work(0)
    finally:
        left.clear()  # an interrupt may come anywhere
        for helper in helpers:
            helper.join()
    if errors:
        raise errors[0]
