"""From an ONNX file to a Graph: `open_model` gives a Source, `read` the protobuf, `import_model` the graph.

Beside `ops/fallback.py` this folder alone knows ONNX protobufs. Files are read by `wire`, without the onnx package: that is
needed for a ModelProto, for nodes that run through onnx.reference and for operators that ONNX writes by others.
"""

from __future__ import annotations

from .graphs import import_model
from .reader import Source, external_files, open_model, read, reading

__all__ = ["Source", "external_files", "import_model", "open_model", "read", "reading"]
