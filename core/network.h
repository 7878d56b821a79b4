/* SPDX-License-Identifier: MIT
 *
 * A network that is computed again only where its inputs change. */
#ifndef SMALTI_NETWORK_H
#define SMALTI_NETWORK_H

#include "kernels.h"

/* A network with the units and sums that it has now. A trial leaves them as they are. */
typedef struct {
    const smalti_net *net;
    const kernel *run;
    int16_t *kept, *units;             /* all units: as they were kept, and as a trial has them */
    int32_t *sums, *outputs;           /* of all stages; of the last stage, shifted: as a trial has them */
    int32_t *values, *indices, *counts; /* what has changed: the list of each row */
    int32_t *read_values, *read_offsets; /* what has changed before a position, and where its weights are */
    int32_t *changed, changes;         /* the rows that have changed */
    int32_t *last, lasts;              /* the positions of the last stage that have changed */
    int32_t *trial;                    /* sums of a position */
    int16_t *now, *change, *part;      /* of a position; of a row */
} network;

/* Lay out a network in working memory; with no memory, only count the bytes. */
void lay_out_network(network *w, const smalti_net *net, uint8_t *work, int64_t *used);
/* Begin with sums of no inputs; then `set_unit` sets them, and `run_stages(w, 0, true, true)` computes all. */
void begin_network(network *w);
/* Set an input, which is in this row; each input once in a trial. */
void set_unit(network *w, int32_t row, int64_t unit, int16_t value);
/* Compute what changes with the inputs that were set. wide: the sums of the second stage, or NULL. all: whether every
 * position is computed. keep: whether the result is kept. Afterwards `changed` tells which rows have changed;
 * `forget_changes` must follow when the caller has looked. */
void run_stages(network *w, const int32_t *wide, bool all, bool keep);
void forget_changes(network *w);

/* What the second stage of a network reads, where it has one position and many outputs. Its weights fit in no cache; so
 * several trials use a part of them before the next part is loaded. */
enum { WIDE_READS = 1024 };
typedef struct {
    int32_t values[WIDE_READS / 2 + SMALTI_SLACK], offsets[WIDE_READS / 2 + SMALTI_SLACK], count;
} wide_reads;
bool has_wide_stage(const smalti_net *net);
/* Read what a trial whose inputs were set gives to the second stage; the trial is forgotten. */
void read_wide(network *w, wide_reads *to);
/* Compute the sums of the second stage (n padded) for n trials. */
void add_wide(const network *w, const wide_reads *reads, int64_t n, int32_t *sums);

/* Take `size` bytes of the working memory, aligned; with no memory, only count them. */
static inline void *grab(uint8_t *work, int64_t *used, int64_t size) {
    int64_t at = *used;
    *used += (size + 63) / 64 * 64;
    return work ? work + at : 0;
}

#endif
