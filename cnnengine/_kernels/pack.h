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

/* The points above zero that elements stand for, their negatives following them; zero is first, infinity last (tiles/conv.pyx) */
static const double POINTS4[] = {1}, POINTS6[] = {1, 2}, POINTS8[] = {1, 2, 0.5}, POINTS10[] = {0.75, 1.25, 2, 0.375};

/* Three taps at stride 2: the outer two at the points 0, 1, -1, 2 and infinity, and the one in the middle */
static inline __attribute__((always_inline)) void transform_halves(const vd8 *g, int from, vd8 *u, int step)
{
    u[0] = g[0] * 0.5;
    u[step] = (g[0] + g[2 * from]) * -0.5;
    u[2 * step] = (g[0] - g[2 * from]) * (-1.0 / 6);
    u[3 * step] = (g[0] + 2 * g[2 * from]) * (1.0 / 6);
    u[4 * step] = g[2 * from];
    u[5 * step] = g[from];
}

/* G times `taps` values, `from` apart, to `elements`, `step` apart: powers of each point over its distances to the others (Lavin and
 * Gray, arXiv:1509.09308); one value stays. All numbers but the values are constants of the inlined function. */
static inline __attribute__((always_inline)) void transform_taps(const vd8 *g, int taps, int from, vd8 *u, int elements, int stride,
                                                                 int step)
{
    if (stride == 2) {
        transform_halves(g, from, u, step);
        return;
    }
    if (taps == 1) {
        u[0] = g[0];
        return;
    }
    const double *points = elements == 4 ? POINTS4 : elements == 6 ? POINTS6 : elements == 8 ? POINTS8 : POINTS10;
    const int pairs = elements / 2 - 1;
    double zero = 1;
    for (int i = 0; i < pairs; i++)
        zero *= -points[i] * points[i];
    u[0] = g[0] * (1 / zero);
    for (int i = 0; i < pairs; i++) {
        const double p = points[i], square = p * p;
        double scale = 2 * square;
        for (int j = 0; j < pairs; j++)
            if (j != i)
                scale *= square - points[j] * points[j];
        vd8 even = g[(taps - 1) * from], odd = g[(taps - 2) * from];
        for (int k = taps - 3; k >= 0; k -= 2)
            even = even * square + g[k * from];
        for (int k = taps - 4; k >= 0; k -= 2)
            odd = odd * square + g[k * from];
        u[(2 * i + 1) * step] = (even + odd * p) * (1 / scale);
        u[(2 * i + 2) * step] = (even - odd * p) * (1 / scale);
    }
    u[(elements - 1) * step] = g[(taps - 1) * from];
}

/* `count` kernels of kh x kw taps, a constant number up to 8, to elements of G g G^T */
static inline __attribute__((always_inline)) void transform_some(const float *g, int kh, int kw, int high, int wide, int stride,
                                                                 ptrdiff_t width, float *u, ptrdiff_t size, int count)
{
    vd8 taps[25], half[30], whole[10];
    for (int i = 0; i < kh * kw; i++) {
        vf8 x = {0};
        memcpy(&x, g + i * width, count * sizeof(float));
        taps[i] = TO_DOUBLE(x);
    }
    for (int i = 0; i < kw; i++)
        transform_taps(taps + i, kh, kw, half + i, high, stride, kw);
    for (int i = 0; i < high; i++) {
        transform_taps(half + kw * i, kw, 1, whole, wide, stride, 1);
        for (int j = 0; j < wide; j++) {
            vf8 y = TO_FLOAT(whole[j]);
            memcpy(u + (wide * i + j) * size, &y, count * sizeof(float));
        }
    }
}

static inline __attribute__((always_inline)) void transform_kernels(const float *g, int kh, int kw, int high, int wide, int stride,
                                                                    float *u, ptrdiff_t size, ptrdiff_t width)
{
    ptrdiff_t at = 0;
    for (; at + 8 <= width; at += 8)
        transform_some(g + at, kh, kw, high, wide, stride, width, u + at, size, 8);
    if (at < width)
        transform_some(g + at, kh, kw, high, wide, stride, width, u + at, size, 4);
}

/* `width` (a multiple of 8, or 4) kernels of kh x kw taps, [tap][width], to high x wide elements of G g G^T, `size` floats apart */
static void transform_panel(const float *g, int kh, int kw, int high, int wide, int stride, float *u, ptrdiff_t size, ptrdiff_t width)
{
    if (stride == 2)
        transform_kernels(g, 3, 3, 6, 6, 2, u, size, width);
    else if (high == 4)
        transform_kernels(g, 3, 3, 4, 4, 1, u, size, width);
    else if (kh == 3 && kw == 3)
        transform_kernels(g, 3, 3, 6, 6, 1, u, size, width);
    else if (kh == 5 && kw == 5)
        transform_kernels(g, 5, 5, 6, 6, 1, u, size, width);
    else if (kw == 3)
        transform_kernels(g, 1, 3, 1, 6, 1, u, size, width);
    else if (kw == 5)
        transform_kernels(g, 1, 5, 1, 8, 1, u, size, width);
    else if (kw == 7)
        transform_kernels(g, 1, 7, 1, 10, 1, u, size, width);
    else if (kh == 3)
        transform_kernels(g, 3, 1, 6, 1, 1, u, size, width);
    else if (kh == 5)
        transform_kernels(g, 5, 1, 8, 1, 1, u, size, width);
    else
        transform_kernels(g, 7, 1, 10, 1, 1, u, size, width);
}

#endif
