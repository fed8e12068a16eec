"""Elementwise, reduction and softmax tiles: loops over contiguous floats, compiled once per instruction set.

Layout
    Arrays are contiguous runs of n floats at any address. What is left over of the last register is loaded and stored in part,
    so nothing outside [0, n) is read or written, and n may be anything.

Functions
    One body per function, on one register (`apply`, whose formulas activations.h lists, and `combine`), with the function's number
    as a constant: the loops around them are instances. What formulas call has a name of its own in C. Elementary functions reduce their argument and evaluate a polynomial; coefficients are minimax fits of
    the relative error in float64, rounded. Errors stay within 4 units in the last place of the exact result (Gelu: 6), denormals
    included, except where a comment says otherwise; NaN gives NaN, infinities give the limit.

    What would lose digits is avoided by form: sigmoid, softplus, mish and silu use exp(-|x|) alone, which neither overflows
    nor cancels; products with exp in the denormal range take it times 2 ** 60 (`exp_scaled`), which goes after the product; Gelu
    takes |x| times the normal distribution's tail from max(x, 0) instead of subtracting erf from one.

    Sine, cosine and tangent take their argument modulo pi / 2 in double, where the multiple of pi / 2 is exact (within 2 units in
    the last place, the tangent 4); arguments beyond 2 ** 20, for which two doubles do not hold enough of pi, go to the C library
    one by one. Inverse hyperbolic functions are logarithms in double, so that 1 + x loses nothing (1 unit). Inverse trigonometric
    and hyperbolic functions are within 3 units.

Accumulation
    Sums run in several registers over at most BLOCK registers each, then go on in double: the error does not grow with n.
"""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "build_tag.h":
    const char *CNNENGINE_CAPSULE
from libc.math cimport INFINITY
from libc.string cimport memmove

from cnnengine._kernels.simd cimport *

cdef extern from *:
    """
    #include <math.h>
    /* f(x) of the C library in the lanes where |x| is above 2 ** 20, y in the others */
    #define LARGE(name, f)                          \\
        AI vf name(vf x, vf y)                      \\
        {                                           \\
            for (int i = 0; i < LANES; i++)         \\
                if (__builtin_fabsf(x[i]) > 0x1p20f)\\
                    y[i] = f(x[i]);                 \\
            return y;                               \\
        }
    LARGE(large_sin, sinf)
    LARGE(large_cos, cosf)
    LARGE(large_tan, tanf)
    """
    vf large_sin(vf, vf) noexcept nogil
    vf large_cos(vf, vf) noexcept nogil
    vf large_tan(vf, vf) noexcept nogil

cdef extern from *:
    """
    #define TINY 0x1p-60f
    """
    const float TINY                    # undoes exp_scaled(..., 60)

ctypedef void (*copy_fn)(const float *x, float *y, Py_ssize_t n) noexcept nogil

cdef extern from "activations.h" nogil:
    vf ACTIVATION_OF(const int kind, vf x, float alpha, float beta) noexcept
    void ACTIVATION_STEP(const int kind, const float *x, float *y, const int registers) noexcept
    void ACTIVATE(int kind, const float *x, float *y, Py_ssize_t n, float alpha, float beta, copy_fn other) noexcept

cdef enum:
    BLOCK = 32                          # registers that one float accumulator sums before it goes on in double


# ---------------------------------------------------------------- elementary functions

cdef inline vf two_to(vi k) noexcept nogil:
    """2 ** k for -126 <= k <= 127."""
    return vi_bits((k + 127) << 23)


cdef inline vf exp_reduced(vf r) noexcept nogil:
    """exp(r) - 1 for |r| <= log(2) / 2."""
    cdef vf q
    q = r * <float>0.00019845897622872144 + <float>0.0013940893113613129
    q = q * r + <float>0.008333389647305012
    q = q * r + <float>0.04166635870933533
    q = q * r + <float>0.1666666567325592
    q = q * r + <float>0.5
    return (q * r) * r + r


cdef inline vf exp_scaled(vf x, vf low, const int up) noexcept nogil:
    """exp(x + low) * 2 ** up for x <= 0 and a small `low`, as long as that is a normal number."""
    cdef vf t, n, r
    t = x * <float>1.44269504088896341 + <float>12582912.0
    n = t - <float>12582912.0
    # log(2) in two parts, the first short enough for an exact product without FMA
    r = x - n * <float>0.693359375
    r = r - n * <float>-2.12194440e-4
    r = r + low
    # the integer stands in the low bits of t; the shift drops all above
    return (exp_reduced(r) + <float>1.0) * vi_bits((vf_bits(t) + (127 + up)) << 23)


cdef inline vf vexp "vexp"(vf x) noexcept nogil:
    """The power of two in two halves: all of the range, to the last denormal."""
    cdef vf t, n, r
    cdef vi k, half
    x = vmin_keep(vmax_keep(x, -104.0), 89.0)
    t = x * <float>1.44269504088896341 + <float>12582912.0
    k = vf_bits(t) - 0x4B400000
    n = t - <float>12582912.0
    r = x - n * <float>0.693359375
    r = r - n * <float>-2.12194440e-4
    half = k >> 1
    return (exp_reduced(r) + <float>1.0) * two_to(half) * two_to(k - half)


cdef inline vf exp_negative(vf x) noexcept nogil:
    """exp(x) for x <= 0."""
    return exp_scaled(vmax_keep(x, -104.0), vset(0.0), 60) * TINY


cdef inline vf expm1_negative "expm1_negative"(vf x) noexcept nogil:
    """exp(x) - 1 for x <= 0."""
    cdef vf t, n, r, p, two
    x = vmax_keep(x, -18.0)
    t = x * <float>1.44269504088896341 + <float>12582912.0
    n = t - <float>12582912.0
    r = x - n * <float>0.693359375
    r = r - n * <float>-2.12194440e-4
    p = exp_reduced(r)
    two = two_to(vf_bits(t) - 0x4B400000)
    return two * p + (two - <float>1.0)


