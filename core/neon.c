/* SPDX-License-Identifier: MIT
 *
 * The kernel for ARM64, all of whose processors have NEON. See sse4.c. */
#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define KERNEL(name) neon_##name
#define TARGET
#define V int32x4_t
#define LANES 4
#define LOAD(p) vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)(const void *)(p)))
#define STORE(p, v) vst1q_u8((uint8_t *)(void *)(p), vreinterpretq_u8_s32(v))
#define SPREAD(i) vdupq_n_s32(i)
#define ADD(a, b) vaddq_s32(a, b)
#define SUB(a, b) vsubq_s32(a, b)
#define MULTIPLY(a, b) vmulq_s32(a, b)
/* Two outputs each, and there the first and the second inputs of pairs apart: they are joined when all are summed. */
#define SUM int32x4x2_t
#define OPEN(v) vzipq_s32(v, vdupq_n_s32(0))
#define CLOSE(sum) vpaddq_s32(sum.val[0], sum.val[1])
#define DOT(sum, w, x) dot(sum, vreinterpretq_s16_s32(w), vreinterpretq_s16_s32(x))
#define SHIFT(v, l, o) vshlq_s32(v, vnegq_s32(LOAD((l)->shifts + (o))))
#define LOAD16(p) vmovl_s16(vreinterpret_s16_u8(vld1_u8((const uint8_t *)(const void *)(p))))
#define STORE16(p, v) vst1_u8((uint8_t *)(void *)(p), vreinterpret_u8_s16(vqmovn_s32(v)))
#define CLIP(v, top) vminq_s32(vmaxq_s32(v, vdupq_n_s32(0)), top)
#define COPIED uint8x16_t
#define COPY16(from, to, n) copy16(from, to, n)
#define JOIN(a, b) vorrq_u8(a, b)
#define IS_ZERO(v) (vmaxvq_u8(v) == 0)
#define HOLD(v) __asm__ volatile("" : "+w"(v.val[0]), "+w"(v.val[1]));
#define TWO_SUMS 0
#define DOT2 DOT
#define LIST(x, i, values, indices, n) list4(x, i, values, indices, n)

static inline int32x4x2_t dot(int32x4x2_t sum, int16x8_t w, int16x8_t x) {
    sum.val[0] = vmlal_s16(sum.val[0], vget_low_s16(w), vget_low_s16(x));
    sum.val[1] = vmlal_high_s16(sum.val[1], w, x);
    return sum;
}

static inline uint8x16_t copy16(const uint8_t *from, int16_t *to, int64_t n) {
    uint8x16_t bytes = vandq_u8(vld1q_u8(from), vld1q_u8(keep(n)));
    vst1q_u8((uint8_t *)to, vreinterpretq_u8_u16(vmovl_u8(vget_low_u8(bytes))));
    vst1q_u8((uint8_t *)(to + 8), vreinterpretq_u8_u16(vmovl_high_u8(bytes)));
    return bytes;
}

static inline int32_t list4(const int16_t *x, int32_t i, int32_t *values, int32_t *indices, int n) {
    static const int32_t FOUR[] = {0, 1, 2, 3};
    static const uint32_t BITS[] = {1, 2, 4, 8};
    int32x4_t pairs = LOAD(x), places = vaddq_s32(SPREAD(i), vld1q_s32(FOUR));
    uint32_t set = vaddvq_u32(vandq_u32(vtstq_s32(pairs, pairs), vld1q_u32(BITS))) & ((1u << n) - 1);
    uint8x16_t order = vld1q_u8(smalti_to_front[set]);
    STORE(values, vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(pairs), order)));
    STORE(indices, vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(places), order)));
    return __builtin_popcount(set);
}
#include "simd.inc"
#endif
