/* SPDX-License-Identifier: MIT
 *
 * Decode latents: a symbol is searched in the distribution of its mixture, of which no whole table is made. */
#include "mixture.h"
#include "rans.h"

int32_t smalti_take_mixtures(smalti_stream *stream, const smalti_logistics *tables, const smalti_column *column,
                             int64_t *symbols) {
    const int32_t count = column->components;
    const int64_t room = TOTAL - (column->high - column->low + 1);
    if (count < 1 || count > SMALTI_COMPONENTS)
        return SMALTI_FULL;
    for (int64_t i = 0; i < column->n; i++) {
        logistic mixture[SMALTI_COMPONENTS];
        const int64_t *outputs = column->outputs + i * column->stride;
        int32_t left = 1 << WEIGHT_BITS, quantile = (int32_t)rans_quantile(stream);
        for (int32_t k = 0; k < count; k++)
            mixture[k] = make_logistic(tables, k, count, (int32_t)outputs[k], (int32_t)outputs[count + k],
                                       k + 1 < count ? (int32_t)outputs[2 * count + k] : 0, &left);
        int64_t symbol = column->low, end = column->high + 1;
        int32_t start = 0, stop = TOTAL;
        while (end - symbol > 1) { /* the symbol is among symbol .. end - 1 */
            int64_t middle = symbol + (end - symbol) / 2;
            int32_t below = cdf_at(tables, mixture, count, (int32_t)((2 * middle - 1) * column->steps[i]));
            int32_t at = (int32_t)((below * room >> WHOLE_BITS) + middle - column->low);
            if (at > quantile)
                end = middle, stop = at;
            else
                symbol = middle, start = at;
        }
        if (column->high > column->low) /* else the symbol is certain and takes no bits */
            rans_advance(stream, (uint32_t)start, (uint32_t)(stop - start));
        symbols[i] = symbol;
    }
    return SMALTI_OK;
}

int32_t smalti_take_mixtures_each(smalti_stream *streams, int64_t count, const smalti_logistics *tables,
                                  const smalti_column *column, int64_t *symbols) {
    smalti_column part = *column;
    part.n = count ? column->n / count : 0;
    for (int64_t i = 0; i < count; i++) {
        part.outputs = column->outputs + i * part.n * column->stride;
        part.steps = column->steps + i * part.n;
        int32_t code = smalti_take_mixtures(streams + i, tables, &part, symbols + i * part.n);
        if (code != SMALTI_OK)
            return code;
    }
    return SMALTI_OK;
}
