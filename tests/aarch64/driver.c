/* Runs every tile of one family against naive C, without a Python: for instruction sets that the build machine lacks.
 *
 * Compiled once per family: -DFAMILY_conv (winograd, pool, vector, norm, move, image, recurrent, half, qvector, qpool, qdense)
 * -DSOURCE="conv.c", the C file that Cython makes of
 * cnnengine/_kernels/tiles/conv.pyx. The tiles are static functions of that file, named here by Cython's mangling;
 * what needs CPython is never called and is dropped by the linker (-ffunction-sections -Wl,--gc-sections).
 * Prints the number of comparisons; exits with 1 when one differs. */
#include SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define MODULE __pyx_f_9cnnengine_8_kernels_5tiles_
#define TYPES __pyx_t_9cnnengine_8_kernels_5tiles_
#define ENUMS __pyx_e_9cnnengine_8_kernels_5tiles_

static long compared, failed;
static unsigned long long state = 20261122;

static float uniform(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (float)((double)(state >> 40) / (1 << 23) - 1.0);
}

static int below(int n) { return (int)((uniform() + 1) * 0.4999 * n); }

static float *floats(size_t n)
{
    float *p = malloc((n + 1) * sizeof(float));
    for (size_t i = 0; i < n; i++)
        p[i] = uniform();
    return p;
}

static float *filled(size_t n, float value)
{
    float *p = malloc((n + 1) * sizeof(float));
    for (size_t i = 0; i < n; i++)
        p[i] = value;
    return p;
}

/* `scale`: what rounding errors are relative to */
static void check(const char *what, double got, double want, double scale, double tolerance)
{
    compared++;
    if (isnan(want) ? isnan(got) : got == want || fabs(got - want) <= tolerance * scale)
        return;
    if (failed++ < 20)
        printf("%s: %.9g, %.9g expected\n", what, got, want);
}

/* ------------------------------------------------------------------ convolution */
#ifdef FAMILY_conv
#define TILE(name) JOIN(MODULE, 4conv_##name)
typedef struct JOIN(TYPES, 4conv_conv_tile_t) conv_tile;
typedef struct JOIN(TYPES, 4conv_depthwise_tile_t) depthwise_tile;
typedef void (*conv_fn)(int, Py_ssize_t, const conv_tile *);

/* Weights are [plane][tap][channel][blocks * LANES]; three and four blocks lie as two panels, of two blocks and of the rest. */
/* 1 to 3 tiles side by side, each of `wide` pixels */
static void conv(conv_fn fn, int blocks, int stride, int wide, int is_plain)
{
    char what[100];
    for (int round = 0; round < 24; round++) {
        conv_tile t;
        memset(&t, 0, sizeof t);
        const int count = 1 + round % 3, width = wide * count;
        /* planes of one channel: a tap is a run of neighbouring floats */
        const int unit = is_plain ? 1 : LANES, channels = is_plain ? 1 + round % 3 : LANES, step = stride ? stride : 3;
        const int planes = is_plain ? 1 + round / 3 % 3 : round % 3, taps = round % 8 == 7 ? 0 : 1 + round % 4;
        const int partial = is_plain ? 0 : planes ? (round % 2 ? 1 + below(LANES - 1) : 0) : 1 + below(LANES - 1);
        const int whole = planes + (partial > 0), pixels = (width - 1) * step + 2 * taps + channels + 1;
        const int first_panel = (blocks < 2 ? blocks : 2) * LANES, second_panel = blocks * LANES - first_panel;
        const size_t per_channel = (size_t)blocks * LANES;
        const long xplane = (long)pixels * unit, yplane = (long)(width + 2) * LANES, rplane = (long)(width + 1) * LANES;
        Py_ssize_t offsets[4], skips[5];
        int all_taps = taps;
        for (int i = 0; i <= taps; i++)
            all_taps += (int)(skips[i] = taps && round % 3 == 1 ? below(3) : 0);
        float *x = floats((size_t)whole * xplane), *bias = floats(per_channel);
        float *y = floats((size_t)blocks * yplane), *residual = floats((size_t)blocks * rplane);
        const size_t rows = (size_t)(planes * channels + partial) * all_taps;
        float *w = floats(rows * per_channel), *panel = floats(rows * first_panel), *panel2 = floats(rows * second_panel);
        for (int i = 0; i < taps; i++)
            offsets[i] = (Py_ssize_t)(i * 2 - (i > 0)) * unit;
        /* lanes that no tile may look at */
        if (partial)
            for (int p = 0; p < pixels; p++)
                for (int c = partial; c < LANES; c++)
                    x[(size_t)planes * xplane + p * LANES + c] = NAN;
        for (size_t r = 0; r < rows; r++) {
            memcpy(panel + r * first_panel, w + r * per_channel, sizeof(float) * first_panel);
            memcpy(panel2 + r * second_panel, w + r * per_channel + first_panel, sizeof(float) * second_panel);
        }
        t.x = x, t.w = panel, t.w2 = panel2, t.bias = bias, t.y = y, t.taps = offsets, t.n_taps = taps;
        t.skips = round % 3 == 1 ? skips : NULL, t.ahead = w, t.ahead_lines = round % 2, t.ahead_end = w + rows * per_channel;
        t.planes = planes, t.channels = channels, t.partial = partial, t.xplane = xplane, t.xstep = (Py_ssize_t)step * unit;
        t.yplane = yplane, t.ystep = LANES, t.rplane = rplane, t.rstep = LANES;
        t.first = round % 5 != 3, t.last = round % 7 != 2;
        t.residual = round % 2 ? residual : NULL;
        t.low = round % 3 ? -INFINITY : 0, t.high = round % 4 ? INFINITY : 0.5f;
        float *before = malloc(sizeof(float) * blocks * yplane);
        memcpy(before, y, sizeof(float) * blocks * yplane);
        fn(wide, count, &t);
        snprintf(what, sizeof what, "conv %s B=%d S=%d P=%d x %d round %d", is_plain ? "plain" : "blocked", blocks, stride, wide, count,
                 round);
        for (int b = 0; b < blocks; b++)
            for (int p = 0; p < width + 2; p++)
                for (int l = 0; l < LANES; l++) {
                    const size_t at = (size_t)b * yplane + p * LANES + l;
                    double sum = t.first ? bias[b * LANES + l] : before[at], size = 1;
                    if (p >= width) { /* not its own */
                        check(what, y[at], before[at], 0, 0);
                        continue;
                    }
                    const float *row = w;
                    for (int c = 0; c < whole && taps; c++) {
                        const int of_plane = c < planes ? channels : partial;
                        for (int tap = 0; tap < taps; tap++) {
                            row += skips[tap] * of_plane * per_channel;
                            for (int k = 0; k < of_plane; k++, row += per_channel) {
                                double v = (double)row[b * LANES + l] * x[c * xplane + offsets[tap] + (long)p * step * unit + k];
                                sum += v;
                                size += fabs(v);
                            }
                        }
                        row += skips[taps] * of_plane * per_channel;
                    }
                    if (t.last) {
                        if (t.residual)
                            sum += residual[b * rplane + p * LANES + l];
                        sum = fmin(fmax(sum, t.low), t.high);
                    }
                    check(what, y[at], sum, size, 2e-6);
                }
        free(x), free(bias), free(y), free(residual), free(w), free(panel), free(panel2), free(before);
    }
}

/* `wide`: taps are rows of so many neighbours; 0: anywhere. */
static void depthwise(void (*fn)(const depthwise_tile *), int wide, int stride)
{
    char what[80];
    for (int width = 1; width <= 37; width++)
        for (int rows = 1; rows <= 3; rows++)
            for (int round = 0; round < 4; round++) {
                depthwise_tile t;
                memset(&t, 0, sizeof t);
                const int step = stride ? stride : 3, tall = 1 + (round + width) % 3, taps = wide ? wide * tall : 1 + round * 3;
                const long row = (long)(width * step + 10) * LANES, yrow = (long)(width + 1) * LANES;
                Py_ssize_t offsets[21];
                float *x = floats((size_t)(rows * step + 4) * row), *w = floats((size_t)21 * LANES), *bias = floats(LANES);
                float *y = filled((size_t)rows * yrow, 77), *residual = floats((size_t)rows * yrow);
                for (int i = 0; i < taps; i++)
                    offsets[i] = wide ? i / wide * row + i % wide * LANES : (Py_ssize_t)(i * 7 % 10) * LANES;
                t.x = x, t.w = w, t.bias = bias, t.y = y, t.residual = round % 2 ? residual : NULL, t.taps = offsets, t.n_taps = taps;
                t.per_group = 1, t.width = width, t.rows = rows, t.xstep = (Py_ssize_t)step * LANES;
                t.xrow = step * row, t.yrow = yrow, t.rrow = yrow;
                t.low = round == 2 ? 0 : -INFINITY, t.high = round == 3 ? 1 : INFINITY;
                fn(&t);
                snprintf(what, sizeof what, "depthwise %d wide, S=%d, %d rows of %d", wide, stride, rows, width);
                for (int r = 0; r < rows; r++) {
                    for (int p = 0; p < width; p++)
                        for (int l = 0; l < LANES; l++) {
                            double sum = bias[l];
                            for (int i = 0; i < taps; i++)
                                sum += (double)w[i * LANES + l] * x[r * t.xrow + (long)p * step * LANES + offsets[i] + l];
                            if (t.residual)
                                sum += residual[r * yrow + p * LANES + l];
                            check(what, y[r * yrow + p * LANES + l], fmin(fmax(sum, t.low), t.high), 10, 1e-6);
                        }
                    for (int l = 0; l < LANES; l++)
                        check(what, y[r * yrow + width * LANES + l], 77, 0, 0);
                }
                free(x), free(w), free(bias), free(y), free(residual);
            }
}

/* Several channels a group. Taps in rows of three neighbours have a path of their own at strides 1 and 2. */
static void grouped(void (*fn)(const depthwise_tile *))
{
    char what[80];
    for (int per_group = 2; per_group < LANES; per_group *= 2)
        for (int step = 1; step <= 3; step++)
            for (int rows = 0; rows <= 3; rows++) /* 0: taps anywhere */
                for (int width = 1; width <= 45; width++) {
                    depthwise_tile t;
                    memset(&t, 0, sizeof t);
                    const int taps = rows ? 3 * rows : 1 + width % 6, row = width * step + 12;
                    Py_ssize_t offsets[9];
                    float *x = floats((size_t)(rows + 1) * row * LANES), *w = floats((size_t)taps * per_group * LANES), *bias = floats(LANES);
                    float *y = filled((size_t)(width + 1) * LANES, 77), *residual = floats((size_t)width * LANES);
                    for (int i = 0; i < taps; i++)
                        offsets[i] = (Py_ssize_t)(rows ? i / 3 * row + i % 3 : i * 7 % 11) * LANES;
                    /* what is no number stays in its group */
                    x[below(width * step) * LANES + below(LANES)] = NAN;
                    x[below(width * step) * LANES + below(LANES)] = INFINITY;
                    t.x = x, t.w = w, t.bias = bias, t.y = y, t.residual = width % 2 ? residual : NULL, t.taps = offsets, t.n_taps = taps;
                    t.per_group = per_group, t.width = width, t.rows = 1, t.xstep = (Py_ssize_t)step * LANES;
                    t.low = width % 3 ? -INFINITY : -0.5f, t.high = width % 4 ? INFINITY : 1;
                    fn(&t);
                    snprintf(what, sizeof what, "grouped %d a group, step %d, %d taps, width %d", per_group, step, taps, width);
                    for (int p = 0; p < width; p++)
                        for (int l = 0; l < LANES; l++) {
                            double sum = bias[l];
                            for (int i = 0; i < taps; i++)
                                for (int k = 0; k < per_group; k++)
                                    sum += (double)w[(i * per_group + k) * LANES + l]
                                        * x[(size_t)p * step * LANES + offsets[i] + l / per_group * per_group + k];
                            if (t.residual)
                                sum += residual[p * LANES + l];
                            check(what, y[p * LANES + l], isnan(sum) ? sum : fmin(fmax(sum, t.low), t.high), 20, 1e-6);
                        }
                    for (int l = 0; l < LANES; l++)
                        check(what, y[width * LANES + l], 77, 0, 0);
                    free(x), free(w), free(bias), free(y), free(residual);
                }
}

static void dots(void)
{
    char what[60];
    for (int n = 1; n <= 4; n++)
        for (int k = 1; k <= 5 * LANES + 3; k++)
            for (int round = 0; round < 3; round++) {
                float *x = floats(k), *w = floats((size_t)n * k), *bias = floats(n), y[5] = {77, 77, 77, 77, 77};
                const float low = round == 1 ? 0 : -INFINITY, high = round == 2 ? 0.25f : INFINITY;
                /* exactly as many floats as it may read */
                float *end = malloc(sizeof(float) * (size_t)n * k), *from = malloc(sizeof(float) * k);
                memcpy(end, w, sizeof(float) * (size_t)n * k), memcpy(from, x, sizeof(float) * k);
                TILE(dot)(from, end, k, n, round ? bias : NULL, y, low, high);
                snprintf(what, sizeof what, "dot %d x %d round %d", n, k, round);
                for (int i = 0; i < n; i++) {
                    double sum = round ? bias[i] : 0;
                    for (int j = 0; j < k; j++)
                        sum += (double)x[j] * w[i * k + j];
                    check(what, y[i], fmin(fmax(sum, low), high), 1 + k, 1e-6);
                }
                check(what, y[n], 77, 0, 0);
                free(x), free(w), free(bias), free(end), free(from);
            }
}

