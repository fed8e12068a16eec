"""What there is: providers, device, version; settings of the whole module, which have no effect here."""

from __future__ import annotations

from .. import arguments
from .options import PROVIDER, checked_severity


def get_available_providers() -> list[str]:
    """``["CPUExecutionProvider"]``."""
    return [PROVIDER]


def get_all_providers() -> list[str]:
    """``["CPUExecutionProvider"]``."""
    return [PROVIDER]


def get_device() -> str:
    """``"CPU"``."""
    return "CPU"


def get_version_string() -> str:
    """The version of cnnengine."""
    from .. import __version__

    return __version__


def get_build_info() -> str:
    """One line on the build: version, instruction sets, threads."""
    from ..config import show_config

    return "cnnengine Build Info: " + ", ".join(f"{k}={v}" for k, v in show_config().items())


def set_seed(seed: int) -> None:
    """Accepted without effect: nothing here draws random numbers."""
    arguments.integer(seed, "seed", None, None)


def set_default_logger_severity(severity: int) -> None:
    """Accepted without effect: the engine logs nothing."""
    checked_severity(severity)


def set_default_logger_verbosity(verbosity: int) -> None:
    """Accepted without effect: the engine logs nothing."""
    arguments.integer(verbosity, "verbosity", None, None)


def enable_telemetry_events() -> None:
    """Accepted without effect: the engine reports to nobody."""


def disable_telemetry_events() -> None:
    """Accepted without effect: the engine reports to nobody."""
