"""Models in processes that fork, spawn and share: each case a program with a time limit, since what is feared is a hang."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from cnnengine._kernels import dispatch

ROOT = Path(__file__).resolve().parents[2]
START = f"""
import os, sys, time, threading, pickle, multiprocessing
import numpy as np
import cnnengine
import cnnengine.functional as F

MODEL = {str(ROOT / "models" / "digits_spp.onnx")!r}
rng = np.random.default_rng(0)
x = rng.standard_normal((1, 1, 64, 64)).astype(np.float32)
big = rng.standard_normal((1, 32, 56, 56)).astype(np.float32)
w = rng.standard_normal((32, 32, 3, 3)).astype(np.float32)


def check(pid):
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
"""


def program(text: str, *, seconds: float = 300, first: str = "", **variables: str) -> str:
    """Run it with 2 threads, whatever the machine has; what it printed."""
    env = {**os.environ, "CNNENGINE_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **variables}
    done = subprocess.run([sys.executable, "-c", first + START + text], capture_output=True, text=True, timeout=seconds, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_hundred_forks_after_a_prediction() -> None:
    """Parent and child predict at 2 threads after each fork, by the plan's team and by the layers' OpenMP."""
    printed = program(
        """
model = cnnengine.load(MODEL)
expected, layer = model(x), F.conv2d(big, w, pads=1)
for _ in range(100):
    pid = os.fork()
    if pid == 0:
        same = np.array_equal(model(x), expected) and np.array_equal(F.conv2d(big, w, pads=1), layer)
        os._exit(0 if same else 3)
    assert np.array_equal(model(x), expected) and np.array_equal(F.conv2d(big, w, pads=1), layer)
    check(pid)
print("done")
"""
    )
    assert printed == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_hundred_forks_made_in_c() -> None:
    """A C library that forks calls none of Python's handlers: those of the team and of the handles are pthread_atfork's."""
    printed = program(
        """
import ctypes
libc = ctypes.PyDLL(None)
model = cnnengine.load(MODEL)
expected, layer = model(x), F.conv2d(big, w, pads=1)
for _ in range(100):
    pid = libc.fork()
    if pid == 0:
        same = np.array_equal(model(x), expected) and np.array_equal(F.conv2d(big, w, pads=1), layer)
        libc._exit(0 if same else 3)
    assert np.array_equal(model(x), expected)
    check(pid)
print("done")
"""
    )
    assert printed == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_workers_forked_from_a_server_that_loaded_the_model() -> None:
    """As servers do that load first and fork then: several workers alive at once, each with threads of its own, forking again."""
    printed = program(
        """
model = cnnengine.load(MODEL)
expected = model(x)
pids = []
for worker in range(4):
    pid = os.fork()
    if pid == 0:
        wrong = []
        def work():
            for _ in range(10):
                if not np.array_equal(model(x), expected):
                    wrong.append(1)
        threads = [threading.Thread(target=work) for _ in range(3)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(model(x), expected) else 3)
        _, status = os.waitpid(child, 0)
        os._exit(0 if not wrong and status == 0 else 3)
    pids.append(pid)
    assert np.array_equal(model(x), expected)
[check(pid) for pid in pids]
print("done")
"""
    )
    assert printed == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_hundred_forks_while_another_thread_predicts_and_plans() -> None:
    """The child uses the very model whose locks and team a thread that it lacks may have held, with shapes old and new."""
    printed = program(
        """
import itertools
model = cnnengine.load(MODEL)
expected = model(x)
sizes = [x[:, :, :n, :m].copy() for n in range(24, 64, 3) for m in range(24, 64, 3)]
fresh = sizes.pop()
wanted = cnnengine.load(MODEL)(fresh)
stop = threading.Event()
def work():
    for image in itertools.cycle(sizes):    # more shapes than plans are kept: it plans all the time
        model(image)
        if stop.is_set():
            break
threads = [threading.Thread(target=work) for _ in range(2)]
[t.start() for t in threads]
for _ in range(100):
    pid = os.fork()
    if pid == 0:
        same = np.array_equal(model(x), expected) and np.array_equal(model(fresh), wanted)
        other = cnnengine.load(MODEL)
        os._exit(0 if same and np.array_equal(other(x), expected) else 3)
    assert np.array_equal(model(x), expected)
    check(pid)
