"""`python -m cnnengine`: the same as the command `cnnengine`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
