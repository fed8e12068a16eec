"""The sanitizer build catches a write to forbidden memory: without this the rest of `make sanitize` would prove nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# the second half of y is forbidden ground, and the kernel is not told
WRITE = """
import ctypes
import numpy as np
from cnnengine._kernels import kernel
from cnnengine.layout import View
from cnnengine.operator import Activation
view = View.plain((64,))
launch = kernel("activation").build((view,), (view,), activation=Activation("clip", 0.0, 1.0))
y = np.empty(64, np.float32)
poison = ctypes.CDLL(None).__asan_poison_memory_region
poison.argtypes = ctypes.c_void_p, ctypes.c_size_t
poison(y.ctypes.data + 128, 128)
print("poisoned", flush=True)
launch(np.ones(64, np.float32), y)
print("survived")
"""


@pytest.mark.skipif(os.environ.get("CNNENGINE_SANITIZE") != "1", reason="only in the sanitizer build: make sanitize")
def test_a_write_to_forbidden_memory_is_caught() -> None:
    done = subprocess.run([sys.executable, "-c", WRITE], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert done.stdout == "poisoned\n"
    assert "AddressSanitizer: use-after-poison" in done.stderr
    assert "WRITE of size" in done.stderr
