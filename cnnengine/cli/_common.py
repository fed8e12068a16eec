"""What the subcommands share: exit statuses and how an error is shown."""

from __future__ import annotations

import sys

EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_UNUSABLE = 2


def complain(error: object, about: str | None = None) -> None:
    """Print an error as one line on standard error."""
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"cnnengine: {about}: {text}" if about else f"cnnengine: {text}", file=sys.stderr)


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


positive.__name__ = "positive whole number"  # argparse shows it in its message
