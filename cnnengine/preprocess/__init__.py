"""The way from a picture to a model's input, in NumPy and Pillow.

`settings` says what is done (`Preprocess`), `placing` where the pixels of a picture come to lie, `pictures` reads files and
resizes as Pillow does, `taps` resizes without antialiasing, `keys` has what of it stands in a file's metadata (docs/metadata.md).
"""

from __future__ import annotations

from .keys import LABELS_KEY, METADATA_KEY, labels_of_model, list_of_strings
from .pictures import Decoded, as_image, frames_of, read_image, require_pillow
from .placing import Placement
from .settings import ALIGNMENTS, FITS, LAYOUTS, ORDERS, RESAMPLES, Preprocess, settings_of_shape, stated_settings

__all__ = [
    "ALIGNMENTS",
    "FITS",
    "LABELS_KEY",
    "LAYOUTS",
    "METADATA_KEY",
    "ORDERS",
    "RESAMPLES",
    "Decoded",
    "Placement",
    "Preprocess",
    "as_image",
    "frames_of",
    "labels_of_model",
    "list_of_strings",
    "read_image",
    "require_pillow",
    "settings_of_shape",
    "stated_settings",
]