cdef inline vf log_reduced(vf f) noexcept nogil:
    """log(1 + f) for sqrt(1/2) - 1 <= f <= sqrt(2) - 1."""
    cdef vf q, s
    q = f * <float>0.0674668401479721 + <float>-0.11675772070884705
    q = q * f + <float>0.11888208985328674
    q = q * f + <float>-0.12405573576688766
    q = q * f + <float>0.1421954482793808
    q = q * f + <float>-0.1666799634695053
    q = q * f + <float>0.2000211924314499
    q = q * f + <float>-0.25000008940696716
    q = q * f + <float>0.3333331346511841
    s = f * f
    return (q * f) * s - <float>0.5 * s + f


cdef inline vf vlog "vlog"(vf x) noexcept nogil:
    cdef vf m, e, y, inf
    cdef vi bits, k, tiny
    # denormals: times 2 ** 23
    tiny = vlt(x, vset(1.17549435e-38))
    m = vselect(tiny, x * <float>8388608.0, x)
    bits = vf_bits(m)
    # exponent such that the mantissa lies in [sqrt(1/2), sqrt(2))
    k = (bits - 0x3F3504F3) >> 23
    m = vi_bits(bits - (k << 23))
    e = vi_to_vf(k - (tiny & 23))
    y = log_reduced(m - <float>1.0) + e * <float>-2.12194440e-4
    y = y + e * <float>0.693359375
    inf = vset(INFINITY)
    y = vselect(veq(x, vset(0.0)), vneg(inf), y)
    y = vselect(veq(x, inf), inf, y)
    return vselect(vle(vset(0.0), x), y, vset(<float>(INFINITY - INFINITY)))


cdef inline vf log1p_unit(vf e) noexcept nogil:
    """log(1 + e) for 0 <= e <= 1."""
    cdef vi big
    cdef vf f, y
    big = vlt(vset(0.41421356), e)
    f = vselect(big, (e - <float>1.0) * <float>0.5, e)
    y = log_reduced(f)
    return y + vselect(big, vset(0.6931471805599453), vset(0.0))


cdef inline vf vsigmoid "vsigmoid"(vf x) noexcept nogil:
    cdef vf e
    e = exp_negative(vneg(vf_abs(x)))
    # NaN: e is NaN
    return vselect(vlt(x, vset(0.0)), e, vset(1.0)) / (e + <float>1.0)


cdef inline vf vswish "vswish"(vf x, vf z) noexcept nogil:
    """x * sigmoid(z); 0 where z is below -120."""
    cdef vf a
    cdef vi negative
    negative = vlt(z, vset(0.0))
    x = vselect(vlt(z, vset(-120.0)), vcopysign(vset(0.0), x), x)
    a = exp_scaled(vmax_keep(vneg(vf_abs(z)), -120.0), vset(0.0), 60)
    return vselect(negative, x * a, x) / (a * TINY + <float>1.0) * vselect(negative, vset(TINY), vset(1.0))


cdef inline void vsilu "vsilu"(const float *x, float *y, const int N) noexcept nogil:
    """x / (1 + exp(-x)) of N registers in step, since one chain of these operations fills few of a core's ports.

    Both halves of the quotient are 2 ** -60 times as large: exp(120) stays a number, and what comes out below the normal numbers
    is rounded once.
    """
    cdef vf z[4]
    cdef vf t[4]
    cdef vf n[4]
    cdef vf q[4]
    cdef int i
    for i in range(N):
        z[i] = vmax_keep(vload(x + i * LANES), -120.0)
    # from 45 on exp(-x) is lost beside 1; x / 2 ** -60 might overflow
    for i in range(N):
        q[i] = vmin_keep(z[i], 45.0)
    # 3 * 2 ** 22 - 60: the exponent, less 60, stands in the low bits of t
    for i in range(N):
        t[i] = q[i] * <float>-1.44269504088896341 + <float>12582852.0
    for i in range(N):
        n[i] = t[i] - <float>12582852.0
    for i in range(N):
        q[i] = n[i] * <float>-0.693359375 - q[i]
    for i in range(N):
        n[i] = n[i] * <float>2.12194440e-4 + q[i]
    # as exp_reduced
    for i in range(N):
        q[i] = n[i] * <float>0.00019845897622872144 + <float>0.0013940893113613129
    for i in range(N):
        q[i] = q[i] * n[i] + <float>0.008333389647305012
    for i in range(N):
        q[i] = q[i] * n[i] + <float>0.04166635870933533
    for i in range(N):
        q[i] = q[i] * n[i] + <float>0.1666666567325592
    for i in range(N):
        q[i] = q[i] * n[i] + <float>0.5
    for i in range(N):
        q[i] = q[i] * n[i]
    for i in range(N):
        q[i] = q[i] * n[i] + n[i] + <float>1.0
    for i in range(N):
        q[i] = vi_bits(vf_bits(q[i]) + (vf_bits(t[i]) << 23)) + TINY
    for i in range(N):
        q[i] = vdivide(z[i], q[i]) * TINY
    for i in range(N):
        z[i] = vload(x + i * LANES)
        vstore(y + i * LANES, vselect(vlt(vset(45.0), z[i]), z[i], q[i]))


cdef inline vf vtanh "vtanh"(vf x) noexcept nogil:
    cdef vf t
    t = expm1_negative(vf_abs(x) * <float>-2.0)
    return vcopysign(t / (t + <float>2.0), x)


cdef inline vf vsoftplus "vsoftplus"(vf x) noexcept nogil:
    return vmax_keep(x, 0.0) + log1p_unit(exp_negative(vneg(vf_abs(x))))


cdef inline vf vmish "vmish"(vf x) noexcept nogil:
    """x * tanh(softplus(x)): with e = exp(-|x|), tanh is (1 + 2e) / (1 + 2e + 2e^2), below zero (e^2 + 2e) / (e^2 + 2e + 2)."""
    cdef vf a, e, top, bottom
    cdef vi negative
    x = vmax_keep(x, -120.0)
    negative = vlt(x, vset(0.0))
    a = exp_scaled(vmax_keep(vneg(vf_abs(x)), -120.0), vset(0.0), 60)
    e = a * TINY
    top = vselect(negative, a * (e + <float>2.0), e * <float>2.0 + <float>1.0)
    bottom = vselect(negative, e * (e + <float>2.0) + <float>2.0, (e * <float>2.0) * (e + <float>1.0) + <float>1.0)
    return x * (top / bottom) * vselect(negative, vset(TINY), vset(1.0))


