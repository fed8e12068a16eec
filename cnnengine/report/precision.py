"""What a lower precision costs: the error of each layer that has it, and at the outputs, against float32 on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..model import Model, inside
from .planning import opened


@dataclass(frozen=True)
class TensorError:
    """By how much a tensor is not that of float32.

    Attributes
    ----------
    node, operator : str
        What makes it; empty for an output that nothing makes.
    tensor : str
    error : float
        The largest difference of an element, relative to the largest absolute value of the tensor.
    rms : float
        The root of the mean square of the differences, relative to that of the tensor.
    """

    node: str
    operator: str
    tensor: str
    error: float
    rms: float


@dataclass(frozen=True)
class PrecisionErrors:
    """A model in a lower precision beside itself in float32.

    Attributes
    ----------
    precision : str
    layers : tuple of TensorError
        Those in this precision, in the order in which they run, with what those before them add.
    outputs : tuple of TensorError
        Of the model, as it is run.
    """

    precision: str
    layers: tuple[TensorError, ...]
    outputs: tuple[TensorError, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


def precision_errors(model: Any, feeds: Mapping[str, Any]) -> PrecisionErrors:
    """Run a model and its float32 on the same inputs.

    Parameters
    ----------
    model : Model, or as for `cnnengine.load`
    feeds : mapping of str to array

    Raises
    ------
    CNNEngineError
        The model cannot be read or run again.
    """
    with opened(model) as loaded:
        return _precision_errors(loaded, feeds)


def _precision_errors(model: Model, feeds: Mapping[str, Any]) -> PrecisionErrors:
    view = inside(model)
    makers = {name: node for node in view.graph.nodes for name in node.outputs if name}
    lowered = set(model.lowered)
    names = [node.outputs[0] for node in view.graph.nodes if node.name in lowered]
    own = [info.name for info in model.outputs]
    wanted = list(dict.fromkeys([*names, *own]))
    source = view.source
    with Model(source, threads=model.threads, outputs=wanted) as full:
        theirs = dict(zip(wanted, full.run(None, feeds), strict=True))
    with Model(source, threads=model.threads, outputs=wanted, precision=model.precision) as low:
        ours = dict(zip(wanted, low.run(None, feeds), strict=True))
    ran = dict(zip(own, model.run(None, feeds), strict=True))

    def error_of(name: str, found: Any) -> TensorError:
        node = makers.get(name)
        error, rms = _errors(found, theirs[name])
        return TensorError(node.name if node else "", node.op.op_type if node else "", name, error, rms)

    return PrecisionErrors(
        model.precision,
        tuple(error_of(name, ours[name]) for name in names),
        tuple(error_of(name, ran[name]) for name in own if isinstance(ran[name], np.ndarray)),
    )


def _errors(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Of a against b: the largest difference relative to the largest value, and by root mean squares."""
    if a.dtype.kind not in "biuf" or not b.size:
        return 0.0, 0.0
    wide, exact = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    known = np.isfinite(exact) & np.isfinite(wide)
    differences, values = np.abs(wide - exact)[known], np.abs(exact[known])
    if not values.size or not values.max() > 0:
        return float(differences.max(initial=0.0)), float(np.sqrt(np.mean(differences**2))) if differences.size else 0.0
    return float(differences.max() / values.max()), float(np.sqrt(np.sum(differences**2) / np.sum(values**2)))
