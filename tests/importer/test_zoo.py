"""Every file of the zoo (or of tests/zoo) becomes a graph; weights are zeros here, only the import is tested."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnengine.importer import import_model, read
from cnnengine.importer.reader import _all_tensors, tensor_bytes
from cnnengine.rewrites import simplify

FOLDER = Path(os.environ.get("CNNENGINE_ZOO") or Path(__file__).parent.parent / "zoo")
FILES = sorted(FOLDER.glob("*.onnx"))


@pytest.mark.skipif(not FILES, reason="there is no zoo: set CNNENGINE_ZOO")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_zoo_imports(path: Path) -> None:
    proto = read(path)
    for tensor in _all_tensors(proto):
        if tensor.doc_string.startswith("fill:"):
            size = tensor_bytes(tensor)
            assert size is not None
            tensor.raw_data = bytes(size)
    graph = import_model(proto, name=path.name)
    assert graph.nodes
    assert graph.outputs
    initializers = {t.name for t in proto.graph.initializer}
    assert list(graph.inputs) == [v.name for v in proto.graph.input if v.name not in initializers]
    smaller = simplify(graph)
    assert list(smaller.outputs) == list(graph.outputs)
    assert len(smaller.nodes) <= len(graph.nodes) + len(graph.outputs)
    assert not {"Identity", "Dropout"} & {n.op.op_type for n in smaller.nodes if n.outputs[0] not in graph.outputs}
