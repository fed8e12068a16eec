"""cnnengine beside other engines on the same machine in the same minutes: the command `cnnengine bench` as data.

>>> from cnnengine.bench import Case, Comparison
>>> comparison = Comparison(against=["onnxruntime"], threads=1, seconds=2)      # doctest: +SKIP
>>> figures = comparison.measure(Case("model.onnx"))                            # doctest: +SKIP
"""

from __future__ import annotations

from .compare import PEERS, USUAL, Case, Comparison, distinct
from .environments import set_up
from .harness import Worker, WorkerError
from .show import head_text, overall_text, plot, record_text
from .verdict import overall

__all__ = [
    "PEERS",
    "USUAL",
    "Case",
    "Comparison",
    "Worker",
    "WorkerError",
    "distinct",
    "head_text",
    "overall",
    "overall_text",
    "plot",
    "record_text",
    "set_up",
]
