/* SPDX-License-Identifier: MIT
 *
 * What a kernel does: the parts of the network that are written anew for each kind of processor. */
#ifndef SMALTI_KERNELS_H
#define SMALTI_KERNELS_H

#include "search.h"

enum { ACTIVATION_MAX = 1023 };
enum layer_kind { FIRST, MIDDLE, LAST };

/* The inputs of some samples. Sample i has them at x + 2 * i * stride, zeros from the last one to a multiple of 16 pairs.
 * At values and at indices + i * stride are the pairs of which one is not zero, counts[i] of them: both inputs as one
 * number of 32 bits, and which pair it is. If that is an odd number, a pair of zeros follows. */
typedef struct {
    int64_t n, stride;
    int16_t *x;
    int32_t *values, *indices, *counts;
} inputs;

/* Where a causal window is: `above` rows of 2 * reach + 1 samples, then `left` samples of the row itself. */
typedef struct {
    const uint8_t *samples; /* above the sample, in the first row */
    int64_t stride, above, reach, left;
} window;

/* Lists of pairs that are not zero: the list of a row begins at lists[row]. */
typedef struct {
    const int32_t *values, *indices, *counts;
    const int64_t *lists;
} row_lists;

typedef struct {
    int32_t big; /* outputs of a large block */
    /* Copy a window to 16-bit numbers, each row filled up with zeros to whole pairs; tell whether any is not zero. Up to
     * 15 samples behind each row are read, and up to 15 zeros are written behind the last one. */
    bool (*copy)(const window *from, int16_t *x);
    /* List the pairs of x that are not zero, with a pair of zeros behind the last one, and return how many there are.
     * Up to 15 pairs behind the last one are read, and up to 15 entries behind the last one are written. */
    int32_t (*list)(const int16_t *x, int64_t pairs, int32_t *values, int32_t *indices);
    /* Run a layer. biases: those of each sample. The first layer gives clip(sum >> shift) as the inputs of the next one;
     * a middle layer adds its own inputs before it clips; the last one writes sum >> shift to `out` (n outputs). */
    void (*layer)(const smalti_layer *layer, enum layer_kind kind, const inputs *in, const int32_t *const *biases,
                  const inputs *to, int32_t *outs);
    /* Gather the lists of the rows that a position reads: values, and the offsets of their weights, `scale` bytes a pair;
     * a pair of zeros stands behind them. Return how many there are. Whole vectors are written. */
    int32_t (*read)(const row_lists *lists, const int32_t *where, int64_t taps, int32_t scale, int32_t *values,
                    int32_t *offsets);
    /* Add the products of such pairs to the sums of `outputs` (a multiple of 16). */
    void (*add)(const int16_t *weights, int64_t outputs, const int32_t *values, const int32_t *offsets, int32_t count,
                const int32_t *from, int32_t *to);
    /* Make the units of a position of a stage from its sums, and how they change from the old ones. at: where its shifts
     * are. more: what is added before they are clipped, or NULL. Whole vectors are read and written, up to the stage's
     * `padded` units. */
    void (*settle)(const smalti_stage *stage, int64_t at, const int32_t *sums, const int16_t *more, const int16_t *old,
                   int16_t *now, int16_t *change);
} kernel;

/* List the pairs of sample i that are not zero. */
static inline void list_pairs(const kernel *run, const inputs *in, int64_t i, int64_t pairs) {
    int64_t at = i * in->stride;
    in->counts[i] = run->list(in->x + 2 * at, pairs, in->values + at, in->indices + at);
}

const kernel *find_kernel(int32_t name); /* the scalar one if there is no such kernel here */

extern const kernel scalar_kernel;
#if defined(__x86_64__)
extern const kernel sse4_kernel, avx2_kernel, avx_vnni_kernel, avx512_kernel;
#elif defined(__aarch64__)
extern const kernel neon_kernel;
#elif defined(__wasm_simd128__)
extern const kernel wasm_kernel;
#endif

/* Where to find a mask that keeps the first n of 16 bytes. */
extern const uint8_t smalti_keep[32];
static inline const uint8_t *keep(int64_t n) { return smalti_keep + (n < 16 ? 16 - n : 0); }

/* For kernels of four pairs: for each set of those that are not zero, their bytes, moved to the front. */
extern const uint8_t smalti_to_front[16][16];

#endif
