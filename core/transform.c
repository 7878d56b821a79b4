/* SPDX-License-Identifier: MIT
 *
 * Coding by transform: the networks, and the coding of coefficients. Sums are in transform.inc, which each kernel
 * compiles for its own instructions. model/transform/reference.py does the same, step by step. */
#include "transform.h"
#include <string.h>

enum { ONE = 512, COEFFICIENT_MAX = 32767, CORRECTED_MAX = 16383, CORRECTION_MAX = 32767 };
enum { BASIS_BITS = 13, COEFFICIENT_BITS = 4, SAMPLE_BITS = 3, CORRECTION_BITS = 8 };
enum { OCTAVE_BITS = 4, SCALE_ZERO = 112, TAIL_BITS = 24, SHARE_BITS = 12, INVERSE_BITS = 20 };
enum { TOGETHER = 48 }; /* blocks whose sums are computed together */
enum { MOST_STEPS = 20, MOST_BITS = 15, EVEN = 1 << 15 };
enum { STRIDE = TF_COEFFICIENTS + 16 }; /* of the inputs of a block: coefficients, then what says that it is there */

static const int32_t sizes[TF_GROUPS] = {1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 18, 8, 13, 15, 42, 56};
static const bool of_gray[TF_GROUPS] = {1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 0};
static const int32_t near[TF_NEAR][2] = {{0, -1}, {-1, 0}, {-1, -1}, {-1, 1}};
static const int32_t far[TF_FAR][2] = {{0, -2}, {-2, 0}, {-1, -2}, {-1, 2}, {-2, -1}, {-2, 1}};

static inline int32_t limit(int32_t v, int32_t most) { return v < -most ? -most : v > most ? most : v; }
static inline int32_t blocks(int32_t side) { return (side + TF_SIDE - 1) / TF_SIDE; }

static const smalti_tf_kernel *kernel_of(const smalti_transform *model) {
#if defined(__x86_64__)
    if (model->kernel >= SMALTI_AVX512)
        return &tf_avx512;
    if (model->kernel >= SMALTI_AVX2)
        return &tf_avx2;
#elif defined(__aarch64__)
    if (model->kernel == SMALTI_NEON)
        return &tf_neon;
#elif defined(__wasm_simd128__)
    if (model->kernel == SMALTI_WASM)
        return &tf_wasm;
#endif
    (void)model;
    return &tf_scalar;
}

static void *grab(uint8_t **work, int64_t *used, int64_t size) {
    void *found = *work ? *work + *used : NULL;
    *used += (size + 127) / 64 * 64; /* vectors may read a little more */
    return found;
}

/* ---- The networks ---- */

typedef struct {
    int16_t *y, *inputs, *window, *first, *second; /* all blocks; some blocks with what each sees; units, with margins */
    int32_t *sums;
} network;

static void lay_out_network(network *w, int32_t rows, int32_t columns, uint8_t *work, int64_t *used) {
    const int64_t n = (int64_t)rows * columns, wide = (int64_t)(rows + 2) * (columns + 2);
    const int64_t most = TF_WINDOW > TF_TAPS * TF_HIDDEN ? TF_WINDOW : TF_TAPS * TF_HIDDEN;
    w->y = grab(&work, used, n * TF_COEFFICIENTS * 2);
    w->inputs = grab(&work, used, wide * (TF_COEFFICIENTS + 1) * 2);
    w->first = grab(&work, used, wide * TF_HIDDEN * 2);
    w->second = grab(&work, used, (int64_t)TOGETHER * TF_HIDDEN * 2);
    w->window = grab(&work, used, TOGETHER * (most + 1) * 2);
    w->sums = grab(&work, used, (int64_t)TOGETHER * TF_HIDDEN * 4);
}

/* Run a convolution over n blocks from block `at` on. from: units of all blocks with a margin of one, `width` of each. */
static void convolve(const smalti_tf_kernel *run, const smalti_tf_layer *layer, const int32_t *biases, const int16_t *from,
                     int32_t width, int64_t at, int32_t n, int32_t columns, network *w) {
    const int64_t inputs = (int64_t)layer->pairs * 2, across = (int64_t)(columns + 2) * width;
    for (int32_t i = 0; i < n; i++) {
        const int64_t row = (at + i) / columns, column = (at + i) % columns;
        int16_t *to = w->window + i * inputs;
        to[inputs - 1] = 0;
        for (int32_t down = 0; down < 3; down++)
            memcpy(to + 3 * down * width, from + (row + down) * across + column * width, 3 * (size_t)width * 2);
    }
    run->sum(layer, w->window, inputs, n, biases, 0, w->sums, layer->outputs);
}

