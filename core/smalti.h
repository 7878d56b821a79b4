/* SPDX-License-Identifier: MIT
 *
 * The compiled core of smalti: the integers of the numpy engine, faster. It knows arrays and entropy-coded streams; it
 * parses no file and no model. It has no global state, and it allocates nothing: the caller gives all memory.
 *
 * Who calls it (src/smalti/core) has checked shapes, ranges and bounds of a model before (model/pixel_prior.py); the
 * core counts on these proofs and on nothing else. Only the words of the streams are not trusted.
 */
#ifndef SMALTI_H
#define SMALTI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define SMALTI_API __declspec(dllexport)
#else
#define SMALTI_API __attribute__((visibility("default")))
#endif

#define SMALTI_VERSION 2 /* of this interface; src/smalti/core/library.py takes no other */

enum {
    SMALTI_SCALAR,
    SMALTI_SSE4,
    SMALTI_AVX2,
    SMALTI_AVX_VNNI,
    SMALTI_AVX512,
    SMALTI_NEON,
    SMALTI_WASM,
    SMALTI_KERNELS
};
enum { SMALTI_LAYERS = 8, SMALTI_SMALL = 16, SMALTI_CHUNK = 32, SMALTI_SLACK = 64, SMALTI_COMPONENTS = 32 };
enum { SMALTI_KIND = 16 }; /* the number that tells kinds of symbols of samples apart */
enum { SMALTI_FLOATS = 64, SMALTI_CHANGES = 8, SMALTI_AXES = 8, SMALTI_ROWS = 256 };
enum { SMALTI_OK = 0, SMALTI_NO_SUCH_LEVEL = 1, SMALTI_FULL = 2, SMALTI_UNFIT = 3 };

SMALTI_API int32_t smalti_version(void);
SMALTI_API const char *smalti_sources(void); /* a hash of the sources, for tests */
SMALTI_API int32_t smalti_kernels(void);     /* bit k: the processor runs kernel k */
SMALTI_API int32_t smalti_big(int32_t kernel); /* outputs of a large block of weights; see smalti_layer */

/* A stream of rANS: its words, of which `left` are not yet read (the last one comes first), and the state. */
typedef struct {
    uint64_t state;
    int64_t left;
    const uint32_t *words;
} smalti_stream;

/* Begin to decode: move the first words into the state. */
SMALTI_API void smalti_open(smalti_stream *stream);
/* Decode n symbols by their frequencies (n k); each row is `stride` after the one before it, 0 if all are alike. */
SMALTI_API void smalti_take(smalti_stream *stream, const int64_t *frequencies, int64_t n, int64_t k, int64_t stride,
                            int64_t *symbols);
/* Encode n symbols, the last one first, and return how many words there are then, `count` of them from before.
 * `words` must have room for n more. The state is the encoder's; the caller appends it in the end. */
SMALTI_API int64_t smalti_put(uint64_t *state, const int64_t *starts, const int64_t *frequencies, int64_t n,
                              uint32_t *words, int64_t count);

/* The tables of logistics (entropy/logistic_mixture.py). limits: twice the distance at which a logistic ends. */
typedef struct {
    const int32_t *cdf, *weights, *inverse, *limits;
} smalti_logistics;

/* The distributions of one latent, for n rows. Outputs of the network: centres, widths and logits of each row, `stride`
 * after those of the row before; steps: one for each row; low, high: the lowest and the highest symbol. */
typedef struct {
    int64_t n, stride, low, high;
    const int64_t *outputs, *steps;
    int32_t components, reserved;
} smalti_column;

/* Decode a symbol for each row of a column. */
SMALTI_API int32_t smalti_take_mixtures(smalti_stream *stream, const smalti_logistics *tables,
                                        const smalti_column *column, int64_t *symbols);

/* The same for several streams: each gives the symbols of n / count rows that follow each other. */
SMALTI_API int32_t smalti_take_mixtures_each(smalti_stream *streams, int64_t count, const smalti_logistics *tables,
                                             const smalti_column *column, int64_t *symbols);

/* Decode n symbols, each by one of some tables of k frequencies. starts: for each entry of each table the sum of all
 * entries before it; which: the table of each symbol; of: its stream, or NULL if there is one stream. */
SMALTI_API void smalti_take_tables(smalti_stream *streams, const int64_t *of, const int64_t *which, int64_t n,
                                   const int64_t *starts, int64_t k, int64_t *symbols);

/* A masked MLP (model/masked_mlp.py). Its groups have `group` latents, `units` hidden units in each of two layers, and
 * `outputs` outputs. In each block of weights there are, for each pair of inputs and there for each output, the two
 * weights; outputs are filled up to `unit_room` or `output_room`, multiples of 16, and inputs of a group to whole pairs.
 * Each group has a block: of the latents before it (`first`), of the units of its own and earlier groups (`second`,
 * `third`). The context has one block for the units of all groups. Biases, for each of some operating points, and shifts
 * are those of all groups, one after another, filled up to `all_units` or `all_outputs`: by at least 16, to a multiple
 * of 16. */