cdef inline void vgelu "vgelu"(const float *x, float *y, const int N) noexcept nogil:
    """x * P(X <= x) of the normal distribution, for N registers in step (see vsilu): max(x, 0) - t * tail(t), t = |x|.

    The tail is exp(-t^2 / 2) * w(t); w(t) * (t + 2.5) is a polynomial in (t - 2.5) / (t + 2.5). The square is split, its first
    part exact, since an error of t^2 / 2 is a relative error of the result. The exponential is taken 2 ** 60 times as large, and what
    comes out below the normal numbers is rounded once. From 15 on there is no tail.
    """
    cdef vf t[4]
    cdef vf v[4]
    cdef vf w[4]
    cdef vf r[4]
    cdef vf n[4]
    cdef int i
    for i in range(N):
        t[i] = vmin_keep(vf_abs(vload(x + i * LANES)), 15.0)
    for i in range(N):
        r[i] = vdivide(vset(1.0), t[i] + <float>2.5)
    for i in range(N):
        v[i] = <float>1.0 - r[i] * <float>5.0
    for i in range(N):
        r[i] = r[i] * t[i]
    for i in range(N):
        w[i] = v[i] * <float>-0.0001577031216584146 + <float>-0.00031162399682216346
    for i in range(N):
        w[i] = w[i] * v[i] + <float>0.0006844132440164685
    for i in range(N):
        w[i] = w[i] * v[i] + <float>0.0025239340029656887
    for i in range(N):
        w[i] = w[i] * v[i] + <float>-0.0016008301172405481
    for i in range(N):
        w[i] = w[i] * v[i] + <float>-0.016386186704039574
    for i in range(N):
        w[i] = w[i] * v[i] + <float>0.009235875681042671
    for i in range(N):
        w[i] = w[i] * v[i] + <float>0.13198697566986084
    for i in range(N):
        w[i] = w[i] * v[i] + <float>-0.43369200825691223
    for i in range(N):
        w[i] = w[i] * v[i] + <float>0.7066566348075867
    for i in range(N):
        w[i] = w[i] * r[i]
    # t^2 = v + r
    for i in range(N):
        v[i] = vi_bits(vf_bits(t[i]) & -4096)
    for i in range(N):
        r[i] = (t[i] - v[i]) * (t[i] + v[i])
    for i in range(N):
        v[i] = v[i] * v[i]
    # exp(-t^2 / 2) = 2 ** n * exp(-r / 2), |r| <= log(2): twice log(2) in two parts, the first short enough for an exact product
    # without FMA. 60 more than the exponent stands in the low bits of t
    for i in range(N):
        t[i] = v[i] * <float>-0.72134752044448170 + <float>12582972.0
    for i in range(N):
        n[i] = t[i] - <float>12582972.0
    for i in range(N):
        v[i] = n[i] * <float>1.38671875 + v[i]
    for i in range(N):
        v[i] = n[i] * <float>-4.24388880e-4 + v[i]
    for i in range(N):
        r[i] = v[i] + r[i]
    for i in range(N):
        v[i] = r[i] * <float>2.163063436455559e-05 + <float>-0.00026169363991357386
    for i in range(N):
        v[i] = v[i] * r[i] + <float>0.002604250330477953
    for i in range(N):
        v[i] = v[i] * r[i] + <float>-0.020833037793636322
    for i in range(N):
        v[i] = v[i] * r[i] + <float>0.1249999850988388
    for i in range(N):
        v[i] = v[i] * r[i] + <float>-0.5
    for i in range(N):
        v[i] = v[i] * r[i] + <float>1.0
    for i in range(N):
        v[i] = vi_bits(vf_bits(v[i]) + (vf_bits(t[i]) << 23)) * w[i]
    for i in range(N):
        vstore(y + i * LANES, vmax_keep(vload(x + i * LANES), 0.0) - v[i] * TINY)


cdef inline void by_fours "loop_of_four"(const int K, const float *x, float *y, Py_ssize_t n) noexcept nogil:
    """Activation K of n floats, four registers in step."""
    cdef float part[LANES]
    cdef Py_ssize_t i = 0
    cdef int left
    while i + 4 * LANES <= n:
        ACTIVATION_STEP(K, x + i, y + i, 4)
        i = i + 4 * LANES
    while i + LANES <= n:
        ACTIVATION_STEP(K, x + i, y + i, 1)
        i = i + LANES
    left = <int>(n - i)
    if left > 0:
        vstore(part, vload_part(x + i, left))
        ACTIVATION_STEP(K, part, part, 1)
        vstore_part(y + i, vload(part), left)


cdef inline vf vgelu_tanh "vgelu_tanh"(vf x) noexcept nogil:
    """x * sigmoid(2 z): the same as 0.5 x (1 + tanh(z)). Relative error of the far negative tail: that of exp(z)'s argument."""
    cdef vf z
    z = vmax_keep(x, -16.0)
    z = z * (z * z * <float>0.07135481282553503 + <float>1.5957691216057308)
    return vswish(vmax_keep(x, -16.0), z)


cdef inline vf verf "verf"(vf x) noexcept nogil:
    cdef vf t, p, s, e
    t = vmin_keep(vf_abs(x), 4.0)
    s = t * t
    p = s * <float>7.853857823647559e-05 + <float>-0.0008010192541405559
    p = p * s + <float>0.005188327748328447
    p = p * s + <float>-0.026853810995817184
    p = p * s + <float>0.1128358542919159
    p = p * s + <float>-0.3761262595653534
    p = p * s + <float>0.12837916709551256
    p = p * t + t
    # from 1 on: one minus exp of a polynomial
    e = t * <float>0.0001863800862338394 + <float>-0.0029476669151335955
    e = e * t + <float>0.021838096901774406
    e = e * t + <float>-0.10310681909322739
    e = e * t + <float>-0.6381447315216064
    e = e * t + <float>-1.127089262008667
    e = e * t + <float>-0.00034151258296333253
    e = exp_scaled(e, vset(0.0), 0)
    return vcopysign(vselect(vlt(vset(1.0), t), vset(1.0) - e, p), x)


