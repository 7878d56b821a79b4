/* SPDX-License-Identifier: MIT
 *
 * Fuzz streams of rANS: decode any words by any tables, then encode what came out, and decode that. */
#include "data.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    data d = begin_data(bytes, size);
    int64_t n = within(&d, 0, 40), k = within(&d, 1, 70), alike = within(&d, 0, 1), rows = alike ? 1 : n;
    int64_t *tables = fresh(&d, (size_t)(rows * k) * 8), *symbols = fresh(&d, (size_t)n * 8);
    for (int64_t i = 0; i < rows; i++) {
        int64_t left = (1 << 24) - k;
        for (int64_t j = 0; j < k; j++) {
            int64_t part = j + 1 == k ? left : any(&d) % 3 ? (int64_t)(any(&d) % (uint64_t)(left + 1)) : 0;
            tables[i * k + j] = 1 + part;
            left -= part;
        }
    }
    smalti_stream stream = stream_of(&d);
    smalti_take(&stream, tables, n, k, alike ? 0 : k, symbols);
    int64_t *starts = fresh(&d, (size_t)n * 8), *frequencies = fresh(&d, (size_t)n * 8), *again = fresh(&d, (size_t)n * 8);
    for (int64_t i = 0; i < n; i++) {
        const int64_t *table = tables + (alike ? 0 : i * k);
        hold(symbols[i] >= 0 && symbols[i] < k);
        for (int64_t j = 0; j < symbols[i]; j++)
            starts[i] += table[j];
        frequencies[i] = table[symbols[i]];
    }
    uint32_t *words = fresh(&d, (size_t)(n + 2) * 4);
    uint64_t state = 0;
    int64_t count = smalti_put(&state, starts, frequencies, n, words, 0);
    hold(count <= n);
    for (; state; state >>= 32)
        words[count++] = (uint32_t)state;
    smalti_stream own = {0, count, words};
    smalti_open(&own);
    smalti_take(&own, tables, n, k, alike ? 0 : k, again);
    hold(!memcmp(symbols, again, (size_t)n * 8) && !own.left && !own.state);
    end_data(&d);
    return 0;
}
