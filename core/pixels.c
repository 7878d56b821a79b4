/* SPDX-License-Identifier: MIT
 *
 * Code planes of samples by pixels: the wavefront of model/wavefront.py, with network, mixture and rANS in one pass.
 *
 * A step takes all samples whose causal windows are complete. For each it finds the mixture of logistics: by the network
 * for windows that are not empty, from a small table for those that are. Then it decodes the levels, or chooses them and
 * records their symbols. */
#include "mixture.h"
#include "network.h"
#include "rans.h"

enum { ROWS = 64, COLUMNS = 64, MAX_ERROR = 126, SAMPLE_MAX = 255, NIBBLE = 16, LEVEL_UNITS = 16 };
enum { LEAST_MASS = 1 << (WHOLE_BITS - 23) };
enum { SLOTS = SMALTI_CHUNK + 1 }; /* samples that the network takes at a time, and one empty window */

/* A sample of the step, with its level. Its mixture is the row of the same number in `mixtures`. */
typedef struct {
    int64_t plane, row, column;
    int32_t error, level;
} place;

/* A sample that is not zero, between its symbols: the borders around its sixteen levels. */
typedef struct {
    int64_t sample;
    int32_t low, high;
} pending;

typedef struct {
    const smalti_prior *prior;
    const smalti_planes *planes;
    const kernel *run;
    int64_t side, stride_row, stride_plane, lag;   /* samples */
    int64_t reach, left, width, mixture;           /* samples of the window; units of a layer; logistics + 1 */
    place *places;                                 /* of the step */
    pending *rest;
    logistic *mixtures;                            /* the first of each sample has its Z as `share` */
    logistic *empty;                               /* those of empty windows, for each largest error, */
    int64_t *empty_at;                             /* if this is the number of the row and step */
    inputs x, a, b;                                /* of the network: windows, units, units */
    int64_t slots[SMALTI_CHUNK];                   /* the sample of each slot */
    int32_t *sums, *bases, *outputs;               /* of a place without window, of each slot; what the network gives */
    const int32_t *biases[SLOTS];
} walk;

/* ---- working memory ---- */

static int64_t walk_side(const smalti_prior *prior) {
    int32_t most = prior->reach > prior->left ? prior->reach : prior->left;
    return (int64_t)most * prior->channels;
}

static int64_t padded_outputs(const smalti_prior *prior) { return prior->layer[prior->layers - 1].outputs; }

static inputs grab_inputs(uint8_t *work, int64_t *used, int64_t pairs) {
    inputs in = {0, (pairs + 15) / 16 * 16 + 16, 0, 0, 0, 0};
    in.x = grab(work, used, SLOTS * in.stride * 2 * (int64_t)sizeof *in.x);
    in.values = grab(work, used, SLOTS * in.stride * (int64_t)sizeof *in.values);
    in.indices = grab(work, used, SLOTS * in.stride * (int64_t)sizeof *in.indices);
    in.counts = grab(work, used, SLOTS * (int64_t)sizeof *in.counts);
    return in;
}

/* Lay out a walk in the working memory, and return the bytes that it takes. */
static int64_t lay_out(walk *w, const smalti_prior *prior, const smalti_planes *planes, uint8_t *work) {
    int64_t used = 0;
    w->prior = prior, w->planes = planes, w->run = find_kernel(prior->kernel);
    w->side = walk_side(prior);
    w->stride_row = planes->m + 2 * w->side;
    w->stride_plane = (prior->above + planes->h) * w->stride_row;
    w->lag = (int64_t)prior->reach * prior->channels + 1;
    w->reach = (int64_t)prior->reach * prior->channels, w->left = (int64_t)prior->left * prior->channels;
    w->width = prior->layer[0].outputs;
    w->mixture = prior->components + 1;
    int64_t rows = (planes->m - 1) / w->lag + 1, most = planes->n * (rows < planes->h ? rows : planes->h);
    w->places = grab(work, &used, most * (int64_t)sizeof *w->places);
    w->rest = grab(work, &used, most * (int64_t)sizeof *w->rest);
    w->mixtures = grab(work, &used, most * w->mixture * (int64_t)sizeof *w->mixtures);
    w->empty = grab(work, &used, (MAX_ERROR + 1) * w->mixture * (int64_t)sizeof *w->empty);
    w->empty_at = grab(work, &used, (MAX_ERROR + 1) * (int64_t)sizeof *w->empty_at);
    w->x = grab_inputs(work, &used, prior->layer[0].pairs);
    w->a = grab_inputs(work, &used, w->width / 2);
    w->b = grab_inputs(work, &used, w->width / 2);
    w->bases = grab(work, &used, SLOTS * w->width * (int64_t)sizeof *w->bases);
    w->outputs = grab(work, &used, SLOTS * padded_outputs(prior) * (int64_t)sizeof *w->outputs);
    return used;
}

