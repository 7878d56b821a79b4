/* SPDX-License-Identifier: MIT
 *
 * Compute a network again only where its inputs change: sums of integers are exact, so that the products of what
 * changes can be added to them. */
#include "network.h"

enum { SLACK = SMALTI_SLACK, WIDE = 64 };

void lay_out_network(network *w, const smalti_net *net, uint8_t *work, int64_t *used) {
    w->net = net, w->run = find_kernel(net->kernel);
    w->kept = grab(work, used, (net->units + SLACK) * (int64_t)sizeof *w->kept);
    w->units = grab(work, used, (net->units + SLACK) * (int64_t)sizeof *w->units);
    w->sums = grab(work, used, net->sums * (int64_t)sizeof *w->sums);
    w->outputs = grab(work, used, net->sums * (int64_t)sizeof *w->outputs);
    w->values = grab(work, used, net->entries * (int64_t)sizeof *w->values);
    w->indices = grab(work, used, net->entries * (int64_t)sizeof *w->indices);
    w->read_values = grab(work, used, (net->entries + SLACK) * (int64_t)sizeof *w->read_values);
    w->read_offsets = grab(work, used, (net->entries + SLACK) * (int64_t)sizeof *w->read_offsets);
    w->counts = grab(work, used, net->rows * (int64_t)sizeof *w->counts);
    w->changed = grab(work, used, net->rows * (int64_t)sizeof *w->changed);
    w->last = grab(work, used, net->stage[net->stages - 1].positions * (int64_t)sizeof *w->last);
    w->trial = grab(work, used, net->most * (int64_t)sizeof *w->trial);
    w->now = grab(work, used, (net->most + SLACK) * (int64_t)sizeof *w->now);
    w->change = grab(work, used, (net->most + SLACK) * (int64_t)sizeof *w->change);
    w->part = grab(work, used, (net->most + SLACK) * (int64_t)sizeof *w->part);
}

void begin_network(network *w) {
    const smalti_net *net = w->net;
    w->changes = w->lasts = 0;
    __builtin_memset(w->kept, 0, (size_t)(net->units + SLACK) * sizeof *w->kept);
    __builtin_memset(w->units, 0, (size_t)(net->units + SLACK) * sizeof *w->units);
    __builtin_memset(w->counts, 0, (size_t)net->rows * sizeof *w->counts);
    for (int32_t s = 0; s < net->stages; s++) {
        const smalti_stage *stage = net->stage + s;
        for (int64_t q = 0; q < stage->positions; q++)
            __builtin_memcpy(w->sums + stage->first_sum + q * stage->padded, stage->biases + q * stage->stride,
                             (size_t)stage->padded * sizeof *w->sums);
    }
}

/* List how the `channels` units of a row have changed. */
static inline void list_row(network *w, int64_t row, const int16_t *change, int64_t channels) {
    int64_t at = w->net->lists[row];
    if (channels % 2) {
        __builtin_memcpy(w->part, change, (size_t)channels * sizeof *w->part);
        w->part[channels] = 0, change = w->part;
    }
    int32_t before = w->counts[row];
    w->counts[row] = w->run->list(change, (channels + 1) / 2, w->values + at, w->indices + at);
    if (!before && w->counts[row])
        w->changed[w->changes++] = (int32_t)row;
}

void set_unit(network *w, int32_t row, int64_t unit, int16_t value) {
    const smalti_net *net = w->net;
    int64_t start = net->starts[row], channels = net->channels[row];
    w->units[unit] = value;
    for (int64_t c = 0; c < channels; c++)
        w->change[c] = (int16_t)(w->units[start + c] - w->kept[start + c]);
    list_row(w, row, w->change, channels);
}

