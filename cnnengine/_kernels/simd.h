/* One SIMD register of float: the widest that the compiler flags of this instruction set allow.
 *
 * Cython is told `ctypedef float vf`, so that its own arithmetic becomes vector arithmetic here (GCC/Clang vector
 * extension); what has no operator in C stands below as an inline function. No intrinsics: the same text serves
 * SSE2, AVX2, AVX-512 and NEON. */
#ifndef CNNENGINE_SIMD_H
#define CNNENGINE_SIMD_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#  define VBYTES 64
#  define VREGISTERS 32
#elif defined(__AVX__)
#  define VBYTES 32
#  define VREGISTERS 16
#elif defined(__aarch64__)
#  define VBYTES 16
#  define VREGISTERS 32
#else
#  define VBYTES 16
#  define VREGISTERS 16
#endif
#define LANES (VBYTES / 4)

#define AI static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(VBYTES), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(VBYTES), aligned(4), may_alias));

/* less zero, not plus: -0 stays -0 */
AI vf vset(float a) { vf z = {0}; return a - z; }
AI vi viset(int32_t a) { vi z = {0}; return z + a; }
AI vf vload(const float *p) { return *(const vf *)p; }
AI void vstore(float *p, vf v) { *(vf *)p = v; }
/* lane-wise m ? a : b; every lane of m is 0 or -1 */
AI vf vselect(vi m, vf a, vf b) { return (vf)((m & (vi)a) | (~m & (vi)b)); }
/* NaN in `a` passes through: the comparison is false and a is kept (ONNX Relu, Clip, Max) */
#if defined(__AVX512F__) && defined(__clang__)
#  define X86_MINMAX(op, a, b) (vf)__builtin_ia32_##op##ps512(a, b, 4)
#elif defined(__AVX512F__)
#  define X86_MINMAX(op, a, b) (vf)__builtin_ia32_##op##ps512_mask(a, b, a, -1, 4)
#elif defined(__AVX__)
#  define X86_MINMAX(op, a, b) (vf)__builtin_ia32_##op##ps256(a, b)
#elif defined(__SSE2__)
#  define X86_MINMAX(op, a, b) (vf)__builtin_ia32_##op##ps(a, b)
#endif
#ifdef X86_MINMAX /* these instructions give their second operand where one is NaN, and where both are zeros */
AI vf vmax_keep(vf a, float low) { return X86_MINMAX(max, vset(low), a); }
AI vf vmin_keep(vf a, float high) { return X86_MINMAX(min, vset(high), a); }
#else
AI vf vmax_keep(vf a, float low) { vf l = vset(low); return vselect(l > a, l, a); }
AI vf vmin_keep(vf a, float high) { vf h = vset(high); return vselect(h < a, h, a); }
#endif
/* bits as the other type, no conversion; and conversion by value */
AI vi vf_bits(vf a) { return (vi)a; }
AI vf vi_bits(vi a) { return (vf)a; }
AI vf vi_to_vf(vi a) { return __builtin_convertvector(a, vf); }
/* a partial register: n of LANES floats, the rest zero; and a store of n floats */
#if defined(__AVX512F__) /* a masked instruction; a memcpy of unknown length is a call */
typedef float v16sf_ __attribute__((vector_size(64)));
#  define VFIRST(n) (unsigned short)((1u << (n)) - 1)
AI vf vload_part(const float *p, int n) { return (vf)__builtin_ia32_loadups512_mask(p, (v16sf_){0}, VFIRST(n)); }
AI void vstore_part(float *p, vf v, int n) { __builtin_ia32_storeups512_mask(p, (v16sf_)v, VFIRST(n)); }
#else
AI vf vload_part(const float *p, int n) { vf v = {0}; memcpy(&v, p, (size_t)n * 4); return v; }
AI void vstore_part(float *p, vf v, int n) { memcpy(p, &v, (size_t)n * 4); }
#endif
/* the lower and the upper halves of a and b interleaved: a0 b0 a1 b1 ... */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#  define VSHUFFLE(a, b, ...) (vf)__builtin_shufflevector((vi)(a), (vi)(b), __VA_ARGS__)
#else
#  define VSHUFFLE(a, b, ...) (vf)__builtin_shuffle((vi)(a), (vi)(b), (vi){__VA_ARGS__})
#endif
#if LANES == 16
#  define VLOG 4
AI vf vzip_lo(vf a, vf b) { return VSHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); }
AI vf vzip_hi(vf a, vf b) { return VSHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31); }
#elif LANES == 8
#  define VLOG 3
AI vf vzip_lo(vf a, vf b) { return VSHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
AI vf vzip_hi(vf a, vf b) { return VSHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
#  define VLOG 2
AI vf vzip_lo(vf a, vf b) { return VSHUFFLE(a, b, 0, 4, 1, 5); }
AI vf vzip_hi(vf a, vf b) { return VSHUFFLE(a, b, 2, 6, 3, 7); }
#endif
/* lane i of the result is lane order[i] of a */
#if defined(__clang__) && !(defined(__AVX512F__) || defined(__AVX2__))
AI vf vpermute(vf a, vi order) { vf r; for (int i = 0; i < LANES; i++) r[i] = a[order[i]]; return r; }
#elif defined(__clang__) && defined(__AVX512F__)
AI vf vpermute(vf a, vi order) { return (vf)__builtin_ia32_permvarsf512(a, order); }
#elif defined(__clang__)
AI vf vpermute(vf a, vi order) { return (vf)__builtin_ia32_permvarsf256(a, order); }
#else
AI vf vpermute(vf a, vi order) { return __builtin_shuffle(a, order); }
#endif
/* for each lane, the lane of channel k of its own group; groups of a power of two */
AI vi vgroup(int per_group, int k)
{
#if LANES == 16
    const vi lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif LANES == 8
    const vi lane = {0, 1, 2, 3, 4, 5, 6, 7};
#else
    const vi lane = {0, 1, 2, 3};
#endif
    return (lane & viset(-per_group)) + viset(k);
}
/* v stays in its register up to here: nothing computed before may take its place */
#if defined(__AVX512F__)
AI void vkeep(vf v) { __asm__ volatile("" : : "v"(v)); }
#elif defined(__x86_64__)
AI void vkeep(vf v) { __asm__ volatile("" : : "x"(v)); }
#elif defined(__aarch64__)
AI void vkeep(vf v) { __asm__ volatile("" : : "w"(v)); }
#else
AI void vkeep(vf v) { (void)v; }
#endif
/* v in a register, here: what goes through this keeps the order that it is written in */
#if defined(__AVX512F__)
AI vf vplace(vf v) { __asm__ volatile("" : "+v"(v)); return v; }
#elif defined(__x86_64__)
AI vf vplace(vf v) { __asm__ volatile("" : "+x"(v)); return v; }
#elif defined(__aarch64__)
AI vf vplace(vf v) { __asm__ volatile("" : "+w"(v)); return v; }
#else
AI vf vplace(vf v) { return v; }
#endif
/* v, of which the compiler knows nothing: a product stays rounded, no multiply-add takes it in */
#if defined(__AVX512F__)
AI vf vrounded(vf v) { __asm__("" : "+v"(v)); return v; }
#elif defined(__x86_64__)
AI vf vrounded(vf v) { __asm__("" : "+x"(v)); return v; }
#elif defined(__aarch64__)
AI vf vrounded(vf v) { __asm__("" : "+w"(v)); return v; }
#else
AI vf vrounded(vf v) { volatile vf r = v; return r; }
#endif
/* whether any bit of any lane is set */
AI int vany(vi m)
{
    int64_t t[VBYTES / 8], all = 0;
    memcpy(t, &m, VBYTES);
    for (int i = 0; i < VBYTES / 8; i++)
        all |= t[i];
    return all != 0;
}
AI void prefetch_l1(const void *p) { __builtin_prefetch(p, 0, 3); }
AI void prefetch_l2(const void *p) { __builtin_prefetch(p, 0, 2); }

/* ---- elementary functions are written on these (tiles/vector.pyx) ---- */
/* comparisons: each lane -1 or 0; with NaN only vne is true */
AI vi vlt(vf a, vf b) { return (vi)(a < b); }
AI vi vle(vf a, vf b) { return (vi)(a <= b); }
AI vi veq(vf a, vf b) { return (vi)(a == b); }
AI vi vne(vf a, vf b) { return (vi)(a != b); }
AI vf vf_abs(vf a) { return (vf)((vi)a & viset(INT32_MAX)); }
AI vf vneg(vf a) { return (vf)((vi)a ^ viset(INT32_MIN)); }
/* magnitude of a, sign of s */
AI vf vcopysign(vf a, vf s) { return (vf)(((vi)a & viset(INT32_MAX)) | ((vi)s & viset(INT32_MIN))); }
/* a NaN in either operand is the result */
AI vf vmin_nan(vf a, vf b) { return vselect((vi)(a < b) | (vi)(a != a), a, b); }
AI vf vmax_nan(vf a, vf b) { return vselect((vi)(a > b) | (vi)(a != a), a, b); }
AI vf vf_sqrt(vf a)
{
#if !defined(__clang__) && defined(__AVX512F__)
    return (vf)__builtin_ia32_sqrtps512_mask(a, a, -1, 4);
#elif !defined(__clang__) && defined(__AVX__)
    return (vf)__builtin_ia32_sqrtps256(a);
#elif !defined(__clang__) && defined(__SSE2__)
    return (vf)__builtin_ia32_sqrtps(a);
#else
    vf r = a;
    for (int i = 0; i < LANES; i++)
        r[i] = __builtin_sqrtf(a[i]);
    return r;
#endif
}
AI vf vpower(vf a, float p)
{
    for (int i = 0; i < LANES; i++)
        a[i] = powf(a[i], p);
    return a;
}
/* a / b within a unit or so in the last place, for b whose reciprocal is a normal number; with 16 lanes the divider takes longer
 * than a polynomial, a refined estimate does not */
AI vf vdivide(vf a, vf b)
{
#if defined(__AVX512F__)
    vf r = (vf)__builtin_ia32_rcp14ps512_mask(b, b, -1);
    return a * (r + r * (1.0f - b * r));
#else
    return a / b;
#endif
}
/* n of LANES floats, the rest `fill` */
#if defined(__AVX512F__)
AI vf vload_fill(const float *p, int n, float fill) { return (vf)__builtin_ia32_loadups512_mask(p, (v16sf_)vset(fill), VFIRST(n)); }
#else
AI vf vload_fill(const float *p, int n, float fill) { vf v = vset(fill); memcpy(&v, p, (size_t)n * 4); return v; }
#endif
/* lanes k further on, around the end; k is a constant */
#if defined(__clang__)
AI vf vrotate(vf v, int k)
{
    float t[2 * LANES];
    memcpy(t, &v, VBYTES);
    memcpy(t + LANES, &v, VBYTES);
    return vload(t + k);
}
#else
#  if LANES == 16
#    define VIOTA {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
#  elif LANES == 8
#    define VIOTA {0, 1, 2, 3, 4, 5, 6, 7}
#  else
#    define VIOTA {0, 1, 2, 3}
#  endif
AI vf vrotate(vf v, int k) { const vi lane = VIOTA; return __builtin_shuffle(v, (lane + k) & (LANES - 1)); }
#endif
/* all lanes combined, pairwise, in every lane */
#define VALL(name, f)              \
    AI vf name(vf v)               \
    {                              \
        if (LANES > 8)             \
            v = f(v, vrotate(v, 8)); \
        if (LANES > 4)             \
            v = f(v, vrotate(v, 4)); \
        v = f(v, vrotate(v, 2));   \
        return f(v, vrotate(v, 1)); \
    }
AI vf vadd(vf a, vf b) { return a + b; }
VALL(vall_sum, vadd)
VALL(vall_max, vmax_nan)
VALL(vall_min, vmin_nan)
#undef VALL
AI float vlane(vf v, int i) { return v[i]; }

/* registers of double: half as many lanes */
typedef double vd __attribute__((vector_size(VBYTES), aligned(8), may_alias));
typedef int64_t vl __attribute__((vector_size(VBYTES), aligned(8), may_alias));
typedef float vh __attribute__((vector_size(VBYTES / 2), aligned(4), may_alias));
#define DLANES (LANES / 2)
AI vd vdset(double a) { vd z = {0}; return a - z; }
AI vd vdload(const double *p) { vd v; memcpy(&v, p, VBYTES); return v; }
AI void vdstore(double *p, vd v) { memcpy(p, &v, VBYTES); }
AI vd vh_load(const float *p) { vh h; memcpy(&h, p, VBYTES / 2); return __builtin_convertvector(h, vd); }
AI vd vf_low(vf a) { vh h; memcpy(&h, &a, VBYTES / 2); return __builtin_convertvector(h, vd); }
AI vd vf_high(vf a) { vh h; memcpy(&h, (const char *)&a + VBYTES / 2, VBYTES / 2); return __builtin_convertvector(h, vd); }
AI vf vd_join(vd a, vd b)
{
    vh low = __builtin_convertvector(a, vh), high = __builtin_convertvector(b, vh);
    vf r;
    memcpy(&r, &low, VBYTES / 2);
    memcpy((char *)&r + VBYTES / 2, &high, VBYTES / 2);
    return r;
}
AI double vd_sum(vd v)
{
    double t[DLANES];
    memcpy(t, &v, VBYTES);
    for (int i = DLANES / 2; i > 0; i /= 2)
        for (int j = 0; j < i; j++)
            t[j] += t[j + i];
    return t[0];
}
AI double vd_product(vd v)
{
    double t[DLANES];
    memcpy(t, &v, VBYTES);
    for (int i = DLANES / 2; i > 0; i /= 2)
        for (int j = 0; j < i; j++)
            t[j] *= t[j + i];
    return t[0];
}
/* the lanes by halves: few additions wait for each other */
AI float vsum(vf v)
{
    float t[LANES];
    memcpy(t, &v, VBYTES);
    for (int i = LANES / 2; i > 0; i /= 2)
        for (int j = 0; j < i; j++)
            t[j] += t[j + i];
    return t[0];
}
AI double vsum_double(vf v) { return vd_sum(vf_low(v) + vf_high(v)); }
AI vd vd_sqrt(vd a)
{
#if !defined(__clang__) && defined(__AVX512F__)
    return (vd)__builtin_ia32_sqrtpd512_mask(a, a, -1, 4);
#elif !defined(__clang__) && defined(__AVX__)
    return (vd)__builtin_ia32_sqrtpd256(a);
#elif !defined(__clang__) && defined(__SSE2__)
    return (vd)__builtin_ia32_sqrtpd(a);
#else
    vd r = a;
    for (int i = 0; i < DLANES; i++)
        r[i] = __builtin_sqrt(a[i]);
    return r;
#endif
}
AI vl vd_bits(vd a) { return (vl)a; }
AI vd vl_bits(vl a) { return (vd)a; }
AI vd vd_clamp(vd a, double low, double high)
{
    vd l = vdset(low), h = vdset(high);
    vl below = (vl)(a < l), above = (vl)(a > h);
    a = (vd)((below & (vl)l) | (~below & (vl)a));
    return (vd)((above & (vl)h) | (~above & (vl)a));
}
#endif
