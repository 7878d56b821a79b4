/* SPDX-License-Identifier: MIT
 *
 * Fuzz coding by transform: any transform that check_transform lets pass, any stream, images of any kind. What a stream
 * gives is synthesised, analysed, encoded with any weight of bits, and decoded again; all kernels alike. */
#include "data.h"
#include "transform.h"

enum { MOST_IMAGES = 2, LEVELS = 2, SUM = 2147483647, BIAS = 1 << 28, TOP = 4095, CORRECTED = 16383, BYTES = 64 };

static const int32_t groups[TF_GROUPS] = {1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 18, 8, 13, 15, 42, 56};

/* A layer whose sums stay below `most`, for inputs up to `top`. If `shifts`, any shifts up to 31. */
static smalti_tf_layer layer_of(data *d, int32_t outputs, int32_t inputs, int64_t most, int64_t top, bool shifts) {
    smalti_tf_layer l = {(inputs + 1) / 2, (outputs + 15) / 16 * 16, 0, 0};
    const int64_t room = most / top / (inputs ? inputs : 1), each = room < 32767 ? room : 32767;
    const uint32_t kind = byte(d) % 3;
    int16_t *weights = fresh(d, (size_t)l.pairs * (size_t)l.outputs * 4);
    for (int32_t o = 0; o < outputs; o++)
        for (int32_t i = 0; i < inputs; i++)
            weights[(int64_t)(o / 16) * 32 * l.pairs + i / 2 * 32 + o % 16 * 2 + i % 2] =
                (int16_t)(kind == 0 ? (any(d) & 1 ? each : -each)
                                    : (int64_t)(any(d) % (uint64_t)(2 * (kind == 1 ? each : each / 64 + 1) + 1)) -
                                          (kind == 1 ? each : each / 64 + 1));
    l.weights = weights;
    if (shifts) {
        uint8_t *of_outputs = fresh(d, (size_t)l.outputs);
        const uint32_t largest = (uint32_t)within(d, 0, 31);
        for (int32_t o = 0; o < outputs; o++)
            of_outputs[o] = (uint8_t)(any(d) % 3 ? largest : any(d) % 32);
        l.shifts = of_outputs;
    }
    return l;
}

/* n numbers from low to high: any, or the ends. */
static int32_t *numbers(data *d, int64_t n, int64_t low, int64_t high) {
    int32_t *to = fresh(d, (size_t)n * 4);
    const uint32_t kind = byte(d) % 3;
    for (int64_t i = 0; i < n; i++)
        to[i] = (int32_t)(kind == 0 ? (any(d) & 1 ? low : high) : low + (int64_t)(any(d) % (uint64_t)(high - low + 1)));
    return to;
}

static void network_of(data *d, smalti_tf_layer *to, const int32_t units[2]) {
    to[0] = layer_of(d, units[0], TF_WINDOW, SUM - BIAS, TOP, true);
    to[1] = layer_of(d, units[1], TF_TAPS * units[0], SUM - BIAS, TOP, true);
    to[2] = layer_of(d, TF_COEFFICIENTS, units[1], SUM - BIAS, TOP, true);
}

static smalti_transform transform_of(data *d, smalti_tf_level *levels) {
    smalti_transform m = {0};
    int32_t units[3][2];
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 2; i++)
            units[k][i] = within(d, 0, 31) ? 16 * (int32_t)within(d, 1, 2) : TF_HIDDEN;
    m.hidden = units[2][0], m.second = units[2][1];
    m.forward = layer_of(d, TF_COEFFICIENTS, TF_COEFFICIENTS, SUM, 255, false);
    m.backward = layer_of(d, TF_COEFFICIENTS, TF_COEFFICIENTS, SUM, CORRECTED, false);
    network_of(d, m.analysis, units[0]), network_of(d, m.synthesis, units[1]);
    m.context = layer_of(d, m.hidden, TF_CONTEXT, (SUM - BIAS) / 2, TOP, true);
    for (int32_t g = 0, first = 0; g < TF_GROUPS; first += groups[g++]) {
        m.own[g] = layer_of(d, m.hidden, first, (SUM - BIAS) / 2, TOP, false);
        m.deep[g] = layer_of(d, m.second, m.hidden, SUM - BIAS, TOP, true);
        m.last[g] = layer_of(d, TF_OUTPUTS * groups[g], m.second, SUM - BIAS, TOP, true);
        m.last_biases[g] = numbers(d, m.last[g].outputs, -BIAS, BIAS);
    }
    m.inputs = numbers(d, TF_COEFFICIENTS, 1, 65535);
    uint32_t *tails = (uint32_t *)rising_table(d, TF_TAILS, (1 << 24) - 1);
    for (int i = 0; i < TF_TAILS / 2; i++) { /* they fall */
        const uint32_t other = tails[TF_TAILS - 1 - i];
        tails[TF_TAILS - 1 - i] = tails[i] + 1, tails[i] = other + 1;
    }
    tails[TF_TAILS / 2]++;
    uint32_t *inverses = fresh(d, TF_SCALES * 4);
    uint16_t *shares = fresh(d, TF_SHARES * 2);
    uint8_t *widths = fresh(d, TF_WIDTHS);
    int32_t *costs = fresh(d, 4096 * 4);
    for (int i = 0; i < TF_SCALES; i++)
        inverses[i] = any(d) & 1 ? 0xffffffffu >> any(d) % 32 : 1 + any(d) % 0xffffffffu;
    for (int i = 0; i < TF_SHARES; i++)
        shares[i] = (uint16_t)(any(d) & 1 ? any(d) % 4097 : (any(d) & 1) * 4096);
    for (int i = 0; i < TF_WIDTHS; i++)
        widths[i] = (uint8_t)any(d);
    for (int i = 0; i < 4096; i++)
        costs[i] = 256 * 12 / (1 + i / 16);
    m.tails = tails, m.inverses = inverses, m.shares = shares, m.widths = widths, m.costs = costs;
    for (int k = 0; k < LEVELS; k++) {
        smalti_tf_level *level = levels + k;
        for (int i = 0; i < 3; i++) {
            level->analysis[i] = numbers(d, m.analysis[i].outputs, -BIAS, BIAS);
            level->synthesis[i] = numbers(d, m.synthesis[i].outputs, -BIAS, BIAS);
        }
        level->context = numbers(d, TF_GROUPS * m.hidden, -BIAS, BIAS);
        level->deep = numbers(d, TF_GROUPS * m.second, -BIAS, BIAS);
        level->steps = numbers(d, TF_COEFFICIENTS, 1, within(d, 0, 1) ? 32767 : 200);
        level->places = numbers(d, TF_COEFFICIENTS, -1024, 1024);
    }
    return m;
}