cdef inline vf vround "vround"(vf x) noexcept nogil:
    """To the nearest integer, halves to even; keeps the sign of zero, infinities and NaN."""
    cdef vf big, r
    big = vcopysign(vset(8388608.0), x)
    r = (x + big) - big
    return vselect(vlt(vf_abs(x), vset(8388608.0)), vcopysign(r, x), x)


cdef inline vf vfloor "vfloor"(vf x) noexcept nogil:
    cdef vf r
    r = vround(x)
    return vcopysign(r - vselect(vlt(x, r), vset(1.0), vset(0.0)), x)


cdef inline vf vceil "vceil"(vf x) noexcept nogil:
    cdef vf r
    r = vround(x)
    return vcopysign(r + vselect(vlt(r, x), vset(1.0), vset(0.0)), x)


cdef inline vd log2_of(vd x) noexcept nogil:
    """log2(x) in double of a normal number above 0; of anything else a number without meaning."""
    cdef vd m, e, s, z, p
    cdef vl bits, k
    bits = vd_bits(x)
    # exponent as a double: small integers ride in the mantissa of 2 ** 52; mantissa in [sqrt(1/2), sqrt(2))
    k = ((bits - 0x3FE6A09E667F3BCDLL) >> 52) & 0xFFF
    k = ((k ^ 0x800) - 0x800)
    m = vl_bits(bits - (k << 52))
    e = vl_bits((k + 2048) | 0x4330000000000000LL) - 4503599627372544.0
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = z * 0.28290897472117593 + 0.31990510345748463
    p = p * z + 0.41220926626171184
    p = p * z + 0.577077942232909
    p = p * z + 0.9617966941137858
    p = p * z + 2.8853900817778495
    return p * s + e


cdef inline vd exp2_log2(vd x, vd y, vd infinite) noexcept nogil:
    """x ** y for x > 0 in double (floats are normal numbers there); log2(x) + infinite is the logarithm."""
    cdef vd p, t, n, f
    cdef vl bits
    t = vd_clamp((log2_of(x) + infinite) * y, -200.0, 200.0)
    n = t + 6755399441055744.0
    bits = vd_bits(n)
    n = n - 6755399441055744.0
    f = t - n
    p = f * 1.3175851027320711e-06 + 1.530973733592921e-05
    p = p * f + 0.00015403851739802723
    p = p * f + 0.0013333452062972847
    p = p * f + 0.009618128542988517
    p = p * f + 0.05550410939339128
    p = p * f + 0.2402265069887866
    p = p * f + 0.6931471805465171
    p = p * f + 0.9999999999997629
    return p * vl_bits((bits + 1023) << 52)


cdef vf vpow "vpow"(vf x, vf y) noexcept nogil:
    """C's pow, by log2 and exp2 in double: the result is rounded once, more or less."""
    cdef vf r, t, inf, one, zero, nan, infinite
    cdef vi negative, integer, odd
    inf = vset(INFINITY)
    one = vset(1.0)
    zero = vset(0.0)
    nan = vset(<float>(INFINITY - INFINITY))
    t = vf_abs(x)
    # zero and infinity: any finite logarithm plus an infinite one
    infinite = vselect(veq(t, inf), inf, vselect(veq(t, zero), vneg(inf), zero))
    t = vselect(vne(infinite, zero), one, t)
    r = vd_join(exp2_log2(vf_low(t), vf_low(y), vf_low(infinite)), exp2_log2(vf_high(t), vf_high(y), vf_high(infinite)))
    # below zero: integers have a result, negative when odd (from 2 ** 24 on all are even)
    integer = veq(vround(y), y)
    odd = integer & vne(vround(y * <float>0.5), y * <float>0.5)
    negative = vf_bits(x) >> 31
    r = vselect(negative & odd, vneg(r), r)
    r = vselect(vlt(x, zero) & ~integer & vlt(vneg(inf), x) , nan, r)
    r = vselect(vne(x, x) | vne(y, y), x + y, r)
    r = vselect(veq(x, vset(-1.0)) & veq(vf_abs(y), inf), one, r)
    return vselect(veq(y, zero) | veq(x, one), one, r)


# ---------------------------------------------------------------- trigonometry

cdef inline vd reduced_half(vd x, vd n) noexcept nogil:
    """x - n * pi / 2: pi / 2 in two parts, the first of 29 bits, whose product with n is exact."""
    return (x - n * 1.570796325802803) - n * 9.920935796805404e-10


cdef inline vf quarter_turns(vf x, vi *turns) noexcept nogil:
    """What x is beyond the nearest multiple of pi / 2, for |x| <= 2 ** 20; the low two bits of `turns` tell which."""
    cdef vd low, high, n, m
    cdef vf whole
    low = vf_low(x)
    high = vf_high(x)
    n = (low * 0.63661977236758134 + 6755399441055744.0) - 6755399441055744.0
    m = (high * 0.63661977236758134 + 6755399441055744.0) - 6755399441055744.0
    # the integer stands in the low bits of a float near 3 * 2 ** 22
    whole = vd_join(n, m) + <float>12582912.0
    turns[0] = vf_bits(whole)
    return vd_join(reduced_half(low, n), reduced_half(high, m))


cdef inline vf sin_reduced(vf r) noexcept nogil:
    """sin(r) for |r| <= pi / 4."""
    cdef vf z, q
    z = r * r
    q = z * <float>-0.00019514630548655987 + <float>0.008332155644893646
    q = q * z + <float>-0.16666655242443085
    return vcopysign((q * z) * r + r, r)