/* Write what a network adds to the coefficients w->y to `to` (rows columns TF_COEFFICIENTS). */
static void correct(const smalti_transform *model, const smalti_tf_layer *layers, const int32_t *const *biases,
                    const int32_t *steps, int32_t rows, int32_t columns, network *w, int32_t *to) {
    const smalti_tf_kernel *run = kernel_of(model);
    const int32_t width = TF_COEFFICIENTS + 1, units = layers[0].outputs, second = layers[1].outputs;
    const int64_t across = columns + 2, all = (int64_t)rows * columns;
    memset(w->inputs, 0, (size_t)((rows + 2) * across * width) * 2);
    memset(w->first, 0, (size_t)((rows + 2) * across * units) * 2);
    for (int64_t b = 0; b < all; b++) {
        int16_t *at = w->inputs + ((b / columns + 1) * across + b % columns + 1) * width;
        run->scale(w->y + b * TF_COEFFICIENTS, model->inputs, TF_COEFFICIENTS, at);
        at[TF_COEFFICIENTS] = ONE;
    }
    for (int64_t b = 0; b < all; b += TOGETHER) {
        const int32_t n = all - b < TOGETHER ? (int32_t)(all - b) : TOGETHER;
        convolve(run, layers, biases[0], w->inputs, width, b, n, columns, w);
        for (int64_t i = b; i < b + n; i++)
            run->units(layers, w->sums + (i - b) * units, NULL,
                       w->first + ((i / columns + 1) * across + i % columns + 1) * units);
    }
    for (int64_t b = 0; b < all; b += TOGETHER, to += (int64_t)TOGETHER * TF_COEFFICIENTS) {
        const int32_t n = all - b < TOGETHER ? (int32_t)(all - b) : TOGETHER;
        convolve(run, layers + 1, biases[1], w->first, units, b, n, columns, w);
        for (int32_t i = 0; i < n; i++)
            run->units(layers + 1, w->sums + (int64_t)i * second, NULL, w->second + (int64_t)i * second);
        run->sum(layers + 2, w->second, second, n, biases[2], 0, to, TF_COEFFICIENTS);
        for (int32_t i = 0; i < n; i++)
            for (int32_t k = 0; k < TF_COEFFICIENTS; k++) { /* below 2^15 * 2^15 */
                int32_t *at = to + i * TF_COEFFICIENTS + k;
                const int32_t found = limit(*at >> layers[2].shifts[k], CORRECTION_MAX);
                *at = (found * steps[k] + (1 << (CORRECTION_BITS - 1))) >> CORRECTION_BITS;
            }
    }
}

void smalti_tf_analyse(const smalti_transform *model, const smalti_tf_image *image, uint8_t *work) {
    static const int32_t none[TF_COEFFICIENTS] = {0};
    const smalti_tf_kernel *run = kernel_of(model);
    const int32_t rows = blocks(image->height), columns = blocks(image->width), last = image->channels - 1;
    network w;
    int64_t used = 0;
    lay_out_network(&w, rows, columns, work, &used);
    const int64_t n = (int64_t)rows * columns * TF_COEFFICIENTS;
    int32_t *plain = grab(&work, &used, n * 4), *more = grab(&work, &used, n * 4);
    int16_t samples[TF_COEFFICIENTS];
    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = 0; c < columns; c++) {
            for (int32_t k = 0; k < TF_COLOURS; k++)
                for (int32_t i = 0; i < TF_SIDE * TF_SIDE; i++) { /* at the edge, the last samples are repeated */
                    int32_t y = r * TF_SIDE + i / TF_SIDE, x = c * TF_SIDE + i % TF_SIDE;
                    y = y < image->height ? y : image->height - 1;
                    x = x < image->width ? x : image->width - 1;
                    const uint8_t *from = image->samples + ((int64_t)y * image->width + x) * image->channels;
                    samples[k * TF_SIDE * TF_SIDE + i] = (int16_t)(from[k < last ? k : last] - 128);
                }
            const int64_t at = ((int64_t)r * columns + c) * TF_COEFFICIENTS;
            run->sum(&model->forward, samples, TF_COEFFICIENTS, 1, none, 0, plain + at, TF_COEFFICIENTS);
        }
    const int32_t shift = BASIS_BITS - COEFFICIENT_BITS;
    for (int64_t i = 0; i < n; i++) {
        plain[i] = (plain[i] + (1 << (shift - 1))) >> shift;
        w.y[i] = (int16_t)limit(plain[i], COEFFICIENT_MAX);
    }
    correct(model, model->analysis, image->level->analysis, image->level->steps, rows, columns, &w, more);
    for (int64_t at = 0; at < n; at += TF_COEFFICIENTS)
        for (int32_t g = 0, k = 0; g < TF_GROUPS; k += sizes[g++])
            for (int32_t j = k; j < k + sizes[g]; j++)
                image->targets[at + j] = (int16_t)(image->channels == 1 && !of_gray[g] ? 0 : limit(plain[at + j] + more[at + j], COEFFICIENT_MAX));
}

