"""Samples to calibrate and to judge by: pictures and arrays, each with its class where that is known.

A class is known in one of three ways, and never guessed:

- the folder has a sub-folder for each class, whose name is a label of the model or the class' number;
- a file with a line for each sample, its path (relative to the folder) and its label or number, separated by a comma or a tab;
- a .npz has, beside the model's inputs, an array `labels` with a number for each sample.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import array
from ..errors import CNNEngineError, InputError
from ..feeds import TensorInfo
from ..files import ARRAYS, IMAGES, expand, fitted, is_array, read_arrays
from ..preprocess import Preprocess, read_image, require_pillow

LABELS = "labels"
"""The array of a .npz that holds the samples' classes."""
KEPT_BYTES = 1 << 30
"""Prepared samples that are kept in memory; what is beyond is read again at each pass."""

Feeds = dict[str, np.ndarray]
Refuse = Callable[[str, CNNEngineError], None]
"""Told of a sample that cannot be used; may raise."""


@dataclass(frozen=True)
class Sample:
    """One sample: where it comes from, its class or None, and how to read it."""

    path: str
    label: int | None
    read: Callable[[], Feeds]


@dataclass(frozen=True)
class Unit:
    """What one run takes: as many samples as the file's batch has, the last repeated where there are fewer."""

    feeds: Feeds
    labels: tuple[int | None, ...]


class Samples:
    """Samples of a model's inputs.

    Parameters
    ----------
    samples : sequence of Sample
    batch : int
        Samples of a run, as the model's file fixes them.
    kept : dict of int to arrays, optional
        Those of them that were read already.
    """

    def __init__(self, samples: Sequence[Sample], batch: int, kept: dict[int, Feeds] | None = None) -> None:
        self._samples = list(samples)
        self._batch = batch
        self._kept = kept or {}
        self._held = sum(value.nbytes for feeds in self._kept.values() for value in feeds.values())

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def runs(self) -> int:
        """How many units there are."""
        return len(self) if self._batch == 1 else sum(1 for _ in self.units())

    @property
    def labelled(self) -> int:
        """How many have a class."""
        return sum(sample.label is not None for sample in self._samples)

    def spread(self, count: int) -> Samples:
        """At most `count` of them, evenly from first to last."""
        if count >= len(self):
            return self
        chosen = [int(i) for i in np.linspace(0, len(self) - 1, count).round()]
        kept = {at: self._kept[i] for at, i in enumerate(chosen) if i in self._kept}
        return Samples([self._samples[i] for i in chosen], self._batch, kept)

    def readable(self, refuse: Refuse) -> Samples:
        """Those that can be read, of the shape of the first; the others are told to `refuse`."""
        good: list[Sample] = []
        kept: dict[int, Feeds] = {}
        for at, sample in enumerate(self._samples):
            try:
                feeds = self._read(at)
                for name, value in feeds.items():
                    if value.dtype.kind == "f" and not np.isfinite(value).all():
                        raise InputError("holds NaN or infinities, of which no range can be made", tensor=name)
            except CNNEngineError as error:
                refuse(sample.path, error)
                continue
            if at in self._kept:
                kept[len(good)] = self._kept[at]
            good.append(sample)
        return Samples(good, self._batch, kept)

    def units(self) -> Iterator[Unit]:
        """All samples, in as many runs as it takes."""
        at = 0
        while at < len(self):
            parts = [self._read(at)]
            while len(parts) < self._batch and at + len(parts) < len(self):
                more = self._read(at + len(parts))
                if any(more[name].shape != value.shape for name, value in parts[0].items()):
                    break
                parts.append(more)
            labels = tuple(sample.label for sample in self._samples[at : at + len(parts)])
            at += len(parts)
            parts += parts[-1:] * (self._batch - len(parts))
            feeds = {name: np.concatenate([p[name] for p in parts]) if len(parts) > 1 else v for name, v in parts[0].items()}
            yield Unit(feeds, labels)

    def _read(self, at: int) -> Feeds:
        if at in self._kept:
            return self._kept[at]
        feeds = self._samples[at].read()
        size = sum(value.nbytes for value in feeds.values())
        if self._held + size <= KEPT_BYTES:
            self._kept[at] = feeds
            self._held += size
        return feeds


