/* SPDX-License-Identifier: MIT
 *
 * The operators of networks. A linear step of a network that is proven exact runs as the layers of pixel priors do: in
 * 16-bit integers, without the pairs of inputs that are zero. Where that is not proven, it sums float32 numbers in the
 * order of the inputs. */
#include "network.h"

#include <string.h>

enum { ROWS = 64, PIECE = 4096, MOST_TAPS = 49, MOST_SIDE = 1 << 30 };

/* The inputs of pixels that are not zero: counts[p] of pixel p, from p * channels on, and which channels they are. */
typedef struct {
    int64_t channels;
    float *values;
    int32_t *indices, *counts;
} lists;

typedef struct {
    void (*products)(const lists *in, int64_t taps, const int32_t *pixels, const float *block, float *sums);
    void (*convert)(const float *from, float scale, int16_t *to, int64_t n);
    void (*scale)(const int32_t *sums, const float *scales, float *to, int64_t n);
    void (*change)(const smalti_change *change, const float *operands, float *x, int64_t first, int64_t rows, int64_t n,
                   int64_t each);
} loops;

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define OP(name) plain_##name
#define TARGET
#define LANES 4
#include "operators.inc"

#if defined(__x86_64__)
#define OP(name) sse4_##name
#define TARGET __attribute__((target("sse4.1")))
#define LANES 4
#include "operators.inc"
#define OP(name) avx2_##name
#define TARGET __attribute__((target("avx2,bmi,popcnt")))
#define LANES 8
#include "operators.inc"
#define OP(name) avx512_##name
#define TARGET __attribute__((target("avx2,bmi,popcnt,avx512f,avx512bw,avx512vl")))
#define LANES 16
#include "operators.inc"
#endif

static const loops *find_loops(int32_t kernel) {
#if defined(__x86_64__)
    switch (kernel) {
    case SMALTI_SSE4:
        return &sse4_loops;
    case SMALTI_AVX2:
    case SMALTI_AVX_VNNI:
        return &avx2_loops;
    case SMALTI_AVX512:
        return &avx512_loops;
    default:
        break;
    }
#endif
    (void)kernel;
    return &plain_loops;
}

typedef struct {
    const smalti_tensor *tensors;
    const kernel *run;
    const loops *loops;
    int64_t n;
    uint8_t *work;
} job;

/* The sizes of a linear step's working memory. It takes `images` images at a time. */
typedef struct {
    int64_t images, pad, wide, high, outputs, stride, padded;
} plan;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static plan plan_of(const smalti_step *s, int64_t n) {
    plan p = {.pad = s->k / 2};
    p.images = least(n * s->parts, s->rows < ROWS ? ROWS / s->rows : 1);
    p.high = s->h + 2 * p.pad, p.wide = s->w + 2 * p.pad;
    p.outputs = s->weights ? (s->channels + SMALTI_FLOATS - 1) / SMALTI_FLOATS * SMALTI_FLOATS : s->layer.outputs;
    p.stride = (s->layer.pairs + 15) / 16 * 16 + 16;
    p.padded = p.high * p.wide * s->c;
    return p;
}

static int64_t linear_work(const smalti_step *s, int64_t n) {
    plan p = plan_of(s, n);
    int64_t used = 64;
    if (s->weights) {
        int64_t pixels = p.images * s->h * s->w;
        grab(0, &used, pixels * s->c * 4), grab(0, &used, pixels * s->c * 4), grab(0, &used, pixels * 4);
        grab(0, &used, SMALTI_FLOATS * 4);
        return used;
    }
    grab(0, &used, p.images * p.padded * 2);
    grab(0, &used, ROWS * p.stride * 4), grab(0, &used, ROWS * p.stride * 4 + 64);
    grab(0, &used, ROWS * p.stride * 4 + 64), grab(0, &used, ROWS * 4);
    grab(0, &used, p.outputs * 4), grab(0, &used, ROWS * p.outputs * 4);
    return used;
}

/* Apply the changes of a step to some rows of its result. */
static void change_rows(const job *j, const smalti_step *s, int64_t row, int64_t n) {
    float *x = j->tensors[s->to].values + row * s->channels;
    for (int32_t i = 0; i < s->changes; i++) {
        const smalti_change *c = &s->change[i];
        const float *operands = c->tensor < 0 ? c->values : j->tensors[c->tensor].values;
        if (c->tensor >= 0 && c->each == 1)
            j->loops->change(c, operands + row * s->channels, x, 0, 1, n * s->channels, 0);
        else if (operands)
            j->loops->change(c, operands, x, row, n, s->channels, c->tensor < 0 ? 0 : c->each);
        else
            j->loops->change(c, 0, x, 0, 1, n * s->channels, 0);
    }
}

