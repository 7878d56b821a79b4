/* SPDX-License-Identifier: MIT
 *
 * A table that moves some of eight entries of a vector to its front. For each set of eight bits: which bits are set, in order,
 * as digits of 4 bits from the lowest on. */
#ifndef SMALTI_FRONT_H
#define SMALTI_FRONT_H

#include <stdint.h>

#define COUNT(set, k) \
    ((k > 0 ? set & 1 : 0) + (k > 1 ? set >> 1 & 1 : 0) + (k > 2 ? set >> 2 & 1 : 0) + (k > 3 ? set >> 3 & 1 : 0) + \
     (k > 4 ? set >> 4 & 1 : 0) + (k > 5 ? set >> 5 & 1 : 0) + (k > 6 ? set >> 6 & 1 : 0))
#define DIGIT(set, k) ((uint32_t)((set >> k & 1) * k) << 4 * COUNT(set, k))
#define DIGITS(set) \
    DIGIT((set), 1) | DIGIT((set), 2) | DIGIT((set), 3) | DIGIT((set), 4) | DIGIT((set), 5) | DIGIT((set), 6) | \
        DIGIT((set), 7)
#define FOUR(s) DIGITS(s), DIGITS(s + 1), DIGITS(s + 2), DIGITS(s + 3)
#define SIXTEEN(s) FOUR(s), FOUR(s + 4), FOUR(s + 8), FOUR(s + 12)
#define SIXTY_FOUR(s) SIXTEEN(s), SIXTEEN(s + 16), SIXTEEN(s + 32), SIXTEEN(s + 48)
static const uint32_t TO_FRONT[256] = {SIXTY_FOUR(0), SIXTY_FOUR(64), SIXTY_FOUR(128), SIXTY_FOUR(192)};

#endif