/* Compute a position from `count` pairs that have changed before it, unless its sums are given. */
static void run_position(network *w, const smalti_stage *stage, int64_t q, int32_t count, const int32_t *given,
                         bool keep) {
    int32_t *sums = w->sums + stage->first_sum + q * stage->padded, *to = keep ? sums : w->trial;
    if (!given)
        w->run->add(stage->weights, stage->padded, w->read_values, w->read_offsets, count, sums, to);
    if (stage->is_last) {
        int32_t *outputs = w->outputs + q * stage->padded;
        for (int64_t o = 0; o < stage->padded; o++)
            outputs[o] = to[o] >> stage->shifts[q * stage->stride + o];
        w->last[w->lasts++] = (int32_t)q;
        return;
    }
    int64_t at = stage->first + q * stage->outputs;
    const int16_t *more = stage->more ? w->units + stage->more[q] : 0;
    w->run->settle(stage, q * stage->stride, given ? given : to, more, w->kept + at, w->now, w->change);
    for (int64_t r = 0; r < stage->rows; r++) {
        int64_t row = stage->first_row + q * stage->rows + r, unit = r * stage->channels;
        list_row(w, row, w->change + unit, stage->channels);
        if (w->counts[row])
            __builtin_memcpy(w->units + at + unit, w->now + unit, (size_t)stage->channels * sizeof *w->units);
    }
}

static int32_t read(const network *w, const smalti_stage *stage, const int32_t *where) {
    const row_lists lists = {w->values, w->indices, w->counts, w->net->lists};
    return w->run->read(&lists, where, stage->taps, (int32_t)stage->padded * 4, w->read_values, w->read_offsets);
}

static void run_stage(network *w, int32_t s, const int32_t *given, bool all, bool keep) {
    const smalti_stage *stage = w->net->stage + s;
    const int32_t *where = stage->where;
    for (int64_t q = 0; q < stage->positions; q++, where += 2 * stage->taps) {
        int32_t count = given ? 1 : read(w, stage, where);
        if (count || all)
            run_position(w, stage, q, count, given, keep);
    }
}

bool has_wide_stage(const smalti_net *net) {
    return net->stages > 2 && net->stage[0].positions == 1 && net->stage[1].positions == 1 &&
           net->stage[1].padded >= 8 * WIDE && net->stage[0].outputs <= WIDE_READS && !net->stage[1].more;
}

void read_wide(network *w, wide_reads *to) {
    run_stage(w, 0, 0, false, false);
    to->count = read(w, &w->net->stage[1], w->net->stage[1].where);
    __builtin_memcpy(to->values, w->read_values, (size_t)(to->count + 1) * sizeof *to->values);
    __builtin_memcpy(to->offsets, w->read_offsets, (size_t)(to->count + 1) * sizeof *to->offsets);
    forget_changes(w);
}

void add_wide(const network *w, const wide_reads *reads, int64_t n, int32_t *sums) {
    const smalti_stage *stage = &w->net->stage[1];
    for (int64_t o = 0; o < stage->padded; o += WIDE) {
        int64_t some = stage->padded - o < WIDE ? stage->padded - o : WIDE;
        for (int64_t i = 0; i < n; i++)
            w->run->add(stage->weights + 2 * o, some, reads[i].values, reads[i].offsets, reads[i].count,
                        w->sums + stage->first_sum + o, sums + i * stage->padded + o);
    }
}

void run_stages(network *w, const int32_t *wide, bool all, bool keep) {
    const smalti_net *net = w->net;
    w->lasts = 0;
    for (int32_t s = 0; s < net->stages; s++)
        run_stage(w, s, s == 1 ? wide : 0, all, keep);
    if (keep)
        for (int32_t i = 0; i < w->changes; i++) {
            int64_t start = net->starts[w->changed[i]];
            __builtin_memcpy(w->kept + start, w->units + start,
                             (size_t)net->channels[w->changed[i]] * sizeof *w->kept);
        }
}

void forget_changes(network *w) {
    for (int32_t i = 0; i < w->changes; i++) {
        int64_t row = w->changed[i], start = w->net->starts[row];
        __builtin_memcpy(w->units + start, w->kept + start, (size_t)w->net->channels[row] * sizeof *w->units);
        w->counts[row] = 0;
    }
    w->changes = 0;
}
