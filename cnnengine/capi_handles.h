/* Handles of the C interface: numbers that stand for pointers, and each thread's last error.
 *
 *   handle = generation : 32 | place in the table + 1 : 32
 *
 * A place is used again with another generation, so that a closed handle is known as such. Whoever uses a handle's pointer holds
 * it with handle_take ... handle_drop; the pointer is destroyed by the last one after handle_close. One lock guards the table: it
 * is held for a few instructions, never while anything else is waited for, and across forks, so that a child finds it free.
 * Include this file from capi.pyx alone. */
#ifndef CNNENGINE_HANDLES_H
#define CNNENGINE_HANDLES_H
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    void *object;
    uint32_t generation;
    uint32_t users;
    int kind;           /* 0: free */
    int closing;
    uint32_t next;      /* free place after this one, + 1 */
} handle_place;

static struct {
    pthread_mutex_t lock;
    handle_place *places;
    uint32_t count, size, free;
} handles = {PTHREAD_MUTEX_INITIALIZER, NULL, 0, 0, 0};

static void handles_lock(void) { pthread_mutex_lock(&handles.lock); }
static void handles_unlock(void) { pthread_mutex_unlock(&handles.lock); }
static int handles_init(void) { return pthread_atfork(handles_lock, handles_unlock, handles_unlock); }

/* 0 when there is no memory. */
static uint64_t handle_new(void *object, int kind)
{
    uint64_t made = 0;
    uint32_t at;
    handles_lock();
    if (handles.free == 0 && handles.count == handles.size) {
        uint32_t size = handles.size ? 2 * handles.size : 64;
        handle_place *places = size < UINT32_MAX / 4 ? (handle_place *)realloc(handles.places, size * sizeof(handle_place)) : NULL;
        if (places != NULL) {
            memset(places + handles.size, 0, (size - handles.size) * sizeof(handle_place));
            handles.places = places;
            handles.size = size;
        }
    }
    if (handles.free != 0) {
        at = handles.free - 1;
        handles.free = handles.places[at].next;
    } else if (handles.count < handles.size) {
        at = handles.count++;
    } else {
        handles_unlock();
        return 0;
    }
    handles.places[at].object = object;
    handles.places[at].kind = kind;
    handles.places[at].users = 0;
    handles.places[at].closing = 0;
    handles.places[at].generation++;
    made = (uint64_t)handles.places[at].generation << 32 | (at + 1);
    handles_unlock();
    return made;
}

/* With the lock held: the place, or NULL when the handle is not an open one of this kind. */
static handle_place *handle_find(uint64_t handle, int kind)
{
    uint32_t at = (uint32_t)handle;
    handle_place *place;
    if (at == 0 || at > handles.count)
        return NULL;
    place = handles.places + at - 1;
    return place->kind == kind && !place->closing && place->generation == (uint32_t)(handle >> 32) ? place : NULL;
}

/* The object, held until handle_drop; NULL for a bad handle. With `alone`, `*busy` is set and NULL given when it is held already. */
static void *handle_take(uint64_t handle, int kind, int alone, int *busy)
{
    handle_place *place;
    void *object = NULL;
    *busy = 0;
    handles_lock();
    place = handle_find(handle, kind);
    if (place != NULL && alone && place->users)
        *busy = 1;
    else if (place != NULL) {
        place->users++;
        object = place->object;
    }
    handles_unlock();
    return object;
}

/* With the lock held. */
static void handle_recycle(uint32_t at)
{
    handles.places[at].kind = 0;
    handles.places[at].object = NULL;
    handles.places[at].next = handles.free;
    handles.free = at + 1;
}

/* The object when the caller must destroy it now, else NULL. */
static void *handle_drop(uint64_t handle)
{
    uint32_t at = (uint32_t)handle - 1;
    void *object = NULL;
    handles_lock();
    if (--handles.places[at].users == 0 && handles.places[at].closing) {
        object = handles.places[at].object;
        handle_recycle(at);
    }
    handles_unlock();
    return object;
}

/* 0 when there is no such handle, 1 when closed (`*object` is then to be destroyed, or NULL while others hold it), 2 when it is
 * held and `alone` asks for nobody to. */
static int handle_close(uint64_t handle, int kind, int alone, void **object)
{
    handle_place *place;
    int result = 0;
    *object = NULL;
    handles_lock();
    place = handle_find(handle, kind);
    if (place != NULL && alone && place->users)
        result = 2;
    else if (place != NULL) {
        result = 1;
        place->closing = 1;
        if (place->users == 0) {
            *object = place->object;
            handle_recycle((uint32_t)handle - 1);
        }
    }
    handles_unlock();
    return result;
}

static _Thread_local char handles_error[1024];

static void error_set(const char *text)
{
    snprintf(handles_error, sizeof(handles_error), "%s", text);
}
/* "text (input 2): expected 3, received 4" */
static void error_at(const char *text, const char *what, int64_t index, int64_t expected, int64_t received)
{
    snprintf(handles_error, sizeof(handles_error), "%s (%s %lld): expected %lld, received %lld", text, what, (long long)index,
             (long long)expected, (long long)received);
}
static const char *error_get(void) { return handles_error; }

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
