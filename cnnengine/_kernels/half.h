/* Registers of float from numbers of half the size and back: float16 (IEEE binary16) and bfloat16, as uint16_t in memory.
 *
 * What instructions convert is converted by them; elsewhere by integer arithmetic on registers, which gives NumPy's bits for
 * everything, NaNs too. Instructions set the quiet bit of NaNs (so does NumPy where it has them, on aarch64), so the runs of
 * tiles/half.pyx take the integers where there is one. */
#ifndef CNNENGINE_HALF_H
#define CNNENGINE_HALF_H
#include "simd.h"
#if defined(__x86_64__)
#  include <immintrin.h>
#elif defined(__aarch64__)
#  include <arm_neon.h>
#endif

typedef uint16_t vhalf __attribute__((vector_size(VBYTES / 2), aligned(2), may_alias));
typedef uint32_t vu_ __attribute__((vector_size(VBYTES), aligned(4), may_alias));

/* a register of them as integers of 32 bits, and the lower halves of such integers (the upper ones are 0) */
#if LANES == 16
AI vi vhalf_load(const uint16_t *p) { return (vi)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)); }
AI void vhalf_store(uint16_t *p, vi v) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16((__m512i)v)); }
#elif LANES == 8
AI vi vhalf_load(const uint16_t *p) { return (vi)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)); }
AI void vhalf_store(uint16_t *p, vi v)
{
    __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)v, (__m256i)v), 8);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(words));
}
#else
AI vi vhalf_load(const uint16_t *p) { vhalf h; memcpy(&h, p, VBYTES / 2); return (vi)__builtin_convertvector(h, vu_); }
AI void vhalf_store(uint16_t *p, vi v) { vhalf h = __builtin_convertvector((vu_)v, vhalf); memcpy(p, &h, VBYTES / 2); }
#endif
AI vi viselect(vi m, vi a, vi b) { return (m & a) | (~m & b); }

/* bfloat16: the upper half of a float; to the nearest, halves to even; NaN is the quiet one of its sign */
AI vf vbf16_load(const uint16_t *p) { return (vf)(vhalf_load(p) << 16); }
/* two registers from their numbers in turn, one of each: no number leaves its place, as widening a run would have it */
AI vf vbf16_even(const uint16_t *p) { vi v; memcpy(&v, p, VBYTES); return (vf)(v << 16); }
AI vf vbf16_odd(const uint16_t *p) { vi v; memcpy(&v, p, VBYTES); return (vf)(v & (int32_t)0xffff0000); }
AI void vbf16_store(uint16_t *p, vf a)
{
    vi bits = (vi)a, upper = (vi)((vu_)bits >> 16);
    vi rounded = (vi)((vu_)(bits + (upper & 1) + 0x7fff) >> 16);
    vhalf_store(p, viselect((vi)(a != a), (upper & 0x8000) | 0x7fc0, rounded));
}

/* float16 by integers. A number below the least normal one is put below the binary point of 2^-14 (or 2^-1) and that taken off. */
AI vf vf16_load_bits(const uint16_t *p)
{
    vi h = vhalf_load(p), shifted = (h & 0x7fff) << 13, exponent = shifted & 0x0f800000;
    vi normal = shifted + (112 << 23), large = normal + (112 << 23);
    vi small = (vi)((vf)(normal + (1 << 23)) - (vf)viset(113 << 23));
    vi r = viselect((vi)(exponent == 0x0f800000), large, viselect((vi)(exponent == 0), small, normal));
    return (vf)(r | (h & 0x8000) << 16);
}
AI void vf16_store_bits(uint16_t *p, vf a)
{
    vi bits = (vi)a, rest = bits & 0x7fffffff, fraction = (rest & 0x7fffff) >> 13;
    vi nan = 0x7c00 + fraction - (vi)(fraction == 0);
    vi special = viselect((vi)(rest > 0x7f800000), nan, viset(0x7c00));
    vi small = (vi)((vf)rest + (vf)viset(126 << 23)) - (126 << 23);
    vi normal = (rest - (112 << 23) + 0xfff + ((rest >> 13) & 1)) >> 13;
    vi r = viselect((vi)(rest >= (143 << 23)), special, viselect((vi)(rest < (113 << 23)), small, normal));
    vhalf_store(p, r | ((bits >> 16) & 0x8000));
}

/* float16 by an instruction, where there is one: HALF_QUIETS says so, and that signalling NaNs come out quiet */
#define HALF_QUIETS 1
#if LANES == 16
AI vf vf16_load(const uint16_t *p) { return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
AI void vf16_store(uint16_t *p, vf a) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)a, _MM_FROUND_TO_NEAREST_INT)); }
#elif LANES == 8 && defined(__F16C__)
AI vf vf16_load(const uint16_t *p) { return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
AI void vf16_store(uint16_t *p, vf a) { _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)a, _MM_FROUND_TO_NEAREST_INT)); }
#elif defined(__aarch64__)
/* by name: what gcc makes of a conversion of vectors goes lane by lane */
AI vf vf16_load(const uint16_t *p) { return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
AI void vf16_store(uint16_t *p, vf a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)a))); }
#else
#  undef HALF_QUIETS
#  define HALF_QUIETS 0
AI vf vf16_load(const uint16_t *p) { return vf16_load_bits(p); }
AI void vf16_store(uint16_t *p, vf a) { vf16_store_bits(p, a); }
#endif
#endif
