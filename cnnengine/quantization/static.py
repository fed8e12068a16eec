"""`quantize`: a float model's file in, a quantised one out, and what that costs and gains.

The search for layers to leave in float is greedy by what was measured: each layer's effect is the error of the model's outputs
where it alone is quantised. The first 1, 2, 4 ... of them by effect are left in float until the accuracy is kept, the number is
then halved between the last that was not enough and the first that was, and at last each of those left is put back, the least
effect first, where the accuracy is kept without it.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import arguments
from .._kernels import dispatch
from ..errors import CNNEngineError, InputError
from ..files import labels_of_file
from ..model import Model, inside
from ..preprocess import Preprocess
from . import library
from .judge import Answers, Network, answers, sums, timed
from .layers import Layers
from .library import CALIBRATIONS, FORMATS, TYPES, Quantiser, Settings
from .samples import Reading, Refuse, Samples

if TYPE_CHECKING:
    import onnx

CALIBRATED = 128
"""Samples to calibrate on, at most."""
MEASURED = 32
"""Samples that errors of layers are measured on, at most."""
SEARCHED = 8
"""Samples that effects of layers are measured on, at most."""
SECONDS = 1.0
"""How long each network is timed."""

Tell = Callable[[str, int, int], None]
"""Told of progress: what is done, how many of how many."""


@dataclass(frozen=True)
class LayerError:
    """What a quantised layer loses.

    Attributes
    ----------
    node, operator, tensor : str
        The tensor is the layer's output in the float network, behind a Relu or Clip that goes into it.
    error : float or None
        Root of the mean square of the difference from the float network, over that of the float tensor; None where that is 0, and
        of layers that are not quantised.
    own : float or None
        The same, where the layer alone is quantised and reads the float tensors.
    effect : float or None
        Error of the model's outputs, the largest of them, where this layer alone is quantised; None unless layers were searched,
        and of layers that cannot be taken by themselves, which come first in the search.
    quantised : bool
        False of layers that were left in float to keep the accuracy, or whose neighbours were; `own` and `effect` are what was
        measured before that.
    """

    node: str
    operator: str
    tensor: str
    error: float | None
    own: float | None
    effect: float | None = None
    quantised: bool = True

    @property
    def snr(self) -> float | None:
        """Signal to noise in decibels, of `error`; None where there is no signal or no noise."""
        return _decibels(self.error)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {**asdict(self), "snr": self.snr, "own_snr": _decibels(self.own)}


@dataclass(frozen=True)
class OutputError:
    """The error of one of the model's outputs, as `LayerError` has it."""

    tensor: str
    error: float | None

    @property
    def snr(self) -> float | None:
        """Signal to noise in decibels."""
        return _decibels(self.error)


@dataclass(frozen=True)
class Trial:
    """One set of layers that was left in float.

    Attributes
    ----------
    float_layers : tuple of str
    accuracy : float
        Of labelled samples the part that is told right; without labels, the part that is told as the float network tells it.
    size : int
        Bytes of the file.
    milliseconds : float or None
        Of a run; None where cnnengine cannot run it.
    kept : bool
        Whether the accuracy is what was asked for.
    """

    float_layers: tuple[str, ...]
    accuracy: float
    size: int
    milliseconds: float | None
    kept: bool


