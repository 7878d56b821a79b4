/* SPDX-License-Identifier: MIT
 *
 * Fuzz coding by mixing: any mixer that check_mixer lets pass, any stream, images of any kind. What a stream gives is
 * encoded again, in no more bytes than the Python side has room for, and decoded again; all kernels alike. */
#include "data.h"
#include "mixing.h"

enum { MOST_IMAGES = 3, MOST_WEIGHT = (1 << 19) - 1, MOST_CORRECTING = (1 << 20) - 1, MOST_LINES = 32, LEAST_ROOM = 64 };

/* The arrays of tables, by their bytes an entry. */
static void fill(data *d, void *array, int64_t n, int bytes, int64_t low, int64_t high) {
    const uint32_t kind = byte(d) % 3; /* random, or the ends of the range, or one of them */
    const int64_t end = any(d) & 1 ? low : high;
    for (int64_t i = 0; i < n; i++) {
        const int64_t random = low + (int64_t)(any(d) % (uint64_t)(high - low + 1));
        const int64_t value = kind == 0 ? random : kind == 1 ? (any(d) & 1 ? low : high) : end;
        if (bytes == 2)
            ((uint16_t *)array)[i] = (uint16_t)value;
        else
            ((uint32_t *)array)[i] = (uint32_t)value;
    }
}

static smalti_mix_layer layer_of(data *d, int32_t inputs, int32_t real, int32_t largest, bool listed) {
    const int32_t outputs = (real + 15) / 16 * 16;
    const int64_t sum = (1ll << 31) - 1, bias = within(d, 0, 1) ? sum / 4 : 1 << 20, each = (sum - bias) / largest / inputs;
    int16_t *weights = fresh(d, (size_t)inputs * (size_t)outputs * 2), *own = fresh(d, (size_t)inputs * 2);
    int32_t *biases = fresh(d, (size_t)outputs * 4);
    const int64_t most = each < 32767 ? each : 32767, range = within(d, 0, 1) ? most : 400 < most ? 400 : most;
    fill(d, biases, real, 4, -bias, bias);
    for (int32_t o = 0; o < real; o++) {
        fill(d, own, inputs, 2, -range, range);
        for (int32_t i = 0; i < inputs; i++)
            weights[listed ? i * outputs + o : (o - o % 16) * inputs + (i - i % 2) * 16 + 2 * (o % 16) + i % 2] = own[i];
    }
    return (smalti_mix_layer){inputs, outputs, listed, 0, weights, biases};
}

static void *table(data *d, int64_t n, int bytes, int64_t low, int64_t high) {
    void *array = fresh(d, (size_t)(n * bytes));
    fill(d, array, n, bytes, low, high);
    return array;
}

static smalti_mixer mixer_of(data *d) {
    smalti_mixer m = {0};
    const int32_t first = 2 * (int32_t)within(d, 1, 12), wide = !within(d, 0, 15);
    const int32_t second = 2 * (int32_t)(wide ? within(d, 1, MIX_HIDDEN / 2) : within(d, 1, 12));
    for (int32_t k = 0; k < MIX_CHANNELS; k++) {
        m.layers[k][0] = layer_of(d, 40 + 8 * k, wide ? MIX_HIDDEN : first, 1023, false);
        m.layers[k][1] = layer_of(d, wide ? MIX_HIDDEN : first, second, 1024, within(d, 0, 1));
        m.layers[k][2] = layer_of(d, second, 9, 1024, within(d, 0, 1));
    }
    static const int32_t drawn_inputs[MIX_DRAWN] = {56, 64, 72, 42};
    for (int32_t k = 0, there = within(d, 0, 1); k < MIX_DRAWN && there; k++) {
        m.drawn[k][0] = layer_of(d, drawn_inputs[k], first, 1023, false);
        m.drawn[k][1] = layer_of(d, first, second, 1024, within(d, 0, 1));
        m.drawn[k][2] = layer_of(d, second, 9, 1024, within(d, 0, 1));
    }
    int32_t *uses[] = {&m.tone, &m.alpha, &m.pick, &m.samples}; /* the contexts: all, none or some */
    for (int k = 0; k < 4; k++) {
        const int32_t all[] = {(1 << 6) - 1, (1 << 7) - 1, (1 << 14) - 1, (1 << 10) - 1}, kind = (int32_t)within(d, 0, 3);
        *uses[k] = kind == 0 ? (int32_t)any(d) & all[k] : kind == 1 ? 0 : all[k];
    }
    m.candidates = within(d, 0, 1) ? 14 : (int32_t)within(d, 1, 14);
    m.follows = (int32_t)within(d, 0, 1);
    m.corrects = (int32_t)within(d, 0, 1);
    m.squash = table(d, 6144, 2, 8, 65527);
    m.stretch = table(d, 6144, 2, -3071, 3071);
    m.logistic = (const uint32_t *)rising_table(d, 4097, 1 << 24);
    m.scales = table(d, 641, 4, 1, 1 << 27);
    uint32_t *weights = table(d, 768, 4, 0, 1 << 16);
    weights[0] += !weights[0];
    m.weights = weights;
    m.rates = table(d, 256, 2, 0, 65535);
    m.confidence = table(d, 256, 2, 0, 256);
    m.logs = table(d, 2049, 2, 0, 176);
    m.inverses = table(d, 2049, 4, 0, 1 << 19);
    return m;
}

