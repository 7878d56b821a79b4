/* SPDX-License-Identifier: MIT */
/* Context mixing for processors with AVX2. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx2,bmi,bmi2,lzcnt,popcnt")
#endif
#include <immintrin.h>
#define MIX_NAME mix_avx2
#define MIX_AVX2
#include "mixing.inc"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
