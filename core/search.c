/* SPDX-License-Identifier: MIT
 *
 * Search the latents of an image (codec/rdo.py, whose numpy code takes the same steps): try a step up of each hopeful
 * latent with the decoder's own networks, and take those together that lower bits + multiplier * squared error. */
#include <math.h>

#include "mixture.h"
#include "network.h"
#include "rans.h"

enum { DOT_PIECE = 1 << 14, STEP_UP = 0, STEP_DOWN = 1 };

typedef struct {
    const smalti_search *s;
    const uint8_t *x;
    double multiplier, weight;
    int64_t size, count;                 /* latents of the image; those that are hopeful */
    int64_t *hopeful, *symbols, *order;
    int64_t *rates, sum;                 /* bits of each latent as it is kept, and of all, times 2^32 */
    int32_t *bases;                      /* of each latent: its mixture, as it is kept */
    double *costs, *toward, *own, *gain; /* costs: count 2 */
    bool *left;                          /* count 2 */
    int16_t *change, *rest;              /* count pixels; pixels: original less image */
    network image, *priors;
    wide_reads *wide;                    /* count, or none if no stage is wide */
    int32_t *wide_sums;                  /* count padded */
} search;

static int64_t lay_out(search *w, const smalti_search *s, int64_t count, uint8_t *work) {
    int64_t used = 0, size = s->patches * s->latents, outputs = 3 * s->components - 1;
    w->s = s, w->size = size, w->count = count;
    w->order = grab(work, &used, count * (int64_t)sizeof *w->order);
    w->rates = grab(work, &used, size * (int64_t)sizeof *w->rates);
    w->bases = grab(work, &used, size * outputs * (int64_t)sizeof *w->bases);
    w->costs = grab(work, &used, 2 * count * (int64_t)sizeof *w->costs);
    w->toward = grab(work, &used, count * (int64_t)sizeof *w->toward);
    w->own = grab(work, &used, count * (int64_t)sizeof *w->own);
    w->gain = grab(work, &used, count * (int64_t)sizeof *w->gain);
    w->left = grab(work, &used, 2 * count * (int64_t)sizeof *w->left);
    w->change = grab(work, &used, count * s->pixels * (int64_t)sizeof *w->change);
    w->rest = grab(work, &used, s->pixels * (int64_t)sizeof *w->rest);
    w->priors = grab(work, &used, s->patches * (int64_t)sizeof *w->priors);
    w->wide = 0;
    if (has_wide_stage(s->image)) {
        w->wide = grab(work, &used, count * (int64_t)sizeof *w->wide);
        w->wide_sums = grab(work, &used, count * s->image->stage[1].padded * (int64_t)sizeof *w->wide_sums);
    }
    network one;
    lay_out_network(&w->image, s->image, work, &used);
    for (int64_t p = 0; p < s->patches; p++)
        lay_out_network(work ? &w->priors[p] : &one, s->prior, work, &used);
    return used;
}

int64_t smalti_refine_work(const smalti_search *s, int64_t hopeful) {
    search w;
    return lay_out(&w, s, hopeful, 0) + 64;
}

static int16_t latent_of(const smalti_search *s, int64_t i, int64_t symbol) {
    int64_t v = symbol * s->steps[i % s->latents];
    return (int16_t)(v < -s->most ? -s->most : v > s->most ? s->most : v);
}

/* ---- bits ---- */

/* The bits of a symbol in range, times 2^32, by the mixture that the prior gives its latent. */
static int64_t rate_of(const smalti_search *s, int64_t latent, const int32_t *outputs, int64_t symbol) {
    int64_t low = s->low[latent], high = s->high[latent], step = s->steps[latent], room = TOTAL - (high - low + 1);
    int32_t count = s->components, left = 1 << WEIGHT_BITS;
    if (low == high)
        return 0;
    logistic mixture[SMALTI_COMPONENTS];
    for (int32_t k = 0; k < count; k++)
        mixture[k] = make_logistic(s->logistics, k, count, outputs[k], outputs[count + k],
                                   k + 1 < count ? outputs[2 * count + k] : 0, &left);
    int64_t below = symbol == low ? 0 : cdf_at(s->logistics, mixture, count, (int32_t)((2 * symbol - 1) * step));
    int64_t up_to = symbol == high ? WHOLE : cdf_at(s->logistics, mixture, count, (int32_t)((2 * symbol + 1) * step));
    int64_t mass = (up_to * room >> WHOLE_BITS) - (below * room >> WHOLE_BITS) + 1;
    return bits_of(s->bits, (int32_t)mass) - ((int64_t)(WHOLE_BITS - PRECISION) << 32);
}