static void run(void)
{
    const struct { int blocks, stride, is_plain, widest; conv_fn fn; } tiles[] = {
        {1, 0, 0, WIDTH1, TILE(blocked_1_0)}, {1, 1, 0, WIDTH1, TILE(blocked_1_1)}, {1, 2, 0, WIDTH1, TILE(blocked_1_2)},
        {2, 0, 0, WIDTH2, TILE(blocked_2_0)}, {2, 1, 0, WIDTH2, TILE(blocked_2_1)}, {2, 2, 0, WIDTH2, TILE(blocked_2_2)},
        {3, 0, 0, WIDTH3, TILE(blocked_3_0)}, {3, 1, 0, WIDTH3, TILE(blocked_3_1)}, {3, 2, 0, WIDTH3, TILE(blocked_3_2)},
        {4, 0, 0, WIDTH4, TILE(blocked_4_0)}, {4, 1, 0, WIDTH4, TILE(blocked_4_1)}, {4, 2, 0, WIDTH4, TILE(blocked_4_2)},
        {1, 0, 1, WIDTH1, TILE(plain_1_0)},   {1, 1, 1, WIDTH1, TILE(plain_1_1)},   {1, 2, 1, WIDTH1, TILE(plain_1_2)},
        {2, 0, 1, WIDTH2, TILE(plain_2_0)},   {2, 1, 1, WIDTH2, TILE(plain_2_1)},   {2, 2, 1, WIDTH2, TILE(plain_2_2)},
    };
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++)
        for (int width = 1; width <= tiles[i].widest; width++)
            conv(tiles[i].fn, tiles[i].blocks, tiles[i].stride, width, tiles[i].is_plain);
    depthwise(TILE(depthwise_0), 0, 0);
    depthwise(TILE(kernel_3_1), 3, 1);
    depthwise(TILE(kernel_3_2), 3, 2);
    depthwise(TILE(kernel_5_1), 5, 1);
    depthwise(TILE(kernel_5_2), 5, 2);
    depthwise(TILE(kernel_7_1), 7, 1);
    depthwise(TILE(kernel_7_2), 7, 2);
    grouped(TILE(grouped_rows));
    dots();
    check("fma_loop", TILE(fma_loop)(10), 2.0 * 12 * LANES * 10, 1, 0);
}
#endif

/* ------------------------------------------------------------------ Winograd */
#ifdef FAMILY_winograd
#define TILE(name) JOIN(MODULE, 8winograd_##name)
typedef struct JOIN(TYPES, 8winograd_winograd_input_t) winograd_input;
typedef struct JOIN(TYPES, 8winograd_winograd_output_t) winograd_output;

/* Winograd's matrices from their points: zero, pairs of one number and its negative, infinity. */
static double points[10];

static int finite_points(int elements)
{
    static const double sides[4][4] = {{1}, {1, 2}, {1, 2, .5}, {.75, 1.25, 2, .375}};
    points[0] = 0;
    for (int i = 1; i < elements - 1; i++)
        points[i] = sides[elements / 2 - 2][(i - 1) / 2] * (i % 2 ? 1 : -1);
    return elements - 1;
}

/* Nine elements are three taps at stride 2: two taps on the even pixels at 0, 1, -1, 2 and infinity, one on the odd ones. */
static const double HALF_BT[5][5] = {{2, -1, -2, 1}, {0, -2, -1, 1}, {0, 2, -3, 1}, {0, -1, 0, 1}, {0, 2, -1, -2, 1}};
static const double HALF_AT[4][5] = {{1, 1, 1, 1}, {0, 1, -1, 2}, {0, 1, 1, 4}, {0, 1, -1, 8, 1}};
static const double HALF_G[6][3] = {{.5}, {-.5, 0, -.5}, {-1. / 6, 0, 1. / 6}, {1. / 6, 0, 2. / 6}, {0, 0, 1}, {0, 1}};

/* Row i of B^T: coefficients of the product of x - q over the points q but the i-th; all of them for infinity. */
static double of_bt(int elements, int i, int j)
{
    double row[12] = {1};
    if (elements == 1)
        return 1;
    if (elements == 9)
        return i < 5 ? (j % 2 ? 0 : HALF_BT[i][j / 2]) : j == 2 * (i - 5) + 1;
    const int n = finite_points(elements);
    for (int q = 0, degree = 0; q < n; q++)
        if (q != i) {
            degree++;
            for (int k = degree; k >= 0; k--)
                row[k] = (k > 0 ? row[k - 1] : 0) - points[q] * row[k];
        }
    return row[j];
}

static double of_at(int elements, int out, int i, int j)
{
    if (elements == 1)
        return 1;
    if (elements == 9)
        return j < 5 ? HALF_AT[i][j] : i == j - 5;
    return j < finite_points(elements) ? pow(points[j], i) : i == out - 1;
}

static double of_g(int elements, int taps, int i, int k)
{
    double distance = 1;
    if (elements == 1)
        return 1;
    if (elements == 9)
        return HALF_G[i < 5 ? i : 5][k];
    const int n = finite_points(elements);
    if (i == n)
        return k == taps - 1;
    for (int q = 0; q < n; q++)
        if (q != i)
            distance *= points[i] - points[q];
    return pow(points[i], k) / distance;
}

/* The transforms against their matrices, and all three steps against a direct convolution. */
static void winograd_form(void (*input)(const winograd_input *), void (*output)(const winograd_output *), int ah, int aw, int mh,
                          int mw)
{
    const int stride = ah == 9 ? 2 : 1, kh = stride == 2 ? 3 : ah - mh + 1, kw = stride == 2 ? 3 : aw - mw + 1;
    char what[80];
    for (int rows = 1; rows <= ah + 1; rows++)
        for (int columns = 1; columns <= aw + 1; columns++)
            for (int round = 0; round < 4; round++) {
                const long gap = (1 + round / 2) * LANES, xrow = (11 + round) * gap, step = (1 + round % 3) * LANES;
                float *x = filled((size_t)11 * xrow, NAN), *v = filled((size_t)ah * aw * step + 1, 77);
                float *m = floats((size_t)ah * aw * step);
                double d[10][10], g[7][7];
                for (int i = 0; i < rows; i++)
                    for (int k = 0; k < columns * LANES; k++)
                        x[i * xrow + k / LANES * gap + k % LANES] = uniform();
                float squares[5 * LANES];
                memset(squares, 0, sizeof squares);
                const winograd_input part = {.x = x, .xrow = xrow, .xstep = gap, .rows = rows, .columns = columns, .v = v,
                                             .step = step, .squares = squares};
                input(&part);
                for (int i = 0; i < kh; i++)
                    for (int j = 0; j < kw; j++)
                        g[i][j] = uniform();
                snprintf(what, sizeof what, "winograd_input %dx%d: %d x %d", ah, aw, rows, columns);
                for (int l = 0; l < LANES; l++) {
                    double sum = 0;
                    for (int i = 0; i < ah && i < rows; i++)
                        for (int j = 0; j < aw && j < columns; j++)
                            sum += pow(x[i * xrow + j * gap + l], 2);
                    check(what, squares[l], sum, 10, 1e-6);
                }
                for (int l = 0; l < LANES; l++)
                    for (int i = 0; i < ah; i++)
                        for (int j = 0; j < aw; j++) {
                            double want = 0, u = 0;
                            for (int a = 0; a < ah; a++)
                                for (int b = 0; b < aw; b++)
                                    want += of_bt(ah, i, a) * of_bt(aw, j, b) *
                                            (a < rows && b < columns ? x[a * xrow + b * gap + l] : 0);
                            check(what, v[(aw * i + j) * step + l], want, 100, 1e-6);
                            for (int a = 0; a < kh; a++)
                                for (int b = 0; b < kw; b++)
                                    u += of_g(ah, kh, i, a) * of_g(aw, kw, j, b) * g[a][b];
                            m[(aw * i + j) * step + l] = (float)(u * v[(aw * i + j) * step + l]);
                        }
                check(what, v[(long)ah * aw * step], 77, 0, 0);
                winograd_output t;
                memset(&t, 0, sizeof t);
                const long yrow = (5 + round) * gap;
                float *y = filled((size_t)5 * yrow, 77), *residual = floats((size_t)4 * yrow), *bias = floats(LANES);
                t.m = m, t.step = step, t.bias = bias, t.residual = round % 2 ? residual : NULL, t.y = y;
                t.rrow = yrow, t.yrow = yrow, t.rstep = gap, t.ystep = gap;
                t.rows = rows < kh ? 1 : (rows - kh) / stride + 1, t.columns = columns < kw ? 1 : (columns - kw) / stride + 1;
                t.low = round == 2 ? 0 : -INFINITY, t.high = round == 3 ? 0.5f : INFINITY;
                output(&t);
                snprintf(what, sizeof what, "winograd %dx%d to %dx%d: %d x %d", ah, aw, mh, mw, rows, columns);
                for (int l = 0; l < LANES; l++) {
                    for (int a = 0; a < 10; a++)
                        for (int b = 0; b < 10; b++)
                            d[a][b] = a < rows && b < columns ? x[a * xrow + b * gap + l] : 0;
                    for (int i = 0; i < 5; i++)
                        for (int j = 0; j < yrow / gap; j++) {
                            const float got = y[i * yrow + j * gap + l];
                            if (i >= mh || j >= mw || i >= t.rows || j >= t.columns) {
                                check(what, got, 77, 0, 0);
                                continue;
                            }
                            double direct = bias[l], transformed = bias[l];
                            for (int a = 0; a < kh; a++)
                                for (int b = 0; b < kw; b++)
                                    direct += g[a][b] * d[stride * i + a][stride * j + b];
                            for (int a = 0; a < ah; a++)
                                for (int b = 0; b < aw; b++)
                                    transformed += of_at(ah, mh, i, a) * of_at(aw, mw, j, b) * m[(aw * a + b) * step + l];
                            const double more = t.residual ? residual[i * yrow + j * gap + l] : 0;
                            check(what, got, fmin(fmax(transformed + more, t.low), t.high), 100, 1e-6);
                            check(what, got, fmin(fmax(direct + more, t.low), t.high), 10, 1e-5);
                        }
                }
                free(x), free(v), free(m), free(y), free(residual), free(bias);
            }
}

static void run(void)
{
    winograd_form(TILE(input_6_6), TILE(output_6_6_to_4_4), 6, 6, 4, 4);
    winograd_form(TILE(input_1_6), TILE(output_1_6_to_1_4), 1, 6, 1, 4);
    winograd_form(TILE(input_6_1), TILE(output_6_1_to_4_1), 6, 1, 4, 1);
    winograd_form(TILE(input_6_6), TILE(output_6_6_to_2_2), 6, 6, 2, 2);
    winograd_form(TILE(input_4_4), TILE(output_4_4_to_2_2), 4, 4, 2, 2);
    winograd_form(TILE(input_1_8), TILE(output_1_8_to_1_4), 1, 8, 1, 4);
    winograd_form(TILE(input_8_1), TILE(output_8_1_to_4_1), 8, 1, 4, 1);
    winograd_form(TILE(input_1_10), TILE(output_1_10_to_1_4), 1, 10, 1, 4);
    winograd_form(TILE(input_10_1), TILE(output_10_1_to_4_1), 10, 1, 4, 1);
    winograd_form(TILE(input_9_9), TILE(output_9_9_to_4_4), 9, 9, 4, 4);
}
#endif

/* ------------------------------------------------------------------ pooling */
#ifdef FAMILY_pool
#define TILE(name) JOIN(MODULE, 4pool_##name)
typedef struct JOIN(TYPES, 4pool_pool_tile_t) pool_tile;
typedef void (*pool_fn)(const pool_tile *);
enum { MAX, AVG, L1, L2, LP };
static const char *kinds[] = {"max", "avg", "l1", "l2", "lp"};

static double naive(int kind, const pool_tile *t, const float *x)
{
    double acc = kind == MAX ? -INFINITY : 0;
    for (int z = 0; z < t->kd; z++)
        for (int r = 0; r < t->kh; r++)
            for (int k = 0; k < t->kw; k++) {
                double v = x[z * t->td + r * t->th + k * t->tw];
                acc = kind == MAX ? (isnan(v) || v > acc ? v : acc)
                    : acc + (kind == AVG ? v : kind == L1 ? fabs(v) : kind == L2 ? v * v : pow(fabs(v), t->p));
            }
    return kind == AVG ? acc / t->count : kind == L2 ? sqrt(acc) : kind == LP ? pow(acc, 1 / t->p) : acc;
}

static void pool(pool_fn fn, int kind, int is_box)
{
    char what[80];
    for (int kw = 1; kw <= (is_box ? 600 : 6); kw += is_box ? 1 + kw / 3 : 1)
        for (int step = 1; step <= (is_box ? 1 : 3); step++)
            for (int gap = 1; gap <= 2; gap++)
                for (int width = 1; width <= (is_box ? 1 : 9); width++)
                    for (int tall = 1; tall <= 3; tall++) {
                        pool_tile t;
                        memset(&t, 0, sizeof t);
                        const size_t row = (size_t)((width - 1) * step + (kw - 1) * gap + 1) * LANES, n = row * tall * 2;
                        float *x = floats(n), *y = filled((size_t)(width + 1) * LANES, 77);
                        if (kind == MAX)
                            for (int i = 0; i < 3; i++)
                                x[below((int)n)] = i ? -INFINITY : NAN;
                        t.x = x, t.y = y, t.kd = 1 + tall / 2, t.kh = tall, t.kw = kw, t.tw = gap * LANES, t.th = row, t.td = row / 2 / LANES * LANES;
                        t.width = width, t.step = step * LANES, t.count = (float)(kw * tall), t.p = 3;
                        fn(&t);
                        snprintf(what, sizeof what, "%s %s kw=%d step=%d gap=%d width=%d", is_box ? "box" : "row", kinds[kind], kw, step, gap, width);
                        for (int i = 0; i < width * LANES; i++) {
                            double want = naive(kind, &t, x + i / LANES * t.step + i % LANES);
                            check(what, y[i], want, 1 + fabs(want), kind == LP ? 1e-5 : 2e-6);
                        }
                        for (int l = 0; l < LANES; l++)
                            check(what, y[width * LANES + l], 77, 0, 0);
                        free(x), free(y);
                    }
}

static void flat(pool_fn fn, int kind)
{
    for (int n = 1; n < 3000; n += 1 + n / 9)
        for (int with_nan = 0; with_nan < 2; with_nan++) {
            pool_tile t;
            memset(&t, 0, sizeof t);
            float *x = floats(n), y[2] = {77, 77};
            if (with_nan)
                x[below(n)] = NAN;
            t.x = x, t.y = y, t.kd = t.kh = 1, t.kw = n, t.tw = 1, t.width = 1, t.count = (float)n, t.p = 3;
            fn(&t);
            double want = naive(kind, &t, x);
            check(kinds[kind], y[0], want, 1 + fabs(want), 1e-5);
            check(kinds[kind], y[1], 77, 0, 0);
            free(x);
        }
}

static void run(void)
{
    const pool_fn rows[] = {TILE(row_max), TILE(row_avg), TILE(row_l1), TILE(row_l2), TILE(row_lp)};
    const pool_fn boxes[] = {TILE(box_max), TILE(box_avg), TILE(box_l1), TILE(box_l2), TILE(box_lp)};
    const pool_fn flats[] = {TILE(flat_max), TILE(flat_avg), TILE(flat_l1), TILE(flat_l2), TILE(flat_lp)};
    for (int kind = MAX; kind <= LP; kind++) {
        pool(rows[kind], kind, 0);
        pool(boxes[kind], kind, 1);
        flat(flats[kind], kind);
    }
}
#endif

/* ------------------------------------------------------------------ elementwise, reductions, softmax */
#ifdef FAMILY_vector
#define TILE(name) JOIN(MODULE, 6vector_##name)
#define NUMBER(name) JOIN(ENUMS, 6vector_##name)

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }

static double activation(int kind, double x, double a, double b)
{
    switch (kind) {
    case ACT_NONE: return x;
    case ACT_CLIP: return fmin(fmax(x, a), b);
    case ACT_LEAKY_RELU: return x < 0 ? a * x : x;
    case ACT_SIGMOID: return sigmoid(x);
    case ACT_TANH: return tanh(x);
    case ACT_SILU: return x * sigmoid(x);
    case ACT_HARD_SIGMOID: return fmax(0, fmin(1, a * x + b));
    case ACT_HARD_SWISH: return x * fmax(0, fmin(1, x / 6 + 0.5));
    case ACT_ELU: return x < 0 ? a * expm1(x) : x;
    case ACT_SELU: return b * (x < 0 ? a * expm1(x) : x);
    case ACT_CELU: return x < 0 ? a * expm1(x / a) : x;
    case ACT_GELU: return 0.5 * x * erfc(-x / sqrt(2));
    case ACT_GELU_TANH: return x * sigmoid(2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
    case ACT_MISH: return x * tanh(softplus(x));
    case ACT_SOFTPLUS: return softplus(x);
    case ACT_SOFTSIGN: return x / (1 + fabs(x));
    case ACT_EXP: return exp(x);
    case ACT_LOG: return log(x);
    case ACT_ERF: return erf(x);
    case ACT_ABS: return fabs(x);
    case ACT_NEG: return -x;
    case ACT_SQRT: return sqrt(x);
    case ACT_RECIPROCAL: return 1 / x;
    case ACT_SIGN: return (x > 0) - (x < 0);
    case ACT_FLOOR: return floor(x);
    case ACT_CEIL: return ceil(x);
    case ACT_ROUND: return nearbyint(x);
    case ACT_THRESHOLDED_RELU: return x > a ? x : 0;
    case ACT_SQUARE: return x * x;
    case ACT_POW: return pow(x, a);
    case ACT_AFFINE: return a * x + b;
    case ACT_SWISH: return x * sigmoid(a * x);
    case ACT_SHRINK: return x < -a ? x + b : x > a ? x - b : 0;
    default: return NAN;
    }
}

static double operation(int op, double a, double b)
{
    switch (op) {
    case NUMBER(OP_ADD): return a + b;
    case NUMBER(OP_SUB): return a - b;
    case NUMBER(OP_MUL): return a * b;
    case NUMBER(OP_DIV): return a / b;
    case NUMBER(OP_POW): return pow(a, b);
    case NUMBER(OP_MIN): return isnan(a) || isnan(b) ? NAN : fmin(a, b);
    case NUMBER(OP_MAX): return isnan(a) || isnan(b) ? NAN : fmax(a, b);
    default: return a < 0 ? b * a : a;
    }
}

static double reduced(int kind, double acc, double x, double shift)
{
    switch (kind) {
    case NUMBER(RED_SUM): return acc + x;
    case NUMBER(RED_ABS): return acc + fabs(x);
    case NUMBER(RED_SQUARE): return acc + x * x;
    case NUMBER(RED_EXP): return acc + exp(x - shift);
    case NUMBER(RED_PROD): return acc * x;
    case NUMBER(RED_MAX): return isnan(x) || x > acc ? x : acc;
    default: return isnan(x) || x < acc ? x : acc;
    }
}

static int element(int mode, int i)
{
    return mode == NUMBER(MODE_SCALAR) ? 0 : mode == NUMBER(MODE_FULL) ? i : mode == NUMBER(MODE_VECTOR) ? i % LANES : i / LANES;
}

static void run(void)
{
    char what[80];
    enum { N = 400 };
    const int last = ACT_SHRINK;
    for (int kind = 0; kind <= last; kind++)
        for (int n = 1; n <= N; n += n < 3 * LANES ? 1 : 37) {
            float *x = floats(n), *y = filled(n + 1, 77);
            const float a = kind == ACT_SHRINK ? 0.75f : kind == ACT_CLIP ? -1.5f : kind == ACT_POW ? 2.5f : 0.3f;
            const float b = kind == ACT_CLIP ? 2 : 0.5f;
            for (int i = 0; i < n; i++)
                x[i] = x[i] * (i % 3 ? 3 : 40);
            if (n > 5)
                x[below(n)] = NAN;
            TILE(activate)(kind, x, y, n, a, b);
            snprintf(what, sizeof what, "activation %d of %d floats", kind, n);
            for (int i = 0; i < n; i++) {
                if (isnan(x[i]) && kind == ACT_THRESHOLDED_RELU)
                    continue;
                double want = isnan(x[i]) ? (double)NAN : activation(kind, x[i], a, b);
                if (isnan(x[i]) && (kind == ACT_SHRINK || kind == ACT_SIGN))
                    continue;
                /* some lose digits by their own form: sums that cancel, and exp of a cubic polynomial */
                double scale = fabs(want);
                if (kind == ACT_HARD_SWISH || kind == ACT_HARD_SIGMOID || kind == ACT_AFFINE)
                    scale += fabs(x[i]) + b;
                if (kind == ACT_GELU_TANH)
                    scale *= 1 + (double)x[i] * x[i];
                check(what, y[i], want, scale + 1e-30, 4e-6);
            }
            check(what, y[n], 77, 0, 0);
            free(x), free(y);
        }
    for (int op = 0; op <= NUMBER(OP_PRELU); op++)
        for (int mode = 0; mode < 8; mode++)
            for (int n = LANES; n <= N; n += mode % 4 == NUMBER(MODE_FULL) || mode % 4 == NUMBER(MODE_SCALAR) ? 1 + n / 5 : LANES) {
                const int a_mode = mode < 4 ? NUMBER(MODE_FULL) : mode - 4, b_mode = mode < 4 ? mode : NUMBER(MODE_FULL);
                float *a = floats(N), *b = floats(N), *y = filled(n + 1, 77);
                for (int i = 0; i < N && op == NUMBER(OP_POW); i++)
                    a[i] = fabsf(a[i]) + 0.1f;
                if (op == NUMBER(OP_MIN) || op == NUMBER(OP_MAX))
                    a[n / 2 % (a_mode == NUMBER(MODE_FULL) ? n : 1)] = NAN, b[0] = NAN;
                TILE(binary)(op, a, a_mode, b, b_mode, y, n);
                snprintf(what, sizeof what, "binary %d modes %d %d of %d floats", op, a_mode, b_mode, n);
                for (int i = 0; i < n; i++) {
                    double want = operation(op, a[element(a_mode, i)], b[element(b_mode, i)]);
                    check(what, y[i], want, fabs(want), 1e-6);
                }
                check(what, y[n], 77, 0, 0);
                free(a), free(b), free(y);
            }
    for (int kind = 0; kind <= NUMBER(RED_MIN); kind++)
        for (int n = 1; n <= 3000; n += 1 + n / 7)
            for (int rows = 1; rows <= 3; rows++) {
                const int stride = n + 5;
                float *x = floats((size_t)rows * stride), *shift = floats(n);
                double start = kind == NUMBER(RED_PROD) ? 1 : kind == NUMBER(RED_MAX) ? -INFINITY : kind == NUMBER(RED_MIN) ? INFINITY : 0;
                double want = start, *acc = malloc(n * sizeof(double)), got;
                if (kind >= NUMBER(RED_MAX) && n % 2)
                    x[below(n)] = NAN;
                for (int r = 0; r < rows; r++)
                    for (int i = n; i < stride; i++)
                        x[r * stride + i] = NAN;
                for (int r = 0; r < rows; r++)
                    for (int i = 0; i < n; i++)
                        want = reduced(kind, want, x[r * stride + i], 0.25);
                got = TILE(reduce_rows)(kind, x, stride, rows, n, start, 0.25f);
                snprintf(what, sizeof what, "reduce_rows %d, %d x %d", kind, rows, n);
                check(what, got, want, kind == NUMBER(RED_SUM) ? (double)rows * n : fabs(want), 1e-5);
                for (int i = 0; i < n; i++)
                    acc[i] = start;
                TILE(reduce_columns)(kind, x, stride, rows, n, acc, shift);
                snprintf(what, sizeof what, "reduce_columns %d, %d x %d", kind, rows, n);
                for (int i = 0; i < n; i++) {
                    want = start;
                    for (int r = 0; r < rows; r++)
                        want = reduced(kind, want, x[r * stride + i], shift[i]);
                    check(what, acc[i], want, 1 + fabs(want), 2e-6);
                }
                free(x), free(shift), free(acc);
            }
    for (int log_of = 0; log_of < 2; log_of++)
        for (int axis = 1; axis <= 200; axis += 1 + axis / 3)
            for (int n = 1; n <= 40; n += n < 3 ? 1 : 5) {
                const int stride = n == 1 ? 1 : n + 3;
                float *x = floats((size_t)axis * stride + 4), *y = filled((size_t)axis * stride + 4, 77);
                TILE(softmax)(log_of, x, y, axis, stride, n);
                snprintf(what, sizeof what, "softmax log=%d, %d x %d", log_of, axis, n);
                for (int i = 0; i < n; i++) {
                    double sum = 0;
                    for (int k = 0; k < axis; k++)
                        sum += exp(x[k * stride + i]);
                    for (int k = 0; k < axis; k++)
                        check(what, y[k * stride + i], log_of ? x[k * stride + i] - log(sum) : exp(x[k * stride + i]) / sum, 1, 4e-6);
                }
                check(what, y[(size_t)(axis - 1) * stride + n], 77, 0, 0);
                free(x), free(y);
            }
}
#endif

/* ------------------------------------------------------------------ normalisation */
#ifdef FAMILY_norm
#define TILE(name) JOIN(MODULE, 4norm_##name)
typedef struct JOIN(TYPES, 4norm_affine_tile_t) affine_tile;
typedef struct JOIN(TYPES, 4norm_lrn_tile_t) lrn_tile;
typedef struct JOIN(TYPES, 4norm_pixel_norm_tile_t) pixel_norm_tile;
enum { PLANES, RUN, VECTORS, EACH };

static void affine(void (*fn)(const affine_tile *), int kind)
{
    char what[80];
    for (int n = 1; n <= 70; n++)
        for (int options = 0; options < 8; options++) {
            affine_tile t;
            memset(&t, 0, sizeof t);
            const int total = kind == PLANES ? n * LANES : n;
            float *x = floats(total), *y = filled(total + 1, 77), *values[5];
            for (int i = 0; i < 5; i++)
                values[i] = floats(total + LANES);
            t.x = x, t.y = y, t.n = n, t.mean = values[0], t.factor = values[1];
            t.rest = kind == EACH || (kind != VECTORS && options & 1) ? values[2] : NULL;
            t.scale = kind == EACH && options & 1 ? values[3] : NULL;
            t.shift = kind != EACH || options & 2 ? values[4] : NULL;
            t.low = options & 4 ? -0.25f : -INFINITY, t.high = options & 4 ? 0.5f : INFINITY;
            fn(&t);
            snprintf(what, sizeof what, "affine %d of %d, options %d", kind, n, options);
            for (int i = 0; i < total; i++) {
                const int at = kind == PLANES ? i % LANES : kind == VECTORS ? i : 0;
                double want = (double)x[i] - t.mean[at] - (t.rest ? t.rest[at] : 0);
                want *= t.factor[at];
                if (t.scale)
                    want *= t.scale[i];
                if (t.shift)
                    want += t.shift[kind == EACH ? i : at];
                check(what, y[i], fmin(fmax(want, t.low), t.high), 4, 1e-6);
            }
            check(what, y[total], 77, 0, 0);
            for (int i = 0; i < 5; i++)
                free(values[i]);
            free(x), free(y);
        }
}

static void two_passes(const float *x, long n, long step, double *mean, double *squares)
{
    *mean = *squares = 0;
    for (long i = 0; i < n; i++)
        *mean += x[i * step];
    *mean /= n;
    for (long i = 0; i < n; i++)
        *squares += (x[i * step] - *mean) * (x[i * step] - *mean);
}

static void lrn(int in_planes)
{
    char what[80];
    for (int channels = 1; channels <= 2 * LANES + 3; channels += channels < LANES + 2 ? 1 : 3)
        for (int n = 1; n <= (in_planes ? 8 : LANES); n++)
            for (int kind = 0; kind < 4; kind++) {
                lrn_tile t;
                memset(&t, 0, sizeof t);
                const float betas[] = {0.75f, 0.5f, 1, 0.6f};
                const int blocks = (channels + LANES - 1) / LANES, stride = (in_planes ? 8 * LANES : n) + 2 * LANES;
                const size_t size = (size_t)(in_planes ? blocks : channels) * stride + LANES;
                float *x = floats(size), *y = filled(size, 77);
                t.x = x, t.y = y, t.channels = channels, t.stride = t.ystride = stride, t.n = n;
                t.before = kind, t.after = kind / 2 + 1, t.alpha = 0.3f, t.beta = betas[kind], t.bias = 1.5f;
                t.scratch = floats(8 * (size_t)(t.before + blocks * LANES + t.after));
                if (in_planes)
                    for (int c = channels; c < blocks * LANES; c++)
                        for (int p = 0; p < n; p++)
                            x[c / LANES * stride + p * LANES + c % LANES] = NAN;
                (in_planes ? TILE(lrn_pixels) : TILE(lrn_run))(&t);
                snprintf(what, sizeof what, "lrn planes=%d channels %d n %d beta %g", in_planes, channels, n, t.beta);
                for (int c = 0; c < channels; c++)
                    for (int p = 0; p < n; p++) {
                        double total = 0;
                        for (int k = c - (int)t.before; k <= c + (int)t.after; k++)
                            if (k >= 0 && k < channels) {
                                double v = x[in_planes ? k / LANES * stride + p * LANES + k % LANES : k * stride + p];
                                total += v * v;
                            }
                        const size_t at = in_planes ? (size_t)(c / LANES * stride + p * LANES + c % LANES) : (size_t)(c * stride + p);
                        check(what, y[at], x[at] / pow(t.bias + (double)t.alpha * total, t.beta), 1, 2e-6);
                    }
                check(what, y[in_planes ? n * LANES : n], 77, 0, 0);
                free(x), free(y), free(t.scratch);
            }
}

static void pixel_norm(void)
{
    char what[80];
    for (int channels = 1; channels <= 3 * LANES + 1; channels++)
        for (int n = 1; n <= 19; n++) {
            pixel_norm_tile t;
            memset(&t, 0, sizeof t);
            const int blocks = (channels + LANES - 1) / LANES, options = (channels + n) % 4;
            const long xstride = (long)(n + 1) * LANES, ystride = (long)(n + 2) * LANES;
            float *x = filled((size_t)blocks * xstride, NAN), *y = filled((size_t)blocks * ystride, 77);
            float *scale = malloc(sizeof(float) * channels), *shift = malloc(sizeof(float) * channels);
            for (int c = 0; c < channels; c++) {
                scale[c] = uniform(), shift[c] = uniform();
                for (int p = 0; p < n; p++)
                    x[c / LANES * xstride + p * LANES + c % LANES] = uniform() + 20;
            }
            t.x = x, t.y = y, t.channels = channels, t.xstride = xstride, t.ystride = ystride, t.n = n, t.epsilon = 1e-3;
            t.scale = options & 1 ? scale : NULL, t.shift = options & 2 ? shift : NULL;
            TILE(pixel_norm)(&t);
            snprintf(what, sizeof what, "pixel_norm %d channels, %d pixels, options %d", channels, n, options);
            for (int p = 0; p < n; p++) {
                double mean, squares, values[3 * LANES + 1];
                for (int c = 0; c < channels; c++)
                    values[c] = x[c / LANES * xstride + p * LANES + c % LANES];
                mean = squares = 0;
                for (int c = 0; c < channels; c++)
                    mean += values[c] / channels;
                for (int c = 0; c < channels; c++)
                    squares += (values[c] - mean) * (values[c] - mean);
                const double factor = 1 / sqrt(squares / channels + t.epsilon);
                for (int c = 0; c < channels; c++) {
                    double want = (values[c] - mean) * factor * (t.scale ? scale[c] : 1) + (t.shift ? shift[c] : 0);
                    check(what, y[c / LANES * ystride + p * LANES + c % LANES], want, 1 + 1e-6 * factor, 3e-6);
                }
            }
            for (int b = 0; b < blocks; b++)
                for (int i = n * LANES; i < ystride; i++)
                    check(what, y[b * ystride + i], 77, 0, 0);
            free(x), free(y), free(scale), free(shift);
        }
}

static void run(void)
{
    affine(TILE(affine_planes), PLANES);
    affine(TILE(affine_run), RUN);
    affine(TILE(affine_vectors), VECTORS);
    affine(TILE(affine_each), EACH);
    for (int n = 1; n < 4000; n += 1 + n / 11) {
        float *x = floats(n);
        double mean, squares, want_mean, want_squares;
        for (int i = 0; i < n; i++)
            x[i] += 30;
        TILE(moments)(x, n, &mean, &squares);
        two_passes(x, n, 1, &want_mean, &want_squares);
        check("moments: mean", mean, want_mean, 30, 1e-12);
        check("moments: squares", squares, want_squares, 1e-6 + want_squares, 1e-5);
        free(x);
    }
    for (int w = 1; w < 200; w += 1 + w / 4)
        for (int h = 1; h <= 3; h++)
            for (int d = 1; d <= 2; d++) {
                /* rows of w pixels and a gap that nobody may look at; d planes of h such rows */
                const long sh = (w + 1) * LANES, sd = (h + 1) * sh;
                float *x = filled((size_t)d * sd, NAN), *dense = malloc(sizeof(float) * d * h * w);
                double mean[LANES], squares[LANES], want_mean, want_squares;
                for (int i = 0; i < d * h * w * LANES; i++)
                    x[i / LANES / w / h * sd + i / LANES / w % h * sh + i / LANES % w * LANES + i % LANES] = uniform() - 5;
                TILE(moments_planes)(x, d, h, w, sd, sh, mean, squares);
                for (int l = 0; l < LANES; l++) {
                    for (int i = 0; i < d * h * w; i++)
                        dense[i] = x[i / w / h * sd + i / w % h * sh + i % w * LANES + l];
                    two_passes(dense, (long)d * h * w, 1, &want_mean, &want_squares);
                    check("moments_planes: mean", mean[l], want_mean, 5, 1e-12);
                    check("moments_planes: squares", squares[l], want_squares, 1e-6 + want_squares, 1e-5);
                }
                free(x), free(dense);
            }
    lrn(0);
    lrn(1);
    pixel_norm();
}
#endif

/* ------------------------------------------------------------------ recurrent layers */
#ifdef FAMILY_image
#define TILE(name) JOIN(MODULE, 5image_##name)

static float *guarded(size_t n)
{
    float *y = floats(n);
    y[n] = 77;
    return y;
}

static void rows(void)
{
    char what[80];
    for (int n = 1; n <= 9 * LANES; n += 1 + n / 7)
        for (int taps = 1; taps <= 5; taps += 2) {
            float *x = floats(4 * n + 64), *w = floats(taps), *y = guarded(n);
            Py_ssize_t at[5];
            for (int k = 0; k < taps; k++)
                at[k] = (k * 13) % 37;
            TILE(mix_rows)(x, at, w, taps, y, n);
            snprintf(what, sizeof what, "mix_rows %d of %d taps", n, taps);
            for (int i = 0; i < n; i++) {
                double want = 0;
                for (int k = 0; k < taps; k++)
                    want += (double)w[k] * x[at[k] + i];
                check(what, y[i], want, taps, 1e-6);
            }
            check(what, y[n], 77, 1, 0);
            free(x), free(w), free(y);
        }
    for (int taps = 1; taps <= 4; taps++)
        for (int zero = 0; zero < 2; zero++) {
            float *x = floats(8 * LANES), *high = floats(taps), *low = floats(taps), *y = guarded(LANES);
            Py_ssize_t at[4] = {0, LANES, 3 * LANES, 2 * LANES};
            x[LANES / 2] = NAN;
            TILE(weigh_max)(x, at, high, low, taps, zero, y);
            snprintf(what, sizeof what, "weigh_max %d taps, zero %d", taps, zero);
            for (int i = 0; i < LANES; i++) {
                double want = zero ? 0 : -INFINITY;
                for (int k = 0; k < taps; k++) {
                    double a = (double)high[k] * x[at[k] + i], b = (double)low[k] * x[at[k] + i];
                    want = isnan(want) || isnan(a) ? NAN : fmax(want, fmax(a, b));
                }
                check(what, y[i], want, 1, 1e-6);
            }
            check(what, y[LANES], 77, 1, 0);
            free(x), free(high), free(low), free(y);
        }
}

static void along(void)
{
    char what[80];
    for (int n = 1; n <= 9 * LANES; n += 1 + n / 7) {
        int *a = malloc(n * sizeof(int)), *b = malloc(n * sizeof(int)), *taps = malloc(n * sizeof(int)), total = 0;
        Py_ssize_t *first = malloc(n * sizeof(Py_ssize_t));
        for (int i = 0; i < n; i++) {
            a[i] = (i * 7) % 50, b[i] = (i * 11) % 50, first[i] = (i * 5) % 40, taps[i] = 1 + i % 6;
            total += taps[i];
        }
        float *x = floats(n > 64 ? n : 64), *u = floats(n), *v = floats(n), *w = floats(total), *y = guarded(n);
        const float *next = w;
        TILE(mix_along)(x, first, w, taps, y, n);
        snprintf(what, sizeof what, "mix_along %d", n);
        for (int i = 0; i < n; i++) {
            double want = 0;
            for (int k = 0; k < taps[i]; k++)
                want += (double)*next++ * x[first[i] + k];
            check(what, y[i], want, taps[i], 1e-6);
        }
        blend_along(x, a, b, u, v, y, n);
        snprintf(what, sizeof what, "blend_along %d", n);
        for (int i = 0; i < n; i++)
            check(what, y[i], (double)x[a[i]] * u[i] + (double)x[b[i]] * v[i], 2, 1e-6);
        pick(x, a, y, n);
        for (int i = 0; i < n; i++)
            check("pick", y[i], x[a[i]], 1, 0);
        check(what, y[n], 77, 1, 0);
        for (int times = 1; times <= 3; times++) {
            float *wide = guarded((size_t)n * times), *apart = guarded((size_t)n * times);
            float *before = malloc(sizeof(float) * n * times);
            memcpy(before, apart, sizeof(float) * n * times);
            TILE(repeat)(x, times, wide, n);
            TILE(scatter)(x, apart, times, n);
            snprintf(what, sizeof what, "repeat and scatter %d by %d", n, times);
            for (int i = 0; i < n * times; i++) {
                check(what, wide[i], x[i / times], 1, 0);
                check(what, apart[i], before[i] + (i % times ? 0.0 : (double)x[i / times]), 2, 1e-6);
            }
            check(what, wide[n * times] + apart[n * times], 154, 1, 0);
            free(wide), free(apart), free(before);
        }
        for (int axes = 2; axes <= 3; axes++) {
            float *scale = floats(axes), *shift = floats(axes), *grid = guarded((size_t)n * axes);
            TILE(lines)(x, scale, shift, axes, grid, n);
            snprintf(what, sizeof what, "lines %d of %d axes", n, axes);
            for (int i = 0; i < n * axes; i++)
                check(what, grid[i], (double)scale[i % axes] * x[i / axes] + shift[i % axes], 2, 1e-6);
            check(what, grid[n * axes], 77, 1, 0);
            free(scale), free(shift), free(grid);
        }
        free(a), free(b), free(taps), free(first), free(x), free(u), free(v), free(w), free(y);
    }
}

static void run(void)
{
    rows();
    along();
}
#endif

#ifdef FAMILY_recurrent
#define TILE(name) JOIN(MODULE, 9recurrent_##name)

static double sigmoid(double v) { return 1 / (1 + exp(-v)); }

static void products(void)
{
    char what[80];
    for (int panels = 1; panels <= 9; panels++)
        for (int k = 0; k < 40; k += 1 + k / 5)
            for (int backwards = 0; backwards < 2; backwards++) {
                const int width = 2 * LANES, n = panels * width;
                float *x = floats(k), *w = floats((size_t)k * n), *y = floats(n), *before = malloc(sizeof(float) * (n + 1));
                y[n] = 77;
                memcpy(before, y, sizeof(float) * n);
                TILE(vector_product)(x, w, k, panels, backwards, y);
                snprintf(what, sizeof what, "vector_product %d panels of %d, backwards %d", panels, k, backwards);
                for (int i = 0; i < n; i++) {
                    double want = before[i];
                    for (int j = 0; j < k; j++)
                        want += (double)w[(size_t)i / width * k * width + j * width + i % width] * x[j];
                    check(what, y[i], want, 1 + k, 1e-6);
                }
                check(what, y[n], 77, 1, 0);
                free(x), free(w), free(y), free(before);
            }
}

static void cells(void)
{
    char what[80];
    const float scales[] = {0.01f, 1, 8, 300};
    for (int n = LANES; n <= 5 * LANES; n += LANES)
        for (int i = 0; i < 4; i++) {
            float *gates = floats(4 * n), *again = floats(n), *c = floats(n + 1), *h = floats(n + 1);
            float *c0 = malloc(sizeof(float) * n), *h0 = malloc(sizeof(float) * n);
            for (int j = 0; j < 4 * n; j++)
                gates[j] *= scales[i];
            c[n] = h[n] = 77;
            memcpy(c0, c, sizeof(float) * n);
            memcpy(h0, h, sizeof(float) * n);
            TILE(lstm)(gates, n, c, h);
            snprintf(what, sizeof what, "lstm %d units, gates up to %g", n, scales[i]);
            for (int j = 0; j < n; j++) {
                double cell = sigmoid(gates[2 * n + j]) * c0[j] + sigmoid(gates[j]) * tanh(gates[3 * n + j]);
                check(what, c[j], cell, 1, 1e-6);
                check(what, h[j], sigmoid(gates[n + j]) * tanh(cell), 1, 1e-6);
            }
            check(what, c[n] + h[n], 154, 1, 0);
            memcpy(h, h0, sizeof(float) * n);
            TILE(gru)(gates, again, n, h);
            snprintf(what, sizeof what, "gru %d units, gates up to %g", n, scales[i]);
            for (int j = 0; j < n; j++) {
                double z = sigmoid(gates[j]), g = tanh(gates[2 * n + j] + sigmoid(gates[n + j]) * again[j]);
                check(what, h[j], (1 - z) * g + z * h0[j], 1, 1e-6);
            }
            check(what, h[n], 77, 1, 0);
            gates[0] = NAN;
            TILE(lstm)(gates, n, c, h);
            check("lstm of what is no number", c[0], NAN, 1, 0);
            free(gates), free(again), free(c), free(h), free(c0), free(h0);
        }
}

static void run(void)
{
    products();
    cells();
}
#endif

/* ------------------------------------------------------------------ moves */
#ifdef FAMILY_move
#define TILE(name) JOIN(MODULE, 4move_##name)

static void mix(void)
{
    char what[60];
    for (int parts = 1; parts <= 11; parts++)
        for (int keep = 0; keep < 2; keep++)
            for (int pixels = 1; pixels <= 9; pixels++) {
                float *sources[11], *y = floats((size_t)(pixels + 1) * LANES), *before = malloc(sizeof(float) * (pixels + 1) * LANES);
                int table[22 * LANES], owner[LANES];
                memset(table, 0, sizeof table);
                for (int i = 0; i < parts; i++)
                    sources[i] = floats((size_t)pixels * LANES);
                for (int l = 0; l < LANES; l++) {
                    owner[l] = below(parts + 1) - 1; /* -1: nobody serves it */
                    for (int i = 0; i < parts; i++)
                        table[2 * i * LANES + l] = below(LANES);
                    if (owner[l] >= 0)
                        table[(2 * owner[l] + 1) * LANES + l] = -1;
                }
                memcpy(before, y, sizeof(float) * (pixels + 1) * LANES);
                TILE(mix)((const float *const *)sources, table, parts, keep, y, pixels);
                snprintf(what, sizeof what, "mix %d parts, keep %d, %d pixels", parts, keep, pixels);
                for (int p = 0; p <= pixels; p++)
                    for (int l = 0; l < LANES; l++) {
                        float want = p == pixels || keep ? before[p * LANES + l] : 0;
                        if (p < pixels && owner[l] >= 0)
                            want = sources[owner[l]][p * LANES + table[2 * owner[l] * LANES + l]];
                        check(what, y[p * LANES + l], want, 0, 0);
                    }
                for (int i = 0; i < parts; i++)
                    free(sources[i]);
                free(y), free(before);
            }
}

static void run(void)
{
    char what[80];
    for (int pixels = 1; pixels <= 3 * LANES + 1; pixels++)
        for (int channels = 1; channels <= LANES; channels++)
            for (int room = 0; room <= LANES; room += LANES / 2) {
                const int xc = pixels + room + 2;
                float *x = filled((size_t)channels * xc + room, NAN), *y = filled((size_t)(pixels + 1) * LANES, 77);
                for (int c = 0; c < channels; c++)
                    for (int p = 0; p < pixels; p++)
                        x[c * xc + p] = uniform();
                TILE(pack)(x, xc, pixels + room, y, pixels, channels);
                snprintf(what, sizeof what, "pack %d pixels of %d channels", pixels, channels);
                for (int p = 0; p <= pixels; p++)
                    for (int l = 0; l < LANES; l++)
                        check(what, y[p * LANES + l], p == pixels ? 77 : l < channels ? x[l * xc + p] : 0, 0, 0);
                float *back = filled((size_t)channels * xc + room, 77);
                for (int p = 0; p < pixels; p++)
                    for (int l = channels; l < LANES; l++)
                        y[p * LANES + l] = NAN;
                TILE(unpack)(y, back, xc, pixels + room, pixels, channels);
                snprintf(what, sizeof what, "unpack %d pixels of %d channels", pixels, channels);
                for (int c = 0; c < channels; c++)
                    for (int p = 0; p < xc; p++)
                        if (p < pixels || p >= pixels + room)
                            check(what, back[c * xc + p], p < pixels ? x[c * xc + p] : 77, 0, 0);
                free(x), free(y), free(back);
            }
    for (int rows = 1; rows <= 2 * LANES + 3; rows++)
        for (int columns = 1; columns <= 2 * LANES + 3; columns++) {
            const int xr = columns + 3, yr = rows + 1;
            float *x = floats((size_t)rows * xr), *y = filled((size_t)columns * yr, 77);
            TILE(transpose)(x, xr, y, yr, rows, columns);
            snprintf(what, sizeof what, "transpose %d x %d", rows, columns);
            for (int c = 0; c < columns; c++)
                for (int r = 0; r < yr; r++)
                    check(what, y[c * yr + r], r < rows ? x[r * xr + c] : 77, 0, 0);
            free(x), free(y);
        }
    for (int pixels = 1; pixels <= 40; pixels += 3)
        for (int linear = 0; linear < 2; linear++) {
            const int n = pixels * LANES;
            Py_ssize_t first[40], second[40];
            float t[40], *x = floats((size_t)2 * n), *y = filled((size_t)n + 1, 77);
            for (int p = 0; p < pixels; p++)
                first[p] = below(pixels) * LANES, second[p] = below(pixels) * LANES, t[p] = uniform();
            TILE(blend_pixels)(x, first, second, linear ? t : NULL, y, pixels);
            snprintf(what, sizeof what, "blend_pixels %d linear %d", pixels, linear);
            for (int i = 0; i < n; i++) {
                const int p = i / LANES, l = i % LANES;
                double want = x[first[p] + l];
                if (linear)
                    want = want * (1 - t[p]) + (double)x[second[p] + l] * t[p];
                check(what, y[i], want, 4, linear ? 1e-6 : 0);
            }
            TILE(blend_rows)(x, x + n, t[0], y, n);
            for (int i = 0; i < n; i++)
                check("blend_rows", y[i], x[i] * (1 - (double)t[0]) + x[n + i] * (double)t[0], 4, 1e-6);
            check("blend", y[n], 77, 0, 0);
            free(x), free(y);
        }
    mix();
}
#endif

/* ------------------------------------------------------------------ quantised numbers */
#ifdef FAMILY_half
#define TILE(name) JOIN(MODULE, 4half_##name)
typedef struct JOIN(TYPES, 4half_half_tile_t) half_tile;

/* exact, by the definition of the two types */
static double half_value(int kind, unsigned bits)
{
    const int exponent_bits = kind ? 8 : 5, fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    const unsigned fraction = bits & ((1u << fraction_bits) - 1), exponent = bits >> fraction_bits & ((1u << exponent_bits) - 1);
    double value;
    if (exponent == (1u << exponent_bits) - 1)
        value = fraction ? NAN : INFINITY;
    else if (exponent)
        value = ldexp(1.0 + ldexp(fraction, -fraction_bits), (int)exponent - bias);
    else
        value = ldexp(fraction, 1 - bias - fraction_bits);
    return bits & 0x8000 ? -value : value;
}

static void runs(int kind)
{
    enum { N = 1 << 16 };
    uint16_t *x = malloc(N * sizeof *x), *y = malloc((N + 1) * sizeof *y);
    float *wide = malloc((N + 1) * sizeof *wide);
    for (int i = 0; i < N; i++)
        x[i] = (uint16_t)i;
    for (int n = 0; n < 70; n++) {
        wide[n] = 77;
        y[n] = 777;
        (kind ? TILE(widen_bf16) : TILE(widen_f16))(x + 300 * n, wide, n);
        (kind ? TILE(narrow_bf16) : TILE(narrow_f16))(wide, y, n);
        check("beyond a run", wide[n] == 77 && y[n] == 777, 1, 0, 0);
        for (int i = 0; i < n; i++)
            check("a short run", wide[i], half_value(kind, x[300 * n + i]), 0, 0);
    }
    (kind ? TILE(widen_bf16) : TILE(widen_f16))(x, wide, N);
    (kind ? TILE(narrow_bf16) : TILE(narrow_f16))(wide, y, N);
    for (int i = 0; i < N; i++) {
        const double value = half_value(kind, (unsigned)i);
        check("widened", wide[i], value, 0, 0);
        check("sign", signbit(wide[i]) != 0, i >> 15, 0, 0);
        if (!isnan(value))
            check("there and back", y[i], i, 0, 0);
        else
            check("NaN there and back", half_value(kind, y[i]), NAN, 0, 0);
    }
    /* between a number and the next one: down, up, and halfway to the one whose last bit is 0 */
    for (int i = 0; i + 1 < (kind ? 0x7f80 : 0x7c00); i++) {
        const double low = half_value(kind, (unsigned)i), high = half_value(kind, (unsigned)i + 1), middle = (low + high) / 2;
        const float three[3] = {nextafterf((float)middle, 0), (float)middle, nextafterf((float)middle, INFINITY)};
        if ((double)three[1] != middle)
            continue; /* no float is halfway */
        uint16_t got[3];
        (kind ? TILE(narrow_bf16) : TILE(narrow_f16))(three, got, 3);
        check("below halfway", got[0], i, 0, 0);
        check("halfway", got[1], i + (i & 1), 0, 0);
        check("above halfway", got[2], i + 1, 0, 0);
    }
    free(x), free(y), free(wide);
}

static void half_dense(int kind, int rows, int panels, int single, int k)
{
    char what[80];
    const int outputs = (single ? 1 : 2 * panels) * LANES, width = single ? LANES : 2 * LANES;
    float *x = floats((size_t)rows * (k + 3)), *bias = floats(outputs), *residual = floats((size_t)rows * (outputs + 1));
    float *wf = floats((size_t)k * outputs), *y = filled((size_t)rows * (outputs + 2), 77);
    uint16_t *w = malloc((size_t)k * outputs * sizeof *w + 1);
    (kind ? TILE(narrow_bf16) : TILE(narrow_f16))(wf, w, (Py_ssize_t)k * outputs);
    half_tile t;
    memset(&t, 0, sizeof t);
    t.x = x, t.xstep = k + 3, t.w = w, t.k = k, t.bias = bias, t.residual = rows % 2 ? residual : NULL;
    t.y = y, t.rstep = outputs + 1, t.ystep = outputs + 2, t.low = -1.5f, t.high = k % 2 ? 0.75f : INFINITY;
    (kind ? TILE(dense_bf16) : TILE(dense_f16))(rows, panels, single, &t);
    snprintf(what, sizeof what, "dense of %d rows, %d panels, kind %d", rows, panels, kind);
    for (int r = 0; r < rows; r++) {
        for (int o = 0; o < outputs; o++) {
            double sum = bias[o], size = fabs(bias[o]);
            for (int i = 0; i < k; i++) {
                /* bfloat16: the two blocks of a panel in turn, number by number */
                const int place = kind && !single ? o % LANES * 2 + o % width / LANES : o % width;
                const double term = half_value(kind, w[((size_t)(o / width) * k + i) * width + place]) * x[(size_t)r * (k + 3) + i];
                sum += term, size += fabs(term);
            }
            if (t.residual)
                sum += residual[(size_t)r * (outputs + 1) + o], size += 1;
            sum = sum < t.low ? t.low : sum > t.high ? t.high : sum;
            check(what, y[(size_t)r * (outputs + 2) + o], sum, size, 1e-5);
        }
        check("beyond the outputs", y[(size_t)r * (outputs + 2) + outputs], 77, 0, 0);
    }
    free(x), free(bias), free(residual), free(wf), free(y), free(w);
}

static void run(void)
{
    for (int kind = 0; kind < 2; kind++) {
        runs(kind);
        for (int k = 0; k < 40; k += 1 + k / 3) {
            for (int rows = 1; rows <= HALF_ROWS; rows++) {
                half_dense(kind, rows, 1, 0, k);
                half_dense(kind, rows, 1, 1, k);
            }
            half_dense(kind, 1, 2, 0, k);
            half_dense(kind, 1, 4, 0, k);
            half_dense(kind, 2, 2, 0, k);
        }
    }
}
#endif

#if defined(FAMILY_qpool) || defined(FAMILY_qdense)
static unsigned char *bytes(size_t n)
{
    unsigned char *p = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)below(256);
    return p;
}

static unsigned char *guarded(size_t n)
{
    unsigned char *p = malloc(n + 1);
    memset(p, 77, n + 1);
    return p;
}

/* float arithmetic, each operation rounded */
static float times(float a, float b) { volatile float r = a * b; return r; }
static float over(float a, float b) { volatile float r = a / b; return r; }
static float plus(float a, float b) { volatile float r = a + b; return r; }
static float bounded(float v, float low, float high) { return v < low ? low : v > high ? high : v; }
#endif

#ifdef FAMILY_qpool
#define TILE(name) JOIN(MODULE, 5qpool_##name)
typedef struct JOIN(TYPES, 5qpool_qstore_t) qstore;
typedef struct JOIN(TYPES, 5qpool_qpool_tile_t) qpool_tile;

static void stores(void)
{
    char what[80];
    for (int round = 0; round < 64; round++) {
        const int pixels = 1 + round % 7, floating = round % 5 == 4, step = LANES * (1 + round % 3) * (floating ? 4 : 1);
        const int n = pixels * LANES, has_bias = round & 1, has_table = !floating && round & 2, has_residual = !floating && round & 4;
        float *sums = floats(n), *ratio = floats(LANES), *offset = floats(LANES);
        int32_t bias[LANES];
        unsigned char *table = bytes(256), *residual = bytes(n), *y = guarded((size_t)pixels * step);
        for (int i = 0; i < n; i++)
            sums[i] = (float)(below(1 << 24) - (1 << 23));
        for (int l = 0; l < LANES; l++)
            bias[l] = below(1 << 30) - (1 << 29), ratio[l] = fabsf(ratio[l]) * (has_bias ? 1e-6f : 1e-4f);
        qstore t;
        memset(&t, 0, sizeof t);
        t.ratio = ratio, t.offset = floating && round % 2 ? offset : NULL, t.bias = has_bias ? bias : NULL, t.table = has_table ? table : NULL;
        t.residual = has_residual ? residual : NULL, t.rstep = LANES, t.ystep = step, t.mode = floating, t.zero = 131;
        t.low = floating ? -20 : -131, t.high = floating ? 30 : 124;
        t.first_low = -90, t.first_high = 100, t.scale = 0.7f, t.r_scale = 1.3f, t.r_zero = 90;
        TILE(store)(sums, (char *)y, pixels, &t);
        snprintf(what, sizeof what, "store round %d", round);
        for (int i = 0; i < n; i++) {
            const int p = i / LANES, l = i % LANES;
            float v = has_bias ? (float)((int)sums[i] + bias[l]) : sums[i];
            v = times(v, ratio[l]);
            if (floating) {
                float got;
                memcpy(&got, y + (size_t)p * step + 4 * l, 4);
                check(what, got, bounded(t.offset ? plus(v, offset[l]) : v, -20, 30), 0, 0);
                continue;
            }
            if (has_residual)
                v = plus(times(rintf(bounded(v, -90, 100)), 0.7f), times((float)residual[i] - 90, 1.3f));
            int want = (int)rintf(bounded(v, -131, 124)) + 131;
            check(what, y[(size_t)p * step + l], has_table ? table[want] : want, 0, 0);
        }
        check(what, y[(size_t)pixels * step], 77, 0, 0);
        free(sums), free(ratio), free(offset), free(table), free(residual), free(y);
    }
    for (int pixels = 1; pixels < 12; pixels++) {
        unsigned char *x = bytes(pixels * LANES);
        float *y = filled((size_t)pixels * LANES + 1, 77);
        TILE(widen)(x, y, pixels * LANES, 9);
        for (int i = 0; i <= pixels * LANES; i++)
            check("widen", y[i], i < pixels * LANES ? (int)x[i] - 9 : 77, 0, 0);
        free(x), free(y);
    }
}

static void windows(void)
{
    char what[100];
    for (int kw = 1; kw <= 5; kw++)
        for (int stride = 1; stride <= 3; stride++)
            for (int gap = 1; gap <= 2; gap++)
                for (int tall = 0; tall <= 3; tall++)
                    for (int left = 0; left <= 2; left++) {
                        const int pixels = 11, width = (left + pixels + 1 - (kw - 1) * gap - 1) / stride + 1;
                        const int used = (width - 1) * stride + (kw - 1) * gap + 1, right = used > left + pixels ? used - left - pixels : 0;
                        const size_t row = pixels * LANES, line = (size_t)(left + pixels + right) * LANES;
                        unsigned char *x = bytes(2 * 3 * row + 1), *y = guarded((size_t)width * LANES);
                        void *scratch = malloc(5 * line + 64);
                        float count[32];
                        for (int i = 0; i < width; i++)
                            count[i] = 1 + i % 9;
                        qpool_tile t;
                        memset(&t, 0, sizeof t);
                        t.x = x, t.kd = tall > 1 ? 2 : 1, t.kh = tall, t.td = 3 * row, t.th = row, t.pixels = pixels, t.left = left;
                        t.right = right, t.kw = kw, t.dilation = gap, t.stride = stride, t.width = width, t.line = scratch;
                        t.wide = (unsigned char *)scratch + line, t.y = y, t.ratio = 0.3f, t.count = count, t.x_zero = 100, t.zero = 40;
                        for (int mean = 0; mean < 2; mean++) {
                            (mean ? TILE(mean_row) : TILE(max_row))(&t);
                            snprintf(what, sizeof what, "%s kw=%d stride=%d gap=%d tall=%d left=%d", mean ? "mean" : "max", kw, stride, gap,
                                     tall, left);
                            for (int i = 0; i < width * LANES; i++) {
                                long sum = 0, best = 0;
                                for (int k = 0; k < kw; k++)
                                    for (int z = 0; z < t.kd; z++)
                                        for (int r = 0; r < tall; r++) {
                                            const int p = i / LANES * stride + k * gap - left;
                                            if (p < 0 || p >= pixels)
                                                continue;
                                            const int v = x[z * t.td + r * t.th + p * LANES + i % LANES];
                                            sum += v - 100, best = v > best ? v : best;
                                        }
                                check(what, y[i], mean ? rintf(bounded(over(times((float)sum, 0.3f), count[i / LANES]), -40, 215)) + 40 : best, 0, 0);
                            }
                            check(what, y[width * LANES], 77, 0, 0);
                        }
                        free(x), free(y), free(scratch);
                    }
    for (int pixels = 1; pixels < 70; pixels += 1 + pixels / 5) {
        unsigned char *x = bytes((size_t)6 * pixels * LANES), y[LANES], *wide = malloc(pixels * LANES);
        const float count = 7;
        qpool_tile t;
        memset(&t, 0, sizeof t);
        t.x = x, t.kd = 2, t.kh = 3, t.td = (Py_ssize_t)3 * pixels * LANES, t.th = (Py_ssize_t)pixels * LANES, t.pixels = pixels;
        t.wide = wide, t.y = y, t.ratio = 0.1f, t.count = &count, t.x_zero = 100, t.zero = 40;
        for (int mean = 0; mean < 2; mean++) {
            (mean ? TILE(mean_box) : TILE(max_box))(&t);
            for (int l = 0; l < LANES; l++) {
                long sum = 0, best = 0;
                for (int p = 0; p < 6 * pixels; p++)
                    sum += (int)x[p * LANES + l] - 100, best = x[p * LANES + l] > best ? x[p * LANES + l] : best;
                check(mean ? "mean of a box" : "max of a box", y[l], mean ? rintf(bounded(over(times((float)sum, 0.1f), 7), -40, 215)) + 40 : best, 0, 0);
            }
        }
        long sum = 0, best = 0;
        for (int i = 0; i < pixels * LANES - 1; i++)
            sum += x[i], best = x[i] > best ? x[i] : best;
        check("sum of a run", (double)TILE(sum_run)(x, pixels * LANES - 1), (double)sum, 0, 0);
        check("max of a run", TILE(max_run)(x, pixels * LANES - 1), best, 0, 0);
        check("step", TILE(step_of)(2.5f * pixels, 2, 3, 40), rintf(bounded(over(5.0f * pixels, 3), -40, 215)) + 40, 0, 0);
        free(x), free(wide);
    }
}

static void run(void)
{
    stores();
    windows();
}
#endif

#ifdef FAMILY_qconv
#define TILE(name) JOIN(MODULE, 5qconv_##name)
typedef struct JOIN(TYPES, 5words_word_tile_t) qconv_tile;
#if QSTEP == 4
typedef unsigned char qx;
typedef signed char qw;
enum { X_LOW = 0, X_SPAN = 256, X_LESS = QFLIP ? 128 : 0, W_SPAN = 256 };
#else
typedef int16_t qx, qw;
enum { X_LOW = -255, X_SPAN = 511, X_LESS = 0, W_SPAN = 511 };
#endif

static float times(float a, float b) { volatile float r = a * b; return r; }
static float plus(float a, float b) { volatile float r = a + b; return r; }

/* `count` tiles of `pixels` x B blocks at a stride, over planes of `steps` words, the last one of `partial` */
static void product(void (*tile)(int, Py_ssize_t, const qconv_tile *), int B, int pixels, int count, int planes, int steps, int partial, int n_taps,
                    int stride, int mode, int adds)
{
    char what[120];
    const int all = pixels * count, width = steps * QSTEP, xp = (all - 1) * stride + 1 + n_taps, channels = planes * width + partial * QSTEP;
    const int x_plane = xp * width, item = mode ? 4 : 1, plane = all * LANES * item + 64;
    qx *x = malloc(sizeof(qx) * (size_t)(planes + 1) * x_plane + 64);
    qw *w = malloc(sizeof(qw) * ((size_t)channels * n_taps * B * LANES + 1));
    unsigned char *y = malloc((size_t)B * plane), *residual = malloc((size_t)B * all * LANES + 1);
    float ratio[2 * LANES], offset[2 * LANES];
    int32_t bias[2 * LANES];
    Py_ssize_t taps[8];
    for (int i = 0; i < (planes + 1) * x_plane; i++)
        x[i] = (qx)(X_LOW + below(X_SPAN));
    for (int i = 0; i < channels * n_taps * B * LANES; i++)
        w[i] = (qw)(below(W_SPAN) - W_SPAN / 2);
    for (int i = 0; i < B * all * LANES; i++)
        residual[i] = (unsigned char)below(256);
    for (int i = 0; i < B * LANES; i++)
        bias[i] = below(20000) - 10000, ratio[i] = (1 + below(100)) * 2e-5f, offset[i] = (float)below(100) * 0.37f;
    for (int i = 0; i < n_taps; i++)
        taps[i] = (Py_ssize_t)sizeof(qx) * i * width;
    memset(y, 77, (size_t)B * plane);
    qconv_tile t;
    memset(&t, 0, sizeof t);
    t.x = (const char *)x, t.w = (const char *)w, t.bias = bias, t.ratio = ratio, t.offset = mode == 1 ? offset : NULL, t.y = (char *)y;
    t.residual = adds ? (const char *)residual : NULL, t.taps = taps, t.n_taps = n_taps, t.planes = planes, t.steps = steps, t.partial = partial;
    t.xplane = (Py_ssize_t)sizeof(qx) * x_plane, t.xstep = (Py_ssize_t)sizeof(qx) * width * stride, t.yplane = plane, t.ystep = LANES * item;
    t.rplane = all * LANES, t.rstep = LANES, t.mode = mode, t.low = -50, t.high = 60, t.zeros = 131 | 131 << 16;
    t.lows = 9 * 0x01010101, t.highs = (int)(240u * 0x01010101u), t.first_low = -90, t.first_high = 100, t.scale = 0.7f, t.r_scale = 1.3f;
    t.r_zero = 90;
    tile(pixels, count, &t);
    snprintf(what, sizeof what, "%d tiles of %d x %d, %d planes of %d words and %d, %d taps, stride %d, mode %d%s", count, pixels, B, planes, steps,
             partial, n_taps, stride, mode, adds ? ", residual" : "");
    for (int b = 0; b < B; b++) {
        for (int p = 0; p < all; p++)
            for (int l = 0; l < LANES; l++) {
                const int o = b * LANES + l;
                const qw *at = w;
                int32_t sum = bias[o];
                for (int k = 0; k < n_taps; k++)
                    for (int c = 0; c < channels; c++) {
                        const int value = (int)x[c / width * x_plane + (p * stride + k) * width + c % width] - X_LESS;
                        const int word = c / QSTEP, byte = c % QSTEP;
                        sum += value * at[((k * (channels / QSTEP) + word) * B * LANES + o) * QSTEP + byte];
                    }
                const unsigned char *to = y + (size_t)b * plane + (size_t)(p * LANES + l) * item;
                if (mode) {
                    float got;
                    int32_t exact;
                    memcpy(&got, to, 4), memcpy(&exact, to, 4);
                    const float v = plus(times((float)sum, ratio[o]), offset[o]);
                    check(what, mode == 2 ? exact : got, mode == 2 ? sum : v < -50 ? -50 : v > 60 ? 60 : v, 0, 0);
                    continue;
                }
                float v = times((float)sum, ratio[o]);
                if (adds) {
                    v = rintf(v < -90 ? -90 : v > 100 ? 100 : v);
                    v = plus(times(v, 0.7f), times((float)residual[(b * all + p) * LANES + l] - 90, 1.3f));
                }
                const double step = rint(v) + 131;
                check(what, *to, step < 9 ? 9 : step > 240 ? 240 : step, 0, 0);
            }
        check(what, y[(size_t)b * plane + (size_t)all * LANES * item], 77, 0, 0);
    }
    free(x), free(w), free(y), free(residual);
}

static void run(void)
{
    const int steps = LANES / QSTEP, few = 4 / QSTEP;
    for (int B = 1; B <= 2; B++)
        for (int pixels = 1; pixels <= (B == 1 ? WIDTH1 : WIDTH2); pixels++)
            for (int round = 0; round < 12; round++) {
                void (*tile)(int, Py_ssize_t, const qconv_tile *) = B == 1 ? TILE(tile_1) : TILE(tile_2);
                const int partial = round % 4 < steps ? round % 4 : steps - 1, adds = round % 3 == 0 && round % 2;
                product(tile, B, pixels, 1 + round % 3, round % 5, steps, round % 5 ? partial : partial + 1, 1 + round % 4, 1 + round % 2, round % 3, adds);
                product(tile, B, pixels, 1, 1, few, 0, 1 + round % 7, 1 + round % 3, round % 3, adds);
            }
    unsigned char bytes_[100];
    int16_t wide[101];
    for (int n = 0; n < 100; n++) {
        for (int i = 0; i < n; i++)
            bytes_[i] = (unsigned char)below(256);
        wide[n] = 77;
        TILE(widen)(bytes_, wide, n, 200);
        for (int i = 0; i <= n; i++)
            check("widen", wide[i], i < n ? (int)bytes_[i] - 200 : 77, 0, 0);
    }
}
#endif

#ifdef FAMILY_bconv
#define TILE(name) JOIN(MODULE, 5bconv_##name)
typedef struct JOIN(TYPES, 5words_word_tile_t) bconv_tile;

static float wide(uint16_t h) { uint32_t bits = (uint32_t)h << 16; float f; memcpy(&f, &bits, 4); return f; }
static uint16_t narrow(float f) { uint32_t bits; memcpy(&bits, &f, 4); return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); }

/* `count` tiles of `pixels` x B blocks at a stride, over planes of LANES channels, the last one of `rest`; y and the residual (1: float32, 2:
 * bfloat16) lie in blocks */
static void product(void (*tile)(int, Py_ssize_t, const bconv_tile *), int B, int pixels, int count, int planes, int rest, int n_taps, int stride,
                    int floats, int adds, int bounds)
{
    char what[120];
    const int all = pixels * count, xp = (all - 1) * stride + 1 + n_taps, channels = planes * LANES + rest, words = planes * LANES / 2 + (rest + 1) / 2;
    const int x_plane = xp * LANES, item = floats ? 4 : 2, plane = all * LANES * item + 64, r_item = adds == 2 ? 2 : 4;
    uint16_t *x = malloc(2 * (size_t)(planes + 1) * x_plane + 64), *w = malloc(4 * ((size_t)words * n_taps * B * LANES + 1));
    unsigned char *y = malloc((size_t)B * plane), *residual = malloc((size_t)B * all * LANES * 4 + 1);
    float bias[2 * LANES];
    Py_ssize_t taps[8];
    for (int i = 0; i < (planes + 1) * x_plane; i++) /* what no channel has is NaN, but for a zero that completes a pair */
        x[i] = i / x_plane < planes || i % LANES < rest ? narrow((below(2001) - 1000) * 0.01f) : i % LANES == rest && rest % 2 ? 0 : 0x7fff;
    for (int i = 0; i < 2 * words * n_taps * B * LANES; i++)
        w[i] = rest % 2 && i / (2 * B * LANES) % words == words - 1 && i % 2 ? 0 : narrow((below(2001) - 1000) * 0.003f);
    for (int i = 0; i < B * all * LANES; i++) {
        const float value = (below(2001) - 1000) * 0.1f;
        const uint16_t half = narrow(value);
        memcpy(residual + (size_t)i * r_item, r_item == 2 ? (const void *)&half : (const void *)&value, r_item);
    }
    for (int i = 0; i < B * LANES; i++)
        bias[i] = (below(2001) - 1000) * 0.02f;
    for (int i = 0; i < n_taps; i++)
        taps[i] = 2 * i * LANES;
    memset(y, 77, (size_t)B * plane);
    bconv_tile t;
    memset(&t, 0, sizeof t);
    t.x = (const char *)x, t.w = (const char *)w, t.bias = bias, t.y = (char *)y, t.residual = adds ? (const char *)residual : NULL, t.taps = taps;
    t.n_taps = n_taps, t.planes = planes, t.steps = LANES / 2, t.partial = (rest + 1) / 2, t.xplane = 2 * x_plane, t.xstep = 2 * LANES * stride;
    t.yplane = plane, t.ystep = LANES * item, t.rplane = all * LANES * r_item, t.rstep = LANES * r_item, t.r_half = adds == 2, t.mode = floats;
    t.low = bounds ? -20 : -INFINITY, t.high = bounds ? 30 : INFINITY;
    tile(pixels, count, &t);
    snprintf(what, sizeof what, "%d tiles of %d x %d, %d planes and %d channels, %d taps, stride %d, floats %d, residual %d", count, pixels, B, planes, rest,
             n_taps, stride, floats, adds);
    for (int b = 0; b < B; b++) {
        for (int p = 0; p < all; p++)
            for (int l = 0; l < LANES; l++) {
                const int o = b * LANES + l, at = o % LANES + (b * all + p) * LANES;
                double sum = bias[o], size = fabs(bias[o]);
                for (int k = 0; k < n_taps; k++)
                    for (int c = 0; c < channels; c++) {
                        const float value = wide(x[c / LANES * x_plane + (p * stride + k) * LANES + c % LANES]);
                        const double term = (double)value * wide(w[((k * words + c / 2) * B * LANES + o) * 2 + c % 2]);
                        sum += term, size += fabs(term);
                    }
                if (adds) {
                    float value;
                    uint16_t half;
                    memcpy(&value, residual + (size_t)at * 4, 4), memcpy(&half, residual + (size_t)at * 2, 2);
                    const double term = adds == 2 ? wide(half) : value;
                    sum += term, size += fabs(term);
                }
                if (bounds)
                    sum = sum < -20 ? -20 : sum > 30 ? 30 : sum;
                const unsigned char *to = y + (size_t)b * plane + (size_t)(p * LANES + l) * item;
                float got;
                uint16_t half;
                memcpy(&got, to, 4), memcpy(&half, to, 2);
                const double error = 1.2e-7 * (4 + sqrt((double)channels * n_taps)) * size;
                check(what, floats ? got : wide(half), sum, 1, error + (floats ? 0 : fabs(sum) * 0x1p-8));
            }
        check(what, y[(size_t)b * plane + (size_t)all * LANES * item], 77, 0, 0);
    }
    free(x), free(w), free(y), free(residual);
}

static void run(void)
{
    for (int B = 1; B <= 2; B++)
        for (int pixels = 1; pixels <= (B == 1 ? WIDTH1 : WIDTH2); pixels++)
            for (int round = 0; round < 12; round++) {
                void (*tile)(int, Py_ssize_t, const bconv_tile *) = B == 1 ? TILE(tile_1) : TILE(tile_2);
                product(tile, B, pixels, 1 + round % 3, round % 5, round % 5 ? round % LANES : 1 + round % LANES, 1 + round % 4, 1 + round % 2, round % 2,
                        round % 3, round % 4 < 2);
            }
    float x[4 * LANES];
    uint16_t y[4 * LANES + 1];
    for (int n = 0; n <= 4; n++) {
        for (int i = 0; i < n * LANES; i++)
            x[i] = (below(200001) - 100000) * 0.0137f;
        y[n * LANES] = 77;
        TILE(narrow)(x, y, n * LANES);
        for (int i = 0; i <= n * LANES; i++)
            check("narrow", y[i], i < n * LANES ? narrow(x[i]) : 77, 0, 0);
    }
}
#endif

#ifdef FAMILY_qdense
#define TILE(name) JOIN(MODULE, 6qdense_##name)
typedef struct JOIN(TYPES, 6qdense_qdense_tile_t) qdense_tile;
typedef struct JOIN(TYPES, 6qdense_qfinish_t) qfinish;
enum { COLUMNS = 4 * LANES, FLIP = QFLIP ? 128 : 0 };

static void product(void (*tile)(const qdense_tile *), int rows, int k, int n)
{
    char what[80];
    const int words = (k + QSTEP - 1) / QSTEP, row = 4 * words;
    unsigned char *x = bytes((size_t)rows * k), *w = bytes((size_t)k * n), *made = guarded((size_t)rows * row);
    signed char *panel = malloc((size_t)words * QSTEP * COLUMNS + 1), *turned = malloc((size_t)words * QSTEP * COLUMNS + 1);
    unsigned char *wt = malloc((size_t)k * n + 1);
    int32_t *sums = malloc(sizeof(int32_t) * rows * COLUMNS), column_sums[COLUMNS] = {0};
    for (int r = 0; r < rows; r++)
        TILE(words)(x + (size_t)r * k, (char *)made + (size_t)r * row, k);
    check("words", made[(size_t)rows * row], 77, 0, 0);
    for (int i = 0; i < k; i++)
        for (int j = 0; j < n; j++)
            wt[j * k + i] = w[i * n + j];
    TILE(pack)(w, n, 1, k, n, 128, panel, column_sums);
    TILE(pack)(wt, 1, k, k, n, 128, turned, NULL);
    check("packed of rows and of columns", memcmp(panel, turned, (size_t)words * QSTEP * COLUMNS), 0, 0, 0);
    qdense_tile t = {0};
    t.x = (const char *)made, t.xrow = row, t.words = words, t.w = (const char *)panel, t.sums = sums;
    tile(&t);
    snprintf(what, sizeof what, "product of %d rows, k %d, n %d", rows, k, n);
    for (int r = 0; r < rows; r++) {
        long x_sum = 0;
        for (int i = 0; i < k; i++)
            x_sum += (int)x[r * k + i] - FLIP;
        check("sum of a row", TILE(sum_)(x + r * k, k), (double)x_sum, 0, 0);
        for (int j = 0; j < COLUMNS; j++) {
            long sum = 0, whole = 0;
            for (int i = 0; i < k && j < n; i++)
                sum += ((int)x[r * k + i] - FLIP) * ((int)w[i * n + j] - 128), whole += (int)w[i * n + j] - 128;
            check(what, sums[r * COLUMNS + j], (double)sum, 0, 0);
            check("sum of a column", column_sums[j], (double)whole, 0, 0);
        }
    }
    free(x), free(w), free(made), free(panel), free(turned), free(wt), free(sums);
}

