"""Each (operator, version) pair of the fallback's table against ONNX's own node cases.

The suite has cases for an operator's newest version. Where later versions only added element types, attributes or
inputs, the cases that are valid under the older version's schema must hold for it too: they are run again under it.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cnnengine.errors import InputError, UnsupportedOperatorError
from cnnengine.importer import import_model
from cnnengine.ops import lookup
from cnnengine.ops.fallback import ALLOWED, CHECKED, Fallback, refusal
from cnnengine.spec import TensorSpec

PAIRS = sorted((op, v, domain) for (domain, op), versions in ALLOWED.items() for v in versions)
Case = tuple[str, onnx.NodeProto, list[Any], list[np.ndarray]]


@cache
def cases() -> dict[tuple[str, str], list[tuple[int, Case]]]:
    """(domain, operator) -> (version, case) of the node suite; made in memory, which takes a while."""
    from onnx.backend.test.case.node import collect_testcases

    found: dict[tuple[str, str], list[tuple[int, Case]]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        suite = collect_testcases(None)
    for case in suite:
        nodes, opsets = case.model.graph.node, {o.domain: o.version for o in case.model.opset_import}
        if len(nodes) != 1 or (nodes[0].domain, nodes[0].op_type) not in ALLOWED:
            continue
        key = (nodes[0].domain, nodes[0].op_type)
        version = onnx.defs.get_schema(key[1], opsets[key[0]], key[0]).since_version
        for inputs, outputs in case.data_sets:
            entry = (case.name, nodes[0], [array(v) for v in inputs], [array(v) for v in outputs])
            found.setdefault(key, []).append((version, entry))
    return found


def array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def as_version(case: Case, version: int) -> Case | None:
    """The case as a file of an older version would have it; None where that version cannot say it."""
    name, source, inputs, outputs = case
    node = onnx.NodeProto()
    node.CopyFrom(source)
    kept = []
    for a in node.attribute:
        kept.append(helper.make_attribute(a.name, helper.get_attribute_value(a)))
    del node.attribute[:]
    node.attribute.extend(kept)
    if node.op_type == "Resize" and version == 11 and len(node.input) > 1 and not node.input[1]:
        node.input[1] = "roi"
        inputs = [inputs[0], np.zeros(0, np.float32), *inputs[1:]]
        if len(node.input) > 2 and not node.input[2]:
            node.input[2] = "scales"
            inputs.insert(2, np.zeros(0, np.float32))
    names = [n for n in node.input if n]
    values = [
        helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in zip(names, inputs, strict=True)
    ]
    results = [onnx.ValueInfoProto(name=n) for n in node.output if n]
    model = helper.make_model(
        helper.make_graph([node], "g", values, results), opset_imports=[helper.make_opsetid("", version)], ir_version=10
    )
    try:
        onnx.checker.check_node(node, *_context(version))
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception:  # the checker's and the inference's errors, whose bases differ between releases
        return None
    return name, node, inputs, outputs


def _context(version: int) -> tuple[Any]:
    context = onnx.checker.C.CheckerContext()
    context.ir_version = 10
    context.opset_imports = {"": version}
    return (context,)


def plain(case: Case) -> bool:
    """Whether all values are tensors of NumPy's own dtypes, or texts."""
    return all(isinstance(v, np.ndarray) and v.dtype.kind in "fiubO" and v.dtype.isbuiltin == 1 for v in (*case[2], *case[3]))


@pytest.mark.parametrize(("op_type", "version", "domain"), PAIRS)
def test_allowed_pairs(op_type: str, version: int, domain: str) -> None:
    known = cases()[domain, op_type]
    found = [case for v, case in known if v == version]
    if not found:
        newer = min(v for v, _ in known if v > version)
        found = [c for c in (as_version(case, version) for v, case in known if v == newer and plain(case)) if c is not None]
    checked = CHECKED[domain, op_type]
    found = [c for c in found if plain(c) and c[2][0].dtype.name in checked.dtypes.split()]
    assert found, "no case that this version can say"
    for name, node, inputs, outputs in found:
        given = iter(inputs)
        operands = [next(given) if n else None for n in node.input]
        op = Fallback.of(node, version)
        specs = op.specs([None if x is None else TensorSpec.of(x) for x in operands])
        results = op.evaluate(*operands)
        expected = iter(outputs)
        for output, spec, result in zip(node.output, specs, results, strict=True):
            if not output:
                continue
            want = next(expected)
            assert result.dtype == want.dtype == spec.dtype, name
            assert result.shape == want.shape, name
            assert spec.shape is None or all(a is None or a == b for a, b in zip(spec.shape, want.shape, strict=True)), name
            if want.dtype == object:
                assert result.tolist() == want.tolist(), name
            else:
                np.testing.assert_allclose(result, want, rtol=1e-3, atol=1e-7, err_msg=name)


def test_no_pair_hides_a_class() -> None:
    assert [op for (domain, op) in ALLOWED if lookup(op, domain) is not None] == []


def test_unlisted_versions_are_refused() -> None:
    for op, version in (("DequantizeLinear", 13), ("GridSample", 7), ("Upsample", 7), ("Loop", 13), ("Conv", 1), ("Nothing", 1)):
        assert refusal(op, "", version, {}, 1, 1) == ""
    assert refusal("Det", "com.example", 11, {}, 1, 1) == ""
    assert refusal("MelWeightMatrix", "", 17, {}, 5, 1) is None
    assert "version 18" in (refusal("MelWeightMatrix", "", 18, {}, 5, 1) or "")


def cache_update(opset: int = 24) -> onnx.ModelProto:
    x, u, y = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [2, 4, 3]), ("u", [2, 1, 3]), ("y", [2, 4, 3]))
    )
    graph = helper.make_graph([helper.make_node("TensorScatter", ["x", "u"], ["y"], name="cache")], "g", [x, u], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def test_a_model_with_a_fallback_runs() -> None:
    x, u = np.arange(24, dtype=np.float32).reshape(2, 4, 3), np.full((2, 1, 3), -1, np.float32)
    graph = import_model(cache_update())
    assert isinstance(graph.nodes[0].op, Fallback)
    assert graph.nodes[0].op.version == 24
    np.testing.assert_array_equal(graph.evaluate({"x": x, "u": u})[0], np.concatenate([u, x[:, 1:]], 1))


def test_fallbacks_can_be_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"cache.*TensorScatter.*fallback"):
        import_model(cache_update(), fallback="error")


def test_equal_nodes_are_equal_operators() -> None:
    a, b = import_model(cache_update()).nodes[0].op, import_model(cache_update(25)).nodes[0].op
    assert a == b
    assert hash(a) == hash(b)


def test_wrong_inputs_are_input_errors() -> None:
    op = import_model(cache_update()).nodes[0].op
    with pytest.raises(InputError, match="TensorScatter"):
        op.specs([TensorSpec(np.dtype(np.float32), (2,)), TensorSpec(np.dtype(np.float32), (3, 1))])
