/* SPDX-License-Identifier: MIT
 *
 * What the fuzz targets share: numbers from the fuzzer's bytes, and memory of exactly the size that is asked for, so that
 * the address sanitizer sees a step beyond it. A target aborts if kernels differ. */
#ifndef FUZZ_DATA_H
#define FUZZ_DATA_H

#include "smalti.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_PARTS = 4096 };

typedef struct {
    const uint8_t *at;
    size_t left;
    uint64_t seed; /* of numbers where the bytes would not do */
    void *parts[MOST_PARTS];
    int count;
} data;

static inline uint32_t any(data *d) {
    d->seed = d->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(d->seed >> 32);
}

/* The next byte; when there are no more, one that the seed gives. */
static inline uint32_t byte(data *d) {
    if (!d->left)
        return any(d) >> 24;
    d->left--;
    return *d->at++;
}

static inline uint32_t word(data *d) {
    uint32_t value = byte(d);
    for (int i = 1; i < 4; i++)
        value = value << 8 | byte(d);
    return value;
}

/* A number from low to high. */
static inline int64_t within(data *d, int64_t low, int64_t high) {
    uint64_t range = (uint64_t)(high - low) + 1;
    return low + (int64_t)((range > 256 ? word(d) : byte(d)) % range);
}

static inline void *fresh(data *d, size_t size) {
    void *part = calloc(size ? size : 1, 1);
    if (!part || d->count == MOST_PARTS)
        abort();
    return d->parts[d->count++] = part;
}

static inline data begin_data(const uint8_t *at, size_t size) {
    data d = {at, size, 0, {0}, 0};
    d.seed = word(&d);
    return d;
}

static inline void end_data(data *d) {
    while (d->count)
        free(d->parts[--d->count]);
}

/* The words of a stream: the rest of the bytes; the last one is not zero. */
static inline smalti_stream stream_of(data *d) {
    int64_t n = (int64_t)(d->left / 4);
    uint32_t *words = fresh(d, (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        words[i] = word(d);
    while (n && !words[n - 1])
        n--;
    smalti_stream stream = {0, n, words};
    smalti_open(&stream);
    return stream;
}

static int rising(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* A table that rises, and stays within 0 and `top`. */
static inline int32_t *rising_table(data *d, int n, int32_t top) {
    int32_t *table = fresh(d, (size_t)n * 4), kind = byte(d) % 3;
    for (int i = 0; i < n; i++)
        table[i] = kind == 0 ? (any(d) & 1 ? top : 0) : (int32_t)(any(d) % (uint32_t)(top + 1));
    qsort(table, (size_t)n, 4, rising);
    return table;
}

/* Tables of logistics as a model may have them (entropy/logistic_mixture.py). */
static inline smalti_logistics logistics_of(data *d) {
    enum { STEPS = 512, RANGE = 12, BITS = 17, SCALES = 112 };
    int32_t *inverse = fresh(d, SCALES * 4), *limits = fresh(d, SCALES * 4);
    const int32_t most = STEPS << (BITS - 1), choices[] = {1, 2, 1000, most};
    for (int i = 0; i < SCALES; i++) {
        inverse[i] = any(d) & 1 ? choices[any(d) % 4] : 1 + (int32_t)(any(d) % (uint32_t)most);
        limits[i] = (int32_t)(((int64_t)RANGE * STEPS << BITS) / inverse[i]);
    }
    return (smalti_logistics){rising_table(d, 2 * RANGE * STEPS + 1, 1 << 16), rising_table(d, 385, 1 << 12), inverse,
                              limits};
}

static inline void hold(bool same) {
    if (!same)
        abort();
}

#endif
