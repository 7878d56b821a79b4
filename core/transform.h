/* SPDX-License-Identifier: MIT
 *
 * Code images by transform (docs/format.md, "By transform"): blocks of 8x8 pixels to coefficients and back, by trained
 * integer networks, and a causal prior that says how likely each coefficient is. */
#ifndef SMALTI_TRANSFORM_H
#define SMALTI_TRANSFORM_H

#include "coder.h"

enum {
    TF_SIDE = 8,
    TF_COLOURS = 3,
    TF_COEFFICIENTS = 192,
    TF_GROUPS = 16,
    TF_NEAR = 4,  /* blocks before, of which the prior sees all coefficients, */
    TF_FAR = 6,   /* and those of which it sees the first ones */
    TF_FAR_COEFFICIENTS = 48,
    TF_CONTEXT = TF_NEAR * (TF_COEFFICIENTS + 1) + TF_FAR * (TF_FAR_COEFFICIENTS + 1) + TF_COLOURS,
    TF_TAPS = 9,
    TF_WINDOW = TF_TAPS * (TF_COEFFICIENTS + 1),
    TF_HIDDEN = 320, /* units of a layer, at most */
    TF_OUTPUTS = 4,
    TF_MOST_OUTPUTS = 56 * TF_OUTPUTS, /* of a group */
    TF_RUN = 32,
    TF_SCALES = 256,
    TF_SHARES = 385,
    TF_WIDTHS = 257,
    TF_TAILS = 1025,
};

/* Weights: for each 16 outputs, for each pair of inputs, for each of the outputs the two weights. Outputs are filled up to
 * a multiple of 16, inputs to whole pairs. */
typedef struct {
    int32_t pairs, outputs;
    const int16_t *weights;
    const uint8_t *shifts; /* of each output, or NULL */
} smalti_tf_layer;

typedef struct {
    int32_t kernel, hidden, second, reserved;
    smalti_tf_layer forward, backward; /* of samples to coefficients; of coefficients to samples */
    smalti_tf_layer analysis[3], synthesis[3], context;
    smalti_tf_layer own[TF_GROUPS], deep[TF_GROUPS], last[TF_GROUPS];
    const int32_t *last_biases[TF_GROUPS];
    const int32_t *inputs; /* TF_COEFFICIENTS scales */
    const uint32_t *tails, *inverses;
    const uint16_t *shares;
    const uint8_t *widths;
    const int32_t *costs; /* 4096: 256 times the bits of a bit with this probability */
} smalti_transform;

/* What depends on the level. */
typedef struct {
    const int32_t *analysis[3], *synthesis[3]; /* biases of each layer */
    const int32_t *context, *deep;             /* of all groups, one after the other */
    const int32_t *steps, *places;             /* TF_COEFFICIENTS each */
} smalti_tf_level;

typedef struct {
    int32_t height, width, channels, reserved; /* channels: 1 or 3 */
    const smalti_tf_level *level;
    uint8_t *samples;  /* height width channels */
    int16_t *targets;  /* rows columns TF_COEFFICIENTS: what the analysis gives, and what is encoded */
    int16_t *coded;    /* likewise, as the decoder knows them */
    const uint16_t *factors; /* likewise: kappa counts so much more, times 256, for a coefficient that is encoded; or NULL */
    int64_t bits;            /* that it takes, times 256 */
} smalti_tf_image;

/* The bytes of the memory that is needed to code n images of a size together, and to transform one. */
SMALTI_API int64_t smalti_tf_work(const smalti_transform *model, int64_t n, int32_t height, int32_t width);
/* Compute `targets` of an image. */
SMALTI_API void smalti_tf_analyse(const smalti_transform *model, const smalti_tf_image *image, uint8_t *work);
/* Compute the samples of an image from `coded`. */
SMALTI_API void smalti_tf_synthesise(const smalti_transform *model, const smalti_tf_image *image, uint8_t *work);
/* Code `coded` of n images of one size; if encoding, from `targets`, with kappa bits (in 2^-16 of a squared step each)
 * weighed against the error. SMALTI_FULL if the buffer of the coder is full. */
SMALTI_API int32_t smalti_tf_code(const smalti_transform *model, smalti_tf_image *images, int64_t n, int64_t kappa,
                                  smalti_coder *coder, uint8_t *work);

typedef struct {
    /* out = start + weights * x for n rows; start: of each row, `start_stride` after the one before (0: all alike). */
    void (*sum)(const smalti_tf_layer *layer, const int16_t *x, int64_t stride, int64_t n, const int32_t *start,
                int64_t start_stride, int32_t *out, int64_t out_stride);
    /* to = clip(sums >> shifts) to 0 .. 4095; more: of each row, what is added before, or NULL. */
    void (*units)(const smalti_tf_layer *layer, const int32_t *sums, const int32_t *more, int16_t *to);
    /* to = clip((y * scales + half) >> 12) */
    void (*scale)(const int16_t *y, const int32_t *scales, int64_t n, int16_t *to);
} smalti_tf_kernel;

extern const smalti_tf_kernel tf_scalar;
#if defined(__x86_64__)
extern const smalti_tf_kernel tf_avx2, tf_avx512;
#elif defined(__aarch64__)
extern const smalti_tf_kernel tf_neon;
#elif defined(__wasm_simd128__)
extern const smalti_tf_kernel tf_wasm;
#endif

#endif
