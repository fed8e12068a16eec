/* Winograd's transform of weights, vectorised over output channels by the compiler's vector extensions. */
#ifndef CNNENGINE_PACK_H
#define CNNENGINE_PACK_H

#include <stddef.h>
#include <string.h>

/* 8 doubles: the compiler splits them into the registers that the baseline has */
typedef double vd8 __attribute__((vector_size(64)));
typedef float vf8 __attribute__((vector_size(32)));

#define TO_DOUBLE(x) __builtin_convertvector(x, vd8)
#define TO_FLOAT(x) __builtin_convertvector(x, vf8)

/* G times three values (Lavin and Gray, arXiv:1509.09308) */
static inline void transform_three(const vd8 *a, const vd8 *b, const vd8 *c, vd8 *u, int step)
{
    vd8 even = *a + *c, quarter = *a + 4 * *c;
    u[0] = *a * 0.25;
    u[step] = -(even + *b) * (1.0 / 6);
    u[2 * step] = -(even - *b) * (1.0 / 6);
    u[3 * step] = (quarter + 2 * *b) * (1.0 / 24);
    u[4 * step] = (quarter - 2 * *b) * (1.0 / 24);
    u[5 * step] = *c;
}

/* `count` kernels of nine taps, a constant number up to 8, to elements of G g G^T */
static inline __attribute__((always_inline)) void transform_some(const float *g, ptrdiff_t width, float *u, ptrdiff_t size, int count)
{
    vd8 taps[9], half[18], whole[6];
    for (int i = 0; i < 9; i++) {
        vf8 x = {0};
        memcpy(&x, g + i * width, count * sizeof(float));
        taps[i] = TO_DOUBLE(x);
    }
    for (int i = 0; i < 3; i++)
        transform_three(taps + i, taps + 3 + i, taps + 6 + i, half + i, 3);
    for (int i = 0; i < 6; i++) {
        transform_three(half + 3 * i, half + 3 * i + 1, half + 3 * i + 2, whole, 1);
        for (int j = 0; j < 6; j++) {
            vf8 y = TO_FLOAT(whole[j]);
            memcpy(u + (6 * i + j) * size, &y, count * sizeof(float));
        }
    }
}

/* `width` (a multiple of 8, or 4) kernels of nine taps, [tap][width], to elements of G g G^T, `size` floats apart */
static void transform_panel(const float *g, float *u, ptrdiff_t size, ptrdiff_t width)
{
    ptrdiff_t at = 0;
    for (; at + 8 <= width; at += 8)
        transform_some(g + at, width, u + at, size, 8);
    if (at < width)
        transform_some(g + at, width, u + at, size, 4);
}

#endif
