"""Jobs that a load hands to threads, and the constants that are packed so: the same bits on any number of threads."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from cnnengine import packing
from cnnengine._kernels import dispatch
from cnnengine._kernels.pack import pack_conv, pack_panels
from cnnengine.layout import aligned_empty
from cnnengine.packing import Panels, Scratch, Slab
from cnnengine.plan import emit
from cnnengine.plan.emit import Emitter
from cnnengine.plan.share import share
from cnnengine.weights import Scaled, Summed, cut


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
    monkeypatch.setattr(packing, "PART", 64)
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
            emitter.constant_buffer(("conv", i), lambda empty, w=w: pack_conv(w, 1, dispatch.lanes(), empty), w.nbytes)  # type: ignore[misc]
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
    emitter.constant_buffer(("one",), lambda _: np.ones(3, np.float32), emit.ALONE + 1)
    emitter.pack(3)
    assert len(slabs) == 3
    made: list[np.ndarray] = []
    for thread in range(3):
        emitter.packed_by(("two",), lambda empty: made.append(empty(5)) or made[-1], thread)  # type: ignore[func-returns-value]
        assert made[-1].base is slabs[thread].floats(1).base


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("factor", [1.0, 0.3])
@pytest.mark.parametrize("o", [1, 31, 32, 33, 65, 128])
def test_panels_in_parts_are_those_of_the_whole(
    transposed: bool, scaled: bool, factor: float, o: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Matrices both ways round, and with numbers per channel that are multiplied while they are packed, in any order."""
    monkeypatch.setattr(packing, "PART", 4 * 7 * 3)
    rng, lanes = np.random.default_rng(o), dispatch.lanes()
    w = rng.standard_normal((o, 7)).astype(np.float32)
    weights: np.ndarray | Scaled = w.T.copy() if transposed else w
    if scaled:
        scale = rng.standard_normal(o)
        weights = Scaled(weights, scale if transposed else scale[:, None])
        w = np.asarray(weights).T if transposed else np.asarray(weights)
    panels = Panels(weights, lanes, transposed=transposed, factor=factor)
    whole = panels(aligned_empty)
    assert (
        whole.tobytes()
        == pack_conv((w if factor == 1 else w * np.float32(factor))[:, :, None], 1, lanes, aligned_empty).tobytes()
    )
    parts = panels.parts(lanes, aligned_empty)
    assert parts is not None or o < 4
    if parts is not None:
        made, jobs = parts
        made[...] = np.nan
        assert len(jobs) == -(-o // (2 * lanes))
        assert sum(job(Scratch()) for job in reversed(jobs)) == w.nbytes
        assert made.tobytes() == whole.tobytes()


@pytest.mark.parametrize("channels", [1, dispatch.lanes()])
def test_panels_of_convolutions_in_parts(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PART", 4)
    rng, lanes = np.random.default_rng(0), dispatch.lanes()
    w = rng.standard_normal((5 * lanes + 3, lanes + 5, 3, 2)).astype(np.float32)
    scaled = Scaled(Scaled(w, rng.standard_normal((len(w), 1, 1, 1))), rng.standard_normal((1, lanes + 5, 1, 1)))
    for weights in (w, scaled):
        panels = Panels(weights, channels)
        parts = panels.parts(lanes, aligned_empty)
        assert parts is not None
        scratch = Scratch()
        for job in parts[1]:
            job(scratch)
        assert (
            parts[0].tobytes()
            == panels(aligned_empty).tobytes()
            == pack_conv(np.asarray(weights), 1, channels, aligned_empty).tobytes()
        )
    assert Panels(w, channels, 2).parts(lanes, aligned_empty) is None


def test_panels_stay_inside() -> None:
    lanes = dispatch.lanes()
    w, out = np.zeros((lanes, 4, 1), np.float32), np.zeros(8 * lanes, np.float32)
    for first in (-2 * lanes, 1, lanes, 2 * lanes):
        with pytest.raises(ValueError, match="pack_panels"):
            pack_panels(w, lanes, out, first)


@pytest.mark.parametrize("kind", ["slices", "channels", "scaled", "nested"])
def test_ranges_of_sums_are_those_of_the_whole(kind: str) -> None:
    """Weights with others added to a part: a range of either axis, computed alone."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((40, 40, 3, 3)).astype(np.float32)
    point = rng.standard_normal((40, 40, 1, 1)).astype(np.float32)
    middle = (slice(None), slice(None), slice(1, 2), slice(1, 2))
    channel = np.arange(40)
    scale = rng.uniform(0.5, 2, (40, 1, 1, 1))
    sums = {
        "slices": Summed(w, middle, point),
        "channels": Summed(w, (channel, channel, 1, 1), rng.standard_normal(40)),
        "scaled": Summed(Scaled(w, scale), middle, Scaled(point, scale)),
        "nested": Scaled(Summed(Summed(w, middle, point), (channel, channel, 1, 1), rng.standard_normal(40)), scale),
    }
    whole = np.asarray(sums[kind])
    for axis, start, end in ((0, 0, 40), (0, 7, 23), (0, 33, 40), (1, 5, 18)):
        want = whole[(slice(None),) * axis + (slice(start, end),)]
        got = cut(sums[kind], axis, start, end)
        assert got.shape == want.shape
        np.testing.assert_array_equal(np.asarray(got), want)
        assert type(got) is type(sums[kind]), "the whole was computed for a part"
