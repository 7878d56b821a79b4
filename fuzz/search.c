/* SPDX-License-Identifier: MIT
 *
 * Fuzz the search of latents and the networks that are computed again where inputs change: networks of random stages
 * whose sums reach their bounds, in the order that core/search.h asks. All kernels must choose the same symbols. */
#include "data.h"
#include "search.h"

enum { SMALL = SMALTI_SMALL, MOST_ROWS = 64, EXACT = 1 << 24, MOST_LATENT = 4095, TOP = 1023, PIECE = 16 };

/* A network that grows stage by stage. */
typedef struct {
    smalti_net net;
    smalti_stage *stage;
    int32_t channels[MOST_ROWS + 1];
    int32_t rows;
} builder;

static void add_rows(builder *b, int32_t rows, int32_t channels) {
    for (int32_t r = 0; r < rows; r++)
        b->channels[b->rows++] = channels, b->net.units += channels;
}

/* Choose rows that were there before for the taps of a position, none of them twice; -1 is a row without units. */
static void choose_rows(data *d, const builder *b, int64_t taps, int32_t *rows) {
    bool taken[MOST_ROWS] = {false};
    for (int64_t t = 0; t < taps; t++) {
        int32_t row = (int32_t)within(d, 0, b->rows) - 1;
        rows[t] = row >= 0 && taken[row] ? -1 : row;
        if (row >= 0)
            taken[row] = true;
    }
}

static void add_stage(data *d, builder *b, int64_t positions, int64_t rows, int64_t channels, bool is_last) {
    const int64_t taps = within(d, 1, 4), outputs = rows * channels, padded = (outputs + SMALL - 1) / SMALL * SMALL;
    int32_t *chosen = fresh(d, (size_t)(positions * taps) * 4), *where = fresh(d, (size_t)(positions * taps) * 8);
    int64_t widest = 1;
    for (int64_t q = 0; q < positions; q++) {
        choose_rows(d, b, taps, chosen + q * taps);
        for (int64_t t = 0; t < taps; t++) {
            int32_t row = chosen[q * taps + t], pairs = row < 0 ? 1 : (b->channels[row] + 1) / 2;
            widest = pairs > widest ? pairs : widest;
        }
    }
    for (int64_t i = 0; i < positions * taps; i++) /* the rows without units are known in the end */
        where[2 * i] = chosen[i], where[2 * i + 1] = chosen[i] < 0 ? 0 : (int32_t)(i % taps * widest);
    const int64_t pairs = taps * widest, each = within(d, 0, 1), many = each ? positions : 1;
    int16_t *weights = fresh(d, (size_t)(pairs * padded) * 4);
    const int64_t largest = (EXACT / 2 - TOP) / (2 * pairs) / MOST_LATENT, kind = within(d, 0, 2);
    for (int64_t i = 0; i < 2 * pairs * padded; i++)
        if (i / 2 % padded < outputs && any(d) % 3)
            weights[i] = (int16_t)(kind ? (int64_t)(any(d) % (2 * largest + 1)) - largest : any(d) & 1 ? largest : -largest);
    int32_t *biases = fresh(d, (size_t)(many * padded) * 4), *shifts = fresh(d, (size_t)(many * padded) * 4);
    float *scales = fresh(d, (size_t)(many * padded) * 4);
    const int64_t most_shift = within(d, 0, 24);
    for (int64_t i = 0; i < many * padded; i++) {
        const bool real = i % padded < outputs;
        biases[i] = real ? (int32_t)(any(d) % EXACT) - EXACT / 2 : 0;
        shifts[i] = real ? (int32_t)(any(d) % (uint64_t)(most_shift + 1)) : 0;
        scales[i] = 1.0f / (float)(1 << shifts[i]);
    }
    int32_t *more = 0;
    if (!is_last && b->net.units >= outputs && within(d, 0, 1)) {
        more = fresh(d, (size_t)positions * 4);
        for (int64_t q = 0; q < positions; q++)
            more[q] = (int32_t)within(d, 0, b->net.units - outputs);
    }
    b->stage[b->net.stages++] = (smalti_stage){positions, taps, outputs, padded, rows, channels, b->net.units, b->rows,
                                               b->net.sums, each ? padded : 0, where, more, weights, biases, shifts,
                                               scales, (int32_t)within(d, 1, TOP), is_last};
    b->net.sums += positions * padded;
    b->net.most = padded > b->net.most ? padded : b->net.most;
    if (!is_last)
        add_rows(b, (int32_t)(positions * rows), (int32_t)channels);
}