@dataclass(frozen=True)
class Quantization:
    """What `quantize` did and found.

    Attributes
    ----------
    model : str
    out : str or None
        The file that was written.
    format, type, calibration : str
    per_channel : bool
    percentile : float or None
    calibrated, evaluated, labelled : int
        Samples that ranges were taken from, that were evaluated, and of these those whose class is known.
    excluded : tuple of str
        Nodes that the caller left in float.
    layers : tuple of LayerError
        In the order of the graph.
    outputs : tuple of OutputError
    scores : str or None
        The output with a score for each class; None where the model has none, and there is no accuracy.
    correct_before, correct_after : int or None
        Labelled samples that are told right.
    same : int or None
        Samples that both networks tell alike.
    engine : str or None
        What ran the quantised network for this: cnnengine, or onnxruntime where cnnengine cannot.
    size_before, size_after : int
        Bytes of the files, with external data.
    milliseconds_before, milliseconds_after : float or None
        The shortest run of one sample in cnnengine; None where it cannot run the quantised network.
    isa : str
    threads : int
    keep_accuracy : float or None
        The loss that was allowed.
    kept : bool
        Whether it was kept; True where nothing was asked for.
    float_layers : tuple of str
        Layers that were left in float to keep the accuracy.
    trials : tuple of Trial
        What was tried for that, in order.
    refused : dict of str to str
        Samples that could not be used, and why.
    proto : onnx.ModelProto
        The quantised model.
    """

    model: str
    out: str | None
    format: str
    type: str
    calibration: str
    per_channel: bool
    percentile: float | None
    calibrated: int
    evaluated: int
    labelled: int
    excluded: tuple[str, ...]
    layers: tuple[LayerError, ...]
    outputs: tuple[OutputError, ...]
    scores: str | None
    correct_before: int | None
    correct_after: int | None
    same: int | None
    engine: str | None
    size_before: int
    size_after: int
    milliseconds_before: float | None
    milliseconds_after: float | None
    isa: str
    threads: int
    keep_accuracy: float | None
    kept: bool
    float_layers: tuple[str, ...]
    trials: tuple[Trial, ...]
    refused: dict[str, str] = field(default_factory=dict)
    proto: onnx.ModelProto | None = field(default=None, repr=False, compare=False)

    @property
    def accuracy_before(self) -> float | None:
        """Part of the labelled samples that the float network tells right."""
        return None if self.correct_before is None or not self.labelled else self.correct_before / self.labelled

    @property
    def accuracy_after(self) -> float | None:
        """Part of the labelled samples that the quantised network tells right."""
        return None if self.correct_after is None or not self.labelled else self.correct_after / self.labelled

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "proto"}
        return {
            **plain,
            "excluded": list(self.excluded),
            "layers": [layer.as_dict() for layer in self.layers],
            "outputs": [{**asdict(output), "snr": output.snr} for output in self.outputs],
            "accuracy_before": self.accuracy_before,
            "accuracy_after": self.accuracy_after,
            "float_layers": list(self.float_layers),
            "trials": [{**asdict(trial), "float_layers": list(trial.float_layers)} for trial in self.trials],
        }


