/* Registers of bytes, for what takes bytes one by one: 4 * LANES of them, beside the registers of float of simd.h; and blocks of
 * 16 bytes a row, which all instruction sets transpose alike.
 *
 * Bytes become numbers, and numbers bytes, in one of two orders: that of memory where the other side is floats, else one of the
 * instruction set's own, which the way back undoes: what unpacks and packs by halves of 16 bytes needs no permutation. */
#ifndef CNNENGINE_QBYTES_H
#define CNNENGINE_QBYTES_H
#include "qsimd.h"

typedef uint8_t vb __attribute__((vector_size(VBYTES), aligned(1), may_alias));
typedef uint8_t b16 __attribute__((vector_size(16), aligned(1), may_alias));

AI vb vb_load(const uint8_t *p) { return *(const vb *)p; }
AI void vb_store(uint8_t *p, vb v) { *(vb *)p = v; }
AI vb vb_set(int a) { vb z = {0}; return z + (uint8_t)a; }
AI vb vb_xor(vb a, vb b) { return a ^ b; }
AI b16 b16_load(const uint8_t *p) { return *(const b16 *)p; }
AI void b16_store(uint8_t *p, b16 v) { *(b16 *)p = v; }
AI b16 b16_set(int a) { b16 z = {0}; return z + (uint8_t)a; }
AI b16 b16_part(const uint8_t *p, size_t n) { b16 v = {0}; memcpy(&v, p, n); return v; }
AI void b16_store_part(uint8_t *p, b16 v, size_t n) { memcpy(p, &v, n); }

/* a0 b0 a1 b1 ... of the lower and of the upper halves */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#  define B16_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#  define B16_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (b16){__VA_ARGS__})
#endif
AI b16 b16_zip_lo(b16 a, b16 b) { return B16_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); }
AI b16 b16_zip_hi(b16 a, b16 b) { return B16_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31); }
/* r[0 .. rows) as one run of bytes whose halves are interleaved, `times` times: the highest bit of a place becomes its lowest */
AI void b16_shuffle(b16 *r, int rows, int times)
{
    for (int s = 0; s < times; s++) {
        b16 t[16];
        for (int i = 0; i < rows / 2; i++) {
            t[2 * i] = b16_zip_lo(r[i], r[i + rows / 2]);
            t[2 * i + 1] = b16_zip_hi(r[i], r[i + rows / 2]);
        }
        for (int i = 0; i < rows; i++)
            r[i] = t[i];
    }
}

/* byte i is byte order[i] of a, for orders below 16, and 0 where the order's highest bit is set */
AI b16 b16_pick(b16 a, b16 order)
{
#if defined(__SSSE3__)
    return (b16)_mm_shuffle_epi8((__m128i)a, (__m128i)order);
#elif defined(__aarch64__)
    return (b16)vqtbl1q_u8((uint8x16_t)a, (uint8x16_t)order);
#else
    b16 r;
    for (int i = 0; i < 16; i++)
        r[i] = order[i] & 128 ? 0 : a[order[i] & 15];
    return r;
#endif
}
AI b16 b16_or(b16 a, b16 b) { return a | b; }
AI b16 b16_and(b16 a, b16 b) { return a & b; }

/* ---- numbers in the order of memory ---- */

