/* Inner loops of typed.pyx that need macros over element types: two operands, positions of extremes, products. Compiled once, for the
 * baseline; loops that the compiler can turn into vector code are written without branches. */
#ifndef CNNENGINE_TYPED_H
#define CNNENGINE_TYPED_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC push_options
#  pragma GCC optimize("O3")
#endif

/* ---- two operands: y[i] = a[i * sa] op b[i * sb], sa and sb 0 or 1 ---- */
typedef void (*pair_fn)(const char *a, ptrdiff_t sa, const char *b, ptrdiff_t sb, char *y, ptrdiff_t n);
#define PAIR(NAME, T, C, R, F)                                                                                                 \
    static void NAME##_##T(const char *a_, ptrdiff_t sa, const char *b_, ptrdiff_t sb, char *y_, ptrdiff_t n)                  \
    {                                                                                                                          \
        const C *a = (const C *)a_, *b = (const C *)b_;                                                                        \
        R *y = (R *)y_;                                                                                                        \
        if (sa && sb)                                                                                                          \
            for (ptrdiff_t i = 0; i < n; i++) y[i] = (R)F(a[i], b[i]);                                                         \
        else if (sa) {                                                                                                         \
            const C v = b[0];                                                                                                  \
            for (ptrdiff_t i = 0; i < n; i++) y[i] = (R)F(a[i], v);                                                            \
        } else {                                                                                                               \
            const C u = a[0];                                                                                                  \
            for (ptrdiff_t i = 0; i < n; i++) y[i] = (R)F(u, b[i * sb]);                                                       \
        }                                                                                                                      \
    }

/* the remainder with the sign of the dividend. Of floats by a quotient in double: below 2 ** 29 its product with b is exact, and a
 * quotient that was rounded up to an integer shows by a remainder below zero. */
static inline float remainder_f4(float x, float y)
{
    const double a = fabs((double)x), b = fabs((double)y), q = a / b;
    if (!(q < 536870912.0)) /* a large quotient, a division by zero, an infinity, NaN */
        return fmodf(x, y);
    double r = a - (double)(int64_t)q * b;
    r = r < 0 ? r + b : r;
    return copysignf(b < INFINITY ? (float)r : (float)a, x);
}
static inline double remainder_f8(double x, double y) { return fmod(x, y); }
/* the remainder with the sign of the divisor, as numpy.mod has it */
#define FLOORED(T, C)                                                                                                          \
    static inline C floored_##T(C x, C y)                                                                                      \
    {                                                                                                                          \
        C r = remainder_##T(x, y);                                                                                             \
        if (r != 0)                                                                                                            \
            return (r < 0) != (y < 0) ? r + y : r;                                                                             \
        return r == r ? (y < 0 ? -(C)0 : (C)0) : r;                                                                            \
    }
FLOORED(f4, float) FLOORED(f8, double)
/* Integers: a divisor of zero never gets here. The least integer by -1 has no quotient; its remainder is 0. */
#define WHOLE_SIGNED(T, C, U)                                                                                                  \
    static inline C remainder_##T(C x, C y) { return y == -1 ? (C)0 : (C)(x % y); }                                            \
    static inline C floored_##T(C x, C y)                                                                                      \
    {                                                                                                                          \
        const C r = remainder_##T(x, y);                                                                                       \
        return r != 0 && (r < 0) != (y < 0) ? (C)(r + y) : r;                                                                  \
    }                                                                                                                          \
    static inline C quotient_##T(C x, C y) { return y == -1 ? (C)((U)0 - (U)x) : (C)(x / y); }                                 \
    static inline C shifted_right_##T(C x, C y)                                                                                        \
    {                                                                                                                          \
        return y >= 0 && y < (C)(8 * sizeof(C)) ? (C)(x >> y) : (x < 0 ? (C)-1 : (C)0);                                        \
    }                                                                                                                          \
    static inline C shifted_left_##T(C x, C y) { return y >= 0 && y < (C)(8 * sizeof(C)) ? (C)((U)x << y) : (C)0; }
