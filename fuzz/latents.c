/* SPDX-License-Identifier: MIT
 *
 * Fuzz latents: decode any words by mixtures from any network and from any tables that a model may have. */
#include "data.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    data d = begin_data(bytes, size);
    int64_t n = within(&d, 0, 30), components = within(&d, 1, SMALTI_COMPONENTS + 1), entries = 3 * components - 1;
    int64_t most = 4095, low = within(&d, -most, most), high = within(&d, low, most);
    int64_t stride = entries + within(&d, 0, 3), *outputs = fresh(&d, (size_t)(n * stride) * 8);
    int64_t *steps = fresh(&d, (size_t)n * 8), *symbols = fresh(&d, (size_t)n * 8);
    for (int64_t i = 0; i < n * stride; i++) {
        int32_t reach = any(&d) & 1 ? 1 << 24 : 1 << (any(&d) % 25);
        outputs[i] = (int64_t)(any(&d) % (2 * (uint32_t)reach)) - reach;
    }
    for (int64_t i = 0; i < n; i++)
        steps[i] = 1 + any(&d) % 65535;
    smalti_logistics tables = logistics_of(&d);
    smalti_stream stream = stream_of(&d);
    smalti_column column = {n, stride, low, high, outputs, steps, (int32_t)components, 0};
    int32_t code = smalti_take_mixtures(&stream, &tables, &column, symbols);
    hold((code == SMALTI_OK) == (components <= SMALTI_COMPONENTS));
    for (int64_t i = 0; i < n && code == SMALTI_OK; i++)
        hold(symbols[i] >= low && symbols[i] <= high);
    end_data(&d);
    return 0;
}