cdef inline vf cos_reduced(vf r) noexcept nogil:
    """cos(r) for |r| <= pi / 4."""
    cdef vf z, q
    z = r * r
    q = z * <float>2.4432411009911448e-05 + <float>-0.0013887309469282627
    q = q * z + <float>0.04166664555668831
    return (q * z) * z + (<float>1.0 - z * <float>0.5)


cdef inline vf vsin "vsin"(vf x) noexcept nogil:
    cdef vi k
    cdef vf r, y
    r = quarter_turns(x, &k)
    y = vselect((k << 31) >> 31, cos_reduced(r), sin_reduced(r))
    y = vi_bits(vf_bits(y) ^ ((k & 2) << 30))
    return large_sin(x, y) if vany(vlt(vset(1048576.0), vf_abs(x))) else y


cdef inline vf vcos "vcos"(vf x) noexcept nogil:
    cdef vi k
    cdef vf r, y
    r = quarter_turns(x, &k)
    y = vselect((k << 31) >> 31, sin_reduced(r), cos_reduced(r))
    y = vi_bits(vf_bits(y) ^ (((k + 1) & 2) << 30))
    return large_cos(x, y) if vany(vlt(vset(1048576.0), vf_abs(x))) else y


cdef inline vf vtan "vtan"(vf x) noexcept nogil:
    cdef vi k, odd
    cdef vf r, s, c, y
    r = quarter_turns(x, &k)
    odd = (k << 31) >> 31
    s = sin_reduced(r)
    c = cos_reduced(r)
    y = vselect(odd, vneg(c), s) / vselect(odd, s, c)
    return large_tan(x, y) if vany(vlt(vset(1048576.0), vf_abs(x))) else y


cdef inline vf asin_reduced(vf t, vf z) noexcept nogil:
    """asin(t) for 0 <= t <= 1 / 2, z = t * t."""
    cdef vf q
    q = z * <float>0.0421782061457634 + <float>0.024172963574528694
    q = q * z + <float>0.04547160491347313
    q = q * z + <float>0.07495288550853729
    q = q * z + <float>0.16666752099990845
    return (q * z) * t + t


cdef inline vf half_angle(vf x, vi *beyond) noexcept nogil:
    """asin(|x|) where |x| <= 1 / 2; beyond, half of acos(|x|), which is asin(sqrt((1 - |x|) / 2)); NaN above 1."""
    cdef vf a, z, t
    a = vf_abs(x)
    beyond[0] = vlt(vset(0.5), a)
    z = vselect(beyond[0], (vset(1.0) - a) * <float>0.5, a * a)
    t = vselect(beyond[0], vf_sqrt(z), a)
    return asin_reduced(t, z)


cdef inline vf vasin "vasin"(vf x) noexcept nogil:
    cdef vi beyond
    cdef vf p
    p = half_angle(x, &beyond)
    # pi / 2 in two parts
    return vcopysign(vselect(beyond, vset(1.57079637) - (p + p + <float>4.37113900e-08), p), x)


cdef inline vf vacos "vacos"(vf x) noexcept nogil:
    cdef vi beyond
    cdef vf p, twice
    p = half_angle(x, &beyond)
    twice = p + p
    twice = vselect(vlt(x, vset(0.0)), vset(3.14159274) - (twice + <float>8.74227801e-08), twice)
    return vselect(beyond, twice, vset(1.57079637) - (vcopysign(p, x) + <float>4.37113900e-08))


cdef inline vf vatan "vatan"(vf x) noexcept nogil:
    """Above 1: pi / 2 less the function of the reciprocal."""
    cdef vf a, t, z, q, one
    cdef vi above
    a = vf_abs(x)
    one = vset(1.0)
    above = vlt(one, a)
    t = vselect(above, one, a) / vselect(above, a, one)
    z = t * t
    q = z * <float>-0.001793122966773808 + <float>0.010912499390542507
    q = q * z + <float>-0.031174156814813614
    q = q * z + <float>0.05795413628220558
    q = q * z + <float>-0.08403263241052628
    q = q * z + <float>0.10952126979827881
    q = q * z + <float>-0.1426423192024231
    q = q * z + <float>0.19998547434806824
    q = q * z + <float>-0.33333298563957214
    q = (q * z) * t + t
    return vcopysign(vselect(above, vset(1.57079637) - (q + <float>4.37113900e-08), q), x)


# ---------------------------------------------------------------- hyperbolic functions

cdef inline vf half_exp(vf x) noexcept nogil:
    """exp(x) / 2 for x >= 0, infinite from where the sum of both halves of cosh is."""
    cdef vf t, n, r
    cdef vi k, half
    x = vmin_keep(x, 90.0)
    t = x * <float>1.44269504088896341 + <float>12582912.0
    k = vf_bits(t) - 0x4B400001
    n = t - <float>12582912.0
    r = x - n * <float>0.693359375
    r = r - n * <float>-2.12194440e-4
    half = k >> 1
    return (exp_reduced(r) + <float>1.0) * two_to(half) * two_to(k - half)


cdef inline vf vsinh "vsinh"(vf x) noexcept nogil:
    cdef vf a, z, q, h
    a = vf_abs(x)
    z = a * a
    q = z * <float>2.8170127279736334e-06 + <float>0.0001983614929486066
    q = q * z + <float>0.008333350531756878
    q = q * z + <float>0.1666666716337204
    h = half_exp(a)
    return vcopysign(vselect(vlt(a, vset(1.0)), (q * z) * a + a, h - vset(0.25) / h), x)


cdef inline vf vcosh "vcosh"(vf x) noexcept nogil:
    cdef vf h
    h = half_exp(vf_abs(x))
    return h + vset(0.25) / h


cdef inline vd asinh_half(vd a) noexcept nogil:
    return log2_of(a + vd_sqrt(a * a + 1.0)) * 0.69314718055994531


cdef inline vf vasinh "vasinh"(vf x) noexcept nogil:
    cdef vf a, y
    a = vf_abs(x)
    y = vd_join(asinh_half(vf_low(a)), asinh_half(vf_high(a)))
    # two terms of the series where 1 + x loses x
    y = vselect(vlt(a, vset(0.0009765625)), a - (a * a) * (a * <float>0.16666667), y)
    y = vselect(veq(a, vset(INFINITY)), a, y)
    return vselect(vne(x, x), x, vcopysign(y, x))


