"""A page that shows how a network computes: every layer of the file, its maps, and the arithmetic of any pixel (docs/view.md).

`look` runs a model on a picture and gives a `View`; `page` makes one HTML file of it, `serve` answers a browser on this machine.
"""

from __future__ import annotations

from .look import look
from .serve import Server
from .view import View
from .write import BUDGET, LEAST, page

__all__ = ["BUDGET", "LEAST", "Server", "View", "look", "page"]