typedef struct {
    int64_t groups, group, units, outputs, context, unit_room, output_room, all_units, all_outputs;
    const int16_t *context_weights, *first, *second, *third;
    const int32_t *biases[3], *shifts[3];
    const float *scales[3]; /* 2^-shift */
    int32_t kernel, reserved;
} smalti_mlp;

/* The latents of n rows, which stand one behind the other (n l). which: the operating point of each row, by its number
 * in `biases` and in `steps` (points l); low, high (l): the symbols. */
typedef struct {
    int64_t n;
    const int32_t *which;
    const int64_t *steps, *low, *high;
    int32_t components, reserved;
} smalti_latents;

/* The bytes of working memory that the two functions below need. */
SMALTI_API int64_t smalti_latents_work(const smalti_mlp *mlp, int64_t n);
/* Decode the symbols of latents (n l), latent by latent. Each of `count` streams has n / count rows that follow. */
SMALTI_API int32_t smalti_take_latents(const smalti_mlp *mlp, const smalti_logistics *tables,
                                       const smalti_latents *latents, smalti_stream *streams, int64_t count,
                                       int64_t *symbols, uint8_t *work);
/* Compute the distributions below each symbol and up to it (n l 2), of 2^28, as if no range ended them. */
SMALTI_API int32_t smalti_latent_cdf(const smalti_mlp *mlp, const smalti_logistics *tables,
                                     const smalti_latents *latents, const int64_t *symbols, int64_t *cdf,
                                     uint8_t *work);

/* The prior of spatial latents (model/spatial_prior.py). c: spatial latents of a position. For each operating point and
 * latent (points c): step, inverse, octaves, and whether it is coded. starts: for each entry of each table the sum of
 * all entries before it. */
typedef struct {
    const smalti_mlp *mlp;
    int64_t features;
    const int64_t *steps, *inverses, *octaves;
    const uint8_t *active;
    const int64_t *starts;
} smalti_spatial;

/* Images of h w positions. features (n k h w): integers from 0 to ACTIVATION_MAX; which: as above, of each image. */
typedef struct {
    int64_t n, h, w;
    const float *features;
    const int32_t *which;
} smalti_positions;

/* The bytes of working memory that the two functions below need. */
SMALTI_API int64_t smalti_spatial_work(const smalti_spatial *prior, const smalti_positions *places);
/* Decode the symbols of spatial latents (n c h w), which must be zeros before. of: the stream of each image. */
SMALTI_API int32_t smalti_take_spatial(const smalti_spatial *prior, const smalti_positions *places,
                                       smalti_stream *streams, const int32_t *of, int64_t *symbols, uint8_t *work);
/* Find for known symbols (n c h w) the one nearest to the centre, and its table (both n h w c). */
SMALTI_API int32_t smalti_spatial_tables(const smalti_spatial *prior, const smalti_positions *places,
                                         const int64_t *symbols, int64_t *base, int64_t *table, uint8_t *work);

/* A layer of a network. Weights come in blocks of `big` outputs (the kernel's number) as far as they go, then in blocks
 * of 16. In a block there are, for each pair of inputs and there for each output, the two weights. */
typedef struct {
    int64_t pairs, outputs, big; /* outputs: a multiple of 16; big: how many of them are in large blocks */
    const int16_t *weights;
    const int32_t *biases, *shifts;
    const float *scales; /* 2^-shift */
} smalti_layer;

/* A pixel prior (docs/format.md, "Pixels"). Inputs are padded: each row of the window fills whole pairs. */
typedef struct {
    int32_t channels, above, reach, left, layers, components, kernel, reserved;
    smalti_layer layer[SMALTI_LAYERS];
    const int32_t *rows, *columns, *errors; /* biases of the first layer: 64, 64 * channels, 127 by outputs */
    smalti_logistics logistics;
} smalti_prior;

/* Planes of samples that are walked over in the order of coding. */
typedef struct {
    int64_t n, h, m, least;             /* planes; the rows and samples of the largest; least: see smalti_decode */
    const int32_t *sides;               /* n 2: rows and samples of a row of each plane, at least 1 */
    const int32_t *errors;              /* n: largest errors */
    const int32_t *images;              /* n: the image of each plane, rising from 0 */
    uint8_t *padded;                    /* n (above+h) (m+2*side), zeros, then SLACK bytes; side: see walk_side */
    const uint8_t *values;              /* n h m: what is to be encoded; none if decoding */
} smalti_planes;

/* The symbols of samples (SampleSymbols in codec/block.py), in the order in which they were coded. */
typedef struct {
    int64_t capacity, count;
    uint32_t *images;
    uint64_t *keys;
    uint32_t *below, *up_to, *whole;
    uint8_t *kinds;
} smalti_symbols;

/* The bytes of working memory that the two functions below need. */
SMALTI_API int64_t smalti_work(const smalti_prior *prior, const smalti_planes *planes);
/* Decode all planes. of_plane: the stream of each plane (n). symbols: where to record symbols, or NULL.
 * least: the smallest largest error that an image of the streams may have. */
SMALTI_API int32_t smalti_decode(const smalti_prior *prior, const smalti_planes *planes, smalti_stream *streams,
                                 const int32_t *of_plane, smalti_symbols *symbols, uint8_t *work);
/* Quantise all planes and record their symbols. lmbda: the squared error, in squared steps, that is worth a bit; 0 takes
 * the nearest levels. bits: log2 of 1 to 2 in 4096 steps, times 2^32 (4097). */
SMALTI_API int32_t smalti_quantise(const smalti_prior *prior, const smalti_planes *planes, double lmbda,
                                   const int64_t *bits, smalti_symbols *symbols, uint8_t *work);
/* Sum the bits that the symbols of each of n images take of an ideal coder, in 2^-32 bits. The symbols are sorted by
 * images, counts[i] of image i. sizes: of the tables of each of the three kinds of symbol; bits: as above. */
SMALTI_API void smalti_sum_bits(const smalti_symbols *symbols, const int64_t *counts, int64_t n, const int64_t *sizes,
                                const int64_t *bits, int64_t *sums);
/* Encode symbols in this order, the last one first, otherwise as smalti_put does. sizes: as above. */
SMALTI_API int64_t smalti_put_symbols(uint64_t *state, const smalti_symbols *symbols, const uint32_t *order,
                                      const int64_t *sizes, uint32_t *words, int64_t count);
/* Find the order of n keys of key_size bytes, up to `most`, by size; equal ones stay as they are. work: n. */
SMALTI_API void smalti_order(const void *keys, int32_t key_size, int64_t n, uint64_t most, uint32_t *order,
                             uint32_t *work);
/* Sort symbols by their images. counts: the symbols of each of n images, as they are; keys: of key_size bytes. */
SMALTI_API void smalti_sort(const smalti_symbols *from, int64_t n, int64_t *counts, smalti_symbols *to, void *keys,
                            int32_t key_size);

/* The numbers of a tensor of a network: those of `size` for each image, one image after another. Tensors of four axes
 * have the channels last: n h w c. */
typedef struct {
    float *values;
    int64_t size;
} smalti_tensor;

enum { SMALTI_MAP, SMALTI_LINEAR, SMALTI_POOL, SMALTI_GATHER, SMALTI_COPY };
enum { SMALTI_ADD, SMALTI_SUBTRACT, SMALTI_MULTIPLY, SMALTI_DIVIDE, SMALTI_FLOOR, SMALTI_CLIP };

/* What is done to each number of a result. The operand is a tensor, of whose rows each serves `each` rows of the result;
 * or, if `tensor` is -1, constants, one for each channel, or, if there are none, the number `low`. */
typedef struct {
    int32_t kind, tensor;
    float low, high; /* SMALTI_CLIP: to low .. high */
    const float *values;
    int64_t each;
} smalti_change;

/* A step of a network: it makes a tensor of another one, and then changes its numbers. An image has `parts` parts, each
 * of which has `rows` rows of `channels` numbers in the result.
 *
 * SMALTI_MAP     copies the numbers.
 * SMALTI_LINEAR  is a convolution, k by k, of h w c to rows = result's h * columns, with h and w divided by the stride,
 *                rounded up, and (k - 1) / 2 zeros around. With `weights` (for each SMALTI_FLOATS outputs, k k c of
 *                them) it sums in float32, in the order k k c. Without, it takes 16-bit integers: inputs times `scale`,
 *                the layer's weights (k k c, in pairs), sums times `scales`. A matrix product has h = w = k = 1.
 * SMALTI_POOL    takes the largest of each two by two pixels.
 * SMALTI_GATHER  takes rows of a table, `weights`, of h rows.
 * SMALTI_COPY    moves numbers: for all places on all axes, from the sum of `sources` to the sum of `targets`.
 *                in_rows: those of the last axis follow each other. */
typedef struct {
    int32_t kind, changes, from, to;
    int64_t parts, rows, channels, h, w, c, k, stride, columns;
    smalti_change change[SMALTI_CHANGES];
    smalti_layer layer;
    const float *scales, *weights;
    float scale;
    int32_t axes, in_rows, reserved;
    int64_t sizes[SMALTI_AXES];
    const int32_t *sources[SMALTI_AXES], *targets[SMALTI_AXES];
} smalti_step;

/* The steps of a network, and its tensors: inputs, which the caller fills, results, and what is between. */
typedef struct {
    int64_t steps, count; /* count: of tensors */
    const smalti_step *step;
    const smalti_tensor *tensors;
    int32_t kernel, reserved;
} smalti_program;

/* The bytes of working memory to run a network on n images; -1 if a step does not stay within its tensors. */
SMALTI_API int64_t smalti_network_work(const smalti_program *program, int64_t n);
/* Run a network on n images. A step that does not stay within its tensors is refused before any runs. */
SMALTI_API int32_t smalti_run(const smalti_program *program, int64_t n, uint8_t *work);

#endif
