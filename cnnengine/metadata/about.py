"""`About`: all that is known of a model's pictures and classes, from whom, and what would be a guess.

The preparation is taken from one source as a whole: a mean of one and a scale of another would be nobody's. Ours goes first, then
one that settles both how pictures are resized and how they are scaled, then one that settles the scaling, then whatever there is.
What no source and no option settles is assumed only where that is said (`Preparation.assumed`); how pixels are scaled is never
assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..errors import InputError
from ..feeds import TensorInfo
from ..preprocess import Preprocess, settings_of_shape
from ..preprocess.settings import layered
from ..records import dataclass, fields_of
from . import huggingface, image_properties, openvino, own, paddle, timm, torchvision, ultralytics
from .presets import PRESETS
from .statement import Statement, Subject

Reader = Callable[[Subject], Statement | None]

IN_THE_FILE: tuple[Reader, ...] = (own.read, ultralytics.read, paddle.read, openvino.read, image_properties.read)
BESIDE: tuple[Reader, ...] = (huggingface.read, timm.read, torchvision.read, huggingface.read_classes)

SCALING = ("scale", "mean", "std")
FITTING = ("fit", "resize", "crop_pct", "resample", "antialias", "fill", "align")


def about(subject: Subject) -> About:
    """What the file and those beside it say of a model.

    Raises
    ------
    ModelError
        Our own metadata are not what docs/metadata.md says.
    InputError
        A file that was given cannot be read.
    """
    found = []
    for read in (*IN_THE_FILE, *BESIDE):
        statement = read(subject)
        if statement is not None:
            found.append(_fitting(statement, subject) if read is not own.read else statement)
    return About(tuple(found), subject.fixed, tuple(subject.problems))


def _fitting(statement: Statement, subject: Subject) -> Statement:
    """Without what contradicts the model itself, which is noted."""
    fields = {name: getattr(statement, name) for name in fields_of(Statement)}
    notes = list(statement.notes)
    count, settings = subject.classes, dict(statement.settings)
    if statement.labels is not None and count is not None and count != len(statement.labels):
        notes.append(f"its {len(statement.labels)} labels are not those of {count} classes")
        fields["labels"] = None
    size = settings.get("size")
    if subject.fixed is not None and isinstance(size, tuple) and size != subject.fixed and settings.get("fit") != "line":
        notes.append(f"its size is {size[0]}x{size[1]}, the model's {subject.fixed[0]}x{subject.fixed[1]}")
        resize = settings.pop("resize", None)
        if isinstance(resize, tuple):
            settings["crop_pct"] = min(1.0, size[0] / resize[0])
        settings["size"] = subject.fixed
    return Statement(**{**fields, "settings": settings, "notes": tuple(notes)})


@dataclass(frozen=True)
class Preparation:
    """How pictures become a model's input, and who says so.

    Attributes
    ----------
    settings : Preprocess
    sources : tuple of str
        Where the settings stand, the foremost first.
    assumed : tuple of str
        What nobody said: names of fields, with the values that they were given.
    notes : tuple of str
    """

    settings: Preprocess
    sources: tuple[str, ...]
    assumed: tuple[str, ...]
    notes: tuple[str, ...]

    def describe(self) -> str:
        """One line: the settings, from whom, and what was assumed."""
        text = f"{self.settings.describe()} (from {', '.join(self.sources)})"
        if self.assumed:
            text += f"; assumed: {', '.join(self.assumed)}"
        return "; ".join([text, *self.notes])


@dataclass(frozen=True)
class About:
    """What is known of a model.

    Attributes
    ----------
    statements : tuple of Statement
        In the order in which they count.
    fixed : (height, width) or None
        Of the input, where the file has them.
    problems : tuple of str
        What is there and could not be read.
    """

    statements: tuple[Statement, ...]
    fixed: tuple[int, int] | None = None
    problems: tuple[str, ...] = ()

    def first(self, field: str) -> tuple[object, str] | None:
        """The first that is said of labels, output, task or characters, and by whom; None where nobody does."""
        for statement in self.statements:
            value = getattr(statement, field)
            if value is not None:
                return value, statement.source
        return None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The classes' names."""
        found = self.first("labels")
        return None if found is None else found[0]  # type: ignore[return-value]

    @property
    def output(self) -> str | None:
        """What the output's numbers are: "logits", "probabilities" or None."""
        found = self.first("output")
        return None if found is None else str(found[0])

    @property
    def task(self) -> str | None:
        """What the model is for."""
        found = self.first("task")
        return None if found is None else str(found[0])

    @property
    def chosen(self) -> Statement | None:
        """The source that the preparation is taken from."""
        stating = [s for s in self.statements if s.complete or s.settings]
        ranked = sorted(
            stating, key=lambda s: 0 if s.complete else 1 if _scaled(s) and "fit" in s.settings else 2 if _scaled(s) else 3
        )
        return ranked[0] if ranked else None

    def preparation(
        self,
        info: TensorInfo,
        given: Mapping[str, object],
        assume: str | None = None,
        option: Callable[[str], str] = "{}=".format,
    ) -> Preparation:
        """How pictures become this input.

        Parameters
        ----------
        info : TensorInfo
        given : mapping of str to object
            Fields of `Preprocess` that go before what the sources say; None means "not given".
        assume : str, optional
            A name of PRESETS, for what is not said otherwise.
        option : function
            How a caller names a field: an option of the command, or an argument.

        Raises
        ------
        InputError
            How pixels are scaled is not known, a setting is invalid, or the input takes no pictures.
        """
        said = {name: value for name, value in given.items() if value is not None}
        if assume is not None and assume not in PRESETS:
            raise InputError("no such preparation", tensor=option("assume"), expected=", ".join(PRESETS), received=assume)
        chosen = self.chosen
        stated = {} if chosen is None else dict(chosen.settings)
        preset = {} if assume is None else dict(PRESETS[assume][1])
        told = settings_of_shape(info.shape, said.get("layout", stated.get("layout")))
        if told.get("gray", False):
            preset = _in_gray(preset)
        if chosen is not None:
            settled = (*(SCALING if _scaled(chosen) else ()), *(FITTING if "fit" in stated else ()))
            preset = {} if chosen.complete else {name: value for name, value in preset.items() if name not in settled}
        merged = layered(told, preset, stated, said)
        merged = _without_contradictions(merged, said)
        sources = _sources(said, chosen, assume if preset else None)
        complete = chosen is not None and chosen.complete
        assumed = [] if complete else self._assume(merged, said, info, option, sources)
        if merged.get("fit") in ("crop", "letterbox", "line") and merged.get("size") is None:
            raise InputError("the input takes any size: say which", tensor=option("size"), expected="height and width")
        if complete and np.issubdtype(info.dtype, np.integer) and "scale" not in merged:
            merged["scale"] = 1.0
        settings = Preprocess(**merged)  # type: ignore[arg-type]
        return Preparation(settings, tuple(sources), tuple(assumed), () if chosen is None else chosen.notes)

    def _assume(
        self,
        merged: dict[str, object],
        said: Mapping[str, object],
        info: TensorInfo,
        option: Callable[[str], str],
        sources: list[str],
    ) -> list[str]:
        """Add what must be assumed to the settings, and tell it."""
        assumed = []
        if not set(SCALING) & set(merged):
            if not np.issubdtype(info.dtype, np.integer):
                raise InputError("; ".join([_unknown(info, option), *self.problems]))
            merged["scale"] = 1.0
            sources.append(f"the input's {info.dtype}, which takes pixels as they are")
        elif "scale" not in merged:
            values = [*_many(merged.get("mean", 0.0)), *_many(merged.get("std", 1.0))]
            if any(abs(v) > 1 for v in values):
                raise InputError(
                    "mean and std are given, but not whether they are of pixels 0 to 255 or of 0 to 1",
                    tensor=option("scale"),
                    expected="1 or 1/255",
                )
            merged["scale"] = 1 / 255
            assumed.append("scale 1/255")
        if "fit" not in merged:
            cut = merged.get("resize") is not None or merged.get("crop_pct") is not None
            merged["fit"] = "crop" if cut else "stretch"
            free = not cut and merged.get("size") is None and "multiple" not in merged
            assumed.append("not resized" if free else f"fit {merged['fit']}")
        if not merged.get("gray") and "order" not in merged:
            merged["order"] = "RGB"
            assumed.append("order RGB")
        resizes = merged["fit"] != "pad" and (merged["fit"] != "stretch" or merged.get("size") is not None)
        if resizes and "resample" not in merged:
            merged["resample"] = "bilinear"
            assumed.append("resample bilinear")
        return assumed


