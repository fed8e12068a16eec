"""ImageDecoder: pictures in a file's bytes, by Pillow. Only formats of pixels are opened: others may run programs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, ModelError, ShapeError
from ..operator import EXACT, Gives, Giving, NodeRecord, Operator
from ..preprocess import require_pillow
from ..records import dataclass
from ..spec import TensorSpec
from .common import required

FORMATS = ("BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Those that ONNX names, in Pillow's words."""


@dataclass(frozen=True)
class ImageDecoder(Operator):
    """ONNX ImageDecoder (20): the pixels of an encoded picture, (height, width, channels) of uint8.

    What cannot be decoded gives a picture of no pixels, as ONNX says. Pictures of 16 bits keep their upper eight.

    Attributes
    ----------
    pixel_format : {"RGB", "BGR", "Grayscale"}
    """

    pixel_format: str = "RGB"

    op_type: ClassVar[str] = "ImageDecoder"
    min_version: ClassVar[int] = 20
    tolerance: ClassVar[str] = EXACT
    widens: ClassVar[bool] = False
    waits: ClassVar[bool] = True
    gives: ClassVar[Giving] = (Gives(np.dtype(np.uint8), rank=3),)

    @classmethod
    def from_onnx(cls, node: NodeRecord) -> ImageDecoder:
        name = node.attribute("pixel_format", "RGB")
        if name not in ("RGB", "BGR", "Grayscale"):
            raise ModelError(
                "unknown pixel_format",
                node=node.name,
                operator=node.op_type,
                expected="'RGB', 'BGR' or 'Grayscale'",
                received=name,
            )
        return cls(name)

    @property
    def _channels(self) -> int:
        return 1 if self.pixel_format == "Grayscale" else 3

    def infer(self, inputs: Sequence[TensorSpec | None]) -> list[TensorSpec]:
        stream = required(inputs, 0, self.op_type)
        if stream.dtype != np.uint8:
            raise InputError(
                "has the wrong dtype", operator=self.op_type, tensor="encoded_stream", expected="uint8", received=stream.dtype
            )
        if len(stream.concrete) != 1:
            raise ShapeError(
                "has the wrong rank", operator=self.op_type, tensor="encoded_stream", expected="1", received=stream.concrete
            )
        return [TensorSpec(np.dtype(np.uint8), (None, None, self._channels))]

    def reference(self, *inputs: Any) -> list[Any]:
        require_pillow()
        from PIL import Image as pillow

        try:
            with pillow.open(io.BytesIO(np.asarray(inputs[0]).tobytes()), formats=FORMATS) as opened:
                picture: Any = opened
                if picture.mode.startswith("I"):
                    shift = 8 if picture.mode.startswith("I;16") or np.asarray(picture).max(initial=0) > 255 else 0
                    picture = pillow.fromarray((np.asarray(picture).astype(np.int64) >> shift).clip(0, 255).astype(np.uint8))
                pixels = np.asarray(picture.convert("L" if self._channels == 1 else "RGB"))
        except pillow.DecompressionBombError as error:
            raise InputError(f"the picture is too large ({error})", operator=self.op_type, tensor="encoded_stream") from None
        except (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError):  # what its readers raise
            return [np.zeros((0, 0, self._channels), np.uint8)]
        pixels = pixels.reshape(*pixels.shape[:2], self._channels)
        return [np.ascontiguousarray(pixels[..., ::-1] if self.pixel_format == "BGR" else pixels)]
