/* The thread team of the plan runner: helpers that may take part in a step, and that no step has to wait for.
 *
 * One caller owns the team for the length of a plan. A step's chunks are claimed in runs of a few (claims). Each thread has a
 * range of them to itself: thread t of n the t-th n-th. A thread claims its own range from the front, one by one; when that is
 * used up it takes claims of the others' ranges from their backs. So neighbouring chunks are mostly one thread's, and those of the
 * next step the same thread's: what it wrote lies in the caches of its own core. The caller returns when every chunk is done. It
 * waits only for helpers that hold a claim: a helper that the system has taken off its CPU, that sleeps, or that could not be
 * created, costs nothing but its help, since the caller goes through its range, too.
 *
 *   share of a thread = number of the step : 40 | next claim : 12 | end of the claims : 12
 *
 * Order of memory. A claim is a compare-and-swap on a share, with acquire order against the release store that published it; only
 * then is the descriptor of the step read. The descriptor is written only while all shares are used up and every claim is done,
 * so who holds a claim reads the descriptor of that claim's step, and no chunk is ever run by that of another one. A helper that
 * is held up between reading a share and claiming fails, since the number has changed. The numbers of steps do not repeat within
 * 2^40 steps. `done` (release, read by the caller with acquire) carries what helpers wrote back.
 *
 * Where time goes: a line of memory that another core has written costs 100 to 200 ns. A step costs the caller four of them: two
 * stores that it does not wait for (descriptor, shares), what its last look at a helper's share costs, and `done`. The caller's
 * first claim needs no atomic operation, which would wait for those stores.
 *
 * Everything here is static and must exist once in a process: include this file from threads.pyx alone.
 * No Python, no allocation and no lock in here; with more than one thread in run_steps, only thread creation can block.
 */
#ifndef CNNENGINE_TEAM_H
#define CNNENGINE_TEAM_H
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__linux__) && !defined(CNNENGINE_TEAM_PORTABLE)
#define TEAM_FUTEX 1
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#define TEAM_KIND "futex"
#else
#define TEAM_FUTEX 0
#define TEAM_KIND "condition variable"
#endif

/* Measured on 2 virtual CPUs, see docs/threads.md. Times in microseconds unless named otherwise. */
#define TEAM_HELPER_SPIN 200    /* a helper looks for work this long before it sleeps ... */
#define TEAM_HELPER_RUN 400     /* ... and this long while a run is under way: the next step is near */
#define TEAM_CALLER_SPIN 20     /* the caller looks this long for a chunk that a helper holds before it sleeps */
#define TEAM_WAKE_GAP 200       /* at most one round of wakes in this time; doubles while the woken bring nothing ... */
#define TEAM_WAKE_GAP_MAX 6400  /* ... up to this */
#define TEAM_NUDGE_GAP 1000     /* a helper moves off the caller's CPU at most once in this time */
#define TEAM_LOST 200           /* a wait for a helper beyond this counts as lost to a helper without a CPU */
#define TEAM_ALONE_FACTOR 2     /* after losing w the caller works alone for this many w; twice as many ... */
#define TEAM_ALONE_AGAIN 4      /* ... when it loses again within this many times the time it was alone ... */
#define TEAM_ALONE_FACTOR_MAX 32    /* ... up to this many ... */
#define TEAM_ALONE_MAX 1000000  /* ... but no longer than this */
#define TEAM_GROW_GAP 1000000   /* after a thread could not be created, no new attempt within this time */
#define TEAM_SHARE_NS 3000.0    /* a step cheaper than this is not shared out */
#define TEAM_CLAIM_NS 500.0     /* chunks much cheaper than this are claimed in groups */
#define TEAM_WAKES 2            /* a thread wakes at most this many others; those wake the next */
#define TEAM_MAX 256            /* threads, the caller included */
#define TEAM_STACK (2u << 20)   /* bytes; chunks keep their data in scratch */

#define TEAM_DUEL 2000          /* plans that take less are run alone where that is faster, found out by ... */
#define TEAM_BURST 4            /* ... so many runs in a row, the first of which finds sleeping helpers and does not count, ... */
#define TEAM_TRIALS 4           /* ... so many times at first, in turn with the other way, ... */
#define TEAM_RETRY 64           /* ... and once again after so many runs, and twice as many each time that it loses ... */
#define TEAM_RETRY_MAX 4096     /* ... up to this */
#define TEAM_CLAIMS 4095        /* a share has 12 bits for them */

