"""Memory of runs: given back, grown, refused; what is left after a piece of it could not be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnengine
from cnnengine.model import inside
from cnnengine.runtime.runner import SMALL_ARENA, UNNEEDED_CALLS

LENET = Path(__file__).resolve().parents[2] / "models" / "digits_lenet.onnx"


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 1, 32, 32)).astype(np.float32)


def arenas(model: cnnengine.Model) -> list[int]:
    return inside(model).program.workspaces.arenas()


def test_trim_gives_back_what_runs_have_taken() -> None:
    model = cnnengine.load(LENET, threads=1)
    want = model(images(4))
    model(images(2000))
    assert max(arenas(model)) > 1 << 20
    assert len(inside(model).program.segments()) > 1
    model.trim()
    assert arenas(model) == [] and len(inside(model).program.segments()) == 1
    assert np.array_equal(model(images(4)), want)
    model.close()
    with pytest.raises(cnnengine.ClosedError):
        model.trim()


def test_an_arena_far_larger_than_needed_goes_after_some_calls() -> None:
    model = cnnengine.load(LENET, threads=1)
    want = model(images(4))
    large = 100
    while not arenas(model) or max(arenas(model)) <= SMALL_ARENA:
        large *= 4
        model(images(large))
    size = max(arenas(model))
    for _ in range(UNNEEDED_CALLS - 1):
        assert np.array_equal(model(images(4)), want)
    assert max(arenas(model)) == size, "a large batch may come again soon"
    model(images(large))
    for _ in range(UNNEEDED_CALLS - 1):
        model(images(4))
    assert max(arenas(model)) == size, "the calls are counted from the last one that needed it"
    for _ in range(2):
        assert np.array_equal(model(images(4)), want)
    assert max(arenas(model)) < size // 4


def test_an_arena_that_is_needed_stays() -> None:
    model = cnnengine.load(LENET, threads=1)
    large = 100
    while not arenas(model) or max(arenas(model)) <= SMALL_ARENA:
        large *= 4
        model(images(large))
    size = max(arenas(model))
    for _ in range(3):
        model(images(large // 2))
        for _ in range(UNNEEDED_CALLS // 2):
            model(images(4))
    assert max(arenas(model)) == size


NO_MEMORY = """
import resource
import numpy as np
import cnnengine

model = cnnengine.load({lenet!r}, threads=1)
x = np.random.default_rng(0).standard_normal((4, 1, 32, 32)).astype(np.float32)
want = model(x)
large = np.zeros((20000, 1, 32, 32), np.float32)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (60 << 20), resource.RLIM_INFINITY))
try:
    model(large)
    print("ran", end=" ")
except MemoryError:
    print("refused", end=" ")
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
# arrays of somebody else, where the arena was
others = [np.zeros(n, np.uint8) for n in (1000, 4000, 16000, 64000, 100000, 120000) for _ in range(20)]
wrong = sum(not np.array_equal(model(x), want) for _ in range(50))
print(wrong, sum(bool(a.any()) for a in others))
"""


def test_a_run_without_memory_leaves_nothing_behind() -> None:
    script = NO_MEMORY.format(lenet=str(LENET))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused", "0", "0"]


FAILING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Memory functions that fail once, at the n-th call out of the package's compiled modules. */
static long left = -1, count;
void fail_at(long n) { left = n; count = 0; }
long calls(void) { return count; }

static int fails(void *caller)
{
    Dl_info from;
    if (left < 0 || !dladdr(caller, &from) || !from.dli_fname || !strstr(from.dli_fname, "/cnnengine/"))
        return 0;
    count++;
    return left-- == 0;
}
#define NEXT(type, name) static type next; if (!next) next = (type)dlsym(RTLD_NEXT, name)
int posix_memalign(void **p, size_t a, size_t n)
{
    typedef int (*f)(void **, size_t, size_t);
    NEXT(f, "posix_memalign");
    return fails(__builtin_return_address(0)) ? ENOMEM : next(p, a, n);
}
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *malloc(size_t n) { return left >= 0 && fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return left >= 0 && fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return left >= 0 && fails(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n); }
"""

EACH = """
import ctypes, sys
import numpy as np
import cnnengine
import cnnengine.capi

shim = ctypes.CDLL(sys.argv[1])
rng = np.random.default_rng(0)
x = [rng.standard_normal((n, 1, 32, 32)).astype(np.float32) for n in (2, 3)]
want = [cnnengine.load(sys.argv[2], threads=2)(a) for a in x]
failures = wrong = 0
others = set()
at = 0
while True:
    model = None
    shim.fail_at(ctypes.c_long(at))
    try:
        model = cnnengine.load(sys.argv[2], threads=2)
        got = [model(a) for a in x]
        loop = model.bind({"image": x[0]})
        loop.run()
        calls = shim.calls()
        shim.fail_at(ctypes.c_long(-1))
        wrong += not all(map(np.array_equal, got, want))
        if calls <= at:  # there are no more
            break
    except (MemoryError, cnnengine.CNNEngineError):
        failures += 1
    except Exception as error:
        others.add(f"{type(error).__name__}: {error}")
    shim.fail_at(ctypes.c_long(-1))
    if model is not None:
        wrong += not all(np.array_equal(model(a), b) for a, b in zip(x, want))
    at += 1
print(at, failures, wrong, sorted(others))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is Linux's")
def test_each_allocation_may_fail(tmp_path: Path) -> None:
    """Every piece of memory that a load, two shapes and a binding ask for is refused in turn; all goes on as before."""
    (tmp_path / "failing.c").write_text(FAILING)
    shim = tmp_path / "failing.so"
    built = subprocess.run(
        [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", shim, tmp_path / "failing.c", "-ldl"],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run(
        [sys.executable, "-c", EACH, shim, LENET],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "LD_PRELOAD": str(shim)},
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-3000:]}"
    calls, failures, wrong, others = done.stdout.split(maxsplit=3)
    assert int(calls) > 40, "allocations of the package's modules are not seen"
    assert int(failures) > 20 and int(wrong) == 0 and others.strip() == "[]", done.stdout
