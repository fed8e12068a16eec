"""setup.py: what it compiles is there, and how it asks the compiler."""

from __future__ import annotations

import gzip
import itertools
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("Cython")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of setup.py; nothing is compiled."""
    monkeypatch.chdir(ROOT)
    return runpy.run_path(str(ROOT / "setup.py"), run_name="setup")


def test_every_compiled_source_is_named(setup: dict[str, Any]) -> None:
    sources = {path.relative_to(ROOT) for path in (ROOT / "cnnengine").rglob("*.pyx")}
    named = {Path(name.replace(".", "/")).with_suffix(".pyx") for name in setup["MODULES"]}
    named |= {Path("cnnengine/_kernels/tiles", f"{name}.pyx") for name in setup["TILES"]}
    assert named == sources


def test_a_missing_source_is_an_error(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    names = setup["extensions"].__globals__
    monkeypatch.setitem(names, "MODULES", ["cnnengine._kernels.nothing"])
    monkeypatch.setitem(names, "TILES", [])
    monkeypatch.setitem(names, "compiles", lambda *args: True)
    monkeypatch.setitem(names, "missing", list)
    with pytest.raises(ValueError, match="nothing"):
        setup["extensions"]()


@pytest.mark.parametrize("compiler", ["gcc", "ccache gcc"])
def test_a_compiler_of_several_words(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    monkeypatch.setenv("CC", compiler)
    asked = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert setup["compiles"](["-fthing"])
    assert asked[0][:-3] == [*compiler.split(), "-Werror", "-fthing"]


@pytest.mark.parametrize(
    ("platform", "isas"),
    [
        ("linux-x86_64", {"sse2", "avx2", "avx512"}),
        ("macosx-11.0-x86_64", {"sse2", "avx2", "avx512"}),
        ("linux-aarch64", {"neon"}),
        ("macosx-11.0-arm64", {"neon"}),
    ],
)
def test_the_machine_that_is_compiled_for(monkeypatch: pytest.MonkeyPatch, platform: str, isas: set[str]) -> None:
    """That of the build's configuration, whatever machine the build runs on."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("_PYTHON_HOST_PLATFORM", platform)
    assert set(runpy.run_path(str(ROOT / "setup.py"), run_name="setup")["ISAS"]) == isas


