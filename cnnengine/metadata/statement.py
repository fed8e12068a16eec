"""What one source says of a model (`Statement`), and where sources are looked for (`Subject`)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from ..errors import InputError
from ..records import dataclass

TASKS = ("classify", "detect", "segment", "pose", "obb", "image", "embed", "text")
"""What a model is for, as metadata name it."""
OUTPUT_KINDS = ("logits", "probabilities")
"""What the numbers of its output are."""

LARGEST = 1 << 24
"""Bytes of a file beside a model that is read: labels of many thousand classes have a few megabytes."""

Dim = int | str | None
Shape = tuple[Dim, ...] | None


@dataclass(frozen=True)
class Statement:
    """What one source says.

    Attributes
    ----------
    source : str
        Where it stands, for people: "its cnnengine.preprocess", "preprocessor_config.json".
    settings : mapping of str to object
        Fields of `Preprocess`, those that the source settles.
    complete : bool
        Whether fields that it does not name have their defaults, instead of being unknown.
    labels : tuple of str, or None
    output : {"logits", "probabilities"} or None
    task : str or None
        One of TASKS.
    characters : tuple of str, or None
        Of a network that reads lines of text: what each class but the first, the blank, stands for.
    notes : tuple of str
        What people should know, such as that something was left out, and why.
    """

    source: str
    settings: Mapping[str, object] = field(default_factory=dict)
    complete: bool = False
    labels: tuple[str, ...] | None = None
    output: str | None = None
    task: str | None = None
    characters: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A model, as the readers of metadata see it.

    Attributes
    ----------
    props : mapping of str to str
        The file's metadata_props.
    path : str or None
        Of the model's file: other files are looked for beside it.
    shape : tuple of int, str or None; or None
        Of the input that takes pictures.
    outputs : tuple of shapes
    given : str or None
        The one file that is read in place of those beside the model.
    problems : list of str
        Files beside the model that are there and could not be read, and why.
    """

    props: Mapping[str, str]
    path: str | None = None
    shape: Shape = None
    outputs: tuple[Shape, ...] = ()
    given: str | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def stem(self) -> str:
        """The name of the model's file without its ending."""
        return os.path.splitext(os.path.basename(self.path or ""))[0]

    @property
    def classes(self) -> int | None:
        """The scores for each sample of a model of one output of two axes; None where that is not known."""
        if len(self.outputs) != 1 or self.outputs[0] is None or len(self.outputs[0]) != 2:
            return None
        count = self.outputs[0][1]
        return count if isinstance(count, int) else None

    @property
    def fixed(self) -> tuple[int, int] | None:
        """Height and width of the input, where the file has them."""
        if self.shape is None or len(self.shape) != 4:
            return None
        last = self.shape[3] in (1, 3) and self.shape[1] not in (1, 3)
        height, width = self.shape[1:3] if last else self.shape[2:4]
        return (height, width) if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0 else None

    def texts(self, *names: str) -> Iterator[tuple[str, str]]:
        """Name and text of those of these files that are beside the model, or of the one that was given.

        Raises
        ------
        InputError
            The file that was given cannot be read.
        """
        if self.given is not None:
            if any(os.path.splitext(name)[1] == os.path.splitext(self.given)[1].lower() for name in names):
                yield os.path.basename(self.given), read_text(self.given)
            return
        for name in names:
            for folder in self._folders():
                path = os.path.join(folder, name)
                if not os.path.isfile(path):
                    continue
                try:
                    text = read_text(path)
                except InputError as error:
                    self._problem(error.message)
                    continue
                yield name, text
                break

    def objects(self, *names: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Those of them that hold a JSON object."""
        for name, text in self.texts(*names):
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                if self.given is not None:
                    raise InputError(f"{self.given}: is not JSON") from None
                self._problem(f"{name} beside it is not JSON")
                continue
            if isinstance(found, dict):
                yield name, found

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)

    def _folders(self) -> list[str]:
        """The model's own; that of the file which it is a link to; and, of a folder `onnx`, the one above it."""
        if self.path is None:
            return []
        own, real = os.path.dirname(os.path.abspath(self.path)), os.path.dirname(os.path.realpath(self.path))
        found = []
        for folder in (own, real):
            found += [folder, os.path.dirname(folder)] if os.path.basename(folder) == "onnx" else [folder]
        return list(dict.fromkeys(found))


def read_text(path: str) -> str:
    """A file's text; raises InputError, naming it."""
    try:
        if os.path.getsize(path) > LARGEST:
            raise InputError(f"{path}: too large to be a description", expected=f"at most {LARGEST} bytes")
        with open(path, encoding="utf-8-sig") as file:
            return file.read(LARGEST)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text") from error


# ---------------------------------------------------------------- values that others wrote
def numbers(value: object, counts: tuple[int, ...] = (1, 3)) -> tuple[float, ...] | None:
    """Finite numbers of a list, or one; None for anything else."""
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(items) not in counts:
        return None
    found = []
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (int, float)) or not math.isfinite(item):
            return None
        found.append(float(item))
    return tuple(found)


def positive(value: object) -> int | None:
    """A whole number of at least 1; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or not 1 <= value <= 1 << 16:
        return None
    return int(value) if value == int(value) else None


def numbered(value: object) -> tuple[str, ...] | None:
    """Names in the order of their numbers, of an object or a list; None where they are no names, or numbers are left out."""
    if isinstance(value, (list, tuple)):
        return tuple(value) if value and all(isinstance(v, str) for v in value) else None
    if not isinstance(value, dict) or not value:
        return None
    found: dict[int, str] = {}
    for key, name in value.items():
        text = str(key)
        if not (text.isascii() and text.isdigit()) or not isinstance(name, str):
            return None
        found[int(text)] = name
    if sorted(found) != list(range(len(found))):
        return None
    return tuple(found[i] for i in range(len(found)))