int64_t smalti_work(const smalti_prior *prior, const smalti_planes *planes) {
    walk w;
    return lay_out(&w, prior, planes, 0) + 64;
}

static void begin(walk *w, const smalti_prior *prior, const smalti_planes *planes, uint8_t *work) {
    int64_t used = lay_out(w, prior, planes, 0);
    work += -(uintptr_t)work % 64;
    __builtin_memset(work, 0, (size_t)used);
    lay_out(w, prior, planes, work);
}

/* ---- mixtures ---- */

static inline int32_t level_count(int32_t error) { return (SAMPLE_MAX + error) / (2 * error + 1) + 1; }

/* The distribution below a level of at least 1; 2^28 beyond the last. */
static inline int32_t below(const walk *w, const logistic *mixture, int32_t error, int32_t level) {
    if (level >= level_count(error))
        return WHOLE;
    int32_t edge = (2 * (level * (2 * error + 1) - error) - 1) * LEVEL_UNITS;
    return cdf_at(&w->prior->logistics, mixture + 1, w->prior->components, edge);
}

/* Make the mixture that the outputs of the network tell; its first entry gets Z, the distribution below level 1. */
static void make_mixture(const walk *w, const int32_t *outputs, int32_t error, logistic *mixture) {
    const smalti_prior *prior = w->prior;
    int32_t count = prior->components, left = 1 << WEIGHT_BITS;
    for (int32_t k = 0; k < count; k++)
        mixture[k + 1] = make_logistic(&prior->logistics, k, count, outputs[k], outputs[count + k],
                                       k + 1 < count ? outputs[2 * count + k] : 0, &left);
    mixture[0].share = below(w, mixture, error, 1);
}

/* ---- the network ---- */

/* Run the network on the first n samples of w->x, from slot `first` on; the results are in w->outputs. */
static void run_network(walk *w, int64_t first, int64_t n) {
    const smalti_prior *prior = w->prior;
    inputs in = w->x, to = w->a, other = w->b;
    const int32_t *biases[SLOTS];
    in.n = to.n = other.n = n;
    in.x += 2 * first * in.stride, in.counts += first;
    in.values += first * in.stride, in.indices += first * in.stride;
    w->run->layer(&prior->layer[0], FIRST, &in, w->biases + first, &to, 0);
    for (int32_t i = 1; i < prior->layers; i++) {
        const smalti_layer *layer = &prior->layer[i];
        for (int64_t k = 0; k < n; k++) {
            biases[k] = layer->biases;
            list_pairs(w->run, &to, k, layer->pairs);
        }
        w->run->layer(layer, i + 1 < prior->layers ? MIDDLE : LAST, &to, biases, &other, w->outputs);
        inputs swap = to;
        to = other, other = swap;
    }
}

/* Set the biases of the first layer for a sample of a slot; those of the slot before serve again where they can. */
static void set_biases(walk *w, int64_t slot, const place *at, const place *before) {
    if (before && before->row == at->row && before->column == at->column && before->error == at->error) {
        w->biases[slot] = w->biases[slot - 1];
        return;
    }
    const smalti_prior *prior = w->prior;
    int64_t c = prior->channels, row = at->row < ROWS ? at->row : ROWS - 1, column = at->column / c;
    column = (column < COLUMNS ? column : COLUMNS - 1) * c + at->column % c;
    const int32_t *of_row = prior->rows + row * w->width, *of_column = prior->columns + column * w->width;
    const int32_t *of_error = prior->errors + at->error * w->width, *bias = prior->layer[0].biases;
    int32_t *sums = w->bases + slot * w->width;
    for (int64_t u = 0; u < w->width; u++)
        sums[u] = bias[u] + of_row[u] + of_column[u] + of_error[u];
    w->biases[slot] = sums;
}

