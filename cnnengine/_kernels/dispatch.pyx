# cython: language_level=3
"""The instruction sets: which were built, which this CPU has, which one is in use; and the activations that their tiles have.

A tile module is itself compiled for its instruction set, so the CPU is asked first and a module imported after. At import
the best available set is chosen; CNNENGINE_ISA forces one, and naming one that is not available is an error.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdlib cimport calloc, free
from libc.string cimport strcmp, strncpy

import contextlib
import importlib
import importlib.util
import os
import threading

from cnnengine.errors import CNNEngineError
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.bconv cimport BConvTiles
from cnnengine._kernels.tiles.conv cimport ConvTiles
from cnnengine._kernels.tiles.half cimport HalfTiles
from cnnengine._kernels.tiles.image cimport ImageTiles
from cnnengine._kernels.tiles.move cimport MoveTiles
from cnnengine._kernels.tiles.norm cimport NormTiles
from cnnengine._kernels.tiles.pool cimport PoolTiles
from cnnengine._kernels.tiles.qconv cimport QConvTiles
from cnnengine._kernels.tiles.qdense cimport QDenseTiles
from cnnengine._kernels.tiles.qpool cimport QPoolTiles
from cnnengine._kernels.tiles.qvector cimport QVectorTiles
from cnnengine._kernels.tiles.recurrent cimport RecurrentTiles
from cnnengine._kernels.tiles.vector cimport VectorTiles
from cnnengine._kernels.tiles.winograd cimport WinogradTiles

cdef extern from "cpu.h" nogil:
    bint cpu_has(const char *isa)
    double cpu_seconds()

cdef extern from "build_tag.h":
    const char *CNNENGINE_FAMILIES

cdef extern from *:
    """
    #if defined(__clang__)
    #define CNNENGINE_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define CNNENGINE_COMPILER "gcc " __VERSION__
    #else
    #define CNNENGINE_COMPILER "unknown"
    #endif
    """
    const char *CNNENGINE_COMPILER

cdef extern from "activations.h":
    enum: ACT_END
    const char *activation_name(int number)

REBUILD = "install it anew, or build it with `python setup.py build_ext --inplace --force`"
ACTIVATIONS: dict[str, int] = {activation_name(number).decode(): number for number in range(1, ACT_END)}
"""Names of the activations that kernels fuse, as an `Activation` has them, to their numbers (activations.h)."""
# Best last; the first ones are emulated, for tests, and mostly not built.
KNOWN = ("sse2dot", "avx2dot", "sse2", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "neon", "neondot", "neonbf16")
# Those that add products of several numbers to another one: they have its tiles but in the families of these products.
EXTENDS = {
    "sse2dot": "sse2", "avx2dot": "avx2", "avxvnni": "avx2", "avx512vnni": "avx512", "avx512bf16": "avx512vnni",
    "neondot": "neon", "neonbf16": "neondot",
}
BYTES, PAIRS = ("qconv", "qdense"), ("bconv",)
OWN = {
    "sse2dot": BYTES + PAIRS, "avx2dot": BYTES + PAIRS, "avxvnni": BYTES, "avx512vnni": BYTES, "avx512bf16": PAIRS,
    "neondot": BYTES, "neonbf16": PAIRS,
}
"""Families that an instruction set of EXTENDS has tiles of its own in: of bytes, or of pairs of bfloat16 numbers, which others lack."""

cdef const KernelTable *_table = NULL
_tables: dict[str, int] = {}            # name -> address of its KernelTable; tables live as long as the process
_current = ""
_lock = threading.RLock()             # of the three above
_families: dict[str, str] = {name[len("cnnengine.tiles."):].split(":")[0]: name for name in CNNENGINE_FAMILIES.decode().split()}
"""Tile family -> the name that its modules' capsules have."""


cdef const KernelTable *table_for(const char *layout) except NULL:
    if strcmp(layout, CNNENGINE_LAYOUT) != 0:
        raise ImportError(f"modules of different builds of cnnengine are mixed ({layout.decode()} and {CNNENGINE_LAYOUT.decode()}): {REBUILD}")
    return _table


cdef const void *tiles_of(str family, str isa) except NULL:
    """The tiles that a module exports, if it was compiled with the declarations that this one was compiled with."""
    name = f"cnnengine._kernels.tiles._{family}_{isa}"
    expected = _families.get(family, "unknown").encode()
    try:
        return PyCapsule_GetPointer(importlib.import_module(name).capsule, expected)
    except ValueError:
        raise ImportError(f"{name} is of another build than the rest of cnnengine: {REBUILD}", name=name) from None


cdef size_t load_table(str isa) except 0:
    """With `_lock` held."""
    cdef KernelTable *table
    if isa in _tables:
        return _tables[isa]
    table = <KernelTable *>calloc(1, sizeof(KernelTable))
    if table == NULL:
        raise MemoryError("kernel table")
    try:
        fill_table(table, isa)
    except BaseException:
        free(table)
        raise
    _tables[isa] = <size_t>table
    return <size_t>table


