/* SPDX-License-Identifier: MIT
 *
 * Decode latents: a symbol is searched in the distribution of its mixture, of which no whole table is made. */
#include "mixture.h"
#include "mlp.h"
#include "rans.h"

/* Make a mixture of what the network gave. */
static void read_mixture(const smalti_logistics *tables, int32_t count, const int64_t *outputs, logistic *mixture) {
    int32_t left = 1 << WEIGHT_BITS;
    for (int32_t k = 0; k < count; k++)
        mixture[k] = make_logistic(tables, k, count, (int32_t)outputs[k], (int32_t)outputs[count + k],
                                   k + 1 < count ? (int32_t)outputs[2 * count + k] : 0, &left);
}

int32_t smalti_take_mixtures(smalti_stream *stream, const smalti_logistics *tables, const smalti_column *column,
                             int64_t *symbols) {
    const int32_t count = column->components;
    const int64_t room = TOTAL - (column->high - column->low + 1);
    if (count < 1 || count > SMALTI_COMPONENTS)
        return SMALTI_FULL;
    for (int64_t i = 0; i < column->n; i++) {
        logistic mixture[SMALTI_COMPONENTS];
        const int64_t *outputs = column->outputs + i * column->stride;
        int32_t quantile = (int32_t)rans_quantile(stream);
        read_mixture(tables, count, outputs, mixture);
        int64_t symbol = column->low, end = column->high + 1;
        int32_t start = 0, stop = TOTAL;
        while (end - symbol > 1) { /* the symbol is among symbol .. end - 1 */
            int64_t middle = symbol + (end - symbol) / 2;
            int32_t below = cdf_at(tables, mixture, count, (int32_t)((2 * middle - 1) * column->steps[i]));
            int32_t at = (int32_t)((below * room >> WHOLE_BITS) + middle - column->low);
            if (at > quantile)
                end = middle, stop = at;
            else
                symbol = middle, start = at;
        }
        if (column->high > column->low) /* else the symbol is certain and takes no bits */
            rans_advance(stream, (uint32_t)start, (uint32_t)(stop - start));
        symbols[i] = symbol;
    }
    return SMALTI_OK;
}

int32_t smalti_take_mixtures_each(smalti_stream *streams, int64_t count, const smalti_logistics *tables,
                                  const smalti_column *column, int64_t *symbols) {
    smalti_column part = *column;
    part.n = count ? column->n / count : 0;
    for (int64_t i = 0; i < count; i++) {
        part.outputs = column->outputs + i * part.n * column->stride;
        part.steps = column->steps + i * part.n;
        int32_t code = smalti_take_mixtures(streams + i, tables, &part, symbols + i * part.n);
        if (code != SMALTI_OK)
            return code;
    }
    return SMALTI_OK;
}

/* ---- the latents of patches ---- */

/* What the two functions below need: the walk, and the latents and symbols of a column and of a group. */
typedef struct {
    mlp_walk walk;
    int64_t *steps, *symbols; /* n */
    int16_t *latents;         /* n group; one row of it if all symbols are known */
} latents_walk;

static int64_t lay_out(latents_walk *w, const smalti_mlp *mlp, int64_t n, uint8_t *work) {
    int64_t used = 0;
    lay_out_mlp(&w->walk, mlp, n, work, &used);
    w->steps = grab(work, &used, n * (int64_t)sizeof *w->steps);
    w->symbols = grab(work, &used, n * (int64_t)sizeof *w->symbols);
    w->latents = grab(work, &used, n * mlp->group * (int64_t)sizeof *w->latents);
    return used;
}

int64_t smalti_latents_work(const smalti_mlp *mlp, int64_t n) {
    latents_walk w;
    return lay_out(&w, mlp, n > SMALTI_ROWS ? n : SMALTI_ROWS, 0) + 64;
}

int32_t smalti_take_latents(const smalti_mlp *mlp, const smalti_logistics *tables, const smalti_latents *latents,
                            smalti_stream *streams, int64_t count, int64_t *symbols, uint8_t *work) {
    const int64_t n = latents->n, each = mlp->outputs / mlp->group, all = mlp->groups * mlp->group;
    latents_walk w;
    lay_out(&w, mlp, n, work + -(uintptr_t)work % 64);
    begin_mlp(&w.walk, n, latents->which);
    for (; w.walk.group < mlp->groups; w.walk.group++) {
        run_group(&w.walk);
        for (int64_t j = 0; j < mlp->group; j++) {
            int64_t l = w.walk.group * mlp->group + j;
            for (int64_t i = 0; i < n; i++)
                w.steps[i] = latents->steps[latents->which[i] * all + l];
            smalti_column column = {n, mlp->outputs, latents->low[l], latents->high[l], w.walk.outputs + j * each,
                                    w.steps, latents->components, 0};
            int32_t code = smalti_take_mixtures_each(streams, count, tables, &column, w.symbols);
            if (code != SMALTI_OK)
                return code;
            for (int64_t i = 0; i < n; i++) {
                symbols[i * all + l] = w.symbols[i];
                w.latents[i * mlp->group + j] = latent_at(w.symbols[i], w.steps[i]);
            }
        }
        for (int64_t i = 0; i < n; i++)
            set_latents(&w.walk, i, w.latents + i * mlp->group);
    }
    return SMALTI_OK;
}

/* Compute what smalti_latent_cdf does for a row whose group has run. */
static void take_cdf(const latents_walk *w, const smalti_logistics *tables, int32_t count, int64_t i,
                     const int64_t *steps, const int64_t *symbols, int64_t *cdf) {
    const smalti_mlp *mlp = w->walk.mlp;
    for (int64_t j = 0; j < mlp->group; j++) {
        const int64_t *outputs = w->walk.outputs + i * mlp->outputs + j * (mlp->outputs / mlp->group);
        logistic mixture[SMALTI_COMPONENTS];
        read_mixture(tables, count, outputs, mixture);
        for (int64_t end = 0; end < 2; end++)
            cdf[2 * j + end] = cdf_at(tables, mixture, count, (int32_t)((2 * (symbols[j] + end) - 1) * steps[j]));
        w->latents[j] = latent_at(symbols[j], steps[j]);
    }
}

int32_t smalti_latent_cdf(const smalti_mlp *mlp, const smalti_logistics *tables, const smalti_latents *latents,
                          const int64_t *symbols, int64_t *cdf, uint8_t *work) {
    const int64_t all = mlp->groups * mlp->group;
    latents_walk w;
    if (latents->components < 1 || latents->components > SMALTI_COMPONENTS)
        return SMALTI_FULL;
    lay_out(&w, mlp, SMALTI_ROWS, work + -(uintptr_t)work % 64);
    for (int64_t first = 0; first < latents->n; first += SMALTI_ROWS) {
        int64_t n = latents->n - first < SMALTI_ROWS ? latents->n - first : SMALTI_ROWS;
        begin_mlp(&w.walk, n, latents->which + first);
        for (; w.walk.group < mlp->groups; w.walk.group++) {
            run_group(&w.walk);
            for (int64_t i = 0; i < n; i++) {
                int64_t at = (first + i) * all + w.walk.group * mlp->group;
                const int64_t *steps = latents->steps + latents->which[first + i] * all + w.walk.group * mlp->group;
                take_cdf(&w, tables, latents->components, i, steps, symbols + at, cdf + 2 * at);
                set_latents(&w.walk, i, w.latents);
            }
        }
    }
    return SMALTI_OK;
}
