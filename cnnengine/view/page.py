"""The page: one HTML file, with its style, its program, its data and its numbers, that asks for nothing else.

All that comes from a model or a file is data: it is escaped where it is written here, and the program writes it as text alone. A
policy in the page lets no other program run and nothing be fetched, whatever is in the data.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

_ESCAPED = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def as_json(value: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPED).encode("utf-8", "replace").decode("utf-8")  # a name may hold half of a surrogate pair


def part(name: str) -> str:
    """A file of the page."""
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def frame() -> int:
    """Bytes of a page besides its data."""
    return len(assembled({}, (), "").encode()) + 2000


def assembled(data: Any, chunks: Sequence[str], title: str, served: bool = False) -> str:
    """The page.

    Parameters
    ----------
    data : what JSON has
    chunks : sequence of str
        In base64.
    title : str
    served : bool
        Whether it may ask the server that it comes from.
    """
    style, program = part("view.css"), part("view.js")
    policy = (
        f"default-src 'none'; script-src {_digest(program)}; style-src {_digest(style)}; img-src data:; "
        f"connect-src {chr(39)}{'self' if served else 'none'}{chr(39)}; base-uri 'none'; form-action 'none'"
    )
    values = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "program": program,
        "data": as_json(data),
        "chunks": "\n".join(f'<script type="text/plain" id="c{i}">{text}</script>' for i, text in enumerate(chunks)),
    }
    made, rest = [], part("view.html")
    while "{{" in rest:  # once, from the left: what is put in is not looked at again
        before, _, rest = rest.partition("{{")
        name, _, rest = rest.partition("}}")
        made += [before, values[name]]
    return "".join([*made, rest])


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