@dataclass(frozen=True)
class Reading:
    """How samples of a model are read.

    Attributes
    ----------
    inputs : sequence of TensorInfo
    preprocess : function giving a Preprocess
        Asked for only where there is a picture.
    names : tuple of str, or None
        The classes' labels.
    refuse : function
    beside : sequence of str
        Names that a .npz may have beside those of the inputs.
    """

    inputs: Sequence[TensorInfo]
    preprocess: Callable[[], Preprocess]
    names: tuple[str, ...] | None
    refuse: Refuse
    beside: Sequence[str] = ()

    @property
    def batch(self) -> int:
        """Samples of a run: what the file fixes, 1 otherwise."""
        fixed = {info.shape[0] if info.shape else None for info in self.inputs}
        extent = fixed.pop() if len(fixed) == 1 else None
        return extent if isinstance(extent, int) and extent > 1 else 1

    # ------------------------------------------------------------ what callers give
    def of(self, data: Any, labels: Any = None) -> Samples:
        """Samples of a folder, files, or arrays.

        Parameters
        ----------
        data : path, sequence of paths, array, or mapping of str to array
            Arrays have a sample at each index of axis 0.
        labels : path or sequence of int, optional
            The file of samples' classes; of arrays, the classes.
        """
        if isinstance(data, Mapping) or not isinstance(data, (str, os.PathLike, list, tuple)):
            return self._of_arrays(data, labels)
        if isinstance(data, (list, tuple)) and not all(isinstance(one, (str, os.PathLike)) for one in data):
            return self._of_arrays(data, labels)
        paths = [os.fspath(one) for one in ([data] if isinstance(data, (str, os.PathLike)) else data)]
        truth = None if labels is None else self._truth(labels)
        found: list[Sample] = []
        for path in paths:
            found += self._of_path(path, truth)
        if truth:
            path = next(iter(truth))
            raise InputError("the file of labels names what is not among the samples", tensor=str(labels), received=path)
        if not found:
            raise InputError(
                "nothing to calibrate on",
                tensor=", ".join(paths),
                expected=f"pictures ({', '.join(IMAGES)}) or arrays ({', '.join(ARRAYS)}), directly in the folder or in a "
                "sub-folder for each class",
            )
        return Samples(found, self.batch)

    def _of_arrays(self, data: Any, labels: Any) -> Samples:
        arrays = {n: array(v, n) for n, v in data.items()} if isinstance(data, Mapping) else {"": array(data, "data")}
        if len(arrays) == 1 and len(self.inputs) == 1:
            arrays = {self.inputs[0].name: next(iter(arrays.values()))}
        given = None if labels is None else array(labels, "labels")
        return Samples(self._rows("data", arrays, given, None), self.batch)

    def _of_path(self, path: str, truth: dict[str, int] | None) -> list[Sample]:
        folders = _folders_of(path) if os.path.isdir(path) else []
        here = expand([path])
        if here[0].error is not None and not os.path.lexists(path):
            raise here[0].error.locate(file=path)
        if not os.path.lexists(here[0].path):
            raise InputError("no such file or folder", file=path)
        if not folders:
            return [s for one in here for s in self._of_file(one.path, one.error, None, truth, path)]
        if here[0].error is None:
            raise InputError(
                "files beside the folders of classes", file=path, expected="all files in sub-folders", received=here[0].path
            )
        found = []
        for folder in folders:
            label = None if truth is not None else self._class(os.path.basename(folder), folder)
            for one in expand([folder]):
                found += self._of_file(one.path, one.error, label, truth, path)
        return found

    def _of_file(
        self, path: str, error: InputError | None, label: int | None, truth: dict[str, int] | None, root: str
    ) -> list[Sample]:
        if error is not None:
            if os.path.isdir(path):
                return []
            self.refuse(path, error)
            return []
        if truth is not None:
            label = truth.pop(
                os.path.normpath(os.path.relpath(path, root if os.path.isdir(root) else os.path.dirname(root))), None
            )
        if not is_array(path):
            require_pillow()
            preprocess, info = self.preprocess(), self.inputs[0]
            return [Sample(path, label, lambda: {info.name: preprocess.apply(read_image(path), info.dtype)})]
        try:
            arrays = read_arrays(path)
            inside = None
            if LABELS in arrays and LABELS not in [info.name for info in self.inputs]:
                inside = arrays.pop(LABELS)
            return self._rows(path, arrays, inside, label)
        except CNNEngineError as problem:
            self.refuse(path, problem)
            return []

    # ------------------------------------------------------------ arrays, classes
    def _rows(self, path: str, arrays: Mapping[str, np.ndarray], labels: np.ndarray | None, label: int | None) -> list[Sample]:
        """A sample for each index of axis 0; the whole of it where the inputs have no common axis of samples."""
        whole = fitted(dict(arrays), self.inputs, self.beside)
        extents = {value.shape[0] if value.ndim else None for value in whole.values()}
        fixed = [info.shape[0] for info in self.inputs if info.shape and isinstance(info.shape[0], int)]
        count = extents.pop() if len(extents) == 1 else None
        single = count is None or (bool(fixed) and self.batch == 1 and fixed[0] != 1)
        if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != (1 if single else count,)):
            raise InputError(
                "not a class for each sample", tensor=LABELS, expected=f"{count} integers", received=(labels.dtype, labels.shape)
            )
        if single:
            return [Sample(path, int(labels[0]) if labels is not None else label, lambda: whole)]

        def reads(at: int) -> Callable[[], Feeds]:
            return lambda: {name: value[at : at + 1] for name, value in whole.items()}

        of = [label] * (count or 0) if labels is None else [int(n) for n in labels]
        return [Sample(f"{path}[{i}]", of[i], reads(i)) for i in range(count or 0)]

    def _class(self, text: str, where: str) -> int:
        """The number of a class by its label, or as digits."""
        count = (self.names or ()).count(text)
        if count == 1:
            return (self.names or ()).index(text)
        if text.isascii() and text.isdigit() and count == 0:
            return int(text)
        expected = "the number of a class" if self.names is None else f"one of the {len(self.names)} labels, or a class' number"
        raise InputError(
            "no class of the model" if count == 0 else "several classes have this label: give the number",
            tensor=where,
            expected=f"{expected}; the labels are those of the file, or given (--labels)",
            received=text,
        )

    def _truth(self, path: Any) -> dict[str, int]:
        """Path of a sample -> its class, as a file says."""
        if not isinstance(path, (str, os.PathLike)):
            raise InputError("of files, labels are a file", tensor="labels", expected="a path", received=type(path).__name__)
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "not UTF-8 text"
            raise InputError(f"cannot read the samples' classes: {said}", file=os.fspath(path)) from error
        found: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            name, separator, label = line.rpartition("\t" if "\t" in line else ",")
            where = f"{os.fspath(path)}, line {number}"
            if not separator:
                raise InputError("not a path and a class", tensor=where, expected="PATH,LABEL", received=line)
            key = os.path.normpath(name.strip())
            if key in found:
                raise InputError("a sample is named twice", tensor=where, received=name.strip())
            found[key] = self._class(label.strip(), where)
        return found


def _folders_of(path: str) -> list[str]:
    """Sub-folders that hold pictures or arrays, sorted."""
    inside = sorted(e.path for e in os.scandir(path) if e.is_dir() and not e.name.startswith("."))
    return [folder for folder in inside if any(one.error is None for one in expand([folder]))]
