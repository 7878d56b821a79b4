/* SPDX-License-Identifier: MIT
 *
 * Code spatial latents (model/spatial_prior.py): even positions first, then odd ones, which see their neighbours; in
 * each pass latent by latent, and there table by table. */
#include "mlp.h"
#include "rans.h"

enum { SHARES = 8, WIDTHS = 37, WIDTH_LOW = 40, TABLES = SHARES * WIDTHS, BASE_MAX = 64, REACH = 448 + BASE_MAX };
enum { ENTRIES = 2 * REACH + 1, INVERSE_BITS_OF_STEPS = 16, ONE = 128 };

typedef struct {
    const smalti_spatial *prior;
    const smalti_positions *places;
    mlp_walk walk;
    int64_t c, size;           /* latents of a position; positions of an image */
    int64_t *rows;             /* of the walk: the position of each, among those of all images */
    int32_t *which, *tables;   /* of the walk: operating points; of a column: tables, */
    int64_t *bases, *order;    /* bases, and the rows in the order of the stream */
    int16_t *context, *latents; /* of a row: its context, and the latents of a group */
} spatial_walk;

static int64_t lay_out(spatial_walk *w, const smalti_spatial *prior, const smalti_positions *places, int64_t most,
                       uint8_t *work) {
    int64_t used = 0;
    const smalti_mlp *mlp = prior->mlp;
    w->prior = prior, w->places = places, w->c = mlp->groups * mlp->group, w->size = places->h * places->w;
    lay_out_mlp(&w->walk, mlp, most, work, &used);
    w->rows = grab(work, &used, most * (int64_t)sizeof *w->rows);
    w->which = grab(work, &used, most * (int64_t)sizeof *w->which);
    w->tables = grab(work, &used, most * (int64_t)sizeof *w->tables);
    w->bases = grab(work, &used, most * (int64_t)sizeof *w->bases);
    w->order = grab(work, &used, most * (int64_t)sizeof *w->order);
    w->context = grab(work, &used, (mlp->context + SMALTI_SLACK) * (int64_t)sizeof *w->context);
    w->latents = grab(work, &used, mlp->group * (int64_t)sizeof *w->latents);
    return used;
}

static int64_t rows_of_pass(const smalti_positions *places) { return places->n * ((places->h * places->w + 1) / 2); }

int64_t smalti_spatial_work(const smalti_spatial *prior, const smalti_positions *places) {
    spatial_walk w;
    int64_t most = rows_of_pass(places);
    return lay_out(&w, prior, places, most > SMALTI_ROWS ? most : SMALTI_ROWS, 0) + 64;
}

/* The input that a latent gives the network. */
static int16_t input_of(const spatial_walk *w, const int64_t *symbols, int64_t image, int64_t l, int64_t place) {
    int64_t step = w->prior->steps[w->places->which[image] * w->c + l];
    int16_t half = latent_at(symbols[(image * w->c + l) * w->size + place], step) >> 1;
    return half < -ACTIVATION_MAX ? -ACTIVATION_MAX : half > ACTIVATION_MAX ? ACTIVATION_MAX : half;
}

/* Tell row i of the walk its context: features, at odd positions the neighbours, and whether it is odd. */
static void tell_context(spatial_walk *w, const int64_t *symbols, int64_t i) {
    const smalti_positions *places = w->places;
    int64_t image = w->rows[i] / w->size, place = w->rows[i] % w->size, y = place / places->w, x = place % places->w;
    int16_t *to = w->context;
    __builtin_memset(to, 0, (size_t)(w->prior->mlp->context + SMALTI_SLACK) * sizeof *to);
    const float *features = places->features + image * w->prior->features * w->size + place;
    for (int64_t k = 0; k < w->prior->features; k++)
        to[k] = (int16_t)features[k * w->size];
    if ((x + y) % 2) {
        const int64_t sides[4][2] = {{-1, 0}, {1, 0}, {0, -1}, {0, 1}};
        to += w->prior->features;
        for (int side = 0; side < 4; side++, to += w->c) {
            int64_t row = y + sides[side][0], column = x + sides[side][1];
            if (row < 0 || row >= places->h || column < 0 || column >= places->w)
                continue;
            for (int64_t l = 0; l < w->c; l++)
                to[l] = input_of(w, symbols, image, l, row * places->w + column);
        }
        *to = ONE;
    }
    set_context(&w->walk, i, w->context);
}

/* Find the symbol nearest to the centre of row i, and the table, for latent j of the group. */
static int32_t choose(const spatial_walk *w, int64_t i, int64_t j, int64_t *base) {
    const smalti_mlp *mlp = w->prior->mlp;
    const int64_t *outputs = w->walk.outputs + i * mlp->outputs + 2 * j;
    int64_t at = w->which[i] * w->c + w->walk.group * mlp->group + j;
    int64_t centre = outputs[0] < -LATENT_MAX ? -LATENT_MAX : outputs[0] > LATENT_MAX ? LATENT_MAX : outputs[0];
    int64_t share = (centre * w->prior->inverses[at] + (1 << (INVERSE_BITS_OF_STEPS - 1))) >> INVERSE_BITS_OF_STEPS;
    int64_t whole = (share + SHARES / 2) >> 3, width = (outputs[1] - w->prior->octaves[at] + WIDTH_LOW + 1) >> 1;
    whole = whole < -BASE_MAX ? -BASE_MAX : whole > BASE_MAX ? BASE_MAX : whole;
    int64_t rest = share - whole * SHARES + SHARES / 2;
    rest = rest < 0 ? 0 : rest >= SHARES ? SHARES - 1 : rest;
    width = width < 0 ? 0 : width >= WIDTHS ? WIDTHS - 1 : width;
    *base = whole;
    return (int32_t)(width * SHARES + rest);
}

