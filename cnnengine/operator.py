"""What an operator is: typed attributes, a shape rule, a plain reference, and its lowering.

An operator's file holds the whole operator. Adding one costs one file, one case file and one line in the index.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from .errors import CNNEngineError, InputError, ModelError, UnsupportedOperatorError
from .layout import NO_HALO, Halo
from .packing import Build
from .records import fields_of
from .spec import UNKNOWN, TensorSpec

FLOAT32 = np.dtype(np.float32)

EXACT = "exact"
"""Tolerance class of operators that move or select values: outputs equal the reference bit for bit."""
ROUNDING = "rounding"
"""Tolerance class of operators that compute: outputs differ from the reference by rounding errors."""

EVERY = range(1 << 31)
"""All inputs, or all outputs, by number."""

ANY_RANK = 1 << 31
"""A rank that no tensor reaches."""

READ_PLAIN = "plain"
"""`Operator.reads`: kernels read all inputs as they lie, so that shapes decide everything."""
READ_PACKED = "packed"
"""`Operator.reads`: inputs after the first are packed, in a way that shapes alone decide."""
READ_VALUES = "values"
"""`Operator.reads`: what inputs after the first hold may decide what is run."""


@dataclass(frozen=True)
class Gives:
    """dtype and rank of an output, told by those of the inputs.

    Attributes
    ----------
    dtype : int or numpy.dtype
        The input that has its dtype; or the dtype.
    ranks : sequence of int
        The inputs the largest of whose ranks it has.
    alike : bool
        These inputs have one rank, so that any of them tells; else all must be known.
    rank : int, optional
        The rank, where it is always the same.
    """

    dtype: int | np.dtype = 0
    ranks: Sequence[int] = (0,)
    alike: bool = False
    rank: int | None = None

    def of(self, inputs: Sequence[TensorSpec | None]) -> TensorSpec:
        """The output's spec, its extents and what is not known left open."""
        dtype = self.dtype
        if isinstance(dtype, int):
            like = inputs[dtype] if dtype < len(inputs) else None
            dtype = UNKNOWN if like is None else like.dtype
        rank = self.rank
        if rank is None:
            places = inputs if self.ranks is EVERY else [inputs[i] for i in self.ranks if i < len(inputs)]
            given = [s for s in places if s is not None]
            known = [len(s.shape) for s in given if s.shape is not None]
            if known and (self.alike or len(known) == len(given)):
                rank = max(known)
        return TensorSpec(dtype, None if rank is None else (None,) * rank)


Giving = tuple[Gives, ...] | None

Extents = Sequence[tuple[int, ...] | None]
"""Shapes of a node's inputs or outputs, None where absent or not known; none at all are given for some nodes."""

SAME = (Gives(),)
"""`Operator.gives`: dtype and rank of the first input."""
BROADCAST = (Gives(ranks=EVERY),)
"""`Operator.gives`: the dtype of the first input, the rank to which all broadcast."""


@dataclass(frozen=True)
class NodeRecord:
    """One node as the file has it, free of protobufs: what `Operator.from_onnx` reads.

    Attributes
    ----------
    op_type, domain, name : str
    version : int
        The operator's own version (`since_version`) under the model's opset import.
    attributes : dict
        Python values: int, float, str, lists of them, ndarray for tensors, `Graph` for subgraphs.
    inputs, outputs : tuple of str
    """

    op_type: str
    domain: str
    version: int
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str = ""

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)


class Expansion:
    """The nodes that stand for one node of a file, as `Operator.spell_out` writes them.

    Attributes
    ----------
    record : NodeRecord
        The file's node.
    nodes : list of (operator, inputs, outputs, name)
    constants : dict
    dropped : tuple of str
        Outputs of the file's node that nothing makes: a model that reads one is refused, with `reason`.
    reason : str
    """

    def __init__(self, record: NodeRecord, unique: Callable[[str], str]) -> None:
        self.record = record
        self.nodes: list[tuple[Operator, tuple[str, ...], tuple[str, ...], str]] = []
        self.constants: dict[str, np.ndarray] = {}
        self.dropped: tuple[str, ...] = ()
        self.reason = ""
        self._unique = unique

    def input(self, index: int) -> str:
        """The name of an input of the file's node, empty where it is absent."""
        return self.record.inputs[index] if index < len(self.record.inputs) else ""

    def output(self, index: int = 0) -> str:
        """The name of an output of the file's node, empty where it is absent."""
        return self.record.outputs[index] if index < len(self.record.outputs) else ""

    def add(self, op: Operator, *inputs: str, outputs: tuple[str, ...] = ()) -> str:
        """A node; its first output's name, which is a new one unless `outputs` names them."""
        outputs = outputs or (self._unique(f"{self.record.name}/{op.op_type}"),)
        name = self.record.name if not self.nodes else f"{self.record.name}/{op.op_type}"
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        self.nodes.append((op, inputs, outputs, name))
        return outputs[0]

    def fresh(self, stem: str) -> str:
        """The name of a new value, for `outputs`."""
        return self._unique(f"{self.record.name}/{stem}")

    def constant(self, value: np.ndarray) -> str:
        name = self._unique(f"{self.record.name}/constant")
        self.constants[name] = value
        return name


