"""What explains a score: a map over the input, how it was made, what it cost, and what it cannot tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import pages
from ..errors import InputError
from ..preprocess import Placement, as_image
from ..preprocess.pictures import eight_bits
from ..preprocess.sampling import along, bilinear
from ..records import lazy
from .methods import LIMITS, SOURCES, Found
from .page import OPACITY, page
from .target import Target

if TYPE_CHECKING:
    from PIL.Image import Image


class Explanation:
    """Which places of an input a score rests on; made by `Model.explain`.

    Attributes
    ----------
    map : ndarray, float32, of the input's extents
        Above zero what speaks for the target, below what speaks against it.
    coarse : ndarray, float32
        The same as it was computed: for each place of the layer, or for each patch.
    method : {"cam", "ablation", "occlusion"}
    why : str
        Why this method.
    score : float
        The number that is explained: of a last Softmax or Sigmoid what it reads.
    output : float or None
        The same number in the model's output; None for a function of the outputs.
    bias : float or None
        Of "cam": what no place adds to the score. ``coarse.mean() + bias`` is the score.
    target : int, tuple of int, or None
        None for a function.
    label : str or None
    layer : str
        The tensor whose places those of `coarse` are; the input for "occlusion".
    cost : dict
        ``runs``: samples that were run, ``of``: through what, ``batch``: how many at once, ``seconds``.
    source : str
        Who published the method, and when.
    limits : tuple of str
        What it cannot tell.
    model, input : str
    """

    def __init__(
        self,
        found: Found,
        target: Target,
        *,
        method: str,
        why: str,
        score: float,
        output: float | None,
        layer: str,
        cost: Mapping[str, Any],
        notes: Sequence[str],
        model: str,
        name: str,
        extents: Sequence[int],
        picture: Callable[[], Image | None],
        place: Placement | None,
    ) -> None:
        self.coarse = found.coarse.astype(np.float32)
        self.bias = found.bias
        self.method = method
        self.why = why
        self.score = score
        self.output = output
        self.target = target.said
        self.label = target.label
        self.layer = layer
        self.cost = dict(cost)
        self.source = str(SOURCES[method])
        self.limits = (*LIMITS[method], *notes)
        self.model = model
        self.input = name
        self.place = place
        self._named = str(target)
        self._fine = found.map
        self._extents = tuple(extents)
        self._picture = picture

    @lazy
    def map(self) -> np.ndarray:
        return self._fine if self._fine is not None else enlarged(self.coarse, self._extents)

    @lazy
    def picture(self) -> Image | None:
        """What was explained, upright, 8 bits; of an array its numbers as grays or colours. None where it is no picture."""
        return self._picture()

    def on_picture(self, image: Any = None) -> np.ndarray:
        """The map at the pixels of the picture that was given, float32 (H, W); 0 where they are no part of the input.

        Raises
        ------
        InputError
            The input is no picture.
        """
        size = None if image is None else (image.height, image.width)
        if len(self._extents) != 2:
            raise InputError(
                "the input is no picture",
                model=self.model,
                tensor=self.input,
                expected="2 axes of places",
                received=self._extents,
            )
        place = self.place
        if place is None or (size is not None and size != place.original):
            canvas = (self._extents[0], self._extents[1])
            if place is not None:
                raise InputError(
                    "is another picture than the one that was explained", tensor="image", expected=place.original, received=size
                )
            place = Placement(size or canvas, canvas, canvas, 0, 0)
        rows, columns = along(place, 0, self._extents[0]), along(place, 1, self._extents[1])
        made: np.ndarray = bilinear(self.map[None], rows, columns)[0]
        made[~rows.seen] = 0
        made[:, ~columns.seen] = 0
        return made

    def overlay(self, image: Any = None, *, opacity: float = OPACITY) -> Image:
        """A picture with the map over it: orange speaks for the target, blue against it; the strongest has the full colour.

        Parameters
        ----------
        image : path, bytes, binary file object, PIL.Image.Image, or uint8 ndarray, optional
            By default what was explained. Of an array that was explained, any picture of the same view.
        opacity : float
            From 0 to 1.

        Raises
        ------
        InputError
            The input is no picture, or this is another one; or Pillow is not installed.
        """
        from ..arguments import number

        share = number(opacity, "opacity")
        if not 0 <= share <= 1:
            raise InputError("is out of range", tensor="opacity", expected="0 to 1", received=opacity)
        given = None if image is None else eight_bits(as_image(image), False, None)
        below = self.picture if given is None else given
        if below is None:
            raise InputError(
                "the input is no picture",
                model=self.model,
                tensor=self.input,
                expected="2 axes of places",
                received=self._extents,
            )
        return pages.over(below, pages.heat(self.on_picture(given or below)), share)

    def save(self, path: Any, image: Any = None) -> None:
        """Write the overlay as a picture, or, for a name that ends in ``.html``, a page that stands alone.

        Raises
        ------
        InputError
            As `overlay`; or the file cannot be written.
        """
        if str(path).lower().endswith((".html", ".htm")):
            pages.written(path, page([self]))
        else:
            pages.saved(path, self.overlay(image))

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it, the map as `coarse`."""
        return {
            "model": self.model,
            "input": self.input,
            "method": self.method,
            "why": self.why,
            "target": list(self.target) if isinstance(self.target, tuple) else self.target,
            "label": self.label,
            "score": self.score,
            "output": self.output,
            "bias": self.bias,
            "layer": self.layer,
            "cost": self.cost,
            "source": self.source,
            "limits": list(self.limits),
            "extents": list(self._extents),
            "coarse": json.loads(json.dumps(np.nan_to_num(self.coarse).tolist())),
        }

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What it is, for people."""
        bias = "" if not self.bias else f"; of it {self.bias:.6g} is bias, which no place adds"
        output = "" if self.output is None or self.output == self.score else f" (in the output: {self.output:.6g})"
        cost = self.cost
        return [
            ("model", self.model),
            ("target", self._named),
            ("score", f"{self.score:.6g}{output}{bias}"),
            ("method", f"{self.method}, because {self.why}"),
            ("layer", f"{self.layer}, {' x '.join(map(str, self.coarse.shape))} places"),
            ("cost", f"{cost['runs']} runs of {cost['of']}, {cost['batch']} at once, {cost['seconds']:.2f} s"),
            ("source", self.source),
            ("cannot tell", " ".join(self.limits)),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:12} {value}" for name, value in self.rows)

    def __repr__(self) -> str:
        extents = "x".join(map(str, self._extents))
        return f"<cnnengine.Explanation of {self._named!r} by {self.method}: {extents}, score {self.score:.6g}>"

    def _repr_html_(self) -> str:
        try:
            shown = pages.shown(self.overlay(), f"where {self._named} is seen", 256)
        except InputError:  # a signal, or no Pillow
            shown = ""
        return f"<div>{shown}{pages.facts(self.rows)}</div>"


def enlarged(coarse: np.ndarray, extents: Sequence[int]) -> np.ndarray:
    """Numbers for each place at other extents, by linear interpolation between the places' middles along each axis."""
    made: np.ndarray = coarse
    for axis, extent in enumerate(extents):
        own = made.shape[axis]
        at = np.clip((np.arange(extent) + 0.5) * (own / extent) - 0.5, 0, own - 1)
        first = np.floor(at).astype(np.intp)
        share = (at - first).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(made.ndim)])
        before, behind = np.take(made, first, axis), np.take(made, np.minimum(first + 1, own - 1), axis)
        made = before + (behind - before) * share
    return np.ascontiguousarray(made, np.float32)
