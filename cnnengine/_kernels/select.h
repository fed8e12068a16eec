/* Inner loops of select.pyx that need macros over element types: ordered keys, selection of the largest, scatter with a
 * reduction, positions of what is not zero. Scalar code, the same on every instruction set. */
#ifndef CNNENGINE_SELECT_H
#define CNNENGINE_SELECT_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- keys: unsigned integers in the order of the values. NaN is above all else, whatever its sign; -0 equals 0. ---- */
static inline uint64_t key_f4(const void *p)
{
    float v;
    uint32_t b;
    memcpy(&v, p, 4);
    if (v != v)
        return UINT32_MAX;
    v += 0.0f; /* -0 becomes 0 */
    memcpy(&b, &v, 4);
    return (b >> 31) ? ~b : b | 0x80000000u;
}
static inline uint64_t key_f8(const void *p)
{
    double v;
    uint64_t b;
    memcpy(&v, p, 8);
    if (v != v)
        return UINT64_MAX;
    v += 0.0;
    memcpy(&b, &v, 8);
    return (b >> 63) ? ~b : b | (UINT64_C(1) << 63);
}
static inline uint64_t key_i4(const void *p) { uint32_t b; memcpy(&b, p, 4); return b ^ 0x80000000u; }
static inline uint64_t key_i8(const void *p) { uint64_t b; memcpy(&b, p, 8); return b ^ (UINT64_C(1) << 63); }
static inline uint64_t key_i2(const void *p) { uint16_t b; memcpy(&b, p, 2); return (uint16_t)(b ^ 0x8000u); }
static inline uint64_t key_i1(const void *p) { return *(const uint8_t *)p ^ 0x80u; }
static inline uint64_t key_u1(const void *p) { return *(const uint8_t *)p; }
static inline uint64_t key_u2(const void *p) { uint16_t b; memcpy(&b, p, 2); return b; }
static inline uint64_t key_u4(const void *p) { uint32_t b; memcpy(&b, p, 4); return b; }
static inline uint64_t key_u8(const void *p) { uint64_t b; memcpy(&b, p, 8); return b; }

/* ---- the k best of n, best first; of equal keys the lower index. A heap whose root is the worst that is kept: a value that is
 * not better costs one comparison, n log k at worst. ---- */
typedef struct { uint64_t key; int64_t index; } ranked_t;

static inline int is_worse(ranked_t a, ranked_t b) { return a.key < b.key || (a.key == b.key && a.index > b.index); }

