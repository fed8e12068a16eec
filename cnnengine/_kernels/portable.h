/* Small portable pieces for modules that are compiled once, for the baseline. */
#ifndef CNNENGINE_PORTABLE_H
#define CNNENGINE_PORTABLE_H
#include <stddef.h>
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

/* 64-byte aligned memory; NULL when there is none. A size of 0 gives a valid pointer.
 * Large pieces ask for huge pages: kernels write dozens of streams at once, more pages than the first-level TLB holds. */
static inline void *aligned_malloc(size_t size)
{
    const size_t huge = (size_t)2 << 20;
    void *p = NULL;
    size_t alignment = size >= huge ? huge : 64, rounded = (size + 127) & ~(size_t)63;
    if (rounded < size)
        return NULL;
    if (posix_memalign(&p, alignment, rounded))
        return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    /* whole huge pages only; a refusal changes nothing but the time */
    if (rounded >= huge)
        (void)madvise(p, rounded & ~(huge - 1), MADV_HUGEPAGE);
#endif
    return p;
}

static inline void aligned_release(void *p)
{
    free(p);
}
#endif