typedef void (*team_fn)(const void *geometry, void *const *args, ssize_t chunk, char *scratch);

/* ---- clock: ticks are cheap to read and compared by difference only ---- */
#if defined(__x86_64__) || defined(__i386__)
#define TEAM_CLOCK "tsc"
static inline uint64_t team_ticks(void) { return __builtin_ia32_rdtsc(); }
static inline void team_relax(void) { __builtin_ia32_pause(); }
#elif defined(__aarch64__)
#define TEAM_CLOCK "cntvct"
static inline uint64_t team_ticks(void)
{
    uint64_t t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
}
static inline void team_relax(void) { __asm__ volatile("yield" ::: "memory"); }
#else
#define TEAM_CLOCK "clock_gettime"
static inline uint64_t team_ticks(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline void team_relax(void) { }
#endif

static inline uint64_t team_nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- a word that threads can sleep on; a wait may return early ---- */
typedef struct {
    _Alignas(64) atomic_uint word;
#if !TEAM_FUTEX
    pthread_mutex_t lock;
    pthread_cond_t changed;
#endif
} team_gate;

static inline void team_gate_init(team_gate *gate)
{
    atomic_store(&gate->word, 0);
#if !TEAM_FUTEX
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->changed, NULL);
#endif
}

static inline void team_gate_wait(team_gate *gate, unsigned value)
{
#if TEAM_FUTEX
    syscall(SYS_futex, &gate->word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
#else
    pthread_mutex_lock(&gate->lock);
    if (atomic_load(&gate->word) == value)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
#endif
}

static inline void team_gate_wake(team_gate *gate)  /* to be called after the word has changed */
{
#if TEAM_FUTEX
    syscall(SYS_futex, &gate->word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
#else
    pthread_mutex_lock(&gate->lock);
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
#endif
}

/* ---- the state ---- */
typedef struct { _Alignas(64) _Atomic uint64_t word; } team_share;

static struct {
    /* the descriptor: one step, in one line; read by who holds a claim of it */
    _Alignas(64) team_fn fn;
    const void *geometry;
    void *const *args;
    char *scratch;
    ssize_t stride, n_chunks;
    ssize_t group;                      /* chunks of a claim */
    int threads;                        /* threads that may claim, the caller included */
    /* written by helpers */
    team_gate done;                     /* claims that helpers have finished, ever, modulo 2^32 */
    _Alignas(64) atomic_int waiting;    /* the caller may be asleep on done; only the caller writes it */
    atomic_int cpu, tid;                /* where the caller is, who it is */
    atomic_int awake;                   /* threads that the last round of wakes was for */
    _Alignas(64) atomic_int owned;      /* a caller has the team; guards everything below */
    _Atomic int helpers;                /* threads created; read by team_helpers() without ownership */
    uint64_t number, woke, gap, alone_from, alone_for, was_alone, resumed, factor, grow_from, grow_for;
    unsigned done_at_wake;
    team_gate asleep[TEAM_MAX];         /* per helper: 1 while it sleeps */
    team_share share[TEAM_MAX];         /* per thread, the caller's first */
} team;

static _Atomic uint64_t team_us;        /* ticks in a microsecond; 0: not known yet. Set by a caller that has the team, read by all */
static uint64_t team_loaded_ns, team_loaded_ticks;
static atomic_int team_spoil_creation;  /* test hook: thread creation fails */

/* The clock's rate, from the time since the module was loaded; waits half a millisecond at most, once in a process. */
static void team_calibrate(void)
{
#if defined(__aarch64__)
    uint64_t hertz;
    __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(hertz));
    uint64_t us = hertz / 1000000u;
#else
    uint64_t ns, us;
    while ((ns = team_nanoseconds() - team_loaded_ns) < 500000u)
        team_relax();
    us = (uint64_t)((double)(team_ticks() - team_loaded_ticks) * 1000.0 / (double)ns);
#endif
    atomic_store_explicit(&team_us, us ? us : 1, memory_order_relaxed);
}

static inline uint64_t team_number(uint64_t share) { return share >> 24; }
static inline unsigned team_next(uint64_t share) { return (unsigned)(share >> 12 & 0xfff); }
static inline unsigned team_end(uint64_t share) { return (unsigned)(share & 0xfff); }

/* ---- waking ---- */
static void team_wake(int threads)
{
    int t, most = TEAM_WAKES;
    for (t = 1; t < threads && most; t++) {
        unsigned one = 1;
        if (atomic_load_explicit(&team.asleep[t].word, memory_order_relaxed) == 1
            && atomic_compare_exchange_strong(&team.asleep[t].word, &one, 0)) {
            team_gate_wake(&team.asleep[t]);
            most--;
        }
    }
}

/* ---- claims ---- */
static inline void team_run_claim(team_fn fn, const void *geometry, void *const *args, char *scratch, ssize_t claim,
                                  ssize_t group, ssize_t n_chunks)
{
    ssize_t chunk = claim * group, end = n_chunks - chunk > group ? chunk + group : n_chunks;
    for (; chunk < end; chunk++)
        fn(geometry, args, chunk, scratch);
}

/* Scratch begins with zeros at a thread's first chunk of a step: what a chunk leaves there, the thread's next one finds. */
static inline char *team_fresh(char *scratch, ssize_t stride, int t)
{
    if (!scratch || stride < 64)
        return scratch;
    scratch += t * stride;
    memset(scratch, 0, 64);
    return scratch;
}

/* Claim the next of thread t's own range, or the last one of another thread's; returns its number, or -1 when there is none. */
static inline int team_claim_own(team_share *share, uint64_t number)
{
    uint64_t word = atomic_load_explicit(&share->word, memory_order_relaxed);
    while (team_number(word) == number && team_next(word) < team_end(word))
        if (atomic_compare_exchange_weak_explicit(&share->word, &word, word + (1u << 12), memory_order_acq_rel,
                                                  memory_order_relaxed))
            return (int)team_next(word);
    return -1;
}

static inline int team_claim_other(team_share *share, uint64_t number)
{
    uint64_t word = atomic_load_explicit(&share->word, memory_order_relaxed);
    while (team_number(word) == number && team_next(word) < team_end(word))
        if (atomic_compare_exchange_weak_explicit(&share->word, &word, word - 1, memory_order_acq_rel, memory_order_relaxed))
            return (int)team_end(word) - 1;
    return -1;
}

/* ---- helpers ---- */
static inline void team_report(unsigned count)
{
    /* Sequentially consistent with the caller's store to `waiting` and load of `done`: one of the two sees the other. */
    atomic_fetch_add(&team.done.word, count);
    if (atomic_load(&team.waiting))
        team_gate_wake(&team.done);
}

/* Take part, as thread t, in the step of this number; returns whether there was a claim for it. What is done is reported before
 * the thread looks at other threads' ranges: the caller may be waiting. */
static int team_help(int t, uint64_t number)
{
    char *scratch = NULL;
    int claim, helped = 0, v, threads = 0;
    unsigned count = 0;
    __builtin_prefetch(&team.fn);
    while ((claim = team_claim_own(&team.share[t], number)) >= 0) {
        if (!helped) {
            helped = 1;
            scratch = team_fresh(team.scratch, team.stride, t);
            threads = team.threads;
        }
        team_run_claim(team.fn, team.geometry, team.args, scratch, claim, team.group, team.n_chunks);
        count++;
    }
    if (count)
        team_report(count);
    /* Whose own range was used up by others came late: there is little left, and it may not touch the descriptor. */
    for (v = t + 1; helped && v != t; v++) {
        if (v >= threads)
            v = 0;
        while ((claim = team_claim_other(&team.share[v], number)) >= 0) {
            team_run_claim(team.fn, team.geometry, team.args, scratch, claim, team.group, team.n_chunks);
            team_report(1);
        }
    }
    return helped;
}

#if TEAM_FUTEX
static inline int team_stacked(void)
{
    return sched_getcpu() == atomic_load_explicit(&team.cpu, memory_order_relaxed);
}

/* Move the calling helper off the CPU it shares with the caller; returns 0 when it may not run anywhere else. The mask is put back
 * only if nobody else changed it meanwhile. */
static int team_move(void)
{
    cpu_set_t mask, others, now;
    int me = sched_getcpu();
    if (me < 0 || me >= CPU_SETSIZE || sched_getaffinity(0, sizeof mask, &mask))
        return 0;
    others = mask;
    CPU_CLR(me, &others);
    if (!CPU_COUNT(&others) || sched_setaffinity(0, sizeof others, &others))
        return 0;
    if (!sched_getaffinity(0, sizeof now, &now) && CPU_EQUAL(&now, &others))
        sched_setaffinity(0, sizeof mask, &mask);
    return 1;
}

/* Take over the caller's affinity if it is another one than when the helper last looked. */
static void team_follow(cpu_set_t *known)
{
    cpu_set_t mask;
    int tid = atomic_load_explicit(&team.tid, memory_order_relaxed);
    if (tid && !sched_getaffinity(tid, sizeof mask, &mask) && !CPU_EQUAL(&mask, known)) {
        *known = mask;
        sched_setaffinity(0, sizeof mask, &mask);
    }
}
#endif

static void *team_helper(void *arg)
{
    int t = (int)(intptr_t)arg;
    team_gate *gate = &team.asleep[t];
    uint64_t idle = team_ticks(), number = 0;
#if TEAM_FUTEX
    uint64_t moved = idle - TEAM_NUDGE_GAP * team_us;
    cpu_set_t known;
    char name[16];
    if (sched_getaffinity(0, sizeof known, &known))
        CPU_ZERO(&known);
    snprintf(name, sizeof name, "cnnengine-%d", t);
    pthread_setname_np(pthread_self(), name);
#endif
    for (;;) {
        for (;;) {
            uint64_t word = atomic_load_explicit(&team.share[t].word, memory_order_relaxed);
            if (team_number(word) != number && team_next(word) < team_end(word)) {
                number = team_number(word);
                if (team_help(t, number))
                    idle = team_ticks();
                continue;
            }
            if (team_ticks() - idle > TEAM_HELPER_SPIN * team_us
                && (!atomic_load_explicit(&team.owned, memory_order_relaxed) || team_ticks() - idle > TEAM_HELPER_RUN * team_us))
                break;
#if TEAM_FUTEX
            if (team_stacked()) {       /* two spinning threads on one CPU delay each other for whole time slices */
                uint64_t now = team_ticks();
                if (now - moved < TEAM_NUDGE_GAP * team_us)
                    break;
                moved = now;
                if (!team_move())
                    break;
                idle = team_ticks();
                continue;
            }
#endif
            team_relax();
        }
        /* A step that is published just now may be missed: the caller does it without this helper. */
        atomic_store(&gate->word, 1);
        while (atomic_load(&gate->word) == 1)
            team_gate_wait(gate, 1);
#if TEAM_FUTEX
        team_follow(&known);
#endif
        {
            uint64_t word = atomic_load_explicit(&team.share[t].word, memory_order_relaxed);
            if (team_next(word) < team_end(word))
                team_wake(atomic_load_explicit(&team.awake, memory_order_relaxed));
        }
        idle = team_ticks();
    }
    return NULL;
}

/* Create helpers until there are `wanted`, or as many as the system gives. Owner only. */
static void team_grow(int wanted)
{
    pthread_attr_t attributes;
    sigset_t blocked, before;
    pthread_t thread;
    int have = atomic_load_explicit(&team.helpers, memory_order_relaxed);
    uint64_t now = team_ticks();
    if (team.grow_for && now - team.grow_from < team.grow_for)
        return;
    team.grow_for = 0;
    if (pthread_attr_init(&attributes))
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, TEAM_STACK);
    /* Inherited by the helpers: signals go to the program's own threads. A helper's own faults stay deliverable, since the system
     * kills the process without a word, and without faulthandler's traceback, where they are blocked. */
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    while (have < wanted) {
        if (atomic_load(&team_spoil_creation)
            || pthread_create(&thread, &attributes, team_helper, (void *)(intptr_t)(have + 1))) {
            team.grow_from = now;
            team.grow_for = TEAM_GROW_GAP * team_us;
            break;
        }
        have++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    atomic_store_explicit(&team.helpers, have, memory_order_relaxed);
}

/* ---- the caller ---- */

/* Take the team, unless the caller has it already or another one has it; returns whether there is a team to work with. */
static inline int team_enter(int *owner, int threads)
{
    if (!*owner) {
        if (atomic_load_explicit(&team.owned, memory_order_relaxed)
            || atomic_exchange_explicit(&team.owned, 1, memory_order_acquire))
            return 0;
        *owner = 1;
        if (!team_us)
            team_calibrate();
        if (atomic_load_explicit(&team.helpers, memory_order_relaxed) < threads - 1)
            team_grow(threads - 1);
#if TEAM_FUTEX
        atomic_store_explicit(&team.tid, (int)syscall(SYS_gettid), memory_order_relaxed);
#endif
    }
    return atomic_load_explicit(&team.helpers, memory_order_relaxed) > 0;
}

static inline void team_leave(int owner)
{
    if (owner)
        atomic_store_explicit(&team.owned, 0, memory_order_release);
}

static inline void team_alone(team_fn fn, const void *geometry, ssize_t n_chunks, void *const *args, char *scratch, ssize_t stride)
{
    ssize_t chunk;
    team_fresh(scratch, stride, 0);
    for (chunk = 0; chunk < n_chunks; chunk++)
        fn(geometry, args, chunk, scratch);
}

/* Wait until helpers have finished `want` claims in all; returns the ticks that it took. */
static inline uint64_t team_wait(unsigned want)
{
    uint64_t start, now;
    unsigned done;
    if (atomic_load_explicit(&team.done.word, memory_order_acquire) == want)
        return 0;
    start = now = team_ticks();
    while ((done = atomic_load_explicit(&team.done.word, memory_order_acquire)) != want) {
        if (now - start < TEAM_CALLER_SPIN * team_us) {
            team_relax();
        } else {
            atomic_store(&team.waiting, 1);
            done = atomic_load(&team.done.word);
            if (done != want)
                team_gate_wait(&team.done, done);
            atomic_store(&team.waiting, 0);
        }
        now = team_ticks();
    }
    return now - start;
}

/* Run every chunk of one step; *owner is 0 before the first step of a plan and goes to team_leave after the last one. */
static void team_step(int *owner, team_fn fn, const void *geometry, ssize_t n_chunks, void *const *args, char *scratch,
                      ssize_t stride, int threads, double cost)
{
    ssize_t group = 1, claims;
    uint64_t start, now, lost, number;
    unsigned before, mine = 0;
    int t, claim;
    if (n_chunks <= 0)
        return;
    if (threads > TEAM_MAX)
        threads = TEAM_MAX;
    if (n_chunks == 1 || threads <= 1 || (cost > 0.0 && cost < TEAM_SHARE_NS) || !team_enter(owner, threads)) {
        team_alone(fn, geometry, n_chunks, args, scratch, stride);
        return;
    }
    start = team_ticks();
    if (team.alone_for) {
        if (start - team.alone_from < team.alone_for) {
            team_alone(fn, geometry, n_chunks, args, scratch, stride);
            return;
        }
        team.was_alone = team.alone_for;
        team.resumed = start;
        team.alone_for = 0;
    }
    if (threads > atomic_load_explicit(&team.helpers, memory_order_relaxed) + 1)
        threads = atomic_load_explicit(&team.helpers, memory_order_relaxed) + 1;

    /* Claims are worth TEAM_CLAIM_NS where the cost is known, but every thread shall get at least four. */
    if (cost > 0.0) {
        double wanted = TEAM_CLAIM_NS * (double)n_chunks / cost, most = (double)(n_chunks / (4 * threads));
        if (wanted > most)
            wanted = most;
        if (wanted > 1.0)
            group = (ssize_t)wanted;
    }
    if ((n_chunks - 1) / group >= TEAM_CLAIMS)
        group = (n_chunks - 1) / TEAM_CLAIMS + 1;
    claims = (n_chunks - 1) / group + 1;

    before = atomic_load_explicit(&team.done.word, memory_order_relaxed);
    team.fn = fn;
    team.geometry = geometry;
    team.args = args;
    team.scratch = scratch;
    team.stride = stride;
    team.n_chunks = n_chunks;
    team.group = group;
    team.threads = threads;
    number = ++team.number & (((uint64_t)1 << 40) - 1);
    for (t = threads - 1; t >= 0; t--) {
        uint64_t next = (uint64_t)((t * claims + threads - 1) / threads), end = (uint64_t)(((t + 1) * claims + threads - 1) / threads);
        /* the caller's first claim is claimed already */
        atomic_store_explicit(&team.share[t].word, number << 24 | (t ? next : 1) << 12 | end, memory_order_release);
    }
#if TEAM_FUTEX
    t = sched_getcpu();
    if (atomic_load_explicit(&team.cpu, memory_order_relaxed) != t)
        atomic_store_explicit(&team.cpu, t, memory_order_relaxed);
#endif

    if (start - team.woke > team.gap) {
        for (t = 1; t < threads; t++)
            if (atomic_load_explicit(&team.asleep[t].word, memory_order_relaxed) == 1)
                break;
        if (t < threads) {
            team.gap = before != team.done_at_wake || !team.gap ? TEAM_WAKE_GAP * team_us : 2 * team.gap;
            if (team.gap > TEAM_WAKE_GAP_MAX * team_us)
                team.gap = TEAM_WAKE_GAP_MAX * team_us;
            team.done_at_wake = before;
            team.woke = start;
            atomic_store_explicit(&team.awake, threads, memory_order_relaxed);
            team_wake(threads);
        }
    }

    team_fresh(scratch, stride, 0);
    for (claim = 0; claim >= 0; claim = team_claim_own(&team.share[0], number)) {
        team_run_claim(fn, geometry, args, scratch, claim, group, n_chunks);
        mine++;
    }
    for (t = 1; t < threads; t++) {
        while ((claim = team_claim_other(&team.share[t], number)) >= 0) {
            team_run_claim(fn, geometry, args, scratch, claim, group, n_chunks);
            mine++;
        }
    }
    now = team_ticks();
    lost = team_wait(before + (unsigned)claims - mine);
    /* Long chunks are waited for, too: a helper counts as lost only when it took far longer than the caller for its own. */
    if (lost > TEAM_LOST * team_us && mine && lost > 2 * ((now - start) / mine)) {
        team.alone_from = team_ticks();
        if (team.was_alone && team.alone_from - team.resumed < TEAM_ALONE_AGAIN * team.was_alone)
            team.factor = 2 * team.factor < TEAM_ALONE_FACTOR_MAX ? 2 * team.factor : TEAM_ALONE_FACTOR_MAX;
        else
            team.factor = TEAM_ALONE_FACTOR;
        team.alone_for = lost > TEAM_ALONE_MAX / team.factor * team_us ? TEAM_ALONE_MAX * team_us : team.factor * lost;
    }
}

/* ---- plans that are too short to share ---- */

/* How long a plan takes alone and shared. Steps of a few microseconds gain little when they are shared, and those after them,
 * alone again, lose as much when they read what another core has written: only the whole tells. Any number of callers may use a
 * record at once; a lost update is no harm. Zeros are a new record. */
typedef struct {
    _Alignas(64) _Atomic uint64_t taken[2];     /* ticks, smoothed: shared, alone */
    atomic_uint runs, retry, at;                /* of this phase; the next retry after so many; runs when the phase began */
    atomic_int way, settled, longer;            /* 1: alone; the trials are over; too long to ask */
} team_habit;

enum { TEAM_HABIT_BYTES = sizeof(team_habit) };

/* Whether this plan is run alone by now. */
static inline int team_habit_alone(team_habit *habit)
{
    return atomic_load_explicit(&habit->settled, memory_order_relaxed) && atomic_load_explicit(&habit->way, memory_order_relaxed);
}

#define TEAM_GET(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define TEAM_SET(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

/* Which way the next run of this plan goes: 1 alone, 0 shared; *timed is whether team_habit_note wants to know its time. */
static int team_habit_way(team_habit *habit, int *timed)
{
    unsigned runs = TEAM_GET(habit->runs), at = runs - TEAM_GET(habit->at), retry = TEAM_GET(habit->retry);
    int way = TEAM_GET(habit->way);
    *timed = 0;
    if (TEAM_GET(habit->longer))
        return 0;
    TEAM_SET(habit->runs, runs + 1);
    if (!TEAM_GET(habit->settled)) {
        *timed = at % TEAM_BURST != 0;
        return (int)(at / TEAM_BURST % 2);
    }
    *timed = at != 0 && at != retry;
    return at >= retry ? !way : way;
}

static void team_habit_note(team_habit *habit, int alone, uint64_t ticks)
{
    uint64_t known = TEAM_GET(habit->taken[alone]), other, us = TEAM_GET(team_us);
    unsigned at = TEAM_GET(habit->runs) - TEAM_GET(habit->at), retry = TEAM_GET(habit->retry);
    int way = TEAM_GET(habit->way), settled = TEAM_GET(habit->settled), best;
    if (!settled)
        known = known && known < ticks ? known : ticks;
    else if (ticks < known)
        known -= (known - ticks) / 8;
    else
        known += ((ticks < 2 * known ? ticks : 2 * known) - known) / 8;
    TEAM_SET(habit->taken[alone], known);
    if (!settled && !alone && us && known > TEAM_DUEL * us) {
        TEAM_SET(habit->longer, 1);
        return;
    }
    if (at < (settled ? retry + TEAM_BURST : 2 * TEAM_TRIALS * TEAM_BURST))
        return;
    /* the other way must win by a thirty-second */
    other = TEAM_GET(habit->taken[!way]);
    best = other + other / 32 < TEAM_GET(habit->taken[way]) ? !way : way;
    retry = best == way && settled ? 2 * retry : TEAM_RETRY;
    TEAM_SET(habit->way, best);
    TEAM_SET(habit->settled, 1);
    TEAM_SET(habit->retry, retry > TEAM_RETRY_MAX ? TEAM_RETRY_MAX : retry);
    TEAM_SET(habit->at, TEAM_GET(habit->runs));
}

/* ---- fork ---- */

/* libgomp's threads do not exist in the child, where its next region would wait for them: they are given up before the fork, and
 * made again by the next region in parent and child. A thread that never ran a region has no pool to give up. Within a region
 * nothing can be given up. */
static void team_before_fork(void)
{
#ifdef _OPENMP
    if (!omp_in_parallel() && omp_get_level() == 0)
        omp_pause_resource_all(omp_pause_hard);
#endif
}

static void team_reset(void)
{
    int t;
    for (t = 0; t < TEAM_MAX; t++)
        atomic_store(&team.share[t].word, 0);
    atomic_store(&team.waiting, 0);
    atomic_store(&team.helpers, 0);
    atomic_store(&team.awake, 0);
    atomic_store(&team.cpu, -1);
    atomic_store(&team.tid, 0);
    team.number = team.woke = team.gap = 0;
    team.was_alone = team.resumed = team.factor = 0;
    team.alone_from = team.alone_for = team.grow_from = team.grow_for = 0;
    team.done_at_wake = 0;
    team_gate_init(&team.done);
    for (t = 0; t < TEAM_MAX; t++)
        team_gate_init(&team.asleep[t]);
    atomic_store(&team.owned, 0);
}

/* What this thread's OpenMP allows, as threadpoolctl and omp_set_num_threads set it; 0 where nobody changed it since the start:
 * OMP_NUM_THREADS alone is an order for the default count, which CNNENGINE_NUM_THREADS overrules. */
static int team_openmp_start;
static inline int team_openmp_limit(void)
{
#ifdef _OPENMP
    int now = omp_get_max_threads();
    return now == team_openmp_start ? 0 : now;
#else
    return 0;
#endif
}

static int team_init(void)
{
#ifdef _OPENMP
    team_openmp_start = omp_get_max_threads();
#endif
    team_loaded_ns = team_nanoseconds();
    team_loaded_ticks = team_ticks();
    team_reset();
    return pthread_atfork(team_before_fork, NULL, team_reset);
}

static inline int team_helpers(void) { return atomic_load_explicit(&team.helpers, memory_order_relaxed); }
static inline void team_spoil(int on) { atomic_store(&team_spoil_creation, on); }

#ifdef _OPENMP
static const int team_openmp = _OPENMP;
#else
static const int team_openmp = 0;
#endif
#endif