static void change_all(const job *j, const smalti_step *s) {
    int64_t rows = j->n * s->parts * s->rows, piece = PIECE / s->channels + 1;
    float *to = j->tensors[s->to].values;
    const float *from = j->tensors[s->from].values;
    for (int64_t row = 0; row < rows; row += piece) {
        int64_t n = least(piece, rows - row);
        memcpy(to + row * s->channels, from + row * s->channels, (size_t)(n * s->channels) * sizeof *to);
        change_rows(j, s, row, n);
    }
}

/* A linear step in integers, for `images` images from `first` on. */
static void whole_sums(const job *j, const smalti_step *s, const plan *p, int64_t first, int64_t images) {
    int64_t used = 0;
    int16_t *padded = grab(j->work, &used, p->images * p->padded * 2);
    inputs in = {0, p->stride, grab(j->work, &used, ROWS * p->stride * 4), 0, 0, 0};
    in.values = grab(j->work, &used, ROWS * p->stride * 4 + 64);
    in.indices = grab(j->work, &used, ROWS * p->stride * 4 + 64);
    in.counts = grab(j->work, &used, ROWS * 4);
    int32_t *zeros = grab(j->work, &used, p->outputs * 4);
    int32_t *sums = grab(j->work, &used, ROWS * p->outputs * 4);
    const int32_t *biases[ROWS];
    if (first == 0) {
        memset(j->work, 0, (size_t)((uint8_t *)in.values - j->work));
        memset(zeros, 0, (size_t)p->outputs * sizeof *zeros);
    }
    for (int i = 0; i < ROWS; i++)
        biases[i] = zeros;
    const float *from = j->tensors[s->from].values + first * s->h * s->w * s->c;
    for (int64_t i = 0; i < images * s->h; i++) {
        int64_t row = i / s->h * p->high + i % s->h + p->pad;
        j->loops->convert(from + i * s->w * s->c, s->scale, padded + (row * p->wide + p->pad) * s->c, s->w * s->c);
    }
    const int64_t width = s->k * s->c, end = images * s->rows;
    float *to = j->tensors[s->to].values;
    for (int64_t start = 0; start < end; start += in.n) {
        in.n = least(ROWS, end - start);
        for (int64_t i = 0; i < in.n; i++) {
            int64_t at = start + i, y = at % s->rows / s->columns * s->stride, x = at % s->columns * s->stride;
            const int16_t *corner = padded + ((at / s->rows * p->high + y) * p->wide + x) * s->c;
            int16_t *row = in.x + 2 * i * in.stride;
            for (int64_t k = 0; k < s->k; k++)
                memcpy(row + k * width, corner + k * p->wide * s->c, (size_t)width * sizeof *row);
            list_pairs(j->run, &in, i, s->layer.pairs);
        }
        j->run->layer(&s->layer, LAST, &in, biases, 0, sums);
        int64_t row = first * s->rows + start;
        for (int64_t i = 0; i < in.n; i++)
            j->loops->scale(sums + i * p->outputs, s->scales, to + (row + i) * s->channels, s->channels);
        change_rows(j, s, row, in.n);
    }
}

/* A linear step in float32. */
static void float_sums(const job *j, const smalti_step *s, const plan *p, int64_t first, int64_t images) {
    int64_t used = 0, pixels = p->images * s->h * s->w;
    lists in = {s->c, grab(j->work, &used, pixels * s->c * 4), grab(j->work, &used, pixels * s->c * 4), 0};
    in.counts = grab(j->work, &used, pixels * 4);
    float *sums = grab(j->work, &used, SMALTI_FLOATS * 4);
    const float *from = j->tensors[s->from].values + first * s->h * s->w * s->c;
    for (int64_t i = 0; i < images * s->h * s->w; i++) {
        float *values = in.values + i * s->c;
        int32_t *indices = in.indices + i * s->c, count = 0;
        for (int32_t c = 0; c < (int32_t)s->c; c++) {
            values[count] = from[i * s->c + c], indices[count] = c;
            count += values[count] != 0;
        }
        in.counts[i] = count;
    }
    const int64_t taps = s->k * s->k, end = images * s->rows;
    float *to = j->tensors[s->to].values;
    for (int64_t start = 0; start < end; start += ROWS) {
        int64_t n = least(ROWS, end - start);
        for (int64_t o = 0; o < s->channels; o += SMALTI_FLOATS)
            for (int64_t i = 0; i < n; i++) {
                int64_t at = start + i, y = at % s->rows / s->columns * s->stride - p->pad;
                int64_t x = at % s->columns * s->stride - p->pad;
                int32_t of_taps[MOST_TAPS];
                for (int64_t t = 0; t < taps; t++) {
                    int64_t v = y + t / s->k, u = x + t % s->k;
                    bool inside = v >= 0 && v < s->h && u >= 0 && u < s->w;
                    of_taps[t] = inside ? (int32_t)((at / s->rows * s->h + v) * s->w + u) : -1;
                }
                j->loops->products(&in, taps, of_taps, s->weights + o * taps * s->c, sums);
                int64_t count = least(SMALTI_FLOATS, s->channels - o);
                memcpy(to + (first * s->rows + at) * s->channels + o, sums, (size_t)count * sizeof *to);
            }
        change_rows(j, s, first * s->rows + start, n);
    }
}

