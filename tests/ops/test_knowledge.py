"""What operators say of themselves (`Operator`'s class attributes, `outline`, `as_activation`), held against what they do.

ONNX's conformance cases and a few more give nodes with their values. A class of any index that none of them has is an error here,
unless it never becomes a node.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import _normalize_tensor

from cnnengine import ops
from cnnengine.errors import CNNEngineError, UnsupportedOperatorError
from cnnengine.graph import Graph
from cnnengine.importer.graphs import import_model
from cnnengine.importer.reader import open_model
from cnnengine.layout import aligned_empty
from cnnengine.operator import EXACT, READ_PACKED, READ_PLAIN, READ_VALUES, Gives, Operator
from cnnengine.ops import (
    DOMAINS,
    activation,
    contrib,
    contrib_quantized,
    conv,
    dense,
    flip_sign,
    fused,
    integer_products,
    lookup,
    norm,
    pool,
    quantized_conv,
    quantized_dense,
    quantized_elements,
    quantized_pool,
    quantized_resize,
    quantized_table,
    resize,
    retired,
    sequence,
    shape,
)
from cnnengine.ops.common import FLOAT32, is_small
from cnnengine.ops.control import Controlling
from cnnengine.ops.elements import reference_activation
from cnnengine.ops.norm import ChannelNorm
from cnnengine.plan.eager import by_kernels
from cnnengine.spec import UNKNOWN, TensorSpec

SMALL = 64
"""Elements of an integer input whose value is told, as a constant's would be."""
LARGE = 1 << 16
"""Elements that are too many to look at one by one."""
NODES = 8
"""Nodes of a case that is still one of its operator, not of a function's body."""
EACH = 60
"""Examples of a class that are looked at."""
BYTES = (np.dtype(np.uint8), np.dtype(np.int8))
F16, F64 = np.dtype(np.float16), np.dtype(np.float64)


@dataclass(frozen=True, eq=False)
class Example:
    """A node that ran: its operator, what it read and what it gave; None where absent."""

    name: str
    op: Operator
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


