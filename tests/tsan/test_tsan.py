"""ThreadSanitizer on what threads share without the interpreter: the team of helpers, plans' records, the table of handles.

These are C files of their own, so the sanitizer sees every access there is, and a run without a report says that each was ordered
with all others in this run. That the run would show a missing order is shown by taking some away, one at a time.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "cnnengine"
HEADERS = (PACKAGE / "runtime" / "team.h", PACKAGE / "capi_handles.h")
COMPILER = shlex.split(os.environ.get("CC", "")) or ["cc"]
PORTABLE = ["-DCNNENGINE_TEAM_PORTABLE", "-DCNNENGINE_POSIX"]
"""Helpers sleep on condition variables, as they do where there are no futexes."""

RACE = "ThreadSanitizer: data race"


def built(folder: Path, flags: Sequence[str]) -> Path:
    """The program, of the headers in this folder; skips where there is no sanitizer."""
    program = folder / "team"
    command = [*COMPILER, "-std=gnu11", "-g", "-O1", "-fsanitize=thread", "-D_GNU_SOURCE", *flags, f"-I{folder}"]
    probe = folder / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    able = subprocess.run([*command, probe, "-o", folder / "probe"], capture_output=True)
    if able.returncode or subprocess.run([folder / "probe"], capture_output=True).returncode:
        pytest.skip("the compiler has no ThreadSanitizer here")
    done = subprocess.run([*command, HERE / "team.c", "-o", program, "-lpthread"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def run(program: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TSAN_OPTIONS": "exitcode=66 halt_on_error=0"}
    return subprocess.run([program], capture_output=True, text=True, timeout=300, env=env)


@pytest.mark.parametrize("flags", [[], PORTABLE], ids=["futex", "portable"])
def test_no_race(flags: list[str], tmp_path: Path) -> None:
    for header in HEADERS:
        shutil.copy(header, tmp_path)
    program = built(tmp_path, flags)
    for _ in range(3):
        done = run(program)
        assert done.returncode == 0, done.stderr[:6000]
        assert done.stdout.startswith("0 wrong, ") and not done.stdout.startswith("0 wrong, 0 helpers")


WEAKENED = {
    "shares are published": ("team.h", "12 | end, memory_order_release", "12 | end, memory_order_relaxed"),
    "chunks are done": (
        "team.h",
        "atomic_fetch_add(&team.done.word, count)",
        "atomic_fetch_add_explicit(&team.done.word, count, memory_order_relaxed)",
    ),
    "the clock's rate": ("team.h", "static _Atomic uint64_t team_us;", "static uint64_t team_us;"),
    "the lock of handles": ("capi_handles.h", "{ pthread_mutex_lock(&handles.lock); }", "{ }"),
}


@pytest.mark.parametrize("what", WEAKENED)
def test_a_race_would_be_seen(what: str, tmp_path: Path) -> None:
    name, before, after = WEAKENED[what]
    for header in HEADERS:
        text = header.read_text()
        if header.name == name:
            assert text.count(before) == 1, f"{name} is written otherwise by now"
            text = text.replace(before, after)
            if what == "the lock of handles":
                text = text.replace("{ pthread_mutex_unlock(&handles.lock); }", "{ }")
            if what == "the clock's rate":
                text = text.replace("TEAM_GET(team_us)", "team_us").replace(
                    "atomic_store_explicit(&team_us, us ? us : 1, memory_order_relaxed)", "team_us = us ? us : 1"
                )
        (tmp_path / header.name).write_text(text)
    program = built(tmp_path, [])
    # a helper has to come between: so often that it always did
    assert any(RACE in run(program).stderr for _ in range(20))
