# cython: language_level=3
"""Kernels that convert between element types.

`cast` goes over runs of numbers that lie plain. NumPy's own types convert by a table of C loops, `casts`. float16 and bfloat16 go by
tiles to float32 and back (tiles/half.pyx), and from there on by that table, a piece of PIECE numbers on the stack in between: each
holds all numbers of half the size, and what is rounded twice comes out as rounded once: float64 becomes the float32 that
is odd where bits are lost before it becomes float16. (bfloat16 of a float64 is that of its float32, as ml_dtypes has it.)

`widen` and `narrow` are the same for weights, when they are packed.
"""

from libc.stdint cimport uint16_t

from cnnengine._kernels.chunks cimport BYTES_PER_NS, chunk_ns
from cnnengine._kernels.dispatch cimport current_table
from cnnengine._kernels.ints cimport ceil_div
from cnnengine._kernels.launch cimport Launch, make_launch
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.half cimport BFLOAT16, FLOAT16, narrow_fn, widen_fn

from dataclasses import replace

import numpy as np

cdef extern from *:
    """
    #include <math.h>
    #include <stdint.h>
    #include <string.h>
    /* from floating point to small integers by way of int32: values outside of the type wrap around, as in NumPy */
    #define MOVE_CAST(F, T, VIA)                                                                                       \
        static void cast_##F##_##T(const void *x, void *y, Py_ssize_t n)                                               \
        {                                                                                                              \
            const cast_##F *from = (const cast_##F *)x;                                                                \
            cast_##T *to = (cast_##T *)y;                                                                              \
            for (Py_ssize_t i = 0; i < n; i++)                                                                         \
                to[i] = (cast_##T)(VIA from[i]);                                                                       \
        }
    typedef float cast_f4;
    typedef double cast_f8;
    typedef int32_t cast_i4;
    typedef int64_t cast_i8;
    typedef int8_t cast_i1;
    typedef uint8_t cast_u1;
    typedef uint8_t cast_b1;
    #define MOVE_CASTS(F, VIA)                                                                                         \
        MOVE_CAST(F, f4, ) MOVE_CAST(F, f8, ) MOVE_CAST(F, i4, ) MOVE_CAST(F, i8, ) MOVE_CAST(F, i1, VIA)              \
        MOVE_CAST(F, u1, VIA) MOVE_CAST(F, b1, 0 !=)
    MOVE_CASTS(f4, (int32_t)) MOVE_CASTS(f8, (int32_t)) MOVE_CASTS(i4, ) MOVE_CASTS(i8, ) MOVE_CASTS(i1, ) MOVE_CASTS(u1, ) MOVE_CASTS(b1, )
    typedef void (*cast_fn)(const void *, void *, Py_ssize_t);
    #define MOVE_CAST_ROW(F) {cast_##F##_f4, cast_##F##_f8, cast_##F##_i4, cast_##F##_i8, cast_##F##_i1, cast_##F##_u1, cast_##F##_b1}
    static const cast_fn casts[7][7] = {MOVE_CAST_ROW(f4), MOVE_CAST_ROW(f8), MOVE_CAST_ROW(i4), MOVE_CAST_ROW(i8), MOVE_CAST_ROW(i1),
                                        MOVE_CAST_ROW(u1), MOVE_CAST_ROW(b1)};
    static void cast_odd(const void *x, float *y, Py_ssize_t n)
    {
        const double *from = (const double *)x;
        for (Py_ssize_t i = 0; i < n; i++) {
            float f = (float)from[i];
            uint32_t bits;
            memcpy(&bits, &f, 4);
            if ((double)f != from[i] && f == f) {
                bits -= fabs((double)f) > fabs(from[i]);
                bits |= 1;
                memcpy(y + i, &bits, 4);
            } else
                y[i] = f;
        }
    }
    """
    ctypedef void (*cast_fn)(const void *, void *, Py_ssize_t) noexcept nogil
    const cast_fn casts[7][7]
    # toward zero, and the last bit set where bits are lost: rounded again to fewer bits, it is as if that were done at once
    void cast_odd(const void *, float *, Py_ssize_t) noexcept nogil

cdef enum:
    PIECE = 512                         # numbers on the stack between two conversions

CAST_DTYPES = tuple(np.dtype(t) for t in ("float32", "float64", "int32", "int64", "int8", "uint8", "bool"))
"""What `casts` converts, from each to each, in the order of its table; `cast` converts float16 and bfloat16 too."""
HALVES = {"float16": FLOAT16, "bfloat16": BFLOAT16}
"""Names of types of half the size, and their places in tables of tiles."""


cdef struct cast_t:
    cast_fn fn                          # between float32 and the type on the other side, of those that no tile converts
    widen_fn widen                      # NULL where x is not of half the size
    narrow_fn narrow                    # NULL where y is not
    int odd                             # fn is cast_odd
    Py_ssize_t n, step, from_bytes, to_bytes


