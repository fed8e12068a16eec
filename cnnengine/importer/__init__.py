"""From an ONNX file to a Graph: `open_model` gives a Source, `read` the protobuf, `import_model` the graph.

Beside `ops/fallback.py` this folder alone knows ONNX protobufs. Most files are read by `wire`; onnx is imported when a model
needs it (functions, fallbacks, element types that NumPy lacks), not before.
"""

from __future__ import annotations

from .graphs import import_model
from .reader import Source, external_files, open_model, read, reading

__all__ = ["Source", "external_files", "import_model", "open_model", "read", "reading"]
