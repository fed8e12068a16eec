"""cnnengine beside other engines on the same machine in the same minutes: the command `cnnengine bench` as data.

>>> from cnnengine.bench import Case, Comparison
>>> comparison = Comparison(against=["onnxruntime"], threads=1, seconds=2)      # doctest: +SKIP
>>> figures = comparison.measure(Case("model.onnx"))                            # doctest: +SKIP
"""

from __future__ import annotations

from .compare import PEERS, Case, Comparison, overall
from .harness import Worker, WorkerError
from .show import head_text, plot, record_text

__all__ = ["PEERS", "Case", "Comparison", "Worker", "WorkerError", "head_text", "overall", "plot", "record_text"]