/* 4 * LANES numbers of 0 to 255 as bytes */
AI vb vb_join(const vi *r)
{
#if LANES == 16
    const __m512i words0 = _mm512_packs_epi32((__m512i)r[0], (__m512i)r[1]), words1 = _mm512_packs_epi32((__m512i)r[2], (__m512i)r[3]);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return (vb)_mm512_permutexvar_epi32(order, _mm512_packus_epi16(words0, words1));
#elif LANES == 8
    const __m256i words0 = _mm256_packs_epi32((__m256i)r[0], (__m256i)r[1]), words1 = _mm256_packs_epi32((__m256i)r[2], (__m256i)r[3]);
    return (vb)_mm256_permutevar8x32_epi32(_mm256_packus_epi16(words0, words1), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
#elif defined(__SSE2__)
    return (vb)_mm_packus_epi16(_mm_packs_epi32((__m128i)r[0], (__m128i)r[1]), _mm_packs_epi32((__m128i)r[2], (__m128i)r[3]));
#elif defined(__aarch64__)
    const uint16x8_t words0 = vcombine_u16(vmovn_u32((uint32x4_t)r[0]), vmovn_u32((uint32x4_t)r[1]));
    const uint16x8_t words1 = vcombine_u16(vmovn_u32((uint32x4_t)r[2]), vmovn_u32((uint32x4_t)r[3]));
    return (vb)vcombine_u8(vmovn_u16(words0), vmovn_u16(words1));
#else
    vb v;
    for (int i = 0; i < 4 * LANES; i++)
        v[i] = (uint8_t)r[i / LANES][i % LANES];
    return v;
#endif
}

/* ---- numbers in an order of their own ---- */

/* 4 * LANES bytes as floats, less a whole number of at most 2^20 */
AI void vb_less(vb v, float zero, vf *r)
{
#if defined(__SSE2__)
    /* 2^23 and a byte in one float, from which one subtraction takes 2^23 and the number, exactly */
    const vf less = vset(8388608.0f + zero);
#  if LANES == 16
#    define UNPACK(kind, a, b) _mm512_unpack##kind((__m512i)(a), b)
    const __m512i none = _mm512_setzero_si512(), high = _mm512_set1_epi16(0x4b00);
#  elif LANES == 8
#    define UNPACK(kind, a, b) _mm256_unpack##kind((__m256i)(a), b)
    const __m256i none = _mm256_setzero_si256(), high = _mm256_set1_epi16(0x4b00);
#  else
#    define UNPACK(kind, a, b) _mm_unpack##kind((__m128i)(a), b)
    const __m128i none = _mm_setzero_si128(), high = _mm_set1_epi16(0x4b00);
#  endif
    r[0] = (vf)UNPACK(lo_epi16, UNPACK(lo_epi8, v, none), high) - less;
    r[1] = (vf)UNPACK(hi_epi16, UNPACK(lo_epi8, v, none), high) - less;
    r[2] = (vf)UNPACK(lo_epi16, UNPACK(hi_epi8, v, none), high) - less;
    r[3] = (vf)UNPACK(hi_epi16, UNPACK(hi_epi8, v, none), high) - less;
#  undef UNPACK
#else
    uint8_t t[4 * LANES];
    vb_store(t, v);
    for (int i = 0; i < 4; i++)
        r[i] = vbytes(t + i * LANES) - vset(zero);
#endif
}
/* what vb_less makes, each number rounded (halves to even), with a whole number of -32768 to 32767 added, as bytes of 0 to 255; for
 * numbers of at most 2^30 */
AI vb vb_rounded(const vf *r, int add)
{
#if LANES == 16
    const __m512i zero = _mm512_set1_epi16((short)add);
    const __m512i words0 = _mm512_packs_epi32(_mm512_cvtps_epi32((__m512)r[0]), _mm512_cvtps_epi32((__m512)r[1]));
    const __m512i words1 = _mm512_packs_epi32(_mm512_cvtps_epi32((__m512)r[2]), _mm512_cvtps_epi32((__m512)r[3]));
    return (vb)_mm512_packus_epi16(_mm512_adds_epi16(words0, zero), _mm512_adds_epi16(words1, zero));
#elif LANES == 8
    const __m256i zero = _mm256_set1_epi16((short)add);
    const __m256i words0 = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)r[0]), _mm256_cvtps_epi32((__m256)r[1]));
    const __m256i words1 = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)r[2]), _mm256_cvtps_epi32((__m256)r[3]));
    return (vb)_mm256_packus_epi16(_mm256_adds_epi16(words0, zero), _mm256_adds_epi16(words1, zero));
#elif defined(__SSE2__)
    const __m128i zero = _mm_set1_epi16((short)add);
    const __m128i words0 = _mm_packs_epi32(_mm_cvtps_epi32((__m128)r[0]), _mm_cvtps_epi32((__m128)r[1]));
    const __m128i words1 = _mm_packs_epi32(_mm_cvtps_epi32((__m128)r[2]), _mm_cvtps_epi32((__m128)r[3]));
    return (vb)_mm_packus_epi16(_mm_adds_epi16(words0, zero), _mm_adds_epi16(words1, zero));
#elif defined(__aarch64__)
    const int16x8_t zero = vdupq_n_s16((int16_t)add);
    const int16x8_t words0 = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32((float32x4_t)r[0])), vqmovn_s32(vcvtnq_s32_f32((float32x4_t)r[1])));
    const int16x8_t words1 = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32((float32x4_t)r[2])), vqmovn_s32(vcvtnq_s32_f32((float32x4_t)r[3])));
    return (vb)vcombine_u8(vqmovun_s16(vqaddq_s16(words0, zero)), vqmovun_s16(vqaddq_s16(words1, zero)));
