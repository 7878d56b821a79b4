/* SPDX-License-Identifier: MIT
 *
 * A masked MLP that runs group by group, on some rows at a time. */
#ifndef SMALTI_MLP_H
#define SMALTI_MLP_H

#include "network.h"

/* The pairs of units of each row that are not zero so far, and where their weights are in the block of a group. */
typedef struct {
    int32_t *values, *offsets, *counts; /* rows stride, rows stride, rows */
    int64_t stride;
} unit_lists;

typedef struct {
    const smalti_mlp *mlp;
    const kernel *run;
    int64_t n, group;                  /* rows; the group that comes next */
    const int32_t *which;              /* n: the biases of each row */
    unit_lists latents, first, second; /* of the inputs, and of both hidden layers */
    int32_t *known;                    /* n all_units: what the context gives the first layer; NULL without context */
    int16_t *units, *part, *nothing, *change; /* units: n unit_room */
    int32_t *sums, *values, *indices;
    int64_t *outputs;                  /* n outputs: those of the group that ran last */
} mlp_walk;

/* Lay out a walk over n rows in working memory; with no memory, only count the bytes. */
void lay_out_mlp(mlp_walk *w, const smalti_mlp *mlp, int64_t n, uint8_t *work, int64_t *used);
/* Begin a walk, over at most as many rows as were laid out. */
void begin_mlp(mlp_walk *w, int64_t n, const int32_t *which);
/* Tell row i its context, which stands in zeros up to a whole pair, with SMALTI_SLACK numbers behind it. */
void set_context(mlp_walk *w, int64_t i, const int16_t *context);
/* Compute the outputs of the next group for all rows. Each row must then be told its latents. */
void run_group(mlp_walk *w);
/* Tell row i the latents of that group. When all rows know theirs, `w->group` counts on. */
void set_latents(mlp_walk *w, int64_t i, const int16_t *latents);

enum { LATENT_MAX = 4095 };
static inline int16_t latent_at(int64_t symbol, int64_t step) {
    int64_t v = symbol * step;
    return (int16_t)(v < -LATENT_MAX ? -LATENT_MAX : v > LATENT_MAX ? LATENT_MAX : v);
}

#endif