static inline uint8_t sample(int64_t value) { return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value); }

void smalti_tf_synthesise(const smalti_transform *model, const smalti_tf_image *image, uint8_t *work) {
    static const int32_t none[TF_COEFFICIENTS] = {0};
    const smalti_tf_kernel *run = kernel_of(model);
    const int32_t rows = blocks(image->height), columns = blocks(image->width), area = TF_SIDE * TF_SIDE;
    network w;
    int64_t used = 0;
    lay_out_network(&w, rows, columns, work, &used);
    const int64_t n = (int64_t)rows * columns * TF_COEFFICIENTS;
    int32_t *more = grab(&work, &used, n * 4), *sums = grab(&work, &used, (int64_t)columns * TF_COEFFICIENTS * 4);
    memcpy(w.y, image->coded, (size_t)n * 2);
    correct(model, model->synthesis, image->level->synthesis, image->level->steps, rows, columns, &w, more);
    const int32_t shift = SAMPLE_BITS + BASIS_BITS;
    for (int64_t i = 0; i < n; i++)
        w.y[i] = (int16_t)limit((w.y[i] + more[i] + 1) >> (COEFFICIENT_BITS - SAMPLE_BITS), CORRECTED_MAX);
    for (int32_t r = 0; r < rows; r++) {
        run->sum(&model->backward, w.y + (int64_t)r * columns * TF_COEFFICIENTS, TF_COEFFICIENTS, columns, none, 0, sums, TF_COEFFICIENTS);
        for (int32_t i = 0; i < TF_SIDE && r * TF_SIDE + i < image->height; i++)
            for (int32_t x = 0; x < image->width; x++) {
                const int32_t *from = sums + (x / TF_SIDE) * TF_COEFFICIENTS + i * TF_SIDE + x % TF_SIDE;
                uint8_t *to = image->samples + ((int64_t)(r * TF_SIDE + i) * image->width + x) * image->channels;
                const int64_t middle = ((int64_t)128 << shift) + (1 << (shift - 1));
                if (image->channels == 1) {
                    int64_t all = (int64_t)from[0] + from[area] + from[2 * area], third = all / TF_COLOURS;
                    third -= all % TF_COLOURS < 0; /* rounded down */
                    to[0] = sample((third + middle) >> shift);
                    continue;
                }
                for (int32_t k = 0; k < TF_COLOURS; k++)
                    to[k] = sample((from[k * area] + middle) >> shift);
            }
    }
}

/* ---- Coefficients ---- */

/* How likely the quantisation indices of a coefficient are. */
typedef struct {
    const smalti_transform *model;
    uint64_t narrow, wide; /* inverse scales */
    uint32_t share;
    int32_t shift;
} chances;

static inline int32_t place_in(int32_t i, int32_t n) { return i < 0 ? 0 : i >= n ? n - 1 : i; }

static inline chances chances_of(const smalti_transform *model, const int32_t *out, int32_t place) {
    const int32_t narrow = place_in(SCALE_ZERO + limit(out[1], 4096) - place, TF_SCALES);
    const int32_t width = model->widths[place_in(limit(out[3], 4096) + TF_WIDTHS / 2, TF_WIDTHS)];
    const int32_t octave = (narrow - SCALE_ZERO) >> OCTAVE_BITS;
    return (chances){model, model->inverses[narrow], model->inverses[place_in(narrow + width, TF_SCALES)],
                     model->shares[place_in(limit(out[2], 4096) + TF_SHARES / 2, TF_SHARES)], octave > 1 ? octave - 1 : 0};
}

