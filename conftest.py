"""For every test: processes that tests start import the installed package too, not the source tree that they start in."""

import os

os.environ["PYTHONSAFEPATH"] = "1"
