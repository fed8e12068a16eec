/* The products of quantised convolutions with 16 registers of eight lanes, written out.
 *
 * Twelve sums, two weights, a word of x and a product are all registers that there are. Left to itself, gcc moves sums to the stack
 * and back between the steps; so what a tap does to a tile is one statement, and sums have registers of their own throughout. */
#ifndef CNNENGINE_QDOT_AVX2_H
#define CNNENGINE_QDOT_AVX2_H
#include <stddef.h>
#include "simd.h"

/* weights of word k for two blocks, for one; a pixel's word k in every lane, its products with them added to sums a and b */
#define Q_WEIGHTS2(k) "vmovdqu 64*" #k "(%[w]), %%ymm12\n\tvmovdqu 64*" #k "+32(%[w]), %%ymm13\n\t"
#define Q_WEIGHTS1(k) "vmovdqu 32*" #k "(%[w]), %%ymm12\n\t"
#define Q_PIXEL1(k, at, a)                            \
    "vpbroadcastd 4*" #k at ", %%ymm14\n\t"           \
    "vpmaddwd %%ymm12, %%ymm14, %%ymm15\n\t"          \
    "vpaddd %%ymm15, %[" #a "], %[" #a "]\n\t"
#define Q_PIXEL2(k, at, a, b)                         \
    Q_PIXEL1(k, at, a)                                \
    "vpmaddwd %%ymm13, %%ymm14, %%ymm14\n\t"          \
    "vpaddd %%ymm14, %[" #b "], %[" #b "]\n\t"

/* word k of every pixel of a tile: Q_WORD<blocks>_<pixels> */
#define Q_WORD2_1(k) Q_WEIGHTS2(k) Q_PIXEL2(k, "(%[x])", a0, b0)
#define Q_WORD2_2(k) Q_WORD2_1(k) Q_PIXEL2(k, "(%[x],%[s])", a1, b1)
#define Q_WORD2_3(k) Q_WORD2_2(k) Q_PIXEL2(k, "(%[x],%[s],2)", a2, b2)
#define Q_WORD2_4(k) Q_WORD2_3(k) Q_PIXEL2(k, "(%[y])", a3, b3)
#define Q_WORD2_5(k) Q_WORD2_4(k) Q_PIXEL2(k, "(%[y],%[s])", a4, b4)
#define Q_WORD2_6(k) Q_WORD2_5(k) Q_PIXEL2(k, "(%[y],%[s],2)", a5, b5)
#define Q_WORD1_1(k) Q_WEIGHTS1(k) Q_PIXEL1(k, "(%[x])", a0)
#define Q_WORD1_2(k) Q_WORD1_1(k) Q_PIXEL1(k, "(%[x],%[s])", a1)
#define Q_WORD1_3(k) Q_WORD1_2(k) Q_PIXEL1(k, "(%[x],%[s],2)", a2)
#define Q_WORD1_4(k) Q_WORD1_3(k) Q_PIXEL1(k, "(%[y])", a3)
#define Q_WORD1_5(k) Q_WORD1_4(k) Q_PIXEL1(k, "(%[y],%[s])", a4)
#define Q_WORD1_6(k) Q_WORD1_5(k) Q_PIXEL1(k, "(%[y],%[s],2)", a5)
#define Q_WORD1_7(k) Q_WORD1_6(k) Q_PIXEL1(k, "(%[z])", a6)
#define Q_WORD1_8(k) Q_WORD1_7(k) Q_PIXEL1(k, "(%[z],%[s])", a7)
#define Q_WORD1_9(k) Q_WORD1_8(k) Q_PIXEL1(k, "(%[z],%[s],2)", a8)
#define Q_WORD1_10(k) Q_WORD1_9(k) Q_PIXEL1(k, "(%[z],%[t])", a9)

