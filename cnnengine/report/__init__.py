"""Reports on a model: what it consists of (`summarize`), where its time goes (`profile`), whether it will run (`check`)."""

from __future__ import annotations

from ..rewrites import Declined
from .against import Comparison, Difference, Peer
from .check import check
from .found import Check, HostNode, Unsupported
from .precision import PrecisionErrors, TensorError, precision_errors
from .profile import Profile, StepProfile, profile
from .summary import LayerSummary, Summary, summarize

__all__ = [
    "Check",
    "Comparison",
    "Declined",
    "Difference",
    "HostNode",
    "LayerSummary",
    "Peer",
    "PrecisionErrors",
    "Profile",
    "StepProfile",
    "Summary",
    "TensorError",
    "Unsupported",
    "check",
    "precision_errors",
    "profile",
    "summarize",
]
