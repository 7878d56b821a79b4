/* SPDX-License-Identifier: MIT
 *
 * Run a masked MLP (model/masked_mlp.py), one group of latents after another: the units of a group are computed from
 * the lists of all that came before it and is not zero. */
#include "mlp.h"

enum { BEHIND = 16 }; /* entries that a kernel may write behind a list */

static int64_t pairs_of(int64_t numbers) { return (numbers + 1) / 2; }

static unit_lists grab_lists(uint8_t *work, int64_t *used, int64_t n, int64_t pairs) {
    unit_lists lists = {0, 0, 0, pairs + BEHIND};
    lists.values = grab(work, used, n * lists.stride * (int64_t)sizeof *lists.values);
    lists.offsets = grab(work, used, n * lists.stride * (int64_t)sizeof *lists.offsets);
    lists.counts = grab(work, used, n * (int64_t)sizeof *lists.counts);
    return lists;
}

void lay_out_mlp(mlp_walk *w, const smalti_mlp *mlp, int64_t n, uint8_t *work, int64_t *used) {
    int64_t room = mlp->unit_room > mlp->output_room ? mlp->unit_room : mlp->output_room;
    int64_t most = mlp->group > room ? mlp->group : room, listed = pairs_of(mlp->context > most ? mlp->context : most);
    w->mlp = mlp, w->run = find_kernel(mlp->kernel);
    w->latents = grab_lists(work, used, n, mlp->groups * pairs_of(mlp->group));
    w->first = grab_lists(work, used, n, mlp->groups * pairs_of(mlp->units));
    w->second = grab_lists(work, used, n, mlp->groups * pairs_of(mlp->units));
    w->known = mlp->context ? grab(work, used, (n * mlp->all_units + SMALTI_SLACK) * (int64_t)sizeof *w->known) : 0;
    w->units = grab(work, used, (n * mlp->unit_room + SMALTI_SLACK) * (int64_t)sizeof *w->units);
    w->part = grab(work, used, (most + SMALTI_SLACK) * (int64_t)sizeof *w->part);
    w->nothing = grab(work, used, (room + SMALTI_SLACK) * (int64_t)sizeof *w->nothing);
    w->change = grab(work, used, (room + SMALTI_SLACK) * (int64_t)sizeof *w->change);
    w->sums = grab(work, used, (room + SMALTI_SLACK) * (int64_t)sizeof *w->sums);
    w->values = grab(work, used, (listed + SMALTI_SLACK) * (int64_t)sizeof *w->values);
    w->indices = grab(work, used, (listed + SMALTI_SLACK) * (int64_t)sizeof *w->indices);
    w->outputs = grab(work, used, n * mlp->outputs * (int64_t)sizeof *w->outputs);
}

void begin_mlp(mlp_walk *w, int64_t n, const int32_t *which) {
    int64_t room = w->mlp->unit_room > w->mlp->output_room ? w->mlp->unit_room : w->mlp->output_room;
    w->n = n, w->group = 0, w->which = which;
    const unit_lists *all[3] = {&w->latents, &w->first, &w->second};
    for (int k = 0; k < 3; k++)
        __builtin_memset(all[k]->counts, 0, (size_t)n * sizeof *all[k]->counts);
    __builtin_memset(w->nothing, 0, (size_t)(room + SMALTI_SLACK) * sizeof *w->nothing);
    __builtin_memset(w->part, 0, SMALTI_SLACK * sizeof *w->part);
}

void set_context(mlp_walk *w, int64_t i, const int16_t *context) {
    const smalti_mlp *mlp = w->mlp;
    int32_t count = w->run->list(context, pairs_of(mlp->context), w->values, w->indices);
    for (int32_t c = 0; c < count; c++)
        w->indices[c] *= (int32_t)mlp->all_units * 4;
    const int32_t *biases = mlp->biases[0] + w->which[i] * mlp->all_units;
    w->run->add(mlp->context_weights, mlp->all_units, w->values, w->indices, count, biases,
                w->known + i * mlp->all_units);
}

