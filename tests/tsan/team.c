/* The thread team and the handles of the C interface under ThreadSanitizer: several callers, some with the team and some alone, plans of
 * steps whose chunks read what other chunks of the step before wrote; habits that callers share; handles that are made, held and closed.
 * tests/tsan/test_tsan.py builds and runs it. Prints the wrong numbers; the sanitizer's exit status is its own. */
#include "team.h"
#include "capi_handles.h"
#include <stdlib.h>

enum { CALLERS = 3, PLANS = 300, STEPS = 40, MOST = 48 };

typedef struct {
    int step;
    ssize_t n_chunks, before;           /* chunks of this step and of the one before */
} geometry_t;

static team_habit habit;                /* one plan's, whoever runs it */
static atomic_int wrong;

/* args: what the step before wrote, what this one writes. Every chunk reads all of the former. */
static void chunk(const void *geometry, void *const *args, ssize_t number, char *scratch)
{
    const geometry_t *g = geometry;
    const long *from = args[0];
    long *to = args[1], sum = g->step;
    ssize_t i;
    (void)scratch;
    for (i = 0; i < g->before; i++)
        sum += from[i] % 1000;
    to[number] = sum + number;
}

static long expected(int steps)
{
    static long rows[2][MOST];
    ssize_t before = 0, n, i, c;
    int s;
    long sum = 0;
    for (s = 0; s < steps; s++) {
        n = 2 + s * 7 % (MOST - 2);
        for (c = 0; c < n; c++) {
            rows[s & 1][c] = s + c;
            for (i = 0; i < before; i++)
                rows[s & 1][c] += rows[!(s & 1)][i] % 1000;
        }
        before = n;
    }
    for (c = 0; c < before; c++)
        sum += rows[(steps - 1) & 1][c];
    return sum;
}

static long wanted;

static void *caller(void *arg)
{
    int number = (int)(intptr_t)arg, p, s;
    static char scratches[CALLERS][8 * 128];
    for (p = 0; p < PLANS; p++) {
        long rows[2][MOST], sum = 0;
        geometry_t steps[STEPS];
        void *args[STEPS][2];
        ssize_t before = 0, c;
        int owner = 0, timed = 0, busy, threads = 2 + number % 3;
        uint64_t start = 0, handle = handle_new(rows, 1 + number % 2);
        void *object;
        if (team_habit_way(&habit, &timed) && p % 4 == 0)
            threads = 1;
        start = team_ticks();
        for (s = 0; s < STEPS; s++) {
            steps[s] = (geometry_t){s, 2 + s * 7 % (MOST - 2), before};
            before = steps[s].n_chunks;
            args[s][0] = rows[!(s & 1)];
            args[s][1] = rows[s & 1];
            /* costs that are known and not, so that chunks are claimed one by one and in groups */
            team_step(&owner, chunk, &steps[s], steps[s].n_chunks, args[s], scratches[number], 128, threads, s % 3 ? 0.0 : 20000.0);
        }
        team_leave(owner);
        team_habit_note(&habit, threads == 1, team_ticks() - start);
        for (c = 0; c < before; c++)
            sum += rows[(STEPS - 1) & 1][c];
        if (sum != wanted)
            atomic_fetch_add(&wrong, 1);
        if (handle_take(handle, 1 + number % 2, 1, &busy) != rows)
            atomic_fetch_add(&wrong, 1);
        if (handle_close(handle, 1 + number % 2, 0, &object) != 1 || object || handle_drop(handle) != rows)
            atomic_fetch_add(&wrong, 1);
        if (p % 50 == 0)
            usleep(1000);               /* helpers fall asleep and are woken */
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[CALLERS];
    int i;
    if (team_init() || handles_init())
        return 3;
    wanted = expected(STEPS);
    for (i = 0; i < CALLERS; i++)
        if (pthread_create(&threads[i], NULL, caller, (void *)(intptr_t)i))
            return 3;
    for (i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    printf("%d wrong, %d helpers\n", atomic_load(&wrong), team_helpers());
    fflush(stdout);
    return atomic_load(&wrong) ? 1 : 0;
}
