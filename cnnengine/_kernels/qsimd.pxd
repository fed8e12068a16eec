# What tiles of quantised numbers use of qsimd.h.

from libc.stdint cimport uint8_t

from cnnengine._kernels.simd cimport vf, vi

cdef extern from "qsimd.h" nogil:
    enum: QSTEP, QFLIP, WRITTEN_OUT
    void qdot_avx2(int P, int B, vi *v, const char *w, const char *x, Py_ssize_t step, int words) noexcept
    vi vdot(vi sums, vi x, vi w) noexcept
    vi vword(const char *) noexcept
    vi vi_load(const void *) noexcept
    void vi_store(void *, vi) noexcept
    vi viplace(vi) noexcept
    vf vbounded(vf, float low, float high) noexcept
    vi vround(vf) noexcept
    vi vbytes_int(const uint8_t *) noexcept
    vf vbytes(const uint8_t *) noexcept
    void vstore_bytes(uint8_t *, vi) noexcept
    vf vconvertible(vf) noexcept
    void vstore_pixels(int P, int B, const vi *, uint8_t *, Py_ssize_t step, Py_ssize_t plane, vi zeros, vi low, vi high) noexcept
