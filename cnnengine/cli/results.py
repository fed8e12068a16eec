"""How results are printed: a line of text, or a JSON object, for each sample, whatever names and labels hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from ..tasks import Described
from ._common import BREAKING, shown


def text_line(sample: str, described: Mapping[str, Described]) -> str:
    """`path<TAB>label probability<TAB>...`; with several outputs, each behind its name."""
    values = [(name, _in_a_line(value.as_text())) for name, value in described.items()]
    if len(values) == 1:
        return "\t".join([shown(sample), values[0][1]])
    return "\t".join([shown(sample), *(f"{shown(name)}: {text}" for name, text in values)])


def json_line(sample: str, described: Mapping[str, Described]) -> str:
    """One JSON object: `input` and, by name, `outputs`; it can be written in UTF-8.

    Bytes of a name that are no text stand as Python has them, each a lone surrogate, in JSON's notation: `json.loads` gives a
    name that opens the file.
    """
    outputs = {name: value.as_json() for name, value in described.items()}
    text = json.dumps({"input": sample, "outputs": outputs}, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def ascii_of(text: str, encoding: str = "utf-8") -> str:
    """The text with `\\uXXXX` for every character that the encoding lacks, in pairs above U+FFFF, as JSON has it."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(c if _has(encoding, c) else json.dumps(c)[1:-1] for c in text)
    return text


def printed(line: str) -> None:
    """Print a line on standard output, whatever encoding that has."""
    print(ascii_of(line, getattr(sys.stdout, "encoding", None) or "utf-8"))


def _has(encoding: str, character: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _in_a_line(text: str) -> str:
    """Values with tabs between them, without what would break the line."""
    return BREAKING.sub(lambda found: found[0] if found[0] == "\t" else repr(found[0])[1:-1], text)