/* Add the pairs of some units to the list of row i. They are those of this group; a pair of weights takes `bytes`. */
static void append(mlp_walk *w, unit_lists *lists, int64_t i, const int16_t *units, int64_t n, int64_t bytes) {
    int64_t at = i * lists->stride + lists->counts[i], pairs = pairs_of(n);
    int32_t count = w->run->list(units, pairs, lists->values + at, w->indices);
    for (int32_t c = 0; c < count; c++)
        lists->offsets[at + c] = (int32_t)((w->group * pairs + w->indices[c]) * bytes);
    lists->counts[i] += count;
}

/* Compute the sums of a group for row i from a list. Behind an odd one, a pair of zeros counts. */
static void add_list(mlp_walk *w, const int16_t *weights, int64_t room, const unit_lists *lists, int64_t i,
                     const int32_t *from) {
    int64_t at = i * lists->stride;
    lists->offsets[at + lists->counts[i]] = 0;
    w->run->add(weights, room, lists->values + at, lists->offsets + at, lists->counts[i], from, w->sums);
}

static smalti_stage stage_of(const smalti_mlp *mlp, int32_t layer) {
    smalti_stage stage = {0};
    stage.padded = mlp->unit_room, stage.shifts = mlp->shifts[layer], stage.scales = mlp->scales[layer];
    stage.high = ACTIVATION_MAX;
    return stage;
}

void run_group(mlp_walk *w) {
    const smalti_mlp *mlp = w->mlp;
    const int64_t g = w->group, start = g * mlp->units, units = mlp->units, room = mlp->unit_room;
    const int64_t before = pairs_of(mlp->group) * g * (g - 1), seen = pairs_of(units) * g * (g + 1); /* twice */
    const smalti_stage one = stage_of(mlp, 0), two = stage_of(mlp, 1);
    for (int64_t i = 0; i < w->n; i++) {
        int16_t *mine = w->units + i * room;
        const int32_t *from = w->known ? w->known + i * mlp->all_units : mlp->biases[0] + w->which[i] * mlp->all_units;
        add_list(w, mlp->first + before * room, room, &w->latents, i, from + start);
        w->run->settle(&one, start, w->sums, 0, w->nothing, mine, w->change);
        if (units % 2)
            mine[units] = 0;
        append(w, &w->first, i, mine, units, room * 4);
    }
    for (int64_t i = 0; i < w->n; i++) {
        int16_t *mine = w->units + i * room;
        const int32_t *from = mlp->biases[1] + w->which[i] * mlp->all_units;
        add_list(w, mlp->second + seen * room, room, &w->first, i, from + start);
        w->run->settle(&two, start, w->sums, mine, w->nothing, mine, w->change);
        if (units % 2)
            mine[units] = 0;
        append(w, &w->second, i, mine, units, mlp->output_room * 4);
    }
    const int32_t *shifts = mlp->shifts[2] + g * mlp->outputs;
    for (int64_t i = 0; i < w->n; i++) {
        const int32_t *from = mlp->biases[2] + w->which[i] * mlp->all_outputs;
        add_list(w, mlp->third + seen * mlp->output_room, mlp->output_room, &w->second, i, from + g * mlp->outputs);
        for (int64_t o = 0; o < mlp->outputs; o++)
            w->outputs[i * mlp->outputs + o] = w->sums[o] >> shifts[o];
    }
}

void set_latents(mlp_walk *w, int64_t i, const int16_t *latents) {
    const smalti_mlp *mlp = w->mlp;
    __builtin_memcpy(w->part, latents, (size_t)mlp->group * sizeof *latents);
    w->part[mlp->group] = 0;
    append(w, &w->latents, i, w->part, mlp->group, mlp->unit_room * 4);
}