/* How likely an index of this size or more is, of 2^24; a size is below 2^17, so the product is below 2^51. */
static inline uint32_t tail(const chances *c, uint32_t size) {
    const uint64_t twice = 2 * (uint64_t)size - 1;
    const uint64_t narrow = twice * c->narrow >> INVERSE_BITS, wide = twice * c->wide >> INVERSE_BITS;
    const uint64_t a = c->model->tails[narrow < TF_TAILS ? narrow : TF_TAILS - 1];
    const uint64_t b = c->model->tails[wide < TF_TAILS ? wide : TF_TAILS - 1];
    const uint64_t both = (c->share * a + ((1 << SHARE_BITS) - c->share) * b) >> SHARE_BITS;
    return both ? (uint32_t)both : 1;
}

static inline uint32_t chance(uint64_t p) { return p < 1 ? 1 : p > 65535 ? 65535 : (uint32_t)p; }

typedef struct {
    smalti_coder *coder; /* NULL: only the costs are wanted */
    const int32_t *costs;
    int64_t cost;
    bool full;
} output;

static inline int32_t put(output *to, int32_t bit, uint32_t p) {
    if (to->coder) {
        bit = smalti_code_bit(to->coder, bit, p, &to->full);
        if (to->coder->decodes)
            return bit;
    }
    to->cost += to->costs[(bit ? p : 65536 - p) >> 4];
    return bit;
}

/* Code a size that is not 0, behind its sign. If decoding, what is given counts for nothing. */
static inline uint32_t code_size(output *to, const chances *c, uint32_t size, uint32_t now) {
    uint32_t steps = 0, rest = size - 1;
    while (steps < MOST_STEPS) {
        const uint32_t after = tail(c, 1 + ((steps + 1) << c->shift));
        if (!put(to, steps < rest >> c->shift, chance(((uint64_t)after << 16) / now)))
            break;
        now = after;
        steps++;
    }
    int32_t bits = c->shift;
    uint32_t least = 0;
    rest -= steps << c->shift;
    if (steps == MOST_STEPS) {
        bits = 0;
        while (bits < MOST_BITS && put(to, (rest + 1) >> (bits + 1) != 0, EVEN))
            bits++;
        least = (1u << bits) - 1;
        rest -= least;
        if (rest > least)
            rest = least; /* a size beyond all others; if decoding, it counts for nothing */
    }
    uint32_t low = 0;
    for (int32_t i = bits - 1; i >= 0; i--)
        low = low << 1 | (uint32_t)put(to, rest >> i & 1, EVEN);
    return 1 + (steps << c->shift) + least + low;
}

static inline uint32_t code_index(output *to, const chances *c, uint32_t size, bool *negative) {
    const uint32_t first = tail(c, 1);
    if (!put(to, size > 0, chance(first >> (TAIL_BITS - 16))))
        return 0;
    *negative = put(to, *negative, EVEN);
    return code_size(to, c, size, first);
}

static int64_t cost_of(const chances *c, uint32_t size) {
    output to = {NULL, c->model->costs, 0, false};
    bool negative = false;
    code_index(&to, c, size, &negative);
    return to.cost;
}

/* The size that costs least: error and bits. rest: below 2^17. */
static uint32_t best_size(const chances *c, int32_t rest, int32_t step, int64_t kappa) {
    const int32_t nearest = (2 * rest + step) / (2 * step);
    uint32_t best = 0;
    int64_t least = -1;
    for (int32_t i = 0, size = nearest; i < 3 && size >= 0; i++, size = i == 1 ? nearest - 1 : 0) {
        const int64_t off = rest - (int64_t)size * step, error = ((off < 0 ? -off : off) << 8) / step;
        const int64_t cost = error * error + (kappa * cost_of(c, (uint32_t)size) >> 8);
        if (least < 0 || cost < least)
            best = (uint32_t)size, least = cost;
        if (!size)
            break;
    }
    return best;
}

/* A block that is coded now. */
typedef struct {
    smalti_tf_image *image;
    int64_t at; /* of its first coefficient */
    int16_t *inputs;
    int32_t means[TF_COLOURS];
} place;

typedef struct {
    int16_t *inputs, *around, *own, *units, *deep; /* inputs: of all blocks; the others: of a run */
    int32_t *sums, *more, *out;
} coding;