static bool in_range(const search *w, int64_t i, int64_t symbol) {
    int64_t latent = i % w->s->latents;
    return symbol >= w->s->low[latent] && symbol <= w->s->high[latent];
}

/* Give latent i another symbol in range, and return by how much the bits change, times 2^32. keep: whether it stays. */
static int64_t try_rate(search *w, int64_t i, int64_t symbol, bool keep) {
    const smalti_search *s = w->s;
    int64_t latent = i % s->latents, first = i - latent, outputs = 3 * s->components - 1, sum = 0;
    network *prior = w->priors + i / s->latents;
    set_unit(prior, s->prior_row[latent], s->prior_unit[latent], latent_of(s, i, symbol));
    run_stages(prior, 0, false, keep);
    int64_t padded = s->prior->stage[s->prior->stages - 1].padded;
    for (int32_t k = 0; k < prior->lasts; k++) {
        int64_t begin = prior->last[k] * padded, end = begin + padded;
        int64_t l = 0; /* the latents of this position stand together */
        for (int64_t high = s->latents; l < high;) {
            int64_t middle = (l + high) / 2;
            if (s->prior_sum[middle] < begin)
                l = middle + 1;
            else
                high = middle;
        }
        for (; l < s->latents && s->prior_sum[l] < end; l++) {
            const int32_t *now = prior->outputs + s->prior_sum[l];
            int32_t *base = w->bases + (first + l) * outputs;
            if (l == latent || s->low[l] == s->high[l] || !__builtin_memcmp(now, base, (size_t)outputs * sizeof *now))
                continue;
            int64_t rate = rate_of(s, l, now, w->symbols[first + l]);
            sum += rate - w->rates[first + l];
            if (keep) {
                __builtin_memcpy(base, now, (size_t)outputs * sizeof *base);
                w->rates[first + l] = rate;
            }
        }
    }
    forget_changes(prior);
    int64_t rate = rate_of(s, latent, w->bases + i * outputs, symbol); /* its mixture does not depend on itself */
    sum += rate - w->rates[i];
    if (keep)
        w->rates[i] = rate, w->sum += sum;
    return sum;
}

static void begin_rates(search *w) {
    const smalti_search *s = w->s;
    int64_t outputs = 3 * s->components - 1;
    w->sum = 0;
    for (int64_t p = 0; p < s->patches; p++) {
        network *prior = w->priors + p;
        begin_network(prior);
        for (int64_t l = 0; l < s->latents; l++) {
            int64_t i = p * s->latents + l;
            set_unit(prior, s->prior_row[l], s->prior_unit[l], latent_of(s, i, w->symbols[i]));
        }
        run_stages(prior, 0, true, true);
        forget_changes(prior);
        for (int64_t l = 0; l < s->latents; l++) {
            int64_t i = p * s->latents + l;
            int32_t *base = w->bases + i * outputs;
            __builtin_memcpy(base, prior->outputs + s->prior_sum[l], (size_t)outputs * sizeof *base);
            w->rates[i] = rate_of(s, l, base, w->symbols[i]);
            w->sum += w->rates[i];
        }
    }
}

/* ---- errors ---- */

static double dot(const int16_t *a, const int16_t *b, int64_t n) {
    int64_t total = 0;
    for (int64_t first = 0; first < n; first += DOT_PIECE) { /* each product is at most 2^16 */
        int64_t end = first + DOT_PIECE < n ? first + DOT_PIECE : n;
        int32_t sum = 0;
        for (int64_t i = first; i < end; i++)
            sum += a[i] * b[i];
        total += sum;
    }
    return (double)total;
}

