"""Results as a table of text."""

from __future__ import annotations

from collections.abc import Sequence

from ..pages import preformatted


class Printed:
    """A result that notebooks show as it is printed."""

    def _repr_html_(self) -> str:
        return preformatted(self)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Lines of columns two spaces apart below their head; the columns of these numbers are aligned on the right."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    made = []
    for line in lines:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        made.append("  ".join(cells).rstrip())
    return "\n".join(made)


def named(index: int, labels: Sequence[str] | None) -> str:
    """A class by its label, or by its number where it has none."""
    return str(index) if labels is None or not 0 <= index < len(labels) else labels[index]