static void lay_out_coding(coding *w, const smalti_transform *model, int64_t n, uint8_t *work, int64_t *used) {
    w->inputs = grab(&work, used, n * STRIDE * 2);
    w->around = grab(&work, used, TF_RUN * (TF_CONTEXT + 1) * 2);
    w->own = grab(&work, used, TF_RUN * TF_COEFFICIENTS * 2);
    w->units = grab(&work, used, (int64_t)TF_RUN * model->hidden * 2);
    w->deep = grab(&work, used, (int64_t)TF_RUN * model->second * 2);
    w->sums = grab(&work, used, (int64_t)TF_RUN * model->hidden * 4);
    w->more = grab(&work, used, (int64_t)TF_RUN * TF_HIDDEN * 4);
    w->out = grab(&work, used, TF_RUN * TF_MOST_OUTPUTS * 4);
}

/* Write what the prior sees of the blocks before one, and note the mean of those beside it. */
static void look_around(const smalti_transform *model, place *b, int32_t row, int32_t column, int32_t columns, int16_t *to) {
    int32_t beside = 0;
    memset(b->means, 0, sizeof b->means);
    for (int32_t i = 0; i < 2; i++) {
        const int32_t r = row + near[i][0], c = column + near[i][1];
        if (r < 0 || c < 0)
            continue;
        const int16_t *y = b->image->coded + ((int64_t)r * columns + c) * TF_COEFFICIENTS;
        for (int32_t k = 0; k < TF_COLOURS; k++)
            b->means[k] += y[k];
        beside++;
    }
    int16_t means[TF_COLOURS];
    for (int32_t k = 0; k < TF_COLOURS; k++)
        means[k] = (int16_t)(b->means[k] >>= beside == 2);
    const smalti_tf_kernel *run = &tf_scalar;
    for (int32_t i = 0; i < TF_NEAR + TF_FAR; i++) {
        const int32_t *by = i < TF_NEAR ? near[i] : far[i - TF_NEAR], n = i < TF_NEAR ? TF_COEFFICIENTS : TF_FAR_COEFFICIENTS;
        const int32_t r = row + by[0], c = column + by[1];
        if (r < 0 || c < 0 || c >= columns) {
            memset(to, 0, (size_t)(n + 1) * 2);
        } else {
            const int64_t from = (int64_t)r * columns + c;
            memcpy(to, b->inputs + (from - ((int64_t)row * columns + column)) * STRIDE, (size_t)n * 2);
            for (int32_t k = 0; k < TF_COLOURS; k++) { /* a difference of two may have 17 bits */
                const int64_t off = b->image->coded[from * TF_COEFFICIENTS + k] - b->means[k];
                to[k] = (int16_t)limit((int32_t)((off * model->inputs[k] + 2048) >> 12), 4095);
            }
            to[n] = ONE;
        }
        to += n + 1;
    }
    run->scale(means, model->inputs, TF_COLOURS, to);
    to[TF_COLOURS] = 0;
}