def quantize(
    model: Any,
    data: Any,
    out: str | os.PathLike[str] | None = None,
    *,
    test: Any = None,
    truth: Any = None,
    labels: Sequence[str] | str | os.PathLike[str] | None = None,
    format: str = "qdq",
    type: str = "u8s8",
    per_channel: bool = True,
    calibration: str = "minmax",
    percentile: float = 99.99,
    samples: int = CALIBRATED,
    exclude: Iterable[str] = (),
    keep_accuracy: float | None = None,
    threads: int | None = None,
    preprocess: Preprocess | None = None,
    refuse: Refuse | None = None,
    tell: Tell | None = None,
) -> Quantization:
    """Quantise a float model to 8 bits by onnxruntime's quantiser, and measure what that costs and gains.

    Needs ``pip install 'onnxruntime>=1.31'``, and Pillow to read pictures.

    Parameters
    ----------
    model : as for `cnnengine.load`
    data : path, sequence of paths, array, or mapping of str to array
        Samples that ranges are taken from: a folder of pictures or .npy and .npz files, or of a folder of those for each class
        (its name a label of the model, or the class' number); files; arrays with a sample at each index of axis 0.
    out : path, optional
        The file to write.
    test : as `data`, optional
        Samples that the networks are compared on, in place of `data`.
    truth : path, or sequence of int for arrays; optional
        The samples' classes: a file with a line ``PATH,LABEL`` for each, paths relative to the folder.
    labels : sequence of str or path, optional
        The classes' labels, in place of those in the model's metadata.
    format : {"qdq", "qoperator"}
        QuantizeLinear and DequantizeLinear around float operators, or operators on quantised numbers.
    type : {"u8s8", "s8s8", "u8u8"}
        Of activations and weights: unsigned or signed integers of 8 bits.
    per_channel : bool
        Whether each output channel's weights have a scale.
    calibration : {"minmax", "percentile", "entropy"}
    percentile : float
        For "percentile": the part, in percent, of a tensor's values that its range holds.
    samples : int
        How many samples to calibrate on at most; they are taken evenly from all.
    exclude : iterable of str
        Nodes to leave in float: names, patterns of names with ``*``, or operators.
    keep_accuracy : float, optional
        Loss of accuracy that is allowed, 0.005 for half a percent: layers are left in float until it is kept. Without labels it
        is the part of samples that are told otherwise than by the float network.
    threads : int, optional
    preprocess : Preprocess, optional
        How pictures are prepared, in place of what the model's metadata say.
    refuse : function of a path and an error, optional
        Told of samples that cannot be used; without it the error is raised.
    tell : function of a text and two numbers, optional
        Told of progress.

    Returns
    -------
    Quantization
        With `kept` False where no set of layers keeps the accuracy; the file written is then the best that was tried.

    Raises
    ------
    InputError
        An argument is wrong, there are no samples, the model is quantised already, or onnxruntime is not installed.
    ModelError
        The model cannot be read, prepared or quantised.

    Examples
    --------
    >>> found = cnnengine.quantize("model.onnx", "pictures/", "model8.onnx", keep_accuracy=0.005)
    >>> found.accuracy_before, found.accuracy_after, found.float_layers
    """
    settings = _settings(format, type, per_channel, calibration, percentile)
    samples = arguments.integer(samples, "samples", 1)
    exclude = tuple(arguments.names(exclude, "exclude"))
    if keep_accuracy is not None:
        keep_accuracy = arguments.number(keep_accuracy, "keep_accuracy")
        if not 0 <= keep_accuracy < 1:
            raise InputError("not a part", tensor="keep_accuracy", expected="0 to 1 (0.005 for 0.5 %)", received=keep_accuracy)
    if isinstance(labels, (str, os.PathLike)):
        labels = labels_of_file(os.fspath(labels))
    elif labels is not None:
        labels = tuple(arguments.names(labels, "labels"))
    target = None if out is None else _target(out, model)
    library.required()
    refused: dict[str, str] = {}

    def note(path: str, error: CNNEngineError) -> None:
        if refuse is None:
            raise InputError(f"{path}: {error}") from error
        refused[path] = str(error)
        refuse(path, error)

    with Model(model, threads=threads) as loaded, tempfile.TemporaryDirectory(prefix="cnnengine.") as folder:
        names = labels if labels is not None else loaded.labels
        reading = Reading(
            loaded.inputs, lambda: preprocess or _preprocess(loaded), names, note, [info.name for info in loaded.outputs]
        )
        original, size = inside(loaded).source.proto(), _size_of(model, loaded)
        given = library.quantised_already(original)
        if given is not None:
            raise InputError("is quantised already: give the float model", model=loaded.name, received=given)
        every = reading.of(data, truth if test is None else None)
        every = (every if test is None else every.spread(samples)).readable(note)
        tests = every if test is None else reading.of(test, truth).readable(note)
        for found, argument in ((every, "data"), (tests, "test")):
            if not len(found):
                raise InputError("no sample can be used", model=loaded.name, tensor=argument)
        job = _Job(loaded, original, settings, every.spread(samples), tests, folder, exclude, threads, tell or _silent)
        return job.run(size, target, keep_accuracy, refused)


def _settings(form: str, kind: str, per_channel: bool, calibration: str, percentile: float) -> Settings:
    for name, value, known in (("format", form, FORMATS), ("type", kind, TYPES), ("calibration", calibration, CALIBRATIONS)):
        if not isinstance(value, str) or value not in known:
            raise InputError("unknown value", tensor=name, expected=" or ".join(known), received=value)
    percentile = arguments.number(percentile, "percentile")
    if not 50 < percentile <= 100:
        raise InputError("not a percentile", tensor="percentile", expected="more than 50, at most 100", received=percentile)
    return Settings(form, kind, arguments.boolean(per_channel, "per_channel"), calibration, percentile)


def _target(out: Any, model: Any) -> Path:
    """Where to write; refused before any work where that cannot be done."""
    if not isinstance(out, (str, os.PathLike)):
        raise InputError("is no path", tensor="out", expected="a path", received=out.__class__.__name__)
    path = Path(os.fspath(out))
    if path.is_dir() or not path.parent.is_dir():
        raise InputError("cannot be written", file=str(path), expected="a file in a folder that exists")
    if isinstance(model, (str, os.PathLike)) and path.exists() and os.path.exists(model) and os.path.samefile(path, model):
        raise InputError("is the model itself: give another name", file=str(path))
    return path