static void linear(const job *j, const smalti_step *s) {
    plan p = plan_of(s, j->n);
    for (int64_t first = 0, n = j->n * s->parts; first < n; first += p.images)
        (s->weights ? float_sums : whole_sums)(j, s, &p, first, least(p.images, n - first));
}

/* Move numbers: the sources and targets of a number are the sums of those of its places on all axes. */
static void copy(const smalti_step *s, const float *from, float *to, int32_t axis) {
    const int32_t *sources = s->sources[axis], *targets = s->targets[axis];
    int64_t n = s->sizes[axis];
    if (axis + 1 < s->axes)
        for (int64_t i = 0; i < n; i++)
            copy(s, from + sources[i], to + targets[i], axis + 1);
    else if (s->in_rows)
        memcpy(to + targets[0], from + sources[0], (size_t)n * sizeof *to);
    else
        for (int64_t i = 0; i < n; i++)
            to[targets[i]] = from[sources[i]];
}

static void copy_all(const job *j, const smalti_step *s) {
    const smalti_tensor *from = &j->tensors[s->from], *to = &j->tensors[s->to];
    for (int64_t i = 0; i < j->n; i++)
        copy(s, from->values + i * from->size, to->values + i * to->size, 0);
}

static void gather(const job *j, const smalti_step *s) {
    const float *from = j->tensors[s->from].values;
    float *to = j->tensors[s->to].values, last = (float)(s->h - 1);
    for (int64_t i = 0; i < j->n * s->parts * s->rows; i++) {
        float place = from[i] > 0 ? from[i] : 0;
        int64_t row = (int64_t)(place < last ? place : last);
        memcpy(to + i * s->channels, s->weights + row * s->channels, (size_t)s->channels * sizeof *to);
    }
}

/* If one is no number, neither is the larger one. */
static float larger(float a, float b) { return a > b || a != a ? a : b; }

/* The largest of each two by two pixels. */
static void pool(const job *j, const smalti_step *s) {
    const int64_t width = s->w * s->c;
    float *to = j->tensors[s->to].values;
    for (int64_t i = 0; i < j->n * s->parts; i++)
        for (int64_t r = 0; r < s->rows; r++) {
            const float *from = j->tensors[s->from].values + i * s->h * width;
            from += r / s->columns * 2 * width + r % s->columns * 2 * s->c;
            for (int64_t c = 0; c < s->c; c++, from++) {
                float above = larger(from[0], from[s->c]), below = larger(from[width], from[width + s->c]);
                *to++ = larger(above, below);
            }
        }
}

static bool in_range(int64_t value, int64_t low, int64_t high) { return value >= low && value <= high; }

/* Tell whether places on an axis reach from 0 to no more than *room, and take the largest off it. */
static bool places_fit(const int32_t *places, int64_t n, int64_t *room) {
    int32_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        if (places[i] < 0)
            return false;
        most = places[i] > most ? places[i] : most;
    }
    *room -= most;
    return *room >= 0;
}

static bool copy_fits(const smalti_step *s, int64_t from, int64_t to) {
    if (!in_range(s->axes, 1, SMALTI_AXES))
        return false;
    from--, to--;
    for (int32_t i = 0; i < s->axes; i++)
        if (!in_range(s->sizes[i], 1, MOST_SIDE) || !places_fit(s->sources[i], s->sizes[i], &from) ||
            !places_fit(s->targets[i], s->sizes[i], &to))
            return false;
    if (s->in_rows) {
        const int32_t last = s->axes - 1;
        for (int64_t i = 0; i < s->sizes[last]; i++)
            if (s->sources[last][i] - s->sources[last][0] != i || s->targets[last][i] - s->targets[last][0] != i)
                return false;
    }
    return true;
}