def _more() -> Iterator[tuple[Operator, list[Any]]]:
    """Operators that ONNX's cases do not have, with inputs."""
    rng = np.random.default_rng(0)

    def x(*extents: int) -> np.ndarray:
        return rng.standard_normal(extents, np.float32)

    yield pool.AdaptivePool((2, 3)), [x(1, 3, 5, 7)]
    yield pool.AdaptivePool((2,), "avg"), [x(2, 3, 5)]
    yield pool.SpatialPyramidPool((1, 2)), [x(1, 3, 5, 7)]
    yield pool.GlobalLpPool(), [x(1, 3, 5, 7)]
    yield sequence.SequenceEmpty(FLOAT32), []
    yield sequence.SequenceLength(), [[x(2, 3), x(4, 3)]]
    yield sequence.SequenceConstruct(), [x(2, 3), x(2, 3)]
    yield sequence.SequenceAt(), [[x(2, 3), x(4, 3)], np.array(1)]
    yield sequence.SequenceErase(), [[x(2, 3), x(4, 3)], np.array(0)]
    yield sequence.ConcatFromSequence(0, 0), [[x(2, 3), x(4, 3)]]
    yield sequence.ConcatFromSequence(0, 1), [[x(2, 3), x(2, 3)]]
    yield sequence.Piece.of(1, 0, 2), [x(2, 3)]
    yield sequence.Optional(), [x(2, 3)]
    yield retired.Crop((0, 1, 2, 1)), [x(1, 3, 6, 6)]
    yield contrib.CropAndResize(), [x(1, 2, 6, 6), x(2, 4) ** 2 / 9, np.zeros(2, np.int32), np.array([3, 4], np.int32)]
    yield contrib.Inverse(), [x(2, 3, 3)]
    packed = rng.integers(0, 256, (4, 2, 8), np.uint8)
    yield contrib.UnpackedWeights(4, 16, 4, 32), [packed, x(4, 2)]
    yield contrib.AxesMoved(move="last"), [x(2, 3, 4)]
    a, b8, one, scales = packed[0], packed.view(np.int8)[1, :, :3].copy().T, np.uint8(9), np.array([0.5, 0.25], np.float32)
    products = [a.T.copy(), FLOAT32.type(0.5), one, b8.T.copy(), FLOAT32.type(2), np.int8(-3), np.arange(3, dtype=np.int32)]
    yield integer_products.QGemm(), [np.asarray(v) for v in products]
    yield integer_products.QGemm(0.5), [np.asarray(v) for v in (*products, FLOAT32.type(16), one)]
    bytes_ = rng.integers(0, 256, (2, 3, 5, 6), np.uint8)
    yield quantized_pool.QuantizedAveragePool(0.5, 3, 0.25, 9, pool.AveragePool((2, 2))), [bytes_]
    yield quantized_pool.QuantizedGlobalAveragePool(0.5, 3, 0.25, 9), [bytes_]
    linear = resize.Resize("linear", "half_pixel")
    yield quantized_resize.QuantizedResize(linear, 0.5, 3, 0.25, 9, -9, 246), [bytes_, None, np.float32([1, 1, 2, 1.5])]
    weights, ratio = bytes_[0, 0].view(np.int8).reshape(-1)[:18].reshape(6, 3), np.array([0.5, 0.25, 1], np.float32)
    yield quantized_dense.QuantizedDense(3, 9, -9, 240), [bytes_, weights, None, ratio]
    yield quantized_dense.QuantizedDense(3, gives_what="floats"), [bytes_[0, 0], weights, np.int8([1, 2, 3]), ratio]
    yield quantized_dense.QuantizedDense(gives_what="sums", wraps=True), [bytes_[0, 0], weights, None, None, np.int32([5, 6, 7])]
    yield quantized_dense.QuantizedDense(gives_what="floats", transposed=True), [bytes_, bytes_, None, ratio[:1]]
    yield contrib_quantized.Factor(), [x(2, 3), x(3)]
    yield contrib_quantized.Scales(), [scales[:1], scales]
    yield contrib_quantized.WideScale(), [scales.astype(np.float16)]
    yield quantized_table.QuantizedTable(), [packed, np.arange(256).astype(np.uint8)]
    yield flip_sign.FlipSign(), [packed]
    yield flip_sign.FlipSign(), [packed.view(np.int8)]
    pair = (0.5, 100, 0.25, 128, 0.75, 90, -90, 165)
    yield quantized_elements.QuantizedAdd(*pair), [packed, packed[:, :1]]
    yield quantized_elements.QuantizedMul(*pair), [packed, packed[:1]]
    kernel, ratio = packed.view(np.int8).reshape(-1)[:24].reshape(3, 8, 1), np.array([0.01, 0.02, 0.03], np.float32)
    yield quantized_conv.QuantizedConv(conv.Conv(), 7, 3), [packed.swapaxes(1, 2).copy(), kernel, None, ratio]
    yield quantized_conv.QuantizedConv(conv.Conv(), 7, floats=True), [packed.swapaxes(1, 2).copy(), kernel, None, ratio]
    yield contrib_quantized.RecurrentWeights(), [packed[:2], scales, np.array([3, 4], np.uint8)]
    yield contrib.Addend(whole=True), [x(2, 3), x(2, 3)]
    yield activation.Affine(2.0, 3.0), [x(2, 3)]
    yield activation.PRelu(expands=True), [x(3), x(2, 1)]
    yield fused.ChannelLayerNorm(), [x(1, 3, 4, 5), x(3), x(3)]
    yield norm.InstanceNormalization(expands=True), [x(1, 1, 4), x(2, 2, 1), x(1)]
    yield norm.LayerNormalization(outputs=(True, True), stash_type=11), [x(2, 3, 4), x(4), x(4)]
    yield norm.LayerNormalization(expands=True), [x(3, 4), x(2, 3, 4), x(4)]
    yield norm.BatchNormalization(spatial=0), [x(2, 3, 4), *(np.abs(x(3, 4)) for _ in range(4))]
    yield shape.Dropout("same"), [x(2, 3)]
    w, b = x(4, 3, 3, 3), x(4)
    for op in (conv.Conv(pads=(1, 1, 1, 1)), conv.Conv(activation=activation.Relu().kernel_activation())):
        yield op, [x(1, 3, 6, 6), w, b]
    yield fused.FusedConv(conv.Conv(pads=(1, 1, 1, 1)), residual=True), [x(1, 3, 6, 6), w, b, x(1, 4, 6, 6)]
    yield fused.ChannelsLastConv(conv.Conv(pads=(1, 1, 1, 1))), [x(1, 6, 6, 3), w, b]
    yield fused.Dense(), [x(2, 3, 4), x(4, 5), x(5)]
    yield fused.ScaledMatMul(0.5, True), [x(2, 3, 4), x(5, 4)]
    yield dense.MatMul(), [x(3), x(3)]
    yield dense.MatMul(), [x(3), x(2, 3, 4)]
    yield dense.MatMul(), [x(2, 4, 3), x(3)]


