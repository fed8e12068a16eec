# The geometry that convolutions over words of 32 bits share: four bytes a word, or two numbers of 16 bits (qconv.pyx, bconv.pyx).

from cnnengine._kernels.ints cimport ceil_div, larger
from cnnengine._kernels.planes cimport planes_t
from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.words cimport word_tile_t


# Makes 16-bit numbers of the elements of a row of x: `n` of them, told the zero point.
ctypedef void (*halve_fn)(const KernelTable *table, const char *x, char *y, Py_ssize_t n, int zero) noexcept nogil


cdef struct words_t:
    const KernelTable *table
    planes_t x, y, r                                # strides and offset of x and r in bytes, of y in elements
    Py_ssize_t groups, x_blocks, y_blocks           # blocks per group
    Py_ssize_t whole                                # whole input planes per group
    Py_ssize_t steps, partial                       # words of a pixel of a whole plane, of the last one (0: it is whole)
    Py_ssize_t depths, rows, width, last_width      # output grid: depths, rows of a depth, pixels of a row, of the last row
    Py_ssize_t x0, xd, xh, xw                       # bytes of x: first pixel, steps of the output grid
    Py_ssize_t y0, yd, yh, yw                       # bytes of y
    Py_ssize_t r0, rd, rh, rw
    Py_ssize_t x_item, item, r_item                 # bytes of an element of x, of y, of r
    Py_ssize_t n_taps, panel                        # panel: bytes of the weights of two output blocks
    Py_ssize_t units, chunk_units, unit_chunks, chunk_rows, row_chunks, chunks
    # staged pixels: planes, and in each the depths and rows that the taps of a run of output rows meet
    Py_ssize_t stage_plane, stage_depth, stage_row  # bytes between them
    Py_ssize_t stage_depths, first_depth            # how many, and the first from the output's own
    Py_ssize_t top, left                            # the first row and column that an output pixel meets, from its own
    Py_ssize_t row_step, more_rows                  # staged rows per output row, and those after them
    Py_ssize_t columns, last_columns, pixel_step    # staged pixels of a row, of the last one; bytes of them per output pixel
    Py_ssize_t x_row, x_pixel                       # bytes of x between staged rows, between staged pixels
    Py_ssize_t stage_bytes
    Py_ssize_t zeroed                               # lane of the last plane that is staged as zero: the one beside an odd last channel, or -1
    int units_outside
    halve_fn staged                                 # NULL where the tiles read x as it lies


cdef struct place_t:                                # what a chunk computes
    Py_ssize_t n, group, depth, row0, row1, unit0, unit1
    Py_ssize_t x_row                                # bytes between the rows of x, or of what is staged, that output rows start at
    const char *x                                   # the first pixel of its first row
    const char *w                                   # the weights of its group
    char *y                                         # the first pixel of its depth in the first block of its group
    const char *r


# Fills g.  Raises ValueError where views and parameters do not fit together.
cdef int resolve(words_t *g, str name, object xv, object yv, object rv, object taps, object stride, object start, object step,
                 object extent, Py_ssize_t groups, Py_ssize_t word, halve_fn staged) except -1

# Bytes of taps' offsets, to where the launch holds them.
cdef int put_taps(const words_t *g, object taps, Py_ssize_t *offsets) except -1

# What chunk `chunk` computes; stages its pixels, and tells the tile what is the same for all of them.
cdef void begin(const words_t *g, const Py_ssize_t *taps, const void *x, const void *w, void *y, const void *r, Py_ssize_t chunk, int zero,
                char *stage, place_t *p, word_tile_t *t) noexcept nogil

# Sets the tile before a unit, whose tiles are `widest` pixels wide at most: while it runs, the weights of the next unit come closer.
# Gives how many lines they have.
cdef inline Py_ssize_t begin_unit(const words_t *g, const place_t *p, Py_ssize_t unit, Py_ssize_t widest,
                                  word_tile_t *t) noexcept nogil:
    cdef Py_ssize_t lines = ceil_div(g.panel if unit + 1 < g.units else 0, 64)
    t.w = p.w + unit * g.panel
    t.ahead = t.w + g.panel
    t.ahead_lines = ceil_div(lines, larger((p.row1 - p.row0) * ceil_div(g.width, widest) * g.n_taps, 1))
    return lines


# Sets the tile before a row of a unit.
cdef inline void begin_row(const words_t *g, const place_t *p, Py_ssize_t block, Py_ssize_t row, word_tile_t *t) noexcept nogil:
    t.x = p.x + (row - p.row0) * p.x_row
    t.y = p.y + block * t.yplane + row * g.yh
    if p.r != NULL:
        t.residual = p.r + block * t.rplane + row * g.rh
