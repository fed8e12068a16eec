"""The zoo of exported graphs: list them, complete them with their seeded weights, feed them, check what they give.

Files come from tests/zoo and from the folder that the environment variable CNNENGINE_ZOO names; of two with the same name
the committed one counts. A name is the file's without `.onnx`, such as ``resnet18.ts``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

ZOO = Path(__file__).resolve().parent / "zoo"

TOLERANCE = 2e-4
"""Largest accepted difference from expected.json, relative to the output's absolute maximum."""

BATCH_TOLERANCE = 1e-5
"""Largest accepted difference between a batch and its samples run one by one, relative to the output's absolute maximum."""

WIDER = {"k_resnet50v2.tf": 1e-3}
"""Other tolerances: weights without a scale of their own, where the frameworks themselves differ by 3.6e-4."""

EXCEPTED = {
    "efficientnet_v2_s.dy": (
        5e-4,
        "its seeded weights saturate its gates: expected.json itself is 2.5e-4 away from the result in float64, and"
        " rounding alone decides on which side of the tolerance an engine ends",
    ),
}
"""Files that may miss the tolerance: by how much, and why. The script tells when one does."""

IMPURE = ("ssdlite320.ts",)
"""Files with operators whose output shapes depend on data: the only ones with nodes on the host."""


