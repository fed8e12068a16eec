"""Scales and zero points: what they must be, said with the name of the node's tensor.

A scale is a positive, finite number, and a zero point a number of the type of what it belongs to. The scales of weights in
blocks may be negative, where the extreme of a block is, and 0 for a block of zeros: onnxruntime's quantiser writes them so. All
are looked at as soon as something is known of them: constants when a model is loaded (`Operator.vet`), shapes when a plan is
made, what the network computes when it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..errors import CNNEngineError, InputError, ShapeError
from ..operator import Operator
from ..spec import TensorSpec
from .common import Specs, kind_of, spec_at

ONE = "one"
"""`Quantity.along`: one number for all of it."""
OWN = "own"
"""`Quantity.along`: the operator has a rule of its own."""


class Parameter(NamedTuple):
    """A scale or a zero point of a node.

    Attributes
    ----------
    operator, role : str
        What the specification calls it.
    place : int
        Where it is among the inputs.
    names : sequence of str
        What the file calls the inputs, where that is known.
    """

    operator: str
    role: str
    place: int = 0
    names: Sequence[str] = ()

    def wrong(self, kind: type[CNNEngineError], text: str, expected: object, received: object) -> CNNEngineError:
        """The error to raise."""
        name = self.names[self.place] if self.place < len(self.names) else ""
        return kind(
            f"{self.role} {text}" if name else text,
            operator=self.operator,
            tensor=name or self.role,
            expected=expected,
            received=received,
        )

    def positive(self, value: Any, any_sign: bool = False) -> None:
        """Raise InputError unless all numbers are positive and finite; with `any_sign` finite."""
        numbers = np.asarray(value)
        if kind_of(numbers.dtype) != "f":
            raise self.wrong(InputError, "has the wrong dtype", "floats", numbers.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            numbers = numbers.astype(np.float64)
            bad = np.argwhere(~(((numbers > 0) | any_sign) & np.isfinite(numbers)))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            place = f" at {at if len(at) > 1 else at[0]}" if numbers.size > 1 else ""
            what, expected = ("finite", "numbers") if any_sign else ("positive and finite", "numbers above 0")
            raise self.wrong(InputError, f"must be {what}", expected, f"{float(numbers[at])}{place}")

    def typed(self, dtype: np.dtype, wanted: np.dtype | None, of: str) -> None:
        """Raise InputError where both types are known and they are not the same."""
        if wanted is not None and kind_of(wanted) != "V" and kind_of(dtype) != "V" and dtype != wanted:
            raise self.wrong(InputError, f"is of another type than {of}", wanted, dtype)

    def sized(self, shape: tuple[int, ...], extent: int | None = None, what: str = "") -> None:
        """Raise ShapeError unless it is one number, or where there is an `extent` one for each `what`."""
        if shape in ((), (1,)) or (extent is not None and shape == (extent,)):
            return
        text = "must be a scalar" + ("" if extent is None else f" or one number per {what}")
        raise self.wrong(ShapeError, text, "one element" if extent is None else (extent,), shape)


class Quantity(NamedTuple):
    """A quantised operand or result of an operator, and where its parameters are among the inputs.

    Attributes
    ----------
    name : str
        As the specification calls it.
    data : int, optional
        Its place; None for a result.
    scale, zero : int, optional
        None where there is no such input.
    along : int or str
        The axis whose indices may have a number each; or ONE, or OWN.
    what : str
        What such an index is.
    called : tuple of str
        As the specification calls scale and zero point.
    types : tuple of dtype
        Those that the zero point may have, where they are told.
    any_sign : bool
        Whether scales may be negative and zero.
    """

    name: str
    data: int | None
    scale: int | None
    zero: int | None
    along: int | str = ONE
    what: str = ""
    called: tuple[str, str] = ("", "")
    types: tuple[np.dtype, ...] = ()
    any_sign: bool = False

    def parameters(self, operator: str, names: Sequence[str]) -> list[tuple[Parameter, bool]]:
        """Those that the operator has, with whether it is a scale."""
        scale, zero = self.called[0] or f"{self.name}_scale", self.called[1] or f"{self.name}_zero_point"
        found = []
        if self.scale is not None:
            found.append((Parameter(operator, scale, self.scale, names), True))
        if self.zero is not None:
            found.append((Parameter(operator, zero, self.zero, names), False))
        return found


def _shape(spec: TensorSpec | None) -> tuple[int, ...] | None:
    return spec.concrete if spec is not None and spec.is_concrete else None


def vet_quantities(quantities: Sequence[Quantity], inputs: Specs, operator: str, names: Sequence[str] = ()) -> None:
    """Raise InputError or ShapeError where scales and zero points, as far as they are known, cannot be right.

    Parameters
    ----------
    quantities : sequence of Quantity
    inputs : sequence of TensorSpec or None
        Of the node; dtypes may be UNKNOWN, shapes and values not known.
    operator : str
    names : sequence of str
        The inputs' names in the file, where they are known.
    """
    for quantity in quantities:
        data = None if quantity.data is None else spec_at(inputs, quantity.data)
        extents = _shape(data)
        for parameter, is_scale in quantity.parameters(operator, names):
            spec = spec_at(inputs, parameter.place)
            if spec is None:
                continue
            if not is_scale:
                parameter.typed(spec.dtype, None if data is None else data.dtype, quantity.name)
                if quantity.types and kind_of(spec.dtype) != "V" and spec.dtype not in quantity.types:
                    wanted = " or ".join(dtype.name for dtype in quantity.types)
                    raise parameter.wrong(InputError, "has the wrong dtype", wanted, spec.dtype)
            elif spec.value is not None:
                parameter.positive(spec.value, quantity.any_sign)
            elif kind_of(spec.dtype) not in "fV":
                raise parameter.wrong(InputError, "has the wrong dtype", "floats", spec.dtype)
            own, along = _shape(spec), quantity.along
            if own is None or along == OWN:
                continue
            if isinstance(along, str):
                parameter.sized(own)
            elif extents is not None and -len(extents) <= along < len(extents):
                parameter.sized(own, extents[along], quantity.what)


class Vetted(Operator):
    """An operator whose `quantities` are looked at.

    Class attributes
    ----------------
    quantities : tuple of Quantity
    """

    quantities: ClassVar[tuple[Quantity, ...]] = ()

    def vet(self, inputs: Specs, names: Sequence[str] = ()) -> None:
        vet_quantities(self.quantities, inputs, self.op_type, names)

    def vet_values(self, values: Sequence[Any]) -> None:
        """`vet` of inputs that are there."""
        self.vet([None if v is None else TensorSpec.of(np.asarray(v)) for v in values])