cdef void cast_chunk(const void *geometry, void *const *args, Py_ssize_t chunk, char *scratch) noexcept nogil:
    cdef const cast_t *g = <const cast_t *>geometry
    cdef Py_ssize_t start = chunk * g.step, n = min(g.step, g.n - start), some
    cdef const char *x = <const char *>args[0] + start * g.from_bytes
    cdef char *y = <char *>args[1] + start * g.to_bytes
    cdef float stage[PIECE]
    if g.widen == NULL and g.narrow == NULL:
        g.fn(x, y, n)
    elif g.widen != NULL and g.narrow == NULL and g.fn == NULL:
        g.widen(<const uint16_t *>x, <float *>y, n)
    elif g.widen == NULL and g.fn == NULL and not g.odd:
        g.narrow(<const float *>x, <uint16_t *>y, n)
    else:
        while n > 0:
            some = min(n, <Py_ssize_t>PIECE)
            if g.widen != NULL:
                g.widen(<const uint16_t *>x, stage, some)
            elif g.odd:
                cast_odd(x, stage, some)
            else:
                g.fn(x, stage, some)
            if g.narrow != NULL:
                g.narrow(stage, <uint16_t *>y, some)
            else:
                g.fn(stage, y, some)
            x = x + some * g.from_bytes
            y = y + some * g.to_bytes
            n = n - some


def build_cast(inputs, outputs) -> Launch:
    """Every item converted to the output's dtype, as numpy.ndarray.astype does it; dtypes of CAST_DTYPES, float16 and bfloat16.

    Operands of bfloat16, which no buffer tells, are told as uint16.

    Raises
    ------
    ValueError
        The views have different sizes, or another dtype.
    """
    (x_view,), (y_view,) = inputs, outputs
    cdef cast_t g
    cdef const KernelTable *table = current_table()
    if not (x_view.is_plain and y_view.is_plain) or x_view.size != y_view.size:
        raise ValueError("cast: both sides must be plain, of one size")
    of, to = x_view.dtype, y_view.dtype
    if not all(dtype in CAST_DTYPES or dtype.name in HALVES for dtype in (of, to)) or (of == to and of.name in HALVES):
        raise ValueError(f"cast: {of} to {to}")
    g.fn, g.widen, g.narrow, g.odd = NULL, NULL, NULL, 0
    if of.name in HALVES:
        g.widen = table.half.widen[<int>HALVES[of.name]]
    if to.name in HALVES:
        g.narrow = table.half.narrow[<int>HALVES[to.name]]
    if g.widen == NULL and g.narrow == NULL:
        g.fn = casts[<int>CAST_DTYPES.index(of)][<int>CAST_DTYPES.index(to)]
    elif g.narrow == NULL and to != np.float32:
        g.fn = casts[0][<int>CAST_DTYPES.index(to)]
    elif g.widen == NULL and of == np.float64 and to.name == "float16":
        g.odd = 1
    elif g.widen == NULL and of != np.float32:
        g.fn = casts[<int>CAST_DTYPES.index(of)][0]
    g.n = y_view.size
    g.from_bytes, g.to_bytes = of.itemsize, to.itemsize
    cdef Py_ssize_t size = <Py_ssize_t>(BYTES_PER_NS * chunk_ns((x_view.nbytes + y_view.nbytes) / <double>BYTES_PER_NS))
    g.step = size // (g.from_bytes + g.to_bytes) // 64 * 64
    return make_launch("cast", cast_chunk, &g, sizeof(g), ceil_div(g.n, g.step), 0, (x_view.nbytes, y_view.nbytes), 0.0,
                       x_view.nbytes + y_view.nbytes).typed((told(x_view),), (told(y_view),))


def told(view):
    """A view as buffers tell it."""
    return replace(view, dtype=np.dtype(np.uint16)) if view.dtype.name == "bfloat16" else view


def widen(const uint16_t[::1] x, float[::1] y, str kind) -> None:
    """y = x, numbers of `kind`, a key of HALVES."""
    cdef const KernelTable *table = current_table()
    cdef int place = HALVES[kind]
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"widen: {x.shape[0]} numbers to {y.shape[0]}")
    if x.shape[0]:
        with nogil:
            table.half.widen[place](&x[0], &y[0], x.shape[0])


def narrow(const float[::1] x, uint16_t[::1] y, str kind) -> None:
    """y = x as numbers of `kind`, a key of HALVES: to the nearest, halves to even."""
    cdef const KernelTable *table = current_table()
    cdef int place = HALVES[kind]
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"narrow: {x.shape[0]} numbers to {y.shape[0]}")
    if x.shape[0]:
        with nogil:
            table.half.narrow[place](&x[0], &y[0], x.shape[0])
