/* Reads of mapped files that go on when the file has become shorter, or its disk fails.
 *
 * A page of a mapping that its file no longer has, or that cannot be read from the disk, is answered by SIGBUS, which ends the
 * process. The handler here looks whether the page belongs to one of the mappings that `guard_watch` was told of; if so it puts
 * zeros in the place of that page and of all behind it, marks the mapping as lost, and the read goes on. Whoever read has to ask
 * `guard_lost` before it uses what it made. Every other SIGBUS goes to the handler that was there before.
 *
 * The handler is in force from the first `guard_enter` to the last `guard_leave` alone: a process that maps no model has none of
 * it, and a handler that somebody else puts in meanwhile stays.
 *
 * The handler takes no lock and allocates nothing: it walks a list that only grows, whose entries are used again and never freed.
 * A child of a fork inherits handler, list and mappings as they are; the mutex, which a thread that it lacks may hold, is made
 * anew. Include this file from guard.pyx alone.
 */
#ifndef CNNENGINE_GUARD_H
#define CNNENGINE_GUARD_H
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
/* what POSIX of 2008 does not have, and systems do */
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#if !defined(MAP_ANONYMOUS) && defined(MAP_ANON)
#define MAP_ANONYMOUS MAP_ANON
#endif
#ifndef SA_ONSTACK
#define SA_ONSTACK 0
#endif

typedef struct watched {
    uintptr_t start, end; /* whole pages; end 0 while the entry is not in use */
    int lost;
    struct watched *next;
} watched;

static watched *guard_list;
static pthread_mutex_t guard_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction guard_before;
static uintptr_t guard_page;
static int guard_depth, guard_chained;
enum { GUARD_CHAIN = 32 }; /* handlers that hand on to each other in a circle end here */

/* Zeros in the place of these pages; async-signal-safe. */
static int guard_zeros(uintptr_t page, size_t size)
{
#if defined(MAP_ANONYMOUS) && !defined(CNNENGINE_POSIX)
    return mmap((void *)page, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
#else
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    void *put = zero < 0 ? MAP_FAILED : mmap((void *)page, size, PROT_READ, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, zero, 0);
    if (zero >= 0)
        close(zero);
    return put != MAP_FAILED;
#endif
}

static int guard_repair(uintptr_t address)
{
    for (watched *w = __atomic_load_n(&guard_list, __ATOMIC_ACQUIRE); w; w = w->next) {
        uintptr_t end = __atomic_load_n(&w->end, __ATOMIC_ACQUIRE);
        if (address >= end || address < __atomic_load_n(&w->start, __ATOMIC_ACQUIRE))
            continue;
        if (__atomic_load_n(&w->end, __ATOMIC_ACQUIRE) != end)
            continue; /* used again meanwhile, so it is not the mapping that is read */
        uintptr_t page = address & ~(guard_page - 1);
        if (!guard_zeros(page, end - page))
            return 0;
        __atomic_store_n(&w->lost, 1, __ATOMIC_RELEASE);
        return 1;
    }
    return 0;
}

static void guard_on_sigbus(int number, siginfo_t *info, void *context)
{
    int error = errno;
    if (info->si_code > 0 && guard_repair((uintptr_t)info->si_addr)) {
        errno = error;
        return;
    }
    errno = error;
    int looped = __atomic_add_fetch(&guard_chained, 1, __ATOMIC_ACQ_REL) > GUARD_CHAIN;
    if ((guard_before.sa_flags & SA_SIGINFO) && !looped) {
        guard_before.sa_sigaction(number, info, context);
    } else if (guard_before.sa_handler == SIG_DFL || (guard_before.sa_handler == SIG_IGN && info->si_code > 0) || looped) {
        /* a fault that is ignored would come again without end: the system ends the process then, and so does this */
        struct sigaction plain;
        memset(&plain, 0, sizeof plain);
        plain.sa_handler = SIG_DFL;
        sigemptyset(&plain.sa_mask);
        sigaction(number, &plain, NULL);
        raise(number); /* blocked until this returns */
    } else if (guard_before.sa_handler != SIG_IGN) {
        guard_before.sa_handler(number);
    }
    __atomic_sub_fetch(&guard_chained, 1, __ATOMIC_ACQ_REL);
}

/* The handler is in force until `guard_leave`, on this thread and those that it starts; returns whether SIGBUS was blocked here. */
static int guard_enter(void)
{
    sigset_t bus, was;
    pthread_mutex_lock(&guard_mutex);
    if (guard_depth++ == 0) {
        struct sigaction ours;
        guard_page = (uintptr_t)sysconf(_SC_PAGESIZE);
        memset(&ours, 0, sizeof ours);
        ours.sa_sigaction = guard_on_sigbus;
        ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
        sigemptyset(&ours.sa_mask);
        struct sigaction now;
        sigaction(SIGBUS, NULL, &now);
        if (!((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == guard_on_sigbus)) {
            guard_before = now;
            guard_chained = 0;
            sigaction(SIGBUS, &ours, NULL);
        }
    }
    pthread_mutex_unlock(&guard_mutex);
    sigemptyset(&bus);
    sigaddset(&bus, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &bus, &was); /* a fault on a thread that blocks the signal would end the process */
    return sigismember(&was, SIGBUS) == 1;
}

static void guard_leave(int blocked)
{
    if (blocked) {
        sigset_t bus;
        sigemptyset(&bus);
        sigaddset(&bus, SIGBUS);
        pthread_sigmask(SIG_BLOCK, &bus, NULL);
    }
    pthread_mutex_lock(&guard_mutex);
    if (--guard_depth == 0) {
        struct sigaction now;
        sigaction(SIGBUS, NULL, &now);
        if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == guard_on_sigbus)
            sigaction(SIGBUS, &guard_before, NULL);
    }
    pthread_mutex_unlock(&guard_mutex);
}

/* An entry for the mapping at these bytes, until `guard_forget`, which must come before it is unmapped; NULL without memory. */
static watched *guard_watch(const void *data, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)data & ~(page - 1);
    pthread_mutex_lock(&guard_mutex);
    watched *w = guard_list;
    while (w && w->end)
        w = w->next;
    if (!w && (w = calloc(1, sizeof *w))) {
        w->next = guard_list;
        __atomic_store_n(&guard_list, w, __ATOMIC_RELEASE);
    }
    if (w) {
        w->lost = 0;
        __atomic_store_n(&w->start, start, __ATOMIC_RELEASE);
        __atomic_store_n(&w->end, ((uintptr_t)data + size + page - 1) & ~(page - 1), __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&guard_mutex);
    return w;
}

static void guard_forget(watched *w)
{
    __atomic_store_n(&w->end, 0, __ATOMIC_RELEASE);
}

static void guard_child(void)
{
    pthread_mutex_init(&guard_mutex, NULL);
}

static void guard_begin(void)
{
    pthread_atfork(NULL, NULL, guard_child);
}

static int guard_lost(const watched *w)
{
    return __atomic_load_n(&w->lost, __ATOMIC_ACQUIRE);
}
#endif
