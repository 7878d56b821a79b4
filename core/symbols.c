/* SPDX-License-Identifier: MIT
 *
 * Symbols of samples that were recorded: sort them, count their bits, encode them. */
#include "mixture.h"
#include "rans.h"

enum { DIGIT = 11, DIGITS = 1 << DIGIT };

/* The start of a symbol in a table that leaves `room`, without the 1 of each symbol before it. */
static inline int64_t scaled(uint32_t bound, uint32_t whole, int64_t room) {
    return whole == WHOLE ? bound * room >> WHOLE_BITS : bound * room / (whole ? whole : 1);
}

/* The interval of a symbol in its table. */
static inline void interval(const smalti_symbols *symbols, int64_t at, const int64_t *sizes, int64_t *start,
                            int64_t *frequency) {
    int64_t kind = symbols->kinds[at] / SMALTI_KIND, symbol = symbols->kinds[at] % SMALTI_KIND;
    int64_t size = sizes[kind < 3 ? kind : 2], room = TOTAL - size;
    uint32_t whole = symbols->whole[at];
    int64_t low = scaled(symbols->below[at], whole, room), high = scaled(symbols->up_to[at], whole, room);
    if (whole == 0 && symbol == size - 1)
        high = room;
    *start = low + symbol, *frequency = high - low + 1;
}

void smalti_sum_bits(const smalti_symbols *symbols, const int64_t *counts, int64_t n, const int64_t *sizes,
                     const int64_t *bits, int64_t *sums) {
    int64_t at = 0, start, frequency;
    for (int64_t i = 0; i < n; i++) {
        int64_t sum = 0;
        for (int64_t end = at + counts[i]; at < end; at++) {
            interval(symbols, at, sizes, &start, &frequency);
            sum += bits_of(bits, (int32_t)frequency) - ((int64_t)(WHOLE_BITS - PRECISION) << 32);
        }
        sums[i] = sum;
    }
}

int64_t smalti_put_symbols(uint64_t *state, const smalti_symbols *symbols, const uint32_t *order, const int64_t *sizes,
                           uint32_t *words, int64_t count) {
    int64_t start, frequency;
    for (int64_t i = symbols->count - 1; i >= 0; i--) {
        interval(symbols, order[i], sizes, &start, &frequency);
        count = rans_put(state, (uint64_t)start, (uint64_t)frequency, words, count);
    }
    return count;
}

/* ---- sorting ---- */

static inline uint64_t get_key(const void *keys, int32_t size, int64_t i) {
    switch (size) {
    case 1:
        return ((const uint8_t *)keys)[i];
    case 2:
        return ((const uint16_t *)keys)[i];
    case 4:
        return ((const uint32_t *)keys)[i];
    default:
        return ((const uint64_t *)keys)[i];
    }
}

/* Sort by digits, the lowest one first; a sort by one digit keeps the order of equal ones. */
void smalti_order(const void *keys, int32_t key_size, int64_t n, uint64_t most, uint32_t *order, uint32_t *work) {
    uint32_t *from = work, *to = order;
    for (int64_t i = 0; i < n; i++)
        to[i] = (uint32_t)i;
    for (int shift = 0; shift < 64 && most >> shift; shift += DIGIT) {
        uint32_t *swapped = from, places[DIGITS] = {0}, place = 0;
        from = to, to = swapped;
        for (int64_t i = 0; i < n; i++)
            places[get_key(keys, key_size, i) >> shift & (DIGITS - 1)]++;
        for (int d = 0; d < DIGITS; d++) {
            uint32_t here = places[d];
            places[d] = place, place += here;
        }
        for (int64_t i = 0; i < n; i++)
            to[places[get_key(keys, key_size, from[i]) >> shift & (DIGITS - 1)]++] = from[i];
    }
    if (to != order)
        __builtin_memcpy(order, to, (size_t)n * sizeof *order);
}

static void set_key(void *keys, int32_t size, int64_t i, uint64_t key) {
    switch (size) {
    case 1:
        ((uint8_t *)keys)[i] = (uint8_t)key;
        break;
    case 2:
        ((uint16_t *)keys)[i] = (uint16_t)key;
        break;
    case 4:
        ((uint32_t *)keys)[i] = (uint32_t)key;
        break;
    default:
        ((uint64_t *)keys)[i] = key;
    }
}

void smalti_sort(const smalti_symbols *from, int64_t n, int64_t *counts, smalti_symbols *to, void *keys,
                 int32_t key_size) {
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) { /* counts become the places of the next symbols */
        int64_t count = counts[i];
        counts[i] = at;
        at += count;
    }
    for (int64_t i = 0; i < from->count; i++) {
        int64_t place = counts[from->images[i]]++;
        set_key(keys, key_size, place, from->keys[i]);
        to->below[place] = from->below[i], to->up_to[place] = from->up_to[i], to->whole[place] = from->whole[i];
        to->kinds[place] = from->kinds[i];
    }
}
