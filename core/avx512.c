/* SPDX-License-Identifier: MIT
 *
 * The kernel for processors with AVX-512 and its VNNI. See sse4.c. */
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define KERNEL(name) avx512_##name
#define TARGET __attribute__((target("avx2,bmi,popcnt,avx512f,avx512bw,avx512vl,avx512vnni")))
#define V __m512i
#define LANES 16
#define LOAD(p) _mm512_loadu_si512(p)
#define STORE(p, v) _mm512_storeu_si512(p, v)
#define SPREAD(i) _mm512_set1_epi32(i)
#define ADD(a, b) _mm512_add_epi32(a, b)
#define SUB(a, b) _mm512_sub_epi32(a, b)
#define MULTIPLY(a, b) _mm512_mullo_epi32(a, b)
#define SUM V
#define OPEN(v) (v)
#define CLOSE(sum) (sum)
#define DOT(sum, w, x) _mm512_dpwssd_epi32(sum, w, x)
#define SHIFT(v, l, o) _mm512_srav_epi32(v, LOAD((l)->shifts + (o)))
#define LOAD16(p) _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define STORE16(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_cvtepi32_epi16(v))
#define CLIP(v, top) _mm512_min_epi32(_mm512_max_epi32(v, _mm512_setzero_si512()), top)
#define COPIED __m128i
#define COPY16(from, to, n) copy16(from, to, n)
#define JOIN(a, b) _mm_or_si128(a, b)
#define IS_ZERO(v) _mm_testz_si128(v, v)
#define HOLD(v) __asm__ volatile("" : "+v"(v));
#define TWO_SUMS 1
#define DOT2 DOT
#define LIST(x, i, values, indices, n) list16(x, i, values, indices, n)

TARGET static inline __m128i copy16(const uint8_t *from, int16_t *to, int64_t n) {
    __m128i bytes = _mm_and_si128(_mm_loadu_si128((const __m128i *)(const void *)from),
                                  _mm_loadu_si128((const __m128i *)(const void *)keep(n)));
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_cvtepu8_epi16(bytes));
    return bytes;
}

TARGET static inline int32_t list16(const int16_t *x, int32_t i, int32_t *values, int32_t *indices,
                                    int n) {
    const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i pairs = LOAD(x);
    __mmask16 set = _mm512_mask_test_epi32_mask((__mmask16)((1u << n) - 1), pairs, pairs);
    STORE(values, _mm512_maskz_compress_epi32(set, pairs));
    STORE(indices, _mm512_maskz_compress_epi32(set, ADD(count, SPREAD(i))));
    return __builtin_popcount(set);
}
#include "simd.inc"
#endif
