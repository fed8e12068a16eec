/* Products of pairs of bfloat16 numbers, summed in float32: registers of LANES words of 32 bits, two numbers of neighbouring channels
 * each, the first one in the lower half.
 *
 * AVX512_BF16 and NEON have an instruction that adds both products of a word to its lane. Elsewhere, for tests on processors that lack
 * it, a word is widened by a shift and a mask, and the products are added one after another in the order of the x86 instruction, the
 * upper one first; a product of two such numbers is exact in float32. The instructions take numbers below the least normal one for
 * zeros, and that of NEON rounds a sum of two products in its own way. */
#ifndef CNNENGINE_BSIMD_H
#define CNNENGINE_BSIMD_H
#include "half.h"
#if defined(__aarch64__)
#  include <arm_neon.h>
#endif

#if defined(__AVX512BF16__) && LANES == 16
AI vf vpairs(vf sums, vi x, vi w) { return (vf)_mm512_dpbf16_ps((__m512)sums, (__m512bh)x, (__m512bh)w); }
AI void vbf16_round(uint16_t *p, vf a) { __m256bh h = _mm512_cvtneps_pbh((__m512)a); memcpy(p, &h, 32); }
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
/* the instruction takes one word of x for all lanes: to spread it takes a turn of the products' own ports */
#  define PAIR_OF_ONE
AI vf vpairs(vf sums, vi x, vi w) { return (vf)vbfdotq_laneq_f32((float32x4_t)sums, (bfloat16x8_t)w, (bfloat16x8_t)x, 0); }
AI void vbf16_round(uint16_t *p, vf a) { bfloat16x4_t h = vcvt_bf16_f32((float32x4_t)a); memcpy(p, &h, 8); }
#else
AI vf vpairs(vf sums, vi x, vi w)
{
    sums = sums + (vf)(x & (int32_t)0xffff0000) * (vf)(w & (int32_t)0xffff0000);
    return sums + (vf)(x << 16) * (vf)(w << 16);
}
AI void vbf16_round(uint16_t *p, vf a) { vbf16_store(p, a); }
#endif
/* a word of x, for products with the weights of every lane */
#ifdef PAIR_OF_ONE
/* written out: compilers clear the register first */
AI vi vpair(const char *p) { vi v; __asm__("ldr %s0, %1" : "=w"(v) : "m"(*(const int32_t(*)[1])p)); return v; }
#else
AI vi vpair(const char *p) { int32_t t; memcpy(&t, p, 4); return viset(t); }
#endif
AI vi vpairs_load(const char *p) { vi v; memcpy(&v, p, VBYTES); return v; }
#if defined(__AVX512F__)
AI vi vi_placed(vi v) { __asm__ volatile("" : "+v"(v)); return v; }
#elif defined(__x86_64__)
AI vi vi_placed(vi v) { __asm__ volatile("" : "+x"(v)); return v; }
#elif defined(__aarch64__)
AI vi vi_placed(vi v) { __asm__ volatile("" : "+w"(v)); return v; }
#else
AI vi vi_placed(vi v) { return v; }
#endif
#endif
