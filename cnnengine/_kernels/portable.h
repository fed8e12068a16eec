/* Small portable pieces for modules that are compiled once, for the baseline. */
#ifndef CNNENGINE_PORTABLE_H
#define CNNENGINE_PORTABLE_H
#include <stddef.h>
#include <stdlib.h>

/* 64-byte aligned memory; NULL when there is none. A size of 0 gives a valid pointer. */
static inline void *aligned_malloc(size_t size)
{
    void *p = NULL;
    size_t rounded = (size + 127) & ~(size_t)63;
    if (rounded < size)
        return NULL;
    return posix_memalign(&p, 64, rounded) ? NULL : p;
}

static inline void aligned_release(void *p)
{
    free(p);
}
#endif
