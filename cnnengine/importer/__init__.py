"""From an ONNX file to a Graph: `read` gives the protobuf, `import_model` the graph.

Beside `ops/fallback.py` this folder alone knows ONNX protobufs; onnx is imported when a model is read, not before.
"""

from __future__ import annotations

from .graphs import import_model
from .reader import read

__all__ = ["import_model", "read"]
