"""Reports on a loaded model: what it consists of (`summarize`), where its time goes (`profile`)."""

from __future__ import annotations

from .profile import Profile, StepProfile, profile
from .summary import LayerSummary, Summary, summarize

__all__ = ["LayerSummary", "Profile", "StepProfile", "Summary", "profile", "summarize"]
