"""Extensions of cnnengine: modules compiled once, and tile modules compiled once per instruction set.

Metadata stands in pyproject.toml. Objects lie in build/objects/, in a folder for each set of flags, and are made anew when their
command or a file that they were made of changed: wheels, builds in place and builds of other flavours share what is the same in
them. Environment variables read here:

CNNENGINE_OPENMP=0      build without OpenMP (without this, a compiler that lacks OpenMP is an error)
CNNENGINE_SANITIZE=1    AddressSanitizer and UndefinedBehaviorSanitizer
CNNENGINE_EMULATE=1     tiles of instructions that CPUs may lack, emulated, for tests
CNNENGINE_POSIX=1       leave out what the system has beyond POSIX (futexes, huge pages, getauxval), to test the fallbacks
CNNENGINE_STRICT=1      large frames on the stack are errors, not warnings
CNNENGINE_ISAS=a,b      compile these instruction sets alone (for quick development builds)
"""

from __future__ import annotations

import atexit
import copy
import filecmp
import gzip
import hashlib
import io
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools._distutils.ccompiler import new_compiler
from setuptools._distutils.sysconfig import customize_compiler
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

OPENMP = os.environ.get("CNNENGINE_OPENMP", "1") != "0"
SANITIZE = os.environ.get("CNNENGINE_SANITIZE", "0") == "1"
EMULATE = os.environ.get("CNNENGINE_EMULATE", "0") == "1"
POSIX = os.environ.get("CNNENGINE_POSIX", "0") == "1"
STRICT = os.environ.get("CNNENGINE_STRICT", "0") == "1"

# Flags are spelled out, because -march=... picks its own vector width; the name is what CNNENGINE_ISA takes. Best last.
X86 = {
    "sse2": ["-msse2"],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}
# What a family has beside them; `cpu_has` asks for it too.
BESIDE = {("half", "avx2"): ["-mf16c"]}
ARM = {"neon": []}
# What adds products of bytes to one of these: tiles of quantised products of its own, all others are those of the other one.
DOT = {
    "avxvnni": ("avx2", ["-mavxvnni"]),
    "avx512vnni": ("avx512", ["-mavx512vnni"]),
    "neondot": ("neon", ["-march=armv8.2-a+dotprod"]),
}
# What adds products of pairs of bfloat16 numbers to that: tiles of its own for these alone.
PAIRED = {
    "avx512bf16": ("avx512", ["-mavx512bf16"]),
    "neonbf16": ("neon", ["-march=armv8.2-a+dotprod+bf16"]),
}
# The same by ordinary instructions: for tests, built when CNNENGINE_ISAS or CNNENGINE_EMULATE=1 asks for them.
EMULATED = {f"{base}dot": (base, ["-DCNNENGINE_EMULATE_DOT"]) for base in ("sse2", "avx2")}
# Of the machine that is compiled for: a cross build's configuration names it (`python -m sysconfig`), as setuptools' folders do.
TARGET = sysconfig.get_platform().lower().rpartition("-")[2]
ISAS = ARM if TARGET in ("aarch64", "arm64") or (TARGET == "universal2" and platform.machine() == "arm64") else X86

