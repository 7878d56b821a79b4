/* SPDX-License-Identifier: MIT
 *
 * The encoder's search of latents: what it takes. The files of strangers never reach it. */
#ifndef SMALTI_SEARCH_H
#define SMALTI_SEARCH_H

#include "smalti.h"

enum { SMALTI_TAPS = 64, SMALTI_MOVES = 16 };

/* A stage of a network: sums of products at some positions, each of which makes `outputs` units.
 *
 * All units of a network stand one after another. Those of a stage begin at `first`: position after position, and in
 * each some rows of `channels` units. Rows are numbered through all of the network, the stage's own from `first_row`
 * on; the last row of all is always empty. A position adds up what `taps` rows before it give; `where` tells for each
 * position and tap the row, and which pair of the weights belongs to the first pair of the row. For each pair and there
 * for each output there are two weights. The last stage leaves its sums, shifted; others make
 * clip(sum >> shift + more, 0, high). */
typedef struct {
    int64_t positions, taps, outputs, padded; /* padded: outputs, up to a multiple of 16 */
    int64_t rows, channels, first, first_row, first_sum;
    int64_t stride;          /* from the biases and shifts of a position to those of the next one */
    const int32_t *where;    /* positions taps 2 */
    const int32_t *more;     /* positions: the units that are added, or NULL */
    const int16_t *weights;  /* pairs padded 2 */
    const int32_t *biases, *shifts; /* padded, or positions padded */
    const float *scales;     /* 2^-shift */
    int32_t high, is_last;
} smalti_stage;

/* A network of stages. Its first rows are inputs; all units, those of the inputs too, stand one after another. */
typedef struct {
    int64_t units, rows, sums, entries, most; /* entries: of all lists; most: the most padded outputs of a stage */
    const int64_t *lists;    /* rows: where the list of a row begins */
    const int64_t *starts;   /* rows: where the units of a row begin */
    const int32_t *channels; /* rows: units of a row */
    const smalti_stage *stage;
    int32_t stages, kernel;
} smalti_net;

/* An image whose latents are searched. l: latents of a patch. */
typedef struct {
    const smalti_net *image, *prior;
    const smalti_logistics *logistics;
    const int64_t *bits;                /* see smalti_quantise */
    int64_t patches, latents, pixels, most; /* most: the largest absolute value of a latent */
    const int64_t *steps, *low, *high;  /* l */
    const int32_t *image_row, *image_unit; /* patches * l: the row and the unit of each latent in `image` */
    const int32_t *prior_unit;          /* l: the unit of each latent in `prior`, whose row is its own */
    const int32_t *prior_row;           /* l */
    const int32_t *prior_sum;           /* l: where the mixture of each latent is in the sums of the last stage */
    const int32_t *pixel_unit;          /* pixels: the unit that becomes each pixel */
    const uint8_t *table;               /* the pixel for each value of its unit */
    int32_t components, passes;
} smalti_search;

/* The bytes of working memory that smalti_refine needs for an image with so many hopeful latents. */
SMALTI_API int64_t smalti_refine_work(const smalti_search *search, int64_t hopeful);
/* Take steps of latents of an image that lower bits + multiplier * squared error, in passes (codec/rdo.py). units: the
 * values of the inputs of `image` that are no latents, at their places. hopeful: `count` latents that may vary. symbols
 * (patches l): in range; they are replaced by better ones. */
SMALTI_API int32_t smalti_refine(const smalti_search *search, const uint8_t *pixels, const int16_t *units,
                                 int64_t inputs, double multiplier, int64_t *hopeful, int64_t count, int64_t *symbols,
                                 uint8_t *work);

#endif
