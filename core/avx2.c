/* SPDX-License-Identifier: MIT
 *
 * The kernels for processors with AVX2, and with AVX-VNNI, which differ in the products alone. See sse4.c. */
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,bmi")))
#define V __m256i
#define LANES 8
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define SPREAD(i) _mm256_set1_epi32(i)
#define ADD(a, b) _mm256_add_epi32(a, b)
#define SHIFT(v, l, o) _mm256_srav_epi32(v, LOAD((l)->shifts + (o)))
#define LOAD16(p) _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define STORE16(p, v) store16(p, v)
#define CLIP(v) _mm256_min_epi32(_mm256_max_epi32(v, _mm256_setzero_si256()), _mm256_set1_epi32(ACTIVATION_MAX))
#define COPIED __m128i
#define COPY16(from, to, n) copy16(from, to, n)
#define JOIN(a, b) _mm_or_si128(a, b)
#define IS_ZERO(v) _mm_testz_si128(v, v)
#define BITS(x) (_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(LOAD(x), _mm256_setzero_si256()))) ^ 255)

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

#define KERNEL(name) avx2_##name
#define TARGET AVX2
#define DOT(sum, w, x) _mm256_add_epi32(sum, _mm256_madd_epi16(w, x))
#include "simd.inc"

#define KERNEL(name) avx_vnni_##name
#define TARGET __attribute__((target("avx2,bmi,avxvnni")))
#define DOT(sum, w, x) _mm256_dpwssd_avx_epi32(sum, w, x)
#include "simd.inc"
#endif