@dataclass(frozen=True)
class Activation:
    """An activation fused into the store of a kernel: ``clip`` (alpha = low, beta = high) or another by name."""

    kind: str
    alpha: float = 0.0
    beta: float = 0.0


class Operand(Protocol):
    """A buffer that kernel calls name; opaque to operators."""

    def reshaped(self, shape: tuple[int, ...]) -> Operand:
        """The same plain buffer under another shape of as many elements."""
        ...


class Lowering(Protocol):
    """What `Operator.lower` may ask for and say; one per node, at concrete shapes.

    Reorders between layouts are inserted as needed; a value is reordered at most once per layout.
    """

    lanes: int
    """Channels of one plane on the chosen instruction set."""
    winograd: bool | tuple[int, int] | None
    """Whether a convolution may use Winograd's algorithm; or the output pixels of a tile that a plan chose."""
    keeps: bool
    """Whether what `pack` makes serves more than one run: a single layer called as a function packs at each call."""

    @property
    def inputs(self) -> tuple[TensorSpec | None, ...]:
        """Concrete specs of the inputs, None where absent."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Concrete specs of the outputs."""
        ...

    def const(self, index: int) -> np.ndarray | None:
        """The value of input `index` when it is known, else None."""
        ...

    def is_planes(self, index: int) -> bool:
        """Whether input `index` is at hand in planes of `lanes` channels, in groups or not."""
        ...

    def grouping(self, index: int) -> int | None:
        """The groups of the planes in which input `index` is at hand (one, where there is a choice), else None."""
        ...

    def plain(self, index: int) -> Operand:
        """Input `index`, plain."""
        ...

    def planes(
        self,
        index: int,
        *,
        halo: Halo = NO_HALO,
        lanes: int | None = None,
        groups: int = 1,
        fill: int | None = None,
        halves: bool = False,
    ) -> Operand:
        """Input `index` (rank 2 to 5) in planes: float32, with at least this halo of zeros; or, where `fill` is a number, uint8,
        with this halo of that number. With `halves`, of bfloat16 where its maker rounded it to that."""
        ...

    def wants(self, index: int = 0) -> bool:
        """Whether output `index` is asked for at all."""
        ...

    def out_plain(self, index: int = 0) -> Operand:
        """Output `index`, to be written plain."""
        ...

    def out_any(self, index: int = 0, *, groups: int = 0) -> Operand:
        """Output `index`, in the layout that its first reader asks for, for kernels that write either one.

        With `groups` of 0 it is plain, or becomes planes of `lanes` channels (uint8 also of 4), of any groups; else it lies in
        planes of so many groups, or becomes plain.
        """
        ...

    def out_planes(self, index: int = 0, *, groups: int = 1, halves: bool = False) -> Operand:
        """Output `index`, to be written in planes of `lanes` channels; its writer must write the halo. With `halves`, of
        bfloat16, told as uint16: all who read it must read such planes."""
        ...

    def alias(self, output: int = 0, input: int = 0) -> None:
        """Output is the input's buffer, plain, under another shape."""
        ...

    def same(self, output: int = 0, input: int = 0) -> None:
        """Output is the input's value as it is, in whatever layout (Identity, Dropout)."""
        ...

    def pack(self, key: tuple[Hashable, ...], build: Build) -> Operand:
        """A packed constant, made once per model and `key` (include the constants' names: `name(i)`, and the format)."""
        ...

    def name(self, index: int) -> str:
        """Name of input `index`, for keys of `pack`."""
        ...

    def temp(self, shape: tuple[int, ...], dtype: np.dtype | type = np.float32) -> Operand:
        """A plain intermediate buffer."""
        ...

    def temp_planes(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype = FLOAT32,
        *,
        lanes: int | None = None,
        groups: int = 1,
        halo: Halo = NO_HALO,
    ) -> Operand:
        """A float32 or uint8 intermediate buffer in planes; its writer must write the halo."""
        ...

    def faults(self, n: int, text: str = "an index lies outside the axis", tensor: str = "indices") -> Operand:
        """Words of int64 in which `n` chunks report values of an input that are wrong: (whether, the value, the axis) each.

        The run raises an InputError that names the node where one is set: `text` says what is wrong, `tensor` with which input.
        """
        ...

    def call(self, kernel: str, inputs: Sequence[Operand | None], outputs: Sequence[Operand], /, **params: Any) -> None:
        """Add a kernel call; its builder gets the final views of the operands and `params`."""
        ...


