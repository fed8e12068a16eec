/* Several threads that run one model at once: callers MODEL CALLERS THREADS SECONDS. Each caller has a workspace of its own and runs
 * of THREADS threads. Prints one line of JSON. */
#define _GNU_SOURCE
#include <cnnengine_embed.h>
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

enum { MOST = 64, KEPT = 1 << 20 };

static cnne_model model;
static cnne_info input;
static double seconds, end;
static pthread_barrier_t barrier;

typedef struct {
    double *times;
    long runs;
    int status;
} caller;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cpu(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + 1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static size_t floats(const cnne_info *info)
{
    size_t n = 1;
    for (int i = 0; i < info->rank; i++)
        n *= (size_t)info->dims[i];
    return n;
}

static void *work(void *argument)
{
    caller *me = argument;
    cnne_workspace workspace;
    cnne_info output;
    float *x, *y;
    me->status = cnne_workspace_new(model, NULL, 0, 0, &workspace);
    if (!me->status)
        me->status = cnne_workspace_output(workspace, 0, &output);
    x = calloc(floats(&input), sizeof(float));
    y = calloc(me->status ? 1 : floats(&output), sizeof(float));
    cnne_tensor in = {x, input.dtype, input.rank, input.dims, NULL}, out = {y, output.dtype, output.rank, output.dims, NULL};
    for (int i = 0; i < 3 && !me->status; i++)
        me->status = cnne_run(workspace, &in, 1, &out, 1);
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        end = now() + seconds;
    pthread_barrier_wait(&barrier);
    for (double start = now(), stop; !me->status && start < end && me->runs < KEPT; start = stop) {
        me->status = cnne_run(workspace, &in, 1, &out, 1);
        stop = now();
        me->times[me->runs++] = stop - start;
    }
    cnne_workspace_free(workspace);
    free(x);
    free(y);
    return NULL;
}

static int order(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

int main(int argc, char **argv)
{
    cnne_options options = {sizeof(options), 0, 1};
    pthread_t threads[MOST];
    caller callers[MOST];
    long runs = 0;
    double *all, used, idle;
    if (argc != 5)
        return 2;
    const int n = atoi(argv[2]);
    options.threads = atoi(argv[3]);
    seconds = atof(argv[4]);
    if (n < 1 || n > MOST || cnne_embed_start() != 0)
        return 2;
    if (cnne_load(argv[1], &options, &model) || cnne_input_info(model, 0, &input)) {
        fprintf(stderr, "%s\n", cnne_last_error());
        return 1;
    }
    if (input.dims[0] < 0)
        input.dims[0] = 1;
    pthread_barrier_init(&barrier, NULL, (unsigned)n);
    for (int i = 0; i < n; i++) {
        callers[i] = (caller){malloc(sizeof(double) * KEPT), 0, 0};
        pthread_create(&threads[i], NULL, work, &callers[i]);
    }
    used = cpu();
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
        runs += callers[i].runs;
        if (callers[i].status) {
            fprintf(stderr, "%s\n", cnne_status_name(callers[i].status));
            return 1;
        }
    }
    used = cpu() - used;
    all = malloc(sizeof(double) * (size_t)(runs + 1));
    runs = 0;
    for (int i = 0; i < n; i++) {
        memcpy(all + runs, callers[i].times, sizeof(double) * (size_t)callers[i].runs);
        runs += callers[i].runs;
    }
    qsort(all, (size_t)runs, sizeof(double), order);
    /* helpers go to sleep within a moment; from then on an idle process uses nothing */
    nanosleep(&(struct timespec){0, 100000000}, NULL);
    idle = cpu();
    nanosleep(&(struct timespec){1, 0}, NULL);
    idle = cpu() - idle;
    printf("{\"runs_per_second\": %g, \"p50_ms\": %g, \"p99_ms\": %g, \"cpus\": %g, \"idle_ms\": %g}\n", (double)runs / seconds,
           1e3 * all[runs / 2], 1e3 * all[(long)(0.99 * (double)(runs - 1))], used / seconds, 1e3 * idle);
    cnne_model_free(model);
    cnne_embed_stop();
    return 0;
}
