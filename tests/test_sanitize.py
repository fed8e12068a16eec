"""The sanitizer build catches a write outside a buffer: without this the rest of `make sanitize` would prove nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(os.environ.get("CNNENGINE_SANITIZE") != "1", reason="only in the sanitizer build: make sanitize")
def test_a_planted_overflow_is_caught() -> None:
    code = "from cnnengine._kernels import dispatch; dispatch.planted_overflow(); print('survived')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "survived" not in done.stdout
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
    assert "WRITE of size" in done.stderr
