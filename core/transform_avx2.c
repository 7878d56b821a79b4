/* SPDX-License-Identifier: MIT */
/* The sums of a transform for processors with AVX2. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx2,bmi,bmi2,lzcnt,popcnt")
#endif
#include <immintrin.h>
#define TF_NAME tf_avx2
#define TF_AVX2
#include "transform.inc"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
