/* SPDX-License-Identifier: MIT
 *
 * Random masked MLPs whose sums stay within what model/masked_mlp.py proves, and streams of known symbols. */
#ifndef FUZZ_MLP_DATA_H
#define FUZZ_MLP_DATA_H

#include "data.h"

enum { EXACT = 1 << 24, LATENT_MAX = 4095, ACTIVATION_MAX = 1023, WEIGHT_MAX = 127 };

static inline int64_t filled(int64_t n) { return (n + SMALTI_SMALL - 1) / SMALTI_SMALL * SMALTI_SMALL; }

/* A weight of a unit with so many inputs, up to `top` each. */
static inline int16_t weight(data *d, int64_t inputs, int64_t top, bool extreme) {
    const int64_t room = EXACT / 2 / top / inputs, most = room < WEIGHT_MAX ? room : WEIGHT_MAX;
    if (any(d) & 1)
        return 0;
    return (int16_t)(extreme ? (any(d) & 1 ? most : -most) : (int64_t)(any(d) % (uint64_t)(2 * most + 1)) - most);
}

/* The blocks of all groups, as smalti_mlp says. each: inputs of a group; own: 1 if a group sees its own. */
static inline int16_t *blocks_of(data *d, int64_t groups, int64_t each, int64_t outputs, int64_t own, int64_t all,
                                 int64_t top, bool extreme) {
    const int64_t pairs = (each + 1) / 2, room = filled(outputs);
    int16_t *to = fresh(d, (size_t)(groups * (groups - 1 + 2 * own) / 2 * pairs * room) * 4), *at = to;
    for (int64_t g = 0; g < groups; g++)
        for (int64_t before = 0; before < g + own; before++)
            for (int64_t p = 0; p < pairs; p++)
                for (int64_t o = 0; o < room; o++)
                    for (int64_t k = 0; k < 2; k++, at++)
                        if (o < outputs && 2 * p + k < each)
                            *at = weight(d, all, top, extreme);
    return to;
}

/* A network of random size, with biases for `points` operating points. top: the largest input. */
static inline smalti_mlp mlp_of(data *d, int64_t points, int64_t context, int64_t top, int64_t outputs_each) {
    smalti_mlp m = {0};
    m.groups = within(d, 1, 4), m.group = within(d, 1, 3), m.context = context;
    m.units = m.group * within(d, 1, within(d, 0, 7) ? 5 : 30), m.outputs = m.group * outputs_each;
    m.unit_room = filled(m.units), m.output_room = filled(m.outputs);
    m.all_units = filled(m.groups * m.units + SMALTI_SMALL), m.all_outputs = filled(m.groups * m.outputs + SMALTI_SMALL);
    const bool extreme = within(d, 0, 3) == 0;
    const int64_t inputs = context + m.groups * m.group, units = m.groups * m.units;
    int16_t *known = fresh(d, (size_t)((context + 1) / 2 * m.all_units) * 4);
    for (int64_t i = 0; i < context; i++)
        for (int64_t o = 0; o < units; o++)
            known[(i / 2 * m.all_units + o) * 2 + i % 2] = weight(d, inputs, top, extreme);
    m.context_weights = known;
    m.first = blocks_of(d, m.groups, m.group, m.units, 0, inputs, top, extreme);
    m.second = blocks_of(d, m.groups, m.units, m.units, 1, units, ACTIVATION_MAX, extreme);
    m.third = blocks_of(d, m.groups, m.units, m.outputs, 1, units, ACTIVATION_MAX, extreme);
    const uint32_t most_shift = (uint32_t)within(d, 0, 24);
    for (int k = 0; k < 3; k++) {
        const int64_t all = k < 2 ? m.all_units : m.all_outputs, real = k < 2 ? units : m.groups * m.outputs;
        int32_t *biases = fresh(d, (size_t)(points * all) * 4), *shifts = fresh(d, (size_t)all * 4);
        float *scales = fresh(d, (size_t)all * 4);
        for (int64_t i = 0; i < points * all; i++)
            biases[i] = i % all < real ? (int32_t)(any(d) % EXACT) - EXACT / 2 : 0;
        for (int64_t i = 0; i < all; i++) {
            shifts[i] = i < real ? (int32_t)(any(d) % (most_shift + 1)) : 0;
            scales[i] = 1.0f / (float)(1 << shifts[i]);
        }
        m.biases[k] = biases, m.shifts[k] = shifts, m.scales[k] = scales;
    }
    return m;
}

/* Encode symbols by their intervals of 2^24, and open the stream for decoding. */
static inline smalti_stream put_all(data *d, const int64_t *starts, const int64_t *frequencies, int64_t n) {
    uint32_t *words = fresh(d, (size_t)(n + 2) * 4);
    uint64_t state = 0;
    int64_t count = smalti_put(&state, starts, frequencies, n, words, 0);
    for (; state; state >>= 32)
        words[count++] = (uint32_t)state;
    smalti_stream stream = {0, count, words};
    smalti_open(&stream);
    return stream;
}

#endif
