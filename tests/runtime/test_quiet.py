"""The collector of cyclic garbage is paused while a model is loaded, and only then."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import pytest

import cnnengine
from cnnengine.errors import ModelError
from cnnengine.runtime.quiet import collector_paused

MODEL = Path(__file__).resolve().parents[2] / "models" / "digits_spp.onnx"


def test_paused_and_resumed() -> None:
    assert gc.isenabled()
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_whoever_ends_last_resumes() -> None:
    first, second = collector_paused(), collector_paused()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        cnnengine.load(MODEL)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_after_a_load_that_fails() -> None:
    with pytest.raises(ModelError):
        cnnengine.load(b"no model")
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_made_while_another_thread_loads() -> None:
    inside, end = threading.Event(), threading.Event()

    def load() -> None:
        with collector_paused():
            inside.set()
            end.wait(60)

    thread = threading.Thread(target=load)
    thread.start()
    inside.wait(60)
    child = os.fork()
    if child == 0:
        right = gc.isenabled()
        with collector_paused():
            right = right and not gc.isenabled()
        os._exit(0 if right and gc.isenabled() else 3)
    end.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert gc.isenabled()