# Modules compiled once, for the baseline: geometries, packers, the runtime.
MODULES = [
    "cnnengine._kernels.dispatch",
    "cnnengine._kernels.launch",
    "cnnengine._kernels.pack",
    "cnnengine._kernels.conv",
    "cnnengine._kernels.depthwise",
    "cnnengine._kernels.words",
    "cnnengine._kernels.qconv",
    "cnnengine._kernels.bconv",
    "cnnengine._kernels.dense",
    "cnnengine._kernels.chain",
    "cnnengine._kernels.matmul",
    "cnnengine._kernels.winograd",
    "cnnengine._kernels.pool",
    "cnnengine._kernels.vector",
    "cnnengine._kernels.move",
    "cnnengine._kernels.cast",
    "cnnengine._kernels.select",
    "cnnengine._kernels.image",
    "cnnengine._kernels.sample",
    "cnnengine._kernels.typed",
    "cnnengine._kernels.norm",
    "cnnengine._kernels.recurrent",
    "cnnengine._kernels.qvector",
    "cnnengine._kernels.qdepthwise",
    "cnnengine._kernels.qpool",
    "cnnengine._kernels.qdense",
    "cnnengine.importer.fields",
    "cnnengine.importer.guard",
    "cnnengine.runtime.threads",
    "cnnengine.runtime.runner",
    "cnnengine.capi",
]
# Headers that use what systems have beyond POSIX.
SYSTEM = ("cpu.h", "guard.h", "portable.h", "team.h")
# Tile modules: pointers only, compiled once per instruction set as cnnengine._kernels.tiles._NAME_ISA.
TILES = ["conv", "winograd", "pool", "vector", "move", "norm", "image", "recurrent", "half"]
TILES += ["qconv", "qvector", "qpool", "qdense", "bconv"]
# Those of products of bytes, which have tiles of their own where an instruction adds such products; and those of pairs of
# bfloat16 numbers, which have tiles there alone.
DOTTED, PAIRS = ("qconv", "qdense"), ("bconv",)
# Quantised numbers are rounded at defined places, alike on every instruction set.
QUANTISED = ("qconv", "qvector", "qpool", "qdense")
EXACT_FLAGS = ["-ffp-contract=off"]