stop.set()
[t.join() for t in threads]
print("done")
"""
    )
    assert printed == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_server_that_preloads_and_replaces_its_workers() -> None:
    """As gunicorn does with --preload and --max-requests: the master loads and predicts, workers answer a few requests and are
    replaced, a hundred in all, four at a time; both sides work on two threads."""
    printed = program(
        """
import select, struct
model = cnnengine.load(MODEL)
images = [rng.standard_normal((1 + i % 2, 1, 40 + 8 * i, 48)).astype(np.float32) for i in range(5)]
expected = [model(image) for image in images]
layer = F.conv2d(big, w, pads=1)

def serve(requests, answers):
    for _ in range(4):
        number, = struct.unpack("i", os.read(requests, 4))
        right = np.array_equal(model(images[number]), expected[number]) and np.array_equal(F.conv2d(big, w, pads=1), layer)
        os.write(answers, struct.pack("i", number if right else -1))

def start():
    ours, theirs = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        serve(ours[0], theirs[1])
        os._exit(0)
    os.close(ours[0])
    os.close(theirs[1])
    return pid, ours[1], theirs[0], [0]

workers, made, answered = [start() for _ in range(4)], 4, 0
for _, to, _, _ in workers:
    os.write(to, struct.pack("i", 0))
while workers:
    ready, _, _ = select.select([answer for _, _, answer, _ in workers], [], [])
    for worker in [w for w in workers if w[2] in ready]:
        pid, to, answer, served = worker
        number, = struct.unpack("i", os.read(answer, 4))
        assert number == served[0] % 5, number
        served[0] += 1
        answered += 1
        if answered % 7 == 0:
            assert np.array_equal(model(images[0]), expected[0])
        if served[0] < 4:
            os.write(to, struct.pack("i", served[0] % 5))
            continue
        check(pid)
        os.close(to)
        os.close(answer)
        workers.remove(worker)
        if made < 100:
            made += 1
            workers.append(start())
            os.write(workers[-1][1], struct.pack("i", 0))
assert np.array_equal(model(images[1]), expected[1])
print(made, answered)
"""
    )
    assert printed == "100 400\n"


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_hundred_processes_of_multiprocessing(method: str, tmp_path: Path) -> None:
    """One process a task. The fork server itself has loaded the model and predicted: every process is forked from that."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    (tmp_path / "served.py").write_text(
        START
        + """
model = cnnengine.load(MODEL)
expected = model(x)
layer = F.conv2d(big, w, pads=1)
loaded_by = os.getpid()

def work(number):
    assert os.getpid() != loaded_by, "a model of the process itself"
    return np.array_equal(model(x), expected) and np.array_equal(F.conv2d(big, w, pads=1), layer)
"""
    )
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import multiprocessing
import numpy as np

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    context.set_forkserver_preload(["served"]) if {method!r} == "forkserver" else None
    import served
    assert np.array_equal(served.model(served.x), served.expected)
    with context.Pool(2, maxtasksperchild=1) as pool:
        results = pool.imap_unordered(served.work, range(100), chunksize=1)
        done = 0
        for right in results:
            assert right
            done += 1
            if done % 10 == 0:
                assert np.array_equal(served.model(served.x), served.expected)
    print(done)
"""
    )
    paths = [os.fspath(tmp_path), *(p for p in sys.path if p)]
    env = {**os.environ, "CNNENGINE_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "100\n"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_and_pickles(method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        START
        + f"""
from concurrent.futures import ProcessPoolExecutor

def predict(model, array):
    return model(array)

if __name__ == "__main__":
    model = cnnengine.load(MODEL)
    expected = model(x)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context({method!r})) as pool:
        results = list(pool.map(predict, [model] * 4, [x] * 4))
    assert all(np.array_equal(r, expected) for r in results)
    print("done")
"""
    )
    env = {**os.environ, "CNNENGINE_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "done\n"


def test_pickles_move_between_instruction_sets(tmp_path: Path) -> None:
    """A model pickled under one instruction set answers alike under every other, within rounding."""
    isas = dispatch.available_isas()
    program(
        f"""
