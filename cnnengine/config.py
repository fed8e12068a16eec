"""What this build and this machine offer."""

from __future__ import annotations

import platform
import sys

import numpy as np

from ._kernels import dispatch
from .runtime.threads import thread_info


def show_config() -> dict[str, object]:
    """Instruction sets, threads and versions, as a dict.

    Returns
    -------
    dict
        ``version``, ``python``, ``numpy``, ``machine``; the ``compiler`` that built it; ``isa`` in use, ``isas`` that were built
        and run here, ``lanes`` (float32 values of a register), ``bfloat16`` (what ``precision="bfloat16"`` has of it here:
        "products and weights", or "weights"); and what is known of threads: ``threads`` (the default count), where that count
        comes from, and whether the build has OpenMP.
    """
    from . import __version__

    return {
        "version": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "machine": platform.machine(),
        "compiler": dispatch.compiler(),
        "isa": dispatch.current_isa(),
        "isas": dispatch.available_isas(),
        "lanes": dispatch.lanes(),
        "bfloat16": "products and weights" if dispatch.has_pairs() else "weights",
        **thread_info(),
    }