@cache
def examples() -> dict[type[Operator], list[Example]]:
    """Examples by class."""
    found: dict[type[Operator], dict[Any, Example]] = {}

    def add(example: Example) -> None:
        kinds = tuple((v.dtype, v.ndim) if isinstance(v, np.ndarray) else type(v) for v in example.inputs)
        known = found.setdefault(type(example.op), {})
        key = (kinds, len(example.outputs)) if isinstance(example.op, Controlling) else (repr(example.op), kinds)
        if len(known) < EACH:
            known.setdefault(key, example)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            if case.model is None or "expanded" in case.name:
                continue
            try:
                graph = import_model(open_model(case.model, None).message)
            except CNNEngineError:
                continue
            for inputs, _ in case.data_sets if len(graph.nodes) <= NODES else ():
                for example in _run(case.name, graph, [_normalize_tensor(v) for v in inputs]):
                    add(example)
        for op, inputs in _more():
            add(Example("more", op, tuple(inputs), tuple(op.evaluate(*inputs))))
    return {cls: list(examples.values()) for cls, examples in found.items()}


def _run(name: str, graph: Graph, inputs: Sequence[Any]) -> Iterator[Example]:
    values = {n: np.asarray(v) for n, v in graph.constants.items()}
    values.update((n, np.asarray(v) if isinstance(v, np.generic) else v) for n, v in zip(graph.inputs, inputs, strict=False))
    for node in graph.nodes:
        try:
            read = [values[n] if n else None for n in node.inputs]
            made = node.op.evaluate(*read)
        except (UnsupportedOperatorError, KeyError):  # a case of what is refused, or of an absent input
            return
        values.update((n, v) for n, v in zip(node.outputs, made, strict=False) if n)
        yield Example(name, node.op, tuple(read), tuple(made))


def classes() -> list[type[Operator]]:
    """All classes of operators whose instances can be nodes."""
    for module in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"{ops.__name__}.{module.name}")

    def below(cls: type[Operator]) -> Iterator[type[Operator]]:
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    found = [c for c in below(Operator) if getattr(importlib.import_module(c.__module__), c.__name__, None) is c]
    found = [c for c in found if c.__module__.startswith(ops.__name__) and not c.__name__.startswith("_")]
    return sorted({c for c in found if c.infer is not Operator.infer}, key=lambda c: (c.__module__, c.__name__))


MADE_LATER = {"ConvChain", "RoundedConv", "SoftmaxProduct", "TakeChannels"}
"""Made for concrete shapes, when nobody asks for facts any more."""
CLASSES = [c for c in classes() if c not in (Controlling, ChannelNorm)]  # what others inherit from
IDS = [f"{c.__module__.rpartition('.')[2]}.{c.__name__}" for c in CLASSES]


def of(cls: type[Operator]) -> list[Example]:
    found = examples().get(cls, [])
    if not found:
        pytest.skip("made for concrete shapes")
    return found


