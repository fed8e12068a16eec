/* The time of one cnne_run: call_time MODEL [CALLS]. The model has one input and one output of fixed shapes. */
#include <cnnengine_embed.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv)
{
    cnne_options options = {sizeof(options), 0, 1};
    cnne_model model;
    cnne_workspace workspace;
    cnne_info input, output;
    static char x[1 << 20], y[1 << 20];
    long calls = argc > 2 ? atol(argv[2]) : 20000;
    double best = 1e30;
    if (argc < 2 || cnne_embed_start() != 0)
        return 2;
    if (cnne_load(argv[1], &options, &model) || cnne_workspace_new(model, NULL, 0, 0, &workspace) ||
        cnne_input_info(model, 0, &input) || cnne_workspace_output(workspace, 0, &output)) {
        fprintf(stderr, "%s\n", cnne_last_error());
        return 1;
    }
    cnne_tensor in = {x, input.dtype, input.rank, input.dims, NULL}, out = {y, output.dtype, output.rank, output.dims, NULL};
    for (int round = 0; round < 20; round++) {
        double start = now();
        for (long i = 0; i < calls; i++)
            if (cnne_run(workspace, &in, 1, &out, 1) != CNNE_OK)
                return 1;
        double each = (now() - start) / calls;
        best = each < best ? each : best;
    }
    printf("%.1f ns\n", best);
    cnne_workspace_free(workspace);
    cnne_model_free(model);
    cnne_embed_stop();
    return 0;
}