def _preprocess(model: Model) -> Preprocess:
    if len(model.inputs) != 1:
        names = ", ".join(info.name for info in model.inputs)
        raise InputError(f"the model has {len(model.inputs)} inputs: give .npz files with the arrays {names}", model=model.name)
    try:
        return model.about.preparation(model.inputs[0], {}, None, lambda name: f"--{name}").settings
    except InputError as error:
        raise InputError(f"{error.message} (in Python: preprocess=)", model=model.name, tensor=error.tensor) from None


def _size_of(model: Any, loaded: Model) -> int:
    """Bytes of the file, with data outside of it."""
    proto = inside(loaded).source.proto()
    if isinstance(model, (str, os.PathLike)):
        return max(os.path.getsize(model), int(proto.ByteSize()))
    return int(proto.ByteSize())


def _silent(text: str, done: int, of: int) -> None:
    pass


def _decibels(error: float | None) -> float | None:
    return None if not error else -20 * math.log10(error)


def _error(sums_of: tuple[float, float]) -> float | None:
    signal, noise = sums_of
    return math.sqrt(noise / signal) if signal > 0 and math.isfinite(noise) and math.isfinite(signal) else None


class _Job:
    """One model: what all steps share."""

    def __init__(
        self,
        loaded: Model,
        original: onnx.ModelProto,
        settings: Settings,
        calibration: Samples,
        tests: Samples,
        folder: str,
        exclude: Sequence[str],
        threads: int | None,
        tell: Tell,
    ) -> None:
        self._model, self._original = loaded, original
        self._settings, self._threads, self._tell = settings, threads, tell
        self._calibration, self._tests = calibration, tests
        self._plain = library.prepared(original, folder, loaded.name)
        self._excluded = _chosen(exclude, self._plain, loaded.name)
        self._quantiser = Quantiser(self._plain, settings, calibration, folder, loaded.name)
        self._before: Answers | None = None

    def run(self, size: int, target: Path | None, keep: float | None, refused: dict[str, str]) -> Quantization:
        self._tell("calibrating", 0, 1)
        paired = self._quantiser.run(self._excluded, "qdq")
        layers = Layers(self._plain, paired)
        if not layers.layers:
            raise InputError(
                "no node can be quantised",
                model=self._model.name,
                expected=f"a float32 node of {', '.join(sorted(self._quantiser.operators()))} that is not excluded",
            )
        with Network(self._original, self._threads) as network:
            self._before = self._answers(network, "the float network")
        made = self._made(self._excluded, paired)
        after = self._after(made)
        errors, outputs = self._errors(layers, paired, made)
        left: tuple[str, ...] = ()
        trials: tuple[Trial, ...] = ()
        kept = True
        if keep is not None:
            search = _Search(self, keep, self._before, after, made)
            kept = search.kept
            if not kept:
                effects = self._effects(layers)
                errors = [replace(e, effect=effects.get(e.node)) for e in errors]
                order = sorted(effects, key=lambda name: -math.inf if effects[name] is None else -(effects[name] or 0.0))
                made, after, left = search.run(order)
                kept = search.kept
                if left:
                    paired = self._quantiser.run({*self._excluded, *left}, "qdq")
                    measured, outputs = self._errors(Layers(self._plain, paired), paired, made)
                    latest = {e.node: e for e in measured}
                    errors = [
                        replace(now, effect=e.effect)
                        if (now := latest.get(e.node)) is not None
                        else replace(e, error=None, quantised=False)
                        for e in errors
                    ]
            trials = tuple(search.trials)
        self._tell("measuring the time", 0, 1)
        unit = next(iter(self._tests.units()))
        before_ms, after_ms = timed([self._original, made], unit, self._threads, SECONDS)
        if target is not None:
            _write(made, target)
        labelled = self._tests.labelled if self._before.output is not None else 0
        ranked = self._before.output is not None
        return Quantization(
            model=self._model.name,
            out=None if target is None else str(target),
            format=self._settings.format,
            type=self._settings.type,
            calibration=self._settings.calibration,
            per_channel=self._settings.per_channel,
            percentile=self._settings.percentile if self._settings.calibration == "percentile" else None,
            calibrated=len(self._calibration),
            evaluated=len(self._tests),
            labelled=labelled,
            excluded=tuple(sorted(self._excluded)),
            layers=tuple(errors),
            outputs=tuple(outputs),
            scores=self._before.output,
            correct_before=self._before.correct if labelled else None,
            correct_after=after.correct if labelled else None,
            same=self._before.same(after) if ranked else None,
            engine=after.engine,
            size_before=size,
            size_after=made.ByteSize(),
            milliseconds_before=before_ms,
            milliseconds_after=after_ms,
            isa=dispatch.current_isa(),
            threads=self._model.threads,
            keep_accuracy=keep,
            kept=kept,
            float_layers=left,
            trials=trials,
            refused=refused,
            proto=made,
        )

    # ------------------------------------------------------------ networks
    def _made(self, excluded: Collection[str], paired: onnx.ModelProto | None = None) -> onnx.ModelProto:
        """The network in the format that was asked for."""
        if paired is None or self._settings.format != "qdq":
            paired = self._quantiser.run(excluded)
        return library.finished(paired, self._original)

    def trial(self, left: Collection[str]) -> tuple[onnx.ModelProto, Answers] | None:
        """The network with further layers in float, and what it says; None where nothing is left to quantise."""
        excluded = {*self._excluded, *left}
        paired = self._quantiser.run(excluded, "qdq")
        if not Layers(self._plain, paired).layers:
            return None
        made = self._made(excluded, paired)
        return made, self._after(made)

    def milliseconds(self, made: onnx.ModelProto) -> float | None:
        """Of a run of one sample."""
        return next(iter(timed([made], next(iter(self._tests.units())), self._threads, 0.2)))

    def _after(self, made: onnx.ModelProto) -> Answers:
        with Network(made, self._threads) as network:
            return self._answers(network, "the quantised network")

    def _answers(self, network: Network, what: str) -> Answers:
        done, of = 0, len(self._tests)

        def step(count: int) -> None:
            nonlocal done
            done += count
            self._tell(what, done, of)

        return answers(network, self._tests, step)

    # ------------------------------------------------------------ errors
    def _errors(
        self, layers: Layers, paired: onnx.ModelProto, made: onnx.ModelProto
    ) -> tuple[list[LayerError], list[OutputError]]:
        part = self._tests.spread(MEASURED)
        found = layers.layers
        whole = self._sums(
            self._plain, paired, [(layer.tensor, layer.seen) for layer in found], part, "errors of layers in the network"
        )
        both, copies = layers.beside()
        known = [layer for layer in found if layer.node in copies]
        pairs = [(layer.tensor, copies[layer.node]) for layer in known]
        alone = dict(
            zip(
                (layer.node for layer in known),
                self._sums(both, both, pairs, part, "errors of layers by themselves"),
                strict=True,
            )
        )
        names = [value.name for value in self._original.graph.output]
        results = self._sums(self._original, made, [(name, name) for name in names], part, "errors of the outputs")
        return (
            [
                LayerError(
                    layer.node,
                    layer.operator,
                    layer.tensor,
                    _error(both_of),
                    _error(alone[layer.node]) if layer.node in alone else None,
                )
                for layer, both_of in zip(found, whole, strict=True)
            ],
            [OutputError(name, _error(both_of)) for name, both_of in zip(names, results, strict=True)],
        )

    def _sums(
        self, mine: onnx.ModelProto, other: onnx.ModelProto, pairs: list[tuple[str, str]], part: Samples, what: str
    ) -> list[tuple[float, float]]:
        done, of = 0, len(part)

        def step(count: int) -> None:
            nonlocal done
            done += count
            self._tell(what, done, of)

        if mine is other:
            with Network(mine, self._threads, [n for pair in pairs for n in pair]) as network:
                return sums(network, network, pairs, part.units(), step)
        with (
            Network(mine, self._threads, [a for a, _ in pairs]) as first,
            Network(other, self._threads, [b for _, b in pairs]) as second,
        ):
            return sums(first, second, pairs, part.units(), step)

    def _effects(self, layers: Layers) -> dict[str, float | None]:
        """By layer, the error of the outputs where it alone is quantised; None where that is not known."""
        part = self._tests.spread(SEARCHED)
        names = [value.name for value in self._original.graph.output]
        pairs = [(name, name) for name in names]
        units = list(part.units())
        found: dict[str, float | None] = {}
        with Network(self._plain, self._threads) as plain:
            for at, layer in enumerate(layers.layers):
                self._tell("effects of single layers", at, len(layers.layers))
                single = layers.alone(layer)
                if single is None:
                    found[layer.node] = None
                    continue
                with Network(single, self._threads) as network:
                    errors = [_error(one) for one in sums(plain, network, pairs, units, lambda _: None)]
                found[layer.node] = max((e for e in errors if e is not None), default=0.0)
        return found


