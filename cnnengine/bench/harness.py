"""Worker processes that take turns, and what stands at the head of a report.

Only the worker whose turn it is runs, the others are stopped by SIGSTOP: threads of an idle engine spin for a while, and would
take the cores from the others. Each worker leads a process group of its own, so that Ctrl-C reaches the parent alone, which ends
the groups: a worker with whatever it started. All stay in the parent's session: what the system shares out by sessions is then
shared by threads, among the engines and with the processes that keep the machine busy.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError

PACKAGE_HOME = Path(__file__).resolve().parents[2]
"""The folder that this cnnengine is imported from."""
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Would put the threads of an engine on one CPU."""


class WorkerError(RuntimeError):
    """A worker could not do what it was asked; the message is the reason in one line."""


class Worker:
    """The parent's side of one worker process; stopped except while it has something to do.

    Parameters
    ----------
    argv : sequence of str
        The command.
    timeout : float
        Seconds that an answer may take.
    environment : mapping, optional
        Variables to set in the process; None takes one away.
    """

    def __init__(self, argv: Sequence[str], timeout: float = 900.0, environment: Mapping[str, str | None] | None = None) -> None:
        variables = dict(os.environ) | {"PYTHONSAFEPATH": "1"}  # the worker's folder must not hide modules of its engine
        for name, value in {**dict.fromkeys(BINDING), **(environment or {})}.items():
            variables.pop(name, None)
            if value is not None:
                variables[name] = value
        self.timeout = timeout
        self._buffer = b""
        self._complaint = b""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(list(argv), stdin=pipe, stdout=pipe, stderr=pipe, env=variables, process_group=0)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **request: Any) -> dict[str, Any]:
        """Wake the worker, send a request, wait for its answer, stop it again."""
        self.send(**request)
        return self.receive()

    def send(self, **request: Any) -> None:
        """Wake the worker and send a request; `receive` must follow."""
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(self._obituary()) from None

    def receive(self) -> dict[str, Any]:
        """Wait for the answer, stop the worker."""
        try:
            answer: dict[str, Any] = json.loads(self._line())
        finally:
            self._signal(signal.SIGSTOP)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        out, err = self._process.stdout.fileno(), self._process.stderr.fileno()
        end = time.monotonic() + self.timeout
        watched = [out, err]
        while b"\n" not in self._buffer:
            ready = select.select(watched, [], [], max(0.0, end - time.monotonic()))[0]
            if not ready:
                raise WorkerError(f"no answer within {self.timeout:.0f} s")
            if err in ready:  # read, so that a talkative engine does not block; the tail is the reason when it dies
                text = os.read(err, 65536)
                self._complaint = (self._complaint + text)[-4000:]
                if not text:
                    watched.remove(err)
            if out in ready:
                data = os.read(out, 65536)
                if not data:
                    raise WorkerError(self._obituary())
                self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _obituary(self) -> str:
        code = self._process.wait(timeout=30)
        complaint = self._complaint
        assert self._process.stderr is not None
        if select.select([self._process.stderr], [], [], 0)[0]:
            complaint += os.read(self._process.stderr.fileno(), 65536)
        last = (complaint.decode(errors="replace").strip().splitlines() or [""])[-1][-300:]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the worker {how}" + (f": {last}" if last else "")

    def close(self) -> None:
        """End the process and its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # reaches stopped processes too
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


_LOOP = """
import os, sys
print(flush=True)
while os.getppid() == int(sys.argv[1]):  # looked after now and then: it must not outlive a parent that was killed
    for _ in range(1_000_000):
        pass
"""


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[list[int]]:
    """Processes beside us that compute without end; their numbers, when all of them do.

    They have our priority and may use every CPU that we may. They stay in our session, as the workers do: the system shares CPUs
    among sessions first, and a worker of several threads in a session of its own would get what one busy process gets.
    """
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(count):
            argv = [sys.executable, "-S", "-c", _LOOP, str(os.getpid())]
            process = subprocess.Popen(argv, process_group=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            stack.enter_context(process.stdout).readline()
        yield [process.pid for process in processes]


def engine_worker(name: str, python: str) -> Worker:
    """A process for one engine of `worker.ENGINES`; cnnengine is this one, also when it runs from a source tree."""
    environment = {}
    if name == "cnnengine":
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.fspath(PACKAGE_HOME), os.environ.get("PYTHONPATH")]))
    elif python != sys.executable:
        environment["PYTHONPATH"] = ""  # of another interpreter's packages
    return Worker([python, os.fspath(Path(__file__).with_name("worker.py")), name], environment=environment)


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith(("model name", "Model")):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


_PROBE = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        found[name] = None
print(json.dumps({"python": sys.version.split()[0], "packages": found}))
"""


def probe(python: str, packages: Sequence[str]) -> dict[str, Any]:
    """Python version of an interpreter and the versions of packages there (None: absent), without importing them.

    Raises
    ------
    InputError
        It does not run.
    """
    environment = dict(os.environ)
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run([python, "-c", _PROBE, *packages], capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise InputError(f"does not run: {error.strerror or error}", tensor=python) from error
    if done.returncode:
        raise InputError(f"does not run: {done.stderr.strip()[-400:]}", tensor=python)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def machine_head() -> dict[str, Any]:
    """CPU, system and load, for the head of a report."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu_model(),
        "cpus": affinity,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }
