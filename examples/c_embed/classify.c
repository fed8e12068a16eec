/* Classify raw float32 images in a C program without any Python of its own, from several threads at once.
 *
 *     classify MODEL THREADS IMAGE.f32...
 *
 * Each thread has a workspace of its own and classifies every image; all must agree to the last bit. Prints a line per image: the
 * number of the largest output. See README.md beside this file for how to build it. */
#include <cnnengine_embed.h>
#include <pthread.h>

enum { MAX_THREADS = 64 };

static cnne_model model;
static cnne_info input, output;
static int64_t input_size = 1, output_size = 1;
static float *images;
static int n_images;

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, cnne_last_error());
    return 1;
}

static void *classify(void *results)
{
    cnne_workspace workspace;
    cnne_tensor in = {NULL, input.dtype, input.rank, input.dims, NULL}, out = {NULL, output.dtype, output.rank, output.dims, NULL};
    if (cnne_workspace_new(model, &in, 1, 0, &workspace) != CNNE_OK)
        return failed("workspace"), NULL;
    for (int i = 0; i < n_images; i++) {
        in.data = images + i * input_size;
        out.data = (float *)results + i * output_size;
        if (cnne_run(workspace, &in, 1, &out, 1) != CNNE_OK)
            return failed("run"), NULL;
    }
    cnne_workspace_free(workspace);
    return results;
}

int main(int argc, char **argv)
{
    cnne_options options = {sizeof(options), 0, 1};
    pthread_t threads[MAX_THREADS];
    float *results[MAX_THREADS];
    cnne_workspace workspace;
    int n_threads = argc > 3 ? atoi(argv[2]) : 0, wrong = 0;
    if (n_threads < 1 || n_threads > MAX_THREADS) {
        fprintf(stderr, "usage: classify MODEL THREADS IMAGE.f32...\n");
        return 2;
    }
    if (cnne_embed_start() != 0)
        return 1;
    if (cnne_load(argv[1], &options, &model) != CNNE_OK)
        return failed(argv[1]);
    /* the file's shapes, with a batch of one */
    if (cnne_workspace_new(model, NULL, 0, 0, &workspace) != CNNE_OK || cnne_workspace_output(workspace, 0, &output) != CNNE_OK)
        return failed("workspace");
    if (cnne_input_info(model, 0, &input) != CNNE_OK)
        return failed("input");
    input.dims[0] = 1;
    for (int i = 0; i < input.rank; i++)
        input_size *= input.dims[i];
    for (int i = 0; i < output.rank; i++)
        output_size *= output.dims[i];

    n_images = argc - 3;
    images = malloc(sizeof(float) * input_size * n_images);
    for (int i = 0; i < n_images; i++) {
        FILE *file = fopen(argv[3 + i], "rb");
        if (file == NULL || fread(images + i * input_size, sizeof(float), input_size, file) != (size_t)input_size) {
            fprintf(stderr, "%s: cannot read %lld floats\n", argv[3 + i], (long long)input_size);
            return 1;
        }
        fclose(file);
    }
    for (int t = 0; t < n_threads; t++) {
        results[t] = calloc(output_size * n_images, sizeof(float));
        if (pthread_create(&threads[t], NULL, classify, results[t]) != 0)
            return 1;
    }
    for (int t = 0; t < n_threads; t++) {
        void *done;
        pthread_join(threads[t], &done);
        wrong += done == NULL || memcmp(results[t], results[0], sizeof(float) * output_size * n_images) != 0;
    }
    for (int i = 0; i < n_images; i++) {
        const float *y = results[0] + i * output_size;
        int best = 0;
        for (int k = 1; k < output_size; k++)
            best = y[k] > y[best] ? k : best;
        printf("%s %d %.9g\n", argv[3 + i], best, y[best]);
    }
    cnne_workspace_free(workspace);
    cnne_model_free(model);
    cnne_embed_stop();
    return wrong ? 1 : 0;
}
