"""Tables: as wide as the terminal at most, with everything in them; and how reports print themselves."""

from __future__ import annotations

import fcntl
import html.parser
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import cnnengine
from cnnengine.report import Check, check, profile, summarize
from cnnengine.report.tables import Text, table

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "models" / "digits_lenet.onnx")
ROWS = [
    ["node", "operator", "min us", "reason"],
    ["/backbone/stage1/conv1/Conv", "Conv + relu", "12345.6", "no kernel for these inputs (float64, int64)"],
    ["x", "Add", "1.0", ""],
]


def letters(text: str) -> list[str]:
    return sorted(text.replace(" ", "").replace("\n", ""))


class TestTable:
    def test_without_a_width_a_row_is_a_line(self) -> None:
        lines = table(ROWS, right=(2,))
        assert len(lines) == 3
        assert lines[1] == "/backbone/stage1/conv1/Conv  Conv + relu  12345.6  no kernel for these inputs (float64, int64)"
        assert lines[0].index("min us") + len("min us") == lines[1].index("12345.6") + len("12345.6")

    @pytest.mark.parametrize("width", [120, 100, 93, 92, 80, 60, 50, 40])
    def test_it_fits_and_nothing_is_lost(self, width: int) -> None:
        lines = table(ROWS, right=(2,), width=width)
        assert max(map(len, lines)) <= width
        assert letters("".join(lines)) == letters("".join(cell for row in ROWS for cell in row))
        assert any("12345.6" in line for line in lines)  # numbers stay whole

    def test_what_fits_is_left_alone(self) -> None:
        needed = max(map(len, table(ROWS, right=(2,))))
        assert table(ROWS, (2,), needed) == table(ROWS, (2,))
        assert table(ROWS, (2,), needed - 1) != table(ROWS, (2,))

    @pytest.mark.parametrize("width", [1, 2, 10, 20])
    def test_too_narrow_for_any_table(self, width: int) -> None:
        lines = table([[*row, "12345678901234567890"] for row in ROWS], right=(2, 4), width=width)
        assert max(map(len, lines)) <= width

    def test_few_rows(self) -> None:
        assert table([]) == []
        assert table([["a", "b"]], width=2) == ["a b"[:1] + "\N{HORIZONTAL ELLIPSIS}"]
        assert table([["a", "bc"]], rule=True) == ["a  bc", "-----"]

    def test_the_rule_is_below_the_heading(self) -> None:
        lines = table([["median us", "x"], ["1", "y"]], right=(0,), width=9, rule=True)
        assert lines == ["median  x", "    us", "---------", "     1  y"]


class Cells(html.parser.HTMLParser):
    """The cells' texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in ("td", "th"):
            self._inside = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1] += data


class TestReports:
    def test_html_has_the_cells_and_no_markup_of_names(self) -> None:
        text = Text()
        text.line("<b>")
        text.table([["a", "b"], ["<script>", "1 & 2"]], (1,))
        page = text.html()
        assert "<script>" not in page and "<b>" not in page
        assert Cells(page).cells == ["a", "b", "<script>", "1 & 2"]

    def test_summary(self) -> None:
        found = summarize(MODEL)
        lines = str(found).splitlines()
        assert lines[0] == "layers at image (1, 1, 32, 32):"
        assert any("/Relu_output_0" in line and "Conv + relu" in line for line in lines)
        cells = Cells(found._repr_html_()).cells
        assert cells[:3] == ["name", "operator", "tensor"]
        assert len(cells) == 7 * (1 + len(found.layers))
        assert repr(found).startswith("Summary(")

    def test_profile(self) -> None:
        found = profile(MODEL, seconds=0.0, min_rounds=1)
        assert len(str(found).splitlines()) >= len(found.steps) + 3
        assert "roofline" in Cells(found._repr_html_()).cells
        assert len(found.text("time", 2).lines()) == len(found.text().lines()) - len(found.steps) + 2

    def test_check(self) -> None:
        assert "runs at image" in str(check(MODEL))
        assert "all of it is compiled" in check(MODEL)._repr_html_()
        assert "no rewrite nearly fits" in "\n".join(Check("m", "avx2").text(why=True).lines())
        unknown = str(check(str(ROOT / "models" / "digits_spp.onnx")))
        assert "not run: the shape of image is dynamic" in unknown  # in Python nothing else says it


@pytest.mark.parametrize(
    ("line", "width", "found"),
    [
        ("a b", 3, ["a b"]),
        ("a b c", 3, ["a b", "  c"]),
        ("  aa: b  c", 6, ["  aa:", "    b", "    c"]),
        ("see /a/long-path/of.onnx now", 8, ["see", "  /a/long-path/of.onnx", "  now"]),
        ("a b c", None, ["a b c"]),
        ("", 1, [""]),
    ],
)
def test_lines_are_broken_at_spaces(line: str, width: int | None, found: list[str]) -> None:
    text = Text()
    text.line(line)
    assert text.lines(width) == found


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize(
    "words", [("info", MODEL), ("profile", MODEL, "--seconds", "0"), ("check", MODEL, "--why", "--precision", "bfloat16")]
)
def test_tables_of_the_command_fit_a_real_terminal(words: tuple[str, ...], columns: int) -> None:
    terminal, stdout = os.openpty()
    fcntl.ioctl(stdout, termios.TIOCSWINSZ, struct.pack("HHHH", 500, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "cnnengine", *words]
    process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=environment)
    os.close(stdout)
    shown = b""
    try:
        while piece := os.read(terminal, 1 << 16):
            shown += piece
    except OSError:
        pass  # nobody has its other end
    os.close(terminal)
    assert process.wait(timeout=120) == 0
    lines = shown.decode().splitlines()
    assert any(line.startswith("  ") for line in lines)
    assert [line for line in lines if len(line) > columns and len(line.split()) > 1] == []


def test_a_piped_table_is_not_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnengine.cli import main

    monkeypatch.setenv("COLUMNS", "30")
    assert main(["info", MODEL]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "/Relu_output_0" in line]
    assert len(rows[0]) > 60
    assert cnnengine.report.summarize(MODEL).text().lines() == str(summarize(MODEL)).splitlines()