model = cnnengine.load(MODEL, threads=1)
pickle.dump((model, model(x)), open({str(tmp_path / "model.pickle")!r}, "wb"))
""",
        CNNENGINE_ISA=isas[0],
    )
    for isa in isas:
        printed = program(
            f"""
model, expected = pickle.load(open({str(tmp_path / "model.pickle")!r}, "rb"))
assert model.isa == {isa!r} and model.threads == 1
np.testing.assert_allclose(model(x), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
print("done")
""",
            CNNENGINE_ISA=isa,
        )
        assert printed == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_beside_numpys_blas() -> None:
    """NumPy's own threads run before, between and after, in parent and child."""
    printed = program(
        """
a = rng.standard_normal((400, 400))
product = a @ a
model = cnnengine.load(MODEL)
expected = model(x)
for _ in range(100):
    pid = os.fork()
    if pid == 0:
        same = np.allclose(a @ a, product) and np.array_equal(model(x), expected)
        os._exit(0 if same else 3)
    assert np.allclose(a @ a, product) and np.array_equal(model(x), expected)
    check(pid)
print("done")
"""
    )
    assert printed == "done\n"


@pytest.mark.parametrize("first", ["torch", "cnnengine"])
def test_beside_torch(first: str) -> None:
    """Torch's OpenMP runtime and this build's, in either order of import: both compute right on 2 threads, one after another
    and at once, and forked children go on predicting."""
    pytest.importorskip("torch")
    printed = program(
        """
import torch
torch.set_num_threads(2)
model = cnnengine.load(MODEL)
expected = model(x)
layer = F.conv2d(big, w, pads=1)
t, weights = torch.from_numpy(big), torch.from_numpy(w)
conv = torch.nn.functional.conv2d(t, weights, padding=1)
for _ in range(20):
    assert np.array_equal(model(x), expected)
    assert np.array_equal(F.conv2d(big, w, pads=1), layer)
    assert torch.equal(torch.nn.functional.conv2d(t, weights, padding=1), conv)
np.testing.assert_allclose(F.conv2d(t, weights, pads=1), conv.numpy(), rtol=0, atol=1e-4 * float(conv.abs().max()))
out = torch.empty(expected.shape)
assert model.run(None, {model.inputs[0].name: torch.from_numpy(x)}, out=[out])[0] is out
assert np.array_equal(out.numpy(), expected)
wrong = []
def by_torch():
    for _ in range(20):
        if not torch.equal(torch.nn.functional.conv2d(t, weights, padding=1), conv):
            wrong.append("torch")
def by_us():
    for _ in range(20):
        if not (np.array_equal(model(x), expected) and np.array_equal(F.conv2d(big, w, pads=1), layer)):
            wrong.append("cnnengine")
threads = [threading.Thread(target=f) for f in (by_torch, by_us, by_us)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not wrong, wrong
if hasattr(os, "fork"):
    for _ in range(100):
        pid = os.fork()
        if pid == 0:    # torch's own threads are gone here, and torch does not make them again
            same = np.array_equal(model(x), expected) and np.array_equal(F.conv2d(big, w, pads=1), layer)
            os._exit(0 if same else 3)
        assert np.array_equal(model(x), expected)
        assert torch.equal(torch.nn.functional.conv2d(t, weights, padding=1), conv)
        check(pid)
try:
    import threadpoolctl
except ImportError:
    pass
else:
    from cnnengine.runtime.threads import limited_threads
    with threadpoolctl.threadpool_limits(1):
        assert torch.get_num_threads() == 1 and limited_threads(2) == 1
        assert np.array_equal(model(x), expected)
    assert torch.get_num_threads() == 2 and limited_threads(2) == 2
    # torch's wheels bring a libgomp of the system's name: then the process has one, and its limits hold for both
    runtimes = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "openmp"]
    torch.set_num_threads(1)
    assert limited_threads(2) == (1 if len(runtimes) == 1 else 2), runtimes
    with cnnengine.load(MODEL, threads=2) as given:
        assert np.array_equal(given(x), expected)
print("done")
""",
        seconds=300,
        first=f"import {first}\n",
    )
    assert printed == "done\n"


def test_the_interpreter_runs_on_while_a_model_does() -> None:
    """A thread that counts goes on counting during a long run: the GIL is free."""
    printed = program(
        """
from onnx import helper, TensorProto
nodes = [helper.make_node("Conv", [f"t{i}", "w"], [f"t{i + 1}"], pads=[1, 1, 1, 1]) for i in range(40)]
info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 32, 224, 224]) for n in ("t0", "t40")]
weights = helper.make_tensor("w", TensorProto.FLOAT, w.shape, (w / 300).tobytes(), raw=True)
graph = helper.make_graph(nodes, "g", info[:1], info[1:], [weights])
m = cnnengine.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), threads=1)
image = np.ones((1, 32, 224, 224), np.float32)
m(image)
counts, stop, during = [0], threading.Event(), []
def count():
    while not stop.is_set():
        counts[0] += 1
        time.sleep(0.0005)
thread = threading.Thread(target=count)
thread.start()
started = time.perf_counter()
before = counts[0]
m(image)
during.append(counts[0] - before)
seconds = time.perf_counter() - started
stop.set()
thread.join()
print(during[0], seconds)
assert during[0] >= 5
"""
    )
    assert int(printed.split()[0]) >= 5


def test_idle_helpers_use_no_cpu() -> None:
    printed = program(
        """
model = cnnengine.load(MODEL)
for _ in range(50):
    model(x)
time.sleep(0.2)
before = time.process_time()
time.sleep(1.0)
print(time.process_time() - before)
"""
    )
    assert float(printed) < 0.02


def test_limits_set_by_threadpoolctl_hold() -> None:
    pytest.importorskip("threadpoolctl")
    printed = program(
        """
import threadpoolctl
from cnnengine.runtime.threads import limited_threads
model = cnnengine.load(MODEL)
assert (limited_threads(2), limited_threads(1)) == (2, 1)
with threadpoolctl.threadpool_limits(1, user_api="openmp"):
    assert limited_threads(2) == 1
    model(x)
    seen = []
    other = threading.Thread(target=lambda: seen.append(limited_threads(2)))
    other.start()
    other.join()
assert limited_threads(2) == 2
print("done")
"""
    )
    assert printed == "done\n"


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python")
def test_no_module_turns_the_gil_on() -> None:
    printed = program(
        """
import importlib, pkgutil, warnings
warnings.simplefilter("error")
found = [m.name for m in pkgutil.walk_packages(cnnengine.__path__, "cnnengine.") if "__main__" not in m.name]
compiled = [importlib.import_module(name) for name in found]
compiled = [m.__name__ for m in compiled if m.__file__.endswith(".so")]
assert {"cnnengine.capi", "cnnengine.runtime.threads", "cnnengine._kernels.dispatch"} <= set(compiled)
model = cnnengine.load(MODEL)
model(x)
print(len(compiled), sys._is_gil_enabled())
""",
        PYTHON_GIL="",
    )
    assert printed.split()[1] == "False" and int(printed.split()[0]) > 13


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks_while_threads_load() -> None:
    """Loads that hand packing to threads: several at once, and children of that moment that load, too."""
    printed = program(
        """
from cnnengine.plan import emit
emit.ALONE = 0
expected = cnnengine.load(MODEL, threads=3)(x)
stop, wrong = threading.Event(), []
def work():
    while not stop.is_set():
        if not np.array_equal(cnnengine.load(MODEL, threads=3)(x), expected):
            wrong.append(1)
threads = [threading.Thread(target=work) for _ in range(2)]
[t.start() for t in threads]
for _ in range(60):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if np.array_equal(cnnengine.load(MODEL, threads=3)(x), expected) else 3)
    check(pid)
stop.set()
[t.join() for t in threads]
print("wrong" if wrong else "done")
"""
    )
    assert printed == "done\n"


def test_the_end_of_the_interpreter_while_a_thread_loads() -> None:
    """A daemon thread is in the middle of a load, or begins one, when the interpreter ends: no hang, no crash."""
    for pause in (0.0, 0.005, 0.02):
        program(
            f"""
from cnnengine.plan import emit
emit.ALONE = 0
def work():
    while True:
        cnnengine.load(MODEL, threads=3)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.1 + {pause})
"""
        )