/* Code a run of blocks, group by group. */
static void code_run(const smalti_transform *model, place *run_of, int32_t n, int32_t channels, int64_t kappa, output *to, coding *w) {
    const smalti_tf_kernel *run = kernel_of(model);
    const int32_t hidden = model->hidden, second = model->second;
    static const int32_t none[TF_HIDDEN] = {0};
    run->sum(&model->context, w->around, TF_CONTEXT + 1, n, none, 0, w->sums, hidden);
    memset(w->own, 0, (size_t)n * TF_COEFFICIENTS * 2);
    for (int32_t g = 0, first = 0; g < TF_GROUPS; first += sizes[g++]) {
        if (channels == 1 && !of_gray[g])
            continue;
        const int32_t outputs = model->last[g].outputs;
        run->sum(&model->own[g], w->own, TF_COEFFICIENTS, n, w->sums, hidden, w->more, hidden);
        for (int32_t i = 0; i < n; i++)
            run->units(&model->context, w->more + (int64_t)i * hidden, run_of[i].image->level->context + g * hidden, w->units + (int64_t)i * hidden);
        run->sum(&model->deep[g], w->units, hidden, n, none, 0, w->more, second);
        for (int32_t i = 0; i < n; i++)
            run->units(&model->deep[g], w->more + (int64_t)i * second, run_of[i].image->level->deep + g * second, w->deep + (int64_t)i * second);
        run->sum(&model->last[g], w->deep, second, n, model->last_biases[g], 0, w->out, outputs);
        for (int32_t i = 0; i < n; i++) {
            place *b = run_of + i;
            const smalti_tf_level *level = b->image->level;
            int16_t *coded = b->image->coded + b->at, *own = w->own + (int64_t)i * TF_COEFFICIENTS;
            to->cost = 0;
            for (int32_t j = 0; j < sizes[g]; j++) {
                const int32_t k = first + j;
                int32_t out[TF_OUTPUTS];
                for (int32_t o = 0; o < TF_OUTPUTS; o++)
                    out[o] = w->out[(int64_t)i * outputs + TF_OUTPUTS * j + o] >> model->last[g].shifts[TF_OUTPUTS * j + o];
                const int64_t centre = (int64_t)out[0] + (k < TF_COLOURS ? b->means[k] : 0);
                const int32_t mean = (int32_t)(centre < -COEFFICIENT_MAX ? -COEFFICIENT_MAX : centre > COEFFICIENT_MAX ? COEFFICIENT_MAX : centre);
                const chances c = chances_of(model, out, level->places[k]);
                uint32_t size = 0;
                bool negative = false;
                if (!to->coder->decodes) {
                    const int32_t rest = b->image->targets[b->at + k] - mean;
                    negative = rest < 0;
                    const int64_t factor = b->image->factors ? b->image->factors[b->at + k] : 256;
                    size = best_size(&c, negative ? -rest : rest, level->steps[k], kappa * factor >> 8);
                }
                size = code_index(to, &c, size, &negative);
                const int64_t off = (int64_t)size * level->steps[k], value = mean + (negative ? -off : off);
                coded[k] = (int16_t)(value < -COEFFICIENT_MAX ? -COEFFICIENT_MAX : value > COEFFICIENT_MAX ? COEFFICIENT_MAX : value);
                const int64_t less = coded[k] - (k < TF_COLOURS ? b->means[k] : 0);
                own[k] = (int16_t)limit((int32_t)((less * model->inputs[k] + 2048) >> 12), 4095);
            }
            b->image->bits += to->cost;
        }
    }
    for (int32_t i = 0; i < n; i++)
        run->scale(run_of[i].image->coded + run_of[i].at, model->inputs, TF_COEFFICIENTS, run_of[i].inputs);
}

int64_t smalti_tf_work(const smalti_transform *model, int64_t n, int32_t height, int32_t width) {
    const int32_t rows = blocks(height), columns = blocks(width);
    int64_t together = 0, alone = 0;
    coding c;
    network w;
    lay_out_coding(&c, model, n * rows * columns, NULL, &together);
    lay_out_network(&w, rows, columns, NULL, &alone);
    alone += ((int64_t)rows * columns * 2 + columns) * TF_COEFFICIENTS * 4 + 512;
    return together > alone ? together : alone;
}

int32_t smalti_tf_code(const smalti_transform *model, smalti_tf_image *images, int64_t n, int64_t kappa, smalti_coder *coder,
                       uint8_t *work) {
    if (!n)
        return SMALTI_OK;
    const int32_t rows = blocks(images->height), columns = blocks(images->width), channels = images->channels;
    coding w;
    int64_t used = 0;
    lay_out_coding(&w, model, n * rows * columns, work, &used);
    place run[TF_RUN];
    output to = {coder, model->costs, 0, false};
    for (int64_t i = 0; i < n; i++) {
        images[i].bits = 0;
        memset(images[i].coded, 0, (size_t)rows * (size_t)columns * TF_COEFFICIENTS * 2);
    }
    for (int32_t wave = 0; wave < 3 * (rows - 1) + columns; wave++) {
        int32_t first = wave < columns ? 0 : (wave - columns + 3) / 3, last = wave / 3, count = 0;
        last = last < rows ? last : rows - 1;
        for (int64_t i = 0; i < n; i++)
            for (int32_t row = first; row <= last; row++) {
                const int32_t column = wave - 3 * row;
                const int64_t at = (int64_t)row * columns + column;
                run[count] = (place){images + i, at * TF_COEFFICIENTS, w.inputs + (i * rows * columns + at) * STRIDE, {0}};
                look_around(model, run + count, row, column, columns, w.around + (int64_t)count * (TF_CONTEXT + 1));
                if (++count == TF_RUN) {
                    code_run(model, run, count, channels, kappa, &to, &w);
                    count = 0;
                }
            }
        if (count)
            code_run(model, run, count, channels, kappa, &to, &w);
        if (to.full)
            return SMALTI_FULL;
    }
    return SMALTI_OK;
}