/* sums as operands: their names, and that they are read and written */
#define Q_SUMS2_1 [a0] "+x"(v[0]), [b0] "+x"(v[1])
#define Q_SUMS2_2 Q_SUMS2_1, [a1] "+x"(v[2]), [b1] "+x"(v[3])
#define Q_SUMS2_3 Q_SUMS2_2, [a2] "+x"(v[4]), [b2] "+x"(v[5])
#define Q_SUMS2_4 Q_SUMS2_3, [a3] "+x"(v[6]), [b3] "+x"(v[7])
#define Q_SUMS2_5 Q_SUMS2_4, [a4] "+x"(v[8]), [b4] "+x"(v[9])
#define Q_SUMS2_6 Q_SUMS2_5, [a5] "+x"(v[10]), [b5] "+x"(v[11])
#define Q_SUMS1_1 [a0] "+x"(v[0])
#define Q_SUMS1_2 Q_SUMS1_1, [a1] "+x"(v[1])
#define Q_SUMS1_3 Q_SUMS1_2, [a2] "+x"(v[2])
#define Q_SUMS1_4 Q_SUMS1_3, [a3] "+x"(v[3])
#define Q_SUMS1_5 Q_SUMS1_4, [a4] "+x"(v[4])
#define Q_SUMS1_6 Q_SUMS1_5, [a5] "+x"(v[5])
#define Q_SUMS1_7 Q_SUMS1_6, [a6] "+x"(v[6])
#define Q_SUMS1_8 Q_SUMS1_7, [a7] "+x"(v[7])
#define Q_SUMS1_9 Q_SUMS1_8, [a8] "+x"(v[8])
#define Q_SUMS1_10 Q_SUMS1_9, [a9] "+x"(v[9])

#define Q_RUN(TEXT, ...)                                                                                                \
    __asm__ volatile(TEXT                                                                                               \
                     : __VA_ARGS__                                                                                      \
                     : [w] "r"(w), [x] "r"(x), [s] "r"(step) Q_MORE                                                     \
                     : "xmm12", "xmm13", "xmm14", "xmm15")
#define Q_CASE(WORD, ...)                                                   \
    do {                                                                    \
        if (words == 4)                                                     \
            Q_RUN(WORD(0) WORD(1) WORD(2) WORD(3), __VA_ARGS__);            \
        else if (words == 2)                                                \
            Q_RUN(WORD(0) WORD(1), __VA_ARGS__);                            \
        else                                                                \
            Q_RUN(WORD(0), __VA_ARGS__);                                    \
    } while (0)
/* v[pixel][block] plus the products of 4, 2 or 1 words of P pixels, `step` bytes apart, and weights that lie word after word */
AI void qdot_avx2(const int P, const int B, vi *v, const char *w, const char *x, ptrdiff_t step, const int words)
{
#define Q_MORE
    if (B == 2 && P == 1)
        Q_CASE(Q_WORD2_1, Q_SUMS2_1);
    if (B == 2 && P == 2)
        Q_CASE(Q_WORD2_2, Q_SUMS2_2);
    if (B == 2 && P == 3)
        Q_CASE(Q_WORD2_3, Q_SUMS2_3);
#undef Q_MORE
#define Q_MORE , [y] "r"(x + 3 * step)
    if (B == 2 && P == 4)
        Q_CASE(Q_WORD2_4, Q_SUMS2_4);
    if (B == 2 && P == 5)
        Q_CASE(Q_WORD2_5, Q_SUMS2_5);
    if (B == 2 && P == 6)
        Q_CASE(Q_WORD2_6, Q_SUMS2_6);
#undef Q_MORE
#define Q_MORE
    if (B == 1 && P == 1)
        Q_CASE(Q_WORD1_1, Q_SUMS1_1);
    if (B == 1 && P == 2)
        Q_CASE(Q_WORD1_2, Q_SUMS1_2);
    if (B == 1 && P == 3)
        Q_CASE(Q_WORD1_3, Q_SUMS1_3);
#undef Q_MORE
#define Q_MORE , [y] "r"(x + 3 * step)
    if (B == 1 && P == 4)
        Q_CASE(Q_WORD1_4, Q_SUMS1_4);
    if (B == 1 && P == 5)
        Q_CASE(Q_WORD1_5, Q_SUMS1_5);
    if (B == 1 && P == 6)
        Q_CASE(Q_WORD1_6, Q_SUMS1_6);
#undef Q_MORE
#define Q_MORE , [y] "r"(x + 3 * step), [z] "r"(x + 6 * step)
    if (B == 1 && P == 7)
        Q_CASE(Q_WORD1_7, Q_SUMS1_7);
    if (B == 1 && P == 8)
        Q_CASE(Q_WORD1_8, Q_SUMS1_8);
    if (B == 1 && P == 9)
        Q_CASE(Q_WORD1_9, Q_SUMS1_9);
#undef Q_MORE
#define Q_MORE , [y] "r"(x + 3 * step), [z] "r"(x + 6 * step), [t] "r"(3 * step)
    if (B == 1 && P == 10)
        Q_CASE(Q_WORD1_10, Q_SUMS1_10);
#undef Q_MORE
}
#endif
