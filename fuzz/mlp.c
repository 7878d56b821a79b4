/* SPDX-License-Identifier: MIT
 *
 * Fuzz masked MLPs with the latents of patches: decode any words by any network whose sums are bounded; compute the
 * distributions of what came out, encode it by them, and decode that. All kernels must agree. */
#include "mlp_data.h"

enum { POINTS = 3 };

/* Encode the symbols of a stream, whose rows are rows first .. first + n - 1, by their distributions. */
static smalti_stream encoded(data *d, const smalti_latents *latents, int64_t l, int64_t first, int64_t n,
                             const int64_t *symbols, const int64_t *cdf) {
    int64_t *starts = fresh(d, (size_t)(n * l) * 8), *frequencies = fresh(d, (size_t)(n * l) * 8), count = 0;
    for (int64_t j = 0; j < l; j++)
        for (int64_t i = first; i < first + n; i++) {
            const int64_t symbol = symbols[i * l + j], low = latents->low[j], high = latents->high[j];
            const int64_t *ends = cdf + 2 * (i * l + j), room = (1 << 24) - (high - low + 1);
            const int64_t start = symbol == low ? 0 : (ends[0] * room >> 28) + symbol - low;
            const int64_t end = symbol == high ? 1 << 24 : (ends[1] * room >> 28) + symbol + 1 - low;
            hold(ends[0] >= 0 && ends[0] <= ends[1] && ends[1] <= 1 << 28);
            if (high > low)
                starts[count] = start, frequencies[count++] = end - start;
        }
    return put_all(d, starts, frequencies, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    data d = begin_data(bytes, size);
    const int32_t components = (int32_t)within(&d, 1, 4);
    smalti_mlp mlp = mlp_of(&d, POINTS, 0, LATENT_MAX, 3 * components - 1);
    const int64_t l = mlp.groups * mlp.group, count = within(&d, 1, 3), n = count * within(&d, 0, 4);
    int32_t *which = fresh(&d, (size_t)n * 4);
    int64_t *steps = fresh(&d, (size_t)(POINTS * l) * 8), *low = fresh(&d, (size_t)l * 8), *high = fresh(&d, (size_t)l * 8);
    for (int64_t i = 0; i < n; i++)
        which[i] = (int32_t)(any(&d) % POINTS);
    for (int64_t i = 0; i < POINTS * l; i++)
        steps[i] = 1 + any(&d) % (any(&d) & 1 ? 65535 : 40);
    for (int64_t i = 0; i < l; i++) {
        const uint32_t most = any(&d) % 3 ? 5 : LATENT_MAX;
        low[i] = -(int64_t)(any(&d) % (most + 1)), high[i] = low[i] + any(&d) % (most + 1);
    }
    const smalti_latents latents = {n, which, steps, low, high, components, 0};
    const smalti_logistics tables = logistics_of(&d);
    const smalti_stream stream = stream_of(&d);
    int64_t *first = 0, *first_cdf = 0;
    for (int32_t kernel = 0, kernels = smalti_kernels(); kernel < SMALTI_KERNELS; kernel++) {
        if (!(kernels >> kernel & 1))
            continue;
        mlp.kernel = kernel;
        int64_t *symbols = fresh(&d, (size_t)(n * l) * 8), *cdf = fresh(&d, (size_t)(n * l) * 16);
        uint8_t *work = fresh(&d, (size_t)smalti_latents_work(&mlp, n));
        smalti_stream *streams = fresh(&d, (size_t)count * sizeof *streams);
        for (int64_t s = 0; s < count; s++)
            streams[s] = stream;
        hold(smalti_take_latents(&mlp, &tables, &latents, streams, count, symbols, work) == SMALTI_OK);
        for (int64_t i = 0; i < n * l; i++)
            hold(symbols[i] >= low[i % l] && symbols[i] <= high[i % l]);
        hold(smalti_latent_cdf(&mlp, &tables, &latents, symbols, cdf, work) == SMALTI_OK);
        if (first) {
            hold(!memcmp(first, symbols, (size_t)(n * l) * 8) && !memcmp(first_cdf, cdf, (size_t)(n * l) * 16));
            continue;
        }
        first = symbols, first_cdf = cdf;
        int64_t *again = fresh(&d, (size_t)(n * l) * 8);
        for (int64_t s = 0; s < count; s++)
            streams[s] = encoded(&d, &latents, l, s * n / count, n / count, symbols, cdf);
        hold(smalti_take_latents(&mlp, &tables, &latents, streams, count, again, work) == SMALTI_OK);
        hold(!memcmp(symbols, again, (size_t)(n * l) * 8));
        for (int64_t s = 0; s < count; s++)
            hold(!streams[s].left && !streams[s].state);
    }
    end_data(&d);
    return 0;
}
