/* SPDX-License-Identifier: MIT
 *
 * A binary arithmetic coder, whose bytes are in a buffer. Behind the end, it reads zeros. */
#ifndef SMALTI_CODER_H
#define SMALTI_CODER_H

#include "smalti.h"

typedef struct {
    uint32_t low, high, value, decodes;
    int64_t at, size;
    uint8_t *bytes;
} smalti_coder;

SMALTI_API void smalti_coder_start(smalti_coder *coder);
/* Write the fewest bytes that tell what was coded. */
SMALTI_API int32_t smalti_coder_end(smalti_coder *coder);

/* Code a bit that is 1 with the probability p, of 65536; 0 < p < 65536. `full` is set where the buffer ends.
 * The highest bytes of low and high differ, so that low < high; then low <= middle < high. */
static inline int32_t smalti_code_bit(smalti_coder *c, int32_t bit, uint32_t p, bool *full) {
    const uint32_t range = c->high - c->low, middle = c->low + (range >> 16) * p + (((range & 0xffff) * p) >> 16);
    if (c->decodes)
        bit = c->value <= middle;
    if (bit)
        c->high = middle;
    else
        c->low = middle + 1;
    while (!((c->low ^ c->high) >> 24)) {
        if (c->decodes)
            c->value = c->value << 8 | (c->at < c->size ? c->bytes[c->at] : 0);
        else if (c->at < c->size)
            c->bytes[c->at] = (uint8_t)(c->high >> 24);
        else
            *full = true;
        c->at++;
        c->low <<= 8;
        c->high = c->high << 8 | 255;
    }
    return bit;
}

#endif
