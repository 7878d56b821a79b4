/* SPDX-License-Identifier: MIT
 *
 * The kernel for processors with SSE4.1. Its functions have the attribute of what they need: the rest of the library
 * runs anywhere, and smalti_kernels says whether these may run. */
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define KERNEL(name) sse4_##name
#define TARGET __attribute__((target("sse4.1")))
#define V __m128i
#define LANES 4
#define LOAD(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define STORE(p, v) _mm_storeu_si128((__m128i *)(void *)(p), v)
#define SPREAD(i) _mm_set1_epi32(i)
#define ADD(a, b) _mm_add_epi32(a, b)
#define SUB(a, b) _mm_sub_epi32(a, b)
#define MULTIPLY(a, b) _mm_mullo_epi32(a, b)
#define SUM V
#define OPEN(v) (v)
#define CLOSE(sum) (sum)
#define DOT(sum, w, x) _mm_add_epi32(sum, _mm_madd_epi16(w, x))
/* There is no shift by several widths. Sums are below 2^24, so that float32 and 2^-shift give the same. */
#define SHIFT(v, l, o) _mm_cvttps_epi32(_mm_floor_ps(_mm_mul_ps(_mm_cvtepi32_ps(v), _mm_loadu_ps((l)->scales + (o)))))
#define LOAD16(p) _mm_cvtepi16_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))
#define STORE16(p, v) _mm_storel_epi64((__m128i *)(void *)(p), _mm_packs_epi32(v, v))
#define CLIP(v, top) _mm_min_epi32(_mm_max_epi32(v, _mm_setzero_si128()), top)
#define COPIED __m128i
#define COPY16(from, to, n) copy16(from, to, n)
#define JOIN(a, b) _mm_or_si128(a, b)
#define IS_ZERO(v) _mm_testz_si128(v, v)
#define HOLD(v) __asm__ volatile("" : "+x"(v));
#define TWO_SUMS 0
#define DOT2 DOT
#define LIST(x, i, values, indices, n) list4(x, i, values, indices, n)

TARGET static inline __m128i copy16(const uint8_t *from, int16_t *to, int64_t n) {
    __m128i bytes = _mm_and_si128(LOAD(from), LOAD(keep(n)));
    STORE(to, _mm_cvtepu8_epi16(bytes));
    STORE(to + 8, _mm_unpackhi_epi8(bytes, _mm_setzero_si128()));
    return bytes;
}

TARGET static inline int32_t list4(const int16_t *x, int32_t i, int32_t *values, int32_t *indices, int n) {
    __m128i pairs = LOAD(x), places = _mm_add_epi32(SPREAD(i), _mm_setr_epi32(0, 1, 2, 3));
    int set = _mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(pairs, _mm_setzero_si128()))) ^ 15;
    set &= (1 << n) - 1;
    STORE(values, _mm_shuffle_epi8(pairs, LOAD(smalti_to_front[set])));
    STORE(indices, _mm_shuffle_epi8(places, LOAD(smalti_to_front[set])));
    return (set & 1) + (set >> 1 & 1) + (set >> 2 & 1) + (set >> 3);
}
#include "simd.inc"
#endif