cdef inline vd acosh_half(vd x) noexcept nogil:
    cdef vd f
    f = x - 1.0
    return log2_of(f + vd_sqrt(f * (f + 2.0)) + 1.0) * 0.69314718055994531


cdef inline vf vacosh "vacosh"(vf x) noexcept nogil:
    cdef vf y, inf
    y = vd_join(acosh_half(vf_low(x)), acosh_half(vf_high(x)))
    inf = vset(INFINITY)
    y = vselect(veq(x, inf), inf, y)
    return vselect(vle(vset(1.0), x), y, vset(<float>(INFINITY - INFINITY)))


cdef inline vd atanh_half(vd a) noexcept nogil:
    return log2_of((a + 1.0) / (vdset(1.0) - a)) * 0.34657359027997265


cdef inline vf vatanh "vatanh"(vf x) noexcept nogil:
    cdef vf a, y
    a = vf_abs(x)
    y = vd_join(atanh_half(vf_low(a)), atanh_half(vf_high(a)))
    y = vselect(vlt(a, vset(0.0009765625)), a + (a * a) * (a * <float>0.33333334), y)
    y = vselect(veq(a, vset(1.0)), vset(INFINITY), y)
    return vselect(vle(a, vset(1.0)), vcopysign(y, x), vset(<float>(INFINITY - INFINITY)))


cdef inline vf vsoftsign "vsoftsign"(vf x) noexcept nogil:
    x = vmin_keep(vmax_keep(x, -3.4028234663852886e38), 3.4028234663852886e38)
    return x / (vf_abs(x) + <float>1.0)


cdef inline vf apply(const int K, vf x, float alpha, float beta) noexcept nogil:
    """Activation K of one register."""
    return ACTIVATION_OF(K, x, alpha, beta)


cdef inline void each "loop_of_one"(const int K, const float *x, float *y, Py_ssize_t n, float alpha, float beta) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef int left
    while i + 2 * LANES <= n:
        vstore(y + i, apply(K, vload(x + i), alpha, beta))
        vstore(y + i + LANES, apply(K, vload(x + i + LANES), alpha, beta))
        i = i + 2 * LANES
    if i + LANES <= n:
        vstore(y + i, apply(K, vload(x + i), alpha, beta))
        i = i + LANES
    left = <int>(n - i)
    if left > 0:
        vstore_part(y + i, apply(K, vload_part(x + i, left), alpha, beta), left)


cdef void copy_run(const float *x, float *y, Py_ssize_t n) noexcept nogil:
    if x != y: memmove(y, x, n * sizeof(float))


cdef void activate(int kind, const float *x, float *y, Py_ssize_t n, float alpha, float beta) noexcept nogil:
    ACTIVATE(kind, x, y, n, alpha, beta, copy_run)


# ---------------------------------------------------------------- two operands

cdef inline vf combine(const int K, vf a, vf b) noexcept nogil:
    if K == OP_ADD:
        return a + b
    elif K == OP_SUB:
        return a - b
    elif K == OP_MUL:
        return a * b
    elif K == OP_DIV:
        return a / b
    elif K == OP_POW:
        return vpow(a, b)
    elif K == OP_MIN:
        return vmin_nan(a, b)
    elif K == OP_MAX:
        return vmax_nan(a, b)
    return vselect(vlt(a, vset(0.0)), a * b, a)


cdef inline vf operand(const float *p, int mode) noexcept nogil:
    return vload(p) if mode == MODE_VECTOR else vset(p[0])


