/* SPDX-License-Identifier: MIT
 *
 * Streams of rANS: decode by tables, encode by intervals. */
#include "rans.h"

void smalti_open(smalti_stream *stream) {
    stream->state = 0;
    while (stream->left > 0 && stream->state >> 32 == 0)
        stream->state = stream->state << 32 | stream->words[--stream->left];
}

void smalti_take(smalti_stream *stream, const int64_t *frequencies, int64_t n, int64_t k, int64_t stride,
                 int64_t *symbols) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t *table = frequencies + i * stride;
        int64_t quantile = rans_quantile(stream), start = 0, symbol = 0;
        while (symbol < k - 1 && start + table[symbol] <= quantile)
            start += table[symbol++];
        rans_advance(stream, (uint32_t)start, (uint32_t)table[symbol]);
        symbols[i] = symbol;
    }
}

void smalti_take_tables(smalti_stream *streams, const int64_t *of, const int64_t *which, int64_t n,
                        const int64_t *starts, int64_t k, int64_t *symbols) {
    for (int64_t i = 0; i < n; i++) {
        smalti_stream *stream = streams + (of ? of[i] : 0);
        const int64_t *table = starts + which[i] * k;
        int64_t quantile = rans_quantile(stream), symbol = 0, end = k;
        while (end - symbol > 1) { /* the symbol is among symbol .. end - 1 */
            int64_t middle = symbol + (end - symbol) / 2;
            if (table[middle] > quantile)
                end = middle;
            else
                symbol = middle;
        }
        int64_t stop = symbol + 1 < k ? table[symbol + 1] : TOTAL;
        if (k > 1) /* else the symbol is certain and takes no bits */
            rans_advance(stream, (uint32_t)table[symbol], (uint32_t)(stop - table[symbol]));
        symbols[i] = symbol;
    }
}

int64_t smalti_put(uint64_t *state, const int64_t *starts, const int64_t *frequencies, int64_t n, uint32_t *words,
                   int64_t count) {
    for (int64_t i = n - 1; i >= 0; i--)
        count = rans_put(state, (uint64_t)starts[i], (uint64_t)frequencies[i], words, count);
    return count;
}
