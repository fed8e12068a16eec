"""Extensions of cnnengine: modules compiled once, and tile modules compiled once per instruction set.

Metadata stands in pyproject.toml. Environment variables read here:

CNNENGINE_OPENMP=0      build without OpenMP (without this, a compiler that lacks OpenMP is an error)
CNNENGINE_SANITIZE=1    AddressSanitizer and UndefinedBehaviorSanitizer
CNNENGINE_EMULATE=1     tiles of instructions that CPUs may lack, emulated, for tests
CNNENGINE_STRICT=1      large frames on the stack are errors, not warnings
CNNENGINE_ISAS=a,b      compile these instruction sets alone (for quick development builds)
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools._distutils.ccompiler import new_compiler
from setuptools._distutils.sysconfig import customize_compiler

OPENMP = os.environ.get("CNNENGINE_OPENMP", "1") != "0"
SANITIZE = os.environ.get("CNNENGINE_SANITIZE", "0") == "1"
EMULATE = os.environ.get("CNNENGINE_EMULATE", "0") == "1"
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
ISAS = ARM if platform.machine().lower() in ("aarch64", "arm64") else X86

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
# Tile modules: pointers only, compiled once per instruction set as cnnengine._kernels.tiles._NAME_ISA.
TILES = ["conv", "winograd", "pool", "vector", "move", "norm", "image", "recurrent", "half"]
TILES += ["qconv", "qvector", "qpool", "qdense", "bconv"]
# Those of products of bytes, which have tiles of their own where an instruction adds such products; and those of pairs of
# bfloat16 numbers, which have tiles there alone.
DOTTED, PAIRS = ("qconv", "qdense"), ("bconv",)
HEADERS = ("simd.h", "half.h", "bsimd.h", "qsimd.h", "qbytes.h", "qdot_avx2.h", "activations.h", "winograd.h", "build_tag.h")
# Quantised numbers are rounded at defined places, alike on every instruction set.
QUANTISED = ("qconv", "qvector", "qpool", "qdense")
EXACT_FLAGS = ["-ffp-contract=off"]

COMMON = ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
MODULE_FLAGS = ["-O2"]
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


def compiles(flags: list[str], source: str = "int main(void) { return 0; }\n") -> bool:
    """Whether the C compiler accepts these flags on a small program."""
    compiler = new_compiler()
    customize_compiler(compiler)
    # its name may be several words (CC="ccache gcc"), before the flags that Python was built with
    words = itertools.takewhile(lambda word: not word.startswith("-"), getattr(compiler, "compiler_so", ["cc"]))
    command = [*words, "-Werror", *flags]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.c")
        path.write_text(source)
        done = subprocess.run([*command, str(path), "-o", str(path.with_suffix(".out"))], capture_output=True)
        return done.returncode == 0


def openmp_flags() -> list[str]:
    if not OPENMP:
        return []
    source = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
    if compiles(["-fopenmp"], source):
        return ["-fopenmp"]
    sys.exit("cnnengine: the C compiler has no OpenMP (-fopenmp); install it, or build with CNNENGINE_OPENMP=0")


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
        common += ["-g0"]
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
    module_macros = [
        *macros,
        ("CNNENGINE_LAYOUT", f'"{tag([*kernels.rglob("*.pxd"), activations])}"'),
        ("CNNENGINE_FAMILIES", f'"{" ".join(capsules.values())}"'),
    ]
    depends = sorted(str(p) for p in Path("cnnengine").rglob("*") if p.suffix in (".h", ".pxd"))
    build = Path("build")

    modules = [
        Extension(
            name,
            [name.replace(".", "/") + ".pyx"],
            include_dirs=[*include, "cnnengine", "cnnengine/runtime", "cnnengine/importer", "cnnengine/include"],
            depends=depends,
            define_macros=module_macros,
            extra_compile_args=[*MODULE_FLAGS, *common, *openmp],
            extra_link_args=link,
        )
        for name in MODULES
    ]
    tiles = [Extension(f"cnnengine._kernels.tiles.{t}", [f"cnnengine/_kernels/tiles/{t}.pyx"]) for t in TILES]
    options = {"compiler_directives": DIRECTIVES, "build_dir": str(build / "cython"), "nthreads": 0}
    result: list[Extension] = cythonize(modules, **options)

    # cythonize refuses one .pyx in two extensions: translate each tile file once, and include the C file from a stub per
    # instruction set that renames the module's init function.
    wanted = os.environ.get("CNNENGINE_ISAS")
    chosen = [i for i in ISAS if not wanted or i in wanted.split(",")]
    named = set(wanted.split(",")) if wanted else {*DOT, *PAIRED}
    named |= set(EMULATED) if EMULATE else set()
    dots = {name: [*ISAS[base], *flags] for name, (base, flags) in {**DOT, **PAIRED, **EMULATED}.items() if base in chosen}
    dots = {name: flags for name, flags in dots.items() if name in named and compiles(flags)}
    for tile in cythonize(tiles, **options):
        source = Path(tile.sources[0]).resolve()
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
                    depends=[
                        str(source),
                        *(str(kernels / name) for name in HEADERS),
                    ],
                    define_macros=tile_macros,
                    extra_compile_args=[*tile_flags, *few, *common, *exact, *flags],
                    extra_link_args=link if SANITIZE else ["-s"],
                )
            )
    return result


if __name__ == "__main__":
    setup(ext_modules=extensions(), options={"build_ext": {"parallel": os.cpu_count() or 1}})
