/* SPDX-License-Identifier: MIT */
/* The sums of a transform for processors with AVX512. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)
#else
#pragma GCC target("avx2,bmi,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif
#include <immintrin.h>
#define TF_NAME tf_avx512
#define TF_AVX512
#include "transform.inc"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