static smalti_mix_state *start_of(data *d) {
    smalti_mix_state *start = fresh(d, sizeof *start);
    fill(d, start->node_weights, MIX_NODES * MIX_TERMS, 4, -MOST_WEIGHT, MOST_WEIGHT);
    fill(d, start->set_weights, MIX_SETS * MIX_TERMS, 4, -MOST_WEIGHT, MOST_WEIGHT);
    fill(d, start->last_weights, MIX_NODES * 2, 4, -MOST_WEIGHT, MOST_WEIGHT);
    fill(d, start->curves, 2 * MIX_SETS * MIX_STEPS, 2, 0, 65535);
    fill(d, start->order0, MIX_NODES, 4, 0, 0xffffffffll);
    fill(d, start->corrections, 2 * MIX_CHANNELS * MIX_CORRECTIONS, 4, -MOST_CORRECTING, MOST_CORRECTING);
    return start;
}

/* Give the mixer some of the lines that a state has, with any probabilities. */
static void prime(data *d, smalti_mixer *m, smalti_mix_state *state) {
    uint8_t *lines = (uint8_t *)(state + 1) + ((int64_t)MIX_MATCHES * 8 << (state->bits < 16 ? state->bits : 16));
    const uint32_t *from = (const uint32_t *)(const void *)(lines + (64 - (uintptr_t)lines % 64) % 64);
    m->primed_bits = 6; /* MOST_LINES fill half of it */
    uint32_t *to = fresh(d, (size_t)MIX_SLOTS * 4 << 6);
    m->primed = to;
    for (int64_t i = 0, n = 0; i < 1ll << state->bits && n < MOST_LINES; i++, from += MIX_SLOTS) {
        bool known = !from[0];
        for (int64_t j = 0; j < 64; j++)
            known |= to[j * MIX_SLOTS] == from[0];
        if (known)
            continue;
        uint32_t at = from[0] >> 26;
        while (to[at * MIX_SLOTS])
            at = (at + 1) & 63;
        to[at * MIX_SLOTS] = from[0], n++;
        for (int k = 1; k < MIX_SLOTS; k++)
            to[at * MIX_SLOTS + (uint32_t)k] = any(d) % 3 ? (any(d) & ~1023u) | (any(d) & 255) : 0;
    }
}

/* A sample as an encoder has it: a damaged stream may give 255 where that is no level. Alpha is always exact. */
static uint8_t to_level(const smalti_mix_image *image, uint8_t value, size_t at) {
    const int32_t level = value / image->step * image->step + image->step / 2;
    const bool alpha = image->channels % 2 == 0 && at % (size_t)image->channels == (size_t)image->channels - 1;
    return (uint8_t)(alpha ? value : level > 255 ? 255 : level);
}