def _sources(said: Mapping[str, object], chosen: Statement | None, assume: str | None) -> list[str]:
    found = ["options"] if said else []
    if assume is not None:
        found.append(f"assume {assume}")
    if chosen is not None:
        found.append(chosen.source)
    return found


def _without_contradictions(merged: dict[str, object], said: Mapping[str, object]) -> dict[str, object]:
    """Where another way to fit is said, what belonged to the old one is gone."""
    if "fit" not in said:
        return merged
    return {
        name: value for name, value in merged.items() if name in said or name not in ("resize", "crop_pct", "longest", "multiple")
    }


def _unknown(info: TensorInfo, option: Callable[[str], str]) -> str:
    shape = "of any rank" if info.shape is None else "(" + ", ".join("?" if d is None else str(d) for d in info.shape) + ")"
    return (
        f"nothing in the file or beside it says how a picture becomes its input {info.name!r}, {info.dtype} {shape}: give "
        f"{option('scale')}, {option('mean')}, {option('std')} (and {option('fit')}, {option('order')} where it is not "
        f"stretched, in RGB), or take a usual way by {option('assume')}, one of {', '.join(PRESETS)}"
    )


def _in_gray(preset: Mapping[str, object]) -> dict[str, object]:
    """A preset for one channel: the mean of the three."""
    found = dict(preset)
    for name in ("mean", "std"):
        value = found.get(name)
        if isinstance(value, tuple):
            found[name] = (sum(value) / len(value),)
    return found


def _scaled(statement: Statement) -> bool:
    return any(name in statement.settings for name in SCALING)


def _many(value: object) -> tuple[float, ...]:
    return tuple(float(v) for v in (value if isinstance(value, tuple) else (value,)))