static void sift_down(ranked_t *heap, ptrdiff_t at, ptrdiff_t n)
{
    const ranked_t moved = heap[at];
    for (;;) {
        ptrdiff_t child = 2 * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && is_worse(heap[child + 1], heap[child]))
            child++;
        if (!is_worse(heap[child], moved))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

static void sort_heap(ranked_t *heap, ptrdiff_t n)
{
    for (ptrdiff_t end = n - 1; end > 0; end--) {
        const ranked_t worst = heap[0];
        heap[0] = heap[end];
        heap[end] = worst;
        sift_down(heap, 0, end);
    }
}

/* The first of lines[i .. n) that may be better than the worst that is kept; of floats that lie together, eight at a time. */
static inline ptrdiff_t skip_worse(const char *x, ptrdiff_t i, ptrdiff_t n, ptrdiff_t worst, uint64_t flip)
{
    const float *v = (const float *)x;
    const float limit = v[worst], sign = flip ? -1.0f : 1.0f, most = sign * limit;
    for (; i + 8 <= n; i += 8) { /* NaN is not skipped, its key decides */
        int any = 0;
        for (int j = 0; j < 8; j++)
            any |= !(sign * v[i + j] <= most);
        if (any)
            break;
    }
    while (i < n && sign * v[i] <= most)
        i++;
    return i;
}

#define SKIP_f4 if (stride == 1 && (i = skip_worse(x, i, n, heap[0].index, flip)) >= n) break;
#define SKIP_f8
#define SKIP_i4
#define SKIP_i8
#define SKIP_i2
#define SKIP_i1
#define SKIP_u1
#define SKIP_u2
#define SKIP_u4
#define SKIP_u8
#define TOPK(T, SIZE)                                                                                                          \
    static void topk_##T(const char *x, ptrdiff_t n, ptrdiff_t stride, ptrdiff_t k, uint64_t flip, ranked_t *heap)             \
    {                                                                                                                          \
        ptrdiff_t i = 0;                                                                                                       \
        for (; i < k; i++) {                                                                                                   \
            heap[i].key = key_##T(x + i * stride * SIZE) ^ flip;                                                               \
            heap[i].index = i;                                                                                                 \
        }                                                                                                                      \
        for (ptrdiff_t at = k / 2 - 1; at >= 0; at--)                                                                          \
            sift_down(heap, at, k);                                                                                            \
        for (; i < n; i++) {                                                                                                   \
            SKIP_##T                                                                                                           \
            const uint64_t key = key_##T(x + i * stride * SIZE) ^ flip;                                                        \
            if (key > heap[0].key) { /* an equal one has the higher index */                                                   \
                heap[0].key = key;                                                                                             \
                heap[0].index = i;                                                                                             \
                sift_down(heap, 0, k);                                                                                         \
            }                                                                                                                  \
        }                                                                                                                      \
        sort_heap(heap, k);                                                                                                    \
    }
TOPK(f4, 4) TOPK(f8, 8) TOPK(i4, 4) TOPK(i8, 8) TOPK(i2, 2) TOPK(i1, 1) TOPK(u1, 1) TOPK(u2, 2) TOPK(u4, 4) TOPK(u8, 8)

typedef void (*topk_fn)(const char *x, ptrdiff_t n, ptrdiff_t stride, ptrdiff_t k, uint64_t flip, ranked_t *heap);
static const topk_fn topks[10] = {topk_f4, topk_f8, topk_i4, topk_i8, topk_i2, topk_i1, topk_u1, topk_u2, topk_u4, topk_u8};

/* ---- y[offset + j] = f(y[offset + j], u[j]) for j < n, one point after the other ---- */
#define ADD_(a, b) (a) + (b)
#define MUL_(a, b) (a) * (b)
/* NaN on either side gives NaN, as numpy.maximum has it */
#define MAX_(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))
#define MIN_(a, b) ((a) < (b) || (a) != (a) ? (a) : (b))
#define PUT(T, C, NAME, F)                                                                                                     \
    static void put_##NAME##_##T(char *y, const int64_t *offsets, ptrdiff_t points, const char *updates, ptrdiff_t n)          \
    {                                                                                                                          \
        for (ptrdiff_t p = 0; p < points; p++)                                                                                 \
            for (ptrdiff_t j = 0; j < n; j++) {                                                                                \
                C a, b;                                                                                                        \
                memcpy(&a, y + (offsets[p] + j) * (ptrdiff_t)sizeof(C), sizeof(C));                                            \
                memcpy(&b, updates + (p * n + j) * (ptrdiff_t)sizeof(C), sizeof(C));                                           \
                a = (C)(F(a, b));                                                                                              \
                memcpy(y + (offsets[p] + j) * (ptrdiff_t)sizeof(C), &a, sizeof(C));                                            \
            }                                                                                                                  \
    }
/* integers wrap around, as in NumPy: their sums and products are those of unsigned ones */
#define PUTS(T, C, U) PUT(T, U, add, ADD_) PUT(T, U, mul, MUL_) PUT(T, C, max, MAX_) PUT(T, C, min, MIN_)
PUTS(f4, float, float)
PUTS(f8, double, double)
PUTS(i4, int32_t, uint32_t)
PUTS(i8, int64_t, uint64_t)
typedef void (*put_fn)(char *y, const int64_t *offsets, ptrdiff_t points, const char *updates, ptrdiff_t n);
#define PUT_ROW(T) {put_add_##T, put_mul_##T, put_max_##T, put_min_##T}
static const put_fn puts_of[4][4] = {PUT_ROW(f4), PUT_ROW(f8), PUT_ROW(i4), PUT_ROW(i8)};

/* ---- what is not zero: NaN is not, -0 is ---- */
#define NONZERO(T, C)                                                                                                          \
    static ptrdiff_t nonzero_##T(const char *x, ptrdiff_t n, int64_t *found)                                                   \
    {                                                                                                                          \
        const C *v = (const C *)x;                                                                                             \
        ptrdiff_t count = 0;                                                                                                   \
        for (ptrdiff_t i = 0; i < n; i++) { /* without a branch: found has room for n */                                       \
            found[count] = i;                                                                                                  \
            count += v[i] != 0;                                                                                                \
        }                                                                                                                      \
        return count;                                                                                                          \
    }
NONZERO(f4, float) NONZERO(f8, double) NONZERO(u1, uint8_t) NONZERO(u2, uint16_t) NONZERO(u4, uint32_t) NONZERO(u8, uint64_t)
typedef ptrdiff_t (*nonzero_fn)(const char *x, ptrdiff_t n, int64_t *found);
static const nonzero_fn nonzeros[6] = {nonzero_f4, nonzero_f8, nonzero_u1, nonzero_u2, nonzero_u4, nonzero_u8};
#endif
