/* SPDX-License-Identifier: MIT */
/* Context mixing for WebAssembly with SIMD. */
#if defined(__wasm_simd128__)
#include <wasm_simd128.h>
#define MIX_NAME mix_wasm
#define MIX_WASM
#include "mixing.inc"
#endif