@cache
def _materializer() -> ModuleType:
    """tests/zoo/materialize.py, whatever sys.path says; imports onnx."""
    spec = importlib.util.spec_from_file_location("cnnengine_zoo_materialize", ZOO / "materialize.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def folders() -> list[Path]:
    """The folders that are searched, the committed one first."""
    extra = os.environ.get("CNNENGINE_ZOO")
    if extra and not Path(extra).is_dir():
        raise FileNotFoundError(f"CNNENGINE_ZOO names no folder: {extra}")
    return [ZOO, *([Path(extra)] if extra else [])]


def names() -> list[str]:
    """Every zoo model, sorted."""
    return sorted({path.name.removesuffix(".onnx") for folder in folders() for path in folder.glob("*.onnx")})


def tolerance(name: str) -> float:
    """Largest accepted difference for this file."""
    return EXCEPTED[name][0] if name in EXCEPTED else WIDER.get(name, TOLERANCE)


def skeleton(name: str) -> Path:
    """The file of a zoo model, its weights left out; KeyError when there is none of that name."""
    for folder in folders():
        path = folder / f"{name}.onnx"
        if path.is_file():
            return path
    raise KeyError(f"no zoo model {name!r}; there are {', '.join(names())}")


def expected(name: str) -> dict[str, Any]:
    """The entry of expected.json: "input" (name, shape, seed, mean, std) and "outputs"."""
    return _expected(skeleton(name).parent)[name]


@cache
def _expected(folder: Path) -> dict[str, Any]:
    with open(folder / "expected.json", encoding="utf-8") as file:
        return json.load(file)


def model_proto(name: str) -> onnx.ModelProto:
    """The complete model, in memory."""
    import onnx

    model = onnx.load(os.fspath(skeleton(name)), load_external_data=False)
    _materializer().materialize(model)
    return model


def default_cache() -> Path:
    """$XDG_CACHE_HOME/cnnengine/zoo, by default ~/.cache/cnnengine/zoo; a new temporary folder where that cannot be written."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "cnnengine" / "zoo"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="cnnengine-zoo-"))
    return folder


def materialized(name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """The path of the complete model, made in `folder` (by default the cache) unless it is there already.

    The file's name holds a digest of the skeleton and of the script that fills it, so that neither can change unnoticed.
    """
    import onnx

    source = skeleton(name)
    digest = hashlib.sha256(source.read_bytes() + (ZOO / "materialize.py").read_bytes()).hexdigest()[:12]
    target_folder = Path(folder) if folder is not None else default_cache()
    target_folder.mkdir(parents=True, exist_ok=True)
    target = target_folder / f"{name}.{digest}.onnx"
    if not target.is_file():
        handle, part = tempfile.mkstemp(prefix=f"{name}.", suffix=".part", dir=target_folder)
        os.close(handle)
        try:
            onnx.save(model_proto(name), part)
            os.replace(part, target)
        finally:
            if os.path.exists(part):
                os.unlink(part)
    return target


def feeds(name: str, batch: int | None = None) -> dict[str, np.ndarray]:
    """The seeded input by name. With `batch`, axis 0 has that extent; entry 0 is then the input that expected.json is about."""
    entry = expected(name)["input"]
    shape = list(entry["shape"])
    if batch is not None:
        if shape[0] != 1:
            raise ValueError(f"{name}: axis 0 of the input is {shape[0]}, not a batch of 1")
        shape[0] = batch
    return {entry["name"]: _materializer().normal(entry["seed"], shape, entry["mean"], entry["std"])}


def sample_indices(size: int, count: int) -> np.ndarray:
    """Where the `count` samples of an output of `size` elements stand, in C order."""
    return np.arange(count) * size // count


def check_outputs(name: str, outputs: Sequence[np.ndarray] | Mapping[str, np.ndarray], tolerance: float = TOLERANCE) -> float:
    """Raise AssertionError unless the outputs are those of expected.json.

    Parameters
    ----------
    name : str
    outputs : sequence of ndarray, in the model's order, or mapping from output names
        What the model gave for ``feeds(name)``.
    tolerance : float
        Of samples, mean, standard deviation and maximum, relative to the output's absolute maximum. Integer and boolean
        outputs must be equal.

    Returns
    -------
    float
        The largest relative difference found.
    """
    entries = expected(name)["outputs"]
    assert len(outputs) == len(entries), f"{name}: {len(entries)} outputs expected, {len(outputs)} came"
    worst = 0.0
    for position, entry in enumerate(entries):
        where = f"{name}, output {entry['name']!r}"
        value = outputs[entry["name"]] if isinstance(outputs, Mapping) else outputs[position]
        assert isinstance(value, np.ndarray), f"{where}: an array expected, {type(value).__name__} came"
        assert value.dtype == np.dtype(entry["dtype"]), f"{where}: dtype {entry['dtype']} expected, {value.dtype} came"
        assert value.shape == tuple(entry["shape"]), f"{where}: shape {tuple(entry['shape'])} expected, {value.shape} came"
        if not value.size:
            continue
        flat = value.reshape(-1)
        samples = flat[sample_indices(flat.size, len(entry["samples"]))].astype(np.float64)
        if value.dtype.kind != "f":
            wrong = np.flatnonzero(samples != np.asarray(entry["samples"], np.float64))
            assert not wrong.size, f"{where}: samples {wrong.tolist()} differ"
            continue
        assert np.isfinite(value).all(), f"{where}: not finite"
        scale = entry["absmax"] or 1.0
        wide = flat.astype(np.float64)
        differences = {
            "samples": np.abs(samples - entry["samples"]).max(),
            "mean": abs(wide.mean() - entry["mean"]),
            "std": abs(wide.std() - entry["std"]),
            "absmax": abs(np.abs(wide).max() - entry["absmax"]),
        }
        for what, difference in differences.items():
            relative = float(difference / scale)
            assert relative <= tolerance, (
                f"{where}: {what} off by {relative:.2e} of the scale {scale:.4g}, allowed {tolerance:.0e}"
            )
            worst = max(worst, relative)
    return worst


def batch_is_dynamic(model: onnx.ModelProto) -> bool:
    """Whether axis 0 of the first real input is not a fixed number (exporters write nothing, a name or -1)."""
    constants = {tensor.name for tensor in model.graph.initializer}
    value = next(v for v in model.graph.input if v.name not in constants)
    return value.type.tensor_type.shape.dim[0].dim_value <= 0


def batch_difference(together: Sequence[np.ndarray], single: Sequence[Sequence[np.ndarray]]) -> float:
    """The largest difference between a batch's outputs and those of its samples, relative to the output's absolute maximum."""
    worst = 0.0
    for position, value in enumerate(together):
        apart = np.concatenate([outputs[position] for outputs in single])
        assert value.shape == apart.shape, f"output {position}: {value.shape} as a batch, {apart.shape} one by one"
        assert not np.array_equal(apart[0], apart[1]), f"output {position}: different inputs give the same output"
        worst = max(worst, float(np.abs(value - apart).max() / (np.abs(apart).max() or 1.0)))
    return worst
