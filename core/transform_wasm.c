/* SPDX-License-Identifier: MIT */
/* The sums of a transform for WebAssembly with SIMD. */
#if defined(__wasm_simd128__)
#include <wasm_simd128.h>
#define TF_NAME tf_wasm
#define TF_WASM
#include "transform.inc"
#endif
