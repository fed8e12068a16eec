"""The tools of a release: notes from the changelog, and what cibuildwheel is told."""

from __future__ import annotations

import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTES = runpy.run_path(str(ROOT / "tools" / "release_notes.py"))
TEXT = """# Changelog

Words.

## [Unreleased]

## [1.2.0] - 2030-01-31

### Added
- A thing [with a link](x.md).

### Fixed
- Another.

## [1.1.0] - unreleased
- Old.

## [1.0.0] - soon
- Older.

## [0.9.0]
## [0.8.0] - 2029-01-01
- Twice.
## [0.8.0] - 2029-01-02
- Twice.

[1.2.0]: https://example.org/1.2.0
"""


def test_a_section_is_what_stands_under_its_heading() -> None:
    section = NOTES["section"]
    assert section(TEXT, "1.2.0") == ("2030-01-31", "### Added\n- A thing [with a link](x.md).\n\n### Fixed\n- Another.\n")
    assert section(TEXT, "1.1.0") == (None, "- Old.\n")
    last = TEXT[: TEXT.index("## [0.9.0]")].replace("- soon", "- 2028-02-03") + "\n[1.0.0]: https://example.org\n"
    assert section(last, "1.0.0") == ("2028-02-03", "- Older.\n")


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("1.2", "0 sections"),
        ("120", "0 sections"),
        ("1.0.0", "no date"),
        ("0.9.0", "empty"),
        ("Unreleased", "empty"),
        ("0.8.0", "2 sections"),
    ],
)
def test_sections_that_are_no_notes(version: str, why: str) -> None:
    with pytest.raises(LookupError, match=why):
        NOTES["section"](TEXT, version)


def test_this_version_has_its_section() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / "release_notes.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 5 and "\n## " not in done.stdout


def test_a_tag_of_another_version_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    stated: str = NOTES["version"]()
    for tag in (stated, f"v{stated}.1", f"V{stated}"):
        assert NOTES["main"](["--tag", tag]) == 1
        assert f"has the tag v{stated}" in capsys.readouterr().err


def test_wheels_are_made_for_every_python_that_is_named() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        stated: dict[str, Any] = tomllib.load(file)
    pythons = [c.rpartition(" ")[2] for c in stated["project"]["classifiers"] if "Python :: 3." in c]
    built = stated["tool"]["cibuildwheel"]["build"]
    for python in pythons:
        assert f"cp{python.replace('.', '')}-*" in built
    assert stated["project"]["requires-python"] == f">={pythons[0]}"
    assert stated["tool"]["cibuildwheel"]["linux"]["archs"] == ["x86_64", "aarch64"]