/* Lay out the lists of all rows; the last row stays empty. */
static void finish(data *d, builder *b) {
    const int64_t rows = b->rows + 1;
    int64_t *lists = fresh(d, (size_t)rows * 8), *starts = fresh(d, (size_t)rows * 8), unit = 0;
    int32_t *channels = fresh(d, (size_t)rows * 4);
    b->channels[b->rows] = 2;
    for (int64_t r = 0; r < rows; r++) {
        channels[r] = b->channels[r], starts[r] = unit, lists[r] = b->net.entries;
        unit += channels[r];
        b->net.entries += (channels[r] + 2 * PIECE - 1) / (2 * PIECE) * PIECE + PIECE;
        b->net.most = channels[r] > b->net.most ? channels[r] : b->net.most;
    }
    for (int32_t s = 0; s < b->net.stages; s++) {
        int32_t *where = (int32_t *)(uintptr_t)b->stage[s].where;
        for (int64_t i = 0; i < b->stage[s].positions * b->stage[s].taps; i++)
            where[2 * i] = where[2 * i] < 0 ? b->rows : where[2 * i];
    }
    b->net.units = unit, b->net.rows = rows;
    b->net.lists = lists, b->net.starts = starts, b->net.channels = channels, b->net.stage = b->stage;
}

static builder begin(data *d, int stages) {
    builder b = {0};
    b.stage = fresh(d, (size_t)stages * sizeof *b.stage);
    return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    enum { MOST_STAGES = 5 };
    data d = begin_data(bytes, size);
    const int64_t patches = within(&d, 1, 2), l = within(&d, 1, 6), n = patches * l, components = within(&d, 1, 4);
    const int64_t outputs = 3 * components - 1, others = within(&d, 0, 9), stages = within(&d, 1, 3);

    builder image = begin(&d, MOST_STAGES), prior = begin(&d, MOST_STAGES);
    add_rows(&image, (int32_t)patches, (int32_t)l);
    if (others)
        add_rows(&image, 1, (int32_t)others);
    const int64_t inputs = image.net.units;
    const bool wide = stages == 3 && !within(&d, 0, 3);
    for (int64_t s = 0; s < stages; s++)
        if (wide && s < 2)
            add_stage(&d, &image, 1, 1, s ? 512 + within(&d, 0, 40) : within(&d, 1, 40), false);
        else
            add_stage(&d, &image, within(&d, 1, 4), within(&d, 1, 2), within(&d, 1, 40), false);
    finish(&d, &image);
    add_rows(&prior, (int32_t)l, 1);
    for (int64_t s = 1; s < stages; s++)
        add_stage(&d, &prior, within(&d, 1, 3), 1, within(&d, 1, 40), false);
    const bool together = within(&d, 0, 1); /* all latents in one position, or each in one of its own */
    add_stage(&d, &prior, together ? 1 : l, 1, together ? l * outputs : outputs, true);
    finish(&d, &prior);

    const smalti_stage *of_image = &image.stage[image.net.stages - 1], *of_prior = &prior.stage[prior.net.stages - 1];
    const int64_t pixels = within(&d, 1, 40), made = of_image->positions * of_image->outputs;
    int64_t *steps = fresh(&d, (size_t)l * 8), *low = fresh(&d, (size_t)l * 8), *high = fresh(&d, (size_t)l * 8);
    int32_t *image_row = fresh(&d, (size_t)n * 4), *image_unit = fresh(&d, (size_t)n * 4);
    int32_t *prior_row = fresh(&d, (size_t)l * 4), *prior_sum = fresh(&d, (size_t)l * 4);
    int32_t *pixel_unit = fresh(&d, (size_t)pixels * 4);
    uint8_t *table = fresh(&d, TOP + 1), *x = fresh(&d, (size_t)pixels);
    const int64_t most_step = within(&d, 0, 1) ? 65535 : 40;
    for (int64_t i = 0; i < l; i++) {
        const int64_t most = within(&d, 0, 1) ? MOST_LATENT : 3;
        steps[i] = 1 + any(&d) % (uint64_t)most_step, low[i] = -(int64_t)(any(&d) % (uint64_t)(most + 1));
        high[i] = low[i] + (int64_t)(any(&d) % (uint64_t)(most + 1)), prior_row[i] = (int32_t)i;
        prior_sum[i] = (int32_t)(i * (together ? outputs : of_prior->padded));
    }
    for (int64_t i = 0; i < n; i++)
        image_row[i] = (int32_t)(i / l), image_unit[i] = (int32_t)i;
    for (int64_t i = 0; i < pixels; i++)
        pixel_unit[i] = (int32_t)(of_image->first + any(&d) % (uint64_t)made), x[i] = (uint8_t)any(&d);
    for (int64_t i = 0; i <= TOP; i++)
        table[i] = (uint8_t)any(&d);
    int16_t *units = fresh(&d, (size_t)inputs * 2);
    for (int64_t i = n; i < inputs; i++)
        units[i] = (int16_t)((int64_t)(any(&d) % (2 * MOST_LATENT + 1)) - MOST_LATENT);
    int64_t log2s[4097];
    for (int64_t i = 0; i < 4097; i++)
        log2s[i] = (i << 32) / 4096;
    const smalti_logistics logistics = logistics_of(&d);
    const double multiplier = (double)within(&d, 0, 1 << 20) / 16;
    const int64_t some = within(&d, 1, n), first = within(&d, 0, n - some), passes = within(&d, 1, 3);

    int64_t *start = fresh(&d, (size_t)n * 8), *found = 0;
    for (int64_t i = 0; i < n; i++)
        start[i] = low[i % l] + (int64_t)(any(&d) % (uint64_t)(high[i % l] - low[i % l] + 1));
    for (int32_t kernel = 0, kernels = smalti_kernels(); kernel < SMALTI_KERNELS; kernel++) {
        if (!(kernels >> kernel & 1))
            continue;
        image.net.kernel = prior.net.kernel = kernel;
        const smalti_search search = {&image.net, &prior.net, &logistics, log2s, patches, l, pixels, MOST_LATENT, steps,
                                      low, high, image_row, image_unit, prior_row, prior_row, prior_sum, pixel_unit,
                                      table, (int32_t)components, (int32_t)passes};
        int64_t *hopeful = fresh(&d, (size_t)some * 8), *symbols = fresh(&d, (size_t)n * 8);
        for (int64_t i = 0; i < some; i++)
            hopeful[i] = first + i;
        memcpy(symbols, start, (size_t)n * 8);
        uint8_t *work = fresh(&d, (size_t)smalti_refine_work(&search, some));
        hold(smalti_refine(&search, x, units, inputs, multiplier, hopeful, some, symbols, work) == SMALTI_OK);
        for (int64_t i = 0; i < n; i++)
            hold(symbols[i] >= low[i % l] && symbols[i] <= high[i % l]);
        if (found)
            hold(!memcmp(found, symbols, (size_t)n * 8));
        else
            found = symbols;
    }
    end_data(&d);
    return 0;
}