#define WHOLE_UNSIGNED(T, C)                                                                                                   \
    static inline C remainder_##T(C x, C y) { return (C)(x % y); }                                                             \
    static inline C floored_##T(C x, C y) { return (C)(x % y); }                                                               \
    static inline C quotient_##T(C x, C y) { return (C)(x / y); }                                                              \
    static inline C shifted_right_##T(C x, C y) { return y < 8 * sizeof(C) ? (C)(x >> y) : (C)0; }                                     \
    static inline C shifted_left_##T(C x, C y) { return y < 8 * sizeof(C) ? (C)(x << y) : (C)0; }
WHOLE_SIGNED(i1, int8_t, uint8_t) WHOLE_SIGNED(i2, int16_t, uint16_t)
WHOLE_SIGNED(i4, int32_t, uint32_t) WHOLE_SIGNED(i8, int64_t, uint64_t)
WHOLE_UNSIGNED(u1, uint8_t) WHOLE_UNSIGNED(u2, uint16_t) WHOLE_UNSIGNED(u4, uint32_t) WHOLE_UNSIGNED(u8, uint64_t)

/* integers wrap around, as in NumPy: their sums are those of unsigned ones; narrow products are made in 32 bits, without a sign */
#define T_ADD(a, b) ((a) + (b))
#define T_SUB(a, b) ((a) - (b))
#define T_MUL(a, b) ((a) * (b))
#define T_NARROW_MUL(a, b) ((uint32_t)(a) * (uint32_t)(b))
#define T_DIV(a, b) ((a) / (b))
/* NaN on either side gives NaN */
#define T_MAX(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))
#define T_MIN(a, b) ((a) < (b) || (a) != (a) ? (a) : (b))
#define T_EQ(a, b) ((a) == (b))
#define T_GT(a, b) ((a) > (b))
#define T_GE(a, b) ((a) >= (b))
#define T_LT(a, b) ((a) < (b))
#define T_LE(a, b) ((a) <= (b))
#define T_AND(a, b) ((a) & (b))
#define T_OR(a, b) ((a) | (b))
#define T_XOR(a, b) ((a) ^ (b))
#define PAIRS_EACH(T, C)                                                                                                       \
    PAIR(max, T, C, C, T_MAX) PAIR(min, T, C, C, T_MIN) PAIR(equal, T, C, uint8_t, T_EQ) PAIR(greater, T, C, uint8_t, T_GT)    \
    PAIR(greater_or_equal, T, C, uint8_t, T_GE) PAIR(less, T, C, uint8_t, T_LT) PAIR(less_or_equal, T, C, uint8_t, T_LE)       \
    PAIR(fmod, T, C, C, remainder_##T) PAIR(mod, T, C, C, floored_##T)
#define PAIRS_WHOLE(T, C, U, MUL)                                                                                              \
    PAIRS_EACH(T, C) PAIR(add, T, U, U, T_ADD) PAIR(sub, T, U, U, T_SUB) PAIR(mul, T, U, U, MUL) PAIR(div, T, C, C, quotient_##T)\
    PAIR(and, T, U, U, T_AND) PAIR(or, T, U, U, T_OR) PAIR(xor, T, U, U, T_XOR)                                                \
    PAIR(left, T, C, C, shifted_left_##T) PAIR(right, T, C, C, shifted_right_##T)
#define PAIRS_FLOAT(T, C)                                                                                                      \
    PAIRS_EACH(T, C) PAIR(add, T, C, C, T_ADD) PAIR(sub, T, C, C, T_SUB) PAIR(mul, T, C, C, T_MUL) PAIR(div, T, C, C, T_DIV)
PAIRS_FLOAT(f4, float) PAIRS_FLOAT(f8, double)
PAIRS_WHOLE(i1, int8_t, uint8_t, T_NARROW_MUL) PAIRS_WHOLE(u1, uint8_t, uint8_t, T_NARROW_MUL)
PAIRS_WHOLE(i2, int16_t, uint16_t, T_NARROW_MUL) PAIRS_WHOLE(u2, uint16_t, uint16_t, T_NARROW_MUL)
PAIRS_WHOLE(i4, int32_t, uint32_t, T_MUL) PAIRS_WHOLE(u4, uint32_t, uint32_t, T_MUL)
PAIRS_WHOLE(i8, int64_t, uint64_t, T_MUL) PAIRS_WHOLE(u8, uint64_t, uint64_t, T_MUL)
#define PAIR_ROW(T, AND, OR, XOR, LEFT, RIGHT)                                                                                 \
    {add_##T, sub_##T, mul_##T, div_##T, max_##T, min_##T, equal_##T, greater_##T, greater_or_equal_##T, less_##T,             \
     less_or_equal_##T, fmod_##T, mod_##T, AND, OR, XOR, LEFT, RIGHT}
#define PAIR_ROW_WHOLE(T) PAIR_ROW(T, and_##T, or_##T, xor_##T, left_##T, right_##T)
#define PAIR_ROW_FLOAT(T) PAIR_ROW(T, NULL, NULL, NULL, NULL, NULL)
static const pair_fn pairs_of[10][18] = {
    PAIR_ROW_FLOAT(f4), PAIR_ROW_FLOAT(f8), PAIR_ROW_WHOLE(i1), PAIR_ROW_WHOLE(u1), PAIR_ROW_WHOLE(i2),
    PAIR_ROW_WHOLE(u2), PAIR_ROW_WHOLE(i4), PAIR_ROW_WHOLE(u4), PAIR_ROW_WHOLE(i8), PAIR_ROW_WHOLE(u8)};

/* ---- bytes that tell where a float is NaN (what = 0), or infinite above (1), below zero (2), either (3) ---- */
typedef void (*test_fn)(const char *x, char *y, ptrdiff_t n, int what);
#define FLOAT_TEST(T, U, S, INF)                                                                                               \
    static void test_##T(const char *x_, char *y_, ptrdiff_t n, int what)                                                      \
    {                                                                                                                          \
        const U *x = (const U *)x_;                                                                                            \
        uint8_t *y = (uint8_t *)y_;                                                                                            \
        const U sign = (U)1 << (8 * sizeof(U) - 1), inf = INF;                                                                 \
        if (what == 0)                                                                                                         \
            for (ptrdiff_t i = 0; i < n; i++) y[i] = (S)(x[i] & (U)~sign) > (S)inf;                                            \
        else if (what == 3)                                                                                                    \
            for (ptrdiff_t i = 0; i < n; i++) y[i] = (U)(x[i] & (U)~sign) == inf;                                              \
        else {                                                                                                                 \
            const U wanted = what == 2 ? (U)(inf | sign) : inf;                                                                \
            for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i] == wanted;                                                           \
        }                                                                                                                      \
    }
FLOAT_TEST(f4, uint32_t, int32_t, UINT32_C(0x7f800000))
FLOAT_TEST(f8, uint64_t, int64_t, UINT64_C(0x7ff0000000000000))
FLOAT_TEST(f2, uint16_t, int16_t, UINT16_C(0x7c00))
static const test_fn tests_of[3] = {test_f4, test_f8, test_f2};

/* ---- positions of extremes of `columns` (ARG_STRIP at most) lines of n elements, `inner` elements from one to the next: the first
 * or the last of equals; a NaN is more extreme than all. ---- */
#define ARG_STRIP 256
typedef void (*arg_fn)(const char *x, ptrdiff_t n, ptrdiff_t inner, ptrdiff_t columns, int least, int last, int64_t *at);
#define ARG_LOOP(C, BETTER)                                                                                                    \
    for (ptrdiff_t i = 1; i < n; i++) {                                                                                        \
        const C *row = x + i * inner;                                                                                          \
        const int32_t now = (int32_t)i;                                                                                        \
        for (ptrdiff_t j = 0; j < columns; j++) {                                                                              \
            const C v = row[j], b = best[j];                                                                                   \
            const int take = BETTER;                                                                                           \
            best[j] = take ? v : b;                                                                                            \
            place[j] = take ? now : place[j];                                                                                  \
        }                                                                                                                      \
    }
#define ARG(T, C)                                                                                                              \
    static void arg_##T(const char *x_, ptrdiff_t n, ptrdiff_t inner, ptrdiff_t columns, int least, int last, int64_t *at)     \
    {                                                                                                                          \
        const C *x = (const C *)x_;                                                                                            \
        C best[ARG_STRIP];                                                                                                     \
        int32_t place[ARG_STRIP];                                                                                              \
        memcpy(best, x, (size_t)columns * sizeof(C));                                                                          \
        memset(place, 0, sizeof(place));                                                                                       \
        if (least && last)                                                                                                     \
            ARG_LOOP(C, (v <= b) | (v != v))                                                                                   \
        else if (least)                                                                                                        \
            ARG_LOOP(C, (v < b) | ((v != v) & (b == b)))                                                                       \
        else if (last)                                                                                                         \
            ARG_LOOP(C, (v >= b) | (v != v))                                                                                   \
        else                                                                                                                   \
            ARG_LOOP(C, (v > b) | ((v != v) & (b == b)))                                                                       \
        for (ptrdiff_t j = 0; j < columns; j++)                                                                                \
            at[j] = place[j];                                                                                                  \
    }
ARG(f4, float) ARG(f8, double) ARG(i1, int8_t) ARG(u1, uint8_t) ARG(i2, int16_t)
ARG(u2, uint16_t) ARG(i4, int32_t) ARG(u4, uint32_t) ARG(i8, int64_t) ARG(u8, uint64_t)
static const arg_fn args_of[10] = {arg_f4, arg_f8, arg_i1, arg_u1, arg_i2, arg_u2, arg_i4, arg_u4, arg_i8, arg_u8};

/* the first element of a line equal to v, or NaN where v is; it is there */
static ptrdiff_t first_of(const float *x, ptrdiff_t n, float v)
{
    ptrdiff_t i = 0;
    if (v != v) {
        while (i < n - 1 && x[i] == x[i])
            i++;
        return i;
    }
    for (; i + 16 <= n; i += 16) {
        int any = 0;
        for (int j = 0; j < 16; j++)
            any |= x[i + j] == v;
        if (any)
            break;
    }
    while (i < n - 1 && x[i] != v)
        i++;
    return i;
}
static ptrdiff_t last_of(const float *x, ptrdiff_t n, float v)
{
    ptrdiff_t i = n - 1;
    if (v != v) {
        while (i > 0 && x[i] == x[i])
            i--;
        return i;
    }
    while (i > 0 && x[i] != v)
        i--;
    return i;
}

/* ---- running sums and products along an axis: x and y are [axis][inner], n items side by side of each ---- */
typedef void (*running_fn)(const char *x, char *y, ptrdiff_t axis, ptrdiff_t inner, ptrdiff_t n, int exclusive, int reverse);
#define RUNNING(NAME, T, C, U, FIRST, OP)                                                                                      \
    static void NAME##_##T(const char *x_, char *y_, ptrdiff_t axis, ptrdiff_t inner, ptrdiff_t n, int exclusive, int reverse) \
    {                                                                                                                          \
        const C *x = (const C *)x_;                                                                                            \
        C *y = (C *)y_;                                                                                                        \
        const ptrdiff_t first = reverse ? (axis - 1) * inner : 0, step = reverse ? -inner : inner;                             \
        for (ptrdiff_t j = 0; j < n; j++)                                                                                      \
            y[first + j] = exclusive ? FIRST : x[first + j];                                                                   \
        for (ptrdiff_t i = 1; i < axis; i++) {                                                                                 \
            const C *now = x + first + (exclusive ? i - 1 : i) * step;                                                         \
            C *to = y + first + i * step;                                                                                      \
            for (ptrdiff_t j = 0; j < n; j++)                                                                                  \
                to[j] = (C)((U)to[j - step] OP (U)now[j]);                                                                     \
        }                                                                                                                      \
    }
#define RUNNINGS(T, C, U) RUNNING(sum, T, C, U, 0, +) RUNNING(product, T, C, U, 1, *)
RUNNINGS(f4, float, float) RUNNINGS(f8, double, double) RUNNINGS(i4, int32_t, uint32_t) RUNNINGS(i8, int64_t, uint64_t)
RUNNINGS(u4, uint32_t, uint32_t) RUNNINGS(u8, uint64_t, uint64_t)
#define RUNNING_ROW(NAME) {NAME##_f4, NAME##_f8, NAME##_i4, NAME##_i8, NAME##_u4, NAME##_u8}
static const running_fn runnings_of[2][6] = {RUNNING_ROW(sum), RUNNING_ROW(product)};

/* ---- y[i] = start + i * delta, product and sum each rounded to the type ---- */
typedef void (*progression_fn)(const void *start, const void *delta, void *y, ptrdiff_t n);
#define PROGRESSION(T, C, U)                                                                                                   \
    static void progression_##T(const void *start, const void *delta, void *y_, ptrdiff_t n)                                   \
    {                                                                                                                          \
        C s, d, *y = (C *)y_;                                                                                                  \
        memcpy(&s, start, sizeof(C));                                                                                          \
        memcpy(&d, delta, sizeof(C));                                                                                          \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                                    \
            const U product = (U)i * (U)d;                                                                                     \
            y[i] = (C)((U)s + product);                                                                                        \
        }                                                                                                                      \
    }
#if defined(__FMA__) || defined(__aarch64__) /* a multiply-add would round once */
#  define ROUNDED volatile
#else
#  define ROUNDED
#endif
#define PROGRESSION_FLOAT(T, C)                                                                                                \
    static void progression_##T(const void *start, const void *delta, void *y_, ptrdiff_t n)                                   \
    {                                                                                                                          \
        C s, d, *y = (C *)y_;                                                                                                  \
        memcpy(&s, start, sizeof(C));                                                                                          \
        memcpy(&d, delta, sizeof(C));                                                                                          \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                                    \
            ROUNDED C product = (C)i * d;                                                                                \
            y[i] = s + product;                                                                                                \
        }                                                                                                                      \
    }
PROGRESSION_FLOAT(f4, float) PROGRESSION_FLOAT(f8, double)
PROGRESSION(i2, int16_t, uint32_t) PROGRESSION(i4, int32_t, uint32_t) PROGRESSION(i8, int64_t, uint64_t)
static const progression_fn progressions_of[5] = {progression_f4, progression_f8, progression_i2, progression_i4, progression_i8};

/* ---- n items of `size` bytes, all the same ---- */
static void repeat_item(char *y, const char *item, ptrdiff_t size, ptrdiff_t n)
{
#define REPEAT(C)                                                                                                              \
    {                                                                                                                          \
        C v, *to = (C *)y;                                                                                                     \
        memcpy(&v, item, sizeof(C));                                                                                           \
        for (ptrdiff_t i = 0; i < n; i++) to[i] = v;                                                                           \
        break;                                                                                                                 \
    }
    switch (size) {
    case 1: memset(y, (unsigned char)item[0], (size_t)n); break;
    case 2: REPEAT(uint16_t)
    case 4: REPEAT(uint32_t)
    default: REPEAT(uint64_t)
    }
}

#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC pop_options
#endif

/* ---- the place in an axis of `depth` that a number of any type names, negative ones from its end; -1 where it names none ---- */
static inline int64_t place_of(const char *p, int kind, int64_t depth)
{
    int64_t i = 0;
    double v = 0;
    switch (kind) {
    case 0: { float f; memcpy(&f, p, 4); v = f; break; }
    case 1: memcpy(&v, p, 8); break;
    case 2: i = *(const int8_t *)p; break;
    case 3: i = *(const uint8_t *)p; break;
    case 4: { int16_t t; memcpy(&t, p, 2); i = t; break; }
    case 5: { uint16_t t; memcpy(&t, p, 2); i = t; break; }
    case 6: { int32_t t; memcpy(&t, p, 4); i = t; break; }
    case 7: { uint32_t t; memcpy(&t, p, 4); i = t; break; }
    case 8: memcpy(&i, p, 8); break;
    default: { uint64_t t; memcpy(&t, p, 8); i = t > INT64_MAX ? INT64_MAX : (int64_t)t; break; }
    }
    if (kind < 2) {
        if (!(v >= -(double)depth && v < (double)depth))
            return -1;
        i = (int64_t)v;
        if ((double)i != v)
            return -1;
    }
    if (i < -depth || i >= depth)
        return -1;
    return i < 0 ? i + depth : i;
}

/* ---- the determinant of n x n doubles, which are overwritten: elimination with the largest pivot of each column ---- */
static double determinant_of(double *a, ptrdiff_t n)
{
    double d = 1;
    for (ptrdiff_t k = 0; k < n; k++) {
        ptrdiff_t p = k;
        for (ptrdiff_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[p * n + k]))
                p = i;
        if (p != k) {
            for (ptrdiff_t j = k; j < n; j++) {
                const double t = a[k * n + j];
                a[k * n + j] = a[p * n + j];
                a[p * n + j] = t;
            }
            d = -d;
        }
        d *= a[k * n + k];
        if (a[k * n + k] == 0)
            return d;
        for (ptrdiff_t i = k + 1; i < n; i++) {
            const double f = a[i * n + k] / a[k * n + k];
            for (ptrdiff_t j = k + 1; j < n; j++)
                a[i * n + j] -= f * a[k * n + j];
        }
    }
    return d;
}