/* Copy the causal window of a sample to a slot; say whether any sample of it is not zero. */
static bool take_window(walk *w, int64_t slot, const place *at) {
    const smalti_prior *prior = w->prior;
    const uint8_t *samples = w->planes->padded + at->plane * w->stride_plane + at->row * w->stride_row;
    window from = {samples + at->column + w->side, w->stride_row, prior->above, w->reach, w->left};
    if (!w->run->copy(&from, w->x.x + 2 * slot * w->x.stride))
        return false;
    list_pairs(w->run, &w->x, slot, prior->layer[0].pairs);
    return true;
}

static void finish_chunk(walk *w, int64_t n) {
    if (!n)
        return;
    run_network(w, 0, n);
    for (int64_t k = 0; k < n; k++) {
        int64_t sample = w->slots[k];
        const int32_t *outputs = w->outputs + k * padded_outputs(w->prior);
        make_mixture(w, outputs, w->places[sample].error, w->mixtures + sample * w->mixture);
    }
}

/* Make the mixture of a sample whose window is empty. `now` is the number of the row and step. */
static void take_empty(walk *w, const place *at, int64_t now, logistic *mixture) {
    logistic *known = w->empty + at->error * w->mixture;
    if (w->empty_at[at->error] != now) {
        int64_t slot = SMALTI_CHUNK;
        w->x.counts[slot] = 0;
        set_biases(w, slot, at, 0);
        run_network(w, slot, 1);
        make_mixture(w, w->outputs, at->error, known);
        w->empty_at[at->error] = now;
    }
    __builtin_memcpy(mixture, known, (size_t)w->mixture * sizeof *mixture);
}

/* Find the samples of a step and their mixtures; return how many there are. */
static int64_t take_step(walk *w, int64_t step) {
    const smalti_planes *planes = w->planes;
    int64_t count = 0, used = 0, last = step / w->lag < planes->h - 1 ? step / w->lag : planes->h - 1;
    int64_t first = step < planes->m ? 0 : (step - planes->m) / w->lag + 1;
    for (int64_t row = first; row <= last; row++) {
        int64_t column = step - row * w->lag, now = step * planes->h + row + 1;
        for (int64_t i = 0; i < planes->n; i++) {
            if (row >= planes->sides[2 * i] || column >= planes->sides[2 * i + 1])
                continue;
            place *at = w->places + count;
            *at = (place){i, row, column, planes->errors[i], 0};
            if (take_window(w, used, at)) {
                set_biases(w, used, at, used ? w->places + w->slots[used - 1] : 0);
                w->slots[used++] = count;
            } else {
                take_empty(w, at, now, w->mixtures + count * w->mixture);
            }
            count++;
            if (used == SMALTI_CHUNK) {
                finish_chunk(w, used);
                used = 0;
            }
        }
    }
    finish_chunk(w, used);
    return count;
}

/* Set the samples of the step to their levels. */
static void set_samples(walk *w, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        const place *at = w->places + i;
        int32_t sample = at->level * (2 * at->error + 1);
        int64_t row = w->prior->above + at->row;
        w->planes->padded[at->plane * w->stride_plane + row * w->stride_row + at->column + w->side] =
            (uint8_t)(sample > SAMPLE_MAX ? SAMPLE_MAX : sample);
    }
}

/* ---- symbols ---- */

/* Record a symbol of kind 0, 1 or 2: sample zero or not, sixteen levels, one of them. */
static bool record(const walk *w, smalti_symbols *to, const place *at, int64_t step, int32_t kind, int32_t symbol,
                   const int32_t *bounds) {
    if (to->count >= to->capacity)
        return false;
    int64_t i = to->count++;
    to->images[i] = (uint32_t)w->planes->images[at->plane];
    to->keys[i] = (uint64_t)((step * 3 + kind) * w->planes->sides[2 * at->plane] + at->row);
    to->below[i] = (uint32_t)bounds[0], to->up_to[i] = (uint32_t)bounds[1], to->whole[i] = (uint32_t)bounds[2];
    to->kinds[i] = (uint8_t)(kind * SMALTI_KIND + symbol);
    return true;
}