def test_every_class_of_the_index_is_asked() -> None:
    indexed = {lookup(name, domain) for domain, names in DOMAINS.items() for name in names}
    assert None not in indexed
    never = {c for c in indexed if c is not None and c.infer is Operator.infer}
    for c in never:  # which become nodes of others
        made = {name: getattr(c, name).__func__ is not getattr(Operator, name).__func__ for name in ("spell_out", "from_onnx")}
        assert any(made.values()), c
    assert indexed - never <= set(CLASSES)
    without = {c.__name__ for c in CLASSES if c not in examples()}
    assert without == MADE_LATER


@pytest.mark.parametrize("cls", CLASSES, ids=IDS)
def test_facts_are_of_their_types(cls: type[Operator]) -> None:
    for op in [e.op for e in examples().get(cls, [])] or [cls]:
        assert op.gives is None or isinstance(op.gives, property) or all(isinstance(g, Gives) for g in op.gives)
        for places in (op.elements, op.element_outputs):
            assert isinstance(places, property | tuple | range)
        assert {type(v) for v in (op.moves, op.elementwise, op.divides, op.settings, op.by_onnx)} == {bool}
        assert isinstance(op.light, int) and op.light >= -1
        assert op.reads in (READ_PLAIN, READ_PACKED, READ_VALUES)
        assert op.light >= 0 or not op.divides


# ---------------------------------------------------------------- dtypes and ranks


def told(value: Any, values: bool) -> TensorSpec | None:
    """What is known of a value whose extents are open; of short lists of integers the numbers, where `values`."""
    if value is None:
        return None
    if isinstance(value, list):
        dtypes = {v.dtype for v in value if isinstance(v, np.ndarray)}
        ranks = {v.ndim for v in value if isinstance(v, np.ndarray)}
        rank = ranks.pop() if len(ranks) == 1 else None
        return TensorSpec(dtypes.pop() if len(dtypes) == 1 else UNKNOWN, None if rank is None else (None,) * rank)
    if values and value.size <= SMALL and value.dtype.kind in "iub":
        return TensorSpec.of(value)
    return TensorSpec(value.dtype, (None,) * value.ndim)


def check_outline(op: Operator, specs: Sequence[TensorSpec | None], outputs: Sequence[Any], who: str) -> list[TensorSpec]:
    """Nothing that is told is wrong."""
    found = op.outline(specs)
    for spec, value in zip(found, outputs, strict=False):
        items = [value] if not isinstance(value, list) else value
        for item in items:
            if isinstance(item, np.ndarray):
                assert spec.dtype in (UNKNOWN, item.dtype), who
                assert spec.shape is None or len(spec.shape) == item.ndim, who
    return found


@pytest.mark.parametrize("cls", CLASSES, ids=IDS)
def test_dtypes_and_ranks_are_what_comes(cls: type[Operator]) -> None:
    complete = 0
    for example in of(cls):
        op, inputs, outputs = example.op, example.inputs, example.outputs
        wanted = [v for v in outputs if isinstance(v, np.ndarray)]
        for values in (False, True):
            found = check_outline(op, [told(v, values) for v in inputs], outputs, example.name)
            assert len(found) >= len(wanted), (example.name, "nothing is said of an output")
            assert all(s.dtype != UNKNOWN for s, v in zip(found, outputs, strict=False) if isinstance(v, np.ndarray))
        complete += all(s.shape is not None for s, v in zip(found, outputs, strict=False) if isinstance(v, np.ndarray))
        # what is not known of one input is not invented
        for at, value in enumerate(inputs):
            if value is None:
                continue
            for loose in (TensorSpec(UNKNOWN, None), TensorSpec(told(value, False).dtype, None)):  # type: ignore[union-attr]
                specs = [told(v, True) for v in inputs]
                specs[at] = loose
                check_outline(op, specs, outputs, f"{example.name}: input {at} is not known")
        check_outline(op, [TensorSpec(UNKNOWN, None) if v is not None else None for v in inputs], outputs, example.name)
        check_outline(op, [], outputs, example.name)
    assert complete, "no example has ranks that are known"


