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

/* G times `taps` values, `from` apart, to `elements`, `step` apart (Lavin and Gray, arXiv:1509.09308): 3 or 5 to 6 (points 0, 1, -1,
 * 2, -2 and infinity), 3 to 4 (without 2 and -2), 1 to 1 */
static inline __attribute__((always_inline)) void transform_taps(const vd8 *g, int taps, int from, vd8 *u, int elements, int step)
{
    if (taps == 1) {
        u[0] = g[0];
        return;
    }
    vd8 even = g[0] + g[2 * from], odd = g[from], far_even = g[0] + 4 * g[2 * from], far_odd = 2 * g[from];
    if (elements == 4) {
        u[0] = g[0];
        u[step] = (even + odd) * 0.5;
        u[2 * step] = (even - odd) * 0.5;
        u[3 * step] = g[2 * from];
        return;
    }
    if (taps == 5) {
        even += g[4 * from];
        odd += g[3 * from];
        far_even += 16 * g[4 * from];
        far_odd += 8 * g[3 * from];
    }
    u[0] = g[0] * 0.25;
    u[step] = -(even + odd) * (1.0 / 6);
    u[2 * step] = -(even - odd) * (1.0 / 6);
    u[3 * step] = (far_even + far_odd) * (1.0 / 24);
    u[4 * step] = (far_even - far_odd) * (1.0 / 24);
    u[5 * step] = g[(taps - 1) * from];
}

/* `count` kernels of kh x kw taps, a constant number up to 8, to elements of G g G^T */
static inline __attribute__((always_inline)) void transform_some(const float *g, int kh, int kw, int high, int wide, ptrdiff_t width,
                                                                 float *u, ptrdiff_t size, int count)
{
    vd8 taps[25], half[30], whole[6];
    for (int i = 0; i < kh * kw; i++) {
        vf8 x = {0};
        memcpy(&x, g + i * width, count * sizeof(float));
        taps[i] = TO_DOUBLE(x);
    }
    for (int i = 0; i < kw; i++)
        transform_taps(taps + i, kh, kw, half + i, high, kw);
    for (int i = 0; i < high; i++) {
        transform_taps(half + kw * i, kw, 1, whole, wide, 1);
        for (int j = 0; j < wide; j++) {
            vf8 y = TO_FLOAT(whole[j]);
            memcpy(u + (wide * i + j) * size, &y, count * sizeof(float));
        }
    }
}

static inline __attribute__((always_inline)) void transform_kernels(const float *g, int kh, int kw, int high, int wide, float *u,
                                                                    ptrdiff_t size, ptrdiff_t width)
{
    ptrdiff_t at = 0;
    for (; at + 8 <= width; at += 8)
        transform_some(g + at, kh, kw, high, wide, width, u + at, size, 8);
    if (at < width)
        transform_some(g + at, kh, kw, high, wide, width, u + at, size, 4);
}

/* `width` (a multiple of 8, or 4) kernels of kh x kw taps, [tap][width], to high x wide elements of G g G^T, `size` floats apart */
static void transform_panel(const float *g, int kh, int kw, int high, int wide, float *u, ptrdiff_t size, ptrdiff_t width)
{
    if (high == 4)
        transform_kernels(g, 3, 3, 4, 4, u, size, width);
    else if (kh == 3 && kw == 3)
        transform_kernels(g, 3, 3, 6, 6, u, size, width);
    else if (kh == 5 && kw == 5)
        transform_kernels(g, 5, 5, 6, 6, u, size, width);
    else if (kh == 1 && kw == 3)
        transform_kernels(g, 1, 3, 1, 6, u, size, width);
    else if (kh == 1)
        transform_kernels(g, 1, 5, 1, 6, u, size, width);
    else if (kh == 3)
        transform_kernels(g, 3, 1, 6, 1, u, size, width);
    else
        transform_kernels(g, 5, 1, 6, 1, u, size, width);
}

#endif