static bool window_fits(const smalti_step *s, int64_t from) {
    if (!in_range(s->h, 1, MOST_SIDE) || !in_range(s->w, 1, MOST_SIDE) || !in_range(s->c, 1, MOST_SIDE) ||
        s->h > MOST_SIDE / s->w || s->h * s->w > MOST_SIDE / s->c || s->h * s->w * s->c != from / s->parts ||
        from % s->parts != 0)
        return false;
    if (s->kind == SMALTI_POOL)
        return s->channels == s->c && s->columns == s->w / 2 && s->rows == s->columns * (s->h / 2);
    if (!in_range(s->k, 1, 7) || s->k % 2 == 0 || !in_range(s->stride, 1, 2) ||
        s->columns != (s->w - 1) / s->stride + 1 || s->rows != s->columns * ((s->h - 1) / s->stride + 1))
        return false;
    const smalti_layer *l = &s->layer;
    if (s->weights)
        return true;
    return (l->pairs == (s->k * s->k * s->c + 1) / 2 && in_range(l->outputs, s->channels, MOST_SIDE) &&
                          l->outputs % SMALTI_SMALL == 0 && in_range(l->big, 0, l->outputs) && l->weights && s->scales);
}

/* Tell whether a step stays within its tensors. */
static bool fits(const smalti_program *program, const smalti_step *s) {
    if (!in_range(s->from, 0, program->count - 1) || !in_range(s->to, 0, program->count - 1) || s->from == s->to)
        return false;
    const int64_t from = program->tensors[s->from].size, to = program->tensors[s->to].size;
    if (s->kind == SMALTI_COPY)
        return s->changes == 0 && copy_fits(s, from, to);
    if (!in_range(s->rows, 1, MOST_SIDE) || !in_range(s->channels, 1, MOST_SIDE) || s->rows > MOST_SIDE / s->channels ||
        !in_range(s->parts, 1, MOST_SIDE) || s->rows * s->channels != to / s->parts || to % s->parts != 0 || !in_range(s->changes, 0, SMALTI_CHANGES) || (s->columns < 1 && s->kind > SMALTI_MAP))
        return false;
    const int64_t rows = s->rows * s->parts;
    for (int32_t i = 0; i < s->changes; i++) {
        const smalti_change *c = &s->change[i];
        if (!in_range(c->kind, SMALTI_ADD, SMALTI_CLIP) || !in_range(c->tensor, -1, program->count - 1) ||
            (c->tensor >= 0 && (c->tensor == s->to || c->each < 1 || rows % c->each != 0 ||
                                rows / c->each * s->channels != program->tensors[c->tensor].size)))
            return false;
    }
    switch (s->kind) {
    case SMALTI_MAP:
        return from == to;
    case SMALTI_GATHER:
        return rows == from && in_range(s->h, 1, MOST_SIDE) && s->weights;
    case SMALTI_LINEAR:
    case SMALTI_POOL:
        return window_fits(s, from);
    default:
        return false;
    }
}

int64_t smalti_network_work(const smalti_program *program, int64_t n) {
    int64_t most = 0;
    if (!in_range(n, 1, MOST_SIDE))
        return -1;
    for (int64_t i = 0; i < program->steps; i++) {
        if (!fits(program, &program->step[i]))
            return -1;
        int64_t needed = program->step[i].kind == SMALTI_LINEAR ? linear_work(&program->step[i], n) : 0;
        most = needed > most ? needed : most;
    }
    return most + 64;
}

int32_t smalti_run(const smalti_program *program, int64_t n, uint8_t *work) {
    if (smalti_network_work(program, n) < 0)
        return SMALTI_UNFIT;
    work += -(uintptr_t)work % 64;
    job j = {program->tensors, find_kernel(program->kernel), find_loops(program->kernel), n, work};
    for (int64_t i = 0; i < program->steps; i++) {
        const smalti_step *s = &program->step[i];
        switch (s->kind) {
        case SMALTI_MAP:
            change_all(&j, s);
            break;
        case SMALTI_LINEAR:
            linear(&j, s);
            break;
        case SMALTI_POOL:
            pool(&j, s);
            change_rows(&j, s, 0, n * s->parts * s->rows);
            break;
        case SMALTI_GATHER:
            gather(&j, s);
            change_rows(&j, s, 0, n * s->parts * s->rows);
            break;
        default:
            copy_all(&j, s);
        }
    }
    return SMALTI_OK;
}
