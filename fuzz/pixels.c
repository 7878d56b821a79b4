/* SPDX-License-Identifier: MIT
 *
 * Fuzz coding by pixels: any network whose sums are bounded, any words, planes of any sizes; all kernels alike. */
#include "data.h"

enum { PLACES = 64, ERRORS = 127, EXACT = 1 << 24 };

static int64_t filled(int64_t n) { return (n + 15) / 16 * 16; }

static int32_t *biases_of(data *d, int64_t n, int32_t most) {
    int32_t *biases = fresh(d, (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        biases[i] = (int32_t)(any(d) % (2 * (uint32_t)most)) - most;
    return biases;
}

/* Make a layer; its weights are the same for every kernel, `plain` (outputs inputs). */
static smalti_layer layer_of(data *d, const int16_t *plain, int64_t inputs, int64_t outputs, int64_t real,
                             int32_t *biases, int32_t kernel) {
    int64_t size = smalti_big(kernel), big = outputs / size * size, at = 0;
    int16_t *weights = fresh(d, (size_t)(outputs * inputs) * 2);
    int32_t *shifts = fresh(d, (size_t)outputs * 4);
    float *scales = fresh(d, (size_t)outputs * 4);
    for (int64_t o = 0, wide; o < outputs; o += wide) {
        wide = o < big ? size : SMALTI_SMALL;
        for (int64_t pair = 0; pair < inputs / 2; pair++)
            for (int64_t i = 0; i < wide; i++)
                for (int k = 0; k < 2; k++)
                    weights[at++] = plain[(o + i) * inputs + 2 * pair + k];
    }
    for (int64_t o = 0; o < real; o++)
        shifts[o] = (int32_t)((uint32_t)biases[o] * 7 % 25);
    for (int64_t o = 0; o < outputs; o++)
        scales[o] = 1.0f / (float)(1 << shifts[o]);
    return (smalti_layer){inputs / 2, outputs, big, weights, biases, shifts, scales};
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    data d = begin_data(bytes, size);
    const int32_t channels = within(&d, 0, 1) ? 3 : 1;
    smalti_prior prior = {channels, (int32_t)within(&d, 1, 4), (int32_t)within(&d, 0, 9), (int32_t)within(&d, 1, 9), 0, 0, 0, 0};
    prior.layers = (int32_t)within(&d, 2, 4), prior.components = (int32_t)within(&d, 1, 7);
    const int64_t width = within(&d, 0, 7) ? within(&d, 1, 40) : 150, outputs = filled(width), last = 3 * prior.components - 1;
    const int64_t row = 2 * (int64_t)prior.reach * channels + 1, left = (int64_t)prior.left * channels;
    const int64_t window = prior.above * (row + row % 2) + left + left % 2;
    prior.rows = biases_of(&d, PLACES * outputs, 1 << 18);
    prior.columns = biases_of(&d, PLACES * channels * outputs, 1 << 18);
    prior.errors = biases_of(&d, ERRORS * outputs, 1 << 18);
    int16_t *plain[SMALTI_LAYERS];
    int32_t *biases[SMALTI_LAYERS];
    for (int l = 0; l < prior.layers; l++) {
        const int64_t inputs = l ? outputs : window, real = l + 1 < prior.layers ? width : last, to = filled(real);
        const int64_t used = l ? width : inputs, room = EXACT / 2 / (l ? 1023 : 255) / used;
        plain[l] = fresh(&d, (size_t)(to * inputs) * 2);
        for (int64_t o = 0; o < real; o++)
            for (int64_t i = 0; i < used; i++)
                plain[l][o * inputs + i] = (int16_t)((int64_t)(any(&d) % (uint64_t)(2 * room + 1)) - room);
        if (!l) /* inputs that only fill a pair have no weights */
            for (int64_t o = 0; o < real; o++) {
                for (int32_t r = 0; r < prior.above && row % 2; r++)
                    plain[0][o * inputs + r * (row + 1) + row] = 0;
                if (left % 2)
                    plain[0][o * inputs + inputs - 1] = 0;
            }
        biases[l] = biases_of(&d, to, EXACT / 8);
    }
    prior.logistics = logistics_of(&d);

    const int64_t images = within(&d, 1, 3), each = 1, n = images * each;
    int32_t *sides = fresh(&d, (size_t)n * 8), *errors = fresh(&d, (size_t)n * 4), *numbers = fresh(&d, (size_t)n * 4);
    int32_t *of_plane = fresh(&d, (size_t)n * 4);
    int64_t h = 1, m = 1, samples = 0, least = ERRORS;
    for (int64_t i = 0; i < n; i++) {
        sides[2 * i] = (int32_t)within(&d, 1, 6), sides[2 * i + 1] = (int32_t)within(&d, 1, 6) * channels;
        errors[i] = (int32_t)within(&d, 0, ERRORS - 1), numbers[i] = (int32_t)i;
        h = sides[2 * i] > h ? sides[2 * i] : h, m = sides[2 * i + 1] > m ? sides[2 * i + 1] : m;
        samples += sides[2 * i] * sides[2 * i + 1];
        least = errors[i] < least ? errors[i] : least;
    }
    const int64_t side = (prior.reach > prior.left ? prior.reach : prior.left) * channels;
    const size_t space = (size_t)(n * (prior.above + h) * (m + 2 * side) + SMALTI_SLACK);
    const smalti_stream stream = stream_of(&d);
    uint8_t *first = 0, *first_quantised = 0;
    int32_t first_code = 0, kernels = smalti_kernels();
    int64_t first_count = 0;
    uint8_t *values = fresh(&d, (size_t)(n * h * m));
    for (int64_t i = 0; i < n * h * m; i++)
        values[i] = (uint8_t)(any(&d) % 3 ? 0 : any(&d));
    const double lmbda = (double)within(&d, 0, 4) / 4;
    int64_t log2s[4097];
    for (int64_t i = 0; i < 4097; i++)
        log2s[i] = (i << 32) / 4096;
    for (int32_t kernel = 0; kernel < SMALTI_KERNELS; kernel++) {
        if (!(kernels >> kernel & 1))
            continue;
        prior.kernel = kernel;
        for (int l = 0; l < prior.layers; l++) {
            const int64_t real = l + 1 < prior.layers ? width : last;
            prior.layer[l] = layer_of(&d, plain[l], l ? outputs : window, filled(real), real, biases[l], kernel);
        }
        smalti_planes planes = {n, h, m, least, sides, errors, numbers, fresh(&d, space), 0};
        const int64_t capacity = 3 * samples;
        smalti_symbols symbols = {capacity, 0, fresh(&d, (size_t)capacity * 4), fresh(&d, (size_t)capacity * 8),
                                  fresh(&d, (size_t)capacity * 4), fresh(&d, (size_t)capacity * 4),
                                  fresh(&d, (size_t)capacity * 4), fresh(&d, (size_t)capacity)};
        smalti_stream own = stream;
        int32_t code = smalti_decode(&prior, &planes, &own, of_plane, &symbols, fresh(&d, (size_t)smalti_work(&prior, &planes)));
        hold(code == SMALTI_OK || code == SMALTI_NO_SUCH_LEVEL);
        smalti_planes other = {n, h, m, least, sides, errors, numbers, fresh(&d, space), values};
        smalti_symbols more = symbols;
        more.count = 0;
        hold(smalti_quantise(&prior, &other, lmbda, log2s, &more, fresh(&d, (size_t)smalti_work(&prior, &other))) == SMALTI_OK);
        if (first) {
            hold(first_code == code && !memcmp(first, planes.padded, space) && first_count == more.count);
        } else {
            first = planes.padded, first_code = code, first_quantised = other.padded, first_count = more.count;
        }
        hold(!memcmp(first_quantised, other.padded, space));
    }
    end_data(&d);
    return 0;
}
