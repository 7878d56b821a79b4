/* SPDX-License-Identifier: MIT
 *
 * What a kernel does: the parts of the network that are written anew for each kind of processor. */
#ifndef SMALTI_KERNELS_H
#define SMALTI_KERNELS_H

#include "smalti.h"

enum { ACTIVATION_MAX = 1023 };
enum { WORD_PAIRS = 64 }; /* pairs of inputs that a word of a mask tells of */
enum layer_kind { FIRST, MIDDLE, LAST };

/* The inputs of some samples. Sample i has its pairs at x + i * stride, zeros from the last pair to a multiple of 16
 * pairs, and its mask at masks + i * words: bit p says that one of pair p is not zero. */
typedef struct {
    int64_t n, stride, words;
    int16_t *x;
    uint64_t *masks;
} inputs;

typedef struct {
    int32_t big; /* outputs of a large block */
    /* Copy `width` samples to 16-bit numbers, and zeros from there to the next multiple of 16. Return whether any is
     * not zero. Reads and writes up to 15 samples behind. */
    bool (*copy)(const uint8_t *samples, int64_t width, int16_t *x);
    /* Tell which of the pairs are not zero. Returns whether there is any. */
    bool (*mask)(const int16_t *x, int64_t pairs, uint64_t *mask);
    /* Run a layer. biases: those of each sample. The first layer gives clip(sum >> shift) as inputs `y` of the next one;
     * a middle layer adds its own inputs before it clips; the last one writes sum >> shift to `out` (n outputs). */
    void (*layer)(const smalti_layer *layer, enum layer_kind kind, const inputs *in, const int32_t *const *biases,
                  inputs *y, int32_t *out);
} kernel;

const kernel *find_kernel(int32_t name); /* the scalar one if there is no such kernel here */

extern const kernel scalar_kernel;
#if defined(__x86_64__)
extern const kernel sse4_kernel, avx2_kernel, avx_vnni_kernel, avx512_kernel;
#endif

/* Where to find a mask that keeps the first n of 16 bytes. */
extern const uint8_t smalti_keep[32];
static inline const uint8_t *keep(int64_t n) { return smalti_keep + (n < 16 ? 16 - n : 0); }

static inline int32_t pair_at(const int16_t *x, int64_t pair) {
    int32_t both;
    __builtin_memcpy(&both, x + 2 * pair, sizeof both);
    return both;
}

#endif