/* Code all images from a new state; return the bytes of the coder. */
static int64_t code(const smalti_mixer *m, const smalti_mix_state *start, smalti_mix_state *state, int32_t bits,
                    smalti_mix_image *images, int32_t n, smalti_coder *coder) {
    smalti_mix_start(state, start, bits, m->follows);
    smalti_coder_start(coder);
    for (int32_t i = 0; i < n; i++) {
        uint8_t *work = malloc((size_t)smalti_mix_work(images[i].height, images[i].width));
        hold(smalti_mix(m, state, coder, &images[i], work) == SMALTI_OK);
        free(work);
    }
    if (!coder->decodes)
        hold(smalti_coder_end(coder) == SMALTI_OK);
    return coder->at;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const int64_t pixel_bytes[] = {0, 51, 67, 107, 123}; /* of core/mixing.py */
    data d = begin_data(bytes, size);
    smalti_mixer m = mixer_of(&d);
    smalti_mix_state *start = start_of(&d);
    const int32_t bits = (int32_t)within(&d, 0, 7) ? 12 : 17, n = (int32_t)within(&d, 1, MOST_IMAGES);
    smalti_mix_image shapes[MOST_IMAGES];
    int64_t room = LEAST_ROOM;
    for (int32_t i = 0; i < n; i++) {
        const int32_t channels = (int32_t)within(&d, 1, 4), step = within(&d, 0, 1) ? 1 : 2 * (int32_t)within(&d, 0, 126) + 1;
        shapes[i] = (smalti_mix_image){(int32_t)within(&d, 1, 9), (int32_t)within(&d, 1, 9), channels, step, 0, 0, NULL};
        room += shapes[i].height * shapes[i].width * pixel_bytes[channels] + 1;
    }
    const int64_t length = d.left ? (int64_t)d.left : within(&d, 0, 255);
    uint8_t *stream = fresh(&d, (size_t)length), *again = fresh(&d, (size_t)room);
    for (int64_t i = 0; i < length; i++)
        stream[i] = (uint8_t)byte(&d);
    smalti_mix_state *state = fresh(&d, (size_t)smalti_mix_state_size(bits, m.follows));
    const int32_t kernels = smalti_kernels();
    for (int pass = 0; pass < 2; pass++) { /* without lines that are known before, and with some */
        smalti_mix_image first[MOST_IMAGES];
        int64_t first_length = -1;
        for (m.kernel = 0; m.kernel < SMALTI_KERNELS; m.kernel++) {
            if (!(kernels >> m.kernel & 1))
                continue;
            smalti_mix_image images[MOST_IMAGES], other[MOST_IMAGES];
            for (int32_t i = 0; i < n; i++) {
                const size_t samples = (size_t)(shapes[i].height * shapes[i].width * shapes[i].channels);
                images[i] = other[i] = shapes[i];
                images[i].samples = fresh(&d, samples), other[i].samples = fresh(&d, samples);
            }
            smalti_coder coder = {0, 0, 0, 1, 0, length, stream};
            code(&m, start, state, bits, images, n, &coder);
            if (first_length < 0)
                for (int32_t i = 0; i < n; i++) {
                    first[i] = images[i];
                    const size_t samples = (size_t)(first[i].height * first[i].width * first[i].channels);
                    first[i].samples = memcpy(fresh(&d, samples), images[i].samples, samples);
                }
            for (int32_t i = 0; i < n; i++) {
                const size_t samples = (size_t)(shapes[i].height * shapes[i].width * shapes[i].channels);
                hold(images[i].drawn == first[i].drawn && !memcmp(images[i].samples, first[i].samples, samples));
                for (size_t j = 0; j < samples; j++)
                    images[i].samples[j] = to_level(&shapes[i], images[i].samples[j], j);
                memcpy(other[i].samples, images[i].samples, samples), other[i].drawn = images[i].drawn;
            }
            uint8_t *written = fresh(&d, (size_t)room);
            coder = (smalti_coder){0, 0, 0, 0, 0, room, written};
            const int64_t used = code(&m, start, state, bits, other, n, &coder);
            if (first_length < 0)
                first_length = used, memcpy(again, written, (size_t)used);
            hold(used == first_length && !memcmp(written, again, (size_t)used));
            coder = (smalti_coder){0, 0, 0, 1, 0, used, written};
            for (int32_t i = 0; i < n; i++)
                other[i].drawn = 0, other[i].samples = fresh(&d, (size_t)(other[i].height * other[i].width * other[i].channels));
            code(&m, start, state, bits, other, n, &coder);
            for (int32_t i = 0; i < n; i++)
                hold(!memcmp(other[i].samples, images[i].samples, (size_t)(other[i].height * other[i].width * other[i].channels)));
        }
        if (!pass)
            prime(&d, &m, state);
    }
    end_data(&d);
    return 0;
}
