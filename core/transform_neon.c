/* SPDX-License-Identifier: MIT */
/* The sums of a transform for ARM64, all of whose processors have NEON. */
#if defined(__aarch64__)
#include <arm_neon.h>
#define TF_NAME tf_neon
#define TF_NEON
#include "transform.inc"
#endif