#else
    vb v;
    for (int i = 0; i < 4 * LANES; i++) {
        long t = lrintf(r[i / LANES][i % LANES]) + add;
        v[i] = (uint8_t)(t < 0 ? 0 : t > 255 ? 255 : t);
    }
    return v;
#endif
}
AI vb vb_between(vb v, vb low, vb high)
{
#if LANES == 16
    return (vb)_mm512_min_epu8(_mm512_max_epu8((__m512i)v, (__m512i)low), (__m512i)high);
#elif LANES == 8
    return (vb)_mm256_min_epu8(_mm256_max_epu8((__m256i)v, (__m256i)low), (__m256i)high);
#elif defined(__SSE2__)
    return (vb)_mm_min_epu8(_mm_max_epu8((__m128i)v, (__m128i)low), (__m128i)high);
#else
    vb above = (vb)(v > low);
    v = (v & above) | (low & ~above);
    above = (vb)(v > high);
    return (high & above) | (v & ~above);
#endif
}

/* ---- tables of 256 ---- */

/* Where an instruction looks up 16 bytes, entry by entry of 16 of them: a byte less 16 * k has its highest bit clear, and so picks an
 * entry, for all k up to its own. Each table is what differs from the one before, so that those entries together are the right one.
 * The bytes of 128 and more are negative: they pick nothing here, and with their highest bit flipped from tables of their own. */
typedef struct {
    uint8_t differences[256];
    const uint8_t *table;
} bytes_table;

AI void table_start(bytes_table *t, const uint8_t *table)
{
    t->table = table;
#if defined(__AVX2__)
    memcpy(t->differences, table, 256);
    for (int half = 0; half < 256; half += 128)
        for (int i = half + 16; i < half + 128; i++)
            t->differences[i] = table[i] ^ table[i - 16];
#endif
}
#if defined(__AVX2__)
#  define TABLE_REGISTERS 4
#elif defined(__aarch64__)
#  define TABLE_REGISTERS 1
#else
#  define TABLE_REGISTERS 0 /* byte by byte */
#endif
/* y[i] = table[x[i]] for TABLE_REGISTERS registers of bytes */
AI void table_apply(const bytes_table *t, const uint8_t *x, uint8_t *y)
{
#if defined(__AVX2__)
    vb found[TABLE_REGISTERS], at[TABLE_REGISTERS];
    const vb step = vb_set(16), top = vb_set(128);
    for (int i = 0; i < TABLE_REGISTERS; i++)
        at[i] = vb_load(x + i * VBYTES), found[i] = vb_set(0);
    for (int half = 0; half < 2; half++) {
        for (int k = 0; k < 8; k++) {
            const __m128i entries = _mm_loadu_si128((const __m128i *)(t->differences + 128 * half + 16 * k));
            for (int i = 0; i < TABLE_REGISTERS; i++) {
#  if LANES == 16
                found[i] ^= (vb)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), (__m512i)at[i]);
                at[i] = (vb)_mm512_subs_epi8((__m512i)at[i], (__m512i)step);
#  else
                found[i] ^= (vb)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), (__m256i)at[i]);
                at[i] = (vb)_mm256_subs_epi8((__m256i)at[i], (__m256i)step);
#  endif
            }
        }
        for (int i = 0; i < TABLE_REGISTERS; i++)
            at[i] = vb_load(x + i * VBYTES) ^ top;
    }
    for (int i = 0; i < TABLE_REGISTERS; i++)
        vb_store(y + i * VBYTES, found[i]);
#elif defined(__aarch64__)
    const uint8x16_t at = vld1q_u8(x);
    uint8x16_t found = vqtbl4q_u8(vld1q_u8_x4(t->table), at);
    found = vqtbx4q_u8(found, vld1q_u8_x4(t->table + 64), vsubq_u8(at, vdupq_n_u8(64)));
    found = vqtbx4q_u8(found, vld1q_u8_x4(t->table + 128), vsubq_u8(at, vdupq_n_u8(128)));
    vst1q_u8(y, vqtbx4q_u8(found, vld1q_u8_x4(t->table + 192), vsubq_u8(at, vdupq_n_u8(192))));
#endif
}
#endif
