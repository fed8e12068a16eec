"""Refused: importing this says why."""

from cnnengine.onnxruntime.refused import MODULES

raise ImportError(f"{__name__}: {MODULES[__name__]}", name=__name__)
