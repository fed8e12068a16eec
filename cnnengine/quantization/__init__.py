"""Static quantisation of a float network by onnxruntime's quantiser, and a report on what it costs and gains.

`static` does all of it and has the report. `samples` reads pictures and arrays, `library` is the one file that knows
onnxruntime's quantiser, `layers` takes a quantised network apart, `judge` runs networks on samples. Nothing of it is imported
before it is used.
"""

from __future__ import annotations

from .static import LayerError, OutputError, Quantization, Trial, quantize

__all__ = ["LayerError", "OutputError", "Quantization", "Trial", "quantize"]
