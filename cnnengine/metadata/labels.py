"""Well-known sets of labels, on request and by name: from packages that are installed beside this one, none is shipped here."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from ..errors import InputError
from .statement import read_text

SETS = {"imagenet": 1000, "coco": 80, "coco91": 91, "voc": 21}
"""Name -> how many there are: ImageNet-1k; COCO's things without gaps, as YOLO counts them, and by COCO's own numbers, from a
background on; Pascal VOC with its background."""


def named_labels(name: str, classes: int | None = None) -> tuple[str, ...]:
    """A set by its name.

    Parameters
    ----------
    name : str
        One of SETS.
    classes : int, optional
        How many the model has: with one more than ImageNet's thousand, the first is the background, as in TensorFlow's networks.

    Raises
    ------
    InputError
        No package that has it is installed.
    """
    for find in (_of_torchvision, _of_timm):
        found = find(name)
        if found is not None and len(found) == SETS[name]:
            return ("background", *found) if name == "imagenet" and classes == SETS[name] + 1 else found
    raise InputError(
        f"no package with the labels of {name!r} is installed",
        expected=f"torchvision{' or timm' if name == 'imagenet' else ''} beside cnnengine, or a file: --labels FILE",
    )


def _of_torchvision(name: str) -> tuple[str, ...] | None:
    """From the one file of torchvision that holds them: importing the package would import torch."""
    path = _file_of("torchvision", "models", "_meta.py")
    if path is None:
        return None
    spec = importlib.util.spec_from_file_location("_labels_of_torchvision", path)
    if spec is None or spec.loader is None:
        return None
    try:
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found: list[str] = getattr(
            module, {"imagenet": "_IMAGENET_CATEGORIES", "voc": "_VOC_CATEGORIES"}.get(name, "_COCO_CATEGORIES")
        )
        names = [str(label) for label in found]
    except Exception:  # another release has them elsewhere
        return None
    return tuple(n for n in names if n not in ("__background__", "N/A")) if name == "coco" else tuple(names)


def _of_timm(name: str) -> tuple[str, ...] | None:
    paths = [_file_of("timm", "data", "_info", n) for n in ("imagenet_synsets.txt", "imagenet_synset_to_lemma.txt")]
    if name != "imagenet" or paths[0] is None or paths[1] is None:
        return None
    try:
        numbers, lines = (read_text(path).splitlines() for path in paths if path is not None)
    except InputError:
        return None
    lemma = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return tuple(lemma.get(number, number) for number in (n.strip() for n in numbers) if number)


def _file_of(package: str, *parts: str) -> str | None:
    """A file of an installed package, which is not imported."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    path = os.path.join(next(iter(spec.submodule_search_locations)), *parts)
    return path if os.path.isfile(path) else None