def _wide_of(dtype: np.dtype) -> np.dtype:
    """What a type of ml_dtypes is computed in: each holds all of its values exactly."""
    return np.dtype({"i": np.int8, "u": np.uint8}.get(dtype.name[0], np.float32))


def _small_of(op: Any, dtypes: Sequence[np.dtype]) -> np.dtype | None:
    """The type of ml_dtypes that results are rounded to: that of the first input that is no bool and no integer of NumPy's.

    Raises
    ------
    InputError
        That input is of another type, and one after it is small.
    """
    if not op.widens or all(d.isbuiltin != 2 for d in dtypes):
        return None
    typed = [d for d in dtypes if d.isbuiltin == 2 or d.kind not in "biu"]
    if typed[0].isbuiltin == 2:
        return typed[0]
    if op.mixes:
        return None
    other = next(d for d in typed if d.isbuiltin == 2)
    raise InputError("inputs of different types", operator=op.op_type, expected=typed[0], received=other)


class Operator:
    """Base of all operators: subclasses are frozen dataclasses whose fields are the typed attributes.

    Class attributes
    ----------------
    op_type, domain : str
        The ONNX operator.
    min_version : int
        The oldest version of the operator that `from_onnx` understands.
    tolerance : str
        EXACT or ROUNDING, used by the tests.
    widens : bool
        Whether bfloat16, the 8-bit and 4-bit floats are computed in float32 (4-bit and 2-bit integers in 8 bits) and what
        comes out in that dtype is rounded back: `specs` and `evaluate` do so around `infer` and `reference`. Not for operators
        about dtypes themselves.
    mixes : bool
        Whether inputs may be of several floating-point types.
    growth : int
        How many times the bytes of its inputs a result may have to be computed while a model is loaded: a small file must not
        become a huge model. More where all of the result is in the file in a packed form.
    waits : bool
        Whether it is never computed while a model is loaded: it may run for as long as a number in the file says, or it hands
        bytes of the file to a library of decoders.
    gives : tuple of Gives, optional
        What the first outputs are, by the inputs' dtypes and ranks; None where `infer` tells it although extents are open.
    elements : sequence of int
        Inputs that have the element type, all of which may come in float32 in place of half precision; none where nothing is
        known of the operator. They must be of one type unless it `mixes`, and then the first one's counts.
    element_outputs : sequence of int
        Outputs that have the element type then.
    moves : bool
        Whether it only moves values, so that in half precision nothing is gained by another type.
    elementwise : bool
        Whether it is a function of single elements of its first input, its other inputs being settings.
    light : int
        The rank of inputs up to which NumPy computes the bits that kernels do, alone or fused with others, so that it does not
        matter which of them runs. -1: of none.
    divides : bool
        Whether a new segment starts behind it, where it is light.
    reads : str
        READ_PLAIN, READ_PACKED or READ_VALUES: what of the inputs after the first decides the kernel calls.
    settings : bool
        Whether constants that it reads are settings, not weights, to those who count weights.
    by_onnx : bool
        Whether onnx.reference runs it.
    """

    op_type: ClassVar[str] = ""
    domain: ClassVar[str] = ""
    min_version: ClassVar[int] = 1
    tolerance: ClassVar[str] = ROUNDING
    widens: ClassVar[bool] = True
    mixes: ClassVar[bool] = False
    growth: ClassVar[int] = 4
    waits: ClassVar[bool] = False
    gives: ClassVar[Giving] = None
    elements: ClassVar[Sequence[int]] = ()
    element_outputs: ClassVar[Sequence[int]] = EVERY
    moves: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False
    light: ClassVar[int] = -1
    divides: ClassVar[bool] = False
    reads: ClassVar[str] = READ_VALUES
    settings: ClassVar[bool] = False
    by_onnx: ClassVar[bool] = False

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> Operator:
        """Build from a file's node. The default fills each field from the attribute of the same name.

        Raises
        ------
        ModelError
            An attribute is missing, unknown or of the wrong type.
        UnsupportedOperatorError
            A version or attribute value that is valid ONNX but not supported.
        """
        kwargs: dict[str, Any] = {}
        own: Any = cls
        for name, f in fields_of(own).items():
            if name in node.attributes:
                value = node.attributes[name]
                kwargs[name] = tuple(value) if isinstance(value, list) else value
            elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                raise ModelError("a required attribute is missing", node=node.name, operator=node.op_type, expected=name)
        return cls(**kwargs)

    @classmethod
    def spell_out(cls, into: Expansion) -> bool:
        """Write a file's node as nodes of other operators, so that passes see those; False where `from_onnx` makes the node.

        Raises as `from_onnx` does.
        """
        return False

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        """Specs of the outputs from fully known input shapes; raises ShapeError or InputError where they do not fit.

        Where an output's value follows from shapes or known values, its spec carries it. An extent that depends on data
        is None. Unless the class `gives` its outputs, `outline` asks with open extents too: what depends on them is left open,
        or raises.
        """
        raise NotImplementedError

    def vet(self, inputs: Sequence[TensorSpec | None], names: Sequence[str] = ()) -> None:
        """Raise InputError or ShapeError where the inputs, as far as they are known, cannot be right, whatever the others are.

        Asked when a model is loaded, with what `outline` is told and the constants; `names` are the inputs' in the file.
        """

    def outline(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        """dtypes and ranks of the first outputs, as far as they follow from what is known of the inputs; raises nothing.

        Of the inputs, dtypes may be UNKNOWN, shapes None and extents open; of a sequence, the spec is that of its elements.
        """
        if self.gives is not None:
            return [g.of(inputs) for g in self.gives]
        try:
            return self.specs(inputs)
        except (CNNEngineError, ArithmeticError, AssertionError, LookupError, MemoryError, TypeError, ValueError):
            return []  # it asks for more; or the inputs do not fit, which it says where shapes are known, with the node's name

    def as_activation(self, inputs: Sequence[TensorSpec | None]) -> Activation | None:
        """The activation that it is of a float32 input 0, where kernels that have one can apply it to what they store.

        Of the inputs, dtypes and ranks are known as `outline` has them, and values of constants.
        """
        return None

    def linear_channels(self, w: tuple[int, ...]) -> tuple[int, int] | None:
        """(channels, rank) of a result that is linear in weights of this shape, input 1, and to each channel (axis 1) of which a
        bias, input 2, is added; None where there are no such inputs."""
        return None

    def over_weights(self, vector: np.ndarray, w: tuple[int, ...]) -> np.ndarray:
        """Numbers per channel in a shape that broadcasts over weights of shape `w`, where it has `linear_channels`."""
        raise NotImplementedError

    def multiply_adds(self, inputs: Extents, outputs: Extents) -> int | None:
        """Multiply-adds of a convolution or a product of matrices of these shapes; None where one that counts is not known."""
        return 0

    def reference(self, *inputs: Any) -> list[Any]:
        """The outputs computed plainly with NumPy; slow is fine, right is required."""
        raise UnsupportedOperatorError("has no reference", operator=self.op_type)

    def specs(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        """What `infer` says, of small types too where the operator `widens`."""
        for spec in inputs:
            if spec is not None and spec.dtype.isbuiltin == 2:
                break
        else:
            return self.infer(inputs)  # nearly always
        small = _small_of(self, [s.dtype for s in inputs if s is not None])
        if small is None:
            return self.infer(inputs)
        wide = [
            s
            if s is None or s.dtype.isbuiltin != 2
            else TensorSpec(_wide_of(s.dtype), s.shape, None if s.value is None else s.value.astype(_wide_of(s.dtype)))
            for s in inputs
        ]
        return [
            TensorSpec(small, s.shape, None if s.value is None else s.value.astype(small)) if s.dtype == _wide_of(small) else s
            for s in self.infer(wide)
        ]

    def evaluate(self, *inputs: Any) -> list[Any]:
        """What `reference` computes, of small types too where the operator `widens`."""
        small = _small_of(self, [x.dtype for x in inputs if isinstance(x, np.ndarray)])
        if small is None:
            return self.reference(*inputs)
        wide = [x.astype(_wide_of(x.dtype)) if isinstance(x, np.ndarray) and x.dtype.isbuiltin == 2 else x for x in inputs]
        return [
            np.asarray(y).astype(small) if isinstance(y, np.ndarray | np.generic) and y.dtype == _wide_of(small) else y
            for y in self.reference(*wide)
        ]

    def immediate(self, *inputs: Any) -> list[Any] | None:
        """The outputs by a compiled function at once, for operators whose output's extents depend on data.

        None where there is none for these inputs (C-contiguous arrays, None where absent).
        """
        return None

    def lower(self, ctx: Lowering) -> bool:
        """Add the kernel calls of this node; returns False where it cannot (then it runs on the host by `reference`)."""
        return False
