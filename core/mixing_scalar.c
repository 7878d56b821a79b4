/* SPDX-License-Identifier: MIT */
/* Context mixing for every processor. */
#define MIX_NAME mix_scalar
#include "mixing.inc"

/* Write what the networks see of each pixel: for each channel a row of its inputs, the value, the prediction and the
 * energy. rows: one array a channel (pixels, inputs + 3); for an image without colours, only the first. */
void smalti_mix_inputs(const smalti_mixer *model, const smalti_mix_image *image, int16_t *const *rows, uint8_t *work) {
    static const int32_t order[MIX_CHANNELS] = {1, 0, 2};
    const int32_t w = image->width, h = image->height, channels = image->channels;
    const bool in_colour = channels > 2;
    const int64_t st = w + 2 * MARGIN, plane = st * (h + TOP), first = TOP * st + MARGIN;
    int16_t *samples = (int16_t *)(void *)work, inputs[MIX_INPUTS + 8], *to[MIX_CHANNELS];
    base before[MIX_CHANNELS] = {{0, 0}};
    memcpy(to, rows, sizeof to);
    for (int32_t y = 0; y < h; y++)
        for (int32_t x = 0; x < w; x++) {
            const uint8_t *p = image->samples + ((int64_t)y * w + x) * channels;
            planes at = {st, {0}};
            for (int32_t k = 0; k < MIX_CHANNELS; k++) {
                at.p[k] = samples + k * plane + first + y * st + x;
                FILL_MARGINS(int16_t, at.p[k] - x, st, x, y, w, 128);
                at.p[k][0] = p[in_colour ? order[k] : 0];
            }
            for (int32_t k = 0; k < (in_colour ? MIX_CHANNELS : 1); k++) {
                const int32_t n = model->layers[k][0].inputs;
                before[k] = features(model, &at, k, before, in_colour, inputs);
                memcpy(to[k], inputs, (size_t)n * 2);
                to[k][n] = at.p[k][0];
                to[k][n + 1] = (int16_t)before[k].prediction;
                to[k][n + 2] = (int16_t)before[k].energy;
                to[k] += n + 3;
            }
        }
}
