/* SPDX-License-Identifier: MIT */
/* Context mixing for ARM64, all of whose processors have NEON. */
#if defined(__aarch64__)
#include <arm_neon.h>
#define MIX_NAME mix_neon
#define MIX_NEON
#include "mixing.inc"
#endif