COMMON = ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
MODULE_FLAGS = ["-O2"]
# Half of a wheel is what surrounds the kernels. It gets smaller by a fifth where Cython's helpers are called instead of repeated,
# paths are not doubled for what is known on each, code is not padded, and without tables for exceptions of C++, which no C code
# here throws or lets through.
SMALLER = ["--param=max-inline-insns-single=15", "-fno-thread-jumps"]
SMALLER += [f"-fno-align-{what}" for what in ("functions", "jumps", "loops", "labels")]
# Not so what every call goes through, which would take 2 % longer.
CALLED = ("cnnengine._kernels.launch", "cnnengine.runtime.threads", "cnnengine.runtime.runner", "cnnengine.capi")
# Modules in which nothing is computed, neither for each element nor at each call: two fifths smaller.
SMALLEST = ("cnnengine._kernels.dispatch", "cnnengine.importer.guard")
NO_TABLES = ["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]
# Threads may have small stacks: no function takes more of one than this. (AddressSanitizer makes frames larger.)
FRAME = "frame-larger-than=16384"
# What keeps accumulators in registers with gcc; other compilers may not know these.
TILE_FLAGS = [
    "-O3",
    "-fno-predictive-commoning",
    "--param=max-completely-peeled-insns=4000",
    "--param=max-completely-peel-times=64",
]
# Where there are but 16 registers, gcc's regions of loops put a sum of the convolution's widest tile on the stack between them.
ONE_REGION = ["-fira-region=one"]
# Inner loops use pointers, so memoryviews and tuples keep their bounds checks.
DIRECTIVES = {
    "language_level": 3,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
    "freethreading_compatible": True,
}


# One compiler for each CPU that this process may use.
JOBS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Where everything is made; a source tree that cannot be written to stays as it is.
BUILD = "build"
OPTIONS: dict[str, dict[str, object]] = {"build_ext": {"parallel": JOBS}}
if not os.access(".", os.W_OK):
    BUILD = tempfile.mkdtemp(prefix="cnnengine-build-")
    atexit.register(shutil.rmtree, BUILD, ignore_errors=True)
    OPTIONS |= {"build": {"build_base": BUILD}, "egg_info": {"egg_base": BUILD}}
# Seconds that the slowest tiles take a compiler, which so get theirs first.
SLOW = {"conv": 30, "qconv": 8, "winograd": 5, "vector": 5}
# What modules need of a memoryview, once for all of them instead of in each.
SHARED = "cnnengine._kernels._cyutility"


def compiler_words() -> list[str]:
    """The C compiler as it is called, maybe by several words (CC="ccache gcc"), before the flags that Python was built with."""
    compiler = new_compiler()
    customize_compiler(compiler)
    return list(itertools.takewhile(lambda word: not word.startswith("-"), getattr(compiler, "compiler_so", ["cc"])))


def compiles(flags: list[str], source: str = "int main(void) { return 0; }\n") -> bool:
    """Whether the C compiler accepts these flags on a small program."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.c")
        path.write_text(source)
        command = [*compiler_words(), "-Werror", *flags, str(path), "-o", str(path.with_suffix(".out"))]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except OSError:  # there is no such program
            return False


def missing() -> list[tuple[str, str]]:
    """What a build needs and does not find here: what it is, and Debian's package of it."""
    words = compiler_words()
    clang = "clang" in Path(words[-1]).name
    lacks = []
    plain = compiles(["-c"])
    if not plain:
        lacks.append((f"a C compiler ({' '.join(words)})", "clang" if clang else "gcc"))
    links = plain and compiles([], "#include <math.h>\n#include <stdlib.h>\nint main(void) { return 0; }\n")
    if not links and (plain or not Path("/usr/include/stdlib.h").exists()):
        lacks.append(("the headers of the C library (stdlib.h)", "libc6-dev"))
    include = [sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
    if not any(Path(folder, "Python.h").exists() for folder in include):
        major, minor = sys.version_info[:2]
        lacks.append((f"the headers of Python {major}.{minor} (Python.h)", f"python{major}.{minor}-dev"))
    source = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
    if OPENMP and links and not compiles(["-fopenmp"], source):
        lacks.append(("OpenMP (-fopenmp), without which CNNENGINE_OPENMP=0 builds", "libomp-dev" if clang else "gcc"))
    return lacks


def openmp_flags() -> list[str]:
    """Flags of OpenMP; ends in one message that names all that is missing where a build would fail."""
    lacks = missing()
    if lacks:
        text = "".join(f"\n  {what}" for what, package in lacks)
        packages = " ".join(dict.fromkeys(package for what, package in lacks))
        sys.exit(f"cnnengine: what a build needs is not here:{text}\nOn Debian and Ubuntu: apt-get install {packages}")
    return ["-fopenmp"] if OPENMP else []


def system_flags(module: str) -> list[str]:
    """What a module whose source includes headers of SYSTEM is told of the system."""
    if not POSIX:
        return []
    text = Path(module.replace(".", "/") + ".pyx").read_text(encoding="utf-8")
    return ["-DCNNENGINE_POSIX"] if any(f'"{header}"' in text for header in SYSTEM) else []


def tag(paths: Iterable[Path]) -> str:
    """A name for the declarations in these files, which tells modules of different builds apart; comments by # do not count."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        lines = (
            line if path.suffix == ".h" else line.partition("#")[0].rstrip()
            for line in path.read_text(encoding="utf-8").splitlines()
        )
        digest.update("\n".join([path.name, *(line for line in lines if line)]).encode())
    return digest.hexdigest()[:12]


def extensions() -> list[Extension]:
    openmp = openmp_flags()
    common = [f for f in COMMON if compiles([f])]
    smaller = [f for f in SMALLER if compiles([f])]
    tile_flags = [f for f in TILE_FLAGS if compiles([f])]
    one_region = [f for f in ONE_REGION if compiles([f])]
    frame = [f"-Werror={FRAME}" if STRICT else f"-W{FRAME}"]
    if not SANITIZE and compiles(frame):
        common += frame
    link = [*openmp]
    if SANITIZE:
        extra = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g", "-O1"]
        common += extra
        link += ["-fsanitize=address,undefined"]
    else:
        common += ["-g0", *(f for f in NO_TABLES if compiles([f]))]
        link += ["-s"]
    macros = [("CNNENGINE_SANITIZE", "1")] if SANITIZE else []
    # constant arguments of inline functions act as template parameters in tiles
    tile_macros = [*macros, ("CYTHON_INLINE", "inline __attribute__((always_inline))")]
    include = ["cnnengine/_kernels"]
    kernels = Path("cnnengine/_kernels")
    activations = kernels / "activations.h"  # numbers that modules tell each other
    words = kernels / "tiles" / "words.pxd"
    beside = {"vector": [activations], "qconv": [words], "bconv": [words]}
    shared = {t: [kernels / "tiles" / f"{t}.pxd", *beside.get(t, [])] for t in TILES}
    capsules = {t: f"cnnengine.tiles.{t}:{tag(paths)}" for t, paths in shared.items()}
    by_calls = [("CYTHON_USE_PYLONG_INTERNALS", "0")]  # Python's numbers are read by its functions: smaller, too
    module_macros = [
        *macros,
        ("CNNENGINE_LAYOUT", f'"{tag([*kernels.rglob("*.pxd"), activations])}"'),
        ("CNNENGINE_FAMILIES", f'"{" ".join(capsules.values())}"'),
    ]
    build = Path(BUILD)

    modules = [
        Extension(
            name,
            [name.replace(".", "/") + ".pyx"],
            include_dirs=[*include, "cnnengine", "cnnengine/runtime", "cnnengine/importer", "cnnengine/include"],
            define_macros=[*module_macros, *(by_calls if name not in CALLED else ())],
            extra_compile_args=[
                *(["-Os"] if name in SMALLEST else MODULE_FLAGS),
                *(smaller if name not in CALLED else ()),
                *common,
                *openmp,
                *system_flags(name),
            ],
            extra_link_args=link,
        )
        for name in MODULES
    ]
    modules.append(
        Extension(
            SHARED,
            [],
            define_macros=[*macros, *by_calls],
            extra_compile_args=["-Os", *smaller, *common],
            extra_link_args=link,
        )
    )
    tiles = [Extension(f"cnnengine._kernels.tiles.{t}", [f"cnnengine/_kernels/tiles/{t}.pyx"]) for t in TILES]
    result = translate([*modules, *tiles], build / "cython")
    tiles = [one for one in result if one.name.startswith("cnnengine._kernels.tiles.")]
    result = [one for one in result if one not in tiles]

    # cythonize refuses one .pyx in two extensions: translate each tile file once, and include the C file from a stub per
    # instruction set that renames the module's init function.
    wanted = os.environ.get("CNNENGINE_ISAS")
    chosen = [i for i in ISAS if not wanted or i in wanted.split(",")]
    named = set(wanted.split(",")) if wanted else {*DOT, *PAIRED}
    named |= set(EMULATED) if EMULATE else set()
    dots = {name: [*ISAS[base], *flags] for name, (base, flags) in {**DOT, **PAIRED, **EMULATED}.items() if base in chosen}
    dots = {name: flags for name, flags in dots.items() if name in named and compiles(flags)}
    for tile in tiles:
        source = Path(os.path.relpath(tile.sources[0], build / "tiles"))  # the same text in any folder
        short = tile.name.rsplit(".", 1)[1]
        isas = [] if short in PAIRS else list(chosen)
        isas += [name for name in dots if short in (DOTTED if name in DOT else PAIRS if name in PAIRED else DOTTED + PAIRS)]
        for isa in isas:
            few = one_region if short in ("conv", "winograd", "qconv") and isa in ("sse2", "avx2", "avxvnni") else []
            exact = EXACT_FLAGS if short in QUANTISED else []
            flags = [*(ISAS[isa] if isa in ISAS else dots[isa]), *BESIDE.get((short, isa), [])]
            stub = build / "tiles" / f"_{short}_{isa}.c"
            stub.parent.mkdir(parents=True, exist_ok=True)
            text = f"#define PyInit_{short} PyInit__{short}_{isa}\n"
            text += f'#define CNNENGINE_CAPSULE "{capsules[short]}"\n#include "{source}"\n'
            if not stub.exists() or stub.read_text() != text:
                stub.write_text(text)
            result.append(
                Extension(
                    f"cnnengine._kernels.tiles._{short}_{isa}",
                    [str(stub)],
                    include_dirs=include,
                    define_macros=tile_macros,
                    extra_compile_args=[*tile_flags, *few, *common, *exact, *flags],
                    extra_link_args=link if SANITIZE else ["-s"],
                )
            )
    return result


def translate(modules: list[Extension], folder: Path) -> list[Extension]:
    """The same with C in the place of Cython, which several processes write.

    What decides is what files hold, not when they were written: pip makes each build an environment of its own, in which Cython's
    files are newer than all that an earlier one made. C that comes out as it was keeps its time, and so its objects.
    """
    import Cython
    from Cython.Build import cythonize

    told = [Cython.__version__, DIRECTIVES, SHARED, [(one.name, one.sources) for one in modules]]
    read = sorted(path for path in Path("cnnengine").rglob("*") if path.suffix in (".pyx", ".pxd", ".pxi"))
    told += [(str(path), path.read_bytes()) for path in read]
    made_of, key = folder / "made_of", short(told)
    written = [folder / Path(*one.sources or [SHARED.replace(".", "/")]).with_suffix(".c") for one in modules]
    # of cythonize's own extensions only the C is taken: they have other flags, and so objects, than those that it did not make
    result = [copied(one, path) for one, path in zip(modules, written, strict=True)]
    if made_of.exists() and made_of.read_text() == key and all(path.exists() for path in written):
        return result
    before = {path: (path.read_text(), path.stat().st_mtime_ns) for path in written if path.exists()}
    cythonize(
        modules,
        compiler_directives=DIRECTIVES,
        build_dir=str(folder),
        nthreads=JOBS if JOBS > 1 else 0,
        shared_utility_qualified_name=SHARED,
    )
    for path in folder.rglob("*.h"):  # copies, which compilers would find before the headers themselves
        path.unlink()
    for path in written:
        text = path.read_text()
        cold = builders_are_cold(text)
        if cold != text:
            path.write_text(cold)
        if path in before and before[path][0] == cold:
            os.utime(path, ns=(before[path][1], before[path][1]))
    made_of.write_text(key)
    return result


def copied(extension: Extension, source: Path) -> Extension:
    """The same made of another file."""
    one = copy.copy(extension)
    one.sources = [str(source)]
    return one


def builders_are_cold(text: str) -> str:
    """C with a word at the declarations of `build_NAME`: these run once for each plan, and compilers then make them small.

    So do they what these alone call. It is a sixth of a module, and no kernel is in it.
    """
    declaration = r"^static (?!__attribute__)(.*\b__pyx_(?:p[fw]|gb)_\w*build_\w*\(.*\); */\* ?proto ?\*/)$"
    return re.sub(declaration, r"static __attribute__((cold)) \1", text, flags=re.M)


class Build(build_ext):
    """Extensions are looked at when they are built, not when metadata or a source archive are made; objects are kept."""

    def run(self) -> None:
        # the longest first, so that no compiler is left alone with one at the end
        self.extensions = self.distribution.ext_modules = sorted(extensions(), key=weight, reverse=True)
        for ext in self.extensions:  # as finalize_options does with those that it knows
            ext._full_name = self.get_ext_fullname(ext.name)
            ext._links_to_dynamic = ext._needs_stub = False
            self.ext_map[ext._full_name] = ext
            self.ext_map[ext._full_name.rpartition(".")[2]] = ext
            ext._file_name = self.get_ext_filename(ext._full_name)
        super().run()
        # what an earlier build made and this one does not is no part of a wheel
        outputs = {Path(self.build_lib, ext._file_name) for ext in self.extensions}
        for path in Path(self.build_lib, "cnnengine").rglob("*.so"):
            if path not in outputs:
                path.unlink()

    def build_extensions(self) -> None:
        if sys.prefix != sys.base_prefix:  # a virtual environment has no headers, and its name would ask for objects of its own
            none = os.path.join(sys.exec_prefix, "include")
            self.compiler.set_include_dirs([folder for folder in self.compiler.include_dirs if folder != none])
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        """Compile what is out of date, link, and put the result in its place if it is not there already."""
        compiler = self.compiler
        (source,) = ext.sources
        macros = [*ext.define_macros, *((name,) for name in ext.undef_macros)]
        told = [
            ext.name,
            compiler.compiler_so,
            compiler.include_dirs,
            compiler.macros,
            macros,
            ext.include_dirs,
            ext.extra_compile_args,
        ]
        kept = Path(BUILD, "objects", short(told))
        linked = kept / short([compiler.linker_so, ext.extra_link_args])
        linked.mkdir(parents=True, exist_ok=True)
        made, rules = kept / "made.o", kept / "made.d"
        library = linked / Path(self.get_ext_filename(ext._full_name)).name
        if self.force or not newer(made, rules):
            (fresh,) = compiler.compile(
                [source],
                output_dir=str(kept / "fresh"),
                macros=macros,
                include_dirs=ext.include_dirs,
                debug=self.debug,
                extra_postargs=[*ext.extra_compile_args, "-MMD", "-MF", str(rules)],
            )
            os.replace(fresh, made)  # whole, or not there
        if self.force or not library.exists() or library.stat().st_mtime_ns < made.stat().st_mtime_ns:
            library.unlink(missing_ok=True)
            compiler.link_shared_object(
                [str(made)],
                str(library),
                libraries=self.get_libraries(ext),
                library_dirs=ext.library_dirs,
                runtime_library_dirs=ext.runtime_library_dirs,
                extra_postargs=ext.extra_link_args,
                export_symbols=self.get_export_symbols(ext),
                debug=self.debug,
                build_temp=self.build_temp,
            )
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or not filecmp.cmp(library, target, shallow=False):
            put(library, target)

    def copy_extensions_to_source(self) -> None:
        """Only what differs: a process that has the others loaded goes on with them."""
        build_py = self.get_finalized_command("build_py")
        for ext in self.extensions:
            inplace, regular = map(Path, self._get_inplace_equivalent(build_py, ext))
            if not inplace.exists() or not filecmp.cmp(regular, inplace, shallow=False):
                put(regular, inplace)


def weight(extension: Extension) -> float:
    """How long a compiler will take, roughly: seconds of one that is neither fast nor slow."""
    (source,) = extension.sources
    for name, seconds in SLOW.items():
        if f"/_{name}_" in f"/{Path(source).name}":
            return seconds
    return Path(source).stat().st_size / 200_000


def short(told: list[Any]) -> str:
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def newer(made: Path, rules: Path) -> bool:
    """Whether a file is newer than all files that the compiler read for it, which it listed as a rule of make."""
    try:
        text = rules.read_text().replace("\\\n", " ").partition(":")[2]
        when = made.stat().st_mtime_ns
        return all(Path(name.replace("\\ ", " ")).stat().st_mtime_ns <= when for name in re.findall(r"(?:\\ |\S)+", text))
    except OSError:  # one is gone
        return False


def put(source: Path, target: Path) -> None:
    """Puts a file in the place of another in one step: who has the old one open keeps it."""
    beside = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copy(source, beside)
    os.replace(beside, target)


class Sdist(sdist):
    """An archive with the same bytes wherever it is made from the same files: names in order, no owners, one time for all."""

    def make_archive(
        self, base_name: str, format: str, root_dir: str | None = None, base_dir: str | None = None, **rest: Any
    ) -> str:
        if format != "gztar":
            return str(super().make_archive(base_name, format, root_dir, base_dir, **rest))
        when = int(os.environ.get("SOURCE_DATE_EPOCH", "315532800"))  # 1980: the earliest that a zip, so a wheel, can hold
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(p for p in Path(root_dir or ".", base_dir or ".").rglob("*") if p.is_file()):
                entry = tarfile.TarInfo(path.relative_to(root_dir or ".").as_posix())
                entry.size, entry.mtime = path.stat().st_size, when
                entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                with path.open("rb") as file:
                    archive.addfile(entry, file)
        name = f"{base_name}.tar.gz"
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with open(name, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=when) as packed:
            packed.write(data.getvalue())
        return name


if __name__ == "__main__":
    named = [*MODULES, *(f"cnnengine._kernels.tiles.{name}" for name in TILES)]
    setup(
        # what is compiled follows from the machine: `Build.run` puts it in the place of these
        ext_modules=[Extension(name, [name.replace(".", "/") + ".pyx"]) for name in named],
        cmdclass={"build_ext": Build, "sdist": Sdist},
        options=OPTIONS,
    )
