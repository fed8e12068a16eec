"""What the innermost loops of the NEON tiles consist of, counted in their machine code: a table for docs/aarch64.md.

    python tools/neon_loops.py [--all] [--loop conv.blocked_2_1] [FOLDER]

FOLDER has the objects of a build for aarch64 (`_conv_neon.o`; by default what `make aarch64` leaves under build/). An emulator
has no clock worth reading, but what a loop asks of a processor can be counted: vector multiply-adds, loads, what goes to the
stack and comes back, all else. A row is one function of a family, and in it the innermost loop with the most multiply-adds,
which is where its time goes. The last columns are the most that the loop can have of the peak of its multiply-adds, were every
load a hit and nothing ever late: by the instructions that are decoded in a cycle, and by the loads and the vector instructions
begun in one.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

FUNCTION = re.compile(r"^[0-9a-f]+ <(?P<name>[^>]+)>:$")
INSTRUCTION = re.compile(r"^\s*(?P<at>[0-9a-f]+):\s+(?P<op>\S+)(?:\s+(?P<rest>.*?))?(?:\s*//.*)?$")
TARGET = re.compile(r"(?:^|,\s*)([0-9a-f]+) <")
PREFIX = re.compile(r"^__pyx_f_\d+cnnengine_\d+_kernels_\d+tiles_(?P<mangled>\d+\w+)$")
VECTOR = re.compile(r"\b[vq]\d+")

MULTIPLY_ADDS = {"fmla", "fmls", "bfdot", "bfmmla", "bfmlalb", "bfmlalt"}
DOTS = {"sdot", "udot", "usdot", "smmla"}
WHOLE = {"smlal", "smlal2", "umlal", "umlal2", "mla"}  # of integers: one pipe alone has them
FAMILIES = ("conv", "half", "qconv", "qdense", "recurrent")


@dataclass(frozen=True)
class Processor:
    """What one begins in a cycle, as its optimization guide says."""

    name: str
    decoded: int
    loads: int
    vectors: int
    dots: bool  # whether it has products of bytes


PROCESSORS = (
    Processor("Cortex-A72", decoded=3, loads=1, vectors=2, dots=False),
    Processor("Neoverse N1", decoded=4, loads=2, vectors=2, dots=True),
)


@dataclass(frozen=True)
class Instruction:
    at: int
    op: str
    rest: str

    @property
    def is_product(self) -> bool:
        return self.op in MULTIPLY_ADDS | DOTS | WHOLE and bool(VECTOR.search(self.rest))

    @property
    def is_load(self) -> bool:
        return self.op.startswith(("ld", "prfm"))

    @property
    def is_spill(self) -> bool:
        """A vector register to the stack, or back from it."""
        return self.op.startswith(("ld", "st")) and "[sp" in self.rest and bool(VECTOR.search(self.rest.partition("[")[0]))

    @property
    def is_vector(self) -> bool:
        moves = self.op.startswith(("ld", "st")) and self.op != "ld1r"  # which is a load and a copy to all lanes
        return bool(VECTOR.search(self.rest)) and not moves


@dataclass(frozen=True)
class Loop:
    """An innermost loop: its instructions."""

    body: tuple[Instruction, ...]

    def count(self, what: str) -> int:
        return sum(1 for i in self.body if getattr(i, what))

    @property
    def products(self) -> int:
        return self.count("is_product")

    def share(self, cpu: Processor) -> float | None:
        """The most of the peak of multiply-adds that the loop can have; None on a processor that lacks them."""
        if not cpu.dots and any(i.op in DOTS for i in self.body):
            return None
        needed = sum(1.0 if i.op in WHOLE else 1 / cpu.vectors for i in self.body if i.is_product)
        others = (len(self.body) / cpu.decoded, self.count("is_load") / cpu.loads, self.count("is_vector") / cpu.vectors)
        return needed / max(needed, *others)


def functions(text: str) -> dict[str, list[Instruction]]:
    """The functions of a disassembly (objdump -d)."""
    found: dict[str, list[Instruction]] = {}
    body: list[Instruction] = []
    for line in text.splitlines():
        head = FUNCTION.match(line)
        if head:
            body = found.setdefault(head["name"], [])
            continue
        match = INSTRUCTION.match(line)
        if match:
            body.append(Instruction(int(match["at"], 16), match["op"], match["rest"] or ""))
    return found


def innermost(body: list[Instruction]) -> list[Loop]:
    """The loops of a function that hold no other: from the target of a jump backwards to the jump."""
    ranges = []
    for i in body:
        jumps = i.op == "b" or i.op.startswith(("b.", "cb", "tb"))
        target = TARGET.search(i.rest) if jumps else None
        if target and int(target[1], 16) <= i.at:
            ranges.append((int(target[1], 16), i.at))
    inner = [r for r in ranges if not any(o != r and r[0] <= o[0] and o[1] <= r[1] for o in ranges)]
    return [Loop(tuple(i for i in body if first <= i.at <= last)) for first, last in sorted(set(inner))]


def busiest(body: list[Instruction]) -> Loop | None:
    """The innermost loop with the most multiply-adds; of several, the one with the fewest other instructions."""
    loops = [loop for loop in innermost(body) if loop.products]
    return max(loops, key=lambda loop: (loop.products, -len(loop.body)), default=None)


def names(mangled: str) -> str:
    """`4conv_blocked_2_1` as conv.blocked_2_1."""
    length = re.match(r"\d+", mangled)
    assert length is not None
    size = int(length[0])
    rest = mangled[length.end() :]
    return f"{rest[:size]}.{rest[size + 1 :]}"


def rows(folder: Path, objdump: str) -> list[tuple[str, str, Loop]]:
    """(instruction set, function, its busiest loop), for each object in the folder, the newest of a name."""
    result = []
    newest: dict[str, Path] = {}
    for path in sorted(folder.rglob("_*_neon*.o"), key=lambda path: path.stat().st_mtime):
        newest[path.stem] = path
    for _, path in sorted(newest.items()):
        isa = path.stem.rpartition("_")[2]
        done = subprocess.run([objdump, "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True)
        for name, body in functions(done.stdout).items():
            known = PREFIX.match(name)
            loop = busiest(body) if known else None
            if known and loop:
                result.append((isa, names(known["mangled"]), loop))
    return result


def table(found: list[tuple[str, str, Loop]]) -> str:
    """In Markdown."""
    head = ["", "tile", "instructions", "multiply-adds", "loads", "spills", *(cpu.name for cpu in PROCESSORS)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for isa, name, loop in found:
        known = [loop.share(cpu) for cpu in PROCESSORS]
        shares = ["" if share is None else f"{100 * share:.0f} %" for share in known]
        counts = [len(loop.body), loop.products, loop.count("is_load"), loop.count("is_spill")]
        lines.append("| " + " | ".join([isa, f"`{name}`", *map(str, counts), *shares]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="objects of the tiles")
    parser.add_argument("--objdump", default="aarch64-linux-gnu-objdump")
    parser.add_argument("--all", action="store_true", help="every family, not only those that multiply matrices and taps")
    parser.add_argument("--loop", help="print the busiest loop of this function, as conv.blocked_2_1")
    given = parser.parse_args()
    if not shutil.which(given.objdump):
        sys.exit(f"{given.objdump} is missing: see `make aarch64`")
    found = rows(given.folder or ROOT / "build", given.objdump)
    if not found:
        sys.exit("there are no objects of a build for aarch64: see `make aarch64`")
    if given.loop:
        for isa, name, loop in found:
            if name == given.loop:
                print(f"{isa} {name}: {dict(Counter(i.op for i in loop.body))}")
                print("\n".join(f"  {i.op}\t{i.rest}" for i in loop.body))
        return
    print(table([row for row in found if given.all or row[1].partition(".")[0] in FAMILIES]))


if __name__ == "__main__":
    main()
