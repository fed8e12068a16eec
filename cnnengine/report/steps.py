"""The steps of a profile, alone and by layer: what tables, plots and files of other tools are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StepProfile:
    """One step of a plan.

    Attributes
    ----------
    node, operator : str
        The node that it serves; for a reorder of an output, the node that made it.
    kernel : str
        The compiled kernel; "host" for a step in Python.
    chunks : int
        Pieces that threads can share.
    seconds_min, seconds_median : float
    flops, nbytes : float
        Operations (those of the direct algorithm) and bytes of its operands; 0 for host steps, which do not say.
    limit_seconds : float
        The shortest time that the measured peak and bandwidth allow.
    outputs : tuple of (str, tuple of int or None)
        Name and shape of what the node makes; None where the shape depends on data.
    """

    node: str
    operator: str
    kernel: str
    chunks: int
    seconds_min: float
    seconds_median: float
    flops: float
    nbytes: float
    limit_seconds: float
    outputs: tuple[tuple[str, tuple[int, ...] | None], ...] = ()

    @property
    def gflops(self) -> float:
        """GFLOP/s in the fastest round."""
        return self.flops / self.seconds_min * 1e-9 if self.seconds_min else 0.0

    @property
    def gigabytes(self) -> float:
        """GB/s in the fastest round."""
        return self.nbytes / self.seconds_min * 1e-9 if self.seconds_min else 0.0

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.nbytes if self.nbytes else 0.0

    @property
    def roofline(self) -> float:
        """Fraction of the limit that the fastest round reached; 1 is the measured limit itself."""
        return self.limit_seconds / self.seconds_min if self.seconds_min else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        data = {**self.__dict__, **{n: getattr(self, n) for n in ("gflops", "gigabytes", "intensity", "roofline")}}
        data["outputs"] = [{"name": name, "shape": None if shape is None else list(shape)} for name, shape in self.outputs]
        return data


def by_layer(steps: Sequence[StepProfile]) -> list[tuple[StepProfile, ...]]:
    """The steps of each node, nodes in the order of their first one."""
    found: dict[str, list[StepProfile]] = {}
    for step in steps:
        found.setdefault(step.node, []).append(step)
    return [tuple(layer) for layer in found.values()]


def family(kernel: str) -> str:
    """The kernel without its form: what steps are coloured by."""
    return kernel.split("[")[0].split()[0].rstrip(",")
