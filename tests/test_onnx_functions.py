"""The functions of cnnengine.onnx_functions: right in any engine (onnx's reference), recognised here, and only they."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import cnnengine
from cnnengine import functional, onnx_functions
from cnnengine.onnx_functions import adaptive_pool, attach, operator_of, spatial_pyramid_pool
from cnnengine.ops import lookup
from cnnengine.ops.pool import AdaptivePool, SpatialPyramidPool


def model_of(function: onnx.FunctionProto, rank: int = 2, opset: int = 18, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """x -> the function -> y."""
    x = helper.make_tensor_value_info("x", dtype, ["N", "C", "D", "H", "W"][: 2 + rank])
    y = helper.make_tensor_value_info("y", dtype, list("abcde")[: 2 if "Pyramid" in function.name else 2 + rank])
    graph = helper.make_graph([helper.make_node(function.name, ["x"], ["y"], domain="cnnengine")], "one", [x], [y])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("cnnengine", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=8)


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape, dtype=np.float32)


def bins(n: int, o: int) -> list[slice]:
    """PyTorch's: floor(i * n / o) to ceil((i + 1) * n / o)."""
    return [slice(i * n // o, -((-(i + 1) * n) // o)) for i in range(o)]


@pytest.mark.parametrize("opset", [13, 17, 18, 24])
@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize("size", [(8, 8), (16, 24), (37, 53), (3, 1)])
def test_pyramid_in_the_reference_engine_and_here(opset: int, mode: str, size: tuple[int, int]) -> None:
    model = model_of(spatial_pyramid_pool((4, 2, 1), mode=mode, opset=opset), opset=opset)
    onnx.checker.check_model(model, full_check=True)
    x = image(2, 3, *size)
    reduce = np.max if mode == "max" else np.mean
    parts = []
    for level in (4, 2, 1):
        part = [reduce(x[:, :, h, w], axis=(2, 3)) for h in bins(size[0], level) for w in bins(size[1], level)]
        parts.append(np.stack(part, axis=2).reshape(2, -1))
    expected = np.concatenate(parts, axis=1)
    (portable,) = ReferenceEvaluator(model).run(None, {"x": x})
    loaded = cnnengine.load(model)
    assert [node.op for node in loaded._graph.nodes] == [SpatialPyramidPool((4, 2, 1), mode, 2)]
    for y in (portable, loaded(x)):
        np.testing.assert_allclose(y, expected, rtol=0, atol=0 if mode == "max" else 1e-6)
    assert loaded.is_pure


@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize("size", [(5,), (3, 7), (1, 1), (2, 3, 4)])
def test_adaptive_pooling_of_every_rank(mode: str, size: tuple[int, ...]) -> None:
    rank = len(size)
    model = model_of(adaptive_pool(size, mode=mode), rank)
    onnx.checker.check_model(model, full_check=True)
    x = image(2, 5, *(11, 9, 6)[:rank])
    (portable,) = ReferenceEvaluator(model).run(None, {"x": x})
    loaded = cnnengine.load(model)
    assert [node.op for node in loaded._graph.nodes] == [AdaptivePool(size, mode)]
    expected = getattr(functional, f"adaptive_{mode}_pool{rank}d")(x, size)
    assert portable.shape == expected.shape == (2, 5, *size)
    np.testing.assert_allclose(portable, expected, rtol=0, atol=0 if mode == "max" else 1e-6)
    np.testing.assert_array_equal(loaded(x), expected)


def test_a_pyramid_of_volumes() -> None:
    model = model_of(spatial_pyramid_pool((3, 1), rank=3), 3)
    x = image(1, 2, 4, 5, 6)
    (portable,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(cnnengine.load(model)(x), portable)
    assert portable.shape == (1, 2 * 28)


def test_another_rank_than_the_function_s_is_refused() -> None:
    model = model_of(spatial_pyramid_pool(rank=1), 2)
    with pytest.raises(cnnengine.ShapeError, match="1 spatial axes"):
        cnnengine.load(model)(image(1, 1, 8, 8))


def test_other_element_types_run_on_the_host() -> None:
    for dtype, kind in ((TensorProto.DOUBLE, np.float64), (TensorProto.INT64, np.int64)):
        model = model_of(adaptive_pool((2, 2)), dtype=dtype)
        x = np.arange(49).reshape(1, 1, 7, 7).astype(kind)
        y = cnnengine.load(model)(x)
        np.testing.assert_array_equal(y, [[[[24, 27], [45, 48]]]])
        assert y.dtype == kind


class TestRecognition:
    def test_names_of_inner_values_and_texts_do_not_count(self) -> None:
        function = spatial_pyramid_pool()
        for i, node in enumerate(function.node):
            node.name, node.doc_string = f"node_{i}", "from somewhere"
            node.input[:] = [n if n == "x" else f"v.{n}" for n in node.input]
            node.output[:] = [n if n == "y" else f"v.{n}" for n in node.output]
        function.doc_string = ""
        assert operator_of(function) == SpatialPyramidPool((4, 2, 1), "max", 2)

    def test_another_body_of_the_same_name_is_run_as_it_is(self) -> None:
        function = spatial_pyramid_pool((2, 1))
        assert [n.op_type for n in function.node].count("ReduceMax") == 6
        for node in function.node:
            if node.op_type == "ReduceMax":
                node.op_type = "ReduceMin"
        assert operator_of(function) is None
        model, x = model_of(function), image(1, 3, 9, 6)
        loaded = cnnengine.load(model)
        assert not any(isinstance(node.op, SpatialPyramidPool) for node in loaded._graph.nodes)
        np.testing.assert_array_equal(loaded(x), ReferenceEvaluator(model).run(None, {"x": x})[0])
        np.testing.assert_array_equal(loaded(x), -functional.spatial_pyramid_pool(-x, levels=(2, 1)))

    @pytest.mark.parametrize("change", ["constant", "attribute", "input", "output", "extra", "order", "default"])
    def test_every_part_of_the_body_counts(self, change: str) -> None:
        function = spatial_pyramid_pool((2, 1))
        if change == "constant":
            constant = next(n for n in function.node if n.op_type == "Constant")
            constant.attribute[0].ints[0] += 1
        elif change == "attribute":
            next(n for n in function.node if n.op_type == "Flatten").attribute[0].i = 2
        elif change == "input":
            next(n for n in function.node if n.op_type == "Shape").input[0] = "y"
        elif change == "output":
            function.output[0] = function.node[-2].output[0]
        elif change == "extra":
            function.node.append(helper.make_node("Identity", ["y"], ["z"]))
        elif change == "order":
            last = function.node[-1]
            last.input[:] = list(last.input)[::-1]
        else:
            function.attribute.append("p")
        assert operator_of(function) is None

    @pytest.mark.parametrize(
        ("domain", "name", "overload"),
        [
            ("other", "SpatialPyramidPool2d_max_2_1", ""),
            ("cnnengine", "SpatialPyramidPool2d_max_2_1", "x"),
            ("cnnengine", "SpatialPyramidPool2d_max_2", ""),
            ("cnnengine", "SpatialPyramidPool2d_avg_2_1", ""),
            ("cnnengine", "SpatialPyramidPool3d_max_2_1", ""),
            ("cnnengine", "AdaptivePool2d_max_2_1", ""),
            ("cnnengine", "SpatialPyramidPool4d_max_2_1", ""),
            ("cnnengine", "SpatialPyramidPool2d_max_0", ""),
            ("cnnengine", "SpatialPyramidPool2d_max" + "_9999" * 16, ""),
            ("cnnengine", "Pool", ""),
        ],
    )
    def test_another_name_is_not_recognised(self, domain: str, name: str, overload: str) -> None:
        function = spatial_pyramid_pool((2, 1))
        function.domain, function.name, function.overload = domain, name, overload
        assert operator_of(function) is None

    def test_a_call_inside_another_function_and_inside_a_subgraph(self) -> None:
        inner = adaptive_pool((2, 2))
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("cnnengine", 1)]
        body = [helper.make_node(inner.name, ["a"], ["p"], domain="cnnengine"), helper.make_node("Neg", ["p"], ["b"])]
        outer = helper.make_function("mine", "Outer", ["a"], ["b"], body, imports)
        then = helper.make_graph(
            [helper.make_node("Outer", ["x"], ["t"], domain="mine")], "then", [], [helper.make_tensor_value_info("t", 1, None)]
        )
        other = helper.make_graph(
            [helper.make_node(inner.name, ["x"], ["e"], domain="cnnengine")],
            "else",
            [],
            [helper.make_tensor_value_info("e", 1, None)],
        )
        graph = helper.make_graph(
            [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
            "g",
            [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", 1, ["N", 1, "H", "W"])],
            [helper.make_tensor_value_info("y", 1, None)],
        )
        model = helper.make_model(
            graph, opset_imports=[*imports, helper.make_opsetid("mine", 1)], functions=[inner, outer], ir_version=8
        )
        loaded, x = cnnengine.load(model), image(1, 1, 7, 5)
        expected = functional.adaptive_max_pool2d(x, (2, 2))
        for condition, wanted in ((True, -expected), (False, expected)):
            np.testing.assert_array_equal(loaded.run(None, {"c": np.array(condition), "x": x})[0], wanted)

    def test_a_call_that_does_not_fit(self) -> None:
        model = model_of(adaptive_pool((2, 2)))
        model.graph.node[0].input.append("x")
        with pytest.raises(cnnengine.ModelError, match="does not fit its function"):
            cnnengine.load(model)

    def test_a_node_without_its_function_is_an_unknown_operator(self) -> None:
        model = model_of(adaptive_pool((2, 2)))
        del model.functions[:]
        with pytest.raises(cnnengine.UnsupportedOperatorError, match="AdaptivePool2d_max_2_2"):
            cnnengine.load(model)


class TestAttach:
    def test_what_is_missing_is_added(self) -> None:
        model = model_of(adaptive_pool((2, 2)), opset=20)
        del model.functions[:]
        del model.opset_import[1:]
        assert attach(model) is model
        assert [f.name for f in model.functions] == ["AdaptivePool2d_max_2_2"]
        onnx.checker.check_model(model, full_check=True)
        assert {o.domain: o.version for o in model.opset_import} == {"": 20, "cnnengine": 1}
        before = model.SerializeToString()
        assert attach(model).SerializeToString() == before

    def test_models_without_such_nodes_stay_as_they_are(self) -> None:
        w = numpy_helper.from_array(np.ones((1,), np.float32), "w")
        x, y = (helper.make_tensor_value_info(n, 1, [1]) for n in "xy")
        model = helper.make_model(
            helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [w]),
            opset_imports=[helper.make_opsetid("", 9)],
            ir_version=4,
        )
        before = model.SerializeToString()
        assert attach(model).SerializeToString() == before

    def test_names_that_are_none(self) -> None:
        model = model_of(adaptive_pool((2, 2)))
        model.graph.node[0].op_type = "RoundPool"
        with pytest.raises(cnnengine.InputError, match="RoundPool"):
            attach(model)

    @pytest.mark.parametrize(("opset", "ir"), [(12, 8), (18, 7), (99, 8)])
    def test_versions_that_are_too_old_or_unknown(self, opset: int, ir: int) -> None:
        model = model_of(adaptive_pool((2, 2)), opset=opset)
        del model.functions[:]
        model.ir_version = ir
        with pytest.raises(cnnengine.InputError):
            attach(model)


@pytest.mark.parametrize(
    "arguments",
    [
        {"levels": ()},
        {"levels": (0,)},
        {"levels": (10000,)},
        {"levels": (2.0,)},
        {"levels": (1,) * 17},
        {"mode": "min"},
        {"rank": 4},
        {"opset": 12},
        {"opset": 99},
    ],
)
def test_wrong_parameters(arguments: dict) -> None:
    with pytest.raises(cnnengine.InputError):
        spatial_pyramid_pool(**arguments)


def test_lookup_knows_the_domain() -> None:
    assert lookup("SpatialPyramidPool", "cnnengine") is SpatialPyramidPool
    assert lookup("AdaptivePool", "cnnengine") is AdaptivePool
    assert lookup("Conv", "cnnengine") is None
    assert lookup("SpatialPyramidPool") is None


def test_importing_the_module_does_not_import_onnx() -> None:
    code = "import sys, cnnengine, cnnengine.onnx_functions; print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "False\n"


def test_public_names() -> None:
    assert set(onnx_functions.__all__) == {"DOMAIN", "adaptive_pool", "attach", "operator_of", "spatial_pyramid_pool"}
