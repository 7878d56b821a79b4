/* SPDX-License-Identifier: MIT */
/* Context mixing for processors with AVX512. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq"))), apply_to = function)
#else
#pragma GCC target("avx2,bmi,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq")
#endif
#include <immintrin.h>
#define MIX_NAME mix_avx512
#define MIX_AVX512
#include "mixing.inc"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
