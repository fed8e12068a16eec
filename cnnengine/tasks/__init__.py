"""What a model's outputs mean: a file for each task, with a function on a model and a picture, and a class that reads outputs.

`detect`, `segment`, `classify`, `image`, `embed` and `text` run a model on one picture (docs/tasks.md). `Chosen` finds the task
that reads a model's outputs, for the command.
"""

from __future__ import annotations

from .choose import NAMES, Chosen, Wishes
from .classify import Classify, Ranking, Summary, classify
from .detect import Detect, detect
from .detections import Detections
from .embed import Embed, Embedding, embed
from .image import VALUES, Picture, Render, image
from .layouts import LAYOUTS
from .segment import Segment, Segmentation, segment
from .source import canvas_of, picture_input, unplaced, upright
from .task import Described, Task
from .text import Line, Text, text

__all__ = [
    "LAYOUTS",
    "NAMES",
    "VALUES",
    "Chosen",
    "Classify",
    "Described",
    "Detect",
    "Detections",
    "Embed",
    "Embedding",
    "Line",
    "Picture",
    "Ranking",
    "Render",
    "Segment",
    "Segmentation",
    "Summary",
    "Task",
    "Text",
    "Wishes",
    "canvas_of",
    "classify",
    "detect",
    "embed",
    "image",
    "picture_input",
    "segment",
    "text",
    "unplaced",
    "upright",
]
