"""Networks on samples: their outputs, what they say the classes are, their time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CNNEngineError, InputError
from ..model import Model
from .samples import Samples, Unit

if TYPE_CHECKING:
    import onnx

ROUNDS = 5
"""Turns at least of each network that is timed."""


class Network:
    """A network that can be run: by cnnengine, or by onnxruntime where that is not possible.

    Without VNNI onnxruntime's sums of products of 8 bits saturate, so that what it says of a quantised network may be worse than
    the network is.

    Parameters
    ----------
    proto : onnx.ModelProto
    threads : int or None
    outputs : sequence of str, optional
        In place of the file's; of what runs here.
    """

    def __init__(self, proto: onnx.ModelProto, threads: int | None, outputs: Sequence[str] | None = None) -> None:
        self.engine = "cnnengine"
        self._model: Model | None = None
        self._session: Any = None
        names = [value.name for value in proto.graph.output] if outputs is None else list(outputs)
        self.names = list(dict.fromkeys(names))
        try:
            self._model = Model(proto, threads=threads, outputs=self.names)
        except CNNEngineError:
            self.engine = "onnxruntime"
            self._session = _session(proto, threads, self.names)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give back the memory."""
        if self._model is not None:
            self._model.close()
        self._model = self._session = None

    def run(self, feeds: dict[str, np.ndarray]) -> list[Any]:
        """The outputs, in the order of `names`."""
        if self._model is not None:
            return self._model.run(self.names, feeds)
        results: list[Any] = self._session.run(self.names, feeds)
        return results


def _session(proto: onnx.ModelProto, threads: int | None, names: Sequence[str]) -> Any:
    """onnxruntime as it computes what the file says, its rewrites off."""
    import importlib

    import onnx

    onnxruntime: Any = importlib.import_module("onnxruntime")
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    known = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    try:
        return onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises what it likes
        raise InputError(f"neither cnnengine nor onnxruntime can run it: {' '.join(str(error).split())[:300]}") from error


@dataclass(frozen=True)
class Answers:
    """What a network says of samples.

    Attributes
    ----------
    output : str or None
        The output that has a score for each class; None where there is none.
    classes : tuple of int
        The class with the best score, of each sample.
    labels : tuple of int or None
        The samples' own.
    engine : str
    """

    output: str | None
    classes: tuple[int, ...]
    labels: tuple[int | None, ...]
    engine: str

    @property
    def correct(self) -> int:
        """How many of the labelled samples are told right."""
        return sum(said == label for said, label in zip(self.classes, self.labels, strict=True) if label is not None)

    def same(self, other: Answers) -> int:
        """How many samples both tell alike."""
        return sum(a == b for a, b in zip(self.classes, other.classes, strict=True))


def answers(network: Network, samples: Samples, step: Callable[[int], None]) -> Answers:
    """Run all samples; `step` is told how many each run took."""
    classes: list[int] = []
    labels: list[int | None] = []
    output: str | None = None
    first = True
    for unit in samples.units():
        results = network.run(unit.feeds)
        rows = [_scores(value, len(next(iter(unit.feeds.values())))) for value in results]
        if first:
            output = next((name for name, found in zip(network.names, rows, strict=True) if found is not None), None)
            first = False
        if output is not None:
            scores = rows[network.names.index(output)]
            if scores is None:
                raise InputError("has scores for some samples alone", tensor=output)
            for label in unit.labels:
                if label is not None and not 0 <= label < scores.shape[1]:
                    raise InputError("no such class", tensor=output, expected=f"0 to {scores.shape[1] - 1}", received=label)
            classes += [int(n) for n in scores[: len(unit.labels)].argmax(axis=1)]
            labels += unit.labels
        step(len(unit.labels))
    return Answers(output, tuple(classes), tuple(labels), network.engine)


def _scores(value: Any, count: int) -> np.ndarray | None:
    """An output as (samples, classes), where it is one score for each class."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim < 2 or len(value) != count:
        return None
    if value.size != count * max(value.shape[1:]) or value.size == count:
        return None
    return value.reshape(count, -1)


def sums(
    mine: Network, other: Network, pairs: Sequence[tuple[str, str]], units: Iterable[Unit], step: Callable[[int], None]
) -> list[tuple[float, float]]:
    """For each pair of tensors, one of each network, the sum of squares of the first and of their difference."""
    signal, noise = np.zeros(len(pairs)), np.zeros(len(pairs))
    for unit in units:
        a = dict(zip(mine.names, mine.run(unit.feeds), strict=True))
        b = a if other is mine else dict(zip(other.names, other.run(unit.feeds), strict=True))
        for at, (first, second) in enumerate(pairs):
            x, y = np.asarray(a[first]).astype(np.float64), np.asarray(b[second]).astype(np.float64)
            if x.shape != y.shape:
                continue
            signal[at] += float(np.sum(x * x))
            noise[at] += float(np.sum((x - y) ** 2))
        step(len(unit.labels))
    return [(float(s), float(n)) for s, n in zip(signal, noise, strict=True)]


def timed(protos: Sequence[onnx.ModelProto], unit: Unit, threads: int | None, seconds: float) -> Iterator[float | None]:
    """The shortest milliseconds of a run of each network in cnnengine, measured in turns; None of one that it cannot run."""
    models: list[Model | None] = []
    for proto in protos:
        try:
            model = Model(proto, threads=threads)
            model.run(None, unit.feeds)
            models.append(model)
        except CNNEngineError:
            models.append(None)
    best = [float("inf")] * len(models)
    end, rounds = time.perf_counter() + seconds * sum(m is not None for m in models), 0
    while rounds < ROUNDS or time.perf_counter() < end:
        for at, timed_model in enumerate(models):
            if timed_model is None:
                continue
            began = time.perf_counter()
            timed_model.run(None, unit.feeds)
            best[at] = min(best[at], time.perf_counter() - began)
        rounds += 1
    for found, used in zip(models, best, strict=True):
        if found is not None:
            found.close()
        yield None if found is None else used * 1e3
