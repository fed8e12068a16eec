# ruff: noqa: F403
"""InferenceSession: the engine behind the names that callers of onnxruntime's CPU face use.

`docs/session.md` says of each option whether it has a meaning here. What fails raises a CNNEngineError, where onnxruntime has
exceptions of its own. Which names are public `cnnengine.__all__` says, for both packages.
"""

import cnnengine

from .binding import *
from .describe import *
from .functions import *
from .options import *
from .session import *
from .values import *

# by its name in quotes: type checkers take all names of these files for public where they find no list in writing
globals()["__all__"] = [n for n in cnnengine.__all__ if getattr(globals().get(n), "__module__", "").startswith(f"{__name__}.")]
