/* Registers of quantised numbers: sums of int32 beside the registers of float of simd.h, LANES of each.
 *
 * QSTEP is how many channels a 32-bit word of x and a lane of w hold: 4 bytes where an instruction adds four products of a byte
 * with a signed byte to a lane, else 2 numbers of 16 bits, whose products fill 32 bits and never saturate. (The instruction
 * that multiplies bytes and adds neighbours in 16 bits saturates: it is not used.) QFLIP is 1 where both must be signed. */
#ifndef CNNENGINE_QSIMD_H
#define CNNENGINE_QSIMD_H
#include <stddef.h>
#include "simd.h"
#if defined(__x86_64__)
#  include <immintrin.h>
#elif defined(__aarch64__)
#  include <arm_neon.h>
#endif

#define QFLIP 0
#if defined(CNNENGINE_EMULATE_DOT) /* what the instructions below do, for tests on processors that lack them */
#  define QSTEP 4
AI vi vdot(vi acc, vi x, vi w)
{
    acc = acc + (x & 255) * ((w << 24) >> 24);
    acc = acc + ((x >> 8) & 255) * ((w << 16) >> 24);
    acc = acc + ((x >> 16) & 255) * ((w << 8) >> 24);
    return acc + ((x >> 24) & 255) * (w >> 24);
}
#elif defined(__AVX512VNNI__) && LANES == 16
#  define QSTEP 4
AI vi vdot(vi acc, vi x, vi w) { return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)x, (__m512i)w); }
#elif defined(__AVXVNNI__) && LANES == 8
#  define QSTEP 4
AI vi vdot(vi acc, vi x, vi w) { return (vi)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)x, (__m256i)w); }
#elif defined(__ARM_FEATURE_DOTPROD)
#  define QSTEP 4
#  undef QFLIP
#  define QFLIP 1
AI vi vdot(vi acc, vi x, vi w) { return (vi)vdotq_lane_s32((int32x4_t)acc, (int8x16_t)w, vget_low_s8((int8x16_t)x), 0); }
#else
#  define QSTEP 2
#  if LANES == 16
AI vi vdot(vi acc, vi x, vi w) { return acc + (vi)_mm512_madd_epi16((__m512i)x, (__m512i)w); }
#  elif LANES == 8
AI vi vdot(vi acc, vi x, vi w) { return acc + (vi)_mm256_madd_epi16((__m256i)x, (__m256i)w); }
#  elif defined(__SSE2__)
AI vi vdot(vi acc, vi x, vi w) { return acc + (vi)_mm_madd_epi16((__m128i)x, (__m128i)w); }
#  elif defined(__aarch64__)
AI vi vdot(vi acc, vi x, vi w)
{
    const int16x8_t v = (int16x8_t)w; /* in two, once for all pixels */
    const int16x4_t even = vget_low_s16(vuzp1q_s16(v, v)), odd = vget_low_s16(vuzp2q_s16(v, v)), t = vget_low_s16((int16x8_t)x);
    return (vi)vmlal_lane_s16(vmlal_lane_s16((int32x4_t)acc, even, t, 0), odd, t, 1);
}
#  else
AI vi vdot(vi acc, vi x, vi w) { return acc + ((x << 16) >> 16) * ((w << 16) >> 16) + (x >> 16) * (w >> 16); }
#  endif
#endif

