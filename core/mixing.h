/* SPDX-License-Identifier: MIT
 *
 * Code images by context mixing (docs/format.md, "By mixing"): a network that was trained says how likely each sample
 * is, counters learn from the images that are coded, and mixers join what they say. All of it is in integers. */
#ifndef SMALTI_MIXING_H
#define SMALTI_MIXING_H

#include "coder.h"

enum {
    MIX_CHANNELS = 3,    /* of colour: green, red, blue */
    MIX_INPUTS = 72,     /* of a network, at most */
    MIX_DRAWN = 4,       /* networks for drawn images: of each channel, and of alpha */
    MIX_LAYERS = 3,      /* of a network */
    MIX_HIDDEN = 256,    /* units of a hidden layer, at most */
    MIX_LOGISTICS = 3,
    MIX_OUTPUTS = 16,    /* logits, means and scales, filled up */
    MIX_TERMS = 16,      /* inputs of a mixer: the network, counters, a constant */
    MIX_NODES = 512,     /* weights by what is decided */
    MIX_SETS = 2816,     /* weights by the context of a decision */
    MIX_STEPS = 26,      /* of a curve that corrects a probability */
    MIX_SLOTS = 16,      /* of a line of counters: its key, then fifteen counters */
    MIX_COLOURS = 15,    /* that are kept: the last ones that were new */
    MIX_MATCHES = 3,     /* contexts of which the pixel that followed is kept */
    MIX_CORRECTIONS = 48, /* terms of what the network is off by, filled up */
    MIX_BIASES = 2657,    /* contexts of mean errors: 2^8, and 7^4 */
};

/* A layer; outputs are filled up to 16. Its weights are, if it is listed, for each input those of all outputs; else, for each 16
 * outputs, for each pair of inputs, for each output the two weights. Only a layer behind a hidden one may be listed. */
typedef struct {
    int32_t inputs, outputs, listed, reserved;
    const int16_t *weights;
    const int32_t *biases;
} smalti_mix_layer;

typedef struct {
    int32_t kernel, primed_bits; /* log2 of the lines of `primed`, which is a table of MIX_SLOTS each; 0: there is none */
    smalti_mix_layer layers[MIX_CHANNELS][MIX_LAYERS], drawn[MIX_DRAWN][MIX_LAYERS]; /* drawn: without inputs if there are none */
    const uint32_t *primed;
    const uint16_t *squash;    /* 6144: probabilities of 65536 for logits of -3072 to 3071, in 1/256 */
    const int16_t *stretch;    /* 4096 logits of the middles of 4096 ranges, then 2048 of the lowest 2048 probabilities */
    const uint32_t *logistic;  /* 4097: the logistic function times 2^24, from -16 to 16 */
    const uint32_t *scales;    /* 641: 2^16 exp(-(i - 448) / 64) */
    const uint32_t *weights;   /* 768: 2^16 exp(-i / 64) */
    const uint16_t *rates;     /* 256: by how often a counter was used, how far it moves, of 65536 */
    const int16_t *confidence; /* 256: by how often a counter was used, how much it counts, of 256 */
    const int16_t *logs;       /* 2049: 16 log2 of 1 to 2048 */
    const int32_t *inverses;   /* 2049: 2^19 / (1 to 2048) */
    int32_t tone, alpha, pick, samples, candidates; /* which contexts there are, as bits; the most candidates */
    int32_t follows;                                /* whether the second match is the pixel that is followed */
    int32_t corrects;                               /* whether errors of the network tell those that come */
} smalti_mixer;

/* What the mixers have learned; matches and lines follow, and the pixels that were coded, if the model follows some. */
typedef struct {
    int32_t node_weights[MIX_NODES][MIX_TERMS], set_weights[MIX_SETS][MIX_TERMS], last_weights[MIX_NODES][2];
    uint16_t curves[2][MIX_SETS][MIX_STEPS];
    uint32_t order0[MIX_NODES];
    int32_t corrections[2][MIX_CHANNELS][MIX_CORRECTIONS]; /* weights, where images are exact and where they are not */
    int32_t biases[MIX_CHANNELS][MIX_BIASES];              /* mean errors, 20 fractional bits */
    uint32_t colours[MIX_COLOURS + 1];
    uint32_t images; /* that were coded */
    int32_t bits;    /* log2 of the lines; matches have as many entries, but at most 2^16 */
    uint32_t place;  /* of the next image, among pixels that were coded */
} smalti_mix_state;

/* What networks for drawn images see, for training: rows of their inputs, the value, the prediction and the energy. */
typedef struct {
    int64_t room, count[MIX_DRAWN]; /* in rows */
    int16_t *rows[MIX_DRAWN];
} smalti_mix_rows;

typedef struct {
    int32_t height, width, channels, step; /* step: 2 * the largest error + 1 */
    int32_t drawn, reserved;               /* drawn: how it is coded; if decoding, this is told */
    uint8_t *samples;
    smalti_mix_rows *rows; /* or NULL */
} smalti_mix_image;

/* The bytes of the state with 2^bits lines, and of the memory that is needed for an image. follows: as in the model. */
SMALTI_API int64_t smalti_mix_state_size(int32_t bits, int32_t follows);
SMALTI_API int64_t smalti_mix_work(int32_t height, int32_t width);
/* Bring a state to its start: what `start` says of the mixers (as long as smalti_mix_state), and no line. */
SMALTI_API void smalti_mix_start(smalti_mix_state *state, const smalti_mix_state *start, int32_t bits,
                                 int32_t follows);
/* Code one image, which must fit its buffer; SMALTI_FULL if the buffer of the coder is full. */
SMALTI_API int32_t smalti_mix(const smalti_mixer *model, smalti_mix_state *state, smalti_coder *coder,
                              smalti_mix_image *image, uint8_t *work);

/* Write what the networks see of each pixel; see mixing_scalar.c. Training needs it. */
SMALTI_API void smalti_mix_inputs(const smalti_mixer *model, const smalti_mix_image *image, int16_t *const *rows,
                                  uint8_t *work);

typedef int32_t mix_code(const smalti_mixer *, smalti_mix_state *, smalti_coder *, smalti_mix_image *, uint8_t *);
mix_code mix_scalar;
#if defined(__x86_64__)
mix_code mix_avx2, mix_avx512;
#elif defined(__aarch64__)
mix_code mix_neon;
#elif defined(__wasm_simd128__)
mix_code mix_wasm;
#endif

#endif