class _Search:
    """The smallest set of layers, by effect, without which the accuracy is kept."""

    def __init__(self, job: _Job, keep: float, before: Answers, after: Answers, made: onnx.ModelProto) -> None:
        if before.output is None:
            raise InputError(
                "the model has no output with a score for each class, so there is no accuracy to keep: choose layers by their "
                "errors, exclude=[...] or --exclude",
                tensor="keep_accuracy",
            )
        self._job, self._before = job, before
        self._labelled = any(label is not None for label in before.labels)
        self._least = self._accuracy(before) - keep
        self.trials: list[Trial] = []
        self._tried: dict[frozenset[str], tuple[onnx.ModelProto, Answers] | None] = {}  # None: nothing was left to quantise
        self._note((), made, after)
        self.kept = self.trials[0].kept

    def run(self, order: Sequence[str]) -> tuple[onnx.ModelProto, Answers, tuple[str, ...]]:
        """The network, what it says, and the layers left in float."""
        count = 1
        while count < len(order) and not self._suffices(order[:count]):
            count *= 2
        low, high = count // 2, min(count, len(order))  # the first was not enough
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._suffices(order[:middle]) else (middle, high)
        chosen = list(order[:high])
        if not self._keeps(chosen):
            return self._best()
        for name in reversed(order[: high - 1]):
            without = [other for other in chosen if other != name]
            if without and self._keeps(without):
                chosen = without
        self.kept = True
        return self._of(chosen)

    def _of(self, left: Sequence[str]) -> tuple[onnx.ModelProto, Answers, tuple[str, ...]]:
        found = self._tried[frozenset(left)]
        assert found is not None
        return (*found, tuple(left))

    def _suffices(self, left: Sequence[str]) -> bool:
        """Whether so many layers are enough, or more than that."""
        return self._keeps(left) or self._tried[frozenset(left)] is None

    def _keeps(self, left: Sequence[str]) -> bool:
        key = frozenset(left)
        if key not in self._tried:
            trial = self._job.trial(left)
            if trial is None:
                self._tried[key] = None
            else:
                self._note(tuple(left), *trial)
        found = self._tried[key]
        return found is not None and self._accuracy(found[1]) >= self._least - 1e-12

    def _note(self, left: tuple[str, ...], made: onnx.ModelProto, after: Answers) -> None:
        self._tried[frozenset(left)] = made, after
        accuracy = self._accuracy(after)
        kept = accuracy >= self._least - 1e-12
        self.trials.append(Trial(left, accuracy, made.ByteSize(), self._job.milliseconds(made), kept))

    def _best(self) -> tuple[onnx.ModelProto, Answers, tuple[str, ...]]:
        best = max(self.trials, key=lambda trial: (trial.accuracy, -len(trial.float_layers)))
        return self._of(best.float_layers)

    def _accuracy(self, said: Answers) -> float:
        if self._labelled:
            return said.correct / sum(label is not None for label in said.labels)
        return said.same(self._before) / max(len(said.classes), 1)


def _chosen(exclude: Sequence[str], proto: onnx.ModelProto, model: str) -> frozenset[str]:
    """Nodes by name, pattern or operator."""
    nodes = [(node.name, node.op_type) for node in proto.graph.node]
    found: set[str] = set()
    for text in exclude:
        names = {name for name, kind in nodes if text in (name, kind) or ("*" in text and fnmatch.fnmatchcase(name, text))}
        if not names:
            known = [name for pair in nodes for name in pair]
            near = difflib.get_close_matches(text, known, 3) or sorted({kind for _, kind in nodes})
            raise InputError("no such node or operator", model=model, tensor="exclude", expected=", ".join(near), received=text)
        found |= names
    return frozenset(found)


def _write(proto: onnx.ModelProto, target: Path) -> None:
    """Write the file in one go: what is there is whole, or as it was."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(proto.SerializeToString())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