/* How the pixels change with the units that have changed; nothing is forgotten. */
static void take_change(const search *w, int16_t *change) {
    const smalti_search *s = w->s;
    const int16_t *kept = w->image.kept, *units = w->image.units;
    for (int64_t i = 0; i < s->pixels; i++) {
        int32_t unit = s->pixel_unit[i];
        change[i] = (int16_t)(s->table[units[unit]] - s->table[kept[unit]]);
    }
}

/* The cost of the symbols as they are kept, by their bits and what is left of the image. */
static double cost(const search *w) {
    double bits = (double)w->sum * (1.0 / 4294967296.0);
    return bits + w->multiplier * (dot(w->rest, w->rest, w->s->pixels) / 65025.0);
}

static void set_rest(search *w) {
    for (int64_t i = 0; i < w->s->pixels; i++)
        w->rest[i] = (int16_t)(w->x[i] - w->s->table[w->image.kept[w->s->pixel_unit[i]]]);
}

static void begin_image(search *w, const int16_t *units, int64_t inputs) {
    const smalti_search *s = w->s;
    const smalti_net *net = s->image;
    begin_network(&w->image);
    for (int64_t i = 0; i < w->size; i++)
        set_unit(&w->image, s->image_row[i], s->image_unit[i], latent_of(s, i, w->symbols[i]));
    for (int64_t row = 0; row < net->rows && net->starts[row] < inputs; row++)
        for (int32_t c = 0; c < net->channels[row]; c++)
            if (units[net->starts[row] + c])
                set_unit(&w->image, (int32_t)row, net->starts[row] + c, units[net->starts[row] + c]);
    run_stages(&w->image, 0, true, true);
    forget_changes(&w->image);
    set_rest(w);
}

/* Let latents of the image have the symbols that they are to keep. */
static void keep_image(search *w, const int64_t *latents, const int64_t *symbols, int64_t n) {
    for (int64_t k = 0; k < n; k++)
        set_unit(&w->image, w->s->image_row[latents[k]], w->s->image_unit[latents[k]],
                 latent_of(w->s, latents[k], symbols[k]));
    run_stages(&w->image, 0, false, true);
    forget_changes(&w->image);
    set_rest(w);
}

/* ---- passes ---- */

/* Try a step up and down of each hopeful latent: what it costs in bits. */
static void try_rates(search *w) {
    for (int side = 0; side < 2; side++)
        for (int64_t a = 0; a < w->count; a++) {
            int64_t i = w->hopeful[a], k = side * w->count + a;
            int64_t next = side == STEP_UP ? w->symbols[i] + 1 : w->symbols[i] - 1;
            w->costs[k] = in_range(w, i, next) ? (double)try_rate(w, i, next, false) * (1.0 / 4294967296.0) : INFINITY;
            w->left[k] = true;
        }
}

static bool is_fixed(const smalti_search *s, int64_t i) { return s->low[i % s->latents] == s->high[i % s->latents]; }

static void set_step_up(search *w, int64_t a) {
    int64_t i = w->hopeful[a];
    set_unit(&w->image, w->s->image_row[i], w->s->image_unit[i], latent_of(w->s, i, w->symbols[i] + 1));
}

/* Try a step up of each hopeful latent: how the image changes. This has a loop of its own, for the weights of one
 * network fit in the processor's cache, but not those of two. */
static void try_images(search *w) {
    const smalti_search *s = w->s;
    int64_t padded = 0;
    if (w->wide) {
        padded = s->image->stage[1].padded;
        for (int64_t a = 0; a < w->count; a++) {
            set_step_up(w, a);
            read_wide(&w->image, w->wide + a);
        }
        add_wide(&w->image, w->wide, w->count, w->wide_sums);
    }
    for (int64_t a = 0; a < w->count; a++) {
        int16_t *change = w->change + a * s->pixels;
        if (is_fixed(s, w->hopeful[a])) {
            __builtin_memset(change, 0, (size_t)s->pixels * sizeof *change);
        } else {
            set_step_up(w, a);
            run_stages(&w->image, w->wide ? w->wide_sums + a * padded : 0, false, false);
            take_change(w, change);
            forget_changes(&w->image);
        }
        double toward = dot(change, w->rest, s->pixels) * w->weight, own = dot(change, change, s->pixels) * w->weight;
        double up = 2 * toward - own - w->costs[a], down = -2 * toward - own - w->costs[w->count + a];
        w->toward[a] = toward, w->own[a] = own, w->gain[a] = up > down ? up : down;
    }
}

