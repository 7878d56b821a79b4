/* SPDX-License-Identifier: MIT
 *
 * The kernel for WebAssembly with SIMD. A module with SIMD is loaded by no engine without it, so that this is chosen when
 * the core is compiled. See sse4.c. */
#include "kernels.h"

#if defined(__wasm_simd128__)
#include <wasm_simd128.h>

#define KERNEL(name) wasm_##name
#define TARGET
#define V v128_t
#define LANES 4
#define LOAD(p) wasm_v128_load(p)
#define STORE(p, v) wasm_v128_store(p, v)
#define SPREAD(i) wasm_i32x4_splat(i)
#define ADD(a, b) wasm_i32x4_add(a, b)
#define SUB(a, b) wasm_i32x4_sub(a, b)
#define MULTIPLY(a, b) wasm_i32x4_mul(a, b)
#define SUM V
#define OPEN(v) (v)
#define CLOSE(sum) (sum)
#define DOT(sum, w, x) wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(w, x))
/* As for SSE4: there is no shift by several widths, and float32 gives the same. */
#define SHIFT(v, l, o) shift(v, wasm_v128_load((l)->scales + (o)))
#define LOAD16(p) wasm_i32x4_load16x4(p)
#define STORE16(p, v) wasm_v128_store64_lane(p, wasm_i16x8_narrow_i32x4(v, v), 0)
#define CLIP(v, top) wasm_i32x4_min(wasm_i32x4_max(v, wasm_i32x4_splat(0)), top)
#define COPIED v128_t
#define COPY16(from, to, n) copy16(from, to, n)
#define JOIN(a, b) wasm_v128_or(a, b)
#define IS_ZERO(v) (!wasm_v128_any_true(v))
#define HOLD(v)
#define TWO_SUMS 0
#define DOT2 DOT
#define LIST(x, i, values, indices, n) list4(x, i, values, indices, n)

static inline v128_t shift(v128_t v, v128_t scales) {
    return wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_floor(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(v), scales)));
}

static inline v128_t copy16(const uint8_t *from, int16_t *to, int64_t n) {
    v128_t bytes = wasm_v128_and(LOAD(from), LOAD(keep(n)));
    STORE(to, wasm_u16x8_extend_low_u8x16(bytes));
    STORE(to + 8, wasm_u16x8_extend_high_u8x16(bytes));
    return bytes;
}

static inline int32_t list4(const int16_t *x, int32_t i, int32_t *values, int32_t *indices, int n) {
    v128_t pairs = LOAD(x), places = ADD(SPREAD(i), wasm_i32x4_make(0, 1, 2, 3));
    uint32_t set = wasm_i32x4_bitmask(wasm_i32x4_ne(pairs, SPREAD(0))) & ((1u << n) - 1);
    v128_t order = LOAD(smalti_to_front[set]);
    STORE(values, wasm_i8x16_swizzle(pairs, order));
    STORE(indices, wasm_i8x16_swizzle(places, order));
    return __builtin_popcount(set);
}
#include "simd.inc"
#endif
