"""The package on every Python and NumPy that it claims, built by gcc and by clang: a core of the tests, then a table.

For each Python that is found the package is built once with each compiler and installed into an environment for each NumPy:
the oldest one that has a wheel for that Python (and is not below the floor in pyproject.toml), and the newest. Pythons are looked
for in this order:

1. executables named by --python (may be given several times),
2. pythonX.Y and pythonX.Yt on PATH, then those of pyenv (`~/.pyenv/versions`) and uv (`~/.local/share/uv/python`); nothing is
   downloaded by either,
3. folders named by --root (may be given several times): the root of another Debian suite, made by, say,
   `mmdebstrap --include=python3.14-venv,python3.14-dev,gcc,clang,libomp-dev,libc6-dev forky ROOT`; needs root and unshare.

What is not found is a line of the table, too. The packages come from the index that pip is set up for. The exit status says
whether something failed; what was not to be had is no failure, unless --all is given.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CLAIMED = {
    # Python -> oldest NumPy that has wheels for it, from the package's own floor up
    "3.11": "1.26.0",
    "3.12": "1.26.0",
    "3.13": "2.1.0",
    "3.14": "2.3.2",
    "3.14t": "2.3.2",
}
OTHERS = {"3.13t": "2.1.0"}
"""Pythons that are not claimed and run where they are named: 3.13t stands in for 3.14t where that is not to be had."""

TESTS = (
    "tests/test_records.py",
    "tests/test_window.py",
    "tests/preprocess/test_preprocess.py",
    "tests/kernels/test_pool.py",
    "tests/kernels/test_half.py",
    "tests/kernels/test_front.py",
    "tests/runtime",
    "tests/model/test_model.py",
    "tests/model/test_short_calls.py",
    "tests/session/test_session.py",
    "tests/embedding/test_processes.py",
)
NEEDED = (
    "pytest>=8",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "Pillow>=10",
    "threadpoolctl>=3",
    "cython>=3.3,<3.4",
    "setuptools>=77",
)
ONNX = "onnx>=1.17"
"""What the tests make models with; left out where it has no wheel, and with it the tests that import it."""


@dataclass
class Interpreter:
    """A Python, and how commands reach it."""

    name: str  # as in CLAIMED
    path: str
    version: str
    prefix: tuple[str, ...] = ()
    where: str = ""


@dataclass
class Row:
    """A line of the table."""

    python: str
    compiler: str
    numpy: str
    state: str
    detail: str = ""
    seconds: float = 0.0
    log: Path | None = field(default=None)


def found_on_this_system(name: str) -> Iterator[str]:
    """Executables that may be this Python."""
    on_path = shutil.which(f"python{name}")
    if on_path:
        yield on_path
    home = Path.home()
    for pattern in (
        f".pyenv/versions/{name.removesuffix('t')}.*/bin/python{name}",
        f".local/share/uv/python/cpython-*/bin/python{name}",
    ):
        # the newest patch release first
        yield from sorted(map(str, home.glob(pattern)), key=lambda p: [int(n) for n in re.findall(r"\d+", p)], reverse=True)


ASK = """
import sys, sysconfig
free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
print("%d.%d" % sys.version_info[:2] + free, sys.version.split()[0])
"""


def asked(path: str, prefix: Sequence[str] = (), where: str = "") -> Interpreter | None:
    """The interpreter at this path; None where it does not run (a shim of a version that is not chosen, another's machine)."""
    try:
        done = subprocess.run([*prefix, path, "-c", ASK], capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    return (
        Interpreter(words[0], path, words[1], tuple(prefix), where or path) if done.returncode == 0 and len(words) == 2 else None
    )


# The mounts are those of a mount namespace of its own: they go with the command.
ENTER = """
set -e
root=$1 work=$2 here=$PWD
shift 2
mkdir -p "$root$work"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$work" "$root$work"
for f in /etc/resolv.conf /etc/hosts; do [ ! -e $f ] || cp -L $f "$root$f"; done
if [ -f "$PIP_CERT" ] && [ -f "$root$PIP_CERT" ]; then mount --bind "$PIP_CERT" "$root$PIP_CERT"; fi
exec chroot "$root" /bin/sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$here" "$@"
"""


def inside(root: Path, work: Path) -> tuple[str, ...]:
    """The words before a command that run it in another root, with /proc, /dev, names, pip's certificates and `work` of here."""
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "matrix", str(root), str(work))


def interpreters(args: argparse.Namespace, work: Path) -> dict[str, Interpreter]:
    """The first Python that is found for each name."""
    found: dict[str, Interpreter] = {}
    for path in args.python:
        one = asked(path)
        if one is None:
            sys.exit(f"matrix: {path} does not run")
        found.setdefault(one.name, one)
    for name in (*CLAIMED, *OTHERS):
        for path in found_on_this_system(name):
            one = asked(path)
            if one is not None and one.name == name:
                found.setdefault(name, one)
    for root in map(Path, args.root):
        for path in sorted(root.glob("usr/bin/python3.*")):
            if re.fullmatch(r"python3\.\d+t?", path.name):
                one = asked(f"/usr/bin/{path.name}", inside(root.resolve(), work), f"{path.name} in {root}")
                if one is not None:
                    found.setdefault(one.name, one)
    return found


class Failed(Exception):
    """A command that failed; its last lines."""


class Log:
    """Runs commands, all output into one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def run(self, command: Sequence[str], *, cwd: Path, seconds: float, **variables: str) -> str:
        """Its output; raises Failed."""
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYENV_VERSION")}
        env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", **variables}
        with self.path.open("a") as log:
            log.write(f"\n$ {shlex.join([*(f'{k}={v}' for k, v in variables.items()), *command])}\n")
            log.flush()
            before = log.tell()
            try:
                status = subprocess.run(
                    command, cwd=cwd, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=seconds
                ).returncode
            except subprocess.TimeoutExpired:
                status = f"no end within {seconds:.0f} s"  # type: ignore[assignment]
        with self.path.open(errors="replace") as log:
            log.seek(before)
            text = log.read()
        if status:
            raise Failed(text.strip().splitlines()[-1][:120] if text.strip() else f"status {status}")
        return text


def tree(target: Path) -> None:
    """The files that git knows, as they are in this work tree, and nothing of an earlier run."""
    shutil.rmtree(target, ignore_errors=True)
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in names.stdout.decode().split("\0"):
        source = ROOT / name
        if name and source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def with_flags(compiler: str, flags: str, work: Path) -> str:
    """A compiler's command that gives these flags behind all others, where they win."""
    if not flags:
        return compiler
    script = work / "compiler"
    script.write_text(f'#!/bin/sh\nexec {compiler} "$@" {flags}\n')
    script.chmod(0o755)
    return str(script)


def tests_of(source: Path, names: Sequence[str], with_onnx: bool) -> list[str]:
    """Test files by their names and folders'; without onnx those that do not import it at their head."""
    files: list[str] = []
    for name in names:
        path = source / name
        files += sorted(str(p.relative_to(source)) for p in path.rglob("test_*.py")) if path.is_dir() else [name]
    return files if with_onnx else [name for name in files if not re.search(IMPORTS_ONNX, (source / name).read_text(), re.M)]


IMPORTS_ONNX = r"^(from|import) onnx\b"


def numpies(name: str, wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(what the table says, what pip installs)"""
    for one in wanted:
        if one == "oldest":
            yield one, f"numpy=={ {**CLAIMED, **OTHERS}.get(name, '') }" if name in {**CLAIMED, **OTHERS} else "numpy"
        else:
            yield one, "numpy" if one == "newest" else f"numpy=={one}"


def cells(one: Interpreter, compiler: str, args: argparse.Namespace, work: Path) -> Iterator[Row]:
    """The lines of one Python and one compiler: it is built once, and tested with each NumPy."""
    label = Path(shlex.split(compiler)[-1]).name
    place = work / f"{one.name}-{label}"
    log = Log(work / f"{place.name}.log")
    source = work / "tree"  # the same folder for all: what caches compilers' results sees the same names
    started = time.monotonic()

    def row(numpy: str, state: str, detail: str) -> Row:
        nonlocal started
        now = time.monotonic()
        took, started = now - started, now
        return Row(f"{one.name} ({one.version})", label, numpy, state, detail, took, log.path)

    def run(*command: str, seconds: float = 3600, cwd: Path = source, **variables: str) -> str:
        return log.run([*one.prefix, *command], cwd=cwd, seconds=seconds, **variables)

    try:
        for left in (source / "build").glob("*"):
            if left.name not in ("cython", "tiles"):  # C files serve every Python
                shutil.rmtree(left)
        shutil.rmtree(place, ignore_errors=True)
        if not run("sh", "-c", f"command -v {shlex.quote(shlex.split(compiler)[0])}").strip():
            raise Failed("no such compiler")
    except Failed:
        yield row("-", "not to be had", f"no {compiler} there")
        return
    build = place / "build"
    try:
        run(one.path, "-m", "venv", str(build))
        run(str(build / "bin/python"), "-m", "pip", "install", "-q", "setuptools>=77", "cython>=3.3,<3.4", "wheel")
        for made in (source / "build" / "cython").rglob("*.c"):  # they are not older than the declarations of this new Cython
            made.touch()
        extra = {"CNNENGINE_ISAS": args.isas} if args.isas else {}
        run(
            *(
                str(build / "bin/python"),
                "-m",
                "pip",
                "wheel",
                "-q",
                "--no-build-isolation",
                "--no-deps",
                "-w",
                str(place / "dist"),
                ".",
            ),
            CC=with_flags(compiler, args.flags, work),
            **extra,
        )
    except Failed as error:
        yield row("-", "does not build", str(error))
        return
    (wheel,) = (place / "dist").glob("cnnengine-*.whl")
    for called, numpy in numpies(one.name, args.numpy):
        env = place / f"numpy-{called}"
        python = str(env / "bin/python")
        try:
            run(one.path, "-m", "venv", str(env))
            run(python, "-m", "pip", "install", "-q", "--only-binary", "numpy", numpy, *NEEDED)
            have = run(python, "-c", "import numpy; print(numpy.__version__)").split()[-1]
        except Failed as error:
            yield row(called, "not to be had", str(error))
            continue
        try:
            run(python, "-m", "pip", "install", "-q", "--only-binary", ":all:", f"numpy=={have}", ONNX)
            with_onnx = True
        except Failed:
            with_onnx = False
        try:
            run(python, "-m", "pip", "install", "-q", "--no-deps", str(wheel))
            names = tests_of(source, args.tests or TESTS, with_onnx)
            command = (
                python,
                "-P",
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "-n",
                str(args.jobs),
                *shlex.split(args.pytest_args),
            )
            # a Python without a GIL keeps it off though a module of the tests' own needs asks for it
            text = run(
                *command, *names, seconds=args.seconds, CC=compiler, **({"PYTHON_GIL": "0"} if one.name.endswith("t") else {})
            )
            counted = [line.strip("= ") for line in text.splitlines() if re.search(r"\d+ passed.* in ", line)]
            state, detail = "passed", counted[-1] if counted else "no test ran"
            if not counted:
                state = "failed"
        except Failed as error:
            state, detail = "failed", str(error)
        yield row(have, state, detail + ("" if with_onnx else "; without onnx, which has no wheel there"))


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    lines = ["| Python | compiler | NumPy | | |", "|---|---|---|---|---|"]
    lines += [f"| {r.python} | {r.compiler} | {r.numpy} | {r.state} | {r.detail.replace('|', '/')} |" for r in rows]
    return "\n".join(lines)


def main() -> int:
    words = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--only", default=",".join(CLAIMED), help="Pythons, as 3.11,3.14t; 3.13t is known too")
    words.add_argument(
        "--python", action="append", default=[], metavar="PATH", help="a Python to use; may be given several times"
    )
    words.add_argument(
        "--root", action="append", default=[], metavar="FOLDER", help="root of another Debian suite; may be given several times"
    )
    words.add_argument("--compilers", default="gcc", help="commands, separated by commas, for every Python")
    words.add_argument("--clang-for", default="3.13", metavar="PYTHON", help="also built by clang for this Python; '' for none")
    words.add_argument("--clang", default="clang", help="that compiler's command")
    words.add_argument("--numpy", type=lambda s: s.split(","), default=["oldest", "newest"], help="oldest, newest or versions")
    words.add_argument("--isas", default=default_isas(), help="instruction sets that are compiled; '' for all")
    words.add_argument("--flags", default="", help="behind all others of the builds, as -Werror or -O1")
    words.add_argument("--tests", nargs="*", help="test files in the place of the core")
    words.add_argument("--pytest-args", default="")
    words.add_argument("--jobs", type=int, default=2, help="processes of pytest")
    words.add_argument("--seconds", type=float, default=1800, help="after which a run of the tests has failed")
    words.add_argument("--work", type=Path, default=ROOT / "build" / "matrix", help="folder for trees, environments and logs")
    words.add_argument("--all", action="store_true", help="what is not to be had is a failure")
    words.add_argument("--list", action="store_true", help="print which Pythons were found, and leave")
    args = words.parse_args()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    found = interpreters(args, work)
    wanted = [name for name in args.only.split(",") if name]
    if args.list:
        for name in wanted:
            print(f"{name:6}", f"{found[name].version} {found[name].where}" if name in found else "not found")
        return 0
    tree(work / "tree")
    rows: list[Row] = []
    for name in wanted:
        if name not in found:
            rows.append(Row(name, "-", "-", "not to be had", "no such Python was found"))
            continue
        for compiler in [*args.compilers.split(","), *([args.clang] if name == args.clang_for else [])]:
            for row in cells(found[name], compiler, args, work):
                rows.append(row)
                print(
                    f"{row.python:16} {row.compiler:8} numpy {row.numpy:8} {row.state}: {row.detail} ({row.seconds:.0f} s)",
                    flush=True,
                )
                if row.state not in ("passed", "not to be had"):
                    print(f"  see {row.log}", flush=True)
    print("\n" + table(rows))
    bad = [r for r in rows if r.state != "passed" and (args.all or r.state != "not to be had")]
    print(f"\n{sum(r.state == 'passed' for r in rows)} passed, {len(bad)} failed")
    return 1 if bad or not any(r.state == "passed" for r in rows) else 0


def default_isas() -> str:
    """The baseline and one more: tiles are the same whatever Python they serve, and take most of a build."""
    machine = sysconfig.get_platform().rsplit("-", 1)[-1]
    return "sse2,avx2" if machine == "x86_64" else ""


if __name__ == "__main__":
    sys.exit(main())
