/* Registers of quantised numbers: sums of int32 beside the registers of float of simd.h, LANES of each.
 *
 * QSTEP is how many channels a 32-bit word of x and a lane of w hold: 4 bytes where an instruction adds four products of a byte
 * with a signed byte to a lane, else 2 numbers of 16 bits, whose products fill 32 bits and never saturate. (The instruction
 * that multiplies bytes and adds neighbours in 16 bits saturates: it is not used.) QFLIP is 1 where both must be signed. */
#ifndef CNNENGINE_QSIMD_H
#define CNNENGINE_QSIMD_H
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
AI vi vdot(vi acc, vi x, vi w) { return (vi)vdotq_s32((int32x4_t)acc, (int8x16_t)x, (int8x16_t)w); }
#else
#  define QSTEP 2
#  if LANES == 16
AI vi vdot(vi acc, vi x, vi w) { return acc + (vi)_mm512_madd_epi16((__m512i)x, (__m512i)w); }
#  elif LANES == 8
AI vi vdot(vi acc, vi x, vi w) { return acc + (vi)_mm256_madd_epi16((__m256i)x, (__m256i)w); }
#  elif defined(__SSE2__)
AI vi vdot(vi acc, vi x, vi w) { return acc + (vi)_mm_madd_epi16((__m128i)x, (__m128i)w); }
#  else
AI vi vdot(vi acc, vi x, vi w) { return acc + ((x << 16) >> 16) * ((w << 16) >> 16) + (x >> 16) * (w >> 16); }
#  endif
#endif

/* a word of x in every lane */
AI vi vword(const char *p)
{
    int32_t t;
    memcpy(&t, p, 4);
    vi v = viset(t);
    if (QFLIP)
        v = v ^ viset((int32_t)0x80808080u);
    return v;
}
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
#endif
