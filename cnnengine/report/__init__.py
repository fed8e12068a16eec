"""Reports on a model: what it consists of (`summarize`), where its time goes (`profile`), whether it will run (`check`)."""

from __future__ import annotations

from ..rewrites import Declined
from .against import Comparison, Difference, Peer
from .check import check
from .found import Check, HostNode, Unsupported
from .memory import Held, Memory, memory
from .precision import PrecisionErrors, TensorError, precision_errors
from .profile import Profile, profile
from .steps import StepProfile
from .summary import LayerSummary, Summary, summarize

__all__ = [
    "Check",
    "Comparison",
    "Declined",
    "Difference",
    "Held",
    "HostNode",
    "LayerSummary",
    "Memory",
    "Peer",
    "PrecisionErrors",
    "Profile",
    "StepProfile",
    "Summary",
    "TensorError",
    "Unsupported",
    "check",
    "memory",
    "precision_errors",
    "profile",
    "summarize",
]
