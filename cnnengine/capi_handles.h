/* Handles of the C interface: numbers that stand for pointers, and each thread's last error.
 *
 *   handle = generation : 32 | place in the table + 1 : 32
 *
 * A place is used again with another generation, so that a closed handle is known as such. Whoever uses a handle's pointer holds
 * it with handle_take ... handle_drop; the pointer is destroyed by the last one after handle_close. One lock guards the table: it
 * is held for a few instructions, never while anything else is waited for, and across forks, so that a child finds it free.
 * Include this file from capi.pyx alone. */
#ifndef CNNENGINE_CAPI_HANDLES_H
#define CNNENGINE_CAPI_HANDLES_H
#include <pthread.h>
#include <stdatomic.h>
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

/* What handles stand for begins so. */
typedef struct {
    void *object;       /* Python objects that are held */
    void *names;
    _Atomic int stopped;
} handle_held;

/* Have the run end that is under way with this handle; 0 when it is not an open one. It is not held, so nobody finds it in use. */
static int handle_stop(uint64_t handle, int kind)
{
    handle_place *place;
    handles_lock();
    place = handle_find(handle, kind);
    if (place != NULL)
        atomic_store(&((handle_held *)place->object)->stopped, 1);
    handles_unlock();
    return place != NULL;
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
#endif