# ---------------------------------------------------------------- element types


def floats(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == FLOAT32


@pytest.mark.parametrize("cls", CLASSES, ids=IDS)
def test_elements_change_their_type_together(cls: type[Operator]) -> None:
    """The rule takes float64 in the places of the element type and gives it in those of the outputs; nothing else changes."""
    tried = 0
    for example in of(cls):
        op = example.op
        places = [i for i, v in enumerate(example.inputs) if v is not None and i in op.elements]
        if not places or not all(floats(example.inputs[i]) for i in places):
            continue
        tried += 1
        plain = [None if v is None else TensorSpec.of(v) for v in example.inputs]
        wide = [s if i not in places or s is None else TensorSpec(F64, s.shape) for i, s in enumerate(plain)]
        before, after = op.specs(plain), op.specs(wide)
        for i, (b, a) in enumerate(zip(before, after, strict=True)):
            if b.dtype == FLOAT32:
                assert a.dtype == (F64 if i in op.element_outputs else FLOAT32), (example.name, i)
            else:
                assert a.dtype == b.dtype and (i not in op.element_outputs or is_small(b.dtype)), (example.name, i)
    takes_floats = any(floats(v) for e in examples()[cls] for v in e.inputs)
    assert tried or not takes_floats or not len(cls.elements if not isinstance(cls.elements, property) else ())


@pytest.mark.parametrize("cls", [c for c in CLASSES if c.moves], ids=lambda c: c.__name__)
def test_what_moves_makes_no_number(cls: type[Operator]) -> None:
    for example in of(cls):
        op = example.op
        if getattr(op, "reduction", "none") != "none" or "training" in example.name:
            continue  # sums, and what is left by dropping is enlarged
        if not op.elements:  # of a mask, ones
            continue
        read = {v.tobytes() for i, x in enumerate(example.inputs) if isinstance(x, np.ndarray) for v in x.reshape(-1)[:LARGE]}
        for i, y in enumerate(example.outputs):
            if isinstance(y, np.ndarray) and y.dtype.kind == "f" and i in op.element_outputs:
                zero = np.zeros((), y.dtype).tobytes()
                assert {v.tobytes() for v in y.reshape(-1)[:LARGE]} <= {*read, zero}, example.name


@pytest.mark.parametrize("cls", [c for c in CLASSES if c.elementwise], ids=lambda c: c.__name__)
def test_elementwise_functions_know_no_places(cls: type[Operator]) -> None:
    tried = 0
    for example in of(cls):
        x, *others = example.inputs
        if cls is not quantized_table.QuantizedTable and any(v is not None and v.size != 1 for v in others):
            continue
        tried += 1
        with np.errstate(all="ignore"):
            (y,) = example.op.evaluate(x.reshape(-1)[::-1].copy(), *others)
        np.testing.assert_array_equal(y, np.asarray(example.outputs[0]).reshape(-1)[::-1])
    assert tried


# ---------------------------------------------------------------- how they run


def aligned(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    copy = aligned_empty(value.size, value.dtype).reshape(value.shape)
    copy[...] = value
    return copy


@pytest.mark.parametrize("cls", [c for c in CLASSES if c.light >= 0], ids=lambda c: c.__name__)
def test_what_is_light_has_the_bits_of_kernels(cls: type[Operator]) -> None:
    for example in of(cls):
        op, inputs = example.op, example.inputs
        if isinstance(op, Controlling) or getattr(op, "reduction", "none") != "none":
            continue
        if not inputs or any(isinstance(v, list) for v in inputs) or max(v.ndim for v in inputs if v is not None) > op.light:
            continue
        if any(v is not None and (v.dtype.kind == "O" or is_small(v.dtype)) for v in inputs):
            continue
        for rounds in range(2):
            if rounds:  # numbers with more digits than those of the examples
                rng = np.random.default_rng(1)
                inputs = (rng.standard_normal(inputs[0].shape, np.float32) if floats(inputs[0]) else inputs[0], *inputs[1:])
            arrays = [aligned(v) for v in inputs]
            with np.errstate(all="ignore"):
                found = [by_kernels(op, arrays), op.immediate(*arrays)]
                expected = op.evaluate(*inputs)
            for results in found:
                for a, b in zip(results or (), expected, strict=False):
                    if isinstance(b, np.ndarray):
                        if is_small(b.dtype):  # whose NaN NumPy does not know
                            a, b = np.asarray(a).view(np.uint8), b.view(np.uint8)
                        np.testing.assert_array_equal(a, b, example.name)


@pytest.mark.parametrize("cls", [c for c in CLASSES if c.divides], ids=lambda c: c.__name__)
def test_what_divides_gives_extents_that_depend_on_data(cls: type[Operator]) -> None:
    open_ended = 0
    for example in of(cls):
        specs = [TensorSpec(v.dtype, v.shape) if isinstance(v, np.ndarray) else told(v, False) for v in example.inputs]
        open_ended += isinstance(example.op, Controlling) or any(not s.is_concrete for s in example.op.specs(specs))
    assert open_ended


def _other_values(v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if v.dtype in BYTES:
        return rng.integers(0, 256, v.shape).astype(np.uint8).view(v.dtype)
    return rng.uniform(0.5, 1.5, v.shape).astype(np.float32) * (0.01 if v.max(initial=0) < 0.1 else 1)


@pytest.mark.parametrize("cls", [c for c in CLASSES if c.reads != READ_VALUES], ids=lambda c: c.__name__)
def test_kept_launches_serve_other_values(cls: type[Operator]) -> None:
    tried = 0
    for example in of(cls):
        if not all(v is None or floats(v) or v.dtype in BYTES for v in example.inputs) or getattr(example.op, "training_mode", 0):
            continue
        for seed in range(3):
            rng = np.random.default_rng(seed)
            inputs = [None if v is None else aligned(_other_values(v, rng)) for v in example.inputs]
            results = by_kernels(example.op, inputs)
            if results is None:
                continue
            tried += 1
            expected = example.op.evaluate(*inputs)
            for a, b in zip(results, expected, strict=False):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=example.name)
    assert tried


@pytest.mark.parametrize("cls", CLASSES, ids=IDS)
def test_an_activation_is_what_the_operator_gives(cls: type[Operator]) -> None:
    """By its reference and by the kernels, of all kinds of numbers."""
    rng = np.random.default_rng(2)
    special = np.array([0, -0.0, 1, -1, 0.5, -0.5, 3, -3, 100, -100, np.inf, -np.inf, np.nan], np.float32)
    for example in of(cls):
        if not example.inputs or not floats(example.inputs[0]):
            continue
        x, *others = example.inputs
        specs = [told(x, False), *(TensorSpec.of(v) if isinstance(v, np.ndarray) else told(v, False) for v in others)]
        found = example.op.as_activation(specs)
        if found is None:
            continue
        numbers = np.concatenate([special, rng.standard_normal(50).astype(np.float32) * 3])
        with np.errstate(all="ignore"):
            (expected,) = example.op.evaluate(numbers, *others)
            plain = reference_activation(numbers, found)
            (result,) = by_kernels(example.op, [aligned(numbers), *others]) or [plain]
        if example.op.tolerance == EXACT:
            np.testing.assert_array_equal(plain, expected, example.name)
            np.testing.assert_array_equal(result, expected, example.name)
        else:
            np.testing.assert_allclose(plain, expected, rtol=1e-6, atol=1e-7, err_msg=example.name)
            np.testing.assert_allclose(result, expected, rtol=3e-6, atol=1e-6, err_msg=example.name)
        # what is not known to be a constant is none
        if others:
            assert example.op.as_activation([told(v, False) for v in example.inputs]) is None
        assert example.op.elementwise or cls.__name__ in ("PRelu", "Pow")