static void code(const smalti_transform *m, smalti_tf_image *images, int64_t n, int64_t kappa, smalti_coder *coder) {
    uint8_t *work = malloc((size_t)smalti_tf_work(m, n, images->height, images->width));
    smalti_coder_start(coder);
    hold(smalti_tf_code(m, images, n, kappa, coder, work) == SMALTI_OK);
    hold(coder->decodes || smalti_coder_end(coder) == SMALTI_OK);
    free(work);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    data d = begin_data(bytes, size);
    smalti_tf_level levels[LEVELS];
    smalti_transform m = transform_of(&d, levels);
    const int64_t n = within(&d, 1, MOST_IMAGES), kappa = within(&d, 0, 1) ? within(&d, 0, 1 << 20) : 8000;
    const int32_t h = (int32_t)within(&d, 1, 20), w = (int32_t)within(&d, 1, 33), channels = within(&d, 0, 1) ? 3 : 1;
    const int64_t blocks = (int64_t)((h + 7) / 8) * ((w + 7) / 8), numbers_of = blocks * TF_COEFFICIENTS;
    const size_t samples = (size_t)h * (size_t)w * (size_t)channels, coefficients = (size_t)numbers_of * 2;
    smalti_tf_image shapes[MOST_IMAGES] = {{0}};
    for (int64_t i = 0; i < n; i++)
        shapes[i] = (smalti_tf_image){h, w, channels, 0, levels + any(&d) % LEVELS, 0, 0, 0, 0, 0};
    uint16_t *factors = within(&d, 0, 1) ? fresh(&d, coefficients) : 0;
    for (int64_t i = 0; factors && i < numbers_of; i++)
        factors[i] = (uint16_t)(any(&d) >> any(&d) % 16);
    const int64_t length = (int64_t)d.left, room = n * numbers_of * BYTES + 64;
    uint8_t *stream = fresh(&d, (size_t)length), *first_written = 0;
    for (int64_t i = 0; i < length; i++)
        stream[i] = (uint8_t)byte(&d);
    int64_t first_length = 0;
    smalti_tf_image first[MOST_IMAGES];
    for (int32_t kernel = 0, kernels = smalti_kernels(); kernel < SMALTI_KERNELS; kernel++) {
        if (!(kernels >> kernel & 1))
            continue;
        m.kernel = kernel;
        smalti_tf_image images[MOST_IMAGES], other[MOST_IMAGES];
        for (int64_t i = 0; i < n; i++) {
            images[i] = shapes[i], images[i].samples = fresh(&d, samples);
            images[i].coded = fresh(&d, coefficients), images[i].targets = fresh(&d, coefficients);
        }
        smalti_coder coder = {0, 0, 0, 1, 0, length, stream};
        code(&m, images, n, kappa, &coder);
        uint8_t *work = fresh(&d, (size_t)smalti_tf_work(&m, n, h, w));
        for (int64_t i = 0; i < n; i++) {
            smalti_tf_synthesise(&m, images + i, work);
            smalti_tf_analyse(&m, images + i, work);
            other[i] = images[i], other[i].coded = fresh(&d, coefficients), other[i].factors = factors;
        }
        uint8_t *written = fresh(&d, (size_t)room);
        coder = (smalti_coder){0, 0, 0, 0, 0, room, written};
        code(&m, other, n, kappa, &coder);
        const int64_t used = coder.at;
        if (first_written) {
            hold(used == first_length && !memcmp(first_written, written, (size_t)used));
            for (int64_t i = 0; i < n; i++)
                hold(!memcmp(images[i].coded, first[i].coded, coefficients) && other[i].bits == first[i].bits &&
                     !memcmp(images[i].samples, first[i].samples, samples) &&
                     !memcmp(images[i].targets, first[i].targets, coefficients));
            continue;
        }
        first_written = written, first_length = used;
        for (int64_t i = 0; i < n; i++)
            first[i] = images[i], first[i].bits = other[i].bits;
        coder = (smalti_coder){0, 0, 0, 1, 0, used, written};
        for (int64_t i = 0; i < n; i++)
            images[i] = other[i], images[i].coded = fresh(&d, coefficients), images[i].targets = 0;
        code(&m, images, n, 0, &coder);
        hold(coder.at >= used);
        for (int64_t i = 0; i < n; i++)
            hold(!memcmp(images[i].coded, other[i].coded, coefficients));
    }
    end_data(&d);
    return 0;
}
