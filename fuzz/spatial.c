/* SPDX-License-Identifier: MIT
 *
 * Fuzz spatial latents: decode any words by any network and any tables that a model may have; find the tables of what
 * came out, encode it by them, and decode that. All kernels must agree. */
#include "mlp_data.h"

enum { POINTS = 2, TABLES = 8 * 37, SYMBOL_MAX = 448, BASE_MAX = 64, REACH = SYMBOL_MAX + BASE_MAX, ENTRIES = 2 * REACH + 1 };
enum { KINDS = 4, TOTAL = 1 << 24 };

/* Tables of frequencies, by the sums before each entry. There are a few kinds, for a table is large. */
static int64_t kinds[KINDS][ENTRIES];

static void make_kinds(void) {
    data d = {0};
    for (int k = 0; k < KINDS && !kinds[k][1]; k++) {
        int64_t left = TOTAL - ENTRIES, sum = 0; /* what is left beside 1 for each entry */
        for (int64_t e = 0; e < ENTRIES; e++) {
            const int64_t even = (TOTAL - ENTRIES) / ENTRIES, random = (int64_t)(any(&d) % (uint64_t)(left + 1));
            const int64_t more = k == 0 ? even : k == 1 ? (any(&d) % 3 ? 0 : random) : e == (k == 2 ? 0 : REACH) ? left : 0;
            kinds[k][e] = sum;
            sum += 1 + more, left -= more;
        }
    }
}

static int64_t frequency(const int64_t *starts, int64_t entry) {
    return (entry + 1 < ENTRIES ? starts[entry + 1] : TOTAL) - starts[entry];
}

/* Encode the symbols of all images in the order in which they are decoded: pass by pass, latent by latent, table by table. */
static smalti_stream encoded(data *d, const smalti_spatial *prior, const smalti_positions *places, const int64_t *symbols,
                             const int64_t *base, const int64_t *table) {
    const int64_t c = prior->mlp->groups * prior->mlp->group, all = places->h * places->w, n = places->n * all;
    int64_t *starts = fresh(d, (size_t)(n * c) * 8), *frequencies = fresh(d, (size_t)(n * c) * 8), count = 0;
    for (int64_t odd = 0; odd < 2; odd++)
        for (int64_t l = 0; l < c; l++)
            for (int64_t t = 0; t < TABLES; t++)
                for (int64_t i = 0; i < n; i++) {
                    const int64_t image = i / all, place = i % all;
                    if (table[i * c + l] != t || (place / places->w + place % places->w) % 2 != odd ||
                        !prior->active[places->which[image] * c + l])
                        continue;
                    const int64_t entry = symbols[(image * c + l) * all + place] - base[i * c + l] + REACH;
                    hold(entry >= 0 && entry < ENTRIES);
                    starts[count] = prior->starts[t * ENTRIES + entry];
                    frequencies[count++] = frequency(prior->starts + t * ENTRIES, entry);
                }
    return put_all(d, starts, frequencies, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    make_kinds();
    data d = begin_data(bytes, size);
    smalti_spatial prior = {0};
    /* the context has the latents of four neighbours, so that the size of the network comes first */
    data ahead = d;
    const int64_t groups = within(&ahead, 1, 4), c_ahead = groups * within(&ahead, 1, 3);
    prior.features = 1 + any(&ahead) % 5;
    smalti_mlp mlp = mlp_of(&d, POINTS, prior.features + 4 * c_ahead + 1, ACTIVATION_MAX, 2);
    const int64_t c = mlp.groups * mlp.group;
    hold(c == c_ahead);
    int64_t *steps = fresh(&d, (size_t)(POINTS * c) * 8), *inverses = fresh(&d, (size_t)(POINTS * c) * 8);
    int64_t *octaves = fresh(&d, (size_t)(POINTS * c) * 8), *starts = fresh(&d, (size_t)(TABLES * ENTRIES) * 8);
    uint8_t *active = fresh(&d, (size_t)(POINTS * c));
    for (int64_t i = 0; i < POINTS * c; i++) {
        steps[i] = 1 + any(&d) % (any(&d) & 1 ? LATENT_MAX : 20);
        inverses[i] = ((8 << 16) + steps[i] / 2) / steps[i];
        octaves[i] = (int64_t)(any(&d) % 2049) - 1024;
        active[i] = any(&d) % 4 != 0;
    }
    for (int64_t t = 0; t < TABLES; t++)
        memcpy(starts + t * ENTRIES, kinds[any(&d) % KINDS], ENTRIES * 8);
    smalti_positions places = {within(&d, 1, 3), within(&d, 1, 4), within(&d, 1, 4), 0, 0};
    const int64_t all = places.n * places.h * places.w;
    float *features = fresh(&d, (size_t)(all * prior.features) * 4);
    int32_t *which = fresh(&d, (size_t)places.n * 4), *of = fresh(&d, (size_t)places.n * 4);
    for (int64_t i = 0; i < all * prior.features; i++)
        features[i] = any(&d) & 1 ? 0 : (float)(any(&d) % (ACTIVATION_MAX + 1));
    for (int64_t i = 0; i < places.n; i++)
        which[i] = (int32_t)(any(&d) % POINTS);
    places.features = features, places.which = which;
    prior.mlp = &mlp, prior.steps = steps, prior.inverses = inverses, prior.octaves = octaves, prior.active = active;
    prior.starts = starts;
    const smalti_stream stream = stream_of(&d);
    int64_t *first = 0, *first_base = 0, *first_table = 0;
    for (int32_t kernel = 0, kernels = smalti_kernels(); kernel < SMALTI_KERNELS; kernel++) {
        if (!(kernels >> kernel & 1))
            continue;
        mlp.kernel = kernel;
        const size_t room = (size_t)(all * c) * 8;
        int64_t *symbols = fresh(&d, room), *base = fresh(&d, room), *table = fresh(&d, room);
        uint8_t *work = fresh(&d, (size_t)smalti_spatial_work(&prior, &places));
        smalti_stream own = stream;
        hold(smalti_take_spatial(&prior, &places, &own, of, symbols, work) == SMALTI_OK);
        hold(smalti_spatial_tables(&prior, &places, symbols, base, table, work) == SMALTI_OK);
        for (int64_t i = 0; i < all * c; i++)
            hold(base[i] >= -BASE_MAX && base[i] <= BASE_MAX && table[i] >= 0 && table[i] < TABLES);
        if (first) {
            hold(!memcmp(first, symbols, room) && !memcmp(first_base, base, room) && !memcmp(first_table, table, room));
            continue;
        }
        first = symbols, first_base = base, first_table = table;
        int64_t *again = fresh(&d, room);
        own = encoded(&d, &prior, &places, symbols, base, table);
        hold(smalti_take_spatial(&prior, &places, &own, of, again, work) == SMALTI_OK);
        hold(!memcmp(symbols, again, room) && !own.left && !own.state);
    }
    end_data(&d);
    return 0;
}
