/* Callers' arrays by their strides, for the C interface: how they lie, which bytes they touch, copies to and from C order.
 * Include this file from capi.pyx alone. */
#ifndef CNNENGINE_CAPI_STRIDED_H
#define CNNENGINE_CAPI_STRIDED_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Whether the items lie in C order without gaps; strides in bytes, NULL for just that. */
static int strided_dense(int rank, const int64_t *dims, const int64_t *strides, int64_t item)
{
    int64_t step = item;
    int axis;
    if (strides == NULL)
        return 1;
    for (axis = 0; axis < rank; axis++)
        if (dims[axis] == 0)
            return 1;
    for (axis = rank - 1; axis >= 0; axis--) {
        if (dims[axis] == 1)
            continue;
        if (strides[axis] != step || __builtin_mul_overflow(step, dims[axis], &step))
            return 0;
    }
    return 1;
}

/* Whether no two items share a byte, as far as one look at the strides tells: by rising strides, each axis steps over all that
 * those before it span. Axes that interleave without an overlap are refused too. */
static int strided_distinct(int rank, const int64_t *dims, const int64_t *strides, int64_t item)
{
    uint64_t span = (uint64_t)item, least = 0;
    int axis, used, best;
    unsigned done = 0;
    if (strides == NULL)
        return 1;
    for (axis = 0; axis < rank; axis++)
        if (dims[axis] == 0)
            return 1;
    for (used = 0; used < rank; used++) {
        uint64_t reach;
        best = -1;
        for (axis = 0; axis < rank; axis++) {
            uint64_t size = strides[axis] < 0 ? 0 - (uint64_t)strides[axis] : (uint64_t)strides[axis];
            if (!(done >> axis & 1) && (best < 0 || size < least)) {
                best = axis;
                least = size;
            }
        }
        done |= 1u << best;
        if (dims[best] == 1)
            continue;
        if (least < span || __builtin_mul_overflow(least, (uint64_t)dims[best] - 1, &reach) || __builtin_add_overflow(span, reach, &span))
            return 0;
    }
    return 1;
}

/* The bytes from *first to before *end that an array touches; 0 where they do not fit into the address space. */
static int strided_span(const void *data, int rank, const int64_t *dims, const int64_t *strides, int64_t item, uintptr_t *first,
                        uintptr_t *end)
{
    uintptr_t low = (uintptr_t)data, high = (uintptr_t)data, size = (uintptr_t)item;
    int axis;
    for (axis = 0; axis < rank; axis++) {
        if (dims[axis] == 0) {
            *first = *end = 0;
            return 1;
        }
    }
    for (axis = 0; axis < rank; axis++) {
        uintptr_t reach;
        if (strides == NULL) {
            if (__builtin_mul_overflow(size, (uintptr_t)dims[axis], &size))
                return 0;
            continue;
        }
        reach = strides[axis] < 0 ? 0 - (uintptr_t)strides[axis] : (uintptr_t)strides[axis];
        if (__builtin_mul_overflow(reach, (uintptr_t)dims[axis] - 1, &reach)
            || (strides[axis] < 0 ? __builtin_sub_overflow(low, reach, &low) : __builtin_add_overflow(high, reach, &high)))
            return 0;
    }
    if (__builtin_add_overflow(high, size, &high) || high - low > INTPTR_MAX)
        return 0;
    *first = low;
    *end = high;
    return 1;
}

/* Copy an array of `rank` axes between strided memory and C order; strides in bytes, NULL for C order. Items may lie anywhere. */
static void strided_copy(int rank, const int64_t *dims, const int64_t *strides, size_t item, char *strided, char *dense, int gather)
{
    int64_t index[8] = {0};
    size_t total = item;
    int axis;
    for (axis = 0; axis < rank; axis++)
        total *= (size_t)dims[axis];
    if (total == 0)
        return;
    if (strides == NULL) {
        if (gather)
            memcpy(dense, strided, total);
        else
            memcpy(strided, dense, total);
        return;
    }
    for (;;) {
        if (gather)
            memcpy(dense, strided, item);
        else
            memcpy(strided, dense, item);
        dense += item;
        for (axis = rank - 1; axis >= 0; axis--) {
            strided += strides[axis];
            if (++index[axis] < dims[axis])
                break;
            strided -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
        if (axis < 0)
            return;
    }
}
#endif
