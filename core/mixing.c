/* SPDX-License-Identifier: MIT
 *
 * Context mixing: its state, its coder, and the choice of a kernel. The coding itself is in mixing.inc, which each kernel
 * compiles for its own instructions. */
#include "mixing.h"
#include <string.h>

enum { MATCH_BITS = 16, MARGIN = 4, TOP = 3 };

static int32_t match_bits(int32_t bits) { return bits < MATCH_BITS ? bits : MATCH_BITS; }

int64_t smalti_mix_state_size(int32_t bits, int32_t follows) {
    const int64_t matches = (int64_t)MIX_MATCHES * 8 << match_bits(bits);
    const int64_t coded = follows ? ((int64_t)8 << bits) + ((int64_t)MIX_MATCHES * 4 << match_bits(bits)) : 0;
    return (int64_t)sizeof(smalti_mix_state) + matches + ((int64_t)MIX_SLOTS * 4 << bits) + coded + 64;
}

int64_t smalti_mix_work(int32_t height, int32_t width) {
    return ((int64_t)height + TOP) * ((int64_t)width + 2 * MARGIN) * (MIX_CHANNELS * 4 + 4 + 1) + 64;
}

void smalti_mix_start(smalti_mix_state *state, const smalti_mix_state *start, int32_t bits, int32_t follows) {
    memset(state, 0, (size_t)smalti_mix_state_size(bits, follows));
    memcpy(state, start, sizeof *state);
    state->bits = bits;
    state->images = 0;
    state->place = 0;
}

void smalti_coder_start(smalti_coder *coder) {
    coder->low = 0;
    coder->high = 0xffffffffu;
    coder->value = 0;
    coder->at = 0;
    for (int i = 0; i < 4 && coder->decodes; i++, coder->at++)
        coder->value = coder->value << 8 | (coder->at < coder->size ? coder->bytes[coder->at] : 0);
}

int32_t smalti_coder_end(smalti_coder *coder) {
    for (int n = 1; n <= 4; n++) {
        uint32_t rest = n < 4 ? 0xffffffffu >> (8 * n) : 0, value = coder->high & ~rest;
        if (value < coder->low)
            continue; /* with zeros behind, it would be below */
        if (coder->at + n > coder->size)
            return SMALTI_FULL;
        for (int i = 0; i < n; i++)
            coder->bytes[coder->at++] = (uint8_t)(value >> (24 - 8 * i));
        break;
    }
    while (coder->at && !coder->bytes[coder->at - 1])
        coder->at--; /* the decoder reads zeros behind the end */
    return SMALTI_OK;
}

int32_t smalti_mix(const smalti_mixer *model, smalti_mix_state *state, smalti_coder *coder,
                   smalti_mix_image *image, uint8_t *work) {
#if defined(__x86_64__)
    if (model->kernel == SMALTI_AVX512)
        return mix_avx512(model, state, coder, image, work);
    if (model->kernel == SMALTI_AVX2 || model->kernel == SMALTI_AVX_VNNI)
        return mix_avx2(model, state, coder, image, work);
#elif defined(__aarch64__)
    if (model->kernel == SMALTI_NEON)
        return mix_neon(model, state, coder, image, work);
#elif defined(__wasm_simd128__)
    if (model->kernel == SMALTI_WASM)
        return mix_wasm(model, state, coder, image, work);
#endif
    return mix_scalar(model, state, coder, image, work);
}
