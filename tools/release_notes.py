"""The section of CHANGELOG.md that is a release's notes: python tools/release_notes.py [VERSION] [--tag v0.1.0]

Without VERSION that of pyproject.toml, the one place where it stands. With --tag also checks that the tag is of this version and
that its section has a date, which a release must have; then prints the section without its heading.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def version() -> str:
    """The version that pyproject.toml states."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        stated: str = tomllib.load(file)["project"]["version"]
    return stated


def section(text: str, wanted: str) -> tuple[str | None, str]:
    """Date and text of a version's section; LookupError where there is none, or two."""
    found = re.findall(rf"^## \[{re.escape(wanted)}\](.*)\n((?:(?!## |\[[^\]]+\]: ).*(?:\n|\Z))*)", text, re.M)
    if len(found) != 1:
        raise LookupError(f"CHANGELOG.md has {len(found)} sections of {wanted}, not one")
    heading, body = found[0]
    date = re.fullmatch(r" - (\d{4}-\d{2}-\d{2})\s*", heading)
    if heading.strip() not in ("", "- unreleased") and date is None:
        raise LookupError(f"what follows [{wanted}] is no date: {heading.strip()!r}")
    if not body.strip():
        raise LookupError(f"the section of {wanted} is empty")
    return date[1] if date else None, body.strip() + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?")
    parser.add_argument("--tag", help="the tag that the release gets")
    args = parser.parse_args(arguments)
    wanted = args.version or version()
    try:
        date, notes = section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), wanted)
        if args.tag and (args.tag != f"v{wanted}" or date is None):
            raise LookupError(f"a release of {wanted} has the tag v{wanted}, not {args.tag}, and a date, not {date}")
    except LookupError as error:
        print(error, file=sys.stderr)
        return 1
    print(notes, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
