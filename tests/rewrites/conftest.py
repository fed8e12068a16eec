"""The rewrites' tests share graphs: `support` and `rewrites`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
