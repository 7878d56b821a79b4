/* SPDX-License-Identifier: MIT
 *
 * Fuzz the operators: programs whose every field may be anything. What the core takes must stay within its tensors, and
 * all kernels must give the same. */
#include "data.h"

enum { STEPS = 5, TENSORS = STEPS + 1, NAMES = 16, MOST_GROWN = 1 << 12 };

typedef struct {
    int64_t parts, h, w, c;
} shape;

static int64_t numbers_of(shape s) { return s.parts * s.h * s.w * s.c; }

static float *numbers(data *d, int64_t n) {
    float *values = fresh(d, (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        values[i] = (float)((int32_t)(any(d) % 512) - 256) / 8;
    return values;
}

static void make_copy(data *d, smalti_step *s, shape now) {
    const int64_t sizes[] = {now.parts, now.h, now.w, now.c};
    int64_t each = numbers_of(now);
    s->axes = 4, s->in_rows = (int32_t)within(d, 0, 1);
    for (int i = 0; i < 4; i++) {
        each /= sizes[i], s->sizes[i] = sizes[i];
        int32_t *sources = fresh(d, (size_t)sizes[i] * 4), *targets = fresh(d, (size_t)sizes[i] * 4);
        const int64_t back = within(d, 0, 1) && !s->in_rows;
        for (int64_t k = 0; k < sizes[i]; k++) {
            sources[k] = (int32_t)((back ? sizes[i] - 1 - k : k) * each), targets[k] = (int32_t)(k * each);
            if (any(d) % 9 == 0 && !s->in_rows)
                targets[k] = (int32_t)(any(d) % (uint64_t)sizes[i] * (uint64_t)each);
        }
        s->sources[i] = sources, s->targets[i] = targets;
    }
}

/* Make a step from tensor i to the next one, and change the shape. */
static smalti_step make_step(data *d, int32_t i, shape *now, const int64_t *sizes) {
    smalti_step s = {0};
    s.kind = (int32_t)within(d, 0, 4), s.from = i, s.to = i + 1;
    s.parts = now->parts, s.h = now->h, s.w = now->w, s.c = now->c, s.k = 1, s.stride = 1, s.scale = 1;
    s.channels = now->c, s.columns = now->w, s.rows = now->h * now->w;
    if (s.kind == SMALTI_POOL && (s.h < 2 || s.w < 2))
        s.kind = SMALTI_MAP;
    if ((s.kind == SMALTI_LINEAR || s.kind == SMALTI_GATHER) && numbers_of(*now) > MOST_GROWN)
        s.kind = SMALTI_MAP; /* a few steps that each make a tensor larger would take minutes */
    switch (s.kind) {
    case SMALTI_LINEAR:
        s.k = 2 * within(d, 0, 3) + 1, s.stride = within(d, 1, 2), s.channels = within(d, 0, 3) ? within(d, 1, 40) : 130;
        s.columns = (now->w - 1) / s.stride + 1, s.rows = s.columns * ((now->h - 1) / s.stride + 1);
        if (within(d, 0, 1))
            s.weights = numbers(d, s.k * s.k * s.c * ((s.channels + 63) / 64 * 64));
        break;
    case SMALTI_POOL:
        s.columns = now->w / 2, s.rows = s.columns * (now->h / 2);
        break;
    case SMALTI_GATHER:
        s.rows *= s.channels, s.channels = within(d, 1, 5), s.columns = 1, s.h = within(d, 1, 300);
        s.weights = numbers(d, s.h * s.channels);
        break;
    case SMALTI_COPY:
        make_copy(d, &s, *now);
        return s;
    default:
        break;
    }
    *now = (shape){now->parts, s.rows / s.columns, s.columns, s.channels};
    s.changes = (int32_t)within(d, 0, 4);
    for (int k = 0; k < SMALTI_CHANGES; k++) {
        smalti_change *c = &s.change[k];
        c->kind = (int32_t)within(d, 0, 5), c->tensor = -1, c->each = 1, c->low = 0.5f, c->high = (float)within(d, 0, 255);
        c->values = within(d, 0, 1) ? numbers(d, s.channels) : 0;
        if (within(d, 0, 1))
            continue;
        for (int32_t t = 0; t <= i; t++)
            if (sizes[t] % s.channels == 0 && s.parts * s.rows % (sizes[t] / s.channels) == 0)
                c->tensor = t, c->each = s.parts * s.rows / (sizes[t] / s.channels);
    }
    return s;
}

/* Spoil one number of a step. Pointers stay, and how far they reach. */
static void spoil(data *d, smalti_step *s) {
    const int64_t value = within(d, 0, 2) ? within(d, -2, 9) : within(d, 0, 1) ? INT64_MAX - within(d, 0, 9) : (int32_t)word(d);
    const int64_t lower = value < s->channels ? value : s->channels;
    int64_t *const any_value[NAMES] = {&s->parts, &s->rows, &s->columns, &s->stride, &s->h, &s->w, &s->change[0].each};
    switch (within(d, 0, 12)) {
    case 0:
        s->kind = s->kind == SMALTI_COPY ? SMALTI_COPY : (int32_t)value;
        s->weights = 0, s->layer.weights = 0; /* they reach as far as the old kind needs */
        break;
    case 1:
        s->from = (int32_t)value;
        break;
    case 2:
        s->to = (int32_t)value;
        break;
    case 3:
        s->changes = (int32_t)value;
        break;
    case 4:
        s->change[0].tensor = (int32_t)value;
        break;
    case 5:
        s->channels = lower;
        break;
    case 6:
        s->k = value < s->k ? value : s->k;
        break;
    case 7:
        s->c = value < s->c ? value : s->c;
        break;
    case 8:
        s->axes = s->axes ? (int32_t)(value < 4 || value > SMALTI_AXES ? value : 4) : 0;
        break;
    case 9:
        s->change[0].kind = (int32_t)value;
        break;
    default:
        if (s->kind != SMALTI_GATHER)
            *any_value[within(d, 0, 6)] = value;
    }
}

/* Give a linear step weights of 16 bits, in the blocks of a kernel. */
static void pack(data *d, smalti_step *s, int32_t kernel) {
    const int64_t inputs = s->k * s->k * s->c;
    if (s->weights || s->kind != SMALTI_LINEAR)
        return;
    const int64_t size = smalti_big(kernel), outputs = (s->channels + size - 1) / size * size, pairs = (inputs + 1) / 2;
    int16_t *weights = fresh(d, (size_t)(outputs * pairs) * 4);
    for (int64_t o = 0; o < s->channels; o++)
        for (int64_t i = 0; i < inputs; i++)
            weights[((o / size * pairs + i / 2) * size + o % size) * 2 + i % 2] = (int16_t)((o * 31 + i * 17) % 41 - 20);
    int32_t *zeros = fresh(d, (size_t)outputs * 4);
    float *ones = fresh(d, (size_t)outputs * 4);
    for (int64_t o = 0; o < outputs; o++)
        ones[o] = 1;
    s->layer = (smalti_layer){pairs, outputs, outputs, weights, zeros, zeros, ones};
    s->scales = ones;
}

static bool same(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (a[i] != b[i] && (a[i] == a[i] || b[i] == b[i])) /* what is no number equals nothing */
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    data d = begin_data(bytes, size);
    const int64_t steps = within(&d, 1, STEPS), count = steps + 1;
    int64_t sizes[TENSORS];
    smalti_tensor tensors[TENSORS];
    smalti_step all[STEPS];
    float *first[TENSORS] = {0};
    shape now = {within(&d, 0, 2) ? 1 : within(&d, 1, 4), within(&d, 1, 9), within(&d, 1, 9), within(&d, 1, 9)};
    const int64_t n = within(&d, 1, now.parts * now.h * now.w > 4 ? 3 : 70);
    sizes[0] = numbers_of(now);
    for (int32_t i = 0; i < steps; i++) {
        all[i] = make_step(&d, i, &now, sizes);
        sizes[i + 1] = numbers_of(now);
    }
    const int64_t spoilt = within(&d, 0, 2) ? -1 : within(&d, 0, steps - 1);
    for (int32_t kernel = 0, kernels = smalti_kernels(); kernel < SMALTI_KERNELS; kernel++) {
        if (!(kernels >> kernel & 1))
            continue;
        for (int64_t i = 0; i < count; i++) {
            tensors[i].size = sizes[i], tensors[i].values = fresh(&d, (size_t)(n * sizes[i]) * 4);
            for (int64_t k = 0; k < n * sizes[i]; k++)
                tensors[i].values[k] = k % 3 ? (float)((k * 37 + i) % 1024) : 0;
        }
        for (int64_t i = 0; i < steps; i++)
            pack(&d, &all[i], kernel);
        const smalti_step whole = all[spoilt < 0 ? 0 : spoilt];
        if (spoilt >= 0) {
            data again = d;
            spoil(&again, &all[spoilt]);
        }
        smalti_program program = {steps, count, all, tensors, kernel, 0};
        int64_t needed = smalti_network_work(&program, n);
        int32_t code = smalti_run(&program, n, fresh(&d, needed > 0 ? (size_t)needed : 1));
        hold((code == SMALTI_OK) == (needed >= 0) && (spoilt >= 0 || code == SMALTI_OK));
        all[spoilt < 0 ? 0 : spoilt] = whole;
        for (int64_t i = 0; i < count; i++)
            if (!first[i])
                first[i] = tensors[i].values;
            else
                hold(same(first[i], tensors[i].values, n * sizes[i]));
    }
    end_data(&d);
    return 0;
}
