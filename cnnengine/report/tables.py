"""Tables of text for people, as wide as the terminal at most, and the same in HTML for notebooks."""

from __future__ import annotations

import html
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

Rows = Sequence[Sequence[str]]

NARROW = 8
"""Characters that a column of text keeps."""
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal that a stream (standard output) goes to; None where it is no terminal, and lines may be long.

    The environment's COLUMNS counts before what the terminal says of itself.
    """
    stream = sys.stdout if stream is None else stream
    try:
        if stream is None or not stream.isatty():
            return None
        text = os.environ.get("COLUMNS", "")
        if text.isascii() and text.isdigit() and int(text):
            return int(text)
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError, AttributeError):  # no descriptor, a closed stream, a stream of another kind
        return None


def table(rows: Rows, right: Sequence[int] = (), width: int | None = None, rule: bool = False) -> list[str]:
    """Lines of columns two spaces apart, the first row the heading.

    Parameters
    ----------
    rows : sequence of sequences of str
    right : sequence of int
        Columns that are aligned on the right: numbers, which are never cut.
    width : int, optional
        Characters of a line at most. What is too wide is first broken into several lines, at spaces where there are some: the
        widest columns of text before others, down to `NARROW` characters; then columns stand one space apart; lines that are
        still too long are cut.
    rule : bool
        Whether a line of dashes follows the heading.

    Returns
    -------
    list of str
    """
    if not rows:
        return []
    count = len(rows[0])
    widths = [max(len(row[i]) for row in rows) for i in range(count)]
    gap = 2
    if width is not None:
        room = width - gap * (count - 1)
        if sum(widths) > room:  # words of a heading may stand below each other
            for i in right:
                numbers = max((len(row[i]) for row in rows[1:]), default=0)
                widths[i] = max(numbers, *(len(word) for word in rows[0][i].split() or [""]))
        if sum(widths) > room and sum(_least(widths, right)) > room:
            gap, room = 1, width - (count - 1)
        widths = _shrunk(widths, right, room)
    lines: list[str] = []
    head = 0
    for row in rows:
        pieces = [_broken(cell, widths[i]) for i, cell in enumerate(row)]
        for at in range(max(map(len, pieces))):
            cells = [piece[at] if at < len(piece) else "" for piece in pieces]
            aligned = [cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(cells)]
            lines.append((" " * gap).join(aligned).rstrip())
        head = head or len(lines)
    if rule:
        lines.insert(head, "-" * max(map(len, lines)))
    return lines if width is None else [_cut(line, width) for line in lines]


def _least(widths: Sequence[int], right: Sequence[int]) -> list[int]:
    return [w if i in right else min(w, NARROW) for i, w in enumerate(widths)]


def _shrunk(widths: Sequence[int], right: Sequence[int], room: int) -> list[int]:
    """The widths with those of text so much less, the widest first, that they fit; not below `NARROW`."""
    made, least = list(widths), _least(widths, right)
    while sum(made) > room:
        able = [i for i in range(len(made)) if made[i] > least[i]]
        if not able:
            break
        made[max(able, key=lambda i: made[i])] -= 1
    return made


def _broken(cell: str, width: int) -> list[str]:
    """A cell in lines: broken at spaces, and longer words where they end."""
    if len(cell) <= width:
        return [cell]
    lines = [""]
    for word in cell.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
            continue
        if lines[-1]:
            lines.append("")
        while len(word) > width > 0:
            lines[-1], word = word[:width], word[width:]
            lines.append("")
        lines[-1] = word
    return lines if lines[-1] else lines[:-1]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(width - 1, 0)] + ELLIPSIS


def wrapped(line: str, width: int | None = None) -> list[str]:
    """A line in several, broken at spaces and from the second one on further to the right; words stay whole, to be copied."""
    if width is None or len(line) <= width:
        return [line]
    inner = " " * (len(line) - len(line.lstrip(" ")) + 2)
    return textwrap.wrap(
        line, max(width, 1), subsequent_indent=inner, replace_whitespace=False, break_long_words=False, break_on_hyphens=False
    ) or [""]


def shortened(name: str, width: int = 48) -> str:
    """A name for a table: of long ones the end, which tells them apart."""
    return name if len(name) <= width else ELLIPSIS + name[1 - width :]


def shape_text(shape: Sequence[int | str | None] | None) -> str:
    """A shape for people: symbolic extents by name, unknown ones as "?"."""
    if shape is None:
        return "of unknown rank"
    extents = ["?" if extent is None else str(extent) for extent in shape]
    return f"({', '.join(extents)}{',' if len(extents) == 1 else ''})"


class Text:
    """Lines of text and tables: how a report prints, and shows itself in a notebook."""

    def __init__(self) -> None:
        self._parts: list[str | tuple[Rows, tuple[int, ...]]] = []

    def line(self, text: str) -> None:
        self._parts.append(text)

    def table(self, rows: Rows, right: Sequence[int] = ()) -> None:
        if rows:
            self._parts.append((rows, tuple(right)))

    def lines(self, width: int | None = None) -> list[str]:
        """Lines that are at most so wide, but for long words outside of tables; tables stand two spaces to the right."""
        found: list[str] = []
        for part in self._parts:
            if isinstance(part, str):
                found += wrapped(part, width)
            else:
                found += [f"  {line}" for line in table(*part, None if width is None else width - 2)]
        return found

    def html(self) -> str:
        """The same with HTML's tables."""
        found: list[str] = []
        for part in self._parts:
            if isinstance(part, str):
                found.append(f"<div>{html.escape(part)}</div>")
                continue
            (head, *rows), right = part
            found.append("<table><thead>" + _html_row(head, "th", right) + "</thead><tbody>")
            found += [_html_row(row, "td", right) for row in rows]
            found.append("</tbody></table>")
        return "\n".join(found)


def _html_row(row: Sequence[str], tag: str, right: Sequence[int]) -> str:
    cells = (
        f'<{tag} style="text-align:{"right" if i in right else "left"}">{html.escape(cell)}</{tag}>' for i, cell in enumerate(row)
    )
    return f"<tr>{''.join(cells)}</tr>"


class Printed:
    """What a report inherits so that `print` and notebooks show it as a table; its repr stays its fields."""

    def text(self) -> Text:
        """What is shown."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(self.text().lines(terminal_width()))

    def _repr_html_(self) -> str:
        return self.text().html()