/* ---- order of equal parts: stable sort of keyed indices by bytes, the lowest first ---- */
typedef struct { uint64_t key; int64_t index; } keyed_t;

static keyed_t *sort_keys(keyed_t *from, keyed_t *to, ptrdiff_t n, int bytes)
{
    for (int b = 0; b < bytes; b++) {
        ptrdiff_t count[257] = {0};
        const int shift = 8 * b;
        for (ptrdiff_t i = 0; i < n; i++)
            count[((from[i].key >> shift) & 255) + 1]++;
        if (n && count[((from[0].key >> shift) & 255) + 1] == n)
            continue; /* all the same */
        for (int c = 0; c < 256; c++)
            count[c + 1] += count[c];
        for (ptrdiff_t i = 0; i < n; i++)
            to[count[(from[i].key >> shift) & 255]++] = from[i];
        keyed_t *t = from;
        from = to;
        to = t;
    }
    return from;
}

/* rows of `width` keys: stable merge sort of their numbers, lexicographically */
static inline int row_order(const uint64_t *keys, ptrdiff_t width, int64_t a, int64_t b)
{
    const uint64_t *p = keys + a * width, *q = keys + b * width;
    for (ptrdiff_t i = 0; i < width; i++)
        if (p[i] != q[i])
            return p[i] < q[i] ? -1 : 1;
    return 0;
}

static int64_t *sort_rows(const uint64_t *keys, ptrdiff_t width, int64_t *from, int64_t *to, ptrdiff_t n)
{
    for (ptrdiff_t half = 1; half < n; half *= 2) {
        for (ptrdiff_t start = 0; start < n; start += 2 * half) {
            ptrdiff_t i = start, middle = start + half < n ? start + half : n, j = middle;
            const ptrdiff_t end = start + 2 * half < n ? start + 2 * half : n;
            for (ptrdiff_t k = start; k < end; k++)
                to[k] = i < middle && (j >= end || row_order(keys, width, from[i], from[j]) <= 0) ? from[i++] : from[j++];
        }
        int64_t *t = from;
        from = to;
        to = t;
    }
    return from;
}
#endif