/* ---- decoding ---- */

static bool is_active(const spatial_walk *w, int64_t i, int64_t l) { return w->prior->active[w->which[i] * w->c + l]; }

/* Decode latent j of the group for all rows where it is coded. */
static void take_column(spatial_walk *w, int64_t j, smalti_stream *streams, const int32_t *of, int64_t *symbols) {
    int64_t places[TABLES + 1] = {0}, l = w->walk.group * w->prior->mlp->group + j, count = 0, stop;
    for (int64_t i = 0; i < w->walk.n; i++)
        if (is_active(w, i, l))
            w->tables[i] = choose(w, i, j, w->bases + i), places[w->tables[i] + 1]++, count++;
    for (int32_t t = 0; t < TABLES; t++)
        places[t + 1] += places[t];
    for (int64_t i = 0; i < w->walk.n; i++)
        if (is_active(w, i, l))
            w->order[places[w->tables[i]]++] = i;
    for (int64_t k = 0; k < count; k++) {
        int64_t i = w->order[k], image = w->rows[i] / w->size, entry = 0, end = ENTRIES;
        const int64_t *starts = w->prior->starts + (int64_t)w->tables[i] * ENTRIES;
        smalti_stream *stream = streams + of[image];
        int64_t quantile = rans_quantile(stream);
        while (end - entry > 1) { /* the symbol is among entry .. end - 1 */
            int64_t middle = (entry + end) / 2;
            if (starts[middle] > quantile)
                end = middle;
            else
                entry = middle;
        }
        stop = entry + 1 < ENTRIES ? starts[entry + 1] : TOTAL;
        rans_advance(stream, (uint32_t)starts[entry], (uint32_t)(stop - starts[entry]));
        symbols[(image * w->c + l) * w->size + w->rows[i] % w->size] = w->bases[i] - REACH + entry;
    }
}

/* List the rows of a pass; return how many latents are coded in it, up to the last one. */
static int64_t begin_pass(spatial_walk *w, int64_t odd) {
    const smalti_positions *places = w->places;
    int64_t n = 0, used = 0;
    for (int64_t image = 0; image < places->n; image++)
        for (int64_t place = 0; place < w->size; place++)
            if ((place / places->w + place % places->w) % 2 == odd)
                w->which[n] = places->which[image], w->rows[n++] = image * w->size + place;
    begin_mlp(&w->walk, n, w->which);
    for (int64_t i = 0; i < n; i++)
        for (int64_t l = used; l < w->c; l++)
            if (is_active(w, i, l))
                used = l + 1;
    return used;
}

/* Tell all rows the latents of the group. */
static void tell_latents(spatial_walk *w, const int64_t *symbols) {
    const smalti_mlp *mlp = w->prior->mlp;
    for (int64_t i = 0; i < w->walk.n; i++) {
        int64_t image = w->rows[i] / w->size, place = w->rows[i] % w->size;
        for (int64_t j = 0; j < mlp->group; j++)
            w->latents[j] = input_of(w, symbols, image, w->walk.group * mlp->group + j, place);
        set_latents(&w->walk, i, w->latents);
    }
}

int32_t smalti_take_spatial(const smalti_spatial *prior, const smalti_positions *places, smalti_stream *streams,
                            const int32_t *of, int64_t *symbols, uint8_t *work) {
    const smalti_mlp *mlp = prior->mlp;
    spatial_walk w;
    lay_out(&w, prior, places, rows_of_pass(places), work + -(uintptr_t)work % 64);
    for (int64_t odd = 0; odd < 2; odd++) {
        int64_t used = begin_pass(&w, odd);
        for (int64_t i = 0; i < w.walk.n && used; i++)
            tell_context(&w, symbols, i);
        for (; w.walk.group * mlp->group < used; w.walk.group++) {
            run_group(&w.walk);
            for (int64_t j = 0; j < mlp->group; j++)
                take_column(&w, j, streams, of, symbols);
            tell_latents(&w, symbols);
        }
    }
    return SMALTI_OK;
}

/* ---- encoding ---- */

int32_t smalti_spatial_tables(const smalti_spatial *prior, const smalti_positions *places, const int64_t *symbols,
                              int64_t *base, int64_t *table, uint8_t *work) {
    const smalti_mlp *mlp = prior->mlp;
    spatial_walk w;
    lay_out(&w, prior, places, SMALTI_ROWS, work + -(uintptr_t)work % 64);
    for (int64_t first = 0, all = places->n * w.size; first < all; first += SMALTI_ROWS) {
        int64_t n = all - first < SMALTI_ROWS ? all - first : SMALTI_ROWS;
        for (int64_t i = 0; i < n; i++)
            w.rows[i] = first + i, w.which[i] = places->which[(first + i) / w.size];
        begin_mlp(&w.walk, n, w.which);
        for (int64_t i = 0; i < n; i++)
            tell_context(&w, symbols, i);
        for (; w.walk.group < mlp->groups; w.walk.group++) {
            run_group(&w.walk);
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = 0; j < mlp->group; j++) {
                    int64_t at = (first + i) * w.c + w.walk.group * mlp->group + j;
                    table[at] = choose(&w, i, j, base + at);
                }
            tell_latents(&w, symbols);
        }
    }
    return SMALTI_OK;
}