cdef inline void pairs(const int K, const float *a, int ma, const float *b, int mb, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef vf u, v
    cdef int left
    if ma == MODE_FULL and mb == MODE_FULL:
        while i + LANES <= n:
            vstore(y + i, combine(K, vload(a + i), vload(b + i)))
            i = i + LANES
        left = <int>(n - i)
        if left > 0:
            vstore_part(y + i, combine(K, vload_part(a + i, left), vload_part(b + i, left)), left)
    elif ma == MODE_FULL and mb == MODE_PIXEL:
        while i + LANES <= n:
            vstore(y + i, combine(K, vload(a + i), vset(b[0])))
            i = i + LANES
            b = b + 1
    elif ma == MODE_PIXEL:
        while i + LANES <= n:
            vstore(y + i, combine(K, vset(a[0]), vload(b + i)))
            i = i + LANES
            a = a + 1
    elif ma == MODE_FULL:
        v = operand(b, mb)
        while i + LANES <= n:
            vstore(y + i, combine(K, vload(a + i), v))
            i = i + LANES
        left = <int>(n - i)
        if left > 0:
            vstore_part(y + i, combine(K, vload_part(a + i, left), v), left)
    else:
        u = operand(a, ma)
        while i + LANES <= n:
            vstore(y + i, combine(K, u, vload(b + i)))
            i = i + LANES
        left = <int>(n - i)
        if left > 0:
            vstore_part(y + i, combine(K, u, vload_part(b + i, left)), left)


cdef void binary(int op, const float *a, int ma, const float *b, int mb, float *y, Py_ssize_t n) noexcept nogil:
    if op == OP_ADD: pairs(OP_ADD, a, ma, b, mb, y, n)
    elif op == OP_SUB: pairs(OP_SUB, a, ma, b, mb, y, n)
    elif op == OP_MUL: pairs(OP_MUL, a, ma, b, mb, y, n)
    elif op == OP_DIV: pairs(OP_DIV, a, ma, b, mb, y, n)
    elif op == OP_POW: pairs(OP_POW, a, ma, b, mb, y, n)
    elif op == OP_MIN: pairs(OP_MIN, a, ma, b, mb, y, n)
    elif op == OP_MAX: pairs(OP_MAX, a, ma, b, mb, y, n)
    else: pairs(OP_PRELU, a, ma, b, mb, y, n)


# ---------------------------------------------------------------- reductions

cdef inline vf neutral(const int K) noexcept nogil:
    if K == RED_PROD:
        return vset(1.0)
    elif K == RED_MAX:
        return vset(-INFINITY)
    elif K == RED_MIN:
        return vset(INFINITY)
    return vset(0.0)


cdef inline vf gather(const int K, vf acc, vf x, vf shift) noexcept nogil:
    """acc combined with one more register."""
    if K == RED_SUM:
        return acc + x
    elif K == RED_ABS:
        return acc + vf_abs(x)
    elif K == RED_SQUARE:
        return acc + x * x
    elif K == RED_EXP:
        return acc + vexp(x - shift)
    elif K == RED_MAX:
        return vmax_nan(x, acc)
    elif K == RED_MIN:
        return vmin_nan(x, acc)
    return acc * x


cdef inline double merge(const int K, double acc, double x) noexcept nogil:
    if K == RED_MAX:
        return x if x > acc or x != x else acc
    elif K == RED_MIN:
        return x if x < acc or x != x else acc
    elif K == RED_PROD:
        return acc * x
    return acc + x


cdef inline double fold(const int K, double acc, vf v) noexcept nogil:
    """acc combined with every lane of v."""
    if K == RED_MAX:
        return merge(K, acc, vlane(vall_max(v), 0))
    elif K == RED_MIN:
        return merge(K, acc, vlane(vall_min(v), 0))
    return acc + vsum_double(v)


cdef inline double reduce_rows_of(const int K, const float *x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t n, double acc,
                                  float shift) noexcept nogil:
    """Every row in pieces of at most BLOCK x 4 registers, whose four accumulators then enter the double."""
    cdef Py_ssize_t r, i, end
    cdef vf a0, a1, a2, a3, m
    cdef vd p0, p1
    cdef float none = vlane(neutral(K), 0) if K != RED_EXP else -INFINITY
    cdef int left
    m = vset(shift)
    for r in range(rows):
        i = 0
        if K == RED_PROD:
            # in double from the start: partial products may leave float's range
            p0 = p1 = vdset(1.0)
            while i + 2 * LANES <= n:
                a0 = vload(x + i)
                a1 = vload(x + i + LANES)
                p0 = p0 * (vf_low(a0) * vf_high(a0))
                p1 = p1 * (vf_low(a1) * vf_high(a1))
                i = i + 2 * LANES
            acc = acc * vd_product(p0 * p1)
            while i < n:
                acc = acc * x[i]
                i = i + 1
            x = x + stride
            continue
        while i < n:
            a0 = neutral(K)
            a1 = a2 = a3 = a0
            end = i + BLOCK * 4 * LANES
            if end > n:
                end = n
            while i + 4 * LANES <= end:
                a0 = gather(K, a0, vload(x + i), m)
                a1 = gather(K, a1, vload(x + i + LANES), m)
                a2 = gather(K, a2, vload(x + i + 2 * LANES), m)
                a3 = gather(K, a3, vload(x + i + 3 * LANES), m)
                i = i + 4 * LANES
            while i + LANES <= end:
                a0 = gather(K, a0, vload(x + i), m)
                i = i + LANES
            left = <int>(end - i)
            if left > 0:
                a1 = gather(K, a1, vload_fill(x + i, left, none), m)
                i = end
            if K == RED_MAX:
                a0 = vmax_nan(vmax_nan(a0, a1), vmax_nan(a2, a3))
            elif K == RED_MIN:
                a0 = vmin_nan(vmin_nan(a0, a1), vmin_nan(a2, a3))
            else:
                a0 = (a0 + a1) + (a2 + a3)
            acc = fold(K, acc, a0)
        x = x + stride
    return acc


cdef double reduce_rows(int kind, const float *x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t n, double acc,
                        float shift) noexcept nogil:
    if kind == RED_SUM: return reduce_rows_of(RED_SUM, x, stride, rows, n, acc, shift)
    elif kind == RED_ABS: return reduce_rows_of(RED_ABS, x, stride, rows, n, acc, shift)
    elif kind == RED_SQUARE: return reduce_rows_of(RED_SQUARE, x, stride, rows, n, acc, shift)
    elif kind == RED_EXP: return reduce_rows_of(RED_EXP, x, stride, rows, n, acc, shift)
    elif kind == RED_PROD: return reduce_rows_of(RED_PROD, x, stride, rows, n, acc, shift)
    elif kind == RED_MAX: return reduce_rows_of(RED_MAX, x, stride, rows, n, acc, shift)
    return reduce_rows_of(RED_MIN, x, stride, rows, n, acc, shift)


cdef inline vf part(const float *p, int left) noexcept nogil:
    """LANES floats, or `left` of them where that is not 0."""
    return vload_part(p, left) if left else vload(p)


cdef inline void merge_columns(const int K, double *acc, vf v, int n) noexcept nogil:
    cdef int i
    if n == LANES and K < RED_PROD:
        vdstore(acc, vdload(acc) + vf_low(v))
        vdstore(acc + DLANES, vdload(acc + DLANES) + vf_high(v))
        return
    for i in range(n):
        acc[i] = merge(K, acc[i], vlane(v, i))


cdef inline void reduce_columns_of(const int K, const float *x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t n, double *acc,
                                   const float *shift) noexcept nogil:
    """Columns in strips of four registers, then of one; a strip's rows in blocks whose sums then enter the doubles."""
    cdef Py_ssize_t i = 0, r, k, top
    cdef const float *p
    cdef vf a0, a1, a2, a3, m
    cdef vd d
    cdef int left
    m = vset(0.0)
    if K == RED_PROD:
        # a register of doubles at a time, over all rows
        while i + DLANES <= n:
            d = vdload(acc + i)
            for r in range(rows):
                d = d * vh_load(x + r * stride + i)
            vdstore(acc + i, d)
            i = i + DLANES
        while i < n:
            for r in range(rows):
                acc[i] = acc[i] * x[r * stride + i]
            i = i + 1
        return
    while K != RED_EXP and i + 4 * LANES <= n:
        r = 0
        while r < rows:
            top = r + BLOCK if r + BLOCK < rows else rows
            a0 = neutral(K)
            a1 = a2 = a3 = a0
            for k in range(r, top):
                p = x + k * stride + i
                a0 = gather(K, a0, vload(p), m)
                a1 = gather(K, a1, vload(p + LANES), m)
                a2 = gather(K, a2, vload(p + 2 * LANES), m)
                a3 = gather(K, a3, vload(p + 3 * LANES), m)
            merge_columns(K, acc + i, a0, LANES)
            merge_columns(K, acc + i + LANES, a1, LANES)
            merge_columns(K, acc + i + 2 * LANES, a2, LANES)
            merge_columns(K, acc + i + 3 * LANES, a3, LANES)
            r = top
        i = i + 4 * LANES
    while i < n:
        left = <int>(n - i) if i + LANES > n else 0
        if K == RED_EXP:
            m = part(shift + i, left)
        r = 0
        while r < rows:
            top = r + BLOCK if r + BLOCK < rows else rows
            a0 = neutral(K)
            for k in range(r, top):
                a0 = gather(K, a0, part(x + k * stride + i, left), m)
            merge_columns(K, acc + i, a0, left if left else LANES)
            r = top
        i = i + LANES


cdef void reduce_columns(int kind, const float *x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t n, double *acc,
                         const float *shift) noexcept nogil:
    if kind == RED_SUM: reduce_columns_of(RED_SUM, x, stride, rows, n, acc, shift)
    elif kind == RED_ABS: reduce_columns_of(RED_ABS, x, stride, rows, n, acc, shift)
    elif kind == RED_SQUARE: reduce_columns_of(RED_SQUARE, x, stride, rows, n, acc, shift)
    elif kind == RED_EXP: reduce_columns_of(RED_EXP, x, stride, rows, n, acc, shift)
    elif kind == RED_PROD: reduce_columns_of(RED_PROD, x, stride, rows, n, acc, shift)
    elif kind == RED_MAX: reduce_columns_of(RED_MAX, x, stride, rows, n, acc, shift)
    else: reduce_columns_of(RED_MIN, x, stride, rows, n, acc, shift)


# ---------------------------------------------------------------- softmax

cdef inline void softmax_row(const int LOG, const float *x, float *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0, end
    cdef int left = <int>(n % LANES)
    cdef Py_ssize_t whole = n - left
    cdef vf m, e, sums, total
    # the largest of the row, in every lane
    m = vset(-INFINITY)
    sums = m
    while i + 2 * LANES <= whole:
        m = vmax_nan(vload(x + i), m)
        sums = vmax_nan(vload(x + i + LANES), sums)
        i = i + 2 * LANES
    if i < whole:
        m = vmax_nan(vload(x + i), m)
        i = i + LANES
    if left:
        sums = vmax_nan(vload_fill(x + i, left, -INFINITY), sums)
    m = vall_max(vmax_nan(m, sums))
    # exponentials and their sum: blocks, then the sum of those, then the lanes
    total = vset(0.0)
    i = 0
    while i < whole:
        sums = vset(0.0)
        end = i + BLOCK * LANES
        if end > whole:
            end = whole
        while i < end:
            e = exp_negative(vload(x + i) - m)
            if not LOG:
                vstore(y + i, e)
            sums = sums + e
            i = i + LANES
        total = total + sums
    if left:
        e = exp_negative(vload_fill(x + i, left, -INFINITY) - m)
        if not LOG:
            vstore_part(y + i, e, left)
        total = total + e
    total = vall_sum(total)
    e = vlog(total) if LOG else vset(1.0) / total
    i = 0
    while i < whole:
        vstore(y + i, (vload(x + i) - m) - e if LOG else vload(y + i) * e)
        i = i + LANES
    if left:
        vstore_part(y + i, (vload_part(x + i, left) - m) - e if LOG else vload_part(y + i, left) * e, left)


cdef inline void softmax_columns(const int LOG, const float *x, float *y, Py_ssize_t axis, Py_ssize_t stride,
                                 int left) noexcept nogil:
    """One register of columns, `left` of them where that is not 0."""
    cdef Py_ssize_t k, j, end
    cdef vf m, e, sums, total
    m = vset(-INFINITY)
    for k in range(axis):
        m = vmax_nan(part(x + k * stride, left), m)
    total = vset(0.0)
    j = 0
    while j < axis:
        # sums of blocks, then the sum of those: the error grows with their lengths, not with their product
        end = j + BLOCK if j + BLOCK < axis else axis
        sums = vset(0.0)
        for k in range(j, end):
            e = exp_negative(part(x + k * stride, left) - m)
            if not LOG:
                if left:
                    vstore_part(y + k * stride, e, left)
                else:
                    vstore(y + k * stride, e)
            sums = sums + e
        total = total + sums
        j = end
    if LOG:
        total = vlog(total)
    else:
        total = vset(1.0) / total
    for k in range(axis):
        e = (part(x + k * stride, left) - m) - total if LOG else part(y + k * stride, left) * total
        if left:
            vstore_part(y + k * stride, e, left)
        else:
            vstore(y + k * stride, e)


cdef void softmax(int log_of, const float *x, float *y, Py_ssize_t axis, Py_ssize_t stride, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef int left
    if n == 1 and stride == 1:
        if log_of:
            softmax_row(1, x, y, axis)
        else:
            softmax_row(0, x, y, axis)
        return
    while i < n:
        left = <int>(n - i) if i + LANES > n else 0
        if log_of:
            softmax_columns(1, x + i, y + i, axis, stride, left)
        else:
            softmax_columns(0, x + i, y + i, axis, stride, left)
        i = i + LANES


cdef VectorTiles tiles
tiles.lanes = LANES
tiles.activate = activate
tiles.binary = binary
tiles.reduce_rows = reduce_rows
tiles.reduce_columns = reduce_columns
tiles.softmax = softmax
capsule = PyCapsule_New(&tiles, CNNENGINE_CAPSULE, NULL)