/* Record the symbols of all samples of a step, whose levels are known: kind after kind. */
static bool record_step(walk *w, smalti_symbols *to, int64_t step, int64_t count) {
    int64_t rest = 0;
    bool room = true;
    for (int64_t i = 0; i < count; i++) {
        const place *at = w->places + i;
        int32_t zero = w->mixtures[i * w->mixture].share;
        bool other = at->level > 0;
        if (other)
            w->rest[rest++].sample = i;
        room &= record(w, to, at, step, 0, other, (int32_t[]){other ? zero : 0, other ? WHOLE : zero, WHOLE});
    }
    for (int64_t i = 0; i < rest; i++) {
        pending *p = w->rest + i;
        const place *at = w->places + p->sample;
        const logistic *mixture = w->mixtures + p->sample * w->mixture;
        int32_t zero = mixture[0].share, nibble = at->level / NIBBLE, first = nibble * NIBBLE;
        p->low = nibble ? below(w, mixture, at->error, first) : zero;
        p->high = below(w, mixture, at->error, first + NIBBLE);
        p->low = p->low < zero ? zero : p->low, p->high = p->high < zero ? zero : p->high;
        room &= record(w, to, at, step, 1, nibble, (int32_t[]){p->low - zero, p->high - zero, WHOLE - zero});
    }
    for (int64_t i = 0; i < rest; i++) {
        const pending *p = w->rest + i;
        const place *at = w->places + p->sample;
        const logistic *mixture = w->mixtures + p->sample * w->mixture;
        int32_t last = at->level % NIBBLE, low = p->low, high = p->high;
        int32_t start = last ? clip(below(w, mixture, at->error, at->level), low, high) : low;
        int32_t end = clip(below(w, mixture, at->error, at->level + 1), low, high);
        room &= record(w, to, at, step, 2, last, (int32_t[]){start - low, end - low, high - low});
    }
    return room;
}

/* ---- decoding ---- */

/* The least level of a sixteen, and how many there are; a search asks for the borders between them. */
typedef struct {
    const walk *w;
    const logistic *mixture;
    int32_t error, first, apart, low, high; /* borders: at levels first + apart * i, within low .. high */
} borders;

static int32_t border(const borders *b, int32_t i) {
    return clip(below(b->w, b->mixture, b->error, b->first + b->apart * i), b->low, b->high);
}

/* Decode one of n symbols between the borders low and high, without making their whole table. The two borders of the
 * symbol are returned in `found`. */
static int32_t decode_between(const borders *b, int32_t n, smalti_stream *stream, int32_t *found) {
    int64_t whole = b->high > b->low ? b->high - b->low : 1, room = TOTAL - n, quantile = rans_quantile(stream);
    int32_t symbol = 0, end = n, at_symbol = b->low, at_end = b->high;
    while (end - symbol > 1) { /* the symbol is among symbol .. end - 1 */
        int32_t middle = (symbol + end) / 2, at = border(b, middle);
        /* its start is (at - low) * room / whole, rounded down, + middle; is that more than the quantile? */
        if ((at - b->low) * room >= (quantile - middle + 1) * whole)
            end = middle, at_end = at;
        else
            symbol = middle, at_symbol = at;
    }
    int64_t start = (at_symbol - b->low) * room / whole;
    int64_t stop = end == n ? room : (at_end - b->low) * room / whole;
    rans_advance(stream, (uint32_t)(start + symbol), (uint32_t)(stop - start + 1));
    found[0] = at_symbol, found[1] = at_end;
    return symbol;
}

