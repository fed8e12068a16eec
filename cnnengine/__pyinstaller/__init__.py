"""What PyInstaller asks for by the entry point `pyinstaller40`: the folder of the hooks for programs that use cnnengine."""

from __future__ import annotations

import os

__all__ = ["get_hook_dirs"]


def get_hook_dirs() -> list[str]:
    """The folder of ``hook-cnnengine.py``."""
    return [os.path.dirname(__file__)]
