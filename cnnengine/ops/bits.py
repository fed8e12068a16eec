"""BitCast: the same bits under another element type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError
from ..operator import EXACT, NodeRecord, Operator
from ..records import dataclass
from ..spec import TensorSpec
from .common import dtype_of, is_small, kind_of, required


def _width(dtype: np.dtype) -> int:
    """Bits of an element; those of less than a byte take one each in memory."""
    if is_small(dtype):
        digits = "".join(c for c in dtype.name.split("_")[0] if c.isdigit())
        return int(digits)
    return dtype.itemsize * 8


@dataclass(frozen=True)
class BitCast(Operator):
    """ONNX BitCast (26): the bits of each element read as another type of the same width."""

    to: np.dtype

    op_type: ClassVar[str] = "BitCast"
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> BitCast:
        dtype = dtype_of(node.attribute("to", 0), operator=node.op_type, node=node.name)
        if dtype.kind == "O":
            raise ModelError("texts have no bits", node=node.name, operator=node.op_type, expected="numbers", received="string")
        return cls(dtype)

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        x = required(inputs, 0, self.op_type)
        if kind_of(x.dtype) not in "fiubc" or _width(x.dtype) != _width(self.to):
            raise InputError(
                "the types differ in width", operator=self.op_type, expected=f"{_width(self.to)} bits", received=x.dtype
            )
        return [TensorSpec(self.to, x.shape)]

    def reference(self, *inputs: Any) -> list[Any]:
        x = np.ascontiguousarray(inputs[0]).reshape(np.shape(inputs[0]))
        return [x.view(self.to).reshape(x.shape)]
