/* SPDX-License-Identifier: MIT
 *
 * rANS (Duda 2013) with a state of 64 bits, words of 32 bits and frequencies that sum to 2^24. */
#ifndef SMALTI_RANS_H
#define SMALTI_RANS_H

#include "smalti.h"

enum { PRECISION = 24, TOTAL = 1 << PRECISION };

static inline uint32_t rans_quantile(const smalti_stream *stream) { return (uint32_t)stream->state & (TOTAL - 1); }

/* Leave a symbol behind; the quantile was in its interval. */
static inline void rans_advance(smalti_stream *stream, uint32_t start, uint32_t frequency) {
    stream->state = (stream->state >> PRECISION) * frequency + rans_quantile(stream) - start;
    if (stream->state >> 32 == 0 && stream->left > 0)
        stream->state = stream->state << 32 | stream->words[--stream->left];
}

/* Encode a symbol and return how many words there are then, `count` of them from before. */
static inline int64_t rans_put(uint64_t *state, uint64_t start, uint64_t frequency, uint32_t *words, int64_t count) {
    uint64_t now = *state;
    if (frequency >= TOTAL || frequency == 0)
        return count; /* a symbol that is certain takes no bits */
    if (now >> (64 - PRECISION) >= frequency) {
        words[count++] = (uint32_t)now;
        now >>= 32;
    }
    *state = (now / frequency << PRECISION) + start + now % frequency;
    return count;
}

#endif
