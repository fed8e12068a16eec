# Tiles of products of quantised matrices: pointers only.

from libc.stdint cimport int8_t, int32_t, uint8_t

cdef enum:
    QDENSE_BLOCKS = 4                   # registers of sums of a row: a panel has so many times LANES columns

cdef struct qdense_tile_t:
    const char *x                       # first row: words of 32 bits
    Py_ssize_t xrow                     # bytes between rows
    Py_ssize_t words                    # of a row
    const char *w                       # a panel: [word][column][number of the word], a byte each
    int32_t *sums                       # [row][column of the panel]

# What is done to a row of sums on its way to y.
cdef struct qfinish_t:
    const int32_t *w_sums               # of each column's weights less their zero points, or NULL
    int x_shift                         # times these: what the numbers of x lack to be less their zero point
    const int32_t *w_zero               # zero points of the columns, or NULL
    int w_shift                         # added to them, or alone
    int shifts                          # whether there are zero points of weights at all
    const int32_t *bias                 # or NULL
    const float *ratio                  # or NULL for 1; what a unit of a sum is in steps of y, or in y's own numbers
    float scale                         # times the ratio
    int scales                          # whether it is
    const float *offset                 # for floats: added after that, or NULL
    const uint8_t *table                # what stands for each of the 256 results, or NULL
    int mode                            # Q_BYTES, Q_FLOATS or Q_SUMS
    float low, high                     # bounds of what is stored, for bytes less the zero point
    int zero

cdef struct QDenseTiles:
    int lanes
    int step                            # numbers that a word of x and a lane of w hold: 4 bytes, or 2 numbers of 16 bits
    int flip                            # whether a byte of x becomes signed on its way, 128 less
    int rows                            # the most rows of a tile
    void (*tile[9])(const qdense_tile_t *t) noexcept nogil          # by rows
    # n columns of a row: sums to y, `x_sum` being that of the numbers of x as the tile had them
    void (*finish)(const int32_t *sums, char *y, Py_ssize_t n, int x_sum, const qfinish_t *t) noexcept nogil
    # n bytes as words: numbers of 16 bits, or as they are; zeros up to a whole word
    void (*words)(const uint8_t *x, char *y, Py_ssize_t n) noexcept nogil
    # the sum of n bytes as the tile has them
    int (*sum)(const uint8_t *x, Py_ssize_t n) noexcept nogil
    # weights of k rows and n columns, `row` and `column` bytes apart, as a panel; each byte xor `flip`
    void (*pack)(const uint8_t *w, Py_ssize_t row, Py_ssize_t column, Py_ssize_t k, Py_ssize_t n, int flip, int8_t *panel,
                 int32_t *sums) noexcept nogil
