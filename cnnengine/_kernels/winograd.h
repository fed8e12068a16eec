/* Winograd's transform of weights and back (tiles/winograd.pyx says of which forms), in double, vectorised over output channels by
 * the compiler's vector extensions. */
#ifndef CNNENGINE_WINOGRAD_H
#define CNNENGINE_WINOGRAD_H

#include <math.h>
#include <stddef.h>
#include <string.h>

/* 8 doubles: the compiler splits them into the registers that the baseline has */
typedef double vd8 __attribute__((vector_size(64)));
typedef float vf8 __attribute__((vector_size(32)));

#define TO_DOUBLE(x) __builtin_convertvector(x, vd8)
#define TO_FLOAT(x) __builtin_convertvector(x, vf8)

/* The points above zero that elements stand for, their negatives following them; zero is first, infinity last (tiles/winograd.pyx) */
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

/* One kernel of kh x kw taps, `apart` floats apart, for `count` outputs, a constant number up to 8, to elements of G g G^T */
static inline __attribute__((always_inline)) void transform_some(const float *g, int kh, int kw, int high, int wide, int stride,
                                                                 ptrdiff_t apart, float *u, ptrdiff_t size, int count)
{
    vd8 taps[25], half[30], whole[10];
    for (int i = 0; i < kh * kw; i++) {
        vf8 x = {0};
        memcpy(&x, g + i * apart, count * sizeof(float));
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

/* One kernel for `width` outputs (a multiple of 8, or 4) to high x wide elements, `size` floats apart. All numbers but the distances are
 * constants where this is inlined: both loops become straight code. */
static inline __attribute__((always_inline)) void transform_kernel(int kh, int kw, int high, int wide, int stride, const float *g,
                                                                   ptrdiff_t apart, float *u, ptrdiff_t size, ptrdiff_t width)
{
    ptrdiff_t at = 0;
    for (; at + 8 <= width; at += 8)
        transform_some(g + at, kh, kw, high, wide, stride, apart, u + at, size, 8);
    if (at < width)
        transform_some(g + at, kh, kw, high, wide, stride, apart, u + at, size, 4);
}

/* From elements, `from` apart, back to the taps that they were made of, `step` apart. Taps at the ends are elements times powers of
 * two: exact. The values at a point and its negative give those of the odd and of the even powers apart, polynomials of its square,
 * which Newton's differences turn into taps. */
static inline __attribute__((always_inline)) void restore_taps(const vd8 *u, int elements, int from, vd8 *g, int taps, int stride,
                                                               int step)
{
    if (stride == 2) {
        g[0] = u[0] * 2;
        g[step] = u[5 * from];
        g[2 * step] = u[4 * from];
        return;
    }
    if (taps == 1) {
        g[0] = u[0];
        return;
    }
    const double *points = elements == 4 ? POINTS4 : elements == 6 ? POINTS6 : elements == 8 ? POINTS8 : POINTS10;
    const int pairs = elements / 2 - 1, half = taps / 2;
    double zero = 1;
    for (int i = 0; i < pairs; i++)
        zero *= -points[i] * points[i];
    const vd8 first = u[0] * zero, last = u[(elements - 1) * from];
    vd8 odd[3], even[3];
    for (int i = 0; i < half; i++) {
        const double p = points[i], square = p * p;
        double scale = square, power = 1;
        for (int j = 0; j < pairs; j++)
            if (j != i)
                scale *= square - points[j] * points[j];
        for (int j = 0; j < half; j++)
            power *= square;
        const vd8 a = u[(2 * i + 1) * from], b = u[(2 * i + 2) * from];
        odd[i] = (a - b) * (scale / p);
        even[i] = ((a + b) * scale - first - last * power) * (1 / square);
    }
    for (int part = 0; part < 2; part++) {
        vd8 *v = part ? even : odd;
        const int count = part ? half - 1 : half;
        for (int k = 1; k < count; k++)
            for (int i = count - 1; i >= k; i--)
                v[i] = (v[i] - v[i - 1]) * (1 / (points[i] * points[i] - points[i - k] * points[i - k]));
        for (int k = count - 2; k >= 0; k--)
            for (int i = k; i < count - 1; i++)
                v[i] = v[i] - v[i + 1] * (points[k] * points[k]);
        for (int i = 0; i < count; i++)
            g[(2 * i + 1 + part) * step] = v[i];
    }
    g[0] = first;
    g[(taps - 1) * step] = last;
}

/* What restored taps may not show: bit k of a mark is set where channel k's tap is negative, bit `marked` + k where it is not zero */
/* Weights from here on are not transformed: the products of their elements may overflow where theirs do not */
#define LARGEST_WEIGHT 1e30f

/* Marks [tap][width] of up to `marked` kernels [kernel][tap][width]; whether any tap is too large or not finite */
static inline int mark_kernels(const float *g, int taps, ptrdiff_t width, ptrdiff_t count, unsigned *marks, int marked)
{
    int bad = 0;
    memset(marks, 0, taps * width * sizeof(unsigned));
    for (ptrdiff_t k = 0; k < count; k++)
        for (int t = 0; t < taps; t++)
            for (ptrdiff_t i = 0; i < width; i++) {
                const float x = g[(k * taps + t) * width + i];
                bad |= !(fabsf(x) < LARGEST_WEIGHT);
                marks[t * width + i] |= ((x < 0) | (unsigned)(x != 0) << marked) << k;
            }
    return bad;
}

/* One kernel's taps for `count` outputs, a constant number up to 8; `apart` floats between taps */
static inline __attribute__((always_inline)) void restore_some(const float *u, int kh, int kw, int high, int wide, int stride,
                                                               ptrdiff_t size, const unsigned *marks, ptrdiff_t width, int marked, int bit,
                                                               float *g, ptrdiff_t apart, int count)
{
    vd8 whole[10], half[30], taps[25];
    for (int i = 0; i < high; i++) {
        for (int j = 0; j < wide; j++) {
            vf8 x = {0};
            memcpy(&x, u + (wide * i + j) * size, count * sizeof(float));
            whole[j] = TO_DOUBLE(x);
        }
        restore_taps(whole, wide, 1, half + kw * i, kw, stride, 1);
    }
    for (int i = 0; i < kw; i++)
        restore_taps(half + i, high, kw, taps + i, kh, stride, kw);
    for (int t = 0; t < kh * kw; t++) {
        float x[8];
        const vf8 made = TO_FLOAT(taps[t]);
        memcpy(x, &made, sizeof x);
        for (int i = 0; i < count; i++) {
            /* a tap that rounding made zero or turned over is as small as that: the smallest of its sign does as well */
            const unsigned mark = marks[t * width + i] >> bit;
            const float sign = mark & 1 ? -1.0f : 1.0f, size = x[i] * sign, value = size > 1e-30f ? size : 1e-30f;
            g[t * apart + i] = mark >> marked & 1 ? value * sign : 0.0f;
        }
    }
}

/* One kernel of a panel, of elements `size` floats apart, back to taps `apart` floats apart; it is `bit` of the marks */
static inline __attribute__((always_inline)) void restore_kernel(int kh, int kw, int high, int wide, int stride, const float *u,
                                                                 ptrdiff_t size, ptrdiff_t width, const unsigned *marks, int marked, int bit,
                                                                 float *g, ptrdiff_t apart)
{
    ptrdiff_t at = 0;
    for (; at + 8 <= width; at += 8)
        restore_some(u + at, kh, kw, high, wide, stride, size, marks + at, width, marked, bit, g + at, apart, 8);
    if (at < width)
        restore_some(u + at, kh, kw, high, wide, stride, size, marks + at, width, marked, bit, g + at, apart, 4);
}

#endif