static void finishes(void)
{
    for (int round = 0; round < 96; round++) {
        const int n = 1 + round % COLUMNS, mode = round % 3, item = mode ? 4 : 1;
        int32_t sums[COLUMNS], w_sums[COLUMNS], w_zero[COLUMNS], bias[COLUMNS];
        float *ratio = floats(COLUMNS), *offset = floats(COLUMNS);
        unsigned char *table = bytes(256), *y = guarded((size_t)n * item);
        for (int i = 0; i < COLUMNS; i++) {
            sums[i] = below(1 << 24) - (1 << 23), w_sums[i] = below(9999), w_zero[i] = below(255) - 128, bias[i] = below(1 << 20);
            ratio[i] = fabsf(ratio[i]) * 1e-4f;
        }
        qfinish t;
        memset(&t, 0, sizeof t);
        t.mode = mode, t.zero = 131, t.low = mode ? -INFINITY : -131, t.high = mode ? INFINITY : 124;
        t.w_sums = round & 4 ? w_sums : NULL, t.x_shift = -7, t.shifts = round & 24, t.w_shift = 3, t.w_zero = round & 8 ? w_zero : NULL;
        t.bias = round & 1 ? bias : NULL, t.ratio = mode < 2 ? ratio : NULL, t.table = !mode && round & 2 ? table : NULL;
        t.scales = mode == 1 && round & 2, t.scale = 0.3f, t.offset = mode == 1 && round & 32 ? offset : NULL;
        TILE(finish)(sums, (char *)y, n, 1234, &t);
        for (int i = 0; i < n; i++) {
            int s = sums[i] - (t.shifts ? (3 + (t.w_zero ? w_zero[i] : 0)) * 1234 : 0) + (t.w_sums ? -7 * w_sums[i] : 0) + (t.bias ? bias[i] : 0);
            if (mode == 2) {
                int32_t got;
                memcpy(&got, y + 4 * i, 4);
                check("finished sums", got, s, 0, 0);
                continue;
            }
            float v = times((float)s, t.scales ? times(0.3f, ratio[i]) : ratio[i]);
            if (mode == 1) {
                float got;
                memcpy(&got, y + 4 * i, 4);
                check("finished floats", got, t.offset ? plus(v, offset[i]) : v, 0, 0);
                continue;
            }
            const int want = (int)rintf(bounded(v, -131, 124)) + 131;
            check("finished bytes", y[i], t.table ? table[want] : want, 0, 0);
        }
        check("beyond the columns", y[(size_t)n * item], 77, 0, 0);
        free(ratio), free(offset), free(table), free(y);
    }
}

static void run(void)
{
    for (int k = 1; k < 40; k += 1 + k / 6)
        for (int n = 1; n <= COLUMNS; n += 1 + n / 3) {
            product(TILE(tile_1), 1, k, n);
            product(TILE(tile_2), 2, k, n);
            product(TILE(tile_3), 3, k, n);
            product(TILE(tile_4), 4, k, n);
            product(TILE(tile_5), 5, k, n);
            product(TILE(tile_6), 6, k, n);
        }
    finishes();
}
#endif

/* ------------------------------------------------------------------ quantised numbers, but for products */
#ifdef FAMILY_qvector
#define TILE(name) JOIN(MODULE, 7qvector_##name)
typedef struct JOIN(TYPES, 7qvector_scaling_t) scaling_tile;
typedef struct JOIN(TYPES, 7qvector_pairing_t) pairing_tile;
typedef struct JOIN(TYPES, 7qvector_blending_t) blending_tile;

static uint8_t *bytes(size_t n)
{
    uint8_t *p = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)below(256);
    return p;
}

static uint8_t clamped(double v, int low, int high)
{
    return (uint8_t)(isnan(v) ? 0 : v < low ? low : v > high ? high : v);
}

/* `width` channels a pixel; no byte beside a row is read, no byte behind the last pixel is written */
static void moves(int width)
{
    char what[80];
    for (int channels = 1; channels <= width; channels += channels < 4 ? 1 : width / 4)
        for (int pixels = 1; pixels <= 70; pixels++) {
            const int room = pixels % 2 ? 0 : 16, xc = pixels + room;
            uint8_t *x = bytes((size_t)(channels - 1) * xc + pixels + room), *y = bytes((size_t)pixels * width + 1);
            uint8_t *back = bytes((size_t)(channels - 1) * xc + pixels + room);
            y[pixels * width] = 77;
            (width == LANES ? TILE(pack) : TILE(pack4))(x, xc, pixels + room, y, pixels, channels, 9);
            snprintf(what, sizeof what, "pack of bytes, %d pixels of %d of %d channels", pixels, channels, width);
            for (int p = 0; p < pixels; p++)
                for (int l = 0; l < width; l++)
                    check(what, y[p * width + l], l < channels ? x[l * xc + p] : 9, 0, 0);
            check(what, y[pixels * width], 77, 0, 0);
            memset(back, 77, (size_t)(channels - 1) * xc + pixels + room);
            (width == LANES ? TILE(unpack) : TILE(unpack4))(y, back, xc, pixels + room, pixels, channels);
            snprintf(what, sizeof what, "unpack of bytes, %d pixels of %d of %d channels", pixels, channels, width);
            for (int c = 0; c < channels; c++)
                for (int p = 0; p < pixels; p++)
                    check(what, back[c * xc + p], x[c * xc + p], 0, 0);
            free(x), free(y), free(back);
        }
}

static void mixes(void)
{
    for (int parts = 1; parts <= 4; parts++)
        for (int pixels = 1; pixels <= 40; pixels++)
            for (int keep = 0; keep < 2; keep++) {
                uint8_t *x[4], orders[4 * LANES], *y = bytes((size_t)pixels * LANES + 1);
                uint8_t *before = malloc((size_t)pixels * LANES + 1);
                for (int i = 0; i < parts; i++)
                    x[i] = bytes((size_t)pixels * LANES);
                memset(orders, 255, sizeof orders);
                for (int l = 0; l < LANES; l++)
                    if (below(5))
                        orders[below(parts) * LANES + l] = (uint8_t)below(LANES);
                y[pixels * LANES] = 77;
                memcpy(before, y, (size_t)pixels * LANES);
                TILE(mix)((const uint8_t *const *)x, orders, parts, keep, y, pixels);
                for (int p = 0; p < pixels; p++)
                    for (int l = 0; l < LANES; l++) {
                        int want = keep ? before[p * LANES + l] : 0;
                        for (int i = 0; i < parts; i++)
                            if (orders[i * LANES + l] != 255)
                                want = x[i][p * LANES + orders[i * LANES + l]];
                        check("mix of bytes", y[p * LANES + l], want, 0, 0);
                    }
                check("mix of bytes", y[pixels * LANES], 77, 0, 0);
                for (int i = 0; i < parts; i++)
                    free(x[i]);
                free(y), free(before);
            }
}

static void run(void)
{
    moves(LANES);
    moves(4);
    mixes();
    for (int n = 1; n <= 300; n += n < 40 ? 1 : 13) {
        uint8_t *a = bytes(n), *b = bytes(n), *y = bytes(n + 1), table[256], gate[4 * LANES];
        float *x = floats(n), *scales = floats(n), *f = floats(n + 1), found[2];
        int *zeros = malloc(n * sizeof(int));
        y[n] = 77, f[n] = 77;
        for (int i = 0; i < 256; i++)
            table[i] = (uint8_t)below(256);
        for (int i = 0; i < 4 * LANES; i++)
            gate[i] = i < LANES ? (uint8_t)below(256) : gate[i - LANES];
        TILE(flip)(a, y, n, 128);
        for (int i = 0; i < n; i++)
            check("flip", y[i], a[i] ^ 128, 0, 0);
        TILE(table)(table, a, y, n);
        for (int i = 0; i < n; i++)
            check("table", y[i], table[a[i]], 0, 0);
        for (int i = 0; i < n; i++)
            x[i] = i % 7 == 3 ? NAN : i % 11 == 5 ? (i % 2 ? INFINITY : -INFINITY) : i % 3 ? rintf(x[i] * 400) / 2 : x[i] * 300,
            zeros[i] = below(256), scales[i] = 0.1f + fabsf(scales[i]);
        for (int each = 0; each < 2; each++)
            for (int flipped = 0; flipped <= 128; flipped += 128) {
                scaling_tile s = {scales, zeros, each, flipped};
                TILE(quantize)(x, &s, y, n);
                TILE(dequantize)(a, &s, f, n);
                for (int i = 0; i < n; i++) {
                    const float scale = scales[each ? i : 0];
                    const int zero = zeros[each ? i : 0];
                    const float q = rintf(x[i] / scale);
                    check("quantize", y[i], clamped(isnan(q) ? zero : (double)q + zero, 0, 255) ^ flipped, 0, 0);
                    check("dequantize", f[i], (float)((a[i] ^ flipped) - zero) * scale, 0, 0);
                }
            }
        pairing_tile s;
        memset(&s, 0, sizeof s);
        for (int product = 0; product < 2; product++)
            for (int period = 0; period < 3; period++) {
                s.a_zero = below(256), s.b_zero = below(256), s.zero = below(256), s.low = below(100), s.high = 100 + below(156);
                s.a_ratio = product ? 0.0078125f * (1 + below(3)) : 0.25f * (1 + below(4)), s.b_ratio = below(2) ? 0.5f : -0.37f;
                s.product = product;
                TILE(pair)(a, period ? gate : b, period == 2 ? 4 * LANES : period, &s, y, n);
                for (int i = 0; i < n; i++) {
                    const float p = a[i] - s.a_zero, q = (period == 0 ? b[i] : period == 1 ? gate[0] : gate[i % LANES]) - s.b_zero;
                    volatile float first = product ? p * q : p * s.a_ratio, second = q * s.b_ratio;
                    volatile float sum = product ? first * s.a_ratio : first + second;
                    check(product ? "product" : "sum", y[i], clamped((double)rintf(sum) + s.zero, s.low, s.high), 0, 0);
                }
            }
        check("bytes", y[n], 77, 0, 0);
        check("floats", f[n], 77, 0, 0);
        for (int i = 0; i < n; i++)
            x[i] = isfinite(x[i]) ? x[i] : 0;
        for (int bad = 0; bad < 2; bad++) {
            if (bad)
                x[below(n)] = NAN;
            double low = 0, high = 0;
            for (int i = 0; i < n; i++)
                low = !(x[i] >= low) ? x[i] : low, high = !(x[i] <= high) ? x[i] : high;
            for (int i = 0; i < n && bad; i++)
                if (isnan(x[i]))
                    low = high = NAN;
            TILE(range_of)(x, found, n);
            check("least", found[0], low, 0, 0);
            check("greatest", found[1], high, 0, 0);
        }
        Py_ssize_t first[300];
        const int pixels = n / LANES;
        for (int p = 0; p < pixels; p++)
            first[p] = below(pixels) * LANES;
        TILE(pick)(a, first, y, pixels);
        for (int i = 0; i < pixels * LANES; i++)
            check("pick", y[i], a[first[i / LANES] + i % LANES], 0, 0);
        Py_ssize_t second[300];
        float weights[300];
        float *rows = malloc((n + 1) * sizeof(float)), *others = malloc((n + 1) * sizeof(float));
        for (int p = 0; p < pixels; p++)
            second[p] = below(pixels) * LANES, weights[p] = below(2) ? 0.25f * below(5) : below(1000) / 999.0f;
        for (int i = 0; i < n; i++)
            others[i] = below(25500) / 100.0f;
        const float t = below(1000) / 999.0f;
        TILE(blend_bytes)(a, b, t, rows, pixels * LANES);
        for (int i = 0; i < pixels * LANES; i++) {
            volatile float part = ((float)b[i] - a[i]) * t, sum = a[i] + part;
            check("mixture of bytes", rows[i], sum, 0, 0);
            volatile float less = others[i] - rows[i], more = less * t, all = rows[i] + more;
            x[i] = all;
        }
        TILE(blend_floats)(rows, others, t, rows, pixels * LANES);
        for (int i = 0; i < pixels * LANES; i++)
            check("mixture of floats", rows[i], x[i], 0, 0);
        blending_tile m;
        m.x_zero = below(256), m.ratio = below(2) ? 0.5f : 0.37f, m.zero = below(256), m.low = below(100), m.high = 100 + below(156);
        TILE(blend_pixels)(rows, first, second, weights, &m, y, pixels);
        for (int i = 0; i < pixels * LANES; i++) {
            const float p = rows[first[i / LANES] + i % LANES], q = rows[second[i / LANES] + i % LANES];
            volatile float less = q - p, part = less * weights[i / LANES], sum = p + part, moved = sum - m.x_zero, step = moved * m.ratio;
            check("mixture of pixels", y[i], clamped((double)rintf(step) + m.zero, m.low, m.high), 0, 0);
        }
        free(rows), free(others);
        free(a), free(b), free(y), free(x), free(scales), free(f), free(zeros);
    }
}
#endif

int main(void)
{
    run();
    printf("%ld comparisons, %ld wrong, %d lanes\n", compared, failed, (int)LANES);
    return failed || !compared;
}