/* a word of x in every lane; in the first alone, where instructions multiply by one lane */
AI vi vword(const char *p)
{
#if defined(__aarch64__)
    /* Written out: left to itself, gcc goes by way of other registers, and clears the lanes that nothing looks at. Lanes of 16 bits
     * are multiplied by from the first sixteen registers ("x"). */
    typedef struct { char bytes[4]; } four;
    vi v;
#  if QSTEP == 2
    __asm__("ldr %s0, %1" : "=x"(v) : "m"(*(const four *)p));
#  else
    __asm__("ldr %s0, %1" : "=w"(v) : "m"(*(const four *)p));
#  endif
#else
    int32_t t;
    memcpy(&t, p, 4);
    vi v = viset(t);
#endif
    if (QFLIP)
        v = v ^ viset((int32_t)0x80808080u);
    return v;
}
/* where what a tap does is written out (qdot_avx2.h) */
#if QSTEP == 2 && LANES == 8
#  include "qdot_avx2.h"
#  define WRITTEN_OUT 1
#else
#  define WRITTEN_OUT 0
AI void qdot_avx2(int P, int B, vi *v, const char *w, const char *x, ptrdiff_t step, int words) { (void)P, (void)B, (void)v, (void)w, (void)x, (void)step, (void)words; }
#endif
AI vi vi_load(const void *p) { vi v; memcpy(&v, p, VBYTES); return v; }
AI void vi_store(void *p, vi v) { memcpy(p, &v, VBYTES); }
#if defined(__AVX512F__)
AI vi viplace(vi v) { __asm__ volatile("" : "+v"(v)); return v; }
#elif defined(__x86_64__)
AI vi viplace(vi v) { __asm__ volatile("" : "+x"(v)); return v; }
#elif defined(__aarch64__)
AI vi viplace(vi v) { __asm__ volatile("" : "+w"(v)); return v; }
#else
AI vi viplace(vi v) { return v; }
#endif
/* within bounds that are numbers; a is one too, or infinite */
AI vf vbounded(vf a, float low, float high) { return vmin_keep(vmax_keep(a, low), high); }
/* to the nearest integer, halves to the even one; for |a| below 2^22 */
AI vi vround(vf a)
{
#if LANES == 16
    return (vi)_mm512_cvtps_epi32((__m512)a);
#elif LANES == 8
    return (vi)_mm256_cvtps_epi32((__m256)a);
#elif defined(__SSE2__)
    return (vi)_mm_cvtps_epi32((__m128)a);
#elif defined(__aarch64__)
    return (vi)vcvtnq_s32_f32((float32x4_t)a);
#else
    const vf magic = vset(12582912.0f);
    return vf_bits(vplace(a + magic)) - vf_bits(magic);
#endif
}
/* LANES bytes, as numbers of float and of int32; and back, for numbers of 0 to 255 */
AI vi vbytes_int(const uint8_t *p)
{
#if LANES == 16
    return (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif LANES == 8
    return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#elif defined(__SSE2__)
    int32_t t;
    memcpy(&t, p, 4);
    const __m128i zero = _mm_setzero_si128();
    return (vi)_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(t), zero), zero);
#elif defined(__aarch64__)
    uint32_t t;
    memcpy(&t, p, 4);
    return (vi)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(t))));
#else
    vi r;
    for (int i = 0; i < LANES; i++)
        r[i] = p[i];
    return r;
#endif
}
AI vf vbytes(const uint8_t *p) { return vi_to_vf(vbytes_int(p)); }
AI void vstore_bytes(uint8_t *p, vi v)
{
#if LANES == 16
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)v));
#elif LANES == 8
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
#elif defined(__SSE2__)
    __m128i words = _mm_packs_epi32((__m128i)v, (__m128i)v);
    int32_t t = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(p, &t, 4);
#elif defined(__aarch64__)
    uint16x4_t words = vmovn_u32((uint32x4_t)v);
    uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
    uint32_t t = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
    memcpy(p, &t, 4);
#else
    for (int i = 0; i < LANES; i++)
        p[i] = (uint8_t)v[i];
#endif
}
/* what `vround` makes the nearest bound of int32 of, or as good as that, where it is too large to be converted */
#if defined(__x86_64__)
AI vf vconvertible(vf a) { return vmin_keep(a, 2e9f); } /* numbers that are too large become INT32_MIN, whatever their sign */
#elif defined(__aarch64__)
AI vf vconvertible(vf a) { return a; }
#else
AI vf vconvertible(vf a) { return vbounded(a, -2e6f, 2e6f); }
#endif
/* Stores results of P <= 2 pixels, `step` bytes apart, of B <= 2 blocks, `plane` bytes apart: v[pixel][block] plus a zero point,
 * clamped to bytes and to bounds. `zeros` has the zero point in every 16 bits, `low` and `high` the bounds in every byte. */
