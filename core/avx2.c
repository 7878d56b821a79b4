/* SPDX-License-Identifier: MIT
 *
 * The kernels for processors with AVX2, and with AVX-VNNI, which differ in the products alone. See sse4.c. */
#include "kernels.h"

#if defined(__x86_64__)
#include "front.h"
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,bmi,popcnt")))
#define V __m256i
#define LANES 8
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define SPREAD(i) _mm256_set1_epi32(i)
#define ADD(a, b) _mm256_add_epi32(a, b)
#define SUB(a, b) _mm256_sub_epi32(a, b)
#define MULTIPLY(a, b) _mm256_mullo_epi32(a, b)
#define SUM V
#define OPEN(v) (v)
#define CLOSE(sum) (sum)
#define SHIFT(v, l, o) _mm256_srav_epi32(v, LOAD((l)->shifts + (o)))
#define LOAD16(p) _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define STORE16(p, v) store16(p, v)
#define CLIP(v, top) _mm256_min_epi32(_mm256_max_epi32(v, _mm256_setzero_si256()), top)
#define COPIED __m128i
#define COPY16(from, to, n) copy16(from, to, n)
#define JOIN(a, b) _mm_or_si128(a, b)
#define IS_ZERO(v) _mm_testz_si128(v, v)
#define HOLD(v) __asm__ volatile("" : "+x"(v));
#define TWO_SUMS 0
#define LIST(x, i, values, indices, n) list8(x, i, values, indices, n)

AVX2 static inline void store16(int16_t *to, __m256i v) {
    __m128i both = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storeu_si128((__m128i *)(void *)to, both);
}

AVX2 static inline __m128i copy16(const uint8_t *from, int16_t *to, int64_t n) {
    __m128i bytes = _mm_and_si128(_mm_loadu_si128((const __m128i *)(const void *)from),
                                  _mm_loadu_si128((const __m128i *)(const void *)keep(n)));
    STORE(to, _mm256_cvtepu8_epi16(bytes));
    return bytes;
}

AVX2 static inline int32_t list8(const int16_t *x, int32_t i, int32_t *values, int32_t *indices, int n) {
    __m256i pairs = LOAD(x);
    int zero = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(pairs, _mm256_setzero_si256())));
    int set = (zero ^ 255) & ((1 << n) - 1);
    __m256i digits = SPREAD((int32_t)TO_FRONT[set]);
    __m256i places = _mm256_srlv_epi32(digits, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    places = _mm256_and_si256(places, SPREAD(7));
    STORE(values, _mm256_permutevar8x32_epi32(pairs, places));
    STORE(indices, ADD(places, SPREAD(i)));
    return __builtin_popcount((unsigned)set);
}

#define KERNEL(name) avx2_##name
#define TARGET AVX2
#define DOT(sum, w, x) _mm256_add_epi32(sum, _mm256_madd_epi16(w, x))
#define DOT2 DOT
#include "simd.inc"

#define KERNEL(name) avx_vnni_##name
#define TARGET __attribute__((target("avx2,bmi,popcnt,avxvnni")))
#define DOT(sum, w, x) _mm256_dpwssd_avx_epi32(sum, w, x)
#define DOT2(sum, w, x) _mm256_add_epi32(sum, _mm256_madd_epi16(w, x)) /* two instructions, but the sum waits less */
#include "simd.inc"
#endif
