"""tools/neon_loops.py: the innermost loops of a disassembly, and what they consist of."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTING = """
_conv_neon.o:     file format elf64-littleaarch64

0000000000000000 <__pyx_f_9cnnengine_8_kernels_5tiles_4conv_blocked_2_1>:
   0:	mov	x9, #0x4                   	// #4
   4:	ldp	q1, q0, [x1]
   8:	ldr	q6, [sp, #160]
   c:	ldr	s4, [x0, x2]
  10:	fmla	v6.4s, v1.4s, v4.s[0]
  14:	fmla	v7.4s, v0.4s, v4.s[0]
  18:	str	q6, [sp, #160]
  1c:	ldr	x3, [sp, #8]
  20:	cmp	x21, x0
  24:	b.ne	4 <__pyx_f_9cnnengine_8_kernels_5tiles_4conv_blocked_2_1+0x4>  // b.any
  28:	fmla	v9.4s, v0.4s, v4.s[0]
  2c:	subs	x9, x9, #0x1
  30:	b.ne	0 <__pyx_f_9cnnengine_8_kernels_5tiles_4conv_blocked_2_1>  // b.any
  34:	b	3c <__pyx_f_9cnnengine_8_kernels_5tiles_4conv_blocked_2_1+0x3c>
  38:	fmadd	s0, s1, s2, s3
  3c:	ret

0000000000000040 <__pyx_pymod_exec_conv>:
  40:	fmla	v6.4s, v1.4s, v4.s[0]
  44:	b	40 <__pyx_pymod_exec_conv>
"""


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    """The names of the tool."""
    return runpy.run_path(str(ROOT / "tools" / "neon_loops.py"), run_name="neon_loops")


def test_the_inner_loop_and_its_parts(tool: dict[str, Any]) -> None:
    bodies = tool["functions"](LISTING)
    body = bodies["__pyx_f_9cnnengine_8_kernels_5tiles_4conv_blocked_2_1"]
    (loop,) = tool["innermost"](body)
    assert [loop.body[0].at, loop.body[-1].at] == [4, 0x24]
    assert [len(loop.body), loop.products, loop.count("is_load"), loop.count("is_spill")] == [9, 2, 4, 2]
    # a scalar that comes back from the stack is a load and no spill of a sum; a scalar fmadd outside is no product of the loop
    assert tool["busiest"](body) == loop
    assert tool["names"]("4conv_blocked_2_1") == "conv.blocked_2_1"


@pytest.mark.parametrize(
    ("lines", "shares"),
    [
        (["fmla\tv0.4s, v1.4s, v2.s[0]"] * 8, (1.0, 1.0)),
        (["fmla\tv0.4s, v1.4s, v2.s[0]"] * 8 + ["ldr\tq1, [x0]"] * 8, (0.5, 1.0)),  # loads: one a cycle, two
        (["fmla\tv0.4s, v1.4s, v2.s[0]"] * 8 + ["add\tx0, x0, x1"] * 16, (0.5, 4 / 6)),  # three decoded, four
        (["fmla\tv0.4s, v1.4s, v2.s[0]"] * 8 + ["mov\tv3.16b, v4.16b"] * 8, (0.5, 0.5)),
        (["smlal\tv0.4s, v1.4h, v2.h[0]"] * 8 + ["mov\tv3.16b, v4.16b"] * 8, (1.0, 1.0)),  # which takes a pipe of two
        (["sdot\tv0.4s, v1.16b, v2.4b[0]"] * 8, (None, 1.0)),
    ],
)
def test_what_limits_a_loop(tool: dict[str, Any], lines: list[str], shares: tuple[float | None, ...]) -> None:
    loop = tool["Loop"](tuple(tool["Instruction"](4 * i, *line.split("\t")) for i, line in enumerate(lines)))
    assert tuple(loop.share(cpu) for cpu in tool["PROCESSORS"]) == pytest.approx(shares)


def test_rows_are_of_tiles_alone(tool: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "_conv_neon.o").touch()
    (tmp_path / "_conv_avx2.o").touch()
    asked: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        asked.append(command)
        return type("Done", (), {"stdout": LISTING})

    monkeypatch.setattr(tool["subprocess"], "run", run)
    found = tool["rows"](tmp_path, "objdump")
    assert [(isa, name) for isa, name, _ in found] == [("neon", "conv.blocked_2_1")]
    assert [command[-1] for command in asked] == [str(tmp_path / "_conv_neon.o")]
    assert "| neon | `conv.blocked_2_1` | 9 | 2 | 4 | 2 |" in tool["table"](found)
