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

/* For each of 16 sets of pairs that are not zero: their bytes, moved to the front. */
#define PAIR(k) 4 * k, 4 * k + 1, 4 * k + 2, 4 * k + 3
#define NONE 128, 128, 128, 128
const uint8_t smalti_to_front[16][16] = {
    {NONE, NONE, NONE, NONE},          {PAIR(0), NONE, NONE, NONE},
    {PAIR(1), NONE, NONE, NONE},       {PAIR(0), PAIR(1), NONE, NONE},
    {PAIR(2), NONE, NONE, NONE},       {PAIR(0), PAIR(2), NONE, NONE},
    {PAIR(1), PAIR(2), NONE, NONE},    {PAIR(0), PAIR(1), PAIR(2), NONE},
    {PAIR(3), NONE, NONE, NONE},       {PAIR(0), PAIR(3), NONE, NONE},
    {PAIR(1), PAIR(3), NONE, NONE},    {PAIR(0), PAIR(1), PAIR(3), NONE},
    {PAIR(2), PAIR(3), NONE, NONE},    {PAIR(0), PAIR(2), PAIR(3), NONE},
    {PAIR(1), PAIR(2), PAIR(3), NONE}, {PAIR(0), PAIR(1), PAIR(2), PAIR(3)},
};

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
    if (!has(c, 27) || !has(c, 23)) /* the system does not save wide registers; POPCNT */
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
#elif defined(__aarch64__)
int32_t smalti_kernels(void) { return 1 << SMALTI_SCALAR | 1 << SMALTI_NEON; } /* every ARM64 processor has it */

const kernel *find_kernel(int32_t name) { return name == SMALTI_NEON ? &neon_kernel : &scalar_kernel; }
#elif defined(__wasm_simd128__)
int32_t smalti_kernels(void) { return 1 << SMALTI_SCALAR | 1 << SMALTI_WASM; } /* otherwise it would not be loaded */

const kernel *find_kernel(int32_t name) { return name == SMALTI_WASM ? &wasm_kernel : &scalar_kernel; }
#else
int32_t smalti_kernels(void) { return 1 << SMALTI_SCALAR; }

const kernel *find_kernel(int32_t name) {
    (void)name;
    return &scalar_kernel;
}
#endif

static bool copy_row(const uint8_t *samples, int64_t width, int16_t *x) {
    int32_t any = 0;
    for (int64_t i = 0; i < width; i++)
        any |= x[i] = samples[i];
    if (width % 2)
        x[width] = 0;
    return any != 0;
}

static bool copy(const window *from, int16_t *x) {
    const uint8_t *row = from->samples;
    bool any = false;
    for (int64_t r = 0; r < from->above; r++, row += from->stride, x += 2 * from->reach + 2)
        any |= copy_row(row - from->reach, 2 * from->reach + 1, x);
    return any | copy_row(row - from->left, from->left, x);
}

static int32_t list(const int16_t *x, int64_t pairs, int32_t *values, int32_t *indices) {
    int32_t count = 0;
    for (int32_t p = 0; p < pairs; p++) {
        __builtin_memcpy(values + count, x + 2 * p, sizeof *values);
        indices[count] = p;
        count += values[count] != 0;
    }
    values[count] = indices[count] = 0;
    return count;
}

static void layer(const smalti_layer *l, enum layer_kind kind, const inputs *in, const int32_t *const *biases,
                  const inputs *to, int32_t *outs) {
    for (int64_t first = 0; first < l->outputs; first += SMALTI_SMALL) {
        const int16_t *block = l->weights + first * l->pairs * 2;
        for (int64_t i = 0; i < in->n; i++) {
            const int16_t *x = in->x + 2 * i * in->stride;
            const int32_t *indices = in->indices + i * in->stride;
            int32_t sums[SMALTI_SMALL];
            for (int o = 0; o < SMALTI_SMALL; o++)
                sums[o] = biases[i][first + o];
            for (int32_t c = 0; c < in->counts[i]; c++) {
                const int16_t *w = block + indices[c] * SMALTI_SMALL * 2, *pair = x + 2 * indices[c];
                for (int o = 0; o < SMALTI_SMALL; o++)
                    sums[o] += w[2 * o] * pair[0] + w[2 * o + 1] * pair[1];
            }
            for (int o = 0; o < SMALTI_SMALL; o++) {
                int32_t value = sums[o] >> l->shifts[first + o];
                if (kind == LAST) {
                    outs[i * l->outputs + first + o] = value;
                    continue;
                }
                value += kind == MIDDLE ? x[first + o] : 0;
                value = value < 0 ? 0 : value > ACTIVATION_MAX ? ACTIVATION_MAX : value;
                to->x[2 * i * to->stride + first + o] = (int16_t)value;
            }
        }
    }
}

static int32_t read(const row_lists *lists, const int32_t *where, int64_t taps, int32_t scale, int32_t *values,
                    int32_t *offsets) {
    int32_t count = 0;
    for (int64_t t = 0; t < taps; t++) {
        int64_t row = where[2 * t], at = lists->lists[row];
        for (int32_t c = 0; c < lists->counts[row]; c++, count++) {
            values[count] = lists->values[at + c];
            offsets[count] = (lists->indices[at + c] + where[2 * t + 1]) * scale;
        }
    }
    return count;
}

static void add(const int16_t *weights, int64_t outputs, const int32_t *values, const int32_t *offsets, int32_t count,
                const int32_t *from, int32_t *to) {
    for (int64_t first = 0; first < outputs; first += SMALTI_SMALL) {
        int32_t sums[SMALTI_SMALL];
        __builtin_memcpy(sums, from + first, sizeof sums);
        for (int32_t c = 0; c < count; c++) {
            const int16_t *w = weights + offsets[c] / (int32_t)sizeof *w + 2 * first;
            int16_t pair[2];
            __builtin_memcpy(pair, values + c, sizeof pair);
            for (int o = 0; o < SMALTI_SMALL; o++)
                sums[o] += w[2 * o] * pair[0] + w[2 * o + 1] * pair[1];
        }
        __builtin_memcpy(to + first, sums, sizeof sums);
    }
}

static void settle(const smalti_stage *stage, int64_t at, const int32_t *sums, const int16_t *more, const int16_t *old,
                   int16_t *now, int16_t *change) {
    for (int64_t o = 0; o < stage->padded; o++) {
        int32_t value = (sums[o] >> stage->shifts[at + o]) + (more ? more[o] : 0);
        value = value < 0 ? 0 : value > stage->high ? stage->high : value;
        now[o] = (int16_t)value, change[o] = (int16_t)(value - old[o]);
    }
}

const kernel scalar_kernel = {SMALTI_SMALL, copy, list, layer, read, add, settle};
