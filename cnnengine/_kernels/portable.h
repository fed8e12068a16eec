/* Small portable pieces for modules that are compiled once, for the baseline. CNNENGINE_POSIX leaves out what some systems have
 * beyond POSIX, here, in cpu.h, team.h and guard.h, so that what stands in its place can be tested on any of them. */
#ifndef CNNENGINE_PORTABLE_H
#define CNNENGINE_PORTABLE_H
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>
#if defined(__linux__) && !defined(CNNENGINE_POSIX)
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
#ifdef MADV_HUGEPAGE
    /* whole huge pages only; a refusal changes nothing but the time */
    if (rounded >= huge)
        (void)madvise(p, rounded & ~(huge - 1), MADV_HUGEPAGE);
#endif
    return p;
}

/* bring a run of bytes that will be read soon */
static inline void fetch_ahead(const char *p, ptrdiff_t size)
{
    for (ptrdiff_t i = 0; i < size; i += 64)
        __builtin_prefetch(p + i);
}

static inline void aligned_release(void *p)
{
    free(p);
}

/* bytes of the second-level cache of a core, or a usual size where the system does not say */
static inline size_t second_level_cache(void)
{
#if defined(_SC_LEVEL2_CACHE_SIZE) && !defined(CNNENGINE_POSIX)
    long size = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (size > 0)
        return (size_t)size;
#endif
    return 512 * 1024;
}
#endif