/* Find the step that gains most, as if the image were linear in the steps; return its number, or -1 if none gains. */
static int64_t best_step(const search *w) {
    double most = 0;
    int64_t best = -1;
    for (int side = 0; side < 2; side++)
        for (int64_t a = 0; a < w->count; a++) {
            if (!w->left[side * w->count + a])
                continue;
            double twice = side == STEP_UP ? 2 * w->toward[a] : -2 * w->toward[a];
            double gain = twice - w->own[a] - w->costs[side * w->count + a];
            if (gain > most)
                most = gain, best = side * w->count + a;
        }
    return best;
}

/* Keep the more hopeful half of the latents, those that gain most first. */
static void halve(search *w) {
    int64_t n = w->count, half = n / 2 > SMALTI_MOVES ? n / 2 : SMALTI_MOVES;
    for (int64_t a = 0; a < n; a++) {
        int64_t place = a;
        for (; place > 0 && w->gain[w->order[place - 1]] < w->gain[a]; place--)
            w->order[place] = w->order[place - 1];
        w->order[place] = a;
    }
    for (int64_t a = 0; a < n; a++)
        w->order[a] = w->hopeful[w->order[a]];
    __builtin_memcpy(w->hopeful, w->order, (size_t)n * sizeof *w->hopeful);
    w->count = half < n ? half : n;
}

/* Take the best step, the best two, ..., and keep as many of them as cost least. Return whether any pays. */
static bool take_steps(search *w, double *least) {
    const smalti_search *s = w->s;
    int64_t latents[SMALTI_MOVES], old[SMALTI_MOVES], n = 0, kept = 0;
    for (; n < SMALTI_MOVES; n++) {
        int64_t best = best_step(w);
        if (best < 0)
            break;
        int64_t a = best % w->count, i = latents[n] = w->hopeful[a], up = best < w->count;
        old[n] = w->symbols[i];
        const int16_t *change = w->change + a * s->pixels;
        for (int64_t b = 0; b < w->count; b++) {
            double product = dot(w->change + b * s->pixels, change, s->pixels) * w->weight;
            w->toward[b] = up ? w->toward[b] - product : w->toward[b] + product;
        }
        w->left[a] = w->left[w->count + a] = false;
        try_rate(w, i, up ? old[n] + 1 : old[n] - 1, true);
        w->symbols[i] = up ? old[n] + 1 : old[n] - 1;
        keep_image(w, latents + n, w->symbols + i, 1);
        double now = cost(w);
        if (now < *least)
            *least = now, kept = n + 1;
    }
    if (kept < n) { /* too many were taken */
        for (int64_t k = n - 1; k >= kept; k--) {
            try_rate(w, latents[k], old[k], true);
            w->symbols[latents[k]] = old[k];
        }
        keep_image(w, latents + kept, old + kept, n - kept);
    }
    return kept > 0;
}

static bool fits(const smalti_net *net) {
    for (int32_t s = 0; s < net->stages; s++)
        if (net->stage[s].taps > SMALTI_TAPS)
            return false;
    return true;
}

int32_t smalti_refine(const smalti_search *s, const uint8_t *pixels, const int16_t *units, int64_t inputs,
                      double multiplier, int64_t *hopeful, int64_t count, int64_t *symbols, uint8_t *work) {
    search w;
    if (s->components > SMALTI_COMPONENTS || !fits(s->image) || !fits(s->prior))
        return SMALTI_FULL;
    lay_out(&w, s, count, work + -(uintptr_t)work % 64);
    w.x = pixels, w.multiplier = multiplier, w.weight = multiplier / 65025.0;
    w.hopeful = hopeful, w.symbols = symbols;
    begin_rates(&w);
    begin_image(&w, units, inputs);
    double least = cost(&w);
    for (int32_t pass = 0; pass < s->passes && w.count; pass++) {
        try_rates(&w);
        try_images(&w);
        if (!take_steps(&w, &least))
            break;
        halve(&w);
    }
    return SMALTI_OK;
}
