"""Jobs that a load hands to threads, and the constants that are packed so: the same bits on any number of threads."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from cnnengine._kernels import dispatch
from cnnengine._kernels.conv import Slab, pack_conv
from cnnengine.runtime import emit
from cnnengine.runtime.emit import Emitter
from cnnengine.runtime.share import share


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("jobs", [0, 1, 2, 40])
def test_every_job_runs_once(threads: int, jobs: int) -> None:
    ran: list[tuple[int, int]] = []
    before = threading.active_count()
    share([lambda thread, i=i: ran.append((i, thread)) for i in range(jobs)], threads)  # type: ignore[misc]
    assert sorted(i for i, _ in ran) == list(range(jobs))
    assert {thread for _, thread in ran} <= set(range(threads))
    assert threading.active_count() == before


def test_jobs_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=60)
    share([lambda _: both.wait()] * 2, 2)  # type: ignore[list-item]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_ends_it(failing: int) -> None:
    """Of the caller's job or another thread's: it is raised when all threads are done, and what was not begun is left out."""
    ran, both = [], threading.Barrier(2, timeout=60)

    def job(thread: int) -> None:
        both.wait()
        if thread == failing:
            raise KeyError(thread)
        time.sleep(0.2)

    with pytest.raises(KeyError, match=str(failing)):
        share([job, job, *[lambda _: ran.append(1)] * 20], 2)  # type: ignore[list-item]
    assert not ran
    assert not [t for t in threading.enumerate() if t.name.startswith("cnnengine load")]


def test_without_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system or an ending interpreter refuses threads, the caller does it all."""

    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    ran: list[int] = []
    share([ran.append] * 9, 4)
    assert ran == [0] * 9


def test_constants_have_the_same_bits(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(emit, "ALONE", 0)
    monkeypatch.setattr(emit, "PART", 64)
    path, rng = f"{tmp_path}/weights", np.random.default_rng(0)
    rng.standard_normal(5001).astype(np.float32).tofile(path)
    import mmap

    with open(path, "rb") as file:
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.float32)
    weights = [rng.standard_normal((48, 24, 3, 3)).astype(np.float32) for _ in range(30)]
    found = []
    for threads in (1, 4):
        packed: dict[tuple[object, ...], np.ndarray] = {}
        heard: list[int] = []
        emitter = Emitter(dispatch.lanes(), packed, on_pack=heard.append, slabs=[])  # type: ignore[arg-type]
        for i, w in enumerate(weights):
            emitter.constant_buffer(("conv", i), lambda w=w: pack_conv(w, 1, dispatch.lanes()), w.nbytes)  # type: ignore[misc]
        emitter.plain_constant("mapped", mapped)
        assert not packed
        emitter.pack(threads)
        assert len(packed) == 31
        assert sum(heard) == sum(a.nbytes for a in packed.values())
        assert all(a.ctypes.data % 64 == 0 for a in packed.values())
        found.append({key: a.tobytes() for key, a in packed.items()})
        assert all(buffer.array is not None and buffer.shape == buffer.array.shape for buffer, _, _ in emitter.builds)
    assert found[0] == found[1]
    assert found[0]["plain", "mapped"] == mapped.tobytes()


def test_threads_pack_into_slabs_of_their_own() -> None:
    slabs: list[Slab] = []
    emitter = Emitter(dispatch.lanes(), {}, slabs=slabs)
    emitter.constant_buffer(("one",), lambda: np.ones(3, np.float32), emit.ALONE + 1)
    emitter.pack(3)
    assert len(slabs) == 3