/* Decode the levels of the samples of a step. */
static bool decode_step(walk *w, int64_t count, smalti_stream *streams, const int32_t *of_plane) {
    int64_t rest = 0;
    int32_t most = level_count((int32_t)w->planes->least), found[2];
    int32_t nibbles = (most - 1) / NIBBLE + 1, others = most < NIBBLE ? most : NIBBLE;
    for (int64_t i = 0; i < count; i++) {
        place *at = w->places + i;
        smalti_stream *stream = streams + of_plane[at->plane];
        uint32_t zero = (uint32_t)(((int64_t)w->mixtures[i * w->mixture].share * (TOTAL - 2) >> WHOLE_BITS) + 1);
        if (rans_quantile(stream) < zero) {
            rans_advance(stream, 0, zero);
        } else {
            rans_advance(stream, zero, TOTAL - zero);
            w->rest[rest++].sample = i;
        }
    }
    for (int64_t i = 0; i < rest; i++) {
        pending *p = w->rest + i;
        place *at = w->places + p->sample;
        const logistic *mixture = w->mixtures + p->sample * w->mixture;
        borders b = {w, mixture, at->error, 0, NIBBLE, mixture[0].share, WHOLE};
        found[0] = b.low, found[1] = b.high;
        if (nibbles > 1)
            at->level = NIBBLE * decode_between(&b, nibbles, streams + of_plane[at->plane], found);
        p->low = found[0], p->high = found[1];
    }
    bool good = true;
    for (int64_t i = 0; i < rest; i++) {
        const pending *p = w->rest + i;
        place *at = w->places + p->sample;
        borders b = {w, w->mixtures + p->sample * w->mixture, at->error, at->level, 1, p->low, p->high};
        at->level += decode_between(&b, others, streams + of_plane[at->plane], found);
        good &= at->level > 0 && at->level < level_count(at->error);
    }
    return good;
}

int32_t smalti_decode(const smalti_prior *prior, const smalti_planes *planes, smalti_stream *streams,
                      const int32_t *of_plane, smalti_symbols *symbols, uint8_t *work) {
    walk w;
    begin(&w, prior, planes, work);
    int64_t steps = (planes->h - 1) * w.lag + planes->m;
    for (int64_t step = 0; step < steps; step++) {
        int64_t count = take_step(&w, step);
        if (!decode_step(&w, count, streams, of_plane))
            return SMALTI_NO_SUCH_LEVEL;
        if (symbols && !record_step(&w, symbols, step, count))
            return SMALTI_FULL;
        set_samples(&w, count);
    }
    return SMALTI_OK;
}

/* ---- encoding ---- */

/* The level that costs least in bits and error: the nearest one, its neighbours or 0. */
static int32_t cheapest(const walk *w, const place *at, const logistic *mixture, int32_t value, double lmbda,
                        const int64_t *log2s) {
    int32_t nearest = at->level, last = level_count(at->error) - 1, step = 2 * at->error + 1, best = nearest;
    int32_t tried[4] = {nearest, nearest ? nearest - 1 : 0, nearest < last ? nearest + 1 : last, 0};
    double least = 0;
    for (int i = 0; i < 4; i++) {
        int32_t level = tried[i], sample = level * step;
        int32_t mass = below(w, mixture, at->error, level + 1) - (level ? below(w, mixture, at->error, level) : 0);
        double rate = (double)bits_of(log2s, mass < LEAST_MASS ? LEAST_MASS : mass) * (1.0 / 4294967296.0);
        double off = (double)((sample > SAMPLE_MAX ? SAMPLE_MAX : sample) - value) / (double)step;
        double cost = off * off + lmbda * rate;
        if (i == 0 || cost < least)
            least = cost, best = level;
    }
    return best;
}

int32_t smalti_quantise(const smalti_prior *prior, const smalti_planes *planes, double lmbda, const int64_t *bits,
                        smalti_symbols *symbols, uint8_t *work) {
    walk w;
    begin(&w, prior, planes, work);
    int64_t steps = (planes->h - 1) * w.lag + planes->m;
    for (int64_t step = 0; step < steps; step++) {
        int64_t count = take_step(&w, step);
        for (int64_t i = 0; i < count; i++) {
            place *at = w.places + i;
            int32_t value = planes->values[(at->plane * planes->h + at->row) * planes->m + at->column];
            at->level = (value + at->error) / (2 * at->error + 1);
            if (lmbda != 0 && value != 0) /* black samples stay black */
                at->level = cheapest(&w, at, w.mixtures + i * w.mixture, value, lmbda, bits);
        }
        if (!record_step(&w, symbols, step, count))
            return SMALTI_FULL;
        set_samples(&w, count);
    }
    return SMALTI_OK;
}
