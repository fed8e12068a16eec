# The instances of a tile over words of 32 bits, by pixels and blocks: included by qconv.pyx and bconv.pyx behind their `tile`, which
# an inline function of a .pxd cannot call. WIDTH1 and WIDTH2 are theirs, too.

cdef inline void widths(const int B, const int widest, int P, Py_ssize_t count, const word_tile_t *t) noexcept nogil:
    """The instance for P pixels, found as in tiles/conv.pyx; `widest` keeps those that would spill from being compiled."""
    if P <= 7 or widest <= 7:
        if P <= 4 or widest <= 4:
            if P <= 2 or widest <= 2:
                if P <= 1 or widest <= 1:
                    tile(1, B, count, t)
                else:
                    tile(2, B, count, t)
            else:
                if P <= 3 or widest <= 3:
                    tile(3, B, count, t)
                else:
                    tile(4, B, count, t)
        else:
            if P <= 6 or widest <= 6:
                if P <= 5 or widest <= 5:
                    tile(5, B, count, t)
                else:
                    tile(6, B, count, t)
            else:
                tile(7, B, count, t)
    else:
        if P <= 11 or widest <= 11:
            if P <= 9 or widest <= 9:
                if P <= 8 or widest <= 8:
                    tile(8, B, count, t)
                else:
                    tile(9, B, count, t)
            else:
                if P <= 10 or widest <= 10:
                    tile(10, B, count, t)
                else:
                    tile(11, B, count, t)
        else:
            if P <= 13 or widest <= 13:
                if P <= 12 or widest <= 12:
                    tile(12, B, count, t)
                else:
                    tile(13, B, count, t)
            else:
                tile(14, B, count, t)


cdef void tile_1(int P, Py_ssize_t count, const word_tile_t *t) noexcept nogil: widths(1, WIDTH1, P, count, t)
cdef void tile_2(int P, Py_ssize_t count, const word_tile_t *t) noexcept nogil: widths(2, WIDTH2, P, count, t)
