/* SPDX-License-Identifier: MIT
 *
 * Which kernels the processor runs, and the scalar kernel, which all run. */
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#ifndef SMALTI_SOURCES
#define SMALTI_SOURCES "unknown"
#endif

const uint8_t smalti_keep[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

int32_t smalti_version(void) { return SMALTI_VERSION; }

const char *smalti_sources(void) { return SMALTI_SOURCES; }

int32_t smalti_big(int32_t name) { return find_kernel(name)->big; }

#if defined(__x86_64__)
static bool has(uint32_t bits, int bit) { return bits >> bit & 1; }

int32_t smalti_kernels(void) {
    int32_t found = 1 << SMALTI_SCALAR;
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return found;
    if (has(c, 9) && has(c, 19)) /* SSSE3, SSE4.1 */
        found |= 1 << SMALTI_SSE4;
    if (!has(c, 27)) /* the system does not save wide registers */
        return found;
    uint32_t saved, high;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, 5) || !has(b, 3))
        return found; /* AVX2 and BMI1 */
    found |= 1 << SMALTI_AVX2;
    /* AVX-512: foundation, BW, VL, VNNI */
    if ((saved & 0xe6) == 0xe6 && has(b, 16) && has(b, 30) && has(b, 31) && has(c, 11))
        found |= 1 << SMALTI_AVX512;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, 4))
        found |= 1 << SMALTI_AVX_VNNI;
    return found;
}

const kernel *find_kernel(int32_t name) {
    switch (name) {
    case SMALTI_SSE4:
        return &sse4_kernel;
    case SMALTI_AVX2:
        return &avx2_kernel;
    case SMALTI_AVX_VNNI:
        return &avx_vnni_kernel;
    case SMALTI_AVX512:
        return &avx512_kernel;
    default:
        return &scalar_kernel;
    }
}
#else
int32_t smalti_kernels(void) { return 1 << SMALTI_SCALAR; }

const kernel *find_kernel(int32_t name) {
    (void)name;
    return &scalar_kernel;
}
#endif

static bool copy(const uint8_t *samples, int64_t width, int16_t *x) {
    int32_t any = 0;
    for (int64_t i = 0; i < width; i++)
        any |= x[i] = samples[i];
    for (int64_t i = width; i % 16; i++)
        x[i] = 0;
    return any != 0;
}

static bool mask(const int16_t *x, int64_t pairs, uint64_t *masks) {
    uint64_t any = 0;
    for (int64_t p = 0; p < pairs; p++) {
        if (p % WORD_PAIRS == 0)
            masks[p / WORD_PAIRS] = 0;
        masks[p / WORD_PAIRS] |= (uint64_t)(pair_at(x, p) != 0) << p % WORD_PAIRS;
        any |= masks[p / WORD_PAIRS];
    }
    return any != 0;
}

static void layer(const smalti_layer *l, enum layer_kind kind, const inputs *in, const int32_t *const *biases,
                  inputs *y, int32_t *out) {
    for (int64_t first = 0; first < l->outputs; first += SMALTI_SMALL) {
        const int16_t *block = l->weights + first * l->pairs * 2;
        for (int64_t i = 0; i < in->n; i++) {
            const int16_t *x = in->x + i * in->stride;
            int32_t sums[SMALTI_SMALL];
            for (int o = 0; o < SMALTI_SMALL; o++)
                sums[o] = biases[i][first + o];
            for (int64_t word = 0; word < in->words; word++)
                for (uint64_t left = in->masks[i * in->words + word]; left; left &= left - 1) {
                    int64_t p = word * WORD_PAIRS + __builtin_ctzll(left);
                    const int16_t *w = block + p * SMALTI_SMALL * 2;
                    for (int o = 0; o < SMALTI_SMALL; o++)
                        sums[o] += w[2 * o] * x[2 * p] + w[2 * o + 1] * x[2 * p + 1];
                }
            for (int o = 0; o < SMALTI_SMALL; o++) {
                int32_t value = sums[o] >> l->shifts[first + o];
                if (kind == LAST) {
                    out[i * l->outputs + first + o] = value;
                    continue;
                }
                value += kind == MIDDLE ? x[first + o] : 0;
                y->x[i * y->stride + first + o] = (int16_t)(value < 0 ? 0 : value > ACTIVATION_MAX ? ACTIVATION_MAX : value);
            }
        }
    }
}

const kernel scalar_kernel = {SMALTI_SMALL, copy, mask, layer};
