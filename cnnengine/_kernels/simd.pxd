# What tiles use of simd.h, whose comments say what each does. A register is told to Cython as one number, so that its arithmetic
# becomes the compiler's vector arithmetic.

cdef extern from "simd.h" nogil:
    ctypedef float vf
    ctypedef int vi
    ctypedef double vd
    ctypedef long long vl
    enum: LANES, DLANES, VLOG
    # whole registers and parts of them
    vf vset(float) noexcept
    vi viset(int) noexcept
    vf vload(const float *) noexcept
    vf vload_part(const float *, int) noexcept
    vf vload_fill(const float *, int, float) noexcept
    void vstore(float *, vf) noexcept
    void vstore_part(float *, vf, int) noexcept
    # bits and values as the other type
    vi vf_bits(vf) noexcept
    vf vi_bits(vi) noexcept
    vf vi_to_vf(vi) noexcept
    # comparisons and choices
    vi vlt(vf, vf) noexcept
    vi vle(vf, vf) noexcept
    vi veq(vf, vf) noexcept
    vi vne(vf, vf) noexcept
    int vany(vi) noexcept
    vf vselect(vi, vf, vf) noexcept
    vf vmax_keep(vf, float) noexcept
    vf vmin_keep(vf, float) noexcept
    vf vmin_nan(vf, vf) noexcept
    vf vmax_nan(vf, vf) noexcept
    # arithmetic that has no operator
    vf vf_abs(vf) noexcept
    vf vneg(vf) noexcept
    vf vcopysign(vf, vf) noexcept
    vf vf_sqrt(vf) noexcept
    vf vpower(vf, float) noexcept
    vf vdivide(vf, vf) noexcept
    # lanes
    vf vzip_lo(vf, vf) noexcept
    vf vzip_hi(vf, vf) noexcept
    vf vpermute(vf, vi) noexcept
    vi vgroup(int per_group, int k) noexcept
    vf vall_sum(vf) noexcept
    vf vall_max(vf) noexcept
    vf vall_min(vf) noexcept
    float vlane(vf, int) noexcept
    # what the compiler may not do, and what the cache shall
    void vkeep(vf) noexcept
    vf vplace(vf) noexcept
    vf vrounded(vf) noexcept
    void prefetch_l1(const void *) noexcept
    void prefetch_l2(const void *) noexcept
    # doubles
    vd vdset(double) noexcept
    vd vdload(const double *) noexcept
    void vdstore(double *, vd) noexcept
    vd vh_load(const float *) noexcept
    vd vf_low(vf) noexcept
    vd vf_high(vf) noexcept
    vf vd_join(vd, vd) noexcept
    vl vd_bits(vd) noexcept
    vd vl_bits(vl) noexcept
    vd vd_clamp(vd, double, double) noexcept
    vd vd_sqrt(vd) noexcept
    double vd_sum(vd) noexcept
    double vd_product(vd) noexcept
    float vsum(vf) noexcept
    double vsum_double(vf) noexcept