cdef int fill_table(KernelTable *table, str isa) except -1:
    base = float_isa(isa)
    table.conv = (<const ConvTiles *>tiles_of("conv", base))[0]
    table.winograd = (<const WinogradTiles *>tiles_of("winograd", base))[0]
    table.pool = (<const PoolTiles *>tiles_of("pool", base))[0]
    table.vector = (<const VectorTiles *>tiles_of("vector", base))[0]
    table.move = (<const MoveTiles *>tiles_of("move", base))[0]
    table.norm = (<const NormTiles *>tiles_of("norm", base))[0]
    table.recurrent = (<const RecurrentTiles *>tiles_of("recurrent", base))[0]
    table.image = (<const ImageTiles *>tiles_of("image", base))[0]
    table.half = (<const HalfTiles *>tiles_of("half", base))[0]
    table.qvector = (<const QVectorTiles *>tiles_of("qvector", base))[0]
    table.qpool = (<const QPoolTiles *>tiles_of("qpool", base))[0]
    table.qconv = (<const QConvTiles *>tiles_of("qconv", provider("qconv", isa)))[0]
    table.qdense = (<const QDenseTiles *>tiles_of("qdense", provider("qdense", isa)))[0]
    if "bconv" in OWN.get(isa, ()):
        table.bconv = (<const BConvTiles *>tiles_of("bconv", isa))[0]
    if table.qconv.lanes != table.conv.lanes or table.bconv.lanes not in (0, table.conv.lanes):
        raise ImportError(f"the tiles of {isa} and of {base} have registers of different widths: {REBUILD}")
    table.lanes = table.conv.lanes
    name = isa.encode()
    strncpy(table.name, name, sizeof(table.name) - 1)
    return 0


def available_isas() -> tuple[str, ...]:
    """Names of the instruction sets that were built and that this CPU has, the best last."""
    return tuple(
        isa for isa in KNOWN
        if cpu_has(isa.encode()) and all(has_tiles(family, provider(family, isa)) for family in ("conv", *BYTES, *OWN.get(isa, ())))
    )


def float_isa(isa: str) -> str:
    """The instruction set whose tiles this one has for all but products of bytes and of bfloat16 numbers: mostly itself."""
    while isa in EXTENDS:
        isa = EXTENDS[isa]
    return isa


def provider(family: str, isa: str) -> str:
    """The instruction set whose tiles of a family this one has: its own, or those of the nearest one that it extends."""
    while isa in EXTENDS and family not in OWN[isa]:
        isa = EXTENDS[isa]
    return isa


def has_tiles(family: str, isa: str) -> bool:
    """Whether the tiles of a family were built for an instruction set."""
    return importlib.util.find_spec(f"cnnengine._kernels.tiles._{family}_{isa}") is not None


def compiler() -> str:
    """Name and version of the C compiler that this build is of."""
    return CNNENGINE_COMPILER.decode().strip()


def current_isa() -> str:
    """Name of the instruction set in use."""
    return _current


def lanes() -> int:
    """float32 lanes of one register of the instruction set in use: the channels of a plane."""
    return _table.lanes


def set_isa(str isa) -> None:
    """Use this instruction set for kernels built from now on.

    Raises
    ------
    CNNEngineError
        It is unknown, was not built, or this CPU lacks it.
    """
    global _table, _current
    if isa not in available_isas():
        raise CNNEngineError(
            "the instruction set is not available", tensor="CNNENGINE_ISA", expected=f"one of {', '.join(available_isas())}", received=isa
        )
    with _lock:
        _table = <const KernelTable *>load_table(isa)
        _current = isa


@contextlib.contextmanager
def use_isa(isa):
    """Context manager: kernels built inside use this instruction set. For tests and measurements, not thread-safe."""
    before = _current
    set_isa(isa)
    try:
        yield
    finally:
        set_isa(before)


def fma_peak(double seconds=0.1) -> float:
    """Multiply-adds of one thread in registers, in GFLOP/s: the yardstick of compute-bound kernels.

    Parameters
    ----------
    seconds : float
        How long to measure; the fastest of the short runs in that time counts.
    """
    return fastest(_table.conv.fma_loop, seconds)


def dot_peak(double seconds=0.1) -> float:
    """Products of bytes and their sums of one thread in registers, in GOP/s, two operations a product: that of quantised kernels.

    Parameters
    ----------
    seconds : float
        As for `fma_peak`.
    """
    return fastest(_table.qconv.dot_loop, seconds)


def pair_peak(double seconds=0.1) -> float:
    """Products of pairs of bfloat16 numbers and their sums of one thread in registers, in GFLOP/s; 0 where there are none.

    Parameters
    ----------
    seconds : float
        As for `fma_peak`.
    """
    return fastest(_table.bconv.pair_loop, seconds) if _table.bconv.lanes else 0.0


def has_pairs() -> bool:
    """Whether the instruction set in use multiplies pairs of bfloat16 numbers."""
    return _table.bconv.lanes != 0


cdef double fastest(double (*loop)(long) noexcept nogil, double seconds):
    """Operations of a loop in registers in a nanosecond."""
    cdef double best = 0, start, took, flops
    cdef double end = cpu_seconds() + seconds
    with nogil:
        while True:
            start = cpu_seconds()
            flops = loop(20000)
            took = cpu_seconds() - start
            if took > 0 and flops / took > best:
                best = flops / took
            if start > end:
                break
    return best * 1e-9


set_isa(os.environ.get("CNNENGINE_ISA") or available_isas()[-1])
