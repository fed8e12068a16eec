/* The time of one cnne_run: call_time MODEL [CALLS]. The model has one input and one output; a dynamic batch is 1. */
#include <cnnengine_embed.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, cnne_last_error());
    return 1;
}

/* Zeroed memory for a tensor of known extents; 8 bytes are enough for every element type. */
static void *memory_of(const cnne_info *info)
{
    size_t count = 1;
    for (int i = 0; i < info->rank; i++)
        count *= (size_t)info->dims[i];
    return calloc(count + 1, 8);
}

int main(int argc, char **argv)
{
    cnne_options options = {sizeof(options), 0, 1};
    cnne_model model;
    cnne_workspace workspace;
    cnne_info input, output;
    int32_t inputs, outputs;
    long calls = argc > 2 ? atol(argv[2]) : 20000;
    double best = 1e30;
    if (argc < 2 || calls < 1) {
        fprintf(stderr, "usage: call_time MODEL [CALLS]\n");
        return 2;
    }
    if (cnne_embed_start() != 0)
        return 2;
    if (cnne_load(argv[1], &options, &model) || cnne_input_count(model, &inputs) || cnne_output_count(model, &outputs))
        return failed(argv[1]);
    if (inputs != 1 || outputs != 1) {
        fprintf(stderr, "%s: %d inputs and %d outputs, not one of each\n", argv[1], (int)inputs, (int)outputs);
        return 1;
    }
    /* the file's shapes, with a batch of one */
    if (cnne_workspace_new(model, NULL, 0, 0, &workspace) || cnne_input_info(model, 0, &input) ||
        cnne_workspace_output(workspace, 0, &output))
        return failed("workspace");
    if (input.rank > 0 && input.dims[0] < 0)
        input.dims[0] = 1;
    cnne_tensor in = {memory_of(&input), input.dtype, input.rank, input.dims, NULL};
    cnne_tensor out = {memory_of(&output), output.dtype, output.rank, output.dims, NULL};
    if (in.data == NULL || out.data == NULL) {
        fprintf(stderr, "no memory\n");
        return 1;
    }
    for (int round = 0; round < 20; round++) {
        double start = now();
        for (long i = 0; i < calls; i++)
            if (cnne_run(workspace, &in, 1, &out, 1) != CNNE_OK)
                return failed("run");
        double each = (now() - start) / calls;
        best = each < best ? each : best;
    }
    printf("%.1f ns\n", best);
    free(in.data);
    free(out.data);
    cnne_workspace_free(workspace);
    cnne_model_free(model);
    cnne_embed_stop();
    return 0;
}