#if LANES == 8
AI void vstore_pixels(const int P, const int B, const vi *v, uint8_t *y, ptrdiff_t step, ptrdiff_t plane, vi zeros, vi low, vi high)
{
    /* [a0-3 b0-3 | a4-7 b4-7] of a pixel, then the same of the next one */
    const __m256i order = _mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7);
    __m256i first = _mm256_packs_epi32((__m256i)v[0], (__m256i)v[B - 1]);
    __m256i second = P == 2 ? _mm256_packs_epi32((__m256i)v[B], (__m256i)v[2 * B - 1]) : first;
    __m256i bytes = _mm256_packus_epi16(_mm256_adds_epi16(first, (__m256i)zeros), _mm256_adds_epi16(second, (__m256i)zeros));
    bytes = _mm256_min_epu8(_mm256_max_epu8(bytes, (__m256i)low), (__m256i)high);
    /* a of both pixels, then b of both */
    bytes = _mm256_permutevar8x32_epi32(bytes, order);
    __m128i a = _mm256_castsi256_si128(bytes), b = _mm256_extracti128_si256(bytes, 1);
    if (P == 2 && step == LANES) {
        _mm_storeu_si128((__m128i *)y, a);
        if (B == 2)
            _mm_storeu_si128((__m128i *)(y + plane), b);
        return;
    }
    _mm_storel_epi64((__m128i *)y, a);
    if (P == 2)
        _mm_storel_epi64((__m128i *)(y + step), _mm_unpackhi_epi64(a, a));
    if (B == 2) {
        _mm_storel_epi64((__m128i *)(y + plane), b);
        if (P == 2)
            _mm_storel_epi64((__m128i *)(y + step + plane), _mm_unpackhi_epi64(b, b));
    }
}
#elif LANES == 16
AI void vstore_pixels(const int P, const int B, const vi *v, uint8_t *y, ptrdiff_t step, ptrdiff_t plane, vi zeros, vi low, vi high)
{
    const __m512i zero = _mm512_srai_epi32((__m512i)zeros, 16);
    for (int p = 0; p < P; p++)
        for (int b = 0; b < B; b++) {
            __m512i sum = _mm512_max_epi32(_mm512_add_epi32((__m512i)v[p * B + b], zero), _mm512_setzero_si512());
            __m128i bytes = _mm512_cvtusepi32_epi8(sum);
            bytes = _mm_min_epu8(_mm_max_epu8(bytes, _mm512_castsi512_si128((__m512i)low)), _mm512_castsi512_si128((__m512i)high));
            _mm_storeu_si128((__m128i *)(y + p * step + b * plane), bytes);
        }
}
#elif defined(__SSE2__)
AI void vstore_pixels(const int P, const int B, const vi *v, uint8_t *y, ptrdiff_t step, ptrdiff_t plane, vi zeros, vi low, vi high)
{
    __m128i first = _mm_packs_epi32((__m128i)v[0], (__m128i)v[B - 1]);
    __m128i second = P == 2 ? _mm_packs_epi32((__m128i)v[B], (__m128i)v[2 * B - 1]) : first;
    __m128i bytes = _mm_packus_epi16(_mm_adds_epi16(first, (__m128i)zeros), _mm_adds_epi16(second, (__m128i)zeros));
    bytes = _mm_min_epu8(_mm_max_epu8(bytes, (__m128i)low), (__m128i)high);
    int32_t t[4];
    _mm_storeu_si128((__m128i *)t, bytes);
    for (int p = 0; p < P; p++)
        for (int b = 0; b < B; b++)
            memcpy(y + p * step + b * plane, t + 2 * p + b, 4);
}
#else
AI void vstore_pixels(const int P, const int B, const vi *v, uint8_t *y, ptrdiff_t step, ptrdiff_t plane, vi zeros, vi low, vi high)
{
    const int zero = (int16_t)zeros[0], least = low[0] & 255, most = high[0] & 255;
    for (int p = 0; p < P; p++)
        for (int b = 0; b < B; b++) {
            vi sum = v[p * B + b] + viset(zero), l = viset(least), h = viset(most);
            vi below = sum < l, above = sum > h;
            sum = (below & l) | (~below & sum);
            sum = (above & h) | (~above & sum);
            vstore_bytes(y + p * step + b * plane, sum);
        }
}
#endif
#endif