def test_posix_alone_reaches_what_asks_the_system(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each header that looks at CNNENGINE_POSIX is known to setup.py, and the modules that include it are told."""
    package = ROOT / "cnnengine"
    asking = {path.name for path in package.rglob("*.h") if "CNNENGINE_POSIX" in path.read_text(encoding="utf-8")}
    assert asking == set(setup["SYSTEM"])
    assert {flag for module in setup["MODULES"] for flag in setup["system_flags"](module)} == set()
    monkeypatch.setitem(setup["system_flags"].__globals__, "POSIX", True)
    told = {module for module in setup["MODULES"] if setup["system_flags"](module)}
    assert (
        {"cnnengine.runtime.threads", "cnnengine.importer.guard", "cnnengine._kernels.dispatch"} <= told < set(setup["MODULES"])
    )


# ---------------------------------------------------------------- what a build needs
GCC = shutil.which("gcc") or ""
# How a compiler behaves where something is missing: a script that stands for gcc.
NO_LIBC = f'exec {GCC} -nostdinc -isystem "$({GCC} -print-file-name=include)" "$@"'
NO_OPENMP = f'for flag; do [ "$flag" = -fopenmp ] && exit 1; done; exec {GCC} "$@"'
NEITHER = NO_OPENMP.replace(f'exec {GCC} "$@"', NO_LIBC)
needs_gcc = pytest.mark.skipif(not GCC, reason="needs gcc")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Makes a script the C compiler."""

    def make(script: str, name: str = "some-gcc") -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CC", str(path))

    return make


@needs_gcc
def test_nothing_is_missing_here(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, compiler: Any) -> None:
    monkeypatch.setenv("CC", GCC)
    assert setup["missing"]() == []
    assert setup["openmp_flags"]() == ["-fopenmp"]
    compiler(f'exec {GCC} "$@"')  # the script itself takes nothing away
    assert setup["missing"]() == []


@needs_gcc
@pytest.mark.parametrize(
    ("script", "what", "package"),
    [
        (NO_LIBC, "headers of the C library", "libc6-dev"),
        (NO_OPENMP, "OpenMP", "gcc"),
        ("exit 1", "C compiler", "gcc"),
    ],
)
def test_one_need_is_named(
    setup: dict[str, Any], compiler: Any, capsys: pytest.CaptureFixture[str], script: str, what: str, package: str
) -> None:
    compiler(script)
    ((named, named_package),) = setup["missing"]()
    assert (what in named, named_package) == (True, package)
    with pytest.raises(SystemExit) as stopped:
        setup["openmp_flags"]()
    assert what in str(stopped.value) and str(stopped.value).endswith(f"apt-get install {package}")


def test_a_compiler_that_is_not_there(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, package in (("/nowhere/gcc", "gcc"), ("/nowhere/clang-14", "clang"), ("ccache /nowhere/clang", "clang")):
        monkeypatch.setenv("CC", name)
        named = dict(setup["missing"]())
        assert named[f"a C compiler ({name})"] == package
        assert "OpenMP" not in "".join(named)


@needs_gcc
def test_clang_has_its_own_packages(setup: dict[str, Any], compiler: Any) -> None:
    compiler(NO_OPENMP, "clang")
    assert [package for what, package in setup["missing"]()] == ["libomp-dev"]


@needs_gcc
def test_all_needs_stand_in_one_message(
    setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, compiler: Any, tmp_path: Path
) -> None:
    compiler(NEITHER)
    real = sysconfig.get_path
    monkeypatch.setattr(
        sysconfig, "get_path", lambda name, *rest, **more: str(tmp_path) if "include" in name else real(name, *rest, **more)
    )
    with pytest.raises(SystemExit) as stopped:
        setup["openmp_flags"]()
    headers = f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"
    # without the C library's headers nothing is known of OpenMP
    assert str(stopped.value).endswith(f"On Debian and Ubuntu: apt-get install libc6-dev {headers}")
    assert "stdlib.h" in str(stopped.value) and "Python.h" in str(stopped.value)


@needs_gcc
def test_without_openmp_nobody_asks_for_it(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, compiler: Any) -> None:
    compiler(NO_OPENMP)
    monkeypatch.setitem(setup["openmp_flags"].__globals__, "OPENMP", False)
    assert setup["missing"]() == []
    assert setup["openmp_flags"]() == []


# ---------------------------------------------------------------- objects that are kept
def test_what_the_compiler_read_decides(setup: dict[str, Any], tmp_path: Path) -> None:
    newer = setup["newer"]
    source, header, made, rules = (tmp_path / name for name in ("a.c", "with space.h", "a.so", "a.d"))
    rules.write_text(f"{tmp_path}/a.o: {source} \\\n {str(header).replace(' ', chr(92) + ' ')}\n")
    for path, when in ((source, 100), (header, 200), (made, 300)):
        path.write_text("")
        os.utime(path, (when, when))
    assert newer(made, rules)
    os.utime(header, (301, 301))
    assert not newer(made, rules)
    os.utime(header, (300, 300))
    assert newer(made, rules)
    header.unlink()
    assert not newer(made, rules)
    assert not newer(made, tmp_path / "none.d")


PROJECT = """
import runpy, sys
from pathlib import Path
from setuptools import Extension, setup
names = runpy.run_path({setup!r}, run_name="setup")
flags = sys.argv.pop(1).split()
one = Extension("one", ["one.c"], extra_compile_args=flags)
names["Build"].run.__globals__["extensions"] = lambda: [one]
setup(name="one", ext_modules=[one], cmdclass={{"build_ext": names["Build"]}}, packages=[])
"""
MODULE = """
#include <Python.h>
#include "number.h"
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "one", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_one(void) {
    PyObject *module = PyModule_Create(&def);
    PyModule_AddIntConstant(module, "number", NUMBER);
    return module;
}
"""


@needs_gcc
def test_objects_are_made_once_for_each_command(tmp_path: Path) -> None:
    log = tmp_path / "log"
    cc = tmp_path / "cc"
    cc.write_text(f'#!/bin/sh\ncase " $* " in *" -c "*) echo x >> {log};; esac\nexec {GCC} "$@"\n')
    cc.chmod(0o755)
    (tmp_path / "setup.py").write_text(PROJECT.format(setup=str(ROOT / "setup.py")))
    (tmp_path / "one.c").write_text(MODULE)
    header = tmp_path / "number.h"

    def build(number: int, *flags: str) -> int:
        """How many objects were compiled; the module in place has the number."""
        log.write_text("")
        command = [sys.executable, "setup.py", " ".join(flags), "-q", "build_ext", "--inplace"]
        subprocess.run(command, cwd=tmp_path, env={**os.environ, "CC": str(cc)}, check=True, capture_output=True)
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import one; print(one.number)"
        told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert int(told.stdout) == number
        return len(log.read_text().split())

    header.write_text("#ifndef NUMBER\n#define NUMBER 1\n#endif\n")
    assert build(1) == 1
    assert build(1) == 0
    assert build(7, "-DNUMBER=7") == 1  # another command has an object of its own
    assert build(1) == 0  # and the first one's comes back
    assert build(7, "-DNUMBER=7") == 0
    header.write_text("#ifndef NUMBER\n#define NUMBER 2\n#endif\n")  # a file that nobody named
    later = header.stat().st_mtime + 2
    os.utime(header, (later, later))
    assert build(2) >= 1


def test_c_is_written_anew_for_what_changed_alone(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from setuptools import Extension

    build = pytest.importorskip("Cython.Build")
    real, calls = build.cythonize, []

    def cythonize(*args: Any, **options: Any) -> Any:
        calls.append(1)
        return real(*args, **{**options, "nthreads": 0, "quiet": True})

    monkeypatch.setattr(build, "cythonize", cythonize)
    monkeypatch.chdir(tmp_path)
    source, folder = tmp_path / "cnnengine" / "one.pyx", tmp_path / "build"
    source.parent.mkdir()
    made = folder / "cnnengine" / "one.c"

    def written() -> tuple[bool, float]:
        """Whether Cython ran, and the time of the C file that an extension is given."""
        calls.clear()
        (one,) = setup["translate"]([Extension("cnnengine.one", ["cnnengine/one.pyx"])], folder)
        assert Path(one.sources[0]).resolve() == made
        return bool(calls), made.stat().st_mtime

    header = source.with_name("one.h")
    header.write_text("#define ONE 1\n")
    source.write_text('cdef extern from "one.h":\n    int ONE\ndef f(): return ONE\n')
    ran, first = written()
    assert ran
    assert written() == (False, first)
    os.utime(source, (first + 100, first + 100))
    assert written() == (False, first)  # a new time alone is no change
    (folder / "made_of").unlink()
    assert written() == (True, first)  # the same C comes out: its object stays
    assert not list(folder.rglob("*.h"))  # a compiler would look there first, and see the header of an earlier build
    os.utime(made, (first - 100, first - 100))
    source.write_text("def f(): return 2\n")
    ran, second = written()
    assert ran and second > first - 100 and "2" in made.read_text()
    made.unlink()
    assert written()[0]


def test_builders_alone_are_made_small(setup: dict[str, Any]) -> None:
    cold = setup["builders_are_cold"]
    types = ("PyObject *", "struct __pyx_obj_9cnnengine_8_kernels_6launch_Launch *")
    for kind, type_ in itertools.product(("pf", "pw", "gb"), types):
        declaration = f"{type_}__pyx_{kind}_9cnnengine_8_kernels_4pool_2build_max(PyObject *a, int b); /* proto */"
        text = f"int x;\nstatic {declaration}\nint y;\n"
        marked = f"int x;\nstatic __attribute__((cold)) {declaration}\nint y;\n"
        assert cold(text) == marked
        assert cold(marked) == marked  # and not twice
    for other in (
        "static PyObject *__pyx_pf_9cnnengine_8_kernels_6launch_2__call__(PyObject *a); /* proto */\n",
        "static void __pyx_f_9cnnengine_8_kernels_4pool_build_up(PyObject *a); /*proto*/\n",
        "static PyObject *__pyx_pf_4pool_2build_max(PyObject *a) {\n",
        "  static PyObject *__pyx_pf_4pool_2build_max(PyObject *a); /* proto */\n",
    ):
        assert cold(other) == other


# ---------------------------------------------------------------- the source archive
def test_the_source_archive_is_the_same_anywhere(tmp_path: Path) -> None:
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("setuptools is too old for pyproject.toml")
    made = []
    for n, umask in enumerate((0o022, 0o077)):
        tree = tmp_path / f"tree{n}"
        old = os.umask(umask)
        try:
            tree.mkdir()
            for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "Makefile", "conftest.py"):
                shutil.copyfile(ROOT / name, tree / name)
            for name in ("cnnengine", "tools", "benchmarks"):
                shutil.copytree(
                    ROOT / name, tree / name, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("*.so", "__pycache__")
                )
            for path in (tree / "cnnengine").rglob("*.pyx"):
                os.utime(path, (1e9 + n, 1e9 + n))
            command = [sys.executable, "setup.py", "-q", "sdist", "--formats=gztar"]
            env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
            subprocess.run(command, cwd=tree, env=env, check=True, capture_output=True)
        finally:
            os.umask(old)
        made += list((tree / "dist").iterdir())
    first, second = made
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        members = archive.getmembers()
    assert {member.mtime for member in members} == {1700000000}
    assert {(member.uid, member.gid, member.uname) for member in members} == {(0, 0, "")}
    assert {member.mode for member in members} <= {0o644, 0o755}
    names = {member.name.partition("/")[2] for member in members}
    assert {"PKG-INFO", "benchmarks/harness.py", "cnnengine/_kernels/simd.h", "tools/make_wheel.py"} <= names
    assert not any(name.endswith(".so") for name in names)
    assert gzip.decompress(first.read_bytes())  # and it is what it says


# ---------------------------------------------------------------- the source tree without its modules
@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """cnnengine's Python files alone."""
    shutil.copytree(ROOT / "cnnengine", tmp_path / "cnnengine", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path


def imported(tree: Path) -> str:
    """The last line of what `import cnnengine` says there."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    done = subprocess.run([sys.executable, "-c", "import cnnengine"], cwd=tree, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_an_import_in_the_source_tree_says_what_to_do(tree: Path) -> None:
    (tree / "setup.py").touch()
    said = imported(tree)
    assert said.startswith(
        f"ImportError: the compiled modules of cnnengine for Python {sys.version_info[0]}.{sys.version_info[1]} "
    )
    for part in (str(tree / "cnnengine"), "the source tree", "`python -P`", "`pip install -e .`"):
        assert part in said


def test_an_installation_without_its_modules_is_no_source_tree(tree: Path) -> None:
    said = imported(tree)
    assert "are missing in" in said and "install cnnengine anew" in said
    assert "source tree" not in said


def test_other_modules_that_are_missing_are_named_as_ever(tree: Path) -> None:
    (tree / "setup.py").touch()
    (tree / "cnnengine" / "_kernels" / "dispatch.py").write_text("import something_else\n")
    assert imported(tree) == "ModuleNotFoundError: No module named 'something_else'"
