/* SPDX-License-Identifier: MIT
 *
 * Discretised mixtures of logistics in integers, as entropy/logistic_mixture.py has them. */
#ifndef SMALTI_MIXTURE_H
#define SMALTI_MIXTURE_H

#include "smalti.h"

enum { SCALES = 112, WEIGHT_RANGE = 192, WEIGHT_BITS = 12, CDF_MIDDLE = 12 * 512, INVERSE_BITS = 17 };
enum { WHOLE_BITS = 28, WHOLE = 1 << WHOLE_BITS };

/* A component of a mixture. */
typedef struct {
    int32_t twice_centre, inverse, limit, share;
} logistic;

static inline int32_t clip(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

/* The cumulative distribution of a mixture of `count` components at half of `edge`, 0 to 2^28. */
static inline int32_t cdf_at(const smalti_logistics *tables, const logistic *mixture, int32_t count, int32_t edge) {
    int32_t total = 0;
    for (int32_t k = 0; k < count; k++) {
        const logistic *c = mixture + k;
        int32_t z = clip(edge - c->twice_centre, -c->limit, c->limit);
        total += tables->cdf[(z * c->inverse >> INVERSE_BITS) + CDF_MIDDLE] * c->share;
    }
    return total;
}

/* Make component k of `count`, and take its share of what those before it left. */
static inline logistic make_logistic(const smalti_logistics *tables, int32_t k, int32_t count, int32_t centre,
                                     int32_t width, int32_t logit, int32_t *left) {
    int32_t share = *left, at = clip(width, 0, SCALES - 1);
    if (k + 1 < count)
        share = share * tables->weights[clip(logit, -WEIGHT_RANGE, WEIGHT_RANGE) + WEIGHT_RANGE] >> WEIGHT_BITS;
    *left -= share;
    return (logistic){2 * centre, tables->inverse[at], tables->limits[at], share};
}

/* The bits of a mass of 2^28, in 2^-32 bits: 28 - log2, linear between 4096 steps of an octave. */
static inline int64_t bits_of(const int64_t *log2s, int32_t mass) {
    int shift = __builtin_clz((uint32_t)mass) - 3; /* to 2^28 .. 2^29 */
    int64_t whole = (int64_t)mass << shift, step = whole >> 16 & 4095, rest = whole & 65535;
    return ((int64_t)shift << 32) - (log2s[step] + ((log2s[step + 1] - log2s[step]) * rest >> 16));
}

#endif
